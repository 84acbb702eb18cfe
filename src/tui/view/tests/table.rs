//! The main screen in its sizes and states.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;

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
