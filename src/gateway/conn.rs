//! What the parts of one connection of a client share: its state, and since when it waits for what.
//!
//! There are no timers. A connection notes since when it waits for what, in cells; the house looks at all of them
//! now and then ([`Conn::look`]) and wakes the one that has waited too long.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::control::Route;
use super::exchange::{Exchange, Waiting};
use super::guard::Guard;
use super::headers::Sender;
use super::instance::Ticket;
use super::table::{Gateway, Table};
use super::tunnel::Tunnel;

/// What the parts of one connection share.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) number: u64,
    pub(super) table: Rc<Table>,
    pub(super) gateway: Rc<Gateway>,
    /// The settings of the moment it was accepted.
    pub(super) route: Rc<Route>,
    pub(super) sender: Sender,
    pub(super) phase: Cell<Phase>,
    /// Milliseconds, of the phase.
    since: Cell<u64>,
    /// Of a request: what it waits for, and since when.
    waiting: Cell<Option<(Waiting, u64)>>,
    /// The client takes nothing; 0 if it does.
    pub(super) blocked_since: Cell<u64>,
    pub(super) guard: RefCell<Guard>,
    pub(super) requests: Cell<u64>,
    /// The request in flight, until its last byte is out.
    pub(super) ticket: RefCell<Option<Ticket>>,
    /// All of the response is with hyper.
    body_done: Cell<bool>,
    pub(super) exchange: RefCell<Option<Exchange>>,
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    /// Room for the next head, to spare an allocation.
    pub(super) head: RefCell<Vec<u8>>,
    /// Interim responses that go before whatever hyper writes.
    pub(super) early: RefCell<Vec<u8>>,
    pub(super) expired: Cell<Option<Expired>>,
    /// The next response says `Connection: close`.
    pub(super) is_closing: Cell<bool>,
    /// The response broke off: the client must not take what it has for all.
    pub(super) is_broken: Cell<bool>,
    /// The request was taken to its end, and its response was an instance's: hyper has nothing left to do.
    is_clean: Cell<bool>,
    /// Its requests follow each other quickly.
    is_brisk: Cell<bool>,
    /// Idle for long enough.
    may_park: Cell<bool>,
    pub(super) is_parked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// Inside the head of a request.
    Head,
    /// A request is being answered.
    Busy,
    Tunnel,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Idle,
    Head,
    Body,
    Continue,
    Reply,
    Write,
    Tunnel,
}

/// A connection whose requests follow each other within this time, in milliseconds, keeps hyper for as long.
const PARK: u64 = 200;
/// Interim responses that wait for a client, in bytes.
const EARLY: usize = 64 * 1024;
/// How long a body waits for `100 Continue` before it is sent without (RFC 9110 §10.1.1), in milliseconds.
const CONTINUE: u64 = 1_000;

impl Conn {
    pub(super) fn new(
        table: Rc<Table>,
        gateway: Rc<Gateway>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Rc<Self> {
        let route = gateway.route();
        let now = table.clock.micros() / 1000;
        let conn = Rc::new(Self {
            number: table.serial(),
            gateway,
            route,
            sender: Sender::new(peer, local),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            waiting: Cell::new(None),
            blocked_since: Cell::new(0),
            guard: RefCell::new(Guard::new()),
            requests: Cell::new(0),
            ticket: RefCell::default(),
            body_done: Cell::new(false),
            exchange: RefCell::default(),
            tunnel: RefCell::default(),
            head: RefCell::default(),
            early: RefCell::default(),
            expired: Cell::new(None),
            is_closing: Cell::new(table.is_retiring.get()),
            is_broken: Cell::new(false),
            is_clean: Cell::new(false),
            is_brisk: Cell::new(false),
            may_park: Cell::new(false),
            is_parked: Cell::new(false),
            waker: RefCell::default(),
            table,
        });
        conn.table.conns.borrow_mut().insert(conn.number, Rc::downgrade(&conn));
        conn.gateway.connections.set(conn.gateway.connections.get() + 1);
        conn.table.reports.changed();
        conn
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.table.clock.coarse_ms());
        // What was too slow until now has nothing to do with what begins.
        self.expired.set(None);
    }

    /// A request's head is complete. Returns its number on this connection.
    pub(super) fn begin_request(&self) -> u64 {
        self.phase.set(Phase::Busy);
        self.body_done.set(false);
        self.is_clean.set(false);
        // What was too slow before has nothing to do with this one.
        self.expired.set(None);
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// hyper has all of the response; it is over when that is flushed.
    pub(super) fn response_is_whole(&self) {
        self.body_done.set(true);
        self.waiting.set(None);
    }

    /// An instance has answered; `has_all` if it took all of the request.
    pub(super) fn was_answered(&self, has_all: bool) {
        self.is_clean.set(has_all);
        self.response_is_whole();
    }

    /// Notes what the request waits for; `moved` if it got any further since the last time.
    pub(super) fn waits(&self, waiting: Option<Waiting>, moved: bool) {
        let now = self.table.clock.coarse_ms();
        let since = match self.waiting.get() {
            Some((before, since)) if !moved && Some(before) == waiting => since,
            _ => now,
        };
        self.waiting.set(waiting.map(|it| (it, since)));
    }

    /// Passes an interim response on, before anything that hyper will write.
    pub(super) fn interim(&self, bytes: &[u8]) {
        let mut early = self.early.borrow_mut();
        // Whoever does not read them does without.
        if early.len() < EARLY {
            early.extend_from_slice(bytes);
        }
        drop(early);
        self.wake();
    }

    /// Whose task is to be woken.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Inside the head of a request, and since when.
    pub(super) fn asking_since(&self) -> Option<u64> {
        (self.phase.get() == Phase::Head).then(|| self.since.get())
    }

    /// Between two requests, and since when.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.phase.get() == Phase::Idle).then(|| self.since.get())
    }

    /// Ends the connection as soon as it is looked at.
    pub(super) fn expire(&self, expired: Expired) {
        if self.expired.get().is_none() {
            self.expired.set(Some(expired));
            self.wake();
        }
    }

    /// Wakes the connection if it has waited too long for something. Called by the house.
    pub(super) fn look(&self, now: u64) {
        let limits = &self.route.limits;
        let over = |since: u64, limit: u64| limit > 0 && now.saturating_sub(since) > limit;
        let blocked = self.blocked_since.get();
        if blocked > 0 && over(blocked, limits.write_timeout_ms) {
            return self.expire(Expired::Write);
        }
        match (self.phase.get(), self.waiting.get()) {
            (Phase::Idle, _) if over(self.since.get(), limits.idle_timeout_ms) => {
                self.expire(Expired::Idle);
            }
            (Phase::Idle, _) if !self.is_parked.get() && over(self.since.get(), PARK) => {
                self.may_park.set(true);
                self.wake();
            }
            (Phase::Head, _) if over(self.since.get(), limits.header_timeout_ms) => {
                self.expire(Expired::Head);
            }
            (Phase::Busy, Some((Waiting::Client, since)))
                if over(since, limits.body_timeout_ms) =>
            {
                self.expire(Expired::Body);
            }
            (Phase::Busy, Some((Waiting::Continue, since))) if over(since, CONTINUE) => {
                self.expire(Expired::Continue);
            }
            (Phase::Busy, Some((Waiting::Instance, since)))
                if over(since, limits.reply_timeout_ms) =>
            {
                self.expire(Expired::Reply);
            }
            (Phase::Tunnel, _) if self.outlives_its_instance(now) => self.expire(Expired::Tunnel),
            _ => {}
        }
    }

    /// The time is over for something that has no answer, unless it has just come.
    pub(super) fn is_over(&self) -> bool {
        let still = match self.expired.get() {
            Some(Expired::Idle) => self.phase.get() == Phase::Idle,
            Some(Expired::Head) => self.phase.get() == Phase::Head,
            Some(Expired::Write) => self.is_blocked(),
            _ => return false,
        };
        if !still {
            self.expired.set(None);
        }
        still
    }

    fn outlives_its_instance(&self, now: u64) -> bool {
        self.ticket.borrow().as_ref().is_some_and(|ticket| {
            let it = ticket.instance();
            let wait = self.gateway.route.borrow().upgrade_wait_ms;
            !it.in_rotation.get() && now.saturating_sub(it.out_since.get()) >= wait
        })
    }

    /// Everything that hyper had was handed to the socket.
    pub(super) fn flushed(&self) {
        self.blocked_since.set(0);
        if self.phase.get() == Phase::Busy && self.body_done.get() {
            self.ticket.take();
            let is_inside = self.guard.borrow().is_inside_head();
            self.enter(if is_inside { Phase::Head } else { Phase::Idle });
            let is_done = self.is_clean.get() && !is_inside && !self.is_closing.get();
            self.may_park.set(is_done && !self.is_brisk.get());
        }
    }

    /// Takes note of what the client sent.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.guard.borrow_mut().take(bytes);
        if self.phase.get() == Phase::Idle {
            let pause = self.table.clock.coarse_ms().saturating_sub(self.since.get());
            self.is_brisk.set(self.requests.get() > 0 && pause <= PARK);
            self.enter(Phase::Head);
        }
    }

    /// True once when nothing is going on, and nothing is expected soon: what the client sent was answered.
    pub(super) fn takes_a_rest(&self) -> bool {
        self.may_park.take()
            && self.phase.get() == Phase::Idle
            && self.guard.borrow().is_behind(self.requests.get())
    }

    /// Gives back the room that only requests need.
    pub(super) fn park(&self) {
        self.is_parked.set(true);
        self.head.take();
        self.early.take();
    }

    /// The client has not yet taken all that was written.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.get() > 0
    }

    pub(super) fn blocked(&self) {
        if self.blocked_since.get() == 0 {
            self.blocked_since.set(self.table.clock.coarse_ms().max(1));
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.gateway.connections.set(self.gateway.connections.get() - 1);
        self.table.conns.borrow_mut().remove(&self.number);
        self.table.reports.changed();
        self.table.room.freed();
        if self.table.is_retiring.get() {
            self.table.reports.at_once();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::room::Room;
    use crate::gateway::shared::Shared;

    fn conn() -> Rc<Conn> {
        let table = Rc::new(Table::new(Shared::none(), Room::with(1024)));
        let gateway = table.gateway("shop");
        let address = "127.0.0.1:1".parse().unwrap();
        Conn::new(table, gateway, address, address)
    }

    fn one_request(conn: &Conn) {
        conn.received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        conn.begin_request();
        conn.was_answered(true);
        conn.flushed();
    }

    #[test]
    fn what_was_late_in_one_request_says_nothing_of_the_pause_behind_it() {
        let conn = conn();
        conn.received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        conn.begin_request();
        // The house marks it at the very moment at which the answer comes.
        conn.expire(Expired::Reply);
        conn.response_is_whole();
        conn.flushed();
        assert_eq!(conn.expired.get(), None);
        conn.look(90_000);
        assert_eq!(conn.expired.get(), Some(Expired::Idle));
        conn.received(b"G");
        assert_eq!(conn.expired.get(), None, "it is not idle any more");
    }

    #[test]
    fn a_connection_rests_at_once_unless_its_requests_follow_each_other() {
        let conn = conn();
        one_request(&conn);
        assert!(conn.takes_a_rest());
        one_request(&conn);
        assert!(!conn.takes_a_rest(), "the second came at once");
        conn.look(PARK + 1);
        assert!(conn.takes_a_rest(), "but no third");
    }

    #[test]
    fn a_connection_does_not_rest_before_a_request_that_is_there() {
        let conn = conn();
        conn.received(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        conn.begin_request();
        conn.was_answered(true);
        conn.flushed();
        assert!(!conn.takes_a_rest());
        conn.begin_request();
        conn.was_answered(true);
        conn.flushed();
        assert!(conn.takes_a_rest());
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Conn>() <= 1024, "{}", size_of::<Conn>());
    }
}
