//! What stands in front of the services: who is in rotation, as the gateway is told, and what it counted.
//!
//! The fleet decides, one instance at a time; here it becomes the whole that is sent. What comes back is
//! passed on only where it proves something: a count of an instance that was taken out is kept back until
//! the routes that took it out are in force in every process that may still send it requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::watch;

use super::ledger::{Ledger, Tally};
use super::nginx_front::Nginxes;
use super::publish::millis;
use crate::config::settings::{Embedded, Gateway, Settings};
use crate::fleet::input::{Haste, InFlight, Input};
use crate::fleet::{Name, Timestamp};
use crate::gateway::control::{Counts, InstanceCounts, Limits, Route, Routes, Target};

/// What the gateway process is to do: the routes, and where it listens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub routes: Routes,
    pub listen: BTreeMap<String, SocketAddr>,
    /// The user it runs as where we are root.
    pub user: String,
}

/// The numbers of an instance beyond what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Of the process that runs; `None` while none does, or nobody has counted.
    pub gauges: Option<Gauges>,
    /// Of all its generations.
    pub tally: Tally,
}

/// What goes up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    pub in_flight: u64,
    pub oldest_ms: Option<u64>,
    pub ejected: bool,
    pub tunnels: u64,
    pub per_second: f64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// The numbers of one gateway, over all its processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub gauges: Gauges,
    pub tally: Tally,
    pub connections: u64,
    pub held: u64,
    pub held_total: u64,
    pub made_502: u64,
    pub made_503: u64,
    pub made_504: u64,
    pub refused: u64,
}

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
    pub(super) nginx: Nginxes,
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
        // What is no longer configured may still be stopping: its requests are counted until then.
        let is_kept =
            |it: &Gateway| settings.gateways.iter().any(|gateway| gateway.name == it.name);
        for (name, place) in std::mem::take(&mut self.places) {
            let stays = self.gateways.iter().any(|it| it.name == place.gateway && is_kept(it));
            if stays && place.running.is_some() {
                places.insert(name, place);
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

    /// Before the first process has told what it knows, it can be told where to listen.
    fn publish_listeners(&self) {
        let (listen, user) = (self.listen(), self.user.clone());
        self.wanted.send_if_modified(|it| {
            let differs = it.listen != listen || it.user != user;
            (it.listen, it.user) = (listen, user);
            differs
        });
    }

    fn listen(&self) -> BTreeMap<String, SocketAddr> {
        let address = |it: &Gateway| Some((it.name.to_string(), it.provider.embedded()?.listen));
        self.gateways.iter().filter_map(address).collect()
    }

    fn route(&self, gateway: &Gateway) -> Option<Route> {
        let embedded = gateway.provider.embedded()?;
        let behind = self.places.iter().filter(|(_, it)| it.gateway == gateway.name);
        Some(Route {
            name: gateway.name.to_string(),
            hold_ms: millis(embedded.hold),
            hold_max: embedded.hold_max,
            upgrade_wait_ms: millis(embedded.upgrade_wait),
            limits: limits(embedded),
            instances: behind.filter_map(|(name, place)| target(name, place)).collect(),
        })
    }

    /// Takes the counts of one process; returns what the fleet has to hear.
    pub fn heard(&mut self, pid: u32, counts: Counts) -> Vec<Input> {
        self.ledger.heard(pid, &counts);
        self.counts.insert(pid, counts);
        let mut inputs = vec![];
        for (name, place) in self.places.iter_mut().filter(|(_, it)| !it.is_nginx) {
            let Some(running) = &place.running else { continue };
            if self.counts.values().any(|it| it.revision < running.since) {
                continue;
            }
            let of = self.counts.values().filter_map(|it| entry(it, place, name));
            let n = u32::try_from(of.map(|it| it.in_flight).sum::<u64>()).unwrap_or(u32::MAX);
            if place.given.replace(n) != Some(n) {
                inputs.push(Input::Load {
                    instance: name.clone(),
                    in_flight: Some(InFlight::Exact(n)),
                    accept_queue: None,
                });
            }
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

    /// The numbers of an instance, if a gateway counts it.
    pub fn figures(&self, name: &Name) -> Option<Figures> {
        let place = self.places.get(name)?;
        let of: Vec<&InstanceCounts> =
            self.counts.values().filter_map(|it| entry(it, place, name)).collect();
        let gauges = (!of.is_empty()).then(|| Gauges::sum(of));
        Some(Figures { gauges, tally: self.ledger.of(name.as_str()) })
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

    pub fn totals(&self, gateway: &str) -> Totals {
        let mut sum = Totals::default();
        let all = self.counts.values().flat_map(|it| &it.gateways);
        for it in all.filter(|it| it.name == gateway) {
            sum.connections += it.connections;
            sum.held += it.held;
            sum.held_total += it.held_total;
            sum.made_502 += it.made_502;
            sum.made_503 += it.made_503;
            sum.made_504 += it.made_504;
            sum.refused += it.refused;
            let gauges = Gauges::sum(&it.instances);
            sum.gauges.in_flight += gauges.in_flight;
            sum.gauges.tunnels += gauges.tunnels;
            sum.gauges.oldest_ms = sum.gauges.oldest_ms.max(gauges.oldest_ms);
            sum.gauges.per_second += it.per_second;
            sum.gauges.p50_us = sum.gauges.p50_us.max(it.p50_us);
            sum.gauges.p95_us = sum.gauges.p95_us.max(it.p95_us);
            sum.gauges.p99_us = sum.gauges.p99_us.max(it.p99_us);
        }
        let its = self.places.iter().filter(|(_, it)| it.gateway.as_str() == gateway);
        its.for_each(|(name, _)| sum.tally.add(&self.ledger.of(name.as_str())));
        sum
    }

    /// Some gateway process is connected.
    pub fn is_up(&self) -> bool {
        !self.counts.is_empty()
    }
}

impl Gauges {
    /// Of several processes that count the same instance, or of several instances. Where two processes
    /// have different percentiles, the higher is told.
    fn sum<'c>(of: impl IntoIterator<Item = &'c InstanceCounts>) -> Self {
        of.into_iter().fold(Self::default(), |sum, it| Self {
            in_flight: sum.in_flight + it.in_flight,
            oldest_ms: sum.oldest_ms.max(it.oldest_ms),
            ejected: sum.ejected || it.ejected,
            tunnels: sum.tunnels + it.tunnels,
            per_second: sum.per_second + it.per_second,
            p50_us: sum.p50_us.max(it.p50_us),
            p95_us: sum.p95_us.max(it.p95_us),
            p99_us: sum.p99_us.max(it.p99_us),
        })
    }
}

/// One answer for each time it was taken out.
pub(super) fn taken_out(name: &Name, takeouts: &mut u32) -> Vec<Input> {
    let times = std::mem::take(takeouts);
    (0..times).map(|_| Input::TakenOut { instance: name.clone() }).collect()
}

fn entry<'c>(counts: &'c Counts, place: &Place, name: &Name) -> Option<&'c InstanceCounts> {
    let generation = place.running.as_ref()?.generation;
    let gateway = counts.gateways.iter().find(|it| it.name == place.gateway.as_str())?;
    gateway.instances.iter().find(|it| it.name == name.as_str() && it.generation == generation)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::parse;
    use crate::gateway::control::GatewayCounts;

    const CONFIG: &str = "[service.web]\ncommand = \"web\"\ninstance.web1 = { port = 1, weight = 3 }\ninstance.web2 = { port = 2, backup = true }\n[gateway.shop]\nservice = \"web\"\nlisten = 80\n";

    fn front() -> Front {
        let mut front = Front::new(Timestamp(Duration::from_secs(1)));
        front.configure(&parse("config.toml", CONFIG).unwrap());
        front
    }

    fn name(name: &str) -> Name {
        Name::from(name)
    }

    fn sent(front: &mut Front) -> Routes {
        front.flush();
        front.wanted.borrow().routes.clone()
    }

    fn rotation(routes: &Routes) -> Vec<(&str, u64, bool)> {
        let all = routes.gateways.iter().flat_map(|it| &it.instances);
        all.map(|it| (it.name.as_str(), it.generation, it.in_rotation)).collect()
    }

    fn counts(revision: u64, in_flight: &[(&str, u64, u64)]) -> Counts {
        let instance = |(name, generation, n): &(&str, u64, u64)| InstanceCounts {
            name: (*name).into(),
            generation: *generation,
            in_flight: *n,
            ..InstanceCounts::default()
        };
        let instances = in_flight.iter().map(instance).collect();
        let shop = GatewayCounts { name: "shop".into(), instances, ..GatewayCounts::default() };
        Counts { revision, gateways: vec![shop] }
    }

    fn told(inputs: &[Input]) -> Vec<String> {
        let line = |it: &Input| match it {
            Input::Load { instance, in_flight, .. } => format!("{instance} {in_flight:?}"),
            Input::TakenOut { instance } => format!("{instance} is out"),
            other => format!("{other:?}"),
        };
        inputs.iter().map(line).collect()
    }

    #[test]
    fn the_fleet_decides_and_the_whole_is_sent() {
        let mut front = front();
        front.up(None);
        front.lives(&name("web1"), 3, Some(1), false);
        front.lives(&name("web2"), 1, Some(2), false);
        front.admit(&name("web1"), Haste::AtOnce);
        let first = sent(&mut front);
        assert_eq!(rotation(&first), [("web1", 3, true), ("web2", 1, false)]);
        assert_eq!(first.gateways[0].instances[0].address, "127.0.0.1:1");
        assert!(first.gateways[0].instances[1].backup);
        let weights = first.gateways[0].instances.iter().map(|it| it.weight);
        assert!(weights.eq([3, 1]));

        assert_eq!(front.take_out(&name("web1"), Haste::AtOnce), None);
        let second = sent(&mut front);
        assert_eq!(rotation(&second), [("web1", 3, false), ("web2", 1, false)]);
        assert!(second.revision > first.revision);
    }

    #[test]
    fn a_count_from_before_it_was_taken_out_proves_nothing() {
        let mut front = front();
        front.up(None);
        front.lives(&name("web1"), 3, Some(1), false);
        front.admit(&name("web1"), Haste::AtOnce);
        let before = sent(&mut front).revision;
        assert_eq!(
            told(&front.heard(7, counts(before, &[("web1", 3, 2)]))),
            ["web1 Some(Exact(2))"]
        );
        assert_eq!(
            told(&front.heard(7, counts(before, &[("web1", 3, 2)]))),
            [""; 0],
            "nothing new"
        );

        front.take_out(&name("web1"), Haste::AtOnce);
        let after = sent(&mut front).revision;
        assert_eq!(told(&front.heard(7, counts(before, &[("web1", 3, 0)]))), [""; 0]);
        assert_eq!(
            told(&front.heard(7, counts(after, &[("web1", 3, 1)]))),
            ["web1 Some(Exact(1))", "web1 is out"]
        );
        assert_eq!(
            told(&front.heard(7, counts(after, &[("web1", 3, 0)]))),
            ["web1 Some(Exact(0))"]
        );
    }

    #[test]
    fn what_an_old_process_still_has_is_added_and_waited_for() {
        let mut front = front();
        front.up(None);
        front.lives(&name("web1"), 3, Some(1), false);
        front.admit(&name("web1"), Haste::AtOnce);
        let revision = sent(&mut front).revision;
        front.heard(7, counts(revision, &[("web1", 3, 2)]));
        assert_eq!(
            told(&front.heard(8, counts(revision, &[("web1", 3, 1)]))),
            ["web1 Some(Exact(3))"]
        );
        front.take_out(&name("web1"), Haste::AtOnce);
        let after = sent(&mut front).revision;
        assert_eq!(told(&front.heard(8, counts(after, &[]))), [""; 0], "7 may still send it one");
        assert_eq!(front.gone(7), Some(2));
        assert_eq!(
            told(&front.heard(8, counts(after, &[]))),
            ["web1 Some(Exact(0))", "web1 is out"]
        );
    }

    #[test]
    fn an_adopted_instance_keeps_the_place_and_the_address_it_had() {
        let mut front = front();
        front.lives(&name("web1"), 3, Some(9), true);
        front.lives(&name("web2"), 4, Some(2), true);
        assert_eq!(sent(&mut front), Routes::default(), "nobody has told yet");
        assert!(front.wanted.borrow().listen.contains_key("shop"), "but where to listen is known");

        let mut had = counts_routes(&[("web1", 3), ("web2", 3)]);
        had.gateways[0].instances[0].address = "127.0.0.1:1".into();
        front.up(Some(&had));
        let routes = sent(&mut front);
        assert_eq!(
            rotation(&routes),
            [("web1", 3, true), ("web2", 4, false)],
            "web2 is another one"
        );
        assert_eq!(routes.gateways[0].instances[0].address, "127.0.0.1:1");
    }

    fn counts_routes(instances: &[(&str, u64)]) -> Routes {
        let target = |(name, generation): &(&str, u64)| Target {
            name: (*name).into(),
            generation: *generation,
            ..Target::default()
        };
        let instances = instances.iter().map(target).collect();
        let route = Route { name: "shop".into(), instances, ..Route::default() };
        Routes { revision: 5, gateways: vec![route] }
    }

    #[test]
    fn what_does_not_run_is_out_at_once() {
        let mut front = front();
        front.up(None);
        assert_eq!(
            told(&front.take_out(&name("web1"), Haste::AtOnce).into_iter().collect::<Vec<_>>()),
            ["web1 is out"]
        );
        front.lives(&name("web1"), 1, Some(1), false);
        front.take_out(&name("web1"), Haste::AtOnce);
        front.take_out(&name("web1"), Haste::AtOnce);
        assert_eq!(told(&front.ended(&name("web1"))), ["web1 is out", "web1 is out"]);
    }
}
