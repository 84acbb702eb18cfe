//! Pages of text: help, events, the detail of one row, the configuration.

use ratatui::buffer::Buffer;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::format::{age, bytes, clock, date, millis, percent, wrap};
use super::{chart, feed, help, put_line};
use crate::api::{Difference, Gateway, Instance, LastExit, ProbeResult, Service, Traffic};
use crate::tui::model::{Model, Now, Page, Panel};
use crate::tui::rows::RowId;
use crate::tui::theme::word;

/// Lines that a page has on the screen.
fn height(model: &Model) -> usize {
    usize::from(model.size.1.saturating_sub(3))
}

/// The last scroll position that wastes no room.
pub(in crate::tui) fn last_top(model: &Model, now: Now, panel: &Panel) -> usize {
    let lines = match panel.page {
        Page::Events => model.events.len(),
        _ => lines(model, now, &panel.page).len(),
    };
    lines.saturating_sub(height(model))
}

pub(super) fn draw(model: &Model, now: Now, panel: &Panel, buf: &mut Buffer) {
    let height = height(model);
    let top = panel.top.min(last_top(model, now, panel));
    let lines = match panel.page {
        Page::Events => events(model, top, height),
        _ => lines(model, now, &panel.page).into_iter().skip(top).take(height).collect(),
    };
    for (y, line) in (2..).zip(lines) {
        put_line(buf, 0, y, &line);
    }
}

fn lines(model: &Model, now: Now, page: &Page) -> Vec<Line<'static>> {
    match page {
        Page::Help => help::lines(model),
        Page::Events => vec![],
        Page::Detail(id) => detail(model, now, id),
        Page::Config(diff) => config(model, diff.as_ref()),
    }
}

/// Only what is on the screen is made: there may be thousands.
fn events(model: &Model, top: usize, height: usize) -> Vec<Line<'static>> {
    if model.events.is_empty() {
        return vec![Line::styled(" nothing has happened yet", model.theme.faint())];
    }
    model.events.iter().skip(top).take(height).map(|it| feed::line(model, it, 12)).collect()
}

fn detail(model: &Model, now: Now, id: &RowId) -> Vec<Line<'static>> {
    let Some(service) = model.service(&id.service) else {
        return vec![Line::raw(format!(" {} is gone", id.service))];
    };
    let mut page = Text { model, now: model.picture(now), lines: vec![] };
    match &id.instance {
        None => {
            page.service(service, id);
        }
        Some(name) => match service.instances.iter().find(|it| it.name == *name) {
            Some(it) => {
                page.instance(service, it, Some(id));
            }
            None => page.lines.push(Line::raw(format!(" {name} is gone"))),
        },
    }
    page.lines
}

/// A page that is being written.
struct Text<'a> {
    model: &'a Model,
    now: Now,
    lines: Vec<Line<'static>>,
}

impl Text<'_> {
    fn title(&mut self, text: String) {
        self.lines.push(Line::styled(format!(" {text}"), self.model.theme.strong()));
    }

    /// A labelled text, wrapped under itself.
    fn field(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let width = usize::from(self.model.size.0).saturating_sub(16);
        for (n, part) in wrap(text, width).into_iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!(" {label:<12}  "), self.model.theme.faint()),
                Span::raw(part),
            ]));
        }
    }

    fn service(&mut self, it: &Service, id: &RowId) {
        self.title(format!("{}  {}/{} ready", it.name, it.ready, it.wanted));
        self.chart(id);
        self.field("engine", &it.engine);
        self.field("profile", &it.profile);
        if let Some(rollout) = &it.rollout {
            let halted =
                rollout.halted.as_ref().map(|why| format!("; halted: {why}")).unwrap_or_default();
            let text = format!(
                "by {}, {} of {}, {}{halted}",
                rollout.by, rollout.done, rollout.of, rollout.step
            );
            self.field("rollout", &text);
        }
        if let Some(gateway) = &it.gateway {
            self.gateway(gateway);
        }
        for instance in &it.instances {
            self.lines.push(Line::default());
            self.instance(it, instance, None);
        }
    }

    /// `id`: with its chart.
    fn instance(&mut self, service: &Service, it: &Instance, id: Option<&RowId>) {
        self.title(format!("{}  {}", it.name, word(it.state)));
        self.field("why", &it.why);
        if let Some(id) = id {
            self.chart(id);
        }
        self.field("service", &format!("{} ({})", service.name, service.profile));
        if let Some(pid) = it.pid {
            self.field("pid", &format!("{pid}, generation {}", it.generation));
        }
        self.field("port", &it.port.map(|it| it.to_string()).unwrap_or_default());
        self.times(it);
        // Without a gateway nobody takes it out of anything.
        if service.gateway.is_some() {
            self.field("in rotation", if it.in_rotation { "yes" } else { "no" });
        }
        self.field("held by", it.held_by.as_deref().unwrap_or_default());
        self.field("load", &load(it));
        if let Some(traffic) = &it.traffic {
            self.traffic(traffic);
        }
        self.field("restarts", &it.restarts.to_string());
        if let Some(exit) = &it.last_exit {
            self.field("last exit", &self.exit(exit));
            self.field("last words", exit.words.as_deref().unwrap_or_default());
        }
        for (kind, probe) in &it.probes {
            self.probe(kind, probe);
        }
    }

    /// The last ten minutes, as high as the screen allows.
    fn chart(&mut self, id: &RowId) {
        let Some(chart) = self.model.chart.as_ref().filter(|it| it.of == *id) else { return };
        let history = &chart.history;
        if history.in_flight.is_empty() {
            return;
        }
        let (width, height) = self.model.size;
        let rows = match height {
            ..16 => 1,
            16..30 => 2,
            _ => 5,
        };
        let in_flight: Vec<f64> = history.in_flight.iter().map(|it| f64::from(*it)).collect();
        let width = usize::from(width).saturating_sub(17);
        let all = [("in flight", &in_flight), ("req/s", &history.requests_per_second)];
        for (label, points) in all {
            let (lines, top) = chart::chart(points, width, rows, self.model.theme.signs);
            for (n, line) in lines.into_iter().enumerate() {
                // The scale stands where a label would.
                let label = if n == 0 { format!("{label} {}", scale(top)) } else { String::new() };
                self.lines.push(Line::from(vec![
                    Span::styled(format!(" {label:<14} "), self.model.theme.faint()),
                    Span::styled(line, self.model.theme.name()),
                ]));
            }
        }
        let [from, to] = ["10 minutes ago", "now"];
        let gap = width.saturating_sub(from.len());
        let axis = format!("{:16}{from}{to:>gap$}", "");
        self.lines.push(Line::styled(axis, self.model.theme.faint()));
    }

    fn gateway(&mut self, it: &Gateway) {
        let at = it.listen.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        let state = match &it.trouble {
            Some(trouble) => trouble.clone(),
            None if it.up => format!("{} connections of clients", it.connections),
            None => "its process is down: clients wait".into(),
        };
        self.field("gateway", &format!("{} ({}){at}: {state}", it.name, it.provider));
        self.field("held", &format!("{} now, {} in all", it.held, it.held_total));
        let parts = [
            Some(format!("{:.1} req/s", it.requests_per_second)),
            Some(format!("{} in flight", it.in_flight)),
            it.oldest_ms.map(|ms| format!("oldest {}", millis(ms))),
        ];
        self.field("load", &parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
        self.traffic(&it.traffic);
        let own = [
            (it.made_502, "502"),
            (it.made_503, "503"),
            (it.made_504, "504"),
            (it.refused, "refused"),
        ];
        self.field("its own", &counted(&own));
    }

    fn traffic(&mut self, it: &Traffic) {
        let answered = [
            (it.informational, "1xx"),
            (it.success, "2xx"),
            (it.redirection, "3xx"),
            (it.client_error, "4xx"),
            (it.server_error, "5xx"),
        ];
        self.field("answered", &counted(&answered));
        let lost = [
            (it.cut, "cut"),
            (it.retried, "sent again elsewhere"),
            (it.abandoned, "given up by clients"),
            (it.connect_failed, "connections failed"),
            (it.tunnels, "upgraded and open"),
        ];
        self.field("besides", &counted(&lost));
        let latency =
            format!("p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", it.p50_ms, it.p95_ms, it.p99_ms);
        self.field("last 10 s", if it.p99_ms > 0.0 { &latency } else { "" });
        let moved = format!("{} in, {} out", bytes(it.bytes_in), bytes(it.bytes_out));
        self.field("moved", if it.bytes_in + it.bytes_out > 0 { &moved } else { "" });
    }

    fn times(&mut self, it: &Instance) {
        let tz = &self.model.tz;
        let ago = |at| age(self.now.wall.duration_since(at).as_secs());
        let started = it.started.map(|at| format!("{} ({} ago)", date(at, tz), ago(at)));
        let since = it.since.map(|at| format!("{} since {}", word(it.state), date(at, tz)));
        self.field("started", &started.unwrap_or_default());
        self.field("state", &since.unwrap_or_default());
    }

    fn exit(&self, exit: &LastExit) -> String {
        let at = exit.at.map(|at| format!("{}: ", date(at, &self.model.tz))).unwrap_or_default();
        let how = match (&exit.signal, exit.code) {
            (Some(signal), _) => format!("ended by {signal}, {}", exit.cause),
            // The cause has the code.
            (None, Some(_)) => format!("ended {}", exit.cause),
            (None, None) => format!("exit status unknown, {}", exit.cause),
        };
        let about = if exit.lost_exact { "" } else { "about " };
        let lost = if exit.lost > 0 {
            format!(", {about}{} requests lost", exit.lost)
        } else {
            String::new()
        };
        format!("{at}{how}{lost}")
    }

    fn probe(&mut self, kind: &str, it: &ProbeResult) {
        let verdict = if it.ok { "passed" } else { "failed" };
        let at = it.at.map(|at| format!(" at {}", clock(at, &self.model.tz))).unwrap_or_default();
        let status = it.status.map(|it| format!(", status {it}")).unwrap_or_default();
        let text =
            format!("{verdict}{at}, {} in a row{status}, {:.1} ms", it.in_a_row, it.latency_ms);
        self.field(kind, &text);
        self.field("", it.error.as_deref().unwrap_or_default());
        self.field("", &it.body);
    }
}

/// What the top of a chart stands for, in five columns.
fn scale(top: f64) -> String {
    match top {
        ..10.0 => format!("{top:.1}"),
        ..10_000.0 => format!("{top:.0}"),
        _ => format!("{:.0}k", top / 1000.0),
    }
}

/// `812 2xx, 3 5xx`: what did not happen is not said.
fn counted(of: &[(u64, &str)]) -> String {
    let some = of.iter().filter(|it| it.0 > 0).map(|(n, what)| format!("{n} {what}"));
    some.collect::<Vec<_>>().join(", ")
}

fn load(it: &Instance) -> String {
    let about = if it.in_flight_exact { "" } else { "~" };
    let parts = [
        it.requests_per_second.map(|it| format!("{it:.1} req/s")),
        it.in_flight.map(|n| format!("{about}{n} in flight")),
        it.accept_queue.filter(|n| *n > 0).map(|n| format!("{n} waiting to be accepted")),
        it.cpu_percent.map(|it| format!("{} CPU", percent(it))),
        it.memory_bytes.map(|it| format!("{} memory", bytes(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn config(
    model: &Model,
    diff: Option<&Result<Vec<Difference>, Vec<String>>>,
) -> Vec<Line<'static>> {
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
    lines.push(Line::default());
    match diff {
        None => {
            let text = " asking the daemon what applying it would do…";
            lines.push(Line::styled(text, theme.faint()));
        }
        Some(Err(why)) => lines.extend(why.iter().map(|it| Line::raw(format!(" {it}")))),
        Some(Ok(diff)) if diff.is_empty() => {
            lines.push(Line::raw(" nothing to apply: this configuration runs already"));
        }
        Some(Ok(diff)) => {
            lines.push(Line::styled(" applying it would:", theme.strong()));
            let name = diff.iter().map(|it| it.name.width()).max().unwrap_or(0);
            lines.extend(diff.iter().map(|it| difference(model, it, name)));
        }
    }
    lines
}

fn difference(model: &Model, it: &Difference, name: usize) -> Line<'static> {
    let style = match it.does.as_str() {
        "stop" => model.theme.bad(),
        "start" => model.theme.good(),
        _ => model.theme.moving(),
    };
    Line::from(vec![
        Span::styled(format!("   {:<8}", it.does), style),
        Span::styled(format!("{:<name$}  ", it.name), model.theme.name()),
        Span::raw(it.message.clone()),
    ])
}
