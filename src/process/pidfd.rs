//! Waiting for the end of a process that is not our child.

#![expect(unsafe_code, reason = "registering a descriptor with the runtime asks for its lifetime")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Returns once the process behind the pidfd has ended.
///
/// A pidfd becomes readable when its process ends, and is never readable before (pidfd_open(2)).
/// The status is its parent's to take.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open and owned by the AsyncFd until that is dropped.
    let pidfd = unsafe { AsyncFd::register(pidfd) }?;
    pidfd.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity;

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
