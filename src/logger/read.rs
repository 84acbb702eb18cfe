//! Reading a log: the last lines, the lines since a time, the lines that match.
//!
//! Everything is bounded: a line longer than [`LINE_LIMIT`] comes in pieces, files are read a block at a time, and the
//! end is where the log ended when it was opened. Bytes come as they were written, whether or not they are UTF-8; what
//! may reach a terminal is somebody else's question.

use std::io;
use std::path::Path;

use super::follow::Follower;
use super::page::Mark;
use super::pattern::Pattern;
use super::segments::{BLOCK, Segments, Times};
use super::tail;

/// The longest piece of a line, in bytes.
pub const LINE_LIMIT: usize = 64 * 1024;

/// Which lines. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// The last so many of those that the other two let through.
    pub lines: Option<usize>,
    /// What came at this time or later, unix milliseconds; up to a second more, because the index has that grain.
    pub since_ms: Option<u64>,
    /// Lines that match; each piece of a line that is too long is looked at by itself.
    pub grep: Option<Pattern>,
    /// What begins at this byte or after it.
    pub after: Option<Mark>,
}

impl LogQuery {
    pub(super) fn lets_through(&self, line: &[u8]) -> bool {
        self.grep.as_ref().is_none_or(|it| it.matches(line))
    }
}

/// A line, or a piece of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, unix milliseconds, to the second below; `None` where the index is missing.
    pub at_ms: Option<u64>,
    /// Without the newline.
    pub bytes: Vec<u8>,
    /// No newline came here: the line goes on in the next one, or it is the last and not finished yet.
    pub partial: bool,
    /// Where it begins and where the next one does.
    pub place: Option<(Mark, Mark)>,
}

/// Reads the log and the files rotated from it, oldest first. A log that does not exist is empty.
pub fn read(log: &Path, query: LogQuery) -> io::Result<Lines> {
    let segments = Segments::open(log)?;
    let end = segments.end();
    Lines::new(segments, end, query)
}

/// Reads like [`read()`], but leaves out a last line that is not finished, and returns the follower that goes on exactly
/// there, with the same pattern.
pub fn read_then_follow(log: &Path, query: LogQuery) -> io::Result<(Lines, Follower)> {
    let segments = Segments::open(log)?;
    let end = tail::unfinished(&segments)?;
    let follower = Follower::new(log, segments.place(end)?, query.clone())?;
    Ok((Lines::new(segments, end, query)?, follower))
}

/// The lines of a log, oldest first. After an error there are no more.
#[derive(Debug)]
pub struct Lines {
    segments: Segments,
    times: Times,
    query: LogQuery,
    walker: Walker,
}

impl Lines {
    fn new(mut segments: Segments, end: u64, query: LogQuery) -> io::Result<Self> {
        let from = match query.since_ms {
            Some(since_ms) => tail::next_line(&segments, segments.since(since_ms)?, end)?,
            None => 0,
        };
        let from = query.after.map_or(from, |it| from.max(segments.position(it).min(end)));
        let from = match (query.lines, &query.grep) {
            (None, _) => from,
            (Some(n), None) => tail::last_lines(&segments, from, end, n)?,
            (Some(n), Some(_)) => tail::last_matches(&segments, from, end, n, &query)?,
        };
        let times = Times::of(&mut segments);
        Ok(Self { segments, times, query, walker: Walker::new(from, end) })
    }

    fn advance(&mut self) -> io::Result<Option<Line>> {
        while let Some((position, piece)) = self.walker.next(&self.segments)? {
            if self.query.lets_through(&piece.bytes) {
                let at_ms = self.times.at_ms(position)?;
                let ends = position + piece.bytes.len() as u64 + u64::from(!piece.partial);
                let place = self.segments.mark(position).zip(self.segments.mark(ends));
                return Ok(Some(Line { at_ms, bytes: piece.bytes, partial: piece.partial, place }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.walker.stop();
        }
        next.transpose()
    }
}

/// Goes through a stretch of the log piece by piece.
#[derive(Debug)]
pub(super) struct Walker {
    splitter: Splitter,
    /// The position of the splitter's first byte.
    at: u64,
    read_to: u64,
    end: u64,
}

impl Walker {
    pub(super) fn new(from: u64, end: u64) -> Self {
        Self { splitter: Splitter::default(), at: from, read_to: from, end }
    }

    fn stop(&mut self) {
        *self = Self::new(self.end, self.end);
    }

    /// Returns the next piece and its position.
    pub(super) fn next(&mut self, segments: &Segments) -> io::Result<Option<(u64, Piece)>> {
        let piece = loop {
            if let Some(piece) = self.splitter.next() {
                break Some(piece);
            }
            let want = usize::try_from(self.end - self.read_to).unwrap_or(BLOCK).min(BLOCK);
            let read = self.splitter.fill(want, |buffer| segments.read_at(self.read_to, buffer))?;
            if read == 0 {
                break self.splitter.rest();
            }
            self.read_to += read as u64;
        };
        Ok(piece.map(|piece| {
            let position = self.at;
            self.at += piece.bytes.len() as u64 + u64::from(!piece.partial);
            (position, piece)
        }))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Without the newline.
    pub(super) bytes: Vec<u8>,
    pub(super) partial: bool,
}

/// Cuts bytes into lines, and lines that are too long into pieces; holds what is not a whole piece yet.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    start: usize,
}

impl Splitter {
    /// Bytes that have been put in and not come out.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Puts in up to `len` bytes and returns how many came.
    pub(super) fn fill(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + len, 0);
        let read = read(&mut self.buffer[held..]);
        self.buffer.truncate(held + read.as_ref().map_or(0, |n| *n));
        read
    }

    pub(super) fn next(&mut self) -> Option<Piece> {
        let held = &self.buffer[self.start..];
        // A line of exactly the limit is whole: its newline comes after it.
        let window = &held[..held.len().min(LINE_LIMIT + 1)];
        if let Some(len) = window.iter().position(|byte| *byte == b'\n') {
            let bytes = window[..len].to_vec();
            self.start += len + 1;
            return Some(Piece { bytes, partial: false });
        }
        if window.len() <= LINE_LIMIT {
            return None;
        }
        let bytes = window[..LINE_LIMIT].to_vec();
        self.start += LINE_LIMIT;
        Some(Piece { bytes, partial: true })
    }

    /// Gives out what is held although it is not whole.
    pub(super) fn rest(&mut self) -> Option<Piece> {
        let bytes = self.buffer.split_off(self.start);
        *self = Self::default();
        (!bytes.is_empty()).then_some(Piece { bytes, partial: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logger::tests::{log_of, text};

    #[test]
    fn lines_come_from_the_oldest_file_to_the_newest_and_cut_ones_are_joined() {
        let log = log_of(&["one\ntw", "o\nthr", "ee", "\nfour"]);
        assert_eq!(text(read(log.path(), LogQuery::default()).unwrap()), "one|two|three|four…");
    }

    #[test]
    fn a_log_that_does_not_exist_is_empty() {
        let log = log_of(&[]);
        assert_eq!(text(read(log.path(), LogQuery::default()).unwrap()), "");
    }

    #[test]
    fn a_gap_in_the_numbers_hides_nothing() {
        let log = log_of(&["a\n", "b\n", "c\n", "d\n"]);
        let numbered = |n| crate::logger::rotate::numbered(log.path(), n);
        std::fs::rename(numbered(3), numbered(4)).unwrap();
        std::fs::rename(numbered(2), numbered(3)).unwrap();
        assert_eq!(text(read(log.path(), LogQuery::default()).unwrap()), "a|b|c|d");
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_one_of_the_limit_does_not() {
        let long = format!("{}\n{}\n", "x".repeat(LINE_LIMIT), "y".repeat(LINE_LIMIT * 2 + 5));
        let log = log_of(&[&long]);
        let lines = read(log.path(), LogQuery::default()).unwrap().map(Result::unwrap);
        let shape: Vec<_> = lines.map(|it| (it.bytes[0], it.bytes.len(), it.partial)).collect();
        let expected = [
            (b'x', LINE_LIMIT, false),
            (b'y', LINE_LIMIT, true),
            (b'y', LINE_LIMIT, true),
            (b'y', 5, false),
        ];
        assert_eq!(shape, expected);
    }

    #[test]
    fn bytes_that_are_not_utf8_come_unchanged() {
        let log = log_of(&[""]);
        std::fs::write(log.path(), b"\xff\xfe\0\x1b[31m\r\n").unwrap();
        let line = read(log.path(), LogQuery::default()).unwrap().next().unwrap().unwrap();
        assert_eq!(
            line,
            Line { bytes: b"\xff\xfe\0\x1b[31m\r".into(), place: line.place, ..Line::default() }
        );
    }

    #[test]
    fn what_is_read_and_what_is_followed_fit_together() {
        let log = log_of(&["one\ntwo\nth"]);
        let (lines, mut follower) = read_then_follow(log.path(), LogQuery::default()).unwrap();
        std::fs::write(log.path(), "one\ntwo\nthree\n").unwrap();
        assert_eq!(text(lines), "one|two");
        assert_eq!(text(follower.poll().unwrap().into_iter().map(Ok)), "three");
    }
}
