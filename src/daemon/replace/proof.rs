//! Whether a program can be the next daemon, asked of itself: it is run beside this one with the same
//! arguments and `--check`, and says its version after it has read the configuration and the state.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estate;
use crate::config::trust::Trust;
use crate::daemon::systemd::OWN_VARIABLES;
use crate::process::command::{self, Command};
use crate::process::reaper::{Reaper, Status};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// Bytes of what it says that are kept.
const KEEP: usize = 4096;

/// The last line of what `opsdeck daemon --check` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The version of the program.
    pub opsdeck: String,
    /// The newest form of an [`estate::Estate`] that it can take over.
    pub estate: u32,
}

impl Proof {
    /// Of this program.
    pub fn own() -> Self {
        Self { opsdeck: env!("CARGO_PKG_VERSION").into(), estate: estate::VERSION }
    }
}

/// Runs the proof; returns the version of the program, or why it cannot take over.
pub async fn of(reaper: &Reaper, program: &Path, arguments: &[OsString]) -> Result<String, String> {
    is_trusted(program)?;
    let words = [program.as_os_str()].into_iter().chain(arguments.iter().map(OsString::as_os_str));
    let words = words.map(|it| it.to_str().map(str::to_owned).ok_or("has a name that is no text"));
    let mut argv = words.collect::<Result<Vec<_>, _>>()?;
    argv.push("--check".into());
    let text = |it: OsString| it.into_string().ok();
    let environment: Vec<_> = super::environment()
        .into_iter()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        // It is not the one that systemd waits for.
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .collect();
    let ran = command::run(
        reaper,
        Command {
            argv: &argv,
            directory: None,
            environment: &environment,
            switch: None,
            timeout: PATIENCE,
            keep: KEEP,
            leaves_nothing: true,
            outlives: false,
        },
    )
    .await
    .map_err(|err| format!("cannot be run: {err}"))?;
    if ran.timed_out {
        return Err(format!("had not read the configuration and the state after {PATIENCE:?}"));
    }
    verdict(ran.status, &String::from_utf8_lossy(&ran.output))
}

fn verdict(status: Status, said: &str) -> Result<String, String> {
    match status {
        Status::Exited(0) => (),
        Status::Exited(code) => {
            return Err(format!("failed its check with {code}: {}", said.trim()));
        }
        Status::Signaled { signal, .. } => {
            let signal = crate::fleet::Signal(signal);
            return Err(format!("was ended by {signal} in its check"));
        }
    }
    let last = said.lines().rfind(|it| !it.trim().is_empty()).unwrap_or_default();
    let proof: Proof = serde_json::from_str(last)
        .map_err(|_| "is no opsdeck that can take over: it did not say its version".to_owned())?;
    if proof.estate < estate::VERSION {
        return Err(format!("is too old to take over: it is opsdeck {}", proof.opsdeck));
    }
    Ok(proof.opsdeck)
}

/// A daemon of root's becomes nothing that others can write.
fn is_trusted(program: &Path) -> Result<(), String> {
    std::fs::metadata(program).map_err(|err| format!("cannot be looked at: {err}"))?;
    match Trust::of_root() {
        Some(trust) => trust.path(program).map_err(|it| format!("is not taken: {it}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_it_can_take_over_does() {
        let ours = serde_json::to_string(&Proof::own()).unwrap();
        let said = format!("a notice\n{ours}\n");
        assert_eq!(verdict(Status::Exited(0), &said).unwrap(), env!("CARGO_PKG_VERSION"));

        let refused = |status, said| verdict(status, said).unwrap_err();
        assert_eq!(
            refused(Status::Exited(1), "opsdeck: the configuration has mistakes:\n"),
            "failed its check with 1: opsdeck: the configuration has mistakes:"
        );
        assert_eq!(
            refused(Status::Signaled { signal: 11, core: false }, ""),
            "was ended by SIGSEGV in its check"
        );
        let silent = "is no opsdeck that can take over: it did not say its version";
        assert_eq!(refused(Status::Exited(0), "hello\n"), silent);
        assert_eq!(
            refused(Status::Exited(0), "{\"opsdeck\":\"0.0.9\",\"estate\":0}"),
            "is too old to take over: it is opsdeck 0.0.9"
        );
    }
}
