//! The process tree of an instance.

use std::time::Duration;

use ratatui::text::{Line, Span};

use crate::api::{Detail, GoneWorker, Instance, ProcessDetail, Reload};
use crate::quantity;
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

/// Returns the line of the process that is chosen.
pub(super) fn draw(
    now: Now,
    text: &mut Text,
    it: &Instance,
    closeup: Option<&Closeup>,
) -> Option<usize> {
    let theme = text.theme;
    let Some((closeup, detail)) = closeup.and_then(|it| Some((it, it.detail.as_ref()?))) else {
        let said = if it.pid.is_some() { "asking the daemon…" } else { "none" };
        text.paragraph(3, &theme.signs.text(said), theme.faint());
        return None;
    };
    if detail.processes.is_empty() {
        text.paragraph(3, "none", theme.faint());
        return None;
    }
    let columns = Columns::of(text.width, detail);
    text.lines.push(Line::styled(columns.titles(), theme.faint()));
    let mut chosen = None;
    for it in &detail.processes {
        let is_chosen = closeup.chosen == Some((it.pid, it.start_time));
        let cpu = closeup.cpu.get(&(it.pid, it.start_time)).copied().or(it.cpu_percent);
        let what = if it.title.is_empty() { format!("[{}]", it.name) } else { it.title.clone() };
        let leaving = if it.leaving { " (leaving)" } else { "" };
        let role = it.role.as_ref().map(|it| format!("{it}{leaving}: ")).unwrap_or_default();
        // Deeper than that it is still below its parent.
        let indent = "  ".repeat(it.depth.min(10) as usize);
        let style = match it.state.as_str() {
            "D" | "Z" => theme.bad(),
            _ if it.leaving => theme.moving(),
            _ => theme.plain(),
        };
        let mut row = columns.row(now, it, cpu);
        if is_chosen {
            // Colours are not the only sign.
            match row.starts_with(' ') {
                true => row.replace_range(..1, ">"),
                false => row.insert(0, '>'),
            }
            chosen = Some(text.lines.len());
        }
        let line = Line::from(vec![
            Span::styled(row, style),
            Span::styled(format!("{indent}{role}"), theme.name()),
            Span::raw(what),
        ]);
        text.lines.push(if is_chosen { line.patch_style(theme.selected()) } else { line });
    }
    if detail.more_processes > 0 {
        text.paragraph(8, &format!("and {} more", detail.more_processes), theme.faint());
    }
    if let Some(reload) = &it.reload {
        text.field("reload took", &took(reload));
    }
    chosen
}

/// `15511 0.3s, 15512 3.0s`: how long each worker took that the last reload has replaced.
fn took(reload: &Reload) -> String {
    let one = |it: &GoneWorker| {
        if it.took_ms == 0 {
            return format!("{} unseen", it.pid);
        }
        format!("{} {}", it.pid, quantity::took(Duration::from_millis(it.took_ms)))
    };
    reload.gone.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What there is room for, and what is known.
struct Columns {
    roomy: bool,
    /// Every process tells its share of memory; else that of all is told in full, so that they compare.
    shares: bool,
    generations: bool,
}

impl Columns {
    fn of(width: usize, detail: &Detail) -> Self {
        let all = &detail.processes;
        Self {
            roomy: width >= ROOMY,
            shares: all.iter().all(|it| it.pss_bytes.is_some() || it.state == "Z"),
            generations: all.iter().any(|it| it.generation.is_some()),
        }
    }

    fn titles(&self) -> String {
        let memory = if self.shares { "PSS" } else { "RSS" };
        let generation = if self.generations { " GEN" } else { "" };
        match self.roomy {
            true => format!("    PID   AGE    CPU    {memory}  THR   FDS S{generation}  WHAT"),
            false => format!("    PID    CPU    {memory}{generation}  WHAT"),
        }
    }

    fn row(&self, now: Now, it: &ProcessDetail, cpu: Option<f64>) -> String {
        let cpu = cpu.map(percent).unwrap_or_default();
        let share = it.pss_bytes.filter(|_| self.shares);
        let memory = bytes(share.unwrap_or(it.memory_bytes));
        let generation = match it.generation {
            _ if !self.generations => String::new(),
            Some(n) => format!(" {n:>3}"),
            None => "    ".into(),
        };
        if !self.roomy {
            return format!("{:>7} {cpu:>6} {memory:>6}{generation}  ", it.pid);
        }
        let since = it.started.map(|at| age(now.wall.duration_since(at).as_secs()));
        let descriptors = it.descriptors.map(|it| it.to_string()).unwrap_or_default();
        format!(
            "{:>7} {:>5} {cpu:>6} {memory:>6} {:>4} {descriptors:>5} {}{generation}  ",
            it.pid,
            since.unwrap_or_default(),
            it.threads,
            it.state,
        )
    }
}
