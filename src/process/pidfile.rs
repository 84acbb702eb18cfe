//! Pid files: which process one names, and whether that can be true.
//!
//! A pid file outlives its process and even a reboot, and its number may be anybody's by then. It is written by
//! a process, or for it, once that has started: one that is younger than the file is another one that has
//! got the number since. A file that was carried here, or out of a container, can hold anything: what is no
//! server, or cannot be the one that was meant there, is not believed either.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::Identity;
use super::identity::is_absent;
use super::preflight;
use super::stat::{Comm, Stat, read_stat, time_of};

/// A number, and what some servers write behind it; the rest is no pid.
const BYTES: u64 = 256;
/// By so much a process may seem younger than its file: the moment of boot is known to about a second.
const SLACK: Duration = Duration::from_secs(2);

/// What is in a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub pid: i32,
    /// When it was written, since 1970.
    pub written: Duration,
}

/// What time it is, since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub now: Duration,
    /// When this host was booted, by the same clock.
    pub boot: Duration,
}

/// A process that a pid file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub identity: Identity,
    pub name: Comm,
    /// The real and the saved user of the process: both may signal it anyway (kill(2)).
    pub users: [u32; 2],
}

/// Why it names no process; to be read behind the path of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is no file")]
    NoFile,
    #[error("is empty")]
    Empty,
    #[error("holds no pid, but {0:?}")]
    Garbage(String),
    #[error("names pid {0}, which does not run")]
    Ended(i32),
    #[error("is dated later than now: its age tells nothing; see to the clock, or `touch` it")]
    Later,
    #[error(
        "names pid {pid}, which is {name} by now: that was started after the file was written, \
         or the clock was set in between"
    )]
    Younger { pid: i32, name: String },
    #[error("names pid {0}, which is never a server of its own")]
    Reserved(i32),
    #[error("names pid {pid} ({name}), {unfit}")]
    Unfit { pid: i32, name: String, unfit: Unfit },
}

/// Why a process can never be the one that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("which is a part of the kernel")]
    Kernel,
    #[error("which is only a thread of pid {0}")]
    Thread(i32),
    #[error("which runs in a container and has the number {0} there: another one is meant")]
    Contained(i32),
    #[error("which opsdeck itself runs under")]
    Above,
}

impl Absence {
    /// More than that nothing runs: somebody should look at the file.
    pub fn is_odd(&self) -> bool {
        !matches!(self, Self::Missing | Self::Empty | Self::Ended(_))
    }
}

/// Reads a pid file. What is no plain file is not waited for.
///
/// # Errors
///
/// There is no pid in it.
pub fn read(path: &Path) -> Result<PidFile, Absence> {
    let unreadable = |err: io::Error| match err.kind() {
        io::ErrorKind::NotFound => Absence::Missing,
        _ => Absence::Unreadable(err.to_string()),
    };
    // A pipe in its place would be waited for, a terminal would become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Absence::NoFile);
    }
    let mut bytes = vec![];
    file.take(BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
    let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
    let written = Duration::new(seconds, nanos);
    Ok(PidFile { pid: parse(&bytes)?, written })
}

/// The number on the first line; some servers write more lines.
fn parse(bytes: &[u8]) -> Result<i32, Absence> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(Absence::Empty);
    }
    let garbage = || Absence::Garbage(line.chars().take(20).collect());
    let is_number = line.bytes().all(|it| it.is_ascii_digit());
    let pid: i32 = line.parse().ok().filter(|_| is_number).ok_or_else(garbage)?;
    let is_reserved = pid <= 1 || pid.cast_unsigned() == std::process::id();
    if is_reserved { Err(Absence::Reserved(pid)) } else { Ok(pid) }
}

/// The process that a pid file names, if it can be the one that is meant.
///
/// # Errors
///
/// There is none.
pub fn named(path: &Path, clock: Clock) -> Result<Named, Absence> {
    let PidFile { pid, written } = read(path)?;
    let unreadable = |err: io::Error| Absence::Unreadable(format!("/proc/{pid}: {err}"));
    let failed = |err: io::Error| match is_absent(&err) {
        true => Absence::Ended(pid),
        false => unreadable(err),
    };
    let stat = read_stat(pid).map_err(failed)?;
    if stat.is_gone() {
        return Err(Absence::Ended(pid));
    }
    let name = || stat.name.to_string();
    let status = preflight::status(pid).map_err(failed)?;
    if let Some(unfit) = unfit(&stat, &status, &above()) {
        return Err(Absence::Unfit { pid, name: name(), unfit });
    }
    if written > clock.now + SLACK {
        return Err(Absence::Later);
    }
    if clock.boot + time_of(stat.identity.start_time) > written + SLACK {
        return Err(Absence::Younger { pid, name: name() });
    }
    let users = preflight::users(&status)
        .ok_or_else(|| unreadable(io::Error::new(io::ErrorKind::InvalidData, "no users")))?;
    Ok(Named { identity: stat.identity, name: stat.name, users })
}

/// Who this process descends from, the first one of all aside.
fn above() -> Vec<i32> {
    let parent = |pid: &i32| read_stat(*pid).ok().map(|it| it.parent).filter(|it| *it > 1);
    let me = std::process::id().cast_signed();
    std::iter::successors(Some(me), parent).skip(1).collect()
}

/// Why this can be no server that a pid file means; `status`: its `/proc/PID/status`.
///
/// The number is taken for one of ours. What runs in a container has another one there as well, and writes
/// that. Only of its first process, number 1, somebody outside writes the number that it has here.
fn unfit(stat: &Stat, status: &str, above: &[i32]) -> Option<Unfit> {
    let pid = stat.identity.pid;
    if stat.is_kernel() {
        return Some(Unfit::Kernel);
    }
    if let Some(leader) = preflight::numbers(status, "Tgid").first().filter(|it| **it != pid) {
        return Some(Unfit::Thread(*leader));
    }
    let inner = preflight::numbers(status, "NSpid").into_iter().skip(1).last();
    if let Some(inner) = inner.filter(|it| *it != 1) {
        return Some(Unfit::Contained(inner));
    }
    above.contains(&pid).then_some(Unfit::Above)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command};

    use super::*;

    const LATE: Duration = Duration::from_secs(u64::MAX / 4);
    /// Everything is old enough, and nothing too young.
    const ANY: Clock = Clock { now: LATE, boot: Duration::ZERO };

    fn child() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn the_first_line_is_a_pid_or_nothing_is() {
        assert_eq!(parse(b"4711"), Ok(4711));
        assert_eq!(parse(b" 4711\n/var/lib/postgresql\n"), Ok(4711));
        for garbage in ["-4711", "+4711", "0x12", "47 11", "99999999999", "a\x1b[2J", "4711;rm"] {
            let found = parse(garbage.as_bytes());
            assert!(matches!(found, Err(Absence::Garbage(_))), "{garbage}: {found:?}");
        }
        for reserved in ["0", "1", &std::process::id().to_string()] {
            assert!(matches!(parse(reserved.as_bytes()), Err(Absence::Reserved(_))), "{reserved}");
        }
        assert_eq!(parse(b"\n4711"), Err(Absence::Empty));
    }

    #[test]
    fn a_file_names_the_process_that_is_as_old_as_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.pid");
        assert_eq!(named(&path, ANY), Err(Absence::Missing));

        let mut child = child();
        let pid = i32::try_from(child.id()).unwrap();
        fs::write(&path, format!("{pid}\n")).unwrap();
        let found = named(&path, ANY).unwrap();
        let me = nix::unistd::Uid::effective().as_raw();
        assert_eq!((found.identity.pid, found.users), (pid, [me, me]));
        assert_eq!(found.name.to_string(), "sleep");

        let name = "sleep".to_owned();
        let booted_late = Clock { boot: LATE, ..ANY };
        assert_eq!(named(&path, booted_late), Err(Absence::Younger { pid, name }));
        // What is dated later than now cannot be told from what was left behind.
        let set_back = Clock { now: Duration::ZERO, ..ANY };
        assert_eq!(named(&path, set_back), Err(Absence::Later));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named(&path, ANY), Err(Absence::Ended(pid)));
    }

    fn why_not(path: &Path, pid: u32) -> Option<Unfit> {
        fs::write(path, pid.to_string()).unwrap();
        match named(path, ANY) {
            Err(Absence::Unfit { unfit, .. }) => Some(unfit),
            _ => None,
        }
    }

    #[test]
    fn a_thread_and_who_runs_us_are_no_servers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.pid");
        let me = std::process::id();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            let _ = ended.recv();
        });
        let tid = told.recv().unwrap();
        assert_eq!(why_not(&path, tid), Some(Unfit::Thread(me.cast_signed())));
        drop(end);
        thread.join().unwrap();

        let parent = std::os::unix::process::parent_id();
        if parent > 1 {
            assert_eq!(why_not(&path, parent), Some(Unfit::Above));
        }
        let mut child = child();
        assert_eq!(why_not(&path, child.id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_kernel_and_containers_have_numbers_that_are_not_meant() {
        let line = |flags: u32| {
            let line = format!("70 (web) S 2 0 0 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 5 1000 9 0");
            crate::process::stat::parse(line.as_bytes()).unwrap()
        };
        let of = |spaces: &str| format!("Name:\tweb\nTgid:\t70\nNSpid:\t{spaces}\n");
        let plain = line(0x40_0000);
        assert_eq!(unfit(&line(0x20_8040), &of("70"), &[]), Some(Unfit::Kernel));
        assert_eq!(unfit(&plain, &of("70"), &[71]), None, "2 is anybody in a container");
        assert_eq!(unfit(&plain, &of("70\t12"), &[]), Some(Unfit::Contained(12)));
        assert_eq!(unfit(&plain, &of("70\t1\t9"), &[]), Some(Unfit::Contained(9)));
        assert_eq!(unfit(&plain, &of("70\t1"), &[]), None, "its runtime wrote that");
        assert_eq!(unfit(&plain, "Name:\tweb\n", &[]), None, "an old kernel does not tell");
        assert_eq!(unfit(&plain, &of("70"), &[70]), Some(Unfit::Above));
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&pipe), Err(Absence::NoFile));
        assert_eq!(read(dir.path()), Err(Absence::NoFile));
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
