//! The configuration page: what applying the file would do, or why it cannot be applied.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::wrap;
use crate::api::{Difference, KeyChange};
use crate::tui::model::Model;

/// Columns before a message: what it does, and the name at its widest.
const DOES: usize = 12;
const NAME: usize = 16;
/// Below this width messages stand under their names.
const NARROW: u16 = 64;

type Answer = Result<Vec<Difference>, Vec<String>>;

pub(super) fn lines(model: &Model, diff: Option<&Answer>) -> Vec<Line<'static>> {
    let theme = model.theme;
    let mut lines = head(model, diff);
    lines.push(Line::default());
    match diff {
        None => {
            let text = theme.signs.text(" asking the daemon what applying it would do…");
            lines.push(Line::styled(text.into_owned(), theme.faint()));
        }
        Some(Err(why)) => lines.extend(why.iter().flat_map(|it| mistake(model, it))),
        Some(Ok(diff)) if diff.is_empty() => {
            let text = "nothing to apply: this configuration runs already";
            let parts = wrap(text, usize::from(model.size.0).saturating_sub(2));
            lines.extend(parts.into_iter().map(|it| Line::raw(format!(" {it}"))));
        }
        Some(Ok(diff)) => {
            lines.push(Line::styled(format!(" applying it: {}", summary(diff)), theme.strong()));
            let name = diff.iter().map(|it| it.name.width()).max().unwrap_or(0).min(NAME);
            lines.extend(diff.iter().flat_map(|it| difference(model, it, name)));
        }
    }
    lines
}

/// Which file it is, and how it stands.
fn head(model: &Model, diff: Option<&Answer>) -> Vec<Line<'static>> {
    let theme = model.theme;
    let config = &model.deck.config;
    let path = config.path.as_deref().unwrap_or("no configuration file");
    let mut lines = vec![Line::styled(format!(" {path}"), theme.strong())];
    if let Some(error) = &config.error {
        lines.push(Line::styled(" not applied; the running configuration stays:", theme.bad()));
        // The daemon's answer below has all of it, with its places.
        if !matches!(diff, Some(Err(_))) {
            let width = usize::from(model.size.0).saturating_sub(4);
            let parts = error.lines().flat_map(|it| wrap(it, width));
            lines.extend(parts.map(|it| Line::raw(format!("   {it}"))));
            lines.push(Line::raw(" correct the file; `opsdeck config check` shows every mistake"));
        }
    }
    lines.extend(
        config.pending.iter().map(|it| Line::styled(format!(" pending: {it}"), theme.moving())),
    );
    lines
}

/// A line of a rendered mistake: the caret and what it says stand out.
fn mistake(model: &Model, text: &str) -> Vec<Line<'static>> {
    let theme = model.theme;
    let bare = text.trim_start();
    let style = if bare.starts_with("error") {
        theme.bad()
    } else if bare.starts_with('|') && bare.contains('^') {
        theme.moving()
    } else if bare.starts_with("-->") {
        theme.name()
    } else {
        theme.plain()
    };
    // What to do is a sentence; the rest is placed by its columns.
    if !bare.starts_with("= ") {
        return vec![Line::styled(format!(" {text}"), style)];
    }
    let indent = text.len() - bare.len() + 1;
    let part = |(n, part): (usize, String)| {
        let indent = if n == 0 { indent } else { indent + 2 };
        Line::styled(format!("{:indent$}{part}", ""), style)
    };
    wrap(bare, room(model, indent + 2)).into_iter().enumerate().map(part).collect()
}

/// `1 stops, 2 waits for the next restart`
fn summary(diff: &[Difference]) -> String {
    let said = [
        ("stop", "stops"),
        ("start", "starts"),
        ("stale", "waits for the next restart"),
        ("at-once", "at once"),
    ];
    let count = |does: &str| diff.iter().filter(|it| it.does == does).count();
    let parts = said.iter().map(|(does, said)| (count(does), said)).filter(|it| it.0 > 0);
    parts.map(|(n, said)| format!("{n} {said}")).collect::<Vec<_>>().join(", ")
}

fn difference(model: &Model, it: &Difference, name: usize) -> Vec<Line<'static>> {
    let theme = model.theme;
    let (does, style) = match it.does.as_str() {
        "stop" => ("stop", theme.bad()),
        "start" => ("start", theme.good()),
        "at-once" => ("at once", theme.moving()),
        other => (other, theme.moving()),
    };
    let is_narrow = model.size.0 < NARROW;
    let indent = if is_narrow { 5 } else { DOES + name + 2 };
    let mut lines = vec![];
    if is_narrow {
        lines.push(Line::from(vec![
            Span::styled(format!("   {does:<9}"), style),
            Span::styled(it.name.clone(), theme.name()),
        ]));
    }
    for (n, part) in wrap(&it.message, room(model, indent)).into_iter().enumerate() {
        if n > 0 || is_narrow {
            lines.push(Line::raw(format!("{:indent$}{part}", "")));
            continue;
        }
        lines.push(Line::from(vec![
            Span::styled(format!("   {does:<9}"), style),
            Span::styled(format!("{:<name$}  ", it.name), theme.name()),
            Span::raw(part),
        ]));
    }
    // The message of a limit has its values already.
    let is_said = |value: &&KeyChange| {
        it.message.contains(&format!("{} ", value.key)) && it.does == "at-once"
    };
    let values = it.values.iter().filter(|it| !is_said(it));
    lines.extend(values.flat_map(|it| value(model, it, indent)));
    lines
}

fn room(model: &Model, indent: usize) -> usize {
    usize::from(model.size.0).saturating_sub(indent + 1)
}

/// `max_wait_time  10s → 20s`; what is too long for a line as two of a diff.
fn value(model: &Model, it: &KeyChange, indent: usize) -> Vec<Line<'static>> {
    let theme = model.theme;
    let (bad, good) = (theme.bad(), theme.good());
    let arrow = if theme.signs.ascii { "->" } else { "→" };
    let key = Span::styled(format!("{:indent$}{}", "", it.key), theme.faint());
    let (from, to) = match (&it.from, &it.to) {
        (None, None) => return vec![Line::from(vec![key, Span::raw("  changes")])],
        // A secret looks as before.
        (Some(from), Some(to)) if from == to => {
            return vec![Line::from(vec![key, Span::raw(format!("  {from} (another one)"))])];
        }
        (from, to) => (from.as_deref().unwrap_or("(none)"), to.as_deref().unwrap_or("(none)")),
    };
    if it.key.width() + from.width() + to.width() + 6 <= room(model, indent) {
        return vec![Line::from(vec![
            key,
            Span::raw("  "),
            Span::styled(from.to_owned(), bad),
            Span::raw(format!(" {arrow} ")),
            Span::styled(to.to_owned(), good),
        ])];
    }
    let mut lines = vec![Line::from(key)];
    lines.extend(side(model, indent, "- ", from, bad));
    lines.extend(side(model, indent, "+ ", to, good));
    lines
}

fn side(
    model: &Model,
    indent: usize,
    sign: &'static str,
    text: &str,
    style: Style,
) -> Vec<Line<'static>> {
    let part = |(n, part): (usize, String)| {
        let sign = if n == 0 { sign } else { "  " };
        Line::styled(format!("{:indent$}{sign}{part}", ""), style)
    };
    wrap(text, room(model, indent + 2)).into_iter().enumerate().map(part).collect()
}
