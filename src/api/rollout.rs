//! A rollout as it is remembered: who, when, why, and every step with its times.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Actor;

/// A rolling restart as it stands, or as it halted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    pub by: String,
    pub since: Option<Timestamp>,
    /// `build`, `draining`, `stopping`, `starting`, `readiness`, `settle`, `waiting`, `paused`, `done`, `halted`, `aborted`.
    pub step: String,
    /// The instance that is being renewed.
    pub instance: Option<String>,
    pub done: u32,
    pub of: u32,
    /// Renewed instances, in order.
    pub renewed: Vec<String>,
    pub paused: bool,
    pub aborting: bool,
    /// The `rollback` commands run instead of `build`.
    pub rollback: bool,
    /// Why it halted.
    pub halted: Option<String>,
    /// When a halted, aborted or finished rollout ended.
    pub ended: Option<Timestamp>,
}

impl Rollout {
    /// It goes on: neither over nor halted.
    pub fn is_under_way(&self) -> bool {
        self.ended.is_none() && self.halted.is_none()
    }
}

/// Where a rollout is, beside the sentence of an [`Event`](super::Event).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutMark {
    /// `build`, `draining`, `starting`, `settle`, `renewed`; absent on what concerns all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// At the beginning: who is to be renewed, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// The instance that lives only while the others are renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
    /// At the beginning: the values of `--set` in force; what looks like a secret is not shown.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// At the beginning and at the end: what the gateway had counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// Totals of a gateway, or what they grew by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counted {
    pub requests: u64,
    /// Lost by an instance that had them.
    pub cut: u64,
    /// Given to another instance after one did not take them.
    pub retried: u64,
    /// Waited for an instance.
    pub held: u64,
    /// Answers that the gateway made itself: 502, 503, 504.
    pub made: u64,
}

impl Counted {
    /// What was counted since then; `None` where a total is smaller: its process was another one.
    pub fn since(&self, then: &Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_sub(then.requests)?,
            cut: self.cut.checked_sub(then.cut)?,
            retried: self.retried.checked_sub(then.retried)?,
            held: self.held.checked_sub(then.held)?,
            made: self.made.checked_sub(then.made)?,
        })
    }
}

/// `GET /v1/services/{name}/rollout`: the rollout that runs, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutRecord {
    pub service: String,
    pub by: Actor,
    pub began: Option<Timestamp>,
    /// `null` while it runs.
    pub ended: Option<Timestamp>,
    /// `running`, `paused`, `done`, `halted`, `aborted`.
    pub outcome: String,
    /// Why it halted.
    pub halted: Option<String>,
    pub aborted_by: Option<Actor>,
    pub rollback: bool,
    pub set: BTreeMap<String, String>,
    /// In the order in which they were to be renewed.
    pub plan: Vec<String>,
    pub spare: Option<String>,
    /// In the order in which they were begun.
    pub steps: Vec<RolloutStep>,
    /// Pauses, and daemons that came and went.
    pub notes: Vec<RolloutNote>,
    /// At a halt: probe bodies, last lines, exit status; control characters included.
    pub evidence: Vec<String>,
    /// What the gateway counted meanwhile; `null` where none counts, while it runs, or where its totals began anew.
    pub counted: Option<Counted>,
}

/// The work on one instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutStep {
    pub instance: String,
    /// `running`, `renewed`, `failed`, `left` (an abort took it back or found it untouched).
    pub outcome: String,
    pub began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub phases: Vec<RolloutPhase>,
    /// How the old process ended, as the journal says it.
    pub exit: Option<String>,
    /// Requests that were in flight when it ended.
    pub lost: u32,
}

/// A part of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutPhase {
    /// `build`, `draining`, `stopping`, `starting`, `readiness`, `settle`.
    pub name: String,
    pub began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

/// Something that happened to a rollout as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutNote {
    pub at: Option<Timestamp>,
    pub by: Option<Actor>,
    pub message: String,
}

impl RolloutRecord {
    /// It has not ended.
    pub fn is_under_way(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    /// Planned, and never begun.
    pub fn untouched(&self) -> impl Iterator<Item = &str> {
        let begun = |name: &str| self.steps.iter().any(|it| it.instance == name);
        self.plan.iter().map(String::as_str).filter(move |it| !begun(it))
    }
}

impl RolloutStep {
    /// How long it took, in milliseconds; until `now` while it runs.
    pub fn took_ms(&self, now: Timestamp) -> Option<u64> {
        took_ms(self.began, self.ended, now)
    }
}

impl RolloutPhase {
    /// How long it took, in milliseconds; until `now` while it runs.
    pub fn took_ms(&self, now: Timestamp) -> Option<u64> {
        took_ms(self.began, self.ended, now)
    }
}

/// Between two moments of the wall clock, in milliseconds; until `now` where there is no second.
pub fn took_ms(began: Option<Timestamp>, ended: Option<Timestamp>, now: Timestamp) -> Option<u64> {
    let ms = ended.unwrap_or(now).as_millisecond() - began?.as_millisecond();
    u64::try_from(ms).ok()
}
