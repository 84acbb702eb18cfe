//! One run of a probe: ask, with a limit, and say what came of it.
//!
//! What a target has said until the limit is kept: an answer of 200 whose body
//! never ends is another failure than no answer.

use std::time::Duration;

use reqwest::Client;

use super::exec::{self, ExecCheck, Runner};
use super::http::{self, Question};
use super::{Check, Outcome, Probe, grpc, tcp};

/// How much of a body or an output is kept for the screen.
const KEPT: usize = 1024;

/// What all probes share. Cheap to clone.
#[derive(Clone)]
pub struct Checker {
    client: Client,
    runner: Runner,
}

/// The HTTP client of the probes could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the HTTP client of the probes")]
pub struct ClientError(#[source] reqwest::Error);

impl Checker {
    /// Prepares the shared client; `runner` runs the commands of exec probes.
    ///
    /// # Errors
    ///
    /// When the client cannot be set up.
    pub fn new(runner: Runner) -> Result<Self, ClientError> {
        Ok(Self { client: http::client().map_err(ClientError)?, runner })
    }
}

/// A probe with its texts parsed.
pub(super) struct Prepared {
    question: Kind,
    timeout: Duration,
}

enum Kind {
    Http(Question),
    Tcp {
        host: String,
        port: u16,
    },
    Grpc(grpc::Question),
    Exec(ExecCheck),
    /// Its texts make no sense, for instance after `{names}` were expanded:
    /// every run fails and says why.
    Unusable(String),
}

/// What is known of the answer so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) status: Option<i32>,
    kept: Vec<u8>,
    received: u64,
}

impl Seen {
    /// Counts a piece of the body and keeps its part of the first KiB.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let room = KEPT - self.kept.len();
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        self.received += piece.len() as u64;
    }
}

impl Prepared {
    pub(super) fn new(probe: Probe) -> Self {
        let timeout = probe.timeout;
        let question = match probe.check {
            Check::Http { host, port, path, headers, expect } => {
                Question::new(&host, port, &path, &headers, &expect)
                    .map_or_else(Kind::Unusable, Kind::Http)
            }
            Check::Tcp { host, port } => Kind::Tcp { host, port },
            Check::Grpc { host, port, service } => {
                grpc::Question::new(&host, port, &service).map_or_else(Kind::Unusable, Kind::Grpc)
            }
            Check::Exec { argv, directory, environment, user, rights } => {
                Kind::Exec(ExecCheck { argv, directory, environment, user, rights, timeout })
            }
        };
        Self { question, timeout }
    }

    /// Asks once; ends at the timeout at the latest.
    pub(super) async fn run(&self, checker: &Checker) -> Outcome {
        let mut seen = Seen::default();
        let asking = tokio::time::timeout(self.timeout, self.ask(checker, &mut seen));
        let (answer, latency) = timed(asking).await;
        let verdict = answer.unwrap_or_else(|_| Err(self.too_late(&seen)));
        Outcome {
            ok: verdict.is_ok(),
            latency,
            status: seen.status,
            body: seen.kept,
            error: verdict.err(),
        }
    }

    async fn ask(&self, checker: &Checker, seen: &mut Seen) -> Result<(), String> {
        match &self.question {
            Kind::Http(question) => question.ask(&checker.client, seen).await,
            Kind::Tcp { host, port } => tcp::ask(host, *port).await,
            Kind::Grpc(question) => question.ask(seen).await,
            Kind::Exec(check) => exec::ask(&checker.runner, check, seen).await,
            Kind::Unusable(why) => Err(why.clone()),
        }
    }

    fn too_late(&self, seen: &Seen) -> String {
        let limit = self.timeout;
        match (&self.question, seen.status) {
            (Kind::Exec(_), _) => format!("did not end within {limit:?}"),
            (Kind::Tcp { .. }, _) => format!("no connection within {limit:?}"),
            (_, Some(status)) => format!(
                "answered {status}, but the body did not end within {limit:?} ({} bytes came)",
                seen.received
            ),
            (_, None) => format!("no answer within {limit:?}"),
        }
    }
}

/// Measures how long `work` takes.
#[expect(clippy::disallowed_methods, reason = "the latency of an answer is what a probe measures")]
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = tokio::time::Instant::now();
    let result = work.await;
    (result, start.elapsed())
}
