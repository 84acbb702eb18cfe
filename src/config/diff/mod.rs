//! What applying a configuration would do, before it happens.
//!
//! | change | does |
//! |---|---|
//! | added, or enabled | start |
//! | removed, or disabled | stop: drained, then the ladder |
//! | command, directory, environment, user, rights, port, socket | stale: taken up by the next restart or rollout |
//! | probes, thresholds, limits, names of signals | at once |
//! | anything of processes that somebody else runs | at once: they are found, or left running |
//! | a service under another name, with instances that it had | at once |
//! | a gateway that leaves its address | stop: nobody listens there any more |
//! | a gateway that stays there under another name | at once |
//!
//! Instances are told apart by name: a service under a new name, with an instance that it had, was renamed, and the
//! instance goes on. Values of the environment are never part of a message, and secrets never among
//! the values.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::{Instance, Service, Settings};

mod changes;
mod gateways;
mod partial;
mod values;

pub use partial::without_stops;
pub use values::KeyChange;

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
    /// `command changes`.
    what: String,
    /// Of what goes stale.
    pub taken_up: Option<TakenUp>,
    /// Of what goes stale or applies at once: the keys, without secrets.
    pub values: Vec<KeyChange>,
}

/// When what runs is as the new configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenUp {
    Later,
    /// The change takes another one back that nothing has taken up.
    Already,
}

impl Change {
    /// A sentence without the name: `command changes; taken up by the next restart or rollout`.
    pub fn message(&self) -> String {
        let what = &self.what;
        match self.taken_up {
            Some(TakenUp::Later) => format!("{what}; taken up by the next restart or rollout"),
            Some(TakenUp::Already) => format!("{what} back to what runs"),
            None => what.clone(),
        }
    }
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

    fn push(&mut self, name: &str, does: Does, what: impl Into<String>) {
        if does == Does::Stop {
            self.stops.push(name.to_owned());
        }
        let (name, what) = (name.to_owned(), what.into());
        self.changes.push(Change { name, does, what, taken_up: None, values: vec![] });
    }

    fn push_stale(&mut self, name: &str, what: &str) {
        let (name, what, taken_up) = (name.to_owned(), what.to_owned(), Some(TakenUp::Later));
        self.changes.push(Change { name, does: Does::Stale, what, taken_up, values: vec![] });
    }
}

/// Compares two configurations.
pub fn diff(old: &Settings, new: &Settings) -> Diff {
    let services_before = old.services.iter().filter(|it| it.rules.enabled).count();
    let mut diff = Diff { services_before, ..Diff::default() };
    changes::deck(old, new, &mut diff);
    let (before, renamed) = (former(old, new), renamed(old, new));
    for service in &new.services {
        if let Some(was) = renamed.get(name_of(service)) {
            let what = format!("renamed from {}: what runs goes on", name_of(was));
            diff.push(name_of(service), Does::AtOnce, what);
        }
        match before.get(name_of(service)) {
            None => added(service, &mut diff),
            Some(before) => kept(before, service, &mut diff),
        }
    }
    for service in gone(old, new) {
        removed(service, &mut diff);
    }
    gateways::compare(old, new, &mut diff);
    values::explain(old, new, &mut diff);
    diff
}

/// What each service of the new configuration was in the old one, by its new name.
fn former<'a>(old: &'a Settings, new: &'a Settings) -> BTreeMap<&'a str, &'a Service> {
    let mut all = by_name(old);
    all.extend(renamed(old, new));
    all
}

/// The services under a new name, with what they were: the old name is gone, and an instance of it is there.
pub fn renamed<'a>(old: &'a Settings, new: &'a Settings) -> BTreeMap<&'a str, &'a Service> {
    let (before, after) = (by_name(old), by_name(new));
    let mut left: Vec<&Service> =
        old.services.iter().filter(|it| !after.contains_key(name_of(it))).collect();
    let mut renamed = BTreeMap::new();
    for service in new.services.iter().filter(|it| !before.contains_key(name_of(it))) {
        let has = |it: &Instance| instance(service, &it.name).is_some();
        if let Some(at) = left.iter().position(|it| it.instances.iter().any(has)) {
            renamed.insert(name_of(service), left.remove(at));
        }
    }
    renamed
}

/// The services of the old configuration that the new one has under no name.
fn gone<'a>(old: &'a Settings, new: &'a Settings) -> Vec<&'a Service> {
    let moved = renamed(old, new);
    let moved: BTreeSet<&str> = moved.into_values().map(name_of).collect();
    let after = by_name(new);
    let is_gone = |it: &&Service| !after.contains_key(name_of(it)) && !moved.contains(name_of(it));
    old.services.iter().filter(is_gone).collect()
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
    let reasons: BTreeSet<&str> = stale.iter().map(|it| it.1.as_str()).collect();
    match (reasons.first(), stale.len() == new.instances.len() && reasons.len() == 1) {
        (Some(what), true) => diff.push_stale(name, what),
        _ => stale.iter().for_each(|(name, what)| diff.push_stale(name, what)),
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
