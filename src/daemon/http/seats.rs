//! How many connections a user may hold.
//!
//! Once others are named, everybody on the host can connect. Whoever may not act gets a number of connections and
//! no more, so that nobody takes the descriptors that the services need.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::api::Role;
use crate::daemon::http::haste::{HeadTime, Stage, TOO_SLOW};

/// Of a viewer: a deck holds a few.
const OF_VIEWERS: usize = 256;
/// Of anybody else, who is told that he may not look.
const OF_STRANGERS: usize = 16;

/// What whoever has too many is told before the end of the connection.
const FULL: &str = "HTTP/1.1 429 Too Many Requests\r\n\
    content-type: application/problem+json\r\nconnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":429,\"title\":\"too many connections\",\
    \"detail\":\"this user holds all that one may have\",\"help\":\"close some\"}\n";

/// Connections by user. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Seats(Arc<Mutex<BTreeMap<u32, usize>>>);

impl Seats {
    /// A place for one more connection of this user, if he may have one.
    fn take(&self, uid: u32, role: Option<Role>) -> Option<Seat> {
        let most = match role {
            Some(Role::Operator) => usize::MAX,
            Some(Role::Viewer) => OF_VIEWERS,
            None => OF_STRANGERS,
        };
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = taken.entry(uid).or_default();
        (*of_user < most).then(|| {
            *of_user += 1;
            Seat { seats: self.clone(), uid }
        })
    }

    /// The connection with its place; one too many is told so and closed.
    pub(in crate::daemon) fn seat(
        &self,
        stream: UnixStream,
        uid: u32,
        role: Option<Role>,
    ) -> Option<Connection> {
        let seat = self.take(uid, role);
        if seat.is_none() {
            // A fresh connection has room for it; who has closed his end need not hear it.
            let _ = stream.try_write(FULL.as_bytes());
        }
        let (stage, head_time) = (Stage::default(), HeadTime::default());
        Some(Connection { stream, stage, head_time, _seat: seat? })
    }
}

#[derive(Debug)]
struct Seat {
    seats: Seats,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = taken.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

/// A client's connection; its place is free when it ends.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    pub(in crate::daemon) stage: Stage,
    head_time: HeadTime,
    _seat: Seat,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_ready() {
            if buffer.filled().len() > before {
                this.head_time.heard(&this.stage);
            }
            return read;
        }
        ready!(this.head_time.poll_over(&this.stage, cx));
        // An empty socket has room for it; who has closed his end need not hear it.
        let _ = this.stream.try_write(TOO_SLOW.as_bytes());
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stage.answered();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stage.answered();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_user_and_given_back() {
        let seats = Seats::default();
        let mut held: Vec<_> = (0..OF_STRANGERS).map(|_| seats.take(7, None).unwrap()).collect();
        assert!(seats.take(7, None).is_none());
        assert!(seats.take(8, None).is_some());
        // Who is made a viewer may have more, and an operator is never refused.
        held.push(seats.take(7, Some(Role::Viewer)).unwrap());
        held.push(seats.take(7, Some(Role::Operator)).unwrap());
        drop(held);
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
