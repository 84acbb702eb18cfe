//! A request that waits for somebody to answer it: it is counted, and has a place in the line.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::conn::Conn;
use super::table::Gateway;

/// Counts a request that waits, until it is dropped.
pub(super) struct Held(Rc<Conn>);

impl Held {
    pub(super) fn new(conn: &Rc<Conn>) -> Self {
        conn.gateway.held.set(conn.gateway.held.get() + 1);
        conn.table.reports.changed();
        Self(Rc::clone(conn))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.gateway.held.set(self.0.gateway.held.get() - 1);
        self.0.table.reports.changed();
    }
}

/// A place in the line, left when called, or when the client leaves.
pub(super) struct Waiting<'a> {
    gateway: &'a Gateway,
    number: u64,
    has_joined: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(gateway: &'a Gateway, number: u64) -> Self {
        Self { gateway, number, has_joined: false }
    }
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.gateway.line.borrow_mut();
        if self.has_joined && !line.is_waiting(self.number) {
            return Poll::Ready(());
        }
        line.wait(self.number, cx.waker());
        drop(line);
        self.has_joined = true;
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gateway.line.borrow_mut().leave(self.number);
    }
}
