//! All FIFOs of the process, by name and by their number in the epoll.
//!
//! No FIFO gets more than [`SHARE`] bytes a turn, and epoll hands out ready ones in rotation, so a service that floods
//! its output delays the others by the time of one share each. Log files are opened when there is something to write,
//! and the one that was used longest ago is closed when there are too many: an idle log costs no timer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::clock::Moment;
use super::mover::{Log, PeerId, Reports};
use super::protocol::{FromLogger, Source};

/// Smaller numbers in the epoll are the caller's.
pub(super) const FIRST_ID: u64 = 16;
/// Bytes that one FIFO may move before the others have their turn.
const SHARE: usize = 256 * 1024;
/// Log files that are open at a time, two descriptors each.
const OPEN_FILES: u64 = 256;

pub(super) struct Table {
    epoll: OwnedFd,
    void: File,
    logs: BTreeMap<u64, Entry>,
    names: BTreeMap<String, u64>,
    /// Those that wait for a lock; their FIFOs are not listened to meanwhile.
    waiting: BTreeSet<u64>,
    open_files: u64,
    most_open_files: u64,
    next_id: u64,
    turns: u64,
    /// The record on disk is no longer what is open.
    stale: bool,
}

struct Entry {
    log: Log,
    last_turn: u64,
}

impl Table {
    /// `descriptors`: how many the process may have.
    pub(super) fn new(descriptors: u64) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            void: File::options().write(true).open("/dev/null")?,
            logs: BTreeMap::new(),
            names: BTreeMap::new(),
            waiting: BTreeSet::new(),
            open_files: 0,
            most_open_files: (descriptors / 8).clamp(1, OPEN_FILES),
            next_id: FIRST_ID,
            turns: 0,
            stale: false,
        })
    }

    /// Opens a source, or takes over its new limits or paths. A FIFO that cannot be opened is reported as trouble, and
    /// the source is not kept.
    pub(super) fn open(&mut self, source: Source, reports: &mut Reports) {
        if let Some(id) = self.names.get(&source.name).copied() {
            let entry = self.logs.get_mut(&id);
            let before = entry.as_ref().map(|it| it.log.source().clone());
            if entry.is_some_and(|it| it.log.adjust(&source)) {
                self.stale |= before.as_ref() != Some(&source);
                return;
            }
            self.drain_one(id, super::clock::now(), reports);
            self.remove(id);
        }
        let name = source.name.clone();
        if let Err(error) = self.add(source.clone()) {
            let message = format!("could not open {}: {error}", source.fifo.display());
            reports.push((None, FromLogger::Trouble { name, message, dropped_bytes: 0 }));
        }
    }

    fn add(&mut self, source: Source) -> io::Result<()> {
        let name = source.name.clone();
        let log = Log::open(source)?;
        let id = self.fresh_id();
        epoll::add(&self.epoll, log.fifo(), EventData::new_u64(id), EventFlags::IN)?;
        self.logs.insert(id, Entry { log, last_turn: 0 });
        self.names.insert(name, id);
        self.stale = true;
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        if let Some(entry) = self.logs.remove(&id) {
            self.open_files -= u64::from(entry.log.has_file_open());
            self.names.remove(&entry.log.source().name);
            self.waiting.remove(&id);
            self.stale = true;
        }
    }

    pub(super) fn close(&mut self, name: &str, now: Moment, reports: &mut Reports) {
        if let Some(id) = self.names.get(name).copied()
            && let Some(entry) = self.logs.get_mut(&id)
        {
            entry.log.close(reports);
            self.drain_one(id, now, reports);
            // With an empty FIFO nothing was moved.
            if self.logs.get(&id).is_some_and(|it| it.log.is_done()) {
                self.remove(id);
            }
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        if let Some(id) = self.names.get(name) {
            self.remove(*id);
        }
    }

    /// Nothing is in the FIFO of a name that is not open.
    pub(super) fn flush(
        &mut self,
        name: &str,
        peer: PeerId,
        id: u64,
        now: Moment,
        reports: &mut Reports,
    ) {
        let known = self.names.get(name).copied();
        match known.and_then(|it| Some((it, self.logs.get_mut(&it)?))) {
            Some((log, entry)) => {
                entry.log.flush(peer, id, reports);
                self.drain_one(log, now, reports);
            }
            None => reports.push((Some(peer), FromLogger::Flushed { id })),
        }
    }

    pub(super) fn watch(&mut self, name: &str, peer: PeerId, after: u64, reports: &mut Reports) {
        if let Some(entry) = self.names.get(name).and_then(|id| self.logs.get_mut(id)) {
            entry.log.watch(peer, after, reports);
        }
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.logs.values_mut().for_each(|it| it.log.forget_peer(peer));
    }

    /// The FIFO has something.
    pub(super) fn on_ready(&mut self, id: u64, now: Moment, reports: &mut Reports) {
        self.move_bytes(id, now, SHARE, reports);
    }

    /// Looks again at those that wait for a lock and whose time has come.
    pub(super) fn retry(&mut self, now: Moment, reports: &mut Reports) {
        for id in self.waiting.clone() {
            let due = self.logs.get(&id).and_then(|it| it.log.retry_at());
            if due.is_none_or(|at| at <= now.instant) {
                self.move_bytes(id, now, SHARE, reports);
            }
        }
    }

    /// When [`Self::retry`] is to be called; `None` is the rule.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|id| self.logs.get(id)?.log.retry_at()).min()
    }

    /// Moves what is in the FIFOs at this moment.
    pub(super) fn drain(&mut self, now: Moment, reports: &mut Reports) {
        for id in self.logs.keys().copied().collect::<Vec<_>>() {
            self.drain_one(id, now, reports);
        }
    }

    fn drain_one(&mut self, id: u64, now: Moment, reports: &mut Reports) {
        let mut left = self.logs.get(&id).map_or(0, |it| it.log.waiting());
        while left > 0 {
            match self.move_bytes(id, now, left, reports) {
                0 => break,
                moved => left -= moved,
            }
        }
    }

    fn move_bytes(&mut self, id: u64, now: Moment, budget: usize, reports: &mut Reports) -> usize {
        if self.open_files >= self.most_open_files {
            self.close_oldest(id);
        }
        let Some(entry) = self.logs.get_mut(&id) else { return 0 };
        self.turns += 1;
        entry.last_turn = self.turns;
        let before = entry.log.has_file_open();
        let moved = entry.log.turn(now, budget, &self.void, reports);
        let after = entry.log.has_file_open();
        self.open_files = self.open_files + u64::from(after) - u64::from(before);
        if entry.log.is_done() {
            self.remove(id);
        } else {
            self.listen(id);
        }
        moved
    }

    /// Listens to a FIFO unless its log waits for a lock: it would be ready all the time.
    fn listen(&mut self, id: u64) {
        let Some(entry) = self.logs.get(&id) else { return };
        let waits = entry.log.retry_at().is_some();
        if waits == self.waiting.contains(&id) {
            return;
        }
        let interest = if waits { EventFlags::empty() } else { EventFlags::IN };
        if epoll::modify(&self.epoll, entry.log.fifo(), EventData::new_u64(id), interest).is_err() {
            return;
        }
        if waits {
            self.waiting.insert(id);
        } else {
            self.waiting.remove(&id);
        }
    }

    fn close_oldest(&mut self, but: u64) {
        if self.logs.get(&but).is_none_or(|it| it.log.has_file_open()) {
            return;
        }
        let open = self.logs.values_mut().filter(|it| it.log.has_file_open());
        if let Some(oldest) = open.min_by_key(|it| it.last_turn) {
            oldest.log.close_file();
            self.open_files -= 1;
        }
    }

    /// Frees descriptors; the files open again when they are needed.
    pub(super) fn close_files(&mut self) {
        self.logs.values_mut().for_each(|it| it.log.close_file());
        self.open_files = 0;
    }

    /// A number for the epoll that was never used before, so that a late event cannot mean somebody else.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.logs.values().map(|it| it.log.source())
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = FromLogger> {
        self.logs.values().filter_map(|it| it.log.trouble())
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// There is no record any more.
    pub(super) fn record_anew(&mut self) {
        self.stale = true;
    }

    pub(super) fn saved(&mut self) {
        self.stale = false;
    }
}
