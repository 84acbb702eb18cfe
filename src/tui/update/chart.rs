//! The chart of the detail screen: asked for when it opens, and again while it is open.

use std::time::Duration;

use super::Command;
use crate::api::History;
use crate::tui::model::{Chart, Link, Model, Now, Page, Panel, Screen};
use crate::tui::rows::RowId;

/// Between two questions: a point is two seconds.
const AGAIN: Duration = Duration::from_secs(2);

/// The question, if the chart of what is shown is not known or old.
pub(super) fn wanted(model: &mut Model, now: Now) -> Option<Command> {
    let Screen::Panel(Panel { page: Page::Detail(id), .. }) = &model.screen else {
        model.chart = None;
        return None;
    };
    let is_fronted = model.service(&id.service).is_some_and(|it| it.gateway.is_some());
    if !is_fronted || model.link != Link::Up {
        return None;
    }
    let known = model.chart.as_ref().filter(|it| it.of == *id);
    if known.is_some_and(|it| now.mono < it.asked + AGAIN) {
        return None;
    }
    let history = known.map(|it| it.history.clone()).unwrap_or_default();
    let of = id.clone();
    model.chart = Some(Chart { of: of.clone(), asked: now.mono, history });
    Some(Command::History { of })
}

/// Keeps the answer, if it is still wanted. Without one the last picture stays.
pub(super) fn on_history(model: &mut Model, of: RowId, history: Option<History>) {
    if let (Some(chart), Some(history)) = (&mut model.chart, history)
        && chart.of == of
    {
        chart.history = history;
    }
}
