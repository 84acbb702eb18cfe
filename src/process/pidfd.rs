//! Waiting for the end of a process that is not our child.

#![expect(
    unsafe_code,
    reason = "registering a descriptor with the runtime asks for its lifetime; an ioctl that rustix does not know"
)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::reaper::Status;

/// How often a parent is given time to reap its child, and how much.
const TRIES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(50);
/// Tries, each a millisecond later, that most parents need less than.
const SOON: u32 = 5;

/// Returns once the process behind the pidfd has ended.
///
/// A pidfd becomes readable when its process ends, and is never readable before (pidfd_open(2)).
/// The status is its parent's to take.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open and owned by the AsyncFd until that is dropped.
    let pidfd = unsafe { AsyncFd::register(pidfd) }?;
    pidfd.readable().await.map(drop)
}

/// Returns how the process behind the pidfd has ended, once it has; `None` where nobody but its parent is told.
///
/// The kernel tells others from 6.15 on, after the parent has reaped it.
pub async fn exit(pidfd: OwnedFd) -> io::Result<Option<Status>> {
    let kept = pidfd.try_clone()?;
    ended(pidfd).await?;
    for _ in 0..TRIES {
        match status(kept.as_fd()) {
            Ok(None) => tokio::time::sleep(BETWEEN).await,
            told => return Ok(told.ok().flatten()),
        }
    }
    Ok(None)
}

/// What the kernel has kept of a process that has ended; `None`: it was not reaped yet.
///
/// # Errors
///
/// This kernel tells nobody but its parent.
pub async fn exit_soon(pidfd: BorrowedFd<'_>) -> io::Result<Option<Status>> {
    for _ in 0..SOON {
        if let Some(status) = status(pidfd)? {
            return Ok(Some(status));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    status(pidfd)
}

/// What the kernel has kept of a process that was reaped.
fn status(pidfd: BorrowedFd<'_>) -> io::Result<Option<Status>> {
    // SAFETY: it consists of numbers.
    let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the descriptor is open, and the kernel writes at most the size that the request names.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let is_told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    Ok(is_told.then(|| status_of(info.exit_code)))
}

/// As wait(2) encodes it.
fn status_of(code: i32) -> Status {
    if libc::WIFSIGNALED(code) {
        Status::Signaled { signal: libc::WTERMSIG(code), core: libc::WCOREDUMP(code) }
    } else {
        Status::Exited(libc::WEXITSTATUS(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity;

    #[test]
    fn a_status_is_told_from_a_signal() {
        assert_eq!(status_of(7 << 8), Status::Exited(7));
        assert_eq!(status_of(libc::SIGKILL), Status::Signaled { signal: 9, core: false });
        let core = status_of(libc::SIGSEGV | 0x80);
        assert_eq!(core, Status::Signaled { signal: libc::SIGSEGV, core: true });
    }

    #[tokio::test]
    async fn how_it_ended_is_told_once_it_was_reaped_where_the_kernel_tells() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "read it; exit 7"]).stdin(std::process::Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let identity = identity::identity_of(child.id().cast_signed()).unwrap();
        let pidfd = identity::open(identity).unwrap().unwrap();
        let kept = pidfd.try_clone().unwrap();
        let tells = status(kept.as_fd()).is_ok();
        let end = tokio::spawn(exit(pidfd));
        drop(child.stdin.take());
        child.wait().unwrap();
        let told = end.await.unwrap().unwrap();
        assert!(
            told == Some(Status::Exited(7)) || !tells || status(kept.as_fd()).is_err(),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_through_its_pidfd() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = identity::identity_of(pid).unwrap();
        let pidfd = identity::open(identity).unwrap().unwrap();
        let mut end = std::pin::pin!(ended(pidfd));
        assert!(futures_util::FutureExt::now_or_never(end.as_mut()).is_none());

        child.kill().unwrap();
        end.await.unwrap();
        child.wait().unwrap();
    }
}
