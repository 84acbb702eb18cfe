//! The children of one process of a tree: started, told, reaped, replaced.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Sleep, sleep};

use super::{Part, complain, title};

/// Children, and the time that those who were told to leave may take.
pub(super) struct Herd {
    /// What a child's command line begins with.
    line: Vec<OsString>,
    /// argv[0] of a child.
    name: &'static str,
    /// Each has one of its own, as Hyperf's.
    titles: bool,
    members: Vec<Member>,
    limit: Option<Pin<Box<Sleep>>>,
}

struct Member {
    part: Part,
    number: usize,
    child: Child,
    /// It was told to leave.
    leaves: bool,
    /// Somebody has taken its place already.
    replaced: bool,
}

/// A child that has ended and wants a successor.
pub(super) struct Gap {
    pub(super) part: Part,
    pub(super) number: usize,
}

impl Herd {
    /// Nobody yet; children are called `name` and inherit the socket with this number.
    pub(super) fn new(name: &'static str, socket: RawFd) -> Self {
        let mut line = own_line();
        line.extend(["--inherited".into(), socket.to_string().into()]);
        Self { line, name, titles: false, members: Vec::new(), limit: None }
    }

    /// As Hyperf's InitProcessTitleListener, if `wanted`.
    pub(super) fn with_titles(self, wanted: bool) -> Self {
        Self { titles: wanted, ..self }
    }

    fn title(&self, part: Part, number: usize) -> String {
        match part {
            _ if !self.titles => self.name.into(),
            Part::Manager => "sample.Manager".into(),
            Part::Worker => format!("sample.Worker.{number}"),
            Part::TaskWorker => format!("sample.TaskWorker.{number}"),
            Part::UserProcess => format!("sample.process.{number}"),
        }
    }

    pub(super) fn start(&mut self, part: Part, number: usize) {
        let mut command = Command::new(program());
        let value = title(part).replace(' ', "-");
        command.arg0(self.title(part, number)).args(&self.line);
        command.args(["--part", &value, "--number", &number.to_string()]);
        match command.spawn() {
            Ok(child) => {
                let (leaves, replaced) = (false, false);
                self.members.push(Member { part, number, child, leaves, replaced });
            }
            Err(error) => complain(&format!("cannot start a {}: {error}", title(part))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Somebody who was told to leave is still there.
    pub(super) fn is_leaving(&self) -> bool {
        self.members.iter().any(|it| it.leaves)
    }

    /// Sends a signal to all of them.
    pub(super) fn tell(&self, signal: Signal) {
        self.members.iter().for_each(|it| it.tell(signal));
    }

    /// Tells those of these parts to leave by `signal` within `limit`. Their successors are started at
    /// once, or when they have left.
    pub(super) fn renew(&mut self, parts: &[Part], signal: Signal, at_once: bool, limit: Duration) {
        let mut successors = vec![];
        for it in self.members.iter_mut().filter(|it| parts.contains(&it.part) && !it.leaves) {
            (it.leaves, it.replaced) = (true, at_once);
            it.tell(signal);
            if at_once {
                successors.push((it.part, it.number));
            }
        }
        for (part, number) in successors {
            self.start(part, number);
        }
        self.limit = Some(Box::pin(sleep(limit)));
    }

    /// Ends when those who were told to leave have had their time; never while nobody was told.
    pub(super) async fn out_of_time(&mut self) {
        match &mut self.limit {
            Some(it) => it.await,
            None => std::future::pending().await,
        }
    }

    /// Sends a last signal to those whose time is over, who may take `limit` for that too.
    pub(super) fn press(&mut self, signal: Signal, limit: Option<Duration>) {
        for it in self.members.iter().filter(|it| it.leaves) {
            complain(&format!(
                "force kill {} {}, pid {}",
                title(it.part),
                it.number,
                it.child.id()
            ));
            it.tell(signal);
        }
        self.limit = limit.map(|it| Box::pin(sleep(it)));
    }

    /// Reaps who has ended, and returns whose place is empty.
    pub(super) fn reap(&mut self) -> Vec<Gap> {
        let mut gaps = vec![];
        self.members.retain_mut(|it| {
            let Ok(Some(status)) = it.child.try_wait() else { return true };
            if !it.leaves {
                let pid = it.child.id();
                complain(&format!("{} {} (pid {pid}) ended: {status}", title(it.part), it.number));
            }
            if !it.replaced {
                gaps.push(Gap { part: it.part, number: it.number });
            }
            false
        });
        if !self.is_leaving() {
            self.limit = None;
        }
        gaps
    }
}

impl Member {
    /// It is a child that has not been reaped: its number is its own.
    fn tell(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        if let Err(error) = kill(pid, signal) {
            complain(&format!("cannot send {signal} to {pid}: {error}"));
        }
    }
}

/// This program by its own name: the kernel calls a process by the last step of the path.
pub(super) fn program() -> PathBuf {
    std::env::current_exe().ok().filter(|it| it.exists()).unwrap_or("/proc/self/exe".into())
}

/// This process's own arguments, without what says which part of the tree it is.
pub(super) fn own_line() -> Vec<OsString> {
    std::env::args_os().skip(1).take_while(|it| it != "--inherited").collect()
}

/// The manager ends with its master, by SIGTERM.
pub(super) fn end_with_parent(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    // It may have died before it was asked for that.
    if nix::unistd::getppid() != parent {
        return Err(io::Error::other("the master is gone"));
    }
    Ok(())
}
