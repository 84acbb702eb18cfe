//! What opens in front of the table, and how one comes back.

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::model::{Model, Page, Panel, Screen};
use crate::tui::update::{Command, Msg};

fn log(model: &mut Model, session: u64, instance: &str, line: &str) {
    let line = LogLine { instance: instance.into(), line: line.into(), ..LogLine::default() };
    send(model, 0, Msg::Log { session, line });
}

fn lines(model: &Model) -> Vec<&str> {
    let Screen::Logs(logs) = &model.screen else { panic!("no logs") };
    logs.lines.iter().map(|it| &*it.text).collect()
}

#[test]
fn the_picker_opens_on_sigterm_and_keeps_its_target() {
    let mut model = shop();
    type_keys(&mut model, &["j", "S"]);
    let mut other = web();
    other.instances[0].pid = Some(4711);
    change(&mut model, 0, other);
    let web1 = &web().instances[0];
    let act = |signal: &str, guard| Act {
        target: Some(Target { pid: web1.pid.unwrap(), start_time: web1.start_time.unwrap() }),
        signal: Some(signal.into()),
        guard,
        ..Act::default()
    };
    let expected = Request::Instance {
        name: "web1".into(),
        verb: InstanceVerb::Signal,
        act: act("SIGTERM", true),
    };
    assert_eq!(press(&mut model, 0, "enter"), [Command::Send { id: 1, request: expected }]);
}

#[test]
fn digits_choose_a_signal_and_sigkill_asks() {
    let mut model = shop();
    type_keys(&mut model, &["j", "F9", "1", "0"]);
    let Screen::Picker(picker) = &model.screen else { panic!("no picker") };
    assert_eq!(crate::tui::signals::SIGNALS[picker.cursor].name, "SIGUSR1");
    type_keys(&mut model, &["9"]);
    assert_eq!(press(&mut model, 0, "enter"), []);
    let question = &model.guard.armed.as_ref().unwrap().question;
    assert_eq!(question, "SIGKILL web1 at once: requests in flight are lost");
    send(&mut model, 0, Msg::Drawn);
    assert_eq!(press(&mut model, 400, "enter").len(), 1, "the same key again");
}

#[test]
fn the_palette_does_what_the_key_would_do() {
    let mut model = shop();
    type_keys(&mut model, &["j", ":", "s", "i", "g", "u", "s", "r"]);
    let commands = press(&mut model, 0, "enter");
    let [Command::Send { request: Request::Instance { act, .. }, .. }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(act.signal.as_deref(), Some("SIGUSR1"));
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn logs_of_a_service_and_of_marked_rows_are_interleaved() {
    let mut model = shop();
    let follow = |session, names: &[&str]| {
        let names = names.iter().map(ToString::to_string).collect();
        [Command::Follow { session, names, at: None }]
    };
    assert_eq!(press(&mut model, 0, "l"), follow(1, &["web1", "web2"]));
    assert_eq!(press(&mut model, 0, "q"), [Command::Unfollow]);
    type_keys(&mut model, &["j", "space", "G", "space"]);
    assert_eq!(press(&mut model, 0, "l"), follow(2, &["cron", "web1"]));
    log(&mut model, 1, "web1", "of the first view");
    log(&mut model, 2, "cron", "\u{1b}[31mno such table\u{1b}[0m");
    assert_eq!(lines(&model), ["no such table"]);
}

#[test]
fn logs_pause_where_one_scrolls_search_both_ways_and_copy_safe_text() {
    let mut model = shop();
    send(&mut model, 0, Msg::Resize(80, 13));
    type_keys(&mut model, &["j", "l"]);
    (0..100).for_each(|n| log(&mut model, 1, "web1", &format!("line {n}\u{1b}]52;c;x\u{7}")));
    type_keys(&mut model, &["k"]);
    let top = |model: &Model| match &model.screen {
        Screen::Logs(logs) => logs.top,
        _ => None,
    };
    assert_eq!(top(&model), Some(89));
    type_keys(&mut model, &["f"]);
    assert_eq!(top(&model), None);

    type_keys(&mut model, &["/", "5", "5", "enter"]);
    assert_eq!(press(&mut model, 0, "y"), [Command::Copy("line 55".into())]);
    type_keys(&mut model, &["n"]);
    assert_eq!(model.notice.as_ref().unwrap().text, "no more \"55\" below");
    type_keys(&mut model, &["/", "x", "enter"]);
    assert_eq!(model.notice.as_ref().unwrap().text, "no line contains \"55x\"");
    type_keys(&mut model, &["esc"]);
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn esc_leads_back_to_the_page_that_the_logs_were_opened_from() {
    let mut model = shop();
    type_keys(&mut model, &["j", "enter", "l"]);
    assert!(matches!(model.screen, Screen::Logs(_)));
    assert_eq!(press(&mut model, 0, "esc"), [Command::Unfollow]);
    assert!(matches!(&model.screen, Screen::Panel(it) if matches!(it.page, Page::Detail(_))));
}

#[test]
fn when_the_daemon_comes_back_so_do_the_logs() {
    let mut model = shop();
    type_keys(&mut model, &["j", "l"]);
    log(&mut model, 1, "web1", "before");
    let away = || problem(problem::UNREACHABLE, "the daemon ended the connection", "");
    send(&mut model, 0, Msg::LogEnded { session: 1, name: "web1".into(), problem: Some(away()) });
    send(&mut model, 0, Msg::LinkLost(away()));
    let snapshot = Change::Snapshot { deck: Box::new(deck(vec![web()])), events: vec![] };
    let commands = send(&mut model, 0, Msg::Change(Box::new(snapshot)));
    assert_eq!(commands, [Command::Follow { session: 2, names: vec!["web1".into()], at: None }]);
    assert_eq!(lines(&model), Vec::<&str>::new());
}

#[test]
fn the_configuration_shows_its_diff_and_asks_before_it_stops_something() {
    let mut model = shop();
    let config = |verb, act| Request::Config { verb, act };
    let diff = config(ConfigVerb::Diff, Act::default());
    assert_eq!(press(&mut model, 0, "c"), [Command::Send { id: 1, request: diff }]);
    assert_eq!(press(&mut model, 0, "c"), [], "nothing is known yet");

    let answer = |does: &str| {
        let it = Difference { name: "queue".into(), does: does.into(), message: "removed".into() };
        Ok(Done { diff: Some(vec![it]), ..Done::default() })
    };
    send(&mut model, 0, Msg::Reply { id: 1, result: answer("stop") });
    assert_eq!(press(&mut model, 0, "c"), []);
    assert_eq!(model.guard.armed.as_ref().unwrap().question, "applying stops queue");
    send(&mut model, 0, Msg::Drawn);
    let apply = config(ConfigVerb::Apply, Act { yes: true, ..Act::default() });
    assert_eq!(press(&mut model, 400, "c"), [Command::Send { id: 2, request: apply }]);

    let mut model = shop();
    type_keys(&mut model, &["c"]);
    send(&mut model, 0, Msg::Reply { id: 1, result: answer("start") });
    let apply = config(ConfigVerb::Apply, Act::default());
    assert_eq!(press(&mut model, 0, "enter"), [Command::Send { id: 2, request: apply }]);
    send(&mut model, 0, Msg::Reply { id: 2, result: Ok(Done::default()) });
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn pages_scroll_no_further_than_their_end() {
    let mut model = shop();
    send(&mut model, 0, Msg::Resize(80, 12));
    type_keys(&mut model, &["?", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn", "pgdn"]);
    let Screen::Panel(Panel { page: Page::Help, top }) = model.screen else { panic!("no help") };
    type_keys(&mut model, &["k"]);
    assert_eq!(model.screen_top(), top - 1, "the next key moves at once");
}

impl Model {
    fn screen_top(&self) -> usize {
        if let Screen::Panel(it) = &self.screen { it.top } else { 0 }
    }
}
