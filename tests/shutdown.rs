//! The end of everything that a deck runs, also where the daemon dies in the middle of it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use support::processes::{instances_of, logger};
use support::{Deck, find, is_alive, kill, wait_until};

#[test]
fn shutdown_leaves_no_process_no_runtime_directory_and_no_cgroup() {
    let mut deck = Deck::start(
        r#"[defaults]
        start_seconds = "100ms"
        [service.family]
        command = "opsdeck sample --worker --fork-grandchild"
        [service.loner]
        command = "opsdeck sample --worker""#,
    );
    deck.wait_ready(&["family", "loner"]);
    deck.wait_line("family", "left the group");
    let (logger, runtime_dir) = logger(&deck).unwrap();
    assert!(runtime_dir.join("family.fifo").exists());
    let cgroup = cgroup_of(deck.pid("family"));
    assert_eq!(instances_of(deck.path()).len(), 3);

    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert_eq!(instances_of(deck.path()), Vec::<i32>::new());
    wait_until("the logger gone", || !is_alive(logger));
    assert!(!runtime_dir.exists(), "{} is there", runtime_dir.display());
    assert!(!deck.socket().exists());
    assert!(cgroup.is_none_or(|it| !it.exists()));
}

/// The cgroup that was made for an instance, where this host lets us make any.
fn cgroup_of(pid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|it| it.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|it| Path::new(it).join(path));
    let ours = path.ends_with(".instance");
    ours.then(|| roots.into_iter().find(|it| it.exists()).unwrap())
}

#[test]
fn a_shutdown_that_keeps_leaves_everything_to_the_next_daemon() {
    let mut deck = Deck::start(
        r#"[defaults]
        start_seconds = "100ms"
        [service.chatty]
        command = "opsdeck sample --worker"
        [service.stopped]
        command = "opsdeck sample --worker"
        [service.mortal]
        command = "opsdeck sample --worker""#,
    );
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    let pids = ["chatty", "stopped", "mortal"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        deck.ok(&["shutdown", "--keep"]);
        assert!(pids.iter().all(|it| is_alive(*it)));
        assert!(!deck.socket().exists());
        assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(4));
    });
    deck.wait_ready(&["chatty", "stopped", "mortal"]);
    assert_eq!(["chatty", "stopped", "mortal"].map(|it| deck.pid(it)), pids);
}

#[test]
fn a_shutdown_goes_on_under_the_next_daemon() {
    let mut deck = Deck::start(
        r#"[service.deaf]
        command = "opsdeck sample --worker --ignore-term"
        start_seconds = "100ms"
        max_wait_time = "3s"
        [service.other]
        command = "opsdeck sample --worker"
        start_seconds = "100ms""#,
    );
    deck.wait_ready(&["deaf", "other"]);
    let pid = deck.pid("deaf");
    deck.send(&opsdeck::api::Request::Shutdown { act: opsdeck::api::Act::default() }).unwrap();
    deck.wait("the countdown", |it, _| find(it, "deaf").is_some_and(|it| it.countdown.is_some()));
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_end();
    assert!(!is_alive(pid));
    assert_eq!(instances_of(deck.path()), Vec::<i32>::new());
}

#[test]
fn a_shutdown_that_is_under_way_comes_to_its_end_whatever_is_asked_meanwhile() {
    let mut deck = Deck::start(
        r#"[service.deaf]
        command = "opsdeck sample --worker --ignore-term"
        start_seconds = "100ms"
        max_wait_time = "3s""#,
    );
    deck.wait_ready(&["deaf"]);
    let pid = deck.pid("deaf");
    deck.send(&opsdeck::api::Request::Shutdown { act: opsdeck::api::Act::default() }).unwrap();
    deck.wait("the countdown", |it, _| find(it, "deaf").is_some_and(|it| it.countdown.is_some()));
    let kept = deck.opsdeck(&["shutdown", "--keep"]);
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(!kept.status.success() && said.contains("all services are being stopped"), "{said}");
    kill(deck.daemon_pid(), Signal::SIGTERM);
    deck.wait_end();
    assert!(!is_alive(pid));
    assert_eq!(instances_of(deck.path()), Vec::<i32>::new());
}

#[test]
fn a_shutdown_that_was_over_is_not_gone_on_with_by_a_later_daemon() {
    let mut deck = Deck::start("[service.one]\ncommand = \"opsdeck sample --worker\"\n");
    deck.wait_ready(&["one"]);
    let (daemon, pid) = (deck.daemon_pid(), deck.pid("one"));
    // As if it had been killed in a shutdown, when everything had ended and it had not yet said so.
    deck.restart_daemon(|deck| {
        kill(daemon, Signal::SIGKILL);
        wait_until("the daemon is dead", || !is_alive(daemon));
        kill(pid, Signal::SIGKILL);
        wait_until("the instance is dead", || !is_alive(pid));
        let path = deck.path().join("state/state.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + "{\"is\":\"closing\",\"by\":null}\n").unwrap();
    });
    deck.wait_ready(&["one"]);
    let pid = deck.pid("one");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["one"]);
    assert_eq!(deck.pid("one"), pid, "{}", deck.story());
    assert!(!deck.story().contains("its shutdown"), "{}", deck.story());
}
