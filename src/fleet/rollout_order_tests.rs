//! Orders about rollouts: abort, pause, resume, roll back, and what cannot begin.

use std::collections::BTreeMap;

use super::fixture::*;
use super::input::{InFlight, Probe, Verb};
use super::rules::{Restart, ServiceRules};
use super::sheet::Condition;

const NOTHING: [&str; 0] = [];

fn abort() -> Verb {
    Verb::Abort("web".into())
}

fn pause() -> Verb {
    Verb::Pause("web".into())
}

fn resume() -> Verb {
    Verb::Resume("web".into())
}

fn roll_back() -> Verb {
    Verb::RollBack("web".into())
}

#[test]
fn an_abort_before_the_signal_puts_the_instance_back() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.load("web1", InFlight::Exact(2));
    rig.tell(roll("web"));
    let (answer, effects) = rig.ask(abort());
    assert_eq!(answer.as_deref(), Ok("the rolling restart of web has ended"));
    assert_eq!(effects, ["admit web1", "start Readiness web1"]);
    assert_eq!((place(&rig), rollout_sheet(&rig).ended), ("aborted".into(), Some(rig.now)));
    assert_eq!(rig.condition("web1"), Condition::Running);
    assert_eq!(
        rig.diary().last().unwrap(),
        "web rollout-aborted: rolling restart of web ended early, 0 of 2 renewed (alice)"
    );
}

#[test]
fn an_abort_after_the_signal_finishes_this_instance() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.fleet.take_changed();
    let (answer, effects) = rig.ask(abort());
    assert_eq!(answer.as_deref(), Ok("the rolling restart of web ends after web1"));
    assert_eq!((effects, rig.fleet.take_changed().len()), (vec![], 1));
    assert!(rollout_sheet(&rig).aborting);
    assert_eq!(rig.refusal(abort()), "Refused: nothing was aborted: alice has aborted it already");
    assert_eq!(renew(&mut rig, "web1"), ["admit web1"]);
    assert_eq!(place(&rig), "settle web1");
    assert_eq!(rig.later(3 * SECOND), NOTHING);
    assert_eq!(place(&rig), "aborted");
    assert_eq!(rollout_sheet(&rig).renewed, ["web1".into()]);
    assert_eq!(
        rig.refusal(abort()),
        "Refused: nothing was aborted: no rolling restart of web is under way"
    );
}

#[test]
fn an_abort_during_the_last_instance_comes_too_late_to_end_it_early() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "stopping web2");
    rig.ask_as("bob", abort()).0.unwrap();
    renew(&mut rig, "web2");
    rig.diary();
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "done");
    let told =
        "web rollout-finished: rolling restart of web finished after 6s, 2 of 2 renewed (alice)";
    assert_eq!(rig.diary().last().unwrap(), told);
}

#[test]
fn whoever_ends_a_rollout_is_named() {
    for verb in [abort(), Verb::StopAll, roll_back()] {
        let mut rig = Rig::ready(vec![with(|it| (it.build, it.rollback) = (1, 1))]);
        rig.tell(roll("web"));
        rig.ran("web1", 0, Ok(()));
        renew(&mut rig, "web1");
        rig.later(3 * SECOND);
        rig.diary();
        rig.ask_as("bob", verb).0.unwrap();
        let ended = "web rollout-aborted: rolling restart of web ended early, 1 of 2 renewed (bob)";
        assert_eq!(rig.diary()[0], ended);
    }
}

#[test]
fn an_abort_ends_the_build() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    assert_eq!(rig.tell(abort()), ["cancel web1"]);
    assert_eq!(place(&rig), "aborted");
    assert_eq!(rig.ran("web1", 0, Ok(())), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Running);
}

#[test]
fn a_pause_holds_before_the_next_instance() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    let (answer, _) = rig.ask(pause());
    assert_eq!(answer.as_deref(), Ok("the rolling restart of web pauses before the next instance"));
    assert_eq!(rig.refusal(pause()), "Refused: nothing was paused: it is paused already");
    renew(&mut rig, "web1");
    assert_eq!(rig.later(1000 * SECOND), NOTHING);
    assert_eq!((place(&rig), rollout_sheet(&rig).paused), ("paused".into(), true));
    assert_eq!(rig.tell(resume()), ["out web2", "stop Readiness web2", "SIGTERM web2"]);
    assert_eq!(rig.refusal(resume()), "Refused: nothing was resumed: it is not paused");
    let diary = rig.diary().join("\n");
    assert!(diary.contains("web rollout-paused: rolling restart of web paused (alice)"));
    assert!(diary.contains("web rollout-resumed: rolling restart of web resumed (alice)"));
}

#[test]
fn a_pause_does_not_count_as_waiting() {
    let mut rig = Rig::ready(vec![with(|it| it.build = 1)]);
    rig.tell(roll("web"));
    rig.probed("web2", Probe::Readiness, false);
    rig.ran("web1", 0, Ok(()));
    rig.later(30 * SECOND);
    rig.tell(pause());
    rig.later(100 * SECOND);
    rig.tell(resume());
    assert_eq!(rig.later(59 * SECOND), NOTHING);
    assert_eq!(place(&rig), "waiting web1");
    rig.later(SECOND);
    assert_eq!(place(&rig), "halted");
}

#[test]
fn an_abort_ends_a_paused_rollout() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.tell(pause());
    renew(&mut rig, "web1");
    rig.later(10 * SECOND);
    rig.tell(abort());
    assert_eq!(place(&rig), "aborted");
}

#[test]
fn a_second_rollout_is_told_who_when_and_where() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    rig.later(5 * SECOND);
    insta::assert_snapshot!(rig.refusal(roll("web")), @"Busy: web was not rolled: alice began the rolling restart of web 5.0s ago; it is at: stopping web1");
    insta::assert_snapshot!(rig.fleet.plan("web").unwrap().blocked.unwrap(), @"alice began the rolling restart of web; it is at: stopping web1");
}

#[test]
fn a_rollback_runs_its_commands_for_the_renewed_ones() {
    let mut rig = Rig::ready(vec![with(|it| (it.build, it.rollback) = (1, 1))]);
    assert_eq!(
        rig.refusal(roll_back()),
        "Refused: web was not rolled back: no rolling restart has renewed anything"
    );
    assert!(!rig.fleet.service_sheet("web").unwrap().can_roll_back);
    rig.tell(roll("web"));
    rig.ran("web1", 0, Ok(()));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert!(rig.fleet.service_sheet("web").unwrap().can_roll_back);
    let (answer, effects) = rig.ask(roll_back());
    assert_eq!(answer.as_deref(), Ok("the rollback of web has begun, 1 to renew"));
    assert_eq!(effects, ["cancel web2", "roll back 0 web1"]);
    assert!(rollout_sheet(&rig).rollback);
    assert_eq!(
        rig.refusal(roll_back()),
        "Busy: web was not rolled back: alice began the rollback of web 0.0s ago; it is at: build web1"
    );
    rig.ran("web1", 0, Ok(()));
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!((place(&rig), rollout_sheet(&rig).of), ("done".into(), 1));
    assert_eq!(rig.sheet("web2").generation, 1, "it was never renewed");
}

#[test]
fn a_rollback_after_a_halt_takes_the_failed_one_too() {
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.tell(roll("web"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.gone("web1", code(3));
    rig.spawned("web1");
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(place(&rig), "halted web1");
    assert_eq!(rig.tell(roll_back()), ["roll back 0 web1"]);
    assert_eq!(rig.ran("web1", 0, Ok(())), ["stop Readiness web1", "SIGTERM web1"]);
    assert_eq!(renew(&mut rig, "web1"), ["admit web1"]);
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "done");
}

#[test]
fn a_rollback_in_the_middle_waits_for_the_instance_to_come_back() {
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.tell(roll("web"));
    assert_eq!(rig.condition("web1"), Condition::Stopping);
    assert_eq!(rig.tell(roll_back()), NOTHING);
    assert_eq!(place(&rig), "waiting");
    rig.gone("web1", code(0));
    assert_eq!(rig.spawned("web1"), ["start Readiness web1", "roll back 0 web1"]);

    // Before the signal, nothing has been changed yet.
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.load("web1", InFlight::Exact(2));
    rig.tell(roll("web"));
    assert_eq!(
        rig.refusal(roll_back()),
        "Refused: web was not rolled back: no rolling restart has renewed anything"
    );
}

#[test]
fn without_commands_there_is_no_rollback() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(roll("web"));
    assert_eq!(
        rig.refusal(roll_back()),
        "Refused: web was not rolled back: web has no `rollback` commands"
    );
}

#[test]
fn what_cannot_begin_is_refused_with_its_reason() {
    let mut rig = Rig::ready(vec![with(|it| it.min_ready = Some(2))]);
    insta::assert_snapshot!(rig.refusal(roll("web")), @"Refused: web was not rolled: min_ready is 2 of 2, so none may ever be taken away");

    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    insta::assert_snapshot!(rig.refusal(roll("api")), @"NotFound: api was not rolled: no service is called api");
    rig.tell(stop_service("web"));
    for name in ["web1", "web2"] {
        rig.gone(name, code(0));
    }
    insta::assert_snapshot!(rig.refusal(roll("web")), @"Refused: web was not rolled: nothing of web runs");
    rig.tell(Verb::StopAll);
    insta::assert_snapshot!(rig.refusal(roll("web")), @"Refused: web was not rolled: everything is being shut down");

    let disabled = ServiceRules { enabled: false, ..web(&["web1", "web2"]) };
    let mut rig = Rig::begun(vec![disabled]);
    insta::assert_snapshot!(rig.refusal(roll("web")), @"Refused: web was not rolled: the configuration wants web down");
}

#[test]
fn what_never_came_up_is_rolled_with_the_values_that_it_wants() {
    let mut rig = Rig::begun(vec![with(|it| it.build = 1)]);
    for name in ["web1", "web2"] {
        rig.spawn_failed(name, false);
        assert_eq!(rig.condition(name), Condition::Backoff);
    }
    assert_eq!(rig.fleet.plan("web").unwrap().blocked, None);
    let set: BTreeMap<_, _> = [("version".to_owned(), "43".to_owned())].into();
    let effects = rig.tell(Verb::Roll { service: "web".into(), set });
    assert_eq!(effects, [r#"set web {"version": "43"}"#, "build 0 web1"]);
    assert_eq!(rig.ran("web1", 0, Ok(())), ["spawn web1#2"], "nothing is drained or stopped");
    assert_eq!(place(&rig), "starting web1");
    assert_eq!(rig.values, ["take web1"]);
    rig.spawned("web1");
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(rig.later(3 * SECOND), ["spawn web2#2"], "by its backoff");
    assert_eq!(rig.spawn_failed("web2", false), ["build 0 web2"]);
}

#[test]
fn what_was_given_up_is_rolled_forward_and_what_is_not_well_goes_first() {
    let never = ServiceRules { restart: Restart::Never, ..web(&["web1", "web2"]) };
    let mut rig = Rig::begun(vec![never]);
    rig.come_up("web1");
    rig.spawn_failed("web2", false);
    assert_eq!(rig.condition("web2"), Condition::Fatal);
    rig.tell(roll("web"));
    assert_eq!(place(&rig), "starting web2");
    rig.spawn_failed("web2", false);
    assert_eq!((place(&rig), rig.condition("web1")), ("halted web2".into(), Condition::Running));

    // Neither is well: `min_ready` asks nothing of those that do not serve.
    let mut rules = with(|it| it.min_ready = Some(2));
    rules.restart = Restart::Never;
    let mut rig = Rig::begun(vec![rules]);
    for name in ["web1", "web2"] {
        rig.spawn_failed(name, false);
    }
    assert_eq!(rig.tell(roll("web")), ["spawn web1#2"]);
    rig.come_up("web1");
    assert_eq!(rig.later(3 * SECOND), ["spawn web2#2"]);
    rig.come_up("web2");
    rig.later(3 * SECOND);
    assert_eq!(place(&rig), "done");
}

#[test]
fn what_waits_for_another_service_is_not_rolled_before_it() {
    let app = ServiceRules { depends_on: vec!["web".into()], ..rules("app", &["app1"]) };
    let mut rig = Rig::begun(vec![web(&["web1"]), app]);
    insta::assert_snapshot!(rig.refusal(roll("app")), @"Refused: app was not rolled: app1 waits for web to be ready");
}

#[test]
fn a_plan_that_means_downtime_asks_first() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let why = "nothing else serves while web1 restarts: this means downtime";
    assert_eq!(rig.fleet.plan("web").unwrap().downtime.as_deref(), Some(why));
    assert_eq!(rig.question(roll("web")).as_deref(), Some(why));
    assert_eq!(rig.tell(roll("web"))[0], "out web1");

    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    assert_eq!(rig.question(roll("web")), None);

    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(Verb::Drain("web2".into()));
    insta::assert_snapshot!(rig.question(roll("web")).unwrap(), @"web1 cannot be spared (min_ready 1): web2 is held out of rotation");
}

#[test]
fn an_instance_takes_the_values_of_a_rollout_when_it_is_taken_and_gives_them_back() {
    let mut rig = Rig::ready(vec![with(|it| it.rollback = 1)]);
    rig.load("web2", InFlight::Exact(1));
    rig.tell(roll("web"));
    assert_eq!(rig.values, ["take web1"]);
    renew(&mut rig, "web1");
    rig.later(3 * SECOND);
    assert_eq!(rig.values, ["take web1", "take web2"]);
    rig.tell(roll_back());
    assert_eq!(rig.values[2..], ["back web2", "unset web"], "web2 was only draining");
    rig.ran("web1", 0, Ok(()));
    assert_eq!(rig.values[4..], ["back web1"]);

    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(roll("web"));
    rig.tell(abort());
    assert_eq!(rig.values, ["take web1", "back web1"]);
}
