//! An instance that refuses connections is left alone for a while.
//!
//! The time is short and grows, because what refuses now is most often being restarted, and whoever leads the
//! rollout will say so by a new generation, which begins with a clean record.

/// The first time out, in milliseconds. It doubles with every further failure.
const FIRST: u64 = 100;
const LONGEST: u64 = 5_000;

/// The record of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ejection {
    failures: u32,
    until: u64,
}

impl Ejection {
    /// Counts a failure and returns for how many milliseconds the instance is out from `now` on.
    ///
    /// Failures of connections that were begun before the ejection are the same failure.
    pub(super) fn fail(&mut self, now: u64) -> Option<u64> {
        if self.is_out(now) {
            return None;
        }
        let out = (FIRST << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        self.until = now + out;
        Some(out)
    }

    /// Forgets everything; true if there was something.
    pub(super) fn succeed(&mut self) -> bool {
        let was_out = self.failures > 0;
        *self = Self::default();
        was_out
    }

    pub(super) fn is_out(self, now: u64) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_doubles_up_to_five_seconds() {
        let mut record = Ejection::default();
        let mut now = 0;
        let mut outs = vec![];
        for _ in 0..8 {
            let out = record.fail(now).unwrap();
            outs.push(out);
            now += out;
        }
        assert_eq!(outs, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn many_refusals_at_once_are_one_failure() {
        let mut record = Ejection::default();
        assert_eq!((record.fail(0), record.fail(50), record.fail(99)), (Some(100), None, None));
        assert_eq!(record.fail(100), Some(200));
    }

    #[test]
    fn one_success_clears_the_record() {
        let mut record = Ejection::default();
        assert!(!record.succeed());
        record.fail(0);
        assert!(record.is_out(99) && !record.is_out(100));
        assert!(record.succeed());
        assert!(!record.is_out(0));
        assert_eq!(record.fail(0), Some(100));
    }
}
