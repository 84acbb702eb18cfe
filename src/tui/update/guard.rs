//! Keys that act: what they ask of the daemon, and when they ask the operator first.
//!
//! The daemon judges. Every request says `guard`, and where it would hurt the daemon answers with
//! the reason instead of acting; that arms the footer, and the same key again sends the same request
//! without `guard`. The target, pid and start time, is frozen when the key is pressed, so nothing
//! ever hits a row that moved under the cursor or a process that took another's pid.
//!
//! What always loses something (`X`, `!`, SIGKILL) is asked here, without a way to the daemon.

use std::collections::VecDeque;

use super::Command;
use super::orders::{aims, instance, is_deadly, label, on_service, request, set_guard, signalled};
use crate::api::{Confirm, Done, InstanceVerb, Problem, Request, RolloutVerb, Service, problem};
use crate::tui::ansi;
use crate::tui::key::Key;
use crate::tui::keymap::Action;
use crate::tui::model::{Aim, Armed, Batch, Model, Now, Page, Picker, READ, Screen};
use crate::tui::signals::PRESELECTED;

/// Does what an acting key means for the marked rows, or else for the row under the cursor.
pub(super) fn act(model: &mut Model, now: Now, action: Action, key: Key) -> Vec<Command> {
    if let Some(why) = model.forbidden() {
        model.warn(now, why);
        return vec![];
    }
    // A key that is held down acts once, or a second SIGTERM would go out before anybody has seen the first.
    if model.guard.presses.is_repeat() && action != Action::Extend {
        if !model.guard.presses.is_rapid() {
            model.say(
                now,
                format!("{key} once more was too soon, it may be held down: press it again"),
            );
        }
        return vec![];
    }
    let is_by_cursor = matches!(model.screen, Screen::Table) && model.marked.is_empty();
    if is_by_cursor && now.mono < model.guard.unseen_until {
        let why = "the row that was selected has just gone, and the cursor is on another one";
        model.warn(now, format!("{key} was ignored: {why}"));
        return vec![];
    }
    let aims = aims(model, action);
    if aims.is_empty() {
        model.warn(now, "nothing is selected");
        return vec![];
    }
    if action == Action::Pick {
        return pick(model, now, aims);
    }
    let requests: Result<VecDeque<Request>, String> =
        aims.iter().map(|aim| request(model, action, aim)).collect();
    match requests {
        Ok(queue) => begin(model, now, key, label(action), queue, &aims),
        Err(why) => {
            model.warn(now, why);
            vec![]
        }
    }
}

/// The same for one process of a tree.
pub(super) fn act_on(
    model: &mut Model,
    now: Now,
    action: Action,
    key: Key,
    aim: Aim,
) -> Vec<Command> {
    if action == Action::Pick {
        return pick(model, now, vec![aim]);
    }
    match request(model, action, &aim) {
        Ok(request) => begin(model, now, key, label(action), [request].into(), &[aim]),
        Err(why) => {
            model.warn(now, why);
            vec![]
        }
    }
}

/// Sends a chosen signal to the frozen targets of the picker.
pub(super) fn signal(
    model: &mut Model,
    now: Now,
    key: Key,
    name: &str,
    aims: &[Aim],
) -> Vec<Command> {
    let queue = aims.iter().map(|aim| instance(aim, InstanceVerb::Signal, signalled(aim, name)));
    begin(model, now, key, name, queue.collect(), aims)
}

fn pick(model: &mut Model, now: Now, aims: Vec<Aim>) -> Vec<Command> {
    let idle = aims.iter().find(|it| it.target.is_none());
    match idle {
        Some(it) if it.instance.is_none() => {
            let why = on_service(Action::Pick, it).err().unwrap_or_default();
            model.warn(now, why);
        }
        Some(it) => {
            let why = format!("{} has no process: there is nothing to signal", it.name());
            model.warn(now, why);
        }
        None => {
            let of = known(model, &aims).map(str::to_owned);
            let picker = Picker { cursor: PRESELECTED, aims, digits: String::new(), told: vec![] };
            model.cover(Screen::Picker(picker));
            return of.map(|of| Command::Detail { of }).into_iter().collect();
        }
    }
    vec![]
}

/// Whose signals are asked about: what is known of them is about its first process, and goes for others of
/// the same profile.
fn known<'a>(model: &Model, aims: &'a [Aim]) -> Option<&'a str> {
    let profile = |it: &Aim| model.service(&it.service).map(|it| it.profile.clone());
    let first = aims.first()?;
    let is_same = aims.iter().all(|it| it.member.is_none() && profile(it) == profile(first));
    is_same.then(|| first.name())
}

/// Sends the first request, or asks first where it always hurts or the operator wants to be asked.
fn begin(
    model: &mut Model,
    now: Now,
    key: Key,
    label: &str,
    queue: VecDeque<Request>,
    aims: &[Aim],
) -> Vec<Command> {
    model.guard.last_id += 1;
    let confirm = model.deck.config.confirm;
    let mut batch = Batch {
        id: model.guard.last_id,
        key,
        label: label.into(),
        of: queue.len(),
        queue,
        asked_at_key: model.guard.keys,
    };
    let deadly = batch.queue.iter().any(is_deadly);
    // An abort or a pause makes nothing worse; it is never asked.
    let harmless = batch
        .queue
        .iter()
        .all(|it| matches!(it, Request::Rollout { verb, .. } if *verb != RolloutVerb::Rollback));
    let undoes = batch.queue.iter().any(|it| undoes_what_is_well(model, it));
    if deadly || undoes || (confirm == Confirm::Always && !harmless) {
        let (mut question, told_all) = question(model, &batch.label, aims, deadly);
        if undoes {
            question.push_str(": its last rollout has not halted");
        }
        // What this deck does not know, the daemon still asks.
        batch.queue.iter_mut().for_each(|it| set_guard(it, !told_all));
        model.guard.armed = Some(Armed {
            batch,
            question,
            by_daemon: false,
            drawn: None,
            pressed: None,
            too_soon: false,
        });
        return vec![];
    }
    batch.queue.iter_mut().for_each(|it| set_guard(it, confirm != Confirm::Never));
    send(model, now, batch)
}

/// A rollback where nothing went wrong takes a release back that may be healthy.
fn undoes_what_is_well(model: &Model, request: &Request) -> bool {
    let Request::Rollout { service, verb: RolloutVerb::Rollback } = request else { return false };
    model.service(service).is_none_or(Service::is_well_rolled)
}

/// What is asked here, with what this deck knows, and whether that is all there is to say.
fn question(model: &Model, label: &str, aims: &[Aim], deadly: bool) -> (String, bool) {
    let names: Vec<String> = aims.iter().map(Aim::words).collect();
    let mut question = format!("{label} {}", names.join(", "));
    if deadly && label == super::orders::label(Action::StopNow) {
        let them = if aims.len() == 1 { "it" } else { "them" };
        let why = ["by SIGKILL and keep", them, "down: requests in flight are lost"];
        why.iter().for_each(|it| question.extend([" ", *it]));
    } else if deadly {
        question.push_str(" at once: requests in flight are lost");
    }
    let last = aims.iter().find_map(|aim| last_ready(model, aim));
    if let Some(last) = &last {
        question.push_str("; ");
        question.push_str(last);
    }
    (question, deadly || last.is_some() && aims.len() == 1)
}

fn last_ready(model: &Model, aim: &Aim) -> Option<String> {
    let ready = |name: &str| {
        let it = model.instance(&aim.service, name);
        it.is_some_and(|it| it.ready == Some(true))
    };
    // Another process takes the place of a worker, none that of the instance.
    let of = aim.instance.as_deref().filter(|_| aim.member.is_none());
    let name = of.filter(|name| ready(name))?;
    let service = model.service(&aim.service)?;
    let alone = service.instances.iter().filter(|it| it.ready == Some(true)).count() == 1;
    alone.then(|| format!("{name} is the last ready instance of {}", aim.service))
}

/// Whether a key that acts was typed. Keys that come together may not act, and that is said.
pub(super) fn is_typed(model: &mut Model, now: Now, key: Key, together: bool) -> bool {
    if together {
        let why = "it arrived together with other keys, so it was not typed";
        model.warn(now, format!("{key} was ignored: {why}"));
    }
    !together
}

/// A key while a question waits: the same again does it, once it is known not to be held down; any other cancels.
pub(super) fn answer(model: &mut Model, now: Now, key: Key, together: bool) -> Vec<Command> {
    let presses = &model.guard.presses;
    let (repeats, is_rapid) = (presses.is_repeat(), presses.is_rapid());
    let Some(armed) = &mut model.guard.armed else { return vec![] };
    if key != armed.batch.key || together {
        cancel(model, now);
        return vec![];
    }
    let is_read = armed.drawn.is_some_and(|at| now.mono >= at + READ);
    // What follows a second press takes it back: somebody leans on the key.
    // What loses something for certain does not happen by a key that is held for half a second either.
    let is_deadly = armed.batch.queue.iter().any(is_deadly);
    let counts = is_read && !is_rapid && !(repeats && is_deadly);
    armed.pressed = counts.then_some(now.mono);
    armed.too_soon = !counts && !is_rapid;
    vec![]
}

/// The second press was one, and not a key that is held down.
pub(super) fn confirmed(model: &mut Model, now: Now) -> Vec<Command> {
    let Some(Armed { mut batch, by_daemon, .. }) = model.guard.armed.take() else { return vec![] };
    if let Some(first) = batch.queue.front_mut() {
        // Its own question is answered; whether it may still ask was settled when this deck asked.
        if by_daemon {
            set_guard(first, false);
        }
        if let Request::Config { act, .. } = first {
            act.yes = true;
        }
    }
    batch.asked_at_key = model.guard.keys;
    send(model, now, batch)
}

/// Takes the question back.
pub(super) fn cancel(model: &mut Model, now: Now) {
    if let Some(armed) = model.guard.armed.take() {
        model.say(now, format!("{} was not sent", armed.batch.label));
    }
}

/// Puts the first request of a batch on its way.
pub(super) fn send(model: &mut Model, now: Now, batch: Batch) -> Vec<Command> {
    let Some(request) = batch.queue.front().cloned() else { return vec![] };
    if matches!(model.link, crate::tui::model::Link::Lost { .. }) {
        model.warn(now, format!("{} was not sent: the daemon is away", batch.label));
        return vec![];
    }
    let id = batch.id;
    model.guard.sent.push(batch);
    vec![Command::Send { id, request }]
}

/// The daemon answered a request of a batch.
pub(super) fn on_reply(
    model: &mut Model,
    now: Now,
    id: u64,
    result: Result<Done, Problem>,
) -> Vec<Command> {
    let Some(at) = model.guard.sent.iter().position(|it| it.id == id) else { return vec![] };
    let mut batch = model.guard.sent.swap_remove(at);
    match result {
        Ok(done) => {
            batch.queue.pop_front();
            if !batch.queue.is_empty() {
                return send(model, now, batch);
            }
            if matches!(&model.screen, Screen::Panel(it) if matches!(it.page, Page::Config(_))) {
                model.screen = Screen::Table;
            }
            let message = ansi::clean(&done.message).into_owned();
            if batch.of > 1 {
                model.marked.clear();
                model.say(
                    now,
                    format!("{}: {} of {} done; {message}", batch.label, batch.of, batch.of),
                );
            } else {
                let hint = rollout_hint(model, &batch);
                model.say(now, message + &hint);
            }
        }
        Err(problem) if problem.kind == problem::CONFIRM => confirm(model, now, batch, &problem),
        Err(problem) => {
            let done = batch.of - batch.queue.len();
            let part = if batch.of > 1 {
                format!(" ({done} of {} done)", batch.of)
            } else {
                String::new()
            };
            model.warn(now, tell(&problem) + &part);
        }
    }
    vec![]
}

/// Where to look at what was begun, unless that is in front.
fn rollout_hint(model: &Model, batch: &Batch) -> String {
    let is_seen = matches!(model.screen, Screen::Rollout(_));
    let [show, abort] = [Action::Rollout, Action::Abort].map(|it| model.keymap.key(it));
    match (show, abort) {
        (Some(show), Some(abort)) if batch.label == label(Action::Roll) && !is_seen => {
            format!("; {show} shows it, {abort} stops it")
        }
        _ => String::new(),
    }
}

/// The daemon wants to be told twice.
fn confirm(model: &mut Model, now: Now, batch: Batch, problem: &Problem) {
    let why = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let question = format!("{}: {}", batch.label, ansi::clean(why));
    // A key that came after the one that asked was an answer to something else; and there is only
    // one question at a time.
    if model.guard.keys != batch.asked_at_key || model.guard.armed.is_some() {
        model.warn(now, format!("{question}; it was not sent"));
        return;
    }
    model.guard.armed = Some(Armed {
        batch,
        question,
        by_daemon: true,
        drawn: None,
        pressed: None,
        too_soon: false,
    });
}

/// A problem in one line: what, why, what to do.
pub(super) fn tell(problem: &Problem) -> String {
    let mut text = problem.to_string();
    if let Some(help) = &problem.help {
        text.push_str("; ");
        text.push_str(help);
    }
    ansi::clean(&text.replace('\n', "; ")).into_owned()
}
