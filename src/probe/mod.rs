//! Does health checks: http, tcp, grpc, exec, each on its own jittered schedule.
//!
//! Knows no fleet: it reports results, and what they mean is decided elsewhere.
//! One task per probe ([`run`]), one shared client for all of them
//! ([`Checker`]), and no connection is ever kept: a kept-alive connection of a
//! probe would stop the target from draining. A target that hangs costs its own
//! probe one timeout and nobody else anything.
//!
//! ```text
//! Probe ──► run: wait, check, report, wait, …  ──► Report { key, outcome }
//!                  └► http | tcp | grpc | exec (the runner is handed in)
//! ```

mod check;
mod exec;
mod expect;
mod grpc;
mod grpc_wire;
mod http;
mod pace;
mod schedule;
mod tcp;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use self::check::{Checker, ClientError};
pub use self::exec::{ExecCheck, ExecOutcome, Runner};
pub use self::expect::{StatusRange, parse_body, parse_status};
pub use self::http::{REFUSED, io_words};
pub use self::pace::Haste;
pub use self::schedule::{Report, once, run};

/// What to ask, how often, and how long to wait for the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub check: Check,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    /// What is to be shown before the period holds.
    pub haste: Haste,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// GET `http://127.0.0.1:PORT/path`; 200–399 passes unless `expect` says otherwise.
    Http {
        host: String,
        port: u16,
        path: String,
        headers: BTreeMap<String, String>,
        expect: Expect,
    },
    /// A connection to the port.
    Tcp { host: String, port: u16 },
    /// grpc.health.v1: SERVING passes. Asked of the whole server where the service is empty.
    Grpc { host: String, port: u16, service: String },
    /// Exit code 0. The texts may hold `{names}` of `--set`; the daemon expands them.
    Exec {
        argv: Vec<String>,
        directory: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        user: Option<String>,
        rights: Rights,
    },
}

/// What is taken away from a command beside what its user may not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Nothing that it executes gains any (PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
    /// All it may have, by name, in the order of capabilities(7); `None`: nothing is taken away.
    pub capabilities: Option<Vec<String>>,
}

/// What an HTTP answer must be beyond 200–399.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// `200`, `2xx`, `200-204`.
    pub status: Option<String>,
    /// A regular expression that must match within the first 64 KiB of the body. May hold `{names}` of `--set`.
    pub body: Option<String>,
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub ok: bool,
    pub latency: Duration,
    /// HTTP status, gRPC status code or exit code.
    pub status: Option<i32>,
    /// The first KiB of the body or of the output.
    pub body: Vec<u8>,
    pub error: Option<String>,
}

/// A probe whose texts were read once, for the fuzz targets: a pattern costs more than an answer.
#[doc(hidden)]
pub struct Ready(check::Prepared);

impl Ready {
    pub fn new(probe: Probe) -> Self {
        Self(check::Prepared::new(probe))
    }

    /// As [`once`].
    pub async fn once(&self, checker: &Checker) -> Outcome {
        self.0.run(checker).await
    }
}

/// What a server's answer to a health check means, for the fuzz target.
///
/// # Errors
///
/// When it is no answer.
#[doc(hidden)]
pub fn grpc_reply(bytes: &[u8]) -> Result<u64, String> {
    grpc_wire::reply(bytes)
}
