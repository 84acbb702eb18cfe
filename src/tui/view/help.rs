//! The help page, drawn from the table of keys.

use ratatui::text::{Line, Span};

use super::format::wrap;
use crate::tui::filter::WORDS;
use crate::tui::keymap::{Action, Entry, Scope, TABLE};
use crate::tui::model::Model;

pub(super) fn lines(model: &Model) -> Vec<Line<'static>> {
    let acting: Vec<_> = TABLE.iter().filter(|it| it.acts).collect();
    let looking: Vec<_> = TABLE
        .iter()
        .filter(|it| !it.acts && !matches!(it.scope, Scope::Logs | Scope::Events | Scope::Detail))
        .collect();
    let events: Vec<_> = TABLE.iter().filter(|it| it.scope == Scope::Events).collect();
    let detail: Vec<_> = TABLE.iter().filter(|it| it.scope == Scope::Detail).collect();
    let logs: Vec<_> = TABLE.iter().filter(|it| it.scope == Scope::Logs).collect();
    let mut lines = vec![];
    let title = match model.forbidden() {
        Some(why) => why.to_owned(),
        None => {
            "One key acts. Where it would hurt, the deck asks: the same key again does it.".into()
        }
    };
    let width = usize::from(model.size.0);
    let title = wrap(&title, width.saturating_sub(2));
    lines.extend(title.iter().map(|it| Line::styled(format!(" {it}"), model.theme.moving())));
    section(model, &mut lines, "Actions", &acting);
    section(model, &mut lines, "Looking", &looking);
    section(model, &mut lines, "In the events", &events);
    section(model, &mut lines, "In the logs", &logs);
    section(model, &mut lines, "In the detail of an instance", &detail);
    words(model, &mut lines);
    lines.push(Line::default());
    let end = "Esc leads back. Leaving stops nothing: `opsdeck shutdown` does.";
    let end = wrap(end, width.saturating_sub(2));
    lines.extend(end.iter().map(|it| Line::raw(format!(" {it}"))));
    lines
}

/// What a filter understands.
fn words(model: &Model, lines: &mut Vec<Line<'static>>) {
    let key = model.keymap.key(Action::Filter).map(|it| it.to_string()).unwrap_or_default();
    lines.push(Line::default());
    let title = format!(" In the filter ({key}); several words: all of them");
    lines.push(Line::styled(title, model.theme.strong()));
    let room = usize::from(model.size.0).saturating_sub(28).max(10);
    for (word, help) in WORDS {
        for (n, part) in wrap(help, room).into_iter().enumerate() {
            let word = if n == 0 { *word } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("  {word:<25} "), model.theme.name()),
                Span::raw(part),
            ]));
        }
    }
}

fn section(model: &Model, lines: &mut Vec<Line<'static>>, title: &'static str, entries: &[&Entry]) {
    lines.push(Line::default());
    lines.push(Line::styled(format!(" {title}"), model.theme.strong()));
    for entry in entries {
        let keys: Vec<String> =
            model.keymap.keys(entry.action).iter().map(ToString::to_string).collect();
        let keys = if keys.is_empty() { "(no key)".into() } else { keys.join(" ") };
        let keys = model.theme.signs.text(&keys);
        let room = usize::from(model.size.0).saturating_sub(14);
        for (n, part) in wrap(entry.help, room).into_iter().enumerate() {
            let keys = if n == 0 { &*keys } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {keys:>10}  "), model.theme.name()),
                Span::raw(part),
            ]));
        }
    }
}
