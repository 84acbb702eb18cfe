//! Starts one process: its own session, default signals, `/dev/null` as input, nothing inherited.
//!
//! Two ways lead there, with the same outcome: `clone3` where the kernel lets us (x86_64 and
//! aarch64), else `posix` (`posix_spawn`). Only the first can put a child into a cgroup at birth.
//! What fails before the program runs is a [`SpawnError`] with the path that was tried and the
//! reason of the kernel; where another user or limits are asked for, [`super::exec_as`] stands
//! between us and the program, and its failures come through [`Spawned::refusal`].

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod clone3;
mod error;
mod input;
mod limit;
mod orders;
mod posix;
mod prepared;
mod resolve;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

pub use error::SpawnError;
pub(super) use error::reason;
pub use input::give_up_input;
pub use limit::{raise_descriptor_limit, restore_descriptor_limit};
pub use orders::{Output, Step};
pub use prepared::{Given, Prepared};
pub(super) use resolve::find_program;
pub use resolve::look_ahead;

use super::cgroup::Cgroup;
use super::exec_as::{Refusal, Switch};
use super::identity::Identity;

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Never empty. The program is looked up by the `PATH` of `environment` unless it has a slash.
    pub argv: &'a [String],
    pub directory: Option<&'a Path>,
    /// Complete: nothing of ours is added.
    pub environment: &'a [(String, String)],
    pub output: Output<'a>,
    /// Become the child's descriptors 3, 4, …; everything else of ours stays here.
    pub passed: &'a [BorrowedFd<'a>],
    pub switch: Option<&'a Switch>,
    pub cgroup: Option<&'a Cgroup>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned {
    pub identity: Identity,
    pub pidfd: OwnedFd,
    /// With a [`Switch`]: tells later whether the program was executed at all.
    pub refusal: Option<Refusal>,
}

/// What both ways report.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
}

/// The step that failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    step: Step,
    errno: i32,
}

/// Which of the two ways to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Clone3,
    PosixSpawn,
}

/// Starts a process and returns once it executes its program (or [`super::exec_as`]).
pub fn spawn(launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
    spawn_by(way(), launch)
}

/// Whether children can be born in a cgroup here.
pub fn can_enter_cgroups() -> bool {
    way() == Way::Clone3
}

/// Whether several threads may start processes at the same time: [`posix`] lowers a limit of the whole
/// process for the length of a start.
pub(super) fn can_overlap() -> bool {
    way() == Way::Clone3
}

fn way() -> Way {
    static WAY: OnceLock<Way> = OnceLock::new();
    *WAY.get_or_init(|| {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if clone3::is_allowed() {
            return Way::Clone3;
        }
        Way::PosixSpawn
    })
}

fn spawn_by(way: Way, launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
    let output = match launch.output {
        Output::Descriptor(it) | Output::WithInput(it, _) => Some(it),
        Output::Fifo(_) | Output::Null => None,
    };
    let prepared = Prepared::new(launch)?;
    prepared.start_by(way, output, &Given { passed: launch.passed, cgroup: launch.cgroup })
}

/// Waits for a child that never became anything, so that the reaper does not see it.
fn forget(pidfd: &OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    // It has exited already. Another thread's reaper may have been faster; that is as good.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}
