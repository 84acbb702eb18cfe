//! A state directory that was copied, beside the daemon of the one it was copied from.
//!
//! Its records name processes that live and are that daemon's, by pid, start time and boot. Each says in its
//! environment whose it is: what is of another directory whose daemon runs is let go. One of a directory that is no
//! longer there is ours, which was moved.

use std::path::{Path, PathBuf};

use super::elsewhere::{deck_of, is_same};
use super::kept::state::{Line, Remembered};
use super::life::launch::MARK;
use super::lock;
use super::orphans::RUN;
use crate::process::strays::marks_of;

/// Lets go of what belongs to another daemon; returns what is to be written down. `here`: the state directory.
pub(super) fn let_go(remembered: &mut Remembered, here: &Path) -> Vec<Line> {
    let pids: Vec<i32> = remembered.running.values().map(|it| it.pid).collect();
    let marks = marks_of(MARK, &pids);
    let is_led = |it: &Path| !is_same(it, here) && lock::is_held(it);
    let Some(there) = original(&marks, here, is_led) else { return vec![] };
    let mut marks = marks.iter();
    let is_ours =
        |mark: Option<&String>| mark.and_then(|it| deck_of(it)).is_some_and(|it| it != there);
    let mut lines = vec![];
    remembered.running.retain(|_, it| {
        let is_kept = is_ours(marks.next().and_then(Option::as_ref));
        if !is_kept {
            let (instance, generation) = (it.instance.clone(), it.generation);
            lines.push(Line::Gone { instance, generation });
        }
        is_kept
    });
    let named = lines.len();
    remembered.runs.retain(|_, it| {
        let is_kept = is_ours(marks_of(RUN, &[it.pid]).pop().flatten().as_ref());
        if !is_kept {
            lines.push(Line::Ran { service: it.service.clone(), run: it.run });
        }
        is_kept
    });
    remembered.notes.push(format!(
        "this state was copied from {}, whose daemon runs: {named} processes of it are left alone, and started here anew",
        there.display()
    ));
    lines
}

/// The directory, not ours, of which one of these marks speaks and whose daemon runs.
fn original(
    marks: &[Option<String>],
    here: &Path,
    is_led: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let decks = marks.iter().flatten().filter_map(|it| deck_of(it));
    let others = decks.filter(|it| it != here).collect::<std::collections::BTreeSet<_>>();
    others.into_iter().find(|it| is_led(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_whose_daemon_runs_is_one_that_was_copied() {
        let marks = ["web1@/here", "web2@/moved", "web3@/there", "nonsense"];
        let mut marks: Vec<_> = marks.iter().map(|it| Some((*it).to_owned())).collect();
        marks.push(None);
        let of = |led: &str| original(&marks, Path::new("/here"), |it| it == Path::new(led));
        assert_eq!(of("/there"), Some("/there".into()));
        assert_eq!(of("/here"), None);
        assert_eq!(of("/nobody"), None);
    }
}
