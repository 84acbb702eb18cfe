//! The sample as a server: it accepts, answers, and hands over to the drain.
//!
//! Connections are served one task each, straight on hyper, because what
//! happens to a connection at SIGTERM is what the sample is for.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::stats::Stats;
use super::{End, Order, SampleArgs, complain, drain, faults, routes, say};

/// How long a connection that was accepted from a passed socket may take until its first request, once
/// the drain has begun.
const FIRST_WORDS: Duration = Duration::from_millis(200);

/// What all connections see.
pub(super) struct Shared {
    pub(super) args: SampleArgs,
    pub(super) stats: Stats,
    /// Cancelled when the drain begins.
    pub(super) draining: CancellationToken,
    /// The connections on which a request has come. One that has sent half a
    /// request, or none, must not hold up a drain.
    pub(super) spoken: TaskTracker,
    /// The generation of workers: a change closes connections, if that is asked for.
    reloads: watch::Sender<u64>,
    ready: AtomicBool,
}

impl Shared {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

/// Serves until SIGTERM, then drains.
pub(super) async fn serve(
    listener: TcpListener,
    args: &SampleArgs,
    orders: &mut mpsc::Receiver<Order>,
) -> End {
    let shared = Arc::new(Shared {
        args: args.clone(),
        stats: Stats::new(),
        draining: CancellationToken::new(),
        spoken: TaskTracker::new(),
        reloads: watch::Sender::new(0),
        ready: AtomicBool::new(false),
    });
    if args.shape.part.is_none() {
        announce(&args.name, listener.local_addr());
    }
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept_all(&listener, &shared, &mut connections) => {}
        () = obey_until_term(&shared, orders) => {}
        never = be_ready(&shared) => match never {},
    }
    drain::drain(listener, connections, &shared, orders).await
}

/// Tells where clients find it.
pub(super) fn announce(name: &str, address: io::Result<SocketAddr>) {
    match address {
        Ok(address) => say(&format!("{name} listening on {address}")),
        Err(error) => complain(&format!("cannot tell the address of the listener: {error}")),
    }
}

async fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    if shared.args.faults.deaf {
        return std::future::pending().await;
    }
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // With a passed socket nobody need be turned away: who was accepted is heard.
                    let young = shared.args.listen_fd.then(|| shared.spoken.token());
                    connections.spawn(serve_connection(stream, Arc::clone(shared), young));
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Too many open files: the backlog keeps its connections until some are closed.
async fn pause_after(error: &io::Error) {
    complain(&format!("cannot accept a connection: {error}"));
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn obey_until_term(shared: &Shared, orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Term) if shared.args.faults.ignore_term => say("SIGTERM ignored"),
            Some(Order::Term) | None => return,
            Some(Order::Reload) if shared.args.tree.is_some() && !shared.args.has_threads() => {
                complain("a server of a single process cannot be reloaded");
            }
            Some(Order::Reload) => {
                let generation = shared.stats.reload();
                shared.reloads.send_replace(generation);
                say(&format!("reloaded: generation {generation}"));
            }
            Some(Order::Hangup) => say("SIGHUP caught"),
        }
    }
}

async fn be_ready(shared: &Shared) -> Infallible {
    faults::readiness(&shared.args, |ready| shared.ready.store(ready, Relaxed)).await;
    std::future::pending().await
}

async fn serve_connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    mut young: Option<TaskTrackerToken>,
) {
    let _open = shared.stats.connection();
    let mut reloads = shared.reloads.subscribe();
    let closes = shared.args.faults.close_on_reload;
    let cuts = shared.args.has_threads();
    // Held from the first request until the last answer is written out.
    let spoken = Arc::new(OnceLock::new());
    let service = service_fn(|request| {
        spoken.get_or_init(|| shared.spoken.token());
        routes::answer(Arc::clone(&shared), request)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // What goes wrong on a connection is its client's to tell.
    tokio::select! {
        biased;
        _ = &mut connection => return,
        () = shared.draining.cancelled() => {}
        _ = reloads.changed(), if cuts || closes => if cuts { return },
    }
    if let Some(young) = young.take().filter(|_| spoken.get().is_none()) {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = tokio::time::sleep(FIRST_WORDS) => {}
        }
        if spoken.get().is_none() {
            return;
        }
        drop(young);
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
