//! The same configuration is never run twice on a host, and another one beside it may be.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use support::{Deck, is_alive, kill, wait_until};

const STEADY: &str = "[service.steady]\ncommand = \"sleep 1000\"\n";

/// The configuration with its state in another directory.
fn move_state(deck: &Deck, to: &str) {
    let to = deck.path().join(to).display().to_string();
    let text = format!("[deck]\nname = \"test\"\nstate_dir = {to:?}\n{STEADY}");
    std::fs::write(deck.path().join("config.new"), text).unwrap();
    std::fs::rename(deck.path().join("config.new"), deck.path().join("config.toml")).unwrap();
}

#[test]
fn a_daemon_does_not_begin_where_the_state_of_what_runs_is_not() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady"]);
    let (steady, old) = (deck.pid("steady"), deck.path().join("state"));
    move_state(&deck, "other");
    let refused = |deck: &Deck| {
        let output = deck.opsdeck(&["daemon"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let notice = String::from_utf8(output.stderr).unwrap();
        let told = format!("sleep (pid {steady}) run by this configuration with its state in");
        assert!(notice.contains(&told) && notice.contains(old.to_str().unwrap()), "{notice}");
        assert!(notice.contains("would be started twice"), "{notice}");
        assert!(!deck.path().join("other").exists(), "nothing is left behind");
        assert!(is_alive(steady));
    };
    refused(&deck);
    // Nor is what runs forgotten when its daemon is not there.
    let daemon = deck.daemon_pid();
    kill(daemon, Signal::SIGKILL);
    wait_until("the daemon is dead", || !is_alive(daemon));
    refused(&deck);

    // Another configuration with the same names is nobody's business.
    let mut beside = Deck::start(STEADY);
    beside.wait_ready(&["steady"]);
    assert_ne!(beside.pid("steady"), steady);

    deck.restart_daemon(|deck| deck.write_config(STEADY));
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);
}

/// As `gosu` and `su-exec` do.
#[test]
fn who_gives_up_root_by_himself_is_known_by_his_output() {
    let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let mut probe = std::process::Command::new("sh");
    if !support::is_root()
        || !probe.args(["-c", &format!("{drop} true")]).status().unwrap().success()
    {
        return;
    }
    let mut deck = Deck::start(&STEADY.replace("sleep", &format!("{drop} sleep")));
    deck.wait_ready(&["steady"]);
    let steady = deck.pid("steady");
    wait_until("it is nobody's", || {
        std::fs::read_to_string(format!("/proc/{steady}/status"))
            .is_ok_and(|it| it.contains("Uid:\t65534\t65534") && it.contains("Name:\tsleep"))
    });
    move_state(&deck, "other");
    let output = deck.opsdeck(&["daemon"]);
    let notice = String::from_utf8(output.stderr).unwrap();
    assert!(
        notice.contains(&format!("sleep (pid {steady}) run by this configuration")),
        "{notice}"
    );
    deck.restart_daemon(|deck| {
        deck.write_config(STEADY);
        kill(deck.daemon_pid(), Signal::SIGKILL);
    });
    deck.wait_ready(&["steady"]);
}

#[test]
fn a_state_directory_that_changes_is_taken_up_after_a_shutdown() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady"]);
    let (steady, socket) = (deck.pid("steady"), deck.socket().display().to_string());
    move_state(&deck, "other");
    let said = deck.ok(&["--socket", &socket, "config", "diff"]);
    assert!(said.contains("state_dir changes; taken up after `opsdeck shutdown`"), "{said}");
    deck.ok(&["--socket", &socket, "config", "apply"]);
    deck.ok(&["--socket", &socket, "status"]);
    assert!(is_alive(steady) && !deck.path().join("other").exists());

    // One that becomes another program finds what runs somewhere else, and stays what it was.
    let output = deck.opsdeck(&["--socket", &socket, "daemon", "--replace"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    deck.watch_anew();
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);

    deck.ok(&["--socket", &socket, "shutdown"]);
    deck.wait_end();
}

#[test]
fn a_copied_state_directory_touches_nothing_of_the_deck_it_was_copied_from() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady"]);
    let (steady, state) = (deck.pid("steady"), deck.path().join("state"));
    let copy = |to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(&state).arg(to.join("state")).status();
        assert!(copied.unwrap().success());
    };
    let mut beside = Deck::start_in(&[], STEADY, copy);
    beside.wait_ready(&["steady"]);
    beside.wait_event(&format!("this state was copied from {}, whose", state.display()));
    let other = beside.pid("steady");
    assert_ne!(other, steady);
    let first = beside.instance("steady").generation;
    beside.ok(&["restart", "steady"]);
    beside.wait("restarted", |deck, _| {
        support::find(deck, "steady")
            .is_some_and(|it| it.generation > first && it.ready == Some(true))
    });

    // It has forgotten that, whatever becomes of the other daemon.
    let (renewed, daemon) = (beside.pid("steady"), deck.daemon_pid());
    kill(daemon, Signal::SIGKILL);
    wait_until("the daemon is dead", || !is_alive(daemon));
    beside.restart_daemon(|it| kill(it.daemon_pid(), Signal::SIGKILL));
    beside.wait_ready(&["steady"]);
    assert_eq!(beside.pid("steady"), renewed);
    beside.ok(&["shutdown"]);
    beside.wait_end();
    assert!(is_alive(steady) && !is_alive(renewed));
    deck.restart_daemon(|_| ());
    deck.wait_ready(&["steady"]);
    assert_eq!(deck.pid("steady"), steady);
}

#[test]
fn a_state_directory_that_was_moved_keeps_what_runs() {
    let mut deck = Deck::start(STEADY);
    deck.wait_ready(&["steady"]);
    let steady = deck.pid("steady");
    let daemon = deck.daemon_pid();
    kill(daemon, Signal::SIGKILL);
    wait_until("the daemon is dead", || !is_alive(daemon));
    let mut moved = Deck::start_in(&[], STEADY, |to| {
        std::fs::rename(deck.path().join("state"), to.join("state")).unwrap();
    });
    moved.wait_ready(&["steady"]);
    assert_eq!(moved.pid("steady"), steady);
    moved.ok(&["shutdown"]);
    moved.wait_end();
    assert!(!is_alive(steady));
}
