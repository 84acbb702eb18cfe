//! What the probes say about one generation of an instance.
//!
//! The meaning is Kubernetes': a run of results that reaches a threshold turns the verdict, liveness
//! and readiness wait for startup, and without a readiness probe an instance is ready once it has run
//! for `start_seconds`. Verdicts only; what follows from them is decided elsewhere.

use std::collections::BTreeSet;

use super::input::Probe;
use super::rules::{ServiceRules, Thresholds};
use super::time::Timestamp;

/// The results of one probe, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge {
    verdict: Option<bool>,
    /// The last result and when it came.
    last: Option<(bool, Timestamp)>,
    /// How many results like the last one in a row.
    streak: u32,
    detail: String,
}

impl Gauge {
    fn note(&mut self, now: Timestamp, ok: bool, detail: String, thresholds: Thresholds) {
        let repeats = self.last.is_some_and(|(last, _)| last == ok);
        self.streak = if repeats { self.streak.saturating_add(1) } else { 1 };
        self.last = Some((ok, now));
        self.detail = detail;
        let needed = if ok { thresholds.success } else { thresholds.failure };
        if self.streak >= needed {
            self.verdict = Some(ok);
        }
    }

    /// Passes in a row, zero after a failure.
    pub(super) fn passes(&self) -> u32 {
        self.last.filter(|(ok, _)| *ok).map_or(0, |_| self.streak)
    }

    /// Failures in a row, zero after a pass.
    pub(super) fn failures(&self) -> u32 {
        self.last.filter(|(ok, _)| !*ok).map_or(0, |_| self.streak)
    }

    pub(super) fn has_passed_since(&self, moment: Timestamp) -> bool {
        self.last.is_some_and(|(ok, at)| ok && at > moment)
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

/// The health of one generation.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub(super) startup: Gauge,
    pub(super) liveness: Gauge,
    pub(super) readiness: Gauge,
    /// Startup has passed, or none was asked for. Never taken back.
    started_up: bool,
    /// It has run for `start_seconds`. Never taken back.
    pub(super) ripe: bool,
    /// It was ready once. Never taken back.
    was_ready: bool,
}

impl Health {
    /// Of a process that was just started.
    pub(super) fn fresh() -> Self {
        Self {
            startup: Gauge::default(),
            liveness: Gauge::default(),
            readiness: Gauge::default(),
            started_up: false,
            ripe: false,
            was_ready: false,
        }
    }

    /// Of a process that ran before this daemon did: its startup is history.
    pub(super) fn adopted() -> Self {
        Self { started_up: true, ..Self::fresh() }
    }

    /// Follows the rules as they are now. A probe that appears later starts with no verdict.
    pub(super) fn follow(&mut self, rules: &ServiceRules) {
        if rules.startup.is_none() {
            self.started_up = true;
        }
        if rules.liveness.is_none() {
            self.liveness = Gauge::default();
        }
        if rules.readiness.is_none() {
            self.readiness = Gauge::default();
        }
    }

    /// Counts one result. Results of probes that should not run now are dropped.
    pub(super) fn note(
        &mut self,
        now: Timestamp,
        probe: Probe,
        ok: bool,
        detail: String,
        rules: &ServiceRules,
    ) {
        if !self.wanted(rules).contains(&probe) {
            return;
        }
        let (gauge, thresholds) = match probe {
            Probe::Startup => (&mut self.startup, rules.startup),
            Probe::Liveness => (&mut self.liveness, rules.liveness),
            Probe::Readiness => (&mut self.readiness, rules.readiness),
        };
        let Some(thresholds) = thresholds else { return };
        gauge.note(now, ok, detail, thresholds);
        if self.startup.verdict == Some(true) {
            self.started_up = true;
        }
        self.was_ready |= self.readiness.verdict == Some(true);
    }

    /// The probes that should run now.
    pub(super) fn wanted(&self, rules: &ServiceRules) -> BTreeSet<Probe> {
        let mut wanted = BTreeSet::new();
        if !self.started_up {
            wanted.insert(Probe::Startup);
            return wanted;
        }
        if rules.liveness.is_some() {
            wanted.insert(Probe::Liveness);
        }
        if rules.readiness.is_some() {
            wanted.insert(Probe::Readiness);
        }
        wanted
    }

    /// `None` while nothing is known.
    pub(super) fn ready(&self, rules: &ServiceRules) -> Option<bool> {
        match rules.readiness {
            Some(_) => self.readiness.verdict,
            None => (self.started_up && self.ripe).then_some(true),
        }
    }

    pub(super) fn live(&self) -> Option<bool> {
        self.liveness.verdict
    }

    /// Past its start: `Running`, no longer `Starting`.
    pub(super) fn is_up(&self, rules: &ServiceRules) -> bool {
        let proven = rules.startup.is_some() || self.ripe || self.was_ready;
        self.started_up && proven
    }

    pub(super) fn has_failed_startup(&self) -> bool {
        !self.started_up && self.startup.verdict == Some(false)
    }

    /// Liveness has failed past its threshold.
    pub(super) fn is_sick(&self) -> bool {
        self.liveness.verdict == Some(false)
    }

    /// A rollout believes it: `successes` passes in a row, or `start_seconds` without a probe.
    pub(super) fn is_proven(&self, rules: &ServiceRules) -> bool {
        let passes =
            rules.readiness.is_none() || self.readiness.passes() >= rules.rollout.successes;
        self.ready(rules) == Some(true) && passes
    }

    /// The last word of a probe that should be green, if it is not.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint_since(Timestamp::default())
    }

    /// The same, of results from `moment` on: one that came before the server listened is forgiven.
    pub(super) fn complaint_since(&self, moment: Timestamp) -> Option<String> {
        let failing = [("liveness", &self.liveness), ("readiness", &self.readiness)]
            .into_iter()
            .find(|(_, gauge)| gauge.last.is_some_and(|(ok, at)| !ok && moment <= at));
        failing.map(|(probe, gauge)| format!("{probe} fails: {}", gauge.detail()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::fixture::rules;

    const LIMITS: Thresholds = Thresholds { success: 2, failure: 3 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn gauge(results: &[bool]) -> Gauge {
        let mut gauge = Gauge::default();
        for (i, ok) in results.iter().enumerate() {
            gauge.note(at(i as u64), *ok, format!("result {i}"), LIMITS);
        }
        gauge
    }

    #[test]
    fn a_verdict_turns_when_a_run_of_results_reaches_its_threshold() {
        assert_eq!(gauge(&[]).verdict, None);
        assert_eq!(gauge(&[true]).verdict, None);
        assert_eq!(gauge(&[true, true]).verdict, Some(true));
        assert_eq!(gauge(&[true, true, false, false]).verdict, Some(true));
        assert_eq!(gauge(&[true, true, false, false, false]).verdict, Some(false));
        assert_eq!(gauge(&[true, true, false, false, true, false]).verdict, Some(true));
        assert_eq!(gauge(&[false, false, false, true]).verdict, Some(false));
        assert_eq!(gauge(&[false, false, false, true, true]).verdict, Some(true));
    }

    #[test]
    fn runs_are_counted_in_a_row() {
        let passing = gauge(&[false, true, true]);
        assert_eq!((passing.passes(), passing.failures()), (2, 0));
        let failing = gauge(&[true, true, false]);
        assert_eq!((failing.passes(), failing.failures(), failing.detail()), (0, 1, "result 2"));
        assert_eq!((gauge(&[]).passes(), gauge(&[]).failures()), (0, 0));
        assert!(passing.has_passed_since(at(1)) && !passing.has_passed_since(at(2)));
        assert!(!failing.has_passed_since(at(1)));
    }

    #[test]
    fn liveness_and_readiness_wait_for_startup() {
        let mut rules = rules("web", &["web1"]);
        rules.startup = Some(Thresholds { success: 1, failure: 3 });
        rules.liveness = rules.startup;
        rules.readiness = rules.startup;
        let mut health = Health::fresh();
        health.follow(&rules);
        assert_eq!(health.wanted(&rules), BTreeSet::from([Probe::Startup]));

        health.note(at(1), Probe::Readiness, true, String::new(), &rules);
        assert_eq!(health.ready(&rules), None);
        health.note(at(1), Probe::Startup, true, String::new(), &rules);
        assert_eq!(health.wanted(&rules), BTreeSet::from([Probe::Liveness, Probe::Readiness]));
        health.note(at(2), Probe::Readiness, true, String::new(), &rules);
        assert_eq!(health.ready(&rules), Some(true));

        // A late result of the startup probe counts for nothing.
        for second in 3..9 {
            health.note(at(second), Probe::Startup, false, String::new(), &rules);
        }
        assert!(!health.has_failed_startup());
    }

    #[test]
    fn what_was_ready_once_is_running_and_does_not_start_again() {
        let mut rules = rules("web", &["web1"]);
        rules.readiness = Some(Thresholds { success: 1, failure: 1 });
        let mut health = Health::fresh();
        health.follow(&rules);
        assert!(!health.is_up(&rules));
        health.note(at(1), Probe::Readiness, true, String::new(), &rules);
        assert!(health.is_up(&rules));
        health.note(at(2), Probe::Readiness, false, String::new(), &rules);
        assert_eq!((health.ready(&rules), health.is_up(&rules)), (Some(false), true));
    }

    #[test]
    fn without_a_readiness_probe_running_for_a_while_is_ready() {
        let mut rules = rules("web", &["web1"]);
        let mut health = Health::fresh();
        health.follow(&rules);
        assert_eq!((health.ready(&rules), health.is_up(&rules)), (None, false));
        health.ripe = true;
        assert_eq!((health.ready(&rules), health.is_up(&rules)), (Some(true), true));

        rules.startup = Some(LIMITS);
        let mut health = Health::fresh();
        health.follow(&rules);
        health.ripe = true;
        assert_eq!((health.ready(&rules), health.is_up(&rules)), (None, false));
    }
}
