//! What the sheets say, and why.

use super::fixture::*;
use super::input::{InFlight, Input, Probe};
use super::rules::{ServiceRules, Thresholds};

fn why(rig: &Rig) -> String {
    rig.sheet("web1").why
}

#[test]
fn a_process_that_runs_says_what_its_probes_say() {
    let liveness = Some(Thresholds { success: 1, failure: 3 });
    let mut rig = Rig::begun(vec![ServiceRules { liveness, ..web(&["web1"]) }]);
    rig.spawned("web1");
    assert_eq!(why(&rig), "no readiness result yet");
    rig.probed("web1", Probe::Liveness, false);
    assert_eq!(why(&rig), "not ready yet: liveness fails: 503");
    rig.probed("web1", Probe::Readiness, true);
    assert_eq!(why(&rig), "ready, but liveness fails: 503");
    rig.probed("web1", Probe::Liveness, true);
    assert_eq!(why(&rig), "ready");
    rig.probed("web1", Probe::Readiness, false);
    assert_eq!(why(&rig), "not ready: readiness fails: 503");
}

#[test]
fn without_probes_it_says_when_it_will_be_ready() {
    let mut rig = Rig::begun(vec![rules("web", &["web1"])]);
    rig.spawned("web1");
    assert_eq!(why(&rig), "ready once it has run for 1s");
}

#[test]
fn a_restart_says_so_until_somebody_wants_it_down() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(1));
    rig.tell(restart("web1"));
    assert_eq!(why(&rig), "restarts by alice: finishing what is in flight, no signal yet");
    rig.load("web1", InFlight::Exact(0));
    assert_eq!(why(&rig), "restarts by alice: SIGTERM sent");
    rig.ask_as("bob", stop("web1")).0.unwrap();
    assert_eq!(why(&rig), "stops by alice: SIGTERM sent");
}

#[test]
fn liveness_is_shown_as_its_probe_says() {
    let mut rig = Rig::begun(vec![ServiceRules { liveness: Some(ONCE), ..web(&["web1"]) }]);
    rig.spawned("web1");
    assert_eq!(rig.sheet("web1").live, None);
    rig.probed("web1", Probe::Liveness, true);
    assert_eq!(rig.sheet("web1").live, Some(true));
    rig.probed("web1", Probe::Liveness, false);
    assert_eq!(rig.sheet("web1").live, Some(false));
}

#[test]
fn there_is_nothing_to_roll_back_with_without_commands() {
    for commands in [0, 1] {
        let mut rig = Rig::ready(vec![with(|it| it.rollback = commands)]);
        rig.tell(roll("web"));
        renew(&mut rig, "web1");
        let sheet = rig.fleet.service_sheet("web").unwrap();
        assert_eq!(sheet.can_roll_back, commands > 0);
    }
}

#[test]
fn a_kill_that_cuts_nothing_is_not_said_to_cut_requests() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.load("web1", InFlight::Exact(0));
    let question = rig.question(stop_now("web1"));
    assert_eq!(question.as_deref(), Some("SIGKILL ends web1 at once, whatever it is doing"));
}

#[test]
fn five_survivors_are_all_named() {
    let mut rig = Rig::ready(vec![web(&["web1"])]);
    rig.exited("web1", code(1));
    rig.diary();
    let killed = (1..=5).map(|pid| (pid, "php".to_owned())).collect();
    rig.input(Input::Swept { instance: "web1".into(), generation: 1, killed });
    assert_eq!(
        rig.diary()[0],
        "web1 survivors-killed: killed 5 processes it left behind: php (pid 1), php (pid 2), \
         php (pid 3), php (pid 4), php (pid 5)"
    );
}
