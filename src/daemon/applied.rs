//! The configuration that is applied, kept for the next daemon.
//!
//! A file may be edited, or broken, when a daemon ends without a word, and its death applies no edit: the next
//! one begins with what ran, and takes the file as an edit that it sees. Kept are texts as they were read, in
//! `config.jsonl`. Of an edit of which a part waits a line is added: from one to the next only what stops
//! nothing was applied, and doing the same again comes to the same.
//!
//! Who ends a daemon in order knows what he has edited: then the file is taken as it is, unless it is broken.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::driver::Daemon;
use super::kept::remembered::Remembered;
use super::own;
use super::turn::{Mistakes, Scope};
use crate::config::settings::{ReadFile, Settings, Texts};
use crate::config::{reread, without_stops};

const NAME: &str = "config.jsonl";
/// So many lines more, and it is looked for edits of which nothing is left.
const AGAIN: usize = 16;

/// What was read at one time.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    files: Vec<OneFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OneFile {
    path: PathBuf,
    text: String,
    #[serde(default)]
    is_profile: bool,
}

/// What was applied last of this configuration file; `None`: that is not known, or this release cannot read it.
pub fn read(state_dir: &Path, path: &Path) -> Option<Settings> {
    let text = own::read_text(&state_dir.join(NAME)).ok()?;
    let mut applied: Option<Settings> = None;
    // Where a crash has torn the last one, that edit is seen again.
    let lines = text.lines().filter(|it| *it != CLOSED);
    for line in lines.map_while(|it| serde_json::from_str::<Line>(it).ok()) {
        let files: Vec<_> = line.files.into_iter().map(ReadFile::from).collect();
        let next = reread(&files).ok()?;
        applied = Some(match applied {
            None => next,
            Some(before) => without_stops(&before, &next).0,
        });
    }
    applied.filter(|it| it.path.as_deref() == Some(path))
}

/// Whether that is the state of this configuration file.
pub(super) fn is_of(state_dir: &Path, config: &Path) -> bool {
    let path = &state_dir.join(NAME);
    // Anybody may have made that directory.
    let text = own::read_text(path).ok().filter(|_| own::is_believed(path)).unwrap_or_default();
    let mut lines = text.lines().filter_map(|it| serde_json::from_str::<Line>(it).ok());
    lines.next_back().is_some_and(|it| it.files.first().is_some_and(|it| it.path == config))
}

/// Keeps what was applied as a whole, or the edit of which a part waits.
fn keep(state_dir: &Path, texts: &Texts, is_whole: bool) -> io::Result<()> {
    let path = state_dir.join(NAME);
    let line = Line { files: texts.0.iter().map(OneFile::from).collect() };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    if !is_whole {
        open(OpenOptions::new().append(true), &path)?.write_all(&bytes)?;
        return compact(state_dir);
    }
    replace(state_dir, &bytes)
}

/// The next daemon sees one file or the other.
fn replace(state_dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = state_dir.join("config.jsonl.new");
    open(OpenOptions::new().write(true).truncate(true), &new)?.write_all(bytes)?;
    std::fs::rename(new, state_dir.join(NAME))
}

/// Leaves out the edits of which nothing is left, now and then.
fn compact(state_dir: &Path) -> io::Result<()> {
    let text = own::read_text(&state_dir.join(NAME))?;
    let lines: Vec<&str> = text.lines().collect();
    if !lines.len().is_multiple_of(AGAIN) {
        return Ok(());
    }
    let read = |it: &&str| {
        let line: Line = serde_json::from_str(it).ok()?;
        reread(&line.files.into_iter().map(ReadFile::from).collect::<Vec<_>>()).ok()
    };
    // What is torn, or was written by another release, is left alone.
    let Some(all) = lines.iter().map(read).collect::<Option<Vec<_>>>() else { return Ok(()) };
    let kept: Vec<_> =
        still_needed(&all).into_iter().map(|it| format!("{}\n", lines[it])).collect();
    if kept.len() == lines.len() {
        return Ok(());
    }
    replace(state_dir, kept.concat().as_bytes())
}

/// What comes to the same as all of them, by number.
fn still_needed(all: &[Settings]) -> Vec<usize> {
    let last = all.len() - 1;
    let whole = fold(all, 0..=last);
    if last > 1 && fold(all, [0, last]) == whole {
        return vec![0, last];
    }
    let mut kept: Vec<usize> = (0..=last).collect();
    for it in 1..last {
        let without = || kept.iter().copied().filter(|other| *other != it);
        if fold(all, without()) == whole {
            kept = without().collect();
        }
    }
    kept
}

fn fold(all: &[Settings], which: impl IntoIterator<Item = usize>) -> Option<Settings> {
    let next = |before: Settings, it: &Settings| without_stops(&before, it).0;
    let mut them = which.into_iter().map(|it| &all[it]);
    let first = them.next()?.clone();
    Some(them.fold(first, next))
}

/// The last line, where a daemon was told to end.
const CLOSED: &str = "\"closed\"";

/// The daemon was told to end: the next one goes by the file.
pub fn close(state_dir: &Path) {
    let path = state_dir.join(NAME);
    let closed = own::open(OpenOptions::new().append(true), &path);
    let closed = closed.and_then(|mut it| it.write_all(format!("{CLOSED}\n").as_bytes()));
    if let Err(err) = closed {
        warn!(%err, "the next daemon goes on with what is applied now");
    }
}

fn is_closed(state_dir: &Path) -> bool {
    let text = own::read_text(&state_dir.join(NAME)).unwrap_or_default();
    text.lines().next_back() == Some(CLOSED)
}

/// There are secrets in it.
fn open(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    own::open(how.create(true), path)
}

impl From<OneFile> for ReadFile {
    fn from(OneFile { path, text, is_profile }: OneFile) -> Self {
        Self { path, text, is_profile }
    }
}

impl From<&ReadFile> for OneFile {
    fn from(it: &ReadFile) -> Self {
        Self { path: it.path.clone(), text: it.text.clone(), is_profile: it.is_profile }
    }
}

/// What a daemon begins with, if that is not the file as it is now: what was applied, where something of that
/// may run on.
pub(super) fn base(state_dir: &Path, file: &Settings, left: &Remembered) -> Option<Settings> {
    let runs = !left.running.is_empty() || !left.found.is_empty();
    if !runs || is_closed(state_dir) {
        return None;
    }
    let applied = read(state_dir, file.path.as_deref()?)?;
    // What runs under another engine by now is kept as what it was, and that by itself.
    let is_foreign = |settings: &Settings, name: &str| {
        let service = settings.services.iter().find(|it| it.rules.name.as_str() == name);
        service.map(crate::config::settings::Service::is_foreign)
    };
    let is_same_engine = file.services.iter().all(|it| {
        is_foreign(&applied, it.rules.name.as_str()).is_none_or(|before| before == it.is_foreign())
    });
    is_same_engine.then_some(applied)
}

impl Daemon {
    /// Takes the file as it was read at the start, or its mistakes.
    pub(super) fn begin_with(&mut self, file: &Settings, mistakes: Option<&Mistakes>) {
        if let Some(mistakes) = mistakes {
            self.refuse(mistakes, &Scope::Watched);
        } else if *file == *self.config.settings {
            self.keep_applied(&file.texts, true);
        } else {
            // Why not is told where it is refused.
            let _ = self.apply(file.clone(), &Scope::Watched);
        }
    }

    pub(super) fn keep_applied(&self, texts: &Texts, is_whole: bool) {
        // A configuration of nobody's is that of a test.
        if texts.0.is_empty() {
            return;
        }
        if let Err(err) = keep(&self.hands.places.state_dir, texts, is_whole) {
            warn!(%err, "what is applied is not kept: the next daemon goes by the file alone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "[service.a]\ncommand = \"a\"\n";
    const B: &str = "[service.b]\ncommand = \"b\"\n";
    const C: &str = "[service.c]\ncommand = \"c\"\n";

    fn texts(text: &str) -> Texts {
        let file = ReadFile { path: "/etc/deck.toml".into(), text: text.into(), is_profile: false };
        Texts(std::sync::Arc::new(vec![file]))
    }

    fn services(state_dir: &Path) -> Vec<String> {
        let settings = read(state_dir, Path::new("/etc/deck.toml")).unwrap();
        settings.services.iter().map(|it| it.rules.name.to_string()).collect()
    }

    #[test]
    fn what_was_applied_is_read_again_and_what_waits_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        assert!(read(place, Path::new("/etc/deck.toml")).is_none());
        keep(place, &texts(&format!("{A}{B}")), true).unwrap();
        assert_eq!(services(place), ["a", "b"]);
        assert!(read(place, Path::new("/etc/other.toml")).is_none(), "it is of another one");

        // `b` was to go, then `c` came and was to go as well: nothing of that was stopped.
        keep(place, &texts(A), false).unwrap();
        keep(place, &texts(&format!("{A}{C}")), false).unwrap();
        keep(place, &texts(A), false).unwrap();
        let mut names = services(place);
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);

        let mut file = OpenOptions::new().append(true).open(place.join(NAME)).unwrap();
        file.write_all(b"{\"files\":[{\"pa").unwrap();
        assert_eq!(services(place).len(), 3, "the last line is torn");
        keep(place, &texts(A), true).unwrap();
        assert_eq!(services(place), ["a"]);
    }

    #[test]
    fn edits_that_are_saved_for_ever_leave_no_more_than_what_lasts_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        keep(place, &texts(&format!("{A}{B}")), true).unwrap();
        // `b` is to go and waits, `c` has come and is to go as well; then only `a` changes.
        keep(place, &texts(&format!("{A}{C}")), false).unwrap();
        let mut most = 0;
        for n in 0..1000 {
            let edit = format!("[service.a]\ncommand = \"a\"\nmax_wait_time = \"{}s\"\n", n + 5);
            keep(place, &texts(&edit), false).unwrap();
            let text = std::fs::read_to_string(place.join(NAME)).unwrap();
            most = most.max(text.lines().count());
        }
        assert!(most < AGAIN, "{most} lines");
        let settings = read(place, Path::new("/etc/deck.toml")).unwrap();
        let of = |name: &str| settings.services.iter().find(|it| it.rules.name.as_str() == name);
        assert_eq!(of("a").unwrap().rules.max_wait_time, std::time::Duration::from_secs(1004));
        assert!(of("b").is_some() && of("c").is_some(), "they run");
    }

    #[test]
    fn what_cannot_be_read_any_more_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), &texts("[service.a]\nnever = 1\n"), true).unwrap();
        assert!(read(dir.path(), Path::new("/etc/deck.toml")).is_none());
        std::fs::write(dir.path().join(NAME), "").unwrap();
        assert!(read(dir.path(), Path::new("/etc/deck.toml")).is_none());
    }

    #[test]
    fn the_file_stands_alone_where_nothing_runs_or_the_engine_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| reread(&texts(text).0).unwrap();
        keep(dir.path(), &texts(&format!("{A}{B}")), true).unwrap();
        let mut left = Remembered::default();
        assert_eq!(base(dir.path(), &of(A), &left), None);
        let running = crate::daemon::kept::state::Running {
            instance: "b".into(),
            port: None,
            generation: 1,
            pid: 4711,
            start_time: 1,
            started_ms: 10,
            fingerprint: 0,
            ladder: Default::default(),
        };
        left.running.insert("b".into(), running);
        assert_eq!(base(dir.path(), &of(A), &left), Some(of(&format!("{A}{B}"))));
        close(dir.path());
        assert_eq!(base(dir.path(), &of(A), &left), None, "whoever ended it knew of the edit");
        assert_eq!(services(dir.path()), ["a", "b"], "a file with mistakes is another matter");
        keep(dir.path(), &texts(&format!("{A}{B}")), true).unwrap();
        let theirs = "[service.b]\nengine = \"pidfile\"\npidfile = \"/run/b.pid\"\n";
        assert_eq!(base(dir.path(), &of(theirs), &left), None);
    }
}
