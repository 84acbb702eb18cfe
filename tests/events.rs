//! The journal as people ask for it: spans of time, numbers, and what a crash left of its last line.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use opsdeck::api::{Actor, Event};
use opsdeck::client::{Client, EventQuery};
use support::console::Console;
use support::{Deck, PATIENCE, kill, wait_until};

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
    let of_kind = events(&deck, &["-n", "1000", "--kind", "restart"]);
    assert!(
        !of_kind.is_empty() && of_kind.iter().all(|it| it.kind.contains("restart")),
        "{of_kind:?}"
    );
    assert_eq!(deck.opsdeck(&["events", "--until", "yesterday"]).status.code(), Some(2));
    assert_eq!(deck.opsdeck(&["events", "-f", "--until", "1h"]).status.code(), Some(2));
}

/// A journal of yesterday: carol restarted `two`, then `one` crashed more often than anybody remembers.
fn yesterday(directory: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(directory.join("state")).unwrap();
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let event = |seq: u64, kind: &str, of: &str, who: Option<&str>, message: &str| Event {
        seq,
        at: began + std::time::Duration::from_secs(seq),
        kind: kind.into(),
        service: Some(of.into()),
        instance: Some(of.into()),
        actor: who.map(|it| Actor { login: it.into(), ..Actor::default() }),
        message: message.into(),
        evidence: None,
        rollout: None,
        stop: None,
        lost: None,
    };
    let crash = |seq| event(seq, "exited", "one", None, "exited with code 255");
    let all = [event(1, "restart", "two", Some("carol"), "restart of two")];
    let lines = all.into_iter().chain((2..=1500).map(crash));
    let text: String = lines.map(|it| serde_json::to_string(&it).unwrap() + "\n").collect();
    std::fs::write(directory.join("state/journal.jsonl"), text).unwrap();
}

#[test]
fn a_journal_is_read_backwards_in_portions() {
    let deck = Deck::start_in(&[], TWO, yesterday);
    let ask = |query: EventQuery| -> Vec<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = async {
            let events = Client::new(&deck.socket()).unwrap().events(&query).await.unwrap();
            events.map(|it| it.unwrap().seq).collect().await
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() })
    };
    let before = |before, lines| EventQuery {
        before: Some(before),
        lines: Some(lines),
        ..EventQuery::default()
    };
    assert_eq!(ask(before(1000, 3)), [997, 998, 999]);
    assert_eq!(ask(before(3, 3)), [1, 2]);
    let of = |kind: &str, text: &str| EventQuery {
        kind: Some(kind.into()),
        text: Some(text.into()),
        ..before(1400, 2)
    };
    assert_eq!(ask(of("exit", "CODE 255")), [1398, 1399]);
    assert_eq!(ask(of("restart", "carol")), [1]);
    assert_eq!(ask(of("restart", "dave")), Vec::<u64>::new());
}

#[test]
fn who_restarted_a_service_yesterday_is_seen_with_three_keys() {
    let mut deck = Deck::start_in(&[], TWO, yesterday);
    deck.wait_ready(&["one", "two"]);
    let mut console = Console::start(&deck.command(&[]), 100, 24);
    console.wait_for("two");
    console.step("j");
    console.press("e");
    console.wait_for("events");
    console.press("s");
    console.wait_for("events: service:two");
    console.wait_for("carol");
    assert!(!console.text().contains("code 255"), "{}", console.text());
    console.press("\u{1b}");
    console.wait_for("code 255");
    console.press("q");
    console.wait_for("detach");
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
