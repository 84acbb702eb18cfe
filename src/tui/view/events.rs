//! The event page: what happened, when, to whom and by whom, and one event whole.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{clock, date, wrap};
use super::text::Text;
use super::{feed, put, put_line, put_right};
use crate::api::Event;
use crate::tui::events::{Events, Older};
use crate::tui::layout::body;
use crate::tui::model::{Model, Now};

/// From this width on who and what have their own columns.
const ROOMY: u16 = 64;
/// Columns of who, and of what.
const WHO: usize = 10;
const WHAT: usize = 14;

/// Lines for events.
pub(in crate::tui) fn height(model: &Model) -> usize {
    usize::from(body(model).height)
}

pub(super) fn draw(model: &Model, now: Now, events: &Events, buf: &mut Buffer) {
    heading(model, events, buf);
    if let Some(top) = events.whole
        && let Some(event) = events.selected()
    {
        let lines = whole(model, event);
        let top = top.min(lines.len().saturating_sub(height(model)));
        for (y, line) in (2..).zip(lines.iter().skip(top).take(height(model))) {
            put_line(buf, 0, y, line);
        }
        return;
    }
    let (window, at) = events.window(height(model));
    let window: Vec<&Event> = window.collect();
    if window.is_empty() {
        let is_asked = matches!(events.older, Older::Unknown | Older::Asked(_));
        let text = match events.older {
            Older::Unknown | Older::Asked(_) => "asking the daemon",
            Older::None if events.input.value().is_empty() => "nothing has happened yet",
            Older::None => "no event has these words",
            Older::Failed(_) => "",
        };
        let more = if is_asked { model.theme.signs.more } else { "" };
        put(buf, 1, 2, buf.area.width, &format!("{text}{more}"), model.theme.faint());
    }
    let today = date(now.wall, &model.tz);
    let is_old = |it: &&Event| date(it.at, &model.tz)[..10] != today[..10];
    let dated = window.iter().any(is_old);
    for (n, (y, event)) in (2..).zip(window).enumerate() {
        put_line(buf, 0, y, &line(model, event, dated, buf.area.width));
        if at == Some(n) {
            let row = Rect { x: 0, y, width: buf.area.width, height: 1 }.intersection(buf.area);
            buf.set_style(row, model.theme.selected());
        }
    }
}

fn heading(model: &Model, events: &Events, buf: &mut Buffer) {
    let words = events.input.value();
    let title = if words.is_empty() { "events".to_owned() } else { format!("events: {words}") };
    let right = match &events.older {
        Older::Asked(_) => format!("asking for older ones{}", model.theme.signs.more),
        Older::Failed(why) => why.clone(),
        Older::None => format!("all {}", events.list.len()),
        Older::Unknown if events.back > 0 => format!("{} newer", events.back),
        Older::Unknown => "newest".to_owned(),
    };
    let width = buf.area.width;
    let room = width.saturating_sub(u16::try_from(right.width()).unwrap_or(width) + 4);
    put(buf, 1, 1, room, &title, model.theme.strong());
    put_right(buf, 1, 1, width - 2, &right, model.theme.faint());
}

/// `11-20 10:42:17  alice       redis           restarted`
fn line(model: &Model, event: &Event, dated: bool, width: u16) -> Line<'static> {
    let theme = model.theme;
    let at = date(event.at, &model.tz);
    // The year is in the whole event.
    let at = if dated { at[5..].to_owned() } else { clock(event.at, &model.tz) };
    let style = if feed::is_bad(event) { theme.bad() } else { theme.plain() };
    let mut spans = vec![Span::styled(format!(" {at}  "), theme.faint())];
    let actor = event.actor.as_ref().map(|it| it.login.as_str());
    let of = event.instance.as_deref().or(event.service.as_deref());
    if width < ROOMY {
        let by = actor.map(|it| format!("{it}: ")).unwrap_or_default();
        let of = of.map(|it| format!("{it} ")).unwrap_or_default();
        spans.push(Span::styled(format!("{by}{of}"), theme.name()));
    } else {
        let who = actor.unwrap_or_default();
        let of = of.unwrap_or("deck");
        spans.push(Span::styled(padded(who, WHO), theme.strong()));
        spans.push(Span::styled(padded(of, WHAT), theme.name()));
    }
    spans.push(Span::styled(event.message.clone(), style));
    if event.evidence.as_ref().is_some_and(|it| !it.is_empty()) {
        let hint = theme.signs.text("  (⏎ evidence)").into_owned();
        spans.push(Span::styled(hint, theme.faint()));
    }
    Line::from(spans)
}

/// Cut or filled to so many columns, and two blanks.
fn padded(text: &str, width: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.width() >= width {
            break;
        }
        out.push(c);
    }
    let gap = (width + 2).saturating_sub(out.width());
    out + &" ".repeat(gap)
}

/// Everything that is known of an event.
fn whole(model: &Model, event: &Event) -> Vec<Line<'static>> {
    let theme = model.theme;
    let mut text = Text::new(theme, usize::from(model.size.0));
    let style = if feed::is_bad(event) { theme.bad() } else { theme.strong() };
    text.paragraph(1, &event.message, style);
    text.lines.push(Line::default());
    text.field("when", &date(event.at, &model.tz));
    text.field("kind", &event.kind);
    text.field("service", event.service.as_deref().unwrap_or_default());
    text.field("instance", event.instance.as_deref().unwrap_or_default());
    match &event.actor {
        Some(it) => {
            text.field("by", &format!("{} (uid {}, pid {})", it.login, it.uid, it.pid));
            text.field("ssh", it.ssh.as_deref().unwrap_or_default());
        }
        None => text.field("by", "opsdeck itself"),
    }
    text.field("number", &event.seq.to_string());
    let evidence = event.evidence.as_deref().unwrap_or_default();
    if !evidence.is_empty() {
        text.lines.push(Line::default());
        text.title("evidence");
    }
    for it in evidence {
        let parts = wrap(it, text.width.saturating_sub(4));
        text.lines.extend(parts.into_iter().map(|it| Line::raw(format!("   {it}"))));
    }
    text.lines
}
