//! What comes in the middle of something else.

use super::fixture::*;
use super::input::{Exit, InFlight, Input, OutOfMemory, Probe, SpawnFailure, Status, Verb};
use super::rules::{Rung, ServiceRules};
use super::sheet::Condition;
use super::words::{Process, Signal};

const NOTHING: [&str; 0] = [];

#[test]
fn a_measurement_between_two_rungs_does_not_hurry_the_ladder() {
    let mut service = web(&["web1"]);
    service.stop = vec![
        Rung { signal: Signal::QUIT, wait: Some(4 * SECOND) },
        Rung { signal: Signal::TERM, wait: None },
    ];
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.tell(stop("web1")).last().unwrap(), "SIGQUIT web1");
    rig.later(2 * SECOND);
    assert_eq!(rig.load("web1", InFlight::Exact(3)), NOTHING);
    assert_eq!(rig.later(2 * SECOND), ["SIGTERM web1"]);
}

#[test]
fn a_stop_takes_the_place_of_a_restart_that_has_sent_nothing_yet() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(restart("web1"));
    rig.ask_as("bob", stop("web1")).0.unwrap();
    let why = "stops by bob: finishing what is in flight, no signal yet";
    assert_eq!(rig.sheet("web1").why, why);
    rig.diary();
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.diary(), ["web1 signal-sent: SIGTERM (bob)"]);
}

#[test]
fn a_failed_start_of_an_earlier_generation_is_no_news() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.gone("web1", code(1));
    let failure = SpawnFailure { reason: "could not execute /srv/web".into(), passing: true };
    let late = Input::SpawnFailed { instance: "web1".into(), generation: 1, failure };
    assert_eq!(rig.input(late), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Spawning);
}

#[test]
fn a_restart_begins_again_at_once_after_giving_up() {
    let mut rig = Rig::ready(vec![ServiceRules { retries: Some(0), ..web(&["web1"]) }]);
    rig.gone("web1", code(1));
    assert_eq!(rig.condition("web1"), Condition::Fatal);
    assert_eq!(rig.tell(restart("web1")), ["spawn web1#2"]);
}

#[test]
fn a_restart_forgives_what_a_halted_rollout_keeps_out() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.gone("web1", code(3));
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING, "halted");
    rig.tell(restart("web1"));
    assert_eq!(renew(&mut rig, "web1"), ["admit web1"]);
}

#[test]
fn a_restart_in_a_step_of_a_rollout_has_to_prove_itself_like_any_other() {
    let mut rig = Rig::ready(vec![with(|it| it.successes = 2)]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.tell(restart("web1"));
    assert_eq!(renew(&mut rig, "web1"), NOTHING);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
}

#[test]
fn a_rollback_takes_back_what_has_got_no_signal_yet() {
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.load("web2", InFlight::Exact(1));
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "draining web2");
    let effects = rig.tell(Verb::RollBack("web".into()));
    assert_eq!(effects, ["start Readiness web2", "admit web2", "roll back 0 web1"]);
}

#[test]
fn a_rollback_keeps_out_what_has_got_its_signal() {
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web2");
    rig.tell(Verb::RollBack("web".into()));
    rig.gone("web2", code(0));
    rig.spawned("web2");
    assert_eq!(rig.probed("web2", Probe::Readiness, true), NOTHING);
}

#[test]
fn a_reload_does_not_excuse_an_exit_that_nobody_could_read_and_another_signal_does() {
    let cause = |sent| {
        let mut service = web(&["web1"]);
        service.profile = swoole_profile().into();
        let mut rig = Rig::ready(vec![service]);
        rig.tell(signal("web1", sent));
        rig.exited("web1", Exit { status: Status::Unknown, out_of_memory: OutOfMemory::No });
        rig.sheet("web1").last_exit.unwrap().cause
    };
    assert_eq!(cause(Signal::HUP), "SIGHUP by alice");
    assert_eq!(cause(Signal::USR1), "by itself, with a status that nobody could read");
}

#[test]
fn only_what_may_serve_is_asked_about() {
    let mut rig = Rig::begun(vec![web(&["web1", "web2"])]);
    rig.spawned("web1");
    assert_eq!(rig.question(restart("web1")), None, "started, and not probed yet");
    rig.bring_up_all();
    for name in ["web1", "web2"] {
        rig.probed(name, Probe::Readiness, false);
    }
    assert_eq!(rig.question(restart("web1")), None, "not ready");
}

/// `web1` runs since before the daemon did.
fn with_adopted(service: ServiceRules) -> Rig {
    let mut rig = Rig::configured(vec![service]);
    rig.input(Input::Adopted {
        instance: "web1".into(),
        process: Process { pid: 77, start_time: 8 },
        generation: 5,
        started: at(40),
        fingerprint: 1,
        foreign: false,
    });
    rig
}

#[test]
fn what_ran_before_the_daemon_does_not_start_up_again() {
    let mut rig = with_adopted(ServiceRules { startup: Some(ONCE), ..web(&["web1"]) });
    assert_eq!(rig.input(Input::Begin), ["start Readiness web1"]);
}

#[test]
fn what_ran_before_the_daemon_waits_for_the_gateway_like_any_other() {
    let mut rig = with_adopted(web(&["web1"]));
    rig.input(Input::Begin);
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.tell(stop("web1"))[1..], ["out web1", "stop Readiness web1"]);
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
}
