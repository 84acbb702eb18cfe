//! Rolling restarts of real processes: the order, the halts, and the orders to one that runs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::cell::Cell;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::{Event, Plan, Rollout, State};
use support::{Deck, ended, find, finish, free_port, is_alive, kill, wait_until};

/// Two web instances, the second one a backup; `rollout` goes into the table of that name.
fn web(flags: &str, rollout: &str) -> String {
    format!(
        r#"[service.web]
command = "opsdeck sample --port {{port}} --work 10ms {flags}"
max_wait_time = "5s"
instance.web1 = {{ port = {} }}
instance.web2 = {{ port = {}, backup = true }}
probe.readiness = {{ http.path = "/readiness", period = "50ms", failure_threshold = 2, expect = {{ body = "version {{version}}" }} }}
rollout = {{ settle = "100ms", successes = 2, ready_timeout = "5s"{rollout} }}
"#,
        free_port(),
        free_port()
    )
}

/// A build that waits for the file `go` in this directory, and tells its pid there.
fn held_build(directory: &Path) -> String {
    let at = directory.display();
    format!(
        r#", build = ["sh -c 'echo $$ > {at}/build.pid; until test -e {at}/go; do sleep 0.02; done'"]"#
    )
}

fn roll(deck: &Deck, args: &[&str]) -> Child {
    let mut command = deck.command(&["roll", "web"]);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn rollout(deck: &Deck) -> Rollout {
    deck.view.services[0].rollout.clone().unwrap()
}

fn wait_step(deck: &mut Deck, step: &str) {
    deck.wait(&format!("at step {step}"), |deck, _| {
        deck.services[0].rollout.as_ref().is_some_and(|it| it.step == step)
    });
}

fn at(events: &[Event], text: &str) -> usize {
    events.iter().position(|it| it.message.contains(text)).unwrap_or(usize::MAX)
}

#[test]
fn the_backup_is_renewed_first_and_one_is_always_ready() {
    let mut deck = Deck::start(&web("", ""));
    deck.wait_ready(&["web1", "web2"]);
    let (one, two) = (deck.pid("web1"), deck.pid("web2"));

    let client = roll(&deck, &[]);
    let fewest = Cell::new(u32::MAX);
    deck.wait("finished", |deck, events| {
        fewest.set(fewest.get().min(deck.services[0].ready));
        events.iter().any(|it| it.kind == "rollout-finished")
    });
    let output = finish(client);
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(fewest.get(), 1);
    assert!(at(&deck.events, "renews web2") < at(&deck.events, "renews web1"), "{}", deck.story());
    for line in ["renews web2, 1 of 2", "renews web1, 2 of 2", "finished after", "2 of 2 renewed"] {
        assert!(told.contains(line), "{told}");
    }
    let after = (deck.pid("web1"), deck.pid("web2"));
    assert!(after.0 != one && after.1 != two);
    assert_eq!((rollout(&deck).step.as_str(), rollout(&deck).done), ("done", 2));
}

#[test]
fn a_rollout_does_not_sit_through_the_periods_of_a_probe() {
    let services = web("", "").replace(r#"period = "50ms""#, r#"period = "60s""#);
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    // Three passes a minute apart would take longer than anything here is waited for.
    let client = roll(&deck, &[]);
    wait_step(&mut deck, "done");
    assert_eq!(finish(client).status.code(), Some(0));
}

#[test]
fn a_client_whose_rollout_was_replaced_does_not_take_the_other_one_for_its_own() {
    let mut deck = Deck::start(&web("", ", rollback = [\"true\"]"));
    deck.wait_ready(&["web1", "web2"]);
    let client = roll(&deck, &[]);
    deck.wait_event("renews web1, 2 of 2");
    deck.ok(&["roll", "--rollback", "web"]);
    let output = finish(client);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("began another one in its place"), "{}", text(&output));
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let mut deck = Deck::start(&web("", ", build = [\"touch built-{version}\"]"));
    deck.wait_ready(&["web1", "web2"]);
    let pids = (deck.pid("web1"), deck.pid("web2"));

    let plan = deck.ok(&["roll", "web", "--dry-run", "--set", "version=43"]);
    assert!(plan.find("web2").unwrap() < plan.find("web1").unwrap(), "{plan}");
    assert!(plan.contains("build: touch built-43"), "{plan}");
    let json = deck.ok(&["roll", "web", "--dry-run", "--json"]);
    let plan: Plan = serde_json::from_str(&json).unwrap();
    let order: Vec<_> = plan.steps.iter().map(|it| it.instance.as_str()).collect();
    assert_eq!((order, plan.downtime, plan.blocked), (vec!["web2", "web1"], None, None));

    deck.catch_up();
    assert_eq!((deck.pid("web1"), deck.pid("web2")), pids);
    assert_eq!(deck.view.services[0].rollout, None);
    assert!(!deck.events.iter().any(|it| it.kind.starts_with("rollout")));
}

#[test]
fn a_failing_build_halts_before_the_instance_is_touched() {
    let build = ", build = [\"sh -c 'echo composer says no; exit 7'\"]";
    let mut deck = Deck::start(&web("", build));
    deck.wait_ready(&["web1", "web2"]);
    let pids = (deck.pid("web1"), deck.pid("web2"));

    let output = deck.opsdeck(&["roll", "web"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let event = deck.wait_event("halted");
    assert!(event.message.contains("web2 was not touched"), "{}", event.message);
    let evidence = event.evidence.unwrap().join("\n");
    assert!(evidence.contains("composer says no"), "{evidence}");
    deck.catch_up();
    assert_eq!((deck.pid("web1"), deck.pid("web2")), pids);
    assert!(deck.instance("web2").in_rotation);
    let log = std::fs::read_to_string(deck.path().join("state/logs/web.rollout.log")).unwrap();
    assert!(log.contains("composer says no"), "{log}");
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(3));
}

#[test]
fn a_release_that_never_gets_ready_halts_and_the_other_instance_serves_on() {
    let services = web("", "").replace("ready_timeout = \"5s\"", "ready_timeout = \"1s\"");
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    let one = deck.pid("web1");
    deck.write_config(&services.replace("--work 10ms", "--never-ready"));
    deck.ok(&["config", "apply"]);

    let output = deck.opsdeck(&["roll", "web"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let event = deck.wait_event("halted");
    let evidence = event.evidence.unwrap().join("\n");
    assert!(evidence.contains("not ready version 42"), "{evidence}");
    assert!(text(&output).contains("not ready version 42"), "{}", text(&output));
    deck.wait("shown as halted", |deck, _| {
        deck.services[0].rollout.as_ref().is_some_and(|it| it.halted.is_some())
    });
    assert_eq!(deck.pid("web1"), one);
    assert!(deck.instance("web1").in_rotation && !deck.instance("web2").in_rotation);
}

#[test]
fn the_version_of_a_rollout_is_expected_in_the_answer() {
    let services = web("--app-version 42", "");
    let mut deck =
        Deck::start(&services.replace("ready_timeout = \"5s\"", "ready_timeout = \"1s\""));
    deck.wait_ready(&["web1", "web2"]);
    let output = deck.opsdeck(&["roll", "web", "--set", "version=43"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("ready version 42"), "{}", text(&output));

    deck.write_config(&services.replace("--app-version 42", "--app-version {version}"));
    deck.ok(&["config", "apply"]);
    deck.ok(&["roll", "web", "--set", "version=43"]);
    deck.wait("both answer as 43", |deck, _| {
        ["web1", "web2"].iter().all(|name| {
            find(deck, name)
                .and_then(|it| it.probes.get("readiness"))
                .is_some_and(|it| it.ok && it.body.as_deref() == Some("ready version 43\n"))
        })
    });
}

#[test]
fn an_abort_during_the_build_ends_the_build_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&web("", &held_build(directory.path())));
    deck.wait_ready(&["web1", "web2"]);
    let pids = (deck.pid("web1"), deck.pid("web2"));
    let client = roll(&deck, &[]);
    let file = directory.path().join("build.pid");
    let read = || std::fs::read_to_string(&file).ok()?.trim().parse().ok();
    wait_until("the build runs", || read().is_some_and(is_alive));

    deck.ok(&["roll", "--abort", "web"]);
    let output = finish(client);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("ended early, 0 of 2 renewed"), "{}", text(&output));
    let build = read().unwrap();
    wait_until("the build is gone", || !is_alive(build));
    deck.catch_up();
    assert_eq!((deck.pid("web1"), deck.pid("web2")), pids);
}

#[test]
fn an_abort_before_the_signal_puts_the_instance_back_into_rotation() {
    let slow = "drain_delay = \"60s\"\nmax_wait_time = \"90s\"";
    let mut deck = Deck::start(&web("", "").replace("max_wait_time = \"5s\"", slow));
    deck.wait_ready(&["web1", "web2"]);
    let pid = deck.pid("web2");
    deck.ok(&["roll", "web", "--no-wait"]);
    deck.wait_state("web2", State::Draining);
    assert!(!deck.instance("web2").in_rotation);

    deck.ok(&["roll", "web", "--abort"]);
    deck.wait("back in rotation", |deck, _| {
        find(deck, "web2").is_some_and(|it| it.in_rotation && it.state == State::Running)
    });
    assert_eq!(deck.pid("web2"), pid);
    assert_eq!(rollout(&deck).step, "aborted");
}

#[test]
fn a_paused_rollout_holds_until_it_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&web("", &held_build(directory.path())));
    deck.wait_ready(&["web1", "web2"]);
    let one = deck.pid("web1");
    let client = roll(&deck, &[]);
    wait_step(&mut deck, "build");

    deck.ok(&["roll", "--pause", "web"]);
    std::fs::write(directory.path().join("go"), "").unwrap();
    wait_step(&mut deck, "paused");
    assert_eq!(deck.pid("web1"), one);
    let twice = deck.opsdeck(&["roll", "--pause", "web"]);
    assert_eq!(twice.status.code(), Some(1), "{}", text(&twice));

    deck.ok(&["roll", "--resume", "web"]);
    let output = finish(client);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    deck.wait_event("2 of 2 renewed");
}

#[test]
fn a_rollback_runs_its_commands_and_renews_the_renewed_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let commands = format!(
        ", build = [\"sh -c 'echo new {{instance}} >> {0}'\"], rollback = [\"sh -c 'echo old {{instance}} >> {0}'\"]",
        log.display()
    );
    let mut deck = Deck::start(&web("", &commands));
    deck.wait_ready(&["web1", "web2"]);
    assert!(deck.view.services[0].rollout.is_none());
    let early = deck.opsdeck(&["roll", "--rollback", "web"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early));

    deck.ok(&["roll", "web"]);
    // It went well: taking it back wants a word more.
    let well = deck.opsdeck(&["roll", "--rollback", "web"]);
    assert_eq!(well.status.code(), Some(6), "{}", text(&well));
    assert!(
        text(&well).contains("has not halted") && text(&well).contains("--yes"),
        "{}",
        text(&well)
    );
    deck.ok(&["roll", "--rollback", "--yes", "web"]);
    let written = std::fs::read_to_string(log).unwrap();
    assert_eq!(written, "new web2\nnew web1\nold web2\nold web1\n");
    deck.wait("the third generation", |deck, _| {
        deck.services[0].instances.iter().all(|it| it.generation == 3)
    });
}

#[test]
fn a_service_without_rollback_commands_cannot_be_rolled_back() {
    let mut deck = Deck::start(&web("", ""));
    deck.wait_ready(&["web1", "web2"]);
    let output = deck.opsdeck(&["roll", "--rollback", "web"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no `rollback` commands"), "{}", text(&output));
}

#[test]
fn a_second_rollout_is_refused_with_who_began_the_first_and_when() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&web("", &held_build(directory.path())));
    deck.wait_ready(&["web1", "web2"]);
    deck.ok(&["roll", "web", "--no-wait"]);
    let began = deck.wait_event("rolling restart of web");
    let output = deck.opsdeck(&["roll", "web"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let who = began.actor.unwrap().login;
    assert!(told.contains(&format!("{who} began the rolling restart of web")), "{told}");
    assert!(told.contains(" ago; it is at: build web2"), "{told}");
}

#[test]
fn a_single_instance_means_downtime_and_wants_a_yes() {
    let services = format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\ninstance.web1 = {{ port = {} }}\n\
         probe.readiness = {{ http.path = \"/readiness\", period = \"50ms\" }}\nrollout.settle = \"50ms\"\n",
        free_port()
    );
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1"]);
    let pid = deck.pid("web1");
    let refused = deck.opsdeck(&["roll", "web"]);
    assert_eq!(refused.status.code(), Some(6), "{}", text(&refused));
    assert!(text(&refused).contains("downtime"), "{}", text(&refused));
    deck.catch_up();
    assert_eq!(deck.pid("web1"), pid);

    deck.ok(&["roll", "web", "--yes"]);
    deck.wait("renewed", |deck, _| find(deck, "web1").is_some_and(|it| it.generation == 2));
    assert!(!is_alive(pid));
}

#[test]
fn a_configuration_applied_meanwhile_does_not_disturb_a_rollout() {
    let directory = tempfile::tempdir().unwrap();
    let services = web("", &held_build(directory.path()));
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    let client = roll(&deck, &[]);
    wait_step(&mut deck, "build");

    let more = "[service.more]\ncommand = \"sleep 1000\"\nstart_seconds = \"50ms\"\n";
    deck.write_config(&(services + more));
    deck.ok(&["config", "apply"]);
    deck.wait_ready(&["more"]);
    assert_eq!(rollout(&deck).step, "build");
    std::fs::write(directory.path().join("go"), "").unwrap();
    let output = finish(client);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_rollout_goes_on_when_the_client_that_began_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&web("", &held_build(directory.path())));
    deck.wait_ready(&["web1", "web2"]);
    let mut client = roll(&deck, &[]);
    wait_step(&mut deck, "build");
    kill(i32::try_from(client.id()).unwrap(), Signal::SIGKILL);
    ended(&mut client);

    std::fs::write(directory.path().join("go"), "").unwrap();
    deck.wait_event("2 of 2 renewed");
}

#[test]
fn what_a_halted_rollout_did_not_touch_stays_what_it_was() {
    let services = web("", ", rollback = [\"true\"]");
    let hasty = services.replace("ready_timeout = \"5s\"", "ready_timeout = \"1s\"");
    let mut deck = Deck::start(&hasty);
    deck.wait_ready(&["web1", "web2"]);
    // The sample goes on answering 42: web2 never gets ready, web1 is not touched.
    let output = deck.opsdeck(&["roll", "web", "--set", "version=43"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));

    // Neither its crash nor another daemon makes it expect the version that it was not renewed to.
    let before = deck.pid("web1");
    kill(before, Signal::SIGKILL);
    deck.wait("web1 is ready again", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.pid != Some(before) && it.ready == Some(true))
    });
    // What is rolled back expects what it did before.
    deck.ok(&["roll", "--rollback", "web"]);
    deck.wait_ready(&["web1", "web2"]);

    let output = deck.opsdeck(&["roll", "web", "--set", "version=43"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    deck.restart_daemon(|it| kill(it.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1"]);
}

#[test]
fn a_rollout_whose_daemon_dies_in_a_build_tells_its_client_why_it_halted() {
    let directory = tempfile::tempdir().unwrap();
    let mut deck = Deck::start(&web("", &held_build(directory.path())));
    deck.wait_ready(&["web1", "web2"]);
    let client = roll(&deck, &[]);
    wait_step(&mut deck, "build");
    deck.restart_daemon(|it| kill(it.daemon_pid(), Signal::SIGKILL));
    std::fs::write(directory.path().join("go"), "").unwrap();
    let output = finish(client);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let why = "halted: the daemon ended while build 1 for web2 ran; web2 was not touched";
    assert!(text(&output).contains(why), "{}", text(&output));
    deck.wait_ready(&["web1", "web2"]);
}

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[test]
fn a_build_and_a_probe_that_outlive_their_daemon_are_ended_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    // One that leaves something behind on purpose, and one that goes on, as does what it has begun.
    let kept = format!("sh -c 'setsid sh -c \"echo \\$\\$ > {at}/kept; exec sleep 600\" &'");
    let build = format!(
        "sh -c 'setsid sh -c \"echo \\$\\$ > {at}/child; exec sleep 600\" &
         echo $$ > {at}/build; exec sleep 600'"
    );
    let probe = format!("sh -c 'echo $$ > {at}/probe; exec sleep 600'");
    let services = web("", &format!(", build = [{kept:?}, {build:?}]"))
        + &format!("probe.liveness = {{ exec.command = {probe:?}, timeout = '600s' }}\n");
    let mut deck = Deck::start(&services);
    deck.wait_ready(&["web1", "web2"]);
    deck.ok(&["roll", "--no-wait", "web"]);
    let mut pids = [0; 4];
    for (pid, name) in pids.iter_mut().zip(["kept", "build", "child", "probe"]) {
        wait_until(name, || {
            *pid = pid_in(&directory.path().join(name)).unwrap_or(0);
            *pid > 0
        });
    }
    let [kept, build, child, probe] = pids;
    // A mark of another deck's says nothing.
    let mut other =
        Command::new("sleep").arg("600").env("OPSDECK_RUN", "web/1@/x").spawn().unwrap();

    deck.restart_daemon(|it| kill(it.daemon_pid(), Signal::SIGKILL));
    let event = deck.wait_event("of a command of the rolling restart of web that the last daemon");
    assert_eq!((event.kind.as_str(), event.instance.as_deref()), ("stray", Some("web2")));
    deck.wait_event("of an exec probe of web");
    for (pid, name) in [(build, "build"), (child, "child"), (probe, "probe")] {
        wait_until(&format!("the end of the {name}"), || !is_alive(pid));
    }
    deck.wait("the halt", |it, _| {
        it.services[0].rollout.as_ref().is_some_and(|it| it.halted.is_some())
    });
    assert!(is_alive(kept), "{}", deck.story());
    assert_eq!(other.try_wait().unwrap(), None, "{}", deck.story());
    kill(kept, Signal::SIGKILL);
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Two that sleep, with what comes to their table.
fn sleepers(more: &str) -> String {
    format!(
        "[service.web]\nstart_seconds = \"50ms\"\ninstance = {{ web1 = {{}}, web2 = {{}} }}\n{more}\n"
    )
}

#[test]
fn what_could_not_start_again_is_not_taken_down() {
    let mut deck = Deck::start(&sleepers("command = \"sleep 1000\""));
    deck.wait_ready(&["web1", "web2"]);
    let before = ["web1", "web2"].map(|it| deck.pid(it));
    let hopeless = [
        (
            "command = \"sleep 1000\"\nenvironment.F = \"{feature}\"",
            "`{feature}` has no value yet: opsdeck roll web --set feature=…",
        ),
        ("command = \"sleepx 1000\"", "could not execute sleepx: not found in PATH"),
        ("command = \"sleep {prot}\"", "`{prot}` has no value: did you mean `{port}`?"),
        ("command = \"sleep 1000\"\ndirectory = \"/no/such\"", "could not enter /no/such"),
    ];
    for (text, why) in hopeless {
        deck.write_config(&sleepers(text));
        deck.ok(&["config", "apply"]);
        let why = format!("web1 could not start again: {why}");
        for args in [&["roll", "web"][..], &["roll", "web", "--yes"], &["restart", "web"]] {
            let refused = deck.opsdeck(args);
            assert_eq!(refused.status.code(), Some(1), "{}", self::text(&refused));
            assert!(self::text(&refused).contains(&why), "{args:?}: {}", self::text(&refused));
        }
        let one = self::text(&deck.opsdeck(&["restart", "web2"]));
        assert!(one.contains("web2 could not start again"), "{one}");
        let plan = deck.opsdeck(&["roll", "web", "--dry-run"]);
        assert_eq!(plan.status.code(), Some(1), "{}", self::text(&plan));
        assert!(self::text(&plan).contains(&why), "{}", self::text(&plan));
    }
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), before, "{}", deck.story());

    // What is missing is said as it is applied, and a value of the rollout helps.
    let valued = "command = \"sleep {long}\"";
    deck.write_config(&sleepers(valued));
    let told = text(&deck.opsdeck(&["config", "diff"]));
    assert!(
        told.contains("warning: web: `{long}` has no value until a rollout sets one"),
        "{told}"
    );
    let told = text(&deck.opsdeck(&["config", "apply"]));
    assert!(
        told.contains("warning: web: `{long}` has no value until a rollout sets one"),
        "{told}"
    );
    let refused = deck.opsdeck(&["roll", "web", "--set", "logn=1000"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("did you mean `long`?"), "{}", text(&refused));
    deck.ok(&["roll", "web", "--set", "long=1000"]);
    deck.wait("renewed", |it, _| find(it, "web2").is_some_and(|it| it.generation == 2));
    for args in [&["config", "check"][..], &["config", "apply"], &["config", "diff"]] {
        let told = text(&deck.opsdeck(args));
        assert!(!told.contains("has no value"), "{args:?}: {told}");
    }
}

#[test]
fn what_a_build_does_not_bring_is_known_before_the_instance_is_taken_down() {
    let mut deck = Deck::start(&sleepers("command = \"sleep 1000\""));
    deck.wait_ready(&["web1", "web2"]);
    let before = ["web1", "web2"].map(|it| deck.pid(it));
    let program = deck.path().join("program");
    let with_build = |build: &str| {
        sleepers(&format!(
            "command = \"{} 1000\"\nrollout.build = [\"{build}\"]",
            program.display()
        ))
    };
    deck.write_config(&with_build("true"));
    deck.ok(&["config", "apply"]);
    let halted = deck.opsdeck(&["roll", "web"]);
    assert_eq!(halted.status.code(), Some(1), "{}", text(&halted));
    assert!(text(&halted).contains("web1 could not start again"), "{}", text(&halted));
    assert!(text(&halted).contains("web1 was not touched"), "{}", text(&halted));
    assert_eq!(["web1", "web2"].map(|it| deck.pid(it)), before, "{}", deck.story());

    deck.write_config(&with_build(&format!("ln -sf /bin/sleep {}", program.display())));
    deck.ok(&["config", "apply"]);
    deck.ok(&["roll", "web"]);
    deck.wait("renewed", |it, _| find(it, "web2").is_some_and(|it| it.generation == 2));
}
