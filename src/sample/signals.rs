//! Turns signals into orders, so that everything else can be tested without.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Order;

/// Catches the signals that a sample knows; must be called before it says that
/// it is there. SIGHUP keeps its default action unless `hangup` is set.
pub(super) fn listen(orders: mpsc::Sender<Order>, hangup: bool) -> io::Result<()> {
    let mut kinds = vec![
        (signal(SignalKind::terminate())?, Order::Term),
        (signal(SignalKind::user_defined1())?, Order::Reload),
    ];
    if hangup {
        kinds.push((signal(SignalKind::hangup())?, Order::Hangup));
    }
    for (signal, order) in kinds {
        // These end with the receiver of the orders, that is with the process.
        tokio::spawn(forward(signal, order, orders.clone()));
    }
    Ok(())
}

/// The signals of a tree's process: each of these kinds comes out as what stands beside it. What stands
/// beside nothing is caught and does nothing.
pub(super) fn catch<T: Copy + Send + 'static>(
    kinds: &[(SignalKind, Option<T>)],
) -> io::Result<mpsc::Receiver<T>> {
    let (orders, received) = mpsc::channel(16);
    for (kind, order) in kinds {
        // Once caught it stays so, also when nobody listens.
        let caught = signal(*kind)?;
        if let Some(order) = order {
            tokio::spawn(forward(caught, *order, orders.clone()));
        }
    }
    Ok(received)
}

async fn forward<T: Copy>(mut signal: Signal, order: T, orders: mpsc::Sender<T>) {
    while signal.recv().await.is_some() {
        if orders.send(order).await.is_err() {
            return;
        }
    }
}
