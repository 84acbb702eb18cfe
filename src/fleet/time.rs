//! The only notion of time the fleet has.

use std::time::Duration;

/// A moment, counted from the boot of the machine (`CLOCK_BOOTTIME`).
///
/// Unlike [`std::time::Instant`], a `Timestamp` can be written down in a test, printed the same way
/// twice, and kept in a file for the next daemon: together with the boot id it means the same there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// The time from `earlier` until here, zero if that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}
