//! What follows an upgrade: bytes both ways until one side has had enough, or the instance leaves.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::conn::{Conn, Expired};
use super::instance::{End, Instance, add};
use super::room::Place;

/// The instance's side of an upgraded connection.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) stream: TcpStream,
    /// What the instance said already in the new protocol.
    pub(super) rest: Bytes,
    pub(super) place: Place,
}

/// How long a closed tunnel waits for the other sides to close too.
const FAREWELL: Duration = Duration::from_millis(500);
/// What a client may still send after we closed, and for how long.
const LINGER: usize = 1024 * 1024;
const LINGER_FOR: Duration = Duration::from_secs(2);

/// Carries bytes until both directions have ended, or the time that the instance's drain leaves is over.
pub(super) async fn run(conn: &Rc<Conn>, client: TcpStream, early: &[u8], tunnel: Tunnel) {
    let ticket = conn.ticket.borrow_mut().take();
    let Some(mut ticket) = ticket else { return };
    ticket.becomes_tunnel();
    ticket.ends(End::Answered(StatusCode::SWITCHING_PROTOCOLS));
    let instance = Rc::clone(ticket.instance());
    // Where the house looks for the instance.
    *conn.ticket.borrow_mut() = Some(ticket);
    let mut client = client;
    let Tunnel { stream, rest, place: _place } = tunnel;
    let mut server = Counted { stream, instance: &instance };
    let carried = async {
        server.write_all(early).await?;
        client.write_all(&rest).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    let is_over = tokio::select! {
        _ = carried => true,
        () = told_to_end(conn) => false,
    };
    if !is_over {
        instance.reports.cut(&instance, 0, 1, "its time to end after the drain was over".into());
        let farewell = async {
            let _ = client.shutdown().await;
            let _ = server.shutdown().await;
            let mut rest = vec![0; 4096];
            while client.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        };
        // Whoever has not answered the end by then is cut.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    conn.ticket.borrow_mut().take();
}

async fn told_to_end(conn: &Conn) {
    std::future::poll_fn(|cx: &mut Context<'_>| {
        conn.watch(cx);
        if conn.expired.get() == Some(Expired::Tunnel) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads what a client still sends, so that the kernel does not answer it with a reset and it gets to read our
/// last words.
pub(super) async fn linger(mut tcp: TcpStream) {
    let reading = async {
        let mut block = vec![0; 8192];
        let mut left = LINGER;
        while let Ok(count) = tcp.read(&mut block).await {
            if count == 0 || count > left {
                return;
            }
            left -= count;
        }
    };
    // A client that goes on for longer has had its time.
    let _ = tokio::time::timeout(LINGER_FOR, reading).await;
}

/// Counts what goes to the instance and comes from it.
struct Counted<'a> {
    stream: TcpStream,
    instance: &'a Instance,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        add(&self.instance.totals.bytes_out, (buf.filled().len() - before) as u64);
        result
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &result {
            add(&self.instance.totals.bytes_in, *count as u64);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
