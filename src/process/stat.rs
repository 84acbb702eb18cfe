//! `/proc/PID/stat`: one line that tells almost everything about a process (proc_pid_stat(5)).

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::read;

use super::Identity;

/// Of the times in these files: USER_HZ, the same on every Linux (time(7)).
const TICKS_PER_SECOND: u64 = 100;
/// In [`Stat::flags`] of what the kernel runs for itself: PF_KTHREAD (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// How long so many clock ticks are: since boot for a start, on a processor for work.
pub fn time_of(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000) / TICKS_PER_SECOND)
}

/// The clock ticks that are over after so long.
pub fn ticks_of(time: Duration) -> u64 {
    let ticks = time.as_millis() * u128::from(TICKS_PER_SECOND) / 1000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// What is kept of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub identity: Identity,
    pub name: Comm,
    /// `R`, `S`, `D`, `Z`, …
    pub state: u8,
    pub parent: i32,
    pub process_group: i32,
    pub session: i32,
    /// What the kernel notes of it (PF_*).
    pub flags: u32,
    /// Time on a processor in user and system mode, in clock ticks (1/100 s), without its children.
    pub cpu_ticks: u64,
    pub threads: i64,
    /// Resident memory in pages.
    pub resident_pages: u64,
}

/// The kernel's short name of a process, at most 15 bytes for a program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm([u8; 16]);

impl Comm {
    fn new(bytes: &[u8]) -> Self {
        let mut name = [0; 16];
        let length = bytes.len().min(name.len());
        name[..length].copy_from_slice(&bytes[..length]);
        Self(name)
    }
}

impl fmt::Display for Comm {
    /// A process chooses its own name; control characters in it are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.iter().position(|it| *it == 0).unwrap_or(self.0.len());
        let text = String::from_utf8_lossy(&self.0[..length]);
        text.chars().try_for_each(|it| {
            if it.is_control() { write!(f, "{}", it.escape_default()) } else { write!(f, "{it}") }
        })
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Stat {
    /// Whether it has ended and only waits for its parent.
    ///
    /// A leader thread that ended while others run on shows as `Z` too, but its process lives.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Whether it is no program, but the kernel's own.
    pub fn is_kernel(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }
}

/// Reads one process; ESRCH or ENOENT if there is none.
pub fn read_stat(pid: i32) -> io::Result<Stat> {
    let mut path = [0; PATH_BYTES];
    read_at(rustix::fs::CWD, stat_path(b"/proc/", pid, &mut path))
}

/// Reads every process of this `/proc`, in the order of their pids.
pub fn sweep() -> io::Result<Vec<Stat>> {
    sweep_but(|_| None)
}

/// The same, but those for which there is something are not read: it is taken for what they are.
pub(super) fn sweep_but(kept: impl Fn(i32) -> Option<Stat>) -> io::Result<Vec<Stat>> {
    let proc = openat(
        rustix::fs::CWD,
        c"/proc",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut found = Vec::with_capacity(128);
    for entry in Dir::read_from(&proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|it| it.parse().ok()) else {
            continue;
        };
        if let Some(kept) = kept(pid) {
            found.push(kept);
            continue;
        }
        let mut path = [0; PATH_BYTES];
        // It may have ended since the directory was read.
        found.extend(read_at(&proc, stat_path(b"", pid, &mut path)).ok());
    }
    Ok(found)
}

const PATH_BYTES: usize = 32;

/// Writes `{prefix}{pid}/stat` into `buffer`: a sweep of thousands should not allocate.
fn stat_path<'a>(prefix: &[u8], pid: i32, buffer: &'a mut [u8; PATH_BYTES]) -> &'a [u8] {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    let written = rest.write_all(prefix).and_then(|()| write!(rest, "{pid}/stat"));
    let left = rest.len();
    written.map_or(&[], |()| &buffer[..PATH_BYTES - left])
}

fn read_at(directory: impl std::os::fd::AsFd, path: &[u8]) -> io::Result<Stat> {
    let file = openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 1024];
    let length = read(&file, &mut buffer)?;
    parse(&buffer[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reads a line. The name is in parentheses and may itself hold spaces and parentheses.
pub fn parse(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|it| *it == b'(')?;
    let close = line.iter().rposition(|it| *it == b')')?;
    let pid = number(line.get(..open)?.trim_ascii())?;
    let name = Comm::new(line.get(open + 1..close)?);
    // From field 3 on.
    let mut fields =
        line.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|it| !it.is_empty());
    let state = *fields.next()?.first()?;
    let parent = number(fields.next()?)?;
    let process_group = number(fields.next()?)?;
    let session = number(fields.next()?)?;
    let flags = number(fields.nth(2)?)?;
    let user: u64 = number(fields.nth(4)?)?;
    let system: u64 = number(fields.next()?)?;
    let threads = number(fields.nth(4)?)?;
    let start_time = number(fields.nth(1)?)?;
    let resident_pages = number(fields.nth(1)?)?;
    Some(Stat {
        identity: Identity { pid, start_time },
        name,
        state,
        parent,
        process_group,
        session,
        flags,
        cpu_ticks: user.saturating_add(system),
        threads,
        resident_pages,
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = b"4711 (a) S (b) S 1 4710 4709 0 -1 4194560 1 2 3 4 50 7 8 9 20 0 3 0 123456 \
            1000 321 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0";

        let stat = parse(line).unwrap();

        assert_eq!(
            stat,
            Stat {
                identity: Identity { pid: 4711, start_time: 123_456 },
                name: Comm::new(b"a) S (b"),
                state: b'S',
                parent: 1,
                process_group: 4710,
                session: 4709,
                flags: 4_194_560,
                cpu_ticks: 57,
                threads: 3,
                resident_pages: 321,
            }
        );
        assert_eq!(stat.name.to_string(), "a) S (b");
    }

    #[test]
    fn what_is_no_such_line_is_none() {
        for line in ["", "1", "1 (a", "1 (a) S 1", "x (a) S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        assert_eq!(Comm::new(b"\x1b[2Jevil").to_string(), "\\u{1b}[2Jevil");
    }

    #[test]
    fn a_leader_thread_that_ended_before_the_others_is_not_gone() {
        let line = b"7 (a) Z 1 7 7 0 -1 0 1 2 3 4 50 7 8 9 20 0 2 0 5 1000 321 0";
        assert!(!parse(line).unwrap().is_gone());
        let line = b"7 (a) Z 1 7 7 0 -1 0 1 2 3 4 50 7 8 9 20 0 1 0 5 1000 321 0";
        assert!(parse(line).unwrap().is_gone());
    }

    #[test]
    fn ticks_are_hundredths_of_a_second() {
        for (ticks, ms) in [(0, 0), (1, 10), (123_456, 1_234_560)] {
            let time = Duration::from_millis(ms);
            assert_eq!((time_of(ticks), ticks_of(time)), (time, ticks));
        }
        assert_eq!(ticks_of(Duration::from_millis(19)), 1, "only whole ones are over");
        assert_eq!(ticks_of(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_kernels_own_threads_are_told_apart() {
        let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0";
        assert!(parse(line).unwrap().is_kernel());
        assert!(!read_stat(std::process::id().cast_signed()).unwrap().is_kernel());
    }

    #[test]
    fn a_sweep_finds_this_process() {
        let me = std::process::id().cast_signed();
        let found = sweep().unwrap();
        let mine = found.iter().find(|it| it.identity.pid == me).unwrap();
        assert_eq!(mine.identity, read_stat(me).unwrap().identity);
        assert!(mine.resident_pages > 0);
    }
}
