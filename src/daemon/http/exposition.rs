//! The deck as Prometheus reads it: text format 0.0.4, one family of samples after another.
//!
//! Made from the same snapshot as everything else on the API, so a graph and the screen agree.

use std::fmt::Write;

use crate::api::{Deck, Gateway, Instance, Service, Traffic};

/// Of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels and a value.
type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

/// The whole answer to `GET /metrics`.
pub fn text(deck: &Deck) -> String {
    let mut out = Text(String::with_capacity(4096));
    let info = vec![("deck", deck.deck.as_str()), ("version", deck.version.as_str())];
    out.family("info", GAUGE, "Which deck this is.", [(info, 1.0)]);
    services(&mut out, deck);
    instances(&mut out, deck);
    loads(&mut out, deck);
    gateways(&mut out, deck);
    behind_gateways(&mut out, deck);
    out.0
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

fn services(out: &mut Text, deck: &Deck) {
    let all = |of: fn(&Service) -> f64| {
        deck.services.iter().map(move |it| (vec![("service", it.name.as_str())], of(it)))
    };
    let ready = all(|it| f64::from(it.ready));
    out.family("service_instances_ready", GAUGE, "Instances that are ready.", ready);
    let wanted = all(|it| f64::from(it.wanted));
    out.family("service_instances_wanted", GAUGE, "Instances that are to run.", wanted);
    let rolls = all(|it| truth(it.rollout.as_ref().is_some_and(|it| it.ended.is_none())));
    out.family("service_rollout_active", GAUGE, "A rolling restart is under way.", rolls);
    let halted = all(|it| truth(it.rollout.as_ref().is_some_and(|it| it.halted.is_some())));
    out.family("service_rollout_halted", GAUGE, "The last rolling restart halted.", halted);
}

/// Of the instances that have such a figure.
fn each<'a>(deck: &'a Deck, of: fn(&Instance) -> Option<f64>) -> impl Iterator<Item = Sample<'a>> {
    let each = deck.services.iter().flat_map(|it| &it.instances);
    each.filter_map(move |it| Some((of_instance(it), of(it)?)))
}

fn instances(out: &mut Text, deck: &Deck) {
    let all = |of| each(deck, of);
    let up = all(|it| Some(truth(it.pid.is_some())));
    out.family("instance_up", GAUGE, "Its process runs.", up);
    let ready = all(|it| Some(truth(it.pid.is_some() && it.ready == Some(true))));
    out.family("instance_ready", GAUGE, "It is ready for requests.", ready);
    let rotation = all(|it| Some(truth(it.pid.is_some() && it.in_rotation)));
    out.family("instance_in_rotation", GAUGE, "It may get new requests.", rotation);
    let restarts = all(|it| Some(number(it.restarts)));
    out.family("instance_restarts_total", COUNTER, "Restarts that nobody asked for.", restarts);
    let generation = all(|it| Some(number(it.generation)));
    out.family("instance_starts_total", COUNTER, "Starts of its process.", generation);
    let started = all(|it| {
        let at = it.started.filter(|_| it.pid.is_some())?;
        Some(at.as_duration().as_secs_f64())
    });
    let help = "When its process was started, in Unix time.";
    out.family("instance_start_time_seconds", GAUGE, help, started);
}

/// What instances use, and what comes in, whoever counts it.
fn loads(out: &mut Text, deck: &Deck) {
    let all = |of| each(deck, of);
    let cpu = all(|it| it.cpu_percent.map(|it| it / 100.0));
    out.family("instance_cpu_ratio", GAUGE, "CPU of its processes; 1 is one core.", cpu);
    let memory = all(|it| it.memory_bytes.map(number));
    out.family("instance_memory_bytes", GAUGE, "Memory of its processes.", memory);
    let in_flight = all(|it| it.in_flight.map(f64::from));
    let help = "Requests that are not answered yet, as the deck shows them.";
    out.family("instance_in_flight", GAUGE, help, in_flight);
    let connections = all(|it| it.connections.map(f64::from));
    out.family("instance_connections", GAUGE, "Connections of its port.", connections);
    let queue = all(|it| it.accept_queue.map(f64::from));
    out.family("instance_accept_queue", GAUGE, "Connections it has not accepted yet.", queue);
    let limit = all(|it| it.accept_limit.map(f64::from));
    let help = "How many connections may wait to be accepted.";
    out.family("instance_accept_queue_limit", GAUGE, help, limit);
    let requests = all(|it| it.load.as_ref()?.requests.map(number));
    let help = "Requests since its counter began, by its own word.";
    out.family("instance_requests_total", COUNTER, help, requests);
    let workers = deck.services.iter().flat_map(|it| &it.instances).flat_map(by_work);
    out.family(
        "instance_workers",
        GAUGE,
        "Its workers by its own word.",
        workers.collect::<Vec<_>>(),
    );
}

fn by_work(it: &Instance) -> impl Iterator<Item = Sample<'_>> {
    let load = it.load.as_ref();
    let counts = [("busy", load.and_then(|it| it.busy)), ("idle", load.and_then(|it| it.idle))];
    let labels = move |state| [of_instance(it), vec![("state", state)]].concat();
    counts.into_iter().filter_map(move |(state, n)| Some((labels(state), number(n?))))
}

fn gateways(out: &mut Text, deck: &Deck) {
    let of_gateway = |service: &'_ Service| service.gateway.is_some();
    let fronted: Vec<_> = deck.services.iter().filter(|it| of_gateway(it)).collect();
    let all = |of: fn(&Gateway) -> f64| {
        fronted.iter().filter_map(move |it| {
            let gateway = it.gateway.as_ref()?;
            Some((
                vec![("gateway", gateway.name.as_str()), ("service", it.name.as_str())],
                of(gateway),
            ))
        })
    };
    let up = all(|it| truth(it.up && it.trouble.is_none()));
    out.family("gateway_up", GAUGE, "Clients can come in.", up);
    let connections = all(|it| number(it.connections));
    out.family("gateway_connections", GAUGE, "Connections of clients.", connections);
    let held = all(|it| number(it.held));
    out.family("gateway_held", GAUGE, "Requests that wait for an instance.", held);
    let held = all(|it| number(it.held_total));
    out.family("gateway_held_total", COUNTER, "Requests that ever waited for one.", held);
    let own: Vec<_> = fronted.iter().flat_map(|it| own_answers(it)).collect();
    out.family("gateway_own_answers_total", COUNTER, "Answers that no instance gave.", own);
    let latency = fronted.iter().filter_map(|it| Some((it, it.gateway.as_ref()?)));
    let latency: Vec<_> = latency
        .flat_map(|(it, gateway)| quantiles(&[("service", it.name.as_str())], &gateway.traffic))
        .collect();
    let help = "How long replies took over the last ten seconds, all instances together.";
    out.family("gateway_service_latency_seconds", GAUGE, help, latency);
}

fn own_answers(service: &Service) -> Vec<Sample<'_>> {
    let Some(it) = &service.gateway else { return vec![] };
    let all =
        [("502", it.made_502), ("503", it.made_503), ("504", it.made_504), ("4xx", it.refused)];
    let labels = |code| {
        vec![("gateway", it.name.as_str()), ("service", service.name.as_str()), ("code", code)]
    };
    all.into_iter().map(|(code, n)| (labels(code), number(n))).collect()
}

fn behind_gateways(out: &mut Text, deck: &Deck) {
    let each = || {
        let all = deck.services.iter().filter(|it| it.gateway.is_some());
        all.flat_map(|it| &it.instances).filter_map(|it| Some((it, it.traffic.as_ref()?)))
    };
    let in_flight = each().map(|(it, _)| (of_instance(it), f64::from(it.in_flight.unwrap_or(0))));
    out.family("gateway_in_flight", GAUGE, "Requests that are not answered yet.", in_flight);
    let answered = each().flat_map(|(it, traffic)| by_code(it, traffic));
    out.family("gateway_requests_total", COUNTER, "Requests answered, by status.", answered);
    let all = |of: fn(&Traffic) -> u64| each().map(move |(it, t)| (of_instance(it), number(of(t))));
    let help = "Given to another instance after this one did not take them.";
    out.family("gateway_retried_total", COUNTER, help, all(|it| it.retried));
    let help = "Lost by an instance that had them.";
    out.family("gateway_cut_total", COUNTER, help, all(|it| it.cut));
    let help = "Given up by their clients.";
    out.family("gateway_abandoned_total", COUNTER, help, all(|it| it.abandoned));
    let help = "Connections to an instance that could not be made.";
    out.family("gateway_connect_failures_total", COUNTER, help, all(|it| it.connect_failed));
    let help = "Bytes to the instance.";
    out.family("gateway_request_bytes_total", COUNTER, help, all(|it| it.bytes_in));
    let help = "Bytes from the instance.";
    out.family("gateway_response_bytes_total", COUNTER, help, all(|it| it.bytes_out));
    let latency = each().flat_map(|(it, traffic)| quantiles(&of_instance(it), traffic));
    let help = "How long replies took over the last ten seconds.";
    out.family("gateway_latency_seconds", GAUGE, help, latency);
}

fn of_instance(it: &Instance) -> Vec<(&'static str, &str)> {
    vec![("service", &it.service), ("instance", &it.name)]
}

fn by_code<'a>(it: &'a Instance, traffic: &Traffic) -> Vec<Sample<'a>> {
    let all = [
        ("1xx", traffic.informational),
        ("2xx", traffic.success),
        ("3xx", traffic.redirection),
        ("4xx", traffic.client_error),
        ("5xx", traffic.server_error),
    ];
    let labels = |code| [of_instance(it), vec![("code", code)]].concat();
    all.into_iter().map(|(code, n)| (labels(code), number(n))).collect()
}

/// Nothing where nothing was answered lately: 0 s would be a lie.
fn quantiles<'a>(labels: &[(&'static str, &'a str)], it: &Traffic) -> Vec<Sample<'a>> {
    let all = [("0.5", it.p50_ms), ("0.95", it.p95_ms), ("0.99", it.p99_ms)];
    let some = all.into_iter().filter(|_| it.p99_ms > 0.0);
    some.map(|(quantile, ms)| ([labels, &[("quantile", quantile)]].concat(), ms / 1000.0)).collect()
}

fn truth(it: bool) -> f64 {
    f64::from(u8::from(it))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
fn number(it: u64) -> f64 {
    it as f64
}

/// The text so far.
struct Text(String);

impl Text {
    /// Adds a family, unless it has no samples. Writing to a text cannot fail.
    fn family<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let _ = write!(self.0, "# HELP opsdeck_{name} {help}\n# TYPE opsdeck_{name} {kind}\n");
        for (labels, value) in samples {
            let _ = write!(self.0, "opsdeck_{name}{{");
            for (n, (label, value)) in labels.iter().enumerate() {
                let comma = if n == 0 { "" } else { "," };
                let _ = write!(self.0, "{comma}{label}=\"{}\"", escaped(value));
            }
            let _ = writeln!(self.0, "}} {value}");
        }
    }
}

/// The value of a label: a backslash, a quote and a newline would end it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Load;

    #[test]
    fn a_fleet_as_text() {
        let traffic = Traffic {
            requests: 9,
            success: 7,
            server_error: 2,
            retried: 1,
            bytes_in: 1 << 40,
            p50_ms: 0.25,
            p95_ms: 31.5,
            p99_ms: 44.0,
            ..Traffic::default()
        };
        let web1 = Instance {
            name: "web1".into(),
            service: "web".into(),
            pid: Some(4711),
            ready: Some(true),
            in_flight: Some(3),
            restarts: 2,
            generation: 4,
            started: Some(jiff::Timestamp::UNIX_EPOCH),
            cpu_percent: Some(12.5),
            memory_bytes: Some(1 << 20),
            accept_queue: Some(0),
            load: Some(Load { busy: Some(2), ..Load::default() }),
            traffic: Some(traffic),
            ..Instance::default()
        };
        let gateway = Gateway { name: "shop".into(), up: true, held: 12, ..Gateway::default() };
        let web = Service {
            name: "web".into(),
            ready: 1,
            wanted: 1,
            gateway: Some(gateway),
            instances: vec![web1],
            ..Service::default()
        };
        let deck = Deck {
            deck: "a \"shop\" \\\nof two lines".into(),
            version: "1".into(),
            services: vec![web],
            ..Deck::default()
        };
        let all = text(&deck);
        let samples: Vec<_> = all.lines().filter(|it| !it.starts_with('#')).collect();
        insta::assert_snapshot!(samples.join("\n"), @r#"
        opsdeck_info{deck="a \"shop\" \\\nof two lines",version="1"} 1
        opsdeck_service_instances_ready{service="web"} 1
        opsdeck_service_instances_wanted{service="web"} 1
        opsdeck_service_rollout_active{service="web"} 0
        opsdeck_service_rollout_halted{service="web"} 0
        opsdeck_instance_up{service="web",instance="web1"} 1
        opsdeck_instance_ready{service="web",instance="web1"} 1
        opsdeck_instance_in_rotation{service="web",instance="web1"} 0
        opsdeck_instance_restarts_total{service="web",instance="web1"} 2
        opsdeck_instance_starts_total{service="web",instance="web1"} 4
        opsdeck_instance_start_time_seconds{service="web",instance="web1"} 0
        opsdeck_instance_cpu_ratio{service="web",instance="web1"} 0.125
        opsdeck_instance_memory_bytes{service="web",instance="web1"} 1048576
        opsdeck_instance_in_flight{service="web",instance="web1"} 3
        opsdeck_instance_accept_queue{service="web",instance="web1"} 0
        opsdeck_instance_workers{service="web",instance="web1",state="busy"} 2
        opsdeck_gateway_up{gateway="shop",service="web"} 1
        opsdeck_gateway_connections{gateway="shop",service="web"} 0
        opsdeck_gateway_held{gateway="shop",service="web"} 12
        opsdeck_gateway_held_total{gateway="shop",service="web"} 0
        opsdeck_gateway_own_answers_total{gateway="shop",service="web",code="502"} 0
        opsdeck_gateway_own_answers_total{gateway="shop",service="web",code="503"} 0
        opsdeck_gateway_own_answers_total{gateway="shop",service="web",code="504"} 0
        opsdeck_gateway_own_answers_total{gateway="shop",service="web",code="4xx"} 0
        opsdeck_gateway_in_flight{service="web",instance="web1"} 3
        opsdeck_gateway_requests_total{service="web",instance="web1",code="1xx"} 0
        opsdeck_gateway_requests_total{service="web",instance="web1",code="2xx"} 7
        opsdeck_gateway_requests_total{service="web",instance="web1",code="3xx"} 0
        opsdeck_gateway_requests_total{service="web",instance="web1",code="4xx"} 0
        opsdeck_gateway_requests_total{service="web",instance="web1",code="5xx"} 2
        opsdeck_gateway_retried_total{service="web",instance="web1"} 1
        opsdeck_gateway_cut_total{service="web",instance="web1"} 0
        opsdeck_gateway_abandoned_total{service="web",instance="web1"} 0
        opsdeck_gateway_connect_failures_total{service="web",instance="web1"} 0
        opsdeck_gateway_request_bytes_total{service="web",instance="web1"} 1099511627776
        opsdeck_gateway_response_bytes_total{service="web",instance="web1"} 0
        opsdeck_gateway_latency_seconds{service="web",instance="web1",quantile="0.5"} 0.00025
        opsdeck_gateway_latency_seconds{service="web",instance="web1",quantile="0.95"} 0.0315
        opsdeck_gateway_latency_seconds{service="web",instance="web1",quantile="0.99"} 0.044
        "#);
        assert_eq!(text(&Deck::default()).lines().count(), 3, "what there is not has no family");
    }
}
