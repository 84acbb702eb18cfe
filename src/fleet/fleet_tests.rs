//! The fleet as a whole: dependencies, the end of everything, what others are told.

use std::collections::BTreeSet;

use super::fixture::*;
use super::input::{Goal, InFlight, Input, Probe, Verb};
use super::rules::{ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::Name;

const NOTHING: [&str; 0] = [];

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|it| Name::from(*it)).collect()
}

fn configure(rig: &mut Rig, rules: Vec<ServiceRules>) -> Vec<String> {
    rig.input(Input::Configured(rules))
}

fn live(instances: &[&str]) -> ServiceRules {
    ServiceRules { liveness: Some(Thresholds { success: 1, failure: 2 }), ..web(instances) }
}

/// `web` after `redis`, `cron` on its own.
fn shop() -> Vec<ServiceRules> {
    let web = ServiceRules { depends_on: vec!["redis".into()], ..web(&["web1"]) };
    vec![web, rules("redis", &["redis"]), rules("cron", &["cron"])]
}

#[test]
fn a_dependency_is_waited_for_until_it_is_ready() {
    let mut rig = Rig::begun(shop());
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.sheet("web1").why, "waits for redis to be ready");
    assert_eq!(rig.ask(start("web1")).0.as_deref(), Ok("web1 waits for redis to be ready"));
    assert_eq!(
        rig.ask(Verb::StartService("web".into())).0.as_deref(),
        Ok("web is wanted up and waits for redis where it has to")
    );
    assert_eq!(rig.spawned("redis"), NOTHING);
    assert_eq!(rig.later(SECOND), ["admit redis", "spawn web1#1"]);
}

#[test]
fn every_wanted_instance_of_a_dependency_has_to_be_ready() {
    let web = ServiceRules { depends_on: vec!["redis".into()], ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![web, rules("redis", &["redis1", "redis2"])]);
    rig.come_up("redis1");
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    // One that is wanted down is not waited for.
    let effects = rig.tell(stop("redis2"));
    assert_eq!(effects, ["remember redis2 down", "spawn web1#1"]);
}

#[test]
fn a_dependency_that_is_wanted_down_is_waited_for() {
    let mut rig = Rig::configured(shop());
    rig.input(Input::Remembered { instance: "redis".into(), goal: Goal::Down, held_by: None });
    assert_eq!(rig.input(Input::Begin), ["out web1", "spawn cron#1"]);
    assert_eq!(rig.tell(start("redis")), ["remember redis up", "spawn redis#1"]);
}

#[test]
fn a_crash_does_not_wait_for_a_dependency() {
    let mut rig = Rig::ready(shop());
    rig.exited("redis", code(1));
    assert_eq!(rig.gone("web1", code(1)).last().unwrap(), "spawn web1#2");
}

#[test]
fn everything_is_stopped_in_reverse_order() {
    let mut rig = Rig::ready(shop());
    let effects = rig.tell(Verb::StopAll);
    assert!(effects.contains(&"SIGTERM web1".into()) && effects.contains(&"SIGTERM cron".into()));
    assert_eq!(rig.condition("redis"), Condition::Running);
    assert_eq!(rig.exited("web1", code(0)), ["sweep web1#1"]);
    assert_eq!(rig.swept("web1"), ["out redis", "SIGTERM redis"]);
}

#[test]
fn services_removed_together_are_stopped_in_reverse_order() {
    let mut rig = Rig::ready(shop());
    let effects = configure(&mut rig, vec![rules("cron", &["cron"])]);
    assert!(effects.contains(&"SIGTERM web1".into()) && !effects.contains(&"SIGTERM redis".into()));

    // A service that stays does not keep alive what it depended on.
    let mut rig = Rig::ready(shop());
    let mut rest = shop();
    rest.remove(1);
    assert!(configure(&mut rig, rest).contains(&"SIGTERM redis".into()));
}

#[test]
fn changes_are_told_once_and_only_where_something_can_be_seen() {
    let mut rig = Rig::ready(vec![web(&["web1"]), rules("cron", &["cron"])]);
    rig.fleet.take_changed();
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(rig.fleet.take_changed(), names(&[]));
    rig.load("web1", InFlight::Exact(4));
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.load("web1", InFlight::Exact(4));
    assert_eq!(rig.fleet.take_changed(), names(&[]));
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.exited("cron", code(1));
    assert_eq!(rig.fleet.take_changed(), names(&["cron"]));
    rig.tell(Verb::Drain("web1".into()));
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.tell(roll("web"));
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.ask(Verb::Pause("web".into())).0.unwrap();
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.ask(Verb::Resume("web".into())).0.unwrap();
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    rig.ask(Verb::Abort("web".into())).0.unwrap();
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
}

#[test]
fn since_counts_from_the_last_change_of_the_condition() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let since = rig.sheet("web1").since;
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(rig.sheet("web1").since, since);
    rig.tell(stop("web1"));
    assert_eq!(rig.sheet("web1").since, rig.now);
}

#[test]
fn the_load_of_what_does_not_run_is_dropped() {
    let mut rig = Rig::begun(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(4));
    assert_eq!(rig.sheet("web1").in_flight, None);
    rig.spawned("web1");
    rig.load("web1", InFlight::Exact(4));
    let sheet = rig.sheet("web1");
    assert_eq!(sheet.in_flight, Some(InFlight::Exact(4)));
}

#[test]
fn inputs_about_strangers_are_answered_with_nothing() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let stranger = || Name::from("stranger");
    for input in [
        Input::Remembered { instance: stranger(), goal: Goal::Up, held_by: None },
        Input::Generation { instance: stranger(), generation: 3 },
        Input::Exited { instance: stranger(), generation: 1, exit: code(1) },
        Input::Swept { instance: stranger(), generation: 1, killed: vec![] },
        Input::Load { instance: stranger(), in_flight: InFlight::Exact(1) },
        Input::Ran { service: stranger(), instance: stranger(), index: 0, outcome: Ok(()) },
        Input::DeadlineReached,
    ] {
        assert_eq!(rig.input(input), NOTHING);
    }
}

#[test]
fn an_explanation_goes_beyond_its_first_sentence() {
    let mut service = live(&["web1", "web2"]);
    service.retries = Some(5);
    service.instances[0].port = Some(9502);
    service.fronted = false;
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.load("web1", InFlight::Estimated(4));
    rig.gone("web1", code(3));
    rig.spawned("web1");
    rig.probed("web1", Probe::Readiness, false);
    service.instances[0].fingerprint = 2;
    configure(&mut rig, vec![service]);
    rig.load("web1", InFlight::Estimated(1));
    insta::assert_snapshot!(rig.fleet.why("web1").unwrap().join("\n"), @"
    not ready: readiness fails: 503
    readiness has failed 1 time: 503
    about 1 request in flight
    the last process ended by itself with code 3, 4 requests lost (estimated)
    runs an older configuration until its next start
    given up if 5 more in a row go wrong
    ");
    rig.tell(stop("web1"));
    insta::assert_snapshot!(rig.fleet.why("web1").unwrap().join("\n"), @"
    stops by alice: SIGTERM sent
    readiness has failed 1 time: 503
    about 1 request in flight
    nothing stands in front of it: clients will notice
    the last process ended by itself with code 3, 4 requests lost (estimated)
    runs an older configuration until its next start
    given up if 5 more in a row go wrong
    it stays down after that
    ");
}
