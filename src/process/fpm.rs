//! Whether a php-fpm gives requests time when it is told to end or to reload: its `process_control_timeout`.
//!
//! It stands in no answer of the server, so it is read where the title of the master says that it was read:
//! `php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)`. Only what is certain is said. A file that was changed
//! since the master began, a value by a variable, or an include that cannot be followed leaves it open.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::closeup;

/// Of one file.
const BYTES: u64 = 256 << 10;
/// Files that are included.
const FILES: usize = 256;
/// No file is changed so long after it was read.
const EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
const KEY: &str = "process_control_timeout";

/// What a master's signals do to what it has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It gives no time.
    Certain,
    /// Its configuration was changed since it was read.
    Perhaps,
}

/// `None`: it gives time, or there is no telling. `read`: when it read its configuration last. Blocking.
pub fn cuts(master: i32, read: SystemTime) -> Option<Cut> {
    let title = closeup::arguments(master).ok().and_then(|it| it.into_iter().next());
    cut(&config_of(title.as_deref()?)?, read)
}

fn cut(file: &Path, read: SystemTime) -> Option<Cut> {
    match is_zero(file, read) {
        Some(is_zero) => is_zero.then_some(Cut::Certain),
        // As it is now it can be understood.
        None => is_zero(file, read + EVER).map(|_| Cut::Perhaps),
    }
}

/// Its configuration, by its title.
fn config_of(title: &str) -> Option<PathBuf> {
    let path = title.strip_prefix("php-fpm: master process (")?.strip_suffix(')')?;
    path.starts_with('/').then(|| path.into())
}

/// Whether the timeout is 0, which is its default; `None`: nobody can be sure.
fn is_zero(file: &Path, began: SystemTime) -> Option<bool> {
    let said = said_in(&read(file, began)?)?;
    let mut files = vec![];
    for pattern in &said.includes {
        files.extend(matching(Path::new(pattern), began)?);
    }
    // One that is included may say it as well, and whether that comes first or last is the server's business.
    let is_silent = |it: &PathBuf| Some(!read(it, began)?.contains(KEY));
    for file in files {
        is_silent(&file).filter(|it| *it)?;
    }
    said.timeout.map_or(Some(true), |it| is_none(&it))
}

/// What a file says of all pools.
#[derive(Debug, Default, PartialEq)]
struct Said {
    timeout: Option<String>,
    includes: Vec<String>,
}

/// `None`: a section is not closed, or its lines are none.
fn said_in(text: &str) -> Option<Said> {
    let (mut said, mut is_global) = (Said::default(), true);
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|it| !it.is_empty() && !it.starts_with([';', '#'])) {
        if let Some(section) = line.strip_prefix('[') {
            is_global = section.split_once(']')?.0.trim() == "global";
            continue;
        }
        let (key, value) = line.split_once('=')?;
        let value = value.split(';').next().unwrap_or_default().trim().trim_matches('"').to_owned();
        match key.trim() {
            "include" => said.includes.push(value),
            KEY if is_global => said.timeout = Some(value),
            _ => (),
        }
    }
    Some(said)
}

/// `0`, `0s`; `None`: this is no time.
fn is_none(value: &str) -> Option<bool> {
    let number = value.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or(value);
    number.parse().ok().map(|it: u64| it == 0)
}

/// The files of an include: one, or `directory/*.conf`.
fn matching(pattern: &Path, began: SystemTime) -> Option<Vec<PathBuf>> {
    let (directory, name) = (pattern.parent()?, pattern.file_name()?.to_str()?);
    if !pattern.is_absolute() || directory.to_str()?.contains(['*', '?', '[', '$', '{']) {
        return None;
    }
    let Some(ending) = name.strip_prefix('*') else {
        return (!name.contains(['*', '?', '[', '$', '{'])).then(|| vec![pattern.into()]);
    };
    if ending.contains(['*', '?', '[', '$', '{'])
        || !is_older(&fs::metadata(directory).ok()?, began)
    {
        return None;
    }
    let mut files = vec![];
    for entry in fs::read_dir(directory).ok()? {
        let path = entry.ok()?.path();
        if path.to_str()?.ends_with(ending) {
            files.push(path);
        }
    }
    (files.len() <= FILES).then_some(files)
}

fn is_older(meta: &fs::Metadata, began: SystemTime) -> bool {
    meta.modified().is_ok_and(|it| it < began)
}

/// A file that is as it was when the master began.
fn read(path: &Path, began: SystemTime) -> Option<String> {
    // A pipe would be waited for.
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > BYTES || !is_older(&meta, began) {
        return None;
    }
    let mut text = String::new();
    file.take(BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "[global]\npid = /run/php.pid\n;process_control_timeout = 0\n";

    /// What is certain of these files, the first of which includes the others; `began`: so long after they were
    /// written.
    fn certain(texts: &[&str], began: u64) -> Option<bool> {
        let place = tempfile::tempdir().unwrap();
        let pools = place.path().join("pool.d");
        fs::create_dir(&pools).unwrap();
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let main = place.path().join("php-fpm.conf");
        for (n, text) in texts.iter().enumerate() {
            let path = if n == 0 { main.clone() } else { pools.join(format!("{n}.conf")) };
            let text = text.replace("{place}", &place.path().display().to_string());
            fs::write(&path, text).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        }
        File::open(&pools).unwrap().set_modified(written).unwrap();
        is_zero(&main, written + Duration::from_secs(began))
    }

    #[test]
    fn without_a_timeout_it_is_none() {
        assert_eq!(certain(&[DEBIAN], 1), Some(true));
        assert_eq!(certain(&["process_control_timeout = 0\n"], 1), Some(true));
        for time in ["10", "10s", "\"1m\" ; long", "2d"] {
            let text = format!("[global]\nprocess_control_timeout={time}\n[www]\npm = static\n");
            assert_eq!(certain(&[&text], 1), Some(false), "{time}");
        }
    }

    #[test]
    fn pools_are_looked_into() {
        let with_pools = format!("{DEBIAN}include={{place}}/pool.d/*.conf\n");
        let pool = "[www]\nlisten = 9000\n";
        assert_eq!(certain(&[&with_pools, pool, pool], 1), Some(true));
        assert_eq!(
            certain(&[&with_pools, pool, "[global]\nprocess_control_timeout = 9\n"], 1),
            None
        );
        let relative = format!("{DEBIAN}include=pool.d/*.conf\n");
        assert_eq!(certain(&[&relative], 1), None);
        let absent = format!("{DEBIAN}include={{place}}/other.conf\n");
        assert_eq!(certain(&[&absent], 1), None);
    }

    #[test]
    fn what_may_have_been_changed_since_or_is_not_understood_is_open() {
        assert_eq!(certain(&[DEBIAN], 0), None);
        assert_eq!(certain(&["[global]\nprocess_control_timeout = ${LIMIT}\n"], 1), None);
        assert_eq!(certain(&["what is this\n"], 1), None);
    }

    #[test]
    fn what_was_changed_since_it_was_read_may_cut() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("php-fpm.conf");
        fs::write(&file, "[global]\nprocess_control_timeout = 10\n").unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(cut(&file, written + second), None);
        assert_eq!(
            cut(&file, written - second),
            Some(Cut::Perhaps),
            "it was none, for all that is known"
        );
        fs::write(&file, DEBIAN).unwrap();
        assert_eq!(cut(&file, written + 60 * second), Some(Cut::Certain));
        fs::write(&file, "what is this\n").unwrap();
        assert_eq!(cut(&file, written - second), None);
    }

    #[test]
    fn a_title_tells_the_file() {
        let title = "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)";
        assert_eq!(config_of(title), Some("/etc/php/8.2/fpm/php-fpm.conf".into()));
        assert_eq!(config_of("php-fpm: pool www"), None);
        assert_eq!(config_of("php-fpm: master process (fpm.conf)"), None);
    }
}
