//! Which process is meant: its pid together with the time it started.
//!
//! Pids are used again, so a bare number says nothing a second later. [`open`] turns an identity
//! into a pidfd and refuses if the number belongs to another process by now; what holds a pidfd
//! cannot hit the wrong one any more.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::stat::read_stat;

/// A process on this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot (proc_pid_stat(5)).
    pub start_time: u64,
}

/// Reads the identity of whatever has this pid now, dead but unreaped children included.
pub fn identity_of(pid: i32) -> io::Result<Identity> {
    Ok(read_stat(pid)?.identity)
}

/// Whether this very process runs. A zombie does not.
pub fn is_alive(identity: Identity) -> io::Result<bool> {
    match read_stat(identity.pid) {
        Ok(stat) => Ok(stat.identity == identity && !stat.is_gone()),
        Err(source) if is_absent(&source) => Ok(false),
        Err(source) => Err(source),
    }
}

/// Opens a pidfd of this very process; `None` if it is gone, or only waits to be reaped.
pub fn open(identity: Identity) -> io::Result<Option<OwnedFd>> {
    if identity.pid <= 0 {
        return Ok(None);
    }
    let Some(pid) = Pid::from_raw(identity.pid) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // EINVAL, on older kernels: the number is that of a thread now, not of a process.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(source) => return Err(source.into()),
    };
    // Looked at after opening: if the number means this process now, the pidfd does too.
    Ok(is_alive(identity)?.then_some(pidfd))
}

/// As [`open`], of a child of this process, and also of one that only waits to be reaped: this process has
/// started it, maybe as another program. `None` if it is not its child.
pub fn open_child(identity: Identity) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(identity.pid).filter(|_| identity.pid > 0) else {
        return Ok(None);
    };
    match read_stat(identity.pid) {
        // Nobody else reaps it, so the number stays its own.
        Ok(it) if it.identity == identity && it.parent == std::process::id().cast_signed() => {
            Ok(Some(pidfd_open(pid, PidfdFlags::empty())?))
        }
        Ok(_) => Ok(None),
        Err(source) if is_absent(&source) => Ok(None),
        Err(source) => Err(source),
    }
}

/// The random name of this boot. After another boot no pid of a record means anything.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Whether a read from `/proc/PID` failed because there is no such process any more.
pub(super) fn is_absent(source: &io::Error) -> bool {
    matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_identity_is_refused_once_its_process_died() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = identity_of(child.id().cast_signed()).unwrap();
        assert!(open(identity).unwrap().is_some());
        assert!(is_alive(identity).unwrap());

        drop(child.stdin.take());
        let pidfd = open(identity).unwrap();
        if let Some(pidfd) = pidfd {
            let mut ready = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut ready, None).unwrap();
        }
        assert!(open(identity).unwrap().is_none(), "a zombie counts as gone");
        assert_eq!(identity_of(identity.pid).unwrap(), identity, "but it still has its number");

        child.wait().unwrap();
        assert!(open(identity).unwrap().is_none());
        assert!(!is_alive(identity).unwrap());
    }

    #[test]
    fn a_pid_that_is_used_again_is_not_the_same_process() {
        let me = identity_of(std::process::id().cast_signed()).unwrap();
        let before_me = Identity { start_time: me.start_time - 1, ..me };

        assert!(open(me).unwrap().is_some());
        assert!(open(before_me).unwrap().is_none());
    }

    #[test]
    fn no_number_below_one_is_a_process() {
        for pid in [0, -1, i32::MIN] {
            assert!(open(Identity { pid, start_time: 0 }).unwrap().is_none(), "{pid}");
        }
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
