//! The log view: opening, scrolling, searching, copying.

use jiff::Timestamp;

use super::{Command, guard, keys};
use crate::api::{LogLine, Problem};
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Scope};
use crate::tui::logs::Logs;
use crate::tui::model::{Model, Now, Screen};
use crate::tui::view::logs::room;

/// Streams are opened for at most so many instances at once.
const MOST_NAMES: usize = 16;

/// Opens the output of the marked rows, or else of the row under the cursor.
pub(super) fn open(model: &mut Model, now: Now) -> Vec<Command> {
    let names = names(model);
    open_at(model, now, names, None)
}

/// Opens the output of these instances at a moment, paused there; `None` follows the end. Esc leads
/// back to the page that is in front now.
pub(super) fn open_at(
    model: &mut Model,
    now: Now,
    mut names: Vec<String>,
    at: Option<Timestamp>,
) -> Vec<Command> {
    if names.is_empty() {
        model.warn(now, "nothing is selected");
        return vec![];
    }
    if names.len() > MOST_NAMES {
        model.warn(now, format!("showing the first {MOST_NAMES} of {} instances", names.len()));
        names.truncate(MOST_NAMES);
    }
    model.guard.last_id += 1;
    let session = model.guard.last_id;
    let mut logs = Box::new(Logs::new(session, names.clone()));
    logs.from = std::mem::replace(&mut model.screen, Screen::Table);
    logs.sought = at;
    model.screen = Screen::Logs(logs);
    vec![Command::Follow { session, names, at }]
}

fn names(model: &Model) -> Vec<String> {
    let selected = model.rows.selected.iter();
    let ids: Vec<_> =
        if model.marked.is_empty() { selected.collect() } else { model.marked.iter().collect() };
    let mut names: Vec<String> = vec![];
    for id in ids {
        match &id.instance {
            Some(name) => names.push(name.clone()),
            None => {
                let service = model.service(&id.service);
                names.extend(
                    service.into_iter().flat_map(|it| &it.instances).map(|it| it.name.clone()),
                );
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|it| seen.insert(it.clone()));
    names
}

/// The daemon is back: the streams broke with it, so they are opened anew.
pub(super) fn again(model: &mut Model) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    model.guard.last_id += 1;
    let session = model.guard.last_id;
    let names = std::mem::take(&mut logs.names);
    let wrap = logs.wrap;
    let from = std::mem::replace(&mut logs.from, Screen::Table);
    **logs = Logs::new(session, names.clone());
    (logs.wrap, logs.from) = (wrap, from);
    vec![Command::Follow { session, names, at: None }]
}

pub(super) fn on_line(model: &mut Model, session: u64, line: &LogLine) -> Vec<Command> {
    if let Screen::Logs(logs) = &mut model.screen
        && logs.session == session
    {
        logs.push(line);
    }
    vec![]
}

pub(super) fn on_end(
    model: &mut Model,
    session: u64,
    name: &str,
    problem: Option<&Problem>,
) -> Vec<Command> {
    if let Screen::Logs(logs) = &mut model.screen
        && logs.session == session
    {
        let why = problem.map_or_else(|| "the daemon ended the stream".to_owned(), guard::tell);
        logs.ended = Some(format!("{name}: {why}"));
    }
    vec![]
}

pub(super) fn on_key(model: &mut Model, now: Now, key: Key) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    if logs.search.editing {
        if let Some(missing) = search_key(logs, key, width, height) {
            model.say(now, format!("no line contains {missing:?}"));
        }
        return vec![];
    }
    let action = model.keymap.action(Scope::Logs, key);
    let leaves =
        key.code == Code::Esc || model.keymap.action(Scope::Table, key) == Some(Action::Quit);
    let page = isize::try_from(height.saturating_sub(1)).unwrap_or(1).max(1);
    match action {
        _ if leaves => {
            model.screen = std::mem::replace(&mut logs.from, Screen::Table);
            return vec![Command::Unfollow];
        }
        Some(Action::Up) => logs.scroll(-1, width, height),
        Some(Action::Down) => logs.scroll(1, width, height),
        Some(Action::PageUp) => logs.scroll(-page, width, height),
        Some(Action::PageDown) => logs.scroll(page, width, height),
        Some(Action::Top) => logs.top = Some(0),
        Some(Action::Bottom | Action::Follow) => logs.top = None,
        Some(Action::Wrap) => logs.wrap = !logs.wrap,
        Some(Action::Search) => logs.search.editing = true,
        Some(Action::NextMatch) => jump(model, now, true),
        Some(Action::PreviousMatch) => jump(model, now, false),
        Some(Action::Copy) => return copy(model, now, width, height),
        Some(Action::Redraw) => return vec![Command::Redraw],
        Some(Action::Suspend) => return vec![Command::Suspend],
        _ => (),
    }
    vec![]
}

/// Enter goes to the last match; a text that no line contains is returned.
fn search_key(logs: &mut Logs, key: Key, width: usize, height: usize) -> Option<String> {
    match key.code {
        Code::Esc => logs.search = crate::tui::logs::Search::default(),
        Code::Enter => {
            logs.search.editing = false;
            let end = logs.first(width, height) + height;
            logs.search.at = logs.find(false, end);
            logs.top = logs.search.at.map(|at| at.saturating_sub(height / 2)).or(logs.top);
            let text = logs.search.input.value();
            return (logs.search.at.is_none() && !text.is_empty()).then(|| text.to_owned());
        }
        _ => keys::edit(&mut logs.search.input, key),
    }
    None
}

fn jump(model: &mut Model, now: Now, forward: bool) {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return };
    let top = logs.first(width, height);
    let from = match (logs.search.at, forward) {
        (Some(at), true) => at + 1,
        (Some(at), false) => at,
        (None, true) => top,
        (None, false) => top + height,
    };
    match logs.find(forward, from) {
        Some(at) => {
            logs.search.at = Some(at);
            logs.top = Some(at.saturating_sub(height / 2));
        }
        None => {
            let text = logs.search.input.value().to_owned();
            let side = if forward { "below" } else { "above" };
            let what = if text.is_empty() {
                "nothing to search for: / first".into()
            } else {
                format!("no more {text:?} {side}")
            };
            model.say(now, what);
        }
    }
}

/// Copies the match that was jumped to, or else the top line.
fn copy(model: &mut Model, now: Now, width: usize, height: usize) -> Vec<Command> {
    let Screen::Logs(logs) = &model.screen else { return vec![] };
    let at = logs.search.at.unwrap_or_else(|| logs.first(width, height));
    let Some(line) = logs.lines.get(at) else { return vec![] };
    let text = line.text.to_string();
    model.say(now, "copied one line to the terminal's clipboard (where OSC 52 is allowed)");
    vec![Command::Copy(text)]
}
