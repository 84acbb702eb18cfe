//! The journal as people ask for it: spans of time, numbers, and what a crash left of its last line.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;

use nix::sys::signal::Signal;
use opsdeck::api::Event;
use support::{Deck, kill, wait_until};

const TWO: &str = r#"
    [defaults]
    start_seconds = "100ms"
    [service.one]
    command = "opsdeck sample --worker"
    [service.two]
    command = "opsdeck sample --worker"
"#;

fn events(deck: &Deck, args: &[&str]) -> Vec<Event> {
    let text = deck.ok(&[&["events", "--json"], args].concat());
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|it| it.seq).collect()
}

#[test]
fn a_span_of_time_is_asked_for_in_several_ways() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["one", "two"]);
    deck.ok(&["restart", "one"]);
    let all = events(&deck, &["-n", "1000"]);
    let first = all[0].seq;
    assert_eq!(numbers(&all), (first..first + all.len() as u64).collect::<Vec<_>>());

    let began = all.iter().find(|it| it.actor.is_some()).unwrap();
    let (before, after): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|it| it.at < began.at);
    let moment = began.at.to_string();
    assert_eq!(events(&deck, &["--since", &moment]), after);
    let until = events(&deck, &["-n", "1000", "--until", &moment]);
    assert_eq!(until[..before.len()], before[..]);
    assert!(until.iter().all(|it| it.at <= began.at));
    let both = events(&deck, &["--since", &moment, "--until", &moment]);
    assert!(both.iter().all(|it| it.at == began.at) && numbers(&both).contains(&began.seq));

    // A duration, and the local time that `events` prints (here it is UTC).
    assert_eq!(events(&deck, &["--since", "1h"]), all);
    assert_eq!(events(&deck, &["-n", "1000", "--until", "1h"]), []);
    let printed = deck.ok(&["events", "-n", "1"])[..19].to_owned();
    let last = all.last().unwrap();
    assert!(numbers(&events(&deck, &["--since", &printed])).contains(&last.seq), "{printed}");

    let of_one = events(&deck, &["--since", &moment, "--service", "one", "--actor", "root"]);
    let actor = |it: &Event| it.actor.as_ref().map(|it| it.login.clone());
    let login = actor(began).unwrap();
    if login == "root" {
        assert!(!of_one.is_empty());
    }
    let is_ones = |it: &Event| it.service.as_deref() == Some("one") && actor(it).is_some();
    assert!(of_one.iter().all(is_ones), "{of_one:?}");
    assert_eq!(deck.opsdeck(&["events", "--until", "yesterday"]).status.code(), Some(2));
    assert_eq!(deck.opsdeck(&["events", "-f", "--until", "1h"]).status.code(), Some(2));
}

#[test]
fn a_torn_last_line_is_skipped_and_numbers_go_on() {
    let mut deck = Deck::start(TWO);
    deck.wait_ready(&["one", "two"]);
    let last = numbers(&events(&deck, &["-n", "1"]))[0];
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon dead", || !support::is_alive(deck.daemon_pid()));
        let journal = deck.path().join("state/journal.jsonl");
        let mut journal = std::fs::OpenOptions::new().append(true).open(journal).unwrap();
        journal.write_all(b"{\"seq\":9999,\"at\":\"20").unwrap();
    });
    deck.wait_ready(&["one", "two"]);
    // Asked for by time, they are read from the file.
    let all = numbers(&events(&deck, &["--since", "1h"]));
    assert!(all.contains(&last) && all.contains(&(last + 1)), "{all:?}");
    assert_eq!(all, (all[0]..all[0] + all.len() as u64).collect::<Vec<_>>());
}
