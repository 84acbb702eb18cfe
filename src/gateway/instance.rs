//! One instance as the gateway sees it: whether it may be asked, what it has in flight, what it did.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use http::StatusCode;

use super::choose::Candidate;
use super::clock::Clock;
use super::control::InstanceCounts;
use super::eject::Ejection;
use super::link::Pool;
use super::report::Reports;
use super::shared::Slot;
use super::window::Window;

/// An entry of the routes. Another generation or address is another entry.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) serial: u64,
    pub(super) gateway: Rc<RefCell<String>>,
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) address: SocketAddr,
    pub(super) is_backup: Cell<bool>,
    pub(super) weight: Cell<u32>,
    pub(super) in_rotation: Cell<bool>,
    /// Milliseconds; means something only out of rotation.
    pub(super) out_since: Cell<u64>,
    pub(super) ejection: Cell<Ejection>,
    pub(super) pool: RefCell<Pool>,
    pub(super) slot: Slot,
    pub(super) totals: Totals,
    in_flight: Cell<u32>,
    pub(super) tunnels: Cell<u32>,
    starts: RefCell<Starts>,
    pub(super) window: RefCell<Window>,
    clock: Rc<Clock>,
    pub(super) reports: Rc<Reports>,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: Cell<u64>,
    pub(super) answered: [Cell<u64>; 5],
    pub(super) retried: Cell<u64>,
    pub(super) cut: Cell<u64>,
    pub(super) abandoned: Cell<u64>,
    pub(super) connect_failed: Cell<u64>,
    pub(super) bytes_in: Cell<u64>,
    pub(super) bytes_out: Cell<u64>,
}

pub(super) fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

/// What an entry of the routes is made of.
pub(super) struct Entry {
    pub(super) serial: u64,
    pub(super) gateway: Rc<RefCell<String>>,
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) address: SocketAddr,
    pub(super) slot: Slot,
}

impl Instance {
    pub(super) fn new(entry: Entry, clock: Rc<Clock>, reports: Rc<Reports>) -> Self {
        Self {
            serial: entry.serial,
            gateway: entry.gateway,
            name: entry.name,
            generation: entry.generation,
            address: entry.address,
            is_backup: Cell::new(false),
            weight: Cell::new(1),
            in_rotation: Cell::new(false),
            out_since: Cell::new(0),
            ejection: Cell::default(),
            pool: RefCell::default(),
            slot: entry.slot,
            totals: Totals::default(),
            in_flight: Cell::new(0),
            tunnels: Cell::new(0),
            starts: RefCell::default(),
            window: RefCell::new(Window::new()),
            clock,
            reports,
        }
    }

    /// Puts the instance into the rotation or takes it out. Out of it, nothing waits on its connections.
    pub(super) fn set_rotation(&self, in_rotation: bool) {
        if self.in_rotation.replace(in_rotation) && !in_rotation {
            self.out_since.set(self.clock.micros() / 1000);
        }
        if !in_rotation {
            self.pool.borrow_mut().clear();
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Counts a request from now until the ticket is dropped.
    pub(super) fn begin(self: &Rc<Self>, at: u64) -> Ticket {
        self.set_in_flight(self.in_flight.get() + 1);
        let key = self.starts.borrow_mut().add(at);
        Ticket {
            instance: Rc::clone(self),
            began: at,
            key: Some(key),
            is_tunnel: false,
            end: End::Abandoned,
        }
    }

    fn set_in_flight(&self, count: u32) {
        self.in_flight.set(count);
        self.slot.set(count);
        self.reports.changed();
        if count == 0 && !self.in_rotation.get() {
            self.reports.at_once();
        }
    }

    pub(super) fn counts(&self, now: u64) -> InstanceCounts {
        let seen = self.window.borrow().look(now);
        let totals = &self.totals;
        InstanceCounts {
            name: self.name.clone(),
            generation: self.generation,
            in_rotation: self.in_rotation.get(),
            ejected: self.ejection.get().is_out(now / 1000),
            in_flight: u64::from(self.in_flight.get()),
            tunnels: u64::from(self.tunnels.get()),
            oldest_ms: self.starts.borrow().oldest().map(|at| now.saturating_sub(at) / 1000),
            requests: totals.requests.get(),
            answered: std::array::from_fn(|class| totals.answered[class].get()),
            retried: totals.retried.get(),
            cut: totals.cut.get(),
            abandoned: totals.abandoned.get(),
            connect_failed: totals.connect_failed.get(),
            bytes_in: totals.bytes_in.get(),
            bytes_out: totals.bytes_out.get(),
            per_second: seen.per_second,
            p50_us: seen.p50_us,
            p95_us: seen.p95_us,
            p99_us: seen.p99_us,
        }
    }
}

impl Candidate for Rc<Instance> {
    fn serial(&self) -> u64 {
        self.serial
    }
    fn is_in_rotation(&self) -> bool {
        self.in_rotation.get()
    }
    fn is_ejected(&self) -> bool {
        self.ejection.get().is_out(self.clock.coarse_ms())
    }
    fn is_backup(&self) -> bool {
        self.is_backup.get()
    }
    fn weight(&self) -> u32 {
        self.weight.get()
    }
    fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }
}

/// One request in flight. Dropping it ends it, whatever happened.
#[derive(Debug)]
pub(super) struct Ticket {
    instance: Rc<Instance>,
    began: u64,
    key: Option<usize>,
    is_tunnel: bool,
    end: End,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered to the last byte.
    Answered(StatusCode),
    /// The client left.
    Abandoned,
    Retried,
    /// It took no connection.
    Refused,
    /// There was nothing to connect with.
    Unasked,
    /// The instance lost it.
    Cut,
}

impl Ticket {
    pub(super) fn instance(&self) -> &Rc<Instance> {
        &self.instance
    }

    /// There is a connection to send it over.
    pub(super) fn is_given(&self) {
        add(&self.instance.totals.requests, 1);
    }

    /// Says how it will have ended when it is dropped.
    pub(super) fn ends(&mut self, end: End) {
        self.end = end;
    }

    /// The connection was upgraded: it is open as long as the ticket lives.
    pub(super) fn becomes_tunnel(&mut self) {
        self.is_tunnel = true;
        self.forget_start();
        self.instance.tunnels.set(self.instance.tunnels.get() + 1);
        self.instance.reports.changed();
    }

    fn forget_start(&mut self) {
        if let Some(key) = self.key.take() {
            self.instance.starts.borrow_mut().remove(key);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.forget_start();
        let it = &self.instance;
        match self.end {
            End::Answered(status) => {
                let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
                add(&it.totals.answered[class], 1);
                if !self.is_tunnel {
                    let now = it.clock.micros();
                    it.window.borrow_mut().add(now, now.saturating_sub(self.began));
                }
            }
            End::Abandoned => add(&it.totals.abandoned, 1),
            End::Retried => add(&it.totals.retried, 1),
            End::Refused => add(&it.totals.connect_failed, 1),
            End::Unasked => {}
            End::Cut => add(&it.totals.cut, 1),
        }
        if self.is_tunnel {
            it.tunnels.set(it.tunnels.get() - 1);
        }
        it.set_in_flight(it.in_flight.get() - 1);
    }
}

/// When the requests in flight began.
#[derive(Debug, Default)]
struct Starts {
    at: Vec<Option<u64>>,
    free: Vec<usize>,
}

impl Starts {
    fn add(&mut self, at: u64) -> usize {
        match self.free.pop() {
            Some(key) => {
                self.at[key] = Some(at);
                key
            }
            None => {
                self.at.push(Some(at));
                self.at.len() - 1
            }
        }
    }

    fn remove(&mut self, key: usize) {
        self.at[key] = None;
        self.free.push(key);
    }

    fn oldest(&self) -> Option<u64> {
        self.at.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::shared::Shared;

    fn web1() -> Rc<Instance> {
        let entry = Entry {
            serial: 1,
            gateway: Rc::default(),
            name: "web1".into(),
            generation: 1,
            address: "127.0.0.1:1".parse().unwrap(),
            slot: Shared::none().slot("web1", 1),
        };
        Rc::new(Instance::new(entry, Rc::new(Clock::new()), Rc::default()))
    }

    #[test]
    fn every_ticket_is_counted_until_it_ends_and_by_how_it_ended() {
        let web1 = web1();
        let mut tickets: Vec<_> = (0..5).map(|at| web1.begin(at)).collect();
        assert_eq!(web1.in_flight(), 5);
        tickets[0].ends(End::Answered(StatusCode::NOT_FOUND));
        tickets[1].ends(End::Cut);
        tickets[2].ends(End::Retried);
        tickets[3].becomes_tunnel();
        tickets[4].ends(End::Refused);
        tickets[..4].iter().for_each(Ticket::is_given);
        assert_eq!(web1.counts(0).tunnels, 1);
        drop(tickets);
        let counts = web1.counts(0);
        assert_eq!((counts.in_flight, counts.tunnels, counts.requests), (0, 0, 4));
        assert_eq!(
            (counts.answered[3], counts.cut, counts.retried, counts.abandoned),
            (1, 1, 1, 1)
        );
        assert_eq!(counts.oldest_ms, None);
    }

    #[test]
    fn the_oldest_is_the_one_that_began_first_whatever_ended_meanwhile() {
        let web1 = web1();
        let first = web1.begin(1_000);
        let _second = web1.begin(5_000);
        assert_eq!(web1.counts(9_000).oldest_ms, Some(8));
        drop(first);
        let _third = web1.begin(7_000);
        assert_eq!(web1.counts(9_000).oldest_ms, Some(4));
    }
}
