//! The daemon's own log: its lines go to standard error by a thread of their own.
//!
//! Whoever reads them may be slow or gone, and the disk below them full: that holds up no turn and ends nothing. What
//! cannot be written is dropped and counted, and the next line that can be says how much that was.
//!
//! Where standard error is `daemon.log`, which nobody else looks after, it is rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::kept::state::is_elsewhere;
use super::{own, systemd};

/// Lines that wait for a reader who is slow.
const LINES: usize = 1024;
/// How long the end of the daemon waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// `daemon.log` is rotated beyond this size, in bytes.
const MOST: u64 = 8 << 20;

static LOG: OnceLock<Log> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Where lines are handed in.
#[derive(Debug)]
pub struct Log {
    queue: SyncSender<Piece>,
    dropped: &'static AtomicU64,
}

enum Piece {
    Line(Vec<u8>),
    /// Where standard error is a file at this path, it is rotated.
    Rotates(PathBuf),
    /// Everything before it was written.
    Written(SyncSender<()>),
}

impl Log {
    /// Hands in a line; drops it where too many wait.
    fn say(&self, line: Vec<u8>) {
        if self.queue.try_send(Piece::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts the thread. Returns what makes the writers of events: `priority`, each line begins with one.
pub fn begin(priority: bool) -> io::Result<Lines> {
    let (queue, pieces) = sync_channel(LINES);
    // A signal to the process must not be taken by a thread that does nothing with it.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let begun = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(&pieces, &DROPPED, &mut Stderr::default()));
    mask.thread_set_mask()?;
    begun?;
    let log = LOG.get_or_init(|| Log { queue, dropped: &DROPPED });
    Ok(Lines { log, priority })
}

/// Where standard error is the file `daemon.log` of this directory, it is rotated from now on.
pub fn rotates_in(state_dir: &Path) {
    if let Some(log) = LOG.get() {
        // Full: it grows until the next start.
        let _ = log.queue.try_send(Piece::Rotates(state_dir.join("daemon.log")));
    }
}

/// Waits until what was said is written, for a while.
pub fn finish() {
    let Some(log) = LOG.get() else { return };
    let (done, written) = sync_channel(1);
    if log.queue.try_send(Piece::Written(done)).is_ok() {
        // Whoever does not read is not waited for.
        let _ = written.recv_timeout(LAST_WORDS);
    }
}

/// Puts a log that has grown aside; the one before that is gone.
pub fn rotate(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|it| it.len() > MOST) {
        // Without success it goes on where it is.
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
}

/// Where lines end up.
trait Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn rotates(&mut self, path: PathBuf);
}

/// The thread: until nobody hands in anything any more.
fn write_all(pieces: &Receiver<Piece>, dropped: &AtomicU64, sink: &mut impl Sink) {
    for piece in pieces {
        let line = match piece {
            Piece::Line(line) => line,
            Piece::Rotates(path) => {
                sink.rotates(path);
                continue;
            }
            Piece::Written(done) => {
                // Whoever asked may have gone.
                let _ = done.try_send(());
                continue;
            }
        };
        let missing = dropped.swap(0, Ordering::Relaxed);
        let told = match missing {
            0 => Ok(()),
            n => sink.write(format!("{n} lines of this log were dropped\n").as_bytes()),
        };
        if told.is_err() {
            dropped.fetch_add(missing + 1, Ordering::Relaxed);
        } else if sink.write(&line).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct Stderr {
    path: Option<PathBuf>,
    /// Bytes since it was looked how long the file is.
    written: u64,
}

impl Sink for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)?;
        self.written += bytes.len() as u64;
        if self.written > MOST / 16 {
            self.written = 0;
            self.look();
        }
        Ok(())
    }

    fn rotates(&mut self, path: PathBuf) {
        self.path = Some(path);
        self.look();
    }
}

impl Stderr {
    fn look(&self) {
        let Some(path) = &self.path else { return };
        let Ok(ours) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
        let is_long = ours.metadata().is_ok_and(|it| it.is_file() && it.len() > MOST);
        if is_long && !is_elsewhere(&ours, path) {
            rotate(path);
            let next = own::open(OpenOptions::new().create(true).append(true), path);
            // What cannot be opened is not written to: the old one goes on.
            let _ = next.map(nix::unistd::dup2_stderr);
        }
    }
}

/// Makes the writer of each event.
#[derive(Debug)]
pub struct Lines {
    log: &'static Log,
    priority: bool,
}

/// Writes one event.
#[derive(Debug)]
pub struct Event {
    log: &'static Log,
    priority: Option<Level>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event { log: self.log, priority: self.priority.then_some(Level::INFO) }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Event {
        Event { log: self.log, priority: self.priority.then_some(*event.level()) }
    }
}

impl Write for Event {
    /// One event is one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.log.say(match self.priority {
            Some(level) => systemd::with_priority(level, event),
            None => event.to_vec(),
        });
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that has room now and then.
    #[derive(Default)]
    struct Disk {
        text: String,
        full: bool,
    }

    impl Sink for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text += std::str::from_utf8(bytes).unwrap();
            Ok(())
        }

        fn rotates(&mut self, path: PathBuf) {
            self.full = path.as_os_str() == "full";
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_by_the_next_line_that_can() {
        let dropped = AtomicU64::new(0);
        let (queue, pieces) = sync_channel(100);
        let say = |line: &str| queue.send(Piece::Line(line.into())).unwrap();
        say("one\n");
        queue.send(Piece::Rotates("full".into())).unwrap();
        say("two\n");
        say("three\n");
        queue.send(Piece::Rotates("empty".into())).unwrap();
        say("four\n");
        drop(queue);
        let mut disk = Disk::default();
        write_all(&pieces, &dropped, &mut disk);
        assert_eq!(disk.text, "one\n2 lines of this log were dropped\nfour\n");
        assert_eq!(dropped.into_inner(), 0);
    }

    #[test]
    fn whoever_says_more_than_is_read_is_not_held_up() {
        let (queue, pieces) = sync_channel(2);
        let log = Log { queue, dropped: Box::leak(Box::default()) };
        for n in 0..10 {
            log.say(format!("{n}\n").into());
        }
        let Log { queue, dropped } = log;
        drop(queue);
        let mut disk = Disk::default();
        write_all(&pieces, dropped, &mut disk);
        assert_eq!(disk.text, "8 lines of this log were dropped\n0\n1\n");
    }
}
