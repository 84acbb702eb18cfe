//! Rolling restarts whose daemon dies: the next one goes on with them, and with no other.

mod support;

use nix::sys::signal::Signal;
use support::{Deck, is_alive, kill, wait_until};

#[test]
fn a_rollout_goes_on_under_the_next_daemon() {
    let mut deck = Deck::start(
        r#"[service.web]
        command = ["sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.05; done"]
        start_seconds = "200ms"
        max_wait_time = "20s"
        rollout = { settle = "200ms" }
        instance.web1 = {}
        instance.web2 = {}
        instance.web3 = {}"#,
    );
    deck.wait_ready(&["web1", "web2", "web3"]);
    deck.ok(&["roll", "--no-wait", "web"]);
    deck.wait_event("renews web1");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_event("rolling restart of web goes on under this daemon");
    deck.wait_event("renews web2");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_event("rolling restart of web finished");
    for name in ["web1", "web2", "web3"] {
        assert_eq!(deck.instance(name).generation, 2, "{}", deck.story());
    }
}

#[test]
fn the_evidence_of_a_rollout_is_its_own_also_under_the_next_daemon() {
    let mut deck = Deck::start(
        r#"[service.web]
        command = "opsdeck sample --worker"
        start_seconds = "100ms"
        rollout = { build = ["echo this is {version}"], settle = "100ms" }
        instance.web1 = {}"#,
    );
    deck.wait_ready(&["web1"]);
    deck.ok(&["roll", "--yes", "--set", "version=41", "web"]);
    let slow = "settle = \"100ms\"";
    let text = std::fs::read_to_string(deck.path().join("config.toml")).unwrap();
    std::fs::write(deck.path().join("config.toml"), text.replace(slow, "settle = \"60s\""))
        .unwrap();
    deck.ok(&["config", "apply"]);
    deck.ok(&["roll", "--yes", "--no-wait", "--set", "version=42", "web"]);
    deck.wait("it settles for the second time", |_, events| {
        events.iter().filter(|it| it.message.contains("it settles for")).count() == 2
    });
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_event("rolling restart of web goes on under this daemon");
    kill(deck.pid("web1"), Signal::SIGKILL);
    let halted = deck.wait_event("rolling restart of web halted");
    let evidence = halted.evidence.unwrap_or_default().join("\n");
    assert!(evidence.contains("rollout log: this is 42"), "{evidence}");
    assert!(!evidence.contains("this is 41"), "{evidence}");
}

#[test]
fn a_rollout_ends_with_its_service_and_does_not_go_on_with_another_of_that_name() {
    let web = r#"[service.web]
        command = ["sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.05; done"]
        start_seconds = "200ms"
        max_wait_time = "20s"
        instance.web1 = {}
        instance.web2 = {}
        "#;
    let other = "[service.other]\ncommand = \"sleep 1000\"\nstart_seconds = \"100ms\"\n";
    let mut deck = Deck::start(&format!("{web}{other}"));
    deck.wait_ready(&["web1", "web2", "other"]);
    deck.ok(&["roll", "--no-wait", "web"]);
    deck.wait_event("renews web1");
    for services in [other.to_owned(), format!("{web}{other}")] {
        deck.restart_daemon(|deck| {
            kill(deck.daemon_pid(), Signal::SIGKILL);
            wait_until("the daemon dead", || !is_alive(deck.daemon_pid()));
            deck.write_config(&services);
            // What was applied is not known either: else the edit would wait for a word.
            std::fs::remove_file(deck.path().join("state/config.jsonl")).unwrap();
        });
        deck.wait_ready(&["other"]);
    }
    deck.wait_ready(&["web1", "web2"]);
    deck.catch_up();
    assert!(!deck.story().contains("rolling restart of web goes on"), "{}", deck.story());
    let rollout = deck.view.services.iter().find(|it| it.name == "web").unwrap().rollout.clone();
    assert!(rollout.is_none(), "{rollout:?}");
}
