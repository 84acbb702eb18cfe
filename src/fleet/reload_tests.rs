//! Reloads that are watched: who is new, who stayed, and who waits for it.

use std::time::Duration;

use insta::assert_snapshot;

use super::fixture::{Rig, SECOND, code, restart, rules, signal, swoole, swoole_profile};
use super::input::{Input, Probe, Shown, Verb};
use super::rules::{Profile, ServiceRules};
use super::words::{Process, Signal};

/// A service whose reloads are watched.
fn web(instances: &[&str]) -> ServiceRules {
    let profile = Profile {
        renews: true,
        limit_name: Some("max_wait_time".into()),
        limit_known: true,
        limit_early: SECOND,
        ..swoole_profile()
    };
    ServiceRules { profile: profile.into(), ..rules("web", instances) }
}

fn workers(pids: &[i32]) -> Vec<Process> {
    pids.iter().map(|pid| Process { pid: *pid, start_time: 1 }).collect()
}

/// Tells who works there, after this time.
fn tell(rig: &mut Rig, after: Duration, name: &str, pids: &[i32]) {
    tell_shown(rig, after, name, pids, Shown::default());
}

/// As [`tell`], with what else was seen.
fn tell_shown(rig: &mut Rig, after: Duration, name: &str, pids: &[i32], shown: Shown) {
    rig.later(after);
    let (instance, process) = (name.into(), rig.sheet(name).process.unwrap());
    rig.input(Input::Workers { instance, process, workers: workers(pids), shown });
}

/// The same are there for so long that they will stay.
fn settle(rig: &mut Rig, name: &str, pids: &[i32]) {
    assert!(rig.fleet.watches_reload(name), "they may end at once");
    tell(rig, SECOND, name, pids);
}

/// web1 with the workers 1, 2 and 3, which has just got the signal.
fn reloading() -> Rig {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    let (_, effects) = rig.ask(signal("web1", Signal::USR1));
    assert_eq!(effects, ["survey web1", "SIGUSR1 web1"], "who is there is seen before");
    tell(&mut rig, Duration::ZERO, "web1", &[1, 2, 3]);
    rig.diary();
    rig
}

#[test]
fn an_old_worker_that_finishes_what_it_has_makes_no_reload_incomplete() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[3, 4, 5, 6]);
    tell(&mut rig, 14 * SECOND, "web1", &[3, 4, 5, 6]);
    assert!(rig.fleet.watches_reload("web1"), "it may end any moment");
    tell(&mut rig, SECOND, "web1", &[3, 4, 5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: new ones run in place of 3 workers; pid 3 still finishes what was begun (alice)");
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.renewed, reload.of, reload.complete), (2, 3, true));
}

#[test]
fn workers_that_come_on_demand_need_not_come() {
    let mut service = web(&["web1"]);
    let profile = Profile { on_demand: true, ..(*service.profile).clone() };
    service.profile = profile.into();
    let mut rig = Rig::ready(vec![service]);
    rig.tell(signal("web1", Signal::USR1));
    tell(&mut rig, Duration::ZERO, "web1", &[]);
    assert_snapshot!(rig.diary().pop().unwrap(), @"web1 reloaded: no worker is there now: the next ones come when there is work (alice)");
    rig.tell(signal("web1", Signal::USR1));
    tell(&mut rig, Duration::ZERO, "web1", &[1]);
    tell(&mut rig, SECOND, "web1", &[]);
    tell(&mut rig, 5 * SECOND, "web1", &[]);
    assert_snapshot!(rig.diary().pop().unwrap(), @"web1 reloaded: 1 worker gone; the next ones come when there is work (alice)");
}

#[test]
fn a_second_signal_while_the_server_is_at_it_waits_for_those_that_are_left() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[2, 3, 4]);
    let (_, effects) = rig.ask(signal("web1", Signal::USR1));
    assert_eq!(effects, ["survey web1", "SIGUSR1 web1"]);
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert!(!rig.fleet.watches_reload("web1"));
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.number, reload.renewed, reload.of, reload.complete), (2, 2, 2, true));
}

#[test]
fn a_second_signal_to_a_server_that_hears_it_renews_the_new_ones_too() {
    let mut service = web(&["web1"]);
    service.profile = Profile { again: true, ..(*service.profile).clone() }.into();
    let mut rig = Rig::ready(vec![service]);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[1, 2]);
    tell(&mut rig, SECOND, "web1", &[2, 3]);
    let (_, effects) = rig.ask(signal("web1", Signal::USR1));
    assert_eq!(effects, ["survey web1", "SIGUSR1 web1"]);
    tell(&mut rig, Duration::ZERO, "web1", &[2, 3]);
    tell(&mut rig, SECOND, "web1", &[3, 4]);
    tell(&mut rig, 2 * SECOND, "web1", &[3, 4]);
    assert!(rig.fleet.watches_reload("web1"), "3 is to go as well");
    tell(&mut rig, SECOND, "web1", &[4, 5]);
    settle(&mut rig, "web1", &[4, 5]);
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.number, reload.renewed, reload.of, reload.complete), (2, 2, 2, true));
}

#[test]
fn a_reload_is_over_when_every_worker_is_gone_and_another_one_runs() {
    let mut rig = reloading();
    assert_eq!(rig.sheet("web1").why, "reloading 0/3 workers, ready");
    tell(&mut rig, SECOND, "web1", &[2, 3, 4, 5]);
    assert_eq!(rig.sheet("web1").why, "reloading 1/3 workers, ready");
    tell(&mut rig, SECOND / 2, "web1", &[4, 5]);
    assert_eq!(rig.sheet("web1").why, "reloading 2/3 workers, ready");
    assert!(rig.fleet.watches_reload("web1"));
    tell(&mut rig, SECOND / 2, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert_eq!(rig.sheet("web1").why, "ready");
    assert!(!rig.fleet.watches_reload("web1"));
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 3 of 3 workers in 2.0s; the slowest took 1.5s (alice)");
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.renewed, reload.of, reload.complete), (3, 3, true));
}

#[test]
fn a_worker_that_ends_at_its_servers_limit_is_named() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[3, 4, 5]);
    tell(&mut rig, 2 * SECOND, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 3 of 3 workers in 3.0s; pid 3 took 3.0s and was probably ended by its max_wait_time (3.0s) (alice)");
}

#[test]
fn a_worker_whose_server_counts_whole_seconds_may_end_early() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[2, 3, 4]);
    tell(&mut rig, 1250 * SECOND / 1000, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 3 of 3 workers in 2.2s; pid 2, 3 may have been ended by their max_wait_time (3.0s, up to 1.0s early) (alice)");
}

#[test]
fn workers_that_end_one_after_another_speak_for_no_limit() {
    let mut rig = reloading();
    tell(&mut rig, 16 * SECOND / 10, "web1", &[2, 3, 4]);
    tell(&mut rig, 16 * SECOND / 10, "web1", &[3, 4, 5]);
    tell(&mut rig, 16 * SECOND / 10, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 3 of 3 workers in 4.8s; the slowest took 4.8s (alice)");
}

#[test]
fn a_worker_that_stays_is_told_once_nothing_moves_and_is_left_out_of_the_next_reload() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[3, 4, 5]);
    tell(&mut rig, 14 * SECOND, "web1", &[3, 4, 5]);
    assert!(rig.fleet.watches_reload("web1"), "max_wait_time and five seconds");
    tell(&mut rig, SECOND, "web1", &[3, 4, 5]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reload-incomplete: renewed 2 of 3 workers; pid 3 did not change, and nothing moved for 15.0s; one that a reload leaves alone looks the same (alice) [evidence]");
    assert!(!rig.sheet("web1").reload.unwrap().complete);

    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[3, 4, 5]);
    tell(&mut rig, SECOND, "web1", &[3, 6, 7]);
    settle(&mut rig, "web1", &[3, 6, 7]);
    assert!(rig.sheet("web1").reload.unwrap().complete, "3 is no worker");
}

#[test]
fn a_server_that_ends_all_of_them_before_it_starts_others_is_told() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[]);
    tell(&mut rig, SECOND, "web1", &[4]);
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 3 of 3 workers in 3.0s; the slowest took 1.0s; for a moment there was none to serve (alice)");
}

#[test]
fn after_a_reload_that_renewed_nobody_the_next_one_watches_them_all() {
    let mut rig = reloading();
    tell(&mut rig, 15 * SECOND, "web1", &[1, 2, 3]);
    assert!(!rig.sheet("web1").reload.unwrap().complete);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[1, 2, 3]);
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.renewed, reload.of, reload.complete), (3, 3, true));
}

#[test]
fn a_user_process_makes_no_reload_incomplete_and_the_next_tree_is_known_to_have_one() {
    let idle = Shown { may_spare: true, is_idle: true, ..Shown::default() };
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[1, 2, 3]);
    rig.diary();
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], idle);
    tell_shown(&mut rig, 7 * SECOND, "web1", &[3, 4, 5], idle);
    assert!(rig.fleet.watches_reload("web1"), "its limit and five seconds");
    let busy = Shown { is_idle: false, ..idle };
    tell_shown(&mut rig, 2 * SECOND, "web1", &[3, 4, 5], busy);
    assert!(rig.fleet.watches_reload("web1"), "somebody waits for it");
    tell_shown(&mut rig, Duration::ZERO, "web1", &[3, 4, 5], idle);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 2 of 3 workers in 1.0s; pid 3 did not change, and nobody waits there for an answer: a reload seems to leave it alone (alice)");
    assert!(rig.sheet("web1").reload.unwrap().complete);

    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[3, 4, 5]);
    tell_shown(&mut rig, SECOND, "web1", &[3, 5, 6], idle);
    tell_shown(&mut rig, 2 * SECOND, "web1", &[3, 5, 6], idle);
    assert!(rig.fleet.watches_reload("web1"), "5 is another one");

    rig.ask(signal("web2", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web2", &[7, 8, 9]);
    tell_shown(&mut rig, SECOND / 10, "web2", &[9, 10, 11], idle);
    assert!(rig.fleet.watches_reload("web2"));
    tell_shown(&mut rig, SECOND, "web2", &[9, 10, 11], idle);
    assert!(rig.sheet("web2").reload.unwrap().complete, "as many as stayed there");
}

#[test]
fn what_an_earlier_reload_left_alone_is_known_to_the_next_daemon_and_generation() {
    let idle = Shown { may_spare: true, is_idle: true, ..Shown::default() };
    let mut rig = reloading();
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], idle);
    tell_shown(&mut rig, 10 * SECOND, "web1", &[3, 4, 5], idle);
    assert!(rig.sheet("web1").reload.unwrap().complete);
    rig.ask(restart("web1")).0.unwrap();
    rig.gone("web1", code(0));
    rig.later(3 * SECOND);

    let mut next = under_the_next_daemon(&rig);
    next.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut next, Duration::ZERO, "web1", &[7, 8, 9]);
    tell_shown(&mut next, SECOND / 10, "web1", &[9, 10, 11], idle);
    assert!(next.fleet.watches_reload("web1"));
    tell_shown(&mut next, SECOND, "web1", &[9, 10, 11], idle);
    assert!(next.sheet("web1").reload.unwrap().complete, "as many as stayed before");
}

#[test]
fn as_many_as_the_server_says_are_all_that_a_reload_renews() {
    let counts = Shown { renewed: Some(2), ..Shown::default() };
    let mut rig = reloading();
    tell_shown(&mut rig, SECOND / 2, "web1", &[2, 3, 4], counts);
    tell_shown(&mut rig, SECOND / 2, "web1", &[3, 4], counts);
    assert!(rig.fleet.watches_reload("web1"), "one more has to come");
    tell_shown(&mut rig, SECOND / 2, "web1", &[3, 4, 5], counts);
    assert!(rig.fleet.watches_reload("web1"), "it may end at once");
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], counts);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 2 of 3 workers in 1.5s; pid 3 did not change: the server counts 2 that a reload renews (alice)");
    let reload = rig.sheet("web1").reload.unwrap();
    assert_eq!((reload.renewed, reload.of, reload.complete), (2, 3, true));

    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell_shown(&mut rig, Duration::ZERO, "web1", &[3, 4, 5], counts);
    tell_shown(&mut rig, SECOND, "web1", &[3, 5, 6], counts);
    assert!(rig.fleet.watches_reload("web1"), "5 is another one");
    tell_shown(&mut rig, SECOND, "web1", &[3, 6, 7], counts);
    tell_shown(&mut rig, SECOND, "web1", &[3, 6, 7], counts);
    assert!(rig.sheet("web1").reload.unwrap().complete);
}

#[test]
fn new_ones_that_end_at_once_make_no_reload_complete() {
    let mut rig = reloading();
    let mut pid = 4;
    for _ in 0..25 {
        tell(&mut rig, 3 * SECOND / 10, "web1", &[pid, pid + 1, pid + 2]);
        pid += 3;
    }
    assert!(!rig.fleet.watches_reload("web1"));
    assert!(!rig.sheet("web1").reload.unwrap().complete);
    let told = rig.diary().join("\n");
    assert!(told.contains("reload-incomplete: 3 of 3 workers gone, and "), "{told}");
    assert!(told.contains(" ended within 1.0s of their start: they cannot begin"), "{told}");

    // A manager that waits before it tries again.
    let mut rig = reloading();
    for pid in 4..8 {
        tell(&mut rig, 3 * SECOND, "web1", &[pid, pid + 4, pid + 8]);
        tell(&mut rig, SECOND / 10, "web1", &[]);
    }
    assert!(!rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());

    // One that had a mishap is no failure.
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    tell(&mut rig, SECOND / 2, "web1", &[4, 5]);
    tell(&mut rig, SECOND / 2, "web1", &[4, 5, 7]);
    assert!(rig.fleet.watches_reload("web1"), "the next may end as well");
    tell(&mut rig, SECOND, "web1", &[4, 5, 7]);
    assert!(rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());
}

#[test]
fn where_there_is_a_probe_it_has_to_pass_after_the_last_change() {
    let mut service = web(&["web1"]);
    service.readiness = swoole(&["web1"]).readiness;
    let mut rig = Rig::ready(vec![service]);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[1, 2]);
    rig.diary();
    tell(&mut rig, SECOND, "web1", &[3, 4]);
    tell(&mut rig, 10 * SECOND, "web1", &[3, 4]);
    assert!(rig.fleet.watches_reload("web1"), "nobody has seen them answer");
    rig.probed("web1", Probe::Readiness, true);
    tell(&mut rig, Duration::ZERO, "web1", &[3, 4]);
    assert!(rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());

    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[3, 4]);
    tell(&mut rig, SECOND, "web1", &[5, 6]);
    rig.diary();
    tell(&mut rig, 60 * SECOND, "web1", &[5, 6]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reload-incomplete: renewed 2 of 2 workers in 1.0s, but its readiness has not passed in the 1m00s since (alice) [evidence]");
}

#[test]
fn one_that_ends_in_the_middle_of_its_reload_is_told_with_what_it_said() {
    let mut rig = reloading();
    rig.gone("web1", code(78));
    let told = of_reloads(&mut rig);
    assert_snapshot!(told, @"web1 reload-incomplete: exited with code 78 in the middle of it (SIGUSR1) (alice) [evidence]");
}

#[test]
fn those_that_are_renewed_by_a_limit_of_requests_are_no_failure() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    tell(&mut rig, 9 * SECOND / 10, "web1", &[4, 5, 6]);
    tell(&mut rig, SECOND / 5, "web1", &[5, 6, 7]);
    assert!(rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());
}

#[test]
fn where_somebody_always_waits_for_an_answer_time_tells_who_is_left_alone() {
    let busy = Shown { may_spare: true, ..Shown::default() };
    let mut rig = reloading();
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], busy);
    tell_shown(&mut rig, 14 * SECOND, "web1", &[3, 4, 5], busy);
    assert!(rig.fleet.watches_reload("web1"), "max_wait_time and five seconds");
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], busy);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: renewed 2 of 3 workers in 1.0s; pid 3 did not change: a reload seems to leave it alone (alice)");

    // Another generation.
    rig.ask(restart("web1")).0.unwrap();
    rig.gone("web1", code(0));
    rig.come_up("web1");
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    tell(&mut rig, Duration::ZERO, "web1", &[7, 8, 9]);
    tell_shown(&mut rig, SECOND / 10, "web1", &[9, 10, 11], busy);
    tell_shown(&mut rig, 3 * SECOND, "web1", &[9, 10, 11], busy);
    assert!(rig.fleet.watches_reload("web1"), "the server's limit");
    tell_shown(&mut rig, SECOND, "web1", &[9, 10, 11], busy);
    assert!(rig.sheet("web1").reload.unwrap().complete);
}

#[test]
fn a_server_that_counts_more_than_were_renewed_is_waited_for() {
    let counts = Shown { renewed: Some(3), ..Shown::default() };
    let mut rig = reloading();
    tell_shown(&mut rig, SECOND, "web1", &[3, 4, 5], counts);
    tell_shown(&mut rig, 15 * SECOND, "web1", &[3, 4, 5], counts);
    assert!(!rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());
}

#[test]
fn a_worker_that_is_surely_one_and_stays_makes_a_reload_incomplete_though_nobody_waits_for_it() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[3, 4, 5]);
    tell(&mut rig, 15 * SECOND, "web1", &[3, 4, 5]);
    assert!(!rig.sheet("web1").reload.unwrap().complete, "{:?}", rig.diary());
}

#[test]
fn where_no_title_tells_whom_a_signal_renews_all_are_watched() {
    let untitled = Shown { untitled: true, ..Shown::default() };
    let reload = |after: &[i32]| {
        let mut rig = Rig::ready(vec![web(&["web1"])]);
        rig.ask(signal("web1", Signal::USR1)).0.unwrap();
        tell_shown(&mut rig, Duration::ZERO, "web1", &[1, 2, 3], untitled);
        tell(&mut rig, SECOND, "web1", after);
        tell(&mut rig, 5 * SECOND, "web1", after);
        let complete = rig.sheet("web1").reload.unwrap().complete;
        (complete, rig.diary().pop().unwrap())
    };
    let (complete, told) = reload(&[2, 3, 4]);
    assert!(complete, "{told}");
    assert_snapshot!(told, @"web1 reloaded: 1 of 3 workers were renewed; no title tells whom SIGUSR1 renews (alice)");
    let (complete, told) = reload(&[1, 2, 3]);
    assert!(!complete, "{told}");
    assert_snapshot!(told, @"web1 reload-incomplete: none of 3 workers changed: there is none that SIGUSR1 renews, or it is still at something (alice) [evidence]");
}

#[test]
fn a_single_process_has_nobody_to_renew() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    rig.diary();
    tell(&mut rig, Duration::ZERO, "web1", &[]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reload-incomplete: there is no worker to renew: to swoole it is a single process (alice) [evidence]");
}

#[test]
fn another_number_of_workers_is_what_the_reload_has_brought() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[4]);
    tell(&mut rig, 4 * SECOND, "web1", &[4]);
    assert!(rig.fleet.watches_reload("web1"));
    tell(&mut rig, SECOND, "web1", &[4]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reloaded: 3 workers gone, 1 in their place after 1.0s (alice)");
}

#[test]
fn workers_that_nobody_follows_are_told() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[]);
    tell(&mut rig, 59 * SECOND, "web1", &[]);
    assert!(rig.fleet.watches_reload("web1"), "a new one may take ready_timeout");
    tell(&mut rig, SECOND, "web1", &[]);
    assert_snapshot!(rig.diary().join("\n"), @"web1 reload-incomplete: 3 workers gone, and none came in their place within 1m01s (alice) [evidence]");
}

/// What is there under the next daemon; the first one died now.
fn under_the_next_daemon(rig: &Rig) -> Rig {
    rig.replaced(vec![web(&["web1"])], &["web1"], &[])
}

fn of_reloads(rig: &mut Rig) -> String {
    let mut lines = rig.diary();
    lines.retain(|it| it.contains(" reload"));
    lines.join("\n")
}

#[test]
fn the_next_daemon_watches_on() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[2, 3, 4]);
    let mut next = under_the_next_daemon(&rig);
    assert!(next.effects.contains(&"survey web1".to_owned()), "{:?}", next.effects);
    assert!(next.sheet("web1").why.starts_with("reloading 1/3 workers"));
    tell(&mut next, SECOND, "web1", &[4, 5, 6]);
    settle(&mut next, "web1", &[4, 5, 6]);
    let reload = next.sheet("web1").reload.unwrap();
    assert_eq!((reload.number, reload.renewed, reload.complete), (1, 3, true));
    assert_snapshot!(of_reloads(&mut next), @"
    web1 reload-resumed: its reload is watched on by this daemon: reloading 1/3 workers (alice)
    web1 reloaded: renewed 3 of 3 workers in 2.0s; the slowest took 1.0s (alice)
    ");
}

#[test]
fn a_reload_that_was_over_is_known_to_the_next_daemon() {
    let mut rig = reloading();
    tell(&mut rig, SECOND, "web1", &[4, 5, 6]);
    settle(&mut rig, "web1", &[4, 5, 6]);
    let next = under_the_next_daemon(&rig);
    assert_eq!(next.sheet("web1").reload, rig.sheet("web1").reload);
    assert!(!next.fleet.watches_reload("web1"));
}

#[test]
fn a_reload_that_nobody_had_looked_at_ends_with_its_daemon() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.ask(signal("web1", Signal::USR1)).0.unwrap();
    let mut next = under_the_next_daemon(&rig);
    assert!(!next.fleet.watches_reload("web1"));
    let reload = next.sheet("web1").reload.unwrap();
    assert_eq!((reload.number, reload.ended.is_some(), reload.complete), (1, true, false));
    assert_snapshot!(of_reloads(&mut next), @"web1 reload-incomplete: the daemon ended before it had seen which workers there were (alice)");
}

#[test]
fn an_exit_ends_the_watch() {
    let mut rig = reloading();
    rig.gone("web1", code(1));
    assert!(!rig.fleet.watches_reload("web1"));
    assert_eq!(rig.sheet("web1").reload, None);
}

#[test]
fn the_next_instance_waits_until_the_first_one_is_renewed() {
    let mut rig = Rig::ready(vec![web(&["web1", "web2"])]);
    let verb = Verb::SignalService {
        service: "web".into(),
        signal: None,
        dispositions: Default::default(),
    };
    let (_, effects) = rig.ask(verb);
    assert_eq!(effects, ["survey web1", "SIGUSR1 web1"]);
    tell(&mut rig, Duration::ZERO, "web1", &[1]);
    assert!(rig.later(50 * SECOND).is_empty(), "web1 is ready, and not renewed");
    assert!(rig.later(50 * SECOND).is_empty(), "however long that takes");
    tell(&mut rig, SECOND, "web1", &[2]);
    rig.later(SECOND);
    let process = rig.sheet("web1").process.unwrap();
    let workers = workers(&[2]);
    let effects = rig.input(Input::Workers {
        instance: "web1".into(),
        process,
        workers,
        shown: Shown::default(),
    });
    assert_eq!(effects, ["survey web2", "SIGUSR1 web2"]);
}
