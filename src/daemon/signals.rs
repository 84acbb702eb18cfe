//! What signals to the daemon mean.
//!
//! SIGTERM and SIGINT end it and keep the services; as PID 1 of a container, or the child of an init that ends with it,
//! there would be nobody left to keep them, so there it is a full shutdown, and so it is while the host goes down. SIGHUP and SIGUSR1 apply the configuration, SIGUSR2 replaces
//! the program.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use nix::sys::signal::{self as mask, SigSet};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config;
use super::replace::Asked;
use super::systemd::{self, Notifier};
use super::turn::{Scope, Turn, Turns};
use crate::process::inherited;
use crate::process::reaper::Reaper;

/// SIGCHLD, as a descriptor: a handler, its pipe and a second round of the loop would stand between a
/// death and the next start.
#[derive(Debug)]
pub struct Children(AsyncFd<SignalFd>);

impl Children {
    /// Blocks SIGCHLD in this thread and those it starts; call it before there are others.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; the descriptor is open while it is owned"
    )]
    pub fn register() -> io::Result<Self> {
        // Never to run: but where SIGCHLD came to us ignored, the kernel would keep no statuses.
        drop(signal(SignalKind::child())?);
        let mut only = SigSet::empty();
        only.add(mask::Signal::SIGCHLD);
        only.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&only, flags)?;
        Ok(Self(AsyncFd::with_interest(signals, Interest::READABLE)?))
    }

    /// Returns when children may have ended since the last time. Nothing is lost when the wait is given
    /// up.
    pub async fn ended(&self) {
        let taken = |it: &SignalFd| match it.read_signal() {
            // Deaths that come together are one signal: whoever reaps goes on until nobody is left.
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(err) => Err(err.into()),
        };
        // It fails only with the runtime, or where there is no such descriptor: not here.
        let _: io::Result<()> = self.0.async_io(Interest::READABLE, taken).await;
    }
}

/// What the meaning of a signal depends on.
#[derive(Debug)]
pub struct Around {
    /// The configuration file.
    pub path: Option<PathBuf>,
    pub reaper: Reaper,
    /// Nothing outlives this process here.
    pub is_last: bool,
    pub systemd: Arc<Notifier>,
}

/// The signals the daemon listens to, registered before anything is started.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    pub fn register() -> std::io::Result<Self> {
        let it = Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        };
        // Those that came while this process became this program.
        inherited::let_signals_in()?;
        Ok(it)
    }

    /// Turns signals into turns until `stop`. What came too late for that is left to the next program, if
    /// there is one.
    pub async fn listen(mut self, around: Around, turns: Turns, stop: CancellationToken) {
        let Around { path, reaper, is_last, systemd } = around;
        loop {
            let name = tokio::select! {
                () = stop.cancelled() => return self.leave(),
                _ = self.usr2.recv() => {
                    let asked = Asked { by: None, program: None, reply: None };
                    let _ = turns.send(Turn::Replace(asked)).await;
                    continue;
                }
                _ = self.term.recv() => None,
                _ = self.int.recv() => None,
                _ = self.hup.recv() => Some("SIGHUP"),
                _ = self.usr1.recv() => Some("SIGUSR1"),
            };
            match (name, &path) {
                (None, _) => {
                    let asked = stop.run_until_cancelled(keeps(&reaper, is_last)).await;
                    let Some(keep) = asked else {
                        inherited::hold_back(mask::Signal::SIGTERM);
                        return self.leave();
                    };
                    // The driver is gone only when the daemon ends.
                    let _ = turns.send(Turn::Shutdown { by: None, keep, reply: None }).await;
                }
                (Some(name), Some(path)) => {
                    systemd.reloading();
                    config::reload(path.clone(), Scope::Signal(name), &turns).await;
                    if systemd::answers(&turns).await {
                        systemd.ready();
                    }
                }
                (Some(_), None) => (),
            }
        }
    }

    fn leave(mut self) {
        let all = [
            (&mut self.term, mask::Signal::SIGTERM),
            (&mut self.int, mask::Signal::SIGINT),
            (&mut self.hup, mask::Signal::SIGHUP),
            (&mut self.usr1, mask::Signal::SIGUSR1),
            (&mut self.usr2, mask::Signal::SIGUSR2),
        ];
        for (came, signal) in all {
            if came.recv().now_or_never().is_some() {
                inherited::hold_back(signal);
            }
        }
    }
}

/// Whether services run on after a signal to end.
async fn keeps(reaper: &Reaper, is_last: bool) -> bool {
    !is_last && !systemd::host_goes_down(reaper).await
}
