//! Who is behind a socket at which nobody answers: no daemon, or one that has no time yet.

use std::io;
use std::path::{Path, PathBuf};

use crate::api::{Problem, problem};

/// What can be told from here.
#[derive(Debug, PartialEq, Eq)]
enum Behind {
    Daemon {
        pid: u32,
        lock: PathBuf,
    },
    Nobody,
    /// Its lock belongs to somebody else, or is not beside the socket.
    Hidden,
}

/// The lock is not tried: a daemon that begins in this moment would find it taken.
fn look(socket: &Path) -> Behind {
    let lock = socket.parent().map(|it| it.join("opsdeck.lock").canonicalize());
    let Some(Ok(lock)) = lock else { return Behind::Hidden };
    let Ok(text) = std::fs::read_to_string(&lock) else { return Behind::Hidden };
    let Ok(pid) = text.trim().parse() else { return Behind::Nobody };
    let open = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => open,
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Behind::Hidden,
        Err(_) => return Behind::Nobody,
    };
    let mut open = open.map_while(Result::ok);
    let holds = open.any(|it| std::fs::read_link(it.path()).is_ok_and(|it| it == lock));
    if holds { Behind::Daemon { pid, lock } } else { Behind::Nobody }
}

/// Whether it is worth asking again: a daemon lives, or one may that was just there (`was_there`).
pub(super) fn may_answer(socket: &Path, was_there: bool) -> bool {
    match look(socket) {
        Behind::Daemon { .. } => true,
        Behind::Nobody => false,
        Behind::Hidden => was_there,
    }
}

/// Whether a daemon is seen to hold the lock beside this socket.
pub fn is_held(socket: &Path) -> bool {
    matches!(look(socket), Behind::Daemon { .. })
}

/// Nothing answers at a socket: there is no daemon, or one that only holds its lock.
pub fn no_daemon(socket: &Path) -> Problem {
    if let Behind::Daemon { pid, lock } = look(socket) {
        return Problem {
            kind: problem::UNREACHABLE.into(),
            title: format!("the daemon (pid {pid}) does not answer"),
            detail: format!(
                "it holds {}, and nothing answers at {}",
                lock.display(),
                socket.display()
            ),
            help: Some(format!(
                "wait if it has just begun; else `kill {pid}` ends it, its services run on, and `opsdeck` starts the next one"
            )),
            ..Problem::default()
        };
    }
    Problem {
        kind: problem::UNREACHABLE.into(),
        title: "no daemon is running".into(),
        detail: format!("nothing answers at {}", socket.display()),
        help: Some("`opsdeck` starts one and shows the deck; `opsdeck daemon` runs it here".into()),
        ..Problem::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_who_lives_and_what_is_not_seen_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("opsdeck.sock");
        assert_eq!(look(&socket), Behind::Hidden);
        assert!(may_answer(&socket, true) && !may_answer(&socket, false) && !is_held(&socket));

        let path = dir.path().join("opsdeck.lock").canonicalize();
        assert!(path.is_err());
        let path = dir.path().canonicalize().unwrap().join("opsdeck.lock");
        let pid = std::process::id();
        std::fs::write(&path, pid.to_string()).unwrap();
        assert_eq!(look(&socket), Behind::Nobody, "the number is that of another process by now");
        assert!(!may_answer(&socket, true));
        let held = std::fs::File::open(&path).unwrap();
        assert_eq!(look(&socket), Behind::Daemon { pid, lock: path.clone() });
        assert!(may_answer(&socket, false) && is_held(&socket));
        drop(held);
        std::fs::write(&path, "").unwrap();
        assert_eq!(look(&socket), Behind::Nobody);
    }
}
