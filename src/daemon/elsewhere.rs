//! The same configuration, begun with its state in another directory.
//!
//! What runs is known to the state that is there, and to nobody here: this daemon would start everything once more. So
//! it does not begin as long as anything of that runs. Whose state a directory is, is told by the configuration file
//! that was applied there: another deck on the same host has another one, and is nobody's business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::applied;
use super::boot::BootError;
use super::life::launch::MARK;
use super::strays::words;
use crate::process::group::Member;
use crate::process::strays::marked;
use crate::process::table::FileId;

/// Looks for it, for a daemon with this configuration and its state in `here`.
///
/// # Errors
///
/// Something runs.
pub fn look(config: Option<&Path>, here: &Path) -> Result<(), BootError> {
    let Some(config) = config else { return Ok(()) };
    let marked = marked(MARK).unwrap_or_else(|err| {
        warn!(%err, "nothing was looked for that runs with another state directory");
        vec![]
    });
    let own = std::env::var(MARK).ok();
    for (state_dir, members) in by_deck(marked, here, own.as_deref()) {
        if !is_same(&state_dir, here) && applied::is_of(&state_dir, config) {
            let (running, here) = (words(&members), here.to_owned());
            return Err(BootError::Elsewhere { running, there: state_dir, here });
        }
    }
    Ok(())
}

/// Who is marked as of which other deck. `own`: the mark of this process, which that deck may have started.
fn by_deck(
    marked: Vec<(String, Member)>,
    here: &Path,
    own: Option<&str>,
) -> BTreeMap<PathBuf, Vec<Member>> {
    let deck = |mark: &str| mark.split_once('@').map(|it| PathBuf::from(it.1));
    let own = own.and_then(deck);
    let mut decks: BTreeMap<PathBuf, Vec<Member>> = BTreeMap::new();
    for (mark, member) in marked {
        if let Some(state_dir) = deck(&mark).filter(|it| it != here && Some(it) != own.as_ref()) {
            decks.entry(state_dir).or_default().push(member);
        }
    }
    decks
}

/// One directory may have two names.
fn is_same(there: &Path, here: &Path) -> bool {
    FileId::of(there).is_ok_and(|it| FileId::of(here).is_ok_and(|here| here == it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stat::read_stat;

    #[test]
    fn who_is_of_another_deck_is_told_by_his_mark() {
        let me = Member::from(&read_stat(std::process::id().cast_signed()).unwrap());
        let marks = ["web1@/a", "web2@/a", "web1@/b", "web1@/here", "nonsense", "x@/own"];
        let marked = marks.iter().map(|it| ((*it).to_owned(), me)).collect();
        let decks = by_deck(marked, Path::new("/here"), Some("y@/own"));
        let count = |(path, members): (&PathBuf, &Vec<Member>)| (path.clone(), members.len());
        assert_eq!(
            decks.iter().map(count).collect::<Vec<_>>(),
            [("/a".into(), 2), ("/b".into(), 1)]
        );
    }

    #[test]
    fn one_directory_by_two_names_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(is_same(&link, dir.path()));
        assert!(!is_same(Path::new("/"), dir.path()) && !is_same(&dir.path().join("x"), &link));
    }
}
