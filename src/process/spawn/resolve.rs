//! Which file a program name means, by the `PATH` that the program itself will see.
//!
//! Done here and not by `posix_spawnp`, which would look through *our* `PATH` and cannot say
//! which file it tried.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::SpawnError;

/// What is searched if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks a program up as execvp(3) does. With a slash in its name it is taken as it is.
pub(crate) fn find_program(
    name: &str,
    search: Option<&str>,
    directory: Option<&Path>,
) -> Result<PathBuf, SpawnError> {
    if name.is_empty() {
        return Err(SpawnError::NoProgram);
    }
    if name.contains('/') {
        return Ok(name.into());
    }
    let search = search.unwrap_or(DEFAULT_PATH);
    let mut forbidden = None;
    for folder in search.split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        let seen = directory.map_or_else(|| candidate.clone(), |it| it.join(&candidate));
        if access(&seen, AccessFlags::X_OK).is_ok() {
            if !seen.is_dir() {
                return Ok(candidate);
            }
        } else if seen.is_file() {
            forbidden.get_or_insert(candidate);
        }
    }
    Err(match forbidden {
        Some(path) => SpawnError::execute(path, libc::EACCES),
        None => SpawnError::NotFound { program: name.to_owned(), search: search.to_owned() },
    })
}

/// Whether a start could enter its directory and find its program, before there is one. What cannot be seen
/// from here is left to the start.
pub fn look_ahead(
    program: &str,
    search: Option<&str>,
    directory: Option<&Path>,
) -> Result<(), SpawnError> {
    if let Some(path) = directory {
        let trouble = match look(path) {
            Look::Missing => Some(libc::ENOENT),
            Look::There(it) if !it.is_dir() => Some(libc::ENOTDIR),
            Look::There(_) | Look::Unknown => None,
        };
        if let Some(errno) = trouble {
            return Err(SpawnError::Directory { path: path.to_owned(), errno });
        }
    }
    let found = find_program(program, search, directory)?;
    let seen = directory.map_or_else(|| found.clone(), |it| it.join(&found));
    match look(&seen) {
        Look::Missing => Err(SpawnError::execute_in(found, directory, libc::ENOENT)),
        Look::There(it) if it.is_dir() || it.permissions().mode() & 0o111 == 0 => {
            Err(SpawnError::execute_in(found, directory, libc::EACCES))
        }
        Look::There(_) | Look::Unknown => Ok(()),
    }
}

enum Look {
    There(Metadata),
    Missing,
    Unknown,
}

fn look(path: &Path) -> Look {
    match path.metadata() {
        Ok(it) => Look::There(it),
        Err(err) if err.kind() == ErrorKind::NotFound => Look::Missing,
        Err(_) => Look::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_started_is_known_before() {
        let told = |program: &str, directory: Option<&str>| {
            let outcome = look_ahead(program, Some("/bin"), directory.map(Path::new));
            outcome.err().map(|it| it.to_string()).unwrap_or_default()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().display();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").expect("a file");

        assert_eq!(told("sh", Some("/")), "");
        assert_eq!(told("/bin/sh", None), "");
        assert_eq!(told("bin/sh", Some("/")), "", "seen from its directory");
        assert_eq!(told("no-such", None), "could not execute no-such: not found in PATH (/bin)");
        assert_eq!(told("/no/such", None), "could not execute /no/such: no such file or directory");
        assert_eq!(
            told("./plain", directory.path().to_str()),
            "could not execute ./plain: permission denied"
        );
        assert_eq!(told("/tmp", None), "could not execute /tmp: permission denied");
        assert_eq!(
            told("sh", Some("/no/such")),
            "could not enter /no/such: no such file or directory"
        );
        let plain = format!("{at}/plain");
        assert_eq!(told("sh", Some(&plain)), format!("could not enter {plain}: not a directory"));
    }
}
