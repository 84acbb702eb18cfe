//! Where to begin reading for the last lines, found from the end backwards: a log of 10 GiB answers at once.
//!
//! A line that is too long counts as many as it has pieces, so that `-n 10` is never more than ten times the limit,
//! also where no newline ever comes.

use std::io;

use super::read::{LINE_LIMIT, LogQuery, Walker};
use super::segments::{BLOCK, Segments};

/// Looked through at a time for lines that match.
const STRETCH: u64 = 1024 * 1024;

/// The position where the last `n` lines of a stretch begin.
pub(super) fn last_lines(segments: &Segments, from: u64, end: u64, n: usize) -> io::Result<u64> {
    let most = (LINE_LIMIT as u64 + 1).saturating_mul(n as u64);
    let from = from.max(end.saturating_sub(most));
    let mut left = n;
    // The newline at the very end ends the last line, it begins no other.
    let mut to = end.saturating_sub(1).max(from);
    while left > 0 && to > from {
        let first = from.max(to.saturating_sub(BLOCK as u64));
        let block = segments.read_range(first, to)?;
        for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(first + offset as u64 + 1);
            }
        }
        to = first;
    }
    Ok(if n == 0 { end } else { from })
}

/// The position of the `n`th last line that matches, or the first one if there are fewer.
pub(super) fn last_matches(
    segments: &Segments,
    from: u64,
    end: u64,
    n: usize,
    query: &LogQuery,
) -> io::Result<u64> {
    let mut left = n;
    let mut to = end;
    let mut earliest = end;
    while left > 0 && to > from {
        let first = from.max(to.saturating_sub(STRETCH));
        let begin = if first == from { from } else { next_line(segments, first, end)? };
        let found = matches_between(segments, begin, to, end, query)?;
        if let Some(oldest) = found.len().checked_sub(left) {
            return Ok(found[oldest]);
        }
        left -= found.len();
        earliest = found.first().copied().unwrap_or(earliest);
        to = first;
    }
    Ok(earliest)
}

/// The positions of the lines that match and begin in `from..to`.
fn matches_between(
    segments: &Segments,
    from: u64,
    to: u64,
    end: u64,
    query: &LogQuery,
) -> io::Result<Vec<u64>> {
    let mut found = vec![];
    let mut walker = Walker::new(from, end);
    while let Some((position, piece)) = walker.next(segments)? {
        if position >= to {
            break;
        }
        if query.lets_through(&piece.bytes) {
            found.push(position);
        }
    }
    Ok(found)
}

/// The first line that begins at `position` or later; `position` itself if that is within a line that is too long.
pub(super) fn next_line(segments: &Segments, position: u64, end: u64) -> io::Result<u64> {
    let Some(before) = position.checked_sub(1) else { return Ok(0) };
    let bytes = segments.read_range(before, end.min(before + LINE_LIMIT as u64 + 1))?;
    let newline = bytes.iter().position(|byte| *byte == b'\n');
    let reached_end = before + bytes.len() as u64 == end;
    Ok(match newline {
        Some(offset) => before + offset as u64 + 1,
        None if reached_end => end,
        None => position,
    })
}

/// The position where a last line without a newline begins; the end, if there is none or it is too long.
pub(super) fn unfinished(segments: &Segments) -> io::Result<u64> {
    let end = segments.end();
    let from = end.saturating_sub(LINE_LIMIT as u64);
    let bytes = segments.read_range(from, end)?;
    Ok(match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(offset) => from + offset as u64 + 1,
        None if from == 0 => 0,
        None => end,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::logger::tests::{log_of, text};
    use crate::logger::{Pattern, read};

    fn last(log: &[&str], lines: usize, grep: Option<&str>) -> String {
        let grep = grep.map(|it| Pattern::new(it).unwrap());
        let log = log_of(log);
        text(
            read(log.path(), LogQuery { lines: Some(lines), grep, ..LogQuery::default() }).unwrap(),
        )
    }

    #[test]
    fn the_last_lines_are_found_across_files() {
        let log = ["a\nb\nc", "c\nd", "d\nee\n"];
        assert_eq!(last(&log, 0, None), "");
        assert_eq!(last(&log, 1, None), "ee");
        assert_eq!(last(&log, 2, None), "dd|ee");
        assert_eq!(last(&log, 3, None), "cc|dd|ee");
        assert_eq!(last(&log, 9, None), "a|b|cc|dd|ee");
    }

    #[test]
    fn a_last_line_that_is_not_finished_counts() {
        assert_eq!(last(&["a\nb\nc"], 1, None), "c…");
        assert_eq!(last(&["a\nb\n\n"], 1, None), "");
        assert_eq!(last(&["a\nb\n\n"], 2, None), "b|");
    }

    #[test]
    fn the_last_lines_of_a_log_without_newlines_are_bounded() {
        let log = log_of(&[&"x".repeat(5_000_000)]);
        let query = LogQuery { lines: Some(3), ..LogQuery::default() };
        let bytes: usize = read(log.path(), query).unwrap().map(|it| it.unwrap().bytes.len()).sum();
        assert_eq!(bytes, 3 * (LINE_LIMIT + 1));
    }

    #[test]
    fn the_last_matches_are_found_far_from_the_end() {
        let mut lines = String::new();
        for n in 0..400_000 {
            writeln!(lines, "line {n}").unwrap();
        }
        let log = [&lines[..1_000_000], &lines[1_000_000..]];
        assert_eq!(last(&log, 2, Some("^line 1?23$")), "line 23|line 123");
        assert_eq!(last(&log, 1, Some("99$")), "line 399999");
        assert_eq!(last(&log, 5, Some("nothing")), "");
    }

    proptest! {
        /// Whatever is asked for is the end of what a plain reading lets through.
        #[test]
        fn the_last_n_are_the_end_of_all(files in prop::collection::vec("[ab\n]{0,30}", 1..5), n in 0usize..12, by in 0..2) {
            let grep = (by == 1).then(|| Pattern::new("a").unwrap());
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let log = log_of(&files);
            let all = LogQuery { grep: grep.clone(), ..LogQuery::default() };
            let all: Vec<_> = read(log.path(), all).unwrap().map(Result::unwrap).collect();
            let some = LogQuery { lines: Some(n), grep, ..LogQuery::default() };
            let some: Vec<_> = read(log.path(), some).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&all[all.len().saturating_sub(n)..], some);
        }
    }
}
