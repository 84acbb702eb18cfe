//! The routes in force: gateways and their instances. Replaced as a whole, by what the daemon says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use bytes::BytesMut;

use super::choose::choose;
use super::clock::Clock;
use super::conn::Conn;
use super::control::{Counts, GatewayCounts, Route, Routes, Target};
use super::instance::{Entry, Instance};
use super::line::Line;
use super::report::Reports;
use super::room::Room;
use super::shared::Shared;
use super::window::{Seen, Window};

/// Everything the connections share.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) clock: Rc<Clock>,
    pub(super) reports: Rc<Reports>,
    pub(super) routes: RefCell<Option<Routes>>,
    gateways: RefCell<BTreeMap<String, Rc<Gateway>>>,
    pub(super) conns: RefCell<BTreeMap<u64, Weak<Conn>>>,
    /// Where reads go first: one for all, so that waiting connections need no room.
    pub(super) block: RefCell<BytesMut>,
    pub(super) room: Room,
    shared: Shared,
    serial: Cell<u64>,
    pub(super) is_retiring: Cell<bool>,
}

/// One `[gateway.X]`.
#[derive(Debug)]
pub(super) struct Gateway {
    /// Its instances share it: it may be renamed.
    pub(super) name: Rc<RefCell<String>>,
    /// Without instances. Swapped whole, so that a connection may hold on to the one it began with.
    pub(super) route: RefCell<Rc<Route>>,
    instances: RefCell<Rc<[Rc<Instance>]>>,
    /// Out of the routes, with something in flight.
    leaving: RefCell<Vec<Rc<Instance>>>,
    /// The replies of the last ten seconds of those that are gone.
    past: RefCell<Vec<Window>>,
    pub(super) line: RefCell<Line>,
    turn: Cell<usize>,
    /// The routes have named it.
    is_known: Cell<bool>,
    pub(super) connections: Cell<usize>,
    /// Requests that waited and have found nobody yet.
    pub(super) held: Cell<u32>,
    pub(super) held_total: Cell<u64>,
    pub(super) made_502: Cell<u64>,
    pub(super) made_503: Cell<u64>,
    pub(super) made_504: Cell<u64>,
    pub(super) refused: Cell<u64>,
}

impl Table {
    pub(super) fn new(shared: Shared, room: Room) -> Self {
        Self {
            clock: Rc::new(Clock::new()),
            reports: Rc::default(),
            routes: RefCell::default(),
            gateways: RefCell::default(),
            conns: RefCell::default(),
            block: RefCell::default(),
            room,
            shared,
            serial: Cell::new(0),
            is_retiring: Cell::new(false),
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// The gateway of this name. One that no routes have named yet holds its requests.
    pub(super) fn gateway(&self, name: &str) -> Rc<Gateway> {
        let mut all = self.gateways.borrow_mut();
        Rc::clone(all.entry(name.to_owned()).or_insert_with(|| Rc::new(Gateway::new(name))))
    }

    pub(super) fn gateways(&self) -> Vec<Rc<Gateway>> {
        self.gateways.borrow().values().cloned().collect()
    }

    /// Gateways get other names, from old to new, and keep all that they have; none does where somebody keeps one of
    /// these names.
    pub(super) fn rename(&self, names: &BTreeMap<String, String>) {
        let mut all = self.gateways.borrow_mut();
        let is_kept = |it: &String| all.contains_key(it) && !names.contains_key(it);
        if names.values().any(is_kept) {
            return;
        }
        let moved = names.iter().filter_map(|(old, new)| Some((new.clone(), all.remove(old)?)));
        for (new, gateway) in moved.collect::<Vec<_>>() {
            gateway.name.borrow_mut().clone_from(&new);
            all.insert(new, gateway);
        }
    }

    /// Puts the routes in force. From here on nobody that is out of rotation is asked.
    pub(super) fn apply(&self, routes: Routes) {
        for gateway in self.gateways() {
            if !routes.gateways.iter().any(|it| it.name == *gateway.name.borrow()) {
                self.replace(&gateway, &[]);
                gateway.is_known.set(false);
            }
        }
        for route in &routes.gateways {
            let gateway = self.gateway(&route.name);
            gateway.is_known.set(true);
            *gateway.route.borrow_mut() = Rc::new(Route { instances: vec![], ..route.clone() });
            self.replace(&gateway, &route.instances);
            if gateway.has_rotation() {
                gateway.line.borrow_mut().call_all();
            }
        }
        *self.routes.borrow_mut() = Some(routes);
        self.reports.at_once();
    }

    fn replace(&self, gateway: &Gateway, targets: &[Target]) {
        let before = Rc::clone(&gateway.instances.borrow());
        let after: Vec<_> =
            targets.iter().filter_map(|it| self.instance(gateway, &before, it)).collect();
        let gone = before.iter().filter(|it| !after.iter().any(|new| Rc::ptr_eq(new, it)));
        for instance in gone {
            instance.set_rotation(false);
            gateway.leaving.borrow_mut().push(Rc::clone(instance));
        }
        *gateway.instances.borrow_mut() = after.into();
    }

    /// The entry that is there, with what is new, or another.
    fn instance(
        &self,
        gateway: &Gateway,
        before: &[Rc<Instance>],
        target: &Target,
    ) -> Option<Rc<Instance>> {
        let Ok(address) = target.address.parse() else {
            self.reports.notice(format!(
                "{} gets no requests: `{}` is no address with a port",
                target.name, target.address
            ));
            return None;
        };
        let is_same = |it: &&Rc<Instance>| {
            it.name == target.name && it.generation == target.generation && it.address == address
        };
        let instance = before.iter().find(is_same).cloned().unwrap_or_else(|| {
            let entry = Entry {
                serial: self.serial(),
                gateway: Rc::clone(&gateway.name),
                name: target.name.clone(),
                generation: target.generation,
                address,
                slot: self.shared.slot(&target.name, target.generation),
            };
            Rc::new(Instance::new(entry, Rc::clone(&self.clock), Rc::clone(&self.reports)))
        });
        instance.is_backup.set(target.backup);
        instance.weight.set(target.weight);
        instance.set_rotation(target.in_rotation);
        Some(instance)
    }

    /// The numbers of this moment. Those that left for good are in it one last time.
    pub(super) fn counts(&self) -> Counts {
        let now = self.clock.micros();
        let revision = self.routes.borrow().as_ref().map_or(0, |it| it.revision);
        let gateways = self.gateways();
        let counts =
            Counts { revision, gateways: gateways.iter().map(|it| it.counts(now)).collect() };
        for gateway in &gateways {
            gateway.leaving.borrow_mut().retain(|it| {
                let stays = it.in_flight() > 0;
                if !stays {
                    self.shared.release(&it.slot);
                    // What it answered is not undone by its end.
                    gateway.past.borrow_mut().push(it.window.replace(Window::new()));
                }
                stays
            });
        }
        self.gateways.borrow_mut().retain(|_, it| !it.is_over());
        counts
    }

    /// Closes connections to instances that wait for their next request until there may be one more.
    pub(super) fn spare_a_link(&self) {
        for gateway in self.gateways.borrow().values() {
            for instance in gateway.instances.borrow().iter() {
                while self.room.is_short_of_links() {
                    let oldest = instance.pool.borrow_mut().take_oldest();
                    if oldest.is_none() {
                        break;
                    }
                }
            }
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.borrow().len()
    }
}

impl Gateway {
    fn new(name: &str) -> Self {
        Self {
            name: Rc::new(RefCell::new(name.to_owned())),
            route: RefCell::default(),
            instances: RefCell::new(Rc::new([])),
            leaving: RefCell::default(),
            past: RefCell::default(),
            line: RefCell::default(),
            turn: Cell::new(0),
            is_known: Cell::new(false),
            connections: Cell::new(0),
            held: Cell::new(0),
            held_total: Cell::new(0),
            made_502: Cell::new(0),
            made_503: Cell::new(0),
            made_504: Cell::new(0),
            refused: Cell::new(0),
        }
    }

    pub(super) fn route(&self) -> Rc<Route> {
        Rc::clone(&self.route.borrow())
    }

    /// Who takes the next request; see [`choose`].
    pub(super) fn choose(&self, tried: &[u64]) -> Option<Rc<Instance>> {
        let instances = self.instances.borrow();
        choose(&instances, tried, &self.turn).map(|index| Rc::clone(&instances[index]))
    }

    fn has_rotation(&self) -> bool {
        self.instances.borrow().iter().any(|it| it.in_rotation.get())
    }

    /// Lets the request that has waited longest try again: an instance that refused may be back.
    pub(super) fn probe(&self) {
        if self.has_rotation() {
            self.line.borrow_mut().call_first();
        }
    }

    pub(super) fn sweep(&self, now: u64) {
        for it in self.instances.borrow().iter() {
            it.pool.borrow_mut().sweep(now);
        }
    }

    /// Nobody asks for it, and nothing is open.
    fn is_over(&self) -> bool {
        !self.is_known.get() && self.connections.get() == 0 && self.leaving.borrow().is_empty()
    }

    fn counts(&self, now: u64) -> GatewayCounts {
        let instances = self.instances.borrow();
        let leaving = self.leaving.borrow();
        self.past.borrow_mut().retain(|it| it.look(now).per_second > 0.0);
        let windows: Vec<_> =
            instances.iter().chain(leaving.iter()).map(|it| it.window.borrow()).collect();
        let past = self.past.borrow();
        let seen = Seen::of(windows.iter().map(|it| &**it).chain(past.iter()), now);
        GatewayCounts {
            name: self.name.borrow().clone(),
            connections: self.connections.get() as u64,
            held: u64::from(self.held.get()),
            held_total: self.held_total.get(),
            made_502: self.made_502.get(),
            made_503: self.made_503.get(),
            made_504: self.made_504.get(),
            refused: self.refused.get(),
            per_second: seen.per_second,
            p50_us: seen.p50_us,
            p95_us: seen.p95_us,
            p99_us: seen.p99_us,
            instances: instances.iter().chain(leaving.iter()).map(|it| it.counts(now)).collect(),
        }
    }
}
