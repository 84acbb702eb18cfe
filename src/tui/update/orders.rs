//! What an acting key asks of the daemon: for which rows, with which request, or why it makes no sense there.

use crate::api::{
    Act, Goal, Instance, InstanceVerb, Request, RolloutVerb, ServiceVerb, State, Target,
};
use crate::tui::keymap::Action;
use crate::tui::model::{Aim, Model, Screen};
use crate::tui::rollout::RolloutPage;
use crate::tui::rows::{Kind, Row};
use crate::tui::signals::KILL;

/// What is acted on: the marked rows in the order of the file, else the row under the cursor.
pub(super) fn aims(model: &Model, action: Action) -> Vec<Aim> {
    if let Screen::Rollout(page) = &model.screen {
        return aim_of_rollout(model, page, action).into_iter().collect();
    }
    let mut aims: Vec<Aim> = if model.marked.is_empty() {
        model.rows.row().and_then(|row| aim(model, row)).into_iter().collect()
    } else {
        model.deck.services.iter().enumerate().flat_map(|(n, _)| marked(model, n)).collect()
    };
    if is_of_service(action) {
        aims.iter_mut().for_each(|it| (it.instance, it.target) = (None, None));
        aims.dedup();
    }
    aims
}

/// On the page of a rollout: its service, or the instance under the cursor.
fn aim_of_rollout(model: &Model, page: &RolloutPage, action: Action) -> Option<Aim> {
    let service = page.service.clone();
    if is_of_service(action) {
        return Some(Aim { service, instance: None, target: None, member: None });
    }
    let (name, _) = page.log_place()?;
    let it = model.instance(&service, &name)?;
    let target = it.pid.zip(it.start_time).map(|(pid, start_time)| Target { pid, start_time });
    Some(Aim { service, instance: Some(name), target, member: None })
}

fn marked(model: &Model, at: usize) -> Vec<Aim> {
    let service = &model.deck.services[at];
    let single = crate::tui::rows::is_single(service);
    let whole = (!single).then_some(Row { service: at, instance: None, kind: Kind::Service });
    let parts = (0..service.instances.len()).map(|n| Row {
        service: at,
        instance: Some(n),
        kind: Kind::Instance,
    });
    let is_marked = |row: &Row| row.id(&model.deck).is_some_and(|it| model.marked.contains(&it));
    whole.into_iter().chain(parts).filter(is_marked).filter_map(|row| aim(model, row)).collect()
}

/// Freezes a row: from here on the process that it showed is meant, and no other.
fn aim(model: &Model, row: Row) -> Option<Aim> {
    let service = row.service(&model.deck)?.name.clone();
    let instance = row.instance(&model.deck);
    let target = instance.and_then(|it| Some(Target { pid: it.pid?, start_time: it.start_time? }));
    let instance = instance.map(|it| it.name.clone());
    Some(Aim { service, instance, target, member: None })
}

fn is_of_service(action: Action) -> bool {
    matches!(action, Action::Roll | Action::Abort | Action::Pause | Action::Rollback)
}

pub(super) fn label(action: Action) -> &'static str {
    match action {
        Action::Term => "SIGTERM",
        Action::Usr1 => "SIGUSR1",
        Action::Hup => "SIGHUP",
        Action::Kill => "SIGKILL",
        Action::Roll => "rolling restart",
        Action::Extend => "10 s more",
        action => crate::tui::keymap::entry(action).map_or("", |it| it.label),
    }
}

/// The request of one action for one row, or why it makes no sense there.
pub(super) fn request(model: &Model, action: Action, aim: &Aim) -> Result<Request, String> {
    if is_of_service(action) {
        return of_service(model, action, aim);
    }
    if action == Action::StopNow
        && let Some(why) = nothing_to_kill(model, aim)
    {
        return Err(why);
    }
    if aim.instance.is_none() {
        return on_service(action, aim);
    }
    let needs_process =
        matches!(action, Action::Term | Action::Usr1 | Action::Hup | Action::Kill | Action::Extend);
    if needs_process && aim.target.is_none() {
        return Err(format!(
            "{} has no process: there is nothing to send {} to",
            aim.name(),
            label(action)
        ));
    }
    if action == Action::Kill && !is_stopping(model, aim) {
        let stop = model.keymap.hint(Action::StopNow, "stops it at once");
        let stop = stop.map_or(String::new(), |it| format!("; {it}"));
        return Err(format!("{} is not being stopped, no countdown runs{stop}", aim.name()));
    }
    Ok(match action {
        Action::Term => instance(aim, InstanceVerb::Signal, signalled(aim, "SIGTERM")),
        Action::Usr1 => instance(aim, InstanceVerb::Signal, signalled(aim, "SIGUSR1")),
        Action::Hup => instance(aim, InstanceVerb::Signal, signalled(aim, "SIGHUP")),
        Action::Start => instance(aim, InstanceVerb::Start, Act::default()),
        Action::Stop => instance(aim, InstanceVerb::Stop, aim.act()),
        Action::StopNow => instance(aim, InstanceVerb::Stop, Act { now: true, ..aim.act() }),
        Action::Restart => instance(aim, InstanceVerb::Restart, aim.act()),
        Action::Drain => instance(aim, InstanceVerb::Drain, aim.act()),
        Action::Undrain => instance(aim, InstanceVerb::Undrain, aim.act()),
        Action::Extend => instance(aim, InstanceVerb::Extend, aim.act()),
        Action::Kill => instance(aim, InstanceVerb::Kill, aim.act()),
        other => return Err(format!("{} does nothing here", label(other))),
    })
}

/// Why there is nothing that `X` could end, and what there is to do instead. What is just being started has a
/// process soon.
fn nothing_to_kill(model: &Model, aim: &Aim) -> Option<String> {
    let all = &model.service(&aim.service)?.instances;
    let is_meant = |it: &&Instance| aim.instance.as_ref().is_none_or(|name| it.name == *name);
    let meant: Vec<&Instance> = all.iter().filter(is_meant).collect();
    if meant.iter().any(|it| it.pid.is_some() || it.state == State::Spawning) {
        return None;
    }
    let is_wanted = meant.iter().any(|it| it.goal == Goal::Up);
    let keep = is_wanted.then(|| model.keymap.hint(Action::Stop, "keeps it down")).flatten();
    let hints = [keep, model.keymap.hint(Action::Start, "starts it now")];
    let hints: Vec<String> = hints.into_iter().flatten().collect();
    let down = if is_wanted { "" } else { ", it is down already" };
    Some(format!("{} has no process{down}: {}", aim.name(), hints.join(", ")))
}

fn is_stopping(model: &Model, aim: &Aim) -> bool {
    let name = aim.instance.as_deref();
    let instance = name.and_then(|name| model.instance(&aim.service, name));
    instance.is_some_and(|it| it.countdown.is_some())
}

pub(super) fn instance(aim: &Aim, verb: InstanceVerb, act: Act) -> Request {
    Request::Instance { name: aim.name().to_owned(), verb, act }
}

pub(super) fn signalled(aim: &Aim, signal: &str) -> Act {
    Act { signal: Some(signal.into()), ..aim.act() }
}

/// On the row of a service: what goes to all of it, and a hint where that would be too much.
pub(super) fn on_service(action: Action, aim: &Aim) -> Result<Request, String> {
    let reload = |signal: &str| Act { signal: Some(signal.into()), ..Act::default() };
    let (verb, act) = match action {
        Action::Usr1 => (ServiceVerb::Reload, reload("SIGUSR1")),
        Action::Hup => (ServiceVerb::Reload, reload("SIGHUP")),
        Action::Start => (ServiceVerb::Start, Act::default()),
        Action::Stop => (ServiceVerb::Stop, Act::default()),
        Action::StopNow => (ServiceVerb::Stop, Act { now: true, ..Act::default() }),
        Action::Restart => (ServiceVerb::Restart, Act::default()),
        other => {
            let what = if other == Action::Pick { "a signal" } else { label(other) };
            return Err(format!("{what} goes to one instance: choose one below {}", aim.service));
        }
    };
    Ok(Request::Service { name: aim.service.clone(), verb, act })
}

fn of_service(model: &Model, action: Action, aim: &Aim) -> Result<Request, String> {
    let name = aim.service.clone();
    if action == Action::Roll {
        return Ok(Request::Service { name, verb: ServiceVerb::Roll, act: Act::default() });
    }
    let service = model.service(&name).ok_or_else(|| format!("{name} is gone"))?;
    let rollout = service.rollout.as_ref();
    let running = rollout.filter(|it| it.is_under_way());
    let verb = match action {
        Action::Rollback if !service.can_roll_back => {
            return Err(format!(
                "{name} cannot be rolled back: its `rollout.rollback` has no commands"
            ));
        }
        Action::Rollback => RolloutVerb::Rollback,
        _ if running.is_none() => return Err(format!("no rolling restart of {name} is under way")),
        Action::Abort => RolloutVerb::Abort,
        _ if rollout.is_some_and(|it| it.paused) => RolloutVerb::Resume,
        _ => RolloutVerb::Pause,
    };
    Ok(Request::Rollout { service: name, verb })
}

/// It loses something for certain.
pub(super) fn is_deadly(request: &Request) -> bool {
    match request {
        Request::Instance { verb: InstanceVerb::Kill, .. } => true,
        Request::Instance { act, .. } | Request::Service { act, .. } => {
            act.now || act.signal.as_deref() == Some(KILL)
        }
        Request::Rollout { .. }
        | Request::Config { .. }
        | Request::Shutdown { .. }
        | Request::Replace { .. } => false,
    }
}

pub(super) fn set_guard(request: &mut Request, guard: bool) {
    match request {
        Request::Service { act, .. } | Request::Instance { act, .. } => act.guard = guard,
        Request::Rollout { .. }
        | Request::Config { .. }
        | Request::Shutdown { .. }
        | Request::Replace { .. } => (),
    }
}
