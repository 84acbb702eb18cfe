//! One daemon per state directory.
//!
//! It has a lock on a file in it, which ends with the process, however that ends. A directory that is removed takes
//! the lock with it while its daemon lives: so that no second one begins beside that, the runtime directory has a
//! file with the identity of the daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tracing::warn;

use super::boot::{BootError, Plan};
use super::replace::Heir;
use super::{clock, host, own};
use crate::process::identity::{self, Identity};
use crate::process::stat;

/// In the state directory.
const LOCK: &str = "opsdeck.lock";
/// In the runtime directory: pid, start time and boot.
const SEAT: &str = "daemon";
/// How long a lock is waited for behind which nobody answers.
const LAST_HOLDERS: Duration = Duration::from_secs(5);
/// How long a process may be there that has given its lock back as it ends.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The lock of the state directory: this process may have it already.
pub(super) async fn hold(plan: &Plan, heir: Option<&Heir>) -> Result<File, BootError> {
    let lock = take(plan, heir).await?;
    let path = plan.runtime_dir.join(SEAT);
    sit(&plan.runtime_dir).map_err(|source| BootError::Lock { path, source })?;
    Ok(lock)
}

/// Where the state directory is gone, its daemon may not be: nothing is made in its place then.
pub(super) async fn wait_for_seat(plan: &Plan) -> Result<(), BootError> {
    let began = clock::now();
    while !plan.state_dir.exists()
        && let Some(pid) = sits(&plan.runtime_dir)
    {
        if clock::now().since(began) >= LAST_STEPS {
            let path = plan.runtime_dir.join(SEAT);
            return Err(BootError::Held { path, pid: pid.to_string() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn take(plan: &Plan, heir: Option<&Heir>) -> Result<File, BootError> {
    let state_dir = &plan.state_dir;
    let failed = |source| BootError::Lock { path: state_dir.join(LOCK), source };
    if let Some(left) = heir.and_then(|it| it.lock_of(&state_dir.join(LOCK))) {
        let file = File::from(left.map_err(failed)?);
        // A guardian that became the daemon has a pid of its own.
        note_pid(&file);
        return Ok(file);
    }
    let held = lock_when_free(plan).await?;
    let file = held.try_clone().map_err(failed)?;
    // Its end would give the lock back, and what shares it with the next program.
    std::mem::forget(held);
    Ok(file)
}

/// Waits for the lock while nobody who has it answers: a daemon that was killed may not be gone yet, and
/// a child that it was just starting has the lock's descriptor until it becomes its program.
async fn lock_when_free(plan: &Plan) -> Result<Flock<File>, BootError> {
    let began = clock::now();
    loop {
        let waited = clock::now().since(began);
        match lock(&plan.state_dir) {
            Ok(_) if let Some(pid) = sits(&plan.runtime_dir) => {
                if waited >= LAST_STEPS {
                    let path = plan.runtime_dir.join(SEAT);
                    return Err(BootError::Held { path, pid: pid.to_string() });
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(BootError::Held { pid, .. })
                if waited < LAST_HOLDERS && (is_ending(&pid) || !answers(&plan.socket).await) =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether this process has ended, and the kernel has not yet closed all that it had open.
fn is_ending(pid: &str) -> bool {
    // Its threads end one by one, and what they share is closed by the last of them.
    let is_dead = |pid| stat::read_stat(pid).map_or(true, |it| matches!(it.state, b'Z' | b'X'));
    pid.parse().is_ok_and(is_dead)
}

/// Whether a daemon is behind that socket. One that is too busy to answer is one too; the socket of a dead one
/// may take connections until a child of its own has let go of it.
async fn answers(socket: &Path) -> bool {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"GET /v1 HTTP/1.1\r\nhost: opsdeck\r\nconnection: close\r\n\r\n").await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        io::Result::Ok(word == *b"HTTP")
    };
    match tokio::time::timeout(LAST_HOLDERS, asked).await {
        Ok(Ok(is_http)) => is_http,
        Ok(Err(err)) => !is_nobody(err.kind()),
        Err(_) => true,
    }
}

fn is_nobody(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

/// One daemon per state directory. The lock ends with the process, however it ends.
fn lock(state_dir: &Path) -> Result<Flock<File>, BootError> {
    let path = state_dir.join(LOCK);
    let failed = |source| BootError::Lock { path: path.clone(), source };
    let mut how = OpenOptions::new();
    how.create(true).read(true).write(true).truncate(false);
    let file = own::open(&mut how, &path).map_err(failed)?;
    take_hold(file, &path)
}

fn take_hold(file: File, path: &Path) -> Result<Flock<File>, BootError> {
    let path = path.to_owned();
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => {
            note_pid(&file);
            Ok(file)
        }
        Err((mut file, nix::Error::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Err(BootError::Held { path, pid })
        }
        Err((_, err)) => Err(BootError::Lock { path, source: err.into() }),
    }
}

/// Whether a daemon of ours or of root holds the lock of that state directory. It is only looked at.
pub(super) fn is_held(state_dir: &Path) -> bool {
    let mut how = OpenOptions::new();
    // Where the directory is somebody else's it may be anything.
    how.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let Ok(file) = how.open(state_dir.join(LOCK)) else { return false };
    let us = rustix::process::geteuid().as_raw();
    let is_trusted = |it: std::fs::Metadata| it.is_file() && (it.uid() == 0 || it.uid() == us);
    if !file.metadata().is_ok_and(is_trusted) {
        return false;
    }
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, nix::Error::EWOULDBLOCK)))
}

/// The pid is a help to the reader, not a fact we act on: on a full disk the lock holds all the same.
fn note_pid(file: &File) {
    let pid = std::process::id().to_string();
    let written = file.write_all_at(pid.as_bytes(), 0);
    if let Err(err) = written.and_then(|()| file.set_len(pid.len() as u64)) {
        warn!(%err, "the pid could not be written to the lock");
    }
}

/// Another daemon that lives and says that it is this deck's: its pid.
fn sits(runtime_dir: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(runtime_dir.join(SEAT)).ok()?;
    let mut words = text.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let start_time = words.next()?.parse().ok()?;
    let is_of_this_boot = words.next()? == host::boot_id();
    let is_another = pid != std::process::id().cast_signed();
    let lives = || identity::is_alive(Identity { pid, start_time }).unwrap_or(false);
    (is_of_this_boot && is_another && lives()).then_some(pid)
}

/// Whether somebody says there that it is the daemon.
pub(super) fn is_seated(runtime_dir: &Path) -> bool {
    runtime_dir.join(SEAT).exists()
}

/// Says that this process is the daemon.
pub(super) fn sit(runtime_dir: &Path) -> io::Result<()> {
    let Identity { pid, start_time } = identity::identity_of(std::process::id().cast_signed())?;
    let text = format!("{pid} {start_time} {}\n", host::boot_id());
    // Whatever is in its place goes: earlier releases let others write it.
    let beside = runtime_dir.join("daemon.new");
    let _ = std::fs::remove_file(&beside);
    let mut file = own::open(OpenOptions::new().create_new(true).write(true), &beside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(beside, runtime_dir.join(SEAT))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn a_full_disk_takes_the_lock_from_nobody() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let held = take_hold(full, Path::new("/dev/full"));
        assert!(held.is_ok(), "{held:?}");
    }

    #[test]
    fn a_seat_that_others_may_write_is_taken_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let seat = dir.path().join(SEAT);
        std::fs::write(&seat, "1 1 x\n").unwrap();
        std::fs::set_permissions(&seat, std::os::unix::fs::PermissionsExt::from_mode(0o664))
            .unwrap();
        sit(dir.path()).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&seat).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let own = std::process::id().to_string();
        assert!(std::fs::read_to_string(&seat).unwrap().starts_with(&own));
    }

    #[test]
    fn a_lock_that_somebody_has_is_seen_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path()) && !dir.path().join(LOCK).exists());
        let file = File::create(dir.path().join(LOCK)).unwrap();
        assert!(!is_held(dir.path()));
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|it| it.1).unwrap();
        assert!(is_held(dir.path()) && is_held(dir.path()));
        drop(held);
        assert!(!is_held(dir.path()));
    }

    /// What somebody makes of a socket whose owner says this to whoever connects.
    async fn of_one_who_says(words: &'static [u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let owner = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 256];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(words).await;
        });
        let is_there = answers(&path).await;
        owner.await.unwrap();
        is_there
    }

    #[tokio::test]
    async fn only_who_answers_is_a_daemon() {
        assert!(of_one_who_says(b"HTTP/1.1 404 Not Found\r\n\r\n").await);
        assert!(!of_one_who_says(b"").await);
        assert!(!of_one_who_says(b"no such protocol").await);
        assert!(!answers(Path::new("/nobody/is/there.sock")).await);
    }
}
