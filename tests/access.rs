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
use support::{Deck, Following, OPSDECK, PATIENCE, is_root, kill, output_of, wait_until};

const WORKER: &str = "[service.a]\ncommand = \"sleep 1000\"\nstart_seconds = \"100ms\"\n";

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

    for action in ["services/a/stop", "instances/a/kill", "shutdown"] {
        let (head, body) =
            curl_as_nobody(&deck, &["-X", "POST", &format!("http://opsdeck/v1/{action}")]);
        assert!(head.starts_with("http/1.1 403"), "{action}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: opsdeck::api::Problem = serde_json::from_str(&body).unwrap();
        assert_eq!(problem.kind, opsdeck::api::problem::FORBIDDEN);
        assert!(problem.help.is_some());
    }
    let (code, text) = opsdeck_as_nobody(&deck, &["roll", "a", "--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("rolling restart of a"), "{text}");
    let (code, text) = opsdeck_as_nobody(&deck, &["stop", "a"]);
    assert!(text.contains("`operators`") && !text.contains("`viewers`"), "{text}");
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

/// Every path of the router with names put in, and every verb that there is for it.
fn endpoints() -> Vec<String> {
    let verbs = |path: &str| match path {
        "/v1/services/{name}/{verb}" => &["start", "stop", "restart", "reload", "roll"][..],
        "/v1/instances/{name}/{verb}" => {
            &["start", "stop", "restart", "drain", "undrain", "extend", "kill", "reload", "signal"]
        }
        "/v1/rollouts/{name}/{verb}" => &["abort", "pause", "resume", "rollback"],
        "/v1/config/{verb}" => &["check", "diff", "apply"],
        path if path.contains("{verb}") => panic!("the verbs of {path} are not known here"),
        _ => &[""],
    };
    let source = include_str!("../src/daemon/http/mod.rs");
    let paths = source.split(".route(\"").skip(1).map(|it| it.split('"').next().unwrap());
    let all: Vec<String> = paths
        .flat_map(|path| verbs(path).iter().map(|it| path.replace("{verb}", it)))
        .map(|path| path.replace("{name}", "a"))
        .collect();
    assert!(all.len() > 25, "{all:?}");
    for wanted in ["/v1/shutdown", "/v1/replace", "/v1/config/apply", "/v1/instances/a/kill"] {
        assert!(all.iter().any(|it| it == wanted), "no {wanted} in {all:?}");
    }
    all
}

#[test]
fn viewers_act_through_no_endpoint() {
    if !is_root() {
        return;
    }
    let mut deck = public_deck(&format!("viewers = [\"nobody\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    let all = endpoints();
    let mut args: Vec<String> = vec![];
    let methods = ["POST", "PUT", "DELETE", "PATCH"];
    // In one run of the client, over one connection.
    let asked = || all.iter().flat_map(|path| methods.map(|method| (method, path)));
    for (method, path) in asked() {
        if !args.is_empty() {
            args.push("--next".into());
        }
        let options = ["-s", "-X", method, "-o", "/dev/null", "-w", "%{http_code}\\n"];
        args.extend(options.map(str::to_owned));
        args.extend(["--unix-socket".to_owned(), deck.socket().display().to_string()]);
        args.push(format!("http://opsdeck{path}"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let answers = String::from_utf8(as_nobody("curl", &args).stdout).unwrap();
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), asked().count());
    for ((method, path), status) in asked().zip(answers) {
        let looks =
            method == "POST" && matches!(path.as_str(), "/v1/config/check" | "/v1/config/diff");
        assert_eq!(status, if looks { "200" } else { "403" }, "{method} {path}");
    }
    deck.catch_up();
    assert_eq!(deck.pid("a"), pid);
}

/// The values of a line of `/proc/PID/status`.
fn status_of(pid: i32, line: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = text.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(":"));
    found.unwrap_or_else(|| panic!("no {line}")).trim().to_owned()
}

#[test]
fn a_service_and_its_probes_have_the_rights_that_are_left_to_them() {
    if !is_root() {
        return;
    }
    // CAP_KILL, CAP_SETPCAP, CAP_NET_BIND_SERVICE: a container may have root without them.
    let needed = 1 << 5 | 1 << 8 | 1 << 10;
    let own =
        u64::from_str_radix(&status_of(nix::unistd::getpid().as_raw(), "CapEff"), 16).unwrap();
    if own & needed != needed {
        return support::skip::skip("capabilities to give away");
    }
    let mut deck = public_deck(
        r#"[service.a]
        command = "sleep 1000"
        user = "nobody:daemon"
        no_new_privs = true
        capabilities = ["CAP_NET_BIND_SERVICE", "CAP_KILL"]
        probe.readiness = { exec.command = "grep -q CapEff:.0000000000000420 /proc/self/status", period = "100ms" }"#,
    );
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_of(pid, set), "0000000000000420", "{set}");
    }
    assert_eq!(status_of(pid, "NoNewPrivs"), "1");
    let daemon = nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid.to_string();
    let gids = status_of(pid, "Gid");
    assert!(gids.split_whitespace().all(|it| it == daemon), "{gids}");
    let variables = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(variables.contains("USER=nobody\0"), "{variables:?}");
}

#[test]
fn nothing_is_inherited_but_the_output() {
    let config = r#"
        [defaults]
        start_seconds = "50ms"
        [service.own]
        command = "sleep 1000"
        [service.switched]
        command = "sleep 1000"
        no_new_privs = true
    "#;
    // The daemon itself was started by somebody careless.
    let careless = ["sh", "-c", "exec 7</dev/null 9>&1; umask 0; exec \"$0\" \"$@\""];
    let mut deck = Deck::start_in(&careless, config, |_| ());
    deck.wait_ready(&["own", "switched"]);
    for name in ["own", "switched"] {
        let open = || -> BTreeSet<String> {
            let open = std::fs::read_dir(format!("/proc/{}/fd", deck.pid(name))).unwrap();
            open.filter_map(|it| it.ok()?.file_name().into_string().ok()).collect()
        };
        // Its loader opens libraries for a moment; what was inherited would stay.
        let only = BTreeSet::from(["0", "1", "2"].map(str::to_owned));
        wait_until(&format!("{name} has only its output"), || open() == only);
    }
}

#[test]
fn from_its_first_moment_everything_is_private_whatever_the_umask() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let begun = Arc::new(AtomicBool::new(false));
    let mut watching = None;
    let open = ["sh", "-c", "umask 0; exec \"$0\" \"$@\""];
    let mut deck = Deck::start_in(&open, WORKER, |path| {
        let (state, begun) = (path.join("state"), begun.clone());
        // Looks as fast as it can, from before the daemon is started.
        watching = Some(std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !begun.load(Ordering::Relaxed) {
                look(&state, &mut seen);
                std::thread::yield_now();
            }
            look(&state, &mut seen);
            seen
        }));
    });
    deck.wait_ready(&["a"]);
    begun.store(true, Ordering::Relaxed);
    let seen = watching.unwrap().join().unwrap();
    assert!(seen.iter().any(|(name, _)| name == "opsdeck.sock"), "{seen:?}");
    assert!(seen.iter().any(|(name, _)| name == "state.jsonl"), "{seen:?}");
    for (name, mode) in seen {
        assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
    }
}

/// Notes the modes of a directory and of what is in it.
fn look(path: &Path, seen: &mut BTreeSet<(String, u32)>) {
    let mut note = |path: &Path| {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            seen.insert((name, found.permissions().mode() & 0o7777));
        }
    };
    note(path);
    for entry in std::fs::read_dir(path).into_iter().flatten().map_while(Result::ok) {
        note(&entry.path());
    }
}
