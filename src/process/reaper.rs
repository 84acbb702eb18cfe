//! The only place that waits for children.
//!
//! As child subreaper, or as PID 1, we are handed strangers: whatever our instances left behind.
//! So there is one loop over `waitid(P_ALL)`, and whoever wants to know of a death registers
//! before it can be seen: [`Reaper::spawn`] holds the register while it starts the child. Deaths
//! of commands go to whoever awaits them; all others to the caller of [`Reaper::reap`], strangers
//! marked as such.

#![expect(unsafe_code, reason = "nix reports the pid 0 of an empty waitid as an error")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::spawn::{Given, Launch, Prepared, SpawnError, Spawned, can_overlap, spawn};

/// Threads that start many processes side by side.
const SPAWNERS: usize = 4;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled { signal: i32, core: bool },
}

/// A child of ours that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    pub pid: i32,
    pub status: Status,
    /// We did not start it: its parent died and left it to us.
    pub stranger: bool,
}

/// Everybody we started and did not see die yet. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reaper(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    children: BTreeMap<i32, Child>,
    /// One that [`Reaper::look`] has told of and that still has its pid.
    unburied: Option<i32>,
}

#[derive(Debug)]
enum Child {
    /// Its death goes to the caller of [`Reaper::reap`].
    Reported,
    Awaited(oneshot::Sender<Status>),
}

impl Reaper {
    /// Starts a process whose death [`Reaper::reap`] will report.
    pub fn spawn(&self, launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
        let mut register = self.locked();
        let spawned = spawn(launch)?;
        register.children.insert(spawned.identity.pid, Child::Reported);
        Ok(spawned)
    }

    /// Starts many at once, each as [`Reaper::spawn`] does, and returns what came of them in their order.
    ///
    /// A start lasts until the child executes its program, and a child in a session of its own waits
    /// for a processor like a stranger. Threads wait side by side, so a busy host costs that wait once.
    pub fn spawn_all(&self, starts: &[(&Prepared, Given<'_>)]) -> Vec<Result<Spawned, SpawnError>> {
        let mut register = self.locked();
        let spawners = if can_overlap() { SPAWNERS } else { 1 };
        let share = starts.len().div_ceil(spawners);
        let each = |part: &[(&Prepared, Given<'_>)]| {
            part.iter().map(|(it, given)| it.start(given)).collect::<Vec<_>>()
        };
        let all = if starts.len() <= SPAWNERS {
            each(starts)
        } else {
            std::thread::scope(|scope| {
                let begun = starts.chunks(share).map(|part| {
                    let thread = std::thread::Builder::new();
                    (part, thread.spawn_scoped(scope, move || each(part)))
                });
                let begun: Vec<_> = begun.collect();
                let done = begun.into_iter().map(|(part, thread)| match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|it| std::panic::resume_unwind(it)),
                    // The host has no thread for us; it may still have a process.
                    Err(_) => each(part),
                });
                done.flatten().collect()
            })
        };
        let pids = all.iter().flatten().map(|it| (it.identity.pid, Child::Reported));
        register.children.extend(pids);
        all
    }

    /// Starts a process whose death comes through the receiver instead.
    pub fn spawn_awaited(
        &self,
        launch: &Launch<'_>,
    ) -> Result<(Spawned, oneshot::Receiver<Status>), SpawnError> {
        let (sender, receiver) = oneshot::channel();
        let mut register = self.locked();
        let spawned = spawn(launch)?;
        register.children.insert(spawned.identity.pid, Child::Awaited(sender));
        Ok((spawned, receiver))
    }

    /// Tells of one child whose death is reported and leaves its pid to it until [`Reaper::reap`], which has
    /// to follow. `None`: there is none, or somebody else came first.
    ///
    /// The kernel takes as long to give a pid back as for a short start: whoever is to be started again
    /// need not wait for that.
    pub fn look(&self) -> io::Result<Option<Death>> {
        let Some((pid, status, child)) = self.next()? else { return Ok(None) };
        match child {
            Some(Child::Reported) => {
                self.locked().unburied = Some(pid);
                Ok(Some(Death { pid, status, stranger: false }))
            }
            Some(Child::Awaited(waiting)) => {
                // Nobody waits any more if the receiver was dropped.
                let _ = waiting.send(status);
                bury(pid).map(|()| None)
            }
            None => bury(pid).map(|()| None),
        }
    }

    /// Reaps every child that has ended; call it on SIGCHLD. Returns how many there were.
    ///
    /// SIGCHLDs that arrive together are one: this goes on until nobody is left. `each` is called
    /// while the pid still belongs to the dead, so it cannot name anybody else yet.
    pub fn reap(&self, mut each: impl FnMut(Death)) -> io::Result<usize> {
        let mut count = 0;
        let unburied = self.locked().unburied.take();
        unburied.map(bury).transpose()?;
        while let Some((pid, status, child)) = self.next()? {
            match child {
                // Nobody waits any more if the receiver was dropped.
                Some(Child::Awaited(waiting)) => drop(waiting.send(status)),
                Some(Child::Reported) => each(Death { pid, status, stranger: false }),
                None => each(Death { pid, status, stranger: true }),
            }
            bury(pid)?;
            count += 1;
        }
        Ok(count)
    }

    /// Counts a child among ours that was started before this process became this program.
    pub fn adopt(&self, pid: i32) {
        self.locked().children.entry(pid).or_insert(Child::Reported);
    }

    /// The pids of the children that we started and that still run.
    pub fn children(&self) -> BTreeSet<i32> {
        self.locked().children.keys().copied().collect()
    }

    /// Whether this pid is that of a child that we started and that still runs.
    pub fn has_started(&self, pid: i32) -> bool {
        self.locked().children.contains_key(&pid)
    }

    /// The children that we did not start; `None` if this kernel does not list children.
    ///
    /// If a leader of ours is reaped and there are none of these, then nothing of it is left: what
    /// it left behind would have become our child (see [`super::group::become_subreaper`]).
    pub fn strangers(&self) -> io::Result<Option<BTreeSet<i32>>> {
        let register = self.locked();
        let is_ours =
            |it: &i32| register.children.contains_key(it) || register.unburied == Some(*it);
        let mut strangers = BTreeSet::new();
        // Children belong to the thread that started them.
        for thread in fs::read_dir("/proc/self/task")? {
            let list = match fs::read_to_string(thread?.path().join("children")) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
                list => list?,
            };
            let pids = list.split_ascii_whitespace().filter_map(|it| it.parse().ok());
            strangers.extend(pids.filter(|it| !is_ours(it)));
        }
        Ok(Some(strangers))
    }

    /// Looks while nobody spawns: a child that could not execute is not ours to report.
    fn next(&self) -> io::Result<Option<(i32, Status, Option<Child>)>> {
        let mut register = self.locked();
        Ok(look()?.map(|(pid, status)| (pid, status, register.children.remove(&pid))))
    }

    fn locked(&self) -> MutexGuard<'_, Register> {
        // It is whole after every call on it, whatever panicked around it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next child that has ended, left unreaped.
fn look() -> io::Result<Option<(i32, Status)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is ours to write; zeroes are a valid siginfo_t, and remain if nobody ended.
    let (answer, info) =
        unsafe { (libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options), info.assume_init()) };
    if answer != 0 {
        let source = io::Error::last_os_error();
        return if source.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(source) };
    }
    // SAFETY: waitid fills in the fields of SIGCHLD, or none.
    let (pid, number) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => Status::Exited(number),
        code => Status::Signaled { signal: number, core: code == libc::CLD_DUMPED },
    };
    Ok((pid != 0).then_some((pid, status)))
}

/// Gives the pid back to the kernel.
fn bury(pid: i32) -> io::Result<()> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is ours to write; `pid` is an unreaped child of ours, so this does not wait.
    let answer =
        unsafe { libc::waitid(libc::P_PID, pid.cast_unsigned(), info.as_mut_ptr(), libc::WEXITED) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
