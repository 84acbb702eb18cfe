//! The gateway in front of a fleet: what clients notice of rolls, crashes and replacements.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::{self, Event, State};
use serde_json::Value;
use support::{Deck, ended, find, free_port, kill, wait_until};

/// Two instances, the second one a backup, behind a gateway.
struct Shop {
    deck: Deck,
    entry: u16,
}

impl Shop {
    fn open(sample: &str, service: &str, gateway: &str) -> Self {
        let [entry, one, two] = [free_port(), free_port(), free_port()];
        let deck = Deck::start(&format!(
            "[service.web]\ncommand = \"opsdeck sample --port {{port}} {sample}\"\n\
             instance.web1 = {{ port = {one} }}\ninstance.web2 = {{ port = {two}, backup = true }}\n\
             probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
             rollout = {{ settle = \"100ms\" }}\nmax_wait_time = \"20s\"\n{service}\n\
             [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n{gateway}\n"
        ));
        let mut shop = Self { deck, entry };
        shop.wait_in_rotation(&["web1", "web2"]);
        shop
    }

    fn wait_in_rotation(&mut self, names: &[&str]) {
        self.deck.wait(&format!("{names:?} in rotation"), |deck, _| {
            names.iter().all(|name| find(deck, name).is_some_and(|it| it.in_rotation))
                && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
        });
    }

    /// Clients that keep their connections and clients that do not, GET and POST in turns.
    fn load(&self, clients: u32) -> Load {
        let url = format!("http://127.0.0.1:{}/", self.entry);
        let mut command = self.deck.command(&["load", &url, "-c", &clients.to_string()]);
        command.args(["--interval", "0", "--method", "mixed", "--mixed-connections", "--json"]);
        Load(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until that many requests are in flight at an instance.
    fn wait_in_flight(&mut self, name: &str, n: u32) {
        self.deck.wait(&format!("{n} requests at {name}"), |deck, _| {
            find(deck, name).is_some_and(|it| it.in_flight_exact && it.in_flight >= Some(n))
        });
    }

    /// Of the one that this daemon found or started last.
    fn gateway_pid(&self) -> i32 {
        let is_there = |it: &&Event| it.message.contains("the gateway was ");
        let event = self.deck.events.iter().rfind(is_there).unwrap();
        event.message.rsplit_once("pid ").unwrap().1.parse().unwrap()
    }

    fn gateway(&self) -> &api::Gateway {
        self.deck.view.services[0].gateway.as_ref().unwrap()
    }
}

/// `opsdeck load`, until it is asked for its result.
struct Load(Child);

impl Load {
    fn end(mut self) -> Value {
        kill(i32::try_from(self.0.id()).unwrap(), Signal::SIGINT);
        ended(&mut self.0);
        serde_json::from_reader(self.0.stdout.take().unwrap()).unwrap()
    }

    #[track_caller]
    fn end_without_a_failure(self, deck: &Deck) -> u64 {
        let report = self.end();
        assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
        let requests = report["requests"].as_u64().unwrap();
        assert!(requests > 0, "{report:#}");
        requests
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn has(events: &[Event], text: &str) -> bool {
    events.iter().any(|it| it.message.contains(text))
}

#[test]
fn three_rolls_in_a_row_lose_no_request() {
    let mut shop = Shop::open("--work 100ms --max-wait-time 10s", "", "");
    let load = shop.load(20);
    shop.wait_in_flight("web1", 10);
    for _ in 0..3 {
        shop.deck.ok(&["roll", "web"]);
    }
    load.end_without_a_failure(&shop.deck);
    shop.deck.catch_up();
    let starts = shop.deck.instance("web1").generation;
    assert_eq!(starts, 4, "{}", shop.deck.story());
}

#[test]
fn a_server_that_cuts_at_its_signal_loses_nothing_behind_a_gateway() {
    for manner in ["--cut-at-term", "--deaf-drain", "--close-on-reload"] {
        let mut shop = Shop::open(&format!("--work 300ms {manner}"), "", "");
        let load = shop.load(10);
        shop.wait_in_flight("web1", 5);
        shop.deck.ok(&["roll", "web"]);
        load.end_without_a_failure(&shop.deck);
    }
}

#[test]
fn a_reload_that_closes_connections_loses_nothing_once_they_have_drained() {
    let mut shop = Shop::open(
        "--work 100ms --close-on-reload",
        "profile = \"swoole\"\nreload = { drain = true }",
        "",
    );
    let load = shop.load(20);
    shop.wait_in_flight("web1", 10);
    for n in 1..=3 {
        shop.deck.ok(&["reload", "--no-wait", "web"]);
        shop.deck.wait(&format!("reload {n} through"), |_, events| {
            events.iter().filter(|it| it.kind == "signal-finished").count() == n
        });
        shop.wait_in_rotation(&["web1", "web2"]);
    }
    load.end_without_a_failure(&shop.deck);
    let (out, late) = (has(&shop.deck.events, "out of rotation for SIGUSR1"), "still in flight");
    assert!(out && !has(&shop.deck.events, late), "{}", shop.deck.story());
    let generations = ["web1", "web2"].map(|it| shop.deck.instance(it).generation);
    assert_eq!(generations, [1, 1], "nobody was restarted");
}

#[test]
fn a_reload_of_one_instance_puts_it_back() {
    let mut shop =
        Shop::open("--work 300ms", "profile = \"swoole\"\nreload = { drain = true }", "");
    let load = shop.load(4);
    shop.wait_in_flight("web1", 4);
    shop.deck.ok(&["reload", "--no-wait", "web1"]);
    shop.deck.wait_event("no longer kept out of rotation");
    shop.wait_in_flight("web1", 4);
    load.end_without_a_failure(&shop.deck);
}

#[test]
fn renaming_the_gateway_is_noticed_by_no_client() {
    let mut shop = Shop::open("--work 50ms", "", "");
    let load = shop.load(20);
    shop.wait_in_flight("web1", 10);
    let (file, pid) = (shop.deck.path().join("config.toml"), shop.gateway_pid());
    for (old, new) in [("shop", "door"), ("door", "gate"), ("gate", "shop")] {
        let text = std::fs::read_to_string(&file).unwrap();
        let renamed = text.replace(&format!("[gateway.{old}]"), &format!("[gateway.{new}]"));
        std::fs::write(&file, renamed).unwrap();
        let name = format!("gateway {new}");
        let told = format!("{name:16} renamed from {old}: no connection is closed\n");
        assert_eq!(shop.deck.ok(&["config", "diff"]), told);
        shop.deck.ok(&["config", "apply"]);
        shop.deck.wait(&format!("{new} is there"), |deck, _| {
            let gateway = deck.services[0].gateway.as_ref();
            gateway.is_some_and(|it| it.name == new && it.up && it.connections >= 10)
        });
        shop.wait_in_flight("web1", 10);
    }
    load.end_without_a_failure(&shop.deck);
    assert_eq!(shop.gateway_pid(), pid, "{}", shop.deck.story());
    assert!(!has(&shop.deck.events, "cannot listen"), "{}", shop.deck.story());
}

#[test]
fn one_instance_is_bridged_by_holding() {
    let [entry, port] = [free_port(), free_port()];
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 50ms\"\ninstance.web1 = {{ port = {port} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\nhold = \"20s\"\n"
    ));
    deck.wait("web1 in rotation", |deck, _| find(deck, "web1").is_some_and(|it| it.in_rotation));
    let mut shop = Shop { deck, entry };
    let load = shop.load(8);
    shop.wait_in_flight("web1", 4);
    shop.deck.ok(&["restart", "web1"]);
    load.end_without_a_failure(&shop.deck);
    shop.deck.wait("held requests counted", |deck, _| {
        deck.services[0].gateway.as_ref().is_some_and(|it| it.held_total > 0 && it.held == 0)
    });
}

/// One instance behind a gateway; its rollouts have a spare.
fn corner_shop(command: &str, service: &str) -> Shop {
    let [entry, port] = [free_port(), free_port()];
    let deck = Deck::start(&format!(
        "[service.web]\ncommand = \"{command}\"\ninstance.web1 = {{ port = {port} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\nmax_wait_time = \"20s\"\n{service}\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\nhold = \"20s\"\n"
    ));
    let mut shop = Shop { deck, entry };
    shop.wait_in_rotation(&["web1"]);
    shop
}

#[test]
fn one_instance_is_rolled_beside_its_spare_and_no_request_waits() {
    let surge = "rollout = { surge = true, settle = \"100ms\", ready_timeout = \"30s\" }";
    let mut shop =
        corner_shop("opsdeck sample --port {port} --work 100ms --max-wait-time 10s", surge);
    let plan = shop.deck.ok(&["roll", "web", "--dry-run"]);
    assert!(plan.contains("1. web-surge  (spare)"), "{plan}");
    assert!(plan.contains("2. web1  (primary, ready)") && !plan.contains("downtime"), "{plan}");
    let load = shop.load(10);
    shop.wait_in_flight("web1", 5);
    for _ in 0..3 {
        shop.deck.ok(&["roll", "web"]);
    }
    load.end_without_a_failure(&shop.deck);
    shop.deck.wait("three spares that came and went", |deck, events| {
        let spares = events.iter().filter(|it| it.instance.as_deref() == Some("web-surge"));
        spares.filter(|it| it.kind == "stopped").count() == 3 && find(deck, "web-surge").is_none()
    });
    assert_eq!(shop.deck.instance("web1").generation, 4, "{}", shop.deck.story());
    // Somebody served at every moment: nothing ever had to wait for an instance.
    assert_eq!(shop.gateway().held_total, 0, "{}", shop.deck.story());
}

#[test]
fn a_spare_that_is_never_ready_halts_with_the_instance_untouched() {
    let surge = "rollout = { surge = true, settle = \"100ms\", ready_timeout = \"1s\" }";
    let manner = "$(test {instance} = web1 || echo --never-ready)";
    let command = format!("sh -c 'exec opsdeck sample --port {{port}} --work 10ms {manner}'");
    let mut shop = corner_shop(&command, surge);
    let before = shop.deck.instance("web1");
    let load = shop.load(4);
    shop.wait_in_flight("web1", 1);
    assert!(!shop.deck.opsdeck(&["roll", "web"]).status.success());
    shop.deck.wait("no spare any more", |deck, _| {
        let halted = deck.services[0].rollout.as_ref().is_some_and(|it| it.halted.is_some());
        halted && find(deck, "web-surge").is_none()
    });
    load.end_without_a_failure(&shop.deck);
    let rollout = shop.deck.view.services[0].rollout.clone().unwrap();
    let why = rollout.halted.unwrap();
    assert!(why.contains("web-surge was not ready within 1s"), "{why}");
    assert!(why.ends_with("no instance was touched"), "{why}");
    assert_eq!(shop.deck.instance("web1").pid, before.pid, "{}", shop.deck.story());
}

#[test]
fn the_next_daemon_finds_a_spare_and_ends_it() {
    let surge = "rollout = { surge = true, settle = \"100ms\" }";
    let mut shop = corner_shop("opsdeck sample --port {port} --work 200ms", surge);
    let load = shop.load(6);
    shop.wait_in_flight("web1", 3);
    shop.deck.ok(&["roll", "web", "--no-wait"]);
    shop.wait_in_rotation(&["web-surge"]);
    let spare = shop.deck.instance("web-surge");
    shop.deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    shop.wait_in_rotation(&["web1"]);
    shop.deck.wait("no spare any more", |deck, _| find(deck, "web-surge").is_none());
    load.end_without_a_failure(&shop.deck);
    shop.deck.catch_up();
    let story = shop.deck.story();
    let found = format!("found running, pid {}", spare.pid.unwrap());
    assert!(has(&shop.deck.events, &found), "{story}");
    assert!(has(&shop.deck.events, "because the others serve without it"), "{story}");
    assert!(!support::is_alive(spare.pid.unwrap()));
}

#[test]
fn the_drain_is_counted_and_waited_for() {
    let mut shop = Shop::open("--work 1500ms --max-wait-time 100ms", "", "");
    let load = shop.load(6);
    shop.wait_in_flight("web1", 6);
    shop.deck.ok(&["stop", "web1"]);
    load.end_without_a_failure(&shop.deck);
    shop.deck.catch_up();
    // Its own limit of 100 ms would have cut all of them: it got its signal when they were answered.
    assert!(has(&shop.deck.events, "out of rotation, 6 in flight"), "{}", shop.deck.story());
    assert_eq!(shop.deck.instance("web1").last_exit.unwrap().lost, 0);
}

#[test]
fn what_the_gateway_sends_again_after_a_kill_is_not_lost() {
    let mut shop = Shop::open("--work 300ms", "", "");
    let url = format!("http://127.0.0.1:{}/", shop.entry);
    let mut gets = shop.deck.command(&["load", &url, "-c", "3", "--interval", "0", "--json"]);
    let load = Load(gets.stdout(Stdio::piped()).spawn().unwrap());
    shop.wait_in_flight("web1", 3);
    kill(shop.deck.pid("web1"), Signal::SIGKILL);
    let exited = shop.deck.wait_event("was killed by SIGKILL with");
    load.end_without_a_failure(&shop.deck);
    shop.deck.catch_up();
    assert_eq!((exited.kind.as_str(), exited.lost), ("exited", None), "{}", exited.message);
    assert!(exited.message.ends_with("in flight"), "{}", exited.message);
    assert_eq!(shop.deck.instance("web1").last_exit.unwrap().lost, 0);
    assert!(shop.gateway().traffic.retried > 0, "{:?}", shop.gateway());
    assert!(!shop.deck.ok(&["why", "web1"]).contains(" lost"));
}

#[test]
fn the_last_one_goes_out_of_rotation_only_after_a_yes() {
    let mut shop = Shop::open("--work 10ms", "", "");
    shop.deck.ok(&["drain", "web1"]);
    let asked = shop.deck.opsdeck(&["drain", "web2"]);
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(asked.status.code(), Some(6), "{told}");
    assert!(told.contains("web2 is the last ready instance of web"), "{told}");
    assert_eq!(shop.deck.opsdeck(&["status"]).status.code(), Some(0));
    shop.deck.ok(&["drain", "web2", "--yes"]);
    shop.deck.wait("all are held", |deck, _| {
        ["web1", "web2"].iter().all(|it| find(deck, it).is_some_and(|it| it.held_by.is_some()))
    });
    for args in [&["status"][..], &["status", "web1"]] {
        let status = shop.deck.opsdeck(args);
        assert_eq!(status.status.code(), Some(3), "{args:?}");
        assert!(String::from_utf8_lossy(&status.stdout).contains("(held by "));
        let told = String::from_utf8_lossy(&status.stderr).into_owned();
        assert!(told.contains("nobody of web is in rotation"), "{told}");
    }
    shop.deck.ok(&["undrain", "web"]);
    shop.wait_in_rotation(&["web1", "web2"]);
    assert_eq!(shop.deck.opsdeck(&["status"]).status.code(), Some(0));
}

#[test]
fn a_dead_daemon_is_not_noticed_and_the_next_one_knows_the_counts() {
    let mut shop = Shop::open("--work 100ms", "", "");
    let load = shop.load(10);
    shop.wait_in_flight("web1", 5);
    let gateway = shop.gateway_pid();
    shop.deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    shop.deck.wait_event("was taken over");
    assert_eq!(shop.gateway_pid(), gateway);
    shop.wait_in_rotation(&["web1", "web2"]);
    shop.wait_in_flight("web1", 5);
    shop.deck.ok(&["roll", "web"]);
    load.end_without_a_failure(&shop.deck);
}

#[test]
fn a_killed_gateway_cuts_only_what_was_in_it_and_says_how_many() {
    let mut shop = Shop::open("--work 300ms", "", "");
    let load = shop.load(12);
    shop.wait_in_flight("web1", 12);
    kill(shop.gateway_pid(), Signal::SIGKILL);
    let told = shop.deck.wait_event("ended with").message;
    shop.deck.wait("a new gateway", |deck, events| {
        has(events, "starting it again")
            && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
    });
    shop.wait_in_flight("web1", 12);
    let report = load.end();
    let failed = report["failed"].as_u64().unwrap();
    let n = if failed == 1 { "1 request".into() } else { format!("{failed} requests") };
    assert!(told.contains(&format!("ended with {n} in flight")), "{told}\n{report:#}");
    assert_eq!(report["failures"]["refused"], 0, "{report:#}");
}

#[test]
fn an_address_that_is_taken_is_named_and_taken_up_when_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (entry, port) = (taken.local_addr().unwrap().port(), free_port());
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\ninstance.web1 = {{ port = {port} }}\n\
         [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n"
    ));
    let event = deck.wait_event("cannot listen on");
    assert!(event.message.contains("is held by"), "{}", event.message);
    deck.wait("it on the screen", |deck, _| {
        deck.services[0].gateway.as_ref().is_some_and(|it| it.trouble.is_some())
            && deck.notices.iter().any(|it| it.contains("cannot listen"))
    });
    drop(taken);
    deck.wait_event("listens now");
    deck.wait("no trouble any more", |deck, _| {
        deck.services[0].gateway.as_ref().is_some_and(|it| it.trouble.is_none())
    });
}

#[test]
fn gateways_come_and_go_with_the_configuration() {
    let mut shop = Shop::open("--work 10ms", "", "");
    let config = std::fs::read_to_string(shop.deck.path().join("config.toml")).unwrap();
    let services = config.split_once("[service").map(|it| format!("[service{}", it.1)).unwrap();
    let (without, _) = services.split_once("[gateway").unwrap();

    let other = free_port();
    let moved = services.replace(&shop.entry.to_string(), &other.to_string());
    shop.deck.write_config(&moved);
    shop.deck.ok(&["config", "apply"]);
    shop.entry = other;
    wait_until("the new address answers", || {
        std::net::TcpStream::connect(("127.0.0.1", other)).is_ok()
    });
    let load = shop.load(4);
    shop.wait_in_flight("web1", 1);
    load.end_without_a_failure(&shop.deck);
    assert_eq!(shop.gateway().listen, Some(format!("127.0.0.1:{other}")));

    shop.deck.write_config(without);
    shop.deck.ok(&["config", "apply"]);
    wait_until("nobody listens", || std::net::TcpStream::connect(("127.0.0.1", other)).is_err());
    shop.deck.wait("no gateway any more", |deck, _| deck.services[0].gateway.is_none());
    assert_eq!(shop.deck.instance("web1").state, State::Running);
}

#[test]
fn a_gateway_that_the_next_daemon_cannot_talk_to_is_ended_and_another_one_serves() {
    let mut shop = Shop::open("--work 10ms", "", "");
    let hung = shop.gateway_pid();
    kill(hung, Signal::SIGSTOP);
    shop.deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    let told = shop.deck.wait_event(&format!("the gateway (pid {hung}) ended")).message;
    assert!(told.contains("could not be talked to (no answer within"), "{told}");
    shop.wait_in_rotation(&["web1", "web2"]);
    assert!(!support::is_alive(hung) && shop.gateway_pid() != hung, "{}", shop.deck.story());
    let load = shop.load(4);
    shop.wait_in_flight("web1", 1);
    load.end_without_a_failure(&shop.deck);
}

#[test]
fn a_gateway_whose_control_socket_was_removed_makes_room_for_one_that_is_found() {
    let mut shop = Shop::open("--work 10ms", "", "");
    let (_, runtime_dir) = support::processes::logger(&shop.deck).unwrap();
    let load = shop.load(4);
    shop.wait_in_flight("web1", 1);
    let hidden = shop.gateway_pid();
    std::fs::remove_file(runtime_dir.join("gateway.sock")).unwrap();
    shop.deck.wait_event(&format!("the old gateway (pid {hidden}) has finished what it had"));
    load.end_without_a_failure(&shop.deck);
    shop.deck.wait("another one", |_, events| {
        events.iter().filter(|it| it.message.contains("the gateway was started")).count() == 2
    });
    let found = shop.gateway_pid();
    wait_until("the hidden one gone", || !support::is_alive(hidden));
    assert_ne!(found, hidden);
    shop.deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    shop.wait_in_rotation(&["web1", "web2"]);
    assert_eq!(shop.gateway_pid(), found);
}

#[test]
fn nothing_is_left_after_a_shutdown() {
    let mut shop = Shop::open("--work 10ms", "", "");
    let gateway = shop.gateway_pid();
    shop.deck.ok(&["shutdown"]);
    shop.deck.wait_end();
    wait_until("the gateway gone", || !support::is_alive(gateway));
}
#[test]
fn another_program_takes_over_without_a_failure() {
    let mut shop = Shop::open("--work 200ms", "", "");
    let load = shop.load(10);
    shop.wait_in_flight("web1", 5);
    let old = shop.gateway_pid();
    shop.deck.renew_program();
    shop.deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGTERM));
    shop.deck.wait_event("has finished what it had");
    assert_ne!(shop.gateway_pid(), old);
    wait_until("the old gateway gone", || !support::is_alive(old));
    load.end_without_a_failure(&shop.deck);
}
