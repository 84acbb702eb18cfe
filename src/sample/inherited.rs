//! The listening socket that a supervisor passed, by systemd's convention (sd_listen_fds(3)).

#![expect(unsafe_code, reason = "a descriptor is inherited by number")]

use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first passed descriptor.
const FIRST: RawFd = 3;

/// Lets whatever is executed from here on have the socket, and returns its number.
pub(super) fn leave_open(listener: &TcpListener) -> std::io::Result<RawFd> {
    fcntl_setfd(listener, FdFlags::empty())?;
    Ok(listener.as_raw_fd())
}

/// Takes the socket over; what is missing otherwise. Call it once.
pub(super) fn take() -> Result<TcpListener, String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Err("LISTEN_PID does not name this process: no socket was passed to it".into());
    }
    if number("LISTEN_FDS").unwrap_or(0) < 1 {
        return Err("LISTEN_FDS says that no socket was passed".into());
    }
    numbered(FIRST)
}

/// Takes the socket with this number over; what is wrong with it otherwise. Call it once.
pub(super) fn numbered(number: RawFd) -> Result<TcpListener, String> {
    let failed = |err: std::io::Error| format!("descriptor {number} is of no use: {err}");
    if number < FIRST {
        return Err(format!("descriptor {number} is no socket"));
    }
    // SAFETY: only borrowed for this one call, which refuses a number that is not open.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    // What is started from here must not keep it open.
    fcntl_setfd(passed, FdFlags::CLOEXEC).map_err(|err| failed(err.into()))?;
    // SAFETY: it is open, it was passed to this process, and nothing else here takes it.
    let listener = unsafe { TcpListener::from_raw_fd(number) };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
