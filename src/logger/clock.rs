//! The logger's own clocks: it stamps what it takes, and it is no part of the daemon.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks: the wall's goes into the index, the monotonic one decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Unix milliseconds.
    pub(super) wall_ms: u64,
    pub(super) instant: Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the logger is a process of its own and stamps what it takes"
)]
pub(super) fn now() -> Moment {
    Moment { wall_ms: unix_ms(SystemTime::now()), instant: Instant::now() }
}

/// A moment before 1970 is 1970.
pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
