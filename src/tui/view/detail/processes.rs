//! The process tree of an instance.

use ratatui::text::{Line, Span};

use crate::api::{Detail, Instance, ProcessDetail};
use crate::tui::model::{Closeup, Now};
use crate::tui::view::format::{age, bytes, percent};
use crate::tui::view::text::Text;

/// From this width on all columns.
const ROOMY: usize = 64;

pub(super) fn title(detail: Option<&Detail>) -> String {
    let count = detail.map_or(0, |it| it.processes.len() + it.more_processes as usize);
    match count {
        0 => "Processes".into(),
        n => format!("Processes: {n}"),
    }
}

pub(super) fn draw(now: Now, text: &mut Text, it: &Instance, closeup: Option<&Closeup>) {
    let theme = text.theme;
    let Some((closeup, detail)) = closeup.and_then(|it| Some((it, it.detail.as_ref()?))) else {
        let said = if it.pid.is_some() { "asking the daemon…" } else { "none" };
        return text.paragraph(3, &theme.signs.text(said), theme.faint());
    };
    if detail.processes.is_empty() {
        return text.paragraph(3, "none", theme.faint());
    }
    let is_roomy = text.width >= ROOMY;
    let titles = if is_roomy {
        "    PID   AGE    CPU    MEM  THR   FDS S  WHAT"
    } else {
        "    PID    CPU    MEM  WHAT"
    };
    text.lines.push(Line::styled(titles, theme.faint()));
    let row = |it: &ProcessDetail| {
        let cpu = closeup.cpu.get(&(it.pid, it.start_time)).map(|it| percent(*it));
        let (cpu, memory) = (cpu.unwrap_or_default(), bytes(it.memory_bytes));
        if !is_roomy {
            return format!("{:>7} {cpu:>6} {memory:>6}  ", it.pid);
        }
        let since = it.started.map(|at| age(now.wall.duration_since(at).as_secs()));
        let descriptors = it.descriptors.map(|it| it.to_string()).unwrap_or_default();
        format!(
            "{:>7} {:>5} {cpu:>6} {memory:>6} {:>4} {descriptors:>5} {}  ",
            it.pid,
            since.unwrap_or_default(),
            it.threads,
            it.state,
        )
    };
    for it in &detail.processes {
        let what = if it.title.is_empty() { format!("[{}]", it.name) } else { it.title.clone() };
        let role = it.role.as_ref().map(|it| format!("{it}: ")).unwrap_or_default();
        // Deeper than that it is still below its parent.
        let indent = "  ".repeat(it.depth.min(10) as usize);
        let style = if it.state == "D" || it.state == "Z" { theme.bad() } else { theme.plain() };
        text.lines.push(Line::from(vec![
            Span::styled(row(it), style),
            Span::styled(format!("{indent}{role}"), theme.name()),
            Span::raw(what),
        ]));
    }
    if detail.more_processes > 0 {
        text.paragraph(8, &format!("and {} more", detail.more_processes), theme.faint());
    }
}
