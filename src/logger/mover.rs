//! One FIFO and its log: what happens to the bytes of one instance.
//!
//! A service never waits for a disk that is full or broken. What cannot be kept is discarded and counted, said once to
//! the daemon, and remarked in the log itself as soon as that takes bytes again. Only a lock that somebody else holds
//! is waited for, and only for a second: it is the predecessor on its way out.
//!
//! ```text
//! Keeping ── locked ──► Locked ── 1 s ──► Discarding ── a try a second, when there are bytes ──► Keeping
//!    └──────────────── ENOSPC, EIO, EACCES … ──────────────▲
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{SpliceFlags, splice};

use super::clock::Moment;
use super::fifo::open_nonblocking;
use super::protocol::{FromLogger, Source};
use super::rotate::{rotate, trim};
use super::sink::Sink;

/// Smaller logs would rotate with every line.
const SMALLEST: u64 = 4096;
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);
const TROUBLE_RETRY: Duration = Duration::from_secs(1);

/// A connection of a daemon.
pub(super) type PeerId = u64;
/// What to tell, and whom; nobody in particular is everybody.
pub(super) type Reports = Vec<(Option<PeerId>, FromLogger)>;

#[derive(Debug)]
pub(super) struct Log {
    source: Source,
    fifo: OwnedFd,
    sink: Option<Sink>,
    state: State,
    debts: Vec<Debt>,
    /// Bytes moved in this life.
    moved: u64,
    watchers: Vec<PeerId>,
}

#[derive(Debug)]
enum State {
    Keeping,
    Locked { since: Instant, retry_at: Instant },
    Discarding { message: String, dropped: u64, retry_at: Instant },
}

/// Something that is due when that many more bytes have left the FIFO.
#[derive(Debug)]
struct Debt {
    bytes: usize,
    what: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Flushed { peer: PeerId, id: u64 },
    Close,
}

impl Log {
    pub(super) fn open(source: Source) -> io::Result<Self> {
        let fifo = open_nonblocking(&source.fifo)?;
        Ok(Self {
            source,
            fifo,
            sink: None,
            state: State::Keeping,
            debts: vec![],
            moved: 0,
            watchers: vec![],
        })
    }

    /// Takes new limits. `false` when the paths differ, so that it has to be opened anew.
    pub(super) fn adjust(&mut self, source: &Source) -> bool {
        if (&source.fifo, &source.log) != (&self.source.fifo, &self.source.log)
            || !self.holds_its_path()
        {
            return false;
        }
        if source.keep < self.source.keep {
            // Best effort: the next rotation meets the same error and says so.
            let _ = trim(&source.log, source.keep);
        }
        self.source.clone_from(source);
        // To open it again takes back an order to close it.
        self.debts.retain(|it| it.what != Due::Close);
        true
    }

    /// Where nothing is at its path there is nothing else to open: somebody may write to what is open.
    fn holds_its_path(&self) -> bool {
        let held = rustix::fs::fstat(&self.fifo).map(|it| (it.st_dev, it.st_ino));
        let named = rustix::fs::stat(&self.source.fifo).map(|it| (it.st_dev, it.st_ino));
        named == Err(Errno::NOENT) || (held.is_ok() && held == named)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn fifo(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }

    pub(super) fn has_file_open(&self) -> bool {
        self.sink.is_some()
    }

    /// Closes the file until there is something to write.
    pub(super) fn close_file(&mut self) {
        self.sink = None;
    }

    /// When to come back although nothing happened; until then readiness of the FIFO means nothing.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Locked { retry_at, .. } => Some(retry_at),
            State::Keeping | State::Discarding { .. } => None,
        }
    }

    /// Whether an order to close it has been carried out.
    pub(super) fn is_done(&self) -> bool {
        self.debts.iter().any(|it| it.what == Due::Close && it.bytes == 0)
    }

    pub(super) fn trouble(&self) -> Option<FromLogger> {
        match &self.state {
            State::Keeping | State::Locked { .. } => None,
            State::Discarding { message, dropped, .. } => Some(FromLogger::Trouble {
                name: self.source.name.clone(),
                message: message.clone(),
                dropped_bytes: *dropped,
            }),
        }
    }

    pub(super) fn flush(&mut self, peer: PeerId, id: u64, reports: &mut Reports) {
        self.owe(Due::Flushed { peer, id }, reports);
    }

    pub(super) fn close(&mut self, reports: &mut Reports) {
        self.owe(Due::Close, reports);
    }

    pub(super) fn watch(&mut self, peer: PeerId, after: u64, reports: &mut Reports) {
        if after != self.moved {
            let grew = FromLogger::Grew { name: self.source.name.clone(), moved: self.moved };
            reports.push((Some(peer), grew));
        } else if !self.watchers.contains(&peer) {
            self.watchers.push(peer);
        }
    }

    /// Forgets a peer that is gone.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.watchers.retain(|it| *it != peer);
    }

    fn owe(&mut self, what: Due, reports: &mut Reports) {
        let bytes = self.waiting();
        self.debts.push(Debt { bytes, what });
        self.pay(0, reports);
    }

    /// Bytes in the FIFO.
    pub(super) fn waiting(&self) -> usize {
        ioctl_fionread(&self.fifo).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// Moves what is in the FIFO, at most `budget` bytes, and returns how many. Stops when the file is full: with many
    /// small files a rotation is dear, and one a turn is fair to the others.
    pub(super) fn turn(
        &mut self,
        now: Moment,
        budget: usize,
        void: impl AsFd,
        reports: &mut Reports,
    ) -> usize {
        if self.sink.as_mut().is_some_and(|it| !it.is_current(&self.source.log).unwrap_or(false)) {
            self.sink = None;
        }
        let mut left = budget;
        while left > 0 {
            let there = self.waiting().min(left);
            let gone = match self.keep(there, now, reports) {
                Ok(Kept::Moved(bytes)) => bytes,
                Ok(Kept::NotNow) => self.discard(there, &void),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.waits(now) => break,
                Err(error) => {
                    self.fail(&error, now, reports);
                    self.discard(there, &void)
                }
            };
            left -= gone;
            self.pay(gone, reports);
            if gone == 0 || self.sink.as_ref().is_some_and(|it| it.room(largest(&self.source)) == 0)
            {
                break;
            }
        }
        budget - left
    }

    /// Moves up to `len` bytes into the log. `WouldBlock` when it is locked.
    fn keep(&mut self, len: usize, now: Moment, reports: &mut Reports) -> io::Result<Kept> {
        if len == 0 {
            return Ok(Kept::Moved(0));
        }
        if let State::Discarding { retry_at, dropped, message } = &self.state {
            if now.instant < *retry_at {
                return Ok(Kept::NotNow);
            }
            let remark =
                format!("[opsdeck: {dropped} bytes of output are missing here: {message}]");
            roomy(&mut self.sink, &self.source)?.remark(&remark)?;
            let over =
                FromLogger::TroubleOver { name: self.source.name.clone(), dropped_bytes: *dropped };
            reports.push((None, over));
            self.state = State::Keeping;
        }
        let sink = roomy(&mut self.sink, &self.source)?;
        let room = usize::try_from(sink.room(largest(&self.source))).unwrap_or(usize::MAX);
        let moved = sink.take(&self.fifo, len.min(room), now.wall_ms)?;
        self.state = State::Keeping;
        self.moved += moved as u64;
        if moved > 0 {
            let name = &self.source.name;
            let grew =
                |peer| (Some(peer), FromLogger::Grew { name: name.clone(), moved: self.moved });
            reports.extend(self.watchers.drain(..).map(grew));
        }
        Ok(Kept::Moved(moved))
    }

    /// Whether to wait a little for the lock.
    fn waits(&mut self, now: Moment) -> bool {
        let since = match self.state {
            State::Keeping => now.instant,
            State::Locked { since, .. } => since,
            State::Discarding { .. } => return false,
        };
        self.state = State::Locked { since, retry_at: now.instant + LOCK_RETRY };
        now.instant.duration_since(since) < LOCK_PATIENCE
    }

    fn fail(&mut self, error: &io::Error, now: Moment, reports: &mut Reports) {
        self.sink = None;
        let next = now.instant + TROUBLE_RETRY;
        if let State::Discarding { retry_at, .. } = &mut self.state {
            *retry_at = next;
            return;
        }
        let log = self.source.log.display();
        let message = match error.kind() {
            io::ErrorKind::WouldBlock => format!("another process holds the lock of {log}"),
            _ => format!("could not write {log}: {error}"),
        };
        self.state = State::Discarding { message, dropped: 0, retry_at: next };
        reports.extend(self.trouble().map(|it| (None, it)));
    }

    fn discard(&mut self, len: usize, void: impl AsFd) -> usize {
        let gone = splice(&self.fifo, None, void, None, len, SpliceFlags::NONBLOCK).unwrap_or(0);
        if let State::Discarding { dropped, .. } = &mut self.state {
            *dropped += gone as u64;
        }
        gone
    }

    fn pay(&mut self, bytes: usize, reports: &mut Reports) {
        for debt in &mut self.debts {
            debt.bytes = debt.bytes.saturating_sub(bytes);
        }
        self.debts.retain(|debt| match debt.what {
            Due::Flushed { peer, id } if debt.bytes == 0 => {
                reports.push((Some(peer), FromLogger::Flushed { id }));
                false
            }
            Due::Flushed { .. } | Due::Close => true,
        });
    }
}

enum Kept {
    Moved(usize),
    /// Discarding; too early for another try.
    NotNow,
}

fn largest(source: &Source) -> u64 {
    source.max_size.max(SMALLEST)
}

/// The open log with room for at least one byte: opened, or rotated first, as it needs.
fn roomy<'a>(sink: &'a mut Option<Sink>, source: &Source) -> io::Result<&'a mut Sink> {
    let mut open = match sink.take() {
        Some(open) => open,
        None => Sink::open(&source.log)?,
    };
    if open.room(largest(source)) == 0 {
        rotate(&source.log, source.keep)?;
        trim(&source.log, source.keep)?;
        open = Sink::open(&source.log)?;
    }
    Ok(sink.insert(open))
}
