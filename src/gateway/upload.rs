//! A request's body on its way to an instance, kept as long as it may have to be sent again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Incoming};

/// The body of one request. It survives the connection that it is sent over.
#[derive(Debug)]
pub(super) struct Upload {
    body: Incoming,
    pub(super) is_chunked: bool,
    /// What was taken, until it is more than `keep`.
    kept: Vec<Bytes>,
    keep: usize,
    taken: u64,
    limit: u64,
    /// Of `kept`, sent over the connection of the moment.
    sent: usize,
    /// Something of it is gone: it cannot be sent again.
    is_lost: bool,
    /// The client sent all of it.
    trailers: Option<HeaderMap>,
    is_complete: bool,
    ended: bool,
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// Nothing follows but trailers, if there are any.
    End(HeaderMap),
}

/// Why no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client broke off, or what it sent is no body.
    Broken,
    /// It is longer than allowed.
    TooLong,
    /// The client sent nothing for too long.
    Slow,
}

impl Upload {
    /// `keep` bytes are kept to be sent again; more than `limit` bytes are refused, 0 is no limit.
    pub(super) fn new(body: Incoming, is_chunked: bool, keep: usize, limit: u64) -> Self {
        Self {
            body,
            is_chunked,
            kept: vec![],
            keep,
            taken: 0,
            limit,
            sent: 0,
            is_lost: false,
            trailers: None,
            is_complete: false,
            ended: false,
        }
    }

    /// Begins again from the first byte.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.ended = false;
    }

    pub(super) fn is_replayable(&self) -> bool {
        !self.is_lost
    }

    /// All of it was handed out.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next piece. `wrote` says that something of what was handed out before may have reached the instance;
    /// while it has not, everything is kept, however long.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        wrote: bool,
    ) -> Poll<Result<Piece, Fault>> {
        if let Some(piece) = self.kept.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Ok(Piece::Data(piece.clone())));
        }
        while !self.is_complete {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.is_complete = true;
                break;
            };
            match frame.map_err(|_| Fault::Broken)?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(self.take(data, wrote).map(Piece::Data)),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        self.ended = true;
        Poll::Ready(Ok(Piece::End(self.trailers.clone().unwrap_or_default())))
    }

    fn take(&mut self, data: Bytes, wrote: bool) -> Result<Bytes, Fault> {
        self.taken += data.len() as u64;
        if self.limit > 0 && self.taken > self.limit {
            return Err(Fault::TooLong);
        }
        if self.is_lost {
            return Ok(data);
        }
        if wrote && self.taken > self.keep as u64 {
            self.is_lost = true;
            self.kept = vec![];
            self.sent = 0;
        } else {
            self.kept.push(data.clone());
            self.sent += 1;
        }
        Ok(data)
    }
}
