//! The rollout page: opening it, asking for what it shows, moving through it.

use std::time::Duration;

use super::{Command, RolloutAnswer, events, guard, logs, panels};
use crate::api::{Event, problem};
use crate::tui::key::{Code, Key};
use crate::tui::keymap::{Action, Scope};
use crate::tui::model::{Link, Model, Now, Screen};
use crate::tui::rollout::{RolloutPage, clean_plan, clean_record};
use crate::tui::view::rollout::{first_line, height, last_top};

/// Between two questions: a rollout says many things at once.
const AGAIN: Duration = Duration::from_millis(200);

/// Opens the page of this service, in front of what is shown now.
pub(super) fn open(model: &mut Model, service: String) {
    model.cover(Screen::Rollout(Box::new(RolloutPage::new(service))));
}

/// The same of the service under the cursor.
pub(super) fn open_selected(model: &mut Model, now: Now) {
    match model.rows.selected.clone() {
        Some(id) => open(model, id.service),
        None => model.warn(now, "nothing is selected"),
    }
}

/// Something happened: if it concerns what is shown, that is old.
pub(super) fn heard(model: &mut Model, events: &[Event]) {
    if let Screen::Rollout(page) = &mut model.screen {
        page.stale |= events.iter().any(|it| it.service.as_ref() == Some(&page.service));
    }
}

/// A new picture has come: nothing is known of what happened before it.
pub(super) fn again(model: &mut Model) {
    if let Screen::Rollout(page) = &mut model.screen {
        page.stale = true;
    }
}

/// The question, if what is shown is old. One at a time, and not too often.
pub(super) fn wanted(model: &mut Model, now: Now) -> Option<Command> {
    if model.link != Link::Up {
        return None;
    }
    let Screen::Rollout(page) = &mut model.screen else { return None };
    if !page.stale || page.asked.is_some_and(|at| now.mono < at + AGAIN) {
        return None;
    }
    page.stale = false;
    page.asked = Some(now.mono);
    Some(Command::Rollout { service: page.service.clone() })
}

/// When [`wanted`] has a question, if it is only too early for it.
pub(in crate::tui) fn wakeup(model: &Model) -> Option<Duration> {
    match &model.screen {
        Screen::Rollout(page) if page.stale && model.link == Link::Up => {
            page.asked.map(|it| it + AGAIN)
        }
        _ => None,
    }
}

pub(super) fn on_answer(model: &mut Model, answer: RolloutAnswer) {
    let Screen::Rollout(page) = &mut model.screen else { return };
    if page.service != answer.service {
        return;
    }
    match answer.record {
        Ok(mut record) => {
            clean_record(&mut record);
            page.record = Some(Some(record));
        }
        Err(problem) if problem.kind == problem::NOT_FOUND => page.record = Some(None),
        // The last picture stays, and it is asked again; the header says if the daemon is away.
        Err(_) => page.stale = true,
    }
    match answer.plan {
        Ok(mut plan) => {
            clean_plan(&mut plan);
            (page.plan, page.problem) = (Some(plan), None);
        }
        Err(problem) => page.problem = Some(guard::tell(&problem)),
    }
}

pub(super) fn on_key(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    let action = model.keymap.action(Scope::Table, key);
    let leaves = matches!(action, Some(Action::Quit | Action::Rollout)) || key.code == Code::Esc;
    match action {
        _ if leaves => super::back(model),
        Some(Action::Logs) => {
            let Screen::Rollout(page) = &model.screen else { return vec![] };
            let Some((name, at)) = page.log_place() else {
                model.warn(now, "there is no instance to read the log of");
                return vec![];
            };
            return logs::open_at(model, now, vec![name], at);
        }
        Some(action) if acts(action) => {
            if !guard::is_typed(model, now, key, together) {
                return vec![];
            }
            return guard::act(model, now, action, key);
        }
        Some(Action::Redraw) => return vec![Command::Redraw],
        Some(Action::Suspend) => return vec![Command::Suspend],
        Some(Action::Help) => panels::open(model, now, Action::Help),
        Some(Action::Events) => events::open(model),
        Some(action) => step(model, now, action),
        None => (),
    }
    vec![]
}

/// What can be done to a rollout and to the instance that it is at.
pub(in crate::tui) fn acts(action: Action) -> bool {
    matches!(
        action,
        Action::Roll
            | Action::Abort
            | Action::Pause
            | Action::Rollback
            | Action::Extend
            | Action::Kill
    )
}

/// Moves the cursor, or scrolls by pages through what is below it.
fn step(model: &mut Model, now: Now, action: Action) {
    let page_height = height(model);
    let Screen::Rollout(page) = &model.screen else { return };
    let rows = page.rows();
    let (at, last) = (page.cursor(&rows), rows.len().saturating_sub(1));
    let to = match action {
        Action::Up => Some(at.saturating_sub(1)),
        Action::Down => Some((at + 1).min(last)),
        Action::Top => Some(0),
        Action::Bottom => Some(last),
        _ => None,
    };
    let key = to.and_then(|it| rows.get(it)).map(|it| it.key.clone());
    let top = first_line(model, now, page);
    let scrolled = match action {
        Action::PageUp => Some(top.saturating_sub(page_height)),
        Action::PageDown => Some((top + page_height).min(last_top(model, now, page))),
        _ => None,
    };
    let Screen::Rollout(page) = &mut model.screen else { return };
    if key.is_some() {
        (page.selected, page.top) = (key, None);
    } else if scrolled.is_some() {
        page.top = scrolled;
    }
}
