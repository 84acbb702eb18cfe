//! Sends a signal to a process that is held by a pidfd, so that no other can get it.

#![expect(unsafe_code, reason = "rustix knows no real-time signals by number")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Sends `signal` (1–64); 0 only asks whether it could be sent. ESRCH: the process has ended.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; no siginfo is passed, so the
    // kernel fills one in as for kill(2).
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;
    use crate::process::identity::{identity_of, open};

    #[test]
    fn a_signal_reaches_the_process_of_the_pidfd_and_nobody_once_it_is_gone() {
        for signal in [libc::SIGTERM, libc::SIGRTMIN() + 3] {
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let identity = identity_of(child.id().cast_signed()).unwrap();
            let pidfd = open(identity).unwrap().unwrap();

            send(pidfd.as_fd(), signal).unwrap();

            assert_eq!(child.wait().unwrap().signal(), Some(signal));
            let refused = send(pidfd.as_fd(), signal).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        let me = open(identity_of(std::process::id().cast_signed()).unwrap()).unwrap().unwrap();
        assert_eq!(send(me.as_fd(), 65).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
