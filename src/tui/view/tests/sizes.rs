//! The screens at the sizes that the other tests leave out, and all of them without colours.

use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::{config, detail, events, logs, rollout};
use crate::api::*;
use crate::tui::fixtures::{events as happened, *};
use crate::tui::model::Model;
use crate::tui::theme::Theme;
use crate::tui::theme::depth::Depth;
use crate::tui::theme::file::find;
use crate::tui::update::Msg;
use crate::tui::view;

/// The screen; of many blank lines their number.
fn compact(model: &mut Model, width: u16, height: u16) -> String {
    let shown = screen(model, width, height, 0);
    let mut lines: Vec<String> = vec![];
    let mut blank = 0;
    for line in shown.trim_end().lines() {
        if line.is_empty() {
            blank += 1;
            continue;
        }
        lines.extend(match std::mem::take(&mut blank) {
            0 => None,
            1 => Some(String::new()),
            n => Some(format!(" ({n} blank lines)")),
        });
        lines.push(line.to_owned());
    }
    lines.join("\n")
}

fn after(keys: &[&str]) -> Model {
    let mut model = shop();
    type_keys(&mut model, keys);
    model
}

/// `web` as a whole: behind a gateway, after a roll that halted.
fn whole() -> Model {
    let halted = rolling("halted", Some("web1 is not ready after 30s: readiness 500")).rollout;
    let web = Service {
        rollout: halted.map(|it| Rollout {
            since: "2026-11-21T10:40:00Z".parse().ok(),
            ended: "2026-11-21T10:41:00Z".parse().ok(),
            instance: None,
            ..it
        }),
        ..fronted(web())
    };
    let mut model = model(vec![web, cron()]);
    let halted = Event {
        kind: "rollout-halted".into(),
        ..event("10:41:00", None, Some("web1"), "halted: web1 is not ready after 30s")
    };
    let of_another = event("10:41:30", None, Some("cron"), "exited with code 255");
    let told =
        [event("10:40:00", Some("alice"), Some("web2"), "rolling restart"), halted, of_another];
    happened(&mut model, told.to_vec());
    type_keys(&mut model, &["enter"]);
    model
}

#[test]
fn the_table_at_40x15() {
    assert_snapshot!(compact(&mut busy(), 40, 15), @r"
     opsdeck shop   1/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web            1/2 ready   2/2   1/2
       web1   :9502  DRAINING     ●    ○
      ███▋░░  6.2s of 10.0s KILL 10:42:20
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
     ── events ────────────────────────────
     10:42:11 alice  rolling restart of web
     10:42:17 web1   out of rotation, 23 in…
     (4 blank lines)
     r roll  t TERM  ? help  q detach
    ");
}

#[test]
fn a_service_as_a_whole() {
    assert_snapshot!(compact(&mut whole(), 80, 24), @r"
    opsdeck shop   2 services   2/3 ready   812 req/s   37 in flight      10:42:17

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
      rolling restart by alice since 2026-11-21 10:40:00
      halted at 2026-11-21 10:41:00: web1 is not ready after 30s: readiness 500; 1
      of 2 renewed: web2
      v shows its steps
    3 Load of all, the last ten minutes ──────────────────────────────────────────
    now           4.2% CPU, 180M memory
    gateway       shop (embedded) at 0.0.0.0:9999: 100 connections of clients
    held          0 now, 0 in all
    now           812.4 req/s, 37 in flight, oldest 5.9s
    answered      1780 2xx, 2 5xx
    Tab next section  l logs  v rollout  PgDn page down  PgUp page up  Esc back
    ");
    assert_snapshot!(compact(&mut whole(), 120, 40), @r"
    opsdeck shop   2 services   2/3 ready   812 req/s   37 in flight                                  root@web-7  10:42:17

    web  2/2 ready
    profile       swoole
    1 Instances ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3, in rotation
      all probes pass

    web2  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15503, up 2h, port 9503, generation 3, backup, in rotation
      all probes pass
    2 Rolling restart ────────────────────────────────────────────────────────────────────────────────────────────────────
      rolling restart by alice since 2026-11-21 10:40:00
      halted at 2026-11-21 10:41:00: web1 is not ready after 30s: readiness 500; 1 of 2 renewed: web2
      v shows its steps
    3 Load of all, the last ten minutes ──────────────────────────────────────────────────────────────────────────────────
    now           4.2% CPU, 180M memory
    gateway       shop (embedded) at 0.0.0.0:9999: 100 connections of clients
    held          0 now, 0 in all
    now           812.4 req/s, 37 in flight, oldest 5.9s
    answered      1780 2xx, 2 5xx
    besides       1 sent again elsewhere
    last 10 s     p50 12.2 ms, p95 31.5 ms, p99 44.2 ms
    moved         2M in, 5.0G out
    4 What happened lately ───────────────────────────────────────────────────────────────────────────────────────────────
    11-21 10:40:00 alice: web2 rolling restart
    11-21 10:41:00 web1 halted: web1 is not ready after 30s
    (11 blank lines)
    Tab next section  l logs  v rollout  PgDn page down  PgUp page up  g first  G last  Esc back
    ");
    assert_snapshot!(compact(&mut whole(), 40, 15), @r"
    opsdeck shop   2/3 ready      10:42:17

    web  2/2 ready
    profile       swoole
    1 Instances ──────────────────────────
    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port
    9502, generation 3, in rotation
      all probes pass

    web2  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15503, up 2h, port
    9503, generation 3, backup, in
    rotation
    Tab next section  l logs  Esc back
    ");
}

#[test]
fn a_rollout_that_goes_on() {
    let mut model = rollout::under_way();
    assert_snapshot!(compact(&mut model, 120, 40), @r"
    opsdeck shop   2 services   1/3 ready   ~14 in flight                                             root@web-7  10:42:17
    web: rolling restart by alice, 1 of 2 renewed, 20s
    ███████████████████░ 20s of about 21s
    web2           ✓ renewed    10:41:57    10.0s  about 11s
    web1           draining…    10:42:07    10.0s  about 11s
            ████████████▍░░░░░░░  6.2s of 10.0s   ~7 in flight, oldest 5.9s   no signal yet   SIGKILL at 10:42:20
       build 4.0s, draining 6.0s
    began 2026-11-21 10:41:57
    (31 blank lines)
    a abort  p pause  + +10s  ! kill  l logs  PgDn page down  PgUp page up  Esc back
    ");
    assert_snapshot!(compact(&mut model, 40, 15), @r"
    opsdeck shop   1/3 ready      10:42:17
    web: 1 of 2 renewed, 20s
    ███████████████████░ 20s of about 21s
    web2           ✓ renewed      10.0s
    web1           draining…      10.0s
     ███▋░░  6.2s of 10.0s KILL 10:42:20
       build 4.0s, draining 6.0s
    began 2026-11-21 10:41:57
    (6 blank lines)
    a abort  p pause  + +10s  Esc back
    ");
}

#[test]
fn help() {
    assert_snapshot!(compact(&mut after(&["?"]), 120, 40), @r"
    opsdeck shop   2 services   2/3 ready   ~14 in flight                                             root@web-7  10:42:17

    One key acts. Where it would hurt, the deck asks: the same key again does it.

    Actions
             r  rolling restart of the service; a stops it
             t  SIGTERM, out of rotation first; the countdown to SIGKILL runs
             u  SIGUSR1 (Swoole: reload all workers)
             h  SIGHUP (nginx: reload)
             s  start, and keep up
             x  stop through the ladder, and keep down
             d  hold out of rotation until D
             R  restart this instance in place, on a service all of them
             X  SIGKILL at once and keep down; asks first
             D  back into rotation
          S F9  choose a signal
             +  give the countdown 10 s more
             !  end the countdown with SIGKILL now; asks first
             a  abort the rolling restart of this service
             p  pause or resume the rolling restart
             b  run the rollback commands, renew the instances again

    Looking
             l  output of this instance, of a service, of all marked rows
             ⏎  why, probes, processes, charts, signals, environment, files
             /  show only what has this text or is so: state:backoff, cpu>50, !stale
             :  every action by name
          ? F1  what every key does
      q ctrl-c  leave; nothing stops
             e  what happened, and who did it
             c  mistakes and pending changes of the configuration; again: apply
             v  the rollout of this service: plan, steps, evidence
         Space  mark; actions go to all marked rows, one after another
             *  mark all instances that are shown, or none of them
             o  sort by name, state, load, in flight, CPU, memory, restarts
           k ↑  up
           j ↓  down
        g home  to the first
         G end  to the last
    PgDn page down  PgUp page up  g first  G last  Esc back
    ");
    assert_snapshot!(compact(&mut after(&["?", "pgdn"]), 40, 15), @r"
    opsdeck shop   2/3 ready      10:42:17

                down; asks first
             D  back into rotation
          S F9  choose a signal
             +  give the countdown 10 s
                more
             !  end the countdown with
                SIGKILL now; asks first
             a  abort the rolling restart
                of this service
             p  pause or resume the
                rolling restart
             b  run the rollback commands,
    PgDn page down  Esc back
    ");
}

#[test]
fn palette() {
    let keys = [":", "r", "o", "l"];
    assert_snapshot!(compact(&mut after(&keys), 120, 40), @r"
    opsdeck shop   2 services   2/3 ready   ~14 in flight                                             root@web-7  10:42:17

    :rol
         r  roll        rolling restart of the service; a stops it
         b  rollback    run the rollback commands, renew the instances again
         v  rollout     the rollout of this service: plan, steps, evidence
         a  abort       abort the rolling restart of this service
         p  pause       pause or resume the rolling restart
    (31 blank lines)
    ⏎ do it  PgDn page down  PgUp page up  Esc back
    ");
    assert_snapshot!(compact(&mut after(&keys), 40, 15), @r"
    opsdeck shop   2/3 ready      10:42:17

    :rol
         r  roll        rolling restart of…
         b  rollback    run the rollback c…
         v  rollout     the rollout of thi…
         a  abort       abort the rolling …
         p  pause       pause or resume th…
    (6 blank lines)
    ⏎ do it  PgDn page down  Esc back
    ");
}

#[test]
fn picker() {
    let keys = ["j", "S"];
    assert_snapshot!(compact(&mut after(&keys), 120, 40), @r"
    opsdeck shop   2 services   2/3 ready   ~14 in flight                                             root@web-7  10:42:17

    signal to web1   ⏎ sends, Esc does not, digits choose
       1  SIGHUP     hang up; servers read their configuration or reopen logs
       2  SIGINT     interrupt, as Ctrl-C
       3  SIGQUIT    quit; nginx and php-fpm: graceful; others: core dump
       4  SIGILL     illegal instruction; core dump
       5  SIGTRAP    trap; core dump
       6  SIGABRT    abort; core dump
       7  SIGBUS     bus error; core dump
       8  SIGFPE     arithmetic error; core dump
       9  SIGKILL    end at once, cannot be caught; requests are lost
      10  SIGUSR1    Swoole: reload all workers; nginx: reopen logs
      11  SIGSEGV    segmentation fault; core dump
      12  SIGUSR2    Swoole: reload task workers; nginx: upgrade the binary
      13  SIGPIPE    broken pipe
      14  SIGALRM    alarm
      15  SIGTERM    ask to end
      17  SIGCHLD    a child ended
      18  SIGCONT    go on after SIGSTOP
      19  SIGSTOP    halt, cannot be caught; probes will fail
      20  SIGTSTP    halt, as Ctrl-Z
      21  SIGTTIN    read from the background; puma: one worker more
      22  SIGTTOU    write from the background; puma: one worker less
      23  SIGURG     urgent data
      24  SIGXCPU    CPU limit; core dump
      25  SIGXFSZ    file size limit; core dump
      28  SIGWINCH   window size; nginx and httpd: graceful end of workers
      29  SIGIO      I/O is possible
      30  SIGPWR     power failure
      31  SIGSYS     bad system call; core dump
      34  SIGRTMIN   first real-time signal; Swoole: reopen the log
    (7 blank lines)
    ⏎ send  0-9 by number  PgDn page down  PgUp page up  g first  G last  Esc back
    ");
    assert_snapshot!(compact(&mut after(&keys), 40, 15), @r"
    opsdeck shop   2/3 ready      10:42:17

    signal to web1
       5  SIGTRAP    trap; core dump
       6  SIGABRT    abort; core dump
       7  SIGBUS     bus error; core dump
       8  SIGFPE     arithmetic error; cor…
       9  SIGKILL    end at once, cannot b…
      10  SIGUSR1    Swoole: reload all wo…
      11  SIGSEGV    segmentation fault; c…
      12  SIGUSR2    Swoole: reload task w…
      13  SIGPIPE    broken pipe
      14  SIGALRM    alarm
      15  SIGTERM    ask to end
    ⏎ send  0-9 by number  Esc back
    ");
}

#[test]
fn what_is_asked_and_what_is_written() {
    assert_snapshot!(compact(&mut after(&["j", "X"]), 40, 15), @r"
     opsdeck shop   2/3 ready      10:42:17
      NAME           STATE      LIVE READY
    ▾ web            2/2 ready   2/2   2/2
       web1   :9502  RUNNING      ●    ●
       web2   :9503  RUNNING      ●    ●
      cron  BACKOFF    again in 8s; exited …
     (6 blank lines)
     stop now web1 by SIGKILL and keep it
     down: requests in flight are lost. X
     again does it, any other key cancels
    ");
    assert_snapshot!(compact(&mut after(&["j", "X"]), 120, 40), @r#"
     opsdeck shop   2 services   2/3 ready   ~14 in flight                                             root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM RST
    ▾ web            2/2 ready                2/2   2/2    ~14  4.2%  180M   1
       web1   :9502  RUNNING      15502   2h   ●    ●       ~7  2.1%   90M   0  all probes pass
       web2   :9503  RUNNING      15503   2h   ●    ●       ~7  2.1%   90M   1  backup  all probes pass
      cron           BACKOFF    again in 8s; exited 255 five times: "no such table"
     (33 blank lines)
     stop now web1 by SIGKILL and keep it down: requests in flight are lost. X again does it, any other key cancels
    "#);
    assert_snapshot!(compact(&mut after(&["/", "r", "e"]), 40, 15), @r#"
    opsdeck shop   2/3 ready      10:42:17
     NAME           STATE      LIVE READY
     no row is "re"; Esc clears the filter
    (11 blank lines)
    /re  ⏎ keep  Esc clear
    "#);
}

#[test]
fn the_same_in_ascii_names_its_keys() {
    let mut model = after(&["j", "S"]);
    model.theme = Theme::new(true, true);
    assert_snapshot!(compact(&mut model, 80, 15), @r"
    opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17

    signal to web1   Enter sends, Esc does not, digits choose
       5  SIGTRAP    trap; core dump
       6  SIGABRT    abort; core dump
       7  SIGBUS     bus error; core dump
       8  SIGFPE     arithmetic error; core dump
       9  SIGKILL    end at once, cannot be caught; requests are lost
      10  SIGUSR1    Swoole: reload all workers; nginx: reopen logs
      11  SIGSEGV    segmentation fault; core dump
      12  SIGUSR2    Swoole: reload task workers; nginx: upgrade the binary
      13  SIGPIPE    broken pipe
      14  SIGALRM    alarm
      15  SIGTERM    ask to end
    Enter send  0-9 by number  PgDn page down  PgUp page up  g first  Esc back
    ");
    let mut model = after(&["/", "w", "e", "b"]);
    model.theme = Theme::new(true, true);
    assert_snapshot!(compact(&mut model, 80, 15), @r"
     opsdeck shop   2 services   2/3 ready   ~14 in flight     root@web-7  10:42:17
      NAME           STATE          PID   UP LIVE READY FLIGHT   CPU   MEM
    v web            2/2 ready                2/2   2/2    ~14  4.2%  180M
       web1   :9502  RUNNING      15502   2h   Y    Y       ~7  2.1%   90M
       web2   :9503  RUNNING      15503   2h   Y    Y       ~7  2.1%   90M  backup
     (9 blank lines)
     /web  Enter keep  Esc clear
    ");
}

fn drawn(model: &mut Model, width: u16, height: u16) -> Buffer {
    send(model, 0, Msg::Resize(width, height));
    let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(model, at(0), &mut buf);
    buf
}

#[test]
fn without_colours_every_screen_says_the_same_and_shows_where_the_cursor_is() {
    let screens: [(&str, Model, bool); 11] = [
        ("table", busy(), true),
        ("question", after(&["j", "X"]), true),
        ("filter", after(&["/", "r", "e"]), true),
        ("picker", after(&["j", "S"]), true),
        ("palette", after(&[":", "r"]), true),
        ("help", after(&["?"]), false),
        ("detail", detail::open(), false),
        ("service", whole(), false),
        ("rollout", rollout::under_way(), true),
        ("events", events::opened(), true),
        ("logs", logs::requests().0, false),
    ];
    let config = ("config", config::answered(vec![]), false);
    let mono = find("mono", &[]).unwrap();
    for (name, mut model, has_cursor) in screens.into_iter().chain([config]) {
        for (width, height) in [(120, 40), (80, 24), (40, 15)] {
            model.theme = Theme::new(false, false);
            let colored = drawn(&mut model, width, height);
            // A log keeps its own colours, unless the terminal has none.
            let depth = if name == "logs" { Depth::None } else { Depth::Sixteen };
            for theme in [Theme::new(false, true), Theme::of(&mono, depth, false)] {
                model.theme = theme;
                let plain = drawn(&mut model, width, height);
                assert_eq!(text(&plain), text(&colored), "{name} {width}x{height}");
                let colors = plain.content.iter().flat_map(|it| [it.fg, it.bg]);
                assert!(colors.into_iter().all(|it| it == Color::Reset), "{name} {width}x{height}");
                let is_marked = plain
                    .content
                    .iter()
                    .any(|it| it.modifier.contains(ratatui::style::Modifier::REVERSED));
                assert!(is_marked || !has_cursor, "{name} {width}x{height}");
            }
        }
    }
}
