//! What follows an upgrade: bytes both ways until one side has had enough, or the instance leaves.
//!
//! Nothing is buffered but what a side has not yet taken, so an open connection that says nothing needs no room.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::conn::{Conn, Expired};
use super::frames::{Frames, going_away};
use super::instance::{End, add};
use super::link::read_block;
use super::room::Place;

/// The instance's side of an upgraded connection.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) stream: TcpStream,
    /// What the instance said already in the new protocol.
    pub(super) rest: Bytes,
    pub(super) is_websocket: bool,
    pub(super) place: Place,
}

/// How long a closed tunnel waits for the other sides to close too.
const FAREWELL: Duration = Duration::from_millis(1_000);
/// What a client may still send after we closed, and for how long.
const LINGER: usize = 1024 * 1024;
const LINGER_FOR: Duration = Duration::from_secs(2);

/// Carries bytes until both directions have ended, or the time that the instance's drain leaves is over.
pub(super) async fn run(conn: &Rc<Conn>, client: TcpStream, early: Bytes, tunnel: Tunnel) {
    let ticket = conn.ticket.borrow_mut().take();
    let Some(mut ticket) = ticket else { return };
    ticket.becomes_tunnel();
    ticket.ends(End::Answered(StatusCode::SWITCHING_PROTOCOLS));
    let instance = Rc::clone(ticket.instance());
    // Where the house looks for the instance.
    *conn.ticket.borrow_mut() = Some(ticket);
    let totals = &instance.totals;
    add(&totals.bytes_in, early.len() as u64);
    let Tunnel { stream, rest, is_websocket, place: _place } = tunnel;
    let mut client = Side::new(client, rest, is_websocket);
    let mut server = Side::new(stream, early, is_websocket);
    let is_over = std::future::poll_fn(|cx| {
        conn.watch(cx);
        if conn.expired.get() == Some(Expired::Tunnel) {
            return Poll::Ready(false);
        }
        let block = &mut conn.table.block.borrow_mut();
        let there = server.poll_from(cx, &mut client, block, &totals.bytes_in);
        let back = client.poll_from(cx, &mut server, block, &totals.bytes_out);
        match (there, back) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(true),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(true),
            _ => Poll::Pending,
        }
    })
    .await;
    if !is_over {
        instance.reports.cut(&instance, 0, 1, "its time to end after the drain was over".into());
        part(client, server).await;
    }
    conn.ticket.borrow_mut().take();
}

/// Tells both sides that it is over, and waits a little for their answers. Whoever has not given it by then is cut.
async fn part(mut client: Side, mut server: Side) {
    let told = async { tokio::join!(client.tell(None), server.tell(Some(mask()))) };
    if tokio::time::timeout(FAREWELL, told).await.is_err() {
        return;
    }
    let (of_client, of_server) = (server.passed.take(), client.passed.take());
    let heard = async { tokio::join!(client.hear(of_client), server.hear(of_server)) };
    let _ = tokio::time::timeout(FAREWELL, heard).await;
}

/// What hides a frame of a client from whoever stands between (RFC 6455 §10.3).
fn mask() -> [u8; 4] {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    [a, b, c, d]
}

/// One of the two that talk.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    /// What it has not yet taken.
    pending: Bytes,
    /// What was passed on to it, if that has frames.
    passed: Option<Frames>,
    /// It says no more.
    is_silent: bool,
    /// It was told that no more comes.
    is_told: bool,
}

impl Side {
    fn new(stream: TcpStream, pending: Bytes, is_websocket: bool) -> Self {
        let passed = is_websocket.then(Frames::default);
        Self { stream, pending, passed, is_silent: false, is_told: false }
    }

    /// Passes on what the other one says, until its end.
    fn poll_from(
        &mut self,
        cx: &mut Context<'_>,
        other: &mut Self,
        block: &mut BytesMut,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        while !self.is_told {
            ready!(self.poll_take(cx))?;
            if other.is_silent {
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                self.is_told = true;
                break;
            }
            self.pending = ready!(read_block(&mut other.stream, cx, block))?;
            add(count, self.pending.len() as u64);
            other.is_silent = self.pending.is_empty();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is pending.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(frames) = &mut self.passed {
                frames.take(&self.pending[..count]);
            }
            self.pending.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// The last word, where there may be one: a frame cannot begin inside another.
    async fn tell(&mut self, mask: Option<[u8; 4]>) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_take(cx)).await?;
        match &self.passed {
            Some(frames) if frames.is_between() && !frames.is_closing() && !self.is_told => {
                self.stream.write_all(&going_away(mask)).await
            }
            _ => self.stream.shutdown().await,
        }
    }

    /// Waits until it has answered, or has ended. `said` is what it said so far.
    async fn hear(&mut self, mut said: Option<Frames>) {
        let mut block = vec![0; 4096];
        while said.as_ref().is_none_or(|it| !(it.is_closing() && it.is_between())) {
            match self.stream.read(&mut block).await {
                Ok(count) if count > 0 => {
                    if let Some(said) = &mut said {
                        said.take(&block[..count]);
                    }
                }
                _ => return,
            }
        }
    }
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
