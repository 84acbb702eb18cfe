//! New configurations, and what an earlier daemon has left.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::*;
use super::input::{Goal, InFlight, Input, Probe};
use super::memory::Ladder;
use super::rules::{Rung, ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::{Name, Process, Signal};

const NOTHING: [&str; 0] = [];

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|it| Name::from(*it)).collect()
}

fn configure(rig: &mut Rig, rules: Vec<ServiceRules>) -> Vec<String> {
    rig.input(Input::Configured(rules))
}

fn adopted(instance: &str, fingerprint: u64) -> Input {
    Input::Adopted {
        instance: instance.into(),
        process: Process { pid: 77, start_time: 8 },
        generation: 5,
        started: at(40),
        fingerprint,
        foreign: false,
    }
}

#[test]
fn what_is_added_is_started_and_what_is_removed_is_stopped_and_forgotten() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    assert_eq!(
        configure(&mut rig, vec![web(&["web2", "web3"])]),
        ["out web3", "out web1", "stop Readiness web1", "spawn web3#1", "SIGTERM web1"]
    );
    assert_eq!(rig.diary()[1], "web1 signal-sent: SIGTERM because of the configuration");
    assert_eq!(rig.sheet("web2").generation, 1, "unchanged ones keep their process");
    let sheet = rig.fleet.service_sheet("web").unwrap();
    let order: Vec<&str> = sheet.instances.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(order, ["web2", "web3", "web1"]);
    assert_eq!(sheet.wanted, 2);
    rig.exited("web1", code(0));
    rig.fleet.take_changed();
    rig.input(Input::Swept { instance: "web1".into(), generation: 1, killed: vec![] });
    assert_eq!(rig.fleet.instance_sheet("web1"), None);
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
}

#[test]
fn what_no_record_says_how_it_was_started_is_not_stale() {
    let mut rig = Rig::configured(vec![web(&["web1", "web2"])]);
    rig.input(adopted("web1", 0));
    rig.input(adopted("web2", 7));
    assert_eq!(["web1", "web2"].map(|it| rig.sheet(it).stale), [false, true]);
}

#[test]
fn a_service_that_is_renamed_keeps_what_is_known_of_it() {
    let mut web = web(&["web1", "web2"]);
    web.rollout.build = 1;
    let mut rig = Rig::ready(vec![web.clone()]);
    rig.tell(roll("web"));
    assert!(rig.fleet.is_engaged("web"));
    rig.ran("web1", 0, Err("exit code 2"));
    rig.fleet.take_changed();
    let ended = rig.fleet.service_sheet("web").unwrap().rollout;
    assert!(ended.is_some() && !rig.fleet.is_engaged("web"));
    assert_eq!(rig.input(Input::Renamed { from: "web".into(), to: "api".into() }), NOTHING);
    let api = ServiceRules { name: "api".into(), ..web };
    assert_eq!(configure(&mut rig, vec![api]), NOTHING);
    assert_eq!(rig.fleet.take_changed(), names(&["web", "api"]));
    let sheet = rig.fleet.service_sheet("api").unwrap();
    assert_eq!((sheet.rollout, sheet.ready, sheet.instances.len()), (ended, 2, 2));
    assert!(sheet.instances.iter().all(|it| it.generation == 1));
    assert!(rig.fleet.service_sheet("web").is_none());
    assert_eq!(rig.fleet.service_of("web1"), Some(&"api".into()));
    rig.tell(roll("api"));
    rig.ran("web1", 0, Ok(()));
    assert_eq!(rig.condition("web1"), Condition::Stopping, "it follows its service");
}

#[test]
fn a_service_that_is_gone_is_shown_until_its_last_process_is() {
    let mut rig = Rig::ready(vec![web(&["web1"]), rules("cron", &["cron"])]);
    configure(&mut rig, vec![rules("cron", &["cron"])]);
    assert_eq!(rig.fleet.service_names(), ["cron".into(), "web".into()]);
    rig.exited("web1", code(0));
    rig.fleet.take_changed();
    rig.swept("web1");
    assert_eq!(rig.fleet.service_names(), ["cron".into()]);
    assert_eq!(rig.fleet.service_sheet("web"), None);
    assert_eq!(rig.fleet.take_changed(), names(&["web"]));
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn a_service_that_stands_still_is_forgotten_at_once() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    rig.input(Input::Begin);
    rig.spawn_failed("web1", true);
    configure(&mut rig, vec![]);
    assert!(rig.fleet.service_names().is_empty());
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn what_comes_back_before_it_is_gone_is_started_again() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    configure(&mut rig, vec![]);
    configure(&mut rig, vec![web(&["web1"])]);
    assert_eq!(rig.gone("web1", code(0)), ["sweep web1#1", "spawn web1#2"]);
    assert_eq!(rig.fleet.service_names(), ["web".into()]);
}

#[test]
fn services_keep_the_order_of_the_file() {
    let rig = Rig::configured(vec![rules("zeta", &["z"]), rules("alpha", &["a"])]);
    assert_eq!(rig.fleet.service_names(), ["zeta".into(), "alpha".into()]);
}

#[test]
fn a_disabled_service_is_stopped_and_stays() {
    let disabled = || ServiceRules { enabled: false, ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(configure(&mut rig, vec![disabled()]).last().unwrap(), "SIGTERM web1");
    rig.gone("web1", code(0));
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.sheet("web1").why, "disabled in the configuration");
    assert_eq!(rig.sheet("web1").goal, Goal::Down);
    assert_eq!(configure(&mut rig, vec![web(&["web1"])]), ["spawn web1#2"]);
}

#[test]
fn a_changed_fingerprint_is_taken_up_by_the_next_start() {
    let mut changed = web(&["web1"]);
    changed.instances[0].fingerprint = 2;
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(configure(&mut rig, vec![changed.clone()]), NOTHING);
    assert!(rig.sheet("web1").stale);
    assert_eq!(configure(&mut rig, vec![changed]), NOTHING);
    assert_eq!(rig.diary().len(), 1, "told once");
    rig.tell(restart("web1"));
    rig.gone("web1", code(0));
    assert!(!rig.sheet("web1").stale);
}

#[test]
fn probes_that_appear_or_vanish_are_started_and_stopped() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let mut more = web(&["web1"]);
    more.liveness = Some(ONCE);
    assert_eq!(configure(&mut rig, vec![more.clone()]), ["start Liveness web1"]);
    more.readiness = None;
    assert_eq!(configure(&mut rig, vec![more.clone()]), ["stop Readiness web1"]);
    assert_eq!(rig.sheet("web1").ready, Some(true), "it has run for long");
    more.readiness = Some(ONCE);
    assert_eq!(configure(&mut rig, vec![more]), ["start Readiness web1"]);
    assert_eq!(rig.sheet("web1").ready, None);
    assert!(rig.sheet("web1").in_rotation, "it keeps its place until something is known");
}

#[test]
fn thresholds_hold_at_once() {
    let patient =
        ServiceRules { readiness: Some(Thresholds { success: 1, failure: 9 }), ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![patient]);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), NOTHING);
    configure(&mut rig, vec![web(&["web1"])]);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), ["out web1"]);
}

#[test]
fn an_instance_that_moves_to_another_service_keeps_its_process() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let mut api = web(&["web2"]);
    api.name = "api".into();
    assert_eq!(configure(&mut rig, vec![web(&["web1"]), api]), NOTHING);
    assert_eq!(rig.sheet("web2").service, "api".into());
    let home = |name: &str| {
        let sheet = rig.fleet.service_sheet(name).unwrap();
        let names: Vec<String> = sheet.instances.iter().map(|it| it.name.to_string()).collect();
        (sheet.ready, sheet.wanted, names)
    };
    assert_eq!(home("web"), (1, 1, vec!["web1".to_owned()]));
    assert_eq!(home("api"), (1, 1, vec!["web2".to_owned()]));
}

#[test]
fn what_runs_already_is_adopted() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    assert_eq!(rig.input(adopted("web1", 1)), NOTHING);
    assert_eq!(rig.input(Input::Begin), ["start Readiness web1"]);
    let sheet = rig.sheet("web1");
    assert_eq!(
        (sheet.generation, sheet.process.unwrap().pid, sheet.started, sheet.stale, sheet.ready),
        (5, 77, Some(at(40)), false, None)
    );
    assert_eq!(sheet.condition, Condition::Running);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(rig.gone("web1", code(1)).last().unwrap(), "spawn web1#6");
}

#[test]
fn an_adopted_instance_keeps_its_place_until_a_probe_has_spoken() {
    let slow =
        ServiceRules { readiness: Some(Thresholds { success: 1, failure: 2 }), ..web(&["web1"]) };
    let mut rig = Rig::configured(vec![slow]);
    rig.input(adopted("web1", 1));
    rig.input(Input::Begin);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), NOTHING);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), ["out web1"]);
}

#[test]
fn an_adopted_instance_of_another_configuration_is_stale() {
    let mut rig = Rig::configured(vec![rules("cron", &["cron"])]);
    rig.input(adopted("cron", 2));
    assert_eq!(rig.input(Input::Begin), ["admit cron"]);
    assert!(rig.sheet("cron").stale);
}

#[test]
fn an_adopted_instance_that_is_wanted_down_is_stopped() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    rig.input(adopted("web1", 1));
    rig.input(Input::Remembered { instance: "web1".into(), goal: Goal::Down, held_by: None });
    assert_eq!(rig.input(Input::Begin), ["out web1", "SIGTERM web1"]);
    assert_eq!(rig.diary().last().unwrap(), "web1 signal-sent: SIGTERM because it is wanted down");
}

#[test]
fn an_adopted_instance_that_was_held_stays_held() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    rig.input(adopted("web1", 1));
    let held_by = Some(by("bob"));
    rig.input(Input::Remembered { instance: "web1".into(), goal: Goal::Up, held_by });
    assert_eq!(rig.input(Input::Begin), ["out web1", "start Readiness web1"]);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING);
}

#[test]
fn an_adopted_instance_that_nobody_configures_any_more_is_stopped() {
    let mut rig = Rig::configured(vec![rules("cron", &["cron"])]);
    rig.input(adopted("web9", 1));
    assert_eq!(rig.input(Input::Begin), ["spawn cron#1", "out web9", "SIGTERM web9"]);
    assert_eq!(rig.later(Duration::from_millis(9999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["kill all web9#5"]);
    rig.swept("web9");
    assert_eq!(rig.fleet.instance_sheet("web9"), None);
    assert_eq!(rig.fleet.service_names(), ["cron".into()]);
}

#[test]
fn an_adopted_process_beside_a_known_one_is_killed() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    assert_eq!(rig.input(adopted("cron", 1)), ["kill all cron#5"]);
    assert_eq!(rig.sheet("cron").generation, 1);
}

#[test]
fn generations_go_on_where_the_last_daemon_left_them() {
    let mut rig = Rig::configured(vec![rules("cron", &["cron"])]);
    for generation in [9, 4] {
        rig.input(Input::Generation { instance: "cron".into(), generation });
    }
    assert_eq!(rig.input(Input::Begin), ["spawn cron#10"]);
}

#[test]
fn an_adopted_process_that_ends_before_the_beginning_is_started_then() {
    let mut rig = Rig::configured(vec![rules("cron", &["cron"])]);
    rig.input(adopted("cron", 1));
    assert_eq!(rig.gone("cron", code(1)), ["out cron", "sweep cron#5"]);
    assert_eq!(rig.input(Input::Begin), ["spawn cron#6"]);
}

#[test]
fn what_stays_does_not_wait_for_what_goes() {
    let db = || rules("db", &["db1"]);
    let redis = || rules("redis", &["redis1"]);
    let shop = ServiceRules { depends_on: vec!["db".into()], ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![db(), redis(), shop.clone()]);
    assert_eq!(rig.sheet("web1").why, "waits for db to be ready");
    assert_eq!(configure(&mut rig, vec![redis(), shop]), ["spawn web1#1"]);

    let shop = ServiceRules { depends_on: vec!["redis".into()], ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![db(), redis(), shop.clone()]);
    assert_eq!(configure(&mut rig, vec![redis(), shop]), NOTHING);
    assert_eq!(rig.sheet("web1").why, "waits for redis to be ready");
}

#[test]
fn one_that_was_stopped_is_forgotten_at_once() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(stop("web1"));
    rig.gone("web1", code(0));
    configure(&mut rig, vec![web(&["web2"])]);
    assert_eq!(rig.fleet.instance_sheet("web1"), None);
}

#[test]
fn what_no_configuration_names_any_more_is_drained_as_it_was_configured() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    let ladder = Ladder {
        service: Some("web".into()),
        stop: vec![Rung { signal: Signal::QUIT, wait: None }],
        max_wait_time: 30 * SECOND,
        reserve: Some(5 * SECOND),
        drain_delay: Duration::ZERO,
        fronted: true,
    };
    rig.gateway_answers = false;
    rig.input(Input::Ladder { instance: "web2".into(), ladder: Box::new(ladder) });
    rig.input(adopted("web2", 1));
    assert_eq!(rig.input(Input::Begin), ["out web1", "spawn web1#1", "out web2"]);
    let sheet = rig.sheet("web2");
    assert_eq!((sheet.service, sheet.condition), ("web".into(), Condition::Draining));

    rig.load("web2", InFlight::Exact(1));
    assert_eq!(rig.taken_out("web2"), [""; 0], "one is in flight");
    assert_eq!(rig.later(24 * SECOND), [""; 0]);
    assert_eq!(rig.later(SECOND), ["SIGQUIT web2"], "what is left is for the ladder");
}
