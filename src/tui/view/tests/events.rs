//! The event page.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Screen};
use crate::tui::update::{Command, Msg};

fn happened(seq: u64, at: &str, who: Option<&str>, of: &str, kind: &str, message: &str) -> Event {
    Event {
        seq,
        kind: kind.into(),
        service: Some(of.trim_end_matches(['1', '2']).into()),
        ..event(at, who, Some(of), message)
    }
}

fn yesterday(event: Event) -> Event {
    Event { at: event.at - std::time::Duration::from_hours(24), ..event }
}

/// What the deck has seen of `web`, `cron` and `redis`.
fn busy() -> Model {
    let redis = service("redis", vec![running("redis", "redis", 6379)]);
    let mut model = model(vec![web(), cron(), redis]);
    let crash =
        |n: u64| happened(100 + n, "10:42:01", None, "cron", "exited", "exited with code 255");
    let mut all: Vec<Event> = (0..30).map(crash).collect();
    let halt =
        happened(130, "10:42:07", Some("alice"), "web1", "rollout-halted", "web1 is not ready");
    all.push(Event { evidence: Some(vec!["readiness probe: status 500".into()]), ..halt });
    all.push(happened(
        131,
        "10:42:12",
        Some("bob"),
        "web2",
        "signal-sent",
        "SIGUSR1: reload all workers",
    ));
    events(&mut model, all);
    model
}

/// Its page.
pub(super) fn opened() -> Model {
    let mut model = busy();
    press(&mut model, 0, "e");
    model
}

fn past(commands: &[Command]) -> (u64, crate::client::EventQuery) {
    let [Command::Past { id, query }] = commands else { panic!("{commands:?}") };
    (*id, query.clone())
}

#[test]
fn it_opens_at_the_newest_and_asks_for_older_ones() {
    let mut model = busy();
    send(&mut model, 0, Msg::Resize(80, 24));
    let (id, query) = past(&press(&mut model, 0, "e"));
    assert_eq!((query.before, query.lines), (Some(100), Some(200)));
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r"
    opsdeck shop   3 services   3/4 ready   ~21 in flight     root@web-7  10:42:17
    events                                                  asking for older ones…
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:01              cron            exited with code 255
    10:42:07  alice       web1            web1 is not ready  (⏎ evidence)
    10:42:12  bob         web2            SIGUSR1: reload all workers
    ⏎ whole  s service  w who  t kind  / filter  l logs  PgUp page up  Esc back
    ");
    let older =
        vec![yesterday(happened(99, "09:00:00", Some("alice"), "redis", "restart", "restart"))];
    send(&mut model, 0, Msg::Past { id, result: Ok(older) });
    press(&mut model, 0, "g");
    assert_snapshot!(screen(&mut model, 120, 40, 0), @r"
    opsdeck shop   3 services   3/4 ready   ~21 in flight                                             root@web-7  10:42:17
    events                                                                                                          all 33
    11-20 09:00:00  alice       redis           restart
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:01              cron            exited with code 255
    11-21 10:42:07  alice       web1            web1 is not ready  (⏎ evidence)
    11-21 10:42:12  bob         web2            SIGUSR1: reload all workers




    ⏎ whole  s service  w who  t kind  / filter  l logs  PgUp page up  PgDn page down  Esc back
    ");
    assert_snapshot!(screen(&mut model, 40, 15, 0), @r"
    opsdeck shop   3/4 ready      10:42:17
    events                          all 33
    11-20 09:00:00  alice: redis restart
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    11-21 10:42:01  cron exited with code …
    ⏎ whole  s service  w who  Esc back
    ");
    assert_eq!(send(&mut model, 0, Msg::Wake), [], "there are none before");
}

#[test]
fn who_restarted_redis_yesterday_is_found_with_one_key() {
    let mut model = busy();
    // The row of redis, then the events.
    type_keys(&mut model, &["G", "e"]);
    let (id, query) = past(&press(&mut model, 0, "s"));
    assert_eq!((query.service.as_deref(), query.before), (Some("redis"), Some(100)));
    let older = yesterday(happened(7, "22:10:05", Some("carol"), "redis", "restart", "restart"));
    send(&mut model, 0, Msg::Past { id, result: Ok(vec![older]) });
    assert_snapshot!(screen(&mut model, 80, 10, 0), @r"
    opsdeck shop   3 services   3/4 ready   ~21 in flight     root@web-7  10:42:17
    events: service:redis                                                    all 1
    11-20 22:10:05  carol       redis           restart






    ⏎ whole  s service  w who  t kind  / filter  l logs  PgUp page up  Esc back
    ");
    press(&mut model, 0, "s");
    let shown = screen(&mut model, 80, 10, 0);
    assert!(shown.contains("cron") && !shown.contains("service:"), "again: all\n{shown}");
}

#[test]
fn a_moved_cursor_is_what_the_keys_mean() {
    let mut model = busy();
    type_keys(&mut model, &["e", "k"]);
    let asked = |commands: &[Command]| {
        let filter = past(commands).1;
        [filter.service, filter.actor, filter.kind].map(Option::unwrap_or_default)
    };
    assert_eq!(asked(&press(&mut model, 0, "s")), ["web1", "", ""]);
    assert_eq!(asked(&press(&mut model, 0, "s")), ["web", "", ""]);
    assert_eq!(asked(&press(&mut model, 0, "w")), ["web", "alice", ""]);
    assert_eq!(asked(&press(&mut model, 0, "t")), ["web", "alice", "rollout-halted"]);
    assert_eq!(asked(&press(&mut model, 0, "w")), ["web", "", "rollout-halted"]);
    assert_eq!(asked(&press(&mut model, 0, "esc")), ["", "", ""]);
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn words_are_typed_and_what_happens_next_must_have_them() {
    let mut model = busy();
    type_keys(&mut model, &["e", "/"]);
    send(&mut model, 0, Msg::Paste("kind:exit since:yesterday CODE".into()));
    let shown = screen(&mut model, 80, 8, 0);
    assert!(shown.contains("/kind:exit since:yesterday CODE  ⏎ show  Esc clear"), "{shown}");
    let (id, query) = past(&press(&mut model, 0, "enter"));
    assert_eq!((query.kind.as_deref(), query.text.as_deref()), (Some("exit"), Some("CODE")));
    assert_eq!(query.since.as_deref(), Some("2026-11-20T00:00:00Z"));
    assert_eq!((query.until.as_deref(), query.before), (Some("2026-11-21T00:00:00Z"), None));
    let refused = problem(problem::REFUSED, "the request was not understood", "since");
    send(&mut model, 0, Msg::Past { id, result: Err(refused) });
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r"
    opsdeck shop   3 services   3/4 ready   ~21 in flight     root@web-7  10:42:17
    events: kind:exit since:yesterday CODE   the request was not understood: since





    ⏎ whole  s service  w who  t kind  / filter  l logs  PgUp page up  Esc back
    ");

    type_keys(&mut model, &["esc", "/", "c", "o", "d", "e", "enter"]);
    events(
        &mut model,
        vec![happened(132, "10:42:17", None, "cron", "exited", "exited with code 1")],
    );
    events(&mut model, vec![happened(133, "10:42:17", None, "cron", "spawned", "started")]);
    let shown = screen(&mut model, 80, 8, 0);
    assert!(shown.contains("with code 1\n") && !shown.contains("started"), "{shown}");
}

#[test]
fn one_event_is_shown_whole() {
    let mut model = busy();
    let mut halted =
        happened(132, "10:42:13", Some("dave"), "web1", "rollout-halted", "web1 is not ready");
    halted.actor = Some(Actor {
        uid: 1000,
        login: "dave\u{1b}[2J".into(),
        pid: 4711,
        ssh: Some("10.0.0.7 50122 10.0.0.2 22\u{1b}[2J".into()),
    });
    halted.evidence =
        Some(vec!["readiness probe: status 500 is not 200".into(), "last line".into()]);
    events(&mut model, vec![halted]);
    type_keys(&mut model, &["e", "enter"]);
    assert_snapshot!(screen(&mut model, 80, 16, 0), @r"
    opsdeck shop   3 services   3/4 ready   ~21 in flight     root@web-7  10:42:17
    events                                                  asking for older ones…
    web1 is not ready

    when          2026-11-21 10:42:13
    kind          rollout-halted
    service       web
    instance      web1
    by            dave (uid 1000, pid 4711)
    ssh           10.0.0.7 50122 10.0.0.2 22
    number        132

    evidence
      readiness probe: status 500 is not 200
      last line
    ⏎ close  s service  w who  t kind  / filter  l logs  PgUp page up  Esc back
    ");
    press(&mut model, 0, "k");
    assert!(screen(&mut model, 80, 16, 0).contains("SIGUSR1"), "up and down go to its neighbours");
    press(&mut model, 0, "esc");
    assert!(screen(&mut model, 80, 16, 0).contains("exited"), "Esc goes back to the list");
}

#[test]
fn l_leads_to_the_log_at_that_moment_and_back() {
    let mut model = busy();
    type_keys(&mut model, &["e"]);
    assert_ne!(press(&mut model, 0, "l"), [], "it is asked for");
    let Screen::Logs(logs) = &model.screen else { panic!("no logs") };
    assert_eq!(logs.window.names(), ["web2"]);
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Events(_)));
}

#[test]
fn a_new_picture_fills_the_gap_or_begins_anew() {
    let mut model = busy();
    type_keys(&mut model, &["e"]);
    let list = |model: &Model| match &model.screen {
        Screen::Events(it) => (it.list.len(), it.list.back().map(|it| it.seq)),
        _ => panic!("no events"),
    };
    assert_eq!(list(&model), (32, Some(131)));
    let mut picture = |first: u64, last: u64| {
        let events = (first..=last)
            .map(|n| happened(n, "10:43:00", None, "cron", "exited", "exited"))
            .collect();
        let deck = Box::new(deck(vec![web(), cron()]));
        send(&mut model, 0, Msg::Change(Box::new(Change::Snapshot { deck, events })));
        list(&model)
    };
    assert_eq!(picture(120, 140), (41, Some(140)));
    assert_eq!(picture(500, 509), (10, Some(509)), "what lies between is asked for again");
    assert_eq!(picture(1, 3), (3, Some(3)), "another journal");
}
