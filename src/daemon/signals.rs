//! What signals to the daemon mean.
//!
//! SIGTERM and SIGINT end it and keep the services; as PID 1 of a container there would be nobody left
//! to keep them, so there it is a full shutdown. SIGHUP and SIGUSR1 apply the configuration.

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config;
use super::turn::{Scope, Turn, Turns};

/// The signals the daemon listens to, registered before anything is started.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
}

impl Signals {
    pub fn register() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Turns signals into turns until `stop`.
    pub async fn listen(mut self, path: Option<PathBuf>, turns: Turns, stop: CancellationToken) {
        let keep = std::process::id() != 1;
        loop {
            let name = tokio::select! {
                () = stop.cancelled() => return,
                _ = self.term.recv() => None,
                _ = self.int.recv() => None,
                _ = self.hup.recv() => Some("SIGHUP"),
                _ = self.usr1.recv() => Some("SIGUSR1"),
            };
            match (name, &path) {
                (None, _) => {
                    // The driver is gone only when the daemon ends.
                    let _ = turns.send(Turn::Shutdown { by: None, keep, reply: None }).await;
                }
                (Some(name), Some(path)) => {
                    config::reload(path.clone(), Scope::Signal(name), &turns).await;
                }
                (Some(_), None) => (),
            }
        }
    }
}
