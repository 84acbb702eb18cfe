//! Rolling restarts, as an operator sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fixture::*;
use super::input::{InFlight, Input, Probe, Verb};
use super::rules::{InstanceRules, ServiceRules};
use super::sheet::{Condition, Plan, PlanStep};
use super::words::{Name, Signal};

const NOTHING: [&str; 0] = [];

#[test]
fn a_rollout_renews_instance_by_instance() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.load("web1", InFlight::Exact(2));
    let (answer, effects) = rig.ask(roll("web"));
    assert_eq!(answer.as_deref(), Ok("the rolling restart of web has begun, 2 to renew"));
    assert_eq!(effects, ["out web1", "stop Readiness web1"]);
    assert_eq!(place(&rig), "draining web1");
    assert_eq!(rig.load("web1", InFlight::Exact(0)), ["SIGTERM web1"]);
    assert_eq!(place(&rig), "stopping web1");
    assert_eq!(rig.exited("web1", code(0)), ["sweep web1#1"]);
    assert_eq!(place(&rig), "stopping web1");
    assert_eq!(rig.swept("web1"), ["spawn web1#2"]);
    assert_eq!(place(&rig), "starting web1");
    assert_eq!(rig.spawned("web1"), ["start Readiness web1"]);
    assert_eq!(place(&rig), "readiness web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(place(&rig), "settle web1");
    assert_eq!(rig.later(Duration::from_millis(2999)), NOTHING);
    assert_eq!(
        rig.later(Duration::from_millis(1)),
        ["out web2", "stop Readiness web2", "SIGTERM web2"]
    );
    let running = rollout_sheet(&rig);
    assert_eq!((running.renewed, running.of, running.ended), (vec![Name::from("web1")], 2, None));
    renew(&mut rig, "web2");
    rig.later(2 * SECOND);
    rig.fleet.take_changed();
    rig.probed("web2", Probe::Readiness, true);
    assert_eq!(rig.fleet.take_changed().len(), 0, "nothing has moved");
    rig.later(SECOND);
    assert_eq!(rig.fleet.take_changed().len(), 1);
    let done = rollout_sheet(&rig);
    assert_eq!((done.step, done.instance, done.ended), ("done", None, Some(rig.now)));
    assert_eq!(done.renewed, ["web1".into(), "web2".into()]);
    assert_eq!(rig.fleet.next_deadline(), None);
    let diary = rig.diary();
    let told: Vec<&str> =
        diary.iter().filter(|it| it.contains("rollout")).map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "web rollout-started: rolling restart of web (alice)",
            "web rollout-step: renews web1, 1 of 2 (alice)",
            "web rollout-step: web1 is back, it settles for 3s (alice)",
            "web rollout-step: web1 is renewed after 3.0s (alice)",
            "web rollout-step: renews web2, 2 of 2 (alice)",
            "web rollout-step: web2 is back, it settles for 3s (alice)",
            "web rollout-step: web2 is renewed after 3.0s (alice)",
            "web rollout-finished: rolling restart of web finished after 6s, 2 of 2 renewed (alice)",
        ]
    );
    assert_eq!([rig.sheet("web1").restarts, rig.sheet("web2").restarts], [0, 0]);
}

#[test]
fn readiness_has_to_pass_so_often_in_a_row() {
    let mut rig = Rig::ready(vec![with(|it| it.successes = 3)]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    for ok in [true, true, false, true, true] {
        assert_eq!(rig.probed("web1", Probe::Readiness, ok), NOTHING, "not in rotation yet");
        assert_eq!(place(&rig), "readiness web1");
    }
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(place(&rig), "settle web1");
}

#[test]
fn without_a_readiness_probe_start_seconds_count() {
    let mut service = rules("web", &["web1", "web2"]);
    service.start_seconds = 4 * SECOND;
    service.rollout.settle = Duration::ZERO;
    let mut rig = Rig::ready(vec![service]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    assert_eq!(rig.later(Duration::from_millis(3999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["admit web1", "out web2", "SIGTERM web2"]);
}

#[test]
fn not_ready_ones_come_first_then_backups() {
    let mut service = web(&["web1", "web2", "web3"]);
    service.instances[1].backup = true;
    service.rollout.settle = Duration::ZERO;
    let mut rig = Rig::ready(vec![service]);
    rig.probed("web3", Probe::Readiness, false);
    let plan = rig.fleet.plan("web").unwrap();
    let step =
        |instance: &str, because, ready| PlanStep { instance: instance.into(), because, ready };
    let steps = vec![
        step("web3", "not ready", false),
        step("web2", "backup", true),
        step("web1", "primary", true),
    ];
    let expected = Plan { min_ready: 2, steps, downtime: None, blocked: None };
    assert_eq!(plan, expected);
    rig.tell(roll("web"));
    assert_eq!(place(&rig), "stopping web3");
    renew(&mut rig, "web3");
    assert_eq!(place(&rig), "stopping web2");
    renew(&mut rig, "web2");
    assert_eq!(place(&rig), "stopping web1");
}

#[test]
fn builds_run_before_the_instance_is_touched() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 2)]);
    assert_eq!(rig.tell(roll("web")), ["build 0 web1"]);
    assert_eq!(place(&rig), "build web1");
    assert_eq!(rig.ran("web1", 1, Ok(())), NOTHING, "not the one that runs");
    assert_eq!(rig.ran("web2", 0, Ok(())), NOTHING, "not the one that runs");
    assert_eq!(rig.ran("web1", 0, Ok(())), ["build 1 web1"]);
    assert_eq!(rig.condition("web1"), Condition::Running);
    assert_eq!(rig.ran("web1", 1, Ok(())), ["out web1", "stop Readiness web1", "SIGTERM web1"]);
    renew(&mut rig, "web1");
    assert_eq!(rig.later(3 * SECOND), ["build 0 web2"]);
    let diary = rig.diary();
    assert_eq!(diary[1], "web rollout-step: build 1 of 2 for web1 (alice)");
    assert_eq!(diary[2], "web rollout-step: build 2 of 2 for web1 (alice)");
}

#[test]
fn a_failing_build_halts_before_the_instance_is_touched() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.diary();
    assert_eq!(rig.ran("web1", 0, Err("exit code 2")), NOTHING);
    assert_eq!(rig.sheet("web1").ready, Some(true));
    assert!(rig.sheet("web1").in_rotation);
    let why = "build 1 of 1 for web1 failed: exit code 2; web1 was not touched";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(place(&rig), "halted");
    assert_eq!(
        rig.diary(),
        [format!(
            "web1 rollout-halted: rolling restart of web halted, 0 of 2 renewed: {why} (alice) [evidence]"
        )]
    );
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn what_was_given_with_set_is_handed_on_before_the_first_command() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    let set = BTreeMap::from([("version".to_owned(), "43".to_owned())]);
    let effects = rig.tell(Verb::Roll { service: "web".into(), set });
    assert_eq!(effects, [r#"set web {"version": "43"}"#, "build 0 web1"]);
}

#[test]
fn one_that_crashes_halts_the_rollout_and_stays_out_of_rotation() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.diary();
    let effects = rig.gone("web1", code(3));
    assert_eq!(effects, ["stop Readiness web1", "sweep web1#2", "spawn web1#3"]);
    let why = "web1 did not come back well: ended by itself with code 3";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(place(&rig), "halted web1");
    assert_eq!(rig.condition("web2"), Condition::Running);
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING, "ready, but not believed");
    assert_eq!(rig.sheet("web1").why, "ready, out of rotation");
    assert_eq!(rig.tell(Verb::Undrain("web1".into())), ["admit web1"]);
}

#[test]
fn one_that_cannot_be_started_halts_the_rollout() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawn_failed("web1", false);
    let why = "web1 did not come back well: could not execute /srv/web";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
}

#[test]
fn one_that_fails_startup_halts_the_rollout() {
    let service = ServiceRules { startup: Some(ONCE), ..web(&["web1", "web2"]) };
    let mut rig = Rig::begun(vec![service]);
    for name in ["web1", "web2"] {
        rig.spawned(name);
        rig.probed(name, Probe::Startup, true);
        rig.probed(name, Probe::Readiness, true);
    }
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.probed("web1", Probe::Startup, false);
    let why = "web1 did not come back well: it is restarted because startup failed";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
}

#[test]
fn one_that_is_never_ready_halts_the_rollout_in_time() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.later(5 * SECOND);
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(rig.later(Duration::from_millis(59_999)), NOTHING);
    assert_eq!(place(&rig), "readiness web1");
    rig.later(Duration::from_millis(1));
    let why = "web1 was not ready within 1m00s: readiness fails: 503";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn one_that_does_not_settle_halts_the_rollout() {
    let mut service = web(&["web1", "web2"]);
    service.liveness = Some(super::rules::Thresholds { success: 1, failure: 5 });
    for (probe, complaint) in
        [(Probe::Readiness, "readiness fails: 503"), (Probe::Liveness, "liveness fails: 503")]
    {
        let mut rig = Rig::ready(vec![service.clone()]);
        rig.tell(roll("web"));
        renew(&mut rig, "web1");
        rig.later(2 * SECOND);
        assert_eq!(rig.probed("web1", probe, false), ["out web1"]);
        let why = format!("web1 did not settle: {complaint}");
        assert_eq!(rollout_sheet(&rig).halted, Some(why));
    }
    let mut rig = Rig::ready(vec![service]);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    rig.exited("web1", killed_by(Signal(11)));
    let why = "web1 did not settle: ended by itself (killed by SIGSEGV)";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
}

#[test]
fn a_liveness_check_that_came_before_the_server_listened_does_not_unsettle_it() {
    let mut service = web(&["web1", "web2"]);
    service.liveness = Some(super::rules::Thresholds { success: 1, failure: 3 });
    let mut rig = Rig::ready(vec![service]);
    rig.tell(roll("web"));
    rig.exited("web1", code(0));
    rig.swept("web1");
    rig.spawned("web1");
    rig.probed("web1", Probe::Liveness, false);
    rig.later(SECOND);
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(place(&rig), "settle web1");
    rig.later(5 * SECOND);
    assert_eq!(rollout_sheet(&rig).halted, None);
}

#[test]
fn a_renewed_one_that_goes_wrong_later_halts_the_rollout() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.ran("web1", 0, Ok(()));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    rig.gone("web1", code(1));
    rig.come_up("web1");
    rig.ran("web2", 0, Ok(()));
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some("web1 went wrong after it was renewed"));
    assert_eq!(rig.condition("web2"), Condition::Running);
}

#[test]
fn it_waits_while_it_cannot_spare_one_and_halts_in_the_end() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.probed("web2", Probe::Readiness, false);
    assert_eq!(rig.ran("web1", 0, Ok(())), NOTHING);
    assert_eq!(place(&rig), "waiting web1");
    assert_eq!(rig.later(Duration::from_millis(59_999)), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Running);
    let mut patient = rig;
    assert_eq!(
        patient.probed("web2", Probe::Readiness, true),
        ["admit web2", "out web1", "stop Readiness web1", "SIGTERM web1"]
    );

    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.probed("web2", Probe::Readiness, false);
    rig.ran("web1", 0, Ok(()));
    rig.later(60 * SECOND);
    let why = "waited 1m00s in vain: web1 cannot be spared (min_ready 1): web2 is not ready";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
}

#[test]
fn a_held_instance_is_renewed_and_stays_out_of_rotation() {
    let mut service = web(&["web1", "web2", "web3"]);
    service.rollout.min_ready = Some(1);
    service.rollout.settle = Duration::ZERO;
    let mut rig = Rig::ready(vec![service]);
    rig.tell(Verb::Drain("web2".into()));
    rig.tell(roll("web"));
    assert_eq!(place(&rig), "stopping web2", "it serves nobody, so it goes first");
    let effects = renew(&mut rig, "web2");
    assert!(!effects.contains(&"admit web2".to_owned()), "{effects:?}");
    assert_eq!(place(&rig), "stopping web1");
}

#[test]
fn an_instance_that_is_wanted_down_is_left_alone() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2", "web3"])]);
    rig.tell(stop("web2"));
    rig.gone("web2", code(0));
    let plan = rig.fleet.plan("web").unwrap();
    assert_eq!((plan.min_ready, plan.steps.len()), (1, 2));
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    renew(&mut rig, "web3");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "done");
    assert_eq!(rig.condition("web2"), Condition::Stopped);
}

#[test]
fn one_that_is_stopped_meanwhile_is_skipped() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2", "web3"])]);
    rig.tell(roll("web"));
    let effects = rig.tell(stop("web1"));
    assert_eq!(effects[0], "remember web1 down");
    assert_eq!(place(&rig), "stopping web2", "web3 is enough of the two that are left");
    rig.gone("web1", code(0));
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.tell(start("web1")), ["remember web1 up", "spawn web1#2"]);
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
}

#[test]
fn one_that_is_removed_while_it_is_built_is_skipped() {
    let service = with(|it| it.build = 1);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(roll("web"));
    let mut smaller = service;
    smaller.instances.remove(0);
    smaller.rollout.min_ready = Some(0);
    let effects = rig.input(Input::Configured(vec![smaller]));
    assert!(effects.contains(&"cancel web1".to_owned()), "{effects:?}");
    assert!(effects.contains(&"build 0 web2".to_owned()), "{effects:?}");
}

#[test]
fn a_rollout_of_nothing_ends() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    let disabled = ServiceRules { enabled: false, ..web(&["web1", "web2"]) };
    rig.input(Input::Configured(vec![disabled]));
    assert_eq!(place(&rig), "aborted");
}

#[test]
fn a_restart_by_hand_in_the_middle_is_waited_for() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    assert_eq!(place(&rig), "settle web1");
    rig.tell(restart("web1"));
    assert_eq!(place(&rig), "stopping web1");
    assert_eq!(renew(&mut rig, "web1"), ["admit web1"]);
    assert_eq!(place(&rig), "settle web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web2");
}

#[test]
fn one_that_stands_still_is_started_by_its_step() {
    let mut service = web(&["web1", "web2"]);
    service.retries = Some(0);
    let mut rig = Rig::ready(vec![service]);
    rig.gone("web1", code(1));
    assert_eq!(rig.condition("web1"), Condition::Fatal);
    assert_eq!(rig.tell(roll("web")), ["spawn web1#2"]);
    assert_eq!(place(&rig), "starting web1");
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
}

#[test]
fn crashes_count_from_anew_after_a_step() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.gone("web1", code(1));
    rig.spawned("web1");
    rig.gone("web1", code(1));
    assert_eq!(rig.condition("web1"), Condition::Backoff);
    rig.tell(roll("web"));
    rig.spawned("web1");
    assert_eq!(rig.gone("web1", code(1)).last().unwrap(), "spawn web1#4");
}

#[test]
fn new_rules_hold_for_a_rollout_that_waits() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.probed("web2", Probe::Readiness, false);
    rig.ran("web1", 0, Ok(()));
    assert_eq!(place(&rig), "waiting web1");
    let effects = rig.input(Input::Configured(vec![with(|it| it.min_ready = Some(0))]));
    assert_eq!(effects, ["out web1", "stop Readiness web1", "SIGTERM web1"]);
}

#[test]
fn stale_instances_are_fresh_after_a_rollout() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let mut changed = web(&["web1", "web2"]);
    for it in &mut changed.instances {
        *it = InstanceRules { fingerprint: 2, ..it.clone() };
    }
    assert_eq!(rig.input(Input::Configured(vec![changed])), NOTHING);
    let stale = |rig: &Rig| ["web1", "web2"].map(|it| rig.sheet(it).stale);
    assert_eq!(stale(&rig), [true, true]);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    assert_eq!(stale(&rig), [false, true]);
    assert!(rig.fleet.service_sheet("web").unwrap().stale);
    assert_eq!(rig.diary()[0], "web1 stale: runs an older configuration until its next start");
}

#[test]
fn a_gateway_that_cannot_let_go_halts_the_rollout_and_the_instance_runs_on() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    rig.tell(roll("web"));
    let why = "nginx says no".to_owned();
    let effects = rig.input(Input::NotTakenOut { instance: "web1".into(), why });
    assert_eq!(effects, ["admit web1", "start Readiness web1"]);
    assert_eq!(rig.condition("web1"), Condition::Running);
    let halted = rollout_sheet(&rig).halted;
    let expected = "web1 could not be taken out of rotation: nginx says no; it runs on";
    assert_eq!(halted.as_deref(), Some(expected));
    assert_eq!(rig.later(100 * SECOND), NOTHING);
}

#[test]
fn a_gateway_that_lets_go_too_late_to_turn_back_halts_nothing() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.load("web1", InFlight::Exact(0));
    assert!(rig.tell(roll("web")).contains(&"SIGTERM web1".to_owned()));
    let why = "nginx says no".to_owned();
    assert_eq!(rig.input(Input::NotTakenOut { instance: "web1".into(), why }), NOTHING);
    assert_eq!(rollout_sheet(&rig).halted, None);
}
