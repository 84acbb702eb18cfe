//! A process that the kernel lets nobody read, or a disk that does not answer, holds up neither the daemon
//! nor anybody else's orders.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::{self, State};
use serde_json::Value;
use support::processes::child_of;
use support::skip::has;
use support::theirs::{Theirs, write_pid};
use support::{Deck, find, finish, free_port, is_alive, kill, python, wait_until};

/// Whether a process can be stuck here.
fn is_possible() -> bool {
    support::is_root() && has("/dev/fuse", Path::new("/dev/fuse").exists())
}

/// A deck with a server `shop`, and `stuck`, which is of that profile.
fn deck(profile: &str, directory: &Path) -> Deck {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stuck.py");
    let mut deck = Deck::start(&format!(
        "[service.shop]\ncommand = \"opsdeck sample --port {} --tree swoole\"\nprofile = \"swoole\"\n\
         start_seconds = \"100ms\"\n\
         [service.stuck]\ncommand = \"{} {} {}\"\nprofile = \"{profile}\"\nstart_seconds = \"100ms\"\n\
         max_wait_time = \"1s\"\n",
        free_port(),
        python(),
        script.display(),
        directory.display(),
    ));
    deck.wait_ready(&["shop", "stuck"]);
    deck.wait_line("stuck", "stuck");
    wait_until("a process that waits in the kernel", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", deck.pid("stuck"))).unwrap();
        stat.contains(") D ")
    });
    deck
}

/// What nobody answers any more while it is stuck would never end.
fn end(mut deck: Deck) {
    deck.ok(&["stop", "--now", "stuck"]);
    deck.wait_state("stuck", State::Stopped);
}

fn processes(deck: &Deck, name: &str) -> Vec<api::ProcessDetail> {
    let output = deck.opsdeck(&["status", "--json"]);
    let told: api::Deck = serde_json::from_slice(&output.stdout).unwrap();
    support::find(&told, name).unwrap().processes.clone()
}

#[test]
fn a_guess_at_what_is_stuck_holds_up_nothing() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Its arguments are looked at again and again while somebody watches.
    let mut deck = deck("auto", directory.path());
    for _ in 0..3 {
        assert!(deck.ok(&["reload", "shop"]).contains("renewed 2 of 2 workers in "));
    }
    deck.catch_up();
    assert_eq!(processes(&deck, "shop").len(), 4);
    assert!(processes(&deck, "stuck").iter().any(|it| it.name == "keeper" && !it.title.is_empty()));
    assert!(deck.detail("stuck").processes.iter().any(|it| it.title.is_empty()));
    // Each thread that waits for it is known, and no other is made.
    let threads = |deck: &Deck| {
        let all = std::fs::read_dir(format!("/proc/{}/task", deck.daemon_pid())).unwrap();
        let name = |it: std::fs::DirEntry| std::fs::read_to_string(it.path().join("comm"));
        let names = all.map_while(Result::ok).filter_map(|it| name(it).ok());
        names.filter(|it| it.trim() == "proc").count()
    };
    let before = threads(&deck);
    (0..5).for_each(|_| drop(deck.detail("stuck")));
    let after = threads(&deck);
    assert!(after <= before + 1 && after <= 3, "{before} {after}");
    end(deck);
}

#[test]
fn an_order_to_a_process_beside_a_stuck_one_is_carried_out() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut deck = deck("gunicorn", directory.path());
    let keeper = |deck: &Deck| {
        let found = processes(deck, "stuck").into_iter().find(|it| it.name == "keeper");
        found.map(|it| it.pid)
    };
    let pid = keeper(&deck).unwrap().to_string();
    let told = deck.ok(&["signal", "--yes", "SIGCONT", "stuck", "--pid", &pid]);
    assert_eq!(told, format!("SIGCONT was sent to process, pid {pid}, of stuck\n"));
    deck.wait_event(&format!("SIGCONT to process, pid {pid}"));
    // Its own reload is begun, although nobody can say who works there.
    let output = deck.opsdeck(&["signal", "--yes", "SIGHUP", "stuck"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    deck.wait_event("there is no worker to renew");
    deck.ok(&["reload", "shop"]);
    end(deck);
}

/// Executes the rest in a place of its own where a file system that never answers is mounted.
const STUCK: &str = "exec 9<>/dev/fuse && \
    mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 stuck \"$1\" && shift && exec \"$@\"";

/// What executes a daemon for which `stuck` is on a disk that does not answer; `None`, said aloud: there is none.
fn beside_a_stuck_disk(theirs: &Theirs) -> Option<[String; 9]> {
    if !support::is_root() || !has("/dev/fuse", Path::new("/dev/fuse").exists()) {
        return None;
    }
    let stuck = theirs.path("stuck");
    std::fs::create_dir(&stuck).unwrap();
    let stuck = stuck.to_str().unwrap();
    let wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", STUCK, "sh", stuck];
    let can = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output().unwrap();
    has("mounts of its own", can.status.success()).then(|| wrapper.map(str::to_owned))
}

#[test]
fn a_gateway_serves_on_while_the_next_daemon_waits_for_a_disk() {
    let (theirs, port, entry) = (Theirs::new(), free_port(), free_port());
    let Some(wrapper) = beside_a_stuck_disk(&theirs) else { return };
    let wrapper = wrapper.each_ref().map(String::as_str);
    theirs.start("web1", port);
    std::os::unix::fs::symlink("stuck/web2.pid", theirs.path("web2.pid")).unwrap();
    let gateway = format!("[gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n");
    let instances = [("web1", port), ("web2", free_port())];
    let mut deck = Deck::start_in(&wrapper, &theirs.service(&instances, &gateway), |_| ());
    let in_rotation = |it: &opsdeck::api::Deck| find(it, "web1").is_some_and(|it| it.in_rotation);
    deck.wait("in rotation", |it, _| in_rotation(it));
    let gateway = child_of(deck.daemon_pid(), "gateway");
    let url = format!("http://127.0.0.1:{entry}/");
    let mut load = deck.command(&["load", &url, "-c", "2", "--interval", "0", "--json"]);
    let load = load.stdout(Stdio::piped()).spawn().unwrap();
    deck.wait("load", |it, _| {
        find(it, "web1").is_some_and(|it| it.traffic.as_ref().is_some_and(|it| it.success > 10))
    });

    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait("in rotation", |it, _| in_rotation(it));
    kill(i32::try_from(load.id()).unwrap(), Signal::SIGINT);
    let report: Value = serde_json::from_slice(&finish(load).stdout).unwrap();
    assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
    assert!(is_alive(gateway), "{}", deck.story());
}

#[test]
fn a_disk_that_does_not_answer_holds_up_no_other_file() {
    let theirs = Theirs::new();
    let Some(wrapper) = beside_a_stuck_disk(&theirs) else { return };
    let wrapper = wrapper.each_ref().map(String::as_str);
    let mut children = [(); 2].map(|()| Command::new("sleep").arg("600").spawn().unwrap());
    std::os::unix::fs::symlink("stuck/web1.pid", theirs.path("web1.pid")).unwrap();
    write_pid(&theirs.path("web2.pid"), &children[0].id().to_string());
    let instances = [("web1", free_port()), ("web2", free_port())];
    let services = theirs.service(&instances, &theirs.started_by());
    let mut deck = Deck::start_in(&wrapper, &services, |_| ());
    let is_pid = |it: &opsdeck::api::Deck, pid: u32| {
        find(it, "web2").is_some_and(|it| it.pid.map(i32::cast_unsigned) == Some(pid))
    };
    deck.wait("the other is found", |it, _| is_pid(it, children[0].id()));
    deck.wait("it is told", |it, _| {
        find(it, "web1").is_some_and(|it| it.why.contains("the disk does not answer"))
    });
    write_pid(&theirs.path("web2.pid"), &children[1].id().to_string());
    deck.wait("the other goes on", |it, _| is_pid(it, children[1].id()));
    // One that cannot be looked at is not started beside what may run.
    assert_eq!(deck.opsdeck(&["start", "web1"]).status.code(), Some(1));
    deck.wait_event("web1.pid cannot be read: the disk does not answer");
    deck.wait_state("web1", State::Fatal);
    let told = deck.events.iter().filter(|it| it.kind == "not-found");
    assert_eq!(told.count(), 1, "{}", deck.story());
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
