//! `GET /v1/instances/{name}/detail`: one instance looked at closely.
//!
//! Read when somebody asks, never part of the snapshot. What the kernel does not show to the daemon's user is
//! absent, and [`Detail::missing`] says why.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Event, ProbeResult};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    pub instance: String,
    pub service: String,
    /// The daemon's clock when it looked.
    pub now: Option<Timestamp>,
    /// Sentences: what `GET /v1/instances/{name}/why` answers, the advice at its end.
    pub why: Vec<String>,
    /// What the evidence speaks for.
    pub advice: Vec<Advice>,
    /// By `startup`, `liveness`, `readiness`: those that are configured.
    pub probes: BTreeMap<String, ProbePast>,
    /// The tree, each process after its parent.
    pub processes: Vec<ProcessDetail>,
    /// How many processes there are beside those.
    pub more_processes: u32,
    /// What its leader does with signals, by number.
    pub signals: Vec<SignalDetail>,
    /// The last exits, reloads and starts that failed, oldest first.
    pub exits: Vec<Event>,
    /// Of the leader, sorted by name; `null` for viewers. Secrets are masked before they leave the daemon.
    pub environment: Option<Vec<Variable>>,
    /// Of the leader: getrlimit(2).
    pub limits: Vec<Limit>,
    pub files: Option<Files>,
    /// As it is configured.
    pub command: String,
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

/// A piece of advice on evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Advice {
    /// The rule, kebab-case: `own-limit`, `accept-queue-full`, `never-ends`, …
    pub kind: String,
    /// What was seen, with its numbers.
    pub seen: String,
    pub means: String,
    /// What to do.
    pub help: String,
    /// All of that, as it stands in `why`.
    pub sentence: String,
}

/// A probe and what it said lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbePast {
    /// `GET /readiness on port 9502 every 2s, timeout 1s, fails after 3`.
    pub check: String,
    /// Of the last generation, oldest first. Only the newest and the last that failed have their bodies.
    pub results: Vec<ProbeResult>,
}

/// A process of the tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessDetail {
    pub pid: i32,
    /// With the pid, the identity.
    pub start_time: u64,
    /// How far below the leader; 0 also for what was left behind by a dead parent.
    pub depth: u32,
    /// What it is by its profile, where that is known: `master`, `worker`.
    pub role: Option<String>,
    /// Of a process that a reload renews: 1 for those that came before the first reload that this daemon
    /// has watched since the leader was started, and one more for each reload of its role since, whether
    /// that renewed all of them or not. Absent for those that no reload renews.
    pub generation: Option<u64>,
    /// A reload is under way, and this is one of those that it replaces.
    pub leaving: bool,
    /// `R`, `S`, `D`, `Z`, …: proc_pid_stat(5).
    pub state: String,
    /// Its short name.
    pub name: String,
    /// Its arguments as it shows them, control characters included; without what looks secret.
    pub title: String,
    pub started: Option<Timestamp>,
    /// How long ago that was.
    pub age_ms: u64,
    /// Time on a processor since it started.
    pub cpu_ms: u64,
    /// Of one core, as the daemon has measured it last; absent for one that is younger than that.
    pub cpu_percent: Option<f64>,
    /// Resident memory: pages that it shares with others count in full.
    pub memory_bytes: u64,
    /// Its share of that: a page that three use counts for a third (`Pss` of proc_pid_smaps(5)). Absent where
    /// the kernel does not tell the daemon's user.
    pub pss_bytes: Option<u64>,
    pub threads: u32,
    /// Open descriptors.
    pub descriptors: Option<u32>,
}

/// What a process does with a signal, and what that means there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignalDetail {
    /// `SIGUSR1`.
    pub signal: String,
    pub number: i32,
    /// `caught`, `ignored`, `default`.
    pub does: String,
    /// What its profile says that it means: `reload all workers`.
    pub means: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variable {
    pub name: String,
    pub value: String,
    /// Something of the value was secret and is not in it.
    pub masked: bool,
}

/// A line of `/proc/PID/limits`; `unlimited` is a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// `Max open files`.
    pub name: String,
    pub soft: String,
    pub hard: String,
    /// `bytes`, `files`, …; may be empty.
    pub unit: String,
}

/// A TCP port on which a tree listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningPort {
    pub port: u16,
    /// Those that nobody has accepted yet included.
    pub connections: u32,
    /// Connections that wait to be accepted, and how many may.
    pub accept_queue: u32,
    pub accept_limit: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Files {
    /// Open descriptors of the leader by kind: `file`, `socket`, `pipe`, `event`, `device`, `other`.
    pub open: BTreeMap<String, u32>,
    /// Where the tree listens: `0.0.0.0:9502`.
    pub listening: Vec<String>,
    /// What the kernel knows of these ports, IPv4 and IPv6 together.
    pub ports: Vec<ListeningPort>,
    pub cwd: Option<String>,
    /// Ends with ` (deleted)` where the file was replaced since it was started.
    pub exe: Option<String>,
    /// Where its output is.
    pub log: String,
    /// Of what somebody else runs: the file that names its process.
    pub pidfile: Option<String>,
    /// Paths of the Unix sockets at which the tree listens; `@` stands before an abstract name.
    pub unix_sockets: Vec<String>,
}
