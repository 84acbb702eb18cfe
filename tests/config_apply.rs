//! The configuration changes while services run: what applies, what waits, what is left alone.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use nix::sys::signal::Signal;
use opsdeck::api::{Deck as Picture, State};
use support::{Deck, find, free_port, is_alive, kill};

const QUICK: &str = "[defaults]\nstart_seconds = \"50ms\"\n";

/// Services that sleep, under a second table of quick starts.
fn sleepers(names: &[&str]) -> String {
    let service = |name: &&str| format!("[service.{name}]\ncommand = \"sleep 1000\"\n");
    QUICK.to_owned() + &names.iter().map(service).collect::<String>()
}

fn has_no(name: &str) -> impl Fn(&Picture, &[opsdeck::api::Event]) -> bool {
    move |deck, _| find(deck, name).is_none()
}

fn config_of(deck: &Deck) -> opsdeck::api::Config {
    // By its socket: where the state directory is stands in the file that may be broken.
    let socket = deck.socket();
    let output = deck.opsdeck(&["status", "--json", "--socket", socket.to_str().unwrap()]);
    serde_json::from_slice::<Picture>(&output.stdout).unwrap().config
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sighup_starts_what_was_added_and_forgets_what_was_removed() {
    let mut deck = Deck::start(&sleepers(&["a", "b", "c"]));
    deck.wait_ready(&["a", "b", "c"]);
    let (a, b, c) = (deck.pid("a"), deck.pid("b"), deck.pid("c"));

    deck.write_config(&sleepers(&["a", "b", "d"]));
    kill(deck.daemon_pid(), Signal::SIGHUP);

    deck.wait_ready(&["d"]);
    deck.wait("c is forgotten", has_no("c"));
    assert!(!is_alive(c));
    assert_eq!((deck.pid("a"), deck.pid("b")), (a, b));
    let applied = deck.wait_event("configuration applied");
    assert!(applied.actor.unwrap().login.contains("SIGHUP"), "{}", applied.message);
}

#[test]
fn sigusr1_stops_what_is_no_longer_enabled_and_starts_it_again_later() {
    let services = sleepers(&["a", "b", "c"]);
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["a", "b", "c"]);
    let (a, c) = (deck.pid("a"), deck.pid("c"));

    deck.write_config(&format!("{services}enabled = false\n"));
    kill(deck.daemon_pid(), Signal::SIGUSR1);
    deck.wait("c is down", |deck, _| {
        find(deck, "c").is_none_or(|it| it.state == State::Stopped && it.pid.is_none())
    });
    assert!(!is_alive(c));

    deck.write_config(&services);
    kill(deck.daemon_pid(), Signal::SIGUSR1);
    deck.wait_ready(&["c"]);
    assert_ne!(deck.pid("c"), c);
    assert_eq!(deck.pid("a"), a);
}

#[test]
fn a_service_that_is_renamed_runs_on_with_its_values() {
    let service = |name: &str| {
        format!(
            "watch = true\n{QUICK}[service.{name}]\ncommand = \"sleep 1000\"\nrollout.settle = \"10ms\"\n\
             environment = {{ VERSION = \"{{version}}\" }}\ninstance = {{ one = {{}}, two = {{}} }}\n"
        )
    };
    let mut deck = Deck::start(&service("web"));
    deck.ok(&["roll", "web", "--set", "version=43"]);
    deck.wait_ready(&["one", "two"]);
    let before = ["one", "two"].map(|it| deck.pid(it));

    // An edit that is seen stops nothing, and this one waits for nothing.
    deck.write_config(&service("api"));
    deck.wait_event("configuration applied: api: renamed from web: what runs goes on");
    deck.wait("api is shown", |deck, _| deck.services.iter().map(|it| &*it.name).eq(["api"]));
    assert_eq!(["one", "two"].map(|it| deck.pid(it)), before, "{}", deck.story());

    // Once more while nobody looks.
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&service("shop"));
    });
    deck.wait("shop is shown", |deck, _| deck.services.iter().map(|it| &*it.name).eq(["shop"]));
    deck.wait_ready(&["one", "two"]);
    assert_eq!(["one", "two"].map(|it| deck.pid(it)), before, "{}", deck.story());

    deck.ok(&["roll", "shop"]);
    deck.catch_up();
    for (name, old) in ["one", "two"].iter().zip(before) {
        let pid = deck.pid(name);
        assert_ne!(pid, old);
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(String::from_utf8_lossy(&environment).contains("VERSION=43"), "{}", deck.story());
    }

    // And while its daemon is told to end: the file is all that the next one begins with. Twice, as the journal of the
    // first is read again by the second.
    for name in ["mall", "mall"] {
        deck.restart_daemon(|deck| {
            kill(deck.daemon_pid(), Signal::SIGTERM);
            deck.write_config(&service(name));
        });
        deck.wait_ready(&["one", "two"]);
        let last = deck.ok(&["report", name, "--last-rollout"]);
        assert!(last.contains("one") && last.contains("renewed"), "{last}");
    }
    let before = deck.pid("one");
    deck.ok(&["roll", "mall"]);
    deck.catch_up();
    assert_ne!(deck.pid("one"), before);
    let environment = std::fs::read(format!("/proc/{}/environ", deck.pid("one"))).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("VERSION=43"), "{}", deck.story());
}

#[test]
fn a_service_keeps_its_name_while_it_is_rolled() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go").display().to_string();
    let service = |name: &str| {
        format!(
            "{QUICK}[service.{name}]\ncommand = \"sleep 1000\"\ninstance = {{ one = {{}}, two = {{}} }}\n\
             rollout = {{ build = [\"sh -c 'until test -e {go}; do sleep 0.02; done'\"], settle = \"10ms\" }}\n"
        )
    };
    let mut deck = Deck::start(&service("web"));
    deck.wait_ready(&["one", "two"]);
    deck.ok(&["roll", "--no-wait", "web"]);
    deck.write_config(&service("api"));
    let refused = deck.opsdeck(&["config", "apply"]);
    assert!(!refused.status.success());
    let told = stderr(&refused);
    assert!(told.contains("web becomes api, and a rolling restart"), "{told}");
    std::fs::write(&go, "").unwrap();
    deck.wait_event("rolling restart of web finished");
    deck.ok(&["config", "apply"]);
    deck.wait("api is shown", |deck, _| deck.services.iter().map(|it| &*it.name).eq(["api"]));
    let last = deck.view.services[0].rollout.as_ref().unwrap();
    assert_eq!((last.done, last.of), (2, 2), "it is known under the new name");
}

#[test]
fn the_death_of_a_daemon_applies_no_edit() {
    let watched = |names: &[&str]| "watch = true\n".to_owned() + &sleepers(names);
    let mut deck = Deck::start(&watched(&["a", "b", "c"]));
    deck.wait_ready(&["a", "b", "c"]);
    deck.write_config(&watched(&["a", "d"]));
    deck.wait_ready(&["d"]);
    deck.wait_event("an edit of the configuration waits: stops b, stops c");
    let before = ["a", "b", "c", "d"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["a", "b", "c", "d"]);
    assert_eq!(["a", "b", "c", "d"].map(|it| deck.pid(it)), before, "{}", deck.story());
    assert_eq!(config_of(&deck).pending, ["stops b", "stops c"]);

    // Edited while nobody looks.
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(&watched(&["a", "e"]));
    });
    deck.wait_ready(&["a", "b", "c", "d", "e"]);
    assert_eq!(["a", "b", "c", "d"].map(|it| deck.pid(it)), before, "{}", deck.story());
    let mut pending = config_of(&deck).pending;
    pending.sort();
    assert_eq!(pending, ["stops b", "stops c", "stops d"]);
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("d is forgotten", has_no("d"));

    // What was applied then is what the next one begins with.
    let e = deck.pid("e");
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["a", "e"]);
    assert_eq!((deck.pid("a"), deck.pid("e")), (before[0], e));
    assert_eq!(deck.view.services.len(), 2, "{}", deck.story());
    assert!(config_of(&deck).pending.is_empty());
}

#[test]
fn a_file_that_is_broken_leaves_nothing_that_runs_without_a_daemon() {
    let mut deck = Deck::start(&sleepers(&["a", "b"]));
    deck.wait_ready(&["a", "b"]);
    let before = ["a", "b"].map(|it| deck.pid(it));
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config("[service.a]\ncommand = 1\n");
    });
    deck.wait_ready(&["a", "b"]);
    assert_eq!(["a", "b"].map(|it| deck.pid(it)), before, "{}", deck.story());
    deck.wait_event("the configuration was not applied");
    assert!(config_of(&deck).error.unwrap().contains("command"), "{}", deck.story());
    kill(before[1], Signal::SIGKILL);
    deck.wait("it is supervised", |it, _| {
        find(it, "b").is_some_and(|it| it.ready == Some(true) && it.generation == 2)
    });

    deck.write_config(&sleepers(&["a", "b", "c"]));
    deck.ok(&["config", "apply"]);
    deck.wait_ready(&["c"]);
    assert_eq!((config_of(&deck).error, deck.pid("a")), (None, before[0]));
}

#[test]
fn where_nothing_runs_the_file_stands_alone() {
    let mut deck = Deck::start(&sleepers(&["a", "b"]));
    deck.wait_ready(&["a", "b"]);
    deck.ok(&["shutdown"]);
    deck.wait_end();
    deck.write_config(&sleepers(&["a"]));
    deck.restart_daemon(|_| ());
    deck.wait_ready(&["a"]);
    assert_eq!(deck.view.services.len(), 1, "{}", deck.story());
    assert!(config_of(&deck).pending.is_empty());
}

#[test]
fn a_changed_command_is_stale_until_a_restart_takes_it_up() {
    let mut deck = Deck::start(&sleepers(&["a", "b"]));
    deck.wait_ready(&["a", "b"]);
    let (a, b) = (deck.pid("a"), deck.pid("b"));

    deck.write_config(&sleepers(&["a", "b"]).replacen("1000", "2000", 1));
    let told = deck.ok(&["config", "diff"]);
    assert!(told.contains("command changes; taken up by the next restart"), "{told}");
    deck.ok(&["config", "apply"]);
    deck.wait("a is stale", |deck, _| find(deck, "a").is_some_and(|it| it.stale));
    assert_eq!((deck.pid("a"), deck.instance("b").stale), (a, false));

    deck.ok(&["restart", "a"]);
    deck.wait("a runs the new command", |deck, _| find(deck, "a").is_some_and(|it| !it.stale));
    let line = std::fs::read(format!("/proc/{}/cmdline", deck.pid("a"))).unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), "sleep\x002000\0");
    assert_eq!(deck.pid("b"), b);
    assert!(deck.ok(&["config", "diff"]).contains("no difference"));
}

#[test]
fn probes_and_limits_change_at_once_under_the_same_process() {
    let service = |wait: &str, probe: &str| {
        format!(
            "[service.web]\ncommand = \"opsdeck sample --worker --ignore-term\"\n\
             max_wait_time = \"{wait}\"\n\
             probe.readiness = {{ exec.command = \"{probe}\", period = \"50ms\", failure_threshold = 1 }}\n"
        )
    };
    let mut deck = Deck::start(&service("60s", "true"));
    deck.wait_ready(&["web"]);
    let pid = deck.pid("web");

    deck.write_config(&service("700ms", "false"));
    deck.ok(&["config", "apply"]);
    deck.wait("the new probe fails", |deck, _| {
        find(deck, "web").is_some_and(|it| it.ready == Some(false))
    });
    assert_eq!(deck.pid("web"), pid);

    deck.ok(&["stop", "--no-wait", "web"]);
    deck.wait("the new budget counts", |deck, _| {
        let countdown = find(deck, "web").and_then(|it| it.countdown.as_ref());
        countdown.is_some_and(|it| it.max_wait_time_ms == 700)
    });
    deck.wait_state("web", State::Stopped);
    assert!(!is_alive(pid));
}

#[test]
fn a_broken_file_changes_nothing_and_is_shown_until_it_is_mended() {
    let good = sleepers(&["a", "b"]);
    let mut deck = Deck::start(&good);
    deck.wait_ready(&["a", "b"]);
    let pids = (deck.pid("a"), deck.pid("b"));

    deck.write_config("[service.a]\ncommnd = \"sleep 1\"\nmax_wait_time = \"soon\"\n");
    kill(deck.daemon_pid(), Signal::SIGHUP);
    deck.wait_event("the configuration was not applied");
    let error = config_of(&deck).error.unwrap();
    assert!(error.contains("commnd"), "{error}");

    let refused = deck.opsdeck(&["config", "apply"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("commnd") && text.contains("did you mean"), "{text}");
    assert!(text.contains("max_wait_time") && text.contains("config.toml:6"), "{text}");
    assert_eq!((deck.pid("a"), deck.pid("b")), pids);
    assert!(is_alive(pids.0) && is_alive(pids.1));

    deck.write_config(&good);
    deck.ok(&["config", "apply"]);
    assert_eq!(config_of(&deck).error, None);
}

#[test]
fn a_watched_edit_applies_what_stops_nothing_and_holds_the_rest_until_a_word() {
    let watched = |names: &[&str]| "watch = true\n".to_owned() + &sleepers(names);
    let mut deck = Deck::start(&watched(&["a", "b", "c"]));
    deck.wait_ready(&["a", "b", "c"]);
    let (a, c) = (deck.pid("a"), deck.pid("c"));

    deck.write_config(&watched(&["a", "b", "d"]));
    deck.wait_ready(&["d"]);
    let event = deck.wait_event("waits");
    assert!(event.message.contains("stops c"), "{}", event.message);
    assert_eq!(config_of(&deck).pending, ["stops c"]);
    assert!(is_alive(c));

    deck.ok(&["config", "apply"]);
    deck.wait("c is forgotten", has_no("c"));
    assert!(!is_alive(c));
    assert_eq!(config_of(&deck).pending, Vec::<String>::new());
    assert_eq!(deck.pid("a"), a);
}

#[test]
fn a_watched_edit_that_is_broken_is_shown() {
    let mut deck = Deck::start(&("watch = true\n".to_owned() + &sleepers(&["a"])));
    deck.wait_ready(&["a"]);
    let pid = deck.pid("a");
    deck.write_config("[service.a\n");
    deck.wait_event("the configuration was not applied");
    assert!(config_of(&deck).error.is_some());
    assert_eq!(deck.pid("a"), pid);
}

#[test]
fn watching_can_be_turned_on_while_the_daemon_runs() {
    let mut deck = Deck::start(&sleepers(&["a"]));
    deck.wait_ready(&["a"]);
    deck.write_config(&("watch = true\n".to_owned() + &sleepers(&["a"])));
    deck.ok(&["config", "apply"]);
    deck.write_config(&("watch = true\n".to_owned() + &sleepers(&["a", "b"])));
    deck.wait_ready(&["b"]);
}

#[test]
fn stopping_more_than_half_wants_a_yes() {
    let mut deck = Deck::start(&sleepers(&["a", "b", "c"]));
    deck.wait_ready(&["a", "b", "c"]);
    let (a, b) = (deck.pid("a"), deck.pid("b"));
    deck.write_config(&sleepers(&["c"]));

    let refused = deck.opsdeck(&["config", "apply"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(6), "{text}");
    assert!(text.contains("--yes") && text.contains("a, b"), "{text}");
    kill(deck.daemon_pid(), Signal::SIGHUP);
    deck.wait_event("SIGHUP was not followed");
    assert!(is_alive(a) && is_alive(b));

    deck.ok(&["config", "apply", "--yes"]);
    deck.wait("a and b are gone", |deck, _| deck.services.len() == 1);
    assert!(!is_alive(a) && !is_alive(b));
    assert!(deck.ok(&["config", "apply"]).contains("nothing to do"));
}

/// A directory and a way to run `opsdeck config` on a file in it, without a daemon.
fn config(directory: &Path, text: &str, args: &[&str]) -> std::process::Output {
    let file = directory.join("config.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(support::OPSDECK);
    support::output_of(command.arg("config").args(args).arg("--config").arg(file))
}

#[test]
fn check_reports_ten_mistakes_in_one_run() {
    let text = r#"[deck]
wach = true
confirm = "perhaps"
[service.web]
command = 7
max_wait_time = "soon"
restart = "sometimes"
instance.web1 = { port = 99999 }
depends_on = ["nobody"]
stop = [{ signal = "SIGNOTHING" }]
[service.queue]
log = { max_size = "big" }
engine = "supervisord"
"#;
    let directory = tempfile::tempdir().unwrap();
    let output = config(directory.path(), text, &["check"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for word in [
        "wach",
        "perhaps",
        "command",
        "soon",
        "sometimes",
        "99999",
        "nobody",
        "SIGNOTHING",
        "big",
        "not in this version",
    ] {
        assert!(told.contains(word), "no {word} in\n{told}");
    }
    for line in [2, 3, 5, 6, 7, 8, 9, 10, 12, 13] {
        assert!(told.contains(&format!("config.toml:{line}:")), "no line {line} in\n{told}");
    }
}

#[test]
fn show_prints_a_file_that_reads_back_as_the_same_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let first = config(directory.path(), include_str!("../config.example.toml"), &["show"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let text = String::from_utf8(first.stdout).unwrap();
    let second = config(directory.path(), &text, &["show"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert_eq!(String::from_utf8(second.stdout).unwrap(), text);
}

#[test]
fn the_schema_is_the_one_in_assets() {
    let directory = tempfile::tempdir().unwrap();
    let output = config(directory.path(), "", &["schema"]);
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept = include_str!("../assets/config.schema.json");
    assert_eq!(printed, serde_json::from_str::<serde_json::Value>(kept).unwrap());
}

#[test]
fn a_first_gateway_serves_with_what_runs_already() {
    let [entry, one, two] = [free_port(), free_port(), free_port()];
    let services = format!(
        "{QUICK}[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\n\
         instance = {{ web1 = {{ port = {one} }}, web2 = {{ port = {two} }} }}\n"
    );
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    let before = ["web1", "web2"].map(|it| deck.pid(it));
    let gateway = format!("[gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{entry}\"\n");
    for text in [format!("{services}{gateway}"), services.clone(), format!("{services}{gateway}")] {
        deck.write_config(&text);
        deck.ok(&["config", "apply"]);
        if text == services {
            continue;
        }
        let url = format!("http://127.0.0.1:{entry}/");
        let asked = ["load", &url, "-c", "2", "--requests", "20", "--interval", "0", "--json"];
        let told: serde_json::Value = serde_json::from_str(&deck.ok(&asked)).unwrap();
        assert_eq!(told["failed"], 0, "{told:#}\n{}", deck.story());
    }
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), before);
    deck.wait("both serve", |it, _| {
        let serves = |name| find(it, name).is_some_and(|it| it.in_rotation);
        serves("web1") && serves("web2")
    });
    deck.ok(&["drain", "web2"]);
    let rotation = |deck: &Deck| ["web1", "web2"].map(|it| deck.instance(it).in_rotation);
    deck.wait("web2 is out", |it, _| find(it, "web2").is_some_and(|it| !it.in_rotation));
    assert_eq!(rotation(&deck), [true, false]);
}
