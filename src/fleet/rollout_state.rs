//! A rolling restart as data: its stage, and what can be asked about it.

use std::collections::{BTreeMap, BTreeSet};

use super::instance::{Instance, Phase};
use super::ladder::Stop;
use super::sheet::RolloutSheet;
use super::time::Timestamp;
use super::words::{By, Name};

/// A rolling restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rollout {
    pub by: By,
    pub began: Timestamp,
    /// The rollback commands are run instead of those of the build.
    pub rollback: bool,
    /// Only these; `None`: every instance that is wanted.
    pub targets: Option<BTreeSet<Name>>,
    pub paused: bool,
    pub aborted_by: Option<By>,
    /// In order.
    pub renewed: Vec<Name>,
    /// What had gone wrong with the renewed ones until then.
    pub mishaps: BTreeMap<Name, u64>,
    pub stage: Stage,
    /// When the work on the present instance began.
    pub step_began: Timestamp,
    pub of: usize,
    /// How many served when it began.
    pub serving: usize,
}

/// What a rolling restart is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Choosing {
        built: Option<Name>,
        waiting: Option<Waiting>,
    },
    Building {
        instance: Name,
        index: usize,
    },
    /// Taken: it goes down and comes back as a generation greater than `floor`.
    Renewing {
        instance: Name,
        floor: u64,
        mishaps: u64,
        give_up: Option<Timestamp>,
    },
    Settling {
        instance: Name,
        mishaps: u64,
        until: Timestamp,
    },
    /// All are renewed; the spare drains and stops.
    Dismissing {
        spare: Name,
    },
    Over {
        at: Timestamp,
        outcome: Outcome,
        /// The one that was being renewed when it ended.
        touched: Option<Name>,
    },
}

/// Nobody can be taken just now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    pub give_up: Timestamp,
}

/// How a rolling restart ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Done,
    Halted(String),
    Aborted,
}

impl Rollout {
    pub(super) fn new(now: Timestamp, by: By, targets: Option<BTreeSet<Name>>) -> Self {
        Self {
            by,
            began: now,
            rollback: targets.is_some(),
            targets,
            paused: false,
            aborted_by: None,
            renewed: Vec::new(),
            mishaps: BTreeMap::new(),
            stage: Stage::Choosing { built: None, waiting: None },
            step_began: now,
            of: 0,
            serving: 0,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Over { .. })
    }

    /// An instance is being renewed, or about to be: nothing else should be taken away now.
    pub(super) fn is_in_step(&self) -> bool {
        matches!(self.stage, Stage::Renewing { .. } | Stage::Settling { .. })
    }

    pub(super) fn instance(&self) -> Option<&Name> {
        match &self.stage {
            Stage::Building { instance, .. }
            | Stage::Renewing { instance, .. }
            | Stage::Settling { instance, .. }
            | Stage::Dismissing { spare: instance } => Some(instance),
            Stage::Choosing { built, .. } => built.as_ref(),
            Stage::Over { touched, .. } => touched.as_ref(),
        }
    }

    /// The instance that is no longer what it was before, and not yet renewed.
    pub(super) fn touched(&self) -> Option<&Name> {
        match &self.stage {
            Stage::Renewing { .. } | Stage::Settling { .. } | Stage::Over { .. } => self.instance(),
            Stage::Choosing { .. } | Stage::Building { .. } | Stage::Dismissing { .. } => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Choosing { waiting, .. } => waiting.as_ref().map(|it| it.give_up),
            Stage::Renewing { give_up, .. } => *give_up,
            Stage::Settling { until, .. } => Some(*until),
            Stage::Building { .. } | Stage::Dismissing { .. } | Stage::Over { .. } => None,
        }
    }

    pub(super) fn step(&self, instance: Option<&Instance>) -> &'static str {
        match &self.stage {
            Stage::Choosing { .. } if self.paused => "paused",
            Stage::Choosing { .. } => "waiting",
            Stage::Building { .. } => "build",
            Stage::Dismissing { .. } => {
                let drains = instance.and_then(Instance::stop).is_some_and(Stop::is_draining);
                if drains { "draining" } else { "stopping" }
            }
            Stage::Renewing { .. } => match instance.map(|it| &it.phase) {
                Some(Phase::Leaving(_, stop)) if stop.is_draining() => "draining",
                Some(Phase::Leaving(..) | Phase::Sweeping(_)) => "stopping",
                Some(Phase::Up(_)) => "readiness",
                Some(Phase::Idle(_) | Phase::Spawning(_)) | None => "starting",
            },
            Stage::Settling { .. } => "settle",
            Stage::Over { outcome: Outcome::Done, .. } => "done",
            Stage::Over { outcome: Outcome::Halted(_), .. } => "halted",
            Stage::Over { outcome: Outcome::Aborted, .. } => "aborted",
        }
    }

    pub(super) fn sheet(&self, instance: Option<&Instance>) -> RolloutSheet {
        let (halted, ended) = match &self.stage {
            Stage::Over { at, outcome: Outcome::Halted(why), .. } => (Some(why.clone()), Some(*at)),
            Stage::Over { at, outcome: Outcome::Done | Outcome::Aborted, .. } => (None, Some(*at)),
            Stage::Choosing { .. }
            | Stage::Building { .. }
            | Stage::Renewing { .. }
            | Stage::Settling { .. }
            | Stage::Dismissing { .. } => (None, None),
        };
        RolloutSheet {
            by: self.by.clone(),
            began: self.began,
            step: self.step(instance),
            instance: self.instance().cloned(),
            renewed: self.renewed.clone(),
            of: self.of,
            paused: self.paused,
            aborting: self.aborted_by.is_some(),
            rollback: self.rollback,
            halted,
            ended,
        }
    }

    /// What a difference means that something can be seen to have moved.
    pub(super) fn mark(&self) -> (&'static str, Option<Name>, usize, usize) {
        (self.step(None), self.instance().cloned(), self.renewed.len(), self.of)
    }

    /// `rolling restart of web`, `rollback of web`.
    pub(super) fn title(&self, service: &Name) -> String {
        let what = if self.rollback { "rollback" } else { "rolling restart" };
        format!("{what} of {service}")
    }

    pub(super) fn go_on(&mut self) {
        self.stage = Stage::Choosing { built: None, waiting: None };
    }

    pub(super) fn is_due(&self, name: &Name) -> bool {
        let targeted = self.targets.as_ref().is_none_or(|it| it.contains(name));
        targeted && !self.mishaps.contains_key(name)
    }
}
