//! What commands say and end with: a first roll, JSON, Ctrl-C, names that are not there, the end of the daemon.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::{EVENT_KINDS, Event, RolloutRecord, State};
use support::{Deck, find, finish, kill, wait_readable};

/// A worker that wants a version, which nobody has told yet.
fn versioned(more: &str) -> String {
    format!(
        r#"[service.app]
command = "opsdeck sample --worker"
start_seconds = "50ms"
environment = {{ APP_VERSION = "{{version}}" }}
rollout = {{ settle = "50ms", ready_timeout = "30s"{more} }}
"#
    )
}

const WORKER: &str =
    "[service.a]\ncommand = \"opsdeck sample --worker\"\nstart_seconds = \"50ms\"\n";

fn begin(deck: &Deck, args: &[&str]) -> Child {
    deck.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ctrl-C to a command; what it says and with what it exits.
fn interrupted(child: Child) -> (Option<i32>, String) {
    kill(i32::try_from(child.id()).unwrap(), Signal::SIGINT);
    let output = finish(child);
    (output.status.code(), stderr(&output))
}

/// A build that waits for the file `go` in this directory.
fn held_build(directory: &Path) -> String {
    let at = directory.display();
    format!(r#", build = ["sh -c 'until test -e {at}/go; do sleep 0.02; done'"]"#)
}

fn wait_step(deck: &mut Deck, step: &str) {
    deck.wait(&format!("at step {step}"), |deck, _| {
        deck.services[0].rollout.as_ref().is_some_and(|it| it.step == step)
    });
}

#[test]
fn a_service_that_wants_a_version_comes_up_by_its_first_roll() {
    for (more, state) in [("", State::Backoff), ("retries = 0\n", State::Fatal)] {
        let services = versioned("").replace("start_seconds", &format!("{more}start_seconds"));
        let mut deck = Deck::start(&services);
        deck.wait_state("app", state);
        let plan = deck.ok(&["roll", "app", "--dry-run"]);
        assert!(plan.contains("app  (not ready)") && !plan.contains("blocked"), "{plan}");
        deck.ok(&["roll", "app", "--set", "version=43"]);
        deck.wait_ready(&["app"]);
        // It keeps what it was given.
        let generation = deck.instance("app").generation;
        deck.ok(&["restart", "app"]);
        deck.wait("renewed", |deck, _| {
            find(deck, "app").is_some_and(|it| it.generation > generation && it.pid.is_some())
        });
        let environment = format!("/proc/{}/environ", deck.pid("app"));
        let environment = std::fs::read(environment).unwrap();
        assert!(String::from_utf8_lossy(&environment).contains("APP_VERSION=43"));
        deck.ok(&["stop", "app"]);
        let told = stderr(&deck.opsdeck(&["roll", "app"]));
        assert!(told.contains("nothing of app runs"), "{told}");
    }
}

#[test]
fn a_roll_prints_its_record_as_json_and_tells_its_progress_beside() {
    let mut deck = Deck::start(&versioned(", build = [\"sh -c 'test {version} != 13'\"]"));
    deck.wait_state("app", State::Backoff);
    let output = deck.opsdeck(&["roll", "app", "--set", "version=43", "--json"]);
    let record: RolloutRecord = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((output.status.code(), record.outcome.as_str()), (Some(0), "done"));
    assert!(stderr(&output).contains("renews app, 1 of 1"), "{}", stderr(&output));

    let args = ["roll", "app", "--set", "version=13", "--json", "--yes"];
    let output = deck.opsdeck(&args);
    let record: RolloutRecord = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((output.status.code(), record.outcome.as_str()), (Some(1), "halted"));
    assert!(record.halted.is_some_and(|it| it.contains("build 1 of 1")));
}

#[test]
fn the_evidence_of_a_halt_is_of_its_own_rollout() {
    let build = ", build = [\"sh -c 'echo this is {version}; exit 1'\"]";
    let mut deck = Deck::start(&versioned(build));
    deck.wait_state("app", State::Backoff);
    let halted = |n: &str| {
        let output = deck.opsdeck(&["roll", "app", "--set", &format!("version={n}"), "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let record: RolloutRecord = serde_json::from_str(&stdout(&output)).unwrap();
        record.evidence.join("\n")
    };
    assert!(halted("43").contains("this is 43"));
    let second = halted("44");
    assert!(second.contains("this is 44") && !second.contains("this is 43"), "{second}");
}

#[test]
fn ctrl_c_ends_the_waiting_and_says_what_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&versioned(&held_build(directory.path())));
    deck.wait_state("app", State::Backoff);
    let roll = begin(&deck, &["roll", "app", "--set", "version=43", "--json"]);
    wait_step(&mut deck, "build");
    let (code, told) = interrupted(roll);
    assert_eq!(code, Some(130), "{told}");
    let wanted = "the rolling restart goes on; `opsdeck roll --abort app` ends it";
    assert!(told.contains(wanted), "{told}");
    std::fs::write(directory.path().join("go"), "").unwrap();
    deck.wait_ready(&["app"]);

    let never = "[service.never]\ncommand = \"opsdeck sample --worker\"\n\
                 probe.readiness = { exec.command = \"false\", period = \"50ms\" }\n";
    deck.write_config(never);
    deck.ok(&["config", "apply", "--yes"]);
    deck.wait_state("never", State::Running);
    let generation = deck.instance("never").generation;
    let restart = begin(&deck, &["restart", "never"]);
    deck.wait("restarted", |deck, _| {
        find(deck, "never").is_some_and(|it| it.generation > generation)
    });
    let (code, told) = interrupted(restart);
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("the restart goes on; `opsdeck status -w never` follows it"), "{told}");
}

#[test]
fn a_command_that_follows_says_that_the_daemon_has_ended() {
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let follow = |args: &[&str]| {
        let child = begin(&deck, args);
        wait_readable(child.stdout.as_ref().unwrap());
        child
    };
    let (logs, events) = (follow(&["logs", "-f", "a"]), follow(&["events", "-f"]));
    let table = follow(&["status", "-w"]);
    deck.ok(&["shutdown"]);
    for child in [logs, events] {
        let output = finish(child);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{told}");
        assert!(told.contains("the daemon has ended"), "{told}");
    }
    let output = finish(table);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("shut down by"), "{}", stderr(&output));
}

#[test]
fn events_of_what_there_is_not_are_asked_for_in_vain_and_told_so() {
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let told = |args: &[&str]| {
        let output = deck.opsdeck(&[&["events"], args].concat());
        (output.status.code(), stderr(&output))
    };
    let (code, text) = told(&["--service", "nosuch"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no service or instance `nosuch`"), "{text}");
    let (code, text) = told(&["--kind", "exitted"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no kind of event `exitted`"), "{text}");
    assert!(text.contains("did you mean `exited`?"), "{text}");
    let (code, text) = told(&["--actor", "nosuch"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("knows of nothing that `nosuch` did"), "{text}");
    assert_eq!(told(&["--service", "a", "--kind", "rollout"]), (Some(0), String::new()));

    // What was taken out of the configuration is in the journal still.
    deck.write_config("[service.b]\ncommand = \"opsdeck sample --worker\"\n");
    deck.ok(&["config", "apply", "--yes"]);
    assert!(deck.ok(&["events", "--service", "a"]).contains("started"));
}

#[test]
fn an_edit_that_is_taken_back_makes_nothing_stale() {
    let with = |value: &str| format!("{WORKER}environment = {{ COLOUR = \"{value}\" }}\n");
    let mut deck = Deck::start(&format!("watch = false\n{}", with("red")));
    deck.wait_ready(&["a"]);
    let apply = |value: &str| {
        deck.write_config(&format!("watch = false\n{}", with(value)));
        deck.ok(&["config", "apply"]);
        let last = deck.ok(&["events", "--json", "--kind", "config-applied", "-n", "1"]);
        serde_json::from_str::<Event>(last.trim()).unwrap().message
    };
    let there = apply("blue");
    assert!(there.contains("environment (COLOUR) changes; taken up by the next"), "{there}");
    let back = apply("red");
    assert!(back.contains("environment (COLOUR) changes back to what runs"), "{back}");
    deck.wait("not stale", |deck, _| find(deck, "a").is_some_and(|it| !it.stale));
}

/// The text of a module and what is below it, without its tests.
fn sources(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_told_elsewhere = ["advice", "advice.rs", "hooks.rs", "fixture.rs"].contains(&&*name);
        if is_told_elsewhere || name.contains("test") || name.starts_with("sim") {
            continue;
        }
        if path.is_dir() {
            sources(&path, text);
        } else {
            let all = std::fs::read_to_string(&path).unwrap();
            text.push_str(all.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn every_kind_of_event_is_one_that_events_knows() {
    let mut text = String::new();
    for module in ["src/fleet", "src/daemon"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(module), &mut text);
    }
    let said = r#"(?:\bsay\(\s*turn,\s*|\bself\.note\(\s*|\bkind: |\brecord_of\(\s*)"([a-z-]+)""#;
    let said = regex::Regex::new(said).unwrap();
    let said: BTreeSet<&str> =
        said.captures_iter(&text).map(|it| it.get(1).unwrap().as_str()).collect();
    assert!(said.len() > 40, "{said:?}");
    let known: BTreeSet<&str> = EVENT_KINDS.iter().copied().collect();
    assert!(said.is_subset(&known), "{:?}", said.difference(&known));
    assert!(EVENT_KINDS.is_sorted());
}

#[test]
fn a_stop_that_needed_sigkill_says_so() {
    let service = |name: &str, flags: &str| {
        format!(
            "[service.{name}]\ncommand = \"opsdeck sample --worker {flags}\"\n\
             start_seconds = \"50ms\"\nmax_wait_time = \"1s\"\n"
        )
    };
    let config = [service("stubborn", "--ignore-term"), service("polite", "")].concat();
    let mut deck = Deck::start(&config);
    deck.wait_ready(&["stubborn", "polite"]);
    deck.wait_line("stubborn", "takes jobs");
    deck.wait_line("polite", "takes jobs");
    let output = deck.opsdeck(&["stop", "stubborn"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("opsdeck: stubborn: killed by SIGKILL "), "{told}");
    assert_eq!(stderr(&deck.opsdeck(&["stop", "polite"])), "");
}
