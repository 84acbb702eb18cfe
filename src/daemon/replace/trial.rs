//! The time between the first instruction of a new program and its first answer.
//!
//! A program that ends meanwhile, by a mistake or a panic, becomes the program before again, and so does
//! one that takes too long: a thread of its own watches, whatever the others do. The pid stays the same.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigSet;

use super::estate::WayBack;

/// Dropped by a panic before it is passed, it has failed. Clones are the same trial.
#[derive(Clone, Debug)]
pub struct Trial {
    way_back: Arc<Mutex<Option<WayBack>>>,
    passed: Sender<()>,
}

impl Trial {
    /// Begins to watch.
    pub fn begin(way_back: WayBack, patience: Duration) -> io::Result<Self> {
        let way_back = Arc::new(Mutex::new(Some(way_back)));
        let (sender, receiver) = channel::<()>();
        let kept = way_back.clone();
        std::thread::Builder::new().name("trial".into()).spawn(move || {
            // No signal is for this thread.
            let _ = SigSet::all().thread_block();
            if receiver.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                go_back(&kept, &format!("the next program was not up after {patience:?}"));
            }
        })?;
        Ok(Self { way_back, passed: sender })
    }

    /// This program is up.
    pub fn pass(&self) {
        drop(self.way_back.lock().unwrap_or_else(PoisonError::into_inner).take());
        // The watch may be over.
        let _ = self.passed.send(());
    }

    /// This program cannot go on. Returns only if it was up, or if there is no way back.
    pub fn fail(&self, why: &str) {
        go_back(&self.way_back, why);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("the next program panicked before it was up");
        }
    }
}

fn go_back(way_back: &Mutex<Option<WayBack>>, why: &str) {
    // Held until the end: whoever comes second waits, and is gone with this program.
    let mut way_back = way_back.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(it) = way_back.take() else { return };
    tracing::error!(why, "going back to the program before");
    let Err(err) = it.go(why.to_owned());
    tracing::error!(%err, "there is no way back");
}
