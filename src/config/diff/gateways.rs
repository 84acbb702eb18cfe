//! Gateways that come, go and change.

use super::{Diff, Does};
use crate::config::settings::{Gateway, Provider, Settings};

pub(super) fn compare(old: &Settings, new: &Settings, diff: &mut Diff) {
    for gateway in &new.gateways {
        match named(old, gateway) {
            None => {
                let message = format!(
                    "added in front of {}: it will listen on {}",
                    gateway.service,
                    listen(gateway)
                );
                diff.push(&label(gateway), Does::Start, message);
            }
            Some(before) => kept(before, gateway, diff),
        }
    }
    for gateway in old.gateways.iter().filter(|it| named(new, it).is_none()) {
        let message = format!("removed: nobody listens on {} any more", listen(gateway));
        diff.push(&label(gateway), Does::Stop, message);
    }
}

/// Nobody would listen any more where it listens now.
pub(super) fn leaves_its_address(gateway: &Gateway, new: &Settings) -> bool {
    named(new, gateway).is_none_or(|it| listen(it) != listen(gateway))
}

/// Both cannot listen at once.
pub(super) fn same_port(a: &Gateway, b: &Gateway) -> bool {
    listen(a).port() == listen(b).port()
}

/// `gateway shop`: gateways and services may have the same names.
pub(super) fn label(gateway: &Gateway) -> String {
    format!("gateway {}", gateway.name)
}

fn kept(before: &Gateway, after: &Gateway, diff: &mut Diff) {
    if listen(before) != listen(after) {
        let message = format!("moves from {} to {}", listen(before), listen(after));
        diff.push(&label(after), Does::Stop, message);
    } else if before.service != after.service {
        let message = format!("stands in front of {} instead of {}", after.service, before.service);
        diff.push(&label(after), Does::AtOnce, message);
    } else if before != after {
        diff.push(&label(after), Does::AtOnce, "its limits change");
    }
}

fn named<'a>(settings: &'a Settings, gateway: &Gateway) -> Option<&'a Gateway> {
    settings.gateways.iter().find(|it| it.name == gateway.name)
}

fn listen(gateway: &Gateway) -> std::net::SocketAddr {
    let Provider::Embedded(it) = &gateway.provider;
    it.listen
}
