//! Below the table: rolling restarts, what happened last, standing warnings.

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{clock, wrap};
use super::{put, put_line};
use crate::api::{Event, Rollout, Service};
use crate::tui::keymap::Action;
use crate::tui::layout::{self, Lines};
use crate::tui::model::{Model, Now};

/// A reason longer than this is told by the events.
const MOST_REASON: usize = 3;

pub(super) fn rollouts(model: &Model, now: Now, lines: Lines, buf: &mut Buffer) {
    let ys = lines.y..lines.y + lines.height;
    for (y, line) in ys.zip(rollout_lines(model, now, buf.area.width)) {
        put_line(buf, 0, y, &line);
    }
}

/// A line for each rolling restart, and below a halted one the reason.
pub(in crate::tui) fn rollout_lines(model: &Model, now: Now, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let mut lines = vec![];
    for service in layout::rollouts(model, now) {
        let Some(rollout) = &service.rollout else { continue };
        lines.push(rollout_line(model, service, rollout, width));
        if let Some(why) = &rollout.halted {
            let text = format!("{why}{}", ways_on(model, service.can_roll_back, true));
            let parts = wrap(&text, width.saturating_sub(6));
            let style = model.theme.bad();
            lines.extend(
                parts
                    .into_iter()
                    .take(MOST_REASON)
                    .map(|it| Line::styled(format!("    {it}"), style)),
            );
        }
    }
    lines
}

fn rollout_line(model: &Model, service: &Service, it: &Rollout, width: usize) -> Line<'static> {
    let theme = model.theme;
    let rule = theme.signs.rule;
    let what = if it.rollback { "roll back" } else { "rolling restart" };
    let title = format!(
        " {rule}{rule} {}: {what} by {}, {} of {} {rule}{rule} ",
        service.name, it.by, it.done, it.of
    );
    let style = if it.halted.is_some() { theme.bad() } else { theme.moving() };
    let progress = progress(model, it);
    let rest = width.saturating_sub(title.width() + progress.width() + 2);
    Line::from(vec![
        Span::styled(title, style),
        Span::raw(progress),
        Span::styled(format!(" {}", rule.repeat(rest)), theme.faint()),
    ])
}

/// `web2 ✓  web1 draining…`, or how it ended.
fn progress(model: &Model, it: &Rollout) -> String {
    let signs = model.theme.signs;
    if it.halted.is_some() {
        let at = it.instance.as_ref().map(|it| format!(" at {it}")).unwrap_or_default();
        return format!("HALTED{at}");
    }
    let mut parts: Vec<String> = match it.renewed.len() {
        // A long row of what went well would push out what goes on.
        n @ 5.. => vec![format!("{n} {}", signs.done)],
        _ => it.renewed.iter().map(|name| format!("{name} {}", signs.done)).collect(),
    };
    if it.ended.is_some() {
        parts.push(it.step.clone());
        return parts.join("  ");
    }
    let step = if it.paused { "paused" } else { it.step.as_str() };
    let aborting = if it.aborting { ", aborting" } else { "" };
    let name = it.instance.as_deref().unwrap_or_default();
    let gap = if name.is_empty() { "" } else { " " };
    parts.push(format!("{name}{gap}{step}{aborting}{}", signs.more));
    parts.join("  ")
}

/// The last events, newest last.
pub(super) fn events(model: &Model, lines: Lines, ruled: bool, buf: &mut Buffer) {
    let Lines { mut y, mut height } = lines;
    if ruled && height >= 4 && !model.events.is_empty() {
        let rule = model.theme.signs.rule;
        let rest = usize::from(buf.area.width.saturating_sub(12));
        let text = format!(" {rule}{rule} events {}", rule.repeat(rest));
        put(buf, 0, y, buf.area.width, &text, model.theme.faint());
        (y, height) = (y + 1, height - 1);
    }
    let skip = model.events.len().saturating_sub(usize::from(height));
    let shown = || model.events.iter().skip(skip);
    let who = shown().map(|it| who(it).width()).max().unwrap_or(0).clamp(5, 12);
    for (y, event) in (y..y + height).zip(shown()) {
        put_line(buf, 0, y, &line(model, event, who));
    }
}

/// One event: when, who, what.
fn line(model: &Model, event: &Event, width: usize) -> Line<'static> {
    let theme = model.theme;
    let style = if is_bad(event) { theme.bad() } else { theme.plain() };
    let mut who: String = who(event).chars().take(width).collect();
    who.push_str(&" ".repeat(width.saturating_sub(who.width())));
    Line::from(vec![
        Span::styled(format!(" {} ", clock(event.at, &model.tz)), theme.faint()),
        Span::styled(who, theme.name()),
        Span::styled(format!("  {}", what(event)), style),
    ])
}

/// The operator, or what it happened to.
fn who(event: &Event) -> &str {
    let actor = event.actor.as_ref().map(|it| it.login.as_str());
    actor.or(event.instance.as_deref()).or(event.service.as_deref()).unwrap_or("deck")
}

/// The message; where an operator did it, with the name of what it was done to. Where that name stands
/// before it, it does not begin with the name again.
fn what(event: &Event) -> String {
    let of = event.instance.as_deref().or(event.service.as_deref());
    let rest = of.and_then(|name| event.message.strip_prefix(name)?.strip_prefix(' '));
    if let Some(rest) = rest.filter(|_| event.actor.is_none()) {
        return rest.to_owned();
    }
    match of.filter(|name| event.actor.is_some() && !names(&event.message, name)) {
        Some(name) => format!("{name}: {}", event.message),
        None => event.message.clone(),
    }
}

/// Whether `name` stands in the text as a word of its own: `a` is no part of "wanted".
fn names(text: &str, name: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(joins) && !text[at + name.len()..].starts_with(joins))
}

pub(super) fn is_bad(event: &Event) -> bool {
    ["halted", "fatal", "lost", "killed", "failed"].iter().any(|it| event.kind.contains(it))
}

pub(super) fn warning(model: &Model, lines: Lines, buf: &mut Buffer) {
    if lines.height > 0
        && let Some(text) = layout::warning(model)
    {
        let style: Style = model.theme.bad();
        put(buf, 1, lines.y, buf.area.width - 1, &format!("! {text}"), style);
    }
}

/// What can be done about a halt, by the keys that do it: `; v shows why, r tries again; b rolls back`.
pub(super) fn ways_on(model: &Model, can_roll_back: bool, shows: bool) -> String {
    let hint = |action, does| model.keymap.hint(action, does);
    let show = hint(Action::Rollout, "shows why").filter(|_| shows);
    let again = [show, hint(Action::Roll, "tries again")];
    let again = again.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let back = hint(Action::Rollback, "rolls back").filter(|_| can_roll_back);
    let all = [Some(again).filter(|it| !it.is_empty()), back];
    all.into_iter().flatten().map(|it| format!("; {it}")).collect()
}

/// How a service stands, for the footer: whether its rolling restart goes on.
pub(super) fn is_rolling(service: &Service) -> bool {
    service.rollout.as_ref().is_some_and(Rollout::is_under_way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixtures::event;

    #[test]
    fn what_an_operator_did_names_what_it_was_done_to_once() {
        assert!(names("rolling restart of web", "web"));
        assert!(names("web1: out of rotation", "web1"));
        for (text, name) in [("wanted down", "a"), ("web10 is back", "web1"), ("web-api", "web")] {
            assert!(!names(text, name), "{name} in {text:?}");
        }
    }

    #[test]
    fn an_event_beside_its_name_does_not_begin_with_it() {
        let of = |message| event("10:42:11", None, Some("web1"), message);
        assert_eq!(what(&of("web10 is back")), "web10 is back");
    }
}
