//! The logger process: one thread, one epoll, no timer while nothing happens.
//!
//! It starts with what its predecessor had open, takes orders from whatever daemon connects, and stays until it is told
//! to quit or gets a SIGTERM; then it takes what is in the FIFOs and goes. Daemons come and go; that changes nothing.
//! One that does not find its socket sends it a SIGHUP: then it makes another one.
//!
//! Reports go out at the end of a turn, after the record of what is open has been written: whoever is told that
//! something is done can rely on the successor of a logger that dies right then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::{Event, EventData, EventFlags};
use rustix::event::{Timespec, epoll};
use rustix::fs::FlockOperation;
use rustix::net::SocketFlags;
use rustix::process::{Resource, Rlimit};

use super::clock::{Moment, now};
use super::mover::{PeerId, Reports};
use super::protocol::{FromLogger, LOCK_NAME, SOCKET_NAME, ToLogger};
use super::serve::Peer;
use super::sink::is_same;
use super::state;
use super::table::{FIRST_ID, Table};

/// Daemons at a time: one, its successor, and room for those that are about to notice that they are dead.
const PEERS: usize = 16;
const EVENTS: usize = 256;

const LISTENER: u64 = 0;
const SIGNAL: u64 = 1;
const _: () = assert!(SIGNAL < FIRST_ID);

/// Serves until told to quit; this is the whole process, and it changes its signal dispositions and limits.
///
/// `listener` is a listening Unix stream socket that the daemon bound in `runtime_dir`. Waits for a predecessor in the
/// same directory to be gone. Fails only at the start: without a lock file, an epoll or a `/dev/null`.
pub fn run(listener: OwnedFd, runtime_dir: &Path) -> io::Result<()> {
    let lock = lock(runtime_dir, FlockOperation::LockExclusive)?;
    let descriptors = raise_descriptor_limit();
    let signals = signals()?;
    let mut logger = Logger::new(listener, (runtime_dir, lock), signals, descriptors)?;
    logger.resume();
    while !logger.over {
        logger.turn()?;
    }
    logger.table.drain(now(), &mut logger.reports);
    logger.report();
    Ok(())
}

fn lock(runtime_dir: &Path, how: FlockOperation) -> io::Result<File> {
    let path = runtime_dir.join(LOCK_NAME);
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    rustix::fs::flock(&file, how)?;
    Ok(file)
}

/// Returns how many there may be at the end.
pub(super) fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // With the old limit it works as well, for fewer instances.
    let _ =
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// SIGTERM and SIGHUP become readable; a closed terminal, a dead peer and a file size limit end nothing.
fn signals() -> io::Result<SignalFd> {
    for signal in [Signal::SIGINT, Signal::SIGPIPE, Signal::SIGXFSZ] {
        ignore(signal)?;
    }
    let mask: SigSet = [Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    mask.thread_set_mask()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

#[expect(unsafe_code, reason = "signal dispositions belong to the whole process")]
pub(super) fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: no handler runs; the old disposition is not called.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

struct Logger {
    table: Table,
    listener: OwnedFd,
    /// No descriptor was left for a connection that waits; tried again when anything has happened.
    deaf: bool,
    signals: SignalFd,
    runtime_dir: PathBuf,
    /// As long as this process lives.
    lock: File,
    peers: BTreeMap<PeerId, Peer>,
    reports: Reports,
    /// What went wrong at the start, for the first daemon that connects.
    notices: Vec<String>,
    /// The record could not be written, and that has been said.
    unsaved: bool,
    over: bool,
}

impl Logger {
    fn new(
        listener: OwnedFd,
        (runtime_dir, lock): (&Path, File),
        signals: SignalFd,
        descriptors: u64,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let table = Table::new(descriptors)?;
        epoll::add(table.epoll(), &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(table.epoll(), &signals, EventData::new_u64(SIGNAL), EventFlags::IN)?;
        Ok(Self {
            table,
            listener,
            deaf: false,
            signals,
            runtime_dir: runtime_dir.to_owned(),
            lock,
            peers: BTreeMap::new(),
            reports: vec![],
            notices: vec![],
            unsaved: false,
            over: false,
        })
    }

    /// Takes up the work of the predecessor.
    fn resume(&mut self) {
        let (sources, notice) = state::load(&self.runtime_dir);
        self.notices.extend(notice);
        for source in sources {
            self.table.open(source, &mut self.reports);
        }
        self.reports.clear();
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = self.table.next_retry().map(|at| at.saturating_duration_since(now().instant));
        let timeout = timeout.and_then(|it| Timespec::try_from(it).ok());
        match epoll::wait(
            self.table.epoll(),
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now = now();
        for event in &events {
            self.on_event(event, now);
        }
        self.table.retry(now, &mut self.reports);
        if self.deaf {
            self.accept();
        }
        self.save();
        self.report();
        Ok(())
    }

    fn on_event(&mut self, event: &Event, now: Moment) {
        match event.data.u64() {
            LISTENER => self.accept(),
            SIGNAL => self.on_signal(),
            id if self.peers.contains_key(&id) => self.converse(id),
            id => self.table.on_ready(id, now, &mut self.reports),
        }
    }

    fn on_signal(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).ok().and_then(|it| Signal::try_from(it).ok()) {
                // The end of a terminal is told by it as well: then the socket is there.
                Some(Signal::SIGHUP) if self.runtime_dir.join(SOCKET_NAME).exists() => {}
                Some(Signal::SIGHUP) => self.be_found(None),
                _ => self.over = true,
            }
        }
    }

    /// Makes its socket anew. `peer`: who hears why not; `None`: whoever is connected.
    fn be_found(&mut self, peer: Option<PeerId>) {
        if let Err(error) = self.bind_anew() {
            let dir = self.runtime_dir.display();
            let message = format!("the logger cannot be found in {dir} any more: {error}");
            self.reports.push((peer, FromLogger::Notice { message }));
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = rustix::net::accept_with(&self.listener, flags).or_else(|error| {
            if matches!(error, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) {
                self.table.close_files();
            }
            rustix::net::accept_with(&self.listener, flags)
        });
        let deaf = matches!(connection, Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
        if deaf != self.deaf {
            let interest = if deaf { EventFlags::empty() } else { EventFlags::IN };
            // Fails only without memory; then the next turn comes here again.
            let _ = epoll::modify(
                self.table.epoll(),
                &self.listener,
                EventData::new_u64(LISTENER),
                interest,
            );
            self.deaf = deaf;
        }
        if let Ok(peer) = connection.map_err(io::Error::from).and_then(Peer::accept) {
            self.welcome(peer);
        }
    }

    fn welcome(&mut self, peer: Peer) {
        let id = self.table.fresh_id();
        let listened =
            epoll::add(self.table.epoll(), peer.fd(), EventData::new_u64(id), EventFlags::IN);
        if self.peers.len() >= PEERS || listened.is_err() {
            return;
        }
        self.peers.insert(id, peer);
        let ready = FromLogger::Ready { pid: std::process::id(), open: self.table.names() };
        self.reports.push((Some(id), ready));
        self.reports.extend(self.table.troubles().map(|it| (Some(id), it)));
        let notices =
            self.notices.drain(..).map(|message| (Some(id), FromLogger::Notice { message }));
        self.reports.extend(notices);
    }

    fn converse(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.receive() {
            Ok(orders) => orders.into_iter().for_each(|order| self.obey(id, order)),
            Err(_gone) => {
                self.peers.remove(&id);
                self.table.forget_peer(id);
            }
        }
    }

    fn obey(&mut self, peer: PeerId, order: io::Result<ToLogger>) {
        let reports = &mut self.reports;
        match order {
            Ok(ToLogger::Open(source)) => self.table.open(source, reports),
            Ok(ToLogger::Close { name }) => self.table.close(&name, now(), reports),
            Ok(ToLogger::Forget { name }) => self.table.forget(&name),
            Ok(ToLogger::Flush { name, id }) => self.table.flush(&name, peer, id, now(), reports),
            Ok(ToLogger::Watch { name, after }) => self.table.watch(&name, peer, after, reports),
            Ok(ToLogger::BindAnew) => self.be_found(Some(peer)),
            Ok(ToLogger::Quit) => self.over = true,
            Ok(ToLogger::Unknown) => {
                let message =
                    "the logger is of another release and does not know an order it got".into();
                reports.push((Some(peer), FromLogger::Notice { message }));
            }
            Err(error) => {
                let message = format!("the logger got a line that is no order: {error}");
                reports.push((Some(peer), FromLogger::Notice { message }));
            }
        }
    }

    /// The lock first: who has it is the one that is to be found.
    fn bind_anew(&mut self) -> io::Result<()> {
        let has_lock = is_same(&self.lock.metadata()?, &self.runtime_dir.join(LOCK_NAME))?;
        if !has_lock {
            self.lock = lock(&self.runtime_dir, FlockOperation::NonBlockingLockExclusive)?;
        }
        let listener = OwnedFd::from(UnixListener::bind(self.runtime_dir.join(SOCKET_NAME))?);
        rustix::io::ioctl_fionbio(&listener, true)?;
        let epoll = self.table.epoll();
        epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        // The one before is closed, and with that no longer listened to.
        self.listener = listener;
        self.deaf = false;
        self.table.record_anew();
        Ok(())
    }

    fn save(&mut self) {
        if !self.table.is_stale() {
            return;
        }
        match state::save(&self.runtime_dir, self.table.sources()) {
            Ok(()) => {
                self.table.saved();
                self.unsaved = false;
            }
            Err(error) if !self.unsaved => {
                let dir = self.runtime_dir.display();
                let message =
                    format!("the logger could not record in {dir} what it has open: {error}");
                self.reports.push((None, FromLogger::Notice { message }));
                self.unsaved = true;
            }
            Err(_said_already) => {}
        }
    }

    /// Hands out the reports; a peer that cannot take them is let go.
    fn report(&mut self) {
        for (to, report) in std::mem::take(&mut self.reports) {
            self.peers
                .retain(|id, peer| to.is_some_and(|to| to != *id) || peer.tell(&report).is_ok());
        }
        let epoll = self.table.epoll();
        self.peers.retain(|id, peer| {
            if peer.send().is_err() {
                return false;
            }
            let more = if peer.is_behind() { EventFlags::OUT } else { EventFlags::empty() };
            epoll::modify(epoll, peer.fd(), EventData::new_u64(*id), EventFlags::IN | more).is_ok()
        });
    }
}
