//! `opsdeck config show`: the configuration in effect, as TOML with every default filled in.
//!
//! What is printed is a configuration file again and gives the same settings, but for secrets: values
//! of variables and header fields whose names look secret are stars.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::fleet::rules::{Restart, Rung, Thresholds};
use crate::load::source::{Kind, Source};
use crate::probe::{Check, Probe, Rights};
use crate::quantity::{format_duration, format_size};

use super::command_line::join_command;
use super::keys::ACTIONS;
use super::resolve::PROBES;
use super::secret::{HIDDEN, veiled};
use super::settings::{
    Confirm, Deck, Embedded, Gateway, Hooks, Load, Nginx, Notify, Provider, RolloutCommand,
    Service, Settings, Text,
};

/// Prints the settings as TOML.
pub fn show(settings: &Settings) -> String {
    let mut out = Toml::default();
    out.comment("The configuration in effect, with every default.");
    for file in &settings.files {
        out.comment(&format!("Read from {}.", file.display().to_string().escape_debug()));
    }
    deck(&mut out, &settings.deck);
    out.table("keys");
    for (action, built_in, _) in ACTIONS {
        let built_in = || built_in.iter().map(|it| (*it).to_owned()).collect();
        let keys = settings.keys.get(*action).cloned().unwrap_or_else(built_in);
        out.key(action, list(keys.iter().map(|it| text(it))));
    }
    if let Some(it) = &settings.hooks {
        hooks(&mut out, it);
    }
    for it in &settings.services {
        service(&mut out, it);
    }
    for it in &settings.gateways {
        gateway(&mut out, it);
    }
    out.text
}

/// Lines of a file.
#[derive(Default)]
struct Toml {
    text: String,
}

impl Toml {
    fn comment(&mut self, comment: &str) {
        self.text.extend(["# ", comment, "\n"]);
    }

    fn table(&mut self, name: &str) {
        self.text.extend(["\n[", name, "]\n"]);
    }

    fn key(&mut self, name: &str, value: impl AsRef<str>) {
        self.text.extend([name, " = ", value.as_ref(), "\n"]);
    }

    /// A key, or a comment that says what its absence means.
    fn key_or(&mut self, name: &str, value: Option<String>, otherwise: &str) {
        match value {
            Some(value) => self.key(name, value),
            None => self.comment(&format!("{name}: {otherwise}")),
        }
    }
}

fn deck(out: &mut Toml, deck: &Deck) {
    out.table("deck");
    out.key_or("name", deck.name.as_deref().map(text), "the host name");
    out.key_or(
        "state_dir",
        deck.state_dir.as_deref().map(path),
        "/var/lib/opsdeck for root, else $XDG_STATE_HOME/opsdeck",
    );
    out.key_or("socket", deck.socket.as_deref().map(path), "opsdeck.sock in state_dir");
    out.key("watch", deck.watch.to_string());
    out.key("operators", list(deck.operators.iter().map(|it| text(it))));
    out.key("viewers", list(deck.viewers.iter().map(|it| text(it))));
    let confirm = match deck.confirm {
        Confirm::Guard => "guard",
        Confirm::Always => "always",
        Confirm::Never => "never",
    };
    out.key("confirm", text(confirm));
    out.key("theme", text(&deck.look.theme));
    out.key("mouse", deck.look.mouse.to_string());
    out.key("ascii", deck.look.ascii.to_string());
    out.key("show_cost", deck.look.show_cost.to_string());
    out.key("title", deck.title.to_string());
    let notify = match deck.notify {
        Notify::Off => "off",
        Notify::Osc9 => "osc9",
        Notify::Osc777 => "osc777",
    };
    out.key("notify", text(notify));
    out.key("gateway_user", text(&deck.gateway_user));
    out.key_or("metrics", deck.metrics.map(|it| text(&it.to_string())), "nowhere");
}

fn hooks(out: &mut Toml, hooks: &Hooks) {
    out.table("hooks");
    out.key("command", text(&join_command(hooks.command.iter().map(String::as_str))));
    out.key("on", list(hooks.on.iter().map(|it| text(it.word()))));
    out.key("timeout", duration(hooks.timeout));
    out.key("interval", duration(hooks.interval));
    out.key("burst", hooks.burst.to_string());
}

fn gateway(out: &mut Toml, gateway: &Gateway) {
    out.table(&format!("gateway.{}", name(gateway.name.as_str())));
    out.key("service", text(gateway.service.as_str()));
    match &gateway.provider {
        Provider::Embedded(it) => embedded(out, it),
        Provider::Nginx(it) => nginx(out, it),
    }
}

fn nginx(out: &mut Toml, it: &Nginx) {
    out.key("provider", text("nginx"));
    let command = |words: &[String]| text(&join_command(words.iter().map(String::as_str)));
    let mut values = vec![
        ("file", path(&it.file)),
        ("upstream", text(&it.upstream)),
        ("pid_file", path(&it.pid_file)),
        ("test", command(&it.test)),
    ];
    values.extend(it.reload.as_ref().map(|it| ("reload", command(it))));
    values.extend(it.max_fails.map(|it| ("max_fails", it.to_string())));
    values.extend(it.fail_timeout.map(|it| ("fail_timeout", duration(it))));
    values.push(("directives", list(it.directives.iter().map(|it| text(it)))));
    values.extend(it.switches.as_deref().map(|it| ("switches", path(it))));
    if let Some(log) = &it.access_log {
        values.extend([("access_log", path(log)), ("log_format", text(&it.log_format))]);
    }
    values.extend(it.stub_status.as_ref().map(|it| ("stub_status", text(it))));
    out.key("nginx", inline(values));
}

fn embedded(out: &mut Toml, it: &Embedded) {
    out.key("provider", text("embedded"));
    out.key("listen", text(&it.listen.to_string()));
    out.key("hold", duration(it.hold));
    out.key("hold_max", it.hold_max.to_string());
    out.key("upgrade_wait", duration(it.upgrade_wait));
    out.key("connect_timeout", duration(it.connect_timeout));
    out.key("answer_timeout", duration(it.answer_timeout));
    let size = |bytes| text(&format_size(bytes));
    let limits = [
        ("connections", it.limits.connections.to_string()),
        ("header_size", size(it.limits.header_size)),
        ("buffer", size(it.limits.buffer)),
        ("body_size", size(it.limits.body_size)),
        ("header_timeout", duration(it.limits.header_timeout)),
        ("idle_timeout", duration(it.limits.idle_timeout)),
        ("body_timeout", duration(it.limits.body_timeout)),
    ];
    out.key("limits", inline(limits));
}

fn service(out: &mut Toml, service: &Service) {
    let (rules, written) = (&service.rules, &service.written);
    out.table(&format!("service.{}", name(rules.name.as_str())));
    out.key("engine", text(if rules.foreign.is_some() { "pidfile" } else { "local" }));
    let is_guess = rules.profile.guess.is_some();
    out.key("profile", text(if is_guess { "auto" } else { rules.profile.name.as_str() }));
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
    out.key("enabled", rules.enabled.to_string());
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
    for (it, instance) in rules.instances.iter().zip(&service.instances) {
        let auto = it.auto_port.then(|| ("port", text("auto")));
        let port = it.port.map(|it| ("port", it.to_string())).or(auto);
        let weight = instance.weight.map(|it| ("weight", it.to_string()));
        let values = port.into_iter().chain([("backup", it.backup.to_string())]).chain(weight);
        out.key(&format!("instance.{}", name(it.name.as_str())), inline(values));
    }
    let thresholds = [rules.startup, rules.liveness, rules.readiness];
    for ((kind, label), thresholds) in PROBES.iter().zip(thresholds) {
        if let Some((it, thresholds)) = written.probes.get(kind).zip(thresholds) {
            out.key(&format!("probe.{label}"), probe(it, thresholds));
        }
    }
    out.key("rollout", rollout(service));
    out.key_or("load", load(&written.load), "what stands in front counts, else the sockets tell");
    let log = [
        ("max_size", text(&format_size(service.log.max_size))),
        ("keep", service.log.keep.to_string()),
    ];
    out.key("log", inline(log));
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

fn command<'a>(words: impl Iterator<Item = &'a Text>) -> String {
    text(&join_command(words.map(|it| it.0.as_str())))
}

fn masked<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let value = |(key, value): (&str, &str)| (name(key), text(&veiled(key, value)));
    let values: BTreeMap<String, String> = values.map(value).collect();
    inline(values.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn inline<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let values: Vec<String> =
        values.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if values.is_empty() { "{}".into() } else { format!("{{ {} }}", values.join(", ")) }
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

fn duration(duration: Duration) -> String {
    text(&format_duration(duration))
}

/// Paths are UTF-8: they come from a TOML file.
fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// A key, in quotes where it needs them.
pub(crate) fn name(text: &str) -> String {
    let bare = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { self::text(text) }
}

/// A string of TOML.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            it if it.is_control() => out.extend(["\\u", &format!("{:04X}", u32::from(it))]),
            it => out.push(it),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::config::parse;

    const EVERYTHING: &str = r#"
        [deck]
        name = "shop \"1\"\n\u0001"
        state_dir = "/srv/state"
        confirm = "always"
        viewers = ["@staff"]
        [keys]
        term = ["T", "ctrl-t"]
        [service."a.b"]
        command = ["sh", "-c", "x | y > '$Z'", "{version}", ""]
        directory = "/srv/{instance}"
        environment = { APP = "{port} {{x}}", "odd name" = "é\t'" }
        user = "www-data"
        no_new_privs = true
        capabilities = ["CAP_NET_BIND_SERVICE"]
        profile = "nginx"
        restart = "on-failure"
        retries = 3
        max_wait_time = "1m30s"
        stop = [{ signal = "QUIT", wait = "1.5s" }, { signal = "SIGRTMIN+3" }]
        depends_on = ["redis"]
        instance.one = { port = 1 }
        instance.two = { port = 2, backup = true }
        probe.startup = { exec.command = "check {instance} --x", timeout = "300ms" }
        probe.liveness = { grpc.service = "{service}.Shop" }
        probe.readiness = { http = { path = "/r?{service}", headers = { Host = "{instance}" } }, expect = { status = 204, body = "v{version} \\d{{2}}" }, success_threshold = 2 }
        rollout = { build = ["make {instance}", ["x", "a b"]], rollback = ["undo"], build_timeout = "5s", min_ready = 0, surge = true }
        log = { max_size = "1MiB", keep = 0 }
        [service.redis]
        command = "redis-server"
        enabled = false
        [gateway.shop]
        service = "a.b"
        listen = ":80"
        hold = "1s"
        limits = { buffer = "0B", connections = 5 }
        [service.old]
        command = "php old"
        instance.old1 = { port = 9601, weight = 3 }
        [service.theirs]
        engine = "pidfile"
        pidfile = "run/{instance}.pid"
        directory = "/srv"
        start = "ctl start {instance}"
        stop_command = ["ctl", "stop", "{instance}"]
        liveness_restarts = true
        instance = { t1 = { port = 81 }, t2 = { port = 82 } }
        [service.silent]
        engine = "pidfile"
        pidfile = "/run/silent.pid"
        [gateway.old]
        service = "old"
        provider = "nginx"
        nginx = { file = "conf.d/old.conf", upstream = "o", test = "sudo -n nginx -t", reload = ["sudo", "-n", "a b"], max_fails = 0, fail_timeout = "5s", directives = ["zone o 64k"], switches = "/run/o", access_log = "/l", log_format = "$status up=$upstream_addr", stub_status = "http://127.0.0.1:8080/s" }
    "#;

    #[test]
    fn what_is_shown_gives_the_same_settings() {
        for text in [EVERYTHING, include_str!("../../config.example.toml"), ""] {
            let settings = parse("/etc/config.toml", text)
                .unwrap_or_else(|err| panic!("{}", err.render(false)));
            let shown = show(&settings);
            let again = parse("/etc/config.toml", &shown)
                .unwrap_or_else(|err| panic!("{shown}\n{}", err.render(false)));
            assert_eq!(again, settings, "{shown}");
            assert_eq!(show(&again), shown);
        }
    }

    #[test]
    fn the_smallest_service_has_every_default() {
        let shown = show(&parse("c", "[service.queue]\ncommand = \"php queue\"\nenvironment = { DB_PASSWORD = \"geheim\" }").unwrap());
        let (_, service) = shown.split_once("[service").unwrap();
        assert_snapshot!(service, @r#"
        .queue]
        engine = "local"
        profile = "generic"
        command = "php queue"
        # directory: the daemon's own
        environment = { DB_PASSWORD = "********" }
        # user: the daemon's own
        no_new_privs = false
        # capabilities: those of its user
        enabled = true
        restart = "always"
        retries = "unlimited"
        max_wait_time = "10s"
        stop = [{ signal = "SIGTERM" }]
        reserve = "3s"
        drain_delay = "0s"
        start_seconds = "1s"
        stable_after = "1m"
        backoff = { min = "1s", max = "1m" }
        depends_on = []
        reload = { drain = false }
        instance.queue = { backup = false }
        rollout = { build = [], rollback = [], build_timeout = "10m", settle = "3s", successes = 1, ready_timeout = "1m", min_ready = 0, surge = false }
        # load: what stands in front counts, else the sockets tell
        log = { max_size = "50MiB", keep = 5 }
        "#);
    }
}
