//! The counters behind `/stats`, named as Swoole names them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::SampleArgs;
use super::options::Concurrency;

#[derive(Debug)]
pub(super) struct Stats {
    start_time: u64,
    accepted: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    responses: AtomicU64,
    in_flight: AtomicU64,
    reloads: AtomicU64,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            start_time: unix_time(),
            accepted: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
        }
    }

    /// Counts a connection until the result is dropped.
    pub(super) fn connection(&self) -> Counted<'_> {
        self.accepted.fetch_add(1, Relaxed);
        Counted { stats: self, what: What::Connection }
    }

    /// Counts a request as in flight until the result is dropped.
    pub(super) fn request(&self) -> Counted<'_> {
        self.requests.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        Counted { stats: self, what: What::Request }
    }

    pub(super) fn answered(&self) {
        self.responses.fetch_add(1, Relaxed);
    }

    /// Counts a reload and returns the generation it began.
    pub(super) fn reload(&self) -> u64 {
        self.reloads.fetch_add(1, Relaxed) + 2
    }

    /// Requests that were received and not answered.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// What `/stats` answers. Each worker of a tree counts for itself. `concurrency` counts the asking request too, as
    /// Swoole's does.
    pub(super) fn report(&self, args: &SampleArgs) -> Value {
        let workers = if args.tree.is_some() { args.shape.workers } else { 1 };
        let (accepted, closed) = (self.accepted.load(Relaxed), self.closed.load(Relaxed));
        let in_flight = match args.faults.concurrency {
            None => self.in_flight(),
            Some(Concurrency::Never) => 1,
            Some(Concurrency::Phantom) => self.in_flight() + 1,
        };
        json!({
            "name": args.name,
            "version": args.app_version,
            "pid": std::process::id(),
            "generation": self.reloads.load(Relaxed) + 1,
            "start_time": self.start_time,
            "connection_num": accepted - closed,
            "abort_count": 0,
            "accept_count": accepted,
            "close_count": closed,
            "worker_num": workers,
            "task_worker_num": args.shape.task_workers,
            "user_worker_num": usize::from(args.shape.user_process),
            "idle_worker_num": workers,
            "dispatch_count": self.requests.load(Relaxed),
            "request_count": self.requests.load(Relaxed),
            "response_count": self.responses.load(Relaxed),
            "concurrency": in_flight,
            "worker_concurrency": in_flight,
        })
    }
}

/// Something that is counted as long as it lives.
pub(super) struct Counted<'a> {
    stats: &'a Stats,
    what: What,
}

enum What {
    Connection,
    Request,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        match self.what {
            What::Connection => self.stats.closed.fetch_add(1, Relaxed),
            What::Request => self.stats.in_flight.fetch_sub(1, Relaxed),
        };
    }
}

#[expect(clippy::disallowed_methods, reason = "start_time of /stats is wall-clock time")]
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}
