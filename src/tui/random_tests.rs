//! Random keys, sizes and answers over a fleet that changes: nothing panics, no frame is wider than
//! its terminal, and Esc always leads home.
//!
//! Seeded, so that a failure can be had again; it prints the last steps. `OPSDECK_KEYS=600` goes on
//! for so many seconds with seeds of its own.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test tells its seeds")]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::fixtures::*;
use super::key::{Code, Gesture, Key, Mouse};
use super::keymap::{Entry, Scope, TABLE};
use super::logs::{Page, PromptKind};
use super::model::{Model, Page as Panel, Screen};
use super::update::{Command, Msg};
use super::view;
use crate::api::*;

/// Steps of one seed; Esc is tried at its end and every so often on the way.
const STEPS: u32 = 400;
const HOME_EVERY: u32 = 100;
/// Walks, and how many at most until every place was seen.
const LEAST: u64 = 6;
const MOST: u64 = 40;
/// A question, a text, a page within a page, a page, the filter, the marks.
const ENOUGH: usize = 8;

#[test]
fn random_keys_over_a_changing_fleet_never_panic_nor_draw_beyond_the_screen_nor_get_stuck() {
    let mut seen = BTreeSet::new();
    let mut walked = 0;
    while walked < LEAST || walked < MOST && unseen(&seen).next().is_some() {
        walked += 1;
        seen.extend(run(walked));
    }
    let unseen: Vec<_> = unseen(&seen).collect();
    assert!(unseen.is_empty(), "in {walked} walks it never got to {unseen:?}");
    let seconds = std::env::var("OPSDECK_KEYS").ok().and_then(|it| it.parse().ok());
    let Some(seconds) = seconds.map(Duration::from_secs) else { return };
    #[expect(clippy::disallowed_methods, reason = "how long this test goes on")]
    let started = std::time::Instant::now();
    let mut seed = 1000;
    while started.elapsed() < seconds {
        drop(run(seed));
        seed += 1;
    }
    println!("{} seeds of {STEPS} steps", seed - 1000);
}

/// Where it must have been.
const PLACES: &[&str] = &[
    "filter",
    "question",
    "help",
    "detail",
    "process",
    "config",
    "picker",
    "palette",
    "logs",
    "log range",
    "log search",
    "log filter",
    "log since",
    "log save",
    "rollout",
    "events",
    "events filter",
    "whole event",
];

fn unseen(seen: &BTreeSet<&'static str>) -> impl Iterator<Item = &'static str> {
    PLACES.iter().copied().filter(|it| !seen.contains(it))
}

/// One walk; returns where it was.
fn run(seed: u64) -> BTreeSet<&'static str> {
    let mut walk = Walk::new(seed);
    let mut seen = BTreeSet::new();
    for step in 1..=STEPS {
        walk.step();
        seen.extend(places(&walk.model));
        if step % HOME_EVERY == 0 {
            walk.goes_home();
        }
    }
    seen
}

/// What is in front, and what keys go to there.
fn places(model: &Model) -> Vec<&'static str> {
    let and = |is: bool, what| is.then_some(what);
    let question = and(model.guard.armed.is_some(), "question");
    let inside = match &model.screen {
        Screen::Table => and(model.filter.editing, "filter"),
        Screen::Panel(it) => match &it.page {
            Panel::Help => Some("help"),
            Panel::Config(_) => Some("config"),
            Panel::Detail(_) => {
                let is_chosen = model.closeup.as_ref().is_some_and(|it| it.chosen.is_some());
                and(is_chosen, "process").or(Some("detail"))
            }
        },
        Screen::Picker(_) => Some("picker"),
        Screen::Palette(_) => Some("palette"),
        Screen::Rollout(_) => Some("rollout"),
        Screen::Events(it) if it.editing => Some("events filter"),
        Screen::Events(it) => and(it.whole.is_some(), "whole event").or(Some("events")),
        Screen::Logs(it) if it.window.range.is_some() => Some("log range"),
        Screen::Logs(it) => Some(it.prompt.as_ref().map_or("logs", |it| match it.kind {
            PromptKind::Search => "log search",
            PromptKind::Filter => "log filter",
            PromptKind::Since => "log since",
            PromptKind::Save => "log save",
        })),
    };
    inside.into_iter().chain(question).collect()
}

/// One deck, and what was done to it.
struct Walk {
    seed: u64,
    random: Random,
    model: Model,
    ms: u64,
    /// Requests that wait for an answer.
    asked: Vec<u64>,
    session: u64,
    done: VecDeque<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let done: Vec<_> = self.done.iter().map(String::as_str).collect();
            eprintln!("seed {}, the last steps:\n{}", self.seed, done.join("\n"));
        }
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let services = (0..random.below(6)).map(|n| random.service(n)).collect();
        let mut model = model(services);
        model.theme.signs =
            if random.below(4) == 0 { &super::theme::ASCII } else { &super::theme::UNICODE };
        let done = VecDeque::new();
        Self { seed, random, model, ms: 0, asked: vec![], session: 0, done }
    }

    fn step(&mut self) {
        self.ms += self.random.below(400);
        let msg = self.random.msg(&self.model, &mut self.asked, self.session);
        self.tell(msg);
        if self.random.below(3) == 0 {
            self.draw();
        }
    }

    fn tell(&mut self, msg: Msg) {
        let mut told = format!("{msg:?}");
        told.truncate(told.floor_char_boundary(200));
        self.done.push_back(told);
        self.done.drain(..self.done.len().saturating_sub(40));
        for command in send(&mut self.model, self.ms, msg) {
            match command {
                Command::Send { id, .. } => self.asked.push(id),
                Command::Follow { session, .. } => self.session = session,
                Command::ReadLog { id, names, .. } if !self.random.is(4) => {
                    let page = self.random.page(&names);
                    self.tell(Msg::LogPage { id, page: Ok(page) });
                }
                Command::History { of } => {
                    let points = self.random.below(700);
                    let history = History {
                        step_ms: 1000,
                        in_flight: (0..points).map(|_| self.random.small()).collect(),
                        requests_per_second: (0..points).map(|_| self.random.figure()).collect(),
                        ..History::default()
                    };
                    let msg = Msg::History { of, result: Ok(history) };
                    send(&mut self.model, self.ms, msg);
                }
                Command::Rollout { service } if !self.random.is(4) => {
                    let msg = self.random.rollout_answer(service);
                    send(&mut self.model, self.ms, msg);
                }
                Command::Detail { of } if !self.random.is(4) => {
                    let msg = self.random.detail_answer(of);
                    send(&mut self.model, self.ms, msg);
                }
                Command::Past { id, .. } if !self.random.is(4) => {
                    let msg = self.random.past_answer(id);
                    send(&mut self.model, self.ms, msg);
                }
                _ => (),
            }
        }
    }

    /// Draws a frame; every cell holds what fits there.
    fn draw(&mut self) {
        let (width, height) = self.model.size;
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        view::draw(&self.model, at(self.ms), &mut buf);
        for y in 0..height {
            for x in 0..width {
                let symbol = buf[(x, y)].symbol();
                let its = symbol.width();
                assert!(
                    usize::from(x) + its <= usize::from(width),
                    "{symbol:?} at {x},{y} of {width}x{height} is too wide"
                );
                assert!(!symbol.chars().any(char::is_control), "{symbol:?} at {x},{y}");
            }
        }
        send(&mut self.model, self.ms, Msg::Drawn);
    }

    /// Esc leads to the table without a filter, a mark or a question; and there the keys work.
    fn goes_home(&mut self) {
        self.tell(Msg::Resize(80, 24));
        for _ in 0..ENOUGH {
            self.ms += 400;
            self.draw();
            self.tell(Msg::Keys(vec![Key::plain(Code::Esc)]));
        }
        self.draw();
        let model = &self.model;
        assert!(matches!(model.screen, Screen::Table), "not home: {:?}", model.screen);
        assert!(model.guard.armed.is_none() && !model.filter.is_shown());
        assert!(model.marked.is_empty(), "{:?}", model.marked);
        self.tell(Msg::Keys(vec![Key::char('?')]));
        assert!(matches!(self.model.screen, Screen::Panel(_)), "? opens the help");
        self.tell(Msg::Keys(vec![Key::plain(Code::Esc)]));
    }
}

/// xorshift64 (Marsaglia 2003): small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { (self.next() >> 11) % limit }
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap_or(0)]
    }

    pub(super) fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub(super) fn small(&mut self) -> u16 {
        u16::try_from(self.below(2000)).unwrap_or(0)
    }

    fn figure(&mut self) -> f64 {
        f64::from(self.small()) * f64::from(self.small()) / 7.0
    }

    fn msg(&mut self, model: &Model, asked: &mut Vec<u64>, session: u64) -> Msg {
        match self.below(100) {
            0..60 => Msg::Keys((0..self.batch()).map(|_| self.key(model)).collect()),
            60..63 => Msg::Paste(self.of(TEXTS).to_owned()),
            63..69 => self.size(),
            69..82 => Msg::Change(Box::new(self.change(model))),
            82..84 => Msg::LinkLost(problem(problem::UNREACHABLE, "the daemon is away", "")),
            84..90 if !asked.is_empty() => {
                let at = usize::try_from(self.below(asked.len() as u64)).unwrap_or(0);
                Msg::Reply { id: asked.swap_remove(at), result: self.answer() }
            }
            90..95 => {
                let count = self.below(9);
                let names: Vec<_> = (0..count).map(|_| self.of(NAMES).to_owned()).collect();
                let lines = names.into_iter().map(|it| self.line(it)).collect();
                Msg::Log { session, lines }
            }
            95..97 => Msg::LogEnded { session, name: self.of(NAMES).to_owned(), problem: None },
            97 => Msg::Drawn,
            98 => self.mouse(model.size),
            _ => Msg::Wake,
        }
    }

    fn mouse(&mut self, (width, height): (u16, u16)) -> Msg {
        let gesture = self.of(&[Gesture::Press, Gesture::WheelUp, Gesture::WheelDown]);
        let (x, y) = (self.small() % (width + 1), self.small() % (height + 1));
        Msg::Mouse(Mouse { gesture, x, y })
    }

    fn line(&mut self, instance: String) -> LogLine {
        let (gap, at) = (self.is(20), self.is(2).then(|| at(1000).wall));
        LogLine { instance, at, gap, line: self.of(TEXTS).to_owned(), ..LogLine::default() }
    }

    /// A page of these logs, now and then an empty one.
    fn page(&mut self, names: &[String]) -> Page {
        let count = if self.is(4) { 0 } else { self.below(80) };
        let names: Vec<_> =
            names.iter().cycle().take(usize::try_from(count).unwrap_or(0)).collect();
        let lines = names.into_iter().map(|it| self.line(it.clone())).collect();
        Page { lines, last: self.is(2), ..Page::default() }
    }

    /// Most reads bring one key.
    fn batch(&mut self) -> u64 {
        if self.is(8) { 1 + self.below(4) } else { 1 }
    }

    /// Any key; a page of its own gets its own keys more often, and the table those that open one.
    fn key(&mut self, model: &Model) -> Key {
        let scope = match &model.screen {
            Screen::Logs(_) => Scope::Logs,
            Screen::Events(_) => Scope::Events,
            Screen::Panel(_) => Scope::Detail,
            _ => Scope::Everywhere,
        };
        match self.below(20) {
            at @ 0..12 => {
                let opens = |entry: &Entry| !entry.acts && entry.scope == Scope::Table;
                let is_table = matches!(model.screen, Screen::Table);
                let its = |entry: &&Entry| {
                    at < 6 || if is_table { opens(entry) } else { entry.scope == scope }
                };
                let entries: Vec<&Entry> = TABLE.iter().filter(its).collect();
                let entry = self.of(&entries);
                Key::parse(self.of(entry.keys)).unwrap_or(Key::char('j'))
            }
            12 => Key::plain(Code::Esc),
            13 | 14 => Key::plain(Code::Enter),
            15 => Key::plain(self.of(&[
                Code::Backspace,
                Code::Delete,
                Code::Tab,
                Code::BackTab,
                Code::Insert,
                Code::Left,
                Code::Right,
                Code::F(5),
            ])),
            16 => Key::ctrl(self.of(&['a', 'e', 'u', 'w', 'l', 'x'])),
            17 => Key { alt: true, ..Key::char('x') },
            _ => {
                let letters: Vec<char> = "abcxyz0159 !>:.é漢\u{301}\u{200d}[(*".chars().collect();
                Key::char(self.of(&letters))
            }
        }
    }

    fn size(&mut self) -> Msg {
        let (width, height) = self.of(&[
            (80, 24),
            (80, 24),
            (40, 10),
            (120, 40),
            (30, 6),
            (31, 7),
            (1, 1),
            (200, 5),
            (33, 60),
            (250, 70),
        ]);
        let wobble = |random: &mut Self, size: u16| {
            let by = u16::try_from(random.below(3)).unwrap_or(0);
            (size + by).saturating_sub(1).max(1)
        };
        Msg::Resize(wobble(self, width), wobble(self, height))
    }

    fn change(&mut self, model: &Model) -> Change {
        if self.is(8) {
            let services = (0..self.below(8)).map(|n| self.service(n)).collect();
            let mut deck = deck(services);
            deck.role = if self.is(3) { Role::Viewer } else { Role::Operator };
            let events = (0..self.below(30)).map(|_| self.event()).collect();
            return Change::Snapshot { deck: Box::new(deck), events };
        }
        let removed = model.deck.services.first().filter(|_| self.is(6));
        let removed: Vec<_> = removed.map(|it| it.name.clone()).into_iter().collect();
        let config = self.is(6).then(|| Config {
            path: Some("/etc/opsdeck/config.toml".into()),
            error: self.is(2).then(|| self.of(TEXTS).to_owned()),
            pending: (0..self.below(4)).map(|_| self.of(TEXTS).to_owned()).collect(),
            confirm: self.of(&[Confirm::Guard, Confirm::Always, Confirm::Never]),
            ..Config::default()
        });
        let notices = self.is(6).then(|| vec![self.of(TEXTS).to_owned()]);
        Change::Change {
            revision: 7,
            now: at(0).wall,
            services: (0..self.below(3)).map(|n| self.service(n)).collect(),
            removed,
            events: (0..self.below(3)).map(|_| self.event()).collect(),
            config,
            notices,
        }
    }

    pub(super) fn event(&mut self) -> Event {
        let who = self.is(2).then_some("alice");
        let name = self.of(NAMES);
        event("10:42:11", who, self.is(2).then_some(name), self.of(TEXTS))
    }

    fn answer(&mut self) -> Result<Done, Problem> {
        match self.below(4) {
            0 => Err(problem(problem::CONFIRM, "asks first", self.of(TEXTS))),
            1 => Err(problem("conflict", self.of(TEXTS), "")),
            _ => Ok(Done { message: self.of(TEXTS).to_owned(), ..Done::default() }),
        }
    }

    fn service(&mut self, nth: u64) -> Service {
        let name = NAMES[usize::try_from(nth).unwrap_or(0) % NAMES.len()];
        let single = self.is(3);
        let instances = (0..if single { 1 } else { self.below(5) })
            .map(|n| self.instance(name, if single { name.into() } else { format!("{name}{n}") }))
            .collect();
        let mut it = service(name, instances);
        if self.is(3) {
            it = fronted(it);
        }
        it.stale = self.is(3);
        it.profile = (self.of(&["generic", "swoole", "nginx"])).into();
        it.can_roll_back = self.is(2);
        it.rollout = self.is(3).then(|| self.rollout(name));
        it
    }

    fn rollout(&mut self, name: &str) -> Rollout {
        Rollout {
            by: "alice".into(),
            since: Some(at(0).wall),
            step: (self.of(&["build", "draining", "settle", "paused", "halted", "done"])).into(),
            instance: self.is(2).then(|| format!("{name}0")),
            done: 1,
            of: 3,
            renewed: vec![format!("{name}1")],
            paused: self.is(3),
            halted: self.is(3).then(|| self.of(TEXTS).to_owned()),
            ended: self.is(3).then(|| at(0).wall),
            ..Rollout::default()
        }
    }

    fn instance(&mut self, service: &str, name: String) -> Instance {
        let states = [
            State::Stopped,
            State::Spawning,
            State::Running,
            State::Draining,
            State::Stopping,
            State::Backoff,
            State::Fatal,
            State::Lost,
        ];
        let state = self.of(&states);
        let mut it = running(service, &name, self.small());
        it.state = state;
        it.pid = it.pid.filter(|_| self.is(2));
        it.ready = self.of(&[None, Some(true), Some(false)]);
        it.live = self.of(&[None, Some(true), Some(false)]);
        it.why = self.of(TEXTS).to_owned();
        it.retry_at = self.is(2).then(|| at(self.below(100_000)).wall);
        it.held_by = self.is(5).then(|| "alice".into());
        it.backup = self.is(3);
        it.stale = self.is(3);
        it.restarts = self.below(5000);
        it.memory_bytes = self.is(2).then(|| self.below(1 << 42));
        it.cpu_percent = self.is(2).then(|| self.figure());
        let stops = matches!(state, State::Draining | State::Stopping);
        it.countdown = stops.then(|| Countdown {
            elapsed_ms: self.below(20_000),
            max_wait_time_ms: self.below(15_000),
            kill_at: Some(at(self.below(10_000)).wall),
            rung: self.is(2).then(|| "SIGTERM".into()),
        });
        it.last_exit = self.is(2).then(|| LastExit {
            at: Some(at(0).wall),
            code: Some(255),
            words: Some(self.of(TEXTS).to_owned()),
            ..LastExit::default()
        });
        if self.is(2) {
            let body = self.is(2).then(|| self.of(TEXTS).to_owned());
            it.probes.insert("readiness".into(), ProbeResult { body, ..ProbeResult::default() });
        }
        it
    }
}

const NAMES: &[&str] =
    &["web", "cron", "queue", "漢字漢字", "a-service-with-a-very-long-name-indeed", "e\u{301}x"];

pub(super) const TEXTS: &[&str] = &[
    "",
    "all probes pass",
    "a long explanation of what went wrong, which does not fit into one line of a usual terminal, nor two",
    "\u{1b}[2J\u{1b}]0;title\u{7}red \u{1b}[31mtext\u{1b}[0m",
    "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
    "👩\u{200d}👩\u{200d}👧 \u{202e}e\u{301}\u{200b}\u{feff}\u{fffd} tab\there\nsecond line\r\n",
    "x",
    "state:backoff !cpu>5 mem>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
