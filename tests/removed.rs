//! What was taken out of the configuration while no daemon was there: the next one stops it like any other.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use nix::sys::signal::Signal;
use support::{Deck, find, is_alive, kill, wait_until};

const KEEPER: &str = "[service.keeper]\ncommand = \"opsdeck sample --worker\"\n";

/// One that ignores SIGTERM, beside one that stays.
fn with_mortal(max_wait_time: &str) -> String {
    format!(
        "{KEEPER}[service.mortal]\ncommand = \"opsdeck sample --worker --ignore-term --print-every 50ms --work 0s\"\n\
         max_wait_time = \"{max_wait_time}\"\n"
    )
}

/// It runs, and the next daemon does not find it in its configuration. Returns its pid.
fn removed(max_wait_time: &str) -> (Deck, i32) {
    let mut deck = Deck::start(&with_mortal(max_wait_time));
    deck.wait_ready(&["keeper", "mortal"]);
    deck.wait_line("mortal", "job 1 done");
    let pid = deck.pid("mortal");
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(KEEPER);
        // What was applied is not known either: else it would wait for a word.
        std::fs::remove_file(deck.path().join("state/config.jsonl")).unwrap();
    });
    (deck, pid)
}

#[test]
fn it_has_the_time_that_it_was_configured_with_and_one_signal() {
    let (mut deck, pid) = removed("3s");
    deck.wait("its own countdown", |it, _| {
        let countdown = find(it, "mortal").and_then(|it| it.countdown.as_ref());
        countdown.is_some_and(|it| it.max_wait_time_ms == 3000)
    });
    deck.wait("it is forgotten", |it, _| find(it, "mortal").is_none());
    assert!(!is_alive(pid));
    let sent = deck.events.iter().filter(|it| it.message.starts_with("SIGTERM"));
    assert_eq!(sent.count(), 1, "{}", deck.story());
    deck.wait_event("SIGKILL: max_wait_time was over");

    deck.write_config(&with_mortal("3s"));
    deck.ok(&["config", "apply"]);
    deck.wait_ready(&["mortal"]);
    assert_eq!((deck.instance("mortal").generation, deck.instance("mortal").restarts), (1, 0));
}

#[test]
fn added_again_meanwhile_it_waits_for_the_end_of_the_one_before() {
    let (mut deck, pid) = removed("60s");
    deck.wait_event("SIGTERM because of the configuration");
    deck.write_config(&with_mortal("60s"));
    deck.ok(&["config", "apply"]);
    let marked = |deck: &Deck| {
        let all = deck.marked().into_iter().filter(|it| it.0 == "mortal");
        all.map(|it| it.1).collect::<Vec<_>>()
    };
    assert_eq!(marked(&deck), [pid]);
    kill(pid, Signal::SIGKILL);
    deck.wait("the next one", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert_eq!(marked(&deck), [deck.pid("mortal")]);
}

#[test]
fn a_shutdown_waits_for_its_end() {
    let (mut deck, pid) = removed("2s");
    deck.wait_event("SIGTERM because of the configuration");
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(!is_alive(pid));
    wait_until("nothing is left", || deck.marked().is_empty());
}
