//! Rolling restarts with a spare.

use super::fixture::*;
use super::input::{Input, Probe, Verb};
use super::rules::ServiceRules;
use super::sheet::Condition;

/// A service whose rollouts have a spare.
fn surge(instances: &[&str]) -> ServiceRules {
    let mut service = web(instances);
    service.rollout.spare = Some("web-surge".into());
    service
}

fn names(rig: &Rig) -> Vec<String> {
    let sheet = rig.fleet.service_sheet("web").unwrap();
    sheet.instances.iter().map(|it| it.name.to_string()).collect()
}

/// Rolls until the spare has settled.
fn stand_by(rig: &mut Rig) {
    rig.tell(roll("web"));
    rig.come_up("web-surge");
    rig.later(3 * SECOND);
}

#[test]
fn one_instance_is_renewed_while_its_spare_serves() {
    let mut rig = Rig::ready(vec![surge(&["web1"])]);
    assert_eq!(rig.question(roll("web")), None, "no downtime, no question");
    assert_eq!(place(&rig), "starting web-surge");
    assert_eq!(rig.condition("web1"), Condition::Running);
    let effects = rig.come_up("web-surge");
    assert!(effects.contains(&"admit web-surge".to_owned()), "{effects:?}");
    assert_eq!(place(&rig), "settle web-surge");
    let sheet = rig.fleet.service_sheet("web").unwrap();
    assert_eq!((sheet.ready, sheet.wanted), (1, 1), "a spare does not count");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web1");
    renew(&mut rig, "web1");
    let effects = rig.later(3 * SECOND);
    assert_eq!(effects, ["out web-surge", "stop Readiness web-surge", "SIGTERM web-surge"]);
    assert_eq!(place(&rig), "stopping web-surge");
    rig.gone("web-surge", code(0));
    assert_eq!((place(&rig).as_str(), names(&rig)), ("done", vec!["web1".to_owned()]));
    assert_eq!(rollout_sheet(&rig).renewed, ["web1".into()]);
    let diary = rig.diary();
    assert!(
        diary
            .contains(&"web-surge signal-sent: SIGTERM because the others serve without it".into()),
        "{diary:#?}"
    );
    rig.tell(roll("web"));
    assert_eq!(rig.sheet("web-surge").generation, 2, "of that name there was one before");
}

#[test]
fn the_plan_names_the_spare_and_no_downtime() {
    let rig = Rig::ready(vec![surge(&["web1"])]);
    let plan = rig.fleet.plan("web").unwrap();
    let steps: Vec<(&str, &str)> =
        plan.steps.iter().map(|it| (it.instance.as_str(), it.because)).collect();
    assert_eq!(steps, [("web-surge", "spare"), ("web1", "primary")]);
    assert_eq!((plan.downtime, plan.blocked, plan.min_ready), (None, None, 1));
    let alone = ServiceRules { fronted: false, ..surge(&["web1"]) };
    let plan = Rig::ready(vec![alone]).fleet.plan("web").unwrap();
    assert_eq!((plan.steps.len(), plan.downtime.is_some()), (1, true));
}

#[test]
fn a_spare_that_is_never_ready_halts_before_anything_is_touched() {
    let mut rig = Rig::ready(vec![surge(&["web1"])]);
    rig.tell(roll("web"));
    rig.spawned("web-surge");
    rig.probed("web-surge", Probe::Readiness, false);
    rig.later(60 * SECOND);
    let why = "web-surge was not ready within 1m00s: readiness fails: 503; no instance was touched";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(rig.condition("web-surge"), Condition::Stopping, "nobody needs it");
    assert_eq!((rig.condition("web1"), rig.sheet("web1").generation), (Condition::Running, 1));
    rig.gone("web-surge", code(0));
    assert_eq!(names(&rig), ["web1"]);
}

#[test]
fn a_halt_leaves_a_spare_that_serves_until_the_others_do() {
    let mut rig = Rig::ready(vec![surge(&["web1"])]);
    stand_by(&mut rig);
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.later(60 * SECOND);
    assert!(rollout_sheet(&rig).halted.is_some());
    assert_eq!(rig.condition("web-surge"), Condition::Running, "nobody else serves");
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(rig.condition("web-surge"), Condition::Running, "web1 is not believed");
    rig.tell(Verb::Undrain("web1".into()));
    assert_eq!(rig.condition("web-surge"), Condition::Stopping);
}

#[test]
fn a_spare_that_was_left_serves_in_the_next_rollout() {
    let mut rig = Rig::ready(vec![surge(&["web1"])]);
    stand_by(&mut rig);
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.later(60 * SECOND);
    rig.tell(roll("web"));
    assert_eq!(place(&rig), "stopping web1", "it serves nobody, so it goes first");
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web-surge");
    rig.gone("web-surge", code(0));
    assert_eq!(place(&rig), "done");
}

#[test]
fn an_abort_ends_the_spare_too() {
    for settled in [false, true] {
        let mut rig = Rig::ready(vec![surge(&["web1", "web2"])]);
        rig.tell(roll("web"));
        rig.come_up("web-surge");
        if settled {
            rig.later(3 * SECOND);
            renew(&mut rig, "web1");
        }
        rig.tell(Verb::Abort("web".into()));
        rig.later(3 * SECOND);
        assert_eq!(rig.condition("web-surge"), Condition::Stopping, "{}", place(&rig));
        assert_eq!(rollout_sheet(&rig).step, "aborted");
        assert_eq!(rig.sheet("web2").generation, 1);
        rig.gone("web-surge", code(0));
        assert_eq!(names(&rig), ["web1", "web2"]);
    }
}

#[test]
fn nobody_is_renewed_without_the_spare_that_somebody_stopped() {
    let mut rig = Rig::ready(vec![surge(&["web1", "web2"])]);
    stand_by(&mut rig);
    renew(&mut rig, "web1");
    rig.tell(stop("web-surge"));
    rig.later(3 * SECOND);
    let why = "web-surge, the spare, does not stand by any more";
    assert_eq!(rollout_sheet(&rig).halted.as_deref(), Some(why));
    assert_eq!(rig.sheet("web2").generation, 1);
    rig.gone("web-surge", code(0));
    assert_eq!(names(&rig), ["web1", "web2"]);
}

#[test]
fn the_next_daemon_ends_a_spare_once_the_others_serve() {
    let mut rig = Rig::configured(vec![surge(&["web1"])]);
    rig.input(Input::Generation { instance: "web-surge".into(), generation: 7 });
    rig.input(Input::Adopted {
        instance: "web-surge".into(),
        process: super::words::Process { pid: 70, start_time: 7 },
        generation: 7,
        started: at(50),
        fingerprint: 0,
        foreign: false,
    });
    rig.input(Input::Port { instance: "web-surge".into(), port: 4711 });
    rig.input(Input::Begin);
    rig.probed("web-surge", Probe::Readiness, true);
    rig.spawned("web1");
    assert_eq!(rig.sheet("web-surge").port, Some(4711));
    assert_eq!(rig.condition("web-surge"), Condition::Running);
    let effects = rig.probed("web1", Probe::Readiness, true);
    assert!(effects.contains(&"SIGTERM web-surge".to_owned()), "{effects:?}");
}

#[test]
fn a_new_configuration_keeps_the_spare_of_a_rollout_and_ends_one_that_it_does_not_want() {
    let mut rig = Rig::ready(vec![surge(&["web1", "web2"])]);
    stand_by(&mut rig);
    let mut patient = surge(&["web1", "web2"]);
    patient.max_wait_time = 30 * SECOND;
    rig.input(Input::Configured(vec![patient]));
    assert_eq!(rig.condition("web-surge"), Condition::Running);
    rig.input(Input::Configured(vec![web(&["web1", "web2"])]));
    assert_eq!(rig.condition("web-surge"), Condition::Stopping);
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web2", "it goes on without");
}
