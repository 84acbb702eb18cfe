//! A page of a log: so many lines before a place, or after it; of several logs interleaved by time.
//!
//! Nothing is read but what lies between the place and the last line that is wanted, so a log of 10 GiB
//! opens at once. With a pattern that is rare that may be all of it: who asked is told how far it is and
//! may end it. The logs are read a stretch at a time, always the one that may have the next line in time.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::pattern::Pattern;
use super::read::LINE_LIMIT;
use super::segments::Segments;
use super::tail::{next_line, unfinished};

/// Looked through at a time.
const STRETCH: u64 = 256 * 1024;
/// Text of all lines of a page; one more may come over it.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A byte of a log: its file, whatever that is called by now, and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub file: u64,
    /// In bytes.
    pub offset: u64,
}

/// Where a page begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    Start,
    /// After the last whole line.
    End,
    /// What came at this time or later, unix milliseconds; up to a second too early.
    At(u64),
    /// A file that is gone was the oldest; so the start.
    Mark(Mark),
}

/// Which page.
#[derive(Debug)]
pub struct Look<'a> {
    /// Each log with the place in it.
    pub logs: &'a [(&'a Path, Edge)],
    /// The lines before the places, not those after them.
    pub before: bool,
    /// At most so many.
    pub lines: usize,
    /// All of them must match.
    pub patterns: &'a [Pattern],
}

/// A line of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of its log.
    pub log: usize,
    /// See [`super::Line::at_ms`].
    pub at_ms: Option<u64>,
    pub bytes: Vec<u8>,
    /// It goes on in the next one: lines are cut at [`LINE_LIMIT`].
    pub partial: bool,
    pub begins: Mark,
    pub ends: Mark,
}

/// What lies in a range of each log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub lines: Vec<Found>,
    /// Where each log's range begins and ends; `None` where there is no log yet.
    pub ranges: Vec<Option<(Mark, Mark)>>,
    /// There is nothing more in this direction.
    pub is_last: bool,
}

/// Reads a page. `progress` hears how many bytes were looked through, and of how many; false from it ends the reading,
/// and there is no page. A last line without its newline belongs to no page yet.
pub fn page(
    look: &Look<'_>,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> io::Result<Option<Page>> {
    let sources = look.logs.iter().map(|(log, edge)| Source::open(log, *edge, look.before));
    let mut sources = sources.collect::<io::Result<Vec<_>>>()?;
    let of = sources.iter().map(Source::left).sum();
    let (mut searched, mut bytes) = (0, 0);
    let mut lines = VecDeque::new();
    while lines.len() < look.lines && bytes < PAGE_BYTES {
        let next = next(&mut sources, look.before)?;
        let Some(n) = next else { break };
        let source = &mut sources[n];
        if source.hits.is_empty() {
            searched += source.scan(look)?;
            if !progress(searched, of) {
                return Ok(None);
            }
            continue;
        }
        let Some(found) = source.take(n, look.before)? else { continue };
        bytes += found.bytes.len();
        if look.before {
            lines.push_front(found);
        } else {
            lines.push_back(found);
        }
    }
    Ok(Some(Page {
        lines: lines.into(),
        ranges: sources.iter().map(|it| it.range(look.before)).collect(),
        is_last: sources.iter().all(|it| it.hits.is_empty() && it.left() == 0),
    }))
}

/// The log with the next line, or the one that must be looked through to know.
fn next(sources: &mut [Source], before: bool) -> io::Result<Option<usize>> {
    let mut best: Option<(u64, usize)> = None;
    for (n, source) in sources.iter_mut().enumerate() {
        let Some(at_ms) = source.next_ms(before)? else { continue };
        let is_better = best.is_none_or(|(ms, _)| if before { at_ms >= ms } else { at_ms < ms });
        if is_better {
            best = Some((at_ms, n));
        }
    }
    Ok(best.map(|(_, n)| n))
}

/// A line in a stretch.
#[derive(Clone, Copy, Debug)]
struct Hit {
    position: u64,
    /// Without the newline.
    len: usize,
    partial: bool,
}

impl Hit {
    fn end(self) -> u64 {
        self.position + self.len as u64 + u64::from(!self.partial)
    }
}

struct Source {
    segments: Segments,
    from: u64,
    /// Everything between `from` and this was looked through.
    frontier: u64,
    limit: u64,
    stretch: Vec<u8>,
    stretch_at: u64,
    /// Lines of the stretch that match and are not taken yet.
    hits: VecDeque<Hit>,
    /// The time of the next line, or of what is looked through next.
    next_ms: Option<u64>,
}

impl Source {
    fn open(log: &Path, edge: Edge, before: bool) -> io::Result<Self> {
        let segments = Segments::open(log)?;
        let end = unfinished(&segments)?;
        let from = match edge {
            Edge::Start => 0,
            Edge::End => end,
            Edge::At(ms) => next_line(&segments, segments.since(ms)?, end)?,
            Edge::Mark(mark) => segments.position(mark).min(end),
        };
        Ok(Self {
            segments,
            from,
            frontier: from,
            limit: if before { 0 } else { end },
            stretch: vec![],
            stretch_at: 0,
            hits: VecDeque::new(),
            next_ms: None,
        })
    }

    /// Bytes that were not looked through.
    fn left(&self) -> u64 {
        self.frontier.abs_diff(self.limit)
    }

    /// When its next line came, or none of those that were not looked through came before; `None` at its end. What has
    /// no time is the oldest.
    fn next_ms(&mut self, before: bool) -> io::Result<Option<u64>> {
        let hit = if before { self.hits.back() } else { self.hits.front() };
        let position = match hit {
            Some(hit) => hit.position,
            None if self.left() == 0 => return Ok(None),
            None if before => self.frontier - 1,
            None => self.frontier,
        };
        if self.next_ms.is_none() {
            self.next_ms = Some(self.segments.at_ms(position)?.unwrap_or(0));
        }
        Ok(self.next_ms)
    }

    /// Looks through the next stretch and returns how many bytes that were.
    fn scan(&mut self, look: &Look<'_>) -> io::Result<u64> {
        let before = self.frontier;
        let (from, to) = if look.before {
            let from = self.frontier.saturating_sub(STRETCH);
            (if from == 0 { 0 } else { next_line(&self.segments, from, self.frontier)? }, before)
        } else {
            let to = self.limit.min(self.frontier + STRETCH);
            (before, if to == self.limit { to } else { next_line(&self.segments, to, self.limit)? })
        };
        self.next_ms = None;
        self.frontier = if look.before { from } else { to };
        self.stretch = self.segments.read_range(from, to)?;
        self.stretch_at = from;
        if look.patterns.iter().all(|it| it.may_match(&self.stretch)) {
            let stretch = &self.stretch;
            let at = |hit: &Hit| usize::try_from(hit.position).unwrap_or(0);
            let text = |hit: &Hit| &stretch[at(hit)..at(hit) + hit.len];
            let hits =
                cut(stretch).filter(|hit| look.patterns.iter().all(|it| it.matches(text(hit))));
            self.hits = hits.map(|hit| Hit { position: hit.position + from, ..hit }).collect();
        }
        Ok(to - from)
    }

    fn take(&mut self, log: usize, before: bool) -> io::Result<Option<Found>> {
        let hit = if before { self.hits.pop_back() } else { self.hits.pop_front() };
        let Some(hit) = hit else { return Ok(None) };
        self.next_ms = None;
        let at = usize::try_from(hit.position - self.stretch_at).unwrap_or(0);
        let (Some(begins), Some(ends)) =
            (self.segments.mark(hit.position), self.segments.mark(hit.end()))
        else {
            return Ok(None);
        };
        Ok(Some(Found {
            log,
            at_ms: self.segments.at_ms(hit.position)?,
            bytes: self.stretch[at..at + hit.len].to_vec(),
            partial: hit.partial,
            begins,
            ends,
        }))
    }

    /// What lies between the place and the lines that were not taken.
    fn range(&self, before: bool) -> Option<(Mark, Mark)> {
        let (begin, end) = if before {
            (self.hits.back().map_or(self.frontier, |it| it.end()), self.from)
        } else {
            (self.from, self.hits.front().map_or(self.frontier, |it| it.position))
        };
        Some((self.segments.mark(begin)?, self.segments.mark(end)?))
    }
}

/// The lines of a stretch, those that are too long in pieces.
fn cut(stretch: &[u8]) -> impl Iterator<Item = Hit> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = stretch.get(at..).filter(|it| !it.is_empty())?;
        // A line of exactly the limit is whole: its newline comes after it.
        let window = &rest[..rest.len().min(LINE_LIMIT + 1)];
        let newline = memchr::memchr(b'\n', window);
        let len = newline.unwrap_or(window.len().min(LINE_LIMIT));
        let hit = Hit { position: at as u64, len, partial: newline.is_none() };
        at += len + usize::from(newline.is_some());
        Some(hit)
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::logger::index::IndexWriter;
    use crate::logger::rotate::{numbered_index, rotate};
    use crate::logger::tests::{TestLog, log_of};

    fn look(log: &TestLog, edge: Edge, before: bool, lines: usize, patterns: &[&str]) -> Page {
        let patterns: Vec<_> = patterns.iter().map(|it| Pattern::new(it).unwrap()).collect();
        let logs = [(log.path(), edge)];
        let look = Look { logs: &logs, before, lines, patterns: &patterns };
        page(&look, |_, _| true).unwrap().unwrap()
    }

    fn text(page: &Page) -> String {
        let lines = page.lines.iter().map(|it| String::from_utf8_lossy(&it.bytes));
        lines.collect::<Vec<_>>().join("|")
    }

    /// All pages from `edge` on, each with `lines` lines.
    fn all(log: &TestLog, before: bool, lines: usize, patterns: &[&str]) -> Vec<String> {
        let mut edge = if before { Edge::End } else { Edge::Start };
        let mut pages = vec![];
        loop {
            let page = look(log, edge, before, lines, patterns);
            if !page.lines.is_empty() {
                pages.push(text(&page));
            }
            match page.ranges[0] {
                Some((begin, end)) if !page.is_last => {
                    edge = Edge::Mark(if before { begin } else { end });
                }
                _ => return pages,
            }
        }
    }

    #[test]
    fn pages_go_through_rotated_files_in_both_directions() {
        let log = log_of(&["a\nb\nc", "c\nd", "d\nee\nunfin"]);
        assert_eq!(all(&log, true, 2, &[]), ["dd|ee", "b|cc", "a"]);
        assert_eq!(all(&log, false, 2, &[]), ["a|b", "cc|dd", "ee"]);
        assert_eq!(all(&log, true, 1, &["^[ac]"]), ["cc", "a"]);
        assert_eq!(all(&log, true, 9, &["c", "^x"]), Vec::<String>::new());
    }

    #[test]
    fn a_place_holds_when_the_log_is_rotated_and_when_its_file_is_gone() {
        let log = log_of(&["one\ntwo\nthree\n"]);
        let before = look(&log, Edge::End, true, 1, &[]);
        let edge = Edge::Mark(before.lines[0].begins);
        rotate(log.path(), 1).unwrap();
        std::fs::write(log.path(), "four\n").unwrap();
        assert_eq!(text(&look(&log, edge, true, 9, &[])), "one|two");
        assert_eq!(text(&look(&log, edge, false, 9, &[])), "three|four");
        rotate(log.path(), 1).unwrap();
        std::fs::write(log.path(), "five\n").unwrap();
        assert_eq!(text(&look(&log, edge, true, 9, &[])), "", "what was before it is gone");
        assert_eq!(text(&look(&log, edge, false, 9, &[])), "four|five");
    }

    #[test]
    fn there_may_be_no_log_yet() {
        let page = look(&log_of(&[]), Edge::End, true, 9, &[]);
        assert_eq!(page, Page { lines: vec![], ranges: vec![None], is_last: true });
    }

    #[test]
    fn a_line_that_never_ends_comes_in_pieces() {
        let log = log_of(&[&format!("{}\nend\n", "x".repeat(5_000_000))]);
        let page = look(&log, Edge::End, true, 3, &[]);
        let shape: Vec<_> = page.lines.iter().map(|it| (it.bytes.len(), it.partial)).collect();
        assert_eq!(shape.last(), Some(&(3, false)));
        assert!(shape[..2].iter().all(|it| it.0 <= LINE_LIMIT), "{shape:?}");
        let whole: usize = all(&log, true, 7, &[]).iter().map(|it| it.replace('|', "").len()).sum();
        assert_eq!(whole, 5_000_003);
    }

    #[test]
    fn who_asked_hears_how_far_it_is_and_may_end_it() {
        let mut content = String::from("needle\n");
        (0..200_000).for_each(|n| writeln!(content, "line {n}").unwrap());
        let log = log_of(&[&content[..1_000_000], &content[1_000_000..]]);
        let patterns = [Pattern::new("(?i)NEEDLE").unwrap()];
        let logs = [(log.path(), Edge::End)];
        let look = Look { logs: &logs, before: true, lines: 1, patterns: &patterns };
        let mut heard = vec![];
        let found = page(&look, |searched, of| {
            heard.push((searched, of));
            true
        });
        assert_eq!(text(&found.unwrap().unwrap()), "needle");
        let whole = content.len() as u64;
        assert_eq!(heard.last(), Some(&(whole, whole)));
        assert!(heard.len() > 3 && heard.is_sorted(), "{heard:?}");
        assert_eq!(page(&look, |searched, _| searched < 500_000).unwrap(), None);
    }

    /// A log with a line at each of these seconds.
    fn timed(lines: &[(u64, &str)]) -> TestLog {
        let log = log_of(&[""]);
        let mut content = String::new();
        let mut index = IndexWriter::open(&numbered_index(log.path(), 0), 1).unwrap();
        for (second, line) in lines {
            index.note(second * 1000, content.len() as u64).unwrap();
            writeln!(content, "{line}").unwrap();
        }
        std::fs::write(log.path(), content).unwrap();
        log
    }

    #[test]
    fn several_logs_are_interleaved_by_time_in_both_directions_and_page_by_page() {
        let one = timed(&[(1, "a"), (3, "c"), (5, "e"), (5, "e2")]);
        let two = timed(&[(2, "b"), (4, "d"), (5, "f"), (9, "g")]);
        let read = |before: bool, lines: usize| {
            let edge = if before { Edge::End } else { Edge::Start };
            let mut edges = [edge; 2];
            let mut pages = vec![];
            loop {
                let logs = [(one.path(), edges[0]), (two.path(), edges[1])];
                let look = Look { logs: &logs, before, lines, patterns: &[] };
                let page = page(&look, |_, _| true).unwrap().unwrap();
                pages.push(text(&page));
                if page.is_last {
                    return pages;
                }
                for (edge, range) in edges.iter_mut().zip(&page.ranges) {
                    *edge = Edge::Mark(range.map(|it| if before { it.0 } else { it.1 }).unwrap());
                }
            }
        };
        assert_eq!(read(true, 3), ["e2|f|g", "c|d|e", "a|b"]);
        assert_eq!(read(false, 3), ["a|b|c", "d|e|e2", "f|g"]);
        assert_eq!(read(true, 99), ["a|b|c|d|e|e2|f|g"]);
    }

    #[test]
    fn a_page_begins_at_a_moment() {
        let log = timed(&[(1, "a"), (3, "b"), (7, "c")]);
        assert_eq!(text(&look(&log, Edge::At(5000), false, 9, &[])), "c");
        assert_eq!(text(&look(&log, Edge::At(5000), true, 9, &[])), "a|b");
    }

    proptest! {
        /// Whatever the size of a page and its direction, all of them together are the log.
        #[test]
        fn pages_fit_together(files in prop::collection::vec("[ab\n]{0,30}", 1..5), lines in 1usize..6, by in 0..2) {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let log = log_of(&files);
            let patterns: &[&str] = if by == 1 { &["a"] } else { &[] };
            let whole = files.concat();
            let mut expected: Vec<&str> = whole.split('\n').collect();
            expected.pop();
            expected.retain(|it| by == 0 || it.contains('a'));
            let mut back = all(&log, true, lines, patterns);
            back.reverse();
            for pages in [back, all(&log, false, lines, patterns)] {
                // An empty page and one with a single empty line look the same.
                let found: Vec<&str> = pages.iter().flat_map(|it| it.split('|')).collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
