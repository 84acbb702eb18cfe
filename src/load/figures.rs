//! What a server says of its load at one moment, and how that becomes a rate.

use std::time::Duration;

/// The least time a rate is over: what is shorter is noise.
const LEAST: Duration = Duration::from_secs(1);
/// The longest: what an average over more says is not how it goes now.
const MOST: Duration = Duration::from_secs(60);

/// What a server says. `None`: it does not say that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests since it was started: a counter.
    pub requests: Option<u64>,
    /// Accepted and not answered, without the request that asked.
    pub in_flight: Option<u64>,
    /// `in_flight` is of this moment, and of the whole server.
    pub is_exact: bool,
    /// Open connections of clients, without the one that asked.
    pub connections: Option<u64>,
    pub workers: Option<u64>,
    /// Beside the workers, and renewed with them.
    pub task_workers: Option<u64>,
    pub busy: Option<u64>,
    pub idle: Option<u64>,
    /// What waits inside the server: tasks, requests without a thread.
    pub queued: Option<u64>,
    pub coroutines: Option<u64>,
    /// Connections that wait to be accepted, and how many may.
    pub backlog: Option<u64>,
    pub backlog_limit: Option<u64>,
    /// Its counters move only so often.
    pub every: Option<Duration>,
    /// When its counters began, in whatever it counts time by: another number is another server.
    pub started: Option<u64>,
}

impl Figures {
    /// How many processes a reload renews, where that is told of all of them.
    pub fn renewed(&self) -> Option<usize> {
        let all = self.workers?.saturating_add(self.task_workers?);
        usize::try_from(all).ok().filter(|it| *it > 0)
    }
}

/// Makes rates of a counter that is read now and then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    since: Option<Reading>,
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Duration,
    requests: u64,
    started: Option<u64>,
    /// How often it was read since, this once not included.
    reads: u64,
}

impl Meter {
    /// Requests a second up to this reading, if an earlier one is neither too old nor of another server.
    /// `counts_itself`: each reading is one of the requests.
    ///
    /// `at` is the time of a clock that only goes forward.
    pub fn read(&mut self, at: Duration, figures: &Figures, counts_itself: bool) -> Option<f64> {
        let Some(requests) = figures.requests else {
            *self = Self::default();
            return None;
        };
        let now = Reading { at, requests, started: figures.started, reads: 0 };
        let Some(since) = &mut self.since else {
            self.since = Some(now);
            return None;
        };
        let took = at.saturating_sub(since.at);
        let is_other = requests < since.requests || figures.started != since.started;
        if is_other || took > MOST {
            *self = Self { since: Some(now), rate: None };
            return None;
        }
        since.reads += 1;
        if took >= figures.every.map_or(LEAST, |it| LEAST.max(it * 2)) {
            let own = if counts_itself { since.reads } else { 0 };
            let served = (requests - since.requests).saturating_sub(own);
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 in a minute")]
            let rate = served as f64 / took.as_secs_f64();
            *self = Self { since: Some(now), rate: Some(rate) };
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(requests: u64, started: u64) -> Figures {
        Figures { requests: Some(requests), started: Some(started), ..Figures::default() }
    }

    #[test]
    fn a_counter_becomes_a_rate_without_what_asks_for_it() {
        let mut meter = Meter::default();
        let mut read = |ms, requests, started, own| {
            meter.read(Duration::from_millis(ms), &figures(requests, started), own)
        };
        assert_eq!(read(0, 100, 1, true), None, "one reading is no rate");
        assert_eq!(read(100, 120, 1, true), None, "too short");
        assert_eq!(read(2000, 222, 1, true), Some(60.0));
        assert_eq!(
            read(2100, 999, 1, true),
            Some(60.0),
            "the last one holds until there is another"
        );
        assert_eq!(read(4000, 5, 1, true), None, "it began anew");
        assert_eq!(read(6000, 25, 1, false), Some(10.0));
        assert_eq!(read(8000, 45, 2, false), None, "another server that has counted further");
        assert_eq!(read(70_000, 90, 2, false), None, "nobody looked for more than a minute");
        assert_eq!(read(72_000, 91, 2, true), Some(0.0));
    }

    #[test]
    fn a_counter_that_moves_seldom_is_measured_over_longer() {
        let every = Some(Duration::from_secs(5));
        let mut meter = Meter::default();
        let mut rates = vec![];
        for second in (0..=60_u64).step_by(2) {
            // Twenty a second, told every five.
            let it = Figures { every, ..figures(second / 5 * 100, 1) };
            rates.extend(meter.read(Duration::from_secs(second), &it, false));
        }
        assert!(rates.len() > 20 && rates.iter().all(|it| (*it - 20.0).abs() < 0.1), "{rates:?}");
    }

    #[test]
    fn what_is_not_said_is_no_rate() {
        let mut meter = Meter::default();
        let read = |meter: &mut Meter, at, it| meter.read(Duration::from_secs(at), &it, false);
        read(&mut meter, 0, figures(0, 1));
        assert_eq!(read(&mut meter, 2, figures(2, 1)), Some(1.0));
        assert_eq!(read(&mut meter, 4, Figures::default()), None);
        assert_eq!(read(&mut meter, 6, figures(6, 1)), None);
    }
}
