//! Why a process could not be started, in words that name the path and what to do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Refused, Step};

/// Why a process could not be started. `Display` is the whole message, the reason included.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("the command is empty")]
    NoProgram,
    #[error("could not execute {program}: not found in PATH ({search})")]
    NotFound { program: String, search: String },
    #[error("could not execute {}: {}", path.display(), reason(errno))]
    Execute { path: PathBuf, errno: i32 },
    #[error("could not execute {}: its interpreter {interpreter} was not found", path.display())]
    Interpreter { path: PathBuf, interpreter: String },
    #[error("could not enter {}: {}", path.display(), reason(errno))]
    Directory { path: PathBuf, errno: i32 },
    #[error("could not open {} for the output: {}", path.display(), reason(errno))]
    Output { path: PathBuf, errno: i32 },
    #[error("could not use the cgroup {}: {}", path.display(), reason(errno))]
    Cgroup { path: PathBuf, errno: i32 },
    #[error("could not make a process: {}", reason(errno))]
    Clone { errno: i32 },
    #[error("could not prepare a process ({step:?}): {}", reason(errno))]
    Prepare { step: Step, errno: i32 },
    #[error("could not make a pipe: {0}")]
    Pipe(io::Error),
    #[error("could not read what was started from /proc: {0}")]
    Identity(io::Error),
    #[error("a NUL byte cannot be passed to a program: {text:?}")]
    Nul { text: String },
    /// What [`crate::process::exec_as`] reported.
    #[error("{message}")]
    Switch { message: String, errno: i32 },
}

/// What was to be used for a start that failed.
pub(super) struct Tried {
    pub program: PathBuf,
    pub directory: Option<PathBuf>,
    /// The file that the output was to go to, if that was named.
    pub output: Option<PathBuf>,
    pub cgroup: Option<PathBuf>,
}

impl SpawnError {
    /// The number of the kernel's reason, where it was the kernel who refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Execute { errno, .. }
            | Self::Directory { errno, .. }
            | Self::Output { errno, .. }
            | Self::Cgroup { errno, .. }
            | Self::Clone { errno }
            | Self::Prepare { errno, .. }
            | Self::Switch { errno, .. } => Some(*errno).filter(|it| *it != 0),
            Self::NotFound { .. } | Self::Interpreter { .. } => Some(libc::ENOENT),
            Self::Pipe(source) | Self::Identity(source) => source.raw_os_error(),
            Self::NoProgram | Self::Nul { .. } => None,
        }
    }

    /// Whether trying again soon may help: processes, memory or descriptors ran out, or the
    /// program's file is being written.
    pub fn is_passing(&self) -> bool {
        const PASSING: [i32; 6] =
            [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR, libc::ETXTBSY];
        self.errno().is_some_and(|errno| PASSING.contains(&errno))
    }

    pub(super) fn from_refused(Refused { step, errno }: Refused, tried: &Tried) -> Self {
        match (step, &tried.directory, &tried.output) {
            (Step::Execute, directory, _) => {
                Self::execute_in(tried.program.clone(), directory.as_deref(), errno)
            }
            (Step::Directory, Some(path), _) => Self::Directory { path: path.clone(), errno },
            (Step::Output, _, Some(path)) => Self::Output { path: path.clone(), errno },
            (Step::Clone, ..) => match &tried.cgroup {
                // Out of processes or memory; everything else has to do with the cgroup.
                Some(path) if errno != libc::EAGAIN && errno != libc::ENOMEM => {
                    Self::Cgroup { path: path.clone(), errno }
                }
                _ => Self::Clone { errno },
            },
            (step, ..) => Self::Prepare { step, errno },
        }
    }

    pub(crate) fn execute(path: PathBuf, errno: i32) -> Self {
        Self::execute_in(path, None, errno)
    }

    /// A missing interpreter is reported by the kernel as if the script itself were missing.
    pub(crate) fn execute_in(path: PathBuf, directory: Option<&Path>, errno: i32) -> Self {
        let seen = directory.map_or_else(|| path.clone(), |it| it.join(&path));
        match interpreter(&seen).filter(|_| errno == libc::ENOENT) {
            Some(interpreter) => Self::Interpreter { path, interpreter },
            None => Self::Execute { path, errno },
        }
    }
}

/// The interpreter on the first line of a script.
fn interpreter(script: &Path) -> Option<String> {
    let mut start = [0; 256];
    let length = File::open(script).ok()?.read(&mut start).ok()?;
    let line = start[..length].strip_prefix(b"#!")?.split(|it| *it == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    // A file from Windows ends its lines in CR LF; the CR is part of the name then, and is shown.
    let name = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    Some(name.escape_debug().to_string())
}

/// The kernel's reason in lower case and without its number, with what to do where that is known.
pub(crate) fn reason(errno: &i32) -> String {
    match *errno {
        libc::ENOEXEC => "it is no program: no binary for this machine, and no #! line".to_owned(),
        libc::EAGAIN => "too many processes (see ulimit -u and pids.max)".to_owned(),
        errno => nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
    }
}
