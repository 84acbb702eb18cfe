//! A service as its part of a configuration file.

use std::time::Duration;

use super::toml::{Toml, command, duration, inline, list, masked, name, text};
use crate::config::command_line::join_command;
use crate::config::resolve::PROBES;
use crate::config::secret::{HIDDEN, veiled};
use crate::config::settings::{Load, RolloutCommand, Service};
use crate::fleet::rules::{Chosen, Restart, Rung, Thresholds};
use crate::load::source::{Kind, Source};
use crate::probe::{Check, Probe, Rights};
use crate::quantity::format_size;

pub(super) fn service(out: &mut Toml, service: &Service) {
    let (rules, written) = (&service.rules, &service.written);
    out.table(&format!("service.{}", name(rules.name.as_str())));
    out.key("engine", text(if rules.foreign.is_some() { "pidfile" } else { "local" }));
    let is_guess = rules.profile.chosen != Chosen::Named;
    out.key("profile", text(if is_guess { "auto" } else { rules.profile.name.as_str() }));
    what_runs(out, service);
    out.key("enabled", rules.enabled.to_string());
    how_it_lives(out, service);
    out.key("depends_on", list(rules.depends_on.iter().map(|it| text(it.as_str()))));
    out.key("reload", inline([("drain", rules.reload_drain.to_string())]));
    if let Some(socket) = service.socket() {
        let values = [
            ("listen", text(&socket.listen.to_string())),
            ("name", text(&socket.name)),
            ("backlog", socket.backlog.to_string()),
        ];
        out.key("socket", inline(values));
    }
    instances(out, service);
    probes(out, service);
    out.key("rollout", rollout(service));
    out.key_or("load", load(&written.load), "what stands in front counts, else the sockets tell");
    let log = [
        ("max_size", text(&format_size(service.log.max_size))),
        ("keep", service.log.keep.to_string()),
    ];
    out.key("log", inline(log));
}

/// The command and what it runs with.
fn what_runs(out: &mut Toml, service: &Service) {
    let (rules, written) = (&service.rules, &service.written);
    match rules.foreign {
        None => out.key("command", command(written.command.iter())),
        Some(foreign) => {
            out.key_or("pidfile", written.pidfile.as_deref().map(text), "missing");
            let start = foreign.starts.then(|| command(written.command.iter()));
            out.key_or("start", start, "nothing starts it");
            out.key("liveness_restarts", foreign.liveness_restarts.to_string());
        }
    }
    out.key_or("directory", written.directory.as_deref().map(text), "the daemon's own");
    let variables =
        written.environment.iter().map(|(name, value)| (name.as_str(), value.0.as_str()));
    out.key("environment", masked(variables));
    out.key_or("user", service.user.as_deref().map(text), "the daemon's own");
    if let Some(Rights { no_new_privs, capabilities }) = service.rights() {
        out.key("no_new_privs", no_new_privs.to_string());
        let kept = capabilities.as_ref().map(|it| list(it.iter().map(|it| text(it))));
        out.key_or("capabilities", kept, "those of its user");
    }
}

/// When it is started again, and how it is stopped.
fn how_it_lives(out: &mut Toml, service: &Service) {
    let (rules, written) = (&service.rules, &service.written);
    if rules.foreign.is_none() {
        out.key("restart", text(restart(rules.restart)));
    }
    out.key("retries", rules.retries.map_or_else(|| text("unlimited"), |it| it.to_string()));
    out.key("max_wait_time", duration(rules.max_wait_time));
    match &written.stop_command[..] {
        [] => out.key("stop", list(rules.stop.iter().map(rung))),
        words => out.key("stop_command", command(words.iter())),
    }
    out.key("reserve", duration(rules.reserve));
    out.key("drain_delay", duration(rules.drain_delay));
    out.key("start_seconds", duration(rules.start_seconds));
    out.key("stable_after", duration(rules.backoff.stable_after));
    let backoff = [("min", duration(rules.backoff.min)), ("max", duration(rules.backoff.max))];
    out.key("backoff", inline(backoff));
}

fn instances(out: &mut Toml, service: &Service) {
    let rules = &service.rules;
    for (it, instance) in rules.instances.iter().zip(&service.instances) {
        let auto = it.auto_port.then(|| ("port", text("auto")));
        let port = it.port.map(|it| ("port", it.to_string())).or(auto);
        let weight = instance.weight.map(|it| ("weight", it.to_string()));
        let values = port.into_iter().chain([("backup", it.backup.to_string())]).chain(weight);
        out.key(&format!("instance.{}", name(it.name.as_str())), inline(values));
    }
}

fn probes(out: &mut Toml, service: &Service) {
    let (rules, written) = (&service.rules, &service.written);
    let thresholds = [rules.startup, rules.liveness, rules.readiness];
    for ((kind, label), thresholds) in PROBES.iter().zip(thresholds) {
        if let Some((it, thresholds)) = written.probes.get(kind).zip(thresholds) {
            out.key(&format!("probe.{label}"), probe(it, thresholds));
        }
    }
}

/// Without what is secret in a URL.
fn load(load: &Load) -> Option<String> {
    let source = match load {
        Load::Unsaid => return None,
        Load::Gateway => return Some(text("gateway")),
        Load::Sockets => return Some(text("sockets")),
        Load::Asked(source) => source,
    };
    let at = text(&place(source));
    let key = |name: &str| inline([(name, at.clone())]);
    let value = match &source.kind {
        Kind::Swoole | Kind::Nginx | Kind::Puma => at,
        Kind::SwooleFile => key("file"),
        Kind::SwooleAdmin => key("admin"),
        Kind::PhpFpm if source.counts_itself => at,
        Kind::PhpFpm => inline([("status", at), ("status_listen", true.to_string())]),
        Kind::Prometheus { requests, in_flight } => {
            let metrics = [("requests", requests), ("in_flight", in_flight)];
            let metrics =
                metrics.into_iter().filter_map(|(key, it)| Some((key, text(it.as_ref()?))));
            let own = ("counts_itself", source.counts_itself.to_string());
            inline([("url", at)].into_iter().chain(metrics).chain([own]))
        }
    };
    Some(inline([(source.kind.word(), value)]))
}

/// Where a source is, without its password or its token.
fn place(source: &Source) -> String {
    match (&source.kind, source.at.rsplit_once('@'), source.at.split_once('?')) {
        (Kind::SwooleFile, ..) => source.at.clone(),
        (Kind::SwooleAdmin, Some((_, address)), _) => format!("{HIDDEN}@{address}"),
        (_, _, Some((page, query))) => format!("{page}?{}", veiled("", query)),
        _ => source.at.clone(),
    }
}

fn restart(restart: Restart) -> &'static str {
    match restart {
        Restart::Always => "always",
        Restart::OnFailure => "on-failure",
        Restart::Never => "never",
    }
}

fn rung(rung: &Rung) -> String {
    let wait = rung.wait.map(|it| ("wait", duration(it)));
    inline([("signal", text(&rung.signal.to_string()))].into_iter().chain(wait))
}

fn probe(probe: &Probe, thresholds: Thresholds) -> String {
    let mut values = match &probe.check {
        Check::Http { host, path, headers, expect, .. } => {
            let headers =
                masked(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let http = inline([("path", text(path)), ("host", text(host)), ("headers", headers)]);
            let expected = [("status", &expect.status), ("body", &expect.body)];
            let expected =
                expected.into_iter().filter_map(|(key, it)| Some((key, text(it.as_ref()?))));
            vec![("http", http), ("expect", inline(expected))]
        }
        Check::Tcp { host, .. } => vec![("tcp", inline([("host", text(host))]))],
        Check::Grpc { host, service, .. } => {
            let service = (!service.is_empty()).then(|| ("service", text(service)));
            vec![("grpc", inline([("host", text(host))].into_iter().chain(service)))]
        }
        Check::Exec { argv, .. } => {
            let words = join_command(argv.iter().map(String::as_str));
            vec![("exec", inline([("command", text(&words))]))]
        }
    };
    values.extend([
        ("initial_delay", duration(probe.initial_delay)),
        ("period", duration(probe.period)),
        ("timeout", duration(probe.timeout)),
        ("success_threshold", thresholds.success.to_string()),
        ("failure_threshold", thresholds.failure.to_string()),
    ]);
    inline(values)
}

fn rollout(service: &Service) -> String {
    let rules = &service.rules.rollout;
    let commands =
        |commands: &[RolloutCommand]| list(commands.iter().map(|it| command(it.argv.iter())));
    let timeout = service
        .build
        .iter()
        .chain(&service.rollback)
        .next()
        .map_or(Duration::from_secs(600), |it| it.timeout);
    let surge = rules.spare.is_some();
    let most = service.instances.len().saturating_sub(usize::from(!surge));
    inline([
        ("build", commands(&service.build)),
        ("rollback", commands(&service.rollback)),
        ("build_timeout", duration(timeout)),
        ("settle", duration(rules.settle)),
        ("successes", rules.successes.to_string()),
        ("ready_timeout", duration(rules.ready_timeout)),
        ("min_ready", rules.min_ready.map_or_else(|| most.to_string(), |it| it.to_string())),
        ("surge", surge.to_string()),
    ])
}
