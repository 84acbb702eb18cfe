//! Starts a child with posix_spawn(3): for kernels and filters that know no clone3, and for
//! processors whose assembly nobody wrote in [`super::clone3`].
//!
//! No cgroup, and the C library copies our descriptor table; else the outcome is the same.

#![expect(
    unsafe_code,
    reason = "posix_spawn takes raw pointers and has no attribute for sessions in nix"
)]

use std::ffi::{c_int, c_short};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::orders::{Start, Step};
use super::{Born, Refused};

/// Starts the child and returns once it has executed.
pub(super) fn spawn(
    start: &Start<'_>,
    soft_descriptors: Option<libc::rlimit>,
) -> Result<Born, Refused> {
    if let Some(directory) = start.directory {
        // posix_spawn says what failed, not which step it was: ask for the directory first.
        rustix::fs::openat(
            rustix::fs::CWD,
            directory,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .and_then(|_| rustix::fs::access(directory, rustix::fs::Access::EXEC_OK))
        .map_err(|source| Refused { step: Step::Directory, errno: source.raw_os_error() })?;
    }
    if let Some(output) = start.output {
        rustix::fs::access(output, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
            .map_err(|source| Refused { step: Step::Output, errno: source.raw_os_error() })?;
    }
    // A target of one may be the source of another: copies above all of them come first.
    let copies = copies(&start.descriptors)?;
    let attributes = Attributes::new().map_err(clone_refused)?;
    let actions = Actions::new(start, &copies).map_err(clone_refused)?;
    let pid = {
        let _lowered = soft_descriptors.map(Lowered::new);
        execute(start, &attributes, &actions)?
    };
    let opened = Pid::from_raw(pid).map(|it| pidfd_open(it, PidfdFlags::empty()));
    match opened {
        Some(Ok(pidfd)) => Ok(Born { pid, pidfd }),
        Some(Err(source)) => {
            // SAFETY: our own child, not waited for yet, so the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            Err(Refused { step: Step::Clone, errno: source.raw_os_error() })
        }
        None => Err(Refused { step: Step::Clone, errno: libc::ESRCH }),
    }
}

fn execute(start: &Start<'_>, attributes: &Attributes, actions: &Actions) -> Result<i32, Refused> {
    let mut pid = 0;
    // SAFETY: attributes and actions were initialised; the tables end in a null pointer, and
    // posix_spawn does not change the strings.
    let errno = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            start.program.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            start.argv().cast(),
            start.environment().cast(),
        )
    };
    match errno {
        0 => Ok(pid),
        libc::EAGAIN | libc::ENOMEM => Err(clone_refused(errno)),
        _ => Err(Refused { step: Step::Execute, errno }),
    }
}

fn clone_refused(errno: c_int) -> Refused {
    Refused { step: Step::Clone, errno }
}

fn copies(descriptors: &[c_int]) -> Result<Vec<OwnedFd>, Refused> {
    let above = 3 + descriptors.len() as c_int;
    let copy = |source: &c_int| {
        // SAFETY: the descriptors of a launch are borrowed for as long as it lasts.
        let source = unsafe { BorrowedFd::borrow_raw(*source) };
        let number = fcntl(source, FcntlArg::F_DUPFD_CLOEXEC(above))
            .map_err(|it| Refused { step: Step::Descriptors, errno: it as c_int })?;
        // SAFETY: fcntl made this descriptor for us just now.
        Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
    };
    descriptors.iter().map(copy).collect()
}

/// Our soft limit of descriptors, lowered for the length of one spawn: the child inherits it.
///
/// Descriptors that are open above it stay open and usable.
struct Lowered(libc::rlimit);

impl Lowered {
    fn new(soft: libc::rlimit) -> Self {
        let mut ours = soft;
        // SAFETY: both structures live here.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut ours);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const soft);
        }
        Self(ours)
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // SAFETY: the structure lives here. The hard limit was never touched, so this cannot fail.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn new() -> Result<Self, c_int> {
        let mut this = Self(Box::new(MaybeUninit::uninit()));
        let attributes = this.0.as_mut_ptr();
        let flags = libc::POSIX_SPAWN_SETSIGDEF as c_short
            | libc::POSIX_SPAWN_SETSIGMASK as c_short
            | libc::POSIX_SPAWN_SETSID as c_short;
        // SAFETY: initialised by the first call before any other uses it.
        unsafe {
            check(libc::posix_spawnattr_init(attributes))?;
            let mut signals = MaybeUninit::uninit();
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(attributes, signals.as_ptr()))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(attributes, signals.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(attributes, flags))?;
        }
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `new` initialised it; destroying never fails on Linux.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl Actions {
    fn new(start: &Start<'_>, copies: &[OwnedFd]) -> Result<Self, c_int> {
        let mut this = Self(Box::new(MaybeUninit::uninit()));
        let actions = this.0.as_mut_ptr();
        // SAFETY: initialised by the first call before any other uses it; it copies the paths.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions))?;
            if let Some(directory) = start.directory {
                check(libc::posix_spawn_file_actions_addchdir_np(actions, directory.as_ptr()))?;
            }
            let input = start.input.unwrap_or(c"/dev/null").as_ptr();
            check(libc::posix_spawn_file_actions_addopen(actions, 0, input, libc::O_RDONLY, 0))?;
            let mut copies = copies.iter().map(AsRawFd::as_raw_fd);
            if let Some(output) = start.output {
                let flags = libc::O_RDWR | libc::O_NOCTTY;
                check(libc::posix_spawn_file_actions_addopen(
                    actions,
                    1,
                    output.as_ptr(),
                    flags,
                    0,
                ))?;
            } else if let Some(output) = copies.next() {
                check(libc::posix_spawn_file_actions_adddup2(actions, output, 1))?;
            }
            check(libc::posix_spawn_file_actions_adddup2(actions, 1, 2))?;
            let mut target = 3;
            for copy in copies {
                check(libc::posix_spawn_file_actions_adddup2(actions, copy, target))?;
                target += 1;
            }
            #[cfg(target_env = "gnu")]
            check(libc::posix_spawn_file_actions_addclosefrom_np(actions, target))?;
        }
        Ok(this)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: `new` initialised it; destroying never fails on Linux.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

fn check(errno: c_int) -> Result<(), c_int> {
    if errno == 0 { Ok(()) } else { Err(errno) }
}
