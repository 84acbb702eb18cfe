//! Probes that run a command: exit code 0 passes.
//!
//! Nothing is spawned here. Children are spawned and reaped in one place of the
//! daemon, so the probe is handed a [`Runner`] and only asks it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Rights;
use super::check::Seen;

/// Runs a command to its end.
///
/// When the returned future is dropped, or after [`ExecCheck::timeout`], the
/// runner kills the command and all it has started. The error says why the
/// command could not be started.
pub type Runner =
    Arc<dyn Fn(ExecCheck) -> BoxFuture<'static, Result<ExecOutcome, String>> + Send + Sync>;

/// A command to run once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCheck {
    pub argv: Vec<String>,
    pub directory: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    pub user: Option<String>,
    pub rights: Rights,
    /// How long the answer is waited for.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Absent when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout and stderr; the runner keeps at least the first
    /// KiB and bounds the rest.
    pub output: Vec<u8>,
}

/// Runs the command and leaves exit code and output in `seen`.
pub(super) async fn ask(runner: &Runner, check: &ExecCheck, seen: &mut Seen) -> Result<(), String> {
    let ExecOutcome { code, output } = runner(check.clone()).await?;
    seen.status = code;
    seen.take(&output);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(format!("exited with {code}")),
        None => Err("ended by a signal".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::testing::{exec_probe, once_with, runner};

    async fn outcome_of(
        result: Result<ExecOutcome, String>,
    ) -> (bool, Option<i32>, Option<String>) {
        let runner = runner(move |_| {
            let result = result.clone();
            async move { result }
        });
        let outcome = once_with(exec_probe(Duration::from_secs(1)), runner).await;
        (outcome.ok, outcome.status, outcome.error)
    }

    fn ended(code: Option<i32>) -> Result<ExecOutcome, String> {
        Ok(ExecOutcome { code, output: Vec::new() })
    }

    #[tokio::test]
    async fn exit_code_0_passes_and_nothing_else() {
        assert_eq!(outcome_of(ended(Some(0))).await, (true, Some(0), None));
        assert_eq!(
            outcome_of(ended(Some(2))).await,
            (false, Some(2), Some("exited with 2".to_owned()))
        );
        assert_eq!(
            outcome_of(ended(None)).await,
            (false, None, Some("ended by a signal".to_owned()))
        );
        assert_eq!(
            outcome_of(Err("no such file: /bin/chek".to_owned())).await,
            (false, None, Some("no such file: /bin/chek".to_owned()))
        );
    }

    #[tokio::test]
    async fn the_first_kib_of_the_output_is_kept() {
        let chatty = runner(|_| async {
            Ok(ExecOutcome { code: Some(0), output: b"0123456789".repeat(200) })
        });
        let outcome = once_with(exec_probe(Duration::from_secs(1)), chatty).await;
        assert_eq!(outcome.body, b"0123456789".repeat(200)[..1024]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_given_up_at_the_timeout() {
        let outcome =
            once_with(exec_probe(Duration::from_secs(1)), runner(|_| std::future::pending())).await;
        assert_eq!(outcome.error.as_deref(), Some("did not end within 1s"));
        assert_eq!(outcome.latency.as_millis(), 1_000);
    }
}
