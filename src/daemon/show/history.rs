//! The last ten minutes of what gateways counted and what processes used, for the charts of the detail screen.
//!
//! What has a gateway in front of it takes 1.8 KB at most. What is used is kept as changes: a process at rest
//! takes a few bytes. No timer writes it: what was not told since is filled in when the next number comes or
//! somebody looks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::api;
use crate::daemon::clock::millis;
use crate::fleet::Timestamp;
use crate::process::usage::Usage;

/// What one point stands for.
const STEP: Duration = Duration::from_secs(2);
/// Ten minutes.
const POINTS: usize = 300;

#[derive(Debug, Default)]
pub struct History {
    services: BTreeMap<String, Series>,
    instances: BTreeMap<String, Series>,
    used: BTreeMap<String, Used>,
}

/// Memory is kept in steps of so many bytes: what is less is noise.
const GRAIN: u64 = 64 << 10;
/// Longer than between two measurements, in points: what is older says nothing about now.
const KNOWN_FOR: u64 = 30;

/// What a process tree used.
#[derive(Debug, Default)]
struct Used {
    /// The number of a point, and what was used from there on; oldest first.
    changes: VecDeque<(u64, Sample)>,
    /// The number of the last measurement.
    last: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Tenths of a percent of one core.
    cpu: u32,
    /// In steps of [`GRAIN`].
    memory: u32,
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

    /// Keeps what the processes of an instance used.
    pub fn used(&mut self, name: &str, at: Timestamp, usage: Usage) {
        let at = number(at);
        match self.used.get_mut(name) {
            Some(used) => used.note(at, sample(usage)),
            None => {
                let used = Used { changes: [(at, sample(usage))].into(), last: at };
                self.used.insert(name.to_owned(), used);
            }
        }
    }

    /// What is kept of a service, or of an instance.
    pub fn look(&mut self, name: &str, is_service: bool, at: Timestamp) -> Option<api::History> {
        let all = if is_service { &mut self.services } else { &mut self.instances };
        let used = self.used.get_mut(name).filter(|_| !is_service);
        let series = all.get_mut(name);
        if series.is_none() && used.is_none() {
            return None;
        }
        let mut history = api::History { step_ms: millis(STEP), ..api::History::default() };
        if let Some(series) = series {
            series.advance(number(at));
            history.in_flight = series.in_flight.iter().copied().collect();
            history.requests_per_second =
                series.per_second.iter().map(|it| f64::from(*it) / 10.0).collect();
        }
        if let Some(used) = used {
            let points = used.points(number(at));
            history.cpu_percent = points.iter().map(|it| it.map(Sample::percent)).collect();
            history.memory_bytes = points.iter().map(|it| it.map(Sample::bytes)).collect();
        }
        Some(history)
    }

    /// Nobody counts what this instance has any more: what comes later does not follow on it.
    pub fn forget(&mut self, instance: &str) {
        self.instances.remove(instance);
    }

    /// A service has another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(it) = self.services.remove(from) {
            self.services.insert(to.to_owned(), it);
        }
    }

    /// Forgets what has no gateway any more, and instances that are gone.
    pub fn retain(
        &mut self,
        service: impl Fn(&str) -> bool,
        counted: impl Fn(&str) -> bool,
        known: impl Fn(&str) -> bool,
    ) {
        self.services.retain(|name, _| service(name));
        self.instances.retain(|name, _| counted(name));
        self.used.retain(|name, _| known(name));
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn sample(usage: Usage) -> Sample {
    Sample {
        cpu: (usage.cpu_percent * 10.0).round() as u32,
        memory: u32::try_from(usage.memory_bytes / GRAIN).unwrap_or(u32::MAX),
    }
}

impl Sample {
    fn percent(self) -> f64 {
        f64::from(self.cpu) / 10.0
    }

    fn bytes(self) -> u64 {
        u64::from(self.memory) * GRAIN
    }
}

impl Used {
    fn note(&mut self, number: u64, sample: Sample) {
        // Nobody has looked in between: that it stayed the same would be a guess.
        if number > self.last + KNOWN_FOR {
            self.changes.clear();
        }
        self.last = number;
        match self.changes.back_mut() {
            Some((_, last)) if *last == sample => {}
            Some((at, last)) if *at == number => *last = sample,
            _ => self.changes.push_back((number, sample)),
        }
        let oldest = number.saturating_sub(POINTS as u64);
        // The last change before the window says what its first point is.
        while self.changes.get(1).is_some_and(|it| it.0 <= oldest) {
            self.changes.pop_front();
        }
    }

    /// Up to now, newest last; `None` where it was not measured any more.
    fn points(&self, now: u64) -> Vec<Option<Sample>> {
        let Some((first, _)) = self.changes.front() else { return vec![] };
        let first = (*first).max((now + 1).saturating_sub(POINTS as u64));
        let known = |at: u64| {
            let change = self.changes.iter().rev().find(|it| it.0 <= at);
            change.map(|it| it.1).filter(|_| at <= self.last + KNOWN_FOR)
        };
        (first..=now).map(known).collect()
    }
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
        history.retain(|_| true, |_| false, |_| true);
        assert_eq!(history.look("web1", false, at(86_400)), None);
    }
    #[test]
    fn what_is_used_is_kept_as_changes_and_shown_as_points() {
        let usage = |cpu_percent, memory_bytes| Usage { cpu_percent, memory_bytes, processes: 1 };
        let mut history = History::default();
        for (second, cpu) in [(100, 0.0), (102, 12.34), (104, 12.34), (108, 0.0)] {
            history.used("a", at(second), usage(cpu, 90 << 20));
        }
        let it = history.look("a", false, at(110)).unwrap();
        let cpu = [0.0, 12.3, 12.3, 12.3, 0.0, 0.0].map(Some);
        assert_eq!((it.cpu_percent, it.in_flight), (cpu.to_vec(), vec![]));
        assert_eq!(it.memory_bytes, [Some(90 << 20); 6]);
        // It ended, and nobody measures it.
        let it = history.look("a", false, at(200)).unwrap();
        assert_eq!((it.cpu_percent.len(), it.cpu_percent.last()), (51, Some(&None)));
        // A daemon that was stopped for a while does not make up what happened.
        history.used("a", at(200), usage(1.0, 0));
        assert_eq!(history.look("a", false, at(200)).unwrap().cpu_percent, [Some(1.0)]);

        for second in 0..4000 {
            history.used("b", at(second), usage(f64::from(second as u32), 0));
        }
        let it = history.look("b", false, at(4000)).unwrap();
        assert_eq!((it.cpu_percent.len(), history.used["b"].changes.len()), (300, 301));
        (4000..9000).for_each(|second| history.used("b", at(second), usage(1.0, 0)));
        assert_eq!(history.used["b"].changes.len(), 1, "a process at rest takes no room");
        assert_eq!(history.look("b", false, at(9000)).unwrap().cpu_percent, [Some(1.0); 300]);
    }
}
