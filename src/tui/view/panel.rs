//! Pages of text: help, events, the detail of one row, the configuration.

use ratatui::buffer::Buffer;
use ratatui::text::Line;

use super::{config, detail, help, put_line};
use crate::tui::layout::body;
use crate::tui::model::{Model, Now, Page, Panel};

/// Lines that a page has on the screen.
fn height(model: &Model) -> usize {
    usize::from(body(model).height)
}

/// The last scroll position that wastes no room.
pub(in crate::tui) fn last_top(model: &Model, now: Now, panel: &Panel) -> usize {
    lines(model, now, &panel.page).len().saturating_sub(height(model))
}

pub(super) fn draw(model: &Model, now: Now, panel: &Panel, buf: &mut Buffer) {
    let height = height(model);
    let top = panel.top.min(last_top(model, now, panel));
    let lines = lines(model, now, &panel.page);
    for (y, line) in (2..).zip(lines.into_iter().skip(top).take(height)) {
        put_line(buf, 0, y, &line);
    }
}

fn lines(model: &Model, now: Now, page: &Page) -> Vec<Line<'static>> {
    match page {
        Page::Help => help::lines(model),
        Page::Detail(id) => detail::page(model, now, id).lines,
        Page::Config(diff) => config::lines(model, diff.as_ref()),
    }
}
