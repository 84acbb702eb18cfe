//! Files of `/proc/PID` that the kernel takes from the memory of the process: `cmdline`, `environ`, `smaps_rollup`.
//!
//! It takes the lock of that memory for it. Where somebody sleeps with the lock, or the memory is of a file system
//! that does not answer, whoever reads sleeps as well, and only SIGKILL ends that. So they are read on a thread
//! beside, and nobody waits longer than some tenths of a second. A thread that sleeps is left to itself, and until it
//! wakes nothing is read of that process: one that is stuck costs one thread, and more than 32 nobody gets.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long a file may take; after each one of a list that took longer, half of that, but never less than [`LEAST`].
const PATIENCE: Duration = Duration::from_millis(300);
const LEAST: Duration = Duration::from_millis(20);
/// Threads that may sleep at a time.
const MOST: usize = 32;
/// A file without an end, as a device has, is none of `/proc`.
const WHOLE: u64 = 8 << 20;

/// The first bytes of a file, and whether there were more.
pub(super) type Bytes = (Vec<u8>, bool);

/// Threads that sleep, each with whom it reads of; it is awake once that is gone.
static ASLEEP: Mutex<Vec<(i32, Weak<()>)>> = Mutex::new(vec![]);
/// One that waits for work: most lists are read by the same thread.
static IDLE: Mutex<Option<Reader>> = Mutex::new(None);

/// `/proc/PID/name`, all of it.
///
/// # Errors
///
/// Those of reading it; [`io::ErrorKind::TimedOut`] where that takes too long.
pub fn read(pid: i32, name: &str) -> io::Result<Vec<u8>> {
    Ok(read_some(pid, name, WHOLE)?.0)
}

/// The first bytes of it.
pub(super) fn read_some(pid: i32, name: &str, most: u64) -> io::Result<Bytes> {
    read_each(&[pid], name, most).pop().unwrap_or_else(|| Err(too_slow()))
}

/// The same of each of these processes.
pub(super) fn read_each(pids: &[i32], name: &str, most: u64) -> Vec<io::Result<Bytes>> {
    let file = |pid: &i32| (*pid, PathBuf::from(format!("/proc/{pid}/{name}")));
    read_files(pids.iter().map(file).collect(), most)
}

/// In their order.
fn read_files(files: Vec<(i32, PathBuf)>, most: u64) -> Vec<io::Result<Bytes>> {
    let mut patience = PATIENCE;
    let mut read = Vec::with_capacity(files.len());
    while let Some((pid, _)) = files.get(read.len()) {
        let reader = match is_asleep(*pid) {
            true => Err(too_slow()),
            false => Reader::get(),
        };
        let reader = match reader {
            Ok(reader) => reader,
            Err(err) => {
                read.push(Err(err));
                continue;
            }
        };
        let awake = |it: &&(i32, PathBuf)| !is_asleep(it.0);
        let list: Vec<_> = files[read.len()..].iter().take_while(awake).cloned().collect();
        if let Some(reader) = reader.read(list, most, patience, &mut read) {
            reader.put_back();
        } else {
            patience = LEAST.max(patience / 2);
        }
    }
    read
}

fn too_slow() -> io::Error {
    let why = "the kernel does not let anybody read it: its process is stuck";
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn asleep() -> std::sync::MutexGuard<'static, Vec<(i32, Weak<()>)>> {
    let mut asleep = ASLEEP.lock().unwrap_or_else(PoisonError::into_inner);
    asleep.retain(|it| it.1.strong_count() > 0);
    asleep
}

/// Somebody reads of it still.
fn is_asleep(pid: i32) -> bool {
    asleep().iter().any(|it| it.0 == pid)
}

/// A thread that reads.
struct Reader {
    orders: Sender<(Vec<(i32, PathBuf)>, u64)>,
    read: Receiver<io::Result<Bytes>>,
    lives: Weak<()>,
}

impl Reader {
    fn get() -> io::Result<Self> {
        if asleep().len() >= MOST {
            return Err(too_slow());
        }
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).take();
        idle.map_or_else(Self::begin, Ok)
    }

    fn begin() -> io::Result<Self> {
        let (orders, inbox) = channel::<(Vec<(i32, PathBuf)>, u64)>();
        let (outbox, read) = channel();
        let life = Arc::new(());
        let lives = Arc::downgrade(&life);
        let work = move || {
            let _life = life;
            for (files, most) in inbox {
                for (_, path) in files {
                    if outbox.send(read_file(&path, most)).is_err() {
                        // Nobody waits for it any more.
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new().name("proc".into()).spawn(work)?;
        Ok(Self { orders, read, lives })
    }

    fn put_back(self) {
        *IDLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// Itself, if it has come to the end of the list.
    fn read(
        self,
        files: Vec<(i32, PathBuf)>,
        most: u64,
        patience: Duration,
        into: &mut Vec<io::Result<Bytes>>,
    ) -> Option<Self> {
        let pids: Vec<i32> = files.iter().map(|it| it.0).collect();
        // A thread that has died answers as one that sleeps does.
        let _ = self.orders.send((files, most));
        for pid in pids {
            match self.read.recv_timeout(patience) {
                Ok(read) => into.push(read),
                Err(why) => {
                    if why == RecvTimeoutError::Timeout {
                        asleep().push((pid, self.lives));
                    }
                    into.push(Err(too_slow()));
                    return None;
                }
            }
        }
        Some(self)
    }
}

fn read_file(path: &PathBuf, most: u64) -> io::Result<Bytes> {
    let mut bytes = vec![];
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    let is_cut = bytes.len() as u64 > most;
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok((bytes, is_cut))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::{MutexGuard, PoisonError};

    use nix::sys::stat::Mode;

    use super::*;

    /// They count threads of this process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files that nobody can open until somebody writes to them, and one that can be read.
    fn files(stuck: i32) -> (tempfile::TempDir, Vec<(i32, PathBuf)>) {
        let directory = tempfile::tempdir().unwrap();
        let path = |n: i32| directory.path().join(n.to_string());
        // No process has a number below 1.
        let files = (1..=stuck).map(|n| (-n, path(n)));
        let files: Vec<_> = files.chain([(0, path(0))]).collect();
        for (_, path) in &files[..files.len() - 1] {
            nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
        }
        std::fs::write(path(0), "php-fpm: pool www\0").unwrap();
        (directory, files)
    }

    fn wake(files: &[(i32, PathBuf)]) {
        let (_, fifos) = files.split_last().unwrap();
        // Where nobody reads, nobody is to be woken.
        let open = |it: &(i32, PathBuf)| {
            let mut options = OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
            drop(options.write(true).open(&it.1));
        };
        let sleeps = || fifos.iter().any(|it| is_asleep(it.0));
        while sleeps() {
            fifos.iter().for_each(open);
            std::thread::yield_now();
        }
    }

    fn words(read: &[io::Result<Bytes>]) -> Vec<String> {
        let word = |it: &io::Result<Bytes>| match it {
            Ok((bytes, _)) => String::from_utf8_lossy(bytes).into_owned(),
            Err(err) => err.kind().to_string(),
        };
        read.iter().map(word).collect()
    }

    #[test]
    fn one_that_is_stuck_holds_up_nobody_and_is_read_again_once_it_wakes() {
        let _alone = alone();
        let (_directory, files) = files(1);
        let seen = words(&read_files(files.clone(), 7));
        assert_eq!(seen, ["timed out", "php-fpm"]);
        assert!(is_asleep(-1), "and no second thread is given to it");
        assert_eq!(words(&read_files(files.clone(), 7)), ["timed out", "php-fpm"]);
        assert_eq!(asleep().len(), 1);
        wake(&files);
        std::fs::remove_file(&files[0].1).unwrap();
        std::fs::write(&files[0].1, "").unwrap();
        assert_eq!(words(&read_files(files, 7)), ["", "php-fpm"]);
    }

    #[test]
    fn many_that_are_stuck_get_no_more_threads_than_some() {
        let _alone = alone();
        let (_directory, files) = files(36);
        let seen = words(&read_files(files.clone(), 100));
        assert_eq!(asleep().len(), MOST);
        assert_eq!(seen, ["timed out"; 37]);
        wake(&files);
        assert_eq!(words(&read_files(files[36..].to_vec(), 100)), ["php-fpm: pool www\0"]);
    }

    #[test]
    fn what_is_read_is_bounded_and_an_error_is_one_of_its_file() {
        let me = std::process::id().cast_signed();
        let all = read(me, "cmdline").unwrap();
        assert_eq!(read_some(me, "cmdline", 3).unwrap(), (all[..3].to_vec(), true));
        let found = read_each(&[me, i32::MAX, me], "cmdline", WHOLE);
        assert_eq!(words(&found)[1], "entity not found");
        assert_eq!((words(&found)[0].as_bytes(), words(&found)[2].as_bytes()), (&*all, &*all));
    }
}
