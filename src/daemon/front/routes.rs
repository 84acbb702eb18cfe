//! What the gateway process is told: the routes, and where it listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Front, Place};
use crate::config::settings::{Embedded, Gateway};
use crate::daemon::clock::millis;
use crate::fleet::Name;
use crate::gateway::control::{Limits, Route, Routes, Target};

/// What the gateway process is to do: the routes, and where it listens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub routes: Routes,
    pub listen: BTreeMap<String, SocketAddr>,
    /// The user it runs as where we are root.
    pub user: String,
}

impl Front {
    /// Sends what changed.
    pub fn flush(&mut self) {
        self.flush_nginx();
        let is_embedded = |it: &Gateway| it.provider.embedded().is_some();
        if !self.dirty || (!self.told && self.gateways.iter().any(is_embedded)) {
            if self.dirty {
                self.publish_listeners();
            }
            return;
        }
        self.dirty = false;
        self.revision += 1;
        let routes = Routes {
            revision: self.revision,
            gateways: self.gateways.iter().filter_map(|it| self.route(it)).collect(),
        };
        let wanted = Wanted { routes, listen: self.listen(), user: self.user.clone() };
        self.wanted.send_if_modified(|it| {
            let same = *it == wanted;
            *it = wanted;
            !same
        });
    }

    /// Before the first process has told what it knows, it can be told where to listen. Routes of a time in which
    /// there was no gateway would close that again.
    fn publish_listeners(&self) {
        let wanted =
            Wanted { routes: Routes::default(), listen: self.listen(), user: self.user.clone() };
        self.wanted.send_if_modified(|it| {
            let differs = *it != wanted;
            *it = wanted;
            differs
        });
    }

    fn listen(&self) -> BTreeMap<String, SocketAddr> {
        let address = |it: &Gateway| Some((it.name.to_string(), it.provider.embedded()?.listen));
        self.gateways.iter().filter_map(address).collect()
    }

    fn route(&self, gateway: &Gateway) -> Option<Route> {
        let embedded = gateway.provider.embedded()?;
        let is_its = |it: &Place| it.gateway == gateway.name && !it.is_nginx;
        let behind = self.places.iter().filter(|(_, it)| is_its(it));
        Some(Route {
            name: gateway.name.to_string(),
            hold_ms: millis(embedded.hold),
            hold_max: embedded.hold_max,
            upgrade_wait_ms: millis(embedded.upgrade_wait),
            limits: limits(embedded),
            instances: behind.filter_map(|(name, place)| target(name, place)).collect(),
        })
    }
}

fn target(name: &Name, place: &Place) -> Option<Target> {
    let running = place.running.as_ref()?;
    Some(Target {
        name: name.to_string(),
        generation: running.generation,
        address: running.address.clone(),
        backup: place.backup,
        weight: place.weight.unwrap_or(1),
        in_rotation: running.in_rotation == Some(true),
    })
}

fn limits(embedded: &Embedded) -> Limits {
    let limits = embedded.limits;
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Limits {
        header_bytes: bytes(limits.header_size),
        body_bytes: limits.body_size,
        replay_bytes: bytes(limits.buffer),
        connections: bytes(u64::from(limits.connections)),
        header_timeout_ms: millis(limits.header_timeout),
        idle_timeout_ms: millis(limits.idle_timeout),
        body_timeout_ms: millis(limits.body_timeout),
        write_timeout_ms: millis(limits.body_timeout),
        connect_timeout_ms: millis(embedded.connect_timeout),
        reply_timeout_ms: millis(embedded.answer_timeout),
        ..Limits::default()
    }
}
