//! The body of a response on its way to the client: whole, or piece by piece as the instance sends it.
//!
//! A piece is asked for when the one before was taken, so an instance is never faster than its client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame, SizeHint};

use super::conn::{Conn, Expired};
use super::exchange::Exchange;
use super::instance::{End, add};
use super::reply::Piece;

#[derive(Debug)]
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Streamed(Stream),
}

/// The exchange itself is with the connection, which goes on with the upload when nobody asks for the body.
#[derive(Debug)]
pub(super) struct Stream {
    conn: Rc<Conn>,
    status: StatusCode,
    length: Option<u64>,
    is_over: bool,
    /// What is to be said when what came before is with the client.
    broken: Option<&'static str>,
}

impl Stream {
    /// Takes over an exchange whose body is not yet over.
    pub(super) fn new(conn: &Rc<Conn>, exchange: Exchange, status: StatusCode) -> Self {
        let length = exchange.answer().exact();
        *conn.exchange.borrow_mut() = Some(exchange);
        Self { conn: Rc::clone(conn), status, length, is_over: false, broken: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let conn = Rc::clone(&self.conn);
        if let Some(why) = self.broken {
            return if conn.is_blocked() { Poll::Pending } else { self.breaks(why) };
        }
        let mut slot = conn.exchange.borrow_mut();
        let Some(exchange) = &mut *slot else { return Poll::Ready(None) };
        let polled = exchange.poll_body(cx, &mut conn.table.block.borrow_mut());
        let moved = account(&conn, exchange);
        if polled.is_pending() {
            let expired = conn.expired.get();
            if expired == Some(Expired::Reply) {
                drop(slot);
                return self.breaks("it went silent in the middle of its answer");
            }
            if expired == Some(Expired::Body) {
                drop(slot);
                return self.ends("the client went silent in the middle of its request");
            }
            conn.waits(Some(exchange.waits_for()), moved);
            return Poll::Pending;
        }
        conn.waits(None, true);
        let is_over = exchange.answer().is_over();
        drop(slot);
        let frame = match ready!(polled) {
            Err(why) => {
                // hyper drops what it has not written when it sees an error; so let it write first.
                self.broken = Some(why);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End | Piece::More) => None,
        };
        if is_over {
            self.is_over = true;
            let exchange = conn.exchange.borrow_mut().take();
            if let Some(exchange) = exchange {
                finish(&conn, exchange, self.status);
            }
        }
        Poll::Ready(frame)
    }

    /// The instance's fault: the client is told by the end of its connection.
    fn breaks(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if let Some(ticket) = &mut *self.conn.ticket.borrow_mut() {
            ticket.ends(End::Cut);
            let instance = ticket.instance();
            instance.reports.cut(instance, 1, 0, why.into());
        }
        self.ends(why)
    }

    /// Ends both connections.
    fn ends(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.is_over = true;
        self.conn.exchange.borrow_mut().take();
        self.conn.is_broken.set(true);
        self.conn.ticket.borrow_mut().take();
        Poll::Ready(Some(Err(why)))
    }
}

/// Adds what moved since the last time to the instance's totals; true if anything did.
pub(super) fn account(conn: &Conn, exchange: &mut Exchange) -> bool {
    let (sent, received) = std::mem::take(&mut exchange.moved);
    if let Some(ticket) = &*conn.ticket.borrow() {
        let totals = &ticket.instance().totals;
        add(&totals.bytes_in, sent);
        add(&totals.bytes_out, received);
    }
    sent + received > 0
}

/// The answer is whole: its connection waits for another request, and ours ends with the next flush.
pub(super) fn finish(conn: &Conn, exchange: Exchange, status: StatusCode) {
    conn.was_answered(exchange.is_sent());
    if let Some(ticket) = &mut *conn.ticket.borrow_mut() {
        ticket.ends(End::Answered(status));
        let instance = ticket.instance();
        if let Some(link) = exchange.into_reusable()
            && instance.in_rotation.get()
        {
            instance.pool.borrow_mut().put(link, conn.table.clock.coarse_ms());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.is_over {
            // The client left: so does our request.
            self.conn.exchange.borrow_mut().take();
            self.conn.ticket.borrow_mut().take();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(data) => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Self::Streamed(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(data) => data.is_none(),
            Self::Streamed(stream) => stream.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = match self {
            Self::Whole(data) => Some(data.as_ref().map_or(0, |it| it.len() as u64)),
            Self::Streamed(stream) => stream.length,
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
