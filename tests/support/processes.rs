//! The processes that a deck has beside its services, found in `/proc`.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use opsdeck::config::paths::Surroundings;

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

/// Ends the parts of a deck whose daemon has ended and left the services running, as it does at SIGTERM.
pub fn end_parts(deck: &Path) {
    let state_dir = Some(deck.join("state"));
    let settings = opsdeck::config::settings::Deck { state_dir, ..Default::default() };
    let is_root = nix::unistd::geteuid().is_root();
    let around = Surroundings::new(is_root, |name| std::env::var_os(name));
    let Ok(paths) = around.paths(None, &settings) else { return };
    // Where the daemon is another user's.
    let own = settings.state_dir.unwrap_or_default().join("run");
    let is_part = |pid: &i32| {
        role(*pid).is_some_and(|(role, directory)| {
            ["logger", "holder"].contains(&role.as_str())
                && (directory == paths.runtime_dir || directory == own)
        })
    };
    for pid in pids().into_iter().filter(is_part) {
        // It may end by itself in this moment.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
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

/// All loggers of this directory, whoever started them.
pub fn loggers_of(directory: &Path) -> Vec<i32> {
    let is_one = |pid: &i32| {
        is_alive(*pid) && role(*pid).is_some_and(|it| it.0 == "logger" && it.1 == directory)
    };
    pids().into_iter().filter(is_one).collect()
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

/// The child of that process that was started as this part.
#[track_caller]
pub fn child_of(pid: i32, role: &str) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let is_it = |it: &i32| {
        let line = std::fs::read(format!("/proc/{it}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("\0{role}\0"))
    };
    children.split_whitespace().map(|it| it.parse().unwrap()).find(is_it).unwrap()
}

/// All processes but zombies that carry the mark of this deck's instances.
pub fn instances_of(deck: &Path) -> Vec<i32> {
    let mark = format!("@{}", deck.join("state").display());
    let carries_mark = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment)
            .split('\0')
            .any(|it| it.starts_with("OPSDECK_INSTANCE=") && it.ends_with(&mark))
    };
    pids().into_iter().filter(carries_mark).filter(|it| is_alive(*it)).collect()
}
