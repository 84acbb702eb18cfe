//! What the next daemon must know: which processes run, what operators wanted, what is under way.
//!
//! One append-only file of JSON lines ([`Line`]), `state.jsonl`, rewritten without its history at every
//! start and whenever it has grown. Intents, pids and signals are written before anything depends on them,
//! without a sync: a crash of the daemon keeps what was written, and after a power cut the boot id voids
//! every pid anyway. Goals and rollouts are synced. A torn line is normal where a crash or a full disk
//! explains it; anything else that cannot be read is set aside as `state.broken-TIME`, and said.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::clock;
pub use super::records::{FORMAT, Intent, Kept, Line, Rollout, Run, Running, Took, Wanted};
use crate::api::Actor;

/// A file that has grown by so many bytes is rewritten without its history.
const GROWTH: u64 = 4 << 20;

/// Everything the file says, folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The processes of this boot that were not seen to end, by instance.
    pub running: BTreeMap<String, Running>,
    /// The last start of each instance.
    pub intents: BTreeMap<String, Intent>,
    pub wanted: BTreeMap<String, Wanted>,
    pub set: BTreeMap<String, BTreeMap<String, String>>,
    pub took: BTreeMap<String, Took>,
    /// What was under way, by instance.
    pub kept: BTreeMap<String, Kept>,
    /// By service.
    pub rollouts: BTreeMap<String, Rollout>,
    /// The commands of rollouts that were not seen to end, on this boot, by service.
    pub runs: BTreeMap<String, Run>,
    /// Everything was being stopped, on this boot, and by whom.
    pub closing: Option<Option<Actor>>,
    /// What an operator should know about the file.
    pub notes: Vec<String>,
}

impl Remembered {
    /// Folds the lines of a file. Pids of another boot mean nothing.
    pub fn from_lines(text: &str, boot_id: &str) -> Self {
        let mut it = Self::default();
        let mut this_boot = false;
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            if let Line::Boot { boot_id: theirs, .. } = &line {
                this_boot = theirs == boot_id;
            } else {
                it.take(line, this_boot);
            }
        }
        it.kept.retain(|_, kept| !kept.says_nothing());
        it
    }

    fn take(&mut self, line: Line, this_boot: bool) {
        match line {
            Line::Boot { .. } => {}
            Line::Intent(intent) => {
                self.intents.insert(intent.instance.clone(), intent);
            }
            Line::Running(running) => {
                let intent = self.intents.entry(running.instance.clone()).or_default();
                intent.instance.clone_from(&running.instance);
                // Where the lines between were lost, the later generation is the one not to give again.
                if running.generation >= intent.generation {
                    intent.generation = running.generation;
                    intent.fingerprint = running.fingerprint;
                }
                if this_boot {
                    self.running.insert(running.instance.clone(), running);
                }
            }
            Line::Gone { instance, generation } => {
                if self.running.get(&instance).is_some_and(|it| it.generation == generation) {
                    self.running.remove(&instance);
                }
            }
            Line::Wanted(wanted) => {
                self.wanted.insert(wanted.instance.clone(), wanted);
            }
            Line::Set { service, values } => {
                self.set.insert(service, values);
            }
            Line::Took(took) => {
                self.took.insert(took.instance.clone(), took);
            }
            Line::Kept(kept) => {
                let kept = if this_boot { *kept } else { kept.after_reboot() };
                self.kept.insert(kept.instance.clone(), kept);
            }
            Line::Rollout(rollout) => {
                let rollout = if this_boot { *rollout } else { rollout.after_reboot() };
                self.rollouts.insert(rollout.service.clone(), rollout);
            }
            Line::NoRollout { service } => {
                self.rollouts.remove(&service);
            }
            Line::Run(run) => {
                if this_boot {
                    self.runs.insert(run.service.clone(), run);
                }
            }
            Line::Ran { service, run } => {
                if self.runs.get(&service).is_some_and(|it| it.run == run) {
                    self.runs.remove(&service);
                }
            }
            Line::Closing { by } => self.closing = this_boot.then_some(by),
            Line::Closed => self.closing = None,
        }
    }

    fn to_lines(&self, boot_id: &str) -> Vec<Line> {
        let mut lines = vec![Line::Boot { version: FORMAT, boot_id: boot_id.to_owned() }];
        lines.extend(self.intents.values().cloned().map(Line::Intent));
        lines.extend(self.running.values().cloned().map(Line::Running));
        lines.extend(self.wanted.values().cloned().map(Line::Wanted));
        lines.extend(self.set.iter().map(|(service, values)| Line::Set {
            service: service.clone(),
            values: values.clone(),
        }));
        lines.extend(self.took.values().cloned().map(Line::Took));
        lines.extend(self.kept.values().cloned().map(|it| Line::Kept(Box::new(it))));
        lines.extend(self.rollouts.values().cloned().map(|it| Line::Rollout(Box::new(it))));
        lines.extend(self.runs.values().cloned().map(Line::Run));
        lines.extend(self.closing.clone().map(|by| Line::Closing { by }));
        lines
    }
}

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
    sync: bool,
    /// Bytes since it was rewritten.
    grown: u64,
    /// Why nothing can be written.
    pub trouble: Option<String>,
}

impl StateFile {
    /// Reads what the last daemon left, and rewrites it without its history.
    pub fn open(state_dir: &Path, boot_id: &str) -> (Self, Remembered) {
        let path = state_dir.join("state.jsonl");
        let (text, damage) = match std::fs::read(&path) {
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
        let (pending, trouble) = (vec![], None);
        let mut it = Self { path, boot_id, file: None, pending, sync: true, grown: 0, trouble };
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
        let mut file =
            options.create_new(true).read(true).append(true).mode(0o600).open(&beside)?;
        file.write_all(&self.pending)?;
        file.sync_data()?;
        std::fs::rename(&beside, &self.path)?;
        self.pending.clear();
        self.sync = false;
        self.grown = 0;
        Ok(file)
    }

    /// Adds a line; it is in the file after the next [`Self::write`] or [`Self::flush`].
    pub fn append(&mut self, line: &Line) {
        self.sync |= match line {
            Line::Wanted(_) | Line::Set { .. } | Line::Rollout(_) | Line::Closing { .. } => true,
            Line::Boot { .. }
            | Line::Intent(_)
            | Line::Running(_)
            | Line::Gone { .. }
            | Line::Took(_)
            | Line::Kept(_)
            | Line::NoRollout { .. }
            | Line::Run(_)
            | Line::Ran { .. }
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
            match self.reopen() {
                Ok(file) => self.file = Some(file),
                Err(err) => return self.fail(&err),
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
                self.file = None;
                self.fail(&err);
            }
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
        if is_removed || self.grown > GROWTH {
            self.grown = 0;
            self.renew();
        }
        if is_removed && self.is_removed() {
            self.trouble = Some(format!(
                "{} was removed: after a crash of this daemon the next one may not know its processes",
                self.path.display()
            ));
        }
    }

    /// Somebody has deleted the file: what is written goes nowhere.
    fn is_removed(&self) -> bool {
        self.file.as_ref().and_then(|it| it.metadata().ok()).is_some_and(|it| it.nlink() == 0)
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
        let mut file = options.create(true).read(true).append(true).mode(0o600).open(&self.path)?;
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
mod tests {
    use super::*;
    use crate::api::Goal;

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
        file.append(&Line::Intent(Intent {
            instance: "web1".into(),
            generation: 2,
            fingerprint: 0,
        }));
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
        assert_eq!(after_reboot.intents["web1"].generation, 2);
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
    fn a_command_is_known_until_it_has_ended_and_not_on_another_boot() {
        let dir = tempfile::tempdir().unwrap();
        let run = |run, pid| Run { service: "web".into(), run, pid, ..Run::default() };
        let ran = |run| Line::Ran { service: "web".into(), run };
        let (mut file, _) = StateFile::open(dir.path(), "boot-a");
        file.append(&Line::Run(run(1, 0)));
        file.append(&Line::Run(run(1, 10)));
        file.append(&Line::Run(run(2, 0)));
        // It was cancelled, and its end comes late.
        file.append(&ran(1));
        file.flush();
        assert_eq!(StateFile::open(dir.path(), "boot-b").1.runs, BTreeMap::new());

        let (mut file, _) = StateFile::open(dir.path(), "boot-a");
        file.append(&Line::Run(run(2, 11)));
        file.flush();
        let (mut file, remembered) = StateFile::open(dir.path(), "boot-a");
        assert_eq!(remembered.runs["web"], run(2, 11));
        file.append(&ran(2));
        file.flush();
        assert_eq!(StateFile::open(dir.path(), "boot-a").1.runs, BTreeMap::new());
    }

    #[test]
    fn a_file_of_the_first_format_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"is":"boot","version":1,"boot_id":"a"}
{"is":"intent","instance":"web1","generation":4}
{"is":"running","instance":"web1","generation":4,"pid":10,"start_time":7,"started_ms":1,"fingerprint":1}
{"is":"wanted","instance":"web2","goal":"down","held_by":{"uid":7,"login":"bob","pid":1}}
{"is":"set","service":"web","values":{"version":"43"}}
{"is":"took","instance":"web1","now":{"version":"43"},"before":{"version":"42"}}
{"is":"gone","instance":"web3","gener"#;
        std::fs::write(dir.path().join("state.jsonl"), text).unwrap();
        let (_, it) = StateFile::open(dir.path(), "a");
        assert_eq!((it.running["web1"].pid, it.intents["web1"].generation), (10, 4));
        assert_eq!(it.wanted["web2"].held_by.as_ref().unwrap().login, "bob");
        assert_eq!((it.set["web"]["version"].as_str(), it.took.len()), ("43", 1));
        assert_eq!(it.notes, Vec::<String>::new());
    }

    fn notes_of(text: &[u8]) -> (usize, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state.jsonl"), text).unwrap();
        let (_, it) = StateFile::open(dir.path(), "a");
        let names = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
        let aside = names.filter(|it| it.to_string_lossy().starts_with("state.broken-")).count();
        (aside, it.notes)
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_said() {
        let header = b"{\"is\":\"boot\",\"version\":2,\"boot_id\":\"a\"}\n";
        let with = |rest: &[u8]| [header, rest].concat();
        for damaged in [
            vec![],
            vec![0; 4096],
            b"\xff\xfe garbage\n".to_vec(),
            with(b"garbage\n{\"is\":\"gone\",\"instance\":\"a\",\"generation\":1}\n"),
        ] {
            let (aside, notes) = notes_of(&damaged);
            assert_eq!((aside, notes.len()), (1, 1), "{notes:?}");
            assert!(notes[0].contains("it is kept as"), "{notes:?}");
        }
        for sound in [
            header.to_vec(),
            with(b"{\"is\":\"of the future\",\"n\":1}\n"),
            with(b"{\"is\":\"running\",\"inst"),
            with(&with(b"")),
            with(&[b"{\"is\":\"runn\n".as_slice(), header].concat()),
        ] {
            assert_eq!(notes_of(&sound), (0, vec![]));
        }
        let (aside, notes) = notes_of(b"{\"is\":\"boot\",\"version\":9,\"boot_id\":\"a\"}\n");
        assert_eq!((aside, notes.len()), (0, 1));
        assert!(notes[0].contains("a newer opsdeck (format 9"), "{notes:?}");
    }

    #[test]
    fn a_file_that_was_deleted_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let (mut file, _) = StateFile::open(&state, "a");
        file.append(&running(10, 1));
        file.flush();
        std::fs::remove_file(state.join("state.jsonl")).unwrap();
        file.flush();
        assert_eq!(file.trouble, None);
        assert_eq!(StateFile::open(&state, "a").1.running["web1"].pid, 10);

        let (mut file, _) = StateFile::open(&state, "a");
        std::fs::remove_dir_all(&state).unwrap();
        file.append(&running(11, 2));
        file.flush();
        assert!(file.trouble.as_deref().unwrap().contains("was removed"), "{:?}", file.trouble);
        std::fs::create_dir(&state).unwrap();
        file.flush();
        assert_eq!(file.trouble, None);
        assert_eq!(StateFile::open(&state, "a").1.running["web1"].pid, 11);
    }

    #[test]
    fn a_file_that_grows_loses_its_history_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = StateFile::open(dir.path(), "a");
        for n in 1..=100 {
            file.append(&running(n, u64::try_from(n).unwrap()));
        }
        file.grown = GROWTH;
        file.flush();
        let text = std::fs::read_to_string(dir.path().join("state.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(StateFile::open(dir.path(), "a").1.running["web1"].pid, 100);
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped() {
        let text = "{\"is\":\"boot\",\"version\":1,\"boot_id\":\"a\"}\n{\"is\":\"new\"}\n\u{0}garbage\n{\"is\":\"intent\",\"inst";
        assert_eq!(Remembered::from_lines(text, "a"), Remembered::default());
    }
}
