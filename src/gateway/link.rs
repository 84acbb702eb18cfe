//! One connection to an instance, and the connections of an instance that wait for their next request.
//!
//! Nobody watches a waiting connection: no task, no buffer. It is looked at when it is taken, and now and then
//! when the house is swept.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::RecvFlags;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::room::Place;

/// Connections that wait, per instance. More would only be a memory of the last peak.
const POOL: usize = 1024;
/// A waiting connection is closed after this, in milliseconds: before most servers do it (nginx 75 s, Node 5 s).
const IDLE: u64 = 30_000;
/// A request that must not be sent twice takes no connection that waited longer, in milliseconds. The server may
/// be closing it at this very moment, and if our bytes and its FIN cross, nobody can tell whether they were read.
/// Within a second of an answer servers do not close; and a new connection costs less than a lost order.
const FRESH: u64 = 1_000;
/// Read at a time.
const BLOCK: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    /// What was read and not yet understood.
    pub(super) rest: Bytes,
    /// It was used before.
    pub(super) is_reused: bool,
    idle_since: u64,
    place: Place,
}

impl Link {
    pub(super) async fn connect(
        address: SocketAddr,
        within: u64,
        place: Place,
    ) -> io::Result<Self> {
        let connecting = TcpStream::connect(address);
        let stream = match within {
            0 => connecting.await?,
            within => tokio::time::timeout(Duration::from_millis(within), connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        };
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Bytes::new(), is_reused: false, idle_since: 0, place })
    }

    /// Reads once and appends to `rest`. Zero is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        block: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let new = ready!(read_block(&mut self.stream, cx, block))?;
        let count = new.len();
        self.rest = if self.rest.is_empty() { new } else { [&self.rest[..], &new].concat().into() };
        Poll::Ready(Ok(count))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let mut filled = pieces.iter().filter(|it| !it.is_empty());
        match (filled.next(), filled.next()) {
            // What is in one piece takes the cheaper system call.
            (Some(only), None) => stream.poll_write(cx, only),
            _ => stream.poll_write_vectored(cx, pieces),
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, Bytes, Place) {
        (self.stream, self.rest, self.place)
    }

    /// Asks the kernel: open, and nothing said that nobody asked for.
    fn is_open(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.stream, &mut byte, flags);
        matches!(peeked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
    }
}

/// Reads once, into a block that all share. Nothing is the end.
pub(super) fn read_block(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    block: &mut BytesMut,
) -> Poll<io::Result<Bytes>> {
    if block.capacity() - block.len() < BLOCK / 4 {
        block.reserve(BLOCK);
    }
    ready!(tokio_util::io::poll_read_buf(Pin::new(stream), cx, block))?;
    Poll::Ready(Ok(block.split().freeze()))
}

/// The waiting connections of one instance, the last used last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    links: Vec<Link>,
}

impl Pool {
    /// The connection that was used last, if one may be used.
    ///
    /// What may be sent again needs no look: if the connection turns out to be closed, it is.
    pub(super) fn take(&mut self, now: u64, may_repeat: bool) -> Option<Link> {
        while let Some(link) = self.links.pop() {
            let waited = now.saturating_sub(link.idle_since);
            if waited > IDLE {
                self.links.clear();
                return None;
            }
            if !may_repeat && waited > FRESH {
                // All others have waited longer.
                self.links.push(link);
                return None;
            }
            if (may_repeat && waited < FRESH) || link.is_open() {
                return Some(link);
            }
        }
        None
    }

    pub(super) fn put(&mut self, mut link: Link, now: u64) {
        if self.links.len() < POOL {
            link.is_reused = true;
            link.idle_since = now;
            self.links.push(link);
        }
    }

    /// Closes what waited long, and what the other side closed.
    pub(super) fn sweep(&mut self, now: u64) {
        self.links.retain(|it| now.saturating_sub(it.idle_since) <= IDLE && it.is_open());
    }

    /// The one that has waited longest.
    pub(super) fn take_oldest(&mut self) -> Option<Link> {
        (!self.links.is_empty()).then(|| self.links.remove(0))
    }

    pub(super) fn clear(&mut self) {
        self.links = vec![];
    }
}
