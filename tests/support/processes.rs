//! The processes that a deck has beside its services, found in `/proc`.

use std::path::{Path, PathBuf};

use super::{Deck, is_alive};

pub fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// What a process of ours was started as, and its first argument.
fn role(pid: i32) -> Option<(String, PathBuf)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0').skip(1);
    Some((words.next()?.to_owned(), words.next()?.into()))
}

/// The logger of this deck, and its directory: the socket that it and the daemon talk through.
pub fn logger(deck: &Deck) -> Option<(i32, PathBuf)> {
    pids().into_iter().find_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = status.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned();
        let (role, directory) = role(pid)?;
        let is_it = parent == deck.daemon_pid().to_string() && role == "logger" && is_alive(pid);
        is_it.then_some((pid, directory))
    })
}

/// The process that holds this FIFO and does nothing else.
pub fn holder(fifo: &Path) -> Option<i32> {
    let holds = |pid: i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let mut open = open.map_while(Result::ok).filter_map(|it| it.path().read_link().ok());
        open.any(|it| it == fifo)
    };
    let is_holder = |pid: &i32| role(*pid).is_some_and(|it| it.0 == "holder");
    pids().into_iter().filter(is_holder).find(|it| holds(*it))
}
