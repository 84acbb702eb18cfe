//! The daemon as the first process of a container: it reaps what others leave, becomes another program, and
//! its end is the end of everything.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use support::skip::{has, is_root};
use support::{Deck, find, is_alive, kill, wait_until};

/// In the foreground, whatever the tests are in.
const CONTAINER: [&str; 6] =
    ["env", "--default-signal=INT", "unshare", "--pid", "--kill-child", "--mount-proc"];

/// Whether this host lets us make one.
fn is_allowed() -> bool {
    if !is_root() {
        return false;
    }
    let tried = Command::new(CONTAINER[0]).args(&CONTAINER[1..]).arg("true").output();
    has("pid namespaces", tried.is_ok_and(|it| it.status.success()))
}

/// State and pid of the children of a process, as they are seen from here.
fn children(parent: i32) -> Vec<(i32, char)> {
    let pids = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pids = pids.filter_map(|it| it.file_name().to_str()?.parse().ok());
    let child = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut words = stat.rsplit(')').next()?.split_whitespace();
        let state = words.next()?.chars().next()?;
        (words.next()? == parent.to_string()).then_some((pid, state))
    };
    pids.filter_map(child).collect()
}

/// The first process of the container of a deck, and the daemon in it.
fn first_and_daemon(deck: &Deck) -> (i32, i32) {
    let [(first, _)] = children(deck.daemon_pid())[..] else { panic!("{}", deck.story()) };
    (first, child(first, "daemon"))
}

/// The child that is called with this word.
fn child(parent: i32, word: &str) -> i32 {
    let line = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let is_it = |it: &(i32, char)| line(it.0).split('\0').nth(1) == Some(word);
    children(parent).into_iter().find(is_it).unwrap().0
}

/// A worker and its daemon, which this line of a shell starts as the first process of a container.
fn below(line: &str) -> Deck {
    let first: Vec<&str> = CONTAINER.into_iter().chain(["sh", "-c", line]).collect();
    let worker = "[service.worker]\ncommand = \"opsdeck sample --worker\"\n";
    let mut deck = Deck::start_in(&first, worker, |_| ());
    deck.wait_ready(&["worker"]);
    deck
}

#[track_caller]
fn stops_everything(deck: &mut Deck) {
    deck.wait_event("stopping all services, then the daemon");
    deck.wait_end();
    let log = std::fs::read_to_string(deck.path().join("daemon.log")).unwrap();
    assert!(log.contains("ended=AtRest"), "{log}");
}

#[test]
fn the_first_process_reaps_is_replaced_and_takes_everything_with_it() {
    if !is_allowed() {
        return;
    }
    let mut deck = Deck::start_in(
        &CONTAINER,
        "[defaults]\nstart_seconds = \"100ms\"\n\
         [service.orphans]\ncommand = [\"sh\", \"-c\", \"(true &) ; (true &) ; exec sleep 1000\"]\n\
         [service.worker]\ncommand = \"opsdeck sample --worker\"\n",
        |_| (),
    );
    deck.wait_ready(&["orphans", "worker"]);
    assert_eq!(deck.view.pid, 1);
    let [(first, _)] = children(deck.daemon_pid())[..] else { panic!("{}", deck.story()) };
    wait_until("reaped", || children(first).iter().all(|it| it.1 != 'Z'));
    let pids = ["orphans", "worker"].map(|it| deck.pid(it));

    kill(first, Signal::SIGUSR2);
    deck.wait_replacement("replaced");
    deck.wait_ready(&["orphans", "worker"]);
    assert_eq!(["orphans", "worker"].map(|it| deck.pid(it)), pids);
    assert_eq!(deck.view.pid, 1);
    deck.ok(&["restart", "worker"]);
    deck.wait("renewed", |it, _| find(it, "worker").is_some_and(|it| it.generation == 2));

    kill(first, Signal::SIGTERM);
    stops_everything(&mut deck);
}

#[test]
fn below_an_init_that_ends_with_it_a_signal_to_end_is_a_full_shutdown() {
    if !is_allowed() {
        return;
    }
    // The first process waits for the daemon, and has nothing else to do.
    let mut deck = below("\"$0\" \"$@\"; exit 0");
    let (_, daemon) = first_and_daemon(&deck);
    kill(daemon, Signal::SIGTERM);
    stops_everything(&mut deck);
}

#[test]
fn an_init_that_gives_it_a_session_ends_with_the_next_program_too() {
    if !is_allowed() {
        return;
    }
    // As dumb-init does it.
    let mut deck = below("setsid \"$0\" \"$@\"; exit 0");
    let (_, daemon) = first_and_daemon(&deck);
    kill(daemon, Signal::SIGUSR2);
    deck.wait_replacement("replaced");
    kill(daemon, Signal::SIGTERM);
    stops_everything(&mut deck);
}

#[test]
fn services_of_a_daemon_in_the_background_of_a_container_outlive_it() {
    if !is_allowed() {
        return;
    }
    let deck = below("\"$0\" \"$@\" & exec sleep 1000");
    let (first, daemon) = first_and_daemon(&deck);
    let worker = child(daemon, "sample");
    kill(daemon, Signal::SIGTERM);
    wait_until("the daemon has ended", || !is_alive(daemon));
    let log = std::fs::read_to_string(deck.path().join("daemon.log")).unwrap();
    assert!(log.contains("ended=Signalled") && is_alive(worker), "{log}");
    kill(first, Signal::SIGKILL);
}
