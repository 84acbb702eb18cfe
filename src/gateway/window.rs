//! The last ten seconds of replies: how many a second, and their percentiles.
//!
//! One small logarithmic histogram per second in a ring. Each power of two of microseconds has 32 buckets, so a
//! percentile is at most 1/32 above the truth and never below it: 48 KiB per instance, without a division.

use crate::buckets::Scale;

const SECONDS: usize = 10;
/// Up to 2^37 µs, which is 38 hours.
const SCALE: Scale = Scale::new(5, 37);

#[derive(Debug)]
pub(in crate::gateway) struct Window {
    /// One more than is looked at: the second that is being filled.
    seconds: Vec<Second>,
}

#[derive(Clone, Debug)]
struct Second {
    number: u64,
    count: u32,
    buckets: Box<[u32; SCALE.count()]>,
}

/// What the window shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::gateway) struct Seen {
    pub(in crate::gateway) per_second: f64,
    pub(in crate::gateway) p50_us: u64,
    pub(in crate::gateway) p95_us: u64,
    pub(in crate::gateway) p99_us: u64,
}

impl Window {
    pub(in crate::gateway) fn new() -> Self {
        // The seconds are allocated when there is something to remember.
        Self { seconds: vec![] }
    }

    /// Adds a reply that took `latency` and ended `at`, both in microseconds.
    pub(in crate::gateway) fn add(&mut self, at: u64, latency: u64) {
        let number = at / 1_000_000 + 1;
        if self.seconds.is_empty() {
            let empty = Second { number: 0, count: 0, buckets: Box::new([0; SCALE.count()]) };
            self.seconds = vec![empty; SECONDS + 1];
        }
        let index = usize::try_from(number).unwrap_or(0) % (SECONDS + 1);
        let second = &mut self.seconds[index];
        if second.number != number {
            second.number = number;
            second.count = 0;
            second.buckets.fill(0);
        }
        second.count += 1;
        second.buckets[SCALE.bucket(latency)] += 1;
    }

    /// The ten seconds up to `at`.
    pub(in crate::gateway) fn look(&self, at: u64) -> Seen {
        Seen::of([self], at)
    }
}

impl Seen {
    /// What several windows show together: percentiles cannot be had from percentiles. The second that has just
    /// begun stands in for a part of the oldest.
    pub(in crate::gateway) fn of<'w>(
        windows: impl IntoIterator<Item = &'w Window>,
        at: u64,
    ) -> Self {
        let now = at / 1_000_000 + 1;
        let recent = |it: &&Second| it.number + (SECONDS as u64) > now && it.number <= now;
        let seconds: Vec<_> =
            windows.into_iter().flat_map(|it| &it.seconds).filter(recent).collect();
        let count: u64 = seconds.iter().map(|it| u64::from(it.count)).sum();
        if count == 0 {
            return Self::default();
        }
        let mut sum = vec![0u64; SCALE.count()];
        for it in &seconds {
            for (all, one) in sum.iter_mut().zip(it.buckets.iter()) {
                *all += u64::from(*one);
            }
        }
        // Nine whole seconds and the part of the tenth that is over.
        let whole = (SECONDS as u64 - 1) * 1_000_000 + at % 1_000_000;
        let lived = whole.min(at.max(1_000_000));
        Self {
            per_second: count as f64 * 1e6 / lived as f64,
            p50_us: SCALE.percentile(&sum, count, 50),
            p95_us: SCALE.percentile(&sum, count, 95),
            p99_us: SCALE.percentile(&sum, count, 99),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn nothing_seen_is_zero() {
        assert_eq!(Window::new().look(5 * SECOND), Seen::default());
    }

    #[test]
    fn a_hundred_a_second_are_a_hundred_a_second() {
        let mut window = Window::new();
        for n in 0..2000 {
            window.add(n * SECOND / 100, 1000);
        }
        let seen = window.look(20 * SECOND);
        assert!((seen.per_second - 100.0).abs() < 1.0, "{seen:?}");
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let mut window = Window::new();
        window.add(SECOND, 700);
        assert!(window.look(9 * SECOND).p50_us >= 700);
        assert_eq!(window.look(11 * SECOND), Seen::default());
        window.add(12 * SECOND, 5);
        assert_eq!(window.look(12 * SECOND).p99_us, 5);
    }

    #[test]
    fn windows_are_added_up_reply_by_reply() {
        let (mut fast, mut slow) = (Window::new(), Window::new());
        (0..98).for_each(|_| fast.add(SECOND, 10));
        (0..2).for_each(|_| slow.add(SECOND, 3000));
        let seen = Seen::of([&fast, &slow], 2 * SECOND);
        assert_eq!((seen.p50_us, seen.p95_us), (10, 10));
        assert!((3000..3100).contains(&seen.p99_us), "{seen:?}");
        assert_eq!(Seen::of([], 2 * SECOND), Seen::default());
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_truth_and_at_most_a_32nd_above(
            latencies in prop::collection::vec(0u64..10_000_000, 1..200),
        ) {
            let mut window = Window::new();
            latencies.iter().for_each(|it| window.add(SECOND, *it));
            let seen = window.look(SECOND);
            let mut sorted = latencies;
            sorted.sort_unstable();
            for (percent, measured) in [(50, seen.p50_us), (95, seen.p95_us), (99, seen.p99_us)] {
                let truth = sorted[(sorted.len() * percent).div_ceil(100) - 1];
                prop_assert!(measured >= truth && measured <= truth + truth / 32, "{measured} {truth}");
            }
        }
    }
}
