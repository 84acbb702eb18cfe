//! One tree without the rest of the host: a process and everything below it.
//!
//! `/proc/PID/task/TID/children` names the children of each thread (proc_pid_task_children(5)). A kernel
//! without it (CONFIG_PROC_CHILDREN) costs a sweep.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::Identity;
use super::identity::is_absent;
use super::stat::{Stat, read_stat, sweep};

/// Trees are cut off here.
const MOST: usize = 4096;

/// This very process, then those below it that live; nothing if it is gone.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn of(leader: Identity) -> io::Result<Vec<Stat>> {
    first(leader, MOST)
}

/// The first of them, so many at most, each after its parent.
///
/// # Errors
///
/// As [`of`].
pub fn first(leader: Identity, most: usize) -> io::Result<Vec<Stat>> {
    let stat = match read_stat(leader.pid) {
        Ok(stat) if stat.identity == leader => stat,
        Ok(_) => return Ok(vec![]),
        Err(err) if is_absent(&err) => return Ok(vec![]),
        Err(err) => return Err(err),
    };
    let all = if names_children() { None } else { Some(sweep()?) };
    let children = |pid: i32| match &all {
        Some(all) => all.iter().filter(|it| it.parent == pid).map(|it| it.identity.pid).collect(),
        None => children(pid),
    };
    let mut found = vec![stat];
    let mut seen = BTreeSet::from([leader.pid]);
    let mut at = 0;
    while at < found.len() && found.len() < most {
        for pid in children(found[at].identity.pid) {
            // One that ended meanwhile is none.
            if seen.insert(pid) {
                found.extend(read_stat(pid).ok().filter(|it| !it.is_gone()));
            }
        }
        at += 1;
    }
    found.truncate(most);
    Ok(found)
}

fn names_children() -> bool {
    let pid = std::process::id();
    fs::exists(format!("/proc/{pid}/task/{pid}/children")).unwrap_or(false)
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let lists = threads
        .map_while(Result::ok)
        .filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let pids = |list: String| -> Vec<i32> {
        list.split_whitespace().filter_map(|it| it.parse().ok()).collect()
    };
    lists.flat_map(pids).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process::identity::identity_of;

    #[test]
    fn a_process_and_what_is_below_it_is_found_and_nothing_of_a_dead_one() {
        let mut child = Command::new("sh")
            .args(["-c", "cat & cat; true"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let leader = identity_of(child.id().cast_signed()).unwrap();
        let below = || {
            let tree = of(leader).unwrap();
            assert_eq!(tree[0].identity, leader);
            tree.len() - 1
        };
        // The second `cat` waits for its input, so the shell gets that far.
        while below() < 1 {
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(of(leader).unwrap(), vec![]);
    }
}
