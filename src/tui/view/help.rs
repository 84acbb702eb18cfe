//! The help page, drawn from the table of keys.

use ratatui::text::{Line, Span};

use crate::tui::keymap::{Entry, Scope, TABLE};
use crate::tui::model::Model;

pub(super) fn lines(model: &Model) -> Vec<Line<'static>> {
    let acting: Vec<_> = TABLE.iter().filter(|it| it.acts).collect();
    let looking: Vec<_> = TABLE.iter().filter(|it| !it.acts && it.scope != Scope::Logs).collect();
    let logs: Vec<_> = TABLE.iter().filter(|it| it.scope == Scope::Logs).collect();
    let mut lines = vec![];
    let title = match model.forbidden() {
        Some(why) => why.to_owned(),
        None => {
            "One key acts. Where it would hurt, the deck asks: the same key again does it.".into()
        }
    };
    lines.push(Line::styled(format!(" {title}"), model.theme.moving()));
    section(model, &mut lines, "Actions", &acting);
    section(model, &mut lines, "Looking", &looking);
    section(model, &mut lines, "In the logs", &logs);
    lines.push(Line::default());
    lines.push(Line::raw(
        " Esc leads back to the table. Leaving stops nothing: `opsdeck shutdown` does.",
    ));
    lines
}

fn section(model: &Model, lines: &mut Vec<Line<'static>>, title: &'static str, entries: &[&Entry]) {
    lines.push(Line::default());
    lines.push(Line::styled(format!(" {title}"), model.theme.strong()));
    for entry in entries {
        let keys: Vec<String> =
            model.keymap.keys(entry.action).iter().map(ToString::to_string).collect();
        let keys = if keys.is_empty() { "(no key)".into() } else { keys.join(" ") };
        lines.push(Line::from(vec![
            Span::styled(format!(" {keys:>10}  "), model.theme.name()),
            Span::raw(entry.help),
        ]));
    }
}
