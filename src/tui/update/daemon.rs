//! What the daemon says: pictures, changes, answers, silence.

use std::time::Duration;

use super::{Command, events, guard, keys, log_pages, panels, rollout};
use crate::api::{Change, Config, Done, Event, Problem, Service};
use crate::tui::keymap::Keymap;
use crate::tui::model::{Link, MOST_EVENTS, Model, Now, Screen};
use crate::tui::rows::Sort;
use crate::tui::{announce, ansi};

/// Between two notifications of the terminal.
const BETWEEN_NOTES: Duration = Duration::from_secs(1);

pub(super) fn on_change(model: &mut Model, now: Now, change: Change) -> Vec<Command> {
    let came_back = model.link != Link::Up;
    match change {
        Change::Snapshot { mut deck, events: recent } => {
            ansi::clean_deck(&mut deck);
            let config = std::mem::take(&mut deck.config);
            model.heard = deck.services.iter().map(|it| (it.name.clone(), now.mono)).collect();
            // The keys are compared with those that held so far.
            deck.config = std::mem::take(&mut model.deck.config);
            model.deck = *deck;
            let look = set_config(model, now, config);
            model.events.clear();
            add_events(model, recent);
            events::again(model);
            model.link = Link::Up;
            forget_marks(model);
            keys::rebuild(model);
            rollout::again(model);
            panels::forget_diff(model);
            let again = if came_back { log_pages::again(model) } else { vec![] };
            return look.into_iter().chain(again).collect();
        }
        Change::Change { revision, now: at, services, removed, events: news, config, notices } => {
            let note = note(model, now, &news);
            model.deck.revision = revision;
            model.deck.now = Some(at);
            rollout::heard(model, &news);
            let is_config = |it: &Event| it.kind.starts_with("config-");
            let asks_again = news.iter().any(is_config);
            let count = news.len();
            add_events(model, news);
            tell(model, count);
            let look = config.and_then(|mut config| {
                ansi::clean_config(&mut config);
                set_config(model, now, config)
            });
            if let Some(notices) = notices {
                model.deck.notices =
                    notices.iter().map(|it| ansi::clean(it).into_owned()).collect();
            }
            apply(model, now, services, &removed);
            if asks_again {
                panels::forget_diff(model);
            }
            return look.into_iter().chain(note).collect();
        }
        Change::Unknown => (),
    }
    vec![]
}

/// What the terminal is to tell its user; not twice within a moment.
fn note(model: &mut Model, now: Now, events: &[Event]) -> Option<Command> {
    if model.notified.is_some_and(|at| now.mono < at + BETWEEN_NOTES) {
        return None;
    }
    let text = announce::notification(model.deck.config.notify, &model.deck.deck, events)?;
    model.notified = Some(now.mono);
    Some(Command::Announce(text))
}

/// Replaces and removes services; makes the rows anew only where their order or number may differ.
fn apply(model: &mut Model, now: Now, services: Vec<Service>, removed: &[String]) {
    let mut reshaped = !removed.is_empty();
    model.deck.services.retain(|it| !removed.contains(&it.name));
    for mut service in services {
        ansi::clean_service(&mut service);
        model.heard.insert(service.name.clone(), now.mono);
        model.rows.present.add(&service);
        match model.deck.services.iter_mut().find(|it| it.name == service.name) {
            Some(known) => {
                reshaped |= !same_rows(known, &service);
                *known = service;
            }
            None => {
                reshaped = true;
                model.deck.services.push(service);
            }
        }
    }
    let by_value =
        !matches!(model.sort, Sort::File | Sort::Name) || !model.filter.text().is_empty();
    if reshaped {
        forget_marks(model);
    }
    if reshaped {
        keys::rebuild(model);
    } else if by_value {
        keys::rebuild_soon(model, now);
    }
}

fn same_rows(one: &Service, other: &Service) -> bool {
    one.instances.len() == other.instances.len()
        && one.instances.iter().zip(&other.instances).all(|(a, b)| a.name == b.name)
}

/// A mark on what is gone must not come back with a new instance of the name.
fn forget_marks(model: &mut Model) {
    let deck = &model.deck;
    model.marked.retain(|id| {
        let service = deck.services.iter().find(|it| it.name == id.service);
        service.is_some_and(|it| match &id.instance {
            Some(name) => it.instances.iter().any(|it| it.name == *name),
            None => true,
        })
    });
}

/// Takes a configuration over; returns what to do where it wants another look than before.
fn set_config(model: &mut Model, now: Now, config: Config) -> Option<Command> {
    if config.keys != model.deck.config.keys {
        let (keymap, mistakes) = Keymap::new(&config.keys);
        model.keymap = keymap;
        if let Some(mistake) = mistakes.first() {
            model.warn(now, ansi::clean(mistake).into_owned());
        }
    }
    let look = (config.look != model.deck.config.look).then(|| config.look.clone());
    model.deck.config = config;
    look.map(|it| Command::Look(*it))
}

fn add_events(model: &mut Model, events: Vec<Event>) {
    for mut event in events {
        ansi::clean_event(&mut event);
        model.events.push_back(event);
    }
    let excess = model.events.len().saturating_sub(MOST_EVENTS);
    model.events.drain(..excess);
}

/// The event page hears of the newest so many.
fn tell(model: &mut Model, count: usize) {
    let news: Vec<Event> = match model.screen {
        Screen::Events(_) => model.events.iter().rev().take(count).rev().cloned().collect(),
        _ => return,
    };
    news.iter().for_each(|it| events::on_event(model, it));
}

pub(super) fn on_lost(model: &mut Model, now: Now, problem: &Problem) -> Vec<Command> {
    let problem = guard::tell(problem);
    model.link = match &model.link {
        Link::Connecting { .. } => Link::Connecting { problem: Some(problem) },
        Link::Up => Link::Lost { since: now, problem },
        Link::Lost { since, .. } => Link::Lost { since: *since, problem },
    };
    // A question about a picture that stands still must not be answered.
    if model.guard.armed.take().is_some() {
        model.warn(now, "nothing was sent: the daemon is away");
    }
    vec![]
}

pub(super) fn on_reply(
    model: &mut Model,
    now: Now,
    id: u64,
    result: Result<Done, Problem>,
) -> Vec<Command> {
    if panels::is_diff(model, id) {
        panels::on_diff(model, now, result);
        return vec![];
    }
    guard::on_reply(model, now, id, result)
}
