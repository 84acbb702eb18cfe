//! Pid files: which process one names, and whether that can be true.
//!
//! A pid file outlives its process and even a reboot, and its number may be anybody's by then. It is written by
//! a process, or for it, once that has started: one that is younger than the file is another one that has
//! got the number since.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::Identity;
use super::identity::is_absent;
use super::preflight;
use super::stat::{Comm, TICKS_PER_SECOND, read_stat};

/// A number, and what some servers write behind it; the rest is no pid.
const BYTES: u64 = 256;
/// By so much a process may seem younger than its file: the moment of boot is known to about a second.
const SLACK: Duration = Duration::from_secs(2);

/// What is in a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub pid: i32,
    /// The user that the file belongs to.
    pub owner: u32,
    /// When it was written, since 1970.
    pub written: Duration,
}

/// A process that a pid file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub identity: Identity,
    pub name: Comm,
    /// Of the file.
    pub owner: u32,
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
    #[error("names pid {pid}, which is {name} by now: that was started after the file was written")]
    Younger { pid: i32, name: String },
    #[error("names pid {0}, which is never a server of its own")]
    Reserved(i32),
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
    Ok(PidFile { pid: parse(&bytes)?, owner: meta.uid(), written })
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

/// The process that a pid file names, if it can be the one that is meant. `boot`: when this host was booted,
/// since 1970.
///
/// # Errors
///
/// There is none.
pub fn named(path: &Path, boot: Duration) -> Result<Named, Absence> {
    let PidFile { pid, owner, written } = read(path)?;
    let failed = |err: io::Error| match is_absent(&err) {
        true => Absence::Ended(pid),
        false => Absence::Unreadable(format!("/proc/{pid}: {err}")),
    };
    let stat = read_stat(pid).map_err(failed)?;
    if stat.is_gone() {
        return Err(Absence::Ended(pid));
    }
    let ticks = stat.identity.start_time;
    let started = boot + Duration::from_millis(ticks.saturating_mul(1000) / TICKS_PER_SECOND);
    if started > written + SLACK {
        return Err(Absence::Younger { pid, name: stat.name.to_string() });
    }
    let users = preflight::users(pid).map_err(failed)?;
    Ok(Named { identity: stat.identity, name: stat.name, owner, users })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command};

    use super::*;

    const NOW: Duration = Duration::from_secs(u64::MAX / 4);

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
        assert_eq!(named(&path, Duration::ZERO), Err(Absence::Missing));

        let mut child = child();
        let pid = i32::try_from(child.id()).unwrap();
        fs::write(&path, format!("{pid}\n")).unwrap();
        let found = named(&path, Duration::ZERO).unwrap();
        let me = nix::unistd::Uid::effective().as_raw();
        assert_eq!((found.identity.pid, found.owner, found.users), (pid, me, [me, me]));
        assert_eq!(found.name.to_string(), "sleep");

        let name = "sleep".to_owned();
        assert_eq!(named(&path, NOW), Err(Absence::Younger { pid, name }));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named(&path, Duration::ZERO), Err(Absence::Ended(pid)));
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
