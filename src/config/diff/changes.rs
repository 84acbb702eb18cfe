//! Which keys of something changed, in words.

use std::time::Duration;

use super::{Diff, Does, by_name, instance, name_of};
use crate::config::resolve::PROBES;
use crate::config::settings::{Instance, Service, Settings};
use crate::fleet::rules::InstanceRules;
use crate::quantity::format_duration;

/// `[deck]`, `[keys]` and the order of the services.
pub(super) fn deck(old: &Settings, new: &Settings, diff: &mut Diff) {
    let (before, after) = (&old.deck, &new.deck);
    let named = |list: &[(&'static str, bool)]| -> Vec<&'static str> {
        list.iter().filter(|it| it.1).map(|it| it.0).collect()
    };
    let later = named(&[
        ("state_dir", before.state_dir != after.state_dir),
        ("socket", before.socket != after.socket),
    ]);
    if let Some(what) = changed(&later) {
        let when = match before.state_dir != after.state_dir {
            true => "after `opsdeck shutdown`: what runs is known only where the state is now",
            false => "when the daemon is started again",
        };
        let message = format!("{what}; taken up {when}");
        diff.push("deck", Does::Stale, message);
    }
    let at_once = named(&[
        ("name", before.name != after.name),
        ("watch", before.watch != after.watch),
        ("operators", before.operators != after.operators),
        ("viewers", before.viewers != after.viewers),
        ("confirm", before.confirm != after.confirm),
        ("theme", before.look.theme != after.look.theme),
        ("mouse", before.look.mouse != after.look.mouse),
        ("ascii", before.look.ascii != after.look.ascii),
        ("show_cost", before.look.show_cost != after.look.show_cost),
        ("title", before.title != after.title),
        ("notify", before.notify != after.notify),
        ("gateway_user", before.gateway_user != after.gateway_user),
        ("metrics", before.metrics != after.metrics),
        ("[keys]", old.keys != new.keys),
        ("[hooks]", old.hooks != new.hooks),
        ("the order of the services", is_reordered(old, new)),
    ]);
    if let Some(what) = changed(&at_once) {
        diff.push("deck", Does::AtOnce, what);
    }
}

/// `command changes`, `command and user change`.
fn changed(parts: &[impl AsRef<str>]) -> Option<String> {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match &parts[..] {
        [] => None,
        [alone] => Some(format!("{alone} changes")),
        [most @ .., last] => Some(format!("{} and {last} change", most.join(", "))),
    }
}

fn is_reordered(old: &Settings, new: &Settings) -> bool {
    let (before, after) = (by_name(old), by_name(new));
    let is_common = |it: &&str| before.contains_key(*it) && after.contains_key(*it);
    let common = |of: &Settings| -> Vec<String> {
        of.services.iter().map(name_of).filter(is_common).map(str::to_owned).collect()
    };
    common(old) != common(new)
}

/// What makes a running instance stale.
pub(super) fn launch(old: &Instance, new: &Instance) -> Option<String> {
    let mut parts: Vec<String> = vec![];
    if old.port != new.port {
        let port = |it: Option<u16>| it.map_or_else(|| "none".to_owned(), |it| it.to_string());
        parts.push(format!("port ({} → {})", port(old.port), port(new.port)));
    }
    if old.launch.argv != new.launch.argv {
        parts.push(if new.pidfile.is_some() { "start".into() } else { "command".into() });
    }
    if old.launch.directory != new.launch.directory {
        parts.push("directory".into());
    }
    let (before, after) = (&old.launch.environment, &new.launch.environment);
    if before != after {
        let names: Vec<&str> = before
            .keys()
            .chain(after.keys().filter(|it| !before.contains_key(*it)))
            .filter(|it| before.get(*it) != after.get(*it))
            .map(String::as_str)
            .collect();
        parts.push(format!("environment ({})", names.join(", ")));
    }
    if old.launch.user != new.launch.user {
        parts.push("user".into());
    }
    let (before, after) = (&old.launch.rights, &new.launch.rights);
    if before.no_new_privs != after.no_new_privs {
        parts.push("no_new_privs".into());
    }
    if before.capabilities != after.capabilities {
        parts.push("capabilities".into());
    }
    let passed = |it: &Instance| it.launch.socket.as_ref().map(|it| (it.listen, it.name.clone()));
    if passed(old) != passed(new) {
        parts.push("socket".into());
    }
    changed(&parts)
}

/// What applies at once.
pub(super) fn rules(old: &Service, new: &Service) -> Vec<String> {
    let mut out = durations(old, new);
    out.extend(changed(&other(old, new)));
    if old.is_foreign() != new.is_foreign() {
        out.push("engine changes: what runs has to be stopped first".into());
    }
    out
}

fn durations(old: &Service, new: &Service) -> Vec<String> {
    let (before, after) = (&old.rules, &new.rules);
    let pairs: [(&str, Duration, Duration); 7] = [
        ("max_wait_time", before.max_wait_time, after.max_wait_time),
        ("reserve", before.reserve, after.reserve),
        ("drain_delay", before.drain_delay, after.drain_delay),
        ("start_seconds", before.start_seconds, after.start_seconds),
        ("stable_after", before.backoff.stable_after, after.backoff.stable_after),
        ("backoff.min", before.backoff.min, after.backoff.min),
        ("backoff.max", before.backoff.max, after.backoff.max),
    ];
    let different = pairs.iter().filter(|(_, before, after)| before != after);
    different
        .map(|(key, before, after)| {
            format!("{key} {} → {}", format_duration(*before), format_duration(*after))
        })
        .collect()
}

fn other(old: &Service, new: &Service) -> Vec<&'static str> {
    let (before, after) = (&old.rules, &new.rules);
    let probe = |service: &Service, n: usize| {
        let thresholds = [service.rules.startup, service.rules.liveness, service.rules.readiness];
        (service.written.probes.get(&PROBES[n].0).cloned(), thresholds[n])
    };
    let backup = |service: &Service, name: &str| {
        service.rules.instances.iter().find(|it| it.name.as_str() == name).map(|it| it.backup)
    };
    let is_other_backup =
        |it: &InstanceRules| backup(old, it.name.as_str()).is_some_and(|was| was != it.backup);
    let backlog = |service: &Service| service.socket().map(|it| it.backlog);
    let is_other_weight =
        |it: &Instance| instance(old, &it.name).is_some_and(|before| before.weight != it.weight);
    let is_elsewhere =
        |it: &Instance| instance(old, &it.name).is_some_and(|before| before.pidfile != it.pidfile);
    let liveness = |it: &Service| it.rules.foreign.is_some_and(|it| it.liveness_restarts);
    let commands = old.build != new.build || old.rollback != new.rollback;
    let parts = [
        ("profile", before.profile != after.profile),
        ("restart", before.restart != after.restart && after.foreign.is_none()),
        ("retries", before.retries != after.retries),
        ("stop", before.stop != after.stop),
        ("depends_on", before.depends_on != after.depends_on),
        ("backup", after.instances.iter().any(is_other_backup)),
        ("weight", new.instances.iter().any(is_other_weight)),
        ("probe.startup", probe(old, 0) != probe(new, 0)),
        ("probe.liveness", probe(old, 1) != probe(new, 1)),
        ("probe.readiness", probe(old, 2) != probe(new, 2)),
        ("rollout", before.rollout != after.rollout || commands),
        ("load", old.written.load != new.written.load),
        ("log", old.log != new.log),
        ("pidfile", new.instances.iter().any(is_elsewhere)),
        ("stop_command", old.written.stop_command != new.written.stop_command),
        ("liveness_restarts", liveness(old) != liveness(new)),
        ("reload", before.reload_drain != after.reload_drain),
        ("socket.backlog", backlog(old).zip(backlog(new)).is_some_and(|(old, new)| old != new)),
    ];
    parts.iter().filter(|it| it.1).map(|it| it.0).collect()
}
