//! The last ten minutes of what gateways counted, for the charts of the detail screen.
//!
//! Only what has a gateway in front of it has a history: 1.8 KB each at most. No timer writes it: what was
//! not told since is filled in when the next number comes or somebody looks, so a fleet at rest costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::publish::millis;
use crate::api;
use crate::fleet::Timestamp;

/// What one point stands for.
const STEP: Duration = Duration::from_secs(2);
/// Ten minutes.
const POINTS: usize = 300;

#[derive(Debug, Default)]
pub struct History {
    services: BTreeMap<String, Series>,
    instances: BTreeMap<String, Series>,
}

/// What was told at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    pub in_flight: u64,
    pub per_second: f64,
}

#[derive(Debug)]
struct Series {
    /// The number of the last point, counted from the boot of the host.
    last: u64,
    /// What holds until something else is told.
    now: (u16, u32),
    in_flight: VecDeque<u16>,
    /// Tenths.
    per_second: VecDeque<u32>,
}

impl History {
    pub fn service(&mut self, name: &str, at: Timestamp, told: Told) {
        note(&mut self.services, name, at, told);
    }

    pub fn instance(&mut self, name: &str, at: Timestamp, told: Told) {
        note(&mut self.instances, name, at, told);
    }

    /// What is kept of a service, or of an instance.
    pub fn look(&mut self, name: &str, is_service: bool, at: Timestamp) -> Option<api::History> {
        let all = if is_service { &mut self.services } else { &mut self.instances };
        let series = all.get_mut(name)?;
        series.advance(number(at));
        Some(api::History {
            step_ms: millis(STEP),
            in_flight: series.in_flight.iter().copied().collect(),
            requests_per_second: series.per_second.iter().map(|it| f64::from(*it) / 10.0).collect(),
        })
    }

    pub fn retain(&mut self, service: impl Fn(&str) -> bool, instance: impl Fn(&str) -> bool) {
        self.services.retain(|name, _| service(name));
        self.instances.retain(|name, _| instance(name));
    }
}

fn note(all: &mut BTreeMap<String, Series>, name: &str, at: Timestamp, told: Told) {
    match all.get_mut(name) {
        Some(series) => series.note(number(at), told),
        None => {
            let mut series = Series {
                last: number(at),
                now: (0, 0),
                in_flight: [0].into(),
                per_second: [0].into(),
            };
            series.note(number(at), told);
            all.insert(name.to_owned(), series);
        }
    }
}

fn number(at: Timestamp) -> u64 {
    millis(at.0) / millis(STEP)
}

impl Series {
    /// A point shows the most that was in flight within it: that is what one looks for.
    fn note(&mut self, number: u64, told: Told) {
        let in_flight = u16::try_from(told.in_flight).unwrap_or(u16::MAX);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let per_second = (told.per_second * 10.0).round() as u32;
        self.advance(number);
        self.now = (in_flight, per_second);
        if let (Some(most), Some(last)) = (self.in_flight.back_mut(), self.per_second.back_mut()) {
            *most = in_flight.max(*most);
            *last = per_second;
        }
    }

    fn advance(&mut self, number: u64) {
        let missing = number.saturating_sub(self.last);
        self.last = self.last.max(number);
        for _ in 0..missing.min(POINTS as u64) {
            self.in_flight.push_back(self.now.0);
            self.per_second.push_back(self.now.1);
        }
        let excess = self.in_flight.len().saturating_sub(POINTS);
        self.in_flight.drain(..excess);
        self.per_second.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn told(in_flight: u64, per_second: f64) -> Told {
        Told { in_flight, per_second }
    }

    #[test]
    fn what_was_told_holds_until_something_else_is() {
        let mut history = History::default();
        history.service("web", at(100), told(7, 1.25));
        history.service("web", at(101), told(3, 2.0));
        history.service("web", at(106), told(1, 0.0));
        let it = history.look("web", true, at(108)).unwrap();
        assert_eq!(it.in_flight, [7, 3, 3, 3, 1], "peaks are kept");
        assert_eq!(it.requests_per_second, [2.0, 2.0, 2.0, 0.0, 0.0]);
        assert_eq!(history.look("web", false, at(108)), None, "that would be an instance");
    }

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let mut history = History::default();
        for second in 0..2000 {
            history.instance("web1", at(second), told(second, 100_000.0));
        }
        let it = history.look("web1", false, at(2000)).unwrap();
        assert_eq!((it.in_flight.len(), it.in_flight.last()), (300, Some(&1999)));
        assert_eq!(it.requests_per_second[0], 100_000.0);
        // A day without a word is no reason to count every second of it.
        let it = history.look("web1", false, at(86_400)).unwrap();
        assert_eq!(it.in_flight, [1999; 300]);
        history.retain(|_| true, |_| false);
        assert_eq!(history.look("web1", false, at(86_400)), None);
    }
}
