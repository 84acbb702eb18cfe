//! The rollout page, before, during and after one.

use insta::assert_snapshot;
use jiff::Timestamp;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Screen};
use crate::tui::update::{Command, Msg, RolloutAnswer};

/// So many seconds before the present moment of the tests.
fn ago(seconds: u64) -> Option<Timestamp> {
    Some(at(0).wall - std::time::Duration::from_secs(seconds))
}

fn phase(name: &str, began: u64, ended: Option<u64>) -> RolloutPhase {
    RolloutPhase { name: name.into(), began: ago(began), ended: ended.and_then(ago) }
}

/// `web2` took ten seconds, `web1` drains.
fn running() -> RolloutRecord {
    let done = RolloutStep {
        instance: "web2".into(),
        outcome: "renewed".into(),
        began: ago(20),
        ended: ago(10),
        phases: vec![
            phase("build", 20, Some(16)),
            phase("stopping", 16, Some(15)),
            phase("readiness", 15, Some(13)),
            phase("settle", 13, Some(10)),
        ],
        exit: Some("exited with code 0 after SIGTERM".into()),
        lost: 0,
    };
    let goes_on = RolloutStep {
        instance: "web1".into(),
        outcome: "running".into(),
        began: ago(10),
        phases: vec![phase("build", 10, Some(6)), phase("draining", 6, None)],
        ..RolloutStep::default()
    };
    RolloutRecord {
        service: "web".into(),
        by: Actor { login: "alice".into(), ..Actor::default() },
        began: ago(20),
        outcome: "running".into(),
        plan: vec!["web2".into(), "web1".into()],
        steps: vec![done, goes_on],
        ..RolloutRecord::default()
    }
}

/// `web` meanwhile.
fn rolling() -> Service {
    let mut web = draining(web());
    web.rollout = Some(Rollout {
        by: "alice".into(),
        step: "draining".into(),
        instance: Some("web1".into()),
        ..Rollout::default()
    });
    web
}

fn halted() -> RolloutRecord {
    let mut record = running();
    let step = &mut record.steps[1];
    (step.outcome, step.ended) = ("failed".into(), ago(1));
    step.phases[1].ended = ago(1);
    step.lost = 4;
    RolloutRecord {
        outcome: "halted".into(),
        ended: ago(1),
        halted: Some("web1 was not ready within 5s: status 500".into()),
        evidence: vec![
            "readiness probe: status 500 no \u{1b}[31mdatabase".into(),
            "last exit: SIGTERM by alice".into(),
            "PDOException: no such table".into(),
        ],
        counted: Some(Counted { requests: 812, cut: 4, retried: 1, ..Counted::default() }),
        set: [("version".to_owned(), "43".to_owned())].into(),
        ..record
    }
}

fn plan() -> Plan {
    let step = |instance: &str, because: &str| PlanStep {
        instance: instance.into(),
        because: because.into(),
        ready: true,
        build: vec!["composer dump-autoload -o".into()],
        max_wait_time_ms: 10_000,
        ready_timeout_ms: 60_000,
        verdicts: vec!["readiness passes: 200 in 3 ms, 12 in a row".into()],
        expected_ms: Some(11_000),
    };
    Plan {
        service: "web".into(),
        min_ready: 1,
        steps: vec![step("web2", "backup"), step("web1", "primary")],
        expected_ms: Some(22_000),
        ..Plan::default()
    }
}

fn none() -> Result<RolloutRecord, Problem> {
    Err(problem(problem::NOT_FOUND, "there was no rolling restart of web", ""))
}

fn answer(model: &mut Model, record: Result<RolloutRecord, Problem>) {
    let answer = RolloutAnswer { service: "web".into(), record, plan: Ok(plan()) };
    send(model, 0, Msg::Rollout(Box::new(answer)));
}

/// The page of one that goes on.
pub(super) fn under_way() -> Model {
    opened(rolling(), Ok(running()))
}

fn opened(web: Service, record: Result<RolloutRecord, Problem>) -> Model {
    let mut model = model(vec![web, cron()]);
    let asked = press(&mut model, 0, "v");
    assert_eq!(asked, [Command::Rollout { service: "web".into() }]);
    answer(&mut model, record);
    model
}

#[test]
fn before_the_first_one_the_plan_is_shown() {
    let mut model = opened(web(), none());
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
    web: no rolling restart so far

    Next: 2 instances, at least 1 stay ready, about 22s as before; r starts it
    web2           ready      backup    about 11s
       readiness passes: 200 in 3 ms, 12 in a row
       build: composer dump-autoload -o
       drain and stop within 10s, ready within 1m00s
    web1           ready      primary   about 11s














    r roll  l logs  PgDn page down  PgUp page up  Esc back
    "#);
    assert_snapshot!(screen(&mut model, 40, 10, 0), @r#"
    opsdeck shop   2/3 ready      10:42:17
    web: no rolling restart so far
    web2           ready      backup    ab…
       readiness passes: 200 in 3 ms, 12
       in a row
       build: composer dump-autoload -o
       drain and stop within 10s, ready
       within 1m00s
    web1           ready      primary   ab…
    r roll  l logs  Esc back
    "#);
}

#[test]
fn the_steps_are_live_with_the_countdown_of_the_present_one() {
    let mut model = under_way();
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
    opsdeck shop   2 services   1/3 ready   ~14 in flight     root@web-7  10:42:17
    web: rolling restart by alice, 1 of 2 renewed, 20s
    ███████████████████░ 20s of about 21s
    web2           ✓ renewed    10:41:57    10.0s  about 11s
    web1           draining…    10:42:07    10.0s  about 11s
          ██████▏░░░  6.2s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       build 4.0s, draining 6.0s
    began 2026-11-21 10:41:57















    a abort  p pause  + +10s  ! kill  l logs  PgDn page down  Esc back
    "#);
    assert_snapshot!(screen(&mut model, 40, 10, 0), @r"
    opsdeck shop   1/3 ready      10:42:17
    web: 1 of 2 renewed, 20s
    ███████████████████░ 20s of about 21s
    web2           ✓ renewed      10.0s
    web1           draining…      10.0s
     ███▋░░  6.2s of 10.0s KILL 10:42:20
       build 4.0s, draining 6.0s
    began 2026-11-21 10:41:57

    a abort  p pause  + +10s  Esc back
    ");
}

#[test]
fn a_halt_shows_its_evidence_and_the_next_plan() {
    let mut model = opened(web(), Ok(halted()));
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
    web: rolling restart by alice, halted at 10:42:16 after 19s
    web2           ✓ renewed    10:41:57    10.0s  about 11s
    web1           FAILED       10:42:07     9.0s  about 11s  4 requests lost
       build 4.0s, draining 5.0s

    halted: web1 was not ready within 5s: status 500; r tries again
      readiness probe: status 500 no database
      last exit: SIGTERM by alice
      PDOException: no such table
    812 requests meanwhile, 4 cut, 1 retried
    with version=43
    began 2026-11-21 10:41:57

    Next: 2 instances, at least 1 stay ready, about 22s as before; r starts it
    web2           ready      backup    about 11s
    web1           ready      primary   about 11s






    r roll  l logs  PgDn page down  PgUp page up  Esc back
    "#);
    screen(&mut model, 40, 10, 0);
    type_keys(&mut model, &["pgdn"]);
    assert_snapshot!(screen(&mut model, 40, 10, 0), @r"
    opsdeck shop   2/3 ready      10:42:17
    web: halted at 10:42:16 after 19s
      PDOException: no such table
    812 requests meanwhile, 4 cut, 1
    retried
    with version=43
    began 2026-11-21 10:41:57
    Next: 2 instances, at least 1 stay
    ready, about 22s as before; r starts
    r roll  l logs  Esc back
    ");
}

#[test]
fn the_cursor_goes_over_the_instances_and_stops_at_the_ends() {
    let mut model = opened(web(), Ok(halted()));
    let place = |model: &Model| match &model.screen {
        Screen::Rollout(page) => page.log_place(),
        _ => None,
    };
    assert_eq!(place(&model), Some(("web1".into(), ago(10))), "the one that failed");
    type_keys(&mut model, &["k", "k"]);
    assert_eq!(place(&model), Some(("web2".into(), ago(20))));
    type_keys(&mut model, &["G"]);
    assert_eq!(place(&model), Some(("web1".into(), None)), "of the next plan");
    type_keys(&mut model, &["g"]);
    let follow = press(&mut model, 0, "l");
    let read = follow.iter().find_map(|it| match it {
        Command::ReadLog { names, query, .. } => Some((names.clone(), query.at)),
        _ => None,
    });
    assert_eq!(read, Some((vec!["web2".to_owned()], ago(20))), "{follow:?}");
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Rollout(_)), "back where it was opened from");
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn keys_of_a_rollout_mean_the_service_of_the_page() {
    let mut web = draining(web());
    web.rollout =
        Some(Rollout { by: "alice".into(), step: "draining".into(), ..Rollout::default() });
    let mut model = opened(web, Ok(running()));
    let abort = press(&mut model, 0, "a");
    let request = Request::Rollout { service: "web".into(), verb: RolloutVerb::Abort };
    assert!(
        matches!(&abort[..], [Command::Send { request: it, .. }] if *it == request),
        "{abort:?}"
    );
    let extend = press(&mut model, 0, "+");
    let [Command::Send { request: Request::Instance { name, verb, .. }, .. }] = &extend[..] else {
        panic!("{extend:?}")
    };
    assert_eq!((name.as_str(), *verb), ("web1", InstanceVerb::Extend));
    assert_eq!(press(&mut model, 0, "x"), [], "nothing else acts here");
}

#[test]
fn what_happens_to_the_service_is_asked_for_again_but_not_too_often() {
    let mut model = opened(web(), Ok(running()));
    let mut heard = event("10:42:17", None, Some("web1"), "exited");
    heard.service = Some("cron".into());
    events(&mut model, vec![heard.clone()]);
    assert_eq!(press(&mut model, 100, "k"), []);
    heard.service = Some("web".into());
    events(&mut model, vec![heard]);
    assert_eq!(press(&mut model, 100, "k"), []);
    assert_eq!(send(&mut model, 250, Msg::Wake), [Command::Rollout { service: "web".into() }]);
}

#[test]
fn a_narrow_title_says_how_it_stands() {
    let mut model = opened(web(), Ok(halted()));
    let mut title = |width| screen(&mut model, width, 24, 0).lines().nth(1).unwrap().to_owned();
    assert!(title(80).starts_with(" web: rolling restart by alice, halted at "), "{}", title(80));
    assert!(title(40).starts_with(" web: halted at ") && title(40).contains(" after "));
}
