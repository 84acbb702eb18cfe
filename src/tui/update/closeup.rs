//! The detail screen: what it shows is asked for when it opens, and again while it is open.

use std::time::Duration;

use super::{Command, panels};
use crate::api::{Detail, History, Problem};
use crate::tui::ansi;
use crate::tui::model::{Chart, Closeup, Link, Model, Now, Page, Panel, Screen};
use crate::tui::rows::RowId;

/// Between two questions: a point of a chart is two seconds.
const AGAIN: Duration = Duration::from_secs(2);
/// Processor time over less than this says nothing.
const LEAST: f64 = 0.5;

/// The questions, if what is shown is not known or old.
pub(super) fn wanted(model: &mut Model, now: Now) -> Vec<Command> {
    let Screen::Panel(Panel { page: Page::Detail(id), .. }) = &model.screen else {
        model.chart = None;
        model.closeup = None;
        return vec![];
    };
    if model.link != Link::Up {
        return vec![];
    }
    let id = id.clone();
    [chart(model, now, &id), closeup(model, now, &id)].into_iter().flatten().collect()
}

fn chart(model: &mut Model, now: Now, id: &RowId) -> Option<Command> {
    // A service has a history where something stands in front of it.
    let service = model.service(&id.service)?;
    if id.instance.is_none() && service.gateway.is_none() {
        return None;
    }
    let known = model.chart.as_ref().filter(|it| it.of == *id);
    if known.is_some_and(|it| now.mono < it.asked + AGAIN) {
        return None;
    }
    let history = known.map(|it| it.history.clone()).unwrap_or_default();
    model.chart = Some(Chart { of: id.clone(), asked: now.mono, history });
    Some(Command::History { of: id.clone() })
}

fn closeup(model: &mut Model, now: Now, id: &RowId) -> Option<Command> {
    let name = id.instance.as_ref()?;
    match &mut model.closeup {
        Some(it) if it.of == *name => {
            if now.mono < it.asked + AGAIN {
                return None;
            }
            it.asked = now.mono;
        }
        other => *other = Some(Closeup::new(name.clone(), now.mono)),
    }
    Some(Command::Detail { of: name.clone() })
}

/// Keeps the answer, if it is still wanted. Without one the last picture stays.
pub(super) fn on_history(model: &mut Model, of: RowId, history: Option<History>) {
    if let (Some(chart), Some(history)) = (&mut model.chart, history)
        && chart.of == of
    {
        chart.history = history;
    }
}

/// Keeps the answer, if it is still wanted, and how busy each process was since the one before.
pub(super) fn on_detail(model: &mut Model, of: &str, mut result: Result<Box<Detail>, Problem>) {
    if let Ok(detail) = &mut result {
        ansi::clean_detail(detail);
        panels::on_signals(model, of, &detail.signals);
    }
    let Some(closeup) = model.closeup.as_mut().filter(|it| it.of == of) else { return };
    match result {
        Ok(detail) => {
            closeup.problem = None;
            closeup.take(detail);
        }
        Err(problem) => closeup.problem = Some(ansi::clean(&problem.to_string()).into_owned()),
    }
}

impl Closeup {
    fn new(of: String, asked: Duration) -> Self {
        let (detail, problem, chosen) = Default::default();
        Self { of, asked, detail, cpu: std::collections::BTreeMap::new(), problem, chosen }
    }

    fn take(&mut self, detail: Box<Detail>) {
        if let Some(before) = self.detail.replace(detail)
            && let Some(detail) = &self.detail
            && let Some((from, to)) = before.now.zip(detail.now)
        {
            let seconds = to.duration_since(from).as_secs_f64();
            if seconds < LEAST {
                return;
            }
            self.cpu.clear();
            for it in &detail.processes {
                let same = |old: &&crate::api::ProcessDetail| {
                    (old.pid, old.start_time) == (it.pid, it.start_time)
                };
                // One that was not there spent all it has since then.
                let old = before.processes.iter().find(same).map_or(0, |it| it.cpu_ms);
                let spent = u32::try_from(it.cpu_ms.saturating_sub(old)).unwrap_or(u32::MAX);
                let percent = f64::from(spent) / 10.0 / seconds;
                self.cpu.insert((it.pid, it.start_time), percent);
            }
        }
    }
}
