//! The only place that reads the time.
//!
//! The fleet counts from the boot of the machine, so that a deadline means the same to the next daemon.
//! Wall-clock time is for showing and for the journal; nothing is decided by it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::fleet::Timestamp;

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

/// Now, for people.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The wall-clock time of a moment on the fleet's clock, by the present offset between the two.
pub fn wall_of(moment: Timestamp) -> jiff::Timestamp {
    let now = now();
    let wall = wall();
    if moment <= now {
        wall.checked_sub(now.since(moment)).unwrap_or(wall)
    } else {
        wall.checked_add(moment.since(now)).unwrap_or(wall)
    }
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
