//! Descriptors that stay open while this process becomes another program, and are found again by number.

#![expect(
    unsafe_code,
    reason = "a descriptor is inherited by number; signal dispositions belong to the whole process"
)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// What ends a process that has no handler for it yet (signal(7)).
const HELD_BACK: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// The signals that wait for the program that is next.
pub fn held_back() -> SigSet {
    HELD_BACK.into_iter().collect()
}

/// Takes a descriptor over that was left open with [`leave_open`]. Call it once for each number.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for as long as it takes to ask whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number.max(0)) };
    if number < 3 || fcntl_getfd(borrowed).is_err() {
        let message = format!("descriptor {number} was not left open");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, it is none of the standard three, and the program before us says that it left it to
    // us: nothing of ours owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets a descriptor survive [`execute`]; returns its number.
pub fn leave_open(descriptor: &impl AsFd) -> io::Result<i32> {
    fcntl_setfd(descriptor, FdFlags::empty())?;
    Ok(descriptor.as_fd().as_raw_fd())
}

/// From now on signals wait for the program that is next, whichever thread gets them: a signal that is
/// blocked and pending stays so beyond execve(2).
///
/// Called by the first thread of the process, which is to call [`execute`].
pub fn hold_signals_back() -> io::Result<()> {
    held_back().thread_block()?;
    // The other threads do not block them.
    let handler = SigHandler::Handler(pass_on);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::all());
    for signal in HELD_BACK {
        // SAFETY: the handler makes nothing but one system call.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Gives a signal to the first thread, whose number is the process's (gettid(2)).
extern "C" fn pass_on(signal: libc::c_int) {
    // SAFETY: both are system calls without pointers, allowed in a handler (signal-safety(7)).
    unsafe {
        let pid = libc::getpid();
        libc::syscall(libc::SYS_tgkill, pid, pid, signal);
    }
}

/// A signal that had come before they were held back, and was not acted on: it waits like the others.
pub fn hold_back(signal: Signal) {
    // It fails for what is no signal.
    let _ = raise(signal);
}

/// Becomes another program: same pid, same children (execve(2)). Returns only if that failed.
///
/// Signals that would end the next program before it has a handler wait until it calls [`let_signals_in`].
pub fn execute(
    program: &CStr,
    argv: &[CString],
    environment: &[CString],
) -> io::Result<Infallible> {
    let mut held_back = held_back();
    // Its own descriptor for deaths is there before anything else: see `daemon::signals`.
    held_back.add(Signal::SIGCHLD);
    held_back.thread_set_mask()?;
    Ok(nix::unistd::execve(program, argv, environment)?)
}

/// Takes the signals that were held back by [`execute`]. Does no harm where none were.
pub fn let_signals_in() -> io::Result<()> {
    Ok(held_back().thread_unblock()?)
}
