//! The last resort: a small process that sees a next program die before it was up, or hang, without a chance
//! to go back by itself.
//!
//! Started from the program before, right before this process becomes the next one. It holds the estate too,
//! so nothing closes; when the word comes that the daemon is up it ends. Otherwise it becomes the daemon:
//! only then the pid is another one, as nobody can give a dead process its number back.
//!
//! Meanwhile it is the main process to systemd, so what systemd sends to the service comes here. Signals that
//! are for a daemon are handed on to it; those that one which never came up cannot have acted on are for
//! the daemon that this process becomes.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{self, SigSet};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use super::estate::WayBack;
use crate::daemon::clock;
use crate::daemon::systemd::Notifier;
use crate::process::inherited;
use crate::process::signal::send;

/// A next program that watches itself has so many times its trial until it is taken for hung.
const TRIALS: u32 = 3;

/// The daemon is up.
const UP: u8 = b'u';
/// The program before begins once more.
const BACK: u8 = b'b';

/// The daemon's end of the line to its guardian.
#[derive(Debug)]
pub struct Line(pub OwnedFd);

impl Line {
    /// Nobody may guard any more.
    pub fn up(&self) {
        self.say(UP);
    }

    pub fn back(&self) {
        self.say(BACK);
    }

    fn say(&self, word: u8) {
        if let Ok(line) = self.0.try_clone() {
            let _ = File::from(line).write_all(&[word]);
        }
    }
}

/// Starts the guardian, and returns its pid. What it is to hold is open to children already; so is `list`, which
/// names it.
pub fn start(list: i32, ear: &OwnedFd, trial: Duration) -> io::Result<u32> {
    let own = Pid::from_raw(std::process::id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let daemon = pidfd_open(own, PidfdFlags::empty())?;
    let words = [
        "daemon".to_owned(),
        "--guard".to_owned(),
        format!("{list},{},{}", inherited::leave_open(&daemon)?, inherited::leave_open(ear)?),
        "--trial".to_owned(),
        format!("{}ms", trial.as_millis()),
    ];
    let mut command = Command::new("/proc/self/exe");
    // A ctrl-c for the daemon is none for it, and systemd's watchdog is for whoever is the main process.
    command.args(words).stdin(Stdio::null()).process_group(0).env_remove("WATCHDOG_PID");
    // Its end is taken by the reaper of whoever is the daemon then.
    command.spawn().map(|it| it.id())
}

/// Watches until the daemon is up; becomes it if it cannot be.
pub fn run(numbers: &[i32], trial: Duration) -> io::Result<()> {
    let &[list, daemon, ear] = numbers else { return Err(io::ErrorKind::InvalidInput.into()) };
    // Before there is another thread: one that does not block them would be ended by them.
    let mut post = Post::open(inherited::take(daemon)?)?;
    let way_back = WayBack::inherited(list)?;
    let ear = File::from(inherited::take(ear)?);
    // While it lives; later it is somebody else's, or nobody's.
    let guarded = getppid().map_or(0, |it| it.as_raw_pid().unsigned_abs());
    let systemd = Arc::new(Notifier::from_environment());
    live_for(systemd.clone())?;
    let Some(why) = watch(&mut post, ear, trial * TRIALS)? else {
        systemd.hand_back(guarded);
        // Until systemd has heard that, what it sends comes here.
        systemd.settle();
        post.hand_on();
        return Ok(());
    };
    post.keep();
    let Err(err) = take_over(&way_back, why);
    Err(err)
}

/// Signals to this process that are meant for the daemon.
#[derive(Debug)]
struct Post {
    signals: SignalFd,
    /// The process that was the daemon when this one was started, whatever its program is by now.
    daemon: OwnedFd,
    handed_on: SigSet,
}

impl Post {
    fn open(daemon: OwnedFd) -> io::Result<Self> {
        let all = inherited::held_back();
        all.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&all, flags)?;
        Ok(Self { signals, daemon, handed_on: SigSet::empty() })
    }

    /// Gives the daemon what has come. One that has no handler yet gets it once it has one.
    fn hand_on(&mut self) {
        while let Ok(Some(came)) = self.signals.read_signal() {
            let number = came.ssi_signo.cast_signed();
            if let Ok(signal) = signal::Signal::try_from(number) {
                self.handed_on.add(signal);
            }
            // It may be dead: then what it was is seen next.
            let _ = send(self.daemon.as_fd(), number);
        }
    }

    /// Leaves what was handed on in vain to the program that this process becomes: it waits like what comes
    /// from now on, which is blocked.
    fn keep(&self) {
        for signal in &self.handed_on {
            // To be replaced was tried.
            if signal != signal::Signal::SIGUSR2 {
                inherited::hold_back(signal);
            }
        }
    }
}

/// Gives systemd the signs of life that it wants of its main process, which is this one until the daemon is up. The
/// thread ends with the program.
fn live_for(systemd: Arc<Notifier>) -> io::Result<()> {
    let Some(period) = systemd.watchdog_period() else { return Ok(()) };
    let period = Timespec::try_from(period).map_err(|_| io::ErrorKind::InvalidInput)?;
    let signs = move || {
        loop {
            systemd.alive();
            // Nothing is waited for but the time.
            let _ = poll(&mut [], Some(&period));
        }
    };
    std::thread::Builder::new().spawn(signs).map(drop)
}

/// Returns why the daemon does not come up; `None`: it is up.
fn watch(post: &mut Post, mut ear: File, patience: Duration) -> io::Result<Option<String>> {
    let mut is_open = true;
    loop {
        match wait(post, is_open.then_some(&ear), patience)? {
            Seen::Word => {
                let mut word = [0];
                let length = ear.read(&mut word)?;
                if length == 1 && word[0] == UP {
                    return Ok(None);
                }
                // The program before has all the time once more; one that closed the line is waited for.
                is_open = length == 1;
            }
            Seen::Death => return Ok(Some("the next program died before it was up".into())),
            Seen::Nothing => {
                // Nobody but us knows that it hangs.
                let _ = pidfd_send_signal(&post.daemon, Signal::KILL);
                while wait(post, None, patience)? != Seen::Death {}
                let why = format!("the next program was not up after {patience:?}, and was killed");
                return Ok(Some(why));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Word,
    Death,
    Nothing,
}

/// Waits for what the daemon says or does; hands signals on meanwhile.
fn wait(post: &mut Post, ear: Option<&File>, patience: Duration) -> io::Result<Seen> {
    let passed = clock::stopwatch();
    loop {
        let left = patience.saturating_sub(passed());
        let limit = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut all = vec![
            PollFd::new(&post.daemon, PollFlags::IN),
            PollFd::new(&post.signals, PollFlags::IN),
        ];
        all.extend(ear.map(|it| PollFd::new(it, PollFlags::IN)));
        let came = match poll(&mut all, Some(&limit)) {
            Ok(0) => return Ok(Seen::Nothing),
            Ok(_) => all.iter().map(|it| !it.revents().is_empty()).collect::<Vec<_>>(),
            // Stopped and continued (signal(7)).
            Err(Errno::INTR) => continue,
            Err(err) => return Err(err.into()),
        };
        if came[1] {
            post.hand_on();
        }
        // A last word comes before the death of who said it.
        if came.get(2) == Some(&true) {
            return Ok(Seen::Word);
        }
        if came[0] {
            return Ok(Seen::Death);
        }
    }
}

fn take_over(way_back: &WayBack, why: String) -> io::Result<Infallible> {
    let pid = std::process::id();
    way_back.go(format!("{why}; the daemon is pid {pid} now"))
}
