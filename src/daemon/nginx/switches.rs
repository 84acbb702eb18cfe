//! The switches of an nginx that is not reloaded: files that say who is out of rotation.
//!
//! They are created and removed, never written: nothing of them can be read half. Whoever may write in their
//! directory decides who gets requests, so it is made for the daemon's user alone; nginx only looks.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::config::settings::MOST_SWITCHES;
use crate::gateway::nginx::{Server, switch};

const _: () =
    assert!(MOST_SWITCHES == switch::MOST, "one number, for the check and for the blocks");

/// A request that had looked before has found its instance by then.
pub(in crate::daemon) const GRACE: Duration = Duration::from_millis(250);

/// Whether this instance is out.
pub(in crate::daemon) fn is_out(directory: &Path, instance: &str) -> bool {
    directory.join(switch::switch(instance)).exists()
}

/// Makes the switches say what `servers` say; true if one is out that was in.
///
/// First come those that enter: where two change places there is no moment without anybody.
pub(in crate::daemon) fn set(directory: &Path, servers: &[Server]) -> Result<bool, String> {
    let mut stale = present(directory)?;
    let out = servers.iter().filter(|it| !it.in_rotation);
    for server in out {
        stale.remove(&switch::switch(&server.instance));
    }
    // Of those that enter, and of instances that are in no block.
    stale.iter().try_for_each(|name| remove(&directory.join(name)))?;
    take_out(directory, servers)
}

/// Takes out who is to be out, and lets nobody in; true if one is out that was in.
pub(in crate::daemon) fn take_out(directory: &Path, servers: &[Server]) -> Result<bool, String> {
    let there = present(directory)?;
    let mut is_new = false;
    for server in servers.iter().filter(|it| !it.in_rotation) {
        let name = switch::switch(&server.instance);
        if !there.contains(&name) {
            let path = directory.join(name);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(&path).map_err(|err| unwritten(&path, &err))?;
            is_new = true;
        }
    }
    Ok(is_new)
}

fn unwritten(path: &Path, err: &io::Error) -> String {
    format!("{} cannot be written: {err}", path.display())
}

/// The switches that are there; the directory is made where there is none.
fn present(directory: &Path) -> Result<BTreeSet<String>, String> {
    let list = || {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let mut all = BTreeSet::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".out") {
                all.insert(name);
            }
        }
        io::Result::Ok(all)
    };
    list().map_err(|err| unwritten(directory, &err))
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {err}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(in_rotation: [bool; 2]) -> Vec<Server> {
        let names = ["web1", "web2"].into_iter().zip(in_rotation);
        names
            .map(|(it, in_rotation)| Server {
                instance: it.into(),
                in_rotation,
                ..Server::default()
            })
            .collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        present(directory).unwrap().into_iter().collect()
    }

    #[test]
    fn there_is_a_file_for_whoever_is_out_and_none_for_others() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("run/shop");
        assert!(!set(&directory, &servers([true, true])).unwrap());
        assert!(set(&directory, &servers([false, true])).unwrap());
        assert_eq!(names(&directory), ["web1.out"]);
        assert!(is_out(&directory, "web1") && !is_out(&directory, "web2"));
        assert!(!set(&directory, &servers([false, true])).unwrap(), "it was out");
        fs::write(directory.join("gone.out"), "").unwrap();
        assert!(take_out(&directory, &servers([true, false])).unwrap());
        assert_eq!(names(&directory), ["gone.out", "web1.out", "web2.out"], "nobody enters");
        assert!(!set(&directory, &servers([true, false])).unwrap());
        assert_eq!(names(&directory), ["web2.out"]);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let why = set(&file.join("shop"), &servers([true, true])).unwrap_err();
        assert!(why.contains("/file/shop cannot be written"), "{why}");
    }
}
