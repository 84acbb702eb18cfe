//! What comes in and how it is served: counts of gateways, what servers say themselves, the last ten minutes.

use serde::{Deserialize, Serialize};

/// `[gateway.NAME]` as it stands. Totals grow from the start of its process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gateway {
    pub name: String,
    /// `embedded`, `nginx`.
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
