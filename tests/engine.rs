//! Who runs a process changes, or is in the middle of ending it, while it runs: never two at once, and nothing
//! ends that somebody else is to keep.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use nix::sys::signal::Signal;
use opsdeck::api::State;
use support::theirs::{Theirs, wait_pid};
use support::{Deck, find, free_port, is_alive, kill, wait_until};

/// The same instance, as a process of opsdeck's own.
fn ours(port: u16) -> String {
    format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\nmax_wait_time = \"20s\"\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"100ms\", timeout = \"20s\" }}\n\
         instance.web1 = {{ port = {port} }}\n"
    )
}

/// Every server on this port, whoever has started it.
fn servers(port: u16) -> Vec<i32> {
    let wanted = format!("\0sample\0--port\0{port}\0");
    let is_one = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_alive(*pid) && String::from_utf8_lossy(&line).contains(&wanted)
    };
    support::processes::pids().into_iter().filter(is_one).collect()
}

/// Waits for another process than this one, and returns its pid.
#[track_caller]
fn wait_next(deck: &mut Deck, before: i32) -> i32 {
    deck.wait("the next one", |it, _| {
        find(it, "web1")
            .is_some_and(|it| it.pid.is_some_and(|it| it != before) && it.ready == Some(true))
    });
    deck.pid("web1")
}

/// What a script has written down so far.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_engine_of_what_runs_changes_only_once_it_is_stopped() {
    let (theirs, port) = (Theirs::new(), free_port());
    let theirs_now = theirs.service(&[("web1", port)], &theirs.started_by());
    let mut deck = Deck::start(&ours(port));
    deck.wait_ready(&["web1"]);
    let first = deck.pid("web1");

    deck.write_config(&theirs_now);
    let told = deck.ok(&["config", "diff"]);
    assert!(told.contains("engine changes: what runs has to be stopped first"), "{told}");
    for words in [&["config", "apply"][..], &["config", "apply", "--yes"]] {
        let refused = deck.opsdeck(words);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("web1 runs") && told.contains("opsdeck stop web1"), "{told}");
    }
    kill(deck.daemon_pid(), Signal::SIGHUP);
    deck.wait_event("the configuration was not applied: web1 runs");
    deck.wait("the mistake is shown", |it, _| {
        it.config.error.as_ref().is_some_and(|it| it.contains("web1 runs"))
    });
    assert_eq!((deck.view.services[0].engine.as_str(), deck.pid("web1")), ("local", first));

    deck.ok(&["stop", "web1"]);
    deck.ok(&["config", "apply"]);
    deck.wait("the engine is another one", |it, _| it.services[0].engine == "pidfile");
    assert!(servers(port).is_empty());
    deck.ok(&["start", "web1"]);
    let second = theirs.pid("web1");
    wait_pid(&mut deck, "web1", second);

    deck.write_config(&ours(port));
    assert_eq!(deck.opsdeck(&["config", "apply"]).status.code(), Some(1));
    deck.ok(&["stop", "web1"]);
    deck.ok(&["config", "apply"]);
    deck.ok(&["start", "web1"]);
    let third = wait_next(&mut deck, second);
    assert_eq!(servers(port), [third]);
    assert_eq!(deck.marked().len(), 1, "it is ours");
}

#[test]
fn a_daemon_that_comes_back_to_another_engine_starts_nothing_beside_what_somebody_else_runs() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], ""));
    wait_pid(&mut deck, "web1", first);
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&ours(port));
    });
    wait_pid(&mut deck, "web1", first);
    deck.wait_event("is opsdeck's own from its next start on");
    assert_eq!((servers(port), deck.instance("web1").generation), (vec![first], 1));

    // It is left running as what it is, and goes on as that.
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(is_alive(first));
    kill(first, Signal::SIGKILL);
}

#[test]
fn what_somebody_else_ran_is_replaced_by_ours_when_it_ends() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&theirs.service(&[("web1", port)], ""));
    wait_pid(&mut deck, "web1", first);
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&ours(port));
    });
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["restart", "web1"]);
    let second = wait_next(&mut deck, first);
    assert!(!is_alive(first));
    assert_eq!(servers(port), [second]);
    assert_eq!(deck.marked(), [("web1".to_owned(), second)]);
}

#[test]
fn a_child_of_ours_goes_on_as_that_under_another_engine_until_it_ends() {
    let (theirs, port) = (Theirs::new(), free_port());
    let mut deck = Deck::start(&ours(port));
    deck.wait_ready(&["web1"]);
    let first = deck.pid("web1");
    let stop = "stop_command = \"false\"\n";
    let services = theirs.service(&[("web1", port)], &(theirs.started_by() + stop));
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&services);
    });
    wait_pid(&mut deck, "web1", first);
    deck.wait_event("is somebody else's from its next start on");
    assert_eq!(servers(port), [first]);

    // The command is for what somebody else runs.
    deck.ok(&["restart", "web1"]);
    let second = theirs.pid("web1");
    wait_pid(&mut deck, "web1", second);
    assert_eq!(servers(port), [second]);
    assert!(deck.events.iter().all(|it| !it.message.contains("`false`")), "{}", deck.story());
}

#[test]
fn a_child_of_ours_is_not_left_behind_under_another_engine() {
    let (theirs, port) = (Theirs::new(), free_port());
    let mut deck = Deck::start(&ours(port));
    deck.wait_ready(&["web1"]);
    let first = deck.pid("web1");
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&theirs.service(&[("web1", port)], ""));
    });
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(!is_alive(first));
}

#[test]
fn the_end_of_one_that_was_let_go_is_not_the_end_of_the_next() {
    let (theirs, ports) = (Theirs::new(), [free_port(), free_port()]);
    let first = theirs.start("web1", ports[0]);
    let service = theirs.service(&[("web1", ports[1])], "");
    let mut deck = Deck::start(&service);
    deck.wait("it is found", |it, _| find(it, "web1").is_some_and(|it| it.pid == Some(first)));
    deck.write_config("");
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("no service", |it, _| it.services.is_empty());
    let second = theirs.start("web1", ports[1]);
    deck.write_config(&service);
    deck.ok(&["config", "apply"]);
    wait_pid(&mut deck, "web1", second);
    assert_eq!(deck.instance("web1").generation, 1, "it begins with nothing");

    kill(first, Signal::SIGKILL);
    wait_until("it is gone", || !is_alive(first));
    // Whatever the daemon makes of that end, it has made of it by then.
    for _ in 0..3 {
        deck.ok(&["signal", "SIGWINCH", "web1", "--yes"]);
    }
    deck.wait_event("SIGWINCH");
    deck.catch_up();
    let it = deck.instance("web1");
    assert_eq!((it.pid, it.generation, it.last_exit), (Some(second), 1, None), "{}", deck.story());
}

/// Stops a server and stays for a while: until there is a file `release`.
const SLOW_STOP: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo $$ >"$1.stopping"
echo begins >>"$1.log"
[ -e "$1.deaf" ] || kill -KILL "$(cat "$1.pid")"
sleep 600 &
echo $! >"$1.sleeper"
while [ ! -e release ]; do sleep 0.02; done
kill $!
sleep 0.3
echo ends >>"$1.log"
"#;

/// Says when it is asked to start one.
const TOLD_START: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo starts >>"$1.log"
while [ -e wait ]; do sleep 0.02; done
./ctl start "$1" "$2"
"#;

fn slow(theirs: &Theirs, port: u16, budget: &str) -> String {
    theirs.script("slow-stop", SLOW_STOP);
    theirs.script("told-start", TOLD_START);
    let (stop, start) = (theirs.path("slow-stop"), theirs.path("told-start"));
    let all = theirs.service(
        &[("web1", port)],
        &format!(
            "start = [{:?}, \"{{instance}}\", \"{{port}}\"]\nstop_command = [{:?}, \"{{instance}}\"]\n",
            start.display().to_string(),
            stop.display().to_string(),
        ),
    );
    all.replacen("max_wait_time = \"20s\"", &format!("max_wait_time = \"{budget}\""), 1)
}

fn number(path: &Path) -> i32 {
    let mut text = String::new();
    wait_until("a number", || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text.trim().parse().unwrap()
}

#[test]
fn a_start_waits_until_the_command_that_stopped_it_has_ended() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&slow(&theirs, port, "30s"));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["restart", "--no-wait", "web1"]);
    deck.wait("it is to start again", |it, _| {
        find(it, "web1").is_some_and(|it| it.generation == 2)
    });
    assert!(!is_alive(first));
    let log = theirs.path("web1.log");
    assert_eq!(lines(&log), ["begins"]);
    std::fs::write(theirs.path("release"), "").unwrap();
    wait_until("it is started", || lines(&log).len() == 3);
    assert_eq!(lines(&log), ["begins", "ends", "starts"]);
    wait_until("it is there", || theirs.pid("web1") != first);
    let second = theirs.pid("web1");
    wait_pid(&mut deck, "web1", second);
}

#[test]
fn the_command_that_stops_has_the_time_of_the_stop_and_goes_with_all_that_it_began() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let mut deck = Deck::start(&slow(&theirs, port, "1s"));
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["restart", "--no-wait", "web1"]);
    let command = ["web1.stopping", "web1.sleeper"].map(|it| number(&theirs.path(it)));
    // Its server is gone at once; it is waited for as long as the stop could have lasted.
    wait_until("the command is gone", || command.iter().all(|it| !is_alive(*it)));
    deck.wait_event("the stop could last no longer");
    wait_until("it is there", || theirs.pid("web1") != first);
    let second = theirs.pid("web1");
    wait_pid(&mut deck, "web1", second);
    assert_eq!(lines(&theirs.path("web1.log")), ["begins", "starts"]);

    // SIGKILL ends both.
    std::fs::write(theirs.path("web1.deaf"), "").unwrap();
    for it in ["web1.stopping", "web1.sleeper"] {
        std::fs::remove_file(theirs.path(it)).unwrap();
    }
    deck.ok(&["stop", "--no-wait", "web1"]);
    let command = ["web1.stopping", "web1.sleeper"].map(|it| number(&theirs.path(it)));
    deck.wait_state("web1", State::Stopped);
    wait_until("all is gone", || command.iter().chain([&second]).all(|it| !is_alive(*it)));
}

#[test]
fn what_drains_for_a_restart_is_left_running_by_a_shutdown_and_by_its_removal() {
    let (theirs, port) = (Theirs::new(), free_port());
    let first = theirs.start("web1", port);
    let service = theirs.service(
        &[("web1", port)],
        &(theirs.started_by() + "drain_delay = \"50s\"\nmax_wait_time = \"60s\"\n"),
    );
    let service = service.replacen("max_wait_time = \"20s\"\n", "", 1);
    let mut deck = Deck::start(&service);
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["restart", "--no-wait", "web1"]);
    deck.wait_state("web1", State::Draining);
    deck.write_config("");
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("no service", |it, _| it.services.is_empty());
    deck.wait_event("left running");
    assert!(is_alive(first));

    deck.write_config(&service);
    deck.ok(&["config", "apply"]);
    wait_pid(&mut deck, "web1", first);
    deck.ok(&["restart", "--no-wait", "web1"]);
    deck.wait_state("web1", State::Draining);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(is_alive(first));
}

#[test]
fn a_start_of_a_daemon_that_died_is_waited_for_and_not_begun_anew() {
    let (theirs, port) = (Theirs::new(), free_port());
    let mut deck = Deck::start(&slow(&theirs, port, "20s"));
    std::fs::write(theirs.path("wait"), "").unwrap();
    deck.ok(&["start", "--no-wait", "web1"]);
    let log = theirs.path("web1.log");
    wait_until("it is being started", || lines(&log) == ["starts"]);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait("it is waited for", |it, _| {
        find(it, "web1").is_some_and(|it| it.state == State::Spawning)
    });
    std::fs::remove_file(theirs.path("wait")).unwrap();
    wait_until("it is there", || theirs.path("web1.pid").exists());
    let first = theirs.pid("web1");
    wait_pid(&mut deck, "web1", first);
    assert_eq!((lines(&log), servers(port)), (vec!["starts".to_owned()], vec![first]));
    assert_eq!(deck.instance("web1").generation, 1);
}
