//! What services write: read back, followed, rotated, bounded.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::processes::{holder, logger};
use support::{Deck, Following, is_alive, kill, wait_until};

const TALKERS: &str = r#"
    [service.a]
    command = ["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000"]
    [service.longer]
    command = ["sh", "-c", "for i in 6 7 8; do echo line $i; done; exec sleep 1000"]
"#;

#[test]
fn the_last_lines_are_printed_and_filtered() {
    let deck = Deck::start(TALKERS);
    deck.wait_line("a", "line 5");
    assert_eq!(deck.ok(&["logs", "a"]), "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(deck.ok(&["logs", "-n", "2", "a"]), "line 4\nline 5\n");
    assert_eq!(deck.ok(&["logs", "--grep", "line [24]$", "a"]), "line 2\nline 4\n");
    assert_eq!(deck.ok(&["logs", "-n", "1", "--grep", "line [24]", "a"]), "line 4\n");
    assert_eq!(deck.ok(&["logs", "--since", "1h", "-n", "1", "a"]), "line 5\n");
    let output = deck.opsdeck(&["logs", "aa"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`aa`"));
}

#[test]
fn several_names_are_told_apart_by_a_column() {
    let deck = Deck::start(TALKERS);
    deck.wait_line("a", "line 5");
    deck.wait_line("longer", "line 8");
    let text = deck.ok(&["logs", "-n", "2", "longer", "a"]);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a      | line 4", "a      | line 5", "longer | line 7", "longer | line 8"]);
}

#[test]
fn what_is_older_than_asked_for_is_left_out() {
    let deck = Deck::start(
        r#"[service.a]
        command = ["sh", "-c", "echo old; sleep 10; echo new; exec sleep 1000"]"#,
    );
    deck.wait_line("a", "new");
    assert_eq!(deck.ok(&["logs", "--since", "8s", "a"]), "new\n");
    assert_eq!(deck.ok(&["logs", "--since", "1m", "a"]), "old\nnew\n");
}

/// What the API answers, one JSON value a line.
fn get(deck: &Deck, path: &str) -> Vec<Value> {
    let mut stream = UnixStream::connect(deck.socket()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: opsdeck\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let lines = answer.lines().filter(|it| it.starts_with('{'));
    lines.map(|it| serde_json::from_str(it).unwrap_or_else(|_| panic!("{answer}"))).collect()
}

#[test]
fn a_log_is_read_page_by_page_while_it_rotates_and_then_followed_without_a_gap() {
    let deck = Deck::start(&counter("{ max_size = \"16KiB\", keep = 500 }"));
    deck.wait_line("counter", "line 5000");
    let path = "/v1/instances/counter/logs/page?lines=700";
    let mut lines: Vec<Value> = vec![];
    let mut place = String::new();
    loop {
        let mut page = get(&deck, &format!("{path}{place}"));
        let end = page.pop().unwrap();
        assert_eq!(end["type"], "end", "{end}");
        page.append(&mut lines);
        lines = page;
        if end["last"] == true {
            break;
        }
        place = format!("&places=counter@{}", end["begins"]["counter"].as_str().unwrap());
    }
    let text = |it: &Value| it["line"].as_str().unwrap().to_owned();
    let expected: Vec<String> = (1..=lines.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), expected);

    let after = lines.last().unwrap()["ends"].as_str().unwrap();
    let path = format!("/v1/instances/counter/logs?after=counter@{after}&places=true");
    let next = get(&deck, &path).into_iter().next().unwrap();
    assert_eq!(text(&next), format!("line {}", lines.len() + 1));
    assert_eq!(next["begins"], *after);
}

/// Writes `line N` for ever, some thousands a second.
fn counter(log: &str) -> String {
    format!(
        "[service.counter]\nlog = {log}\ncommand = ['sh', '-c', '''i=0
         while :; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.02; done''']\n"
    )
}

/// Sizes of the files of a log, without its indexes.
fn sizes(deck: &Path, name: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(deck.join("state/logs")).unwrap().map_while(Result::ok);
    entries
        .filter(|it| {
            let file = it.file_name().into_string().unwrap();
            file.starts_with(&format!("{name}.log")) && !file.ends_with(".idx")
        })
        // One that is rotated away in this moment has no size.
        .filter_map(|it| Some(it.metadata().ok()?.len()))
        .collect()
}

#[track_caller]
fn check_bounds(deck: &Path, name: &str, max_size: u64, keep: u64) {
    let sizes = sizes(deck, name);
    assert!(sizes.iter().all(|it| *it <= max_size), "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() <= (keep + 1) * max_size, "{sizes:?}");
}

#[test]
fn a_log_is_followed_through_rotations_and_stays_within_its_bounds() {
    let deck = Deck::start(&counter("{ max_size = \"64KiB\", keep = 2 }"));
    deck.wait_line("counter", "line 1");
    let lines = deck.follow_log("counter");
    let number = |line: String| line.strip_prefix("line ").unwrap().parse::<u64>().unwrap();
    let first = number(lines.line());
    // More than all files together hold.
    for expected in first + 1..first + 25_000 {
        assert_eq!(number(lines.line()), expected);
        if expected % 500 == 0 {
            check_bounds(deck.path(), "counter", 64 << 10, 2);
        }
    }
    // While one is moved away there are but two.
    wait_until("three files", || sizes(deck.path(), "counter").len() == 3);
    // The oldest line that is kept is followed by all others, across the files.
    let kept = deck.ok(&["logs", "-n", "5000", "counter"]);
    let kept: Vec<_> = kept.lines().map(|it| number(it.to_owned())).collect();
    assert_eq!(kept.len(), 5000);
    assert!(kept.windows(2).all(|it| it[1] == it[0] + 1));
}

#[test]
fn last_words_outlive_the_daemon_and_the_logger() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&format!(
        "[service.a]\nrestart = \"never\"\ndirectory = {:?}\ncommand = ['sh', '-c', '''i=0
         until test -e go; do i=$((i+1)); echo line $i; sleep 0.01; done
         for n in 1 2 3 4 5; do i=$((i+1)); echo line $i; done; echo the end''']\n",
        directory.path()
    ));
    deck.wait_state("a", State::Running);
    deck.wait_line("a", "line 3");
    let pid = deck.pid("a");
    let (logger, runtime_dir) = logger(&deck).unwrap();
    let fifo = runtime_dir.join("a.fifo");
    let mut holds = None;
    wait_until("the pipe is held", || {
        holds = holder(&fifo);
        holds.is_some()
    });
    // One that ends is succeeded by another.
    kill(holds.unwrap(), Signal::SIGKILL);
    wait_until("the pipe is held again", || holder(&fifo).is_some_and(|it| Some(it) != holds));

    deck.restart_daemon(|deck| {
        for pid in [deck.daemon_pid(), logger] {
            kill(pid, Signal::SIGKILL);
        }
        wait_until("both are dead", || !is_alive(deck.daemon_pid()) && !is_alive(logger));
        std::fs::write(directory.path().join("go"), "").unwrap();
        wait_until("the service is dead", || !is_alive(pid));
    });
    deck.wait_line("a", "the end");
    let text = std::fs::read_to_string(deck.path().join("state/logs/a.log")).unwrap();
    let count = text.lines().count();
    let expected = (1..count).map(|it| format!("line {it}")).chain(["the end".into()]);
    assert!(text.lines().map(str::to_owned).eq(expected), "{text}");

    let holder = holder(&fifo).unwrap();
    deck.ok(&["shutdown"]);
    deck.wait_end();
    wait_until("nobody holds anything", || !is_alive(holder));
}

#[test]
fn a_log_is_followed_over_the_ends_of_daemons_without_a_gap_or_a_doubled_line() {
    let counter = counter("{ max_size = \"1MiB\", keep = 9 }");
    let quiet =
        "[service.quiet]\ncommand = ['sh', '-c', '''echo old; until test -e go; do sleep 0.02; done
                 echo new; exec sleep 1000''']\n";
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&format!("{quiet}directory = {:?}\n{counter}", directory.path()));
    deck.wait_line("counter", "line 1");
    deck.wait_line("quiet", "old");
    let lines = deck.follow_log("counter");
    // Nothing of it is printed before the daemon is another one.
    let news = Following::start(deck.command(&["logs", "-f", "-n", "0", "quiet"]));
    let number = |line: String| line.strip_prefix("line ").unwrap().parse::<u64>().unwrap();
    let mut last = number(lines.line());
    let mut read = || {
        for _ in 0..2_000 {
            assert_eq!(number(lines.line()), last + 1);
            last += 1;
        }
    };
    read();
    deck.ok(&["daemon", "--replace"]);
    read();
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    read();
    std::fs::write(directory.path().join("go"), "").unwrap();
    assert_eq!(news.line(), "new");
    deck.wait_state("counter", State::Running);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    // That is the end of it.
    lines.rest();
}

/// Another instance is heard, in order, while one floods its log.
fn another_is_heard_beside_a_flood(flags: &str) {
    let mut deck = Deck::start(&format!(
        "{}[service.flood]\ncommand = \"opsdeck sample --worker --flood 100MiB {flags}\"
         start_seconds = \"100ms\"\nlog = {{ max_size = \"1MiB\", keep = 2 }}",
        counter("{ max_size = \"50MiB\" }")
    ));
    deck.wait_ready(&["flood"]);
    let lines = Following::start(deck.command(&["logs", "-f", "-n", "1", "counter"]));
    let first: u64 = lines.line().strip_prefix("line ").unwrap().parse().unwrap();
    let mut largest = 0;
    for expected in first + 1..first + 5_000 {
        assert_eq!(lines.line(), format!("line {expected}"));
        if expected % 200 == 0 {
            check_bounds(deck.path(), "flood", 1 << 20, 2);
            largest = largest.max(sizes(deck.path(), "flood").iter().sum());
        }
    }
    assert!(largest > 1 << 20, "the flood wrote {largest} bytes");
    deck.ok(&["status"]);
}

#[test]
fn a_flood_stops_nobody_and_grows_nothing() {
    another_is_heard_beside_a_flood("");
}

#[test]
fn a_line_that_never_ends_stops_nobody_and_grows_nothing() {
    another_is_heard_beside_a_flood("--no-newline");
}
