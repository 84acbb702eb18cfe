//! What is remembered of rollouts: for every service the one that runs or ran last, and how long the
//! steps of earlier ones took.
//!
//! All of it is made of the journal's events, one after another. So the next daemon knows it again by
//! reading the journal, and nothing else has to be kept. Pure.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::api::{
    Counted, Event, Gateway, Plan, RolloutMark, RolloutNote, RolloutPhase, RolloutRecord,
    RolloutStep, took_ms,
};
use crate::config::secret::veiled;
use crate::daemon::driver::Daemon;
use crate::fleet::Name;
use crate::fleet::input::{Extra, InFlight, Mark, Record};
use crate::fleet::sheet::RolloutSheet;

/// The event of a service that has another name: its message is this and the old one.
pub const RENAMED: &str = "renamed";
pub const RENAMED_FROM: &str = "renamed from ";

/// Rollouts whose times are remembered, per service.
const PAST: usize = 5;
/// Pauses and the like that are remembered of one rollout.
const NOTES: usize = 50;

#[derive(Debug, Default)]
pub struct Rollouts {
    services: BTreeMap<String, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: RolloutRecord,
    /// What the gateway had counted when it began.
    counted: Option<Counted>,
    /// How long instances took to be renewed, in milliseconds; the newest at the end.
    past: BTreeMap<String, VecDeque<u64>>,
}

impl Rollouts {
    /// Takes the next event of the journal.
    pub fn note(&mut self, event: &Event) {
        let Some(service) = &event.service else { return };
        if event.kind == RENAMED {
            let from = event.message.strip_prefix(RENAMED_FROM).unwrap_or_default();
            self.rename(from, service);
        } else if event.kind == "rollout-started" {
            self.services.entry(service.clone()).or_default().begin(event);
        } else if let Some(kept) = self.services.get_mut(service)
            && kept.last.is_under_way()
        {
            kept.go_on(event);
        }
    }

    /// A service has another name: what is kept of it is told under that one.
    fn rename(&mut self, from: &str, to: &str) {
        if let Some(mut it) = self.services.remove(from) {
            to.clone_into(&mut it.last.service);
            self.services.insert(to.to_owned(), it);
        }
    }

    /// Forgets services and instances that are gone.
    pub fn retain(&mut self, is_service: impl Fn(&str) -> bool, is_known: impl Fn(&str) -> bool) {
        self.services.retain(|name, _| is_service(name));
        for kept in self.services.values_mut() {
            kept.past.retain(|name, _| is_known(name));
        }
    }

    /// The rollout of this service that runs, or the last one. `now`: as the fleet knows it, which has
    /// the last word on whether it runs.
    pub fn of(&self, service: &str, now: Option<&RolloutSheet>) -> Option<RolloutRecord> {
        let mut record = self.services.get(service)?.last.clone();
        let runs = now.is_some_and(|it| it.ended.is_none());
        if record.is_under_way() && !runs {
            // The machine was started anew, or the end was told where nothing could be written.
            record.outcome = "halted".into();
            record.ended = record.steps.iter().filter_map(|it| it.began).max().or(record.began);
            let why = now.and_then(|it| it.halted.clone());
            record.halted = Some(why.unwrap_or_else(|| "nobody saw how it ended".into()));
        }
        Some(record)
    }

    /// Says of a plan how long it will take: for each instance the median of what it took before, and
    /// of one that was never renewed the median of the others.
    pub fn expect(&self, plan: &mut Plan) {
        let Some(kept) = self.services.get(&plan.service) else { return };
        let all: Vec<u64> = kept.past.values().flatten().copied().collect();
        for step in &mut plan.steps {
            let own = kept.past.get(&step.instance).map(|it| it.iter().copied().collect());
            step.expected_ms = median(own.unwrap_or_default()).or_else(|| median(all.clone()));
        }
        plan.expected_ms = plan.steps.iter().map(|it| it.expected_ms).sum();
    }
}

fn median(mut of: Vec<u64>) -> Option<u64> {
    of.sort_unstable();
    of.get(of.len() / 2).copied()
}

impl Kept {
    fn begin(&mut self, event: &Event) {
        let mark = event.rollout.as_deref().cloned().unwrap_or_default();
        self.counted = mark.counted;
        self.last = RolloutRecord {
            service: event.service.clone().unwrap_or_default(),
            by: event.actor.clone().unwrap_or_default(),
            began: Some(event.at),
            outcome: "running".into(),
            rollback: mark.rollback,
            set: mark.set,
            plan: mark.plan,
            spare: mark.spare,
            ..RolloutRecord::default()
        };
    }

    fn go_on(&mut self, event: &Event) {
        match event.kind.as_str() {
            "rollout-step" => self.step(event),
            "rollout-paused" => self.hold(event, "paused"),
            "rollout-resumed" => self.hold(event, "running"),
            "rollout-halted" => {
                // The sentence has a beginning of its own: "… halted, 1 of 2 renewed: why".
                let why = event.message.split_once(": ").map_or(&*event.message, |(_, why)| why);
                self.last.halted = Some(why.to_owned());
                self.last.evidence = event.evidence.clone().unwrap_or_default();
                self.end(event, "halted", "failed");
            }
            "rollout-aborted" => {
                self.last.aborted_by.clone_from(&event.actor);
                self.end(event, "aborted", "left");
            }
            "rollout-finished" => self.end(event, "done", "renewed"),
            _ => self.watch(event),
        }
    }

    fn step(&mut self, event: &Event) {
        let Some(RolloutMark { step: Some(step), instance: Some(instance), .. }) =
            event.rollout.as_deref()
        else {
            return;
        };
        let present = self.last.steps.last().filter(|it| it.ended.is_none());
        if present.is_none_or(|it| it.instance != *instance) {
            self.close_step(event.at, "left");
            self.last.steps.push(RolloutStep {
                instance: instance.clone(),
                outcome: "running".into(),
                began: Some(event.at),
                ..RolloutStep::default()
            });
        }
        if step == "renewed" {
            self.close_step(event.at, "renewed");
            self.remember(instance, event.at);
        } else {
            self.phase(step, event.at);
        }
    }

    fn remember(&mut self, instance: &str, now: Timestamp) {
        let Some(took) = self.last.steps.last().and_then(|it| it.took_ms(now)) else { return };
        let past = self.past.entry(instance.to_owned()).or_default();
        if past.len() == PAST {
            past.pop_front();
        }
        past.push_back(took);
    }

    /// What happens to the instance that is being renewed.
    fn watch(&mut self, event: &Event) {
        let Some(step) = self.last.steps.last_mut() else { return };
        if step.ended.is_some() || event.instance.as_ref() != Some(&step.instance) {
            return;
        }
        match event.kind.as_str() {
            "draining" => self.phase("draining", event.at),
            "signal-sent" => self.phase("stopping", event.at),
            "exited" => {
                step.lost += event.lost.unwrap_or(0);
                step.exit.get_or_insert_with(|| event.message.clone());
                self.phase("starting", event.at);
            }
            "started" => self.phase("readiness", event.at),
            // The gateway tells of a cut a moment after the exit.
            "gateway" => step.lost += event.lost.unwrap_or(0),
            _ => (),
        }
    }

    /// Another part of the present step begins, unless it has begun already.
    fn phase(&mut self, name: &str, at: Timestamp) {
        let Some(step) = self.last.steps.last_mut() else { return };
        if step.phases.last().is_some_and(|it| it.name == name) {
            return;
        }
        end_phase(step, at);
        step.phases.push(RolloutPhase { name: name.into(), began: Some(at), ended: None });
    }

    fn close_step(&mut self, at: Timestamp, outcome: &str) {
        let Some(step) = self.last.steps.last_mut().filter(|it| it.ended.is_none()) else { return };
        end_phase(step, at);
        step.ended = Some(at);
        step.outcome = outcome.into();
    }

    fn hold(&mut self, event: &Event, outcome: &str) {
        self.last.outcome = outcome.into();
        if self.last.notes.len() < NOTES {
            self.last.notes.push(RolloutNote {
                at: Some(event.at),
                by: event.actor.clone(),
                message: event.message.clone(),
            });
        }
    }

    fn end(&mut self, event: &Event, outcome: &str, step: &str) {
        self.close_step(event.at, step);
        self.last.outcome = outcome.into();
        self.last.ended = Some(event.at);
        let now = event.rollout.as_deref().and_then(|it| it.counted);
        self.last.counted = now.zip(self.counted).and_then(|(now, then)| now.since(&then));
    }
}

/// The present part of a step is over; one that took no time was none.
fn end_phase(step: &mut RolloutStep, at: Timestamp) {
    if let Some(phase) = step.phases.last_mut() {
        phase.ended = Some(at);
        if took_ms(phase.began, phase.ended, at) == Some(0) {
            step.phases.pop();
        }
    }
}

impl Daemon {
    /// What an event says of a rollout beside its sentence.
    pub(in crate::daemon) fn mark_of(&self, record: &Record) -> Option<Box<RolloutMark>> {
        let service = record.service.as_ref()?;
        let counted = || self.facts.gateway(service.as_str()).map(counted);
        let mark = match (&record.extra, record.kind) {
            (Extra::Rollout(Mark::Began { plan, spare, rollback }), _) => RolloutMark {
                plan: plan.iter().map(Name::to_string).collect(),
                spare: spare.as_ref().map(Name::to_string),
                rollback: *rollback,
                set: shown(self.hands.values_with(service.as_str(), BTreeMap::new())),
                counted: counted(),
                ..RolloutMark::default()
            },
            (Extra::Rollout(Mark::Step { instance, step }), _) => RolloutMark {
                step: Some((*step).into()),
                instance: Some(instance.to_string()),
                ..RolloutMark::default()
            },
            (_, "rollout-halted" | "rollout-aborted" | "rollout-finished") => {
                RolloutMark { counted: Some(counted()?), ..RolloutMark::default() }
            }
            _ => return None,
        };
        Some(Box::new(mark))
    }

    /// The rollout of a service that runs, or the last one.
    pub(in crate::daemon) fn rollout_record(&self, service: &str) -> Option<RolloutRecord> {
        let sheet = self.fleet.service_sheet(service);
        self.rollouts.of(service, sheet.and_then(|it| it.rollout).as_ref())
    }
}

/// What was in flight at an end.
pub(in crate::daemon) fn lost(record: &Record) -> Option<u32> {
    let lost = match record.extra {
        Extra::Lost(lost) => Some(lost),
        Extra::Stopped(_, lost) => lost,
        Extra::Nothing | Extra::Rollout(_) => None,
    };
    lost.map(InFlight::count).filter(|it| *it > 0)
}

fn counted(it: &Gateway) -> Counted {
    Counted {
        requests: it.traffic.requests,
        cut: it.traffic.cut,
        retried: it.traffic.retried,
        held: it.held_total,
        made: it.made_502 + it.made_503 + it.made_504,
    }
}

/// Values as they may be shown.
pub(in crate::daemon) fn shown(values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let veil = |(name, value): (String, String)| {
        let shown = veiled(&name, &value).into_owned();
        (name, shown)
    };
    values.into_iter().map(veil).collect()
}

#[cfg(test)]
mod tests;
