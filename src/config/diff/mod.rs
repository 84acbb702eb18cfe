//! What applying a configuration would do, before it happens.
//!
//! | change | does |
//! |---|---|
//! | added, or enabled | start |
//! | removed, or disabled | stop: drained, then the ladder |
//! | command, directory, environment, user, rights, port, socket | stale: taken up by the next restart or rollout |
//! | probes, thresholds, limits, names of signals | at once |
//! | anything of processes that somebody else runs | at once: they are found, or left running |
//! | a gateway that leaves its address | stop: nobody listens there any more |
//!
//! Instances are told apart by name. Values of the environment are never part of a message, and secrets never among
//! the values.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::{Instance, Service, Settings};

mod changes;
mod gateways;
mod partial;
mod values;

pub use partial::without_stops;
pub use values::KeyChange;

/// The end of the sentence of what goes stale.
pub const LATER: &str = "; taken up by the next restart or rollout";

/// What a change does when it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Does {
    Start,
    Stop,
    Stale,
    AtOnce,
}

impl Does {
    /// The word on the wire: `start`, `stop`, `stale`, `at-once`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Stale => "stale",
            Self::AtOnce => "at-once",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A service, an instance, or `deck`.
    pub name: String,
    pub does: Does,
    /// A sentence without the name: `command changes; taken up by the next restart or rollout`.
    pub message: String,
    /// Of what goes stale or applies at once: the keys, without secrets.
    pub values: Vec<KeyChange>,
}

/// The changes from one configuration to another, in the order of the new file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    pub changes: Vec<Change>,
    stops: Vec<String>,
    /// Services that would stop as a whole, and that run now.
    services_stopped: usize,
    services_before: usize,
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Names of the services that would stop, and of instances that leave a service that stays.
    pub fn stops(&self) -> &[String] {
        &self.stops
    }

    /// More than half of the services that run now would stop: a slip of the editor looks like that.
    pub fn stops_more_than_half(&self) -> bool {
        self.services_stopped * 2 > self.services_before
    }

    fn push(&mut self, name: &str, does: Does, message: impl Into<String>) {
        if does == Does::Stop {
            self.stops.push(name.to_owned());
        }
        let (name, message) = (name.to_owned(), message.into());
        self.changes.push(Change { name, does, message, values: vec![] });
    }
}

/// Compares two configurations.
pub fn diff(old: &Settings, new: &Settings) -> Diff {
    let services_before = old.services.iter().filter(|it| it.rules.enabled).count();
    let mut diff = Diff { services_before, ..Diff::default() };
    changes::deck(old, new, &mut diff);
    let (before, after) = (by_name(old), by_name(new));
    for service in &new.services {
        match before.get(name_of(service)) {
            None => added(service, &mut diff),
            Some(before) => kept(before, service, &mut diff),
        }
    }
    for service in old.services.iter().filter(|it| !after.contains_key(name_of(it))) {
        removed(service, &mut diff);
    }
    gateways::compare(old, new, &mut diff);
    values::explain(old, new, &mut diff);
    diff
}

fn added(service: &Service, diff: &mut Diff) {
    if service.rules.enabled && service.is_foreign() {
        diff.push(name_of(service), Does::AtOnce, "added: its pid files are followed");
    } else if service.rules.enabled {
        let name = name_of(service);
        let names: Vec<&str> = service.instances.iter().map(|it| it.name.as_str()).collect();
        // The line begins with the name of the service.
        let what = if names == [name] { "it".to_owned() } else { names.join(", ") };
        diff.push(name, Does::Start, format!("added: {what} will be started"));
    } else {
        diff.push(name_of(service), Does::AtOnce, "added, but not enabled: nothing is started");
    }
}

fn removed(service: &Service, diff: &mut Diff) {
    if service.rules.enabled && service.is_foreign() {
        diff.push(name_of(service), Does::AtOnce, "removed: it is left running");
    } else if service.rules.enabled {
        diff.services_stopped += 1;
        diff.push(name_of(service), Does::Stop, "removed: it will be drained and stopped");
    } else {
        diff.push(name_of(service), Does::AtOnce, "removed; it was not enabled");
    }
}

fn kept(old: &Service, new: &Service, diff: &mut Diff) {
    match (old.rules.enabled, new.rules.enabled) {
        (true, true) => running(old, new, diff),
        (false, true) if new.is_foreign() => {
            diff.push(name_of(new), Does::AtOnce, "enabled: its pid files are followed");
        }
        (true, false) if old.is_foreign() => {
            diff.push(name_of(new), Does::AtOnce, "disabled: it is left running");
        }
        (false, true) => diff.push(name_of(new), Does::Start, "enabled: it will be started"),
        (true, false) => {
            diff.services_stopped += 1;
            diff.push(name_of(new), Does::Stop, "disabled: it will be drained and stopped");
        }
        (false, false) if old != new => {
            diff.push(name_of(new), Does::AtOnce, "changes; it is not enabled");
        }
        (false, false) => {}
    }
}

/// A service that is wanted before and after.
fn running(old: &Service, new: &Service, diff: &mut Diff) {
    let name = name_of(new);
    let mut stale: Vec<(&str, String)> = vec![];
    for it in &new.instances {
        match instance(old, &it.name) {
            None if new.is_foreign() => {
                let message = format!("added to {name}: its pid file is followed");
                diff.push(&it.name, Does::AtOnce, message);
            }
            None => {
                diff.push(&it.name, Does::Start, format!("added to {name}: it will be started"));
            }
            Some(before) => {
                stale.extend(changes::launch(before, it).map(|what| (it.name.as_str(), what)));
            }
        }
    }
    for it in old.instances.iter().filter(|it| instance(new, &it.name).is_none()) {
        let (does, fate) = match old.is_foreign() {
            true => (Does::AtOnce, "it is left running"),
            false => (Does::Stop, "it will be drained and stopped"),
        };
        diff.push(&it.name, does, format!("removed from {name}: {fate}"));
    }
    let sentence = |what: &str| format!("{what}{LATER}");
    let reasons: BTreeSet<&str> = stale.iter().map(|it| it.1.as_str()).collect();
    match (reasons.first(), stale.len() == new.instances.len() && reasons.len() == 1) {
        (Some(what), true) => diff.push(name, Does::Stale, sentence(what)),
        _ => stale.iter().for_each(|(name, what)| diff.push(name, Does::Stale, sentence(what))),
    }
    let at_once = changes::rules(old, new);
    if !at_once.is_empty() {
        diff.push(name, Does::AtOnce, at_once.join("; "));
    }
}

fn name_of(service: &Service) -> &str {
    service.rules.name.as_str()
}

fn by_name(settings: &Settings) -> BTreeMap<&str, &Service> {
    settings.services.iter().map(|it| (name_of(it), it)).collect()
}

fn instance<'a>(service: &'a Service, name: &str) -> Option<&'a Instance> {
    service.instances.iter().find(|it| it.name == name)
}

#[cfg(test)]
mod tests;
