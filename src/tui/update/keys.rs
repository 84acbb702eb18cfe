//! Keys on the main screen, and where keys go.
//!
//! A question takes every key first, then a text that is being written, then what is in front.

use std::time::Duration;

use tui_input::{Input, InputRequest};

use super::{Command, events, guard, logs, panels, rollout};
use crate::tui::ansi;
use crate::tui::filter::Query;
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Scope, entry};
use crate::tui::layout::{is_too_small, layout};
use crate::tui::model::{Model, Now, Screen};
use crate::tui::rows::{Kind, RowId};

/// From so many services on the order of the rows follows their figures with a pause in between.
const LARGE: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// A filter longer than this finds nothing anyway.
const LONGEST_TEXT: usize = 100;

/// Takes what one read brought. Keys that come together may move but not act: they were pasted, or
/// typed at a screen that nobody saw.
pub(super) fn on_keys(model: &mut Model, now: Now, keys: Vec<Key>, together: bool) -> Vec<Command> {
    keys.into_iter().flat_map(|key| on_key(model, now, key, together)).collect()
}

fn on_key(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    model.guard.keys += 1;
    model.guard.presses.came(key, now.mono);
    if key == Key::ctrl('c') {
        return vec![Command::Quit];
    }
    if is_too_small(model.size) {
        return blind(model, key);
    }
    if model.guard.armed.is_some() {
        return guard::answer(model, now, key, together);
    }
    if !together && !model.guard.presses.is_repeat() {
        model.notice = None;
    }
    match model.screen {
        Screen::Table if model.filter.editing => on_filter(model, now, key),
        Screen::Table => on_table(model, now, key, together),
        Screen::Panel(_) => panels::on_panel(model, now, key, together),
        Screen::Picker(_) => panels::on_picker(model, now, key, together),
        Screen::Palette(_) => panels::on_palette(model, now, key, together),
        Screen::Logs(_) => logs::on_key(model, now, key),
        Screen::Rollout(_) => rollout::on_key(model, now, key, together),
        Screen::Events(_) => events::on_key(model, now, key),
    }
}

/// On a screen too small for anything nothing is seen, so nothing is done but leaving.
fn blind(model: &mut Model, key: Key) -> Vec<Command> {
    model.guard.armed = None;
    match model.keymap.action(Scope::Table, key) {
        Some(Action::Quit) => vec![Command::Quit],
        Some(Action::Redraw) => vec![Command::Redraw],
        Some(Action::Suspend) => vec![Command::Suspend],
        _ => vec![],
    }
}

/// A paste may fill a text that is being written; it is never a command.
pub(super) fn on_paste(model: &mut Model, now: Now, text: &str) -> Vec<Command> {
    if model.guard.armed.take().is_some() {
        model.warn(now, "nothing was sent: a paste is no answer");
        return vec![];
    }
    let safe = ansi::clean(text).into_owned();
    let input = match &mut model.screen {
        Screen::Table if model.filter.editing => Some(&mut model.filter.input),
        Screen::Palette(palette) => Some(&mut palette.input),
        Screen::Logs(logs) => logs.prompt.as_mut().map(|it| &mut it.input),
        Screen::Events(events) if events.editing => Some(&mut events.input),
        _ => None,
    };
    let Some(input) = input else {
        model.warn(now, "a paste was ignored: keys that act must be typed");
        return vec![];
    };
    let room = LONGEST_TEXT.saturating_sub(input.value().chars().count());
    for c in safe.chars().take(room) {
        // What changed is drawn from the text itself.
        let _ = input.handle(InputRequest::InsertChar(c));
    }
    rebuild(model);
    vec![]
}

fn on_filter(model: &mut Model, now: Now, key: Key) -> Vec<Command> {
    match key.code {
        Code::Esc => {
            model.filter.input.reset();
            model.filter.editing = false;
        }
        Code::Enter => model.filter.editing = false,
        Code::Up => step(model, now, Action::Up),
        Code::Down => step(model, now, Action::Down),
        _ => edit(&mut model.filter.input, key),
    }
    rebuild(model);
    vec![]
}

/// Line editing, as in a shell.
pub(super) fn edit(input: &mut Input, key: Key) {
    let request = match (key.code, key.ctrl) {
        (Code::Char('u'), true) => InputRequest::DeleteLine,
        (Code::Char('w'), true) => InputRequest::DeletePrevWord,
        (Code::Char('a'), true) | (Code::Home, _) => InputRequest::GoToStart,
        (Code::Char('e'), true) | (Code::End, _) => InputRequest::GoToEnd,
        (Code::Char(c), false) if !key.alt => {
            let mut buffer = [0; 4];
            let unsafe_or_full = ansi::clean(c.encode_utf8(&mut buffer)).is_empty()
                || input.value().chars().count() >= LONGEST_TEXT;
            if unsafe_or_full {
                return;
            }
            InputRequest::InsertChar(c)
        }
        (Code::Backspace, _) => InputRequest::DeletePrevChar,
        (Code::Delete, _) => InputRequest::DeleteNextChar,
        (Code::Left, _) => InputRequest::GoToPrevChar,
        (Code::Right, _) => InputRequest::GoToNextChar,
        _ => return,
    };
    // What changed is drawn from the text itself.
    let _ = input.handle(request);
}

fn on_table(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    if key.code == Code::Esc {
        go_home(model);
        return vec![];
    }
    match model.keymap.action(Scope::Table, key) {
        Some(action) => run(model, now, action, key, together),
        None => vec![],
    }
}

/// Esc on the main screen: first the filter goes, then the marks.
fn go_home(model: &mut Model) {
    if model.filter.is_shown() {
        model.filter.input.reset();
        rebuild(model);
    } else {
        model.marked.clear();
    }
}

/// Does what `action` means on the main screen.
pub(super) fn run(
    model: &mut Model,
    now: Now,
    action: Action,
    key: Key,
    together: bool,
) -> Vec<Command> {
    if entry(action).is_some_and(|it| it.acts) {
        if !guard::is_typed(model, now, key, together) {
            return vec![];
        }
        return guard::act(model, now, action, key);
    }
    match action {
        Action::Quit => return vec![Command::Quit],
        Action::Redraw => return vec![Command::Redraw],
        Action::Suspend => return vec![Command::Suspend],
        Action::Logs => return logs::open(model, now),
        Action::Config => panels::open_config(model),
        Action::Rollout => rollout::open_selected(model, now),
        Action::Events => events::open(model),
        Action::Detail | Action::Help | Action::Palette => {
            panels::open(model, now, action);
        }
        Action::Filter => model.filter.editing = true,
        Action::Fold => fold(model),
        Action::Unfold => unfold(model),
        Action::Mark => mark(model, now),
        Action::MarkAll => mark_all(model, now),
        Action::Sort => {
            model.sort = model.sort.next(model.rows.present);
            rebuild(model);
            model.say(now, format!("sorted by {}", model.sort.word()));
        }
        action => step(model, now, action),
    }
    vec![]
}

/// Moves the cursor; it stops at the ends.
fn step(model: &mut Model, now: Now, action: Action) {
    let page = usize::from(layout(model, now).table.height).saturating_sub(1).max(1);
    let at = model.rows.cursor;
    let to = match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => at + 1,
        Action::Top => 0,
        Action::Bottom => usize::MAX,
        Action::PageUp => at.saturating_sub(page),
        Action::PageDown => at + page,
        _ => return,
    };
    model.rows.move_to(&model.deck, to);
    model.guard.unseen_until = Duration::ZERO;
}

/// On an instance, folding goes to its service, so that the cursor is still somewhere.
fn fold(model: &mut Model) {
    let mut above = model.rows.list.iter().take(model.rows.cursor + 1);
    let Some(at) = above.rposition(|it| it.kind != Kind::Instance) else { return };
    model.rows.move_to(&model.deck, at);
    let Some(row) = model.rows.row().filter(|it| it.kind == Kind::Service) else { return };
    if let Some(service) = row.service(&model.deck) {
        model.folded.insert(service.name.clone());
        rebuild(model);
    }
}

fn unfold(model: &mut Model) {
    if let Some(id) = &model.rows.selected {
        model.folded.remove(&id.service);
        rebuild(model);
    }
}

/// Marks or unmarks the row and goes on to the next.
fn mark(model: &mut Model, now: Now) {
    let Some(id) = model.rows.selected.clone() else { return };
    if !model.marked.remove(&id) {
        model.marked.insert(id);
    }
    step(model, now, Action::Down);
}

/// Marks everything that is shown, or nothing of it where all of it is marked already.
fn mark_all(model: &mut Model, now: Now) {
    if let Some(mistake) = model.filter.query.mistake() {
        let why = format!("nothing was marked: the filter is not understood: {mistake}");
        return model.warn(now, why);
    }
    // A service with its instances below it would be acted on twice.
    let rows = model.rows.list.iter().filter(|it| it.kind != Kind::Service);
    let shown: Vec<RowId> = rows.filter_map(|it| it.id(&model.deck)).collect();
    if shown.iter().all(|it| model.marked.contains(it)) {
        shown.iter().for_each(|it| _ = model.marked.remove(it));
    } else {
        model.marked.extend(shown);
    }
}

/// Makes the index of rows anew for figures that changed. In a large fleet some change all the time, and putting
/// thousands of rows in order for each of them would cost a core; and rows that jump ten times a second are enough.
pub(super) fn rebuild_soon(model: &mut Model, now: Now) {
    let next = model.rows.made + PAUSE;
    if model.deck.services.len() < LARGE || next <= now.mono {
        rebuild(model);
        model.rows.made = now.mono;
    } else {
        model.rows.due = Some(next);
    }
}

/// Makes the index of rows anew.
pub(super) fn rebuild(model: &mut Model) {
    model.filter.query = Query::parse(model.filter.input.value());
    model.rows.rebuild(&model.deck, &model.folded, model.sort, &model.filter.query);
}
