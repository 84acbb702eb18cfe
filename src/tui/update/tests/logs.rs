//! The log page: what is asked of the daemon and when, and what the keys do.

use crate::api::*;
use crate::client::PageQuery;
use crate::tui::fixtures::*;
use crate::tui::logs::{Logs, Page as LogsPage, PromptKind};
use crate::tui::model::{Model, Page, Panel, Screen};
use crate::tui::update::{Command, Msg, log_pages, logs};

fn place(n: u64) -> LogPlace {
    LogPlace { file: 1, offset: n }
}

fn places(n: u64) -> std::collections::BTreeMap<String, LogPlace> {
    [("web1".to_owned(), place(n))].into()
}

/// Line `n` of web1 begins at byte `n`.
fn line(n: u64) -> LogLine {
    LogLine {
        instance: "web1".into(),
        line: format!("line {n}\u{1b}]52;c;x\u{7}"),
        begins: Some(place(n)),
        ends: Some(place(n + 1)),
        ..LogLine::default()
    }
}

fn page(from: u64, to: u64, last: bool) -> LogsPage {
    LogsPage { lines: (from..to).map(line).collect(), begins: places(from), ends: places(to), last }
}

/// The page that was asked for last.
#[track_caller]
fn asked(commands: &[Command]) -> (u64, PageQuery) {
    let read = commands.iter().find_map(|it| match it {
        Command::ReadLog { id, query, .. } => Some((*id, query.clone())),
        _ => None,
    });
    read.unwrap_or_else(|| panic!("no page is asked for: {commands:?}"))
}

#[track_caller]
fn answer(model: &mut Model, commands: &[Command], page: LogsPage) -> Vec<Command> {
    let (id, _) = asked(commands);
    send(model, 0, Msg::LogPage { id, page: Ok(page) })
}

#[track_caller]
fn session(commands: &[Command]) -> u64 {
    let follow = commands.iter().find_map(|it| match it {
        Command::Follow { session, .. } => Some(*session),
        _ => None,
    });
    follow.unwrap_or_else(|| panic!("nothing is followed: {commands:?}"))
}

#[track_caller]
fn page_of(model: &Model) -> &Logs {
    let Screen::Logs(logs) = &model.screen else { panic!("no logs") };
    logs
}

fn lines(model: &Model) -> Vec<String> {
    page_of(model).window.lines.iter().map(|it| it.text.to_string()).collect()
}

fn top(model: &Model) -> Option<String> {
    let window = &page_of(model).window;
    window.top.map(|it| window.lines[it].text.to_string())
}

/// web1's log with lines `from..to`, followed at its end, on a screen of ten lines.
fn following(from: u64, to: u64) -> (Model, u64) {
    let mut model = shop();
    send(&mut model, 0, Msg::Resize(80, 13));
    let commands = type_keys(&mut model, &["j", "l"]);
    let commands = answer(&mut model, &commands, page(from, to, from == 0));
    let session = session(&commands);
    (model, session)
}

fn notice(model: &Model) -> &str {
    model.notice.as_ref().map_or("", |it| &it.text)
}

#[test]
fn logs_of_a_service_and_of_marked_rows_are_interleaved_and_followed_where_their_page_ends() {
    let mut model = shop();
    let names = |commands: &[Command]| match commands {
        [Command::ReadLog { names, .. }] => names.clone(),
        _ => panic!("{commands:?}"),
    };
    let commands = press(&mut model, 0, "l");
    assert_eq!(names(&commands), ["web1", "web2"]);
    assert_eq!(asked(&commands).1, PageQuery { lines: 500, ..PageQuery::default() });
    assert_eq!(press(&mut model, 0, "q"), [Command::Unfollow, Command::UnreadLog]);
    type_keys(&mut model, &["j", "space", "G", "space"]);
    let commands = press(&mut model, 0, "l");
    assert_eq!(names(&commands), ["cron", "web1"]);
    let commands = answer(&mut model, &commands, page(5, 8, false));
    let session = session(&commands);
    let names = vec!["cron".to_owned(), "web1".into()];
    assert_eq!(commands, [Command::Follow { session, names, after: places(8), grep: None }]);
    send(&mut model, 0, Msg::Log { session: session - 1, lines: vec![line(1)] });
    send(&mut model, 0, Msg::Log { session, lines: vec![line(8), line(9)] });
    assert_eq!(lines(&model), ["line 5", "line 6", "line 7", "line 8", "line 9"]);
}

#[test]
fn it_opens_at_a_moment_with_what_was_before_and_after_it() {
    let mut model = shop();
    send(&mut model, 0, Msg::Resize(80, 13));
    let moment = Some(at(0).wall);
    let commands = logs::open_at(&mut model, at(0), vec!["web1".into()], moment);
    let (_, query) = asked(&commands);
    assert_eq!((query.forward, query.at), (false, moment));
    let commands = answer(&mut model, &commands, page(100, 600, false));
    let (_, query) = asked(&commands);
    assert_eq!((query.forward, query.places), (true, places(600)));
    assert_eq!(lines(&model), Vec::<String>::new(), "no half of it is shown");
    assert_eq!(answer(&mut model, &commands, page(600, 1100, false)), []);
    assert_eq!((top(&model).as_deref(), lines(&model).len()), (Some("line 600"), 1000));

    // The end is far: its lines are asked for as one comes near.
    let commands = type_keys(&mut model, &["G"]);
    assert_eq!(asked(&commands).1.at, None, "the end itself");
    let _ = answer(&mut model, &commands, page(5000, 5500, false));
    assert_eq!((top(&model), lines(&model).len()), (None, 500));
}

#[test]
fn a_moment_after_the_last_line_is_the_end() {
    let mut model = shop();
    let moment = Some(at(0).wall);
    let commands = logs::open_at(&mut model, at(0), vec!["web1".into()], moment);
    let commands = answer(&mut model, &commands, page(0, 30, true));
    let commands = answer(&mut model, &commands, page(30, 30, true));
    session(&commands);
    assert_eq!(top(&model), None);
}

#[test]
fn esc_leads_back_to_the_page_that_the_logs_were_opened_from() {
    let mut model = shop();
    type_keys(&mut model, &["j", "enter", "l"]);
    assert!(matches!(model.screen, Screen::Logs(_)));
    assert_eq!(press(&mut model, 0, "esc")[..2], [Command::Unfollow, Command::UnreadLog]);
    assert!(matches!(&model.screen, Screen::Panel(Panel { page: Page::Detail(_), .. })));
}

#[test]
fn older_lines_are_fetched_before_one_gets_there_and_only_once() {
    let (mut model, _) = following(1000, 1500);
    assert_eq!(press(&mut model, 0, "pgup"), [], "far from the first line");
    let mut commands = vec![];
    for _ in 0..60 {
        commands.extend(press(&mut model, 0, "pgup"));
    }
    let (_, query) = asked(&commands);
    assert_eq!((commands.len(), query.forward, query.places), (1, false, places(1000)));
    let before = top(&model);
    assert_eq!(before.as_deref(), Some("line 1000"));
    assert_eq!(answer(&mut model, &commands, page(500, 1000, false)), []);
    assert_eq!(top(&model), before, "what is looked at stays");
    assert_eq!(lines(&model)[0], "line 500");

    // The start of a log of any size is one page.
    let commands = press(&mut model, 0, "g");
    let (_, query) = asked(&commands);
    assert!(query.forward && query.places.is_empty() && commands.contains(&Command::Unfollow));
    let _ = answer(&mut model, &commands, page(0, 500, false));
    assert_eq!((top(&model).as_deref(), press(&mut model, 0, "pgup")), (Some("line 0"), vec![]));
    let mut commands = vec![];
    for _ in 0..60 {
        commands.extend(press(&mut model, 0, "pgdn"));
    }
    assert_eq!(asked(&commands).1.places, places(500));
    let commands = answer(&mut model, &commands, page(500, 700, true));
    let session = session(&commands);
    send(&mut model, 0, Msg::Log { session, lines: vec![line(700)] });
    assert_eq!(lines(&model).len(), 701, "and it goes on with what is written");
}

#[test]
fn logs_pause_where_one_scrolls_search_both_ways_and_copy_safe_text() {
    let (mut model, session) = following(0, 100);
    type_keys(&mut model, &["k"]);
    send(&mut model, 0, Msg::Log { session, lines: vec![line(100)] });
    assert_eq!(top(&model).as_deref(), Some("line 89"));
    type_keys(&mut model, &["f"]);
    assert_eq!(top(&model), None);

    type_keys(&mut model, &["/", "5", "5", "enter"]);
    assert_eq!(press(&mut model, 0, "y"), [Command::Copy("line 55".into())]);
    assert_eq!(press(&mut model, 0, "n"), []);
    assert_eq!(notice(&model), "no more \"55\" below");
    type_keys(&mut model, &["/", "x", "enter"]);
    assert_eq!(notice(&model), "no line contains \"55x\"");
    type_keys(&mut model, &["esc"]);
    assert!(matches!(model.screen, Screen::Table));
}

#[test]
fn what_is_not_in_memory_the_daemon_looks_for_until_it_is_found_or_ended() {
    let (mut model, _) = following(1000, 1500);
    let commands = type_keys(&mut model, &["/", "a", ".", "b", "enter"]);
    let (id, query) = asked(&commands);
    assert_eq!(
        (query.find.as_deref(), query.lines, query.places),
        (Some("(?i)a\\.b"), 1, places(1000))
    );
    assert!(!commands.contains(&Command::Unfollow), "the end goes on being followed");
    let (searched, of) = (5 << 30, 10 << 30);
    send(&mut model, 0, Msg::LogProgress { id, searched, of });
    assert_eq!(page_of(&model).asked.as_ref().unwrap().searched, Some((searched, of)));
    assert_eq!(press(&mut model, 0, "esc"), [Command::UnreadLog]);
    assert!(matches!(model.screen, Screen::Logs(_)), "the next one leaves");
    let late = send(&mut model, 0, Msg::LogPage { id, page: Ok(page(3, 4, false)) });
    assert_eq!(late, []);

    let commands = press(&mut model, 0, "N");
    let commands = answer(&mut model, &commands, page(300, 301, false));
    assert_eq!(asked(&commands).1.places, places(300), "what is around it");
    let commands = answer(&mut model, &commands, page(0, 300, true));
    let _ = answer(&mut model, &commands, page(300, 800, false));
    let window = &page_of(&model).window;
    assert_eq!((window.found, top(&model).as_deref()), (Some(300), Some("line 295")));

    let commands = press(&mut model, 0, "n");
    let (_, query) = asked(&commands);
    assert_eq!((query.forward, query.places), (true, places(800)));
    assert_eq!(answer(&mut model, &commands, page(900, 900, true)), []);
    assert_eq!(notice(&model), "no more \"a.b\" below");
}

#[test]
fn a_search_that_finds_nothing_above_goes_on_below_and_says_so() {
    let (mut model, _) = following(0, 100);
    type_keys(&mut model, &["g", "/", "9", "7", "enter"]);
    assert_eq!(page_of(&model).window.found, Some(97));
    assert_eq!(notice(&model), "no \"97\" above: this is the first below");

    // Beyond what is in memory the daemon looks, one way after the other.
    let (mut model, _) = following(1000, 1500);
    let commands = type_keys(&mut model, &["/", "e", "n", "d", "enter"]);
    assert_eq!(asked(&commands).1.places, places(1000));
    assert_eq!(answer(&mut model, &commands, page(0, 0, true)), []);
    assert_eq!(notice(&model), "no line contains \"end\"");

    let (mut model, _) = following(1000, 1500);
    let commands = press(&mut model, 0, "g");
    let _ = answer(&mut model, &commands, page(0, 500, false));
    let commands = type_keys(&mut model, &["/", "e", "n", "d", "enter"]);
    let (_, query) = asked(&commands);
    assert_eq!((query.forward, query.places), (true, places(500)));
    let commands = answer(&mut model, &commands, page(900, 901, false));
    assert_eq!(asked(&commands).1.places, places(900), "what is around it");
    assert_eq!(notice(&model), "no \"end\" above: this is the first below");
}

#[test]
fn a_filter_reads_the_same_place_again_and_its_search_can_be_ended() {
    let (mut model, _) = following(1000, 1500);
    let commands = type_keys(&mut model, &["&", "(", "enter"]);
    assert_eq!(commands, []);
    assert!(notice(&model).contains("no regular expression"), "{}", notice(&model));
    let commands = type_keys(&mut model, &["backspace", "[", "3", "]", "$", "enter"]);
    let (_, query) = asked(&commands);
    assert_eq!((query.grep.as_deref(), query.lines), (Some("[3]$"), 10), "a screenful is enough");
    let commands = answer(&mut model, &commands, page(1400, 1481, false));
    let Some(Command::Follow { grep, .. }) = commands.last() else { panic!("{commands:?}") };
    assert_eq!(grep.as_deref(), Some("[3]$"));

    type_keys(&mut model, &["k"]);
    let commands = type_keys(&mut model, &["&", "x", "enter"]);
    assert_eq!(asked(&commands).1.places, places(1470));
    let commands = press(&mut model, 0, "esc");
    assert_eq!(asked(&commands).1.grep, None, "all lines again");
    assert!(matches!(model.screen, Screen::Logs(_)));
}

#[test]
fn a_moment_is_typed_and_what_is_none_can_be_corrected() {
    let (mut model, _) = following(1000, 1500);
    type_keys(&mut model, &["t", "x", "enter"]);
    assert!(notice(&model).contains("no moment"), "{}", notice(&model));
    let prompt = page_of(&model).prompt.as_ref().unwrap();
    assert_eq!(prompt.kind, PromptKind::Since);
    let commands = type_keys(&mut model, &["backspace", "1", "0", "m", "enter"]);
    let ten_minutes_ago = at(0).wall - jiff::SignedDuration::from_mins(10);
    assert_eq!(asked(&commands).1.at, Some(ten_minutes_ago));
}

#[test]
fn a_log_is_saved_as_the_filter_shows_it_and_the_answer_is_told() {
    let (mut model, _) = following(0, 5);
    let commands = type_keys(&mut model, &["s", "enter"]);
    let path = "web1.log".to_owned();
    let names = vec!["web1".to_owned()];
    assert_eq!(commands, [Command::SaveLog { path: path.clone(), names, grep: None }]);
    type_keys(&mut model, &["esc"]);
    send(&mut model, 0, Msg::LogSaved { path: path.clone(), result: Ok(5) });
    assert_eq!(notice(&model), "saved 5 lines to web1.log");
    let result = Err("there is something already".into());
    send(&mut model, 0, Msg::LogSaved { path, result });
    assert_eq!(notice(&model), "not saved to web1.log: there is something already");
}

#[test]
fn when_the_daemon_comes_back_the_log_goes_on_where_it_was() {
    let (mut model, session) = following(0, 50);
    send(&mut model, 0, Msg::Log { session, lines: vec![line(50)] });
    type_keys(&mut model, &["k"]);
    let looked_at = top(&model);
    let away = || problem(problem::UNREACHABLE, "the daemon ended the connection", "");
    send(&mut model, 0, Msg::LogEnded { session, name: "web1".into(), problem: Some(away()) });
    send(&mut model, 0, Msg::LinkLost(away()));
    let back = || {
        let deck = Box::new(deck(vec![web()]));
        Msg::Change(Box::new(Change::Snapshot { deck, events: vec![] }))
    };
    let commands = send(&mut model, 0, back());
    let [Command::Follow { after, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!((after, top(&model)), (&places(51), looked_at));
    assert_eq!(page_of(&model).ended, None);

    // A stream that broke alone is begun anew with the end.
    let [Command::Follow { session, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    send(&mut model, 0, Msg::LogEnded { session: *session, name: "web1".into(), problem: None });
    assert_eq!(asked(&press(&mut model, 0, "G")).1.places, std::collections::BTreeMap::new());
    press(&mut model, 0, "esc");
    let (mut model, _) = following(0, 50);
    type_keys(&mut model, &["k"]);

    // A page that was on its way is asked for once more.
    let commands = press(&mut model, 0, "g");
    assert_eq!(commands.len(), 0, "it is in memory");
    let commands = log_pages::open_start(&mut model);
    let (id, query) = asked(&commands);
    send(&mut model, 0, Msg::LogPage { id, page: Err(away()) });
    send(&mut model, 0, Msg::LinkLost(away()));
    assert_eq!(asked(&send(&mut model, 0, back())).1, query);
}

#[test]
fn marked_lines_are_copied_and_esc_ends_marking_before_it_leaves() {
    let (mut model, session) = following(0, 30);
    let copied = |commands: Vec<Command>| match <[Command; 1]>::try_from(commands) {
        Ok([Command::Copy(text)]) => text.lines().map(str::to_owned).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    // The end is followed: marking begins with the last line, and what comes does not move it.
    type_keys(&mut model, &["v", "k", "k"]);
    send(&mut model, 0, Msg::Log { session, lines: vec![line(30)] });
    assert_eq!(copied(press(&mut model, 0, "y")), ["line 27", "line 28", "line 29"]);
    assert!(matches!(&model.screen, Screen::Logs(it) if it.window.range.is_none()));
    type_keys(&mut model, &["g", "v", "j", "pgdn", "esc"]);
    assert!(matches!(&model.screen, Screen::Logs(it) if it.window.range.is_none()));
    // From the top line on, which marking has moved; a second time ends it.
    let all = copied(type_keys(&mut model, &["v", "v", "v", "G", "y"]));
    assert_eq!(
        (all.len(), all[0].as_str(), top(&model).unwrap().as_str()),
        (30, "line 1", "line 21")
    );
    press(&mut model, 0, "esc");
    assert!(matches!(model.screen, Screen::Table));
}
