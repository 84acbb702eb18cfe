//! The process: what it was started with, whom it listens to, and the house that is swept now and then.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::conn::Expired;
use super::control::{FromGateway, LISTENER_LIMIT, Routes, ToGateway, VERSION};
use super::inherited;
use super::listen::Listening;
use super::memory::{self, Tidy};
use super::room::Room;
use super::session::{Arrival, Session};
use super::shared::Shared;
use super::table::Table;

/// What the daemon starts the process with: numbers of open descriptors.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// A listening Unix stream socket.
    pub control: i32,
    /// Listening TCP sockets, by the name of their gateway.
    pub listeners: Vec<(String, i32)>,
    /// A memfd; see [`read`](super::shared::read).
    pub shared: Option<i32>,
}

/// Between two looks at what changes.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at everybody's clocks, in milliseconds.
const SWEEP: u64 = 250;
/// Orders that wait to be carried out; the daemon's socket holds the rest.
const ORDERS: usize = 64;

/// Serves until it was told to retire and the last connection has ended.
pub fn run(inherited: Inherited) -> io::Result<()> {
    let control = inherited::take(inherited.control)?;
    let mut listeners = vec![];
    for (name, number) in inherited.listeners {
        listeners.push((name, inherited::take(number)?));
    }
    let shared = match inherited.shared {
        Some(number) => Shared::map(inherited::take(number)?)?,
        None => Shared::none(),
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async { Process::begin(control, listeners, shared)?.serve().await })
}

struct Process {
    table: Rc<Table>,
    control: UnixListener,
    listeners: BTreeMap<String, Listening>,
    session: Option<Session>,
    /// It said hello.
    is_greeted: bool,
    inbox: Inbox,
    sessions: u64,
    term: Signal,
    /// In milliseconds; see [`ToGateway::Retire`].
    linger: u64,
    counted_at: u64,
    swept_at: u64,
    probed_at: u64,
    tidy: Tidy,
}

type Inbox = (mpsc::Sender<(u64, Arrival)>, mpsc::Receiver<(u64, Arrival)>);

enum Happening {
    Connected(UnixStream),
    Arrived(u64, Arrival),
    Told,
    Tick,
}

impl Process {
    fn begin(
        control: OwnedFd,
        listeners: Vec<(String, OwnedFd)>,
        shared: Shared,
    ) -> io::Result<Self> {
        let control = std::os::unix::net::UnixListener::from(control);
        control.set_nonblocking(true)?;
        let mut process = Self {
            table: Rc::new(Table::new(shared, Room::of_process())),
            control: UnixListener::from_std(control)?,
            listeners: BTreeMap::new(),
            session: None,
            is_greeted: false,
            inbox: mpsc::channel(ORDERS),
            sessions: 0,
            term: signal(SignalKind::terminate())?,
            linger: 0,
            counted_at: 0,
            swept_at: 0,
            probed_at: 0,
            tidy: Tidy::default(),
        };
        for (name, socket) in listeners {
            process.listen(name, socket)?;
        }
        Ok(process)
    }

    async fn serve(mut self) -> io::Result<()> {
        while !(self.table.is_retiring.get() && self.table.connections() == 0) {
            match self.next().await {
                Happening::Connected(stream) => self.meet(stream),
                Happening::Arrived(id, arrival) => self.take(id, arrival),
                Happening::Told if self.table.is_retiring.get() => break,
                Happening::Told => self.retire(0),
                Happening::Tick => {}
            }
            self.keep_house();
        }
        self.say_goodbye().await;
        Ok(())
    }

    /// What was counted last is told, and sent, before the process ends.
    async fn say_goodbye(&mut self) {
        self.table.reports.at_once();
        self.keep_house();
        if let Some(session) = self.session.take() {
            session.end().await;
        }
    }

    async fn next(&mut self) -> Happening {
        let is_busy = self.table.connections() > 0 || self.table.reports.is_changed();
        let reports = Rc::clone(&self.table.reports);
        reports.sleeps(!is_busy);
        let happening = tokio::select! {
            Ok((stream, _)) = self.control.accept() => Happening::Connected(stream),
            Some((id, arrival)) = self.inbox.1.recv() => Happening::Arrived(id, arrival),
            Some(()) = self.term.recv() => Happening::Told,
            () = reports.woken() => Happening::Tick,
            () = tokio::time::sleep(TICK), if is_busy => Happening::Tick,
        };
        reports.sleeps(false);
        happening
    }

    /// The newest connection is the daemon.
    fn meet(&mut self, stream: UnixStream) {
        self.sessions += 1;
        match Session::begin(self.sessions, stream, self.inbox.0.clone()) {
            Ok(session) => {
                self.session = Some(session);
                self.is_greeted = false;
            }
            // Somebody else's user: the connection is closed, and the daemon's stays.
            Err(_) => self.table.reports.notice("another user tried to connect".into()),
        }
    }

    fn take(&mut self, id: u64, arrival: Arrival) {
        if self.session.as_ref().is_none_or(|it| it.id != id) {
            return;
        }
        match arrival {
            Arrival::End => self.session = None,
            Arrival::Nonsense(why) => {
                self.table.reports.notice(format!("a message could not be read: {why}"));
            }
            Arrival::Order(order, descriptors) => self.obey(order, descriptors),
        }
    }

    fn obey(&mut self, order: ToGateway, descriptors: Vec<OwnedFd>) {
        match order {
            ToGateway::Hello { .. } => self.welcome(),
            ToGateway::Routes(routes) => self.apply(routes),
            ToGateway::Listeners { names } => {
                if names.len() != descriptors.len() {
                    let (named, passed) = (names.len(), descriptors.len());
                    self.table
                        .reports
                        .notice(format!("{named} listeners were named and {passed} passed"));
                }
                let passed: Vec<_> = names.into_iter().zip(descriptors).collect();
                self.rename(&passed);
                for (name, socket) in passed {
                    if let Err(err) = self.listen(name.clone(), socket) {
                        self.table.reports.notice(format!("{name} is not listened on: {err}"));
                    }
                }
            }
            ToGateway::Retire { linger_ms } => self.retire(linger_ms),
            ToGateway::Ping => self.tell(&FromGateway::Pong, vec![]),
            ToGateway::Unknown => {
                self.table.reports.notice("a message of an unknown type was skipped".into());
            }
        }
    }

    /// A socket that is accepted on already comes for another gateway: that one was renamed.
    fn rename(&mut self, passed: &[(String, OwnedFd)]) {
        let mut names = BTreeMap::new();
        for (new, socket) in passed {
            let old = self.listeners.iter().find(|(_, it)| it.is(socket));
            names.extend(old.filter(|it| it.0 != new).map(|(old, _)| (old.clone(), new.clone())));
        }
        // Nobody accepts until the new name does, which is in the same turn.
        self.listeners.retain(|name, _| !names.contains_key(name));
        self.table.rename(&names);
    }

    fn listen(&mut self, name: String, socket: OwnedFd) -> io::Result<()> {
        if self.table.is_retiring.get() {
            return Ok(());
        }
        if self.listeners.len() >= LISTENER_LIMIT && !self.listeners.contains_key(&name) {
            return Err(io::Error::other("there are too many listeners"));
        }
        let listening = Listening::begin(&self.table, &name, socket)?;
        self.listeners.insert(name, listening);
        self.table.room.listens_on(self.listeners.len());
        Ok(())
    }

    fn apply(&mut self, routes: Routes) {
        self.listeners.retain(|name, _| routes.gateways.iter().any(|it| it.name == *name));
        self.table.room.listens_on(self.listeners.len());
        self.table.apply(routes);
    }

    fn welcome(&mut self) {
        let mut names = vec![];
        let mut copies = vec![];
        for (name, listening) in &self.listeners {
            if let Ok(copy) = listening.copy() {
                names.push(name.clone());
                copies.push(copy);
            }
        }
        let welcome = FromGateway::Welcome {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            routes: self.table.routes.borrow().clone(),
            listeners: names,
            retiring: self.table.is_retiring.get(),
        };
        self.is_greeted = true;
        self.tell(&welcome, copies);
        self.table.reports.at_once();
    }

    fn tell(&mut self, report: &FromGateway, descriptors: Vec<OwnedFd>) {
        if let Some(session) = &self.session
            && self.is_greeted
            && session.tell(report, descriptors).is_err()
        {
            self.session = None;
        }
    }

    fn retire(&mut self, linger: u64) {
        self.linger = linger;
        self.table.is_retiring.set(true);
        self.listeners.clear();
        for conn in self.conns() {
            conn.is_closing.set(true);
        }
        self.swept_at = 0;
    }

    fn conns(&self) -> Vec<Rc<super::conn::Conn>> {
        self.table.conns.borrow().values().filter_map(std::rc::Weak::upgrade).collect()
    }

    fn keep_house(&mut self) {
        let now = self.table.clock.micros() / 1000;
        if now >= self.swept_at + SWEEP || self.swept_at == 0 || self.table.is_retiring.get() {
            self.swept_at = now.max(1);
            self.sweep(now);
        }
        let tick = 100;
        if now >= self.probed_at + tick {
            self.probed_at = now;
            self.table.gateways().iter().for_each(|it| it.probe());
        }
        let is_due = self.table.reports.is_urgent() || now >= self.counted_at + tick;
        if is_due && self.table.reports.take_change() {
            self.counted_at = now;
            for notice in self.table.reports.take_notices() {
                self.tell(&notice, vec![]);
            }
            let counts = FromGateway::Counts(self.table.counts());
            self.tell(&counts, vec![]);
        }
    }

    fn sweep(&mut self, now: u64) {
        let is_retiring = self.table.is_retiring.get();
        let conns = self.conns();
        let parked = conns.iter().filter(|it| it.is_parked.get()).count();
        if self.tidy.is_due(now, parked, conns.len()) {
            memory::trim();
        }
        for conn in conns {
            conn.look(now);
            let idle = conn.idle_since().map(|since| now.saturating_sub(since));
            if is_retiring && idle.is_some_and(|idle| idle >= self.linger) {
                conn.expire(Expired::Idle);
            }
        }
        self.table.gateways().iter().for_each(|it| it.sweep(now));
    }
}
