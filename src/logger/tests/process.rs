//! The logger as a process of its own, which is this test binary again, and a daemon's end of its socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::logger::{
    FromLogger, SOCKET_NAME, Source, ToLogger, decode, encode, make_fifo, open_fifo, run,
};

/// Bounds every wait for the logger.
const PATIENCE: Duration = Duration::from_secs(20);
const RUNTIME_DIR: &str = "OPSDECK_TEST_LOGGER";
const FILE_LIMIT: &str = "OPSDECK_TEST_FILE_LIMIT";

/// Not a test of its own: what [`Deck`] starts runs the logger here, with its listener as standard input.
#[test]
fn is_the_logger_when_a_test_starts_it() {
    let Some(runtime_dir) = std::env::var_os(RUNTIME_DIR) else { return };
    if let Some(limit) = std::env::var(FILE_LIMIT).ok().and_then(|it| it.parse().ok()) {
        setrlimit(Resource::Fsize, Rlimit { current: Some(limit), ..getrlimit(Resource::Fsize) })
            .unwrap();
    }
    let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    run(listener, Path::new(&runtime_dir)).unwrap();
}

/// A runtime directory and the logger that works in it.
pub(super) struct Deck {
    dir: Arc<tempfile::TempDir>,
    file_limit: Option<u64>,
    logger: Child,
}

impl Deck {
    pub(super) fn new() -> Self {
        Self::with_file_limit(None)
    }

    /// `file_limit`: no file of the logger may grow beyond that.
    pub(super) fn with_file_limit(file_limit: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logger = start(dir.path(), file_limit);
        Self { dir: Arc::new(dir), file_limit, logger }
    }

    /// A second logger in the same directory, with a socket of its own.
    pub(super) fn successor(&self) -> Self {
        std::fs::remove_file(self.dir().join(SOCKET_NAME)).unwrap();
        let logger = start(self.dir(), None);
        Self { dir: Arc::clone(&self.dir), file_limit: None, logger }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn pid(&self) -> u32 {
        self.logger.id()
    }

    pub(super) fn kill(&mut self) {
        self.logger.kill().unwrap();
        self.logger.wait().unwrap();
    }

    /// Signals the thread that serves. In a real logger that is the process; the test harness has another one, which
    /// does not block what that one takes.
    #[expect(unsafe_code, reason = "no safe function signals a thread of another process")]
    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.pid().cast_signed();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let ids = tasks.map(|it| it.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap());
        let thread = ids.max().unwrap();
        // SAFETY: takes three numbers; the process is our child and not reaped yet.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal as i32) };
        assert_eq!(result, 0);
    }

    /// Waits for a logger that was told to go.
    pub(super) fn wait(&mut self) -> bool {
        self.logger.wait().unwrap().success()
    }

    pub(super) fn start(&mut self) {
        std::fs::remove_file(self.dir().join(SOCKET_NAME)).unwrap();
        self.logger = start(self.dir.path(), self.file_limit);
    }

    pub(super) fn connect(&self) -> Daemon {
        let stream = UnixStream::connect(self.dir().join(SOCKET_NAME)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Daemon { reports: BufReader::new(stream), flushes: 0, seen: BTreeMap::new() }
    }

    /// A source with its FIFO, which the caller holds as the daemon does.
    pub(super) fn source(&self, name: &str, max_size: u64, keep: u32) -> (Source, OwnedFd) {
        let fifo = self.dir().join(format!("{name}.fifo"));
        make_fifo(&fifo, None).unwrap();
        let held = open_fifo(&fifo).unwrap();
        let log = self.dir().join("logs").join(format!("{name}.log"));
        (Source { name: name.into(), fifo, log, max_size, keep }, held)
    }
}

impl Drop for Deck {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.logger.kill();
        let _ = self.logger.wait();
    }
}

fn start(dir: &Path, file_limit: Option<u64>) -> Child {
    let listener = UnixListener::bind(dir.join(SOCKET_NAME)).unwrap();
    let test = format!(
        "{}::is_the_logger_when_a_test_starts_it",
        module_path!().split_once("::").unwrap().1
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &test]).env(RUNTIME_DIR, dir);
    if let Some(limit) = file_limit {
        command.env(FILE_LIMIT, limit.to_string());
    }
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).spawn().unwrap()
}

/// A daemon's connection.
pub(super) struct Daemon {
    reports: BufReader<UnixStream>,
    flushes: u64,
    /// What the last `Grew` of each log said.
    seen: BTreeMap<String, u64>,
}

impl Daemon {
    pub(super) fn say(&mut self, order: &ToLogger) {
        self.say_raw(&encode(order).unwrap());
    }

    pub(super) fn say_raw(&mut self, bytes: &[u8]) {
        self.try_say_raw(bytes).unwrap();
    }

    pub(super) fn try_say_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reports.get_mut().write_all(bytes)
    }

    pub(super) fn hear(&mut self) -> FromLogger {
        let mut line = vec![];
        self.reports.read_until(b'\n', &mut line).unwrap();
        assert!(!line.is_empty(), "the logger hung up");
        decode(&line).unwrap()
    }

    /// Whether the logger has ended the connection.
    pub(super) fn is_cut_off(&mut self) -> bool {
        let mut rest = vec![];
        !matches!(self.reports.read_until(b'\n', &mut rest), Ok(1..))
    }

    pub(super) fn open(&mut self, source: &Source) {
        self.say(&ToLogger::Open(source.clone()));
    }

    /// Waits until everything that is in the FIFO is in the log, and returns what was reported meanwhile.
    pub(super) fn flush(&mut self, name: &str) -> Vec<FromLogger> {
        self.flushes += 1;
        let id = self.flushes;
        self.say(&ToLogger::Flush { name: name.into(), id });
        self.hear_until(|it| *it == FromLogger::Flushed { id })
    }

    pub(super) fn hear_until(&mut self, is_it: impl Fn(&FromLogger) -> bool) -> Vec<FromLogger> {
        let mut heard = vec![];
        loop {
            let report = self.hear();
            let last = is_it(&report);
            heard.push(report);
            if last {
                return heard;
            }
        }
    }

    /// Waits until the log has grown since the last time this was asked.
    pub(super) fn watch(&mut self, name: &str) {
        let seen = self.seen.entry(name.into()).or_default();
        let watch = ToLogger::Watch { name: name.into(), after: *seen };
        self.say(&watch);
        let heard = self
            .hear_until(|it| matches!(it, FromLogger::Grew { name: grown, .. } if grown == name));
        let Some(FromLogger::Grew { moved, .. }) = heard.last() else { return };
        self.seen.insert(name.into(), *moved);
    }
}

/// A child with the FIFO as standard output and error, and a pipe as input.
pub(super) fn child(fifo: &OwnedFd, shell: &str) -> Child {
    let output = || Stdio::from(fifo.try_clone().unwrap());
    Command::new("sh")
        .args(["-c", shell])
        .stdin(Stdio::piped())
        .stdout(output())
        .stderr(output())
        .spawn()
        .unwrap()
}

/// All bytes of the files of a log and their indexes, by the files' names.
pub(super) fn sizes(log: &Path) -> Vec<(PathBuf, u64)> {
    let files = std::fs::read_dir(log.parent().unwrap()).unwrap().map(Result::unwrap);
    let ours = |path: &Path| path.to_str().unwrap().starts_with(log.to_str().unwrap());
    let mut sizes: Vec<_> = files
        .map(|it| (it.path(), it.metadata().unwrap().len()))
        .filter(|(path, _)| ours(path))
        .collect();
    sizes.sort();
    sizes
}
