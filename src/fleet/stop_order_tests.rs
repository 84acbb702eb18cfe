//! What operators order in the middle of a stop, and signals that are a stop.

use super::fixture::*;
use super::input::InFlight;
use super::rules::{Profile, Rung, ServiceRules};
use super::sheet::Condition;
use super::words::Signal;

const NOTHING: [&str; 0] = [];

#[test]
fn a_stop_before_there_is_a_process_waits_for_it() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    assert_eq!(rig.tell(stop("cron")), ["remember cron down"]);
    assert_eq!(rig.spawned("cron"), ["SIGTERM cron"]);
    rig.gone("cron", code(0));
    assert_eq!(rig.condition("cron"), Condition::Stopped);

    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.tell(stop_now("cron"));
    assert_eq!(rig.spawned("cron"), ["kill all cron#1"]);

    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.tell(stop("cron"));
    rig.spawn_failed("cron", true);
    assert_eq!(rig.condition("cron"), Condition::Stopped);
    assert_eq!(rig.diary().last().unwrap(), "cron spawn-failed: could not execute /srv/web");

    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.tell(stop("cron"));
    rig.gone("cron", code(1));
    assert_eq!(rig.condition("cron"), Condition::Stopped);
}

#[test]
fn changing_ones_mind_before_there_is_a_process_is_free() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.tell(stop("cron"));
    assert_eq!(rig.tell(start("cron")), ["remember cron up"]);
    assert_eq!(rig.spawned("cron"), NOTHING);
}

#[test]
fn changing_ones_mind_during_the_drain_puts_it_back() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(3));
    rig.tell(stop("web1"));
    assert_eq!(rig.tell(start("web1")), ["remember web1 up", "admit web1", "start Readiness web1"]);
    assert_eq!((rig.condition("web1"), rig.sheet("web1").ready), (Condition::Running, Some(true)));
}

#[test]
fn changing_ones_mind_after_the_signal_starts_it_again() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    let (answer, effects) = rig.ask(start("web1"));
    assert_eq!(answer.as_deref(), Ok("web1 is being stopped and starts again after that"));
    assert_eq!(effects, ["remember web1 up"]);
    assert_eq!(rig.gone("web1", code(0)), ["sweep web1#1", "spawn web1#2"]);
}

#[test]
fn a_restart_is_not_taken_back_by_a_start() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(3));
    rig.tell(restart("web1"));
    assert_eq!(rig.tell(start("web1")), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Draining);
    assert_eq!(rig.tell(stop("web1")), ["remember web1 down"]);
    rig.load("web1", InFlight::Exact(0));
    rig.gone("web1", code(0));
    assert_eq!(rig.condition("web1"), Condition::Stopped);
}

#[test]
fn stop_now_kills_at_once_and_keeps_it_down() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let (answer, effects) = rig.ask(stop_now("web1"));
    assert_eq!(answer.as_deref(), Ok("web1 gets SIGKILL"));
    assert_eq!(
        effects,
        ["remember web1 down", "out web1", "stop Readiness web1", "kill all web1#1"]
    );
    rig.gone("web1", killed_by(Signal::KILL));
    assert_eq!(rig.condition("web1"), Condition::Stopped);

    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    assert_eq!(rig.tell(stop_now("web1")), ["kill all web1#1"]);
}

#[test]
fn term_goes_at_once_and_the_instance_comes_back() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(9));
    let (answer, effects) = rig.ask(signal("web1", Signal::TERM));
    assert_eq!(answer.as_deref(), Ok("SIGTERM was sent to web1"));
    assert_eq!(effects, ["out web1", "stop Readiness web1", "SIGTERM web1"]);
    insta::assert_snapshot!(rig.refusal(signal("web1", Signal::TERM)), @"Refused: SIGTERM was not sent to web1: it was sent already, and a second one would cut what is in flight");
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);
    assert_eq!(rig.gone("web1", killed_by(Signal::KILL)), ["spawn web1#2"]);
    assert_eq!(rig.sheet("web1").restarts, 0);
}

#[test]
fn where_term_cuts_it_waits_for_the_drain_and_a_second_one_sends_it() {
    let profile = Profile { term_cuts: true, ..swoole_profile() }.into();
    let cutting = ServiceRules { profile, ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![cutting]);
    rig.load("web1", InFlight::Exact(9));
    let (answer, effects) = rig.ask(signal("web1", Signal::TERM));
    assert_eq!(
        answer.as_deref(),
        Ok("web1 is out of rotation and gets SIGTERM when it has drained")
    );
    assert_eq!(effects, ["out web1", "stop Readiness web1"]);
    assert_eq!(rig.tell(signal("web1", Signal::TERM)), ["SIGTERM web1"]);
}

#[test]
fn term_climbs_the_rest_of_the_ladder() {
    let mut service = web(&["web1"]);
    service.stop = vec![
        Rung { signal: Signal::QUIT, wait: Some(SECOND) },
        Rung { signal: Signal::TERM, wait: Some(2 * SECOND) },
        Rung { signal: Signal::INT, wait: None },
    ];
    let mut rig = Rig::ready(vec![service.clone()]);
    assert_eq!(rig.tell(signal("web1", Signal::TERM)).last().unwrap(), "SIGTERM web1");
    assert_eq!(rig.later(2 * SECOND), ["SIGINT web1"]);
    assert_eq!(rig.later(8 * SECOND), ["kill all web1#1"]);

    service.stop = vec![Rung { signal: Signal::QUIT, wait: Some(SECOND) }];
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.tell(signal("web1", Signal::TERM)).last().unwrap(), "SIGTERM web1");
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);
}

#[test]
fn term_during_another_rung_is_passed_on_and_not_repeated() {
    let mut service = web(&["web1"]);
    service.stop = vec![
        Rung { signal: Signal::QUIT, wait: Some(5 * SECOND) },
        Rung { signal: Signal::TERM, wait: None },
    ];
    let mut rig = Rig::ready(vec![service]);
    rig.tell(stop("web1"));
    assert_eq!(rig.tell(signal("web1", Signal::TERM)), ["SIGTERM web1"]);
    assert_eq!(rig.later(5 * SECOND), NOTHING);
    insta::assert_snapshot!(rig.refusal(signal("web1", Signal::QUIT)), @"Refused: SIGQUIT was not sent to web1: this stop has sent it already");
    assert_eq!(rig.tell(signal("web1", Signal::USR1)), ["SIGUSR1 web1"]);
}

#[test]
fn sigkill_as_a_signal_ends_it_and_it_comes_back() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(rig.tell(signal("web1", Signal::KILL)).last().unwrap(), "kill all web1#1");
    assert_eq!(rig.gone("web1", killed_by(Signal::KILL)), ["spawn web1#2"]);
    assert_eq!(rig.sheet("web1").last_exit.unwrap().cause, "SIGKILL by alice");
    assert_eq!(rig.sheet("web1").restarts, 0);

    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    assert_eq!(rig.tell(signal("web1", Signal::KILL)), ["kill all web1#1"]);
    let refusal = rig.refusal(signal("web1", Signal::KILL));
    assert_eq!(refusal, "Refused: SIGKILL was not sent to web1: SIGKILL was sent already");
}
