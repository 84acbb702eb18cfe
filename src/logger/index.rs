//! Which byte of a log came when: `web1.log.idx` beside `web1.log`.
//!
//! Records of 16 bytes, both numbers little endian: unix milliseconds, and the offset of the first byte that was taken
//! at that time. At most one a second, and only when something is taken. The bytes from one record's offset to the
//! next came within a second from the record's time.
//!
//! Offsets never decrease, so a line finds its time by binary search. Times may: the wall clock can be set back. So
//! `--since` looks for the last record that is older, from the end, and never skips a line because of a jump. A torn
//! last record is not seen by readers and overwritten by the next writer.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

pub(super) const RECORD: u64 = 16;
/// The grain of all times, in milliseconds.
pub(super) const GRAIN_MS: u64 = 1000;
/// Records that are read at a time.
const BLOCK: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at_ms: u64,
    pub(super) offset: u64,
}

impl Record {
    fn encode(self) -> [u8; RECORD as usize] {
        let mut bytes = [0; RECORD as usize];
        bytes[..8].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let number = |half: &[u8]| half.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        Self { at_ms: number(&bytes[..8]), offset: number(&bytes[8..16]) }
    }
}

/// The logger's end.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: File,
    count: u64,
    last: Option<Record>,
}

impl IndexWriter {
    /// Continues the index of a log that is `log_size` bytes long; one that cannot belong to it is begun anew.
    pub(super) fn open(path: &Path, log_size: u64) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let index = Index::of(file)?;
        let last = index.count.checked_sub(1).map(|n| index.record(n)).transpose()?;
        if log_size == 0 || last.is_some_and(|it| it.offset > log_size) {
            index.file.set_len(0)?;
            return Ok(Self { file: index.file, count: 0, last: None });
        }
        Ok(Self { file: index.file, count: index.count, last })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.count * RECORD
    }

    /// Says that the byte at `offset` is taken now. Writes only if the last record is older than the grain, or newer
    /// than now.
    pub(super) fn note(&mut self, at_ms: u64, offset: u64) -> io::Result<()> {
        let fresh =
            |last: Record| (last.at_ms..last.at_ms.saturating_add(GRAIN_MS)).contains(&at_ms);
        if self.last.is_some_and(fresh) {
            return Ok(());
        }
        let record = Record { at_ms, offset };
        // At a place of our own and not appended: what a full disk left of the last attempt is overwritten.
        self.file.write_all_at(&record.encode(), self.bytes())?;
        self.count += 1;
        self.last = Some(record);
        Ok(())
    }
}

/// The readers' end: the records that were complete when it was opened or refreshed.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    count: u64,
}

impl Index {
    pub(super) fn of(file: File) -> io::Result<Self> {
        let count = file.metadata()?.len() / RECORD;
        Ok(Self { file, count })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, count: self.count })
    }

    fn refresh(&mut self) -> io::Result<()> {
        self.count = self.file.metadata()?.len() / RECORD;
        Ok(())
    }

    fn record(&self, n: u64) -> io::Result<Record> {
        let mut bytes = [0; RECORD as usize];
        self.file.read_exact_at(&mut bytes, n * RECORD)?;
        Ok(Record::decode(&bytes))
    }

    fn block(&self, first: u64, end: u64) -> io::Result<Vec<Record>> {
        let mut bytes = vec![0; usize::try_from((end - first) * RECORD).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, first * RECORD)?;
        Ok(bytes.chunks_exact(RECORD as usize).map(Record::decode).collect())
    }

    /// Where to begin reading for what came at `since_ms` or later; `None` when every record is that late, so that the
    /// answer may lie in an older file. What it includes too much is less than the grain.
    pub(super) fn begin(&self, since_ms: u64) -> io::Result<Option<Begin>> {
        let mut end = self.count;
        let mut after = None;
        while end > 0 {
            let first = end.saturating_sub(BLOCK);
            for record in self.block(first, end)?.into_iter().rev() {
                if record.at_ms < since_ms {
                    // The last second before `since` may hold bytes that came after it.
                    let reaches = since_ms - record.at_ms < GRAIN_MS;
                    let begin = if reaches { Some(record.offset) } else { after };
                    return Ok(Some(begin.map_or(Begin::AtEnd, Begin::At)));
                }
                after = Some(record.offset);
            }
            end = first;
        }
        Ok(None)
    }

    /// When the byte at `offset` came.
    pub(super) fn at_ms(&self, offset: u64) -> io::Result<Option<u64>> {
        let record = self.covering(offset)?.checked_sub(1).map(|n| self.record(n)).transpose()?;
        Ok(record.map(|it| it.at_ms))
    }

    /// The number of records whose offset is at most `offset`.
    fn covering(&self, offset: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.offset <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    At(u64),
    /// Everything in this file is older.
    AtEnd,
}

/// Walks an index beside its log.
#[derive(Debug)]
pub(super) struct Cursor {
    index: Index,
    /// The record of the line that was asked for last.
    current: Option<Record>,
    /// What follows it, as far as it has been read.
    ahead: VecDeque<Record>,
    /// The number of the first record that is not in `ahead`.
    next: u64,
}

impl Cursor {
    /// Stands at `offset`; later questions must not be about earlier bytes.
    pub(super) fn new(index: Index, offset: u64) -> io::Result<Self> {
        let next = index.covering(offset)?;
        let current = next.checked_sub(1).map(|n| index.record(n)).transpose()?;
        Ok(Self { index, current, ahead: VecDeque::new(), next })
    }

    /// Sees the records that have been added.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.index.refresh()
    }

    /// When the byte at `offset` came.
    pub(super) fn at_ms(&mut self, offset: u64) -> io::Result<Option<u64>> {
        loop {
            if self.ahead.is_empty() {
                let end = self.index.count.min(self.next + BLOCK);
                if self.next < end {
                    self.ahead = self.index.block(self.next, end)?.into();
                    self.next = end;
                }
            }
            match self.ahead.front() {
                Some(record) if record.offset <= offset => self.current = self.ahead.pop_front(),
                Some(_) | None => return Ok(self.current.map(|it| it.at_ms)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(records: &[(u64, u64)]) -> Index {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> =
            records.iter().flat_map(|&(at_ms, offset)| Record { at_ms, offset }.encode()).collect();
        file.write_all_at(&bytes, 0).unwrap();
        Index::of(file).unwrap()
    }

    #[test]
    fn one_record_a_second_is_written_and_one_more_when_the_clock_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.idx");
        let mut writer = IndexWriter::open(&path, 0).unwrap();
        for (at_ms, offset) in
            [(5000, 0), (5999, 10), (6000, 20), (2000, 30), (2500, 40), (9000, 50)]
        {
            writer.note(at_ms, offset).unwrap();
        }
        assert_eq!(writer.bytes(), 64);
        let index = Index::of(File::open(&path).unwrap()).unwrap();
        let written: Vec<_> =
            index.block(0, 4).unwrap().iter().map(|it| (it.at_ms, it.offset)).collect();
        assert_eq!(written, [(5000, 0), (6000, 20), (2000, 30), (9000, 50)]);
    }

    #[test]
    fn a_torn_last_record_is_not_read_and_then_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.idx");
        let mut bytes = Record { at_ms: 1000, offset: 0 }.encode().to_vec();
        bytes.extend([7; 9]);
        std::fs::write(&path, &bytes).unwrap();
        let mut writer = IndexWriter::open(&path, 100).unwrap();
        assert_eq!(writer.last, Some(Record { at_ms: 1000, offset: 0 }));
        writer.note(3000, 100).unwrap();
        let index = Index::of(File::open(&path).unwrap()).unwrap();
        assert_eq!(index.record(1).unwrap(), Record { at_ms: 3000, offset: 100 });
    }

    #[test]
    fn an_index_of_another_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.idx");
        std::fs::write(&path, Record { at_ms: 1000, offset: 500 }.encode()).unwrap();
        assert_eq!(IndexWriter::open(&path, 500).unwrap().count, 1);
        assert_eq!(IndexWriter::open(&path, 499).unwrap().count, 0);
    }

    #[test]
    fn since_begins_in_the_second_that_holds_it() {
        let index = index(&[(1000, 0), (2000, 10), (9000, 20)]);
        assert_eq!(index.begin(1000).unwrap(), None);
        assert_eq!(index.begin(2500).unwrap(), Some(Begin::At(10)));
        assert_eq!(index.begin(3000).unwrap(), Some(Begin::At(20)));
        assert_eq!(index.begin(9500).unwrap(), Some(Begin::At(20)));
        assert_eq!(index.begin(20_000).unwrap(), Some(Begin::AtEnd));
    }

    #[test]
    fn since_survives_a_clock_that_was_wrong_for_a_while() {
        // A day ahead for two records, then right again.
        let index = index(&[
            (1000, 0),
            (86_401_000, 10),
            (86_402_000, 20),
            (4000, 30),
            (5000, 40),
            (6000, 50),
        ]);
        assert_eq!(index.begin(5500).unwrap(), Some(Begin::At(40)));
        assert_eq!(index.begin(3000).unwrap(), Some(Begin::At(10)));
    }

    #[test]
    fn since_and_the_cursor_agree_with_a_plain_look_over_many_records() {
        let records: Vec<(u64, u64)> = (0..1000).map(|n| (n * 1500, n * 7)).collect();
        let since = index(&records);
        let mut cursor = Cursor::new(index(&records), 0).unwrap();
        for n in 1..1000 {
            assert_eq!(since.begin(n * 1500).unwrap(), Some(Begin::At(n * 7)), "{n}");
            assert_eq!(cursor.at_ms(n * 7 + 3).unwrap(), Some(n * 1500));
        }
        let mut late = Cursor::new(index(&records), 700).unwrap();
        assert_eq!(late.at_ms(700).unwrap(), Some(150_000));
    }
}
