//! Processes that somebody else runs, as the whole fleet sees them.

use std::time::Duration;

use super::fixture::*;
use super::input::{Exit, Input, OutOfMemory, Probe, Status};
use super::rules::{Foreign, Restart, Rung, ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::{Process, Signal};

const NOTHING: [&str; 0] = [];
const ENDED: Exit = Exit { status: Status::Unknown, out_of_memory: OutOfMemory::No };

fn foreign(instances: &[&str], starts: bool, liveness_restarts: bool) -> ServiceRules {
    let foreign = Some(Foreign { starts, liveness_restarts });
    let restart = if liveness_restarts { Restart::Always } else { Restart::Never };
    let mut service = ServiceRules { foreign, restart, ..web(instances) };
    for it in &mut service.instances {
        it.pidfile = Some(format!("/run/{}.pid", it.name).as_str().into());
    }
    service
}

/// Their supervisor has started one.
fn found(rig: &mut Rig, name: &str) -> Vec<String> {
    let generation = rig.sheet(name).generation + 1;
    let process = Process { pid: 4711, start_time: generation };
    let (instance, started) = (name.into(), rig.now);
    rig.input(Input::Found { instance, process, generation, started, note: " (php)".into() })
}

/// It runs and is ready.
fn running(service: ServiceRules) -> Rig {
    let names: Vec<_> = service.instances.iter().map(|it| it.name.to_string()).collect();
    let mut rig = Rig::begun(vec![service]);
    for name in &names {
        found(&mut rig, name);
        rig.probed(name, Probe::Readiness, true);
    }
    rig.diary();
    rig
}

#[test]
fn nothing_is_started_and_what_is_found_is_probed_and_let_in() {
    let mut rig = Rig::begun(vec![foreign(&["web1"], true, false)]);
    assert_eq!((rig.condition("web1"), rig.fleet.next_deadline()), (Condition::Stopped, None));
    let why = "/run/web1.pid does not exist".to_owned();
    rig.input(Input::Missed { instance: "web1".into(), why: why.clone(), is_odd: false });
    assert_eq!((rig.sheet("web1").why, rig.diary()), (why, vec![]));

    assert_eq!(found(&mut rig, "web1"), ["start Readiness web1"]);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(rig.fleet.service_sheet("web").unwrap().engine, "pidfile");
    assert_eq!(
        rig.diary(),
        ["web1 found: found running, pid 4711 (php)", "web1 ready: ready after 0.0s"]
    );
    let why = rig.fleet.why("web1").unwrap();
    assert!(
        why.iter().any(|it| it.starts_with("somebody else runs it, its pid file is /run/web1.pid")),
        "{why:?}"
    );
}

#[test]
fn its_end_is_shown_and_nobody_starts_it_again() {
    let mut rig = running(foreign(&["web1"], true, false));
    assert_eq!(rig.exited("web1", ENDED), ["stop Readiness web1", "out web1", "sweep web1#1"]);
    assert_eq!(rig.swept("web1"), NOTHING);
    rig.later(1000 * SECOND);
    assert_eq!(rig.condition("web1"), Condition::Exited);
    assert!(rig.sheet("web1").why.ends_with("opsdeck does not start it by itself"));
    assert_eq!(rig.sheet("web1").restarts, 0);

    assert_eq!(found(&mut rig, "web1"), ["start Readiness web1"]);
    assert_eq!((rig.condition("web1"), rig.sheet("web1").generation), (Condition::Starting, 2));
}

#[test]
fn another_process_in_its_file_is_the_next_generation() {
    let mut rig = running(foreign(&["web1"], false, false));
    assert_eq!(
        found(&mut rig, "web1"),
        ["stop Readiness web1", "start Readiness web1"],
        "it is out of rotation until it is ready"
    );
    assert!(!rig.sheet("web1").in_rotation);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(rig.sheet("web1").generation, 2);
}

#[test]
fn a_stop_goes_down_the_ladder_and_lasts_until_somebody_starts_it() {
    let mut rig = running(foreign(&["web1"], false, false));
    let effects = rig.tell(stop("web1"));
    assert_eq!(effects, ["remember web1 down", "out web1", "stop Readiness web1", "SIGTERM web1"]);
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);
    rig.gone("web1", ENDED);
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(
        rig.refusal(start("web1")),
        "Refused: web1 was not started: somebody else runs web1, and nothing says how to start it"
    );
    assert_eq!(found(&mut rig, "web1"), ["remember web1 up", "start Readiness web1"]);
    rig.later(1000 * SECOND);
    assert_eq!(rig.condition("web1"), Condition::Running);
}

#[test]
fn a_restart_needs_a_way_to_start_it_and_sigterm_does_not() {
    let mut rig = running(foreign(&["web1", "web2"], false, false));
    for verb in [restart("web1"), roll("web")] {
        assert!(rig.refusal(verb).ends_with("nothing says how to start it"));
    }
    rig.tell(signal("web1", Signal::TERM));
    rig.gone("web1", ENDED);
    assert_eq!(rig.condition("web1"), Condition::Exited, "their supervisor acts");

    let mut rig = running(foreign(&["web1", "web2"], true, false));
    rig.tell(restart("web1"));
    assert_eq!(rig.gone("web1", ENDED), ["sweep web1#1", "spawn web1#2"]);
    assert_eq!(rig.spawn_failed("web1", true), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Fatal, "a start that was ordered is not repeated");
    assert_eq!(rig.tell(start("web1")), ["spawn web1#3"]);
}

#[test]
fn a_rollout_stops_and_starts_one_after_the_other() {
    let mut rig = running(foreign(&["web1", "web2"], true, false));
    rig.tell(roll("web"));
    for name in ["web1", "web2"] {
        rig.load(name, super::input::InFlight::Exact(0));
        assert_eq!(rig.gone(name, ENDED).last().unwrap(), &format!("spawn {name}#2"));
        rig.spawned(name);
        rig.probed(name, Probe::Readiness, true);
        rig.later(3 * SECOND);
    }
    assert_eq!(rollout_sheet(&rig).halted, None);
    assert_eq!(rollout_sheet(&rig).renewed.len(), 2);
}

#[test]
fn a_rollout_waits_for_the_process_that_a_launcher_leaves_behind() {
    let begin = || {
        let mut rig = running(foreign(&["web1", "web2"], true, false));
        rig.tell(roll("web"));
        rig.load("web1", super::input::InFlight::Exact(0));
        assert_eq!(rig.gone("web1", ENDED).last().unwrap(), "spawn web1#2");
        // Its file names the launcher first, which ends.
        rig.spawned("web1");
        rig.gone("web1", ENDED);
        assert_eq!(rollout_sheet(&rig).halted, None);
        rig
    };
    let mut rig = begin();
    found(&mut rig, "web1");
    rig.probed("web1", Probe::Readiness, true);
    rig.later(4 * SECOND);
    assert_eq!((rollout_sheet(&rig).halted, place(&rig)), (None, "stopping web2".to_owned()));

    let mut rig = begin();
    rig.later(rig.sheet("web1").since.since(rig.now) + 120 * SECOND);
    let halted = rollout_sheet(&rig).halted.unwrap();
    assert!(halted.starts_with("web1 was not ready within "), "{halted}");
}

#[test]
fn one_that_has_ended_is_started_once_it_is_our_own() {
    let ended = || {
        let mut rig = running(foreign(&["web1"], true, false));
        rig.gone("web1", ENDED);
        assert_eq!(rig.condition("web1"), Condition::Exited);
        rig
    };
    let mut rig = ended();
    let effects = rig.input(Input::Configured(vec![web(&["web1"])]));
    assert!(effects.contains(&"spawn web1#2".to_owned()), "{effects:?}");
    let mut rig = ended();
    rig.tell(stop("web1"));
    assert_eq!(rig.input(Input::Configured(vec![web(&["web1"])])), NOTHING, "as it was ordered");
}

#[test]
fn why_a_file_names_nobody_is_told_of_one_that_was_stopped_too() {
    let mut rig = running(foreign(&["web1"], false, false));
    rig.tell(stop("web1"));
    rig.gone("web1", ENDED);
    let why = "/run/web1.pid holds no pid, but \"x\"".to_owned();
    rig.input(Input::Missed { instance: "web1".into(), why: why.clone(), is_odd: true });
    let told = rig.fleet.why("web1").unwrap();
    assert!(told[0].starts_with("stopped by alice") && told.contains(&why), "{told:?}");
}

#[test]
fn a_rollout_goes_on_under_the_next_daemon() {
    let service = foreign(&["web1", "web2"], true, false);
    let mut rig = running(service.clone());
    rig.tell(roll("web"));
    assert_eq!(place(&rig), "stopping web1");
    let mut next = rig.replaced(vec![service], &["web2"], &["web1"]);
    next.swept("web1");
    assert_eq!(next.condition("web1"), Condition::Spawning, "{:?}", next.diary());
}

#[test]
fn failing_liveness_is_shown_unless_it_is_to_restart() {
    let ill = |liveness_restarts| {
        let service = foreign(&["web1", "web2"], true, liveness_restarts);
        let mut rig = running(ServiceRules { liveness: Some(ONCE), ..service });
        let effects = rig.probed("web1", Probe::Liveness, false);
        (rig, effects)
    };
    let (mut rig, effects) = ill(false);
    assert_eq!(effects, NOTHING);
    rig.later(100 * SECOND);
    assert_eq!(rig.condition("web1"), Condition::Running);
    let why = rig.fleet.why("web1").unwrap();
    assert!(why.iter().any(|it| it.contains("`liveness_restarts`")), "{why:?}");

    let (mut rig, effects) = ill(true);
    assert!(effects.contains(&"SIGTERM web1".to_owned()), "{effects:?}");
    assert_eq!(rig.gone("web1", ENDED).last().unwrap(), "spawn web1#2");
}

#[test]
fn a_startup_that_fails_is_shown_and_ends_nothing() {
    let startup = Some(Thresholds { success: 1, failure: 1 });
    let service = ServiceRules { startup, ..foreign(&["web1"], true, false) };
    let mut rig = Rig::begun(vec![service]);
    assert_eq!(found(&mut rig, "web1"), ["start Startup web1"]);
    assert_eq!(rig.probed("web1", Probe::Startup, false), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Starting);
}

#[test]
fn it_is_left_running_when_it_is_configured_no_more_and_when_all_is_shut_down() {
    let services = || vec![foreign(&["web1"], true, false), rules("cron", &["cron"])];
    let mut rig = Rig::begun(services());
    rig.bring_up_all();
    found(&mut rig, "web1");
    rig.probed("web1", Probe::Readiness, true);
    rig.diary();

    let disabled = ServiceRules { enabled: false, ..services().remove(0) };
    let effects = rig.input(Input::Configured(vec![disabled, services().remove(1)]));
    assert_eq!(effects, ["stop Readiness web1", "let go web1#1", "out web1"]);
    assert_eq!(rig.diary(), ["web1 left-running: left running, pid 4711"]);
    rig.input(Input::Configured(services()));
    found(&mut rig, "web1");
    assert_eq!(rig.input(Input::Configured(vec![services().remove(1)]))[1], "let go web1#2");
    assert_eq!(rig.fleet.instance_sheet("web1"), None);

    rig.input(Input::Configured(services()));
    found(&mut rig, "web1");
    let effects = rig.tell(super::input::Verb::StopAll);
    assert!(effects.iter().any(|it| it.starts_with("let go web1")), "{effects:?}");
    rig.gone("cron", code(0));
    assert!(rig.fleet.is_at_rest());
}

#[test]
fn what_is_odd_about_a_pid_file_is_an_event_once() {
    let mut rig = Rig::begun(vec![foreign(&["web1"], true, false)]);
    let why = "/run/web1.pid holds no pid, but \"x\"";
    for _ in 0..2 {
        rig.input(Input::Missed { instance: "web1".into(), why: why.into(), is_odd: true });
    }
    assert_eq!(rig.diary(), [format!("web1 not-found: {why}")]);
    assert_eq!(rig.sheet("web1").why, why);
}

#[test]
fn a_command_stops_it_instead_of_a_signal_and_sigterm_where_it_fails() {
    let stop_command = vec![Rung { signal: Signal::COMMAND, wait: None }];
    let service = ServiceRules { stop: stop_command, ..foreign(&["web1"], true, false) };
    let mut rig = running(service);
    let effects = rig.tell(stop("web1"));
    assert_eq!(effects.last().unwrap(), "run stop web1#1");
    let why = rig.sheet("web1").why;
    assert_eq!(why, "stops by alice: the stop command sent");
    let failed = |generation| Input::StopFailed {
        instance: "web1".into(),
        generation,
        why: "`ctl stop` exited with 1: no such unit".into(),
    };
    assert_eq!(rig.input(failed(0)), NOTHING);
    rig.diary();
    assert_eq!(rig.input(failed(1)), ["SIGTERM web1"]);
    assert_eq!(
        rig.diary(),
        ["web1 signal-sent: SIGTERM: `ctl stop` exited with 1: no such unit (alice)"]
    );
    assert_eq!(rig.input(failed(1)), NOTHING);
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);

    let mut rig = running(ServiceRules {
        stop: vec![Rung { signal: Signal::COMMAND, wait: None }],
        ..foreign(&["web1"], true, false)
    });
    let effects = rig.tell(signal("web1", Signal::TERM));
    assert_eq!(effects.last().unwrap(), "SIGTERM web1", "that is what was asked for");
}

#[test]
fn what_waits_to_be_started_again_waits_no_more_where_nothing_can_start_it() {
    let local = ServiceRules { restart: Restart::Always, ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![local]);
    rig.spawn_failed("web1", true);
    assert_eq!(rig.condition("web1"), Condition::Backoff);
    rig.input(Input::Configured(vec![foreign(&["web1"], false, false)]));
    assert_eq!(rig.later(Duration::from_secs(120)), NOTHING);
    assert_eq!((rig.condition("web1"), rig.fleet.next_deadline()), (Condition::Stopped, None));
}

#[test]
fn what_runs_stays_what_it_is_whatever_the_configuration_says_of_the_next_one() {
    let command = vec![Rung { signal: Signal::COMMAND, wait: None }];
    let theirs = || ServiceRules { stop: command.clone(), ..foreign(&["web1"], true, false) };
    let ours = || Rig::ready(vec![web(&["web1"])]).replaced(vec![theirs()], &["web1"], &[]);
    let mut rig = ours();
    let told =
        "web1 engine: runs on as opsdeck's own; it is somebody else's from its next start on";
    assert!(rig.diary().contains(&told.to_owned()));
    assert!(rig.tell(stop("web1")).contains(&"SIGTERM web1".to_owned()), "no command of theirs");
    let mut rig = ours();
    let effects = rig.tell(super::input::Verb::StopAll);
    assert!(effects.contains(&"SIGTERM web1".to_owned()), "{effects:?}");
    let mut rig = ours();
    rig.gone("web1", ENDED);
    assert_eq!(rig.condition("web1"), Condition::Exited, "the next one is theirs");

    let theirs = || running(theirs()).replaced(vec![web(&["web1"])], &["web1"], &[]);
    let mut rig = theirs();
    let told =
        "web1 engine: runs on as somebody else's; it is opsdeck's own from its next start on";
    assert!(rig.diary().contains(&told.to_owned()));
    let effects = rig.tell(super::input::Verb::StopAll);
    assert!(effects.contains(&"let go web1#1".to_owned()), "{effects:?}");
    let mut rig = theirs();
    assert!(rig.gone("web1", ENDED).contains(&"spawn web1#2".to_owned()), "the next one is ours");
}

#[test]
fn a_stop_command_is_run_once_and_what_it_stops_has_until_the_deadline_whichever_daemon_ends() {
    let stop_command = vec![Rung { signal: Signal::COMMAND, wait: None }];
    let service = ServiceRules { stop: stop_command, ..foreign(&["web1"], true, false) };
    let next = |rig: &Rig| rig.replaced(vec![service.clone()], &["web1"], &[]);
    let mut rig = running(service.clone());
    rig.tell(stop("web1"));
    // Its daemon may have died before it was run.
    let unbegun = "await stop web1#1, else run it".to_owned();
    assert!(next(&rig).effects.contains(&unbegun));

    rig.input(Input::StopBegun { instance: "web1".into(), generation: 1 });
    rig.later(4 * SECOND);
    for _ in 0..2 {
        rig = next(&rig);
        assert!(rig.effects.contains(&"await stop web1#1".to_owned()), "{:?}", rig.effects);
        assert!(!rig.effects.contains(&"SIGTERM web1".to_owned()), "it may have ended well");
    }
    assert_eq!(rig.later(5 * SECOND), NOTHING);
    assert_eq!(rig.later(SECOND), ["kill all web1#1"], "the time is that of the stop");
}

#[test]
fn a_stop_command_that_fails_under_the_next_daemon_is_followed_by_one_sigterm() {
    let stop_command = vec![Rung { signal: Signal::COMMAND, wait: None }];
    let service = ServiceRules { stop: stop_command, ..foreign(&["web1"], true, false) };
    let mut rig = running(service.clone());
    rig.tell(stop("web1"));
    let mut rig = rig.replaced(vec![service.clone()], &["web1"], &[]);
    let why = "`ctl stop` exited with 1".to_owned();
    let failed = Input::StopFailed { instance: "web1".into(), generation: 1, why };
    assert_eq!(rig.input(failed), ["SIGTERM web1"]);
    assert!(
        rig.diary().contains(&"web1 signal-sent: SIGTERM: `ctl stop` exited with 1 (alice)".into())
    );
    let third = rig.replaced(vec![service], &["web1"], &[]);
    assert!(!third.effects.contains(&"SIGTERM web1".to_owned()), "a second one would cut");
}

/// A restart of one that has requests in flight has begun.
fn draining() -> Rig {
    let mut rig = running(foreign(&["web1"], true, false));
    rig.load("web1", super::input::InFlight::Exact(3));
    rig.tell(restart("web1"));
    assert_eq!(rig.condition("web1"), Condition::Draining);
    rig.diary();
    rig
}

#[test]
fn what_drains_to_be_restarted_is_left_running_like_what_runs() {
    let mut rig = draining();
    let effects = rig.tell(super::input::Verb::StopAll);
    assert_eq!(effects, ["let go web1#1"]);
    assert_eq!(rig.diary(), ["web1 left-running: left running, pid 4711"]);
    assert!(rig.fleet.is_at_rest());

    let mut rig = draining();
    assert_eq!(rig.input(Input::Configured(vec![])), ["let go web1#1"]);
    assert_eq!(rig.fleet.instance_sheet("web1"), None);

    // An order to stop it stands.
    let mut rig = draining();
    rig.tell(stop("web1"));
    rig.tell(super::input::Verb::StopAll);
    assert_eq!(rig.condition("web1"), Condition::Draining);
    assert_eq!(rig.load("web1", super::input::InFlight::Exact(0)), ["SIGTERM web1"]);
    rig.gone("web1", ENDED);
    assert!(rig.fleet.is_at_rest());
}

#[test]
fn a_signal_that_is_out_cannot_be_taken_back_and_that_is_told_once() {
    let told = "web1 not-left-running: is not left running: SIGTERM was sent already (alice)";
    let disabled = ServiceRules { enabled: false, ..foreign(&["web1"], true, false) };
    let ways: [&dyn Fn(&mut Rig); 3] = [
        &|rig| drop(rig.tell(super::input::Verb::StopAll)),
        &|rig| drop(rig.input(Input::Configured(vec![]))),
        &|rig| drop(rig.input(Input::Configured(vec![disabled.clone()]))),
    ];
    for way in ways {
        let mut rig = draining();
        rig.load("web1", super::input::InFlight::Exact(0));
        assert_eq!(rig.condition("web1"), Condition::Stopping);
        rig.diary();
        way(&mut rig);
        rig.later(SECOND);
        assert_eq!(rig.diary(), [told]);
        let effects = rig.gone("web1", ENDED);
        assert!(effects.iter().all(|it| !it.starts_with("spawn")), "{effects:?}");
    }
}

#[test]
fn a_start_that_was_begun_is_waited_for_by_the_next_daemon_and_not_begun_anew() {
    let service = || foreign(&["web1"], true, false);
    let mut rig = running(service());
    rig.tell(restart("web1"));
    assert_eq!(rig.gone("web1", ENDED).last().unwrap(), "spawn web1#2");
    let next = || rig.replaced(vec![service()], &[], &[]);
    assert!(next().effects.contains(&"await start web1#2".to_owned()), "{:?}", next().effects);
    let mut there = next();
    there.spawned("web1");
    assert_eq!(there.condition("web1"), Condition::Starting);
    let mut missing = next();
    missing.spawn_failed("web1", false);
    assert_eq!(missing.condition("web1"), Condition::Fatal);
    rig.tell(stop("web1"));
    let mut unwanted = rig.replaced(vec![service()], &[], &[]);
    assert!(unwanted.spawned("web1").contains(&"SIGTERM web1".to_owned()), "as it was ordered");
    rig.tell(start("web1"));
    let ours = rig.replaced(vec![web(&["web1"])], &[], &[]);
    assert!(ours.effects.contains(&"spawn web1#3".to_owned()), "{:?}", ours.effects);
}

#[test]
fn what_their_supervisor_starts_meanwhile_is_followed_once_the_last_one_is_gone() {
    let mut rig = draining();
    assert_eq!(found(&mut rig, "web1"), NOTHING);
    rig.load("web1", super::input::InFlight::Exact(0));
    assert_eq!(found(&mut rig, "web1"), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Stopping);
    assert_eq!(rig.gone("web1", ENDED).last().unwrap(), "spawn web1#2");
    assert_eq!(found(&mut rig, "web1"), NOTHING);
    rig.spawned("web1");
    assert_eq!((rig.condition("web1"), rig.sheet("web1").generation), (Condition::Starting, 2));

    let service = ServiceRules { liveness: Some(ONCE), ..foreign(&["web1"], true, true) };
    let mut rig = running(service);
    for _ in 0..2 {
        rig.probed("web1", Probe::Liveness, false);
        rig.gone("web1", ENDED);
        rig.spawned("web1");
    }
    assert_eq!(rig.condition("web1"), Condition::Backoff);
    assert_eq!(found(&mut rig, "web1"), ["start Liveness web1", "start Readiness web1"]);
    rig.later(1000 * SECOND);
    assert_eq!((rig.condition("web1"), rig.sheet("web1").generation), (Condition::Running, 3));
}
