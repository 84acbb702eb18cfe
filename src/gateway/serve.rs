//! The task of one client's connection: waits, lets hyper converse, carries what was upgraded, closes.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::ClientStream;
use super::conn::{Conn, Expired, Phase};
use super::tunnel::{self, Tunnel};

/// Serves a connection to its end.
///
/// While a client says nothing there is no hyper: its buffers and futures would be most of what an idle connection
/// weighs. They are made when there is something to read, and given back when the house finds it idle.
pub(super) async fn serve(mut tcp: TcpStream, conn: Rc<Conn>) {
    loop {
        if !is_readable(&conn, &tcp).await {
            return;
        }
        let end;
        (tcp, end) = Box::pin(converse(tcp, &conn)).await;
        match end {
            End::Parked => {}
            End::Upgraded(tunnel, early) => {
                conn.enter(Phase::Tunnel);
                return Box::pin(tunnel::run(&conn, tcp, early, tunnel)).await;
            }
            End::Over { in_time } => return Box::pin(close(&conn, tcp, in_time)).await,
        }
    }
}

/// Why hyper is done with a connection.
enum End {
    /// Nothing was said for a while.
    Parked,
    /// With what the client said already in the new protocol.
    Upgraded(Tunnel, Bytes),
    /// Not in time if the connection took too long for something that has no answer.
    Over { in_time: bool },
}

/// Waits for the first byte of a request; false if that took too long.
async fn is_readable(conn: &Conn, tcp: &TcpStream) -> bool {
    conn.park();
    let is_readable = std::future::poll_fn(|cx| {
        conn.watch(cx);
        // A request that is there already is in time. An error is for hyper to find.
        if tcp.poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        if conn.is_over() { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    conn.is_parked.set(false);
    is_readable
}

async fn converse(tcp: TcpStream, conn: &Rc<Conn>) -> (TcpStream, End) {
    let limits = &conn.route.limits;
    let mut builder = http1::Builder::new();
    builder.half_close(true).header_read_timeout(None);
    let header_bytes = limits.header_bytes.max(8 * 1024);
    builder.max_header_size(header_bytes).max_buf_size(header_bytes.max(64 * 1024));
    let io = TokioIo::new(ClientStream { tcp, conn: Rc::clone(conn) });
    let service = service_fn({
        let conn = Rc::clone(conn);
        move |request| {
            let conn = Rc::clone(&conn);
            async move { Ok::<_, Infallible>(super::proxy::answer(&conn, request).await) }
        }
    });
    let mut http = builder.serve_connection(io, service);
    let end = std::future::poll_fn(|cx| poll(conn, Pin::new(&mut http), cx)).await;
    let parts = http.into_parts();
    let ClientStream { tcp, .. } = parts.io.into_inner();
    let tunnel = conn.tunnel.take();
    // Of a connection that is parked nothing that matters was read: all of it was answered.
    (tcp, tunnel.map_or(end, |tunnel| End::Upgraded(tunnel, parts.read_buf)))
}

/// Ends a connection so that the client gets to read what was said last.
async fn close(conn: &Conn, mut tcp: TcpStream, in_time: bool) {
    drop(conn.ticket.borrow_mut().take());
    if conn.is_broken.get() {
        // An end of file would be the end of a response without a length.
        let _ = rustix::net::sockopt::set_socket_linger(&tcp, Some(Duration::ZERO));
        return;
    }
    let is_late = conn.expired.get() == Some(Expired::Head);
    if is_late {
        // A client whose window is closed does not read it anyway.
        let _ = tcp.try_write(LATE);
        let _ = tcp.shutdown().await;
    }
    if is_late || (in_time && !conn.guard.borrow().is_between()) {
        // It was still sending: without this it would get a reset instead of the answer.
        tunnel::linger(tcp).await;
    }
}

/// To a client that did not get to the end of the head of its request.
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Polls hyper, and what hyper does not: an upload that goes on while the client reads no response.
fn poll<E>(
    conn: &Conn,
    mut http: Pin<&mut impl Future<Output = Result<(), E>>>,
    cx: &mut Context<'_>,
) -> Poll<End> {
    conn.watch(cx);
    if http.as_mut().poll(cx).is_ready() {
        return Poll::Ready(End::Over { in_time: true });
    }
    if conn.is_over() {
        return Poll::Ready(End::Over { in_time: false });
    }
    if conn.takes_a_rest() {
        return Poll::Ready(End::Parked);
    }
    if let Some(exchange) = &mut *conn.exchange.borrow_mut()
        && !exchange.is_sent()
    {
        // After a fault it sends no more; the answer may be whole nevertheless.
        let _ = exchange.poll_send(cx);
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::room::Room;
    use crate::gateway::shared::Shared;
    use crate::gateway::table::Table;

    /// A client's connection, and the client.
    async fn connected() -> (TcpStream, Rc<Conn>, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let table = Rc::new(Table::new(Shared::none(), Room::with(1024)));
        let gateway = table.gateway("shop");
        (tcp, Conn::new(table, gateway, address, address), client)
    }

    #[tokio::test]
    async fn what_waits_for_a_client_is_small() {
        let (tcp, conn, _client) = connected().await;
        let future = serve(tcp, conn);
        assert!(size_of_val(&future) <= 256, "{}", size_of_val(&future));
    }

    #[tokio::test]
    async fn a_request_that_is_there_when_the_time_is_over_is_taken() {
        let (tcp, conn, mut client) = connected().await;
        // tokio takes it for readable until it was read from.
        tcp.try_read(&mut [0]).unwrap_err();
        conn.expire(Expired::Idle);
        assert!(!is_readable(&conn, &tcp).await);
        client.write_all(b"G").await.unwrap();
        tcp.readable().await.unwrap();
        assert!(is_readable(&conn, &tcp).await);
    }
}
