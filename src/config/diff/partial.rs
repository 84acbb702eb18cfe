//! The part of a change that stops nothing, for edits of a watched file.

use std::collections::{BTreeMap, BTreeSet};

use super::{former, gateways, gone, instance, name_of};
use crate::config::settings::{Gateway, Instance, Service, Settings};

/// What may be applied at once, and what waits for a word: `stops queue`, `starts web3`.
///
/// What would stop goes on as it is. What would be started in its place, on its port or under its
/// name, waits with it.
pub fn without_stops(old: &Settings, new: &Settings) -> (Settings, Vec<String>) {
    let mut out = new.clone();
    let mut pending = vec![];
    let mut held = Held::default();
    let before = former(old, new);
    for service in &mut out.services {
        let runs = |it: &&&Service| it.rules.enabled && !it.is_foreign();
        if let Some(before) = before.get(name_of(service)).filter(runs) {
            keep_running(before, service, &mut held, &mut pending);
        }
    }
    let is_stopped = |it: &Service| it.rules.enabled && !it.is_foreign();
    let removed: BTreeSet<&str> =
        gone(old, new).into_iter().filter(|it| is_stopped(it)).map(name_of).collect();
    let is_removed = |it: &Service| removed.contains(name_of(it));
    for before in old.services.iter().filter(|it| is_removed(it)) {
        pending.push(format!("stops {}", name_of(before)));
        held.names.insert(name_of(before).to_owned());
        before.instances.iter().for_each(|it| held.hold(it));
    }
    if !pending.is_empty() {
        hold_back(&before, &mut out, &held, &mut pending);
    }
    for (at, before) in old.services.iter().enumerate() {
        if is_removed(before) {
            out.services.insert(at.min(out.services.len()), before.clone());
        }
    }
    keep_listening(old, new, &mut out, &mut pending);
    (out, pending)
}

/// A gateway stays where it listens. A new one that wants its place waits.
fn keep_listening(old: &Settings, new: &Settings, out: &mut Settings, pending: &mut Vec<String>) {
    let stay = |it: &&Gateway| gateways::leaves_its_address(it, old, new);
    for before in old.gateways.iter().filter(stay) {
        pending.push(format!("stops {}", gateways::label(before)));
        let is_other = |it: &Gateway| {
            it.name != before.name
                && it.service != before.service
                && !gateways::same_port(it, before)
        };
        out.gateways.retain(is_other);
        out.gateways.push(before.clone());
    }
    out.mark_fronted();
}

/// Names and ports that stay taken.
#[derive(Default)]
struct Held {
    names: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

impl Held {
    fn hold(&mut self, instance: &Instance) {
        self.names.insert(instance.name.clone());
        self.ports.extend(instance.port);
    }

    fn clashes(&self, instance: &Instance) -> bool {
        self.names.contains(&instance.name)
            || instance.port.is_some_and(|it| self.ports.contains(&it))
    }
}

/// A service that is there before and after keeps its goal and its instances.
fn keep_running(
    before: &Service,
    service: &mut Service,
    held: &mut Held,
    pending: &mut Vec<String>,
) {
    let was_disabled = !service.rules.enabled;
    if was_disabled {
        service.rules.enabled = true;
        pending.push(format!("stops {}", name_of(service)));
    }
    for (it, rules) in before.instances.iter().zip(&before.rules.instances) {
        if instance(service, &it.name).is_some() {
            continue;
        }
        held.hold(it);
        if !was_disabled {
            pending.push(format!("stops {}", it.name));
        }
        service.instances.push(it.clone());
        service.rules.instances.push(rules.clone());
    }
}

/// Takes out what is new and cannot be beside what stays.
fn hold_back(
    old: &BTreeMap<&str, &Service>,
    out: &mut Settings,
    held: &Held,
    pending: &mut Vec<String>,
) {
    out.services.retain(|service| {
        let is_new = !old.contains_key(name_of(service));
        let clashes = held.names.contains(name_of(service))
            || service.instances.iter().any(|it| held.clashes(it));
        if is_new && clashes {
            pending.push(format!("starts {}", name_of(service)));
        }
        !(is_new && clashes)
    });
    for service in &mut out.services {
        let Some(before) = old.get(name_of(service)) else { continue };
        let waits: BTreeSet<String> = service
            .instances
            .iter()
            .filter(|it| instance(before, &it.name).is_none() && held.clashes(it))
            .map(|it| it.name.clone())
            .collect();
        pending.extend(waits.iter().map(|it| format!("starts {it}")));
        service.instances.retain(|it| !waits.contains(&it.name));
        service.rules.instances.retain(|it| !waits.contains(it.name.as_str()));
    }
    // A service that waits cannot be waited for: what depends on it would never start.
    let names: BTreeSet<String> = out.services.iter().map(|it| name_of(it).to_owned()).collect();
    for service in &mut out.services {
        service.rules.depends_on.retain(|it| names.contains(it.as_str()));
    }
}
