//! Signals to single processes of a tree.

use std::time::Duration;

use insta::assert_snapshot;

use super::fixture::{Rig, SECOND, rules, swoole_profile};
use super::input::{Disposition, Input, Member, Verb};
use super::rules::{Meaning, Profile, ServiceRules};
use super::words::{Process, Signal};

fn process(pid: i32) -> Process {
    Process { pid, start_time: 1 }
}

fn worker() -> Member {
    Member {
        process: process(2),
        role: Some("worker".into()),
        renewed: true,
        stop: None,
        others: vec![process(3)],
        alike: 1,
    }
}

fn rig() -> Rig {
    let web = ServiceRules { profile: swoole_profile().into(), ..rules("web", &["web1"]) };
    Rig::ready(vec![web])
}

fn to(member: Member, signal: Signal, disposition: Disposition) -> Verb {
    Verb::SignalMember { instance: "web1".into(), signal, member, disposition }
}

/// Tells who works there, after this time.
fn tell(rig: &mut Rig, after: Duration, pids: &[i32]) {
    rig.later(after);
    let leader = rig.sheet("web1").process.unwrap();
    let workers = pids.iter().map(|it| process(*it)).collect();
    rig.input(Input::Members { instance: "web1".into(), process: leader, workers });
}

#[test]
fn a_worker_is_told_to_go_and_its_successor_is_seen() {
    let mut rig = rig();
    let (answer, effects) = rig.ask(to(worker(), Signal::TERM, Disposition::Caught));
    assert_eq!(answer.as_deref(), Ok("SIGTERM was sent to worker, pid 2, of web1"));
    assert_eq!(effects, ["SIGTERM pid 2 of web1", "follow web1"]);
    assert!(rig.fleet.follows("web1"));
    tell(&mut rig, SECOND, &[2, 3]);
    tell(&mut rig, SECOND, &[3]);
    assert!(rig.fleet.follows("web1"));
    tell(&mut rig, SECOND, &[3, 4]);
    assert!(!rig.fleet.follows("web1"));
    assert_eq!(rig.sheet("web1").ready, Some(true), "the instance goes on");
    assert_snapshot!(rig.diary().join("\n"), @"
    web1 signal-sent: SIGTERM to worker, pid 2 (alice)
    web1 worker-renewed: worker, pid 2, ended 2.0s after SIGTERM; pid 4 has its place (alice)
    ");
}

#[test]
fn one_that_stays_and_one_that_nobody_follows_are_told() {
    let mut rig = rig();
    rig.tell(to(worker(), Signal::TERM, Disposition::Caught));
    tell(&mut rig, 15 * SECOND, &[2, 3]);
    rig.tell(to(worker(), Signal::TERM, Disposition::Caught));
    tell(&mut rig, SECOND, &[3]);
    tell(&mut rig, 60 * SECOND, &[3]);
    assert_snapshot!(rig.diary().join("\n"), @"
    web1 signal-sent: SIGTERM to worker, pid 2 (alice)
    web1 worker-stays: worker, pid 2, is still there 15.0s after SIGTERM (alice)
    web1 signal-sent: SIGTERM to worker, pid 2 (alice)
    web1 worker-missing: worker, pid 2, ended 1.0s after SIGTERM, and none took its place within 1m00s (alice)
    ");
}

#[test]
fn a_signal_that_cuts_by_the_profile_asks_at_a_worker_too() {
    let quit = Meaning {
        signal: Signal::QUIT,
        does: "stop at once".into(),
        harmless: false,
        cuts: true,
        renews: vec![],
    };
    let profile = Profile { signals: vec![quit], ..swoole_profile() };
    let web = ServiceRules { profile: profile.into(), ..rules("web", &["web1"]) };
    let mut rig = Rig::ready(vec![web]);
    let mut question = |signal| rig.question(to(worker(), signal, Disposition::Caught));
    assert_snapshot!(question(Signal::QUIT).unwrap(), @"SIGQUIT cuts what worker, pid 2, is working on; SIGTERM lets it finish");
    assert_eq!(question(Signal::TERM), None);
}

#[test]
fn what_would_hurt_asks_first() {
    let mut rig = rig();
    let mut question = |member, signal, disposition| rig.question(to(member, signal, disposition));
    let (caught, default) = (Disposition::Caught, Disposition::Default);
    let manager = Member { role: Some("manager".into()), renewed: false, ..worker() };
    let only = Member { alike: 0, ..worker() };
    let quits = Member { stop: Some(Signal::QUIT), ..worker() };
    assert_eq!(question(worker(), Signal::TERM, caught), None);
    assert_eq!(question(worker(), Signal::USR1, caught), None);
    assert_eq!(question(worker(), Signal::USR1, Disposition::Ignored), None);
    assert_eq!(question(quits.clone(), Signal::QUIT, caught), None);
    let asked = [
        question(worker(), Signal::USR1, default),
        question(worker(), Signal::TERM, default),
        question(worker(), Signal::KILL, default),
        question(worker(), Signal::STOP, default),
        question(manager, Signal::TERM, caught),
        question(quits, Signal::TERM, caught),
        question(only, Signal::TERM, caught),
    ];
    let asked: Vec<String> = asked.into_iter().map(Option::unwrap).collect();
    assert_snapshot!(asked.join("\n"), @"
    SIGUSR1 is not caught: it will kill worker, pid 2, of web1 at once
    SIGTERM is not caught: it will kill worker, pid 2, of web1 at once
    SIGKILL ends worker, pid 2, of web1 at once, whatever it is doing
    SIGSTOP halts worker, pid 2, of web1
    nobody is known to put another one in the place of manager, pid 2, of web1
    SIGTERM cuts what worker, pid 2, is working on; SIGQUIT lets it finish
    worker, pid 2, is the only one of its kind in web1
    ");
}
