//! One connection of a client: hyper's server half, the bytes below it, and the clocks beside it.
//!
//! There are no timers. A connection notes since when it waits for what, in cells; the house looks at all of them
//! now and then ([`Conn::look`]) and wakes the one that has waited too long.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::control::Route;
use super::exchange::{Exchange, Waiting};
use super::guard::Guard;
use super::headers::Sender;
use super::instance::Ticket;
use super::table::{Gateway, Table};
use super::tunnel::{self, Tunnel};

/// What the parts of one connection share.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) number: u64,
    pub(super) table: Rc<Table>,
    pub(super) gateway: Rc<Gateway>,
    /// The settings of the moment it was accepted.
    pub(super) route: Rc<Route>,
    pub(super) sender: Sender,
    phase: Cell<Phase>,
    /// Milliseconds, of the phase.
    since: Cell<u64>,
    /// Of a request: what it waits for, and since when.
    waiting: Cell<Option<(Waiting, u64)>>,
    /// The client takes nothing; 0 if it does.
    blocked_since: Cell<u64>,
    pub(super) guard: RefCell<Guard>,
    pub(super) requests: Cell<u64>,
    /// The request in flight, until its last byte is out.
    pub(super) ticket: RefCell<Option<Ticket>>,
    /// All of the response is with hyper.
    body_done: Cell<bool>,
    pub(super) exchange: RefCell<Option<Exchange>>,
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    /// Room for the next head, to spare an allocation.
    pub(super) head: RefCell<Vec<u8>>,
    /// Interim responses that go before whatever hyper writes.
    early: RefCell<Vec<u8>>,
    pub(super) expired: Cell<Option<Expired>>,
    /// The next response says `Connection: close`.
    pub(super) is_closing: Cell<bool>,
    /// The response broke off: the client must not take what it has for all.
    pub(super) is_broken: Cell<bool>,
    /// Idle for long enough.
    may_park: Cell<bool>,
    pub(super) is_parked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Idle,
    /// Inside the head of a request.
    Head,
    /// A request is being answered.
    Busy,
    Tunnel,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Idle,
    Head,
    Body,
    Continue,
    Reply,
    Write,
    Tunnel,
}

/// An idle connection keeps hyper for this long, in milliseconds: its next request may be near.
const PARK: u64 = 200;
/// Interim responses that wait for a client, in bytes.
const EARLY: usize = 64 * 1024;
/// How long a body waits for `100 Continue` before it is sent without (RFC 9110 §10.1.1), in milliseconds.
const CONTINUE: u64 = 1_000;

impl Conn {
    pub(super) fn new(
        table: Rc<Table>,
        gateway: Rc<Gateway>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Rc<Self> {
        let route = gateway.route();
        let now = table.clock.micros() / 1000;
        let conn = Rc::new(Self {
            number: table.serial(),
            gateway,
            route,
            sender: Sender::new(peer, local),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            waiting: Cell::new(None),
            blocked_since: Cell::new(0),
            guard: RefCell::new(Guard::new()),
            requests: Cell::new(0),
            ticket: RefCell::default(),
            body_done: Cell::new(false),
            exchange: RefCell::default(),
            tunnel: RefCell::default(),
            head: RefCell::default(),
            early: RefCell::default(),
            expired: Cell::new(None),
            is_closing: Cell::new(table.is_retiring.get()),
            is_broken: Cell::new(false),
            may_park: Cell::new(false),
            is_parked: Cell::new(false),
            waker: RefCell::default(),
            table,
        });
        conn.table.conns.borrow_mut().insert(conn.number, Rc::downgrade(&conn));
        conn.gateway.connections.set(conn.gateway.connections.get() + 1);
        conn.table.reports.changed();
        conn
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.table.clock.coarse_ms());
    }

    /// A request's head is complete. Returns its number on this connection.
    pub(super) fn begin_request(&self) -> u64 {
        self.phase.set(Phase::Busy);
        self.body_done.set(false);
        // What was too slow before has nothing to do with this one.
        self.expired.set(None);
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// hyper has all of the response; it is over when that is flushed.
    pub(super) fn response_is_whole(&self) {
        self.body_done.set(true);
        self.waiting.set(None);
    }

    /// Notes what the request waits for; `moved` if it got any further since the last time.
    pub(super) fn waits(&self, waiting: Option<Waiting>, moved: bool) {
        let now = self.table.clock.coarse_ms();
        let since = match self.waiting.get() {
            Some((before, since)) if !moved && Some(before) == waiting => since,
            _ => now,
        };
        self.waiting.set(waiting.map(|it| (it, since)));
    }

    /// Passes an interim response on, before anything that hyper will write.
    pub(super) fn interim(&self, bytes: &[u8]) {
        let mut early = self.early.borrow_mut();
        // Whoever does not read them does without.
        if early.len() < EARLY {
            early.extend_from_slice(bytes);
        }
        drop(early);
        self.wake();
    }

    /// Whose task is to be woken.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Inside the head of a request, and since when.
    pub(super) fn asking_since(&self) -> Option<u64> {
        (self.phase.get() == Phase::Head).then(|| self.since.get())
    }

    /// Between two requests, and since when.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.phase.get() == Phase::Idle).then(|| self.since.get())
    }

    /// Ends the connection as soon as it is looked at.
    pub(super) fn expire(&self, expired: Expired) {
        if self.expired.get().is_none() {
            self.expired.set(Some(expired));
            self.wake();
        }
    }

    /// Wakes the connection if it has waited too long for something. Called by the house.
    pub(super) fn look(&self, now: u64) {
        let limits = &self.route.limits;
        let over = |since: u64, limit: u64| limit > 0 && now.saturating_sub(since) > limit;
        let blocked = self.blocked_since.get();
        if blocked > 0 && over(blocked, limits.write_timeout_ms) {
            return self.expire(Expired::Write);
        }
        match (self.phase.get(), self.waiting.get()) {
            (Phase::Idle, _) if over(self.since.get(), limits.idle_timeout_ms) => {
                self.expire(Expired::Idle);
            }
            (Phase::Idle, _) if !self.is_parked.get() && over(self.since.get(), PARK) => {
                self.may_park.set(true);
                self.wake();
            }
            (Phase::Head, _) if over(self.since.get(), limits.header_timeout_ms) => {
                self.expire(Expired::Head);
            }
            (Phase::Busy, Some((Waiting::Client, since)))
                if over(since, limits.body_timeout_ms) =>
            {
                self.expire(Expired::Body);
            }
            (Phase::Busy, Some((Waiting::Continue, since))) if over(since, CONTINUE) => {
                self.expire(Expired::Continue);
            }
            (Phase::Busy, Some((Waiting::Instance, since)))
                if over(since, limits.reply_timeout_ms) =>
            {
                self.expire(Expired::Reply);
            }
            (Phase::Tunnel, _) if self.outlives_its_instance(now) => self.expire(Expired::Tunnel),
            _ => {}
        }
    }

    /// The time is over for something that has no answer, unless it has just come.
    fn is_over(&self) -> bool {
        let still = match self.expired.get() {
            Some(Expired::Idle) => self.phase.get() == Phase::Idle,
            Some(Expired::Head) => self.phase.get() == Phase::Head,
            Some(Expired::Write) => self.is_blocked(),
            _ => return false,
        };
        if !still {
            self.expired.set(None);
        }
        still
    }

    fn outlives_its_instance(&self, now: u64) -> bool {
        self.ticket.borrow().as_ref().is_some_and(|ticket| {
            let it = ticket.instance();
            let wait = self.gateway.route.borrow().upgrade_wait_ms;
            !it.in_rotation.get() && now.saturating_sub(it.out_since.get()) >= wait
        })
    }

    /// Everything that hyper had was handed to the socket.
    fn flushed(&self) {
        self.blocked_since.set(0);
        if self.phase.get() == Phase::Busy && self.body_done.get() {
            self.ticket.take();
            let is_inside = self.guard.borrow().is_inside_head();
            self.enter(if is_inside { Phase::Head } else { Phase::Idle });
        }
    }

    fn received(&self, bytes: &[u8]) {
        self.guard.borrow_mut().take(bytes);
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// The client has not yet taken all that was written.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.get() > 0
    }

    fn blocked(&self) {
        if self.blocked_since.get() == 0 {
            self.blocked_since.set(self.table.clock.coarse_ms().max(1));
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.gateway.connections.set(self.gateway.connections.get() - 1);
        self.table.conns.borrow_mut().remove(&self.number);
        self.table.reports.changed();
        self.table.room.freed();
        if self.table.is_retiring.get() {
            self.table.reports.at_once();
        }
    }
}

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
                return Box::pin(tunnel::run(&conn, tcp, &early, tunnel)).await;
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
    conn.is_parked.set(true);
    let is_readable = std::future::poll_fn(|cx| {
        conn.watch(cx);
        if conn.is_over() {
            return Poll::Ready(false);
        }
        // An error is for hyper to find.
        tcp.poll_read_ready(cx).map(|_| true)
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
    // Of a connection that is parked nothing was read: that would have been the begin of a request.
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
    if conn.may_park.take() && conn.phase.get() == Phase::Idle {
        return Poll::Ready(End::Parked);
    }
    if let Some(exchange) = &mut *conn.exchange.borrow_mut()
        && !exchange.is_sent()
    {
        // A fault shows when the response is looked at.
        let _ = exchange.poll_send(cx);
    }
    Poll::Pending
}

/// The client's socket, as hyper sees it.
#[derive(Debug)]
struct ClientStream {
    tcp: TcpStream,
    conn: Rc<Conn>,
}

impl ClientStream {
    /// Writes what goes first. Pending: some of it is left.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut early = self.conn.early.borrow_mut();
        while !early.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, &early) {
                Poll::Ready(Ok(count)) => drop(early.drain(..count)),
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Pending => return Poll::Pending,
            }
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
