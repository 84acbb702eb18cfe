//! Signals that go through a whole service, one instance after the other.

use std::collections::BTreeMap;

use super::fixture::*;
use super::input::{Disposition, InFlight, Probe, Verb};
use super::rules::ServiceRules;
use super::words::{Name, Signal};

const NOTHING: [&str; 0] = [];

fn wave(signal: Option<Signal>, dispositions: &[(&str, Disposition)]) -> Verb {
    let dispositions = dispositions.iter().map(|(name, it)| (Name::from(*name), *it));
    Verb::SignalService {
        service: "web".into(),
        signal,
        dispositions: dispositions.collect::<BTreeMap<_, _>>(),
    }
}

#[test]
fn a_signal_goes_through_a_service_one_by_one() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2", "web3"])]);
    let (answer, effects) = rig.ask(wave(None, &[]));
    assert_eq!(answer.as_deref(), Ok("SIGUSR1 goes to the instances of web, one by one"));
    assert_eq!(effects, ["SIGUSR1 web1"]);
    insta::assert_snapshot!(rig.refusal(wave(None, &[])), @"Busy: no signal was sent to web: SIGUSR1 of alice is still on its way");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING, "no time has passed");
    rig.later(SECOND);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), ["out web1"]);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1", "SIGUSR1 web2"]);
    rig.later(SECOND);
    assert_eq!(rig.probed("web2", Probe::Readiness, true), ["SIGUSR1 web3"]);
    rig.later(SECOND);
    rig.probed("web3", Probe::Readiness, true);
    let diary = rig.diary();
    assert_eq!(diary[0], "web signal: SIGUSR1 to all of web, one by one (alice)");
    assert_eq!(diary.last().unwrap(), "web signal-finished: SIGUSR1 went through web (alice)");
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn a_signal_goes_no_further_than_one_that_is_not_ready_after_it() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2"])]);
    rig.tell(wave(None, &[]));
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(rig.later(59 * SECOND), NOTHING);
    rig.diary();
    assert_eq!(rig.later(SECOND), NOTHING);
    insta::assert_snapshot!(rig.diary()[0], @"web signal-halted: SIGUSR1 went no further than web1, which was not ready within 1m00s; 1 more did not get it (alice)");
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn without_a_probe_a_signal_waits_for_start_seconds() {
    let service =
        ServiceRules { profile: swoole_profile().into(), ..rules("web", &["web1", "web2"]) };
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.tell(wave(None, &[])), ["SIGUSR1 web1"]);
    assert_eq!(rig.later(std::time::Duration::from_millis(999)), NOTHING);
    assert_eq!(rig.later(std::time::Duration::from_millis(1)), ["SIGUSR1 web2"]);
    rig.later(SECOND);
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn a_signal_goes_no_further_than_one_that_it_has_ended() {
    let service =
        ServiceRules { profile: swoole_profile().into(), ..rules("web", &["web1", "web2"]) };
    let ended = |exit| {
        let mut rig = Rig::ready(vec![service.clone()]);
        rig.tell(wave(None, &[]));
        rig.diary();
        let effects = rig.gone("web1", exit);
        assert!(!effects.contains(&"SIGUSR1 web2".to_owned()), "{effects:?}");
        let diary = rig.diary();
        rig.come_up("web1");
        rig.later(60 * SECOND);
        assert_eq!(rig.fleet.next_deadline(), None);
        diary.into_iter().find(|it| it.contains("signal-halted")).unwrap()
    };
    insta::assert_snapshot!(ended(code(3)), @"web signal-halted: SIGUSR1 went no further than web1, which ended by itself with code 3 after it; 1 more did not get it (alice)");
    let killed = ended(killed_by(Signal::USR1));
    assert!(
        killed.contains("went no further than web1, which ended by SIGUSR1, by alice after it"),
        "{killed}"
    );

    // What an operator has restarted meanwhile is waited for.
    let mut rig = Rig::ready(vec![service]);
    rig.tell(wave(None, &[]));
    rig.ask(restart("web1")).0.unwrap();
    rig.gone("web1", code(0));
    rig.spawned("web1");
    let effects = rig.later(SECOND);
    assert!(effects.contains(&"SIGUSR1 web2".to_owned()), "{effects:?}");
}

#[test]
fn a_signal_through_a_service_skips_what_is_stopped_meanwhile() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2", "web3"])]);
    rig.tell(wave(None, &[]));
    rig.tell(stop("web2"));
    let effects = rig.tell(stop("web1"));
    assert!(effects.contains(&"SIGUSR1 web3".to_owned()), "{effects:?}");
}

#[test]
fn a_signal_through_a_service_skips_a_process_that_nobody_has_looked_at() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2", "web3"])]);
    rig.tell(wave(None, &[]));
    rig.gone("web2", code(1));
    rig.come_up("web2");
    rig.later(SECOND);
    rig.diary();
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["SIGUSR1 web3"]);
    insta::assert_snapshot!(rig.diary()[0], @"web2 signal-skipped: SIGUSR1 was not sent: it was started anew meanwhile (alice)");
}

#[test]
fn a_signal_to_a_service_is_guarded_for_each_of_its_instances() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2"])]);
    let question = rig.question(wave(Some(Signal::HUP), &[("web2", Disposition::Default)]));
    assert_eq!(question.as_deref(), Some("SIGHUP is not caught: it will kill web2"));
    for signal in [Signal::TERM, Signal::KILL] {
        let refusal = rig.refusal(wave(Some(signal), &[]));
        assert!(refusal.contains("would end instance after instance"), "{refusal}");
    }
    rig.probed("web1", Probe::Readiness, false);
    let question = rig.question(wave(Some(Signal::HUP), &[]));
    assert_eq!(
        question.as_deref(),
        Some("SIGHUP may end it: web2 is the last ready instance of web")
    );
    assert_eq!(rig.question(wave(None, &[])), None);

    let mut rig = Rig::ready(vec![swoole(&["web1"])]);
    rig.tell(stop("web1"));
    insta::assert_snapshot!(rig.refusal(wave(None, &[])), @"Refused: no signal was sent to web: nothing of web runs");
}

/// Two instances of `web` behind a gateway that are drained for a reload.
fn drained() -> ServiceRules {
    ServiceRules { profile: swoole_profile().into(), reload_drain: true, ..web(&["web1", "web2"]) }
}

#[test]
fn a_reload_that_drains_takes_one_after_the_other_out_and_puts_it_back() {
    let mut rig = Rig::ready(vec![drained()]);
    rig.load("web1", InFlight::Exact(3));
    rig.load("web2", InFlight::Exact(0));
    assert_eq!(rig.tell(wave(None, &[])), ["out web1"]);
    assert_eq!(rig.sheet("web1").why, "ready, out of rotation");
    assert_eq!(rig.load("web1", InFlight::Exact(1)), [""; 0]);
    assert_eq!(rig.load("web1", InFlight::Exact(0)), ["SIGUSR1 web1"]);
    assert_eq!(rig.later(SECOND), [""; 0], "it is not known to be ready again");
    let effects = rig.probed("web1", Probe::Readiness, true);
    assert_eq!(effects, ["admit web1", "out web2", "SIGUSR1 web2"]);
    rig.later(SECOND);
    assert_eq!(rig.probed("web2", Probe::Readiness, true), ["admit web2"]);
    let told: Vec<String> =
        rig.diary().into_iter().filter(|it| !it.contains("no longer kept")).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    web signal: SIGUSR1 to all of web, one by one (alice)
    web1 reload: out of rotation for SIGUSR1 (alice)
    web1 signal-sent: SIGUSR1 (reload all workers) (alice)
    web2 reload: out of rotation for SIGUSR1 (alice)
    web2 signal-sent: SIGUSR1 (reload all workers) (alice)
    web signal-finished: SIGUSR1 went through web (alice)
    ");
}

#[test]
fn a_reload_goes_on_when_a_drain_takes_too_long_and_says_so() {
    let mut rig = Rig::ready(vec![drained()]);
    rig.load("web1", InFlight::Exact(2));
    rig.tell(signal("web1", Signal::USR1));
    // max_wait_time 10s less the reserve of 3s.
    assert_eq!(rig.later(6 * SECOND), [""; 0]);
    assert_eq!(rig.later(SECOND), ["SIGUSR1 web1"]);
    let diary = rig.diary();
    assert!(diary.iter().any(|it| it.contains("2 requests still in flight after 7s")), "{diary:?}");
}

#[test]
fn a_reload_that_drains_asks_before_the_last_ready_one_and_waits_for_the_others() {
    let mut rig = Rig::ready(vec![drained()]);
    rig.probed("web2", Probe::Readiness, false);
    let asked = rig.question(signal("web1", Signal::USR1));
    assert_eq!(asked.as_deref(), Some("web1 is the last ready instance of web"));
    rig.probed("web2", Probe::Readiness, true);
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(rig.tell(wave(None, &[])), ["out web1", "SIGUSR1 web1"]);
    // web1 never comes back: web2 keeps serving.
    rig.probed("web1", Probe::Readiness, false);
    assert!(!rig.later(120 * SECOND).contains(&"out web2".to_owned()));
    assert_eq!(rig.fleet.instance_sheet("web2").map(|it| it.in_rotation), Some(true));
}

#[test]
fn a_rollout_and_a_reload_that_drains_wait_for_each_other() {
    let mut rig = Rig::ready(vec![drained()]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(wave(None, &[]));
    let refusal = rig.refusal(roll("web"));
    assert_eq!(refusal, "Busy: web was not rolled: SIGUSR1 of alice is still on its way");
    assert!(rig.refusal(signal("web2", Signal::USR1)).starts_with("Busy"));
}

#[test]
fn who_ends_while_it_drains_for_a_reload_is_not_waited_for() {
    let mut rig = Rig::ready(vec![drained()]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(wave(None, &[]));
    rig.gone("web1", code(1));
    rig.come_up("web1");
    assert!(rig.sheet("web1").in_rotation, "nothing keeps the new one out");
}

#[test]
fn stop_all_ends_a_signal_on_its_way() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2"])]);
    rig.tell(wave(None, &[]));
    rig.tell(Verb::StopAll);
    rig.gone("web1", code(0));
    rig.gone("web2", code(0));
    assert_eq!(rig.fleet.next_deadline(), None);
}
