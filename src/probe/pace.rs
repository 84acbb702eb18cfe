//! How soon a probe asks again.
//!
//! A period is for a server that is believed. One that has just been started is asked more often, so that
//! a rollout does not sit through periods: every tenth of a second, or a twentieth of the time it has
//! taken so far, and never more than half of the time. So a start is noticed within 5 % of what it took,
//! and a server that never comes up is soon asked once a period. What is believed is then watched while
//! it settles, because a look that comes only after the rollout has gone on is no look.
//!
//! Failures in a row still count by the period: `failure_threshold` × `period` is what a start may take.

use std::time::Duration;

/// What is to be shown before the period holds. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Haste {
    /// Passes in a row until it is believed.
    pub passes: u32,
    /// After that it is asked some times within this span.
    pub settle: Duration,
}

/// Between two checks of what is awaited, at least.
const LEAST_GAP: Duration = Duration::from_millis(100);
/// How many looks a settling server gets.
const LOOKS: u32 = 4;

/// Where a probe is on the way to its period.
pub(super) struct Pace {
    haste: Haste,
    period: Duration,
    streak: u32,
    /// Time asked for so far.
    waited: Duration,
    settled: Duration,
    /// Since the last failure that was told.
    since_failure: Option<Duration>,
}

impl Pace {
    pub(super) fn new(haste: Haste, period: Duration) -> Self {
        Self {
            haste,
            period,
            streak: 0,
            waited: Duration::ZERO,
            settled: Duration::ZERO,
            since_failure: None,
        }
    }

    /// Takes a result in; false if it need not be told.
    pub(super) fn note(&mut self, ok: bool) -> bool {
        let (awaited, repeats) = (self.is_awaited(), self.streak == 0);
        self.streak = if ok { self.streak.saturating_add(1) } else { 0 };
        if ok || !awaited {
            return true;
        }
        let soon = self.since_failure.is_some_and(|it| it + LEAST_GAP / 2 < self.period);
        if repeats && soon {
            return false;
        }
        self.since_failure = Some(Duration::ZERO);
        true
    }

    /// From the start of the last check, which took `latency`, to the start of the next.
    pub(super) fn gap(&mut self, latency: Duration) -> Duration {
        let polite = LEAST_GAP.max(latency * 2);
        let gap = if self.is_awaited() {
            let slow = if self.streak == 0 { self.waited / 20 } else { Duration::ZERO };
            polite.max(slow)
        } else if self.settled < self.haste.settle {
            polite.max(self.haste.settle / LOOKS)
        } else {
            self.period
        };
        let gap = gap.min(self.period);
        self.pass(gap.max(latency));
        gap
    }

    fn pass(&mut self, time: Duration) {
        if self.is_awaited() {
            self.waited += time;
        } else {
            self.haste.passes = 0;
            self.settled = self.settled.saturating_add(time);
        }
        self.since_failure = self.since_failure.map(|it| it + time);
    }

    fn is_awaited(&self) -> bool {
        self.streak < self.haste.passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);
    const QUICK: Duration = Duration::from_millis(1);
    const SETTLE: Duration = Duration::from_secs(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn pace(passes: u32, settle: Duration) -> Pace {
        Pace::new(Haste { passes, settle }, PERIOD)
    }

    fn gaps(pace: &mut Pace, results: &[bool]) -> Vec<Duration> {
        results
            .iter()
            .map(|ok| {
                pace.note(*ok);
                pace.gap(QUICK)
            })
            .collect()
    }

    #[test]
    fn without_haste_the_period_holds_at_once() {
        assert_eq!(gaps(&mut pace(0, Duration::ZERO), &[true, false, false]), [PERIOD; 3]);
    }

    #[test]
    fn what_is_awaited_is_asked_often_and_then_watched_while_it_settles() {
        let mut pace = pace(3, SETTLE);
        assert_eq!(gaps(&mut pace, &[false, true, true]), [ms(100); 3]);
        assert_eq!(
            gaps(&mut pace, &[true; 6]),
            [ms(750), ms(750), ms(750), ms(750), PERIOD, PERIOD]
        );
        // It was believed: a failure later on is no start.
        assert_eq!(gaps(&mut pace, &[false, true]), [PERIOD; 2]);
    }

    #[test]
    fn a_start_that_takes_long_is_noticed_within_a_twentieth_of_it() {
        let mut pace = pace(1, Duration::ZERO);
        let gaps = gaps(&mut pace, &[false; 400]);
        let mut waited = Duration::ZERO;
        for gap in gaps {
            assert!(gap <= (waited / 20).max(ms(100)) && gap <= PERIOD, "{gap:?} after {waited:?}");
            waited += gap;
        }
        assert_eq!(pace.gap(QUICK), PERIOD);
    }

    #[test]
    fn a_slow_check_keeps_its_target_busy_half_of_the_time_at_most() {
        let mut pace = pace(2, Duration::ZERO);
        pace.note(false);
        assert_eq!([pace.gap(ms(400)), pace.gap(ms(60_000))], [ms(800), PERIOD]);
    }

    #[test]
    fn failures_in_a_row_are_told_once_a_period() {
        let haste = Haste { passes: 2, settle: Duration::ZERO };
        let mut pace = Pace::new(haste, Duration::from_secs(1));
        let told = (0..21).filter(|_| {
            let told = pace.note(false);
            pace.gap(QUICK);
            told
        });
        assert_eq!(told.count(), 3);
        assert!(pace.note(true) && pace.note(false), "passes are not in a row");
        assert!(!pace.note(false));
        for _ in 0..2 {
            assert!(pace.note(true));
            pace.gap(QUICK);
        }
        assert!(pace.note(false) && pace.note(false), "it was believed");
    }
}
