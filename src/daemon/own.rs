//! The places of the daemon: what is in there is believed, so nobody else may be able to put anything there.
//!
//! Each step of the paths is looked at before anything is read or made there. A directory that was somebody's before
//! may hold links and files of his: with one of those in the place of a record nothing begins, and none is opened. A
//! file of our own that others may write, as a copy or an earlier release leaves it, is made private.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rustix::fs::{Mode, OFlags};

use super::boot::BootError;
use crate::config::trust::{Distrust, Trust, user_name};

/// Looks at the state directory, the runtime directory, and where the socket is.
///
/// # Errors
///
/// Somebody else may put something there.
pub fn look(state_dir: &Path, runtime_dir: &Path, socket: &Path) -> Result<(), BootError> {
    let trust = Trust::of_us();
    let at_socket = socket.parent().unwrap_or(state_dir);
    let places = [
        ("the state directory", state_dir),
        ("the runtime directory", runtime_dir),
        ("the directory of the socket", at_socket),
    ];
    for (what, path) in places {
        trust.path(path).map_err(|why| BootError::Distrust {
            what,
            path: path.to_owned(),
            why: Box::new(why),
        })?;
    }
    records(state_dir)
}

/// What is read or written there before anything else.
fn records(state_dir: &Path) -> Result<(), BootError> {
    for name in ["opsdeck.lock", "state.jsonl", "config.jsonl", "journal.jsonl"] {
        let path = state_dir.join(name);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let Some(who) = why_not(&meta) else { continue };
        let us = Uid::effective();
        let help = match meta.is_file() {
            true => format!("look what is in it, then: chown {us} {}", path.display()),
            false => format!("rm {}", path.display()),
        };
        let why = Box::new(Distrust { at: path.clone(), who, help });
        return Err(BootError::Distrust { what: "the record", path, why });
    }
    Ok(())
}

/// Opens a file of the daemon's own, private from the moment it exists.
///
/// # Errors
///
/// It is a link, or somebody else's, or cannot be opened.
pub(in crate::daemon) fn open(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Nobody is waited for at the other end of a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = how.mode(0o600).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    match why_not(&meta) {
        None => {
            // Where it is nobody else comes, and it was never meant to be written by others.
            let private = Mode::from_raw_mode(meta.mode() & 0o7755);
            if meta.mode() & 0o022 != 0 && meta.uid() == Uid::effective().as_raw() {
                rustix::fs::fchmod(&file, private)?;
            }
            Ok(file)
        }
        Some(why) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} {why}, and is not believed", path.display()),
        )),
    }
}

/// Reads a file of the daemon's own.
///
/// # Errors
///
/// As [`open`].
pub(in crate::daemon) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    open(OpenOptions::new().read(true), path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same, of text.
pub(in crate::daemon) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(io::Error::other)
}

fn why_not(meta: &Metadata) -> Option<String> {
    let us = Uid::effective().as_raw();
    if !meta.is_file() {
        let link = "is a symbolic link".to_owned();
        return Some(if meta.is_symlink() { link } else { "is no file".into() });
    }
    (meta.uid() != us && meta.uid() != 0).then(|| format!("belongs to {}", user_name(meta.uid())))
}

/// A file that nobody else can have written, in a directory where nobody else can have put it.
pub(in crate::daemon) fn is_believed(path: &Path) -> bool {
    Trust::of_us().path(path).is_ok()
}

/// What to do about a place that others may write.
pub fn help(path: &Path, why: &Distrust) -> String {
    let own: PathBuf = path.to_owned();
    let inside = match why.at == own && own.is_dir() {
        true => " (and look at what is in there first: it is believed)",
        false => "",
    };
    format!("{}{inside}, or set another place in [deck]", why.help)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn refusal(path: &Path) -> String {
        open(OpenOptions::new().read(true).write(true).create(true), path)
            .map_or_else(|err| err.to_string(), |_| String::new())
    }

    #[test]
    fn a_link_is_not_followed_and_what_is_somebody_elses_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, target] = ["file", "link", "target"].map(|it| dir.path().join(it));
        assert_eq!(refusal(&file), "");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        symlink(&target, &link).unwrap();
        assert_ne!(refusal(&link), "");
        assert!(!target.exists(), "nothing was made behind it");

        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o620)).unwrap();
        assert_eq!(refusal(&file), "");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "it is private again");
        if Uid::effective().is_root() {
            chown(&file, Some(65534), None).unwrap();
            assert!(refusal(&file).contains("(uid 65534), and is not believed"));
        }
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refusal(&pipe).contains("is no file"));
    }

    #[test]
    fn a_record_that_is_a_link_or_somebody_elses_is_told_before_anything_begins() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.jsonl");
        let told = || records(dir.path()).map_err(|it| it.to_string());
        std::fs::write(&state, "").unwrap();
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o664)).unwrap();
        assert_eq!(told(), Ok(()), "it is ours");
        if Uid::effective().is_root() {
            chown(&state, Some(65534), None).unwrap();
            assert!(told().unwrap_err().ends_with("(uid 65534)"));
        }
        std::fs::remove_file(&state).unwrap();
        symlink("/nowhere", &state).unwrap();
        assert!(told().unwrap_err().ends_with("is a symbolic link"));
    }

    #[test]
    fn a_place_that_others_may_write_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let [state, runtime, at] = ["state", "run", "at"].map(|it| dir.path().join(it));
        let looked = || look(&state, &runtime, &at.join("it.sock")).map_err(|it| it.to_string());
        assert_eq!(looked(), Ok(()), "what is not there is made by us");
        for (path, what) in
            [(&at, "the directory of the socket"), (&runtime, "the runtime"), (&state, "the state")]
        {
            std::fs::create_dir(path).unwrap();
            assert_eq!(looked(), Ok(()));
            let set = |mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
            set(0o777).unwrap();
            let told = looked().unwrap_err();
            set(0o755).unwrap();
            assert!(
                told.starts_with(what) && told.ends_with("may be written by everybody"),
                "{told}"
            );
        }
    }
}
