//! The main screen in its sizes and states.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::Model;
use crate::tui::update::Msg;

/// `web` while its first instance drains, `cron` failing, and what was done.
fn busy() -> Model {
    let mut model = shop();
    change(&mut model, 0, draining(web()));
    let happened = vec![
        event("10:42:11", Some("alice"), None, "rolling restart of web"),
        event("10:42:17", None, Some("web1"), "out of rotation, 23 in flight"),
    ];
    events(&mut model, happened);
    model
}

fn rolling(step: &str, halted: Option<&str>) -> Service {
    let mut web = draining(web());
    web.can_roll_back = true;
    web.rollout = Some(Rollout {
        by: "alice".into(),
        step: step.into(),
        instance: Some("web1".into()),
        done: 1,
        of: 2,
        renewed: vec!["web2".into()],
        halted: halted.map(Into::into),
        ..Rollout::default()
    });
    web
}

#[test]
fn two_services_at_80x24() {
    assert_snapshot!(screen(&mut shop(), 80, 24, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"

















     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn a_countdown_a_backoff_and_the_feed_at_80x24() {
    assert_snapshot!(screen(&mut busy(), 80, 24, 300), @r#"
     opsdeck shop   2 services   1/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            1/2 ready                2/2   1/2    ~14  4.2%  180M
       web1   :9502  DRAINING     15502   2h   ●    ○       ~7  2.1%   90M
           ██████▌░░░  6.5s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     ── events ────────────────────────────────────────────────────────────────────
     10:42:11 alice  rolling restart of web
     10:42:17 web1   out of rotation, 23 in flight













     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn the_same_at_40x10_has_no_feed_and_the_most_important_columns() {
    assert_snapshot!(screen(&mut busy(), 40, 10, 0), @r"
     opsdeck shop   1/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web            1/2 ready   2/2   1/2
       web1   :9502  DRAINING     ●    ○
      ███▋░░  6.2s of 10.0s KILL 10:42:20
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …


     r roll  t TERM  ? help  q detach
    ");
}

#[test]
fn the_same_at_120x40_uses_the_room() {
    assert_snapshot!(screen(&mut busy(), 120, 40, 0), @r#"
     opsdeck shop   2 services   1/3 ready   ~14 in flight                                             root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM RST
    ▾ web            1/2 ready                2/2   1/2    ~14  4.2%  180M   1
       web1   :9502  DRAINING     15502   2h   ●    ○       ~7  2.1%   90M   0  all probes pass
             ████████████▍░░░░░░░  6.2s of 10.0s   ~7 in flight, oldest 5.9s   no signal yet   SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M   1  backup  all probes pass
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────
     10:42:11 alice  rolling restart of web
     10:42:17 web1   out of rotation, 23 in flight





























     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  l logs  ⏎ detail  / filter  : all keys  ? help  q detach
    "#);
}

#[test]
fn a_wide_screen_says_why_and_load_has_columns_once_there_is_any() {
    let mut web = web();
    for it in &mut web.instances {
        it.requests_per_second = Some(406.2);
        it.p99_ms = Some(45);
        it.in_flight_exact = true;
        it.held_by = (it.name == "web2").then(|| "alice".into());
        it.stale = it.name == "web2";
    }
    let mut queue = service("queue", vec![Instance { port: None, ..running("queue", "queue", 0) }]);
    queue.instances[0].state = State::Stopped;
    queue.instances[0].pid = None;
    queue.instances[0].why = "stopped by alice".into();
    assert_snapshot!(screen(&mut model(vec![web, queue]), 200, 12, 0), @r#"
     opsdeck shop   2 services   3/3 ready   812 req/s   14 in flight                                                                                                                  root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY  REQ/S FLIGHT   P99   CPU   MEM RST  PROFILE    SINCE
    ▾ web            2/2 ready                2/2   2/2    812     14  45ms  4.2%  180M   1   swoole
       web1   :9502  RUNNING      15502   2h   ●    ●      406      7  45ms  2.1%   90M   0   swoole 08:40:01  all probes pass
       web2   :9503  RUNNING      15503   2h   ●    ●      406      7  45ms  2.1%   90M   1   swoole 08:40:01  held by alice stale backup  all probes pass
      queue          STOPPED    stopped by alice                                          0  generic 08:40:01





     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  l logs  ⏎ detail  / filter  : all keys  ? help  q detach
    "#);
}

#[test]
fn a_rollout_has_a_line() {
    let mut model = shop();
    change(&mut model, 0, rolling("draining", None));
    assert_snapshot!(screen(&mut model, 80, 16, 0), @r#"
     opsdeck shop   2 services   1/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            1/2 ready                2/2   1/2    ~14  4.2%  180M
       web1   :9502  DRAINING     15502   2h   ●    ○       ~7  2.1%   90M
           ██████▏░░░  6.2s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     ── web: rolling restart by alice, 1 of 2 ── web2 ✓  web1 draining… ───────────







     a abort  p pause  r roll  t TERM  u USR1  h HUP  s start  ? help  q detach
    "#);
}

#[test]
fn a_halted_rollout_says_why() {
    let mut model = shop();
    change(&mut model, 0, rolling("halted", Some("web1 answers 500 to /readiness")));
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
     opsdeck shop   2 services   1/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            1/2 ready                2/2   1/2    ~14  4.2%  180M
       web1   :9502  DRAINING     15502   2h   ●    ○       ~7  2.1%   90M
           ██████▏░░░  6.2s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     ── web: rolling restart by alice, 1 of 2 ── HALTED at web1 ───────────────────
        web1 answers 500 to /readiness; v shows why, r tries again; b rolls back




     r roll  t TERM  u USR1  h HUP  s start  x stop  d drain  ? help  q detach
    "#);
}

#[test]
fn a_finished_rollout_stays_for_a_minute() {
    let mut model = shop();
    let mut done = rolling("done", None);
    done.rollout.as_mut().unwrap().ended = Some(at(0).wall);
    change(&mut model, 0, done);
    assert!(screen(&mut model, 80, 24, 59_000).contains("web2 ✓  done"));
    assert!(!screen(&mut model, 80, 24, 60_000).contains("rolling restart"));
}

#[test]
fn the_guard_asks_in_the_footer() {
    let mut model = shop();
    type_keys(&mut model, &["j", "t"]);
    let why =
        "web1 is the last ready instance of web: no other one takes its requests while it restarts";
    let result = Err(problem(problem::CONFIRM, "confirm", why));
    send(&mut model, 0, Msg::Reply { id: 1, result });
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"






     SIGTERM: web1 is the last ready instance of web: no other one takes its
     requests while it restarts. t again does it, any other key cancels
    "#);
}

#[test]
fn a_filter_shows_itself() {
    let mut model = shop();
    type_keys(&mut model, &["/", "w", "e", "b", "2"]);
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup



     /web2  ⏎ keep  Esc clear
    "#);
    type_keys(&mut model, &["enter", "space"]);
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾•web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup



     /web2 (Esc clears)  1 marked  r roll  t TERM  u USR1  h HUP  ? help  q detach
    "#);
}

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
fn a_read_only_deck_shows_no_acting_keys() {
    let mut model = shop();
    model.read_only = true;
    assert_snapshot!(screen(&mut model, 80, 8, 0), @r#"
     opsdeck shop   read-only   2 services   2/3 ready   ~14 in flight     10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"

     l logs  ⏎ detail  / filter  : all keys  ? help  q detach
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
fn with_ascii_there_is_nothing_else() {
    let mut model = busy();
    model.theme = crate::tui::theme::Theme::new(true, true);
    change(&mut model, 0, rolling("draining", None));
    assert_snapshot!(screen(&mut model, 80, 14, 0), @r#"
     opsdeck shop   2 services   1/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    v web            1/2 ready                2/2   1/2    ~14  4.2%  180M
       web1   :9502  DRAINING     15502   2h   Y    n       ~7  2.1%   90M
           ######....  6.2s of 10.0s  ~7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   Y    Y       ~7  2.1%   90M  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     -- web: rolling restart by alice, 1 of 2 -- web2 ok  web1 draining.. ---------
     10:42:11 alice  rolling restart of web
     10:42:17 web1   out of rotation, 23 in flight



     a abort  p pause  r roll  t TERM  u USR1  h HUP  s start  ? help  q detach
    "#);
}

#[test]
fn a_filter_that_is_not_understood_says_so_beside_its_text_and_in_the_footer() {
    let mut model = shop();
    type_keys(&mut model, &["/", "c", "p", "u", ">", "x"]);
    let last = |model: &mut Model, width| {
        screen(model, width, 24, 0).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(last(&mut model, 80), " /cpu>x  cpu>x: \"x\" is no number");
    assert_eq!(last(&mut model, 40), " /cpu>x  cpu>x: \"x\" is no number");
    type_keys(&mut model, &["enter", "*"]);
    assert!(model.marked.is_empty(), "nobody knows what is meant by all");
    assert!(last(&mut model, 80).starts_with(" nothing was marked"));
    type_keys(&mut model, &["j"]);
    assert!(last(&mut model, 80).starts_with(" / cpu>x: \"x\" is no number (Esc clears)"));
}

#[test]
fn the_titles_say_what_rows_are_sorted_by_even_where_its_column_does_not_fit() {
    let mut model = shop();
    let mut titles = |keys: &[&str]| {
        type_keys(&mut model, keys);
        screen(&mut model, 80, 24, 0).lines().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(
        titles(&["o"]),
        "  NAME↓          STATE          PID   UP LIVE READY FLIGHT   CPU   MEM"
    );
    assert_eq!(
        titles(&["o"]),
        "  NAME           STATE↓         PID   UP LIVE READY FLIGHT   CPU   MEM"
    );
    assert_eq!(
        titles(&["o"]),
        "  NAME           STATE          PID   UP LIVE READY FLIGH↓   CPU   MEM"
    );
    assert_eq!(
        titles(&["o"]),
        "  NAME           STATE          PID   UP LIVE READY FLIGHT  CPU↓   MEM"
    );
    assert_eq!(
        titles(&["o", "o"]),
        "  by restarts↓   STATE          PID   UP LIVE READY FLIGHT   CPU   MEM"
    );
}

#[test]
fn all_that_is_shown_is_marked_and_marks_that_are_not_shown_are_counted() {
    let mut model = shop();
    type_keys(&mut model, &["/", "w", "e", "b", "enter", "*"]);
    let footer = |model: &mut Model| screen(model, 80, 24, 0).lines().last().unwrap().to_owned();
    assert!(footer(&mut model).starts_with(" /web (Esc clears)  2 marked  "));
    type_keys(&mut model, &["/", "1", "enter"]);
    assert!(footer(&mut model).starts_with(" /web1 (Esc clears)  2 marked, 1 not shown  "));
    type_keys(&mut model, &["esc", "left"]);
    assert!(footer(&mut model).starts_with(" 2 marked, 2 not shown  "));
    type_keys(&mut model, &["right", "*"]);
    assert!(footer(&mut model).starts_with(" 3 marked  "), "cron as well");
    type_keys(&mut model, &["*"]);
    assert!(model.marked.is_empty());
}

#[test]
fn without_colours_every_state_and_verdict_is_told_apart() {
    let states = [
        State::Stopped,
        State::Spawning,
        State::Starting,
        State::Running,
        State::Draining,
        State::Stopping,
        State::Backoff,
        State::Exited,
        State::Fatal,
        State::Lost,
    ];
    let verdicts = [None, Some(true), Some(false)];
    let one = |(n, state): (usize, &State)| Instance {
        state: *state,
        live: verdicts[n % 3],
        ready: verdicts[(n + 1) % 3],
        ..running("web", &format!("web{n}"), 0)
    };
    let mut web = service("web", states.iter().enumerate().map(one).collect());
    web.wanted = 10;
    let mut model = model(vec![web]);
    model.theme = crate::tui::theme::Theme::new(false, true);
    assert_snapshot!(screen(&mut model, 60, 15, 0), @r#"
     opsdeck shop   1 service   4/10 ready             10:42:17
      NAME    STATE          PID   UP LIVE READY   CPU   MEM RST
    ▾ web     LOST                    3/10  4/10 21.0%  900M   0
       web0   STOPPED      15000   2h        ●    2.1%   90M   0
       web1   SPAWNING     15000   2h   ●    ○    2.1%   90M   0
       web2   STARTING     15000   2h   ○         2.1%   90M   0
       web3   RUNNING      15000   2h        ●    2.1%   90M   0
       web4   DRAINING     15000   2h   ●    ○    2.1%   90M   0
       web5   STOPPING     15000   2h   ○         2.1%   90M   0
       web6   BACKOFF      15000   2h        ●    2.1%   90M   0
       web7   EXITED       15000   2h   ●    ○    2.1%   90M   0
       web8   FATAL        15000   2h   ○         2.1%   90M   0
       web9   LOST         15000   2h        ●    2.1%   90M   0

     r roll  t TERM  u USR1  h HUP  s start  ? help  q detach
    "#);
}

#[test]
fn what_the_screen_costs_is_told_where_it_is_wanted() {
    let mut model = shop();
    let mut cost = crate::tui::cost::Cost::default();
    cost.add(12_345);
    cost.tell(std::time::Duration::from_secs(10));
    model.cost = Some(cost);
    let shown = screen(&mut model, 80, 24, 0);
    assert!(shown.contains("2 services   1K/s 12K   2/3 ready"), "{shown}");
}

#[test]
fn a_full_queue_stands_on_its_row_before_everything_else() {
    let mut web = web();
    let it = &mut web.instances[1];
    (it.accept_queue, it.accept_limit) = (Some(129), Some(128));
    let mut model = model(vec![web]);
    for (width, height) in [(80, 24), (40, 10), (200, 50)] {
        let all = screen(&mut model, width, height, 0);
        let row = all.lines().find(|it| it.contains("web2")).unwrap_or_default();
        assert!(row.to_lowercase().contains("queue full"), "{width}:\n{all}");
    }
    let all = screen(&mut model, 40, 10, 0);
    assert!(all.contains("QUEUE FULL"), "{all}");
}

#[test]
fn a_filter_with_a_word_that_there_is_not_says_at_once_which_there_are() {
    let mut model = shop();
    type_keys(&mut model, &["/", "f", "o", "o", ">"]);
    let last = |model: &mut Model, width| {
        screen(model, width, 24, 0).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        last(&mut model, 80),
        " /foo>  foo>: no such word; there are load flight cpu mem restarts p99 state re…"
    );
    assert_eq!(model.rows.list.len(), 4, "as if it were not there");
    press(&mut model, 0, "enter");
    assert!(last(&mut model, 80).starts_with(" / foo>: no such word (Esc clears)"));
}
