//! The names of a log's files, and how they move up when it is full.
//!
//! ```text
//! web1.log → web1.log.1 → web1.log.2 → … → web1.log.KEEP → gone        and web1.log.idx → web1.log.1.idx → …
//! ```
//!
//! Only renames, from the oldest to the newest, each index just before its file. Killed between any two of them, there
//! is one number without a file; the next rotation fills that gap instead of removing the oldest file, and an index
//! that went ahead is joined by its file. So there is nothing to repair at a start.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// More files than this are not kept, whatever is asked for: readers hold one descriptor for each.
pub(super) const KEEP_LIMIT: u32 = 1000;

/// The `n`th oldest file; 0 is the log itself.
pub(super) fn numbered(log: &Path, n: u32) -> PathBuf {
    if n == 0 { log.to_owned() } else { with_suffix(log, &format!(".{n}")) }
}

/// The index of the `n`th oldest file.
pub(super) fn numbered_index(log: &Path, n: u32) -> PathBuf {
    with_suffix(&numbered(log, n), ".idx")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Frees the log's own name. With `keep` 0 the file is removed.
pub(super) fn rotate(log: &Path, keep: u32) -> io::Result<()> {
    let keep = keep.min(KEEP_LIMIT);
    let mut free = 1;
    while free <= keep && exists(&numbered(log, free))? {
        free += 1;
    }
    if free > keep {
        discard(log, keep)?;
        free = keep;
    }
    for n in (0..free).rev() {
        step(&numbered_index(log, n), &numbered_index(log, n + 1))?;
        step(&numbered(log, n), &numbered(log, n + 1))?;
    }
    Ok(())
}

/// Removes what a smaller `keep` no longer covers.
pub(super) fn trim(log: &Path, keep: u32) -> io::Result<()> {
    let mut n = keep.min(KEEP_LIMIT) + 1;
    while exists(&numbered(log, n))? {
        discard(log, n)?;
        n += 1;
    }
    Ok(())
}

/// Removes a log, everything rotated from it, and the indexes. No logger may have it open.
pub fn remove(log: &Path) -> io::Result<()> {
    trim(log, 0)?;
    // A kill in the middle of a rotation may have left a gap, and behind it more files.
    trim(log, 1)?;
    discard(log, 0)
}

fn discard(log: &Path, n: u32) -> io::Result<()> {
    // The index first: a file without one is merely slower to search, an index without its file would mislead.
    for path in [numbered_index(log, n), numbered(log, n)] {
        absent_is_fine(std::fs::remove_file(path))?;
    }
    Ok(())
}

fn step(from: &Path, to: &Path) -> io::Result<()> {
    absent_is_fine(std::fs::rename(from, to))
}

fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of every file in the directory, by name.
    fn listing(dir: &Path) -> Vec<String> {
        let mut files: Vec<(String, String)> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files.into_iter().map(|(name, content)| format!("{name}={content}")).collect()
    }

    fn write(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
        for (name, content) in files {
            std::fs::write(dir.join(name), content).unwrap();
        }
        dir.join("log")
    }

    #[test]
    fn files_and_indexes_move_up_together_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["a", "b", "c", "d"] {
            let log = write(dir.path(), &[("log", content), ("log.idx", content)]);
            rotate(&log, 2).unwrap();
        }
        assert_eq!(listing(dir.path()), ["log.1=d", "log.1.idx=d", "log.2=c", "log.2.idx=c"]);
    }

    #[test]
    fn a_rotation_that_was_cut_short_is_finished_without_losing_a_file() {
        let dir = tempfile::tempdir().unwrap();
        // Killed after the index of `b` went from 1 to 2 and before its file did.
        let files =
            [("log", "c"), ("log.idx", "c"), ("log.1", "b"), ("log.2.idx", "b"), ("log.3", "a")];
        let log = write(dir.path(), &files);
        rotate(&log, 3).unwrap();
        assert_eq!(
            listing(dir.path()),
            ["log.1=c", "log.1.idx=c", "log.2=b", "log.2.idx=b", "log.3=a"]
        );
    }

    #[test]
    fn keeping_none_removes_the_full_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = write(dir.path(), &[("log", "a"), ("log.idx", "a")]);
        rotate(&log, 0).unwrap();
        assert_eq!(listing(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn trimming_removes_what_is_beyond_the_limit_and_removing_removes_all() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            [("log", "d"), ("log.1", "c"), ("log.2", "b"), ("log.3", "a"), ("log.3.idx", "a")];
        let log = write(dir.path(), &files);
        trim(&log, 1).unwrap();
        assert_eq!(listing(dir.path()), ["log=d", "log.1=c"]);
        remove(&log).unwrap();
        assert_eq!(listing(dir.path()), Vec::<String>::new());
    }
}
