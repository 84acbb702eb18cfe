//! Gateways that come, go and change.

use std::net::SocketAddr;
use std::path::Path;

use super::{Diff, Does};
use crate::config::settings::{Gateway, Provider, Service, Settings};

/// Whether both stand in front of the same service.
type Same<'a> = dyn Fn(&Gateway, &Gateway) -> bool + 'a;

pub(super) fn compare(old: &Settings, new: &Settings, diff: &mut Diff) {
    let services = super::renamed(old, new);
    // A service under a new name is the same one.
    let same = |before: &Gateway, after: &Gateway| {
        let is_it = |it: &&Service| it.rules.name == before.service;
        before.service == after.service || services.get(after.service.as_str()).is_some_and(is_it)
    };
    for gateway in &new.gateways {
        match (named(old, gateway), renamed_from(gateway, old, new)) {
            (Some(before), _) => kept(before, gateway, &same, diff),
            (None, Some(before)) => renamed(before, gateway, &same, diff),
            (None, None) => {
                let does = match place(gateway) {
                    Place::Address(address) => format!("it will listen on {address}"),
                    Place::File(file) => format!("nginx will be told by {}", file.display()),
                };
                let message = format!("added in front of {}: {does}", gateway.service);
                diff.push(&label(gateway), Does::Start, message);
            }
        }
    }
    let left = |it: &&Gateway| named(new, it).is_none() && !is_renamed(it, old, new);
    for gateway in old.gateways.iter().filter(left) {
        let message = match place(gateway) {
            Place::Address(address) => format!("removed: nobody listens on {address} any more"),
            Place::File(_) => "removed: nginx is told nothing any more".into(),
        };
        diff.push(&label(gateway), Does::Stop, message);
    }
}

/// Nobody would listen any more where it listens now.
pub(super) fn leaves_its_address(gateway: &Gateway, old: &Settings, new: &Settings) -> bool {
    match named(new, gateway) {
        Some(it) => place(it) != place(gateway),
        None => !is_renamed(gateway, old, new),
    }
}

/// The gateway that this one was: its name is gone, a new one is where it was. Clients see no difference.
fn renamed_from<'a>(gateway: &Gateway, old: &'a Settings, new: &Settings) -> Option<&'a Gateway> {
    let is_it = |it: &&Gateway| named(new, it).is_none() && is_same_to_clients(it, gateway);
    old.gateways.iter().find(is_it).filter(|_| named(old, gateway).is_none())
}

fn is_renamed(gateway: &Gateway, old: &Settings, new: &Settings) -> bool {
    new.gateways
        .iter()
        .any(|it| renamed_from(it, old, new).is_some_and(|it| it.name == gateway.name))
}

/// An nginx names an upstream besides.
fn is_same_to_clients(a: &Gateway, b: &Gateway) -> bool {
    let upstream = |it: &Gateway| it.provider.nginx().map(|it| it.upstream.clone());
    place(a) == place(b) && upstream(a) == upstream(b)
}

/// Both cannot be there at once.
pub(super) fn same_port(a: &Gateway, b: &Gateway) -> bool {
    match (place(a), place(b)) {
        (Place::Address(a), Place::Address(b)) => a.port() == b.port(),
        (Place::File(a), Place::File(b)) => a == b,
        (Place::Address(_), Place::File(_)) | (Place::File(_), Place::Address(_)) => false,
    }
}

/// `gateway shop`: gateways and services may have the same names.
pub(super) fn label(gateway: &Gateway) -> String {
    format!("gateway {}", gateway.name)
}

fn renamed(before: &Gateway, after: &Gateway, same: &Same<'_>, diff: &mut Diff) {
    let mut parts = vec![format!("renamed from {}: no connection is closed", before.name)];
    if !same(before, after) {
        let (service, old) = (&after.service, &before.service);
        parts.push(format!("stands in front of {service} instead of {old}"));
    } else if before.provider != after.provider {
        parts.push(other(after).into());
    }
    diff.push(&label(after), Does::AtOnce, parts.join("; "));
}

fn kept(before: &Gateway, after: &Gateway, same: &Same<'_>, diff: &mut Diff) {
    if place(before) != place(after) {
        let message = format!("moves from {} to {}", place(before), place(after));
        diff.push(&label(after), Does::Stop, message);
    } else if !same(before, after) {
        let message = format!("stands in front of {} instead of {}", after.service, before.service);
        diff.push(&label(after), Does::AtOnce, message);
    } else if before.provider != after.provider {
        diff.push(&label(after), Does::AtOnce, other(after));
    }
}

/// What changes beside its place and its service.
fn other(after: &Gateway) -> &'static str {
    match after.provider {
        Provider::Embedded(_) => "its limits change",
        Provider::Nginx(_) => "how nginx is told changes",
    }
}

fn named<'a>(settings: &'a Settings, gateway: &Gateway) -> Option<&'a Gateway> {
    settings.gateways.iter().find(|it| it.name == gateway.name)
}

/// Where it is: there can be one only.
#[derive(PartialEq, Eq)]
enum Place<'a> {
    Address(SocketAddr),
    File(&'a Path),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(file) => file.display().fmt(f),
        }
    }
}

fn place(gateway: &Gateway) -> Place<'_> {
    match &gateway.provider {
        Provider::Embedded(it) => Place::Address(it.listen),
        Provider::Nginx(it) => Place::File(&it.file),
    }
}
