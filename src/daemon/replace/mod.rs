//! Replaces the program of this daemon in place: same pid, children still its children, sockets open.
//!
//! ```text
//!  asked for ─► proven ─► the last turn ─► execve ─► on trial ─► up
//!                 │                            ▲         │
//!                 └─► refused                  └─────────┘ execve of the program before
//! ```
//!
//! The next program is proven before anything else: run beside us with our own arguments it must be able
//! to read the configuration and the state ([`proof`]). Then this process becomes it; what must not close
//! meanwhile is left to it as an [`Estate`]. It is on trial until it answers: if it ends, panics or takes
//! too long, the process becomes the program before once more ([`trial`]). One that dies without a chance to
//! do so is succeeded by the program before in a process of its own ([`guardian`]). What services are doing goes
//! through the state file, as for any next daemon.

pub mod estate;
pub mod guardian;
pub mod proof;
pub mod trial;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use estate::{Estate, Heir, Past, hand_over};
pub use trial::Trial;

use super::driver::Daemon;
use super::hands::Hands;
use super::http::doorway;
use super::turn::{Reply, Turn};
use crate::api::problem::Kind;
use crate::api::{Done, Problem};
use crate::fleet::By;

/// Characters of a reason in an event.
const LONGEST_REASON: usize = 500;
/// Why nothing takes the place of this daemon any more.
const ENDING: &str = "the daemon is ending";

/// The program that is to be this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    pub program: PathBuf,
    /// What it calls itself.
    pub release: String,
    pub by: Option<By>,
}

/// Who asked for a replacement, and who waits for the answer.
#[derive(Debug)]
pub struct Asked {
    pub by: Option<By>,
    /// `None`: whatever is by now where this program came from.
    pub program: Option<PathBuf>,
    pub reply: Option<Reply<Result<Done, Problem>>>,
}

impl Asked {
    /// Nobody may wait any more.
    fn answer(self, answer: Result<Done, Problem>) {
        if let Some(reply) = self.reply {
            let _ = reply.send(answer);
        }
    }
}

/// Where this program is found again after its file was replaced: as it was called, else where it was.
pub fn own_path() -> Option<PathBuf> {
    let called = std::env::args_os().next().map(PathBuf::from).filter(|it| it.is_absolute());
    let called = called.filter(|it| it.exists());
    called.or_else(|| {
        let path = std::fs::read_link("/proc/self/exe").ok()?;
        Some(without_mark(&path))
    })
}

/// The kernel marks the path of a file that is gone (proc_pid_exe(5)).
pub(super) fn without_mark(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    OsString::from_vec(bytes.to_vec()).into()
}

/// The arguments of this daemon, without its name.
fn own_arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

impl Daemon {
    /// Proves the next program, unless one is being proven.
    pub(super) fn on_replace(&mut self, asked: Asked) {
        let refusal = if self.stopping() {
            Some("all services are being stopped, and the daemon ends with them".to_owned())
        } else if self.succession.is_proving || self.succession.next.is_some() {
            Some("it is being replaced already".to_owned())
        } else if self.is_ending() {
            Some(ENDING.to_owned())
        } else {
            // What is not written would not be known to the next program.
            self.hands.trouble()
        };
        let program = asked.program.clone().or_else(own_path);
        match (refusal, program) {
            (None, Some(program)) => {
                self.succession.is_proving = true;
                self.hands.prove(program, asked);
            }
            (refusal, _) => {
                let why = refusal.unwrap_or_else(|| "it does not find its own file".into());
                self.refuse_replacement(asked, why);
            }
        }
    }

    /// The proof is there: the daemon ends its turns as soon as no command of a rollout runs.
    pub(super) fn on_proven(
        &mut self,
        asked: Asked,
        program: PathBuf,
        proof: Result<String, String>,
    ) {
        self.succession.is_proving = false;
        let release = match proof {
            Ok(_) if self.stopping() => {
                return self.refuse_replacement(asked, "all services are being stopped".into());
            }
            Ok(_) if self.is_ending() => {
                return self.refuse_replacement(asked, ENDING.into());
            }
            Ok(_) if let Some(trouble) = self.hands.trouble() => {
                return self.refuse_replacement(asked, trouble);
            }
            Ok(release) => release,
            Err(why) => {
                let why = format!("{} {why}", program.display());
                return self.refuse_replacement(asked, why);
            }
        };
        let mut message =
            format!("the daemon is replaced by opsdeck {release} ({})", program.display());
        if self.hands.runs.is_busy() {
            message += " once the command of a rollout has ended";
        }
        self.note("replace", asked.by.clone(), message.clone());
        self.succession.next = Some(Successor { program, release, by: asked.by.clone() });
        asked.answer(Ok(Done { message, ..Done::default() }));
    }

    fn refuse_replacement(&mut self, asked: Asked, why: String) {
        let message = format!("the daemon was not replaced: {}", one_line(&why));
        self.note("replace-failed", asked.by.clone(), message);
        let problem = Problem::new(Kind::Refused, "the daemon was not replaced", why);
        asked.answer(Err(problem.with_help("it goes on as it is; nothing was changed")));
    }

    /// Says what became of the replacement that this program is the outcome of.
    pub(super) fn on_taken_over(&mut self, heir: Heir) {
        let Heir { estate, release, by, failed, trial, past, line, .. } = heir;
        let ours = env!("CARGO_PKG_VERSION");
        if let Some(trial) = trial {
            trial.pass();
        }
        if let Some(line) = line {
            line.up();
        }
        doorway::forsake(&estate.door, &self.config.socket);
        self.succession.past = Some(past);
        match failed {
            None => {
                let message = format!("opsdeck {ours} has taken over from {release}");
                self.note("replaced", by, message);
            }
            Some(why) => {
                let message = format!("opsdeck {ours} goes on: {}", one_line(&why));
                self.note("replace-failed", by, message);
            }
        }
    }
}

impl Daemon {
    /// Who is to be this daemon next, and the sockets it is to have. The last thing that is asked.
    pub(super) fn leave(mut self) -> (Option<Successor>, BTreeMap<String, OwnedFd>) {
        let next = self.succession.next.take();
        let sockets = if next.is_some() { self.hands.leave_sockets() } else { BTreeMap::new() };
        (next, sockets)
    }
}

impl Hands {
    fn prove(&self, program: PathBuf, asked: Asked) {
        let (reaper, turns) = (self.reaper.clone(), self.turns.clone());
        self.tasks.spawn(async move {
            let proof = proof::of(&reaper, &program, &own_arguments()).await;
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Proven { asked, program, proof }).await;
        });
    }
}

/// How far a replacement has come.
#[derive(Debug, Default)]
pub struct Succession {
    pub is_proving: bool,
    pub next: Option<Successor>,
    /// The file that this process came from, where it came from one before: it may be the one that runs.
    pub past: Option<Past>,
}

/// The environment of this process without what was only for its own start.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name != OsStr::new(estate::VARIABLE)).collect()
}

/// What a program said, as it fits into an event.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_after_its_file_was_replaced() {
        let path = Path::new("/usr/bin/opsdeck");
        assert_eq!(without_mark(Path::new("/usr/bin/opsdeck (deleted)")), path);
        assert_eq!(without_mark(path), path);
    }
}
