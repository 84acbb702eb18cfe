//! Descriptors that the daemon left open for us, by their numbers.

#![expect(unsafe_code, reason = "a descriptor is inherited by number")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes the descriptor over. Call it once for each number.
pub(super) fn take(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for as long as it takes to ask whether it is open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number.max(0)) };
    if number < 3 || fcntl_getfd(borrowed).is_err() {
        let message = format!("descriptor {number} was not passed");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, it is none of the standard three, and nothing of this process has opened anything yet: it
    // is one that we were started with.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
