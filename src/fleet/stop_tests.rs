//! The stop ladder, from the first moment of the drain until nothing is left.

use std::time::Duration;

use super::fixture::*;
use super::input::{Countdown, InFlight, Input, OutOfMemory, Probe, Status, Verb};
use super::rules::{Profile, Rung, ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::{Name, Signal};

const NOTHING: [&str; 0] = [];

fn kill(name: &str) -> Verb {
    Verb::Kill(Name::from(name))
}

fn extend(name: &str) -> Verb {
    Verb::Extend(Name::from(name))
}

#[test]
fn without_an_exact_count_the_signal_follows_in_the_same_turn() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Estimated(7));
    assert_eq!(
        rig.tell(stop("web1")),
        ["remember web1 down", "out web1", "stop Readiness web1", "SIGTERM web1"]
    );
    assert_eq!(rig.condition("web1"), Condition::Stopping);
    assert_eq!(
        rig.diary(),
        [
            "web1 goal: wanted down (alice)",
            "web1 draining: out of rotation, ~7 in flight (alice)",
            "web1 signal-sent: SIGTERM (alice)"
        ]
    );
}

#[test]
fn an_exact_count_is_waited_for() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(23));
    assert_eq!(rig.tell(stop("web1"))[1..], ["out web1", "stop Readiness web1"]);
    assert_eq!(rig.condition("web1"), Condition::Draining);
    assert_eq!(rig.diary()[1..], ["web1 draining: out of rotation, 23 in flight (alice)"]);
    assert_eq!(rig.load("web1", InFlight::Exact(1)), NOTHING);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), ["SIGTERM web1"]);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), NOTHING);
}

#[test]
fn a_count_from_before_the_gateway_has_let_go_ends_no_drain() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.tell(stop("web1"))[1..], ["out web1", "stop Readiness web1"]);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), NOTHING, "it was on its way already");
    assert_eq!(rig.load("web1", InFlight::Exact(1)), NOTHING);
    assert_eq!(rig.taken_out("web1"), NOTHING);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), ["SIGTERM web1"]);
}

#[test]
fn the_gateway_has_let_go_when_it_has_answered_the_last_order() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    rig.tell(stop("web1"));
    assert!(rig.tell(start("web1")).contains(&"admit web1".to_owned()));
    rig.tell(stop("web1"));
    assert_eq!(rig.taken_out("web1"), NOTHING, "that was the first order");
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
}

#[test]
fn a_gateway_that_does_not_answer_leaves_the_ladder_its_reserve() {
    for flight in [&[][..], &[InFlight::Exact(0)]] {
        let mut rig = Rig::ready(vec![web(&["web1"])]);
        rig.gateway_answers = false;
        for it in flight {
            rig.load("web1", *it);
        }
        rig.tell(stop("web1"));
        assert_eq!(rig.later(Duration::from_millis(6999)), NOTHING);
        assert_eq!(rig.later(Duration::from_millis(1)), ["SIGTERM web1"]);
        let said =
            "web1 signal-sent: SIGTERM; what stands in front may still send it requests (alice)";
        assert_eq!(rig.diary().last().map(String::as_str), Some(said));
    }
}

#[test]
fn a_gateway_hears_of_readiness_without_haste_and_of_everything_else_at_once() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    assert_eq!(std::mem::take(&mut rig.may_wait), NOTHING, "a start is awaited");
    rig.probed("web1", Probe::Readiness, false);
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(std::mem::take(&mut rig.may_wait), ["out web1", "admit web1"]);
    rig.tell(Verb::Drain("web1".into()));
    rig.tell(Verb::Undrain("web1".into()));
    rig.tell(stop("web1"));
    assert_eq!(rig.may_wait, NOTHING);
}

#[test]
fn a_stop_hastens_a_gateway_that_has_not_let_go_yet() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(std::mem::take(&mut rig.may_wait), ["out web1"]);
    assert_eq!(rig.tell(stop("web1"))[1..], ["out web1", "stop Readiness web1"]);
    assert_eq!(rig.may_wait, NOTHING);
    assert_eq!(rig.taken_out("web1"), NOTHING, "that was the first order");
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
}

#[test]
fn the_key_for_sigterm_waits_for_no_gateway() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.gateway_answers = false;
    let effects = rig.tell(signal("web1", Signal::TERM));
    assert_eq!(effects, ["out web1", "stop Readiness web1", "SIGTERM web1"]);
}

#[test]
fn one_that_is_held_has_no_new_requests_to_wait_for() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(Verb::Drain("web1".into()));
    rig.gateway_answers = false;
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.tell(restart("web1")), ["stop Readiness web1", "SIGTERM web1"]);
}

#[test]
fn what_the_gateway_counted_last_is_what_was_lost() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(4));
    rig.tell(signal("web1", Signal::TERM));
    rig.later(Duration::from_secs(3));
    rig.diary();
    rig.exited("web1", code(0));
    insta::assert_snapshot!(rig.diary()[0], @"web1 exited: exited 3.0s into its drain for SIGTERM with 4 requests in flight: its own max_wait_time is probably 3s, the deck's is 10s (alice)");
    assert_eq!(rig.sheet("web1").last_exit.unwrap().lost, Some(InFlight::Exact(4)));
}

#[test]
fn what_a_gateway_sends_again_is_not_lost() {
    let service = ServiceRules { cuts_told: true, ..web(&["web1"]) };
    let cut = |generation, requests| Input::Cut { instance: "web1".into(), generation, requests };
    let lost = |rig: &Rig| rig.sheet("web1").last_exit.and_then(|it| it.lost);
    let mut rig = Rig::ready(vec![service]);
    rig.load("web1", InFlight::Exact(3));
    rig.diary();
    rig.exited("web1", killed_by(Signal::KILL));
    assert_eq!(rig.diary()[0], "web1 exited: was killed by SIGKILL with 3 requests in flight");
    assert_eq!(lost(&rig), None);

    // Two of them were no GETs; the gateway says so a moment later.
    rig.input(cut(1, 1));
    rig.input(cut(1, 1));
    assert_eq!(lost(&rig), Some(InFlight::Exact(2)));
    rig.input(cut(7, 9));
    assert_eq!(lost(&rig), Some(InFlight::Exact(2)), "of another generation");

    rig.swept("web1");
    rig.spawned("web1");
    // Or a moment before. A cut from long ago is another story.
    rig.input(cut(2, 4));
    rig.later(Duration::from_secs(5));
    rig.input(cut(2, 1));
    rig.exited("web1", killed_by(Signal::KILL));
    assert_eq!(lost(&rig), Some(InFlight::Exact(1)));
}

#[test]
fn a_drain_that_does_not_end_leaves_the_ladder_its_reserve() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(stop("web1"));
    assert_eq!(rig.later(Duration::from_millis(6999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["SIGTERM web1"]);
    assert_eq!(rig.later(Duration::from_millis(2999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["kill all web1#1"]);
    assert_eq!(rig.diary().last().unwrap(), "web1 signal-sent: SIGKILL: max_wait_time was over");
}

#[test]
fn a_reserve_longer_than_the_budget_means_no_drain() {
    let service = ServiceRules { reserve: 60 * SECOND, ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![service]);
    rig.load("web1", InFlight::Exact(1));
    assert_eq!(rig.tell(stop("web1")).last().unwrap(), "SIGTERM web1");
}

#[test]
fn a_count_that_is_lost_during_the_drain_is_not_waited_for() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(2));
    rig.tell(stop("web1"));
    assert_eq!(rig.load("web1", InFlight::Estimated(2)), ["SIGTERM web1"]);
}

#[test]
fn a_drain_delay_is_kept_where_nothing_counts() {
    let service = ServiceRules { drain_delay: 2 * SECOND, ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![service]);
    rig.tell(stop("web1"));
    assert_eq!(rig.condition("web1"), Condition::Draining);
    assert_eq!(rig.later(Duration::from_millis(1999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["SIGTERM web1"]);
}

#[test]
fn a_drain_delay_longer_than_the_budget_still_leaves_the_reserve() {
    let service = ServiceRules { drain_delay: 60 * SECOND, ..web(&["web1"]) };
    let mut rig = Rig::ready(vec![service]);
    rig.tell(stop("web1"));
    assert_eq!(rig.later(7 * SECOND), ["SIGTERM web1"]);
    assert_eq!(rig.later(3 * SECOND), ["kill all web1#1"]);
}

#[test]
fn each_rung_waits_its_own_time_and_the_last_waits_for_the_deadline() {
    let mut service = web(&["web1"]);
    service.stop = vec![
        Rung { signal: Signal::QUIT, wait: Some(2 * SECOND) },
        Rung { signal: Signal::TERM, wait: Some(3 * SECOND) },
        Rung { signal: Signal::INT, wait: Some(SECOND) },
    ];
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.tell(stop("web1")).last().unwrap(), "SIGQUIT web1");
    assert_eq!(rig.later(Duration::from_millis(1999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["SIGTERM web1"]);
    assert_eq!(rig.later(3 * SECOND), ["SIGINT web1"]);
    assert_eq!(rig.later(Duration::from_millis(4999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["kill all web1#1"]);
}

#[test]
fn a_rung_without_a_wait_waits_for_the_deadline() {
    let mut service = web(&["web1"]);
    service.stop =
        vec![Rung { signal: Signal::QUIT, wait: None }, Rung { signal: Signal::TERM, wait: None }];
    let mut rig = Rig::ready(vec![service]);
    rig.tell(stop("web1"));
    assert_eq!(rig.later(10 * SECOND), ["kill all web1#1"]);
}

#[test]
fn a_signal_is_sent_once_even_if_the_ladder_names_it_twice() {
    let mut service = web(&["web1"]);
    let term = Rung { signal: Signal::TERM, wait: Some(2 * SECOND) };
    service.stop = vec![term, term, Rung { signal: Signal::KILL, wait: None }];
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.tell(stop("web1")).last().unwrap(), "SIGTERM web1");
    assert_eq!(rig.later(2 * SECOND), NOTHING);
    assert_eq!(rig.later(2 * SECOND), ["kill all web1#1"]);
}

#[test]
fn the_countdown_is_one_deadline() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let began = rig.now;
    rig.load("web1", InFlight::Exact(1));
    rig.tell(stop("web1"));
    let countdown =
        Countdown { began, deadline: began + 10 * SECOND, max_wait_time: 10 * SECOND, rung: None };
    assert_eq!(rig.sheet("web1").countdown, Some(countdown));
    assert_eq!(rig.tell(extend("web1")), NOTHING);
    rig.load("web1", InFlight::Exact(0));
    let countdown = Countdown {
        deadline: began + 20 * SECOND,
        max_wait_time: 20 * SECOND,
        rung: Some(Signal::TERM),
        ..countdown
    };
    assert_eq!(rig.sheet("web1").countdown, Some(countdown));
    assert_eq!(rig.later(20 * SECOND), ["kill all web1#1"]);
    let rung = rig.sheet("web1").countdown.unwrap().rung;
    assert_eq!(rung, Some(Signal::KILL));
    assert_eq!(
        rig.refusal(extend("web1")),
        "Refused: web1 was not given more time: SIGKILL was sent already"
    );
}

#[test]
fn an_operator_may_end_the_countdown() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(
        rig.refusal(kill("web1")),
        "Refused: web1 was not killed: no countdown runs for web1"
    );
    rig.tell(stop("web1"));
    assert_eq!(rig.tell(kill("web1")), ["kill all web1#1"]);
    assert_eq!(rig.refusal(kill("web1")), "Refused: web1 was not killed: SIGKILL was sent already");
    assert_eq!(rig.exited("web1", killed_by(Signal::KILL)), NOTHING);
    assert_eq!(
        rig.refusal(kill("web1")),
        "Refused: web1 was not killed: web1 has ended; what it left behind is being killed"
    );
    rig.swept("web1");
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.sheet("web1").last_exit.unwrap().cause, "SIGKILL by alice");
}

#[test]
fn sigkill_that_takes_long_is_asked_for_again_and_told_once() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    rig.later(10 * SECOND);
    rig.diary();
    let again = rig.later(15 * SECOND);
    assert_eq!(again, ["kill all web1#1", "kill all web1#1", "kill all web1#1"]);
    assert_eq!(rig.diary().len(), 1);
    rig.exited("web1", killed_by(Signal::KILL));
    assert_eq!(rig.later(5 * SECOND), ["kill all web1#1"], "its group still lives");
    assert_eq!(rig.swept("web1"), NOTHING);
    assert_eq!(rig.fleet.next_deadline(), None);
    assert_eq!(rig.sheet("web1").last_exit.unwrap().cause, "SIGKILL: max_wait_time was over");
}

#[test]
fn a_stop_is_over_when_nothing_is_left_even_if_no_exit_was_reported() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop_now("web1"));
    rig.swept("web1");
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.sheet("web1").last_exit.unwrap().exit.status, Status::Unknown);
}

#[test]
fn a_stop_that_obeys_ends_without_sigkill() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    rig.later(SECOND);
    rig.diary();
    assert_eq!(rig.exited("web1", code(0)), ["sweep web1#1"]);
    assert_eq!(rig.swept("web1"), NOTHING);
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(
        rig.diary(),
        [
            "web1 exited: exited 1.0s into its drain for a stop (alice)",
            "web1 stopped: stopped (alice)"
        ]
    );
    assert_eq!(rig.sheet("web1").last_exit.unwrap().cause, "SIGTERM by alice");
    assert_eq!(rig.sheet("web1").why, "stopped by alice");
}

#[test]
fn a_restart_comes_back_and_is_no_crash() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(rig.tell(restart("web1")), ["out web1", "stop Readiness web1", "SIGTERM web1"]);
    assert_eq!(rig.gone("web1", code(0)), ["sweep web1#1", "spawn web1#2"]);
    assert_eq!(rig.sheet("web1").restarts, 0);
}

#[test]
fn requests_lost_to_a_limit_of_the_server_are_named() {
    let told = |after: u64, in_flight: InFlight| {
        let mut rig = Rig::ready(vec![web(&["web1"])]);
        rig.load("web1", in_flight);
        rig.tell(signal("web1", Signal::TERM));
        rig.diary();
        rig.later(Duration::from_millis(after));
        rig.exited("web1", code(0));
        rig.diary().remove(0)
    };
    let four = InFlight::Estimated(4);
    insta::assert_snapshot!(told(3010, four), @"web1 exited: exited 3.0s into its drain for SIGTERM with 4 requests in flight (estimated): its own max_wait_time is probably 3s, the deck's is 10s (alice)");
    insta::assert_snapshot!(told(3000, InFlight::Exact(1)), @"web1 exited: exited 3.0s into its drain for SIGTERM with 1 request in flight: its own max_wait_time is probably 3s, the deck's is 10s (alice)");
    insta::assert_snapshot!(told(3150, four), @"web1 exited: exited 3.1s into its drain for SIGTERM with 4 requests in flight (estimated): its own max_wait_time is probably 3s, the deck's is 10s (alice)");
    let profile = Profile { limit_known: true, limit_early: SECOND, ..swoole_profile() };
    let mut rig = Rig::ready(vec![ServiceRules { profile: profile.into(), ..web(&["web1"]) }]);
    rig.load("web1", four);
    rig.tell(signal("web1", Signal::TERM));
    rig.diary();
    rig.later(Duration::from_millis(2400));
    rig.exited("web1", code(0));
    insta::assert_snapshot!(rig.diary().remove(0), @"web1 exited: exited 2.4s into its drain for SIGTERM with 4 requests in flight (estimated): its own max_wait_time is probably 3s, the deck's is 10s (alice)");
    insta::assert_snapshot!(told(3151, four), @"web1 exited: exited 3.2s into its drain for SIGTERM with 4 requests in flight (estimated) (alice)");
    insta::assert_snapshot!(told(100, four), @"web1 exited: exited 0.1s into its drain for SIGTERM with 4 requests in flight (estimated) (alice)");
    insta::assert_snapshot!(told(3010, InFlight::Exact(0)), @"web1 exited: exited 3.0s into its drain for SIGTERM (alice)");
}

#[test]
fn an_exit_by_our_own_sigkill_is_nobody_elses_limit() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Estimated(4));
    rig.tell(stop("web1"));
    rig.later(10 * SECOND);
    rig.diary();
    rig.exited("web1", killed_by(Signal::KILL));
    insta::assert_snapshot!(rig.diary()[0], @"web1 exited: killed by SIGKILL 10.0s into its drain for a stop with 4 requests in flight (estimated) (alice)");
}

#[test]
fn the_limit_of_a_server_counts_from_its_first_signal() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(restart("web1"));
    rig.later(Duration::from_millis(7000));
    rig.diary();
    rig.later(Duration::from_millis(2005));
    rig.exited("web1", killed_by(Signal::TERM));
    insta::assert_snapshot!(rig.diary()[0], @"web1 exited: killed by SIGTERM 9.0s into its drain for a restart with 1 request in flight: its own max_wait_time is probably 2s, the deck's is 10s (alice)");
}

#[test]
fn causes_within_a_stop_are_told_apart() {
    let told = |exit| {
        let mut rig = Rig::ready(vec![web(&["web1"])]);
        rig.tell(stop("web1"));
        rig.exited("web1", exit);
        rig.sheet("web1").last_exit.unwrap().cause
    };
    let mut memory = killed_by(Signal::KILL);
    memory.out_of_memory = OutOfMemory::Certainly;
    assert_eq!(told(code(1)), "SIGTERM by alice");
    assert_eq!(told(killed_by(Signal::TERM)), "SIGTERM by alice");
    assert_eq!(told(killed_by(Signal(11))), "by itself (killed by SIGSEGV)");
    assert_eq!(told(killed_by(Signal::KILL)), "a signal that opsdeck did not send (SIGKILL)");
    assert_eq!(told(memory.clone()), "by the kernel: out of memory");
    memory.out_of_memory = OutOfMemory::Probably;
    assert_eq!(told(memory), "probably by the kernel: out of memory");

    let draining = |exit, quit: bool| {
        let mut rig = Rig::ready(vec![web(&["web1"])]);
        rig.load("web1", InFlight::Exact(1));
        rig.tell(stop("web1"));
        if quit {
            rig.tell(signal("web1", Signal::QUIT));
        }
        rig.exited("web1", exit);
        rig.sheet("web1").last_exit.unwrap().cause
    };
    assert_eq!(draining(code(3), false), "by itself with code 3");
    assert_eq!(draining(killed_by(Signal::QUIT), true), "SIGQUIT by alice");
}

#[test]
fn failing_startup_restarts_with_backoff() {
    let mut service = web(&["web1"]);
    service.startup = Some(Thresholds { success: 1, failure: 2 });
    let mut rig = Rig::begun(vec![service]);
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Startup, false), NOTHING);
    assert_eq!(rig.probed("web1", Probe::Startup, false), ["stop Startup web1", "SIGTERM web1"]);
    assert_eq!(rig.diary()[1], "web1 startup-failed: startup fails: 503");
    assert_eq!(rig.gone("web1", code(0)), ["sweep web1#1", "spawn web1#2"]);
    assert_eq!(rig.sheet("web1").restarts, 1);
    rig.spawned("web1");
    rig.probed("web1", Probe::Startup, false);
    rig.probed("web1", Probe::Startup, false);
    rig.gone("web1", code(0));
    assert_eq!(rig.condition("web1"), Condition::Backoff);
}

#[test]
fn a_new_budget_holds_for_the_next_stop() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let longer = ServiceRules { max_wait_time: 30 * SECOND, ..web(&["web1"]) };
    assert_eq!(rig.input(super::input::Input::Configured(vec![longer])), NOTHING);
    rig.tell(stop("web1"));
    assert_eq!(rig.later(Duration::from_millis(29_999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["kill all web1#1"]);
}
