//! What the logger has open, on disk: a logger that starts again takes up its work before any daemon speaks.
//!
//! One JSON object in the runtime directory, replaced by a rename, never changed in place, and not fsynced: after a
//! power cut there is no FIFO left either. A file that cannot be read is set aside, not deleted.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::protocol::{STATE_NAME, Source};

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    open: Vec<&'a Source>,
}

#[derive(Deserialize)]
struct Read {
    open: Vec<Source>,
}

/// Returns the sources of the last life, and a notice if its record was unreadable and has been set aside.
pub(super) fn load(runtime_dir: &Path) -> (Vec<Source>, Option<String>) {
    let path = runtime_dir.join(STATE_NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (vec![], None),
        Err(error) => {
            return (
                vec![],
                Some(format!("the logger could not read {}: {error}", path.display())),
            );
        }
    };
    match serde_json::from_slice::<Read>(&bytes) {
        Ok(read) => (read.open, None),
        Err(error) => {
            let aside = runtime_dir.join(format!("{STATE_NAME}.bad"));
            let fate = match std::fs::rename(&path, &aside) {
                Ok(()) => format!("set aside as {}", aside.display()),
                Err(error) => format!("and could not be set aside: {error}"),
            };
            (
                vec![],
                Some(format!(
                    "the logger could not understand {}: {error}; {fate}",
                    path.display()
                )),
            )
        }
    }
}

/// Replaces the record.
pub(super) fn save<'a>(
    runtime_dir: &Path,
    open: impl Iterator<Item = &'a Source>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Written { version: VERSION, open: open.collect() })?;
    let new = runtime_dir.join(format!("{STATE_NAME}.new"));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    std::fs::rename(&new, runtime_dir.join(STATE_NAME))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let web1 = Source {
            name: "web1".into(),
            fifo: "/f".into(),
            log: "/l".into(),
            max_size: 1,
            keep: 2,
        };
        save(dir.path(), [&web1].into_iter()).unwrap();
        assert_eq!(load(dir.path()), (vec![web1], None));
        assert_eq!(std::fs::metadata(dir.path().join(STATE_NAME)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn garbage_is_set_aside_and_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(STATE_NAME), r#"{"version":1,"open":[{"na"#).unwrap();
        let (open, notice) = load(dir.path());
        assert_eq!(open, []);
        assert!(notice.unwrap().contains("set aside as"));
        assert!(dir.path().join("logger.json.bad").exists());
        assert_eq!(load(dir.path()), (vec![], None));
    }
}
