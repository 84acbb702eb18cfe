//! How many connections there may be: each takes a descriptor, and a process has only so many.
//!
//! One half is for clients and one for instances, so that whoever was let in can also be served. At the limit nobody
//! is turned away: the connection that has been idle longest is closed for the next one, and while none is idle the
//! next ones wait in the backlog of the listener. What waits between requests on the other half is closed before a
//! new connection to an instance is missing.
//!
//! The kernel may refuse all the same (other limits, of the system or of memory); whoever is refused waits here
//! until something is closed, or a short time, and never asks again at once.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Descriptors for everything else: the control socket, the runtime, three standard ones.
const RESERVE: u64 = 32;
/// Before the next try, when nothing is closed meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two notices of the same, in milliseconds.
const APART: u64 = 60_000;

/// The two halves, and who waits for a place.
#[derive(Debug)]
pub(super) struct Room {
    /// RLIMIT_NOFILE, see getrlimit(2).
    descriptors: u64,
    /// Each has a copy for the daemon.
    listeners: Cell<u64>,
    links: Rc<Cell<usize>>,
    freed: Notify,
    told: Cell<Option<u64>>,
}

/// A connection to an instance, counted as long as it lives.
#[derive(Debug)]
pub(super) struct Place(Rc<Cell<usize>>);

impl Room {
    /// As much as this process may have.
    pub(super) fn of_process() -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // What cannot be raised stays as it is, and is what counts.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Self::with(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    pub(super) fn with(descriptors: u64) -> Self {
        Self {
            descriptors,
            listeners: Cell::new(0),
            links: Rc::default(),
            freed: Notify::new(),
            told: Cell::new(None),
        }
    }

    pub(super) fn listens_on(&self, listeners: usize) {
        self.listeners.set(listeners as u64);
    }

    /// How many connections of clients there may be, and as many to instances.
    pub(super) fn half(&self) -> usize {
        let others = RESERVE + 2 * self.listeners.get();
        usize::try_from(self.descriptors.saturating_sub(others) / 2).unwrap_or(usize::MAX).max(1)
    }

    /// Counts a connection to an instance from now on.
    pub(super) fn place(&self) -> Place {
        self.links.set(self.links.get() + 1);
        Place(Rc::clone(&self.links))
    }

    /// Another connection to an instance takes what the clients need.
    pub(super) fn is_short_of_links(&self) -> bool {
        self.links.get() >= self.half()
    }

    /// A client's connection is gone.
    pub(super) fn freed(&self) {
        self.freed.notify_waiters();
    }

    /// Returns when one is gone, at latest after a short time.
    pub(super) async fn wait(&self) {
        // Both mean the same: try again.
        let _ = tokio::time::timeout(PAUSE, self.freed.notified()).await;
    }

    /// True if the operator is to be told now that the room is full.
    pub(super) fn is_worth_telling(&self, now: u64) -> bool {
        let is_due = self.told.get().is_none_or(|told| now >= told + APART);
        if is_due {
            self.told.set(Some(now));
        }
        is_due
    }

    pub(super) fn descriptors(&self) -> u64 {
        self.descriptors
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The error is a want of our own or of the system, and says nothing of the other side: descriptors (EMFILE,
/// ENFILE), memory (ENOBUFS, ENOMEM), local ports (EADDRNOTAVAIL); see accept(2) and connect(2).
pub(super) fn is_want(err: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(err).is_some_and(|it| wants.contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_left_is_for_clients() {
        let room = Room::with(1024);
        assert_eq!(room.half(), 496);
        room.listens_on(3);
        assert_eq!(room.half(), 493);
        assert_eq!(Room::with(10).half(), 1, "somebody is always served");
        assert!(Room::with(u64::MAX).half() > 1 << 40);
    }

    #[test]
    fn a_connection_to_an_instance_is_counted_until_it_is_closed() {
        let room = Room::with(36);
        let first = room.place();
        assert!(!room.is_short_of_links());
        let _second = room.place();
        assert!(room.is_short_of_links());
        drop(first);
        assert!(!room.is_short_of_links());
    }

    #[test]
    fn what_we_lack_is_not_what_an_instance_refuses() {
        assert!(is_want(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(is_want(&io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)));
        assert!(!is_want(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(!is_want(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn a_full_room_is_told_once_a_minute() {
        let room = Room::with(64);
        let told: Vec<_> =
            [0, 1, 59_999, 60_000, 60_001].map(|at| room.is_worth_telling(at)).into();
        assert_eq!(told, [true, false, false, true, false]);
    }
}
