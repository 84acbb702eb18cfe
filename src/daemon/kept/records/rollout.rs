//! A rollout as it stands in the state file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{by, moment, name};
use crate::api::Actor;
use crate::daemon::clock::millis;
use crate::daemon::show::publish::actor;
use crate::fleet::Name;
use crate::fleet::memory;

/// The last rollout of a service, under way or over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    pub service: String,
    by: Actor,
    began: u64,
    rollback: bool,
    targets: Option<BTreeSet<String>>,
    paused: bool,
    aborted_by: Option<Actor>,
    renewed: Vec<String>,
    mishaps: BTreeMap<String, u64>,
    stage: Stage,
    step_began: u64,
    of: usize,
    serving: usize,
    /// How long its log was when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_begins: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    Choosing { built: Option<String> },
    Building { instance: String, index: usize },
    Renewing { instance: String, floor: u64, mishaps: u64 },
    Settling { instance: String, mishaps: u64, until: u64 },
    Dismissing { spare: String },
    Over { at: u64, outcome: Outcome, touched: Option<String> },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Choosing { built: None }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Done,
    Halted(String),
    Aborted,
}

impl Rollout {
    /// As it is to be kept.
    pub fn of(service: String, it: &memory::Rollout, log_begins: Option<u64>) -> Self {
        Self {
            service,
            by: actor(&it.by),
            began: millis(it.began.0),
            rollback: it.rollback,
            targets: it.targets.as_ref().map(|it| it.iter().map(Name::to_string).collect()),
            paused: it.paused,
            aborted_by: it.aborted_by.as_ref().map(actor),
            renewed: it.renewed.iter().map(Name::to_string).collect(),
            mishaps: it.mishaps.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
            stage: Stage::of(&it.stage),
            step_began: millis(it.step_began.0),
            of: it.of,
            serving: it.serving,
            log_begins,
        }
    }

    /// What is left of it after a reboot: nobody is where it has left them.
    pub fn after_reboot(self) -> Self {
        let (outcome, touched) = match self.stage {
            Stage::Over { outcome, touched, .. } => (outcome, touched),
            _ => (Outcome::Halted("the machine was started anew".into()), None),
        };
        let stage = Stage::Over { at: 0, outcome, touched };
        Self { began: 0, step_began: 0, stage, ..self }
    }
}

impl From<Rollout> for memory::Rollout {
    fn from(it: Rollout) -> Self {
        Self {
            by: by(it.by),
            began: moment(it.began),
            rollback: it.rollback,
            targets: it.targets.map(|it| it.iter().map(|it| name(it)).collect()),
            paused: it.paused,
            aborted_by: it.aborted_by.map(by),
            renewed: it.renewed.iter().map(|it| name(it)).collect(),
            mishaps: it.mishaps.iter().map(|(it, n)| (name(it), *n)).collect(),
            stage: it.stage.into(),
            step_began: moment(it.step_began),
            of: it.of,
            serving: it.serving,
        }
    }
}

impl Stage {
    fn of(it: &memory::Stage) -> Self {
        match it {
            memory::Stage::Choosing { built, .. } => {
                Self::Choosing { built: built.as_ref().map(Name::to_string) }
            }
            memory::Stage::Building { instance, index } => {
                Self::Building { instance: instance.to_string(), index: *index }
            }
            memory::Stage::Renewing { instance, floor, mishaps, .. } => {
                let instance = instance.to_string();
                Self::Renewing { instance, floor: *floor, mishaps: *mishaps }
            }
            memory::Stage::Settling { instance, mishaps, until } => {
                let instance = instance.to_string();
                Self::Settling { instance, mishaps: *mishaps, until: millis(until.0) }
            }
            memory::Stage::Dismissing { spare } => Self::Dismissing { spare: spare.to_string() },
            memory::Stage::Over { at, outcome, touched } => Self::Over {
                at: millis(at.0),
                outcome: match outcome {
                    memory::Outcome::Done => Outcome::Done,
                    memory::Outcome::Halted(why) => Outcome::Halted(why.clone()),
                    memory::Outcome::Aborted => Outcome::Aborted,
                },
                touched: touched.as_ref().map(Name::to_string),
            },
        }
    }
}

impl From<Stage> for memory::Stage {
    fn from(it: Stage) -> Self {
        match it {
            Stage::Choosing { built } => {
                Self::Choosing { built: built.map(|it| name(&it)), waiting: None }
            }
            Stage::Building { instance, index } => {
                Self::Building { instance: name(&instance), index }
            }
            Stage::Renewing { instance, floor, mishaps } => {
                Self::Renewing { instance: name(&instance), floor, mishaps, give_up: None }
            }
            Stage::Settling { instance, mishaps, until } => {
                Self::Settling { instance: name(&instance), mishaps, until: moment(until) }
            }
            Stage::Dismissing { spare } => Self::Dismissing { spare: name(&spare) },
            Stage::Over { at, outcome, touched } => Self::Over {
                at: moment(at),
                outcome: match outcome {
                    Outcome::Done => memory::Outcome::Done,
                    Outcome::Halted(why) => memory::Outcome::Halted(why),
                    Outcome::Aborted => memory::Outcome::Aborted,
                },
                touched: touched.map(|it| name(&it)),
            },
        }
    }
}
