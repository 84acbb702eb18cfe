//! What the rules go by, as plain data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::rules::Profile;
use crate::fleet::words::{Name, Signal};
use crate::quantity::count;

/// Everything that is known about one instance.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub case: Case,
    /// How its last stops went, oldest first.
    pub stops: Vec<PastStop>,
    /// Its processes, each after its parent.
    pub tree: Vec<Member>,
    /// The accept queue of its port.
    pub queue: Option<Queue>,
    /// Whatever listens on its port.
    pub listeners: Vec<Listener>,
    /// Workers that ended while their leader stayed and nothing was reloaded.
    pub churn: Option<Churn>,
    /// Requests a second, where somebody counts them.
    pub rate: Option<f64>,
}

/// What the fleet knows of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub instance: Name,
    pub service: Name,
    pub profile: Arc<Profile>,
    /// It should run.
    pub wanted: bool,
    pub max_wait_time: Duration,
    /// The first signal of its stop ladder.
    pub begins_with: Option<Signal>,
    /// A gateway stands in front.
    pub fronted: bool,
    pub port: Option<u16>,
    /// Workers that the last reload had to renew, if that was lately.
    pub renewed: usize,
    /// The last rolling restart has begun this generation.
    pub rolled: Option<Rolled>,
    /// How often in a row it ended well right after its start and left others behind.
    pub detached: u32,
    /// It was told to end and has not.
    pub leaving: Option<Leaving>,
}

/// A rolling restart that has renewed an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rolled {
    /// The service has commands that bring back what ran before.
    Reversible,
    Final,
}

/// A stop whose first signal is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The last one that was sent.
    pub signal: Signal,
    /// Since the first signal.
    pub ago: Duration,
    /// Until SIGKILL; zero once it was sent.
    pub left: Duration,
}

/// A stop that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastStop {
    /// `SIGTERM`; empty where none but SIGKILL was sent.
    pub signal: String,
    /// From the first signal to the exit.
    pub after: Duration,
    /// From it to the moment when the last request was cut, where that is known.
    pub cut_after: Option<Duration>,
    pub max_wait_time: Duration,
    /// SIGKILL was needed.
    pub killed: bool,
    /// Requests that were in flight at the exit.
    pub lost: u32,
    /// Those of them that came when it was being stopped already.
    pub late: u32,
    /// Who lived when SIGKILL was due, and what each was at.
    pub lived: Vec<String>,
}

impl PastStop {
    /// When it cut what it lost.
    pub(super) fn cut(&self) -> Duration {
        self.cut_after.unwrap_or(self.after)
    }
}

/// One process of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub pid: i32,
    pub name: String,
    /// By its profile: `worker`.
    pub role: Option<String>,
    pub leads: bool,
    /// Its parent is none of the tree's, and it is not the leader.
    pub orphan: bool,
    /// proc_pid_stat(5); `\0` where it is not known.
    pub state: char,
    /// What it waits for, in words: `waits for events (epoll_wait)`.
    pub call: Option<String>,
    /// What it does with the signal that was sent.
    pub taken: Taken,
    pub children: usize,
    /// Established TCP connections that it has open.
    pub connections: usize,
    /// Timers of the kernel: timerfd_create(2), timer_create(2).
    pub timers: usize,
    /// It has a listening socket of the port.
    pub listens: bool,
    /// By its profile it may close every connection at the first signal of its stop.
    pub cuts: bool,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taken {
    /// It is caught, or nothing is known.
    #[default]
    Caught,
    Ignored,
    /// It was sent and waits: the process blocks it, or stands still.
    Pending,
}

impl Member {
    /// `master php (pid 4711)`.
    pub(super) fn title(&self) -> String {
        let role = self.role.as_ref().map_or(String::new(), |it| format!("{it} "));
        format!("{role}{} (pid {})", self.name, self.pid)
    }
}

impl fmt::Display for Member {
    /// `master php (pid 4711) waits for events (epoll_wait), 2 children, 1 connection, 3 timers`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title())?;
        match (self.state, &self.call) {
            ('T' | 't', _) => f.write_str(" stands still (SIGSTOP or a debugger)")?,
            ('D', Some(call)) => write!(f, " {call}, and no signal wakes it (state D)")?,
            ('D', None) => {
                f.write_str(" sleeps in the kernel, and no signal wakes it (state D)")?;
            }
            (_, Some(call)) => write!(f, " {call}")?,
            ('R', None) => f.write_str(" runs")?,
            (_, None) => {}
        }
        let numbers =
            [(self.children, "child"), (self.connections, "connection"), (self.timers, "timer")];
        for (n, what) in numbers.into_iter().filter(|it| it.0 > 0) {
            match (n, what) {
                (2.., "child") => write!(f, ", {n} children")?,
                _ => write!(f, ", {}", count(n as u64, what))?,
            }
        }
        Ok(())
    }
}

/// Connections that nobody has accepted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub waiting: u32,
    /// The backlog of listen(2).
    pub limit: u32,
    /// net.core.somaxconn: no backlog is longer (listen(2)).
    pub most: Option<u32>,
    /// Sockets that listen on the port; where one of several is full, the numbers are its own.
    pub listeners: u32,
}

/// Workers that came and went, as far as somebody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    pub ended: usize,
    /// Since the first of those ends was noticed.
    pub within: Duration,
    /// None of them was older.
    pub oldest: Duration,
    pub leader_age: Duration,
}

/// A listening socket on the instance's port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// `0.0.0.0:9502`.
    pub address: String,
    /// Some process of the tree has it.
    pub own: bool,
    /// Who else has it, oldest first; of one that is its own nobody is looked for.
    pub strangers: Vec<Stranger>,
}

/// A process that listens and is none of the tree's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    pub pid: i32,
    pub name: String,
    pub age: Duration,
    /// Its parent has died, and whoever led its process group.
    pub orphan: bool,
    /// The instance whose mark it carries in its environment.
    pub of: Option<String>,
    /// That one is another instance, and runs.
    pub runs: bool,
}
