//! The mouse, where it is wanted: a click selects, a second one opens the detail, the wheel moves.
//!
//! It never acts: what hurts takes a key.

use std::time::Duration;

use super::{Command, guard, keys, panels};
use crate::tui::key::{Code, Gesture, Key, Mouse};
use crate::tui::keymap::Action;
use crate::tui::layout::{is_too_small, layout};
use crate::tui::model::{Model, Now, Screen};
use crate::tui::presses::Presses;

/// Two clicks on one row within this are one gesture.
const DOUBLE: Duration = Duration::from_millis(400);
/// Lines of one notch of the wheel.
const NOTCH: usize = 3;

pub(super) fn on_mouse(model: &mut Model, now: Now, mouse: Mouse) -> Vec<Command> {
    if is_too_small(model.size) {
        return vec![];
    }
    // A hand on the mouse holds no key down.
    model.guard.presses = Presses::default();
    match mouse.gesture {
        Gesture::Press if model.guard.armed.is_some() => guard::cancel(model, now),
        Gesture::Press => return click(model, now, mouse),
        // A question is not about what scrolls under it.
        Gesture::WheelUp | Gesture::WheelDown if model.guard.armed.is_some() => (),
        Gesture::WheelUp => return wheel(model, now, Action::Up, Code::Up),
        Gesture::WheelDown => return wheel(model, now, Action::Down, Code::Down),
    }
    vec![]
}

/// Selects the row under the pointer; the same row again at once is the detail.
fn click(model: &mut Model, now: Now, mouse: Mouse) -> Vec<Command> {
    if !matches!(model.screen, Screen::Table) {
        return vec![];
    }
    let Some(index) = row_at(model, now, mouse.y) else { return vec![] };
    model.rows.move_to(&model.deck, index);
    model.guard.unseen_until = Duration::ZERO;
    let row = model.rows.selected.clone();
    let before = model.clicked.take();
    let is_double = before
        .is_some_and(|(at, id)| row.as_ref() == Some(&id) && now.mono.saturating_sub(at) <= DOUBLE);
    if is_double {
        panels::open(model, now, Action::Detail);
    } else {
        model.clicked = row.map(|it| (now.mono, it));
    }
    vec![]
}

/// The row that is drawn on line `y`; a countdown belongs to its row.
fn row_at(model: &Model, now: Now, y: u16) -> Option<usize> {
    let lines = layout(model, now).table;
    let mut left = usize::from(y.checked_sub(lines.y).filter(|it| *it < lines.height)?);
    let rows = model.rows.window(&model.deck, usize::from(lines.height));
    for (n, row) in rows.enumerate() {
        let height = row.height(&model.deck);
        if left < height {
            return Some(model.rows.top + n);
        }
        left -= height;
    }
    None
}

/// As the keys that move would, whatever they are here.
fn wheel(model: &mut Model, now: Now, action: Action, code: Code) -> Vec<Command> {
    let writing = match &model.screen {
        Screen::Palette(_) => true,
        Screen::Table => model.filter.editing,
        Screen::Logs(logs) => logs.prompt.is_some(),
        Screen::Events(events) => events.editing,
        _ => false,
    };
    let key = if writing { Some(Key::plain(code)) } else { model.keymap.key(action) };
    let Some(key) = key else { return vec![] };
    (0..NOTCH).flat_map(|_| keys::on_keys(model, now, vec![key], false)).collect()
}
