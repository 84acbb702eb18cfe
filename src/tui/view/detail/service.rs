//! The detail of a service: its instances in short, its rolling restart, the load of all, what happened lately.

use ratatui::text::{Line, Span};

use super::{head, load, more, probes};
use crate::api::{Event, Rollout, Service};
use crate::tui::keymap::Action;
use crate::tui::model::{Model, Now};
use crate::tui::rows::RowId;
use crate::tui::view::feed::is_bad;
use crate::tui::view::format::date;
use crate::tui::view::text::{LABEL, Text};

/// Of the events at most so many.
const LATELY: usize = 12;

pub(super) fn whole(model: &Model, now: Now, text: &mut Text, service: &Service, id: &RowId) {
    text.title(format!("{}  {}/{} ready", service.name, service.ready, service.wanted));
    let stale = if service.stale { ", runs an older configuration" } else { "" };
    text.field("profile", &format!("{}{stale}", service.profile));
    text.section(1, "Instances");
    for (n, instance) in service.instances.iter().enumerate() {
        if n > 0 {
            text.lines.push(Line::default());
        }
        head(model, now, text, service, instance);
        text.paragraph(3, &instance.why, model.theme.plain());
        probes(model, text, instance, None);
        text.field("last exit", &more::last_exit(model, instance));
    }
    text.section(2, "Rolling restart");
    rollout(model, text, service);
    text.section(3, "Load of all, the last ten minutes");
    load::service(model, text, service, id);
    text.section(4, "What happened lately");
    lately(model, text, service);
}

/// The one that runs, or the last.
fn rollout(model: &Model, text: &mut Text, service: &Service) {
    let theme = model.theme;
    let hint = |action, does| model.keymap.hint(action, does);
    let Some(it) = &service.rollout else {
        let hints =
            [hint(Action::Rollout, "shows the plan"), hint(Action::Roll, "on the table begins")];
        let hints: Vec<String> = hints.into_iter().flatten().collect();
        return text.paragraph(3, &format!("none so far; {}", hints.join(", ")), theme.faint());
    };
    let what = if it.rollback { "rollback" } else { "rolling restart" };
    let since = it.since.map(|at| format!(" since {}", date(at, &model.tz))).unwrap_or_default();
    text.paragraph(3, &format!("{what} by {}{since}", it.by), theme.plain());
    let style = if it.halted.is_some() { theme.bad() } else { theme.plain() };
    text.paragraph(3, &standing(model, it), style);
    if let Some(hint) = hint(Action::Rollout, "shows its steps") {
        text.paragraph(3, &hint, theme.faint());
    }
}

fn standing(model: &Model, it: &Rollout) -> String {
    let at = it.ended.map(|at| format!(" at {}", date(at, &model.tz))).unwrap_or_default();
    let of = it.instance.as_ref().filter(|_| it.is_under_way());
    let of = of.map(|name| format!(" {name}")).unwrap_or_default();
    let renewed =
        if it.renewed.is_empty() { String::new() } else { format!(": {}", it.renewed.join(", ")) };
    let paused = if it.paused { "paused, " } else { "" };
    let how = match &it.halted {
        Some(why) => format!("halted{at}: {why}; "),
        None => format!("{paused}{}{of}{at}, ", it.step),
    };
    format!("{how}{} of {} renewed{renewed}", it.done, it.of)
}

/// The newest events of the service and of its instances, as far as the deck has heard of them.
fn lately(model: &Model, text: &mut Text, service: &Service) {
    let is_of_it = |it: &&Event| {
        let instance = |name: &String| service.instances.iter().any(|it| it.name == *name);
        it.service.as_ref() == Some(&service.name) || it.instance.as_ref().is_some_and(instance)
    };
    let mut newest: Vec<&Event> = model.events.iter().rev().filter(is_of_it).take(LATELY).collect();
    newest.reverse();
    let theme = model.theme;
    if newest.is_empty() {
        return text.paragraph(3, "nothing that is still known here", theme.faint());
    }
    for it in newest {
        let who = it.actor.as_ref().map(|it| format!("{}: ", it.login)).unwrap_or_default();
        let of = it.instance.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
        let style = if is_bad(it) { theme.bad() } else { theme.plain() };
        let at = date(it.at, &model.tz);
        text.lines.push(Line::from(vec![
            Span::styled(format!(" {:<width$}", &at[5..], width = LABEL), theme.faint()),
            Span::styled(format!("{who}{of}"), theme.name()),
            Span::styled(it.message.clone(), style),
        ]));
    }
}
