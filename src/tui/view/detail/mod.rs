//! The detail of one row, in the order in which an operator asks: why, what the probes say, which
//! processes there are, how it went lately; then what is looked up more rarely.
//!
//! What the daemon's picture has is there at once. The rest is asked for when the page opens and comes a
//! moment later; the sections keep their numbers and their order.

mod load;
mod more;
mod processes;
mod service;

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{age, clock, date};
use super::text::{LABEL, Text};
use crate::api::{Advice, Detail, Instance, ProbePast, ProbeResult, Service};
use crate::tui::model::{Closeup, Model, Now};
use crate::tui::rows::RowId;
use crate::tui::theme::word;

/// From this width on two columns.
const WIDE: u16 = 160;
/// Between two columns.
const GAP: usize = 2;
/// From this height on also what is rarely asked of a probe that passes.
const ROOMY: u16 = 30;

/// The lines of the page, and where its sections begin.
pub(in crate::tui) struct Page {
    pub(in crate::tui) lines: Vec<Line<'static>>,
    pub(in crate::tui) sections: Vec<usize>,
    /// Where the chosen process is.
    pub(in crate::tui) chosen: Option<usize>,
}

pub(in crate::tui) fn page(model: &Model, now: Now, id: &RowId) -> Page {
    let now = model.picture(now);
    let width = usize::from(model.size.0);
    let mut text = Text::new(model.theme, width);
    let found = model.service(&id.service).map(|service| {
        let instance = id.instance.as_ref();
        (service, instance.map(|name| service.instances.iter().find(|it| it.name == *name)))
    });
    match found {
        None => text.line(format!("{} is gone", id.service), model.theme.plain()),
        Some((_, Some(None))) => {
            let name = id.instance.as_deref().unwrap_or_default();
            text.line(format!("{name} is gone"), model.theme.plain());
        }
        Some((it, None)) => service::whole(model, now, &mut text, it, id),
        Some((service, Some(Some(it)))) => return one(model, now, text, service, it, id),
    }
    Page { lines: text.lines, sections: text.sections, chosen: None }
}

fn one(
    model: &Model,
    now: Now,
    mut text: Text,
    service: &Service,
    it: &Instance,
    id: &RowId,
) -> Page {
    let closeup = model.closeup.as_ref().filter(|closeup| closeup.of == it.name);
    let detail = closeup.and_then(|it| it.detail.as_deref());
    let is_wide = model.size.0 >= WIDE;
    let half = if is_wide { (text.width - GAP) / 2 } else { text.width };
    head(model, now, &mut text, service, it);
    text.width = half;
    let first = text.lines.len();

    text.section(1, "Why");
    why(&mut text, it, closeup);
    text.section(2, "Probes");
    probes(model, &mut text, it, detail);
    text.section(3, &processes::title(detail));
    let chosen = processes::draw(now, &mut text, it, closeup);
    text.section(4, "Load, the last ten minutes");
    load::instance(model, &mut text, it, id);

    let mut rest = Text::new(model.theme, half);
    rest.section(5, "Signals");
    more::signals(&mut rest, detail);
    rest.section(6, "Ends and restarts");
    more::exits(model, &mut rest, it, detail);
    rest.section(7, "Environment");
    more::environment(&mut rest, detail);
    rest.section(8, "Limits");
    more::limits(&mut rest, detail);
    rest.section(9, "Files");
    more::files(&mut rest, detail);
    let page = if is_wide { beside(text, rest, first, half) } else { below(text, rest) };
    Page { chosen, ..page }
}

fn below(mut text: Text, rest: Text) -> Page {
    let offset = text.lines.len();
    text.sections.extend(rest.sections.iter().map(|it| it + offset));
    text.lines.extend(rest.lines);
    Page { lines: text.lines, sections: text.sections, chosen: None }
}

/// Two columns, from the line `first` on.
fn beside(mut text: Text, rest: Text, first: usize, half: usize) -> Page {
    text.sections.extend(rest.sections.iter().map(|it| it + first));
    text.sections.sort_unstable();
    for (n, line) in rest.lines.into_iter().enumerate() {
        if text.lines.len() <= first + n {
            text.lines.push(Line::default());
        }
        let left = &mut text.lines[first + n];
        // What is too long for its column is cut at the edge of the next.
        let cut = super::format::cut_line(left, half);
        let gap = (half + GAP).saturating_sub(cut.width());
        *left = cut;
        left.push_span(Span::raw(" ".repeat(gap)));
        line.spans.into_iter().for_each(|it| left.push_span(it.patch_style(line.style)));
    }
    Page { lines: text.lines, sections: text.sections, chosen: None }
}

/// `web1  RUNNING  2h  web (swoole), pid 15502, generation 3, port 9502`
fn head(model: &Model, now: Now, text: &mut Text, service: &Service, it: &Instance) {
    let theme = model.theme;
    let since = it.since.map(|at| format!(" since {}", date(at, &model.tz))).unwrap_or_default();
    text.lines.push(Line::from(vec![
        Span::styled(format!(" {}  ", it.name), theme.strong()),
        Span::styled(word(it.state), theme.state(it.state)),
        Span::raw(since),
    ]));
    let up = it.started.map(|at| age(now.wall.duration_since(at).as_secs()));
    let parts = [
        Some(format!("{} ({})", service.name, service.profile)),
        it.pid.map(|pid| format!("pid {pid}")),
        up.map(|up| format!("up {up}")),
        it.retry_at.map(|at| format!("starts again at {}", clock(at, &model.tz))),
        it.port.map(|port| format!("port {port}")),
        it.pid.map(|_| format!("generation {}", it.generation)),
        it.backup.then(|| "backup".into()),
        it.stale.then(|| "runs an older configuration".into()),
        // Without a gateway nobody takes it out of anything.
        service
            .gateway
            .as_ref()
            .map(|_| if it.in_rotation { "in rotation".into() } else { "out of rotation".into() }),
        it.held_by.as_ref().map(|by| format!("held by {by}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    text.paragraph(1, &parts.join(", "), theme.faint());
}

fn why(text: &mut Text, it: &Instance, closeup: Option<&Closeup>) {
    let theme = text.theme;
    let told = closeup.and_then(|it| it.detail.as_ref()).map(|it| it.why.as_slice());
    match told {
        Some(all) if !all.is_empty() => {
            let advice = closeup.and_then(|it| it.detail.as_ref()).map(|it| it.advice.as_slice());
            let advice = advice.unwrap_or_default();
            for it in all {
                match advice.iter().find(|of| of.sentence == *it) {
                    Some(advice) => self::advice(text, advice),
                    None => text.paragraph(3, it, theme.plain()),
                }
            }
        }
        _ => text.paragraph(3, &it.why, theme.plain()),
    }
    if let Some(problem) = closeup.and_then(|it| it.problem.as_ref()) {
        text.paragraph(3, &format!("nothing more is known: {problem}"), theme.bad());
    }
}

/// What was seen, and below it what it means and what to do.
fn advice(text: &mut Text, it: &Advice) {
    let theme = text.theme;
    text.paragraph(3, &it.seen, theme.moving());
    text.paragraph(5, &it.means, theme.plain());
    text.paragraph(5, &it.help, theme.plain());
}

fn probes(model: &Model, text: &mut Text, it: &Instance, detail: Option<&Detail>) {
    const ORDER: [&str; 3] = ["startup", "liveness", "readiness"];
    let none = ProbePast::default();
    let mut is_any = false;
    for kind in ORDER {
        let past = detail.and_then(|it| it.probes.get(kind));
        let last = it.probes.get(kind).or_else(|| past?.results.last());
        if past.is_some() || last.is_some() {
            is_any = true;
            probe(model, text, kind, last, past.unwrap_or(&none));
        }
    }
    if !is_any && detail.is_some() {
        text.paragraph(3, "none: it is ready once it has run for a while", model.theme.faint());
    }
}

fn probe(model: &Model, text: &mut Text, kind: &str, last: Option<&ProbeResult>, past: &ProbePast) {
    let theme = model.theme;
    let Some(last) = last else {
        text.field(kind, "no result yet");
        return text.styled_field("", &past.check, theme.faint());
    };
    let said = in_words(model, last);
    let style = if last.ok { theme.plain() } else { theme.bad() };
    let signs = signs(model, past);
    if said.width() + signs.len() + 2 + LABEL <= text.width {
        let mut spans = vec![Span::styled(format!(" {kind:<12}  "), theme.faint())];
        spans.extend(signs);
        spans.push(Span::styled(said, style));
        text.lines.push(Line::from(spans));
    } else {
        text.styled_field(kind, &said, style);
    }
    text.field("", last.error.as_deref().unwrap_or_default());
    last_failure(model, text, past);
    // That it passed says it all, unless there is room.
    if !last.ok || model.size.1 >= ROOMY {
        text.field("", last.body.as_deref().unwrap_or_default());
        text.styled_field("", &past.check, theme.faint());
    }
}

/// `failed 3 in a row, status 500 in 1.2 ms, 10:42:17`
fn in_words(model: &Model, it: &ProbeResult) -> String {
    let at = it.at.map(|at| format!(", {}", clock(at, &model.tz))).unwrap_or_default();
    let status = it.status.map(|it| format!("status {it} in ")).unwrap_or_default();
    let verdict = if it.ok { "passed" } else { "failed" };
    format!("{verdict} {} in a row, {status}{:.1} ms{at}", it.in_a_row, it.latency_ms)
}

/// The last results as signs, oldest first.
fn signs(model: &Model, past: &ProbePast) -> Vec<Span<'static>> {
    let theme = model.theme;
    let sign = |it: &ProbeResult| {
        let (sign, style) =
            if it.ok { (theme.signs.yes, theme.good()) } else { (theme.signs.no, theme.bad()) };
        Span::styled(sign, style)
    };
    let mut signs: Vec<_> = past.results.iter().map(sign).collect();
    if !signs.is_empty() {
        signs.push(Span::raw("  "));
    }
    signs
}

/// What the last failure before those that passed said.
fn last_failure(model: &Model, text: &mut Text, past: &ProbePast) {
    if past.results.last().is_none_or(|it| !it.ok) {
        return;
    }
    if let Some(failed) = past.results.iter().rfind(|it| !it.ok) {
        let at = failed.at.map(|at| clock(at, &model.tz)).unwrap_or_default();
        let error = failed.error.as_deref().unwrap_or_default();
        let body = failed.body.as_deref().unwrap_or_default();
        let said = format!("failed at {at}: {error} {body}");
        text.field("", said.trim_end());
    }
}
