//! Records of the journal, and what hooks read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RolloutMark;

/// The kinds of events, in the order of the alphabet.
pub const EVENT_KINDS: &[&str] = &[
    "adopted",
    "api-socket",
    "backoff",
    "config-applied",
    "config-pending",
    "config-refused",
    "drain-over",
    "draining",
    "engine",
    "exited",
    "extended",
    "fatal",
    "found",
    "gateway",
    "goal",
    "held",
    "hook-ended",
    "hook-failed",
    "hook-repeated",
    "hook-resumed",
    "hook-suppressed",
    "kill-slow",
    "left-running",
    "live-failed",
    "logger",
    "not-found",
    "not-left-running",
    "not-ready",
    "output-kept",
    "output-lost",
    "profile-guessed",
    "ready",
    "released",
    "reload",
    "reload-incomplete",
    "reload-resumed",
    "reloaded",
    "renamed",
    "replace",
    "replace-failed",
    "replaced",
    "restart",
    "rollout-aborted",
    "rollout-finished",
    "rollout-halted",
    "rollout-paused",
    "rollout-resumed",
    "rollout-started",
    "rollout-step",
    "shutdown",
    "signal",
    "signal-failed",
    "signal-finished",
    "signal-halted",
    "signal-resumed",
    "signal-sent",
    "signal-skipped",
    "socket-kept",
    "spawn-failed",
    "stale",
    "start",
    "start-command",
    "started",
    "startup-failed",
    "state-file",
    "stop-command",
    "stopped",
    "stray",
    "survivors-killed",
    "worker-missing",
    "worker-renewed",
    "worker-stays",
];

/// One record of the journal. `seq` has no gaps within one journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub seq: u64,
    pub at: Timestamp,
    /// Machine-readable kind, kebab-case: `exited`, `rollout-halted`, `signal-sent`, …
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Who did it; absent where opsdeck did it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// A sentence for people, without the name of the instance in front.
    pub message: String,
    /// The evidence, where there is some: probe bodies, last lines, exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Vec<String>>,
    /// On `exited`: requests that were in flight then, where there were some and nobody else tells what became of them.
    /// On `gateway`: requests that were cut and could not be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u32>,
    /// On what is told of a rollout: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<RolloutMark>>,
    /// On `exited`: how the stop went that it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Box<StopMark>>,
}

/// How long a process took to end once it was told to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopMark {
    /// The first signal, unless SIGKILL was the only one.
    pub signal: Option<String>,
    /// From the first signal to the exit.
    pub after_ms: u64,
    /// Requests in flight at the exit; a gateway may have sent them again, `lost` of the event knows. Older events lack it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Those of them that came when it was being stopped already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
    /// From the first signal to the moment when the last request was cut, where the kernel told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_after_ms: Option<u64>,
    /// From the first moment of the drain to SIGKILL.
    pub max_wait_time_ms: u64,
    /// SIGKILL was needed: `max_wait_time` was over.
    pub killed: bool,
}

/// What a hook reads on its standard input: one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCall {
    /// `fatal`, `rollout_halted`, `lost`.
    pub event: String,
    pub deck: String,
    pub host: String,
    pub at: Option<Timestamp>,
    /// Its number in the journal.
    pub seq: u64,
    pub service: Option<String>,
    pub instance: Option<String>,
    /// A sentence for people; it may hold what services wrote, control characters included.
    pub message: String,
    /// Probe bodies, last lines, exit status, likewise.
    pub evidence: Vec<String>,
    /// Requests that were lost.
    pub lost: u32,
    /// Calls of this kind since the last one that were not made because there were too many.
    pub suppressed: u64,
}

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    pub uid: u32,
    /// Under sudo the login user's name.
    pub login: String,
    /// Pid of the client.
    pub pid: i32,
    /// `SSH_CONNECTION` of the client, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
}
