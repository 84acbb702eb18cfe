//! Floods, slow talkers, rotation, and reading while all that goes on.

use std::io::Write;
use std::time::{Duration, Instant};

use super::process::{Daemon, Deck, child, sizes};
use super::text;
use crate::logger::{FromLogger, LogQuery, Source, read, read_then_follow};

#[expect(clippy::disallowed_methods, reason = "this measures how long a line takes")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn open(daemon: &mut Daemon, source: &Source) {
    daemon.open(source);
    daemon.flush(&source.name);
}

#[test]
fn a_flood_delays_no_slow_talker_and_fills_no_disk() {
    let deck = Deck::new();
    let (flood, flood_fifo) = deck.source("flood", 8 << 20, 2);
    let (slow, slow_fifo) = deck.source("slow", 1 << 20, 1);
    let mut daemon = deck.connect();
    open(&mut daemon, &flood);
    open(&mut daemon, &slow);
    let mut yes = child(&flood_fifo, "yes | head -c 209715200");
    let mut echo = child(&slow_fifo, "exec cat");
    let mut keyboard = echo.stdin.take().unwrap();
    daemon.watch("flood");
    let mut delays: Vec<Duration> = vec![];
    while delays.len() < 10 || (yes.try_wait().unwrap().is_none() && delays.len() < 1000) {
        delays.push(timed(|| {
            writeln!(keyboard, "{}", delays.len()).unwrap();
            daemon.watch("slow");
        }));
    }
    drop(keyboard);
    assert!(yes.wait().unwrap().success() && echo.wait().unwrap().success());
    delays.sort();
    let median = delays[delays.len() / 2];
    assert!(median < Duration::from_millis(50), "{median:?} in the median of {}", delays.len());

    daemon.flush("flood");
    daemon.flush("slow");
    let lines = read(&slow.log, LogQuery::default()).unwrap().map(|it| it.unwrap().bytes);
    assert!(lines.eq((0..delays.len()).map(|n| n.to_string().into_bytes())));
    let on_disk: u64 = sizes(&flood.log).iter().map(|(_, size)| size).sum();
    assert!((16 << 20..=24 << 20).contains(&on_disk), "{on_disk} bytes");
}

#[test]
fn a_child_that_never_ends_its_line_is_rotated_all_the_same() {
    let deck = Deck::new();
    let (zeros, fifo) = deck.source("zeros", 65536, 3);
    let mut daemon = deck.connect();
    open(&mut daemon, &zeros);
    assert!(child(&fifo, "head -c 1000000 /dev/zero").wait().unwrap().success());
    daemon.flush("zeros");
    let on_disk: u64 = sizes(&zeros.log).iter().map(|(_, size)| size).sum();
    assert!((3 * 65536..=4 * 65536).contains(&on_disk), "{on_disk} bytes");
    let pieces: Vec<_> =
        read(&zeros.log, LogQuery::default()).unwrap().map(Result::unwrap).collect();
    assert!(pieces.iter().all(|it| it.partial && it.bytes.iter().all(|byte| *byte == 0)));
}

#[test]
fn files_are_full_to_the_byte_and_the_oldest_goes() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 4096, 2);
    let mut daemon = deck.connect();
    open(&mut daemon, &web1);
    assert!(child(&fifo, "yes 0123456 | head -n 2000").wait().unwrap().success());
    daemon.flush("web1");
    let full = sizes(&web1.log);
    let names: Vec<_> =
        full.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    let expected = [
        "web1.log",
        "web1.log.1",
        "web1.log.1.idx",
        "web1.log.2",
        "web1.log.2.idx",
        "web1.log.idx",
    ];
    assert_eq!(names, expected);
    // The room of one record is kept back.
    for (file, index) in [(1, 2), (3, 4)] {
        assert!((4080..=4096).contains(&(full[file].1 + full[index].1)), "{full:?}");
    }
}

#[test]
fn a_follower_sees_every_line_once_while_files_rotate_under_it() {
    let deck = Deck::new();
    let (web1, fifo) = deck.source("web1", 64 << 10, 1000);
    let mut daemon = deck.connect();
    open(&mut daemon, &web1);
    let (_, mut follower) = read_then_follow(&web1.log, LogQuery::default()).unwrap();
    let mut seq = child(&fifo, "exec seq 500000");
    let mut next = 1;
    while next <= 500_000 {
        daemon.watch("web1");
        let mut lines = follower.poll().unwrap();
        while follower.is_behind() {
            lines.extend(follower.poll().unwrap());
        }
        for line in lines {
            assert_eq!(line.bytes, next.to_string().into_bytes());
            assert!(line.at_ms.is_some());
            next += 1;
        }
    }
    assert!(seq.wait().unwrap().success());
    assert!(!follower.fell_behind());
}

#[test]
fn new_limits_hold_at_once() {
    let deck = Deck::new();
    let (mut web1, fifo) = deck.source("web1", 4096, 5);
    let mut daemon = deck.connect();
    open(&mut daemon, &web1);
    assert!(child(&fifo, "yes 0123456 | head -n 5000").wait().unwrap().success());
    daemon.flush("web1");
    assert_eq!(sizes(&web1.log).len(), 12);
    web1.keep = 1;
    open(&mut daemon, &web1);
    assert_eq!(sizes(&web1.log).len(), 4);
}

#[test]
fn more_logs_than_files_may_be_open_all_get_their_lines() {
    let deck = Deck::new();
    let mut daemon = deck.connect();
    let sources: Vec<_> = (0..300).map(|n| deck.source(&format!("job{n}"), 1 << 20, 1)).collect();
    for (source, _) in &sources {
        daemon.open(source);
    }
    for round in ["one", "two"] {
        for (_, fifo) in &sources {
            let fifo = fifo.try_clone().unwrap();
            writeln!(std::fs::File::from(fifo), "{round}").unwrap();
        }
    }
    for (source, _) in &sources {
        daemon.flush(&source.name);
        assert_eq!(text(read(&source.log, LogQuery::default()).unwrap()), "one|two");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", deck.pid())).unwrap().count();
    assert!(open < 300 + 2 * 256 + 20, "{open} descriptors");
}

#[test]
fn a_line_that_is_no_order_is_answered_and_endless_ones_end_the_connection() {
    let deck = Deck::new();
    let mut daemon = deck.connect();
    daemon.say_raw(b"{\"type\":\"compress\"}\nhello\n");
    let heard: Vec<_> = (0..3).map(|_| daemon.hear()).collect();
    insta::assert_snapshot!(format!("{:#?}", &heard[1..]), @r#"
    [
        Notice {
            message: "the logger is of another release and does not know an order it got",
        },
        Notice {
            message: "the logger got a line that is no order: expected value at line 1 column 1",
        },
    ]
    "#);
    daemon.say_raw(&vec![b'x'; 60_000]);
    daemon.say_raw(&vec![b'x'; 20_000]);
    assert!(daemon.is_cut_off());
    assert!(matches!(deck.connect().hear(), FromLogger::Ready { .. }));
}

#[test]
fn a_daemon_that_reads_nothing_is_cut_off_and_the_next_one_is_served() {
    let deck = Deck::new();
    let mut deaf = deck.connect();
    let orders = b"{\"type\":\"flush\",\"name\":\"web1\",\"id\":1}\n".repeat(1000);
    let cut_off = (0..1000).any(|_| deaf.try_say_raw(&orders).is_err());
    assert!(cut_off, "a million answers are waiting for it");
    assert!(matches!(deck.connect().hear(), FromLogger::Ready { .. }));
}
