//! Accepts connections of clients, as many as may be.

use std::io;
use std::net::TcpListener as Socket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::conn::{Conn, Expired};
use super::serve;
use super::table::{Gateway, Table};

/// A listener that is being accepted on. Dropping it stops that; the socket lives on with whoever has a copy.
#[derive(Debug)]
pub(super) struct Listening {
    socket: Socket,
    task: AbortHandle,
}

impl Listening {
    pub(super) fn begin(table: &Rc<Table>, name: &str, socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket.try_clone()?)?;
        let task = tokio::task::spawn_local(accept(Rc::clone(table), name.to_owned(), listener));
        Ok(Self { socket, task: task.abort_handle() })
    }

    /// Whether that is a copy of it.
    pub(super) fn is(&self, other: &OwnedFd) -> bool {
        let id = |it: BorrowedFd<'_>| rustix::fs::fstat(it).map(|it| (it.st_dev, it.st_ino)).ok();
        id(self.socket.as_fd()).is_some_and(|own| Some(own) == id(other.as_fd()))
    }

    /// A copy for the daemon.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(table: Rc<Table>, name: String, listener: TcpListener) {
    let Ok(local) = listener.local_addr() else { return };
    loop {
        let gateway = table.gateway(&name);
        while is_full(&table, &gateway) {
            make_room(&table, &gateway);
            table.room.wait().await;
        }
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // A connection that broke at once shows so when it is read.
                let _ = tcp.set_nodelay(true);
                let conn = Conn::new(Rc::clone(&table), table.gateway(&name), peer, local);
                tokio::task::spawn_local(serve::serve(tcp, conn));
            }
            Err(err) if is_of_one_connection(&err) => {}
            Err(err) => {
                tell(&table, &format!("no connection can be taken: {err}"));
                make_room(&table, &gateway);
                table.room.wait().await;
            }
        }
    }
}

fn is_full(table: &Table, gateway: &Gateway) -> bool {
    let (limit, count) = (gateway.route.borrow().limits.connections.max(1), table.connections());
    if count >= table.room.half() {
        let descriptors = table.room.descriptors();
        tell(
            table,
            &format!(
                "{count} connections are all that {descriptors} descriptors allow (RLIMIT_NOFILE): the longest idle are \
             closed, and new ones wait"
            ),
        );
        return true;
    }
    gateway.connections.get() >= limit
}

fn tell(table: &Table, what: &str) {
    if table.room.is_worth_telling(table.clock.micros() / 1000) {
        table.reports.notice(what.to_owned());
    }
}

fn is_of_one_connection(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(err.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A client has this long for the head of its first request before it counts as idle, in milliseconds.
const GREETING: u64 = 1_000;
/// One of so many connections is closed at a time: looking for them means looking at all.
const SHARE: usize = 64;

/// Closes the connections that have been idle longest; if none is, those that are slowest to say what they want.
fn make_room(table: &Table, gateway: &Rc<Gateway>) {
    let now = table.clock.micros() / 1000;
    let is_everybody = table.connections() >= table.room.half();
    let is_old = |it: &Conn, since: u64| it.requests.get() > 0 || now >= since + GREETING;
    let conns = table.conns.borrow();
    let all = conns.values().filter_map(std::rc::Weak::upgrade);
    let mut idle: Vec<_> = all
        .filter(|it| is_everybody || Rc::ptr_eq(&it.gateway, gateway))
        .filter(|it| it.expired.get().is_none())
        .filter_map(|it| match (it.idle_since(), it.asking_since()) {
            (Some(since), _) if is_old(&it, since) => Some((false, since, it)),
            (_, Some(since)) if now >= since + GREETING => Some((true, since, it)),
            _ => None,
        })
        .collect();
    let count = conns.len().div_ceil(SHARE).min(idle.len());
    drop(conns);
    idle.sort_unstable_by_key(|it| (it.0, it.1));
    // Whoever is in the middle of something goes only if nobody else can.
    let is_asking = idle.first().is_some_and(|it| it.0);
    for (asks, _, conn) in idle.into_iter().take(count) {
        if asks == is_asking {
            conn.expire(if asks { Expired::Head } else { Expired::Idle });
        }
    }
}
