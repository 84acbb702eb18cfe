//! The daemon is replaced in the middle of something: it goes on.

use super::fixture::*;
use super::input::{InFlight, Input, Probe, Verb};
use super::rules::{Rung, ServiceRules};
use super::sheet::Condition;
use super::words::Signal;

const NOTHING: [&str; 0] = [];

#[test]
fn a_countdown_goes_on_to_the_same_moment_and_no_signal_is_sent_twice() {
    let mut service = web(&["web1"]);
    service.stop = vec![
        Rung { signal: Signal::QUIT, wait: Some(4 * SECOND) },
        Rung { signal: Signal::TERM, wait: None },
    ];
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(stop("web1"));
    rig.later(3 * SECOND);
    let before = rig.sheet("web1").countdown;

    let mut rig = rig.replaced(vec![service.clone()], &["web1"], &[]);
    assert_eq!(rig.effects, ["out web1"]);
    assert_eq!(rig.sheet("web1").countdown, before);
    assert_eq!(rig.later(SECOND), ["SIGTERM web1"]);
    let mut rig = rig.replaced(vec![service], &["web1"], &[]);
    assert_eq!(rig.later(6 * SECOND), ["kill all web1#1"]);
    rig.gone("web1", killed_by(Signal::KILL));
    assert_eq!(rig.condition("web1"), Condition::Stopped);
}

#[test]
fn since_when_it_is_so_outlives_the_daemon() {
    let services = || vec![web(&["web1"]), rules("cron", &["cron"]), rules("job", &["job"])];
    let mut rig = Rig::ready(services());
    rig.tell(stop("job"));
    rig.gone("job", code(0));
    let since = ["web1", "cron", "job"].map(|it| rig.sheet(it).since);
    rig.later(500 * SECOND);
    for _ in 0..2 {
        rig = rig.replaced(services(), &["web1", "cron"], &[]);
        rig.later(10 * SECOND);
        rig.probed("web1", Probe::Readiness, true);
        assert_eq!(["web1", "cron", "job"].map(|it| rig.sheet(it).since), since);
    }
    let stopped = rig.now;
    rig.tell(restart("cron"));
    let mut rig = rig.replaced(services(), &["web1", "cron"], &[]);
    assert_eq!((rig.condition("cron"), rig.sheet("cron").since), (Condition::Stopping, stopped));
    rig.gone("cron", code(0));
    rig.come_up("cron");
    assert_eq!(rig.sheet("cron").since, rig.now, "another generation");
}

#[test]
fn a_drain_goes_on_until_the_last_request_or_as_long_as_it_might() {
    let service = web(&["web1"]);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.load("web1", InFlight::Exact(2));
    rig.tell(restart("web1"));
    rig.later(SECOND);
    rig.gateway_answers = false;
    let mut rig = rig.replaced(vec![service], &["web1"], &[]);
    rig.load("web1", InFlight::Exact(2));
    rig.taken_out("web1");
    assert_eq!(rig.condition("web1"), Condition::Draining);
    assert_eq!(rig.later(5 * SECOND), NOTHING);
    assert_eq!(rig.later(SECOND), ["SIGTERM web1"], "the reserve is 3s of 10s");
    let came_back = rig.gone("web1", code(0));
    assert!(came_back.contains(&"spawn web1#2".to_owned()), "{came_back:?}");
}

#[test]
fn a_backoff_keeps_its_moment_and_its_count() {
    let service = ServiceRules { retries: Some(3), ..rules("cron", &["cron"]) };
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.gone("cron", code(1));
    rig.spawned("cron");
    rig.gone("cron", code(1));
    let retry_at = rig.sheet("cron").retry_at;
    assert!(retry_at.is_some());

    let mut rig = rig.replaced(vec![service.clone()], &[], &[]);
    assert_eq!(rig.effects, NOTHING);
    assert_eq!(rig.sheet("cron").retry_at, retry_at);
    assert_eq!(rig.later(2 * SECOND), ["spawn cron#3"]);
    rig.spawned("cron");
    rig.gone("cron", code(1));
    rig.later(5 * SECOND);
    rig.spawned("cron");
    rig.gone("cron", code(1));
    assert_eq!(rig.condition("cron"), Condition::Fatal);

    let rig = rig.replaced(vec![service], &[], &[]);
    assert_eq!((rig.effects.len(), rig.condition("cron")), (0, Condition::Fatal));
}

#[test]
fn an_end_that_nobody_saw_is_a_crash() {
    let service = rules("cron", &["cron"]);
    let rig = Rig::ready(vec![service.clone()]);
    let mut rig = rig.replaced(vec![service], &[], &["cron"]);
    assert_eq!(rig.effects, ["sweep cron#1"], "nothing is started before the rest is gone");
    assert_eq!(rig.diary(), ["cron exited: ended while no daemon was there to see it"]);
    assert_eq!(rig.swept("cron"), ["spawn cron#2"]);
    assert_eq!(rig.sheet("cron").restarts, 1);
}

#[test]
fn an_end_that_nobody_saw_and_a_stop_had_asked_for_is_none() {
    let service = rules("cron", &["cron"]);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(restart("cron"));
    let mut rig = rig.replaced(vec![service], &[], &["cron"]);
    assert_eq!(rig.swept("cron"), ["spawn cron#2"]);
    assert_eq!(rig.sheet("cron").restarts, 0);
}

#[test]
fn what_runs_once_and_has_ended_is_not_run_again() {
    let service = ServiceRules { restart: super::rules::Restart::Never, ..rules("job", &["job"]) };
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.gone("job", code(0));
    let rig = rig.replaced(vec![service], &[], &[]);
    assert_eq!((rig.effects.len(), rig.condition("job")), (0, Condition::Exited));
}

#[test]
fn a_rollout_goes_on_with_the_instance_it_was_at() {
    let service = web(&["web1", "web2"]);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(roll("web"));
    let mut rig = rig.replaced(vec![service], &["web1", "web2"], &[]);
    let resumed = "web rollout-resumed: rolling restart of web goes on under this daemon: \
                   stopping web1, 0 instances renewed (alice)";
    assert!(rig.diary().contains(&resumed.to_owned()));
    rig.probed("web2", super::input::Probe::Readiness, true);
    for name in ["web1", "web2"] {
        rig.gone(name, code(0));
        rig.come_up(name);
        rig.later(4 * SECOND);
    }
    let rollout = rig.fleet.service_sheet("web").unwrap().rollout.unwrap();
    assert_eq!((rollout.step, rollout.renewed.len(), rollout.by), ("done", 2, by("alice")));
}

#[test]
fn a_rollout_that_built_halts_because_nobody_knows_how_that_ended() {
    let service = with(|it| it.build = 1);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(roll("web"));
    let rig = rig.replaced(vec![service], &["web1", "web2"], &[]);
    let rollout = rig.fleet.service_sheet("web").unwrap().rollout.unwrap();
    let why = "the daemon ended while build 1 for web1 ran; web1 was not touched";
    assert_eq!(rollout.halted.as_deref(), Some(why));
}

#[test]
fn a_paused_rollout_stays_paused_and_a_halted_one_is_still_known() {
    let service = web(&["web1", "web2"]);
    let mut rig = Rig::ready(vec![service.clone()]);
    rig.tell(roll("web"));
    rig.tell(super::input::Verb::Pause("web".into()));
    let mut rig = rig.replaced(vec![service.clone()], &["web1", "web2"], &[]);
    assert!(rig.fleet.service_sheet("web").unwrap().rollout.unwrap().paused);
    rig.gone("web1", code(0));
    rig.spawned("web1");
    rig.gone("web1", code(3));
    let rig = rig.replaced(vec![service], &["web2"], &[]);
    let halted = rig.fleet.service_sheet("web").unwrap().rollout.unwrap().halted.unwrap();
    assert!(halted.starts_with("web1 did not come back well"), "{halted}");
    assert!(rig.fleet.why("web1").unwrap().iter().any(|it| it.contains("out of rotation")));
}

#[test]
fn one_of_the_same_name_as_one_that_is_gone_remembers_nothing() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.gone("cron", code(1));
    rig.input(Input::Configured(vec![]));
    rig.spawned("cron");
    rig.gone("cron", code(0));
    let rig = rig.replaced(vec![rules("cron", &["cron"])], &[], &[]);
    assert_eq!(rig.sheet("cron").restarts, 0);
}

#[test]
fn a_signal_goes_on_through_a_service_and_reaches_nobody_twice() {
    let service =
        ServiceRules { profile: swoole_profile().into(), ..web(&["web1", "web2", "web3"]) };
    let all = ["web1", "web2", "web3"];
    let mut rig = Rig::ready(vec![service.clone()]);
    let dispositions = std::collections::BTreeMap::new();
    assert_eq!(
        rig.tell(Verb::SignalService { service: "web".into(), signal: None, dispositions }),
        ["SIGUSR1 web1"]
    );

    let mut rig = rig.replaced(vec![service.clone()], &all, &[]);
    let told = rig.diary();
    assert!(
        told.iter()
            .any(|it| it.contains("SIGUSR1 goes on under this daemon: 2 instances to get it")),
        "{told:?}"
    );
    rig.later(SECOND);
    // Ready under this daemon before the next one gets it.
    assert!(rig.probed("web1", Probe::Readiness, true).contains(&"SIGUSR1 web2".to_owned()));
    // That one is started anew while there is no daemon.
    let mut rig = rig.replaced(vec![service.clone()], &["web1", "web3"], &["web2"]);
    rig.swept("web2");
    rig.spawned("web2");
    rig.later(SECOND);
    assert!(rig.probed("web2", Probe::Readiness, true).contains(&"SIGUSR1 web3".to_owned()));
    rig.later(SECOND);
    rig.probed("web3", Probe::Readiness, true);
    assert_eq!(
        rig.diary().last().unwrap(),
        "web signal-finished: SIGUSR1 went through web (alice)"
    );
    let mut rig = rig.replaced(vec![service], &all, &[]);
    assert!(rig.diary().iter().all(|it| !it.contains("SIGUSR1")));
}
