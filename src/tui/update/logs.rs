//! The log page: opening it, its keys.

use jiff::Timestamp;
use tui_input::Input;

use super::log_pages::{cancel, find_far, near, open_end, open_start, reopen};
use super::{Command, keys, log_pages, log_range};
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Scope};
use crate::tui::logs::moment::moment;
use crate::tui::logs::{Logs, Prompt, PromptKind, Way};
use crate::tui::model::{Model, Now, Screen};
use crate::tui::rows::RowId;
use crate::tui::view::logs::room;

/// Logs are interleaved of at most so many instances at once.
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
    let mut logs = Box::new(Logs::new(model.guard.last_id, names));
    // An event says when it happened; what led to it stands in the lines before.
    logs.times = at.is_some();
    model.cover(Screen::Logs(logs));
    match at {
        Some(at) => log_pages::open_moment(model, at),
        None => open_end(model),
    }
}

fn names(model: &Model) -> Vec<String> {
    let selected = model.rows.selected.iter();
    let ids: Vec<_> =
        if model.marked.is_empty() { selected.collect() } else { model.marked.iter().collect() };
    let mut names: Vec<String> = ids.into_iter().flat_map(|it| names_of(model, it)).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|it| seen.insert(it.clone()));
    names
}

/// The instance of a row, or all instances of its service.
pub(super) fn names_of(model: &Model, id: &RowId) -> Vec<String> {
    match &id.instance {
        Some(name) => vec![name.clone()],
        None => {
            let service = model.service(&id.service);
            service.into_iter().flat_map(|it| &it.instances).map(|it| it.name.clone()).collect()
        }
    }
}

pub(super) fn on_key(model: &mut Model, now: Now, key: Key) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    if logs.prompt.is_some() {
        return on_prompt(model, now, key);
    }
    let action = model.keymap.action(Scope::Logs, key);
    let is_quit = model.keymap.action(Scope::Table, key) == Some(Action::Quit);
    if logs.window.range.is_some()
        && let Some(commands) = log_range::on_key(model, now, key, action)
    {
        return commands;
    }
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let page = isize::try_from(height.saturating_sub(1)).unwrap_or(1).max(1);
    let by = match action {
        _ if key.code == Code::Esc && logs.is_searching() => return cancel(model, now),
        _ if key.code == Code::Esc || is_quit => return leave(model),
        Some(Action::Up) => -1,
        Some(Action::Down) => 1,
        Some(Action::PageUp) => -page,
        Some(Action::PageDown) => page,
        Some(Action::Top) if logs.window.is_first => {
            logs.window.top = Some(0);
            return vec![];
        }
        Some(Action::Top) => return open_start(model),
        Some(Action::Bottom | Action::Follow) if logs.streams && logs.window.is_last => {
            logs.window.top = None;
            return vec![];
        }
        Some(Action::Bottom | Action::Follow) => return open_end(model),
        Some(action) => return other(model, now, action),
        None => return vec![],
    };
    logs.scroll(by, width, height);
    near(model, by > 0)
}

fn other(model: &mut Model, now: Now, action: Action) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    match action {
        Action::Wrap => logs.wrap = !logs.wrap,
        Action::LogTimes => logs.times = !logs.times,
        Action::Search => logs.write(PromptKind::Search),
        Action::LogFilter => logs.write(PromptKind::Filter),
        Action::LogSince => logs.write(PromptKind::Since),
        Action::LogSave => logs.write(PromptKind::Save),
        Action::NextMatch => return jump(model, now, true),
        Action::PreviousMatch => return jump(model, now, false),
        Action::Copy => return copy(model, now),
        Action::LogRange => log_range::begin(model),
        Action::Redraw => return vec![Command::Redraw],
        Action::Suspend => return vec![Command::Suspend],
        _ => (),
    }
    vec![]
}

fn leave(model: &mut Model) -> Vec<Command> {
    super::back(model);
    vec![Command::Unfollow, Command::UnreadLog]
}

impl Logs {
    /// Begins to write a text, where the last one is the start.
    fn write(&mut self, kind: PromptKind) {
        let text = match kind {
            PromptKind::Search => self.search.clone(),
            PromptKind::Filter => self.filter.clone().unwrap_or_default(),
            PromptKind::Since => String::new(),
            PromptKind::Save => format!("{}.log", self.window.names().join("-")),
        };
        self.prompt = Some(Prompt { kind, input: Input::new(text) });
    }

    /// The daemon looks through the log, which may take a while.
    fn is_searching(&self) -> bool {
        self.asked.as_ref().is_some_and(|it| {
            it.query.find.is_some() || it.query.grep.is_some() || it.searched.is_some()
        })
    }
}

fn on_prompt(model: &mut Model, now: Now, key: Key) -> Vec<Command> {
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let Some(prompt) = &mut logs.prompt else { return vec![] };
    let text = prompt.input.value().to_owned();
    match (key.code, prompt.kind) {
        (Code::Esc, PromptKind::Search) => {
            logs.prompt = None;
            logs.search.clear();
        }
        (Code::Esc, _) => logs.prompt = None,
        (Code::Enter, PromptKind::Search) => return search(model, now, &text),
        (Code::Enter, kind) => return written(model, now, kind, text.trim()),
        _ => keys::edit(&mut prompt.input, key),
    }
    vec![]
}

/// Enter after a text. What makes no sense is told, and can be written on.
fn written(model: &mut Model, now: Now, kind: PromptKind, text: &str) -> Vec<Command> {
    let parsed = match kind {
        PromptKind::Filter => regex::Regex::new(text)
            .map(|_| None)
            .map_err(|_| format!("{text:?} is no regular expression; a \\ makes a sign plain")),
        PromptKind::Since => moment(text, now.wall, &model.tz).map(Some),
        PromptKind::Search | PromptKind::Save => Ok(None),
    };
    let at = match parsed {
        Ok(at) => at,
        Err(why) => {
            model.warn(now, why);
            return vec![];
        }
    };
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    logs.prompt = None;
    match (kind, at) {
        (PromptKind::Filter, _) => {
            logs.filter = (!text.is_empty()).then(|| text.to_owned());
            reopen(model)
        }
        (PromptKind::Since, Some(at)) => log_pages::open_moment(model, at),
        (PromptKind::Save, _) if !text.is_empty() => {
            let (names, grep) = (logs.window.names().to_vec(), logs.filter.clone());
            let path = text.to_owned();
            model.say(now, format!("saving to {path}"));
            vec![Command::SaveLog { path, names, grep }]
        }
        (PromptKind::Search | PromptKind::Since | PromptKind::Save, _) => vec![],
    }
}

/// Goes to the last match that is above the end of the screen, else to the first below: in memory at once, else
/// the daemon looks.
fn search(model: &mut Model, now: Now, text: &str) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    logs.prompt = None;
    logs.search = text.to_owned();
    logs.window.found = None;
    if text.is_empty() {
        return vec![];
    }
    let end = logs.first(width, height) + height;
    let found = logs.find(false, end);
    go(model, now, Way::Up, found)
}

fn jump(model: &mut Model, now: Now, forward: bool) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    if logs.search.is_empty() {
        model.say(now, "nothing to search for: / first");
        return vec![];
    }
    let top = logs.first(width, height);
    let from = match (logs.window.found, forward) {
        (Some(at), true) => at + 1,
        (Some(at), false) => at,
        (None, true) => top,
        (None, false) => top + height,
    };
    let found = logs.find(forward, from);
    go(model, now, if forward { Way::Down } else { Way::Up }, found)
}

/// Shows what was found in memory, or looks further.
fn go(model: &mut Model, now: Now, way: Way, found: Option<usize>) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &mut model.screen else { return vec![] };
    let at_end = if way.is_up() { logs.window.is_first } else { logs.window.is_last };
    match found {
        Some(at) => {
            logs.window.found = Some(at);
            logs.show(at, height / 2, width, height);
            tell_turned(model, now, way);
            vec![]
        }
        None if at_end => nothing(model, now, way),
        None => find_far(model, way),
    }
}

/// No line has the text on this side of the last match. A search that has found nothing yet turns around first.
pub(super) fn nothing(model: &mut Model, now: Now, way: Way) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &model.screen else { return vec![] };
    let text = &logs.search;
    let what = match (logs.window.found, way) {
        (None, Way::Up) => {
            let below = logs.find(true, logs.first(width, height) + height);
            return go(model, now, Way::Turned, below);
        }
        (_, Way::Turned) => format!("no line contains {text:?}"),
        (_, Way::Down) => format!("no more {text:?} below"),
        (Some(_), Way::Up) => format!("no more {text:?} above"),
    };
    model.say(now, what);
    vec![]
}

/// A search goes up; where it had to go down, that is said.
pub(super) fn tell_turned(model: &mut Model, now: Now, way: Way) {
    if let (Screen::Logs(logs), Way::Turned) = (&model.screen, way) {
        let text = format!("no {:?} above: this is the first below", logs.search);
        model.say(now, text);
    }
}

/// Copies the match that was jumped to, or else the top line.
fn copy(model: &mut Model, now: Now) -> Vec<Command> {
    let (width, height) = room(model);
    let Screen::Logs(logs) = &model.screen else { return vec![] };
    let at = logs.window.found.unwrap_or_else(|| logs.first(width, height));
    let Some(line) = logs.window.lines.get(at) else { return vec![] };
    let text = line.text.to_string();
    model.say(now, "copied one line to the terminal's clipboard (where OSC 52 is allowed)");
    vec![Command::Copy(text)]
}

pub(super) fn on_saved(model: &mut Model, now: Now, path: &str, result: Result<u64, String>) {
    match result {
        Ok(1) => model.say(now, format!("saved 1 line to {path}")),
        Ok(lines) => model.say(now, format!("saved {lines} lines to {path}")),
        Err(why) => model.warn(now, format!("not saved to {path}: {why}")),
    }
}
