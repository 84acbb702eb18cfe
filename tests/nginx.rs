//! A real nginx in front of a fleet: what its clients notice of rolls and crashes, and what it is told when.
#![expect(clippy::disallowed_methods, reason = "tests")]

#[path = "support/nginx.rs"]
mod rig;
mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use rig::{Nginx, READINESS};
use support::{Deck, find, kill};

#[test]
fn two_rolls_in_a_row_lose_no_request() {
    let Some(nginx) = Nginx::start() else { return };
    // The worst manners there are: at SIGTERM it cuts.
    let mut deck = nginx.deck("--work 200ms --cut-at-term", READINESS);
    let reloads = nginx.reloads();
    let [once, kept] = ["--one-shot", "--keep-alive"].map(|it| nginx.load(&deck, it));
    for _ in 0..2 {
        deck.ok(&["roll", "web"]);
    }
    let (once, kept) = (once.end(), kept.end());
    let story = format!("{once:#}\n{kept:#}\n{}\n{}", deck.story(), nginx.errors());
    assert_eq!(once["failed"], 0, "{story}");
    // nginx itself closes idle connections of clients when it reloads: a request that is on its way in
    // that moment was never read. Nothing else may be lost.
    let lost = |how: &str| kept["failures"][how].as_u64().unwrap();
    let crossed = lost("closed") + lost("reset");
    assert_eq!(kept["failed"], crossed, "{story}");
    assert!(crossed <= (nginx.reloads() - reloads) as u64, "{story}");
    deck.catch_up();
    let generations = ["web1", "web2"].map(|it| deck.instance(it).generation);
    assert_eq!(generations, [3, 3], "{}", deck.story());
    assert!(!deck.events.iter().any(|it| it.message.contains("SIGKILL")), "{}", deck.story());
}

#[test]
fn a_broken_configuration_of_nginx_halts_and_changes_nothing() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", READINESS);
    let (before, reloads) = (nginx.file(), nginx.reloads());
    let pids = ["web1", "web2"].map(|it| deck.pid(it));
    nginx.configure("nonsense on;");

    let output = deck.opsdeck(&["roll", "web"]);

    assert_eq!(output.status.code(), Some(1), "{}", deck.story());
    let event = deck.wait_event("could not be taken out of rotation");
    assert!(event.message.contains("unknown directive \"nonsense\""), "{}", event.message);
    assert_eq!((nginx.file(), nginx.reloads()), (before, reloads));
    deck.wait("all in rotation", |deck, _| {
        ["web1", "web2"].iter().all(|name| find(deck, name).is_some_and(|it| it.in_rotation))
    });
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), pids, "{}", deck.story());
    assert_eq!(nginx.status(), 200);

    assert!(deck.view.services[0].gateway.as_ref().unwrap().trouble.is_some());
    nginx.configure("");
    deck.wait_event("follows again");
    deck.ok(&["roll", "web"]);
}

#[test]
fn readiness_that_flaps_costs_one_reload_in_five_seconds() {
    let Some(nginx) = Nginx::start() else { return };
    let flag = nginx.path("ready");
    std::fs::write(&flag, "").unwrap();
    let mut deck = nginx.deck(
        "",
        &format!(
            "probe.readiness = {{ exec.command = [\"test\", \"-e\", {flag:?}], period = \"50ms\", failure_threshold = 1 }}"
        ),
    );
    let (before, began) = (nginx.reloads(), Instant::now());
    let ready = |deck: &mut Deck, ready: bool| {
        deck.wait(&format!("ready {ready}"), |deck, _| {
            find(deck, "web1").is_some_and(|it| it.ready == Some(ready) && it.in_rotation == ready)
        });
    };
    for _ in 0..5 {
        std::fs::remove_file(&flag).unwrap();
        ready(&mut deck, false);
        std::fs::write(&flag, "").unwrap();
        ready(&mut deck, true);
    }
    std::fs::remove_file(&flag).unwrap();
    nginx.wait("told", |it| it.is_down("web1") && it.is_down("web2"));
    let most = 1 + usize::try_from(began.elapsed().as_secs() / 5).unwrap() + 1;
    let cost = nginx.reloads() - before;
    assert!(cost <= most, "{cost} reloads in {:?}", began.elapsed());
    assert_eq!(nginx.status(), 502, "nobody is in rotation");
}

#[test]
fn a_killed_instance_is_out_at_once() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", &format!("{READINESS}\nrestart = \"never\""));
    let killed = Instant::now();
    kill(deck.pid("web1"), Signal::SIGKILL);
    nginx.wait("told that web1 is down", |it| it.is_down("web1"));
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    deck.wait("web1 ended", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.state != State::Running && !it.in_rotation)
    });
    assert!(!nginx.is_down("web2"), "{}", nginx.file());
    assert!(nginx.line("web2").contains("max_fails=0"), "{}", nginx.file());
    assert_eq!(nginx.status(), 200);
}

#[test]
fn the_next_daemon_leaves_nginx_as_it_is() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = nginx.deck("", READINESS);
    deck.ok(&["drain", "web2"]);
    nginx.wait("told that web2 is down", |it| it.is_down("web2"));
    let (before, reloads) = (nginx.file(), nginx.reloads());

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));

    deck.wait("web1 in rotation", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.in_rotation && it.ready == Some(true))
            && deck.services[0].gateway.as_ref().is_some_and(|it| it.up)
    });
    assert_eq!((nginx.file(), nginx.reloads()), (before, reloads), "{}", deck.story());
    deck.ok(&["undrain", "web2"]);
    nginx.wait("told that web2 is back", |it| !it.is_down("web2"));
}

#[test]
fn what_nginx_logs_is_the_load_of_its_instances() {
    let Some(mut nginx) = Nginx::start() else { return };
    nginx.keys = format!(
        ", access_log = {:?}, log_format = \"$request_method ${{upstream_addr}};$status $upstream_response_time\", \
         stub_status = \"http://127.0.0.1:{}/stub\"",
        nginx.path("access.log"),
        nginx.entry
    );
    let mut deck = nginx.deck("--work 20ms", READINESS);
    let load = nginx.load(&deck, "--keep-alive");
    deck.wait("its requests counted", |deck, _| {
        let gateway = deck.services[0].gateway.as_ref();
        let web1 = find(deck, "web1");
        web1.is_some_and(|it| {
            it.requests_per_second.is_some_and(|it| it > 0.0)
                && it.p99_ms.is_some_and(|it| it >= 20)
                && it.traffic.as_ref().is_some_and(|it| it.success > 20)
        }) && gateway.is_some_and(|it| it.connections >= 10 && it.requests_per_second > 0.0)
    });
    let before = find(&deck.view, "web1").unwrap().traffic.as_ref().unwrap().success;
    deck.ok(&["restart", "web1"]);
    deck.wait("more, and nothing forgotten", |deck, _| {
        let traffic = |name| find(deck, name).and_then(|it| it.traffic.as_ref());
        traffic("web1").is_some_and(|it| it.success > before)
            && traffic("web2").is_some_and(|it| it.success > 0)
    });
    load.end();
    // A reload that comes later would make a new one.
    nginx.wait("told that web1 is back", |it| !it.is_down("web1"));
    std::fs::remove_file(nginx.path("access.log")).unwrap();
    let event = deck.wait_event("is not counted");
    assert!(event.message.contains("access.log cannot be read"), "{}", event.message);
}

#[test]
fn an_nginx_that_hangs_takes_nothing_from_the_budget_of_a_stop() {
    let Some(mut nginx) = Nginx::start() else { return };
    let (flag, hangs) = (nginx.path("hang"), nginx.path("hangs"));
    nginx.test =
        format!("test ! -e {flag} || {{ touch {hangs}; exec sleep 1000; }}; exec \"$0\" \"$@\"");
    // Three of them are left to the ladder.
    nginx.max_wait_time = "5s".into();
    let mut deck = nginx.deck("", READINESS);
    std::fs::write(&flag, "").unwrap();

    deck.ok(&["stop", "web1"]);

    assert!(std::path::Path::new(&hangs).exists(), "nobody has asked nginx");
    let event = deck.wait_event("may still send it requests");
    assert!(event.message.starts_with("SIGTERM"), "{}", event.message);
    deck.catch_up();
    assert!(!deck.events.iter().any(|it| it.message.contains("SIGKILL")), "{}", deck.story());
    deck.wait("web1 stopped", |deck, _| find(deck, "web1").unwrap().state == State::Stopped);
}

#[test]
fn one_instance_is_rolled_beside_its_spare_and_nginx_has_somebody_at_every_moment() {
    let Some(nginx) = Nginx::start() else { return };
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 100ms --cut-at-term\"\n\
         instance.web1 = {{ port = {}, weight = 2 }}\nmax_wait_time = \"20s\"\n{READINESS}\n\
         rollout = {{ surge = true, settle = \"100ms\", ready_timeout = \"30s\" }}\n{}",
        support::free_port(),
        nginx.gateway()
    ));
    deck.wait("web1 in rotation", |deck, _| find(deck, "web1").is_some_and(|it| it.in_rotation));
    nginx.wait("sending", |it| it.line("web1").contains(" weight=2") && !it.is_down("web1"));
    let load = nginx.load(&deck, "--one-shot");
    deck.ok(&["roll", "web"]);
    let report = load.end();
    assert_eq!(report["failed"], 0, "{report:#}\n{}\n{}", deck.story(), nginx.errors());
    deck.wait("web1 renewed", |deck, _| find(deck, "web1").unwrap().generation == 2);
    nginx.wait("alone again", |it| it.line("web-surge").is_empty() && !it.is_down("web1"));
}

#[test]
fn a_reload_that_closes_connections_waits_until_nginx_has_none_there() {
    let Some(nginx) = Nginx::start() else { return };
    let service = format!("{READINESS}\nprofile = \"swoole\"\nreload = {{ drain = true }}");
    let mut deck = nginx.deck("--work 100ms --close-on-reload", &service);
    let load = nginx.load(&deck, "--one-shot");
    deck.ok(&["reload", "--no-wait", "web"]);
    deck.wait("the reload through", |deck, events| {
        events.iter().any(|it| it.kind == "signal-finished")
            && ["web1", "web2"].iter().all(|it| find(deck, it).is_some_and(|it| it.in_rotation))
    });
    let report = load.end();
    assert_eq!(report["failed"], 0, "{report:#}\n{}\n{}", deck.story(), nginx.errors());
    let (out, late) = ("out of rotation for SIGUSR1", "still in flight");
    let said = |what: &str| deck.events.iter().any(|it| it.message.contains(what));
    assert!(said(out) && !said(late), "{}", deck.story());
    let generations = ["web1", "web2"].map(|it| deck.instance(it).generation);
    assert_eq!(generations, [1, 1], "nobody was restarted");
}
