//! The pipe with a name between a service and the logger.
//!
//! A FIFO rather than a pipe, because whoever restarts can open it again by its path. Everybody opens it for reading
//! and writing: nobody then gets a SIGPIPE or an end of file when another one dies, and what is in it survives as long
//! as one holder does. It must lie in a directory that only its owner can write to.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

const PRIVATE: u32 = 0o600;

/// Makes the FIFO, mode 0600, belonging to `owner` or else to us.
///
/// One that is there already is used again, whoever holds it, and gets the owner and mode it should have: after a look
/// that it is a FIFO, and ours or `owner`'s or in a directory where only we can have put it (a service may have changed
/// its user). Anything else at that path is an error and stays untouched.
pub fn make_fifo(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(PRIVATE)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = std::fs::symlink_metadata(path)?;
    if FileType::from_raw_mode(found.mode()) != FileType::Fifo {
        return Err(refused(path, "is in the way: it is not a FIFO; remove it"));
    }
    let us = rustix::process::geteuid().as_raw();
    let (uid, gid) = owner.unwrap_or((us, found.gid()));
    if found.uid() != us && found.uid() != uid && !is_private_to(us, path)? {
        return Err(refused(
            path,
            &format!("belongs to uid {}, not to the service's user; remove it", found.uid()),
        ));
    }
    if found.mode() & 0o7777 != PRIVATE {
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(PRIVATE), AtFlags::empty())?;
    }
    if (found.uid(), found.gid()) != (uid, gid) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Opens the FIFO for reading and writing, blocking: what a child gets as descriptors 1 and 2, and what the daemon
/// keeps, so that the last words of a child survive a logger that died at the same moment. Closed on exec.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::empty())
}

/// As [`open_fifo`], by the link of a process that has it open (`/proc/PID/fd/1`): whatever became of its path.
pub fn open_fifo_of(link: &Path) -> io::Result<OwnedFd> {
    open_with(link, OFlags::empty())
}

/// The logger's own description of it: never blocks.
pub(super) fn open_nonblocking(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::NONBLOCK)
}

fn open(path: &Path, more: OFlags) -> io::Result<OwnedFd> {
    open_with(path, OFlags::NOFOLLOW | more)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags.bits().cast_signed();
    // O_RDWR on a FIFO never waits for a peer, and std adds O_CLOEXEC.
    let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
    if FileType::from_raw_mode(file.metadata()?.mode()) != FileType::Fifo {
        return Err(refused(path, "is not a FIFO"));
    }
    Ok(file.into())
}

fn is_private_to(uid: u32, path: &Path) -> io::Result<bool> {
    let directory = std::fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    Ok(directory.uid() == uid && directory.mode() & 0o022 == 0)
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_fifo_is_private_and_made_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1.fifo");
        make_fifo(&path, None).unwrap();
        let first = std::fs::metadata(&path).unwrap();
        make_fifo(&path, None).unwrap();
        let second = std::fs::metadata(&path).unwrap();
        assert_eq!((first.mode() & 0o7777, first.ino()), (0o600, second.ino()));
    }

    #[test]
    fn a_fifo_that_others_could_write_to_is_made_private_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1.fifo");
        make_fifo(&path, None).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        make_fifo(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_fifo_of_a_stranger_is_used_only_where_no_stranger_can_have_put_it() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give a FIFO away.
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1.fifo");
        make_fifo(&path, Some((65534, 65534))).unwrap();
        make_fifo(&path, Some((1, 1))).unwrap();
        let owner = |path: &Path| std::fs::metadata(path).map(|it| (it.uid(), it.gid())).unwrap();
        assert_eq!(owner(&path), (1, 1));

        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(make_fifo(&path, None).unwrap_err().to_string().contains("belongs to uid 1"));
        assert_eq!(owner(&path), (1, 1));
    }

    #[test]
    fn something_else_at_the_path_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web1.fifo");
        std::fs::write(&path, "precious").unwrap();
        assert!(make_fifo(&path, None).unwrap_err().to_string().contains("not a FIFO"));
        assert!(open_fifo(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
