//! The log page.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as Text, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{bytes, clock, date};
use super::{put, put_line, put_right};
use crate::tui::keymap::Action;
use crate::tui::layout::body;
use crate::tui::logs::{Line, Logs, TIME, pieces};
use crate::tui::model::{Model, Now, Screen};

/// Columns and lines that the text has.
pub(in crate::tui) fn room(model: &Model) -> (usize, usize) {
    let gutter = if let Screen::Logs(logs) = &model.screen { logs.gutter() } else { 0 };
    let (width, height) = (usize::from(model.size.0), usize::from(body(model).height));
    (width.saturating_sub(gutter).max(2), height.max(1))
}

pub(super) fn draw(model: &Model, now: Now, logs: &Logs, buf: &mut Buffer) {
    title(model, now, logs, buf);
    let (width, height) = room(model);
    let first = logs.first(width, height);
    let end = 2 + u16::try_from(height).unwrap_or(0);
    let mut y = 2;
    for (n, line) in logs.window.lines.iter().enumerate().skip(first) {
        if y >= end {
            break;
        }
        y = entry(model, logs, (n, line), (y, end), width, buf);
    }
    if let Some(why) = &logs.ended
        && y < end
    {
        put(buf, 1, y, buf.area.width - 1, why, model.theme.moving());
    } else if logs.window.lines.is_empty() && logs.asked.is_none() {
        let text = if logs.filter.is_some() { "no line matches" } else { "no output yet" };
        put(buf, 1, 2, buf.area.width - 1, text, model.theme.faint());
    }
}

fn title(model: &Model, now: Now, logs: &Logs, buf: &mut Buffer) {
    let state = state(model, now, logs);
    let its = u16::try_from(state.width()).unwrap_or(0);
    let width = buf.area.width;
    put_right(buf, width.saturating_sub(its + 1), 1, its, &state, model.theme.moving());
    let room = width.saturating_sub(its + 3);
    let filter = logs.filter.as_ref().map(|it| format!("  &{it}")).unwrap_or_default();
    let its = u16::try_from(filter.width()).unwrap_or(u16::MAX).min(room / 2);
    let text = format!("logs of {}", logs.window.names().join(", "));
    let x = put(buf, 1, 1, room.saturating_sub(its), &text, model.theme.strong());
    put(buf, x, 1, its, &filter, model.theme.moving());
}

/// Where one is, or what is waited for.
fn state(model: &Model, now: Now, logs: &Logs) -> String {
    if let Some(range) = logs.window.range {
        let copies = model.keymap.hint(Action::Copy, "copies").unwrap_or_default();
        return format!("{} marked, {copies}, Esc ends it", range.lines().count());
    }
    if let Some((searched, of)) = logs.asked.as_ref().and_then(|it| it.searched) {
        let end = if model.size.0 < 60 { "" } else { ", Esc ends it" };
        return format!("searched {} of {}{end}", bytes(searched), bytes(of));
    }
    if logs.asked.as_ref().is_some_and(|it| it.what.moves()) {
        return "reading".to_owned();
    }
    if logs.window.top.is_none() {
        return "following".to_owned();
    }
    let (width, height) = room(model);
    let top = logs.window.lines.get(logs.first(width, height)).and_then(|it| it.at);
    let day = |at| model.tz.to_datetime(at).date();
    match top {
        Some(at) if day(at) == day(now.wall) => format!("paused at {}", clock(at, &model.tz)),
        Some(at) => format!("paused at {}", date(at, &model.tz)),
        None => "paused".to_owned(),
    }
}

/// Draws one line, in pieces if it wraps; returns the screen line after it.
fn entry(
    model: &Model,
    logs: &Logs,
    (n, line): (usize, &Line),
    (mut y, end): (u16, u16),
    width: usize,
    buf: &mut Buffer,
) -> u16 {
    let gutter = u16::try_from(logs.gutter()).unwrap_or(0);
    let mut x = 0;
    if logs.times {
        let time = line.at.map(|it| clock(it, &model.tz)).unwrap_or_default();
        put(buf, x, y, u16::try_from(TIME).unwrap_or(0), &time, model.theme.faint());
        x += u16::try_from(TIME).unwrap_or(0);
    }
    if gutter > x {
        let name = logs.window.names().get(line.by).map_or("", String::as_str);
        put(buf, x, y, gutter - x - 2, name, model.theme.name());
    }
    let parts = if logs.wrap { pieces(&line.text, width) } else { vec![&*line.text] };
    let mut at = 0;
    let is_marked = logs.window.range.is_some_and(|it| it.lines().contains(&n));
    for part in parts {
        if y >= end {
            break;
        }
        let spans = colored(model, line, at, at + part.len());
        put_line(buf, gutter, y, &Text::from(spans));
        highlight(logs, part, gutter, y, logs.window.found == Some(n), buf);
        if is_marked {
            let line = Rect { x: 0, y, width: buf.area.width, height: 1 }.intersection(buf.area);
            buf.set_style(line, model.theme.selected());
        }
        at += part.len();
        y += 1;
    }
    y
}

/// The text between two bytes, each run in its colours as far as the theme has them.
fn colored<'a>(model: &Model, line: &'a Line, from: usize, to: usize) -> Vec<Span<'a>> {
    let mut spans = vec![];
    let mut style = Style::new();
    let mut at = from;
    for run in &line.runs {
        let begins = usize::from(run.at).clamp(at, to);
        spans.extend(line.text.get(at..begins).map(|it| Span::styled(it, style)));
        (at, style) = (begins, model.theme.of_log(run.style));
    }
    spans.extend(line.text.get(at..to).map(|it| Span::styled(it, style)));
    spans.retain(|it| !it.content.is_empty());
    spans
}

/// Matches are turned over; the line that was jumped to is underlined as well.
fn highlight(logs: &Logs, text: &str, x: u16, y: u16, current: bool, buf: &mut Buffer) {
    let needle = logs.needle().to_lowercase();
    let lower = text.to_lowercase();
    // Where lower case has other lengths, columns would be guessed.
    if needle.is_empty() || lower.len() != text.len() {
        return;
    }
    let modifier =
        if current { Modifier::REVERSED | Modifier::UNDERLINED } else { Modifier::REVERSED };
    for (at, _) in lower.match_indices(&needle) {
        let Some((before, hit)) = text.get(..at).zip(text.get(at..at + needle.len())) else {
            continue;
        };
        let from = usize::from(x) + before.width();
        let area = Rect {
            x: u16::try_from(from).unwrap_or(u16::MAX),
            y,
            width: u16::try_from(hit.width()).unwrap_or(0),
            height: 1,
        };
        buf.set_style(area.intersection(buf.area), Style::new().add_modifier(modifier));
    }
}
