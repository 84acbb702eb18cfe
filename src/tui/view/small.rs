//! A terminal too small for anything says so instead of showing half of it.

use ratatui::buffer::Buffer;

use super::put;
use crate::tui::layout::SMALLEST;
use crate::tui::model::Model;

pub(super) fn draw(model: &Model, buf: &mut Buffer) {
    let (width, height) = model.size;
    let lines = [
        "too small".to_owned(),
        format!("{width}x{height}, need {}x{}", SMALLEST.0, SMALLEST.1),
        "q leaves".to_owned(),
    ];
    for (y, line) in (0..).zip(lines) {
        put(buf, 0, y, width, &line, model.theme.plain());
    }
}
