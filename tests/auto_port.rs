//! `port = "auto"`: the deck picks the ports, clients come in at the gateway.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::TcpListener;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Deck, ended, find, free_port, is_alive, kill, wait_until};

fn config(entry: u16) -> String {
    format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 50ms\"\n\
         instance.web1 = {{ port = \"auto\" }}\ninstance.web2 = {{ port = \"auto\", backup = true }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
         rollout = {{ settle = \"100ms\" }}\nmax_wait_time = \"20s\"\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n"
    )
}

fn deck(entry: u16) -> Deck {
    let mut deck = Deck::start(&config(entry));
    wait_in_rotation(&mut deck);
    deck
}

fn wait_in_rotation(deck: &mut Deck) {
    deck.wait("both in rotation", |deck, _| {
        let is_in = |name: &&str| find(deck, name).is_some_and(|it| it.in_rotation);
        ["web1", "web2"].iter().all(is_in)
            && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
    });
}

fn ports(deck: &Deck) -> [u16; 2] {
    ["web1", "web2"].map(|it| deck.instance(it).port.unwrap())
}

#[test]
fn a_roll_on_ports_that_were_picked_loses_nothing() {
    let entry = free_port();
    let mut deck = deck(entry);
    let [one, two] = ports(&deck);
    assert_ne!(one, two);
    let url = format!("http://127.0.0.1:{entry}/");
    let mut load = deck.command(&["load", &url, "-c", "8", "--interval", "0", "--method", "mixed"]);
    let mut load =
        load.args(["--mixed-connections", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    deck.ok(&["roll", "web"]);
    kill(i32::try_from(load.id()).unwrap(), Signal::SIGINT);
    ended(&mut load);
    let report: Value = serde_json::from_reader(load.stdout.take().unwrap()).unwrap();
    assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
    assert_ne!(report["requests"], 0, "{report:#}");
    deck.catch_up();
    assert!(deck.instance("web1").generation > 1, "{}", deck.story());
}

#[test]
fn a_port_stays_over_daemons_and_configurations_and_moves_when_it_is_taken() {
    let entry = free_port();
    let mut deck = deck(entry);
    let before = ports(&deck);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    wait_in_rotation(&mut deck);
    assert_eq!(ports(&deck), before, "{}", deck.story());

    // Not a line of it concerns the ports.
    deck.write_config(&config(entry).replace("= \"20s\"", "= \"15s\""));
    deck.ok(&["config", "apply"]);
    deck.catch_up();
    assert_eq!(ports(&deck), before, "{}", deck.story());

    deck.ok(&["stop", "web2"]);
    let taken = TcpListener::bind(("127.0.0.1", before[1])).unwrap();
    deck.ok(&["start", "web2"]);
    deck.catch_up();
    wait_in_rotation(&mut deck);
    assert_ne!(ports(&deck)[1], before[1], "{}", deck.story());
    drop(taken);
}

#[test]
fn a_port_is_found_again_when_no_record_names_it() {
    let entry = free_port();
    let mut deck = deck(entry);
    let before = ports(&deck);
    let pids = ["web1", "web2"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        wait_until("the daemon is dead", || !is_alive(deck.daemon_pid()));
        std::fs::remove_file(deck.path().join("state/state.jsonl")).unwrap();
    });
    wait_in_rotation(&mut deck);
    assert_eq!(ports(&deck), before, "{}", deck.story());
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), pids, "{}", deck.story());
}
