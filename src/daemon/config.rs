//! The configuration file: read again when somebody asks or when an edit is seen.
//!
//! Reading happens on a blocking thread; what comes of it goes to the driver as one turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::turn::{Mistakes, NewSettings, Scope, Turn, Turns};
use crate::api::Problem;
use crate::api::problem::Kind;
use crate::config::accounts;
use crate::config::settings::Settings;

/// Editors write in several steps: the file must have been left alone for so long.
const QUIET: Duration = Duration::from_millis(300);
/// Between two attempts to begin to watch.
const AGAIN: Duration = Duration::from_secs(1);

/// A configuration, or all its mistakes.
pub type Read = Result<Box<Settings>, Mistakes>;

/// Reads the file and its includes.
pub async fn read(path: PathBuf) -> Read {
    let read = tokio::task::spawn_blocking(move || {
        // Before its services are started: no start waits for a directory of accounts.
        crate::config::check(&path).inspect(accounts::learn)
    });
    match read.await {
        Ok(Ok(settings)) => Ok(Box::new(settings)),
        Ok(Err(err)) => {
            Err(Mistakes { rendered: err.render(false), first_lines: err.first_lines() })
        }
        Err(err) => {
            let text = format!("the configuration could not be read: {err}");
            Err(Mistakes { rendered: text.clone(), first_lines: vec![text] })
        }
    }
}

pub fn problem_of(mistakes: &Mistakes) -> Problem {
    let detail = format!("\n{}", mistakes.rendered);
    Problem::new(Kind::Config, "the configuration has mistakes; nothing was changed", detail)
}

/// Reads the file again and hands it to the driver.
pub async fn reload(path: PathBuf, scope: Scope, turns: &Turns) {
    let read = read(path).await;
    // The driver is gone only when the daemon ends.
    let _ = turns.send(Turn::Settings(NewSettings { read, scope, reply: None })).await;
}

/// Watches the directories of these files, and reads the configuration again after each edit.
///
/// Directories, not files: editors put a new file in the place of the old one. Only a file that was
/// closed after writing, or moved in, counts; the rest is swap files and half-written text.
pub async fn watch(path: PathBuf, files: Vec<PathBuf>, turns: Turns, stop: CancellationToken) {
    let edited = Arc::new(Notify::new());
    let told = edited.clone();
    let watched: Vec<PathBuf> = files.iter().chain([&path]).cloned().collect();
    let matters = watched.clone();
    // The watcher has a thread of its own and does not survive it if there is none.
    while let Err(err) = super::host::can_make_threads() {
        warn!(%err, "edits of the configuration are not noticed yet");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => (),
        }
    }
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_edit(&event, &matters)) {
            told.notify_one();
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(err) => return warn!(%err, "edits of the configuration will not be noticed"),
    };
    let mut directories: Vec<&Path> = watched.iter().filter_map(|it| it.parent()).collect();
    directories.sort_unstable();
    directories.dedup();
    for directory in directories {
        if let Err(err) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            warn!(directory = %directory.display(), %err, "edits there will not be noticed");
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = edited.notified() => (),
        }
        while tokio::time::timeout(QUIET, edited.notified()).await.is_ok() {}
        reload(path.clone(), Scope::Watched, &turns).await;
    }
}

/// An included directory may get a new file, so every `.toml` there counts.
fn is_edit(event: &Event, files: &[PathBuf]) -> bool {
    let done = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
            | EventKind::Remove(_)
    );
    let concerns =
        |path: &PathBuf| files.contains(path) || path.extension().is_some_and(|it| it == "toml");
    done && event.paths.iter().any(concerns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_finished_write_of_a_configuration_file_counts() {
        let files = [PathBuf::from("/etc/deck/config.toml")];
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));

        assert!(is_edit(&event(closed, "/etc/deck/config.toml"), &files));
        assert!(is_edit(&event(renamed, "/etc/deck/conf.d/new.toml"), &files));
        assert!(!is_edit(&event(closed, "/etc/deck/.config.toml.swp"), &files));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!is_edit(&event(opened, "/etc/deck/config.toml"), &files));
    }
}
