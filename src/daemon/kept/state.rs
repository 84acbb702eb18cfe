//! What the next daemon must know: which processes run, what operators wanted, what is under way.
//!
//! One append-only file of JSON lines ([`Line`]), `state.jsonl`, rewritten without its history at every
//! start and whenever it has grown. Intents, pids and signals are written before anything depends on them,
//! without a sync: a crash of the daemon keeps what was written, and after a power cut the boot id voids
//! every pid anyway. Goals and rollouts are synced. A torn line is normal where a crash or a full disk
//! explains it; anything else that cannot be read is set aside as `state.broken-TIME`, and said.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::clock;
pub use crate::daemon::kept::records::{
    FORMAT, HookCall, Intent, Kept, Ladder, Line, Rollout, Round, Run, Running, Took, Wanted,
};
pub use crate::daemon::kept::remembered::Remembered;
use crate::daemon::own;
use crate::fleet::Timestamp;
use crate::process::table::FileId;

/// A file that has grown by so many bytes is rewritten without its history.
const GROWTH: u64 = 4 << 20;
/// How long a file that was removed waits until it is tried to be written anew once more.
const AGAIN: Duration = Duration::from_secs(10);
/// Lines that cannot be written are folded when they have so many bytes.
const WAITING: usize = 1 << 20;

/// What is wrong with a file that no crash and no full disk explains, if anything is.
fn damage(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let parsed = |at: usize| lines.get(at).and_then(|it| serde_json::from_str::<Line>(it).ok());
    let is_header = |at: usize| matches!(parsed(at), Some(Line::Boot { .. }));
    if text.is_empty() {
        return Some("is empty".into());
    }
    if !is_header(0) {
        return Some("does not begin as it should".into());
    }
    // After a failed write a new header follows what was torn.
    let is_torn = |at: usize| at + 1 == lines.len() || is_header(at + 1);
    let is_sound = |line: &str| {
        let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
        line.is_empty() || value.is_some_and(|it| it.get("is").is_some())
    };
    let bad = (0..lines.len()).find(|at| !is_sound(lines[*at]) && !is_torn(*at))?;
    Some(format!("cannot be read from line {} on", bad + 1))
}

/// What is said of a file that a newer release has written.
fn note_of_format(text: &str) -> Option<String> {
    let Ok(Line::Boot { version, .. }) = serde_json::from_str(text.lines().next()?) else {
        return None;
    };
    (version > FORMAT).then(|| {
        format!(
            "state.jsonl was written by a newer opsdeck (format {version}, this one writes {FORMAT}): \
             what this one does not know is forgotten"
        )
    })
}

/// The file, open for appending.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    boot_id: String,
    file: Option<File>,
    pending: Vec<u8>,
    /// What is pending is all that there is to say, not what follows the file.
    is_whole: bool,
    /// So many bytes may wait until they are folded.
    most_waiting: usize,
    sync: bool,
    /// Bytes since it was rewritten.
    grown: u64,
    /// The file was removed and could not be written anew: when that is tried again.
    again: Option<Timestamp>,
    /// Why nothing can be written.
    pub trouble: Option<String>,
}

impl StateFile {
    /// Reads what the last daemon left, and rewrites it without its history.
    pub fn open(state_dir: &Path, boot_id: &str) -> (Self, Remembered) {
        let path = state_dir.join("state.jsonl");
        let (text, damage) = match own::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let damage = damage(&text);
                (text, damage)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => (String::new(), None),
            Err(err) => (String::new(), Some(format!("cannot be read ({err})"))),
        };
        let mut remembered = Remembered::from_lines(&text, boot_id);
        remembered.notes.extend(note_of_format(&text));
        remembered.notes.extend(damage.map(|it| set_aside(&path, &it)));
        let boot_id = boot_id.to_owned();
        let mut it = Self {
            path,
            boot_id,
            file: None,
            pending: vec![],
            is_whole: false,
            most_waiting: WAITING,
            sync: true,
            grown: 0,
            again: None,
            trouble: None,
        };
        it.put_first(&remembered);
        it.file = match it.rewrite() {
            Ok(file) => Some(file),
            Err(err) => {
                it.fail(&err);
                None
            }
        };
        (it, remembered)
    }

    /// What is folded goes before what is still to be written.
    fn put_first(&mut self, remembered: &Remembered) {
        let later = std::mem::take(&mut self.pending);
        for line in remembered.to_lines(&self.boot_id) {
            self.append(&line);
        }
        self.pending.extend(later);
    }

    /// Beside it first, then over it: a crash leaves the old file or the new one.
    fn rewrite(&mut self) -> io::Result<File> {
        let beside = self.path.with_extension("jsonl.new");
        // One that a crash left behind may be half written.
        let _ = std::fs::remove_file(&beside);
        let mut options = OpenOptions::new();
        let mut file = own::open(options.create_new(true).read(true).append(true), &beside)?;
        file.write_all(&self.pending)?;
        file.sync_data()?;
        std::fs::rename(&beside, &self.path)?;
        self.pending.clear();
        self.is_whole = false;
        self.most_waiting = WAITING;
        self.sync = false;
        self.grown = 0;
        self.again = None;
        Ok(file)
    }

    /// Adds a line; it is in the file after the next [`Self::write`] or [`Self::flush`].
    pub fn append(&mut self, line: &Line) {
        self.sync |= match line {
            Line::Wanted(_) | Line::Set { .. } | Line::Rollout(_) | Line::Closing { .. } => true,
            Line::Boot { .. }
            | Line::Intent(_)
            | Line::Running(_)
            | Line::Found(_)
            | Line::Gone { .. }
            | Line::Forgotten { .. }
            | Line::Took(_)
            | Line::Kept(_)
            | Line::Ready { .. }
            | Line::Unready { .. }
            | Line::NoRollout { .. }
            | Line::Round(_)
            | Line::NoRound { .. }
            | Line::Run(_)
            | Line::Ran { .. }
            | Line::Hook(_)
            | Line::Hooked { .. }
            | Line::Closed => false,
        };
        if serde_json::to_writer(&mut self.pending, line).is_ok() {
            self.pending.push(b'\n');
        }
    }

    /// Writes what was appended since the last time: the next daemon will know it, a crash of the
    /// machine may take it.
    pub fn write(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.file.is_none() {
            let is_whole = self.is_whole;
            match if is_whole { self.rewrite() } else { self.reopen() } {
                Ok(file) => (self.file, self.again) = (Some(file), None),
                Err(err) => return self.fail(&err),
            }
            if is_whole {
                self.trouble = None;
                return;
            }
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(&self.pending) {
            Ok(()) => {
                self.grown += self.pending.len() as u64;
                self.pending.clear();
                self.trouble = None;
            }
            Err(err) => {
                self.keep_removed();
                self.file = None;
                self.fail(&err);
            }
        }
    }

    /// What the file says that nobody else can read any more goes before what waits to be written.
    fn keep_removed(&mut self) {
        let mut text = Vec::new();
        if self.is_removed()
            && let Some(file) = &mut self.file
            && file.rewind().and_then(|()| file.read_to_end(&mut text)).is_ok()
        {
            self.fold_after(text);
        }
    }

    /// Writes what was appended, and syncs it where it is to outlive the machine.
    pub fn flush(&mut self) {
        self.write();
        if std::mem::take(&mut self.sync)
            && let Some(Err(err)) = self.file.as_ref().map(File::sync_data)
        {
            self.file = None;
            self.fail(&err);
        }
        let is_removed = self.is_removed();
        if is_removed && self.is_due() || self.grown > GROWTH {
            self.grown = 0;
            self.renew();
        }
        if !is_removed && self.again.take().is_some() {
            // It was moved, and is back.
            self.trouble = None;
        }
        if is_removed && self.is_removed() {
            if self.is_due() {
                self.again = Some(clock::now() + AGAIN);
            }
            self.trouble = Some(format!(
                "{} was removed: after a crash of this daemon the next one may not know its processes",
                self.path.display()
            ));
        }
    }

    /// The same, for the last time: no next try is waited for.
    pub fn flush_at_last(&mut self) {
        self.again = None;
        self.flush();
    }

    /// When [`Self::flush`] is to be called although nothing was appended.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.again.filter(|_| self.file.is_some())
    }

    fn is_due(&self) -> bool {
        self.again.is_none_or(|it| it <= clock::now())
    }

    /// Somebody has deleted the file, or moved it away: the next daemon does not find what is written.
    fn is_removed(&self) -> bool {
        self.file.as_ref().is_some_and(|it| is_elsewhere(it, &self.path))
    }

    /// Writes a new file with what the old one says. Without success the old one stays.
    fn renew(&mut self) {
        let mut text = String::new();
        let Some(file) = &mut self.file else { return };
        if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
            return;
        }
        let pending = self.pending.clone();
        self.put_first(&Remembered::from_lines(&text, &self.boot_id));
        match self.rewrite() {
            Ok(file) => {
                self.file = Some(file);
                self.trouble = None;
            }
            Err(_) => self.pending = pending,
        }
    }

    /// What failed may have left half a line, and what was to be written first says of which boot
    /// everything is that follows.
    fn reopen(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = own::open(options.create(true).read(true).append(true), &self.path)?;
        let boot = Line::Boot { version: FORMAT, boot_id: self.boot_id.clone() };
        let mut head = if file.metadata()?.len() > 0 { vec![b'\n'] } else { vec![] };
        serde_json::to_writer(&mut head, &boot)?;
        head.push(b'\n');
        file.write_all(&head)?;
        Ok(file)
    }

    fn fail(&mut self, err: &io::Error) {
        self.trouble = Some(format!(
            "{} cannot be written ({err}): after a crash of this daemon the next one may not know its processes",
            self.path.display()
        ));
        // What could not be written is tried again, and must not grow without end.
        if self.pending.len() > self.most_waiting {
            self.fold();
            self.most_waiting = WAITING.max(2 * self.pending.len());
        }
    }

    /// Makes what is to be written the whole of what there is to say, without its history.
    fn fold(&mut self) {
        let mut text = Vec::new();
        if !self.is_whole {
            // Without what is there its history cannot be told from what still counts.
            text = match own::read(&self.path) {
                Ok(before) => before,
                Err(err) if err.kind() == io::ErrorKind::NotFound => vec![],
                Err(_) => return,
            };
        }
        self.fold_after(text);
    }

    /// The same, where this is what was written before.
    fn fold_after(&mut self, mut text: Vec<u8>) {
        if !text.is_empty() {
            text.push(b'\n');
        }
        let boot = Line::Boot { version: FORMAT, boot_id: self.boot_id.clone() };
        if serde_json::to_writer(&mut text, &boot).is_err() {
            return;
        }
        text.push(b'\n');
        text.append(&mut self.pending);
        let text = String::from_utf8_lossy(&text);
        self.put_first(&Remembered::from_lines(&text, &self.boot_id));
        (self.is_whole, self.file) = (true, None);
    }
}

/// Whether another file than the open one, or none, is at its path. What cannot be told is left as it is.
pub(in crate::daemon) fn is_elsewhere(file: &File, path: &Path) -> bool {
    match (FileId::of_descriptor(file.as_fd()), FileId::of(path)) {
        (Ok(ours), Ok(there)) => ours != there,
        (_, Err(err)) => err.kind() == io::ErrorKind::NotFound,
        (Err(_), Ok(_)) => false,
    }
}

/// Whether the next daemon can read what is there; lines that nobody knows are skipped by it.
pub fn readable(state_dir: &Path) -> io::Result<()> {
    match own::read(&state_dir.join("state.jsonl")) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Keeps a damaged file for whoever wants to look at it; says what was done.
fn set_aside(path: &Path, damage: &str) -> String {
    let beside = path.with_file_name(format!("state.broken-{}", clock::wall().as_second()));
    // It stays where it is until the new one takes its place.
    let kept = match std::fs::hard_link(path, &beside) {
        Ok(()) => format!("it is kept as {}", beside.display()),
        Err(err) => format!("it could not be set aside ({err})"),
    };
    format!(
        "{} {damage}; {kept}. What could be read of it was taken over, the rest is looked for among \
         the processes",
        path.display()
    )
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
