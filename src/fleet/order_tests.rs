//! Orders, their answers, and what the guard asks.

use super::fixture::*;
use super::input::{Disposition, InFlight, Input, Probe, Verb};
use super::rules::{Meaning, Profile, ServiceRules};
use super::sheet::Condition;
use super::words::{Name, Process, Signal};

const NOTHING: [&str; 0] = [];

fn drain(name: &str) -> Verb {
    Verb::Drain(Name::from(name))
}

fn undrain(name: &str) -> Verb {
    Verb::Undrain(Name::from(name))
}

fn signal_as(name: &str, signal: Signal, disposition: Disposition) -> Verb {
    Verb::Signal { instance: name.into(), signal: Some(signal), process: None, disposition }
}

fn reload(name: &str) -> Verb {
    Verb::Signal {
        instance: name.into(),
        signal: None,
        process: None,
        disposition: Disposition::Caught,
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    for verb in [
        start("api"),
        stop("api"),
        restart("api"),
        drain("api"),
        undrain("api"),
        Verb::Extend("api".into()),
        Verb::Kill("api".into()),
        signal("api", Signal::HUP),
        Verb::StartService("api".into()),
        stop_service("api"),
        Verb::RestartService("api".into()),
        Verb::Abort("api".into()),
        Verb::Pause("api".into()),
        Verb::Resume("api".into()),
        Verb::RollBack("api".into()),
    ] {
        let refusal = rig.refusal(verb.clone());
        assert!(refusal.starts_with("NotFound"), "{verb:?}: {refusal}");
    }
    assert!(rig.fleet.plan("api").is_err());
    assert_eq!(rig.fleet.instance_sheet("api"), None);
    assert_eq!(rig.fleet.service_sheet("api"), None);
    assert_eq!(rig.fleet.why("api"), None);
}

#[test]
fn the_last_ready_instance_is_not_taken_away_unasked() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    for verb in [stop("web1"), restart("web1"), drain("web1"), signal("web1", Signal::TERM)] {
        let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
        assert_eq!(rig.question(verb.clone()), None, "{verb:?}");
    }
    rig.probed("web1", Probe::Readiness, false);
    for verb in [stop("web2"), restart("web2"), drain("web2"), signal("web2", Signal::TERM)] {
        let question = rig.question(verb);
        assert_eq!(question.as_deref(), Some("web2 is the last ready instance of web"));
    }
    for (number, effect) in
        [(3, "SIGQUIT may end"), (12, "SIGUSR2 may end"), (20, "SIGTSTP may halt")]
    {
        let question = rig.question(signal("web2", Signal(number)));
        assert_eq!(question, Some(format!("{effect} it: web2 is the last ready instance of web")));
    }
    assert_eq!(rig.question(stop("web1")), None, "it serves nobody anyway");
}

#[test]
fn one_that_is_held_or_on_its_way_down_does_not_count_as_ready() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(drain("web1"));
    assert!(rig.question(stop("web2")).is_some());
    rig.tell(undrain("web1"));
    rig.tell(restart("web1"));
    assert!(rig.question(stop("web2")).is_some());
}

#[test]
fn a_signal_that_cuts_is_asked_about_while_something_is_in_flight() {
    let mut service = web(&["web1", "web2"]);
    let int = Meaning {
        signal: Signal::INT,
        does: "stop at once".into(),
        harmless: false,
        cuts: true,
        renews: vec![],
    };
    let profile = Profile { signals: vec![int], ..(*service.profile).clone() };
    service.profile = profile.into();
    let mut rig = Rig::ready(vec![service]);
    assert_eq!(rig.question(signal("web1", Signal::INT)), None, "web2 serves");
    let mut busy = |n| {
        rig.load("web1", InFlight::Exact(n));
        rig.question(signal("web1", Signal::INT))
    };
    assert_eq!(busy(1).as_deref(), Some("SIGINT cuts 1 request in flight at web1"));
    assert_eq!(busy(0), None);
}

#[test]
fn an_only_instance_is_called_so() {
    let mut rig = Rig::ready(vec![rules("queue", &["queue"])]);
    let question = rig.question(signal("queue", Signal::TERM));
    assert_eq!(question.as_deref(), Some("queue has no other instance"));
}

#[test]
fn what_the_profile_calls_a_reload_goes_at_once() {
    let mut rig = Rig::ready(vec![swoole(&["web1"])]);
    assert_eq!(rig.question(signal("web1", Signal::USR1)), None);
    assert_eq!(rig.diary(), ["web1 signal-sent: SIGUSR1 (reload all workers) (alice)"]);
    let (answer, effects) = rig.ask(reload("web1"));
    assert_eq!(answer.as_deref(), Ok("SIGUSR1 was sent to web1: reload all workers"));
    assert_eq!(effects, ["SIGUSR1 web1"]);
    assert!(rig.question(signal("web1", Signal::HUP)).is_some(), "its effect is unknown");

    let (does, renews) = ("upgrade".into(), vec![]);
    let harmful = Meaning { signal: Signal::USR2, does, harmless: false, cuts: false, renews };
    let profile = Profile { signals: vec![harmful], ..Profile::plain("generic") }.into();
    let mut rig = Rig::ready(vec![ServiceRules { profile, ..web(&["web1"]) }]);
    assert!(rig.question(signal("web1", Signal::USR2)).is_some());
}

#[test]
fn a_signal_that_is_not_caught_asks_first() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2"])]);
    for signal in [Signal::HUP, Signal::USR1] {
        let question = rig.question(signal_as("web1", signal, Disposition::Default));
        assert_eq!(question, Some(format!("{signal} is not caught: it will kill web1")));
    }
    let question = rig.question(signal_as("web1", Signal::TERM, Disposition::Default));
    assert_eq!(question.as_deref(), Some("SIGTERM is not caught: it will kill web1"));
    assert_eq!(rig.question(signal_as("web1", Signal::WINCH, Disposition::Default)), None);
    assert_eq!(rig.question(signal_as("web1", Signal::HUP, Disposition::Unknown)), None);

    let mut rig = Rig::ready(vec![web(&["web1"])]);
    assert_eq!(rig.question(signal_as("web1", Signal::HUP, Disposition::Ignored)), None);
    assert!(rig.question(signal_as("web1", Signal::HUP, Disposition::Unknown)).is_some());
    let term = signal_as("web1", Signal::TERM, Disposition::Ignored);
    assert!(rig.question(term).is_some(), "it leaves the rotation all the same");
}

#[test]
fn a_reload_that_may_close_every_connection_asks_first_unless_it_drains_before() {
    let mut rig = Rig::ready(vec![swoole(&["web1", "web2"])]);
    rig.input(Input::Load { instance: "web1".into(), in_flight: InFlight::Exact(2) });
    let usr1 = signal_as("web1", Signal::USR1, Disposition::MayCut);
    let question =
        "if the workers of web1 are threads, SIGUSR1 closes every connection: 2 requests in flight";
    assert_eq!(rig.question(usr1.clone()).as_deref(), Some(question));
    let service = Verb::SignalService {
        service: "web".into(),
        signal: None,
        dispositions: [("web2".into(), Disposition::MayCut)].into(),
    };
    let question = "if the workers of web2 are threads, SIGUSR1 closes every connection";
    assert_eq!(rig.question(service).as_deref(), Some(question));

    let drained = ServiceRules { reload_drain: true, fronted: true, ..swoole(&["web1", "web2"]) };
    assert_eq!(Rig::ready(vec![drained]).question(usr1), None);
}

#[test]
fn ending_it_at_once_always_asks() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let question = "SIGKILL ends web1 at once, whatever it is doing";
    assert_eq!(rig.question(stop_now("web1")).as_deref(), Some(question));
    assert_eq!(rig.question(signal("web1", Signal::KILL)).as_deref(), Some(question));
    rig.load("web1", InFlight::Estimated(4));
    rig.tell(stop("web1"));
    let question = "SIGKILL ends web1 at once and cuts 4 requests in flight";
    assert_eq!(rig.question(Verb::Kill("web1".into())).as_deref(), Some(question));
    rig.gone("web1", code(0));
    assert_eq!(rig.question(stop_now("web1")), None, "nothing runs");
}

#[test]
fn stopping_or_restarting_a_whole_service_asks() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let stop = stop_service("web");
    assert_eq!(rig.question(stop.clone()).as_deref(), Some("it stops all of web, 2 instances"));
    let restart = Verb::RestartService("web".into());
    assert_eq!(
        rig.question(restart.clone()).as_deref(),
        Some("all of web restarts at once: nobody serves meanwhile")
    );
    assert_eq!(rig.question(Verb::StopAll).as_deref(), Some("it stops everything, 1 service"));
    rig.tell(stop);
    assert_eq!(rig.question(restart), None);
}

#[test]
fn an_adopted_instance_may_be_the_last_before_its_probe_says_so() {
    let mut rig = Rig::configured(vec![web(&["web1"])]);
    rig.input(super::input::Input::Adopted {
        instance: "web1".into(),
        process: Process { pid: 5, start_time: 5 },
        generation: 3,
        started: at(1),
        fingerprint: 1,
        foreign: false,
    });
    rig.input(super::input::Input::Begin);
    assert!(rig.question(stop("web1")).is_some());
}

#[test]
fn a_target_that_changed_is_refused() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let seen = rig.process("web1");
    let aimed = |process| Verb::Signal {
        instance: "web1".into(),
        signal: Some(Signal::USR1),
        process: Some(process),
        disposition: Disposition::Caught,
    };
    assert_eq!(rig.tell(aimed(seen)), ["SIGUSR1 web1"]);
    rig.gone("web1", code(1));
    insta::assert_snapshot!(rig.refusal(aimed(seen)), @"Changed: SIGUSR1 was not sent to web1: web1 does not run any more");
    insta::assert_snapshot!(rig.refusal(signal("web1", Signal::USR1)), @"Refused: SIGUSR1 was not sent to web1: web1 does not run");
    rig.spawned("web1");
    insta::assert_snapshot!(rig.refusal(aimed(seen)), @"Changed: SIGUSR1 was not sent to web1: web1 is another process now, pid 3672");
    let recycled = Process { start_time: 99, ..rig.process("web1") };
    assert!(rig.refusal(aimed(recycled)).starts_with("Changed"));
}

#[test]
fn a_reload_needs_a_profile_that_knows_one() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    insta::assert_snapshot!(rig.refusal(reload("web1")), @"Refused: web1 was not reloaded: the profile generic knows no signal that reloads it");
}

#[test]
fn an_ignored_signal_is_sent_and_said_to_be_ignored() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let (answer, effects) = rig.ask(signal_as("web1", Signal::HUP, Disposition::Ignored));
    assert_eq!(answer.as_deref(), Ok("SIGHUP was sent to web1, which ignores it"));
    assert_eq!(effects, ["SIGHUP web1"]);
    assert_eq!(rig.ask(signal("web1", Signal::HUP)).0.as_deref(), Ok("SIGHUP was sent to web1"));
}

#[test]
fn a_held_instance_stays_out_of_rotation_until_it_is_released() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    assert_eq!(rig.tell(drain("web1")), ["remember web1 up, held by alice", "out web1"]);
    assert_eq!(rig.sheet("web1").held_by, Some(by("alice")));
    insta::assert_snapshot!(rig.refusal(drain("web1")), @"Refused: web1 was not taken out of rotation: web1 is held by alice already");
    rig.tell(restart("web1"));
    rig.gone("web1", code(0));
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING);
    assert_eq!(rig.tell(undrain("web1")), ["remember web1 up", "admit web1"]);
    insta::assert_snapshot!(rig.refusal(undrain("web1")), @"Refused: web1 was not put back into rotation: nobody holds web1 out of rotation");
    let diary = rig.diary().join("\n");
    assert!(diary.contains("web1 held: held out of rotation (alice)"));
    assert!(diary.contains("web1 released: released into rotation (alice)"));
}

#[test]
fn one_that_is_not_ready_is_released_and_waits() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.tell(drain("web1"));
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(rig.tell(undrain("web1")), ["remember web1 up"]);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
}

#[test]
fn nothing_can_be_held_where_nothing_stands_in_front() {
    let mut rig = Rig::ready(vec![rules("queue", &["queue"])]);
    insta::assert_snapshot!(rig.refusal(drain("queue")), @"Refused: queue was not taken out of rotation: nothing stands in front of queue");
    let help = rig.ask(drain("queue")).0.unwrap_err().help;
    let wanted = r#"put one in front: [gateway.NAME] with service = "queue""#;
    assert_eq!(help.as_deref(), Some(wanted));
}

#[test]
fn orders_answer_with_what_was_begun() {
    let mut rig = Rig::begun(vec![web(&["web1"])]);
    let answer = |rig: &mut Rig, verb| rig.ask(verb).0.unwrap();
    assert_eq!(answer(&mut rig, start("web1")), "web1 is being started");
    assert_eq!(answer(&mut rig, stop("web1")), "web1 is stopped as soon as it is up");
    rig.tell(start("web1"));
    rig.spawned("web1");
    assert_eq!(answer(&mut rig, start("web1")), "web1 runs");
    assert_eq!(
        answer(&mut rig, stop("web1")),
        "web1 is being stopped, SIGKILL in 10s at the latest"
    );
    rig.exited("web1", code(0));
    assert_eq!(answer(&mut rig, stop("web1")), "web1 has ended and stays down");
    rig.swept("web1");
    assert_eq!(answer(&mut rig, stop("web1")), "web1 is stopped");
    assert_eq!(answer(&mut rig, start("web1")), "web1 is being started");
    rig.spawned("web1");
    assert_eq!(answer(&mut rig, restart("web1")), "web1 is being restarted");
}

#[test]
fn a_restart_starts_what_stands_still() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    rig.gone("web1", code(0));
    assert_eq!(rig.tell(restart("web1")), ["remember web1 up", "spawn web1#2"]);
}

#[test]
fn whole_services_are_started_stopped_and_restarted() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let (answer, effects) = rig.ask(Verb::RestartService("web".into()));
    assert_eq!(answer.as_deref(), Ok("web is being restarted, all at once"));
    assert!(effects.contains(&"SIGTERM web1".into()) && effects.contains(&"SIGTERM web2".into()));
    rig.gone("web1", code(0));
    rig.gone("web2", code(0));
    rig.bring_up_all();
    let (answer, effects) = rig.ask(stop_service("web"));
    assert_eq!(answer.as_deref(), Ok("web is being stopped"));
    assert!(effects.contains(&"remember web2 down".into()), "{effects:?}");
    rig.gone("web1", code(0));
    rig.gone("web2", code(0));
    let (answer, effects) = rig.ask(Verb::StartService("web".into()));
    assert_eq!(answer.as_deref(), Ok("web is being started"));
    assert_eq!(effects, ["remember web1 up", "remember web2 up", "spawn web1#3", "spawn web2#3"]);
}

#[test]
fn a_whole_service_is_ended_at_once() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let stop_now = Verb::StopService { service: "web".into(), now: true };
    insta::assert_snapshot!(rig.question(stop_now.clone()).unwrap(), @"SIGKILL ends all of web at once, 2 instances, whatever they are doing");
    let (answer, effects) = rig.ask(stop_now);
    assert_eq!(answer.as_deref(), Ok("all of web gets SIGKILL"));
    let kills: Vec<_> = effects.iter().filter(|it| it.starts_with("kill all")).collect();
    assert_eq!(kills, ["kill all web1#1", "kill all web2#1"]);
}

#[test]
fn what_was_to_be_killed_as_soon_as_it_is_up_still_is_after_a_plain_stop() {
    let mut rig = Rig::begun(vec![web(&["web1"])]);
    rig.tell(stop_now("web1"));
    rig.tell(stop("web1"));
    assert!(rig.spawned("web1").contains(&"kill all web1#1".to_owned()));
}

#[test]
fn what_is_disabled_or_being_shut_down_is_not_started() {
    let disabled = ServiceRules { enabled: false, ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![disabled]);
    insta::assert_snapshot!(rig.refusal(start("web1")), @"Refused: web1 was not started: web is disabled in the configuration");
    assert!(rig.refusal(restart("web1")).contains("disabled"));
    assert!(rig.refusal(Verb::StartService("web".into())).contains("disabled"));
    assert!(rig.refusal(Verb::RestartService("web".into())).contains("disabled"));

    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(Verb::StopAll);
    insta::assert_snapshot!(rig.refusal(start("web1")), @"Refused: web1 was not started: everything is being shut down");

    let mut rig = Rig::ready(vec![web(&["web1"]), rules("cron", &["cron"])]);
    rig.input(super::input::Input::Configured(vec![rules("cron", &["cron"])]));
    insta::assert_snapshot!(rig.refusal(start("web1")), @"Refused: web1 was not started: web1 is no longer in the configuration");
}

#[test]
fn stop_all_brings_everything_to_rest() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"]), rules("cron", &["cron"])]);
    assert!(!rig.fleet.is_at_rest());
    let (answer, _) = rig.ask(Verb::StopAll);
    assert_eq!(answer.as_deref(), Ok("everything is being stopped, 2 services"));
    assert_eq!(rig.ask(Verb::StopAll).0.as_deref(), Ok("the shutdown by alice is under way"));
    for name in ["web1", "web2", "cron"] {
        assert!(!rig.fleet.is_at_rest());
        rig.gone(name, code(0));
    }
    assert!(rig.fleet.is_at_rest());
    assert_eq!(rig.fleet.next_deadline(), None);
    assert_eq!(rig.sheet("web1").why, "shut down by alice");
    assert_eq!(rig.sheet("web1").goal, super::input::Goal::Up, "it starts with the next daemon");
}

#[test]
fn stop_all_ends_a_rollout_and_what_waits() {
    let mut service = web(&["web1", "web2"]);
    service.rollout.build = 1;
    let mut rig = Rig::ready(vec![service, rules("cron", &["cron"])]);
    rig.gone("cron", code(1));
    rig.spawned("cron");
    rig.gone("cron", code(1));
    assert_eq!(rig.condition("cron"), Condition::Backoff);
    rig.tell(roll("web"));
    let effects = rig.tell(Verb::StopAll);
    assert!(effects.contains(&"cancel web1".to_owned()), "{effects:?}");
    assert_eq!(rig.condition("cron"), Condition::Stopped);
    rig.gone("web1", code(0));
    rig.gone("web2", code(0));
    assert!(rig.fleet.is_at_rest());
    assert_eq!(rig.later(1000 * SECOND), NOTHING);
}

#[test]
fn a_stop_that_ends_in_a_start_says_so() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.tell(stop("web1"));
    assert_eq!(rig.sheet("web1").why, "stops by alice: SIGTERM sent");
    rig.tell(start("web1"));
    assert_eq!(rig.sheet("web1").why, "restarts by alice: SIGTERM sent");
}
