//! The detail of one row.

use insta::assert_snapshot;
use jiff::Timestamp;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Screen};
use crate::tui::update::{Command, Msg};

fn process(pid: i32, depth: u32, title: &str, cpu_ms: u64) -> ProcessDetail {
    ProcessDetail {
        pid,
        start_time: 9502,
        depth,
        state: "S".into(),
        name: "php".into(),
        title: title.into(),
        started: Some("2026-11-21T08:40:00Z".parse::<Timestamp>().unwrap()),
        cpu_ms,
        memory_bytes: 45 << 20,
        threads: 4,
        descriptors: Some(31),
        ..ProcessDetail::default()
    }
}

fn result(ok: bool, ms: u64) -> ProbeResult {
    ProbeResult {
        at: Some(at(ms).wall),
        ok,
        latency_ms: 1.25,
        status: Some(if ok { 200 } else { 500 }),
        body: Some(if ok { "ok" } else { "{\"error\":\"no \u{1b}[31mdatabase\"}\n" }.into()),
        error: (!ok).then(|| "status 500 is not 200".into()),
        in_a_row: 3,
    }
}

fn signal(name: &str, number: i32, does: &str, means: Option<&str>) -> SignalDetail {
    let means = means.map(Into::into);
    SignalDetail { signal: name.into(), number, does: does.into(), means }
}

fn variable(name: &str, value: &str, masked: bool) -> Variable {
    Variable { name: name.into(), value: value.into(), masked }
}

fn detail(ms: u64) -> Detail {
    let past = |check: &str, results: Vec<ProbeResult>| ProbePast { check: check.into(), results };
    let liveness = (0..8).map(|n| result(n != 3, n * 1000)).collect();
    let readiness = vec![result(true, 0), result(false, 1000), result(false, 2000)];
    let limit = |name: &str, soft: &str, hard: &str, unit: &str| Limit {
        name: name.into(),
        soft: soft.into(),
        hard: hard.into(),
        unit: unit.into(),
    };
    Detail {
        advice: vec![],
        instance: "web1".into(),
        service: "web".into(),
        now: Some(at(ms).wall),
        why: vec![
            "not ready: status 500 is not 200".into(),
            "readiness has failed 2 times: status 500 is not 200".into(),
        ],
        probes: [
            ("liveness".into(), past("GET /liveness on port 9502 every 10s", liveness)),
            ("readiness".into(), past("GET /readiness on port 9502 every 2s", readiness)),
        ]
        .into(),
        processes: vec![
            process(15_502, 0, "php bin/hyperf.php start", 12_000 + ms / 2),
            process(15_510, 1, "shop.Manager", 10),
            process(15_511, 2, "shop.Worker.0\u{1b}]0;x\u{7}", 4000),
        ],
        more_processes: 2,
        signals: vec![
            signal("SIGHUP", 1, "default", None),
            signal("SIGUSR1", 10, "caught", Some("reload all workers")),
            signal("SIGTERM", 15, "caught", Some("stop gracefully")),
            signal("SIGCHLD", 17, "caught", None),
            signal("SIGRTMIN", 34, "caught", None),
        ],
        exits: vec![Event {
            kind: "exited".into(),
            ..event("10:40:01", None, Some("web1"), "exited with code 255 after 3.2s")
        }],
        environment: Some(vec![
            variable("APP_PORT", "9502", false),
            variable("DB_PASSWORD", "********", true),
        ]),
        limits: vec![
            limit("Max cpu time", "unlimited", "unlimited", "seconds"),
            limit("Max stack size", "8388608", "unlimited", "bytes"),
            limit("Max open files", "36", "1048576", "files"),
        ],
        files: Some(Files {
            open: [("file".into(), 3), ("socket".into(), 28)].into(),
            listening: vec!["0.0.0.0:9502".into()],
            ports: vec![],
            cwd: Some("/srv/shop/web1".into()),
            exe: Some("/usr/bin/php8.2 (deleted)".into()),
            log: "/var/lib/opsdeck/logs/web1.log".into(),
            pidfile: None,
            unix_sockets: vec!["/run/web1.sock".into()],
        }),
        command: "php bin/hyperf.php start".into(),
        missing: vec![],
    }
}

fn history() -> History {
    History {
        step_ms: 2000,
        cpu_percent: (0..100).map(|n| Some(f64::from(n % 10))).collect(),
        memory_bytes: (0..100).map(|n| (n > 20).then_some((90 + n / 10) << 20)).collect(),
        ..History::default()
    }
}

/// `web1` under the cursor, its page open and answered twice.
pub(super) fn open() -> Model {
    let mut web = web();
    web.instances[0].ready = Some(false);
    web.instances[0].probes.insert("readiness".into(), result(false, 2000));
    let mut model = model(vec![web]);
    let asked = type_keys(&mut model, &["j", "enter"]);
    let of = model.rows.selected.clone().unwrap();
    let questions = [Command::History { of: of.clone() }, Command::Detail { of: "web1".into() }];
    assert_eq!(asked, questions);
    send(&mut model, 0, Msg::History { of, result: Ok(history()) });
    for ms in [0, 2000] {
        send(&mut model, ms, Msg::Detail { of: "web1".into(), result: Ok(Box::new(detail(ms))) });
    }
    model
}

#[test]
fn the_first_screen_says_why_shows_the_probes_and_the_processes() {
    let mut model = open();
    assert_snapshot!(screen(&mut model, 80, 24, 2000), @r#"
    opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:19

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3
    1 Why ────────────────────────────────────────────────────────────────────────
      not ready: status 500 is not 200
      readiness has failed 2 times: status 500 is not 200
    2 Probes ─────────────────────────────────────────────────────────────────────
    liveness      ●●●○●●●●  passed 3 in a row, status 200 in 1.2 ms, 10:42:24
                  failed at 10:42:20: status 500 is not 200 {"error":"no
                  database"}
    readiness     ●○○  failed 3 in a row, status 500 in 1.2 ms, 10:42:19
                  status 500 is not 200
                  {"error":"no database"}
                  GET /readiness on port 9502 every 2s
    3 Processes: 5 ───────────────────────────────────────────────────────────────
       PID   AGE    CPU    RSS  THR   FDS S  WHAT
     15502    2h  50.0%    45M    4    31 S  php bin/hyperf.php start
     15510    2h   0.0%    45M    4    31 S    shop.Manager
     15511    2h   0.0%    45M    4    31 S      shop.Worker.0
           and 2 more
    4 Load, the last ten minutes ─────────────────────────────────────────────────
    now           ~7 in flight, 2.1% CPU, 90M memory
    Tab next section  l logs  v rollout  J process  PgDn page down  Esc back
    "#);
    assert_snapshot!(screen(&mut model, 40, 15, 2000), @r"
    opsdeck shop   2/2 ready      10:42:19

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port
    9502, generation 3
    1 Why ────────────────────────────────
      not ready: status 500 is not 200
      readiness has failed 2 times: status
      500 is not 200
    2 Probes ─────────────────────────────
    liveness      passed 3 in a row,
                  status 200 in 1.2 ms,
                  10:42:24
                  failed at 10:42:20:
    Tab next section  l logs  Esc back
    ");
}

#[test]
fn advice_stands_below_the_reasons_with_what_it_means_and_what_to_do_under_it() {
    let mut model = open();
    let advice = Advice {
        kind: "own-limit".into(),
        seen: "2 requests were cut off 3.0s after SIGTERM, although it had 10s".into(),
        means: "its own max_wait_time looks like 3s".into(),
        help: "raise the server's max_wait_time to what its longest request takes".into(),
        sentence: "all of it, \x1b[31min one line".into(),
    };
    let mut it = detail(4000);
    it.why = vec!["ready".into(), advice.sentence.clone()];
    it.advice = vec![advice];
    send(&mut model, 4000, Msg::Detail { of: "web1".into(), result: Ok(Box::new(it)) });
    let text = screen(&mut model, 80, 24, 4000);
    let lines: Vec<&str> = text.lines().skip_while(|it| !it.contains("1 Why")).take(5).collect();
    assert_snapshot!(lines.join("\n"), @"
     1 Why ────────────────────────────────────────────────────────────────────────
       ready
       2 requests were cut off 3.0s after SIGTERM, although it had 10s
         its own max_wait_time looks like 3s
         raise the server's max_wait_time to what its longest request takes
    ");
}

#[test]
fn below_is_what_is_looked_up_more_rarely() {
    let mut model = open();
    press(&mut model, 2000, "G");
    assert_snapshot!(screen(&mut model, 80, 24, 2000), @r"
    opsdeck shop   1 service   2/2 ready   ~14 in flight      root@web-7  10:42:19

    5 Signals ────────────────────────────────────────────────────────────────────
    SIGHUP        not caught: it would end it
    SIGUSR1       reload all workers
    SIGTERM       stop gracefully
    also caught   SIGCHLD, SIGRTMIN
    6 Ends and restarts ──────────────────────────────────────────────────────────
    restarts      0
      2026-11-21 10:40:01  exited with code 255 after 3.2s
    7 Environment ────────────────────────────────────────────────────────────────
      APP_PORT     9502
      DB_PASSWORD  ********
    8 Limits ─────────────────────────────────────────────────────────────────────
    open files       31 of 36 files, at most 1048576
    stack size       8388608 bytes
    9 Files ──────────────────────────────────────────────────────────────────────
    command       php bin/hyperf.php start
    program       /usr/bin/php8.2 (deleted)
    directory     /srv/shop/web1
    log           /var/lib/opsdeck/logs/web1.log
    listens on    0.0.0.0:9502, /run/web1.sock
    open          3 file, 28 socket
    Tab next section  l logs  v rollout  J process  PgDn page down  Esc back
    ");
    press(&mut model, 2000, "g");
    assert_snapshot!(screen(&mut model, 120, 40, 2000), @r#"
    opsdeck shop   1 service   2/2 ready   ~14 in flight                                              root@web-7  10:42:19

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3
    1 Why ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      not ready: status 500 is not 200
      readiness has failed 2 times: status 500 is not 200
    2 Probes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
    liveness      ●●●○●●●●  passed 3 in a row, status 200 in 1.2 ms, 10:42:24
                  failed at 10:42:20: status 500 is not 200 {"error":"no database"}
                  ok
                  GET /liveness on port 9502 every 10s
    readiness     ●○○  failed 3 in a row, status 500 in 1.2 ms, 10:42:19
                  status 500 is not 200
                  {"error":"no database"}
                  GET /readiness on port 9502 every 2s
    3 Processes: 5 ───────────────────────────────────────────────────────────────────────────────────────────────────────
       PID   AGE    CPU    RSS  THR   FDS S  WHAT
     15502    2h  50.0%    45M    4    31 S  php bin/hyperf.php start
     15510    2h   0.0%    45M    4    31 S    shop.Manager
     15511    2h   0.0%    45M    4    31 S      shop.Worker.0
           and 2 more
    4 Load, the last ten minutes ─────────────────────────────────────────────────────────────────────────────────────────
    now           ~7 in flight, 2.1% CPU, 90M memory
    CPU 9.0%                                                                              ▅█ ▃█  █  ▃█  █  ▅█  █  ▅█ ▃█  █
                                                                                         ▅██▃██ ██ ▃██ ██ ▅██▃██ ▅██▃██ ██
                                                                                        ▅█████████▅██████▅██████▅█████████
    memory 99M                                                                                 ▆▆▆▇▇▇▇▇▇▇▇▇▇▇▇▇▇██████████
                                                                                               ███████████████████████████
                                                                                               ███████████████████████████
                   10 minutes ago                                                                                      now
    5 Signals ────────────────────────────────────────────────────────────────────────────────────────────────────────────
    SIGHUP        not caught: it would end it
    SIGUSR1       reload all workers
    SIGTERM       stop gracefully
    also caught   SIGCHLD, SIGRTMIN
    6 Ends and restarts ──────────────────────────────────────────────────────────────────────────────────────────────────
    restarts      0
      2026-11-21 10:40:01  exited with code 255 after 3.2s
    Tab next section  l logs  v rollout  J process  PgDn page down  PgUp page up  g first  G last  Esc back
    "#);
}

#[test]
fn a_wide_screen_has_two_columns() {
    let mut model = open();
    assert_snapshot!(screen(&mut model, 170, 36, 2000), @r#"
    opsdeck shop   1 service   2/2 ready   ~14 in flight                                                                                                root@web-7  10:42:19

    web1  RUNNING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3
    1 Why ────────────────────────────────────────────────────────────────────────────    5 Signals ────────────────────────────────────────────────────────────────────────
      not ready: status 500 is not 200                                                    SIGHUP        not caught: it would end it
      readiness has failed 2 times: status 500 is not 200                                 SIGUSR1       reload all workers
    2 Probes ─────────────────────────────────────────────────────────────────────────    SIGTERM       stop gracefully
    liveness      ●●●○●●●●  passed 3 in a row, status 200 in 1.2 ms, 10:42:24             also caught   SIGCHLD, SIGRTMIN
                  failed at 10:42:20: status 500 is not 200 {"error":"no database"}       6 Ends and restarts ──────────────────────────────────────────────────────────────
                  ok                                                                      restarts      0
                  GET /liveness on port 9502 every 10s                                      2026-11-21 10:40:01  exited with code 255 after 3.2s
    readiness     ●○○  failed 3 in a row, status 500 in 1.2 ms, 10:42:19                  7 Environment ────────────────────────────────────────────────────────────────────
                  status 500 is not 200                                                     APP_PORT     9502
                  {"error":"no database"}                                                   DB_PASSWORD  ********
                  GET /readiness on port 9502 every 2s                                    8 Limits ─────────────────────────────────────────────────────────────────────────
    3 Processes: 5 ───────────────────────────────────────────────────────────────────    open files       31 of 36 files, at most 1048576
       PID   AGE    CPU    RSS  THR   FDS S  WHAT                                         stack size       8388608 bytes
     15502    2h  50.0%    45M    4    31 S  php bin/hyperf.php start                     9 Files ──────────────────────────────────────────────────────────────────────────
     15510    2h   0.0%    45M    4    31 S    shop.Manager                               command       php bin/hyperf.php start
     15511    2h   0.0%    45M    4    31 S      shop.Worker.0                            program       /usr/bin/php8.2 (deleted)
           and 2 more                                                                     directory     /srv/shop/web1
    4 Load, the last ten minutes ─────────────────────────────────────────────────────    log           /var/lib/opsdeck/logs/web1.log
    now           ~7 in flight, 2.1% CPU, 90M memory                                      listens on    0.0.0.0:9502, /run/web1.sock
    CPU 9.0%                                                     █ ▅█▃█ █ █ ▅█▃█ █ █ █    open          3 file, 28 socket
                                                                ▃█ ██████▅█▃██████▅█▃█
                                                                ██████████████████████
    memory 99M                                                      ▆▆▇▇▇▇▇▇▇▇▇███████
                                                                    ██████████████████
                                                                    ██████████████████
                   10 minutes ago                                                  now




    Tab next section  l logs  v rollout  J process  PgDn page down  PgUp page up  g first  G last  Esc back
    "#);
}

#[test]
fn processes_tell_their_share_of_memory_and_of_which_reload_they_are() {
    let mut model = open();
    let mut it = detail(4000);
    let roles = [("master", None, false), ("manager", None, false), ("worker", Some(1), true)];
    for (process, (role, generation, leaving)) in it.processes.iter_mut().zip(roles) {
        process.role = Some(role.into());
        (process.generation, process.leaving) = (generation, leaving);
        process.pss_bytes = Some(12 << 20);
    }
    it.processes.push(ProcessDetail {
        role: Some("worker".into()),
        generation: Some(2),
        pss_bytes: Some(1 << 20),
        cpu_percent: Some(1.5),
        ..process(15_600, 2, "shop.Worker.0", 10)
    });
    send(&mut model, 2100, Msg::Detail { of: "web1".into(), result: Ok(Box::new(it)) });
    type_keys(&mut model, &["3"]);
    let shown = screen(&mut model, 80, 24, 2100);
    let rows: Vec<&str> = shown.lines().skip(3).take(5).collect();
    assert_snapshot!(rows.join("\n"), @"
     PID   AGE    CPU    PSS  THR   FDS S GEN  WHAT
   15502    2h  50.0%    12M    4    31 S      master: php bin/hyperf.php start
   15510    2h   0.0%    12M    4    31 S        manager: shop.Manager
   15511    2h   0.0%    12M    4    31 S   1      worker (leaving): shop.Worker…
   15600    2h   0.5%     1M    4    31 S   2      worker: shop.Worker.0
    ");
}

#[test]
fn a_signal_goes_to_the_process_that_is_chosen() {
    let mut model = open();
    assert_eq!(press(&mut model, 2000, "t"), []);
    let notice = model.notice.as_ref().map(|it| it.text.as_str());
    assert_eq!(notice, Some("no process is chosen; J chooses one"));
    screen(&mut model, 80, 14, 2000);
    type_keys(&mut model, &["J", "J", "J", "J", "K", "J"]);
    let shown = screen(&mut model, 80, 14, 2000);
    assert!(shown.contains("\n> 15511 ") && !shown.contains("1 Why"), "{shown}");
    let act = Act {
        target: Some(Target { pid: 15_511, start_time: 9502 }),
        signal: Some("SIGTERM".into()),
        guard: true,
        ..Act::default()
    };
    let request = Request::Instance { name: "web1".into(), verb: InstanceVerb::Signal, act };
    assert_eq!(press(&mut model, 2000, "t"), [Command::Send { id: 1, request }]);
    assert_eq!(press(&mut model, 2000, "S"), [], "what is known is about its first process");
    let shown = screen(&mut model, 80, 24, 2000);
    assert!(shown.contains("signal to process, pid 15511, of web1 "), "{shown}");
    type_keys(&mut model, &["9", "enter"]);
    let question = &model.guard.armed.as_ref().unwrap().question;
    assert_eq!(
        question,
        "SIGKILL process, pid 15511, of web1 at once: requests in flight are lost"
    );
    assert!(matches!(&model.screen, Screen::Panel(_)), "back on the page");
}

#[test]
fn tab_and_digits_lead_to_sections() {
    let mut model = open();
    screen(&mut model, 80, 12, 2000);
    let heading = |model: &mut Model| {
        let text = screen(model, 80, 12, 2000);
        text.lines().nth(2).unwrap().trim().chars().take(10).collect::<String>()
    };
    press(&mut model, 2000, "tab");
    assert!(heading(&mut model).starts_with("1 Why"));
    press(&mut model, 2000, "tab");
    assert!(heading(&mut model).starts_with("2 Probes"));
    press(&mut model, 2000, "5");
    assert!(heading(&mut model).starts_with("5 Signals"));
    press(&mut model, 2000, "backtab");
    assert!(heading(&mut model).starts_with("4 Load"));
    type_keys(&mut model, &["G", "tab"]);
    assert!(heading(&mut model).starts_with("web1"), "it begins again");
}

#[test]
fn without_an_answer_it_shows_what_the_picture_has() {
    let mut web = web();
    web.instances[0].probes.insert("readiness".into(), result(false, 0));
    web.instances[0].last_exit = Some(LastExit {
        at: Some(at(0).wall),
        signal: Some("SIGKILL".into()),
        lost: 4,
        cause: "by the deck at its deadline".into(),
        words: Some("no such \u{1b}[31mtable".into()),
        ..LastExit::default()
    });
    let mut model = model(vec![draining(web)]);
    type_keys(&mut model, &["j", "enter"]);
    let away = problem(problem::NOT_FOUND, "there is no GET /v1/instances/web1/detail", "");
    send(&mut model, 0, Msg::Detail { of: "web1".into(), result: Err(away) });
    assert_snapshot!(screen(&mut model, 80, 24, 0), @r#"
    opsdeck shop   1 service   1/2 ready   ~14 in flight      root@web-7  10:42:17

    web1  DRAINING since 2026-11-21 08:40:01
    web (swoole), pid 15502, up 2h, port 9502, generation 3
    1 Why ────────────────────────────────────────────────────────────────────────
      all probes pass
      nothing more is known: there is no GET /v1/instances/web1/detail
    2 Probes ─────────────────────────────────────────────────────────────────────
    readiness     failed 3 in a row, status 500 in 1.2 ms, 10:42:17
                  status 500 is not 200
                  {"error":"no database"}
    3 Processes ──────────────────────────────────────────────────────────────────
      asking the daemon…
    4 Load, the last ten minutes ─────────────────────────────────────────────────
    now           ~7 in flight, 2.1% CPU, 90M memory
    5 Signals ────────────────────────────────────────────────────────────────────
    6 Ends and restarts ──────────────────────────────────────────────────────────
    restarts      0
    last exit     2026-11-21 10:42:17: ended by SIGKILL, by the deck at its
                  deadline, about 4 requests lost
    last words    no such table
    7 Environment ────────────────────────────────────────────────────────────────
    8 Limits ─────────────────────────────────────────────────────────────────────
    Tab next section  l logs  v rollout  J process  PgDn page down  Esc back
    "#);
}

#[test]
fn it_is_asked_again_while_it_is_open_and_answers_to_an_earlier_page_are_dropped() {
    let mut model = open();
    assert_eq!(send(&mut model, 4000, Msg::Wake).len(), 2);
    assert_eq!(send(&mut model, 5000, Msg::Wake), []);
    type_keys(&mut model, &["esc", "j", "enter"]);
    send(&mut model, 5000, Msg::Detail { of: "web1".into(), result: Ok(Box::new(detail(0))) });
    assert_eq!(model.closeup.as_ref().unwrap().of, "web2");
    assert!(model.closeup.as_ref().unwrap().detail.is_none());
    press(&mut model, 5000, "esc");
    assert!(matches!(model.screen, Screen::Table) && model.closeup.is_none());
}

/// The lines of the load section.
fn load_of(change: impl FnOnce(&mut Instance)) -> String {
    let mut web = web();
    change(&mut web.instances[0]);
    let mut model = model(vec![web]);
    type_keys(&mut model, &["j", "enter"]);
    let all = screen(&mut model, 80, 40, 0);
    let from = all.lines().skip_while(|it| !it.contains("4 Load")).skip(1);
    from.take_while(|it| !it.contains("5 Signals")).map(|it| format!("{it}\n")).collect()
}

#[test]
fn what_a_server_says_of_its_load_stands_beside_what_the_kernel_knows() {
    let says = Load {
        source: "swoole http://127.0.0.1:9502/stats".into(),
        requests: Some(12_345),
        requests_per_second: Some(81.25),
        in_flight: Some(7),
        in_flight_exact: true,
        connections: Some(40),
        workers: Some(8),
        queued: Some(2),
        coroutines: Some(19),
        ..Load::default()
    };
    let shown = load_of(|it| {
        it.load = Some(says);
        (it.requests_per_second, it.in_flight_exact) = (Some(81.25), true);
        (it.connections, it.accept_queue, it.accept_limit) = (Some(43), Some(129), Some(128));
    });
    for part in [
        "81.2 req/s, 7 in flight, 40 connections",
        "swoole http://127.0.0.1:9502/stats",
        "129 of 128 wait to be accepted: no more fit, clients hang",
    ] {
        assert!(shown.contains(part), "no {part:?}:\n{shown}");
    }
    let silent = Load {
        source: "php_fpm fcgi://unix:/run/php/fpm.sock:/status".into(),
        error: Some("no such file".into()),
        ..Load::default()
    };
    let shown = load_of(|it| {
        it.load = Some(silent);
        (it.accept_queue, it.accept_limit) = (Some(3), Some(128));
    });
    for part in ["no such file at php_fpm", "3 of 128 wait to be accepted"] {
        assert!(shown.contains(part), "no {part:?}:\n{shown}");
    }
}
