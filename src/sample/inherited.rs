//! The listening socket that a supervisor passed, by systemd's convention (sd_listen_fds(3)).

#![expect(unsafe_code, reason = "a descriptor is inherited by number")]

use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first passed descriptor.
const FIRST: i32 = 3;

/// Takes the socket over; what is missing otherwise. Call it once.
pub(super) fn take() -> Result<TcpListener, String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Err("LISTEN_PID does not name this process: no socket was passed to it".into());
    }
    if number("LISTEN_FDS").unwrap_or(0) < 1 {
        return Err("LISTEN_FDS says that no socket was passed".into());
    }
    let failed = |err: std::io::Error| format!("descriptor {FIRST} is of no use: {err}");
    // SAFETY: only borrowed for this one call, which refuses a number that is not open.
    let passed = unsafe { BorrowedFd::borrow_raw(FIRST) };
    // What is started from here must not keep it open.
    fcntl_setfd(passed, FdFlags::CLOEXEC).map_err(|err| failed(err.into()))?;
    // SAFETY: it is open, it was passed to this process, and nothing else here takes it.
    let listener = unsafe { TcpListener::from_raw_fd(FIRST) };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
