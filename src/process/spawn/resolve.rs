//! Which file a program name means, by the `PATH` that the program itself will see.
//!
//! Done here and not by `posix_spawnp`, which would look through *our* `PATH` and cannot say
//! which file it tried.

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
