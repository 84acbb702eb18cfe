//! Nothing is lost, nothing is doubled, whoever is killed.

use nix::sys::signal::Signal;

use super::process::{Deck, child, sizes};
use super::text;
use crate::logger::{FromLogger, LogQuery, SOCKET_NAME, Source, ToLogger, read};

fn all(source: &Source) -> String {
    text(read(&source.log, LogQuery::default()).unwrap())
}

/// Fails unless the log is the numbers from 1 to `last`, each once and in order.
fn assert_counts_to(source: &Source, last: usize) {
    let mut next = 1;
    for line in read(&source.log, LogQuery::default()).unwrap() {
        let line = line.unwrap();
        let expected = next.to_string();
        assert!(
            line.bytes == expected.as_bytes() && !line.partial,
            "expected {next}, found {line:?}"
        );
        next += 1;
    }
    assert_eq!(next, last + 1);
}

/// Writes numbers until a file `stop` appears, then how many to a file: `seq` in blocks, `echo` line by line.
const BLOCKS: &str = "i=0; while [ ! -e stop ]; do seq $((i+1)) $((i+10000)); i=$((i+10000)); done; echo $i > blocks";
const LINES: &str = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i; done; echo $i > lines";

#[test]
fn no_line_is_lost_or_doubled_when_the_logger_is_killed_again_and_again() {
    let mut deck = Deck::new();
    let (blocks, blocks_fifo) = deck.source("blocks", 4 << 20, 1000);
    let (lines, lines_fifo) = deck.source("lines", 65536, 1000);
    let mut daemon = deck.connect();
    daemon.open(&blocks);
    daemon.open(&lines);
    daemon.flush("lines");
    let script = |script| format!("cd {} && {script}", deck.dir().display());
    let mut children = [child(&blocks_fifo, &script(BLOCKS)), child(&lines_fifo, &script(LINES))];
    for round in 0..25 {
        // Another number of turns each time.
        for _ in 0..=round * 7 % 4 {
            daemon.watch("lines");
            daemon.watch("blocks");
        }
        deck.kill();
        deck.start();
        daemon = deck.connect();
    }
    std::fs::write(deck.dir().join("stop"), "").unwrap();
    assert!(children.iter_mut().all(|it| it.wait().unwrap().success()));
    for source in [&blocks, &lines] {
        daemon.flush(&source.name);
        let count = std::fs::read_to_string(deck.dir().join(&source.name)).unwrap();
        assert_counts_to(source, count.trim().parse().unwrap());
        for (path, size) in sizes(&source.log) {
            assert!(size <= source.max_size, "{} has {size} bytes", path.display());
        }
    }
}

#[test]
fn a_logger_that_starts_again_goes_on_before_any_daemon_speaks() {
    let mut deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    daemon.flush("web1");
    deck.kill();
    child(&fifo, "echo while nobody listened").wait().unwrap();
    deck.start();
    let mut next = deck.connect();
    assert_eq!(next.hear(), FromLogger::Ready { pid: deck.pid(), open: vec!["web1".into()] });
    next.flush("web1");
    assert_eq!(all(&web1), "while nobody listened");
}

#[test]
fn the_last_words_of_a_child_that_dies_at_once_are_kept() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    daemon.flush("web1");
    // Nobody but the child and the logger holds it now.
    let mut dying = child(&fifo, "echo out; echo err >&2; kill -9 $$");
    drop(fifo);
    dying.wait().unwrap();
    daemon.flush("web1");
    assert_eq!(all(&web1), "out|err");
}

#[test]
fn a_closed_log_has_what_was_in_the_fifo_and_is_let_go() {
    let mut deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    child(&fifo, "echo before").wait().unwrap();
    daemon.say(&ToLogger::Close { name: "web1".into() });
    daemon.flush("web1");
    child(&fifo, "echo after").wait().unwrap();
    deck.kill();
    deck.start();
    let mut next = deck.connect();
    assert_eq!(next.hear(), FromLogger::Ready { pid: deck.pid(), open: vec![] });
    assert_eq!(all(&web1), "before");
    next.open(&web1);
    next.flush("web1");
    assert_eq!(all(&web1), "before|after");
}

#[test]
fn sigterm_and_quit_take_what_is_in_the_fifos_and_the_other_signals_do_nothing() {
    let mut deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 1 << 20, 1);
    let mut daemon = deck.connect();
    daemon.open(&web1);
    daemon.flush("web1");
    let signal = |deck: &Deck, signal| {
        let pid = nix::unistd::Pid::from_raw(deck.pid().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    for harmless in [Signal::SIGINT, Signal::SIGPIPE] {
        signal(&deck, harmless);
    }
    deck.signal(Signal::SIGHUP);
    daemon.flush("web1");
    child(&fifo, "echo one").wait().unwrap();
    deck.signal(Signal::SIGTERM);
    assert!(deck.wait());
    assert_eq!(all(&web1), "one");

    deck.start();
    let mut daemon = deck.connect();
    child(&fifo, "echo two").wait().unwrap();
    daemon.say(&ToLogger::Quit);
    assert!(deck.wait());
    assert_eq!(all(&web1), "one|two");
}

#[test]
fn a_logger_whose_socket_was_removed_is_found_when_it_is_called_or_told() {
    let mut deck = Deck::new();
    let mut daemon = deck.connect();
    daemon.hear();
    let socket = deck.dir().join(SOCKET_NAME);
    for called in [true, false] {
        std::fs::remove_file(&socket).unwrap();
        match called {
            true => deck.signal(Signal::SIGHUP),
            false => daemon.say(&ToLogger::BindAnew),
        }
        daemon.flush("nobody");
        let ready = FromLogger::Ready { pid: deck.pid(), open: vec![] };
        assert_eq!(deck.connect().hear(), ready);
    }
    deck.kill();
}

#[test]
fn a_second_logger_waits_until_the_first_is_gone() {
    let mut first = Deck::new();
    let (web1, _fifo) = first.source("web1", 1 << 20, 1);
    let mut daemon = first.connect();
    daemon.open(&web1);
    daemon.flush("web1");
    let mut second = first.successor();
    let mut waiting = second.connect();
    first.kill();
    assert_eq!(waiting.hear(), FromLogger::Ready { pid: second.pid(), open: vec!["web1".into()] });
    second.kill();
}
