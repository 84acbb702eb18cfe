//! What the main screen says when there is nothing to show, or not all of it is well.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::Model;
use crate::tui::update::Msg;

#[test]
fn after_a_shutdown_nothing_runs_on() {
    let mut service = web();
    for it in &mut service.instances {
        (it.pid, it.state, it.why) = (None, State::Stopped, "shut down by alice".into());
    }
    let mut model = model_of(deck(vec![service]));
    let away = problem(problem::UNREACHABLE, "the daemon cannot be reached", "connection refused");
    send(&mut model, 1000, Msg::LinkLost(away));
    let drawn = screen(&mut model, 80, 14, 9000);
    let first = drawn.lines().next().unwrap();
    assert!(first.contains("shut down by alice; `opsdeck` starts it again"), "{first}");
}

#[test]
fn a_lost_daemon_leaves_the_last_picture_and_its_countdown_stands_still() {
    let mut model = busy();
    let away = problem(problem::UNREACHABLE, "the daemon cannot be reached", "connection refused");
    send(&mut model, 1000, Msg::LinkLost(away));
    assert_snapshot!(screen(&mut model, 80, 14, 9000), @r#"
     opsdeck shop   reconnecting, the services run on   picture of 8s ago  10:42:26
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            1/2 ready                2/2   1/2    ~14  4.2%  180M
       web1   :9502  DRAINING     15502   2h   ●    ○       ~7  2.1%   90M
           ███████▏░░  7.2s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 7s; exited 255 five times: "no such table"
     ── events ────────────────────────────────────────────────────────────────────
     10:42:11 alice  rolling restart of web
     10:42:17 web1   out of rotation, 23 in flight



     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn a_configuration_error_stays_on_the_screen() {
    let mut deck = deck(vec![web()]);
    deck.config.error =
        Some("line 4: unknown key `comand`; did you mean `command`?\nline 9: x".into());
    deck.config.pending = vec!["stops queue".into()];
    assert_snapshot!(screen(&mut model_of(deck), 80, 14, 0), @r#"
     opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup







     ! configuration not applied: line 4: unknown key `comand`; did you mean `comma…
     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn an_empty_deck_says_what_to_do() {
    let mut deck = deck(vec![]);
    deck.config.path = Some("/etc/opsdeck/config.toml".into());
    deck.at_boot = false;
    assert_snapshot!(screen(&mut model_of(deck), 80, 8, 0), @r#"
    opsdeck shop   0 services   0/0 ready   not at boot       root@web-7  10:42:17
     NAME    STATE          PID   UP LIVE READY   CPU   MEM RST
     no services are configured: add a [service.NAME] with a command to
     /etc/opsdeck/config.toml



    r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn before_the_first_picture_it_connects_and_says_what_is_wrong() {
    let mut model = Model::new(
        crate::tui::theme::Theme::new(false, false),
        jiff::tz::TimeZone::UTC,
        "root".into(),
        false,
    );
    assert_snapshot!(screen(&mut model, 60, 6, 0), @r#"
    opsdeck    connecting                             10:42:17
     NAME    STATE          PID   UP LIVE READY   CPU   MEM RST



    r roll  t TERM  u USR1  h HUP  s start  ? help  q detach
    "#);
    let away = problem(problem::UNREACHABLE, "the daemon cannot be reached", "no such file");
    send(&mut model, 0, Msg::LinkLost(away));
    assert_snapshot!(screen(&mut model, 80, 6, 0), @r#"
    opsdeck    no daemon yet, trying again                                10:42:17
     NAME    STATE          PID   UP LIVE READY   CPU   MEM RST
     the daemon cannot be reached: no such file


    r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn what_is_too_small_says_so() {
    assert_snapshot!(screen(&mut busy(), 29, 5, 0), @r#"
    too small
    29x5, need 30x6
    q leaves
    "#);
}

#[test]
fn a_long_name_of_the_deck_leaves_room_for_how_it_is() {
    let mut model = shop();
    model.deck.deck = "shop-of-the-long-street".into();
    let mut first = |width| screen(&mut model, width, 24, 0).lines().next().unwrap().to_owned();
    assert_eq!(first(40), " opsdeck shop-of…   2/3 ready  10:42:17");
    assert!(first(80).contains("shop-of-the-long-street   2 services   2/3 ready"));
}

#[test]
fn the_page_of_what_does_not_run_says_when_it_starts_and_that_it_has_nothing() {
    let mut model = model(vec![cron()]);
    type_keys(&mut model, &["enter"]);
    let detail = Detail {
        instance: "cron".into(),
        exits: vec![Event {
            kind: "fatal".into(),
            ..event("10:41:00", None, Some("cron"), "given up after 3 in a row went wrong")
        }],
        ..Detail::default()
    };
    send(&mut model, 0, Msg::Detail { of: "cron".into(), result: Ok(Box::new(detail)) });
    let text = screen(&mut model, 80, 40, 0);
    for said in [
        "starts again at 10:42:25",
        "nothing runs that has one",
        "nothing runs that has any",
        "10:41:00  given up after 3",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
}
