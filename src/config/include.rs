//! The files that a pattern of `[deck] include` names.
//!
//! `*` and `?` match within one step of a path, as in a shell: never a slash, never a leading dot.
//! Editors leave their copies with other endings, so `*.toml` skips them.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Files that match `pattern` below `directory`, sorted. A pattern without `*` and `?` must exist.
pub(crate) fn matches(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let has_wildcard = |text: &str| text.contains(['*', '?']);
    let mut found = vec![directory.to_owned()];
    for step in Path::new(pattern).components() {
        let text = step.as_os_str().to_string_lossy();
        if !matches!(step, Component::Normal(_)) || !has_wildcard(&text) {
            for path in &mut found {
                path.push(step);
            }
            continue;
        }
        let mut next = vec![];
        for path in &found {
            next.extend(entries(path, &text)?);
        }
        found = next;
    }
    if !has_wildcard(pattern) {
        for path in &found {
            let kind = std::fs::metadata(path)
                .map_err(|err| io::Error::new(err.kind(), super::reason(&err)))?;
            // A FIFO would be waited for, for ever.
            if !kind.is_file() {
                return Err(io::Error::other("this is not a file"));
            }
        }
    }
    found.retain(|it| it.is_file() || !has_wildcard(pattern));
    found.sort();
    Ok(found)
}

fn entries(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let listed = match std::fs::read_dir(directory) {
        Ok(listed) => listed,
        // A conf.d that nobody made has no files in it.
        Err(err)
            if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(vec![]);
        }
        Err(err) => return Err(io::Error::new(err.kind(), super::reason(&err))),
    };
    let mut found = vec![];
    for entry in listed {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (pattern.starts_with('.') || !name.starts_with('.')) && is_match(pattern, &name) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a name fits a pattern of `*` and `?`; linear by falling back to the last star.
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(it) if *it == '?' || *it == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|it| *it == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_within_a_name() {
        for (pattern, name) in
            [("*.toml", "a.toml"), ("*", "x"), ("a?c*", "abc"), ("*a*b", "xaab"), ("", "")]
        {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.toml", "a.toml~"), ("?", ""), ("a", "ab"), ("*a*b", "ba")] {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }
}
