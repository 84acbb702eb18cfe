//! The last resort: a small process that sees a next program die before it was up, or hang, without a chance
//! to go back by itself.
//!
//! Started from the program before, right before this process becomes the next one. It holds the estate too,
//! so nothing closes; when the word comes that the daemon is up it ends. Otherwise it becomes the daemon:
//! only then the pid is another one, as nobody can give a dead process its number back.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use super::estate::WayBack;
use crate::daemon::systemd::Notifier;
use crate::process::inherited;

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
    let way_back = WayBack::inherited(list)?;
    let daemon = inherited::take(daemon)?;
    let ear = File::from(inherited::take(ear)?);
    // While it lives; later it is somebody else's, or nobody's.
    let guarded = getppid().map_or(0, |it| it.as_raw_pid().unsigned_abs());
    let systemd = Arc::new(Notifier::from_environment());
    live_for(systemd.clone())?;
    let Some(why) = watch(&daemon, ear, trial * TRIALS)? else {
        systemd.hand_back(guarded);
        return Ok(());
    };
    let Err(err) = take_over(&way_back, why);
    Err(err)
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
fn watch(daemon: &OwnedFd, mut ear: File, patience: Duration) -> io::Result<Option<String>> {
    let mut is_open = true;
    loop {
        match wait(daemon, is_open.then_some(&ear), patience)? {
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
                let _ = pidfd_send_signal(daemon, Signal::KILL);
                while wait(daemon, None, patience)? != Seen::Death {}
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

fn wait(daemon: &OwnedFd, ear: Option<&File>, patience: Duration) -> io::Result<Seen> {
    let limit = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut all = vec![PollFd::new(daemon, PollFlags::IN)];
    all.extend(ear.map(|it| PollFd::new(it, PollFlags::IN)));
    match poll(&mut all, Some(&limit)) {
        Ok(0) => Ok(Seen::Nothing),
        // A last word comes before the death of who said it.
        Ok(_) if all.get(1).is_some_and(|it| !it.revents().is_empty()) => Ok(Seen::Word),
        Ok(_) => Ok(Seen::Death),
        // Stopped and continued (signal(7)): begin again.
        Err(Errno::INTR) => wait(daemon, ear, patience),
        Err(err) => Err(err.into()),
    }
}

fn take_over(way_back: &WayBack, why: String) -> io::Result<Infallible> {
    let pid = std::process::id();
    way_back.go(format!("{why}; the daemon is pid {pid} now"))
}
