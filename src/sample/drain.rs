//! What happens at SIGTERM.
//!
//! The well-behaved drain closes the listener, closes idle connections, lets
//! what is in flight finish for at most `--max-wait-time` and cuts the rest.
//! Like Swoole it exits 0 even then: only the line that it prints tells.

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::server::Shared;
use super::{End, Order, say};

/// Finishes what is in flight and closes everything.
pub(super) async fn drain(
    listener: TcpListener,
    mut connections: JoinSet<()>,
    shared: &Shared,
    orders: &mut mpsc::Receiver<Order>,
) -> End {
    let limit = shared.args.max_wait_time;
    let in_flight = shared.stats.in_flight() as usize;
    if shared.args.cuts_at_term() {
        connections.shutdown().await;
        sleep(shared.args.faults.linger).await;
        return ended(in_flight);
    }
    say(&format!("SIGTERM: draining {in_flight} in flight for at most {limit:?}"));
    // Kept open and deaf it lets the kernel accept clients that nobody serves.
    let _deaf = shared.args.faults.deaf_drain.then_some(listener);
    shared.spoken.close();
    shared.draining.cancel();

    tokio::select! {
        biased;
        answered = timeout(limit, shared.spoken.wait()) => match answered {
            Ok(()) => ended(0),
            // Idle connections have closed by now: each of these waits for its answer.
            Err(_) => ended(shared.spoken.len()),
        },
        () = second_term(orders), if shared.args.shape.part.is_none() => End::ToldTwice,
    }
}

fn ended(cut: usize) -> End {
    match cut {
        0 => {
            say("stopped: everything was answered");
            End::Drained
        }
        1 => {
            say("stopped: 1 request was cut");
            End::Cut(1)
        }
        _ => {
            say(&format!("stopped: {cut} requests were cut"));
            End::Cut(cut)
        }
    }
}

/// Ends at the next SIGTERM. Reloads are not for a server that is leaving.
pub(super) async fn second_term(orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Term) => return,
            Some(Order::Reload | Order::Hangup) => {}
            // Without anybody who could give it there is no second one.
            None => std::future::pending().await,
        }
    }
}
