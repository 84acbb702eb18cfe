//! The processes on the detail page: one of them is chosen, and signals go to that.

use super::{Command, guard};
use crate::api::{ProcessDetail, Target};
use crate::tui::key::Key;
use crate::tui::keymap::{Action, Scope};
use crate::tui::model::{Aim, Model, Now, Screen};
use crate::tui::rows::RowId;
use crate::tui::view::detail;

/// Does what a key means to the processes of an instance; `None`: nothing.
pub(super) fn on_key(
    model: &mut Model,
    now: Now,
    id: &RowId,
    key: Key,
    together: bool,
) -> Option<Vec<Command>> {
    let name = id.instance.as_ref()?;
    match model.keymap.action(Scope::Detail, key) {
        Some(Action::NextProcess) => choose(model, now, id, true),
        Some(Action::PreviousProcess) => choose(model, now, id, false),
        _ => {
            let action = model.keymap.action(Scope::Table, key)?;
            let signals = [Action::Term, Action::Usr1, Action::Hup, Action::Pick];
            return signals
                .contains(&action)
                .then(|| act(model, now, id, name, action, key, together));
        }
    }
    Some(vec![])
}

fn act(
    model: &mut Model,
    now: Now,
    id: &RowId,
    name: &str,
    action: Action,
    key: Key,
    together: bool,
) -> Vec<Command> {
    if let Some(why) = model.forbidden() {
        model.warn(now, why);
        return vec![];
    }
    if !guard::is_typed(model, now, key, together) {
        return vec![];
    }
    match aim(model, id, name) {
        Ok(aim) => guard::act_on(model, now, action, key, aim),
        Err(why) => {
            let choose = model.keymap.key(Action::NextProcess);
            let choose = choose.map_or(String::new(), |it| format!("; {it} chooses one"));
            model.warn(now, format!("{why}{choose}"));
            vec![]
        }
    }
}

/// The chosen process, as it was seen.
fn aim(model: &Model, id: &RowId, name: &str) -> Result<Aim, &'static str> {
    let closeup = model.closeup.as_ref().filter(|it| it.of == name);
    let chosen = closeup.and_then(|it| it.chosen).ok_or("no process is chosen")?;
    let all = closeup.and_then(|it| it.detail.as_ref()).map(|it| it.processes.as_slice());
    let found = all.unwrap_or_default().iter().find(|it| identity(it) == chosen);
    let it = found.ok_or("the process that was chosen is gone")?;
    let leads = model.instance(&id.service, name).is_some_and(|it| it.pid == Some(chosen.0));
    let role = it.role.as_deref().unwrap_or("process");
    Ok(Aim {
        service: id.service.clone(),
        instance: id.instance.clone(),
        target: Some(Target { pid: it.pid, start_time: it.start_time }),
        member: (!leads).then(|| format!("{role}, pid {}", it.pid)),
    })
}

fn identity(it: &ProcessDetail) -> (i32, u64) {
    (it.pid, it.start_time)
}

/// Goes to the next process or the one before; the first key goes to the first one, or the last.
fn choose(model: &mut Model, now: Now, id: &RowId, forward: bool) {
    let Some(closeup) = model.closeup.as_mut().filter(|it| Some(&it.of) == id.instance.as_ref())
    else {
        return;
    };
    let all = closeup.detail.as_ref().map(|it| it.processes.as_slice()).unwrap_or_default();
    let Some(last) = all.len().checked_sub(1) else { return };
    let at = all.iter().position(|it| Some(identity(it)) == closeup.chosen);
    let to = match (at, forward) {
        (Some(at), true) => (at + 1).min(last),
        (Some(at), false) => at.saturating_sub(1),
        (None, true) => 0,
        (None, false) => last,
    };
    closeup.chosen = all.get(to).map(identity);
    show(model, now, id);
}

/// Scrolls until the chosen process is on the screen.
fn show(model: &mut Model, now: Now, id: &RowId) {
    let page = detail::page(model, now, id);
    let height = usize::from(model.size.1.saturating_sub(3)).max(1);
    let last = page.lines.len().saturating_sub(height);
    let (Some(line), Screen::Panel(panel)) = (page.chosen, &mut model.screen) else { return };
    let top = panel.top.min(last);
    panel.top = top.clamp((line + 1).saturating_sub(height), line);
}
