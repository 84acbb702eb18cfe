//! The fleet as it is, for showing. Plain data; `daemon/publish.rs` turns it into `api` types.

use std::collections::BTreeMap;
use std::time::Duration;

use super::input::{Countdown, Exit, Goal, InFlight};
use super::time::Timestamp;
use super::words::{By, Name, Process, Signal};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Stopped,
    Spawning,
    Starting,
    Running,
    Draining,
    Stopping,
    Backoff,
    Exited,
    Fatal,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSheet {
    pub name: Name,
    /// Up if any instance is wanted up.
    pub goal: Goal,
    /// Who runs its processes: `local`, `pidfile`.
    pub engine: &'static str,
    pub profile: Name,
    /// Instances that are ready, of those wanted.
    pub ready: usize,
    pub wanted: usize,
    /// Some instance runs what an older configuration said.
    pub stale: bool,
    /// There are rollback commands, and something to roll back.
    pub can_roll_back: bool,
    /// The one under way, or the last one.
    pub rollout: Option<RolloutSheet>,
    /// In file order; those that are gone from the file and have not ended yet come last.
    pub instances: Vec<Sheet>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    pub name: Name,
    pub service: Name,
    pub goal: Goal,
    pub condition: Condition,
    pub process: Option<Process>,
    pub generation: u64,
    pub port: Option<u16>,
    pub backup: bool,
    pub stale: bool,
    pub live: Option<bool>,
    pub ready: Option<bool>,
    pub in_rotation: bool,
    pub held_by: Option<By>,
    pub in_flight: Option<InFlight>,
    pub countdown: Option<Countdown>,
    pub retry_at: Option<Timestamp>,
    /// Restarts that no operator asked for.
    pub restarts: u64,
    /// Since when it is in this condition.
    pub since: Timestamp,
    /// Since when the process runs.
    pub started: Option<Timestamp>,
    pub last_exit: Option<LastExit>,
    /// Of what runs, the last one.
    pub reload: Option<ReloadSheet>,
    /// One line.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastExit {
    pub at: Timestamp,
    pub exit: Exit,
    /// What was in flight when it ended.
    pub lost: Option<InFlight>,
    /// `by itself`, `SIGTERM by alice`, `by the kernel: out of memory`.
    pub cause: String,
}

/// A reload, under way or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadSheet {
    /// Which one it is since the process was started.
    pub number: u64,
    pub by: By,
    pub signal: Signal,
    pub since: Timestamp,
    /// Workers that are gone and have a successor, of those that were there.
    pub renewed: usize,
    pub of: usize,
    /// Those that are gone, and how long each took; zero: nobody looked.
    pub gone: Vec<(Process, Duration)>,
    pub ended: Option<Timestamp>,
    /// All were renewed.
    pub complete: bool,
    /// How it ended; empty before.
    pub told: String,
}

/// A rollout, running or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutSheet {
    pub by: By,
    pub began: Timestamp,
    pub step: &'static str,
    pub instance: Option<Name>,
    pub renewed: Vec<Name>,
    pub of: usize,
    pub paused: bool,
    pub aborting: bool,
    pub rollback: bool,
    pub halted: Option<String>,
    pub ended: Option<Timestamp>,
}

/// What a rolling restart would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub min_ready: u32,
    pub steps: Vec<PlanStep>,
    pub downtime: Option<String>,
    pub blocked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    pub instance: Name,
    /// `not ready`, `backup`, `primary`.
    pub because: &'static str,
    pub ready: bool,
}

/// Values of `--set`, by service.
pub type Values = BTreeMap<String, String>;
