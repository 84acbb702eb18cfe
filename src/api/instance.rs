//! One instance: what runs, how it does, how it ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Goal, Load, ProcessDetail, State, Traffic};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    pub name: String,
    pub service: String,
    pub goal: Goal,
    pub state: State,
    pub pid: Option<i32>,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot. With the pid, the identity.
    pub start_time: Option<u64>,
    pub generation: u64,
    pub port: Option<u16>,
    pub backup: bool,
    pub stale: bool,
    /// Verdicts of the probes; `null` while nothing is known or nothing runs.
    pub live: Option<bool>,
    pub ready: Option<bool>,
    pub in_rotation: bool,
    /// Who holds it out of rotation.
    pub held_by: Option<String>,
    pub in_flight: Option<u32>,
    /// False where `in_flight` is an estimate from the kernel's sockets (shown as `~7`).
    pub in_flight_exact: bool,
    /// Connections that wait in the accept queues of its port; in the one of a listener that is full, if one is.
    pub accept_queue: Option<u32>,
    /// How many may wait there: the backlog of listen(2), as the kernel granted them; `null` while nobody looks.
    pub accept_limit: Option<u32>,
    /// Connections of its port, those in the accept queue included; `null` while nobody looks.
    pub connections: Option<u32>,
    pub oldest_ms: Option<u64>,
    pub requests_per_second: Option<f64>,
    pub p99_ms: Option<u64>,
    /// What the gateway in front of it counted.
    pub traffic: Option<Traffic>,
    /// What it says of its load itself, where `load` says how it is asked; `null` while nobody asks.
    pub load: Option<Load>,
    /// The gateway could not reach it lately, and gives it no requests while another is left.
    pub ejected: bool,
    /// The one deadline of a stop.
    pub countdown: Option<Countdown>,
    /// When the next start is tried, in `backoff`.
    pub retry_at: Option<Timestamp>,
    pub cpu_percent: Option<f64>,
    pub memory_bytes: Option<u64>,
    /// Restarts that no operator asked for.
    pub restarts: u64,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// Since when the process runs.
    pub started: Option<Timestamp>,
    pub last_exit: Option<LastExit>,
    /// The last reload of what runs, under way or over.
    pub reload: Option<Reload>,
    /// The last result of each probe, by `startup`, `liveness`, `readiness`.
    pub probes: BTreeMap<String, ProbeResult>,
    /// One line: why it is in this state.
    pub why: String,
    /// Its tree, each process after its parent, where that was asked for: `GET /v1/deck?tree=all`, `status --json`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessDetail>,
    /// How many processes there are beside those.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_processes: u32,
}

impl Instance {
    /// Whoever connects now waits for nothing: nobody accepts, and no more fit.
    pub fn is_backlog_full(&self) -> bool {
        let queue = self.accept_queue.zip(self.accept_limit);
        queue.is_some_and(|(waiting, limit)| waiting > 0 && waiting >= limit)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(it: &u32) -> bool {
    *it == 0
}

/// A reload: the workers that were there are gone one after another, and others run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// Which one it is since the process was started, from 1 on.
    pub number: u64,
    pub by: String,
    pub signal: String,
    pub since: Option<Timestamp>,
    /// Workers that are gone and have a successor, of those that were there.
    pub renewed: u32,
    pub of: u32,
    /// How long those took that are gone, in the order in which they went; the first 64.
    pub gone: Vec<GoneWorker>,
    pub ended: Option<Timestamp>,
    /// It has ended, and every worker was renewed.
    pub complete: bool,
    /// How it ended; empty before.
    pub told: String,
}

/// A worker that a reload has replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GoneWorker {
    pub pid: i32,
    /// From the signal until it was seen to be gone; 0: it went while no daemon looked.
    pub took_ms: u64,
}

/// From the first moment of the drain until SIGKILL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Countdown {
    pub elapsed_ms: u64,
    pub max_wait_time_ms: u64,
    pub kill_at: Option<Timestamp>,
    /// The last signal that was sent; `null` while it only drains.
    pub rung: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastExit {
    pub at: Option<Timestamp>,
    pub code: Option<i32>,
    /// Name of the signal that ended it.
    pub signal: Option<String>,
    /// Requests that were in flight when it ended.
    pub lost: u32,
    /// False where `lost` is an estimate.
    pub lost_exact: bool,
    /// `by itself`, `SIGTERM by alice`, `by the kernel: out of memory`, …
    pub cause: String,
    /// The last line that it wrote, once the logger has it; control characters included.
    pub words: Option<String>,
}

/// The last result of a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeResult {
    pub at: Option<Timestamp>,
    pub ok: bool,
    pub latency_ms: f64,
    /// HTTP status, gRPC status code or exit code.
    pub status: Option<i32>,
    /// The first KiB of the body or of the output, control characters included: strip before showing.
    /// `null`: it was not kept.
    pub body: Option<String>,
    pub error: Option<String>,
    /// How many results like this in a row.
    pub in_a_row: u32,
}
