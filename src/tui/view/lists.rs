//! Lists to choose from: the signals, and every action.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::{put, put_right};
use crate::api::SignalDetail;
use crate::tui::model::{Aim, Model, Palette, Picker};
use crate::tui::signals::{SIGNALS, Signal};
use crate::tui::update::choices;

/// The line of the list that is shown first.
fn first(cursor: usize, height: usize) -> usize {
    (cursor + 1).saturating_sub(height.max(1))
}

pub(super) fn picker(model: &Model, picker: &Picker, buf: &mut Buffer) {
    let names: Vec<String> = picker.aims.iter().map(Aim::words).collect();
    // The footer has the keys as well.
    let keys = if buf.area.width < 60 { "" } else { "   ⏎ sends, Esc does not, digits choose" };
    let title = format!("signal to {}{keys}", names.join(", "));
    let height = heading(model, &model.theme.signs.text(&title), buf);
    let service = picker.aims.first().and_then(|it| model.service(&it.service));
    let profile = service.map_or("here", |it| it.profile.as_str());
    // What is told is of the first of them: what it catches need not hold for the others.
    let is_one = picker.aims.len() == 1;
    let skip = first(picker.cursor, usize::from(height));
    for (y, (n, signal)) in (3..3 + height).zip(SIGNALS.iter().enumerate().skip(skip)) {
        let told = picker.told.iter().find(|it| it.signal == signal.name);
        let meaning = match told.and_then(|it| it.means.as_ref()) {
            Some(means) => format!("{profile}: {means}"),
            None => signal.meaning.to_owned(),
        };
        let x = if picker.told.is_empty() || !is_one { 18 } else { 29 };
        if is_one && let Some((word, style)) = told.and_then(|it| caught(model, signal, it)) {
            put(buf, 18, y, 10, word, style);
        }
        put_right(buf, 1, y, 4, &signal.number.to_string(), model.theme.faint());
        put(buf, 7, y, 10, signal.name, model.theme.name());
        put(buf, x, y, buf.area.width.saturating_sub(x), &meaning, model.theme.plain());
        select(model, buf, y, n == picker.cursor);
    }
}

/// What the target does with it, as far as it has a choice.
fn caught(model: &Model, signal: &Signal, told: &SignalDetail) -> Option<(&'static str, Style)> {
    match told.does.as_str() {
        _ if matches!(signal.name, "SIGKILL" | "SIGSTOP") => None,
        "caught" => Some(("caught", model.theme.good())),
        "ignored" => Some(("ignored", model.theme.faint())),
        "default" => Some(("not caught", model.theme.moving())),
        _ => None,
    }
}

pub(super) fn palette(model: &Model, palette: &Palette, buf: &mut Buffer) {
    let height = heading(model, ":", buf);
    let value = palette.input.value();
    put(buf, 2, 2, buf.area.width.saturating_sub(3), value, model.theme.strong());
    let at = Rect {
        x: 2 + u16::try_from(palette.input.visual_cursor()).unwrap_or(0),
        y: 2,
        width: 1,
        height: 1,
    };
    buf.set_style(at.intersection(buf.area), Style::new().add_modifier(Modifier::REVERSED));
    let all = choices(model, palette);
    let skip = first(palette.cursor, usize::from(height));
    for (y, (n, it)) in (3..3 + height).zip(all.iter().enumerate().skip(skip)) {
        let key = model.keymap.key(it.entry.action).map(|it| it.to_string()).unwrap_or_default();
        put_right(buf, 1, y, 6, &model.theme.signs.text(&key), model.theme.name());
        put(buf, 9, y, 11, it.entry.name, model.theme.strong());
        hits(buf, 9, y, 11, &it.name);
        put(buf, 21, y, buf.area.width.saturating_sub(21), it.entry.help, model.theme.plain());
        hits(buf, 21, y, buf.area.width.saturating_sub(22), &it.help);
        select(model, buf, y, n == palette.cursor);
    }
    if all.is_empty() {
        put(
            buf,
            2,
            3,
            buf.area.width - 2,
            "no action has these letters; Esc leads back",
            model.theme.faint(),
        );
    }
}

/// Underlines the characters that were typed; names and explanations have no wide ones.
fn hits(buf: &mut Buffer, x: u16, y: u16, width: u16, at: &[usize]) {
    for n in at.iter().filter_map(|it| u16::try_from(*it).ok()).filter(|it| *it < width) {
        let cell = Rect { x: x + n, y, width: 1, height: 1 }.intersection(buf.area);
        buf.set_style(cell, Style::new().add_modifier(Modifier::UNDERLINED));
    }
}

/// Draws the title and returns the height that is left for the list.
fn heading(model: &Model, title: &str, buf: &mut Buffer) -> u16 {
    put(buf, 1, 2, buf.area.width.saturating_sub(1), title, model.theme.strong());
    buf.area.height.saturating_sub(4)
}

fn select(model: &Model, buf: &mut Buffer, y: u16, selected: bool) {
    if selected {
        let line = Rect { x: 0, y, width: buf.area.width, height: 1 }.intersection(buf.area);
        buf.set_style(line, model.theme.selected());
    }
}
