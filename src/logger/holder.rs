//! Holds every FIFO of a runtime directory open, and does nothing else.
//!
//! What is in a FIFO is gone as soon as nobody has it open (pipe(7)). Daemon and logger hold them as well; this process
//! is there for the moment in which both are killed and a service ends: what it said last stays where it is until the
//! next logger takes it. It is told nothing and does nothing that could fail later: it sees in the directory which FIFOs
//! there are, and ends when the directory does.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use rustix::fs::FlockOperation;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::fifo::open_nonblocking;
use super::run::{ignore, raise_descriptor_limit};

/// Locked by the holder as long as it lives, with a lock of fcntl(2): whoever asks hears its pid.
const LOCK_NAME: &str = "holder.lock";
/// Room for events, each of which has at most 16 + 256 bytes (inotify(7)).
const BLOCK: usize = 4096;

/// Holds the FIFOs until the directory is removed; returns at once if another process holds them.
///
/// This is the whole process: it changes signal dispositions and limits.
pub fn hold(runtime_dir: &Path) -> io::Result<()> {
    let lock = lock_file(runtime_dir)?;
    match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => return Ok(()),
        locked => locked?,
    }
    raise_descriptor_limit();
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        ignore(signal)?;
    }
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    let about = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, runtime_dir, about)?;
    let mut fifos = Fifos { directory: runtime_dir.to_owned(), open: BTreeMap::new() };
    fifos.look();
    let mut block = [MaybeUninit::uninit(); BLOCK];
    let mut events = inotify::Reader::new(watch, &mut block);
    loop {
        let event = match events.next() {
            Err(Errno::INTR) => continue,
            event => event?,
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            fifos.look();
        } else if let Some(name) = event.file_name() {
            let name = OsStr::from_bytes(name.to_bytes()).to_owned();
            fifos.changed(name, event.events().contains(ReadFlags::DELETE));
        }
        if event.events().contains(ReadFlags::IGNORED) || lock.metadata()?.nlink() == 0 {
            // The directory is being removed: it is not gone itself before everything in it is closed.
            return Ok(());
        }
    }
}

/// The pid of the process that holds the FIFOs of this directory; `None`: there is none.
pub fn holder(runtime_dir: &Path) -> io::Result<Option<i32>> {
    let file = lock_file(runtime_dir)?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as i16).then_some(lock.l_pid))
}

fn lock_file(runtime_dir: &Path) -> io::Result<File> {
    let path = runtime_dir.join(LOCK_NAME);
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

struct Fifos {
    directory: PathBuf,
    open: BTreeMap<OsString, OwnedFd>,
}

impl Fifos {
    /// Opens what is there, and lets go of what is not.
    fn look(&mut self) {
        let before = std::mem::take(&mut self.open);
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        for entry in entries.map_while(Result::ok) {
            self.changed(entry.file_name(), false);
        }
        // Not earlier: nobody else may have them open.
        drop(before);
    }

    fn changed(&mut self, name: OsString, is_gone: bool) {
        if is_gone {
            self.open.remove(&name);
        } else if name.as_bytes().ends_with(b".fifo")
            && let Ok(fifo) = open_nonblocking(&self.directory.join(&name))
        {
            // One that cannot be opened is held by daemon and logger alone.
            self.open.insert(name, fifo);
        }
    }
}
