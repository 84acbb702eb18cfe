//! How long a client may take to say what it wants.
//!
//! A connection may lie idle for as long as it likes (the deck's does, so that a key after minutes costs no new one)
//! and an answer may go on for days. But a request that has begun must be there in time, or its descriptor would be
//! anybody's for nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// From the first byte of a request to the end of its head, and from there to the end of its body; what nginx gives a
/// head (`client_header_timeout`).
pub(in crate::daemon) const REQUEST_TIME: Duration = Duration::from_secs(60);

/// What whoever took longer is told before the end of the connection (RFC 9110, 15.5.9).
pub(in crate::daemon) const TOO_SLOW: &str = "HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/problem+json\r\nconnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":408,\"title\":\"the request did not come to its end\",\
    \"detail\":\"a request must be there a minute after its first byte\",\"help\":null}\n";

/// Nobody speaks, or the daemon does.
const IDLE: u8 = 0;
/// Some of a head has come.
const HEAD: u8 = 1;
/// A request was understood and is not answered yet.
const ASKED: u8 = 2;

/// What is going on on a connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Stage(Arc<AtomicU8>);

impl Stage {
    /// A head has come to its end.
    pub(in crate::daemon) fn asked(&self) {
        self.0.store(ASKED, Ordering::Relaxed);
    }

    /// Bytes of an answer are sent.
    pub(in crate::daemon) fn answered(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Bytes have come; true if they begin a request.
    fn heard(&self) -> bool {
        self.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }
}

/// The time that is left for the head under way.
#[derive(Debug, Default)]
pub(in crate::daemon) struct HeadTime(Option<Pin<Box<Sleep>>>);

impl HeadTime {
    /// Bytes have come.
    pub(in crate::daemon) fn heard(&mut self, stage: &Stage) {
        if stage.heard() {
            self.0 = None;
        }
    }

    /// No more bytes are there for now: ready once a head that began takes too long.
    pub(in crate::daemon) fn poll_over(&mut self, stage: &Stage, cx: &mut Context<'_>) -> Poll<()> {
        if !stage.is_head() {
            self.0 = None;
            return Poll::Pending;
        }
        // Heads that come in one piece never get here, and cost no timer.
        let time = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(REQUEST_TIME)));
        time.as_mut().poll(cx)
    }
}
