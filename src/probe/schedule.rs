//! When a probe runs: one task per probe, never two runs at once.
//!
//! The first check comes right after `initial_delay`: whether a service is
//! ready should be known soon. Every later one comes a `period` (before that,
//! what the haste of the probe says) ± 5 % after the *start* of the one before it, so that a thousand probes which began together
//! drift apart, and a slow target is not asked less often than a fast one.
//! The jitter follows from the seed alone.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::check::{Checker, Prepared};
use super::pace::Pace;
use super::{Outcome, Probe};

/// The first check is delayed by no more than this beyond `initial_delay`.
const MOST_FIRST_JITTER: Duration = Duration::from_millis(100);
/// A shorter period would be a busy loop.
const LEAST_PERIOD: Duration = Duration::from_millis(10);

/// One result and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Report<K> {
    pub key: K,
    pub outcome: Outcome,
}

/// Runs one probe until `stop`, and reports every result.
///
/// Also ends when nobody receives the reports any more. While the channel is
/// full the probe waits with its result instead of asking again. A run that is
/// going on at `stop` is dropped without a report.
pub async fn run<K: Clone + Send + 'static>(
    probe: Probe,
    key: K,
    checker: Checker,
    seed: u64,
    reports: mpsc::Sender<Report<K>>,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(keep_asking(probe, key, checker, seed, reports)).await;
}

/// Runs one probe once, without its delay.
pub async fn once(probe: Probe, checker: &Checker) -> Outcome {
    Prepared::new(probe).run(checker).await
}

async fn keep_asking<K: Clone>(
    probe: Probe,
    key: K,
    checker: Checker,
    seed: u64,
    reports: mpsc::Sender<Report<K>>,
) {
    let mut jitter = Jitter(seed);
    let period = probe.period.max(LEAST_PERIOD);
    let first = probe.initial_delay + jitter.first(period);
    let mut pace = Pace::new(probe.haste, period);
    let prepared = Prepared::new(probe);

    sleep(first).await;
    loop {
        let began = sleep(Duration::ZERO).deadline();
        let outcome = prepared.run(&checker).await;
        let told = pace.note(outcome.ok);
        let next = began + jitter.around(pace.gap(outcome.latency));
        if told && reports.send(Report { key: key.clone(), outcome }).await.is_err() {
            return;
        }
        sleep_until(next).await;
    }
}

/// A sequence of fractions that looks random (splitmix64).
struct Jitter(u64);

impl Jitter {
    fn first(&mut self, period: Duration) -> Duration {
        MOST_FIRST_JITTER.min(period / 10).mul_f64(self.fraction())
    }

    fn around(&mut self, period: Duration) -> Duration {
        period.mul_f64(0.95 + 0.1 * self.fraction())
    }

    /// From 0 up to, not including, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        // The upper 53 bits are what a f64 holds exactly.
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::probe::testing::{checker, exec_probe, runner};
    use crate::probe::{ExecOutcome, Haste, Runner};

    const PERIOD: Duration = Duration::from_secs(10);

    /// A command that takes `each` and notes when it began.
    fn noting(each: Duration) -> (Runner, Arc<Mutex<Vec<Duration>>>) {
        let starts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&starts);
        let zero = instant();
        let runner = runner(move |_| {
            seen.lock().unwrap().push(instant() - zero);
            async move {
                sleep(each).await;
                Ok(ExecOutcome { code: Some(0), output: Vec::new() })
            }
        });
        (runner, starts)
    }

    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    fn instant() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    /// When `runs` runs of a probe began, each taking `each`.
    async fn starts(probe: Probe, seed: u64, each: Duration, runs: usize) -> Vec<Duration> {
        let (runner, starts) = noting(each);
        let (reports, mut results) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(probe, 7, checker(runner), seed, reports, stop.clone()));
        for _ in 0..runs {
            assert_eq!(results.recv().await.unwrap().key, 7);
        }
        stop.cancel();
        task.await.unwrap();
        let starts = starts.lock().unwrap();
        starts[..runs].to_vec()
    }

    fn probe(initial_delay: Duration, timeout: Duration) -> Probe {
        Probe { initial_delay, period: PERIOD, ..exec_probe(timeout) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_check_comes_right_after_the_initial_delay() {
        let delay = Duration::from_secs(3);
        for seed in 0..100 {
            let first = starts(probe(delay, PERIOD), seed, Duration::ZERO, 1).await[0];
            assert!(first >= delay && first <= delay + Duration::from_millis(101), "{first:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn runs_are_a_period_apart_from_start_to_start_however_long_they_take() {
        for each in [Duration::ZERO, Duration::from_secs(8)] {
            let starts = starts(probe(Duration::ZERO, PERIOD), 1, each, 20).await;
            for pair in starts.windows(2) {
                let apart = (pair[1] - pair[0]).as_secs_f64();
                assert!((9.499..=10.502).contains(&apart), "{apart}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_longer_than_the_period_delays_the_next_and_overlaps_nothing() {
        let long = Duration::from_secs(25);
        let starts = starts(probe(Duration::ZERO, long * 2), 1, long, 5).await;
        for pair in starts.windows(2) {
            let apart = (pair[1] - pair[0]).as_secs_f64();
            assert!((25.0..25.01).contains(&apart), "{apart}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_awaited_is_asked_about_often() {
        let haste = Haste { passes: 3, ..Haste::default() };
        let awaited = Probe { haste, ..probe(Duration::ZERO, PERIOD) };
        let starts = starts(awaited, 1, Duration::ZERO, 4).await;
        assert!(starts[2] < Duration::from_millis(320), "{starts:?}");
        assert!(starts[3] - starts[2] > Duration::from_secs(9), "{starts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_schedule_follows_from_the_seed() {
        let times = |seed| starts(probe(Duration::ZERO, PERIOD), seed, Duration::ZERO, 5);
        assert_eq!(times(1).await, times(1).await);
        assert_ne!(times(1).await, times(2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_that_began_together_drift_apart() {
        let (mut soonest, mut latest) = (Duration::MAX, Duration::ZERO);
        for seed in 0..200 {
            let second = starts(probe(Duration::ZERO, PERIOD), seed, Duration::ZERO, 2).await[1];
            (soonest, latest) = (soonest.min(second), latest.max(second));
        }
        assert!(latest - soonest > Duration::from_millis(900), "{soonest:?} to {latest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_ends_when_it_is_told_to_or_nobody_listens() {
        let hanging = || checker(runner(|_| std::future::pending()));
        let (reports, results) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let probe = || probe(Duration::ZERO, Duration::from_secs(3600));

        let told = tokio::spawn(run(probe(), (), hanging(), 1, reports.clone(), stop.clone()));
        sleep(Duration::from_secs(60)).await;
        stop.cancel();
        told.await.unwrap();

        drop(results);
        run(probe(), (), hanging(), 1, reports, CancellationToken::new()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_zero_period_is_no_busy_loop() {
        let busy = Probe { period: Duration::ZERO, ..probe(Duration::ZERO, PERIOD) };
        let starts = starts(busy, 1, Duration::ZERO, 100).await;
        assert!(starts[99] >= Duration::from_millis(900), "{:?}", starts[99]);
    }
}
