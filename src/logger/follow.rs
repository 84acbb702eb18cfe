//! Reading on where a log grows: `opsdeck logs -f`.
//!
//! A follower holds the file it reads, whatever that is called by now, and its offset in it. When the log's name belongs
//! to another file and ours has been read to its end, it goes on with the next newer one, however many rotations there
//! were. Nothing is lost or doubled unless files are removed faster than they are read, which it says.
//!
//! It waits for nothing. Ask the logger to be told when the log has grown ([`ToLogger::Watch`](super::ToLogger::Watch))
//! and poll then; or poll every 200 ms while somebody looks. (inotify is of no use: splice tells it nothing on older kernels.)

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::index::Cursor;
use super::page::Mark;
use super::read::{Line, LogQuery, Splitter};
use super::segments::{BLOCK, FileId, Place, Segment, open_all};
use super::sink::is_same;

/// Bytes that one poll reads.
const POLL_BYTES: usize = 1024 * 1024;
/// Lines that one poll returns.
const POLL_LINES: usize = 10_000;

/// See the module's documentation, and [`read_then_follow`](super::read_then_follow), which makes one.
#[derive(Debug)]
pub struct Follower {
    log: PathBuf,
    query: LogQuery,
    tracked: Option<Tracked>,
    splitter: Splitter,
    /// When the bytes came that are held from an earlier file, and where they begin.
    carried: Option<(Option<u64>, Option<Mark>)>,
    behind: bool,
    fell_behind: bool,
}

#[derive(Debug)]
struct Tracked {
    file: File,
    id: FileId,
    mark: u64,
    offset: u64,
    times: Option<Cursor>,
}

impl Tracked {
    fn new(place: Place) -> io::Result<Self> {
        let times = place.index.map(|it| Cursor::new(it, place.offset)).transpose()?;
        let Place { file, id, mark, offset, .. } = place;
        Ok(Self { file, id, mark, offset, times })
    }

    fn at_ms(&mut self, offset: u64) -> io::Result<Option<u64>> {
        self.times.as_mut().map_or(Ok(None), |it| it.at_ms(offset))
    }
}

impl Follower {
    /// Goes on at `place`; without one, from the start of a log that does not exist yet.
    pub(super) fn new(log: &Path, place: Option<Place>, query: LogQuery) -> io::Result<Self> {
        Ok(Self {
            log: log.to_owned(),
            query,
            tracked: place.map(Tracked::new).transpose()?,
            splitter: Splitter::default(),
            carried: None,
            behind: false,
            fell_behind: false,
        })
    }

    /// Reads what is new, up to 1 MiB and 10,000 lines; [`Self::is_behind`] tells whether there is more.
    ///
    /// A last line without its newline is held back until that comes; [`Self::flush`] gives it out.
    pub fn poll(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = vec![];
        let mut left = POLL_BYTES;
        loop {
            self.split(&mut lines)?;
            self.behind = left == 0 || lines.len() >= POLL_LINES;
            if self.behind {
                return Ok(lines);
            }
            match self.read(left.min(BLOCK))? {
                0 => return Ok(lines),
                n => left -= n,
            }
            // After the reading: the logger notes the time before it writes.
            self.refresh_times()?;
        }
    }

    /// Whether the last poll stopped because it had enough; poll again at once.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether files were removed before they could be read, since this was asked last.
    pub fn fell_behind(&mut self) -> bool {
        std::mem::take(&mut self.fell_behind)
    }

    /// Gives out the line that is held back, as a partial one: a prompt, the last words of the dead. What follows in the
    /// same line comes as a line of its own.
    pub fn flush(&mut self) -> io::Result<Option<Line>> {
        let (at_ms, begins) = self.held()?;
        let rest = self.splitter.rest().filter(|it| self.query.lets_through(&it.bytes));
        let place = begins.zip(self.mark(0));
        Ok(rest.map(|it| Line { at_ms, bytes: it.bytes, partial: true, place }))
    }

    fn split(&mut self, lines: &mut Vec<Line>) -> io::Result<()> {
        while lines.len() < POLL_LINES {
            let first = self.splitter.held();
            let Some(piece) = self.splitter.next() else { break };
            let (at_ms, begins) = self.place(first)?;
            if self.query.lets_through(&piece.bytes) {
                let place = begins.zip(self.mark(self.splitter.held()));
                lines.push(Line { at_ms, bytes: piece.bytes, partial: piece.partial, place });
            }
        }
        Ok(())
    }

    fn held(&mut self) -> io::Result<(Option<u64>, Option<Mark>)> {
        self.place(self.splitter.held())
    }

    /// The byte that is `back` bytes before the place we have read to: when it came, and which it is.
    fn place(&mut self, back: usize) -> io::Result<(Option<u64>, Option<Mark>)> {
        if let Some(carried) = self.carried.take() {
            return Ok(carried);
        }
        let mark = self.mark(back);
        let Some(tracked) = &mut self.tracked else { return Ok((None, None)) };
        Ok((tracked.at_ms(tracked.offset.saturating_sub(back as u64))?, mark))
    }

    fn mark(&self, back: usize) -> Option<Mark> {
        let tracked = self.tracked.as_ref()?;
        Some(Mark { file: tracked.mark, offset: tracked.offset.saturating_sub(back as u64) })
    }

    /// Reads up to `len` bytes; nothing when there is nothing.
    fn read(&mut self, len: usize) -> io::Result<usize> {
        loop {
            let Some(tracked) = &mut self.tracked else {
                if self.go_on()? {
                    continue;
                }
                return Ok(0);
            };
            // Asked before reading: what came between a last read and the renaming would be lost.
            let found = tracked.file.metadata()?;
            let rotated = !is_same(&found, &self.log)?;
            tracked.notice_truncation(&found);
            let read =
                self.splitter.fill(len, |buffer| tracked.file.read_at(buffer, tracked.offset))?;
            tracked.offset += read as u64;
            if read > 0 || !rotated || !self.go_on()? {
                return Ok(read);
            }
        }
    }

    /// Turns to the next newer file, if there is one.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut newest_first = open_all(&self.log)?;
        let next = match &self.tracked {
            None => newest_first.pop(),
            Some(ours) => match newest_first.iter().position(|it| it.id == ours.id) {
                Some(n) => n.checked_sub(1).map(|newer| newest_first.swap_remove(newer)),
                None => {
                    let oldest = newest_first.pop();
                    self.fell_behind |= oldest.is_some();
                    oldest
                }
            },
        };
        let Some(next) = next else { return Ok(false) };
        if self.splitter.held() > 0 {
            self.carried = Some(self.held()?);
        }
        let Segment { file, id, mark, index, .. } = next;
        let place = Place { file, id, mark, offset: 0, index };
        self.tracked = Some(Tracked::new(place)?);
        Ok(true)
    }

    /// Sees the index records that were added, or the index itself if it came after the log.
    fn refresh_times(&mut self) -> io::Result<()> {
        let Some(tracked) = &mut self.tracked else { return Ok(()) };
        if let Some(times) = &mut tracked.times {
            return times.refresh();
        }
        let ours = open_all(&self.log)?.into_iter().find(|it| it.id == tracked.id);
        if let Some(index) = ours.and_then(|it| it.index) {
            let first = tracked.offset.saturating_sub(self.splitter.held() as u64);
            tracked.times = Some(Cursor::new(index, first)?);
        }
        Ok(())
    }
}

impl Tracked {
    /// Somebody emptied the file: begins it again.
    fn notice_truncation(&mut self, found: &Metadata) {
        if found.len() < self.offset {
            self.offset = 0;
            self.times = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::logger::index::IndexWriter;
    use crate::logger::rotate::{numbered_index, rotate};
    use crate::logger::tests::{log_of, text};
    use crate::logger::{read_then_follow, remove_log};

    fn append(log: &Path, bytes: &str) {
        let mut file = File::options().append(true).create(true).open(log).unwrap();
        file.write_all(bytes.as_bytes()).unwrap();
    }

    fn from_end(log: &Path) -> Follower {
        read_then_follow(log, LogQuery { lines: Some(0), ..LogQuery::default() }).unwrap().1
    }

    fn poll(follower: &mut Follower) -> String {
        text(follower.poll().unwrap().into_iter().map(Ok))
    }

    #[test]
    fn only_what_is_new_comes_and_an_unfinished_line_waits_for_its_newline() {
        let log = log_of(&["old\n"]);
        let mut follower = from_end(log.path());
        assert_eq!(poll(&mut follower), "");
        append(log.path(), "one\ntw");
        assert_eq!(poll(&mut follower), "one");
        assert_eq!(poll(&mut follower), "");
        append(log.path(), "o\n");
        assert_eq!(poll(&mut follower), "two");
    }

    #[test]
    fn a_log_that_appears_later_is_followed_from_its_start() {
        let log = log_of(&[]);
        let mut follower = from_end(log.path());
        assert_eq!(poll(&mut follower), "");
        append(log.path(), "first\n");
        assert_eq!(poll(&mut follower), "first");
    }

    #[test]
    fn lines_have_their_times_even_if_the_index_came_after_the_log() {
        let log = log_of(&[""]);
        let mut follower = from_end(log.path());
        append(log.path(), "one\ntwo\n");
        let mut index = IndexWriter::open(&numbered_index(log.path(), 0), 8).unwrap();
        index.note(1000, 0).unwrap();
        index.note(2000, 4).unwrap();
        let lines = follower.poll().unwrap();
        assert_eq!(lines.iter().map(|it| it.at_ms).collect::<Vec<_>>(), [Some(1000), Some(2000)]);
    }

    #[test]
    fn several_rotations_between_two_polls_lose_nothing() {
        let log = log_of(&["old\n"]);
        let mut follower = from_end(log.path());
        append(log.path(), "one\ntw");
        rotate(log.path(), 5).unwrap();
        append(log.path(), "o");
        rotate(log.path(), 5).unwrap();
        assert_eq!(poll(&mut follower), "one");
        append(log.path(), "\nthree\n");
        assert_eq!(poll(&mut follower), "two|three");
        assert!(!follower.fell_behind());
    }

    #[test]
    fn a_follower_whose_file_was_removed_unread_says_so() {
        let log = log_of(&["old\n"]);
        let mut follower = from_end(log.path());
        append(log.path(), "one\n");
        for line in ["two\n", "three\n", "four\n"] {
            rotate(log.path(), 1).unwrap();
            append(log.path(), line);
        }
        // Its own file it still has; of the next ones the oldest is gone.
        assert_eq!(poll(&mut follower), "one|three|four");
        assert!(follower.fell_behind());
        assert!(!follower.fell_behind());
    }

    #[test]
    fn a_log_that_is_emptied_or_removed_is_followed_anew() {
        let log = log_of(&["old\n"]);
        let mut follower = from_end(log.path());
        std::fs::write(log.path(), "a\n").unwrap();
        assert_eq!(poll(&mut follower), "a");
        remove_log(log.path()).unwrap();
        assert_eq!(poll(&mut follower), "");
        append(log.path(), "b\n");
        assert_eq!(poll(&mut follower), "b");
    }

    #[test]
    fn an_unfinished_line_is_given_out_when_asked_for() {
        let log = log_of(&[""]);
        let mut follower = from_end(log.path());
        append(log.path(), "password: ");
        assert_eq!(poll(&mut follower), "");
        let line = follower.flush().unwrap().unwrap();
        assert_eq!((&*line.bytes, line.partial), (&b"password: "[..], true));
        assert_eq!(follower.flush().unwrap(), None);
        append(log.path(), "secret\n");
        assert_eq!(poll(&mut follower), "secret");
    }

    #[test]
    fn a_poll_is_bounded_and_says_that_there_is_more() {
        let log = log_of(&[""]);
        let mut follower = from_end(log.path());
        append(log.path(), &"\n".repeat(POLL_LINES + 1));
        assert_eq!((follower.poll().unwrap().len(), follower.is_behind()), (POLL_LINES, true));
        assert_eq!((follower.poll().unwrap().len(), follower.is_behind()), (1, false));
        append(log.path(), &"x".repeat(POLL_BYTES + 1));
        assert!(follower.poll().unwrap().iter().all(|it| it.partial));
        assert!(follower.is_behind());
    }
}
