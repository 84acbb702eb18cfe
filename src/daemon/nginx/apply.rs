//! Has nginx load an include file: write, test, reload, and wait for the workers that have read it.
//!
//! `.NAME.before` beside the file holds what was in force until workers run that have read the new one: it
//! is put back if nginx refuses, and a daemon that finds one knows that a change was cut short. Hidden names,
//! so that no `include conf.d/*` reads them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::settings::Nginx;
use crate::config::trust::Trust;
use crate::daemon::clock;
use crate::daemon::life::launch::base_environment;
use crate::gateway::nginx::file;
use crate::process::command::{self, Command};
use crate::process::reaper::{Reaper, Status};
use crate::process::{Identity, identity, pidfile, signal, slow, stat};

/// How long `test` and `reload` may take.
const COMMAND: Duration = Duration::from_secs(10);
/// Until new workers run.
const WORKERS: Duration = Duration::from_secs(5);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(20);
/// Old workers have closed their listeners, and what they had accepted has found its instance.
const GRACE: Duration = Duration::from_millis(250);
/// Of the output of a command: the last bytes.
const KEEP: usize = 4096;
/// Of all that nginx reads.
const DUMP: usize = 16 << 20;

/// Why nginx does not do what it was told.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Refused {
    /// What was in force still is.
    Unchanged(String),
    /// Nobody can tell what it has read.
    Unknown(String),
}

/// What is there before anything is written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Found {
    pub text: String,
    /// No change of it was cut short.
    pub is_in_force: bool,
}

pub(in crate::daemon) fn find(path: &Path) -> Found {
    match fs::read_to_string(path) {
        Ok(text) => Found { is_in_force: !beside(path, "before").exists(), text },
        Err(_) => Found::default(),
    }
}

/// Brings `files` into force, or puts back what was there. Where there are switches, `looks` must find
/// nothing wrong with all that nginx reads.
pub(in crate::daemon) async fn apply(
    reaper: &Reaper,
    nginx: &Nginx,
    files: &[(PathBuf, String)],
    looks: impl Fn(&str) -> Option<String>,
) -> Result<(), Refused> {
    is_trusted(nginx, files).map_err(Refused::Unchanged)?;
    for (n, (path, text)) in files.iter().enumerate() {
        replace(path, text).map_err(|why| Refused::Unchanged(put_back(&files[..n], why)))?;
    }
    let master = match master(&nginx.pid_file) {
        Ok(master) => master,
        // Nobody has read either file: it stays for the nginx that is started next.
        Err(why) => return Err(Refused::Unknown(why)),
    };
    if let Err(why) = test(reaper, nginx, looks).await {
        return Err(Refused::Unchanged(put_back(files, why)));
    }
    let before = children(master).await;
    if let Err(why) = reload(reaper, nginx, master).await {
        return Err(Refused::Unchanged(put_back(files, why)));
    }
    if !are_new(&nginx.pid_file, &before).await {
        let why = format!(
            "no new workers of nginx within {} s after its reload: its error log says why",
            WORKERS.as_secs()
        );
        return Err(Refused::Unknown(put_back(files, why)));
    }
    for (path, _) in files {
        // Left behind it costs one reload when the next daemon begins.
        let _ = fs::remove_file(beside(path, "before"));
    }
    Ok(())
}

/// Root runs no command and writes no file that others can replace, and puts back none of theirs.
fn is_trusted(nginx: &Nginx, files: &[(PathBuf, String)]) -> Result<(), String> {
    let Some(trust) = Trust::of_root() else { return Ok(()) };
    let kept = || {
        let mut kept = files.iter().map(|(path, _)| beside(path, "before"));
        kept.try_for_each(|it| trust.path(&it)).map_err(|it| ("file", it))
    };
    trust.nginx(nginx).and_then(|()| kept()).map_err(|(key, it)| {
        format!("root would use an `nginx.{key}` that others can replace: {it}; {}", it.help)
    })
}

/// What must succeed before a reload. With switches nginx says all it reads (`-T` for `-t`).
async fn test(
    reaper: &Reaper,
    nginx: &Nginx,
    looks: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    if nginx.switches.is_none() {
        return run(reaper, &nginx.test, KEEP).await.map(drop);
    }
    let dumps = |word: &String| if word == "-t" { "-T".to_owned() } else { word.clone() };
    let argv: Vec<String> = nginx.test.iter().map(dumps).collect();
    let output = run(reaper, &argv, DUMP).await?;
    looks(&String::from_utf8_lossy(&output)).map_or(Ok(()), Err)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{what}"))
}

/// Makes a file anew: a link that somebody has put in its place is not followed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => File::create_new(path),
    }
}

/// A copy with the rights of the original.
fn copy(path: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let mut to = create(to)?;
    io::copy(&mut from, &mut to)?;
    to.set_permissions(from.metadata()?.permissions())
}

/// Puts the new file in the place of the old one, which is kept beside it.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let failed = |err: io::Error| format!("{} could not be written: {err}", path.display());
    match fs::read_to_string(path) {
        Ok(old) if !file::is_ours(&old) => {
            let path = path.display();
            return Err(format!(
                "{path} was not written by opsdeck: move it away, or name another"
            ));
        }
        Ok(old) if old == text && !beside(path, "before").exists() => return Ok(()),
        // One that is there already is what nginx has read last; the file itself may be a failed try.
        Ok(_) if !beside(path, "before").exists() => {
            copy(path, &beside(path, "before")).map_err(failed)?;
        }
        Ok(_) => (),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            // That there was none is remembered as well.
            create(&beside(path, "before")).map_err(failed)?;
        }
        Err(err) => return Err(failed(err)),
    }
    let new = beside(path, "new");
    let write = || {
        let mut file = create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failed)
}

/// Makes the files what they were. Returns why, with what that came to.
fn put_back(files: &[(PathBuf, String)], why: String) -> String {
    files.iter().fold(why, |why, (path, _)| {
        let old = beside(path, "before");
        let done = match fs::metadata(&old) {
            // It was not replaced.
            Err(_) => Ok(()),
            Ok(it) if it.len() > 0 => fs::rename(old, path),
            // There was none.
            Ok(_) => fs::remove_file(path).and_then(|()| fs::remove_file(old)),
        };
        match done {
            Ok(()) => why,
            Err(err) => format!("{why}; {} could not be put back: {err}", path.display()),
        }
    })
}

/// The master that the pid file names.
fn master(pid_file: &Path) -> Result<Identity, String> {
    let place = pid_file.display();
    let read = pidfile::read(pid_file).map_err(|why| format!("no nginx runs: {place} {why}"))?;
    let pid = read.pid;
    let found = identity::identity_of(pid).ok().filter(|_| title(pid).starts_with("nginx: master"));
    found.ok_or_else(|| format!("no nginx runs: {pid} of {place} is not an nginx master"))
}

/// What a process calls itself.
fn title(pid: i32) -> String {
    let bytes = slow::read(pid, "cmdline").unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

async fn children(master: Identity) -> Vec<Identity> {
    let all = tokio::task::spawn_blocking(stat::sweep).await.ok().and_then(Result::ok);
    let all = all.unwrap_or_default().into_iter();
    all.filter(|it| it.parent == master.pid && !it.is_gone()).map(|it| it.identity).collect()
}

async fn reload(reaper: &Reaper, nginx: &Nginx, master: Identity) -> Result<(), String> {
    if let Some(command) = &nginx.reload {
        return run(reaper, command, KEEP).await.map(drop);
    }
    let gone = || "nginx has just ended".to_owned();
    let pidfd = identity::open(master).map_err(|err| err.to_string())?.ok_or_else(gone)?;
    signal::send(pidfd.as_fd(), libc::SIGHUP).map_err(|err| {
        format!("SIGHUP could not be sent to nginx (pid {}): {err}; set `reload`", master.pid)
    })
}

async fn run(reaper: &Reaper, argv: &[String], keep: usize) -> Result<Vec<u8>, String> {
    let environment: Vec<_> = base_environment(None).into_iter().collect();
    let command = Command {
        argv,
        directory: Some(Path::new("/")),
        environment: &environment,
        switch: None,
        timeout: COMMAND,
        keep,
        leaves_nothing: false,
        outlives: false,
    };
    let name = argv.join(" ");
    let outcome = command::run(reaper, command).await.map_err(|err| err.to_string())?;
    if outcome.timed_out {
        return Err(format!("`{name}` did not end within {} s", COMMAND.as_secs()));
    }
    match outcome.status {
        Status::Exited(0) => Ok(outcome.output),
        status => Err(format!("`{name}` {}", complaint(&outcome.output, status))),
    }
}

/// The line that says most: nginx ends with "test failed".
fn complaint(output: &[u8], status: Status) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let emergency = lines.iter().rfind(|it| it.contains("[emerg]")).or(lines.last());
    match (emergency, status) {
        (Some(line), _) => format!("says: {line}"),
        (None, Status::Exited(code)) => format!("ended with {code}"),
        (None, Status::Signaled { signal, .. }) => format!("was ended by signal {signal}"),
    }
}

/// Waits until new workers run and none of the old ones accepts.
async fn are_new(pid_file: &Path, before: &[Identity]) -> bool {
    let give_up = clock::now() + WORKERS;
    let mut since = None;
    while clock::now() < give_up {
        tokio::time::sleep(LOOK).await;
        let Ok(master) = master(pid_file) else { continue };
        let now = children(master).await;
        let is_worker = |it: &&Identity| title(it.pid).starts_with("nginx: worker process");
        let is_there = now.iter().filter(|it| !before.contains(it)).any(|it| is_worker(&it));
        let old: Vec<_> = now.iter().filter(|it| before.contains(it)).collect();
        if !is_there || !old.iter().all(|it| title(it.pid).contains("is shutting down")) {
            continue;
        }
        // What an old one had accepted may only now look for its instance.
        if old.is_empty() || *since.get_or_insert_with(clock::now) + GRACE <= clock::now() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("shop.conf"), dir.path().join("other"));
        let [old, new] = ["old", "new"].map(|it| format!("# Written by opsdeck\n# {it}\n"));
        for (before, after) in [(None, &old), (Some(&old), &new)] {
            fs::write(&other, "precious").unwrap();
            symlink(&other, beside(&path, "new")).unwrap();
            // It points nowhere: there is no `.before` to see, and a write would make what it names.
            symlink(dir.path().join("nowhere"), beside(&path, "before")).unwrap();
            replace(&path, after).unwrap();
            assert_eq!(&fs::read_to_string(&path).unwrap(), after);
            let kept = fs::read_to_string(beside(&path, "before")).unwrap();
            assert_eq!(kept, before.cloned().unwrap_or_default());
            assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
            assert!(!dir.path().join("nowhere").exists());
            fs::remove_file(beside(&path, "before")).unwrap();
        }
    }
}
