//! Takes a listening socket back from a process that was given it.
//!
//! pidfd_getfd(2) copies a descriptor of another process. The kernel allows what it allows to a
//! debugger: root everything; others their own processes, unless `kernel.yama.ptrace_scope` (1 on
//! Ubuntu) limits them to their children.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{getsockname, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::port;

/// What the first passed descriptor becomes (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// A copy of the descriptor by which this process listens on the address; `None`: it does not.
pub fn take(pid: i32, pidfd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let inodes: Vec<u64> = port::listeners(address.port())?.iter().map(|it| it.inode).collect();
    for number in numbers(pid, &inodes)? {
        let copy = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?;
        if is_listener(&copy, address) {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

/// Its descriptors of these sockets, the conventional one first: the others may be copies that are in the
/// way of nobody.
fn numbers(pid: i32, inodes: &[u64]) -> io::Result<Vec<i32>> {
    let wanted: Vec<_> = inodes.iter().map(|it| format!("socket:[{it}]")).collect();
    let mut numbers = vec![];
    for file in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let file = file?;
        // It may have closed it meanwhile.
        let Ok(link) = fs::read_link(file.path()) else { continue };
        if wanted.iter().any(|it| link.as_os_str() == it.as_str()) {
            numbers.extend(file.file_name().to_str().and_then(|it| it.parse::<i32>().ok()));
        }
    }
    numbers.sort_unstable_by_key(|it| (*it != FIRST, *it));
    Ok(numbers)
}

fn is_listener(socket: &OwnedFd, address: SocketAddr) -> bool {
    let is_there = getsockname(socket).ok().and_then(|it| SocketAddr::try_from(it).ok());
    is_there == Some(address) && sockopt::socket_acceptconn(socket).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;
    use crate::process::identity;
    use crate::process::spawn::{Launch, Output, spawn};

    #[test]
    fn a_listener_outlives_who_made_it_in_whoever_was_given_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let argv = ["sleep".to_owned(), "60".to_owned()];
        let child = spawn(&Launch {
            argv: &argv,
            directory: None,
            environment: &[("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            output: Output::Null,
            passed: &[listener.as_fd()],
            switch: None,
            cgroup: None,
        })
        .unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        drop(listener);

        let pidfd = identity::open(child.identity).unwrap().unwrap();
        let taken = take(child.identity.pid, pidfd.as_fd(), address).unwrap().unwrap();
        super::super::signal::send(pidfd.as_fd(), libc::SIGKILL).unwrap();
        let (_, from) = TcpListener::from(taken).accept().unwrap();

        assert_eq!(from, client.local_addr().unwrap());
    }

    #[test]
    fn who_listens_elsewhere_has_nothing_to_give() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut address = listener.local_addr().unwrap();
        address.set_ip([127, 0, 0, 2].into());
        let me = identity::identity_of(std::process::id().cast_signed()).unwrap();
        let pidfd = identity::open(me).unwrap().unwrap();
        assert!(take(me.pid, pidfd.as_fd(), address).unwrap().is_none());
    }
}
