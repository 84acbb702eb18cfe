//! Starts, crashes, exits: the life of one instance as the whole fleet sees it.

use std::time::Duration;

use super::fixture::*;
use super::input::{InFlight, Input, OutOfMemory, Probe, Status};
use super::rules::{Restart, ServiceRules, Thresholds};
use super::sheet::Condition;
use super::words::Signal;

const NOTHING: [&str; 0] = [];

/// Ends it with code 1, sweeps it, and says after how long it is started again.
fn crash(rig: &mut Rig, name: &str) -> Option<Duration> {
    let effects = rig.gone(name, code(1));
    if effects.iter().any(|it| it.starts_with("spawn")) {
        rig.spawned(name);
        return Some(Duration::ZERO);
    }
    let retry_at = rig.sheet(name).retry_at?;
    let delay = retry_at.since(rig.now);
    rig.later(delay);
    rig.spawned(name);
    Some(delay)
}

#[test]
fn everything_wanted_is_started_when_all_is_known() {
    let mut rig = Rig::configured(vec![rules("web", &["web1", "web2"]), rules("cron", &["cron"])]);
    assert_eq!(rig.condition("web1"), Condition::Stopped);
    assert_eq!(rig.input(Input::Begin), ["spawn web1#1", "spawn web2#1", "spawn cron#1"]);
    assert_eq!(rig.condition("web1"), Condition::Spawning);
}

#[test]
fn without_probes_an_instance_is_ready_after_running_for_start_seconds() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    assert_eq!(rig.spawned("cron"), NOTHING);
    assert_eq!((rig.condition("cron"), rig.sheet("cron").ready), (Condition::Starting, None));
    assert_eq!(rig.later(Duration::from_millis(999)), NOTHING);
    assert_eq!(rig.later(Duration::from_millis(1)), ["admit cron"]);
    assert_eq!((rig.condition("cron"), rig.sheet("cron").ready), (Condition::Running, Some(true)));
    assert_eq!(rig.fleet.next_deadline(), None);
    assert_eq!(rig.diary(), ["cron started: started, pid 4341", "cron ready: ready after 1.0s"]);
}

#[test]
fn a_start_time_of_zero_means_ready_at_once() {
    let quick = ServiceRules { start_seconds: Duration::ZERO, ..rules("cron", &["cron"]) };
    let mut rig = Rig::begun(vec![quick]);
    assert_eq!(rig.spawned("cron"), ["admit cron"]);
}

#[test]
fn liveness_and_readiness_are_probed_once_startup_has_passed() {
    let mut service = web(&["web1"]);
    service.startup = Some(Thresholds { success: 2, failure: 3 });
    service.liveness = Some(ONCE);
    let mut rig = Rig::begun(vec![service]);
    assert_eq!(rig.spawned("web1"), ["start Startup web1"]);
    rig.later(5 * SECOND);
    assert_eq!(rig.condition("web1"), Condition::Starting);
    assert_eq!(rig.probed("web1", Probe::Startup, true), NOTHING);
    assert_eq!(
        rig.probed("web1", Probe::Startup, true),
        ["stop Startup web1", "start Liveness web1", "start Readiness web1"]
    );
    assert_eq!((rig.condition("web1"), rig.sheet("web1").ready), (Condition::Running, None));
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
}

#[test]
fn readiness_takes_it_out_of_rotation_and_puts_it_back() {
    let service =
        ServiceRules { readiness: Some(Thresholds { success: 2, failure: 2 }), ..web(&["web1"]) };
    let mut rig = Rig::begun(vec![service]);
    rig.spawned("web1");
    assert_eq!(rig.probed("web1", Probe::Readiness, true), NOTHING);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    assert_eq!(rig.condition("web1"), Condition::Running);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), NOTHING);
    assert_eq!(rig.probed("web1", Probe::Readiness, false), ["out web1"]);
    assert_eq!(rig.sheet("web1").ready, Some(false));
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(rig.probed("web1", Probe::Readiness, true), ["admit web1"]);
    let diary = rig.diary();
    assert_eq!(
        diary[1..],
        [
            "web1 ready: ready after 0.0s",
            "web1 not-ready: readiness fails: 503",
            "web1 ready: ready again"
        ]
    );
}

#[test]
fn a_result_for_another_generation_counts_for_nothing() {
    let mut rig = Rig::begun(vec![web(&["web1"])]);
    rig.spawned("web1");
    let stale = Input::Probed {
        instance: "web1".into(),
        generation: 0,
        probe: Probe::Readiness,
        ok: true,
        detail: String::new(),
    };
    assert_eq!(rig.input(stale), NOTHING);
    assert_eq!(rig.sheet("web1").ready, None);
}

#[test]
fn the_group_is_swept_before_the_next_generation_starts() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    assert_eq!(rig.exited("cron", code(3)), ["out cron", "sweep cron#1"]);
    assert_eq!(rig.condition("cron"), Condition::Stopping);
    let swept = Input::Swept {
        instance: "cron".into(),
        generation: 1,
        killed: vec![(4712, "php".into()), (4713, "sh".into())],
    };
    assert_eq!(rig.input(swept), ["spawn cron#2"]);
    assert_eq!(
        rig.diary(),
        [
            "cron exited: exited with code 3",
            "cron survivors-killed: killed 2 processes it left behind: php (pid 4712), sh (pid 4713)"
        ]
    );
    assert_eq!(rig.sheet("cron").restarts, 1);
}

#[test]
fn many_survivors_are_counted_and_the_first_are_named() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.exited("cron", code(0));
    let killed = (1..=7).map(|pid| (pid, "php".to_owned())).collect();
    rig.input(Input::Swept { instance: "cron".into(), generation: 1, killed });
    insta::assert_snapshot!(rig.diary()[1], @"cron survivors-killed: killed 7 processes it left behind: php (pid 1), php (pid 2), php (pid 3), php (pid 4), php (pid 5), 2 more");
    rig.spawned("cron");
    rig.exited("cron", code(0));
    let killed = vec![(8, "php".to_owned())];
    rig.input(Input::Swept { instance: "cron".into(), generation: 2, killed });
    let diary = rig.diary();
    assert_eq!(diary[2], "cron survivors-killed: killed 1 process it left behind: php (pid 8)");
}

#[test]
fn the_first_crash_restarts_at_once_and_further_ones_wait_twice_as_long_each() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    let delays: Vec<f64> = (0..9).map(|_| crash(&mut rig, "cron").unwrap().as_secs_f64()).collect();
    let expected = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
    for (delay, expected) in delays.iter().zip(expected) {
        assert!((expected * 0.8..=expected * 1.2).contains(delay), "{delays:?}");
    }
    assert_eq!(rig.sheet("cron").restarts, 9);
}

#[test]
fn a_backoff_is_shown_and_told() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    crash(&mut rig, "cron");
    rig.diary();
    rig.gone("cron", code(255));
    assert_eq!(rig.condition("cron"), Condition::Backoff);
    let retry_at = rig.sheet("cron").retry_at;
    assert_eq!(rig.fleet.next_deadline(), retry_at);
    insta::assert_snapshot!(rig.diary().join("\n"), @"
    cron exited: exited with code 255
    cron backoff: starts again in 1.1s; 2 in a row went wrong
    ");
    assert_eq!(rig.sheet("cron").why, "ended by itself with code 255, 2 times in a row");
}

#[test]
fn running_long_enough_forgives_earlier_crashes() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    crash(&mut rig, "cron");
    crash(&mut rig, "cron");
    rig.later(Duration::from_secs(59));
    assert_ne!(crash(&mut rig, "cron"), Some(Duration::ZERO));
    rig.later(Duration::from_secs(60));
    assert_eq!(crash(&mut rig, "cron"), Some(Duration::ZERO));
}

#[test]
fn after_its_retries_it_is_given_up() {
    let service = ServiceRules { retries: Some(2), ..rules("cron", &["cron"]) };
    let mut rig = Rig::ready(vec![service]);
    assert!(crash(&mut rig, "cron").is_some());
    assert!(crash(&mut rig, "cron").is_some());
    rig.diary();
    assert_eq!(rig.gone("cron", code(1)), ["out cron", "sweep cron#3"][1..]);
    assert_eq!(rig.condition("cron"), Condition::Fatal);
    assert_eq!(rig.fleet.next_deadline(), None);
    assert_eq!(rig.diary()[1], "cron fatal: given up after 3 in a row went wrong [evidence]");
    assert_eq!(rig.tell(start("cron")), ["spawn cron#4"]);
    rig.spawned("cron");
    assert_eq!(crash(&mut rig, "cron"), Some(Duration::ZERO));
}

#[test]
fn the_policy_says_what_an_end_by_itself_means() {
    for (policy, exit, expected) in [
        (Restart::Always, code(0), Condition::Spawning),
        (Restart::OnFailure, code(0), Condition::Exited),
        (Restart::OnFailure, code(1), Condition::Spawning),
        (Restart::OnFailure, killed_by(Signal(11)), Condition::Spawning),
        (Restart::Never, code(0), Condition::Exited),
        (Restart::Never, code(1), Condition::Exited),
    ] {
        let service = ServiceRules { restart: policy, ..rules("job", &["job"]) };
        let mut rig = Rig::ready(vec![service]);
        rig.gone("job", exit.clone());
        assert_eq!(rig.condition("job"), expected, "{policy:?} {exit:?}");
    }
}

#[test]
fn a_start_order_begins_again_at_once_after_an_end() {
    let service = ServiceRules { restart: Restart::Never, ..rules("job", &["job"]) };
    let mut rig = Rig::ready(vec![service]);
    rig.gone("job", code(0));
    assert_eq!(
        rig.sheet("job").why,
        "ended by itself with code 0; its restart policy leaves it so"
    );
    assert_eq!(rig.tell(start("job")), ["spawn job#2"]);

    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    crash(&mut rig, "cron");
    rig.gone("cron", code(1));
    assert_eq!(rig.condition("cron"), Condition::Backoff);
    assert_eq!(rig.tell(start("cron")), ["spawn cron#3"]);
    rig.spawned("cron");
    assert_eq!(crash(&mut rig, "cron"), Some(Duration::ZERO), "crashes count from anew");
}

#[test]
fn a_start_that_does_not_come_about_waits_before_the_next() {
    let service = ServiceRules { retries: Some(2), ..rules("cron", &["cron"]) };
    let mut rig = Rig::begun(vec![service]);
    assert_eq!(rig.spawn_failed("cron", true), NOTHING);
    assert_eq!(rig.condition("cron"), Condition::Backoff);
    assert_eq!(rig.sheet("cron").why, "could not execute /srv/web");
    assert_eq!(rig.diary()[0], "cron spawn-failed: could not execute /srv/web");
    let delay = rig.sheet("cron").retry_at.unwrap().since(rig.now);
    assert!((SECOND.mul_f64(0.8)..=SECOND.mul_f64(1.2)).contains(&delay));
    assert_eq!(rig.later(2 * SECOND), ["spawn cron#2"]);
    rig.spawn_failed("cron", false);
    rig.later(10 * SECOND);
    rig.spawn_failed("cron", false);
    assert_eq!(rig.condition("cron"), Condition::Fatal);
}

#[test]
fn a_job_that_is_never_restarted_is_tried_again_only_if_that_may_help() {
    let job = ServiceRules { restart: Restart::Never, ..rules("job", &["job"]) };
    let mut rig = Rig::begun(vec![job.clone()]);
    rig.spawn_failed("job", false);
    assert_eq!(rig.condition("job"), Condition::Fatal);
    let mut rig = Rig::begun(vec![job]);
    rig.spawn_failed("job", true);
    assert_eq!(rig.condition("job"), Condition::Backoff);
}

#[test]
fn exits_are_told_apart() {
    let signalled = |signal| {
        let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
        rig.tell(super::fixture::signal("cron", signal));
        rig
    };
    let told = |mut rig: Rig, exit: super::input::Exit| {
        rig.exited("cron", exit);
        rig.sheet("cron").last_exit.unwrap().cause
    };
    let fresh = || Rig::ready(vec![rules("cron", &["cron"])]);
    let mut memory = killed_by(Signal::KILL);
    memory.out_of_memory = OutOfMemory::Certainly;
    let mut unknown = code(0);
    unknown.status = Status::Unknown;

    assert_eq!(told(fresh(), code(3)), "by itself with code 3");
    assert_eq!(told(fresh(), killed_by(Signal(11))), "by itself (killed by SIGSEGV)");
    assert_eq!(
        told(fresh(), killed_by(Signal::KILL)),
        "a signal that opsdeck did not send (SIGKILL)"
    );
    assert_eq!(told(fresh(), memory.clone()), "by the kernel: out of memory");
    assert_eq!(told(fresh(), unknown), "by itself, with a status that nobody could read");
    assert_eq!(told(signalled(Signal::QUIT), killed_by(Signal::QUIT)), "SIGQUIT by alice");
    assert_eq!(told(signalled(Signal::QUIT), code(0)), "SIGQUIT by alice");
    assert_eq!(told(signalled(Signal::QUIT), code(131)), "SIGQUIT by alice");
    assert_eq!(told(signalled(Signal::QUIT), code(1)), "by itself with code 1");
    assert_eq!(
        told(signalled(Signal::QUIT), killed_by(Signal(11))),
        "by itself (killed by SIGSEGV)"
    );
    assert_eq!(told(signalled(Signal::QUIT), memory.clone()), "by the kernel: out of memory");
    memory.out_of_memory = OutOfMemory::Probably;
    assert_eq!(told(fresh(), memory.clone()), "probably by the kernel: out of memory");
    assert_eq!(told(signalled(Signal::KILL), memory), "SIGKILL by alice");
}

#[test]
fn an_exit_long_after_a_signal_has_another_cause() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.tell(signal("cron", Signal::QUIT));
    rig.later(5 * SECOND);
    let mut late = Rig::ready(vec![rules("cron", &["cron"])]);
    late.tell(signal("cron", Signal::QUIT));
    late.later(Duration::from_millis(5001));
    rig.exited("cron", killed_by(Signal::QUIT));
    late.exited("cron", killed_by(Signal::QUIT));
    assert_eq!(rig.sheet("cron").last_exit.unwrap().cause, "SIGQUIT by alice");
    assert_eq!(
        late.sheet("cron").last_exit.unwrap().cause,
        "a signal that opsdeck did not send (SIGQUIT)"
    );
}

#[test]
fn what_an_operator_ended_by_a_signal_is_no_crash() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    for generation in 2..6 {
        rig.tell(signal("cron", Signal::QUIT));
        assert_eq!(
            rig.gone("cron", killed_by(Signal::QUIT)).last(),
            Some(&format!("spawn cron#{generation}"))
        );
        rig.spawned("cron");
    }
    assert_eq!(rig.sheet("cron").restarts, 0);
}

#[test]
fn a_reload_does_not_excuse_an_exit() {
    let service = ServiceRules { profile: swoole_profile().into(), ..rules("web", &["web1"]) };
    let mut rig = Rig::ready(vec![service]);
    rig.tell(signal("web1", Signal::USR1));
    rig.exited("web1", code(0));
    assert_eq!(rig.sheet("web1").last_exit.unwrap().cause, "by itself with code 0");
}

#[test]
fn what_was_in_flight_at_a_crash_is_said() {
    let mut rig = Rig::ready(vec![rules("web", &["web1"])]);
    rig.load("web1", InFlight::Estimated(4));
    rig.exited("web1", killed_by(Signal::KILL));
    assert_eq!(
        rig.diary(),
        ["web1 exited: was killed by SIGKILL with 4 requests in flight (estimated)"]
    );
    assert_eq!(rig.sheet("web1").last_exit.unwrap().lost, Some(InFlight::Estimated(4)));
    assert_eq!(rig.sheet("web1").in_flight, None);

    let mut rig = Rig::ready(vec![rules("web", &["web1"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.exited("web1", code(0));
    assert_eq!(rig.diary(), ["web1 exited: exited with code 0 with 1 request in flight"]);

    let mut rig = Rig::ready(vec![rules("web", &["web1"])]);
    rig.load("web1", InFlight::Exact(0));
    rig.exited("web1", code(0));
    assert_eq!(rig.sheet("web1").last_exit.unwrap().lost, None);
}

#[test]
fn an_exit_reported_before_its_start_is_believed() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    assert_eq!(rig.exited("cron", code(1)), ["sweep cron#1"]);
    let process = rig.process("cron");
    let late = |generation| Input::Spawned { instance: "cron".into(), generation, process };
    assert_eq!(rig.input(late(1)), NOTHING);
    assert_eq!(rig.swept("cron"), ["spawn cron#2"]);
    assert_eq!(rig.input(late(1)), ["kill all cron#1"]);
    assert_eq!(rig.condition("cron"), Condition::Spawning);
}

#[test]
fn a_start_that_is_reported_after_its_end_is_no_news() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.tell(stop("cron"));
    rig.gone("cron", code(1));
    assert_eq!(rig.spawned("cron"), NOTHING);

    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    rig.spawn_failed("cron", true);
    assert_eq!(rig.spawned("cron"), ["kill all cron#1"], "it was said not to have come about");
}

#[test]
fn a_process_that_nobody_asked_for_is_killed() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    let process = rig.process("cron");
    let stranger = Input::Spawned { instance: "cron".into(), generation: 9, process };
    assert_eq!(rig.input(stranger), ["kill all cron#9"]);
    assert_eq!(rig.sheet("cron").process, Some(process));
}

#[test]
fn the_exit_of_an_earlier_generation_changes_nothing() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.gone("cron", code(1));
    rig.spawned("cron");
    for input in [
        Input::Exited { instance: "cron".into(), generation: 1, exit: code(2) },
        Input::Swept { instance: "cron".into(), generation: 1, killed: vec![] },
    ] {
        assert_eq!(rig.input(input), NOTHING);
    }
    assert_eq!(rig.condition("cron"), Condition::Starting);
    assert_eq!(rig.sheet("cron").last_exit.unwrap().exit, code(1));
}

#[test]
fn the_status_of_an_adopted_process_may_come_later() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.exited(
        "cron",
        super::input::Exit { status: Status::Unknown, out_of_memory: OutOfMemory::No },
    );
    assert_eq!(rig.exited("cron", code(3)), NOTHING);
    assert_eq!(rig.sheet("cron").last_exit.unwrap().cause, "by itself with code 3");
    assert_eq!(rig.swept("cron"), ["spawn cron#2"]);
    rig.input(Input::Exited { instance: "cron".into(), generation: 1, exit: code(4) });
    assert_eq!(rig.sheet("cron").last_exit.unwrap().exit, code(3), "what is known stays");
}

#[test]
fn a_sweep_that_takes_long_is_asked_for_again() {
    let mut rig = Rig::ready(vec![rules("cron", &["cron"])]);
    rig.exited("cron", code(1));
    rig.diary();
    assert_eq!(rig.later(Duration::from_millis(4999)), NOTHING);
    assert_eq!(rig.later(SECOND), ["sweep cron#1"]);
    assert_eq!(rig.later(10 * SECOND), ["sweep cron#1", "sweep cron#1"]);
    insta::assert_snapshot!(rig.diary().join("\n"), @"cron kill-slow: still there 5s after SIGKILL: a process that sleeps in the kernel cannot be killed (its disk or network file system hangs); asking again");
}

#[test]
fn who_ends_well_at_once_and_leaves_others_behind_goes_into_the_background() {
    let mut rig = Rig::begun(vec![rules("cron", &["cron"])]);
    let detached = |rig: &Rig| rig.fleet.case("cron", rig.now).unwrap().detached;
    for n in 1..=3 {
        rig.spawned("cron");
        rig.exited("cron", code(0));
        let killed = vec![(4711, "php-fpm".to_owned())];
        rig.input(Input::Swept { instance: "cron".into(), generation: n, killed });
        assert_eq!(u64::from(detached(&rig)), n);
        rig.later(60 * SECOND);
    }
    // Now it stays.
    rig.spawned("cron");
    rig.later(SECOND);
    assert_eq!(detached(&rig), 0);
    rig.exited("cron", code(0));
    rig.swept("cron");
    assert_eq!(detached(&rig), 0, "it left nobody behind");
}
