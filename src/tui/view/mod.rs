//! Draws a [`Model`] into a buffer. Reads everything, changes nothing, looks at no clock.

mod chart;
mod columns;
mod config;
mod countdown;
pub(super) mod detail;
pub(super) mod events;
pub(super) mod feed;
pub(super) mod footer;
mod format;
mod header;
mod help;
mod lists;
pub(super) mod logs;
mod overview;
pub(super) mod panel;
pub(super) mod rollout;
mod small;
mod text;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr;

use super::layout::{is_too_small, layout};
use super::model::{Link, Model, Now, Screen};

/// Draws the whole screen. `buf` is empty and as large as [`Model::size`].
pub fn draw(model: &Model, now: Now, buf: &mut Buffer) {
    if is_too_small(model.size) {
        small::draw(model, buf);
    } else {
        header::draw(model, now, buf);
        match &model.screen {
            Screen::Table => table(model, now, buf),
            Screen::Panel(it) => panel::draw(model, now, it, buf),
            Screen::Picker(it) => lists::picker(model, it, buf),
            Screen::Palette(it) => lists::palette(model, it, buf),
            Screen::Logs(it) => logs::draw(model, now, it, buf),
            Screen::Rollout(it) => rollout::draw(model, now, it, buf),
            Screen::Events(it) => events::draw(model, now, it, buf),
        }
        if matches!(model.link, Link::Lost { .. }) {
            let body = Rect { y: 1, height: buf.area.height.saturating_sub(1), ..buf.area };
            buf.set_style(body, Style::new().add_modifier(Modifier::DIM));
        }
        footer::draw(model, now, buf);
    }
    if model.theme.signs.ascii {
        only_ascii(buf);
    }
}

fn table(model: &Model, now: Now, buf: &mut Buffer) {
    let layout = layout(model, now);
    overview::draw(model, now, layout.table, buf);
    feed::rollouts(model, now, layout.rollouts, buf);
    feed::events(model, layout.feed, layout.rollouts.height == 0, buf);
    feed::warning(model, layout.warnings, buf);
}

/// Names and messages may hold anything; a terminal that only has ASCII shows what it can.
fn only_ascii(buf: &mut Buffer) {
    for cell in &mut buf.content {
        if !cell.symbol().is_ascii() {
            // The sign of what was cut off is told from what cannot be shown.
            cell.set_symbol(if cell.symbol() == "…" { "~" } else { "?" });
        }
    }
}

/// Writes `text`, cut to `width` columns with a sign that more was there; returns the column after.
fn put(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
    let end = x.saturating_add(width).min(buf.area.width);
    if y >= buf.area.height || x >= end {
        return x;
    }
    let room = usize::from(end - x);
    let is_long = text.width() > room;
    let (after, _) = buf.set_stringn(x, y, text, room - usize::from(is_long), style);
    if is_long { buf.set_stringn(after, y, "…", 1, style).0 } else { after }
}

/// Writes `text` so that it ends at column `x + width`.
fn put_right(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let its = u16::try_from(text.width()).unwrap_or(u16::MAX).min(width);
    put(buf, x + width - its, y, its, text, style);
}

/// Writes a line of spans from column `x` to the edge. What is cut off says so: half a pid is another pid.
fn put_line(buf: &mut Buffer, x: u16, y: u16, line: &Line<'_>) {
    if y >= buf.area.height || x >= buf.area.width {
        return;
    }
    let room = buf.area.width - x;
    let is_long = line.width() > usize::from(room);
    let (after, _) = buf.set_line(x, y, line, room - u16::from(is_long));
    if is_long {
        buf.set_stringn(after, y, "…", 1, line.style);
    }
}

#[cfg(test)]
mod tests;
