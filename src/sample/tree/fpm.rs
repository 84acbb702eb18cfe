//! php-fpm: a master above workers, which a reload replaces together with the master's own program.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::SignalKind;

use super::herd::{self, Herd};
use super::{End, Part, SampleArgs, no_signals, say, signals};

/// How long a worker may take once it was told by SIGTERM.
const AFTER_TERM: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Call {
    /// SIGQUIT: workers finish what they do.
    Quit,
    /// SIGTERM and SIGINT: workers end at once.
    Stop,
    /// SIGUSR2.
    Reload,
    Reopen,
    Child,
}

/// Why the workers are leaving, all of them.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    End,
    Reload,
}

/// The master. After a reload it is the same process, executed again.
pub(super) async fn lead(args: &SampleArgs) -> Result<End, String> {
    let (_listener, socket) = super::open(args).await?;
    let calls = signals::catch(&[
        (SignalKind::quit(), Some(Call::Quit)),
        (SignalKind::terminate(), Some(Call::Stop)),
        (SignalKind::interrupt(), Some(Call::Stop)),
        (SignalKind::user_defined2(), Some(Call::Reload)),
        (SignalKind::user_defined1(), Some(Call::Reopen)),
        (SignalKind::child(), Some(Call::Child)),
    ]);
    let mut calls = calls.map_err(no_signals)?;
    // Blocked since the execution: what came meanwhile is delivered now.
    SigSet::all().thread_unblock().map_err(|err| err.to_string())?;
    let mut herd = Herd::new("php-fpm: pool www", socket);
    (0..args.shape.workers).for_each(|it| herd.start(Part::Worker, it));
    let mut master = Master { herd, limit: args.max_wait_time, leaving: None, pressed: false };
    while master.leaving.is_none() || !master.herd.is_empty() {
        tokio::select! {
            Some(call) = calls.recv() => master.answer(call),
            () = master.herd.out_of_time() => master.press(),
        }
    }
    if master.leaving == Some(Leaving::Reload) {
        execute_again(socket).map(|never| match never {})?;
    }
    say("exiting, bye-bye");
    Ok(End::Drained)
}

struct Master {
    herd: Herd,
    /// process_control_timeout.
    limit: Duration,
    leaving: Option<Leaving>,
    /// Those who leave have got SIGTERM.
    pressed: bool,
}

impl Master {
    fn answer(&mut self, call: Call) {
        match call {
            Call::Reopen => say("logs reopened"),
            Call::Child => {
                let gaps = self.herd.reap();
                for it in gaps.into_iter().filter(|_| self.leaving.is_none()) {
                    self.herd.start(it.part, it.number);
                }
            }
            Call::Reload | Call::Quit if self.leaving.is_some() => {}
            Call::Reload => self.leave("reloading", Leaving::Reload, Signal::SIGQUIT),
            Call::Quit => self.leave("finishing", Leaving::End, Signal::SIGQUIT),
            Call::Stop => {
                self.herd.tell(Signal::SIGTERM);
                self.pressed = true;
                self.leave("terminating", Leaving::End, Signal::SIGTERM);
            }
        }
    }

    fn leave(&mut self, words: &str, why: Leaving, signal: Signal) {
        say(words);
        self.leaving = Some(why);
        let limit = if self.pressed { AFTER_TERM } else { self.limit };
        self.herd.renew(&[Part::Worker], signal, false, limit);
    }

    /// The time of those who leave is over: first SIGTERM, then SIGKILL.
    fn press(&mut self) {
        let (signal, limit) = match self.pressed {
            false => (Signal::SIGTERM, Some(AFTER_TERM)),
            true => (Signal::SIGKILL, None),
        };
        self.herd.press(signal, limit);
        self.pressed = true;
    }
}

/// Becomes the next master, which has the socket and this process's number.
fn execute_again(socket: RawFd) -> Result<Infallible, String> {
    let mut line = vec![OsString::from("php-fpm: master process (sample)")];
    line.extend(herd::own_line());
    line.extend(["--inherited".into(), socket.to_string().into()]);
    let line: Result<Vec<CString>, _> =
        line.into_iter().map(|it| CString::new(it.into_vec())).collect();
    let line = line.map_err(|err| err.to_string())?;
    // A signal would kill it before it is caught again.
    SigSet::all().thread_block().map_err(|err| err.to_string())?;
    let program = CString::new(herd::program().into_os_string().into_vec());
    nix::unistd::execv(&program.map_err(|err| err.to_string())?, &line)
        .map_err(|err| format!("cannot execute itself: {err}"))
}
