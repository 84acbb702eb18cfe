//! The journal: every event and every action, with who did it, as JSON lines.
//!
//! Appended by one write per turn. What an operator did is synced to the disk as well, in the
//! background. A torn last line, left by a power cut, is skipped when the file is read. A disk that
//! cannot be written stops nothing: the events stay in memory and a notice says so. Their numbers are not given again
//! by the next daemon: the last one is written over a file of fixed length, for which a full disk has room.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use crate::api::Event;
use crate::daemon::kept::state::is_elsewhere;
use crate::daemon::own;

/// How many events are kept in memory for clients that attach.
const RECENT: usize = 500;
/// The journal is rotated beyond this size, in bytes.
const MAX_SIZE: u64 = 16 << 20;
/// Rotated journals that are kept.
const KEEP: u32 = 4;

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<Arc<File>>,
    size: u64,
    next_seq: u64,
    recent: VecDeque<Event>,
    /// Written by the next [`Journal::flush`].
    pending: Vec<u8>,
    sync: bool,
    /// Has the last number that was given and could not be written with its event.
    given: Option<File>,
    /// Why nothing can be written.
    pub trouble: Option<String>,
}

impl Journal {
    /// Opens `journal.jsonl` in the state directory, private from the moment it exists, and reads how
    /// far its numbers go.
    pub fn open(state_dir: &Path) -> Self {
        Self::open_and_tell(state_dir, |_| ())
    }

    /// The same, and tells `each` event of the present file and of the one before it.
    pub fn open_and_tell(state_dir: &Path, mut each: impl FnMut(&Event)) -> Self {
        let path = state_dir.join("journal.jsonl");
        let mut highest = 0;
        let recent = last_events(&path, RECENT, |event| {
            highest = highest.max(event.seq);
            each(event);
        });
        let older = (2..=KEEP).map(|n| highest_in(&rotated(&path, n)));
        let next_seq = if highest > 0 { highest } else { older.max().unwrap_or(0) } + 1;
        let mut journal = Self {
            path,
            file: None,
            size: 0,
            next_seq,
            recent,
            pending: vec![],
            sync: false,
            given: None,
            trouble: None,
        };
        journal.open_given();
        journal.reopen();
        journal
    }

    /// What was given without its event counts as well. Made here: on a full disk it could not be.
    fn open_given(&mut self) {
        let path = self.path.with_extension("seq");
        let opened = own::open(OpenOptions::new().create(true).read(true).write(true), &path);
        // Without it the numbers of what a full disk takes may be given again, no more.
        let Ok(mut file) = opened else { return };
        let mut text = String::new();
        // One that is torn says nothing.
        let _ = file.read_to_string(&mut text);
        self.go_beyond(text.trim().parse().unwrap_or(0));
        self.given = Some(file);
        self.note_given();
    }

    fn note_given(&self) {
        if let Some(file) = &self.given {
            let _ = file.write_all_at(given(self.next_seq - 1).as_bytes(), 0);
        }
    }

    fn reopen(&mut self) {
        let opened = own::open(OpenOptions::new().create(true).append(true), &self.path);
        match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((size, file)) => {
                self.size = size;
                self.file = Some(Arc::new(file));
                self.end_torn_line();
            }
            Err(err) => self.fail(&err),
        }
    }

    /// A crash may have left half a line: what follows must not be glued to it.
    fn end_torn_line(&mut self) {
        let ends_well = last_byte(&self.path).is_ok_and(|last| last.is_none_or(|it| it == b'\n'));
        if !ends_well {
            self.pending.insert(0, b'\n');
        }
    }

    /// No event gets this number any more, nor one below: it was given, whatever became of the event.
    pub fn go_beyond(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq + 1);
    }

    /// Adds an event and gives it its number. It is on the disk after the next [`Self::flush`].
    pub fn append(&mut self, mut event: Event) -> Event {
        event.seq = self.next_seq;
        self.next_seq += 1;
        self.sync |= event.actor.is_some();
        if serde_json::to_writer(&mut self.pending, &event).is_ok() {
            self.pending.push(b'\n');
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(event.clone());
        event
    }

    /// Writes what was appended since the last time.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.size > MAX_SIZE {
            self.rotate();
        }
        if self.file.is_none() || self.is_removed() {
            self.reopen();
        }
        let Some(file) = self.file.clone() else { return };
        match (&*file).write_all(&self.pending) {
            Ok(()) => {
                self.size += self.pending.len() as u64;
                self.pending.clear();
                self.trouble = None;
                if std::mem::take(&mut self.sync) {
                    // Nobody waits for it: a power cut may take the last moments, a crash does not.
                    tokio::task::spawn_blocking(move || file.sync_data());
                }
            }
            Err(err) => self.fail(&err),
        }
    }

    /// Somebody has deleted the file, or moved it away: what is written is not found.
    fn is_removed(&self) -> bool {
        self.file.as_ref().is_some_and(|it| is_elsewhere(it, &self.path))
    }

    fn fail(&mut self, err: &io::Error) {
        if self.trouble.is_none() {
            warn!(path = %self.path.display(), %err, "the journal cannot be written");
        }
        self.trouble = Some(format!("{} cannot be written: {err}", self.path.display()));
        self.file = None;
        // Memory is bounded; the newest events stay in `recent`.
        self.pending.clear();
        self.note_given();
    }

    fn rotate(&mut self) {
        let name = |n| rotated(&self.path, n);
        for n in (1..KEEP).rev() {
            // A number that was never reached has no file.
            let _ = std::fs::rename(name(n), name(n + 1));
        }
        if std::fs::rename(&self.path, name(1)).is_ok() {
            self.file = None;
        }
    }

    /// The last events, oldest first.
    pub fn recent(&self, n: usize) -> Vec<Event> {
        self.recent.iter().skip(self.recent.len().saturating_sub(n)).cloned().collect()
    }

    /// Every file of the journal that exists, oldest first.
    pub fn files(&self) -> Vec<PathBuf> {
        let rotated = (1..=KEEP).rev().map(|n| rotated(&self.path, n));
        rotated.chain([self.path.clone()]).filter(|it| it.exists()).collect()
    }
}

/// A number as the file has it, always of the same length.
fn given(seq: u64) -> String {
    format!("{seq:020}\n")
}

fn rotated(path: &Path, n: u32) -> PathBuf {
    path.with_extension(format!("jsonl.{n}"))
}

/// The highest number in one file.
fn highest_in(path: &Path) -> u64 {
    let mut highest = 0;
    read(&[path.to_owned()], |it| {
        highest = highest.max(it.seq);
        false
    });
    highest
}

/// The last byte of a file; `None` if it is empty.
fn last_byte(path: &Path) -> io::Result<Option<u8>> {
    let mut file = own::open(OpenOptions::new().read(true), path)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(Some(byte[0]))
}

/// Reads the events of these files in order, without what is torn. Blocking.
pub fn read(files: &[PathBuf], mut keep: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let mut events = vec![];
    for path in files {
        let Ok(file) = own::open(OpenOptions::new().read(true), path) else { continue };
        let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
        events
            .extend(lines.filter_map(|it| serde_json::from_slice(&it).ok()).filter(|it| keep(it)));
    }
    events
}

/// Reads the last so many of the events that are kept, oldest first. Blocking.
///
/// The newest file first: what is asked for is mostly in it, and never is more than that kept in memory.
pub fn read_last(files: &[PathBuf], n: usize, keep: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events: VecDeque<Event> = VecDeque::new();
    for path in files.iter().rev() {
        let missing = n - events.len();
        if missing == 0 {
            break;
        }
        let mut found: VecDeque<Event> = VecDeque::new();
        read(std::slice::from_ref(path), |it| {
            if keep(it) {
                found.push_back(it.clone());
                if found.len() > missing {
                    found.pop_front();
                }
            }
            false
        });
        found.append(&mut events);
        events = found;
    }
    events.into()
}

/// The events of some files in order, read a piece at a time: all of them at once would take several times the memory
/// that they take on the disk.
#[derive(Debug)]
pub struct Pieces {
    /// Open from the beginning: what is rotated meanwhile is still the same file.
    files: VecDeque<BufReader<File>>,
}

/// Events of one piece, at most.
const PIECE: usize = 256;

impl Pieces {
    pub fn open(files: &[PathBuf]) -> Self {
        let open = files.iter().filter_map(|it| own::open(OpenOptions::new().read(true), it).ok());
        Self { files: open.map(BufReader::new).collect() }
    }

    /// The next events, without what is torn; `None` at the end. Blocking.
    pub fn read(&mut self) -> Option<Vec<Event>> {
        let mut events = vec![];
        let mut line = vec![];
        while let Some(file) = self.files.front_mut() {
            line.clear();
            match file.read_until(b'\n', &mut line) {
                Ok(1..) => events.extend(serde_json::from_slice::<Event>(&line)),
                Ok(0) | Err(_) => drop(self.files.pop_front()),
            }
            if events.len() == PIECE {
                break;
            }
        }
        Some(events).filter(|it| !it.is_empty())
    }
}

fn last_events(path: &Path, n: usize, mut each: impl FnMut(&Event)) -> VecDeque<Event> {
    let mut events = VecDeque::new();
    let keep = |event: &Event| {
        each(event);
        if events.len() == n {
            events.pop_front();
        }
        events.push_back(event.clone());
        false
    };
    // Nothing is collected twice: two whole files of it would be.
    read(&[rotated(path, 1), path.to_owned()], keep);
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> Event {
        Event {
            seq: 0,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: "exited".into(),
            service: None,
            instance: Some("web1".into()),
            actor: None,
            message: message.into(),
            evidence: None,
            lost: None,
            rollout: None,
            stop: None,
        }
    }

    #[test]
    fn numbers_go_on_after_a_crash_that_tore_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.append(event("two"));
        journal.flush();
        let path = dir.path().join("journal.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":3,\"at\":\"20").unwrap();

        let mut journal = Journal::open(dir.path());
        assert_eq!(journal.append(event("three")).seq, 3);
        journal.flush();

        let seen: Vec<_> =
            read(&journal.files(), |_| true).into_iter().map(|it| (it.seq, it.message)).collect();
        assert_eq!(seen, [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
    }

    #[test]
    fn a_journal_that_has_grown_is_rotated_and_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        for n in 0..KEEP + 2 {
            journal.append(event(&n.to_string()));
            journal.size = MAX_SIZE + 1;
            journal.flush();
        }
        let numbers = |files: &[PathBuf]| {
            read(files, |_| true).into_iter().map(|it| it.seq).collect::<Vec<_>>()
        };
        let files = journal.files();
        assert_eq!(files.len(), usize::try_from(KEEP).unwrap() + 1);
        assert_eq!(numbers(&files), [2, 3, 4, 5, 6], "the oldest is gone");
        // A crash right after a rotation: the numbers are in the file before.
        std::fs::rename(dir.path().join("journal.jsonl"), &files[3]).unwrap();
        assert_eq!(Journal::open(dir.path()).append(event("next")).seq, 7);
    }

    #[test]
    fn an_event_after_a_full_disk_is_not_glued_to_what_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.flush();
        let (path, aside) = (dir.path().join("journal.jsonl"), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        journal.append(event("two"));
        journal.flush();
        assert!(journal.trouble.is_some());
        std::fs::rename(&aside, &path).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":2,\"at\":\"20").unwrap();

        journal.append(event("three"));
        journal.flush();
        assert_eq!(journal.trouble, None);
        let seen: Vec<_> = read(&journal.files(), |_| true).into_iter().map(|it| it.seq).collect();
        assert_eq!(seen, [1, 3]);
    }

    #[test]
    fn no_number_is_given_twice_whatever_file_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.flush();
        // The disk was full, and the state file had still room for the number of a call.
        let mut journal = Journal::open(dir.path());
        journal.go_beyond(7);
        assert_eq!(journal.append(event("eight")).seq, 8);
        journal.go_beyond(3);
        journal.flush();
        assert_eq!(Journal::open(dir.path()).append(event("nine")).seq, 9);
        // The newest files are empty: no room for a line, and a rotation before.
        let path = dir.path().join("journal.jsonl");
        std::fs::rename(&path, rotated(&path, KEEP)).unwrap();
        std::fs::write(rotated(&path, 1), "").unwrap();
        assert_eq!(Journal::open(dir.path()).append(event("nine")).seq, 9);
        // Two daemons wrote at once: the last line is not the highest.
        let line = |seq| serde_json::to_string(&Event { seq, ..event("x") }).unwrap();
        std::fs::write(&path, format!("{}\n{}\n", line(30), line(20))).unwrap();
        assert_eq!(Journal::open(dir.path()).append(event("next")).seq, 31);
    }

    #[test]
    fn a_number_that_was_given_while_the_disk_was_full_is_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.flush();
        let (path, aside) = (dir.path().join("journal.jsonl"), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        for expected in 2..5 {
            assert_eq!(journal.append(event("lost")).seq, expected);
            journal.flush();
        }
        drop(journal);
        std::fs::rename(&aside, &path).unwrap();
        let mut journal = Journal::open(dir.path());
        assert_eq!(journal.append(event("next")).seq, 5);
        journal.flush();
        // One that is torn says nothing, and is made anew.
        let given_path = dir.path().join("journal.seq");
        std::fs::write(&given_path, "7x").unwrap();
        assert_eq!(Journal::open(dir.path()).append(event("next")).seq, 6);
        assert_eq!(std::fs::read_to_string(&given_path).unwrap(), given(5));
    }

    #[test]
    fn a_journal_that_was_deleted_is_begun_anew_and_counts_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.flush();
        std::fs::remove_file(dir.path().join("journal.jsonl")).unwrap();
        journal.append(event("two"));
        journal.flush();
        let seen: Vec<_> = read(&journal.files(), |_| true).into_iter().map(|it| it.seq).collect();
        assert_eq!((seen, journal.trouble), (vec![2], None));
    }

    #[test]
    fn a_journal_that_was_moved_is_begun_anew_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        journal.append(event("one"));
        journal.flush();
        let path = dir.path().join("journal.jsonl");
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        journal.append(event("two"));
        journal.flush();
        let seen: Vec<_> = read(&[path], |_| true).into_iter().map(|it| it.seq).collect();
        assert_eq!((seen, journal.trouble), (vec![2], None));
    }

    #[test]
    fn a_directory_that_is_gone_is_said_and_loses_nothing_from_memory() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let mut journal = Journal::open(&gone);
        journal.append(event("one"));
        journal.flush();

        assert!(journal.trouble.as_deref().unwrap().contains("cannot be written"));
        assert_eq!(journal.recent(10).len(), 1);

        std::fs::create_dir(&gone).unwrap();
        journal.append(event("two"));
        journal.flush();
        assert_eq!(journal.trouble, None);
    }
    #[test]
    fn the_last_events_are_found_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["old", "middle", "new"].map(|it| dir.path().join(it));
        for (n, path) in files.iter().enumerate() {
            let lines = (0..10).map(|it| {
                let seq = n as u64 * 10 + it;
                serde_json::to_string(&Event { seq, ..event("x") }).unwrap() + "\n"
            });
            std::fs::write(path, lines.collect::<String>()).unwrap();
        }
        let numbers = |n, keep: fn(&Event) -> bool| -> Vec<u64> {
            read_last(&files, n, keep).iter().map(|it| it.seq).collect()
        };
        assert_eq!(numbers(3, |_| true), [27, 28, 29]);
        assert_eq!(numbers(4, |it| it.seq < 22), [18, 19, 20, 21]);
        assert_eq!(numbers(3, |it| it.seq % 10 == 0), [0, 10, 20]);
        assert_eq!(numbers(100, |_| true).len(), 30);
        assert!(numbers(0, |_| true).is_empty());
    }
}
