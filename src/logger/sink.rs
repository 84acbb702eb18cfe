//! The open log file: where the bytes of one FIFO land.
//!
//! Opened without `O_APPEND` (splice refuses that), positioned at its end, and locked as long as it is open, because two
//! writers with a position of their own would overwrite each other. Moving is one `splice(2)`: what has left the pipe
//! is in the file, whenever we are killed.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};
use rustix::pipe::{SpliceFlags, splice};

use super::index::{IndexWriter, RECORD};
use super::rotate::numbered_index;

#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    at: u64,
    /// Without one the log is still complete, only its times are not.
    index: Option<IndexWriter>,
}

impl Sink {
    /// Opens or creates the log. `WouldBlock` means that somebody else still holds the lock.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        let mut file = match open_file(log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = log.parent().unwrap_or(Path::new("."));
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                open_file(log)?
            }
            other => other?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Another logger may have rotated it between the opening and the lock.
        if !is_same(&file.metadata()?, log)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let at = file.seek(SeekFrom::End(0))?;
        let index = IndexWriter::open(&numbered_index(log, 0), at).ok();
        Ok(Self { file, at, index })
    }

    /// Looks whether this is still the file at that path: somebody may have moved, removed or truncated it.
    pub(super) fn is_current(&mut self, log: &Path) -> io::Result<bool> {
        let found = self.file.metadata()?;
        if found.len() > self.at {
            self.at = self.file.seek(SeekFrom::End(0))?;
        }
        Ok(found.len() == self.at && is_same(&found, log)?)
    }

    /// How many bytes fit before the file and its index, one more record included, are `max_size` long.
    pub(super) fn room(&self, max_size: u64) -> u64 {
        let index = self.index.as_ref().map_or(0, |it| it.bytes() + RECORD);
        max_size.saturating_sub(self.at + index)
    }

    /// Moves up to `len` bytes from the FIFO to the file, and returns how many: 0 when there was nothing.
    pub(super) fn take(&mut self, fifo: impl AsFd, len: usize, wall_ms: u64) -> io::Result<usize> {
        if let Some(index) = &mut self.index {
            // Times are worth less than lines: a full disk will tell soon enough.
            let _ = index.note(wall_ms, self.at);
        }
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = match splice(fifo, None, &self.file, None, len, flags) {
            Ok(moved) => moved,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.at += moved as u64;
        Ok(moved)
    }

    /// Writes a line of our own, whole or not at all, on a line of its own.
    pub(super) fn remark(&mut self, text: &str) -> io::Result<()> {
        let line = if self.ends_a_line()? { format!("{text}\n") } else { format!("\n{text}\n") };
        if let Err(error) = self.file.write_all_at(line.as_bytes(), self.at) {
            self.file.set_len(self.at)?;
            return Err(error);
        }
        self.at = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn ends_a_line(&self) -> io::Result<bool> {
        let Some(last) = self.at.checked_sub(1) else { return Ok(true) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        Ok(byte == *b"\n")
    }
}

fn open_file(log: &Path) -> io::Result<File> {
    // NONBLOCK and NOCTTY for whatever else may lie at that path.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(log)
}

/// Whether `path` still names this file.
pub(super) fn is_same(file: &Metadata, path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
