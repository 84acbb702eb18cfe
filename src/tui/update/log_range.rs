//! Marking lines of a log, to copy them: `v`, the keys that move, `y`.

use super::Command;
use super::log_pages::near;
use crate::quantity::count;
use crate::tui::key::{Code, Key};
use crate::tui::keymap::Action;
use crate::tui::logs::{Logs, Range};
use crate::tui::model::{Model, Now, Screen};
use crate::tui::view::logs::room;

/// Terminals take no longer sequences: xterm's limit is 100,000 bytes, and base64 makes four of three.
const MOST_BYTES: usize = 72_000;

/// Begins with the match that was jumped to, else with the last line while the end is followed, else with the top line.
pub(super) fn begin(model: &mut Model) {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return };
    let Some(last) = logs.window.lines.len().checked_sub(1) else { return };
    let top = logs.first(width, height);
    let at = match logs.window.found {
        Some(found) => found,
        None if logs.window.top.is_none() => last,
        None => top,
    };
    // What is marked stays where it is.
    logs.window.top = Some(top);
    logs.window.range = Some(Range { from: at, cursor: at });
}

/// What a key means while lines are marked; `None`: what it means on the page.
pub(super) fn on_key(
    model: &mut Model,
    now: Now,
    key: Key,
    action: Option<Action>,
) -> Option<Vec<Command>> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return None };
    let range = logs.window.range?;
    let last = logs.window.lines.len().saturating_sub(1);
    let page = height.saturating_sub(1).max(1);
    let to = match action {
        _ if key.code == Code::Esc => {
            logs.window.range = None;
            return Some(vec![]);
        }
        Some(Action::LogRange) => {
            logs.window.range = None;
            return Some(vec![]);
        }
        Some(Action::Copy) => return Some(copy(model, now)),
        Some(Action::Up) => range.cursor.saturating_sub(1),
        Some(Action::Down) => range.cursor + 1,
        Some(Action::PageUp) => range.cursor.saturating_sub(page),
        Some(Action::PageDown) => range.cursor + page,
        Some(Action::Top) => 0,
        Some(Action::Bottom) => last,
        _ => return None,
    };
    let to = to.min(last);
    logs.window.range = Some(Range { cursor: to, ..range });
    uncover(logs, to, width, height);
    Some(near(model, to >= range.cursor))
}

/// Scrolls just so far that the line is on the screen.
fn uncover(logs: &mut Logs, line: usize, width: usize, height: usize) {
    let mut top = logs.first(width, height).min(line);
    let rows = |from: usize| (from..=line).map(|it| logs.rows_of(it, width)).sum::<usize>();
    while top < line && rows(top) > height {
        top += 1;
    }
    logs.window.top = Some(top);
}

/// Copies the marked lines, with their names where several logs are shown.
fn copy(model: &mut Model, now: Now) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let Some(range) = logs.window.range.take() else { return vec![] };
    let names = logs.window.names();
    let mut text = String::new();
    for line in range.lines().filter_map(|it| logs.window.lines.get(it)) {
        let name = names.get(line.by).filter(|_| names.len() > 1);
        if let Some(name) = name {
            text.push_str(name);
            text.push_str("  ");
        }
        text.push_str(&line.text);
        text.push('\n');
    }
    let lines = count(range.lines().count() as u64, "line");
    if text.len() > MOST_BYTES {
        let why = "terminals take no more than 72,000 bytes at once; `s` saves to a file";
        model.warn(now, format!("{lines} were not copied: {why}"));
        return vec![];
    }
    let text_of = "to the terminal's clipboard (where OSC 52 is allowed)";
    model.say(now, format!("copied {lines} {text_of}"));
    vec![Command::Copy(text)]
}
