//! A launch made ready once and started again and again.
//!
//! An instance is started with the same strings every time. Between its death and its next start they
//! need not be put together anew: that costs as much as the rest of what we do there.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::clone3;
use super::error::Tried;
use super::orders::{Orders, Output, Step, c_string};
use super::{Born, Launch, Refused, SpawnError, Spawned, Way, find_program, limit, posix, way};
use crate::process::cgroup::Cgroup;
use crate::process::exec_as::Refusal;
use crate::process::identity;

/// A launch whose strings are as the kernel wants them.
#[derive(Debug)]
pub struct Prepared {
    orders: Orders,
    /// What the command line begins with.
    name: String,
    /// A program without a slash is looked up at every start: a deployment may have put another one
    /// before it.
    search: Option<Search>,
    /// Its output is a file that a child opens by this path.
    has_output_path: bool,
    /// Somebody stands between us and the program, and tells how that went.
    reports: bool,
}

#[derive(Debug)]
struct Search {
    /// The `PATH` of the program.
    path: Option<String>,
    directory: Option<PathBuf>,
}

/// What is another one at every start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// As in [`Launch`].
    pub passed: &'a [BorrowedFd<'a>],
    pub cgroup: Option<&'a Cgroup>,
}

impl Prepared {
    /// Puts the strings together. `passed` counts here, `cgroup` does not.
    pub fn new(launch: &Launch<'_>) -> Result<Self, SpawnError> {
        let name = launch.argv.first().cloned().unwrap_or_default();
        let mut search = None;
        let mut orders = match launch.switch {
            Some(switch) => {
                let argv = switch.argv(launch);
                Orders::new(path_c_string(switch.program())?, &argv, launch.environment)?
            }
            None => {
                let it = Search::of(launch);
                let program = path_c_string(&it.find(&name)?)?;
                search = Some(it).filter(|_| !name.contains('/'));
                Orders::new(program, launch.argv, launch.environment)?
            }
        };
        // With a switch the directory is entered as the user, who may see what we may not.
        if let (Some(directory), None) = (launch.directory, launch.switch) {
            orders.directory = Some(path_c_string(directory)?);
        }
        orders.output = match launch.output {
            Output::Fifo(path) => Some(path_c_string(path)?),
            Output::Null => Some(c"/dev/null".to_owned()),
            Output::Descriptor(_) | Output::WithInput(..) => None,
        };
        if let Output::WithInput(_, path) = launch.output {
            orders.input = Some(path_c_string(path)?);
        }
        let has_output_path = matches!(launch.output, Output::Fifo(_));
        Ok(Self { orders, name, search, has_output_path, reports: launch.switch.is_some() })
    }

    /// The program, as the command line names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a process and returns once it executes its program (or [`crate::process::exec_as`]).
    pub fn start(&self, given: &Given<'_>) -> Result<Spawned, SpawnError> {
        self.start_by(way(), None, given)
    }

    /// `output`: where the launch named a descriptor for it.
    pub(super) fn start_by(
        &self,
        way: Way,
        output: Option<BorrowedFd<'_>>,
        given: &Given<'_>,
    ) -> Result<Spawned, SpawnError> {
        let report = self.reports.then(io::pipe).transpose().map_err(SpawnError::Pipe)?;
        let (reader, writer) = report.unzip();
        let passed = given.passed.iter().map(AsRawFd::as_raw_fd);
        let first = output.iter().map(AsRawFd::as_raw_fd);
        let descriptors: Vec<RawFd> =
            first.chain(passed).chain(writer.as_ref().map(AsRawFd::as_raw_fd)).collect();
        let program = self.program()?;
        let start = self.orders.start(Some(&program), descriptors);
        let soft = limit::original();
        let born = match way {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Way::Clone3 => self.clone_into(given.cgroup, |it| clone3::spawn(&start, it, soft))?,
            _ => posix::spawn(&start, soft),
        };
        let born = born.map_err(|it| self.refused(it, &program, given.cgroup))?;
        let identity = identity::identity_of(born.pid).map_err(SpawnError::Identity)?;
        Ok(Spawned { identity, pidfd: born.pidfd, refusal: reader.map(Refusal::new) })
    }

    /// The cgroup may have been removed since it was opened: then it is made again.
    fn clone_into(
        &self,
        cgroup: Option<&Cgroup>,
        clone: impl Fn(Option<BorrowedFd<'_>>) -> Result<Born, Refused>,
    ) -> Result<Result<Born, Refused>, SpawnError> {
        let Some(cgroup) = cgroup else { return Ok(clone(None)) };
        let unusable = |source: io::Error| SpawnError::Cgroup {
            path: cgroup.path().into(),
            errno: source.raw_os_error().unwrap_or(0),
        };
        let directory = cgroup.open().map_err(unusable)?;
        match clone(Some(directory.as_fd())) {
            Err(Refused { step: Step::Clone, errno: libc::ENODEV }) => {
                let directory = cgroup.open_again().map_err(unusable)?;
                Ok(clone(Some(directory.as_fd())))
            }
            answer => Ok(answer),
        }
    }

    /// What is executed this time.
    fn program(&self) -> Result<Cow<'_, CStr>, SpawnError> {
        let Some(search) = &self.search else { return Ok(Cow::Borrowed(&self.orders.program)) };
        let found = search.find(&self.name)?;
        if found.as_os_str().as_bytes() == self.orders.program.as_bytes() {
            return Ok(Cow::Borrowed(&self.orders.program));
        }
        path_c_string(&found).map(Cow::Owned)
    }

    fn refused(&self, refused: Refused, program: &CStr, cgroup: Option<&Cgroup>) -> SpawnError {
        let output = self.orders.output.as_deref().filter(|_| self.has_output_path);
        let tried = Tried {
            program: path_of(program),
            directory: self.orders.directory.as_deref().map(path_of),
            output: output.map(path_of),
            cgroup: cgroup.map(|it| it.path().into()),
        };
        SpawnError::from_refused(refused, &tried)
    }
}

impl Search {
    fn of(launch: &Launch<'_>) -> Self {
        let path = launch.environment.iter().find(|(name, _)| name == "PATH");
        Self {
            path: path.map(|(_, value)| value.clone()),
            directory: launch.directory.map(Path::to_path_buf),
        }
    }

    fn find(&self, name: &str) -> Result<PathBuf, SpawnError> {
        find_program(name, self.path.as_deref(), self.directory.as_deref())
    }
}

fn path_of(text: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.to_bytes()))
}

fn path_c_string(path: &Path) -> Result<CString, SpawnError> {
    c_string(path.as_os_str().as_bytes())
}
