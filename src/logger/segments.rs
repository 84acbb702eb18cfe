//! A log as readers see it: its rotated files, oldest first, as one stretch of bytes.
//!
//! Opened from the newest to the oldest. A rotation meanwhile only moves files towards where we look next, so the same
//! file may be met twice, which is noticed, but none can be missed. A file that has been opened stays readable however
//! it is renamed. Lengths are those of the moment of opening, so that reading ends.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::clock::unix_ms;
use super::index::{Begin, Cursor, Index};
use super::page::Mark;
use super::rotate::{KEEP_LIMIT, numbered, numbered_index};
use super::sink::is_same;

/// Bytes that are read at a time.
pub(super) const BLOCK: usize = 64 * 1024;

/// Device and inode: a file, whatever it is called.
pub(super) type FileId = (u64, u64);

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) id: FileId,
    /// Tells the file from every other one, also from a later one with its inode.
    pub(super) mark: u64,
    pub(super) len: u64,
    changed_ms: u64,
    /// Taken out by whoever walks it.
    pub(super) index: Option<Index>,
}

#[derive(Debug)]
pub(super) struct Segments {
    /// Each with the position of its first byte.
    list: Vec<(u64, Segment)>,
    end: u64,
}

impl Segments {
    /// Opens every file of the log. None at all is an empty log.
    pub(super) fn open(log: &Path) -> io::Result<Self> {
        let mut list = open_all(log)?;
        list.reverse();
        let mut end = 0;
        let list = list.into_iter().map(|segment| {
            let start = end;
            end += segment.len;
            (start, segment)
        });
        Ok(Self { list: list.collect(), end })
    }

    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Reads what is at `position`; nothing at the end, or where somebody has truncated a file since.
    pub(super) fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((start, segment)) = self.holding(position).map(|n| &self.list[n]) else {
            return Ok(0);
        };
        let offset = position - start;
        let len = usize::try_from(segment.len - offset).unwrap_or(usize::MAX).min(buffer.len());
        segment.file.read_at(&mut buffer[..len], offset)
    }

    /// Reads exactly what lies in the range, which must be within the log.
    pub(super) fn read_range(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        let mut done = 0;
        while done < bytes.len() {
            match self.read_at(from + done as u64, &mut bytes[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(bytes)
    }

    /// The file with the byte at `position`.
    fn holding(&self, position: u64) -> Option<usize> {
        if position >= self.end {
            return None;
        }
        let after = self.list.partition_point(|(start, _)| *start <= position);
        // Of files that begin at the same place, all but the last are empty.
        after.checked_sub(1)
    }

    /// Where to begin for what came at `since_ms` or later, less than a second too early, perhaps within a line.
    pub(super) fn since(&self, since_ms: u64) -> io::Result<u64> {
        for (start, segment) in self.list.iter().rev() {
            let begin = match &segment.index {
                Some(index) => index.begin(since_ms)?,
                // Without an index the last change is all that is known.
                None => (segment.changed_ms < since_ms).then_some(Begin::AtEnd),
            };
            match begin {
                Some(Begin::At(offset)) => return Ok(start + offset.min(segment.len)),
                Some(Begin::AtEnd) => return Ok(start + segment.len),
                None => {}
            }
        }
        Ok(0)
    }

    /// The position of a byte that was marked. In a file that is gone, or was emptied since, that is its start: a file
    /// that is gone was the oldest.
    pub(super) fn position(&self, mark: Mark) -> u64 {
        let segment = self.list.iter().find(|(_, it)| it.mark == mark.file);
        segment.map_or(0, |(start, it)| {
            start + Some(mark.offset).filter(|offset| *offset <= it.len).unwrap_or(0)
        })
    }

    /// What [`Self::position`] will find again; `None` where there is no file.
    pub(super) fn mark(&self, position: u64) -> Option<Mark> {
        let n = self.holding(position).or(self.list.len().checked_sub(1))?;
        let (start, segment) = &self.list[n];
        Some(Mark { file: segment.mark, offset: position - start })
    }

    /// When the byte at `position` came.
    pub(super) fn at_ms(&self, position: u64) -> io::Result<Option<u64>> {
        let found = self.holding(position).map(|n| &self.list[n]);
        let found = found.and_then(|(start, it)| Some((position - start, it.index.as_ref()?)));
        found.map_or(Ok(None), |(offset, index)| index.at_ms(offset))
    }

    /// The file and the offset of a position; at the very end, the end of the newest file.
    pub(super) fn place(&self, position: u64) -> io::Result<Option<Place>> {
        let Some(n) = self.holding(position).or(self.list.len().checked_sub(1)) else {
            return Ok(None);
        };
        let (start, segment) = &self.list[n];
        let index = segment.index.as_ref().map(Index::try_clone).transpose()?;
        let offset = position - start;
        let (id, mark) = (segment.id, segment.mark);
        Ok(Some(Place { file: segment.file.try_clone()?, id, mark, offset, index }))
    }
}

/// A byte of a file of the log.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) mark: u64,
    pub(super) offset: u64,
    pub(super) index: Option<Index>,
}

/// Opens every file of the log, newest first.
pub(super) fn open_all(log: &Path) -> io::Result<Vec<Segment>> {
    let mut list: Vec<Segment> = vec![];
    let mut missing = 0;
    for n in 0..=KEEP_LIMIT {
        match open_numbered(log, n)? {
            Some(segment) if list.iter().any(|it| it.id == segment.id) => {}
            Some(segment) => {
                list.push(segment);
                missing = 0;
            }
            // A log between two files has no newest one, and a rotation leaves one gap while it runs.
            None if missing == 2 => break,
            None => missing += 1,
        }
    }
    Ok(list)
}

fn open_numbered(log: &Path, n: u32) -> io::Result<Option<Segment>> {
    let path = numbered(log, n);
    let Some(file) = open_existing(&path)? else { return Ok(None) };
    let found = file.metadata()?;
    let mut index = open_existing(&numbered_index(log, n))?;
    // In the middle of a rotation it went ahead of its file, and the next one's file is away already.
    if index.is_none() && !numbered(log, n + 1).try_exists()? {
        index = open_existing(&numbered_index(log, n + 1))?;
    }
    // Indexes move just before their files: if the file is still here, this index is its own.
    let index = if is_same(&found, &path)? { index.map(Index::of).transpose()? } else { None };
    let changed_ms = found.modified().map_or(unix_ms(SystemTime::UNIX_EPOCH), unix_ms);
    let id = (found.dev(), found.ino());
    Ok(Some(Segment { id, mark: mark_of(&found), len: found.len(), changed_ms, index, file }))
}

/// From the inode and the time of birth, where the file system knows that: inodes are used again, often at once.
pub(super) fn mark_of(found: &Metadata) -> u64 {
    let born = found.created().ok().and_then(|it| it.duration_since(SystemTime::UNIX_EPOCH).ok());
    let born = born.map_or(0, |it| it.as_nanos() as u64);
    // FNV-1a: it must be the same in the next daemon, which may be of another release.
    let bytes = [found.dev(), found.ino(), born].map(u64::to_le_bytes);
    bytes.iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn open_existing(path: &Path) -> io::Result<Option<File>> {
    // NONBLOCK: a FIFO that somebody put there must not hold a reader.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells the time of one position after the other.
#[derive(Debug)]
pub(super) struct Times {
    /// The start of each file, and its index until it is walked.
    indexes: Vec<(u64, Option<Index>)>,
    walking: Option<(usize, Cursor)>,
}

impl Times {
    pub(super) fn of(segments: &mut Segments) -> Self {
        let indexes =
            segments.list.iter_mut().map(|(start, it)| (*start, it.index.take())).collect();
        Self { indexes, walking: None }
    }

    /// When the byte at `position` came; positions must not go back.
    pub(super) fn at_ms(&mut self, position: u64) -> io::Result<Option<u64>> {
        let after = self.indexes.partition_point(|(start, _)| *start <= position);
        let Some(n) = after.checked_sub(1) else { return Ok(None) };
        let (start, index) = &mut self.indexes[n];
        let offset = position - *start;
        if self.walking.as_ref().is_none_or(|(walked, _)| *walked != n) {
            let cursor = index.take().map(|it| Cursor::new(it, offset)).transpose()?;
            self.walking = cursor.map(|it| (n, it));
        }
        match &mut self.walking {
            Some((_, cursor)) => cursor.at_ms(offset),
            None => Ok(None),
        }
    }
}
