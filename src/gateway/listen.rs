//! Accepts connections of clients, as many as may be.

use std::io;
use std::net::TcpListener as Socket;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::conn::{self, Conn, Expired};
use super::table::{Gateway, Table};

/// Before the next try when no connection can be taken: a descriptor or a place must become free first.
const PAUSE: Duration = Duration::from_millis(10);

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
        while gateway.connections.get() >= gateway.route.borrow().limits.connections.max(1) {
            make_room(&table, &gateway);
            tokio::time::sleep(PAUSE).await;
        }
        drop(gateway);
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // A connection that broke at once shows so when it is read.
                let _ = tcp.set_nodelay(true);
                let conn = Conn::new(Rc::clone(&table), table.gateway(&name), peer, local);
                tokio::task::spawn_local(conn::serve(tcp, conn));
            }
            Err(err) if is_of_one_connection(&err) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn is_of_one_connection(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(err.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A client has this long to send its first request before it counts as idle, in milliseconds.
const GREETING: u64 = 1_000;

/// Closes the connection that has been idle longest, if there is one.
fn make_room(table: &Table, gateway: &Rc<Gateway>) {
    let now = table.clock.micros() / 1000;
    let is_new = |it: &Conn, since: u64| it.requests.get() == 0 && now < since + GREETING;
    let conns = table.conns.borrow();
    let all = conns.values().filter_map(std::rc::Weak::upgrade);
    let idle = all
        .filter(|it| Rc::ptr_eq(&it.gateway, gateway) && it.expired.get().is_none())
        .filter_map(|it| it.idle_since().map(|since| (since, it)))
        .filter(|(since, it)| !is_new(it, *since))
        .min_by_key(|(since, _)| *since);
    drop(conns);
    if let Some((_, conn)) = idle {
        conn.expire(Expired::Idle);
    }
}
