//! Real FIFOs, real children, a real logger process, killed.

mod crash;
mod flow;
mod process;
mod property;
mod trouble;

use std::io;
use std::path::{Path, PathBuf};

use super::Line;
use super::rotate::numbered;

/// A log in a directory of its own.
pub(super) struct TestLog {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl TestLog {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes the files of a log, oldest first.
pub(super) fn log_of(files: &[&str]) -> TestLog {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web1.log");
    for (n, content) in (0..).zip(files.iter().rev()) {
        std::fs::write(numbered(&path, n), content).unwrap();
    }
    TestLog { _dir: dir, path }
}

/// The lines with `|` between them; `…` where one goes on.
pub(super) fn text(lines: impl Iterator<Item = io::Result<Line>>) -> String {
    let lines = lines.map(|line| {
        let line = line.unwrap();
        let more = if line.partial { "…" } else { "" };
        format!("{}{more}", String::from_utf8(line.bytes).unwrap())
    });
    lines.collect::<Vec<_>>().join("|")
}
