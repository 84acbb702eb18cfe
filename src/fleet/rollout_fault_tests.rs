//! Rolling restarts on a host that misbehaves.

use std::time::Duration;

use super::fixture::*;
use super::input::Probe;
use super::rules::{ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::Signal;

const NOTHING: [&str; 0] = [];

#[test]
fn one_that_no_sigkill_ends_halts_the_rollout() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);
    rig.later(59 * SECOND);
    assert_eq!(place(&rig), "stopping web1");
    rig.later(SECOND);
    let why = "web1 is still there 1m00s after SIGKILL";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(rig.condition("web2"), Condition::Running);

    assert_eq!(rig.later(5 * SECOND), ["kill all web1#1"], "it is killed on all the same");
    rig.gone("web1", killed_by(Signal::KILL));
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING, "ready, but not believed");
}

#[test]
fn one_whose_remains_no_sigkill_ends_halts_the_rollout() {
    let mut rig = Rig::ready(vec![with(|it| it.ready_timeout = Duration::ZERO)]);
    rig.tell(roll("web"));
    assert_eq!(rig.exited("web1", code(0)), ["sweep web1#1"]);
    rig.later(4 * SECOND);
    assert_eq!(place(&rig), "stopping web1", "SIGKILL may take a moment whatever is configured");
    rig.later(SECOND);
    let why = "web1 is still there 5s after SIGKILL";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
}

#[test]
fn one_that_did_not_settle_stays_in_rotation_if_nobody_else_serves() {
    let liveness = Some(Thresholds { success: 1, failure: 5 });
    let mut rig = Rig::ready(vec![ServiceRules { liveness, ..web(&["web1", "web2"]) }]);
    rig.probed("web1", Probe::Readiness, false);
    rig.probed("web2", Probe::Readiness, false);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    assert_eq!(rig.probed("web1", Probe::Liveness, false), NOTHING);
    let why =
        "web1 did not settle: liveness fails: 503; it stays in rotation: too few others serve";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert!(rig.sheet("web1").in_rotation);
}

#[test]
fn the_one_that_is_built_waits_for_a_liveness_restart_of_another() {
    let mut service = with(|it| it.build = 1);
    service.instances.push(instance("web3"));
    service.rollout.min_ready = Some(1);
    service.liveness = Some(ONCE);
    let mut rig = Rig::ready(vec![service]);
    rig.tell(roll("web"));
    assert_eq!(rig.probed("web2", Probe::Liveness, false).last().unwrap(), "SIGTERM web2");
    assert_eq!(rig.ran("web1", 0, Ok(())), NOTHING);
    assert_eq!(place(&rig), "waiting web1");
    assert_eq!(renew(&mut rig, "web2").last().unwrap(), "SIGTERM web1");
}
