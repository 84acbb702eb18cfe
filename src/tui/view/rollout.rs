//! The rollout page: the steps of the one that runs or ran last with their times, then the next plan.

use std::ops::Range;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{clock, date, wrap};
use super::{countdown, feed, put, put_line};
use crate::api::{Countdown, Instance, Plan, PlanStep, RolloutPhase, RolloutRecord, took_ms};
use crate::quantity::{count, span, took};
use crate::tui::keymap::Action;
use crate::tui::layout::body;
use crate::tui::model::{Model, Now};
use crate::tui::rollout::{RolloutPage, Row};

/// From this width on a row has all its columns.
const WIDE: u16 = 64;
/// Cells of the bar of a whole rollout.
const BAR: usize = 20;

/// One line of the page.
enum Piece {
    Text(Line<'static>),
    /// A text goes on.
    More(Line<'static>),
    Row(Line<'static>),
    /// The countdown of the instance that stops.
    Countdown(Box<(Instance, Countdown)>),
}

/// The page, and which of its lines are about the row under the cursor.
struct Pieces {
    all: Vec<Piece>,
    cursor: Range<usize>,
}

/// Lines of the page on the screen.
pub(in crate::tui) fn height(model: &Model) -> usize {
    usize::from(body(model).height)
}

/// The last scroll position that wastes no room.
pub(in crate::tui) fn last_top(model: &Model, now: Now, page: &RolloutPage) -> usize {
    pieces(model, now, page).all.len().saturating_sub(height(model))
}

/// The first line on the screen: where the operator scrolled to, else so that the cursor's row is seen.
pub(in crate::tui) fn first_line(model: &Model, now: Now, page: &RolloutPage) -> usize {
    let pieces = pieces(model, now, page);
    first(&pieces, page, height(model))
}

fn first(pieces: &Pieces, page: &RolloutPage, height: usize) -> usize {
    let last = pieces.all.len().saturating_sub(height);
    let Range { start, end } = pieces.cursor;
    let needed = end.saturating_sub(height).min(start);
    page.top.map_or_else(|| from_a_beginning(pieces, needed, start), |top| top.min(last))
}

/// The first line from `needed` on that does not begin amid a sentence; the row itself begins with itself.
fn from_a_beginning(pieces: &Pieces, needed: usize, row: usize) -> usize {
    let is_amid = |n: &usize| matches!(pieces.all.get(*n), Some(Piece::More(_)));
    (needed..row).find(|n| !is_amid(n)).unwrap_or(row)
}

pub(super) fn draw(model: &Model, now: Now, page: &RolloutPage, buf: &mut Buffer) {
    let now = model.picture(now);
    let (text, style) = title(model, now, page);
    put(buf, 1, 1, buf.area.width - 1, &text, style);
    let pieces = pieces(model, now, page);
    let top = first(&pieces, page, height(model));
    let shown = pieces.all.iter().enumerate().skip(top).take(height(model));
    for (y, (n, piece)) in (2..).zip(shown) {
        match piece {
            Piece::Text(line) | Piece::More(line) => put_line(buf, 0, y, line),
            Piece::Countdown(it) => countdown::draw(model, &it.0, &it.1, now, y, buf),
            Piece::Row(line) => {
                put_line(buf, 0, y, line);
                if n == pieces.cursor.start {
                    let row = Rect { x: 0, y, width: buf.area.width, height: 1 };
                    buf.set_style(row.intersection(buf.area), model.theme.selected());
                }
            }
        }
    }
}

fn title(model: &Model, now: Now, page: &RolloutPage) -> (String, Style) {
    let name = &page.service;
    let Some(record) = page.known() else {
        let text = match page.record {
            None => format!("{name}: asking the daemon{}", model.theme.signs.more),
            Some(_) => format!("{name}: no rolling restart so far"),
        };
        return (text, model.theme.strong());
    };
    let what = if record.rollback { "rollback" } else { "rolling restart" };
    let done = record.steps.iter().filter(|it| it.outcome == "renewed").count();
    let time = seconds(took_ms(record.began, record.ended, now.wall));
    let how = match (record.outcome.as_str(), record.ended) {
        (outcome, Some(ended)) => {
            format!("{outcome} at {} after {time}", clock(ended, &model.tz))
        }
        ("paused", None) => format!("PAUSED, {done} renewed, {time}"),
        (_, None) => format!("{done} of {} renewed, {time}", record.plan.len().max(done)),
    };
    let style = match record.outcome.as_str() {
        "halted" => model.theme.bad(),
        "done" | "aborted" => model.theme.strong(),
        _ => model.theme.moving(),
    };
    let title = format!("{name}: {what} by {}, {how}", record.by.login);
    // How it stands is what one looks for; who began it stands among the events.
    let fits = title.width() < usize::from(model.size.0);
    (if fits { title } else { format!("{name}: {how}") }, style)
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or("?".into(), |ms| span(ms / 1000))
}

/// What is written so far.
struct Writer<'a> {
    model: &'a Model,
    now: Now,
    page: &'a RolloutPage,
    all: Vec<Piece>,
    cursor: Range<usize>,
}

fn pieces(model: &Model, now: Now, page: &RolloutPage) -> Pieces {
    let mut writer = Writer { model, now, page, all: vec![], cursor: 0..0 };
    let rows = page.rows();
    let cursor = page.cursor(&rows);
    if let Some(record) = page.known() {
        writer.progress(&rows);
        writer.table(&rows, cursor, true);
        writer.ending(record);
    }
    if !page.is_under_way() {
        writer.plan();
        writer.table(&rows, cursor, false);
    }
    Pieces { all: writer.all, cursor: writer.cursor }
}

impl Writer<'_> {
    fn text(&mut self, text: &str, style: Style) {
        let width = usize::from(self.model.size.0).saturating_sub(2);
        self.wrapped(wrap(text, width), " ", style);
    }

    /// The same, further in: what belongs to the row above.
    fn below(&mut self, text: &str, style: Style) {
        let width = usize::from(self.model.size.0).saturating_sub(5);
        self.wrapped(wrap(text, width), "    ", style);
    }

    fn wrapped(&mut self, parts: Vec<String>, indent: &str, style: Style) {
        for (n, part) in parts.into_iter().enumerate() {
            let line = Line::styled(format!("{indent}{part}"), style);
            self.all.push(if n == 0 { Piece::Text(line) } else { Piece::More(line) });
        }
    }

    fn gap(&mut self) {
        // Low screens have no line to spare.
        if self.model.size.1 >= 16 {
            self.all.push(Piece::Text(Line::default()));
        }
    }

    /// How far it is, where earlier ones tell how long it takes.
    fn progress(&mut self, rows: &[Row<'_>]) {
        let (mut past, mut whole) = (0, 0);
        for row in rows.iter().filter(|it| it.key.ran) {
            let took = row.step.and_then(|it| it.took_ms(self.now.wall)).unwrap_or(0);
            let ended = row.step.is_some_and(|it| it.ended.is_some());
            let Some(expected) = row.plan.and_then(|it| it.expected_ms).or(ended.then_some(took))
            else {
                return;
            };
            past += took;
            whole += if ended { took } else { expected.max(took) };
        }
        if self.page.is_under_way() && whole > 0 {
            let of = |ms: u64| Duration::from_millis(ms);
            let theme = self.model.theme;
            let bar = countdown::bar(theme.signs.bar, of(past), of(whole), BAR);
            let text = format!(" {} of about {}", seconds(Some(past)), seconds(Some(whole)));
            let spans = vec![Span::raw(" "), Span::styled(bar, theme.moving()), Span::raw(text)];
            self.all.push(Piece::Text(Line::from(spans)));
        }
    }

    fn table(&mut self, rows: &[Row<'_>], cursor: usize, ran: bool) {
        for (n, row) in rows.iter().enumerate().filter(|(_, it)| it.key.ran == ran) {
            let begin = self.all.len();
            let line = if ran { self.ran(row) } else { self.planned(row) };
            self.all.push(Piece::Row(line));
            self.countdown(row);
            if n == cursor {
                self.details(row);
                self.cursor = begin..self.all.len();
            }
        }
    }

    fn name(&self, row: &Row<'_>) -> String {
        let is_spare =
            self.page.known().is_some_and(|it| it.spare.as_ref() == Some(&row.key.instance));
        let spare = is_spare || row.plan.is_some_and(|it| it.because == "spare");
        format!("{}{}", row.key.instance, if spare { " (spare)" } else { "" })
    }

    /// A row of the rollout that runs or ran.
    fn ran(&self, row: &Row<'_>) -> Line<'static> {
        let theme = self.model.theme;
        let (word, style) = match row.step.map(|it| (it.outcome.as_str(), it)) {
            None if self.page.is_under_way() => ("waits".to_owned(), theme.faint()),
            None => ("not touched".to_owned(), theme.faint()),
            Some(("renewed", _)) => (format!("{} renewed", theme.signs.done), theme.good()),
            Some(("failed", _)) => ("FAILED".to_owned(), theme.bad()),
            Some(("running", step)) => {
                let phase = step.phases.last().map_or("begins", |it| &it.name);
                (format!("{phase}{}", theme.signs.more), theme.moving())
            }
            Some((other, _)) => (other.to_owned(), theme.plain()),
        };
        let time = row.step.and_then(|it| it.took_ms(self.now.wall));
        let time = time.map_or(String::new(), |ms| took(Duration::from_millis(ms)));
        let mut spans = vec![
            Span::styled(format!(" {:<14} ", self.name(row)), theme.name()),
            Span::styled(format!("{word:<12} "), style),
        ];
        if self.model.size.0 >= WIDE {
            let began = row.step.and_then(|it| it.began);
            let began = began.map_or(String::new(), |it| clock(it, &self.model.tz));
            spans.push(Span::styled(format!("{began:<9} "), theme.faint()));
        }
        spans.push(Span::styled(format!("{time:>7}"), theme.strong()));
        if self.model.size.0 >= WIDE {
            spans.push(Span::styled(format!("  {:<11}", about(row.plan)), theme.faint()));
            let lost = row.step.map_or(0, |it| it.lost);
            if lost > 0 {
                spans.push(Span::styled(format!("{lost} requests lost"), theme.bad()));
            }
        }
        Line::from(spans)
    }

    /// A row of the next rollout.
    fn planned(&self, row: &Row<'_>) -> Line<'static> {
        let theme = self.model.theme;
        let because = row.plan.map_or("", |it| &it.because);
        let ready = row.plan.is_some_and(|it| it.ready);
        let (word, style) = match (ready, because) {
            (true, _) => ("ready", theme.good()),
            (false, "spare") => ("to start", theme.plain()),
            (false, _) => ("not ready", theme.bad()),
        };
        // What it says already need not be said twice.
        let because = if because == word { "" } else { because };
        Line::from(vec![
            Span::styled(format!(" {:<14} ", self.name(row)), theme.name()),
            Span::styled(format!("{word:<10} "), style),
            Span::raw(format!("{because:<9} ")),
            Span::styled(about(row.plan), theme.faint()),
        ])
    }

    /// The one deadline of the instance that is being stopped.
    fn countdown(&mut self, row: &Row<'_>) {
        if row.step.is_none_or(|it| it.ended.is_some()) {
            return;
        }
        let instance = self.model.instance(&self.page.service, &row.key.instance);
        let counted = instance.and_then(|it| Some((it.clone(), it.countdown.clone()?)));
        self.all.extend(counted.map(|it| Piece::Countdown(Box::new(it))));
    }

    /// What there is to say of the row under the cursor.
    fn details(&mut self, row: &Row<'_>) {
        let theme = self.model.theme;
        if let Some(step) = row.step {
            let part = |it: &RolloutPhase| {
                let time = it.took_ms(self.now.wall).unwrap_or(0);
                format!("{} {}", it.name, took(Duration::from_millis(time)))
            };
            let parts: Vec<String> = step.phases.iter().map(part).collect();
            self.below(&parts.join(", "), theme.plain());
            if let Some(exit) = &step.exit {
                self.below(&format!("the old process {exit}"), theme.plain());
            }
        }
        if let Some(plan) = row.plan.filter(|_| row.step.is_none()) {
            for verdict in &plan.verdicts {
                self.below(verdict, theme.plain());
            }
            for command in &plan.build {
                self.below(&format!("build: {command}"), theme.plain());
            }
            let [stop, ready] =
                [plan.max_wait_time_ms, plan.ready_timeout_ms].map(|it| seconds(Some(it)));
            self.below(
                &format!("drain and stop within {stop}, ready within {ready}"),
                theme.faint(),
            );
        }
    }

    /// How it ended, and what proves it.
    fn ending(&mut self, record: &RolloutRecord) {
        let theme = self.model.theme;
        if let Some(why) = &record.halted {
            let can = self.model.service(&record.service).is_some_and(|it| it.can_roll_back);
            self.gap();
            let ways = feed::ways_on(self.model, can, false);
            self.text(&format!("halted: {why}{ways}"), theme.bad());
        }
        for line in &record.evidence {
            self.all.push(Piece::Text(Line::raw(format!("   {line}"))));
        }
        for note in &record.notes {
            let at = note.at.map_or(String::new(), |it| clock(it, &self.model.tz));
            let by = note.by.as_ref().map_or("", |it| &it.login);
            self.text(&format!("{at} {by} {}", note.message), theme.plain());
        }
        if let Some(it) = &record.counted {
            let text = format!(
                "{} requests meanwhile, {} cut, {} retried",
                it.requests, it.cut, it.retried
            );
            self.text(&text, if it.cut > 0 { theme.bad() } else { theme.plain() });
        }
        if !record.set.is_empty() {
            let all: Vec<_> =
                record.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.text(&format!("with {}", all.join(" ")), theme.faint());
        }
        if let Some(began) = record.began {
            self.text(&format!("began {}", date(began, &self.model.tz)), theme.faint());
        }
    }

    /// What the next one would do.
    fn plan(&mut self) {
        let theme = self.model.theme;
        if let Some(problem) = &self.page.problem {
            self.gap();
            self.text(problem, theme.bad());
        }
        let Some(plan) = &self.page.plan else { return };
        self.gap();
        self.text(&heading(self.model, plan), theme.strong());
        if let Some(why) = &plan.downtime {
            self.text(why, theme.bad());
        }
        if let Some(why) = &plan.blocked {
            self.text(&format!("blocked: {why}"), theme.bad());
        }
    }
}

fn heading(model: &Model, plan: &Plan) -> String {
    let instances = plan.steps.iter().filter(|it| it.because != "spare").count();
    let instances = count(instances as u64, "instance");
    let time = match plan.expected_ms {
        Some(ms) => format!("about {} as before", seconds(Some(ms))),
        None => "no earlier one tells how long".into(),
    };
    let start = model.keymap.hint(Action::Roll, "starts it").filter(|_| plan.blocked.is_none());
    let start = start.map(|it| format!("; {it}")).unwrap_or_default();
    format!("Next: {instances}, at least {} stay ready, {time}{start}", plan.min_ready)
}

fn about(plan: Option<&PlanStep>) -> String {
    let expected = plan.and_then(|it| it.expected_ms);
    expected.map_or(String::new(), |ms| format!("about {}", seconds(Some(ms))))
}
