//! `opsdeck config show`: the configuration as its file says it, as TOML with every default filled in.
//!
//! What is printed is a configuration file again and gives the same settings, but for secrets: values
//! of variables and header fields whose names look secret are stars.

mod service;
mod toml;

use service::service;
use toml::{Toml, duration, inline, list, path};
pub(crate) use toml::{name, text};

use super::command_line::join_command;
use super::keys::ACTIONS;
use super::settings::{Confirm, Deck, Embedded, Gateway, Hooks, Nginx, Notify, Provider, Settings};
use crate::quantity::format_size;

/// Prints the settings as TOML.
pub fn show(settings: &Settings) -> String {
    let mut out = Toml::default();
    let file = settings.path.as_ref().map_or("its file".into(), |it| it.display().to_string());
    let file = file.escape_debug();
    out.comment(&format!("The configuration as {file} says it, with every default;"));
    out.comment("`opsdeck config diff` tells what runs otherwise.");
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
        for text in [EVERYTHING, include_str!("../../../config.example.toml"), ""] {
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
