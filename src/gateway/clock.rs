//! The gateway's own clock: it measures replies, and it is no part of the daemon.

use std::cell::Cell;
use std::time::Instant;

/// The monotonic clock, and what it said last.
#[derive(Debug)]
pub(super) struct Clock {
    begin: Instant,
    coarse: Cell<u64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { begin: read(), coarse: Cell::new(0) }
    }

    /// Now, in microseconds since the process began.
    pub(super) fn micros(&self) -> u64 {
        let micros = u64::try_from(read().duration_since(self.begin).as_micros()).unwrap_or(0);
        self.coarse.set(micros);
        micros
    }

    /// What [`Self::micros`] said last, in milliseconds: at most a tick old, and free.
    pub(super) fn coarse_ms(&self) -> u64 {
        self.coarse.get() / 1000
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gateway is a process of its own and measures what it does"
)]
fn read() -> Instant {
    Instant::now()
}
