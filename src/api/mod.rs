//! Every type on the wire: the daemon's API, `--json` output, the journal.
//!
//! HTTP/1.1 and JSON on the daemon's Unix socket. Times are RFC 3339 in UTC, durations are integer
//! milliseconds, what is absent is `null`. Readers skip fields they do not know, so a client may be one
//! release older than its daemon. Nothing here decides anything; `daemon/publish.rs` is the only
//! place that translates the fleet into these types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

mod brief;
mod detail;
mod filter;
mod line;
mod logs;
mod request;
mod rollout;

pub use brief::BriefService;
pub use detail::*;
pub use filter::EventFilter;
pub use logs::{LogLine, LogPage, LogPlace};
pub use request::*;
pub use rollout::*;

/// `GET /v1/deck`, `opsdeck status --json`: everything that is managed, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deck {
    /// `[deck] name`, by default the host name.
    pub deck: String,
    pub host: String,
    pub revision: u64,
    /// Version of the daemon.
    pub version: String,
    /// Pid of the daemon.
    pub pid: u32,
    /// The daemon's clock when it wrote this.
    pub now: Option<Timestamp>,
    pub config: Config,
    /// Something starts this daemon at boot.
    pub at_boot: bool,
    /// What the asking client may do.
    pub role: Role,
    /// Standing warnings: the state directory cannot be written, the logger is down.
    pub notices: Vec<String>,
    /// In the order of the configuration file.
    pub services: Vec<Service>,
}

/// The configuration that runs, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub path: Option<String>,
    /// Why the file as it is now was not applied: the first line of each mistake.
    pub error: Option<String>,
    /// Changes of a watched file that wait for a word because they stop something: `stops queue`.
    pub pending: Vec<String>,
    /// `[deck] confirm`.
    pub confirm: Confirm,
    /// How the deck should look.
    pub look: Box<Look>,
    /// `[deck] title`: the deck says how the fleet is in the title of the terminal's window.
    pub title: bool,
    /// `[deck] notify`.
    pub notify: Notify,
    /// `[keys]`: action name to keys, only what differs from the built-in table.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// `[deck] theme`, `mouse`, `ascii` and `show_cost`; what the deck itself was started with comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// The name of a theme; empty: the default one.
    pub theme: String,
    pub mouse: bool,
    pub ascii: bool,
    /// Tell how many bytes the screen costs.
    pub show_cost: bool,
}

/// How the deck has the terminal notify its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// OSC 9, as iTerm2, Windows Terminal, kitty, foot and others know it.
    Osc9,
    /// OSC 777, as urxvt, VTE and others know it.
    Osc777,
    #[default]
    #[serde(other)]
    Off,
}

/// When the deck asks before it acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    #[default]
    Guard,
    Always,
    Never,
}

/// What a client may do, decided by its socket credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Viewer,
    Operator,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    #[default]
    Up,
    Down,
}

/// The life of an instance (design.md §3). A service shows the state of its worst instance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Stopped,
    Spawning,
    Starting,
    Running,
    Draining,
    Stopping,
    Backoff,
    Exited,
    Fatal,
    #[serde(other)]
    Lost,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub name: String,
    /// `local`.
    pub engine: String,
    pub profile: String,
    pub goal: Goal,
    pub state: State,
    /// Instances that are ready, of those wanted.
    pub ready: u32,
    pub wanted: u32,
    /// Some instance runs what an older configuration said.
    pub stale: bool,
    pub rollout: Option<Rollout>,
    /// What a rolling restart of this service would be able to do now.
    pub can_roll_back: bool,
    /// What stands in front of it.
    pub gateway: Option<Gateway>,
    #[serde(deserialize_with = "exactly")]
    pub instances: Vec<Instance>,
}

/// Most services have one instance, and reading JSON leaves room for four: in a large fleet, megabytes.
fn exactly<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Instance>, D::Error> {
    let mut instances = Vec::deserialize(from)?;
    instances.shrink_to_fit();
    Ok(instances)
}

/// `[gateway.NAME]` as it stands. Totals grow from the start of its process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gateway {
    pub name: String,
    /// `embedded`.
    pub provider: String,
    /// Where clients come in.
    pub listen: Option<String>,
    /// Its process runs.
    pub up: bool,
    /// Why clients cannot come in.
    pub trouble: Option<String>,
    /// Of clients, open now.
    pub connections: u64,
    /// Requests that wait for an instance now, and all that ever did.
    pub held: u64,
    pub held_total: u64,
    /// Answers that the gateway made itself: a broken reply, nobody ready, too late.
    pub made_502: u64,
    pub made_503: u64,
    pub made_504: u64,
    /// Requests that it refused (4xx).
    pub refused: u64,
    /// At all instances together.
    pub in_flight: u64,
    pub oldest_ms: Option<u64>,
    pub requests_per_second: f64,
    pub traffic: Traffic,
}

/// What a gateway counted at one instance, or at all of a service. Totals only grow while the daemon lives:
/// neither a new generation nor another gateway process takes anything from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Given to an instance, answered or not.
    pub requests: u64,
    /// Answered, by class of their status; `1xx` are upgrades.
    #[serde(rename = "1xx")]
    pub informational: u64,
    #[serde(rename = "2xx")]
    pub success: u64,
    #[serde(rename = "3xx")]
    pub redirection: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// Given to another instance after one did not take them.
    pub retried: u64,
    /// Lost by an instance that had them.
    pub cut: u64,
    /// Given up by their clients.
    pub abandoned: u64,
    pub connect_failed: u64,
    /// Bytes to the instance and from it.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Upgraded connections that are open.
    pub tunnels: u64,
    /// How long replies took, over the last ten seconds.
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
}

/// What a server says of its load when it is asked. What it does not say is `null`, and all of it while it does
/// not answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Who is asked, and where: `swoole http://127.0.0.1:9502/stats`.
    pub source: String,
    /// Why it says nothing.
    pub error: Option<String>,
    /// Since its counters began.
    pub requests: Option<u64>,
    /// Without those that asked for this.
    pub requests_per_second: Option<f64>,
    /// Without the request that asked.
    pub in_flight: Option<u64>,
    /// False where it is some seconds old or not all of it.
    pub in_flight_exact: bool,
    /// Of clients, open.
    pub connections: Option<u64>,
    /// Processes that work; or, of Puma, its worker processes, and below its threads.
    pub workers: Option<u64>,
    pub busy: Option<u64>,
    pub idle: Option<u64>,
    /// What waits within: tasks of Swoole, requests of Puma without a thread.
    pub queued: Option<u64>,
    /// Of the process that answered.
    pub coroutines: Option<u64>,
    /// Connections that php-fpm has not accepted yet, and how many may wait.
    pub backlog: Option<u64>,
    pub backlog_limit: Option<u64>,
}

/// `GET /v1/services/{name}/history` and the same of an instance: what the gateway in front of it counted and
/// what its processes used in the last ten minutes, oldest first. The last point is now; a list may be shorter
/// than another, or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Between two points.
    pub step_ms: u64,
    /// The most that were in flight within the step.
    pub in_flight: Vec<u16>,
    pub requests_per_second: Vec<f64>,
    /// Of one core, of an instance's processes together; `null` while nothing ran.
    pub cpu_percent: Vec<Option<f64>>,
    pub memory_bytes: Vec<Option<u64>>,
}

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

impl Service {
    /// A rollback would take back what is well: its last rollout has not halted.
    pub fn is_well_rolled(&self) -> bool {
        self.rollout.as_ref().is_none_or(|it| it.ended.is_some() && it.halted.is_none())
    }
}

impl Instance {
    /// Whoever connects now waits for nothing: nobody accepts, and no more fit.
    pub fn is_backlog_full(&self) -> bool {
        let queue = self.accept_queue.zip(self.accept_limit);
        queue.is_some_and(|(waiting, limit)| waiting > 0 && waiting >= limit)
    }
}

impl Rollout {
    /// It goes on: neither over nor halted.
    pub fn is_under_way(&self) -> bool {
        self.ended.is_none() && self.halted.is_none()
    }
}

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
    /// Connections that wait in the accept queue of its port.
    pub accept_queue: Option<u32>,
    /// How many may wait there: the backlogs of listen(2), as the kernel granted them; `null` while nobody looks.
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
    pub body: String,
    pub error: Option<String>,
    /// How many results like this in a row.
    pub in_a_row: u32,
}

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
    /// On `exited`: requests that were in flight then, where there were some.
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

/// One line of `GET /v1/watch`, which starts with a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", try_from = "line::Line")]
pub enum Change {
    /// Replaces everything. The first line, and again whenever the client lagged.
    Snapshot { deck: Box<Deck>, events: Vec<Event> },
    /// Replaces the services named, takes away those removed, appends the events.
    Change {
        revision: u64,
        now: Timestamp,
        services: Vec<Service>,
        removed: Vec<String>,
        events: Vec<Event>,
        /// Set when the configuration or the notices changed.
        config: Option<Config>,
        notices: Option<Vec<String>>,
    },
    /// Of a later release.
    Unknown,
}

/// `application/problem+json` (RFC 9457): what, why, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{title}{}{}", if detail.is_empty() { "" } else { ": " }, detail)]
pub struct Problem {
    /// `about:blank`, or one of [`problem`].
    #[serde(rename = "type")]
    pub kind: String,
    pub status: u16,
    /// What could not be done.
    pub title: String,
    /// Why.
    pub detail: String,
    /// What to do.
    pub help: Option<String>,
}

/// The values of [`Problem::kind`].
pub mod problem {
    /// The guard wants the action to be confirmed: `detail` says why it is dangerous.
    pub const CONFIRM: &str = "/problems/confirm";
    /// The target is no longer the process the client saw.
    pub const CHANGED: &str = "/problems/target-changed";
    /// A rollout of the service is under way.
    pub const BUSY: &str = "/problems/rollout-under-way";
    /// The client's user may not do this.
    pub const FORBIDDEN: &str = "/problems/forbidden";
    pub const NOT_FOUND: &str = "/problems/not-found";
    /// It makes no sense in the present state.
    pub const REFUSED: &str = "/problems/refused";
    /// The configuration file has mistakes; `detail` is the rendered list.
    pub const CONFIG: &str = "/problems/config";
    /// The client could not reach the daemon, or did not understand it.
    pub const UNREACHABLE: &str = "/problems/unreachable";
}
