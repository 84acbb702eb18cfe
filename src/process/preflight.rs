//! What a process would do with a signal, asked before it is sent.
//!
//! Most signals kill a process that did not ask for them: SIGUSR1 to a server that knows no
//! reload, SIGHUP to one that is no daemon. `/proc/PID/status` tells which it catches.

use std::fs::File;
use std::io::{self, Read};

/// More than a process in few groups has; a longer one is read whole as well.
const STATUS_BYTES: usize = 4096;

/// What happens to a process when a signal arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has a handler, or takes it from a signalfd or sigwait (it blocks it).
    Caught,
    Ignored,
    /// The kernel's default: for most signals death.
    Default,
}

/// Reads what the process does with a signal.
pub fn disposition(pid: i32, signal: i32) -> io::Result<Disposition> {
    parse(&status(pid)?, signal).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/status has no SigCgt"))
    })
}

/// What the process does with every signal, by number: for the detail of an instance.
///
/// # Errors
///
/// ENOENT or ESRCH if it is gone.
pub fn dispositions(pid: i32) -> io::Result<Vec<(i32, Disposition)>> {
    let status = status(pid)?;
    Ok((1..=64).filter_map(|it| Some((it, parse(&status, it)?))).collect())
}

/// The real and the saved user of a process: who may signal it (kill(2)). Of its `/proc/PID/status`.
pub fn users(status: &str) -> Option<[u32; 2]> {
    match numbers(status, "Uid")[..] {
        [real, _, saved, _] => Some([real, saved]),
        _ => None,
    }
}

/// The numbers on one line of `/proc/PID/status`; none if there is no such line.
pub(super) fn numbers<T: std::str::FromStr>(status: &str, name: &str) -> Vec<T> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().filter_map(|it| it.parse().ok()).collect()
}

/// `/proc/PID/status`.
///
/// All of it in one read: a file without a size is read in eight small ones otherwise, between a key and
/// its signal.
pub fn status(pid: i32) -> io::Result<String> {
    let mut status = String::with_capacity(STATUS_BYTES);
    File::open(format!("/proc/{pid}/status"))?.read_to_string(&mut status)?;
    Ok(status)
}

/// Reads `/proc/PID/status`: bit n − 1 of a mask is signal n (proc_pid_status(5)).
///
/// A blocked signal without handler counts as caught: it waits for sigwait or a signalfd. SIGKILL
/// and SIGSTOP are always the default. `None` if the text has no masks or the number no meaning.
pub fn parse(status: &str, signal: i32) -> Option<Disposition> {
    let bit = 1_u64 << u32::try_from(signal.checked_sub(1)?).ok().filter(|it| *it < 64)?;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let (caught, ignored) = (mask("SigCgt")?, mask("SigIgn")?);
    let blocked = mask("SigBlk").unwrap_or(0);
    Some(match signal {
        libc::SIGKILL | libc::SIGSTOP => Disposition::Default,
        _ if caught & bit != 0 => Disposition::Caught,
        _ if ignored & bit != 0 => Disposition::Ignored,
        _ if blocked & bit != 0 => Disposition::Caught,
        _ => Disposition::Default,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tphp\nUmask:\t0022\nShdPnd:\t0000000000000000\n\
        SigBlk:\t0000000000000002\nSigIgn:\t0000000000001000\nSigCgt:\t8000000000004201\n";

    #[test]
    fn a_bit_of_each_mask_is_read() {
        let expected = [
            (libc::SIGHUP, Disposition::Caught),
            (libc::SIGINT, Disposition::Caught),
            (libc::SIGUSR1, Disposition::Caught),
            (libc::SIGPIPE, Disposition::Ignored),
            (libc::SIGTERM, Disposition::Caught),
            (libc::SIGUSR2, Disposition::Default),
            (libc::SIGKILL, Disposition::Default),
            (64, Disposition::Caught),
            (63, Disposition::Default),
        ];
        for (signal, disposition) in expected {
            assert_eq!(parse(STATUS, signal), Some(disposition), "{signal}");
        }
    }

    #[test]
    fn what_is_no_signal_or_no_status_is_none() {
        for signal in [0, -1, 65, i32::MIN + 1] {
            assert_eq!(parse(STATUS, signal), None, "{signal}");
        }
        assert_eq!(parse("Name:\tphp\n", libc::SIGHUP), None);
        assert_eq!(parse("SigCgt:\tzz\nSigIgn:\t0\n", libc::SIGHUP), None);
    }

    #[test]
    fn a_name_that_holds_a_line_of_masks_is_not_believed() {
        // The kernel escapes the newline in a name.
        let status = format!("Name:\t\\nSigCgt:\\tffffffffffffffff\n{STATUS}");
        assert_eq!(parse(&status, libc::SIGUSR2), Some(Disposition::Default));
    }
}
