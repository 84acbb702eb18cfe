//! The places of the daemon: what is in there is believed, so nobody else may be able to put anything there.
//!
//! Each step of the paths is looked at before anything is read or made there. A directory that was somebody's before
//! may hold links and files of his: no link is followed, and what others own or may write is not opened.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rustix::fs::OFlags;

use super::boot::BootError;
use crate::config::trust::Trust;

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
        None => Ok(file),
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
        return Some("is no file".into());
    }
    if meta.uid() != us && meta.uid() != 0 {
        return Some(format!("belongs to uid {}", meta.uid()));
    }
    (meta.mode() & 0o022 != 0).then(|| "may be written by others".into())
}

/// A file that nobody else can have written, in a directory where nobody else can have put it.
pub(in crate::daemon) fn is_believed(path: &Path) -> bool {
    Trust::of_us().path(path).is_ok()
}

/// What to do about a place that others may write.
pub fn help(path: &Path, why: &crate::config::trust::Distrust) -> String {
    let own: PathBuf = path.to_owned();
    let inside = match why.at == own {
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
    fn a_link_is_not_followed_and_what_others_may_write_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, target] = ["file", "link", "target"].map(|it| dir.path().join(it));
        assert_eq!(refusal(&file), "");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        symlink(&target, &link).unwrap();
        assert_ne!(refusal(&link), "");
        assert!(!target.exists(), "nothing was made behind it");

        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o620)).unwrap();
        assert!(refusal(&file).ends_with("may be written by others, and is not believed"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        if Uid::effective().is_root() {
            chown(&file, Some(65534), None).unwrap();
            assert!(refusal(&file).contains("belongs to uid 65534"));
        }
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refusal(&pipe).contains("is no file"));
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
