//! Drains of instances that say themselves what they have in flight, with nothing in front of them.

use super::fixture::*;
use super::input::{InFlight, Probe};
use super::rules::ServiceRules;
use super::words::Signal;

const NOTHING: [&str; 0] = [];

fn gauged() -> ServiceRules {
    ServiceRules { gauged: true, ..rules("web", &["web1"]) }
}

/// Ready; nobody is asked but by the test.
fn rig(rules: ServiceRules) -> Rig {
    let mut rig = Rig::ready(vec![rules]);
    rig.gateway_answers = false;
    rig
}

#[test]
fn only_what_it_says_after_it_was_taken_out_ends_its_drain() {
    let mut rig = rig(gauged());
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.tell(stop("web1"))[1..], ["out web1"]);
    assert_eq!(
        rig.diary().last().unwrap(),
        "web1 draining: it is asked until nothing is in flight, 0 in flight (alice)"
    );
    assert_eq!(rig.load("web1", InFlight::Exact(2)), NOTHING);
    assert_eq!(rig.taken_out("web1"), NOTHING);
    assert_eq!(rig.load("web1", InFlight::Exact(1)), NOTHING);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), ["SIGTERM web1"]);
    assert_eq!(rig.diary(), ["web1 signal-sent: SIGTERM (alice)"], "nothing in front sends any");
}

#[test]
fn one_that_says_nothing_is_not_waited_for() {
    let mut rig = rig(gauged());
    rig.tell(stop("web1"));
    rig.load("web1", InFlight::Estimated(2));
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
}

#[test]
fn one_that_always_has_something_leaves_the_ladder_its_reserve() {
    let mut rig = rig(gauged());
    rig.tell(stop("web1"));
    rig.load("web1", InFlight::Exact(2));
    rig.taken_out("web1");
    assert_eq!(rig.later(6 * SECOND), NOTHING);
    assert_eq!(rig.later(SECOND), ["SIGTERM web1"]);
}

#[test]
fn a_signal_of_the_operator_waits_for_nothing() {
    let mut rig = rig(gauged());
    rig.load("web1", InFlight::Exact(2));
    let told = rig.tell(signal("web1", Signal::TERM));
    assert!(told.contains(&"SIGTERM web1".to_owned()), "{told:?}");
}

#[test]
fn one_that_was_not_ready_is_asked_all_the_same() {
    let readiness = web(&["web1"]).readiness;
    let mut rig = rig(ServiceRules { readiness, ..gauged() });
    (0..3).for_each(|_| drop(rig.probed("web1", Probe::Readiness, false)));
    rig.taken_out("web1");
    rig.load("web1", InFlight::Exact(0));
    let told = rig.tell(stop("web1"));
    assert!(told.contains(&"out web1".to_owned()), "{told:?}");
    assert!(!told.contains(&"SIGTERM web1".to_owned()), "{told:?}");
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
}

#[test]
fn the_next_daemon_asks_anew_and_goes_on_waiting() {
    let mut rig = rig(gauged());
    rig.tell(stop("web1"));
    rig.load("web1", InFlight::Exact(2));
    rig.taken_out("web1");
    let mut next = rig.replaced(vec![gauged()], &["web1"], &[]);
    assert!(next.effects.contains(&"out web1".to_owned()), "{:?}", next.effects);
    assert!(!next.effects.contains(&"SIGTERM web1".to_owned()), "{:?}", next.effects);
    next.load("web1", InFlight::Exact(1));
    assert_eq!(next.taken_out("web1"), NOTHING);
    assert_eq!(next.load("web1", InFlight::Exact(0)), ["SIGTERM web1"]);
}

#[test]
fn what_stands_in_front_comes_first() {
    let fronted = ServiceRules { gauged: true, ..web(&["web1"]) };
    let mut rig = rig(fronted);
    rig.tell(stop("web1"));
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.taken_out("web1"), ["SIGTERM web1"]);
    assert_eq!(rig.diary()[1], "web1 draining: out of rotation (alice)", "as without a gauge");
}
