//! What systemd is told, and what it says: readiness, reloads, the end, the watchdog, the journal, and
//! whether the host goes down.
//!
//! The protocol is one datagram a message (sd_notify(3)). Without `NOTIFY_SOCKET` nobody listens and nothing
//! is sent. Services never see these variables: their environment is made from nothing.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug};

use super::clock;
use super::turn::{Question, Turn, Turns};
use crate::process::command::{self, Command};
use crate::process::reaper::Reaper;

/// Variables of systemd's that are for this process alone.
pub const OWN_VARIABLES: [&str; 4] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"];

/// How long a question to systemd may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it is waited for to have heard something.
const MOST_UNHEARD: Duration = Duration::from_secs(5);

/// The way to whoever started this daemon, if it wants to hear.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How long systemd waits for a sign of life, in microseconds.
    watchdog_usec: Option<u64>,
}

impl Notifier {
    /// As the environment says (sd_notify(3), sd_watchdog_enabled(3)).
    pub fn from_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET");
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_for_us =
            variable("WATCHDOG_PID").is_none_or(|it| it == u64::from(std::process::id()));
        let to = name.and_then(|it| {
            let address = address(&it).inspect_err(|err| debug!(%err, "NOTIFY_SOCKET")).ok()?;
            let socket = UnixDatagram::unbound().ok()?;
            // A systemd that does not read must not hold up the fleet.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Self { to, watchdog_usec: variable("WATCHDOG_USEC").filter(|it| is_for_us && *it > 0) }
    }

    /// The daemon answers.
    pub fn ready(&self) {
        self.send(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// It reads its configuration again, or becomes another program; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_usec()));
    }

    /// From now on this process is the one to watch: only of the main one anything is heard (sd_notify(3)).
    pub fn hand_over(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// The process that was watched before is up, and is the one to watch again.
    pub fn hand_back(&self, pid: u32) {
        self.send(&format!("READY=1\nMAINPID={pid}"));
    }

    /// Returns once everything that was said before is heard (sd_notify_barrier(3)), or after
    /// `MOST_UNHEARD`.
    pub fn settle(&self) {
        if let Err(err) = self.barrier() {
            debug!(%err, "systemd was not waited for");
        }
    }

    /// systemd closes the descriptor that comes with the message, as whoever does not know it does.
    fn barrier(&self) -> io::Result<()> {
        let Some((socket, address)) = &self.to else { return Ok(()) };
        let address = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => UnixAddr::new(path)?,
            (None, Some(name)) => UnixAddr::new_abstract(name)?,
            (None, None) => return Ok(()),
        };
        let (ours, theirs) = io::pipe()?;
        let message = [IoSlice::new(b"BARRIER=1")];
        let rights = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        sendmsg(socket.as_raw_fd(), &message, &rights, MsgFlags::empty(), Some(&address))?;
        drop(theirs);
        let limit = Timespec::try_from(MOST_UNHEARD).map_err(io::Error::other)?;
        // Whether it is closed or the time is over: there is nothing more to wait for.
        poll(&mut [PollFd::new(&ours, PollFlags::HUP)], Some(&limit))?;
        Ok(())
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often systemd wants a sign of life: half of the time that it waits (sd_watchdog_enabled(3)).
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.to.as_ref()?;
        Some(Duration::from_micros(self.watchdog_usec? / 2))
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(err) = socket.send_to_addr(message.as_bytes(), address)
        {
            debug!(%err, message, "systemd was not told");
        }
    }

    /// Says that the daemon is ready once it is, and that it lives as long as it does: the driver itself
    /// must answer.
    pub async fn accompany(&self, turns: Turns, stop: CancellationToken) {
        if self.to.is_none() || !answers(&turns).await {
            return;
        }
        self.ready();
        let Some(period) = self.watchdog_period() else { return };
        let mut often = tokio::time::interval(period);
        often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = often.tick() => if answers(&turns).await { self.alive() },
            }
        }
    }
}

/// Waits until the driver has taken every turn before this one; false if it is gone.
pub async fn answers(turns: &Turns) -> bool {
    let (reply, answer) = oneshot::channel();
    turns.send(Turn::Ask(Question::Alive { reply })).await.is_ok() && answer.await.is_ok()
}

/// A path, or a name in the abstract namespace after `@` (unix(7)).
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name"))
        }
    }
}

/// Whether standard error is the journal (systemd.exec(5), `$JOURNAL_STREAM`: device and inode).
pub fn logs_to_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(io::stderr().as_fd()).is_ok_and(|it| told == format!("{}:{}", it.st_dev, it.st_ino))
}

/// An event for the journal: the priority before each line, which it takes off again (sd-daemon(3)). Each is an entry
/// of its own there.
pub(super) fn with_priority(level: Level, event: &[u8]) -> Vec<u8> {
    let priority = priority(level);
    let mut text = Vec::with_capacity(event.len() + 8);
    for line in event.split_inclusive(|it| *it == b'\n') {
        text.extend(format!("<{priority}>").as_bytes());
        text.extend(line);
    }
    text
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Whether the host is going down: then the end of the daemon is the end of everything.
///
/// systemd says so (systemctl(1), `is-system-running`); where it cannot be asked any more, logins are
/// forbidden by then (pam_nologin(8)). Other inits change to runlevel 0 or 6 (runlevel(8)).
pub async fn host_goes_down(reaper: &Reaper) -> bool {
    let is_there = Path::new("/run/systemd/system").is_dir();
    if is_there || std::env::var_os("NOTIFY_SOCKET").is_some() {
        return match said(reaper, &["systemctl", "is-system-running"]).await.as_deref() {
            Some("" | "offline" | "unknown") | None => Path::new("/run/nologin").exists(),
            Some(state) => state == "stopping",
        };
    }
    let level = said(reaper, &["runlevel"]).await.unwrap_or_default();
    matches!(level.split_whitespace().nth(1), Some("0" | "6"))
}

/// The last line that a command prints, whatever it exits with; `None` if it cannot be run or hangs.
async fn said(reaper: &Reaper, argv: &[&str]) -> Option<String> {
    let argv: Vec<_> = argv.iter().map(|it| (*it).to_owned()).collect();
    let text = |it: OsString| it.into_string().ok();
    let variables = std::env::vars_os().filter_map(|(name, it)| Some((text(name)?, text(it)?)));
    let environment: Vec<_> =
        variables.filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str())).collect();
    let command = Command {
        argv: &argv,
        directory: Some(Path::new("/")),
        environment: &environment,
        switch: None,
        timeout: PATIENCE,
        keep: 1024,
        leaves_nothing: true,
        outlives: false,
    };
    let ran = command::run(reaper, command).await.ok().filter(|it| !it.timed_out)?;
    Some(String::from_utf8_lossy(&ran.output).lines().last().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        let path = address(OsStr::new("/run/systemd/notify")).unwrap();
        assert_eq!(path.as_pathname(), Some(Path::new("/run/systemd/notify")));
        let name = address(OsStr::new("@notify")).unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"notify"[..]));
        assert!(address(OsStr::new("vsock:2:1234")).is_err());
    }

    #[test]
    fn every_line_of_an_event_has_its_priority() {
        assert_eq!(with_priority(Level::WARN, b"one\ntwo\n"), b"<4>one\n<4>two\n");
    }
}
