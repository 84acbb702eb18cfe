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
mod limit;
mod orders;
mod posix;
mod resolve;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

pub use error::SpawnError;
pub(super) use error::reason;
pub use limit::{raise_descriptor_limit, restore_descriptor_limit};
use orders::{Orders, c_string};
pub use orders::{Output, Step};
pub(super) use resolve::find_program;

use super::cgroup::Cgroup;
use super::exec_as::{Refusal, Switch};
use super::identity::{self, Identity};

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
    let report = launch.switch.map(|_| io::pipe()).transpose().map_err(SpawnError::Pipe)?;
    let (reader, writer) = report.unzip();
    let orders = orders(launch, writer.as_ref().map(AsFd::as_fd))?;
    let soft = limit::original();
    let born = match way {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Way::Clone3 => {
            let directory = launch.cgroup.map(Cgroup::open).transpose();
            let directory = directory.map_err(|source| SpawnError::cgroup(launch, source))?;
            clone3::spawn(&orders, directory.as_ref().map(AsFd::as_fd), soft)
        }
        _ => posix::spawn(&orders, soft),
    };
    let born = born.map_err(|refused| SpawnError::from_refused(refused, launch, &orders))?;
    let identity = identity::identity_of(born.pid).map_err(SpawnError::Identity)?;
    Ok(Spawned { identity, pidfd: born.pidfd, refusal: reader.map(Refusal::new) })
}

/// Everything the child needs, for the program itself or for the small one before it.
fn orders(launch: &Launch<'_>, report: Option<BorrowedFd<'_>>) -> Result<Orders, SpawnError> {
    let mut orders = match launch.switch {
        Some(switch) => {
            let argv = switch.argv(launch);
            Orders::new(path_c_string(switch.program())?, &argv, launch.environment)?
        }
        None => {
            let program = resolve::program(launch)?;
            Orders::new(c_string(program)?, launch.argv, launch.environment)?
        }
    };
    // With a switch the directory is entered as the user, who may see what we may not.
    if let (Some(directory), None) = (launch.directory, launch.switch) {
        orders.directory = Some(path_c_string(directory)?);
    }
    match launch.output {
        Output::Fifo(path) => orders.output = Some(path_c_string(path)?),
        Output::Null => orders.output = Some(c"/dev/null".to_owned()),
        Output::Descriptor(descriptor) => orders.descriptors.push(descriptor.as_raw_fd()),
    }
    orders.descriptors.extend(launch.passed.iter().map(AsRawFd::as_raw_fd));
    orders.descriptors.extend(report.map(|it| it.as_raw_fd()));
    Ok(orders)
}

fn path_c_string(path: &Path) -> Result<CString, SpawnError> {
    c_string(path.as_os_str().as_bytes())
}

/// Waits for a child that never became anything, so that the reaper does not see it.
fn forget(pidfd: &OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    // It has exited already. Another thread's reaper may have been faster; that is as good.
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}
