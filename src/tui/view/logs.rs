//! The log view.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::{put, put_right};
use crate::tui::logs::{Line, Logs, pieces};
use crate::tui::model::{Model, Screen};

/// Columns and lines that the text has.
pub(in crate::tui) fn room(model: &Model) -> (usize, usize) {
    let gutter = if let Screen::Logs(logs) = &model.screen { logs.gutter() } else { 0 };
    let (width, height) = model.size;
    (usize::from(width).saturating_sub(gutter).max(2), usize::from(height.saturating_sub(3)).max(1))
}

pub(super) fn draw(model: &Model, logs: &Logs, buf: &mut Buffer) {
    title(model, logs, buf);
    let (width, height) = room(model);
    let first = logs.first(width, height);
    let end = 2 + u16::try_from(height).unwrap_or(0);
    let mut y = 2;
    for (n, line) in logs.lines.iter().enumerate().skip(first) {
        if y >= end {
            break;
        }
        y = entry(model, logs, (n, line), (y, end), width, buf);
    }
    if let Some(why) = &logs.ended
        && y < end
    {
        put(buf, 1, y, buf.area.width - 1, why, model.theme.moving());
    } else if logs.lines.is_empty() {
        put(buf, 1, 2, buf.area.width - 1, "no output yet", model.theme.faint());
    }
}

fn title(model: &Model, logs: &Logs, buf: &mut Buffer) {
    let state = match logs.top {
        None => "following".to_owned(),
        Some(_) => format!(
            "paused at {} of {}",
            logs.first(room(model).0, room(model).1) + 1,
            logs.lines.len()
        ),
    };
    let its = u16::try_from(state.width()).unwrap_or(0);
    let width = buf.area.width;
    put_right(buf, width.saturating_sub(its + 1), 1, its, &state, model.theme.moving());
    let text = format!("logs of {}", logs.names.join(", "));
    put(buf, 1, 1, width.saturating_sub(its + 3), &text, model.theme.strong());
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
    if gutter > 0 {
        let name = logs.names.get(line.by).map_or("", String::as_str);
        put(buf, 0, y, gutter - 2, name, model.theme.name());
    }
    let parts = if logs.wrap { pieces(&line.text, width) } else { vec![&*line.text] };
    for part in parts {
        if y >= end {
            break;
        }
        put(buf, gutter, y, buf.area.width - gutter, part, model.theme.plain());
        highlight(logs, part, gutter, y, logs.search.at == Some(n), buf);
        y += 1;
    }
    y
}

/// Matches are turned over; the line that was jumped to is underlined as well.
fn highlight(logs: &Logs, text: &str, x: u16, y: u16, current: bool, buf: &mut Buffer) {
    let needle = logs.search.input.value().to_lowercase();
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
