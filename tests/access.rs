//! Who may look, who may act, and as whom services run. Only root can play two users.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use nix::sys::signal::Signal;
use opsdeck::api::{Event, Role};
use support::{Deck, Following, OPSDECK, PATIENCE, kill, output_of};

const WORKER: &str = "[service.a]\ncommand = \"sleep 1000\"\nstart_seconds = \"100ms\"\n";

/// Whether there can be two users here; where there must be, it is an error if there cannot.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("OPSDECK_TEST_REQUIRE").is_none(), "these tests need root");
    if !root {
        // To the terminal itself: what a passing test prints is not shown.
        drop(std::fs::write("/dev/tty", "skipped: only root can play two users\n"));
    }
    root
}

/// A deck in a directory that everybody may pass through.
fn public_deck(config: &str) -> Deck {
    let deck = Deck::start(config);
    std::fs::set_permissions(deck.path(), PermissionsExt::from_mode(0o755)).unwrap();
    deck
}

/// Runs a program as nobody.
fn as_nobody(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", program]);
    output_of(command.args(args).current_dir("/"))
}

/// A command of the deck as nobody: exit code and what was printed.
fn opsdeck_as_nobody(deck: &Deck, args: &[&str]) -> (Option<i32>, String) {
    let socket = deck.socket().display().to_string();
    let output = as_nobody(OPSDECK, &[&["--socket", &socket], args].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Head and body of the API's answer to nobody.
fn curl_as_nobody(deck: &Deck, args: &[&str]) -> (String, String) {
    let socket = deck.socket().display().to_string();
    let output = as_nobody("curl", &[&["-si", "--unix-socket", &socket], args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_lowercase(), body.to_owned())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn without_other_users_the_socket_is_its_owners_alone() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(WORKER);
    deck.wait_ready(&["a"]);
    assert_eq!(mode(&deck.socket()), 0o600);
    let (code, text) = opsdeck_as_nobody(&deck, &["status"]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("Permission denied (os error 13)"), "{text}");
    // Not even where the way to it is open.
    std::fs::set_permissions(deck.path().join("state"), PermissionsExt::from_mode(0o755)).unwrap();
    let (code, text) = opsdeck_as_nobody(&deck, &["status"]);
    assert_eq!(code, Some(5), "{text}");
}

#[test]
fn viewers_look_and_do_not_act() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(&format!("viewers = [\"nobody\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    assert_eq!(mode(&deck.socket()), 0o666);

    let (code, text) = opsdeck_as_nobody(&deck, &["status", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let seen: opsdeck::api::Deck = serde_json::from_str(&text).unwrap();
    assert_eq!((seen.role, seen.services[0].instances[0].pid), (Role::Viewer, Some(pid)));
    let (head, _) = curl_as_nobody(&deck, &["http://opsdeck/v1/deck"]);
    assert!(head.starts_with("http/1.1 200"), "{head}");

    for action in ["services/a/stop", "instances/a/kill", "shutdown", "config/apply"] {
        let (head, body) =
            curl_as_nobody(&deck, &["-X", "POST", &format!("http://opsdeck/v1/{action}")]);
        assert!(head.starts_with("http/1.1 403"), "{action}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: opsdeck::api::Problem = serde_json::from_str(&body).unwrap();
        assert_eq!(problem.kind, opsdeck::api::problem::FORBIDDEN);
        assert!(problem.help.is_some());
    }
    let (code, text) = opsdeck_as_nobody(&deck, &["stop", "a"]);
    assert_eq!(code, Some(5), "{text}");
    deck.catch_up();
    assert_eq!(deck.pid("a"), pid);
}

#[test]
fn a_user_who_is_named_later_gets_in_and_one_who_is_no_longer_named_does_not() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(WORKER);
    deck.wait_ready(&["a"]);
    deck.write_config(&format!("operators = [\"nobody\"]\n{WORKER}"));
    deck.ok(&["config", "apply"]);
    let (code, text) = opsdeck_as_nobody(&deck, &["restart", "a"]);
    assert_eq!(code, Some(0), "{text}");

    deck.write_config(WORKER);
    deck.ok(&["config", "apply"]);
    let (code, text) = opsdeck_as_nobody(&deck, &["status"]);
    assert_eq!(code, Some(5), "{text}");
}

#[test]
fn the_journal_names_who_acted() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(&format!("operators = [\"nobody\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let (code, text) = opsdeck_as_nobody(&deck, &["stop", "a"]);
    assert_eq!(code, Some(0), "{text}");

    let events = deck.ok(&["events", "--json", "--actor", "nobody"]);
    let events: Vec<Event> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let kinds: BTreeSet<_> = events.iter().map(|it| it.kind.as_str()).collect();
    assert!(kinds.contains("signal-sent") && kinds.contains("stopped"), "{kinds:?}");
    for event in events {
        let actor = event.actor.unwrap();
        assert_eq!((actor.uid, actor.login.as_str()), (65534, "nobody"));
    }
    let why = deck.ok(&["why", "a"]);
    assert!(why.contains("stopped by nobody"), "{why}");
}

#[test]
fn under_sudo_the_journal_names_who_logged_in_and_nobody_can_pretend() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(&format!("operators = [\"nobody\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let last_login = |deck: &Deck| -> String {
        let text = deck.ok(&["events", "--json"]);
        let events = text.lines().map(|it| serde_json::from_str::<Event>(it).unwrap());
        events.filter_map(|it| it.actor).next_back().unwrap().login
    };

    let socket = deck.socket().display().to_string();
    let output = as_nobody(
        "env",
        &["SUDO_UID=0", "SUDO_USER=root", OPSDECK, "--socket", &socket, "stop", "a"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(last_login(&deck), "root");

    let output = output_of(deck.command(&["start", "a"]).env("SUDO_UID", "65534"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Where the audit system knows who logged in, its word counts and not sudo's.
    let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    if login.trim() == u32::MAX.to_string() {
        assert_eq!(last_login(&deck), "nobody");
    }
}

#[test]
fn a_group_opens_the_deck_to_its_members() {
    if !is_root() {
        return;
    }
    let group = nix::unistd::Group::from_gid(65534.into()).unwrap().unwrap().name;
    let mut deck = public_deck(&format!("viewers = [\"@{group}\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let socket = deck.socket().display().to_string();
    let as_member = |groups: &[&str], command: &str| {
        let mut run = Command::new("setpriv");
        run.args(["--reuid", "4321", "--regid", "4321"]).args(groups).arg("--").arg(OPSDECK);
        output_of(run.args(["--socket", &socket, command]).current_dir("/"))
    };
    let member = ["--groups", "65534"];
    assert_eq!(as_member(&member, "status").status.code(), Some(0));
    assert_eq!(as_member(&member, "shutdown").status.code(), Some(5));
    let stranger = as_member(&["--clear-groups"], "status");
    let text = String::from_utf8(stranger.stderr).unwrap();
    assert_eq!(stranger.status.code(), Some(5), "{text}");
    assert!(text.contains("uid 4321") && text.contains("help:"), "{text}");
}

#[test]
fn who_is_taken_off_the_list_loses_the_connections_that_are_open() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(&format!("viewers = [\"nobody\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let socket = deck.socket().display().to_string();
    let mut watch = Command::new("setpriv");
    watch
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "curl", "-sN"])
        .args(["--unix-socket", &socket, "http://opsdeck/v1/watch"])
        .current_dir("/");
    let watching = Following::start(watch);
    assert!(watching.line().contains("snapshot"));

    deck.write_config(&format!("viewers = [\"daemon\"]\n{WORKER}"));
    deck.ok(&["config", "apply"]);
    deck.ok(&["restart", "a"]);
    let (end, heard) = watching.rest();
    assert!(!heard.iter().any(|it| it.contains("SIGTERM")), "{heard:?}");
    assert!(end.success());
}

#[test]
fn what_the_daemon_writes_is_its_owners_alone() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(
        "viewers = [\"nobody\"]\n[service.talker]\n
         command = \"sh -c 'echo hello; exec sleep 1000'\"\nstart_seconds = \"100ms\"",
    );
    deck.wait_ready(&["talker"]);
    deck.wait_line("talker", "hello");
    let state = deck.path().join("state");
    assert_eq!((mode(&state), mode(&state.join("logs"))), (0o711, 0o700));
    let mut files = vec![];
    for directory in [state.clone(), state.join("logs")] {
        for entry in std::fs::read_dir(directory).unwrap().map_while(Result::ok) {
            if entry.file_type().unwrap().is_file() {
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
                files.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    for wanted in ["opsdeck.lock", "state.jsonl", "talker.log"] {
        assert!(files.iter().any(|it| it == wanted), "{files:?}");
    }
}

#[test]
fn a_service_with_a_user_runs_as_that_user_with_an_environment_of_its_own() {
    if !is_root() {
        return;
    }
    // The daemon of this deck has our whole environment: cargo's variables and a PATH of the test.
    let mut deck = public_deck(
        r#"[service.a]
        command = "sh -c 'id -un; exec sleep 1000'"
        user = "nobody"
        start_seconds = "100ms"
        environment = { APP_NAME = "{instance}" }"#,
    );
    deck.wait_ready(&["a"]);
    deck.wait_line("a", "nobody");
    let pid = deck.pid("a");
    let deadline = Instant::now() + PATIENCE;
    let environment = loop {
        // Until exec has happened it is still the one of the step before.
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        if name.trim() == "sleep" && !bytes.is_empty() {
            break String::from_utf8(bytes).unwrap();
        }
        assert!(Instant::now() < deadline, "{name} did not become sleep");
    };
    let variables: BTreeSet<_> = environment.split('\0').filter(|it| !it.is_empty()).collect();
    let names: BTreeSet<_> = variables
        .iter()
        .map(|it| it.split_once('=').unwrap().0)
        .filter(|it| *it != "PWD")
        .collect();
    let wanted =
        ["APP_NAME", "HOME", "LANG", "LOGNAME", "OPSDECK_INSTANCE", "PATH", "SHELL", "USER"];
    assert_eq!(names, BTreeSet::from(wanted));
    for wanted in ["APP_NAME=a", "HOME=/nonexistent", "USER=nobody", "LOGNAME=nobody"] {
        assert!(variables.contains(wanted), "{variables:?}");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = |name: &str| {
        let line = status.lines().find(|it| it.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids("Uid:"), ["65534"; 4]);
    assert_eq!(ids("Gid:"), ["65534"; 4]);
    assert!(ids("Groups:").iter().all(|it| it == "65534"), "{status}");

    kill(pid, Signal::SIGKILL);
    deck.wait("it was replaced", |it, _| {
        support::find(it, "a").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
}
