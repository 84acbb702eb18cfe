//! Whatever is typed, resized, or sent by the daemon: the deck stands.

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use crate::api::*;
use crate::tui::fixtures::*;
use crate::tui::logs::Page;
use crate::tui::model::{Model, Screen};
use crate::tui::update::{Command, Msg};
use crate::tui::view;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Keys(Vec<&'static str>),
    Paste(String),
    Size(u16, u16),
    Draining,
    Back,
    Snapshot(u8),
    Lost,
    Reply(bool),
    Log(String),
    LogPage(String, bool),
    Searched,
    Event(String),
    Past(u64, String),
    Detail(String),
    Drawn,
}

const KEYS: &[&str] = &[
    "t",
    "u",
    "h",
    "S",
    "F9",
    "+",
    "!",
    "r",
    "R",
    "s",
    "x",
    "X",
    "d",
    "D",
    "a",
    "p",
    "b",
    "l",
    "e",
    "/",
    "left",
    "right",
    "j",
    "k",
    "g",
    "G",
    "pgup",
    "pgdn",
    "space",
    "o",
    "c",
    ":",
    "?",
    "enter",
    "esc",
    "q",
    "n",
    "N",
    "w",
    "y",
    "f",
    "&",
    "T",
    "1",
    "9",
    "é",
    "漢",
    "backspace",
    "ctrl-l",
    "ctrl-w",
    "home",
    "end",
    "tab",
    "backtab",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::sample::select(KEYS).prop_map(|key| Step::Keys(vec![key])),
        2 => prop::collection::vec(prop::sample::select(KEYS), 1..4).prop_map(Step::Keys),
        1 => any::<String>().prop_map(Step::Paste),
        2 => (0u16..200, 0u16..60).prop_map(|(width, height)| Step::Size(width, height)),
        1 => Just(Step::Draining),
        1 => Just(Step::Back),
        1 => (0u8..4).prop_map(Step::Snapshot),
        1 => Just(Step::Lost),
        2 => any::<bool>().prop_map(Step::Reply),
        2 => any::<String>().prop_map(Step::Log),
        4 => any::<(String, bool)>().prop_map(|(line, last)| Step::LogPage(line, last)),
        1 => Just(Step::Searched),
        1 => any::<String>().prop_map(Step::Event),
        2 => (0u64..250, any::<String>()).prop_map(|(count, text)| Step::Past(count, text)),
        2 => any::<String>().prop_map(Step::Detail),
        2 => Just(Step::Drawn),
    ]
}

/// What the daemon would be asked last, to answer it.
#[derive(Default)]
struct Asked {
    id: u64,
    session: u64,
    page: u64,
    past: u64,
}

fn apply(model: &mut Model, ms: u64, step: Step, asked: &mut Asked) {
    let unreachable = || problem(problem::UNREACHABLE, "away", "gone");
    let msg = match step {
        Step::Keys(keys) => Msg::Keys(keys.into_iter().map(key).collect()),
        Step::Paste(text) => Msg::Paste(text),
        Step::Size(width, height) => Msg::Resize(width, height),
        Step::Draining => return change(model, ms, draining(web())),
        Step::Back => return change(model, ms, web()),
        Step::Snapshot(n) => {
            let all =
                [web(), cron(), draining(web()), service("漢字", vec![running("漢字", "漢", 1)])];
            let deck = deck(all.into_iter().take(usize::from(n)).collect());
            Msg::Change(Box::new(Change::Snapshot { deck: Box::new(deck), events: vec![] }))
        }
        Step::Lost => Msg::LinkLost(unreachable()),
        Step::Reply(true) => Msg::Reply { id: asked.id, result: Ok(Done::default()) },
        Step::Reply(false) => {
            Msg::Reply { id: asked.id, result: Err(problem(problem::CONFIRM, "sure?", "it hurts")) }
        }
        Step::Log(line) => {
            let line = LogLine { instance: "web1".into(), line, ..LogLine::default() };
            Msg::Log { session: asked.session, lines: vec![line] }
        }
        Step::LogPage(line, last) => {
            let line = LogLine { instance: "web1".into(), line, ..LogLine::default() };
            let page = Page { lines: vec![line; 30], last, ..Page::default() };
            Msg::LogPage { id: asked.page, page: Ok(page) }
        }
        Step::Searched => Msg::LogProgress { id: asked.page, searched: 5 << 30, of: 10 << 30 },
        Step::Event(text) => {
            return events(model, vec![event("10:42:11", None, Some("web1"), &text)]);
        }
        Step::Past(count, text) => {
            let past = (0..count).map(|seq| Event { seq, ..event("09:00:00", None, None, &text) });
            Msg::Past { id: asked.past, result: Ok(past.collect()) }
        }
        Step::Detail(text) => {
            Msg::Detail { of: "web1".into(), result: Ok(Box::new(hostile(&text))) }
        }
        Step::Drawn => Msg::Drawn,
    };
    for command in send(model, ms, msg) {
        match command {
            Command::Send { id, .. } => asked.id = id,
            Command::Follow { session, .. } => asked.session = session,
            Command::ReadLog { id, .. } => asked.page = id,
            Command::Past { id, .. } => asked.past = id,
            _ => (),
        }
    }
}

/// A close look at a process that calls everything by this name.
fn hostile(text: &str) -> Detail {
    let text = || text.to_owned();
    let process =
        ProcessDetail { title: text(), name: text(), depth: 99, ..ProcessDetail::default() };
    Detail {
        why: vec![text()],
        processes: vec![process],
        environment: Some(vec![Variable { name: text(), value: text(), masked: false }]),
        signals: vec![SignalDetail { signal: text(), does: text(), ..SignalDetail::default() }],
        exits: vec![event("09:00:00", None, None, &text())],
        files: Some(Files { cwd: Some(text()), ..Files::default() }),
        missing: vec![text()],
        ..Detail::default()
    }
}

/// Draws and checks that the frame is whole: every cell printable, no line wider than the screen.
fn check(model: &Model, ms: u64) -> Result<(), TestCaseError> {
    let (width, height) = model.size;
    let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(model, at(ms), &mut buf);
    for cell in &buf.content {
        prop_assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
    }
    for line in text(&buf).lines() {
        prop_assert!(line.width() <= usize::from(width), "{line:?} is wider than {width}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_keys_sizes_and_changes_never_tear_it_and_esc_leads_home(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = shop();
        let mut asked = Asked::default();
        let mut ms = 0;
        for step in steps {
            ms += 137;
            apply(&mut model, ms, step, &mut asked);
            check(&model, ms)?;
        }
        // Where nothing can be seen, no key leads anywhere.
        apply(&mut model, ms, Step::Size(80, 24), &mut asked);
        // Out of a text, a search, the logs, and the page that they were opened from.
        for _ in 0..6 {
            press(&mut model, ms, "esc");
        }
        prop_assert!(matches!(model.screen, Screen::Table));
        prop_assert!(model.guard.armed.is_none() && !model.filter.editing);
    }
}
