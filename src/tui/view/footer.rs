//! The last lines: a question that waits, a notice, or what the keys do.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::feed::is_rolling;
use super::format::wrap;
use super::put;
use crate::tui::keymap::{Action, TABLE, entry};
use crate::tui::layout::layout;
use crate::tui::logs::PromptKind;
use crate::tui::model::{Model, Now, Page, Panel, Screen};
use crate::tui::rollout::RolloutPage;

/// A question may need more room than a line; more than this would push out what it is about.
const MOST_LINES: usize = 3;

/// How many lines the footer needs.
pub(in crate::tui) fn height(model: &Model) -> u16 {
    let width = usize::from(model.size.0);
    let lines = message(model).map_or(1, |(text, _)| wrap(&text, width.saturating_sub(2)).len());
    u16::try_from(lines.min(MOST_LINES)).unwrap_or(1)
}

/// A question, or else a notice.
fn message(model: &Model) -> Option<(String, Style)> {
    if let Some(armed) = &model.guard.armed {
        let key = armed.batch.key;
        let again = if armed.too_soon { "came too soon: once more" } else { "again" };
        let text = format!("{}. {key} {again} does it, any other key cancels", armed.question);
        return Some((model.theme.signs.text(&text).into_owned(), model.theme.question()));
    }
    let notice = model.notice.as_ref()?;
    let style = if notice.bad { model.theme.bad() } else { model.theme.strong() };
    Some((model.theme.signs.text(&notice.text).into_owned(), style))
}

pub(super) fn draw(model: &Model, now: Now, buf: &mut Buffer) {
    let width = buf.area.width;
    let lines = layout(model, now).footer;
    let area = Rect { x: 0, y: lines.y, width, height: lines.height }.intersection(buf.area);
    ratatui::widgets::Widget::render(ratatui::widgets::Clear, area, buf);
    if let Some((text, style)) = message(model) {
        let parts = wrap(&text, usize::from(width.saturating_sub(2)));
        let cut = parts.len() > usize::from(lines.height);
        for (n, (y, part)) in (lines.y..lines.y + lines.height).zip(&parts).enumerate() {
            let last = cut && n + 1 == usize::from(lines.height);
            let part = if last { format!("{part}…") } else { part.clone() };
            put(buf, 1, y, width - 1, &part, style);
        }
        return;
    }
    match &model.screen {
        Screen::Table if model.filter.editing => {
            let help = match model.filter.query.mistake() {
                Some(mistake) => (mistake, model.theme.bad()),
                None => ("⏎ keep  Esc clear", model.theme.faint()),
            };
            input(model, buf, lines.y, "/", &model.filter.input, help);
        }
        Screen::Events(events) if events.editing => {
            let help = ("⏎ show  Esc clear  service: actor: kind: since:", model.theme.faint());
            input(model, buf, lines.y, "/", &events.input, help);
        }
        Screen::Logs(logs) => match &logs.prompt {
            Some(prompt) => {
                let (label, help) = words(prompt.kind);
                input(model, buf, lines.y, label, &prompt.input, (help, model.theme.faint()));
            }
            None => keys(model, lines.y, buf),
        },
        _ => keys(model, lines.y, buf),
    }
}

/// What is being written on the log page, and how it ends.
fn words(kind: PromptKind) -> (&'static str, &'static str) {
    match kind {
        PromptKind::Search => ("search ", "⏎ find  Esc end"),
        PromptKind::Filter => {
            ("only with ", "⏎ show  Esc leave it  (a regular expression; empty: all)")
        }
        PromptKind::Since => ("from ", "10m, 09:30, a date  ⏎ go  Esc stay"),
        PromptKind::Save => ("save to ", "⏎ save  Esc end"),
    }
}

/// A text that is being written, with its cursor.
fn input(
    model: &Model,
    buf: &mut Buffer,
    y: u16,
    label: &str,
    input: &tui_input::Input,
    (help, style): (&str, Style),
) {
    let help = &*model.theme.signs.text(help);
    // On a narrow screen both are cut.
    let help_width = help.width().min(usize::from(buf.area.width) / 2);
    let room = usize::from(buf.area.width).saturating_sub(label.width() + help_width + 6);
    let skip = input.visual_scroll(room);
    let text: String = input.value().chars().skip(skip).collect();
    let x = put(buf, 1, y, 30, label, model.theme.strong());
    let end = put(buf, x, y, u16::try_from(room).unwrap_or(0), &text, model.theme.plain());
    let at = x + u16::try_from(input.visual_cursor().saturating_sub(skip)).unwrap_or(0);
    let cursor = Rect { x: at, y, width: 1, height: 1 }.intersection(buf.area);
    buf.set_style(cursor, Style::new().add_modifier(Modifier::REVERSED));
    put(buf, end.max(at) + 2, y, buf.area.width, help, style);
}

/// What the keys do here, as many as fit; how to get help and out always.
fn keys(model: &Model, y: u16, buf: &mut Buffer) {
    let theme = model.theme;
    let (shown, last) = choice(model);
    let own = own_keys(model);
    let mut x = 1;
    if matches!(model.screen, Screen::Table) {
        for text in prefix(model) {
            x = put(buf, x, y, buf.area.width, &theme.signs.text(&text), theme.moving()) + 2;
        }
    }
    let text = |action: Action| {
        let key = model.keymap.key(action)?;
        Some((key.to_string(), entry(action)?.label))
    };
    let drawn =
        |(key, label): (String, &'static str)| (model.theme.signs.text(&key).into_owned(), label);
    let width =
        |(key, label): &(String, &str)| u16::try_from(key.width() + label.width() + 3).unwrap_or(0);
    let mut tail: Vec<_> = last.iter().filter_map(|it| text(*it)).map(drawn).collect();
    if !matches!(model.screen, Screen::Table) {
        tail.push(("Esc".into(), "back"));
    }
    let mut room = buf.area.width.saturating_sub(x + tail.iter().map(width).sum::<u16>());
    let mut all = vec![];
    for it in own.into_iter().chain(shown.iter().filter_map(|it| text(*it))).map(drawn) {
        let Some(left) = room.checked_sub(width(&it)) else { break };
        room = left;
        all.push(it);
    }
    for (key, label) in all.iter().chain(&tail) {
        x = put(buf, x, y, buf.area.width, key, theme.strong());
        x = put(buf, x + 1, y, buf.area.width, label, theme.plain()) + 2;
    }
}

fn prefix(model: &Model) -> Vec<String> {
    let mut all = vec![];
    if !model.filter.text().is_empty() {
        match model.filter.query.mistake_in_short() {
            Some(mistake) => all.push(format!("/ {mistake} (Esc clears)")),
            None => all.push(format!("/{} (Esc clears)", model.filter.text())),
        }
    }
    if !model.marked.is_empty() {
        let hidden = hidden_marks(model);
        let hidden = if hidden > 0 { format!(", {hidden} not shown") } else { String::new() };
        all.push(format!("{} marked{hidden}", model.marked.len()));
    }
    all
}

/// Marked rows that are filtered or folded away; keys act on them all the same.
fn hidden_marks(model: &Model) -> usize {
    if model.filter.text().is_empty() && model.folded.is_empty() {
        return 0;
    }
    let rows = model.rows.list.iter().filter_map(|it| it.id(&model.deck));
    model.marked.len().saturating_sub(rows.filter(|it| model.marked.contains(it)).count())
}

/// Keys that mean something else here than on the table.
fn own_keys(model: &Model) -> Vec<(String, &'static str)> {
    let key = |action| model.keymap.key(action).map(|it| it.to_string()).unwrap_or_default();
    match &model.screen {
        Screen::Picker(_) => vec![("⏎".into(), "send"), ("0-9".into(), "by number")],
        Screen::Palette(_) => vec![("⏎".into(), "do it")],
        Screen::Panel(it) if matches!(it.page, Page::Config(_)) => {
            let may = model.forbidden().is_none();
            may.then(|| (key(Action::Config), "apply")).into_iter().collect()
        }
        Screen::Panel(Panel { page: Page::Detail(id), .. }) => {
            let mut all = vec![
                ("Tab".into(), "next section"),
                (key(Action::Logs), "logs"),
                (key(Action::Rollout), "rollout"),
            ];
            if id.instance.is_some() {
                all.push((key(Action::NextProcess), "process"));
            }
            all
        }
        Screen::Events(events) if events.whole.is_some() => vec![(key(Action::Detail), "close")],
        Screen::Events(_) => vec![(key(Action::Detail), "whole")],
        Screen::Table | Screen::Panel(_) | Screen::Logs(_) | Screen::Rollout(_) => vec![],
    }
}

/// The actions to show, and those that are always shown.
fn choice(model: &Model) -> (Vec<Action>, &'static [Action]) {
    use Action::{
        Abort, Bottom, Copy, EventActor, EventFilter, EventKind, EventService, Extend, Follow,
        Help, Kill, LogFilter, LogRange, LogSave, LogSince, LogTimes, Logs, NextMatch, PageDown,
        PageUp, Pause, Quit, Search, Top, Wrap,
    };
    match &model.screen {
        Screen::Table => {
            let mut all = vec![];
            let row = model.rows.row();
            let stops = row.and_then(|it| it.instance(&model.deck)?.countdown.as_ref());
            if stops.is_some() {
                all.extend([Extend, Kill]);
            }
            if row.and_then(|it| it.service(&model.deck)).is_some_and(is_rolling) {
                all.extend([Abort, Pause]);
            }
            let first = all.clone();
            let rest = TABLE.iter().map(|it| it.action).filter(|it| !first.contains(it));
            all.extend(rest.take_while(|it| *it != Help));
            if model.forbidden().is_some() {
                all.retain(|it| entry(*it).is_some_and(|it| !it.acts));
            }
            (all, &[Help, Quit])
        }
        Screen::Rollout(page) => (of_rollout(model, page), &[]),
        Screen::Logs(_) => {
            let all = [
                Search, NextMatch, LogFilter, LogSince, Follow, Wrap, Copy, LogRange, LogSave,
                LogTimes, PageUp, Top,
            ];
            (all.to_vec(), &[])
        }
        Screen::Events(_) => {
            (vec![EventService, EventActor, EventKind, EventFilter, Logs, PageUp, PageDown], &[])
        }
        // There every letter is text.
        Screen::Palette(_) => (vec![PageDown, PageUp], &[]),
        Screen::Panel(_) | Screen::Picker(_) => (vec![PageDown, PageUp, Top, Bottom], &[]),
    }
}

/// What can be done on the page of a rollout, as it stands.
fn of_rollout(model: &Model, page: &RolloutPage) -> Vec<Action> {
    use Action::{Abort, Extend, Kill, Logs, PageDown, PageUp, Pause, Roll, Rollback};
    let service = model.service(&page.service);
    let stops = service.is_some_and(|it| it.instances.iter().any(|it| it.countdown.is_some()));
    let mut all = match service.is_some_and(is_rolling) {
        true => vec![Abort, Pause],
        false => vec![Roll],
    };
    if service.is_some_and(|it| it.can_roll_back) {
        all.push(Rollback);
    }
    if stops {
        all.extend([Extend, Kill]);
    }
    if model.forbidden().is_some() {
        all.clear();
    }
    all.extend([Logs, PageDown, PageUp]);
    all
}
