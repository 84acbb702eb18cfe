//! The only place that reads the time.
//!
//! The fleet counts from the boot of the machine, so that a deadline means the same to the next daemon.
//! Wall-clock time is for showing and for the journal; nothing is decided by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::fleet::Timestamp;

/// So far apart two looks at both clocks may be on a busy host, in milliseconds.
const JITTER_MS: u64 = 50;

/// Now, on the fleet's clock (`CLOCK_BOOTTIME`: it goes on while the machine is suspended).
pub fn now() -> Timestamp {
    let it = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(it.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(it.tv_nsec).unwrap_or(0);
    Timestamp(Duration::new(seconds, nanos))
}

/// Microseconds of `CLOCK_MONOTONIC`, as systemd counts.
pub fn monotonic_usec() -> i64 {
    let it = clock_gettime(ClockId::Monotonic);
    it.tv_sec * 1_000_000 + it.tv_nsec / 1_000
}

/// Begins to measure how long this process waits: it stands still while the machine is suspended.
pub fn stopwatch() -> impl Fn() -> Duration {
    let began = monotonic_usec();
    move || Duration::from_micros(monotonic_usec().abs_diff(began))
}

/// A length of time as the API and the files have it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Now, for people.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The wall-clock time of a moment on the fleet's clock, to the millisecond: the same one however often it
/// is asked for, until somebody sets the wall clock.
pub fn wall_of(moment: Timestamp) -> jiff::Timestamp {
    static KEPT: AtomicI64 = AtomicI64::new(0);
    let offset = offset(KEPT.load(Ordering::Relaxed), offset_now());
    KEPT.store(offset, Ordering::Relaxed);
    let since_boot = i64::try_from(moment.0.as_millis()).unwrap_or(i64::MAX);
    let millisecond = since_boot.saturating_add(offset);
    jiff::Timestamp::from_millisecond(millisecond).unwrap_or_else(|_| wall())
}

/// Of the wall clock to the fleet's, in milliseconds: the least of a few looks, as something may come between
/// the two halves of one.
fn offset_now() -> i64 {
    let look = || {
        let since_boot = i64::try_from(now().0.as_millis()).unwrap_or(i64::MAX);
        wall().as_millisecond().saturating_sub(since_boot)
    };
    look().min(look()).min(look())
}

/// The offset that is kept, unless the wall clock was set: what two looks differ by is no news.
fn offset(kept: i64, present: i64) -> i64 {
    if kept != 0 && kept.abs_diff(present) <= JITTER_MS { kept } else { present }
}

/// Returns once `deadline` is reached; never, if there is none.
///
/// The runtime's clock stands still during a suspend, so the driver asks [`now`] again when it wakes.
pub async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(instant() + deadline.since(now())).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_the_same_time_whenever_it_is_asked_for() {
        let moment = now();
        let first = wall_of(moment);
        assert_eq!(first.subsec_nanosecond() % 1_000_000, 0);
        for _ in 0..10_000 {
            assert_eq!(wall_of(moment), first);
        }
    }

    #[test]
    fn the_offset_follows_a_wall_clock_that_is_set() {
        assert_eq!(offset(0, 1_000_000), 1_000_000);
        assert_eq!(offset(1_000_000, 1_000_001), 1_000_000);
        assert_eq!(offset(1_000_000, 1_003_600), 1_003_600);
    }
}
