//! What the next daemon must know: which processes run, what operators wanted.
//!
//! One append-only file of JSON lines, `state.jsonl`, rewritten without its history at every start.
//! Intents and pids are written before anything depends on them, without a sync: a crash of the daemon
//! keeps what was written, and after a power cut the boot id voids every pid anyway. Goals are synced.
//! Lines that cannot be read are skipped: a torn last line is normal.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::{Actor, Goal};

/// One line. New kinds may come; readers skip what they do not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Line {
    /// The first line of a file.
    Boot {
        version: u32,
        boot_id: String,
    },
    /// A process is about to be started.
    Intent {
        instance: String,
        generation: u64,
    },
    Running(Running),
    /// Nothing of that generation is left.
    Gone {
        instance: String,
        generation: u64,
    },
    Wanted(Wanted),
    /// Values of `--set`, all of them.
    Set {
        service: String,
        values: BTreeMap<String, String>,
    },
    Took(Took),
}

/// The values of `--set` that an instance has, and had before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    pub instance: String,
    pub now: BTreeMap<String, String>,
    pub before: BTreeMap<String, String>,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub instance: String,
    /// Where it listens: the configuration does not know it of a spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub generation: u64,
    pub pid: i32,
    pub start_time: u64,
    /// `CLOCK_BOOTTIME` in milliseconds.
    pub started_ms: u64,
    pub fingerprint: u64,
}

/// What an operator wanted of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub instance: String,
    pub goal: Goal,
    pub held_by: Option<Actor>,
}

/// Everything the file says, folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The processes of this boot that were not seen to end, by instance.
    pub running: BTreeMap<String, Running>,
    /// The last generation of each instance.
    pub generations: BTreeMap<String, u64>,
    pub wanted: BTreeMap<String, Wanted>,
    pub set: BTreeMap<String, BTreeMap<String, String>>,
    pub took: BTreeMap<String, Took>,
}

impl Remembered {
    /// Folds the lines of a file. Pids of another boot mean nothing.
    pub fn from_lines(text: &str, boot_id: &str) -> Self {
        let mut it = Self::default();
        let mut this_boot = false;
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Boot { boot_id: theirs, .. } => this_boot = theirs == boot_id,
                Line::Intent { instance, generation } => {
                    it.generations.insert(instance, generation);
                }
                Line::Running(running) => {
                    it.generations.insert(running.instance.clone(), running.generation);
                    if this_boot {
                        it.running.insert(running.instance.clone(), running);
                    }
                }
                Line::Gone { instance, generation } => {
                    if it.running.get(&instance).is_some_and(|it| it.generation == generation) {
                        it.running.remove(&instance);
                    }
                }
                Line::Wanted(wanted) => {
                    it.wanted.insert(wanted.instance.clone(), wanted);
                }
                Line::Set { service, values } => {
                    it.set.insert(service, values);
                }
                Line::Took(took) => {
                    it.took.insert(took.instance.clone(), took);
                }
            }
        }
        it
    }

    fn to_lines(&self, boot_id: &str) -> Vec<Line> {
        let mut lines = vec![Line::Boot { version: 1, boot_id: boot_id.to_owned() }];
        lines.extend(self.generations.iter().map(|(instance, generation)| Line::Intent {
            instance: instance.clone(),
            generation: *generation,
        }));
        lines.extend(self.running.values().cloned().map(Line::Running));
        lines.extend(self.wanted.values().cloned().map(Line::Wanted));
        lines.extend(self.set.iter().map(|(service, values)| Line::Set {
            service: service.clone(),
            values: values.clone(),
        }));
        lines.extend(self.took.values().cloned().map(Line::Took));
        lines
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    boot_id: String,
    file: Option<File>,
    pending: Vec<u8>,
    sync: bool,
    /// Why nothing can be written.
    pub trouble: Option<String>,
}

impl StateFile {
    /// Reads what the last daemon left, and rewrites it without its history.
    pub fn open(state_dir: &Path, boot_id: &str) -> (Self, Remembered) {
        let path = state_dir.join("state.jsonl");
        let bytes = std::fs::read(&path).unwrap_or_default();
        let remembered = Remembered::from_lines(&String::from_utf8_lossy(&bytes), boot_id);
        let boot_id = boot_id.to_owned();
        let mut it = Self { path, boot_id, file: None, pending: vec![], sync: true, trouble: None };
        for line in remembered.to_lines(&it.boot_id) {
            it.append(&line);
        }
        it.file = match it.rewrite() {
            Ok(file) => Some(file),
            Err(err) => {
                it.fail(&err);
                None
            }
        };
        (it, remembered)
    }

    /// Beside it first, then over it: a crash leaves the old file or the new one.
    fn rewrite(&mut self) -> io::Result<File> {
        let beside = self.path.with_extension("jsonl.new");
        // One that a crash left behind may be half written.
        let _ = std::fs::remove_file(&beside);
        let mut file =
            OpenOptions::new().create_new(true).append(true).mode(0o600).open(&beside)?;
        file.write_all(&std::mem::take(&mut self.pending))?;
        file.sync_data()?;
        std::fs::rename(&beside, &self.path)?;
        Ok(file)
    }

    /// Adds a line; it is in the file after the next [`Self::flush`].
    pub fn append(&mut self, line: &Line) {
        self.sync |= matches!(line, Line::Wanted(_) | Line::Set { .. });
        if serde_json::to_writer(&mut self.pending, line).is_ok() {
            self.pending.push(b'\n');
        }
    }

    /// Writes what was appended since the last time.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.file.is_none() {
            match self.reopen() {
                Ok(file) => self.file = Some(file),
                Err(err) => return self.fail(&err),
            }
        }
        let Some(file) = &mut self.file else { return };
        let written = file.write_all(&self.pending);
        let synced = if std::mem::take(&mut self.sync) { file.sync_data() } else { Ok(()) };
        match written.and(synced) {
            Ok(()) => {
                self.pending.clear();
                self.trouble = None;
            }
            Err(err) => {
                self.file = None;
                self.fail(&err);
            }
        }
    }

    /// What failed may have left half a line, and what was to be written first says of which boot
    /// everything is that follows.
    fn reopen(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
        let boot = Line::Boot { version: 1, boot_id: self.boot_id.clone() };
        let mut head = vec![b'\n'];
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
        // What could not be written is tried again, as far as it stays small.
        if self.pending.len() > 1 << 20 {
            self.pending.clear();
        }
    }
}

/// Whether the next daemon can read what is there; lines that nobody knows are skipped by it.
pub fn readable(state_dir: &Path) -> io::Result<()> {
    match std::fs::read(state_dir.join("state.jsonl")) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(pid: i32, generation: u64) -> Line {
        Line::Running(Running {
            instance: "web1".into(),
            port: None,
            generation,
            pid,
            start_time: 7,
            started_ms: 1000,
            fingerprint: 1,
        })
    }

    #[test]
    fn the_next_daemon_knows_what_runs_and_what_was_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = StateFile::open(dir.path(), "boot-a");
        file.append(&running(10, 1));
        file.append(&Line::Gone { instance: "web1".into(), generation: 1 });
        file.append(&Line::Intent { instance: "web1".into(), generation: 2 });
        file.append(&running(11, 2));
        file.append(&Line::Wanted(Wanted {
            instance: "queue".into(),
            goal: Goal::Down,
            held_by: None,
        }));
        file.flush();

        let (_, remembered) = StateFile::open(dir.path(), "boot-a");
        assert_eq!(remembered.running["web1"].pid, 11);
        assert_eq!(remembered.wanted["queue"].goal, Goal::Down);

        let (_, after_reboot) = StateFile::open(dir.path(), "boot-b");
        assert_eq!(after_reboot.running, BTreeMap::new());
        assert_eq!(after_reboot.generations["web1"], 2);
        assert_eq!(after_reboot.wanted["queue"].goal, Goal::Down);
    }

    #[test]
    fn what_could_not_be_written_is_there_once_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = StateFile::open(dir.path(), "boot-a");
        file.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        file.append(&running(10, 1));
        file.flush();
        assert!(file.trouble.as_deref().unwrap().contains("No space left"));
        let path = dir.path().join("state.jsonl");
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"is\":\"running\",\"inst").unwrap();

        file.flush();
        assert_eq!(file.trouble, None);
        let (_, remembered) = StateFile::open(dir.path(), "boot-a");
        assert_eq!(remembered.running["web1"].pid, 10);
    }

    #[test]
    fn a_file_that_could_not_be_rewritten_at_first_is_of_this_boot_later() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = StateFile::open(dir.path(), "boot-a");
        file.append(&running(10, 1));
        file.flush();
        // The rewriting fails where the new file would be.
        let beside = dir.path().join("state.jsonl.new");
        std::fs::create_dir(&beside).unwrap();
        let (mut file, _) = StateFile::open(dir.path(), "boot-b");
        assert!(file.trouble.is_some());
        file.append(&running(11, 2));
        file.flush();

        std::fs::remove_dir(&beside).unwrap();
        let (_, remembered) = StateFile::open(dir.path(), "boot-b");
        assert_eq!(remembered.running["web1"].pid, 11);
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped() {
        let text = "{\"is\":\"boot\",\"version\":1,\"boot_id\":\"a\"}\n{\"is\":\"new\"}\n\u{0}garbage\n{\"is\":\"intent\",\"inst";
        assert_eq!(Remembered::from_lines(text, "a"), Remembered::default());
    }
}
