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
use crate::config::paths::Surroundings;
use crate::config::settings::Deck;
use crate::config::trust::uid_of;
use crate::process::group::Member;
use crate::process::owner::may_say;
use crate::process::strays::{Marked, has_output, marked};
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
    for (state_dir, marked) in by_deck(marked, here, own.as_deref()) {
        if is_same(&state_dir, here) || !applied::is_of(&state_dir, config) {
            continue;
        }
        let (users, pipes) = (users_in(&state_dir, config), pipes_of(&state_dir));
        let is_its = |it: &&Marked| {
            let instance = instance_of(&it.mark);
            // Who gives up root by himself has a user that no configuration names.
            let pipe = pipes.as_ref().map(|it| it.join(format!("{instance}.fifo")));
            may_say(it.users, users.get(instance).copied())
                || pipe.is_some_and(|pipe| has_output(it.member.identity.pid, &pipe))
        };
        let members: Vec<Member> = marked.iter().filter(is_its).map(|it| it.member).collect();
        if !members.is_empty() {
            let (running, here) = (words(&members), here.to_owned());
            return Err(BootError::Elsewhere { running, there: state_dir, here });
        }
    }
    Ok(())
}

/// The users of the instances of that deck which have one of their own.
fn users_in(state_dir: &Path, config: &Path) -> BTreeMap<String, u32> {
    let services = applied::read(state_dir, config).map_or_else(Vec::new, |it| it.services);
    let all = services.iter().flat_map(|it| &it.instances);
    let users = all.filter_map(|it| Some((it.name.clone(), uid_of(it.launch.user.as_deref()?)?)));
    users.collect()
}

/// Where that deck has its pipes.
fn pipes_of(state_dir: &Path) -> Option<PathBuf> {
    let root = nix::unistd::geteuid().is_root();
    let deck = Deck { state_dir: Some(state_dir.to_owned()), ..Deck::default() };
    let paths = Surroundings::new(root, |name| std::env::var_os(name)).paths(None, &deck);
    paths.ok().map(|it| it.runtime_dir)
}

fn instance_of(mark: &str) -> &str {
    mark.split('@').next().unwrap_or_default()
}

/// The state directory that a mark names.
pub(super) fn deck_of(mark: &str) -> Option<PathBuf> {
    mark.split_once('@').map(|it| PathBuf::from(it.1))
}

/// Who is marked as of which other deck. `own`: the mark of this process, which that deck may have started.
fn by_deck(marked: Vec<Marked>, here: &Path, own: Option<&str>) -> BTreeMap<PathBuf, Vec<Marked>> {
    let own = own.and_then(deck_of);
    let mut decks: BTreeMap<PathBuf, Vec<Marked>> = BTreeMap::new();
    for it in marked {
        if let Some(at) = deck_of(&it.mark).filter(|it| it != here && Some(it) != own.as_ref()) {
            decks.entry(at).or_default().push(it);
        }
    }
    decks
}

/// One directory may have two names.
pub(super) fn is_same(there: &Path, here: &Path) -> bool {
    FileId::of(there).is_ok_and(|it| FileId::of(here).is_ok_and(|here| here == it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stat::read_stat;

    #[test]
    fn who_is_of_another_deck_is_told_by_his_mark() {
        let member = Member::from(&read_stat(std::process::id().cast_signed()).unwrap());
        let marks = ["web1@/a", "web2@/a", "web1@/b", "web1@/here", "nonsense", "x@/own"];
        let marked = marks
            .iter()
            .map(|it| Marked { mark: (*it).to_owned(), member, users: [0; 2] })
            .collect();
        let decks = by_deck(marked, Path::new("/here"), Some("y@/own"));
        let count = |(path, members): (&PathBuf, &Vec<Marked>)| (path.clone(), members.len());
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
