//! Latencies in logarithmic buckets: any number of them in 17 KiB.
//!
//! Each power of two of microseconds has 64 buckets, so a percentile is at most
//! 1/64 above the true value, and never below it.

use std::time::Duration;

use crate::buckets::Scale;

/// Up to 2^40 µs, which is 12 days.
const SCALE: Scale = Scale::new(6, 40);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; SCALE.count()], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[SCALE.bucket(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    pub(super) fn max(&self) -> Duration {
        self.max
    }

    /// The latency that `percent` of all do not exceed; zero without any.
    pub(super) fn percentile(&self, percent: u64) -> Duration {
        let micros = SCALE.percentile(&self.buckets, self.count, percent);
        Duration::from_micros(micros).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: impl IntoIterator<Item = Duration>) -> Histogram {
        let mut histogram = Histogram::default();
        latencies.into_iter().for_each(|it| histogram.add(it));
        histogram
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!((of([]).percentile(50), of([]).max()), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn one_slow_reply_in_a_hundred_shows_in_the_maximum_and_not_in_p99() {
        let fast = std::iter::repeat_n(Duration::from_micros(50), 99);
        let histogram = of(fast.chain([Duration::from_secs(8)]));
        assert_eq!(histogram.percentile(50), Duration::from_micros(50));
        assert_eq!(histogram.percentile(99), Duration::from_micros(50));
        assert_eq!(histogram.percentile(100), Duration::from_secs(8));
        assert_eq!(histogram.max(), Duration::from_secs(8));
    }

    #[test]
    fn what_is_longer_than_the_last_bucket_counts_there() {
        let ages = Duration::from_secs(100 * 86_400);
        assert!(of([ages]).percentile(50) > Duration::from_secs(12 * 86_400));
        assert_eq!(of([ages]).max(), ages);
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_truth_and_at_most_a_64th_above(
            micros in prop::collection::vec(0u64..10_000_000_000, 1..300),
            percent in 1u64..=100,
        ) {
            let measured = of(micros.iter().copied().map(Duration::from_micros)).percentile(percent);
            let mut sorted = micros;
            sorted.sort_unstable();
            let rank = (sorted.len() as u64 * percent).div_ceil(100) as usize;
            let truth = sorted[rank - 1];
            let measured = measured.as_micros() as u64;
            prop_assert!(measured >= truth && measured <= truth + truth / 64, "{measured} {truth}");
        }
    }
}
