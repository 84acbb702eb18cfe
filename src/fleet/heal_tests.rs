//! Restarts of instances that fail liveness.

use std::time::Duration;

use super::fixture::*;
use super::input::Probe;
use super::rules::{ServiceRules, Thresholds};
use super::sheet::Condition;

const NOTHING: [&str; 0] = [];

fn live(instances: &[&str]) -> ServiceRules {
    ServiceRules { liveness: Some(Thresholds { success: 1, failure: 2 }), ..web(instances) }
}

fn fail_liveness(rig: &mut Rig, name: &str) -> Vec<String> {
    let mut effects = rig.probed(name, Probe::Liveness, false);
    effects.extend(rig.probed(name, Probe::Liveness, false));
    effects
}

#[test]
fn failing_liveness_restarts_through_the_ladder() {
    let mut rig = Rig::ready(vec![live(&["web1", "web2"])]);
    assert_eq!(rig.probed("web1", Probe::Liveness, false), NOTHING);
    assert_eq!(
        rig.probed("web1", Probe::Liveness, false),
        ["out web1", "stop Liveness web1", "stop Readiness web1", "SIGTERM web1"]
    );
    assert_eq!(
        rig.diary(),
        [
            "web1 live-failed: restarts, liveness fails: 503",
            "web1 draining: out of rotation",
            "web1 signal-sent: SIGTERM because liveness failed",
        ]
    );
    assert_eq!(rig.sheet("web1").why, "restarts because liveness failed: SIGTERM sent");
    assert_eq!(rig.gone("web1", code(0)), ["sweep web1#1", "spawn web1#2"]);
    assert_eq!(rig.sheet("web1").restarts, 1);
    rig.come_up("web1");
    fail_liveness(&mut rig, "web1");
    rig.gone("web1", code(0));
    assert_eq!(rig.condition("web1"), Condition::Backoff, "with the backoff of a crash");
}

#[test]
fn one_instance_of_a_service_is_restarted_at_a_time() {
    let mut rig = Rig::ready(vec![live(&["web1", "web2", "web3"])]);
    for name in ["web1", "web2", "web3"] {
        rig.probed(name, Probe::Readiness, false);
    }
    assert_eq!(fail_liveness(&mut rig, "web1").last().unwrap(), "SIGTERM web1");
    assert_eq!(fail_liveness(&mut rig, "web2"), NOTHING);
    rig.diary();
    assert_eq!(fail_liveness(&mut rig, "web3"), NOTHING);
    assert_eq!(
        rig.diary(),
        [
            "web live-failed: all 3 instances fail liveness: the cause is probably something they share"
        ]
    );
    rig.probed("web3", Probe::Liveness, false);
    assert_eq!(rig.diary(), NOTHING, "told once");
    rig.gone("web1", code(0));
    assert_eq!(rig.spawned("web1"), ["start Liveness web1", "start Readiness web1"]);
    assert_eq!(
        rig.probed("web1", Probe::Readiness, true),
        ["admit web1", "stop Liveness web2", "stop Readiness web2", "SIGTERM web2"]
    );
}

#[test]
fn one_that_does_not_recover_does_not_keep_the_others_waiting_for_ever() {
    let mut rig = Rig::ready(vec![live(&["web1", "web2"])]);
    for name in ["web1", "web2"] {
        rig.probed(name, Probe::Readiness, false);
    }
    fail_liveness(&mut rig, "web1");
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.later(59 * SECOND);
    assert_eq!(fail_liveness(&mut rig, "web2"), NOTHING);
    rig.later(SECOND);
    assert_eq!(rig.probed("web2", Probe::Liveness, false).last().unwrap(), "SIGTERM web2");
}

#[test]
fn a_restart_for_liveness_waits_while_it_cannot_be_spared() {
    let mut rig = Rig::ready(vec![live(&["web1", "web2"])]);
    rig.probed("web2", Probe::Readiness, false);
    assert_eq!(fail_liveness(&mut rig, "web1"), NOTHING, "it still serves");
    assert!(
        rig.fleet.why("web1").unwrap().contains(
            &"its restart waits: another one restarts, or it cannot be spared".to_owned()
        )
    );
    assert_eq!(
        rig.probed("web2", Probe::Readiness, true),
        ["admit web2", "out web1", "stop Liveness web1", "stop Readiness web1", "SIGTERM web1"]
    );
    // The only instance is restarted all the same, whatever min_ready says.
    let mut single = live(&["web1"]);
    single.rollout.min_ready = Some(1);
    let mut rig = Rig::ready(vec![single]);
    assert_eq!(fail_liveness(&mut rig, "web1").last().unwrap(), "SIGTERM web1");
    assert_eq!(rig.diary()[0], "web1 live-failed: restarts, liveness fails: 503");
}

#[test]
fn a_restart_for_liveness_waits_for_the_step_of_a_rollout() {
    let mut service = live(&["web1", "web2"]);
    service.rollout.settle = Duration::ZERO;
    let mut rig = Rig::ready(vec![service]);
    rig.probed("web2", Probe::Readiness, false);
    rig.tell(roll("web"));
    assert_eq!(rig.condition("web2"), Condition::Stopping);
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(fail_liveness(&mut rig, "web1"), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Running);
}

#[test]
fn one_that_passes_again_is_not_restarted() {
    let mut rig = Rig::ready(vec![live(&["web1", "web2"])]);
    rig.probed("web2", Probe::Readiness, false);
    fail_liveness(&mut rig, "web1");
    rig.probed("web1", Probe::Liveness, true);
    assert_eq!(rig.probed("web2", Probe::Readiness, true), ["admit web2"]);
}
