//! A command that goes on although the daemon that had begun it is dead.
//!
//! Its output is a pipe of which it has both ends itself, so it does not notice. Who opens that pipe again and
//! holds a pidfd sees what is printed and how it ends, as far as the kernel tells that to anybody but the parent.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use tokio::net::unix::pipe::Receiver;

use super::command::{Tail, until_death};
use super::reaper::Status;
use super::{Identity, identity, pidfd};

/// One that runs.
#[derive(Debug)]
pub struct Outlived {
    pidfd: OwnedFd,
    /// `None`: it has let go of it.
    reader: Option<Receiver>,
    keep: usize,
}

/// How one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `None`: nobody but its parent was told.
    pub status: Option<Status>,
    /// The last bytes of its output, as they came.
    pub output: Vec<u8>,
}

impl Outlived {
    /// Opens a command, if it runs; `pipe`: the number of [`super::command::Begun::pipe`]; `keep`: so much of its
    /// output is kept.
    ///
    /// # Errors
    ///
    /// It may run, and cannot be reached.
    pub fn find(leader: Identity, pipe: u64, keep: usize) -> io::Result<Option<Self>> {
        let reader = reader(leader.pid, pipe)?;
        // Looked at after the pipe was opened: it is the pipe of this very process.
        Ok(identity::open(leader)?.map(|pidfd| Self { pidfd, reader, keep }))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// The runtime cannot wait for it.
    pub async fn end(self) -> io::Result<End> {
        let mut tail = Tail::new(self.keep);
        let death = Box::pin(pidfd::exit(self.pidfd));
        let status = match &self.reader {
            Some(reader) => until_death(reader, &mut tail, death).await?,
            None => death.await?,
        };
        Ok(End { status, output: tail.bytes.into() })
    }
}

/// Another way into the pipe; what has another number is none of ours to read from.
fn reader(pid: i32, pipe: u64) -> io::Result<Option<Receiver>> {
    let is_it = |path: &String| {
        fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo() && it.ino() == pipe)
    };
    let paths = [1, 2].map(|number: u8| format!("/proc/{pid}/fd/{number}"));
    let Some(path) = paths.iter().find(|it| is_it(it)) else { return Ok(None) };
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Receiver::from_owned_fd(file.into()).map(Some)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process::identity::identity_of;

    #[tokio::test]
    async fn what_it_prints_is_read_again_by_somebody_else() {
        let (reader, writer) = io::pipe().unwrap();
        let pipe = rustix::fs::fstat(&reader).unwrap().st_ino;
        let both = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
            .unwrap();
        drop((reader, writer));
        let script = "read it; echo first; read it; echo last; exit 7";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(both).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(command);
        let leader = identity_of(child.id().cast_signed()).unwrap();
        let mut input = child.stdin.take().unwrap();
        io::Write::write_all(&mut input, b"go\n").unwrap();

        assert!(Outlived::find(leader, pipe, 100).unwrap().unwrap().reader.is_some());
        assert!(Outlived::find(leader, pipe + 1, 100).unwrap().unwrap().reader.is_none());
        let found = Outlived::find(leader, pipe, 100).unwrap().unwrap();
        let end = tokio::spawn(found.end());
        io::Write::write_all(&mut input, b"on\n").unwrap();
        child.wait().unwrap();
        let end = end.await.unwrap().unwrap();
        assert_eq!(end.output, b"first\nlast\n");
        assert!(matches!(end.status, None | Some(Status::Exited(7))), "{end:?}");
        assert!(Outlived::find(leader, pipe, 100).unwrap().is_none());
    }
}
