//! Starting, crashing, giving up, and the order of things, with real children.

mod support;

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use opsdeck::api::{Event, State};
use support::{Deck, find, kill};

const WORKER: &str = "opsdeck sample --worker";

/// Events of this kind about this instance, oldest first.
fn of<'a>(events: &'a [Event], name: &str, kind: &str) -> Vec<&'a Event> {
    let about = |it: &&Event| it.instance.as_deref() == Some(name) && it.kind == kind;
    events.iter().filter(about).collect()
}

#[test]
fn an_instance_that_is_killed_is_replaced_and_the_others_are_left_alone() {
    let mut deck = Deck::start(&format!(
        "[defaults]\nstart_seconds = \"100ms\"\n
         [service.a]\ncommand = \"{WORKER}\"\n
         [service.b]\ncommand = \"{WORKER}\""
    ));
    deck.wait_ready(&["a", "b"]);
    let (a, b) = (deck.instance("a"), deck.instance("b"));

    kill(a.pid.unwrap(), Signal::SIGKILL);
    deck.wait("a replaced", |it, _| {
        find(it, "a").is_some_and(|it| it.generation > 1 && it.ready == Some(true))
    });

    let renewed = deck.instance("a");
    assert_ne!(renewed.pid, a.pid);
    assert_eq!((renewed.generation, renewed.restarts), (2, 1));
    let exit = renewed.last_exit.unwrap();
    assert_eq!(exit.signal.as_deref(), Some("SIGKILL"));
    assert_eq!(exit.cause, "a signal that opsdeck did not send (SIGKILL)");
    let other = deck.instance("b");
    assert_eq!((other.pid, other.generation, other.restarts), (b.pid, 1, 0));
}

#[test]
fn a_job_that_crashes_waits_longer_each_time_and_says_why() {
    let mut deck = Deck::start(
        r#"[service.job]
        command = 'opsdeck sample --exit-at-once --exit-code 7 --say "no such table: jobs"'
        backoff = { min = "200ms", max = "60s" }"#,
    );
    deck.wait("the fifth crash", |_, events| of(events, "job", "backoff").len() == 4);
    let why = "ended by itself with code 7, 5 times in a row: \"no such table: jobs\"";
    deck.wait(why, |it, _| find(it, "job").is_some_and(|it| it.why == why));
    let started: Vec<_> = of(&deck.events, "job", "started").iter().map(|it| it.at).collect();
    let ended: Vec<_> = of(&deck.events, "job", "exited").iter().map(|it| it.at).collect();
    let pauses: Vec<_> =
        (1..started.len()).map(|n| started[n].duration_since(ended[n - 1]).as_millis()).collect();
    // The first at once, then 200, 400 and 800 ms, give or take a fifth.
    assert!(pauses[0] < 160, "{pauses:?}");
    for (pause, least) in pauses[1..].iter().zip([160, 320, 640]) {
        assert!(*pause >= least, "{pauses:?}");
    }
}

#[test]
fn whoever_begins_to_watch_while_much_happens_hears_of_each_event_once() {
    let mut deck = Deck::start(
        r#"[service.job]
        command = "opsdeck sample --exit-at-once"
        backoff = { min = "10ms", max = "10ms" }"#,
    );
    deck.wait("crashes", |_, events| of(events, "job", "exited").len() > 10);
    for _ in 0..10 {
        deck.watch_anew();
        deck.wait("more crashes", |it, events| {
            find(it, "job").is_some_and(|it| it.generation > 10) && events.len() > 30
        });
        let more = deck.events.last().unwrap().seq + 5;
        deck.wait("what comes next", |_, events| events.last().is_some_and(|it| it.seq >= more));
        let numbers: Vec<_> = deck.events.iter().map(|it| it.seq).collect();
        assert!(numbers.windows(2).all(|it| it[1] == it[0] + 1), "{numbers:?}");
    }
}

#[test]
fn a_service_that_keeps_failing_is_given_up_and_start_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let mut deck = Deck::start(&format!(
        r#"[defaults]
        start_seconds = "100ms"
        [service.job]
        command = "sh -c 'test -e {} || exit 3; exec opsdeck sample --worker'"
        retries = 2
        backoff = {{ min = "50ms", max = "100ms" }}"#,
        ready.display()
    ));
    deck.wait_state("job", State::Fatal);
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(3));
    let why = deck.instance("job").why;
    assert!(why.starts_with("given up; ended by itself with code 3, 3 times in a row"), "{why}");

    std::fs::write(ready, "").unwrap();
    deck.ok(&["start", "job"]);
    deck.wait_ready(&["job"]);
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(0));
}

#[test]
fn what_cannot_be_executed_is_named_with_its_path_and_is_not_tried_in_a_hot_loop() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain-file");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    let (junk, script) = (dir.path().join("junk"), dir.path().join("script"));
    for (path, text) in [(&junk, "neither"), (&script, "#!/no/such/interpreter\n")] {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let (junk, script) = (junk.display(), script.display());
    let (plain, missing) = (plain.display(), dir.path().join("nothing"));
    let missing = missing.display();
    let mut deck = Deck::start(&format!(
        "[defaults]\nbackoff = {{ min = \"200ms\", max = \"60s\" }}\n
         [service.missing]\ncommand = \"{missing}\"\n
         [service.plain]\ncommand = \"{plain}\"\n
         [service.below]\ncommand = \"{plain}/below\"\n
         [service.junk]\ncommand = \"{junk}\"\n
         [service.script]\ncommand = \"{script}\"\n
         [service.homeless]\ncommand = \"{WORKER}\"\ndirectory = \"{missing}\""
    ));
    let wanted = [
        ("missing", format!("could not execute {missing}: no such file or directory")),
        ("plain", format!("could not execute {plain}: permission denied")),
        ("below", format!("could not execute {plain}/below: not a directory")),
        (
            "junk",
            format!(
                "could not execute {junk}: it is no program: no binary for this machine, and no #! line"
            ),
        ),
        (
            "script",
            format!(
                "could not execute {script}: its interpreter /no/such/interpreter was not found"
            ),
        ),
        ("homeless", format!("could not enter {missing}: no such file or directory")),
    ];
    for (name, message) in wanted {
        deck.wait("the third failure", |_, events| of(events, name, "spawn-failed").len() >= 3);
        let failures = of(&deck.events, name, "spawn-failed");
        assert_eq!(failures[0].message, message);
        for two in failures.windows(2) {
            let pause = two[1].at.duration_since(two[0].at).as_millis();
            assert!(pause >= 160, "{name} tried again after {pause} ms");
        }
        assert_eq!(deck.instance(name).pid, None);
    }
}

#[test]
fn what_another_user_may_not_execute_is_the_reason_that_is_shown() {
    if !support::is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let mut deck = Deck::start(&format!(
        "[service.job]\ncommand = {program:?}\nuser = \"nobody\"\n
         backoff = {{ min = \"100ms\", max = \"60s\" }}"
    ));
    let reason = format!("could not execute {}: permission denied", program.display());
    let why = format!("ended by itself with code 127, 3 times in a row: \"{reason}\"");
    deck.wait(&why, |it, _| find(it, "job").is_some_and(|it| it.why == why));
    assert!(of(&deck.events, "job", "spawn-failed").iter().all(|it| it.message == reason));
}

#[test]
fn a_port_that_somebody_else_holds_is_named_with_its_pid_until_it_is_free() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}}\"\nstart_seconds = \"100ms\"
         backoff = {{ min = \"100ms\", max = \"200ms\" }}\ninstance.web1 = {{ port = {port} }}"
    ));
    let message = deck.wait_event("is held by").message;
    assert!(
        message.starts_with(&format!("web1 cannot start: port {port} is held by ")),
        "{message}"
    );
    assert!(message.contains(&format!("(pid {})", std::process::id())), "{message}");
    assert_eq!(of(&deck.events, "web1", "started"), Vec::<&Event>::new());

    drop(held);
    deck.wait_ready(&["web1"]);
}

#[test]
fn services_start_after_what_they_depend_on_and_stop_before_it() {
    let mut deck = Deck::start(&format!(
        "[defaults]\nstart_seconds = \"200ms\"\ncommand = \"{WORKER}\"\n
         [service.web]\ndepends_on = [\"api\"]\n
         [service.api]\ndepends_on = [\"db\"]\n
         [service.db]"
    ));
    deck.wait("db alone", |it, _| {
        let web = find(it, "web").is_some_and(|it| it.why == "waits for api to be ready");
        web && find(it, "db").is_some_and(|it| it.pid.is_some())
    });
    deck.wait_ready(&["db", "api", "web"]);
    let at = |deck: &Deck, name: &str, kind: &str| {
        let event = of(&deck.events, name, kind);
        event.first().unwrap_or_else(|| panic!("no {kind} of {name}:\n{}", deck.story())).seq
    };
    assert!(at(&deck, "db", "ready") < at(&deck, "api", "started"));
    assert!(at(&deck, "api", "ready") < at(&deck, "web", "started"));

    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(at(&deck, "web", "stopped") < at(&deck, "api", "signal-sent"));
    assert!(at(&deck, "api", "stopped") < at(&deck, "db", "signal-sent"));
    assert!(at(&deck, "db", "stopped") > 0);
}

#[test]
fn exits_are_told_apart() {
    let mut deck = Deck::start(
        r#"[defaults]
        start_seconds = "100ms"
        restart = "never"
        [service.code]
        command = "opsdeck sample --worker --crash-after 100ms --exit-code 3"
        [service.fault]
        command = "sh -c 'kill -SEGV $$'"
        [service.signalled]
        command = "sleep 1000"
        [service.stubborn]
        command = "opsdeck sample --worker --ignore-term"
        max_wait_time = "300ms""#,
    );
    deck.wait_ready(&["signalled", "stubborn"]);
    deck.wait_line("stubborn", "takes jobs");
    deck.ok(&["signal", "--yes", "SIGUSR1", "signalled"]);
    deck.ok(&["stop", "stubborn"]);
    deck.wait("all ended", |it, _| {
        let ended = |name| find(it, name).is_some_and(|it| it.last_exit.is_some());
        ["code", "fault", "signalled", "stubborn"].into_iter().all(ended)
    });

    let exit = |name: &str| {
        let it = deck.instance(name).last_exit.unwrap();
        (it.code, it.signal, it.cause)
    };
    let killed = |signal: &str, cause: &str| (None, Some(signal.to_owned()), cause.to_owned());
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    assert_eq!(exit("code"), (Some(3), None, "by itself with code 3".into()));
    assert_eq!(exit("fault"), killed("SIGSEGV", "by itself (killed by SIGSEGV)"));
    assert_eq!(exit("signalled"), killed("SIGUSR1", &format!("SIGUSR1 by {me}")));
    assert_eq!(exit("stubborn"), killed("SIGKILL", "SIGKILL: max_wait_time was over"));
    assert_eq!(deck.instance("code").state, State::Exited);
    assert_eq!(deck.instance("stubborn").state, State::Stopped);
}

#[test]
fn what_was_stopped_stays_stopped_when_the_configuration_changes() {
    let config = |variable: &str| {
        format!(
            "[defaults]\nstart_seconds = \"100ms\"\ncommand = \"{WORKER}\"\n
             [service.a]\nenvironment = {{ A = \"{variable}\" }}\n[service.b]"
        )
    };
    let mut deck = Deck::start(&config("1"));
    deck.wait_ready(&["a", "b"]);
    deck.ok(&["stop", "a"]);
    let b = deck.pid("b");

    deck.write_config(&config("2"));
    kill(deck.daemon_pid(), Signal::SIGHUP);
    deck.wait_event("configuration applied");
    kill(b, Signal::SIGKILL);
    deck.wait("b replaced", |it, _| {
        find(it, "b").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert_eq!(deck.instance("a").state, State::Stopped);
    assert_eq!(deck.opsdeck(&["status"]).status.code(), Some(0));

    deck.ok(&["start", "a"]);
    deck.wait_ready(&["a"]);
}
