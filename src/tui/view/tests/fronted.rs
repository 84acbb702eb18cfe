//! A service with a gateway in front of it: where clients come in, how many, and what they wait for.

use insta::assert_snapshot;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::update::{Command, Msg};

/// `web` while its first instance drains, its gateway changed a little.
fn rolling(change: impl FnOnce(&mut Gateway)) -> Service {
    let mut web = fronted(draining(web()));
    change(web.gateway.as_mut().unwrap());
    web
}

/// The lines that show the service.
fn shown(web: Service, width: u16, height: u16) -> String {
    let all = screen(&mut model(vec![web, cron()]), width, height, 0);
    all.lines().take(7).map(|it| format!("{it}\n")).collect()
}

#[test]
fn a_roll_shows_the_entry_the_totals_and_exact_counts() {
    assert_snapshot!(shown(rolling(|_| ()), 80, 24), @r#"
     opsdeck shop   2 services   1/3 ready   812 req/s   37 in flight      10:42:17
      NAME           STATE          PID LIVE READY  REQ/S FLIGHT   P99
    ▾ web     :9999  1/2 ready           2/2   1/2    812     37  45ms
       web1   :9502  DRAINING     15502   ●    ○        0      7  45ms
           ██████▏░░░  6.2s of 10.0s  7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   ●    ●      812     30  45ms  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
    "#);
    assert_snapshot!(shown(rolling(|_| ()), 40, 10), @r"
     opsdeck shop   1/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web     :9999  1/2 ready   2/2   1/2
       web1   :9502  DRAINING     ●    ○
      ███▋░░  6.2s of 10.0s KILL 10:42:20
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
    ");
    assert_snapshot!(shown(rolling(|_| ()), 200, 50), @r#"
     opsdeck shop   2 services   1/3 ready   812 req/s   37 in flight                                                                                                                  root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY  REQ/S FLIGHT   P99   CPU   MEM RST  PROFILE    SINCE
    ▾ web     :9999  1/2 ready                2/2   1/2    812     37  45ms  4.2%  180M   1   swoole
       web1   :9502  DRAINING     15502   2h   ●    ○        0      7  45ms  2.1%   90M   0   swoole 08:40:01  all probes pass
             ████████████▍░░░░░░░  6.2s of 10.0s   7 in flight, oldest 5.9s   no signal yet   SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   2h   ●    ●      812     30  45ms  2.1%   90M   1   swoole 08:40:01  backup  all probes pass
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"       5  generic
    "#);
}

#[test]
fn requests_that_wait_are_counted_on_the_row_of_their_service() {
    assert_snapshot!(shown(rolling(|it| it.held = 12), 80, 24), @r#"
     opsdeck shop   2 services   1/3 ready   812 req/s   37 in flight      10:42:17
      NAME           STATE          PID LIVE READY  REQ/S FLIGHT   P99
    ▾ web     :9999  1/2 ready           2/2   1/2    812     37  45ms  held 12
       web1   :9502  DRAINING     15502   ●    ○        0      7  45ms
           ██████▏░░░  6.2s of 10.0s  7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   ●    ●      812     30  45ms  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
    "#);
    assert_snapshot!(shown(rolling(|it| it.held = 12), 40, 10), @r"
     opsdeck shop   1/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web     :9999  held 12     2/2   1/2
       web1   :9502  DRAINING     ●    ○
      ███▋░░  6.2s of 10.0s KILL 10:42:20
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
    ");
}

#[test]
fn a_gateway_that_is_down_or_cannot_listen_says_so_where_its_figures_were() {
    assert_snapshot!(shown(rolling(|it| it.up = false), 80, 24), @r#"
     opsdeck shop   2 services   1/3 ready   812 req/s   37 in flight      10:42:17
      NAME           STATE          PID LIVE READY  REQ/S FLIGHT   P99
    ▾ web     :9999  1/2 ready  gateway down: clients wait
       web1   :9502  DRAINING     15502   ●    ○        0      7  45ms
           ██████▏░░░  6.2s of 10.0s  7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   ●    ●      812     30  45ms  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
    "#);
    let trouble = "cannot listen on 0.0.0.0:9999: the port is held by nginx (pid 812)";
    assert_snapshot!(shown(rolling(|it| it.trouble = Some(trouble.into())), 80, 24), @r#"
     opsdeck shop   2 services   1/3 ready   812 req/s   37 in flight      10:42:17
      NAME           STATE          PID LIVE READY  REQ/S FLIGHT   P99
    ▾ web     :9999  1/2 ready  cannot listen on 0.0.0.0:9999: the port is held by …
       web1   :9502  DRAINING     15502   ●    ○        0      7  45ms
           ██████▏░░░  6.2s of 10.0s  7 in flight, oldest 5.9s  SIGKILL at 10:42:20
       web2   :9503  RUNNING      15503   ●    ●      812     30  45ms  backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
    "#);
    assert_snapshot!(shown(rolling(|it| it.trouble = Some(trouble.into())), 40, 10), @r"
     opsdeck shop   1/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web     :9999  1/2 ready  cannot list…
       web1   :9502  DRAINING     ●    ○
      ███▋░░  6.2s of 10.0s KILL 10:42:20
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
    ");
}

#[test]
fn who_is_out_of_rotation_can_be_told_without_colours() {
    let mut web = fronted(web());
    web.instances[0].in_rotation = false;
    web.instances[1].ejected = true;
    assert_snapshot!(shown(web.clone(), 80, 24), @r#"
     opsdeck shop   2 services   2/3 ready   812 req/s   37 in flight      10:42:17
      NAME           STATE          PID LIVE READY  REQ/S FLIGHT   P99
    ▾ web     :9999  2/2 ready           2/2   2/2    812     37  45ms
       web1   :9502  RUNNING      15502   ●    ◐        0      7  45ms  out
       web2   :9503  RUNNING      15503   ●    ●      812     30  45ms  ejected bac…
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
    "#);
    assert_snapshot!(shown(web.clone(), 40, 10), @r"
     opsdeck shop   2/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web     :9999  2/2 ready   2/2   2/2
       web1   :9502  RUNNING      ●    ◐
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
    ");
    web.instances[0].held_by = Some("alice".into());
    assert_snapshot!(shown(web, 120, 24), @r#"
     opsdeck shop   2 services   2/3 ready   812 req/s   37 in flight                                  root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY  REQ/S FLIGHT   P99   CPU   MEM RST
    ▾ web     :9999  2/2 ready                2/2   2/2    812     37  45ms  4.2%  180M   1
       web1   :9502  RUNNING      15502   2h   ●    ◐        0      7  45ms  2.1%   90M   0  held by alice
       web2   :9503  RUNNING      15503   2h   ●    ●      812     30  45ms  2.1%   90M   1  ejected backup
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"       5
    "#);
}

#[test]
fn the_detail_has_every_count() {
    let mut model = model(vec![fronted(web())]);
    type_keys(&mut model, &["enter"]);
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r"
    opsdeck shop   1 service   2/2 ready   812 req/s   37 in flight       10:42:17

    web  2/2 ready
    profile       swoole
    1 Instances ──────────────────────────────────────────────────────────────────
    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3, in rotation
      all probes pass

    web2  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15503, up 2h, port 9503, generation 3, backup, in rotation
      all probes pass
    2 Rolling restart ────────────────────────────────────────────────────────────
      none so far; v shows the plan, r on the table begins
    3 Load of all, the last ten minutes ──────────────────────────────────────────
    now           4.2% CPU, 180M memory
    gateway       shop (embedded) at 0.0.0.0:9999: 100 connections of clients
    held          0 now, 0 in all
    now           812.4 req/s, 37 in flight, oldest 5.9s
    answered      1780 2xx, 2 5xx
    besides       1 sent again elsewhere
    last 10 s     p50 12.2 ms, p95 31.5 ms, p99 44.2 ms
    moved         2M in, 5.0G out
    Tab next section  l logs  v rollout  PgDn page down  PgUp page up  Esc back
    ");
}

/// Ten minutes that begin with nothing and have one peak.
fn history() -> History {
    let rate = |n: u16| if n == 200 { 800.0 } else { f64::from(n) };
    History {
        step_ms: 2000,
        in_flight: (0..300).map(|n| if n < 100 { 0 } else { n / 10 }).collect(),
        requests_per_second: (0..300).map(rate).collect(),
        ..History::default()
    }
}

#[test]
fn the_detail_draws_the_last_ten_minutes() {
    let mut model = model(vec![fronted(web())]);
    let asked = type_keys(&mut model, &["j", "enter"]);
    let of = model.rows.selected.clone().unwrap();
    assert_eq!(asked, [Command::History { of: of.clone() }, Command::Detail { of: "web1".into() }]);
    assert_eq!(send(&mut model, 1000, Msg::Wake), [], "it is not asked again at once");
    let other = crate::tui::rows::RowId { instance: None, ..of.clone() };
    send(&mut model, 1000, Msg::History { of: other, result: Ok(history()) });
    assert!(!screen(&mut model, 80, 24, 1000).contains("10 minutes"), "that was another row");
    send(&mut model, 1000, Msg::History { of: of.clone(), result: Ok(history()) });
    assert_snapshot!(screen(&mut model, 80, 24, 1000), @r"
    opsdeck shop   1 service   2/2 ready   812 req/s   37 in flight       10:42:18

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3, in rotation
    1 Why ────────────────────────────────────────────────────────────────────────
      all probes pass
    2 Probes ─────────────────────────────────────────────────────────────────────
    3 Processes ──────────────────────────────────────────────────────────────────
      asking the daemon…
    4 Load, the last ten minutes ─────────────────────────────────────────────────
    now           0.0 req/s, 7 in flight, 2.1% CPU, 90M memory
    in flight 29                                    ▁▁▁▁▁▂▂▂▂▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇▇██
                                        ▆▆▆▆▇▇▇▇██████████████████████████████████
    req/s 800                                                █
                   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▂▂▂▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▃▃▄▄▄▄▄▄█▄▄▄▄▅▅▅▅▅▅▅▅▅▅▆▆▆▆▆▆
                   10 minutes ago                                              now
    answered      890 2xx
    5 Signals ────────────────────────────────────────────────────────────────────
    6 Ends and restarts ──────────────────────────────────────────────────────────
    restarts      0
    7 Environment ────────────────────────────────────────────────────────────────
    8 Limits ─────────────────────────────────────────────────────────────────────
    9 Files ──────────────────────────────────────────────────────────────────────
    Tab next section  l logs  v rollout  J process  PgDn page down  Esc back
    ");
    assert_snapshot!(screen(&mut model, 40, 10, 1000), @r"
    opsdeck shop   2/2 ready      10:42:18

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port
    9502, generation 3, in rotation
    1 Why ────────────────────────────────
      all probes pass
    2 Probes ─────────────────────────────
    3 Processes ──────────────────────────
    Tab next section  l logs  Esc back
    ");
    assert_eq!(send(&mut model, 2000, Msg::Wake)[0], Command::History { of });
    type_keys(&mut model, &["esc"]);
    assert_eq!(model.chart, None);
}
