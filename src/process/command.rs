//! Runs one command to its end: builds, rollbacks, exec probes.
//!
//! Its output comes through a pipe and only the end of it is kept, so a command that floods costs
//! nothing but its own time. After its timeout everything it started is killed. Its death comes
//! from the one [`Reaper`]: nothing here waits for a pid.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::Identity;
use super::exec_as::{Refusal, Switch, Verdict};
use super::group::{Group, Marks};
use super::reaper::{Reaper, Status};
use super::spawn::{Launch, Output, SpawnError, Spawned};

/// A command that is to run to its end.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Never empty. No shell is involved.
    pub argv: &'a [String],
    pub directory: Option<&'a Path>,
    /// Complete, as for [`Launch`].
    pub environment: &'a [(String, String)],
    pub switch: Option<&'a Switch>,
    pub timeout: Duration,
    /// Bytes of output that are kept: the last ones.
    pub keep: usize,
    /// What it leaves in the background is killed.
    pub leaves_nothing: bool,
    /// It runs on if nobody waits for its end any more, and may print what its pipe holds; [`super::outlived`]
    /// takes it up again.
    pub outlives: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// The last bytes of standard output and error, as they came.
    pub output: Vec<u8>,
    /// Bytes before these that were dropped.
    pub dropped: u64,
    /// It was killed, with everything it had started, because its time was over.
    pub timed_out: bool,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("could not read the output of {program}: {source}")]
    Output { program: String, source: io::Error },
    #[error("nobody reaps the children of this process any more")]
    NotReaped,
}

/// Runs a command until it has ended, or its time is over.
///
/// As [`begin`] and [`Begun::end`]. If this future is dropped the session is killed, unless it outlives that.
pub async fn run(reaper: &Reaper, command: Command<'_>) -> Result<Outcome, CommandError> {
    begin(reaper, command)?.end().await
}

/// A command that runs. Dropped, it is killed with its whole session, unless it outlives that.
pub struct Begun<'a> {
    reaper: &'a Reaper,
    command: Command<'a>,
    spawned: Spawned,
    death: oneshot::Receiver<Status>,
    reader: Receiver,
    session: Session,
}

/// Starts a command.
pub fn begin<'a>(reaper: &'a Reaper, command: Command<'a>) -> Result<Begun<'a>, CommandError> {
    begin_with(reaper, command, None)
}

/// Starts a command that reads this file.
pub fn begin_with_input<'a>(
    reaper: &'a Reaper,
    command: Command<'a>,
    input: &Path,
) -> Result<Begun<'a>, CommandError> {
    begin_with(reaper, command, Some(input))
}

/// For the output. Who outlives this process has both ends: without a reader it must not end by SIGPIPE.
fn pipe(outlives: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    if !outlives {
        return Ok((reader.into(), writer.into()));
    }
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let both = std::fs::File::options().read(true).write(true).open(path)?;
    Ok((reader.into(), both.into()))
}

fn begin_with<'a>(
    reaper: &'a Reaper,
    command: Command<'a>,
    input: Option<&Path>,
) -> Result<Begun<'a>, CommandError> {
    let unreadable = |source| CommandError::Output {
        program: command.argv.first().cloned().unwrap_or_default(),
        source,
    };
    let (reader, writer) = pipe(command.outlives).map_err(SpawnError::Pipe)?;
    let reader = Receiver::from_owned_fd(reader).map_err(unreadable)?;
    let launch = Launch {
        argv: command.argv,
        directory: command.directory,
        environment: command.environment,
        output: match input {
            Some(input) => Output::WithInput(writer.as_fd(), input),
            None => Output::Descriptor(writer.as_fd()),
        },
        passed: &[],
        switch: command.switch,
        cgroup: None,
    };
    let (spawned, death) = reaper.spawn_awaited(&launch)?;
    let marks = Marks::of_output(writer.as_fd()).map_err(unreadable)?;
    drop(writer);
    let group = Group::new(spawned.identity, None, marks);
    let session = Session { group, is_over: command.outlives };
    Ok(Begun { reaper, command, spawned, death, reader, session })
}

impl Begun<'_> {
    /// The process that leads its session.
    pub fn identity(&self) -> Identity {
        self.spawned.identity
    }

    /// The number of the pipe that is its output, by which [`super::outlived`] finds it.
    pub fn pipe(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.reader)?.st_ino)
    }

    /// Waits until it has ended, or its time is over, which begins now.
    ///
    /// What it leaves running in the background may go on, unless it is to leave nothing, or its time is
    /// over: then its whole session is killed.
    pub async fn end(self) -> Result<Outcome, CommandError> {
        let Self { reaper, command, mut spawned, mut death, reader, mut session } = self;
        let mut tail = Tail::new(command.keep);
        let work = until_death(&reader, &mut tail, &mut death);
        let (status, timed_out) = match tokio::time::timeout(command.timeout, work).await {
            Ok(status) => {
                if command.leaves_nothing {
                    session.kill_rest(reaper);
                }
                (status, false)
            }
            Err(_) => {
                session.kill();
                (until_death(&reader, &mut tail, &mut death).await, true)
            }
        };
        let status = status.map_err(|_| CommandError::NotReaped)?;
        session.is_over = true;
        if let Some(Verdict::Refused(source)) = spawned.refusal.as_mut().map(Refusal::verdict) {
            return Err(source.into());
        }
        Ok(Outcome { status, output: tail.bytes.into(), dropped: tail.dropped, timed_out })
    }
}

/// Reads until the command itself is dead, and then what the pipe still holds.
///
/// Not until the end of the output: what it left in the background may hold the pipe for ever.
pub(super) async fn until_death<T>(
    reader: &Receiver,
    tail: &mut Tail,
    mut death: impl Future<Output = T> + Unpin,
) -> T {
    let mut is_open = true;
    loop {
        let readable = tokio::select! {
            biased;
            status = &mut death => {
                // As much as a pipe can hold; somebody in the background may go on writing.
                tail.take_from(reader);
                return status;
            }
            readable = reader.readable(), if is_open => readable,
        };
        // The end, or an error that will not get better: the death is still to come.
        is_open = match readable.and_then(|()| tail.read_from(reader)) {
            Ok(length) => length > 0,
            Err(source) => source.kind() == io::ErrorKind::WouldBlock,
        };
    }
}

/// Kills what a command started if nobody waits for its end any more.
struct Session {
    group: Group,
    is_over: bool,
}

impl Session {
    fn kill(&mut self) {
        if let Err(source) = self.group.kill() {
            tracing::warn!(pid = self.group.leader().pid, %source, "could not kill a command");
        }
    }

    /// The command has ended: costs one short read if nobody is left.
    fn kill_rest(&mut self, reaper: &Reaper) {
        if !self.group.has_ended(reaper).unwrap_or(false) {
            self.kill();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill();
        }
    }
}

/// The last bytes of a stream.
pub(super) struct Tail {
    pub(super) bytes: VecDeque<u8>,
    most: usize,
    dropped: u64,
    buffer: Box<[u8]>,
}

/// What a pipe holds unless somebody asked for more.
const PIPE_BYTES: usize = 64 * 1024;

impl Tail {
    pub(super) fn new(most: usize) -> Self {
        let buffer = vec![0; PIPE_BYTES].into_boxed_slice();
        Self { bytes: VecDeque::new(), most, dropped: 0, buffer }
    }

    fn read_from(&mut self, pipe: &Receiver) -> io::Result<usize> {
        let length = pipe.try_read(&mut self.buffer)?;
        self.keep(length);
        Ok(length)
    }

    /// Keeps so much of the buffer.
    fn keep(&mut self, length: usize) {
        self.bytes.extend(&self.buffer[..length]);
        let surplus = self.bytes.len().saturating_sub(self.most);
        self.bytes.drain(..surplus);
        self.dropped += surplus as u64;
    }

    /// Reads what is there, at most about one pipe full.
    ///
    /// From the kernel itself: of a death that was found while another child was waited for, the runtime may
    /// know before it knows that there is something to read.
    fn take_from(&mut self, pipe: &Receiver) {
        let mut total = 0;
        while total < PIPE_BYTES
            && let Ok(length @ 1..) = rustix::io::read(pipe, &mut self.buffer[..])
        {
            self.keep(length);
            total += length;
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
