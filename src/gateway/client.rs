//! The client's socket as hyper sees it: what was read is noted, and interim responses go first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::conn::Conn;

#[derive(Debug)]
pub(super) struct ClientStream {
    pub(super) tcp: TcpStream,
    pub(super) conn: Rc<Conn>,
}

impl ClientStream {
    /// Writes what goes first. Pending: some of it is left.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut early = self.conn.early.borrow_mut();
        while !early.is_empty() {
            let result = Pin::new(&mut self.tcp).poll_write(cx, &early);
            let count = ready!(self.wrote(result))?;
            early.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending => self.conn.blocked(),
            Poll::Ready(_) => self.conn.blocked_since.set(0),
        }
        result
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.conn.received(new);
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_early(cx))?;
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_early(cx))?;
        let mut room = [0; SMALL];
        let result = match joined(bufs, &mut room) {
            Some(whole) => Pin::new(&mut self.tcp).poll_write(cx, whole),
            None => Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs),
        };
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called by hyper when nothing is left to write, however often.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_early(cx))?;
        self.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Head and body up to this long are written as one piece: the copy costs less than the system call for several.
const SMALL: usize = 1024;

/// All pieces in a row, if they fit.
fn joined<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut filled = 0;
    for piece in pieces {
        room.get_mut(filled..filled + piece.len())?.copy_from_slice(piece);
        filled += piece.len();
    }
    Some(&room[..filled])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_in_order_or_not_at_all() {
        let (head, body) = ([b'h'; 1000], [b'b'; 25]);
        let pieces = |body| [IoSlice::new(&head), IoSlice::new(body)];
        let mut room = [0; SMALL];
        let whole = joined(&pieces(&body[..24]), &mut room).unwrap();
        assert_eq!(whole, [&head[..], &body[..24]].concat());
        assert_eq!(joined(&pieces(&body), &mut room), None);
    }
}
