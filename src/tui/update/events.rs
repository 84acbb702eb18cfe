//! Keys on the event page, and what the daemon still knows of the time before.

use std::cmp::Ordering;

use tui_input::Input;

use super::{Command, guard, keys};
use crate::api::{Event, Problem};
use crate::client::EventQuery;
use crate::tui::ansi;
use crate::tui::events::{Events, Older, PORTION, Words};
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Scope};
use crate::tui::model::{Link, Model, Now, Screen};
use crate::tui::rows::RowId;
use crate::tui::view::events::height;

pub(super) fn open(model: &mut Model) {
    let mut events = Events::new(model.rows.selected.clone());
    events.fill(&model.events);
    model.cover(Screen::Events(Box::new(events)));
}

/// The question for older events, if the start of what is there is near.
pub(super) fn wanted(model: &mut Model) -> Option<Command> {
    let height = height(model);
    let up = model.link == Link::Up;
    let Screen::Events(events) = &mut model.screen else { return None };
    if !up || !events.wants_older(height) {
        return None;
    }
    model.guard.last_id += 1;
    events.older = Older::Asked(model.guard.last_id);
    let filter = &events.words.filter;
    let query = EventQuery {
        lines: Some(PORTION),
        since: events.words.since.clone(),
        until: events.words.until.clone(),
        before: events.from,
        service: filter.service.clone(),
        actor: filter.actor.clone(),
        kind: filter.kind.clone(),
        text: filter.text.clone(),
        ..EventQuery::default()
    };
    Some(Command::Past { id: model.guard.last_id, query })
}

pub(super) fn on_past(model: &mut Model, id: u64, result: Result<Vec<Event>, Problem>) {
    let height = height(model);
    let Screen::Events(events) = &mut model.screen else { return };
    if events.older != Older::Asked(id) {
        return;
    }
    match result {
        Ok(mut past) => {
            past.iter_mut().for_each(ansi::clean_event);
            events.prepend(past);
        }
        Err(problem) => events.older = Older::Failed(guard::tell(&problem)),
    }
    events.settle(height);
}

/// Something happened; `model.events` has it already.
pub(super) fn on_event(model: &mut Model, event: &Event) {
    if let Screen::Events(events) = &mut model.screen {
        events.push(event);
    }
}

/// The deck got a new picture: what it missed is in it, or there is a gap.
pub(super) fn again(model: &mut Model) {
    let Screen::Events(events) = &mut model.screen else { return };
    let last = events.newest;
    let first = model.events.front().map_or(0, |it| it.seq);
    let newest = model.events.back().map_or(0, |it| it.seq);
    if first > last + 1 || newest < last {
        events.fill(&model.events);
    } else {
        model.events.iter().for_each(|it| events.push(it));
        // The answer went down with the connection.
        if matches!(events.older, Older::Asked(_) | Older::Failed(_)) {
            events.older = Older::Unknown;
        }
    }
}

pub(super) fn on_key(model: &mut Model, now: Now, key: Key) -> Vec<Command> {
    let height = height(model);
    let Screen::Events(events) = &mut model.screen else { return vec![] };
    if events.editing {
        edit(model, now, key);
        return vec![];
    }
    let on_table = model.keymap.action(Scope::Table, key);
    let page = height.saturating_sub(1).max(1);
    match model.keymap.action(Scope::Events, key) {
        _ if key.code == Code::Esc => leave(model, now),
        Some(Action::EventService) => by_service(model, now),
        Some(Action::EventActor) => by_actor(model, now),
        Some(Action::EventKind) => by_kind(model, now),
        Some(Action::EventFilter) => {
            events.whole = None;
            events.editing = true;
            // What is written next is a word of its own.
            let text = events.input.value();
            if !text.is_empty() && !text.ends_with(' ') {
                events.input = Input::new(format!("{text} "));
            }
        }
        Some(Action::Redraw) => return vec![Command::Redraw],
        Some(Action::Suspend) => return vec![Command::Suspend],
        Some(Action::Help) => super::panels::open(model, now, Action::Help),
        Some(action) => scroll(model, action, page),
        None => match on_table {
            Some(Action::Quit | Action::Events) => super::back(model),
            Some(Action::Detail) => {
                events.whole = match events.whole {
                    None if events.selected().is_some() => Some(0),
                    _ => None,
                };
            }
            Some(Action::Logs) => return log(model, now),
            _ => (),
        },
    }
    vec![]
}

/// Esc: first the event that is shown whole is closed, then the words go, then the page.
fn leave(model: &mut Model, now: Now) {
    let Screen::Events(events) = &mut model.screen else { return };
    if events.whole.take().is_some() {
        return;
    }
    if events.input.value().is_empty() {
        super::back(model);
    } else {
        events.input.reset();
        filter(model, now);
    }
}

fn edit(model: &mut Model, now: Now, key: Key) {
    let Screen::Events(events) = &mut model.screen else { return };
    match key.code {
        Code::Esc => {
            events.input.reset();
            events.editing = false;
            filter(model, now);
        }
        Code::Enter => {
            events.editing = false;
            filter(model, now);
        }
        _ => keys::edit(&mut events.input, key),
    }
}

/// Shows what the written words mean.
pub(super) fn filter(model: &mut Model, now: Now) {
    let Screen::Events(events) = &mut model.screen else { return };
    let words = Words::read(events.input.value(), now.wall, &model.tz);
    if words != events.words {
        events.words = words;
        events.whole = None;
        events.fill(&model.events);
    }
}

/// While one event is shown whole, up and down go to its neighbours.
fn scroll(model: &mut Model, action: Action, page: usize) {
    let Screen::Events(events) = &mut model.screen else { return };
    let back = match (action, &mut events.whole) {
        (Action::PageUp, Some(top)) => return *top = top.saturating_sub(page),
        (Action::PageDown, Some(top)) => return *top += page,
        (Action::Up, _) => events.back + 1,
        (Action::Down, _) => events.back.saturating_sub(1),
        (Action::PageUp, None) => events.back + page,
        (Action::PageDown, None) => events.back.saturating_sub(page),
        (Action::Top, _) => usize::MAX,
        (Action::Bottom, _) => 0,
        _ => return,
    };
    if let Some(top) = &mut events.whole {
        *top = 0;
    }
    events.move_to(back, page + 1);
}

/// Only the row that was selected on the table, or once the cursor was moved the instance under it; then
/// its service; then all again.
fn by_service(model: &mut Model, now: Now) {
    let Screen::Events(events) = &mut model.screen else { return };
    let (service, instance) = match (&events.row, events.selected()) {
        (Some(row), selected) if !events.moved || selected.is_none() => {
            (Some(row.service.clone()), row.instance.clone())
        }
        (_, Some(event)) => (event.service.clone(), event.instance.clone()),
        (_, None) => (None, None),
    };
    let names: Vec<String> = instance.into_iter().chain(service).collect();
    if names.is_empty() {
        return model.say(now, "this event is about no service");
    }
    let present = events.words.filter.service.as_ref();
    let at = present.and_then(|it| names.iter().position(|name| name == it));
    let mut next = names.iter().skip(at.map_or(0, |it| it + 1));
    let name = next.find(|it| Some(*it) != present).cloned();
    set(model, now, "service", name);
}

fn by_actor(model: &mut Model, now: Now) {
    let Screen::Events(events) = &mut model.screen else { return };
    let is_set = events.words.filter.actor.is_some();
    let actor = events.selected().and_then(|it| it.actor.as_ref()).map(|it| it.login.clone());
    match actor {
        _ if is_set => set(model, now, "actor", None),
        Some(actor) => set(model, now, "actor", Some(actor)),
        None => model.say(now, "nobody did this: opsdeck did it by itself"),
    }
}

fn by_kind(model: &mut Model, now: Now) {
    let Screen::Events(events) = &mut model.screen else { return };
    let is_set = events.words.filter.kind.is_some();
    let kind = events.selected().map(|it| it.kind.clone()).filter(|_| !is_set);
    set(model, now, "kind", kind);
}

/// The event under the cursor stays there, where the words still mean it.
fn set(model: &mut Model, now: Now, name: &str, value: Option<String>) {
    let height = height(model);
    let Screen::Events(events) = &mut model.screen else { return };
    let kept = events.selected().map(|it| it.seq).filter(|_| events.moved);
    events.set_word(name, value.as_deref());
    filter(model, now);
    let Screen::Events(events) = &mut model.screen else { return };
    let place = kept.and_then(|seq| {
        let newer = events.list.iter().rev().take_while(|it| it.seq.cmp(&seq) == Ordering::Greater);
        let back = newer.count();
        let found = events.list.len().checked_sub(back + 1).map(|it| events.list[it].seq);
        (found == Some(seq)).then_some(back)
    });
    if let Some(back) = place {
        events.move_to(back, height);
    }
}

/// The log of what the event is about, at that moment.
fn log(model: &mut Model, now: Now) -> Vec<Command> {
    let Screen::Events(events) = &model.screen else { return vec![] };
    let Some(event) = events.selected() else { return vec![] };
    let at = event.at;
    let service = event.service.clone().unwrap_or_default();
    let of = RowId { service, instance: event.instance.clone() };
    let names = super::logs::names_of(model, &of);
    if names.is_empty() {
        model.say(now, "this event is about no instance, so there is no log of it");
        return vec![];
    }
    super::logs::open_at(model, now, names, Some(at))
}
