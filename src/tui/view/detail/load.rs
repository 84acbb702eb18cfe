//! How it went in the last ten minutes: charts, and what the gateway counted.

use ratatui::text::{Line, Span};

use crate::api::{Gateway, Instance, Load, Service, Traffic};
use crate::quantity::count;
use crate::tui::model::Model;
use crate::tui::rows::RowId;
use crate::tui::view::chart;
use crate::tui::view::format::{bytes, millis, percent};
use crate::tui::view::text::Text;

pub(super) fn instance(model: &Model, text: &mut Text, it: &Instance, id: &RowId) {
    text.field("now", &now(it));
    waiting(text, it);
    if let Some(load) = &it.load {
        own(text, load);
    }
    charts(model, text, id);
    if let Some(it) = &it.traffic {
        traffic(text, it);
    }
}

pub(super) fn service(model: &Model, text: &mut Text, it: &Service, id: &RowId) {
    text.field("now", &now_of_all(it));
    charts(model, text, id);
    if let Some(it) = &it.gateway {
        gateway(text, it);
    }
}

/// What a chart's top stands for, written in its label.
type Scale = fn(f64) -> String;

/// As high as the screen allows.
fn charts(model: &Model, text: &mut Text, id: &RowId) {
    let Some(chart) = model.chart.as_ref().filter(|it| it.of == *id) else { return };
    let history = &chart.history;
    let in_flight: Vec<f64> = history.in_flight.iter().map(|it| f64::from(*it)).collect();
    let cpu: Vec<f64> = history.cpu_percent.iter().map(|it| it.unwrap_or(0.0)).collect();
    #[expect(clippy::cast_precision_loss, reason = "a chart has a few dozen steps")]
    let memory: Vec<f64> =
        history.memory_bytes.iter().map(|it| it.map_or(0.0, |it| it as f64)).collect();
    let all: [(&str, &[f64], Scale); 4] = [
        ("in flight", &in_flight, scale),
        ("req/s", &history.requests_per_second, scale),
        ("CPU", &cpu, percent),
        ("memory", &memory, scale_of_bytes),
    ];
    let rows = match model.size.1 {
        ..16 => 1,
        16..30 => 2,
        30..45 => 3,
        _ => 5,
    };
    let width = text.width.saturating_sub(17);
    let mut is_any = false;
    for (label, points, scale) in all.into_iter().filter(|it| !it.1.is_empty()) {
        is_any = true;
        let (lines, top) = chart::chart(points, width, rows, model.theme.signs);
        for (n, line) in lines.into_iter().enumerate() {
            // The scale stands where a label would.
            let label = if n == 0 { format!("{label} {}", scale(top)) } else { String::new() };
            text.lines.push(Line::from(vec![
                Span::styled(format!(" {label:<14} "), model.theme.faint()),
                Span::styled(line, model.theme.name()),
            ]));
        }
    }
    if is_any {
        let [from, to] = ["10 minutes ago", "now"];
        let gap = width.saturating_sub(from.len());
        let axis = format!("{:16}{from}{to:>gap$}", "");
        text.lines.push(Line::styled(axis, model.theme.faint()));
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of memory")]
fn scale_of_bytes(top: f64) -> String {
    bytes(top as u64)
}

fn now(it: &Instance) -> String {
    let about = if it.in_flight_exact { "" } else { "~" };
    let parts = [
        it.requests_per_second.map(|it| format!("{it:.1} req/s")),
        it.in_flight.map(|n| format!("{about}{n} in flight")),
        it.connections.filter(|n| *n > 0).map(|n| count(n.into(), "connection")),
        it.cpu_percent.map(|it| format!("{} CPU", percent(it))),
        it.memory_bytes.map(|it| format!("{} memory", bytes(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Connections that nobody has accepted.
fn waiting(text: &mut Text, it: &Instance) {
    let Some(waiting) = it.accept_queue.filter(|n| *n > 0) else { return };
    let style = if it.is_backlog_full() { text.theme.bad() } else { text.theme.plain() };
    let said = match it.accept_limit {
        Some(limit) if it.is_backlog_full() => {
            format!("{waiting} of {limit} wait to be accepted: no more fit, clients hang")
        }
        Some(limit) => format!("{waiting} of {limit} wait to be accepted"),
        None => format!("{waiting} wait to be accepted"),
    };
    text.styled_field("backlog", &said, style);
}

/// What it says itself.
fn own(text: &mut Text, it: &Load) {
    if let Some(error) = &it.error {
        let said = format!("{error} at {}", it.source);
        return text.styled_field("it says", &said, text.theme.bad());
    }
    let about = if it.in_flight_exact { "" } else { "~" };
    let said = [
        it.requests_per_second.map(|it| format!("{it:.1} req/s")),
        it.in_flight.map(|n| format!("{about}{n} in flight")),
        it.connections.map(|n| count(n, "connection")),
        it.workers.map(|n| count(n, "worker")),
        it.busy.map(|n| format!("{n} busy")),
        it.idle.map(|n| format!("{n} idle")),
        it.queued.map(|n| format!("{n} queued")),
        it.coroutines.map(|n| format!("{} in the worker that answered", count(n, "coroutine"))),
        it.backlog.map(|n| match it.backlog_limit {
            Some(limit) => format!("{n} of {limit} in its listen queue"),
            None => format!("{n} in its listen queue"),
        }),
        it.requests.map(|n| format!("{} in all", count(n, "request"))),
    ];
    text.field("it says", &said.into_iter().flatten().collect::<Vec<_>>().join(", "));
    text.styled_field("", &it.source, text.theme.faint());
}

/// What all its instances do and use together; a gateway's own counts stand below.
fn now_of_all(it: &Service) -> String {
    let all = || it.instances.iter();
    let is_counted = it.gateway.is_none();
    let about = if all().all(|it| it.in_flight.is_none() || it.in_flight_exact) { "" } else { "~" };
    let rate = all().filter_map(|it| it.requests_per_second).reduce(|a, b| a + b);
    let in_flight = all().filter_map(|it| it.in_flight).reduce(|a, b| a + b);
    let cpu = all().filter_map(|it| it.cpu_percent).reduce(|a, b| a + b);
    let memory = all().filter_map(|it| it.memory_bytes).reduce(|a, b| a + b);
    let parts = [
        rate.filter(|_| is_counted).map(|it| format!("{it:.1} req/s")),
        in_flight.filter(|_| is_counted).map(|n| format!("{about}{n} in flight")),
        cpu.map(|it| format!("{} CPU", percent(it))),
        memory.map(|it| format!("{} memory", bytes(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn gateway(text: &mut Text, it: &Gateway) {
    let at = it.listen.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
    let state = match &it.trouble {
        Some(trouble) => trouble.clone(),
        None if it.up => format!("{} connections of clients", it.connections),
        None => "its process is down: clients wait".into(),
    };
    text.field("gateway", &format!("{} ({}){at}: {state}", it.name, it.provider));
    text.field("held", &format!("{} now, {} in all", it.held, it.held_total));
    let parts = [
        Some(format!("{:.1} req/s", it.requests_per_second)),
        Some(format!("{} in flight", it.in_flight)),
        it.oldest_ms.map(|ms| format!("oldest {}", millis(ms))),
    ];
    text.field("now", &parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    traffic(text, &it.traffic);
    let own =
        [(it.made_502, "502"), (it.made_503, "503"), (it.made_504, "504"), (it.refused, "refused")];
    text.field("its own", &counted(&own));
}

fn traffic(text: &mut Text, it: &Traffic) {
    let answered = [
        (it.informational, "1xx"),
        (it.success, "2xx"),
        (it.redirection, "3xx"),
        (it.client_error, "4xx"),
        (it.server_error, "5xx"),
    ];
    text.field("answered", &counted(&answered));
    let lost = [
        (it.cut, "cut"),
        (it.retried, "sent again elsewhere"),
        (it.abandoned, "given up by clients"),
        (it.connect_failed, "connections failed"),
        (it.tunnels, "upgraded and open"),
    ];
    text.field("besides", &counted(&lost));
    let latency =
        format!("p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", it.p50_ms, it.p95_ms, it.p99_ms);
    text.field("last 10 s", if it.p99_ms > 0.0 { &latency } else { "" });
    let moved = format!("{} in, {} out", bytes(it.bytes_in), bytes(it.bytes_out));
    text.field("moved", if it.bytes_in + it.bytes_out > 0 { &moved } else { "" });
}

/// `812 2xx, 3 5xx`: what did not happen is not said.
fn counted(of: &[(u64, &str)]) -> String {
    let some = of.iter().filter(|it| it.0 > 0).map(|(n, what)| format!("{n} {what}"));
    some.collect::<Vec<_>>().join(", ")
}
