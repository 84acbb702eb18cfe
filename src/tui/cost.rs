//! What the screen costs: bytes that were written to the terminal, for `--show-cost`.
//!
//! It is told once a second, with the clock, so that telling it costs next to nothing.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Bytes so far, and as they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    bytes: u64,
    /// When it was told last, and how many bytes there were.
    told: (Duration, u64),
    /// Bytes per second between the last two tellings.
    pub per_second: u64,
}

impl Cost {
    /// So many more were written.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(0);
    }

    /// Bytes since the start, as of the last telling.
    pub fn total(&self) -> u64 {
        self.told.1
    }

    /// Makes up the figures that are shown, at most once a second.
    pub fn tell(&mut self, now: Duration) {
        let past = now.saturating_sub(self.told.0);
        if past < SECOND {
            return;
        }
        let ms = u64::try_from(past.as_millis()).unwrap_or(u64::MAX);
        self.per_second = (self.bytes - self.told.1) * 1000 / ms.max(1);
        self.told = (now, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_once_a_second() {
        let at = Duration::from_millis;
        let mut cost = Cost::default();
        cost.add(500);
        cost.tell(at(900));
        assert_eq!((cost.per_second, cost.total()), (0, 0));
        cost.tell(at(1000));
        assert_eq!((cost.per_second, cost.total()), (500, 500));
        cost.add(300);
        cost.tell(at(1500));
        assert_eq!((cost.per_second, cost.total()), (500, 500));
        cost.tell(at(4000));
        assert_eq!((cost.per_second, cost.total()), (100, 800));
    }
}
