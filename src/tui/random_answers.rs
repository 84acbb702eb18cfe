//! What a daemon may answer to the pages of the random walk: anything that the types allow.

use super::fixtures::*;
use super::random_tests::{Random, TEXTS};
use super::update::{Msg, RolloutAnswer};
use crate::api::*;

impl Random {
    pub(super) fn texts(&mut self) -> Vec<String> {
        (0..self.below(5)).map(|_| self.of(TEXTS).to_owned()).collect()
    }

    pub(super) fn text(&mut self) -> String {
        self.of(TEXTS).to_owned()
    }

    fn moment(&mut self) -> Option<jiff::Timestamp> {
        self.is(2).then(|| at(self.below(100_000)).wall)
    }

    pub(super) fn rollout_answer(&mut self, service: String) -> Msg {
        let none = || problem(problem::NOT_FOUND, "there was none", "");
        let record = if self.is(4) { Err(none()) } else { Ok(self.record(&service)) };
        let plan = if self.is(4) { Err(none()) } else { Ok(self.plan(&service)) };
        Msg::Rollout(Box::new(RolloutAnswer { service, record, plan }))
    }

    fn record(&mut self, service: &str) -> RolloutRecord {
        RolloutRecord {
            service: service.to_owned(),
            began: self.moment(),
            ended: self.moment(),
            outcome: self.text(),
            halted: self.is(2).then(|| self.text()),
            plan: self.texts(),
            steps: (0..self.below(4)).map(|n| self.rollout_step(format!("{service}{n}"))).collect(),
            evidence: self.texts(),
            counted: self
                .is(2)
                .then(|| Counted { requests: self.below(900), ..Counted::default() }),
            ..RolloutRecord::default()
        }
    }

    fn rollout_step(&mut self, instance: String) -> RolloutStep {
        let phase = |random: &mut Self| RolloutPhase {
            name: random.text(),
            began: random.moment(),
            ended: random.moment(),
        };
        RolloutStep {
            instance,
            outcome: self.of(&["", "renewed", "failed"]).to_owned(),
            began: self.moment(),
            ended: self.moment(),
            phases: (0..self.below(6)).map(|_| phase(self)).collect(),
            exit: self.is(2).then(|| self.text()),
            lost: u32::from(self.small()),
        }
    }

    fn plan(&mut self, service: &str) -> Plan {
        let step = |random: &mut Self, n: u64| PlanStep {
            instance: format!("{service}{n}"),
            because: random.text(),
            ready: random.is(2),
            build: random.texts(),
            verdicts: random.texts(),
            expected_ms: random.is(2).then(|| random.below(1 << 40)),
            ..PlanStep::default()
        };
        Plan {
            service: service.to_owned(),
            steps: (0..self.below(4)).map(|n| step(self, n)).collect(),
            downtime: self.is(3).then(|| self.text()),
            blocked: self.is(3).then(|| self.text()),
            expected_ms: self.is(2).then(|| self.below(1 << 40)),
            ..Plan::default()
        }
    }

    pub(super) fn detail_answer(&mut self, of: String) -> Msg {
        if self.is(5) {
            return Msg::Detail { of, result: Err(problem("conflict", self.of(TEXTS), "")) };
        }
        let process = |random: &mut Self, n: u64| ProcessDetail {
            pid: i32::try_from(n).unwrap_or(1),
            depth: u32::from(random.small()) % 40,
            role: random.is(2).then(|| random.text()),
            title: random.text(),
            started: random.moment(),
            cpu_ms: random.below(1 << 40),
            memory_bytes: random.below(1 << 50),
            ..ProcessDetail::default()
        };
        let variable = |random: &mut Self| Variable {
            name: random.text(),
            value: random.text(),
            masked: random.is(2),
        };
        let detail = Detail {
            instance: of.clone(),
            now: self.moment(),
            why: self.texts(),
            processes: (0..self.below(70)).map(|n| process(self, n)).collect(),
            environment: self.is(2).then(|| (0..9).map(|_| variable(self)).collect()),
            command: self.text(),
            missing: self.texts(),
            ..Detail::default()
        };
        Msg::Detail { of, result: Ok(Box::new(detail)) }
    }

    /// Events before the ones that are there, as many as fit into a portion at most.
    pub(super) fn past_answer(&mut self, id: u64) -> Msg {
        if self.is(5) {
            return Msg::Past { id, result: Err(problem("conflict", self.of(TEXTS), "")) };
        }
        let events = (0..self.below(30)).map(|_| self.event()).collect();
        Msg::Past { id, result: Ok(events) }
    }
}
