//! A process of ours that runs and cannot be talked to: found by its socket, and killed.
//!
//! Beside a gateway that hangs, or whose socket was removed, another one would accept on the same addresses, and the
//! first would go by old routes for good. Behind a logger that hangs, the next one waits for its lock.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use crate::process::{Identity, closeup, identity, pidfd, signal, stat};

/// How long the kernel may need until the sockets of who was killed are closed.
const DYING: Duration = Duration::from_secs(20);
/// What `/proc/net/unix` says of a socket that is listened on.
const LISTENS: &str = "00010000";

/// Those in this role behind this socket; a gateway that retires has another one beside it, `gateway.PID.sock`.
pub(super) fn behind(socket: &Path, role: &str) -> io::Result<Vec<Identity>> {
    let inodes = inodes(&fs::read_to_string("/proc/net/unix")?, &socket.display().to_string());
    if inodes.is_empty() {
        return Ok(vec![]);
    }
    let pids = fs::read_dir("/proc")?
        .map_while(Result::ok)
        .filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let retires = |pid: i32| socket.with_file_name(format!("gateway.{pid}.sock")).exists();
    let is_one = |pid: &i32| is(*pid, role) && has_open(*pid, &inodes) && !retires(*pid);
    Ok(pids.filter(is_one).filter_map(|pid| identity::identity_of(pid).ok()).collect())
}

/// The sockets that are listened on and were bound to this path, whatever is there now.
fn inodes(table: &str, path: &str) -> Vec<String> {
    let inode = |line: &str| {
        let (line, bound) = (line.trim_end(), format!(" {path}"));
        let mut words = line.strip_suffix(&bound)?.split_ascii_whitespace();
        let listens = words.nth(3)? == LISTENS;
        words.nth(2).filter(|_| listens).map(|it| format!("socket:[{it}]"))
    };
    table.lines().filter_map(inode).collect()
}

/// The process of this number, if it is in this role.
pub(super) fn identity_in(role: &str, pid: u32) -> Option<Identity> {
    let pid = i32::try_from(pid).ok()?;
    let identity = identity::identity_of(pid).ok()?;
    is(pid, role).then_some(identity)
}

fn is(pid: i32, role: &str) -> bool {
    closeup::arguments(pid).is_ok_and(|it| it.get(1).is_some_and(|it| it == role))
}

/// Whether it waits in the kernel for a disk: it can neither answer nor be killed before that.
pub(super) fn is_held(process: Identity) -> bool {
    stat::read_stat(process.pid).is_ok_and(|it| it.identity == process && it.state == b'D')
}

fn has_open(pid: i32, links: &[String]) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().map_while(Result::ok);
    let mut targets = open.filter_map(|it| fs::read_link(it.path()).ok());
    targets.any(|target| links.iter().any(|it| target.as_os_str() == it.as_str()))
}

/// Sends it a signal, if it still lives.
pub(super) fn send(process: Identity, signal: i32) -> io::Result<()> {
    match identity::open(process)? {
        Some(pidfd) => signal::send(pidfd.as_fd(), signal),
        None => Ok(()),
    }
}

/// Asks it to end, gives it some time, and kills it.
pub(super) async fn end(process: Identity, patience: Duration) -> io::Result<()> {
    let Some(pidfd) = identity::open(process)? else { return Ok(()) };
    signal::send(pidfd.as_fd(), libc::SIGTERM)?;
    match tokio::time::timeout(patience, pidfd::ended(pidfd)).await {
        Ok(_) => Ok(()),
        Err(_) => kill(process).await,
    }
}

/// Kills it, and waits until it is gone.
pub(super) async fn kill(process: Identity) -> io::Result<()> {
    let Some(pidfd) = identity::open(process)? else { return Ok(()) };
    signal::send(pidfd.as_fd(), libc::SIGKILL)?;
    // The kernel may need a while for it; its sockets are closed then.
    let _ = tokio::time::timeout(DYING, pidfd::ended(pidfd)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_at_a_path_is_told_from_who_is_connected_there_and_from_others() {
        let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 101 /run/opsdeck/1/gateway.sock
0000000000000000: 00000003 00000000 00000000 0001 03 102 /run/opsdeck/1/gateway.sock
0000000000000000: 00000002 00000000 00010000 0001 01 103 /run/opsdeck/2/gateway.sock
0000000000000000: 00000002 00000000 00010000 0001 01 104 /run/x /run/opsdeck/1/gateway.sock.old
0000000000000000: 00000003 00000000 00000000 0001 03 105
";
        assert_eq!(inodes(table, "/run/opsdeck/1/gateway.sock"), ["socket:[101]"]);
    }

    #[test]
    fn nobody_who_is_in_another_role_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let ours = inodes(&table, &path.display().to_string());
        assert!(has_open(std::process::id().cast_signed(), &ours), "{ours:?}");
        assert_eq!(behind(&path, "no role").unwrap(), []);
        assert_eq!(identity_in("no role", std::process::id()), None);
    }
}
