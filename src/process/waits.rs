//! What a process waits for: the system call that its first thread is in, its timers, a signal that it has
//! not taken.
//!
//! `/proc/PID/syscall` has the number and the arguments (proc_pid_syscall(5)); the kernel shows it to whoever
//! may trace the process (ptrace(2)), and not in every configuration. What it does not show is absent.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::port::socket_inode;

/// What the first thread waits for, in words: `waits for events (epoll_wait), for at most 0.5s`. `None`: it
/// runs, or the kernel does not say. `peer` tells the other end of a connection by its inode, where that is
/// worth the time.
pub fn call(pid: i32, peer: impl Fn(u64) -> Option<SocketAddr>) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let (number, arguments) = parse(&text)?;
    let (name, does, says) = known(number)?;
    let mut words = format!("{does} ({name})");
    match says {
        Says::Nothing => {}
        Says::File(at) => {
            let descriptor = arguments.get(at).copied().unwrap_or(0);
            if let Some(file) = file(pid, descriptor, peer) {
                let _ = write!(words, ", {file}");
            }
        }
        Says::Milliseconds(at) => {
            // An int: -1 is for ever.
            let most = arguments.get(at).map_or(-1, |it| *it as u32 as i32);
            if most >= 0 {
                let _ = write!(words, ", for at most {:.1}s", f64::from(most) / 1000.0);
            }
        }
    }
    Some(words)
}

/// Timers that the kernel keeps for it: timerfd_create(2) and timer_create(2).
pub fn timers(pid: i32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/timers")).unwrap_or_default();
    let made = text.lines().filter(|it| it.starts_with("ID:")).count();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_timer =
        |path: &Path| fs::read_link(path).is_ok_and(|it| it == Path::new("anon_inode:[timerfd]"));
    made + files.filter(|it| is_timer(&it.path())).count()
}

/// Whether it was sent this signal and has not taken it: bit n − 1 of a mask (proc_pid_status(5)).
pub fn is_pending(status: &str, signal: i32) -> bool {
    let Some(bit) = signal.checked_sub(1).and_then(|it| u32::try_from(it).ok()) else {
        return false;
    };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let all = mask("SigPnd").unwrap_or(0) | mask("ShdPnd").unwrap_or(0);
    bit < 64 && all & (1 << bit) != 0
}

/// `0 0x3 0x7ffd… …`: the number, six arguments, stack and program counter. `running` has none, and -1 is
/// none either.
fn parse(text: &str) -> Option<(i64, Vec<u64>)> {
    let mut fields = text.split_whitespace();
    let number = fields.next()?.parse().ok().filter(|it| *it >= 0)?;
    let value = |it: &str| u64::from_str_radix(it.strip_prefix("0x")?, 16).ok();
    Some((number, fields.map_while(value).take(6).collect()))
}

/// Which argument says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    /// A descriptor.
    File(usize),
    /// A timeout.
    Milliseconds(usize),
}

/// Calls that a server is found in when it does not end.
fn known(number: i64) -> Option<(&'static str, &'static str, Says)> {
    use Says::{File, Milliseconds, Nothing};
    let found = match number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => ("epoll_wait", "waits for events", Milliseconds(3)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => ("poll", "waits for events", Milliseconds(2)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => ("select", "waits for events", Nothing),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pause => ("pause", "waits for a signal", Nothing),
        libc::SYS_epoll_pwait => ("epoll_pwait", "waits for events", Milliseconds(3)),
        libc::SYS_epoll_pwait2 => ("epoll_pwait2", "waits for events", Nothing),
        libc::SYS_ppoll => ("ppoll", "waits for events", Nothing),
        libc::SYS_pselect6 => ("pselect6", "waits for events", Nothing),
        libc::SYS_io_uring_enter => ("io_uring_enter", "waits for events", Nothing),
        libc::SYS_futex => ("futex", "waits for another thread", Nothing),
        libc::SYS_nanosleep => ("nanosleep", "sleeps", Nothing),
        libc::SYS_clock_nanosleep => ("clock_nanosleep", "sleeps", Nothing),
        libc::SYS_wait4 => ("wait4", "waits for a child", Nothing),
        libc::SYS_waitid => ("waitid", "waits for a child", Nothing),
        libc::SYS_rt_sigtimedwait => ("rt_sigtimedwait", "waits for a signal", Nothing),
        libc::SYS_rt_sigsuspend => ("rt_sigsuspend", "waits for a signal", Nothing),
        libc::SYS_accept => ("accept", "waits for a connection", File(0)),
        libc::SYS_accept4 => ("accept4", "waits for a connection", File(0)),
        libc::SYS_connect => ("connect", "waits to be connected", File(0)),
        libc::SYS_read => ("read", "reads", File(0)),
        libc::SYS_readv => ("readv", "reads", File(0)),
        libc::SYS_recvfrom => ("recvfrom", "reads", File(0)),
        libc::SYS_recvmsg => ("recvmsg", "reads", File(0)),
        libc::SYS_write => ("write", "writes", File(0)),
        libc::SYS_writev => ("writev", "writes", File(0)),
        libc::SYS_sendto => ("sendto", "writes", File(0)),
        libc::SYS_sendmsg => ("sendmsg", "writes", File(0)),
        libc::SYS_flock => ("flock", "waits for a lock", File(0)),
        libc::SYS_fcntl => ("fcntl", "waits for a lock", File(0)),
        libc::SYS_fsync => ("fsync", "waits for the disk", File(0)),
        libc::SYS_fdatasync => ("fdatasync", "waits for the disk", File(0)),
        libc::SYS_msgrcv => ("msgrcv", "waits for a message", Nothing),
        libc::SYS_semtimedop => ("semtimedop", "waits for a semaphore", Nothing),
        _ => return None,
    };
    Some(found)
}

/// What a descriptor leads to: a path, or what kind it is.
fn file(pid: i32, descriptor: u64, peer: impl Fn(u64) -> Option<SocketAddr>) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    let text = link.to_string_lossy();
    Some(match text.split_once(':') {
        Some(("socket", _)) => match socket_inode(&text).and_then(peer) {
            Some(address) => format!("a connection to {address}"),
            None => "a socket".into(),
        },
        Some(("pipe", _)) => "a pipe".into(),
        Some(("anon_inode", kind)) => kind.trim_matches(['[', ']']).to_owned(),
        _ => text.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_line_has_a_number_and_arguments_or_nothing() {
        let line = "232 0x4 0x7f 0x400 0x1f4 0x0 0x8 0x7ffd 0x7f6c\n";
        assert_eq!(parse(line), Some((232, vec![4, 0x7f, 0x400, 0x1f4, 0, 8])));
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse("-1 0x7ffd 0x7f6c\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_signal_that_waits_is_a_bit_of_one_of_two_masks() {
        let status = "Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n";
        assert!(is_pending(status, libc::SIGTERM));
        assert!(!is_pending(status, libc::SIGHUP));
        assert!(is_pending(&status.replace("4000", "0001"), libc::SIGHUP));
        assert!(!is_pending("", libc::SIGTERM) && !is_pending(status, 0));
        assert!(!is_pending(status, 900));
    }

    #[test]
    fn what_a_process_waits_for_is_told_where_the_kernel_shows_it() {
        let child = Command::new("sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let pid = child.id().cast_signed();
        if fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok() {
            // It may read something else before, and run for long.
            let found = (0..1_000_000).find_map(|_| {
                std::thread::yield_now();
                call(pid, |_| None).filter(|it| it == "reads (read), a pipe")
            });
            assert_eq!(found.as_deref(), Some("reads (read), a pipe"));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(call(pid, |_| None), None);
    }

    #[test]
    fn a_timer_is_counted() {
        let me = std::process::id().cast_signed();
        let before = timers(me);
        let made = rustix::time::timerfd_create(
            rustix::time::TimerfdClockId::Monotonic,
            rustix::time::TimerfdFlags::CLOEXEC,
        );
        if let Ok(timer) = made {
            // Other tests of this process may have some as well.
            assert!(timers(me) >= 1, "{before} before");
            drop(timer);
        }
    }
}
