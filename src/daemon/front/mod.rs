//! What stands in front of the services: who is in rotation, as the gateway is told, and what it counted.
//!
//! The fleet decides, one instance at a time; here it becomes the whole that is sent. What comes back is
//! passed on only where it proves something: a count of an instance that was taken out is kept back until
//! the routes that took it out are in force in every process that may still send it requests.

mod figures;
mod nginx;
mod routes;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tokio::sync::watch;

pub use self::figures::{Figures, Gauges, Totals};
use self::nginx::Nginxes;
pub use self::routes::Wanted;
use super::clock::millis;
use super::gateway::ledger::Ledger;
use super::kept::records;
use crate::config::settings::{Gateway, Settings};
use crate::fleet::input::{Haste, InFlight, Input};
use crate::fleet::{Name, Timestamp};
use crate::gateway::control::{Counts, InstanceCounts, Routes, Target};

#[derive(Debug)]
pub struct Front {
    wanted: watch::Sender<Wanted>,
    gateways: Vec<Gateway>,
    user: String,
    pub(super) places: BTreeMap<Name, Place>,
    /// Of the routes that were sent last.
    pub(super) revision: u64,
    dirty: bool,
    /// A gateway process has told what it knew: until then nothing is sent, or an adopted instance would
    /// lose its place.
    told: bool,
    /// By the pid of the process that counted.
    counts: BTreeMap<u32, Counts>,
    ledger: Ledger,
    /// Why a gateway does not listen, by its name.
    pub troubles: BTreeMap<String, String>,
    nginx: Nginxes,
}

/// An instance behind a gateway.
#[derive(Debug)]
pub(super) struct Place {
    pub gateway: Name,
    is_nginx: bool,
    pub port: Option<u16>,
    pub weight: Option<u32>,
    pub backup: bool,
    pub running: Option<Running>,
    /// The last count that the fleet was given.
    pub given: Option<u32>,
    /// How often the fleet waits to hear that it is out.
    pub takeouts: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Running {
    generation: u64,
    pub address: String,
    /// `None`: taken over, and nobody has said yet.
    pub in_rotation: Option<bool>,
    /// Counts of earlier routes prove nothing.
    pub since: u64,
}

impl Place {
    /// It runs, and is to get nothing new.
    pub(super) fn is_out(&self) -> bool {
        self.running.as_ref().is_some_and(|it| it.in_rotation == Some(false))
    }

    /// What the fleet has to hear of a count, if it is another one.
    pub(super) fn give(&mut self, name: &Name, n: u32) -> Option<Input> {
        (self.given.replace(n) != Some(n))
            .then(|| Input::Load { instance: name.clone(), in_flight: InFlight::Exact(n) })
    }

    pub(super) fn listens_on(&self) -> Option<u16> {
        self.running.as_ref()?.address.rsplit_once(':')?.1.parse().ok()
    }
}

impl Front {
    /// `now`: revisions of this daemon begin there, beyond those of any daemon before.
    pub fn new(now: Timestamp) -> Self {
        Self {
            wanted: watch::Sender::default(),
            gateways: vec![],
            user: String::new(),
            places: BTreeMap::new(),
            revision: millis(now.0),
            dirty: false,
            told: false,
            counts: BTreeMap::new(),
            ledger: Ledger::default(),
            troubles: BTreeMap::new(),
            nginx: Nginxes::default(),
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    pub fn configure(&mut self, settings: &Settings) {
        let mut places = BTreeMap::new();
        for gateway in &settings.gateways {
            let service = settings.services.iter().find(|it| it.rules.name == gateway.service);
            let own = service.iter().flat_map(|it| it.rules.instances.iter().zip(&it.instances));
            let own = own.map(|(rules, it)| (&rules.name, rules.backup, it.port, it.weight));
            // A spare has the port that it is started on.
            let spare = service.and_then(|it| it.rules.rollout.spare.as_ref());
            let members = own.chain(spare.map(|it| (it, false, None, None)));
            for (name, backup, port, weight) in members {
                let old = self.places.remove(name);
                let place = Place {
                    gateway: gateway.name.clone(),
                    is_nginx: gateway.provider.nginx().is_some(),
                    port,
                    weight,
                    backup,
                    running: old.as_ref().and_then(|it| it.running.clone()),
                    takeouts: old.as_ref().map_or(0, |it| it.takeouts),
                    given: old.filter(|it| it.gateway == gateway.name).and_then(|it| it.given),
                };
                places.insert(name.clone(), place);
            }
        }
        // What is no longer configured may still be stopping: its requests are counted until then, by our own
        // gateway also where that stands there no more.
        let is_there = |name: &Name| settings.gateways.iter().any(|it| it.name == *name);
        for (name, place) in std::mem::take(&mut self.places) {
            let is_counted = !place.is_nginx || is_there(&place.gateway);
            if is_counted && place.running.is_some() {
                // Once it has ended, nothing is left of it.
                places.insert(name, Place { port: None, ..place });
            }
        }
        self.places = places;
        self.ledger.retain(|name| self.places.keys().any(|it| it.as_str() == name));
        self.gateways = settings.gateways.clone();
        self.user.clone_from(&settings.deck.gateway_user);
        self.troubles.retain(|name, _| settings.gateways.iter().any(|it| it.name.as_str() == name));
        self.touch();
    }

    /// Everything was stopped for good: nothing stands in front any more.
    pub fn retire(&mut self) {
        self.gateways.clear();
        self.places.clear();
        self.touch();
    }

    /// One that is not configured any more was behind this gateway when it was started.
    pub fn remember(&mut self, name: &Name, front: &records::Front) {
        let gateway = Name::from(front.gateway.as_str());
        let is_there = self.gateways.iter().any(|it| it.name == gateway);
        if self.places.contains_key(name) || (front.is_nginx && !is_there) {
            return;
        }
        let place = Place {
            gateway,
            is_nginx: front.is_nginx,
            port: None,
            weight: None,
            backup: false,
            running: None,
            given: None,
            takeouts: 0,
        };
        self.places.insert(name.clone(), place);
    }

    /// A process of this instance runs. It is out of rotation, or nobody knows yet.
    pub fn lives(&mut self, name: &Name, generation: u64, port: Option<u16>, adopted: bool) {
        let since = self.revision + 1;
        let Some(place) = self.places.get_mut(name) else { return };
        let address = port.map_or_else(String::new, |port| format!("127.0.0.1:{port}"));
        let in_rotation = if adopted { None } else { Some(false) };
        place.running = Some(Running { generation, address, in_rotation, since });
        place.given = None;
        self.touch();
    }

    /// A configuration puts a gateway in front of what runs already. The fleet says nothing of it that it has said.
    pub fn joins(
        &mut self,
        name: &Name,
        generation: u64,
        port: Option<u16>,
        in_rotation: Option<bool>,
    ) {
        if self.places.get(name).is_none_or(|it| it.running.is_some()) {
            return;
        }
        self.lives(name, generation, port, true);
        if let Some(it) = self.places.get_mut(name).and_then(|it| it.running.as_mut()) {
            it.in_rotation = in_rotation;
        }
    }

    /// Nothing of it is left. Returns what the fleet still waits to hear.
    pub fn ended(&mut self, name: &Name) -> Vec<Input> {
        let Some(place) = self.places.get_mut(name) else { return vec![] };
        let ran = place.running.take().is_some();
        place.given = None;
        let heard = taken_out(name, &mut place.takeouts);
        if ran {
            let gateway = place.gateway.clone();
            self.hurry(&gateway, Haste::AtOnce);
            self.touch();
        }
        heard
    }

    pub fn admit(&mut self, name: &Name, haste: Haste) {
        self.rotate(name, true, haste);
    }

    /// Returns what the fleet has to hear at once: nothing sends requests to what does not run. Otherwise
    /// [`Input::TakenOut`] follows the first count that is made without it.
    pub fn take_out(&mut self, name: &Name, haste: Haste) -> Option<Input> {
        if !self.rotate(name, false, haste) {
            return Some(Input::TakenOut { instance: name.clone() });
        }
        if let Some(place) = self.places.get_mut(name) {
            place.takeouts += 1;
        }
        None
    }

    fn rotate(&mut self, name: &Name, in_rotation: bool, haste: Haste) -> bool {
        let since = self.revision + 1;
        let Some(place) = self.places.get_mut(name) else { return false };
        let Some(running) = &mut place.running else { return false };
        running.in_rotation = Some(in_rotation);
        running.since = since;
        place.given = None;
        let gateway = place.gateway.clone();
        self.hurry(&gateway, haste);
        self.touch();
        true
    }

    /// Whether the gateway counts what this instance has in flight. Connections of an nginx tell that
    /// only once it sends nothing new.
    pub fn counts(&self, name: &Name) -> bool {
        self.places.get(name).is_some_and(|it| !it.is_nginx || it.is_out())
    }

    /// What is to be told has changed.
    fn touch(&mut self) {
        self.dirty = true;
        self.nginx.dirty = true;
    }

    /// A gateway process is there, with the routes it had.
    pub fn up(&mut self, routes: Option<&Routes>) {
        let known = routes.iter().flat_map(|it| &it.gateways).flat_map(|it| &it.instances);
        let known: Vec<&Target> = known.collect();
        for (name, place) in &mut self.places {
            let Some(running) = place.running.as_mut().filter(|it| it.in_rotation.is_none()) else {
                continue;
            };
            let same =
                |it: &&&Target| it.name == name.as_str() && it.generation == running.generation;
            if let Some(it) = known.iter().find(same) {
                // It listens where it was started, whatever the configuration says by now.
                running.address.clone_from(&it.address);
                running.in_rotation = Some(it.in_rotation);
            }
        }
        self.told = true;
        self.touch();
    }

    /// Takes the counts of one process; returns what the fleet has to hear.
    pub fn heard(&mut self, pid: u32, counts: Counts) -> Vec<Input> {
        self.ledger.heard(pid, &counts);
        self.counts.insert(pid, counts);
        self.settled()
    }

    /// What the fleet has to hear of the counts as they are; nothing while nobody counts.
    pub fn settled(&mut self) -> Vec<Input> {
        let mut inputs = vec![];
        if !self.is_up() {
            return inputs;
        }
        for (name, place) in self.places.iter_mut().filter(|(_, it)| !it.is_nginx) {
            let Some(running) = &place.running else { continue };
            if self.counts.values().any(|it| it.revision < running.since) {
                continue;
            }
            let of = self.counts.values().flat_map(|it| entries(it, place, name));
            let n = u32::try_from(of.map(|it| it.in_flight).sum::<u64>()).unwrap_or(u32::MAX);
            inputs.extend(place.give(name, n));
            inputs.extend(taken_out(name, &mut place.takeouts));
        }
        inputs
    }

    /// What the fleet has to hear where nobody is left who could give anything to an instance.
    pub fn left_alone(&mut self) -> Vec<Input> {
        let is_kept = self.gateways.iter().any(|it| it.provider.embedded().is_some());
        if is_kept || self.is_up() {
            return vec![];
        }
        let mut inputs = vec![];
        let ours = self.places.iter_mut().filter(|(_, it)| !it.is_nginx && it.running.is_some());
        for (name, place) in ours {
            inputs.extend(place.give(name, 0));
            inputs.extend(taken_out(name, &mut place.takeouts));
        }
        inputs
    }

    /// A gateway process has ended: what it counted is over.
    pub fn gone(&mut self, pid: u32) -> Option<u64> {
        self.ledger.gone(pid);
        let counts = self.counts.remove(&pid)?;
        let all = counts.gateways.iter().flat_map(|it| &it.instances);
        Some(all.map(|it| it.in_flight).sum())
    }

    /// Runs, and is to get no new requests.
    pub fn is_out(&self, name: &Name) -> bool {
        let running = self.places.get(name).and_then(|it| it.running.as_ref());
        running.is_some_and(|it| it.in_rotation == Some(false))
    }

    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// The instances behind the gateway of this service.
    pub fn behind(&self, service: &Name) -> impl Iterator<Item = &Name> {
        let gateway = self.gateways.iter().find(|it| it.service == *service);
        let is_its = move |place: &Place| gateway.is_some_and(|it| it.name == place.gateway);
        self.places.iter().filter(move |(_, it)| is_its(it)).map(|(name, _)| name)
    }

    /// Some gateway process is connected.
    pub fn is_up(&self) -> bool {
        !self.counts.is_empty()
    }
}

/// One answer for each time it was taken out.
pub(super) fn taken_out(name: &Name, takeouts: &mut u32) -> Vec<Input> {
    let times = std::mem::take(takeouts);
    (0..times).map(|_| Input::TakenOut { instance: name.clone() }).collect()
}

/// What a process counts of an instance, under whichever gateway: it may have got another one.
fn entries<'c>(
    counts: &'c Counts,
    place: &Place,
    name: &'c Name,
) -> impl Iterator<Item = &'c InstanceCounts> {
    let generation = place.running.as_ref().map(|it| it.generation);
    let all = counts.gateways.iter().flat_map(|it| &it.instances);
    all.filter(move |it| it.name == name.as_str() && Some(it.generation) == generation)
}
