//! What wakes the loop, and its clock.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::tui::key::Typed;
use crate::tui::model::Now;
use crate::tui::terminal::Terminal;
use crate::tui::update::Msg;

/// Why the loop ends.
pub(super) enum Ending {
    Asked,
    /// SIGTERM or SIGINT.
    Told,
    /// SIGHUP, or nothing can be read or written any more.
    NoTerminal,
}

/// What woke the loop.
pub(super) enum Wakeup {
    Msg(Msg),
    Typed(Typed),
    Stop,
    Size,
    /// All that was written is on its way.
    Written,
    End(Ending),
}

/// Returns once all is written to the terminal that the deck has.
pub(super) async fn drain(terminal: &mut Option<Terminal>) -> io::Result<()> {
    match terminal {
        Some(terminal) => terminal.output().drain().await,
        None => std::future::pending().await,
    }
}

/// The only place of the deck that looks at clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the deck's clock; everything else is given its time"
    )]
    pub(super) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        Now { mono: self.started.elapsed(), wall: Timestamp::now() }
    }

    pub(super) async fn sleep_until(self, at: Duration) {
        tokio::time::sleep_until(self.started + at).await;
    }
}

pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    stop: Signal,
    window: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            window: signal(SignalKind::window_change())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wakeup {
        tokio::select! {
            biased;
            _ = self.hangup.recv() => Wakeup::End(Ending::NoTerminal),
            _ = self.terminate.recv() => Wakeup::End(Ending::Told),
            _ = self.interrupt.recv() => Wakeup::End(Ending::Told),
            _ = self.stop.recv() => Wakeup::Stop,
            _ = self.window.recv() => Wakeup::Size,
        }
    }
}
