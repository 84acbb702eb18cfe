//! Gives memory back to the system after many connections went idle at once.
//!
//! What they gave back lies scattered between what they keep, and the allocator returns only what is at the end of
//! its heap; so it has to be asked. That takes a moment (it walks the heap), hence only when it is worth it.

#![expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]

/// As many must have gone idle since the last time.
const CROWD: usize = 200;
/// Between two times, in milliseconds.
const APART: u64 = 5_000;

/// When it is worth it.
#[derive(Debug, Default)]
pub(super) struct Tidy {
    parked: usize,
    last: Option<u64>,
}

impl Tidy {
    /// Looks at how many of how many connections are idle without buffers; true if the heap is to be trimmed.
    pub(super) fn is_due(&mut self, now: u64, parked: usize, all: usize) -> bool {
        // Those that came back meanwhile do not count.
        self.parked = self.parked.min(parked);
        let is_due = parked - self.parked >= CROWD
            && parked * 4 >= all * 3
            && self.last.is_none_or(|last| now >= last + APART);
        if is_due {
            self.parked = parked;
            self.last = Some(now);
        }
        is_due
    }
}

/// Asks the allocator.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number and touches only what nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_went_idle_is_worth_it_once() {
        let mut tidy = Tidy::default();
        assert!(!tidy.is_due(0, 199, 199));
        assert!(tidy.is_due(0, 200, 200));
        assert!(!tidy.is_due(60_000, 200, 200));
        assert!(!tidy.is_due(60_000, 399, 399));
        assert!(tidy.is_due(60_000, 400, 400));
    }

    #[test]
    fn not_while_most_are_busy_and_not_too_often() {
        let mut tidy = Tidy::default();
        assert!(!tidy.is_due(0, 700, 1000));
        assert!(tidy.is_due(0, 750, 1000));
        tidy.is_due(100, 0, 1000);
        assert!(!tidy.is_due(4_999, 750, 1000));
        assert!(tidy.is_due(5_000, 750, 1000));
    }
}
