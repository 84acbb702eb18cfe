//! Sees processes end: reaps, finds what a leader left behind, kills whole groups.
//!
//! A generation is over when nothing of its group lives. Until then the fleet hears nothing of it, so
//! it cannot start the next one.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tracing::warn;

use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::{Hands, Living};
use crate::daemon::kept::state::Line;
use crate::daemon::turn::Turn;
use crate::fleet::input::{Exit, Input, OutOfMemory, Status};
use crate::fleet::rules::Restart;
use crate::fleet::sheet::Condition;
use crate::fleet::{Name, Process, Signal, Timestamp};
use crate::logger::ToLogger;
use crate::process::exec_as::Verdict;
use crate::process::oom::Rise;
use crate::process::pidfd;
use crate::process::reaper::{self, Death, Reaper};

/// Flushes that are waited for at most.
const MOST_FLUSHES: usize = 4096;
/// Between two looks at a group that does not die at once.
const LOOK: Duration = Duration::from_millis(20);

impl Hands {
    /// Takes the status of one child that ended, before its pid is given back: what follows from its
    /// death does not wait for that. [`Hands::reap`] has to come next. Returns false if there is none.
    pub fn reap_first(&mut self) -> bool {
        let death = self.reaper.look().unwrap_or_else(|err| {
            warn!(%err, "children could not be waited for");
            None
        });
        self.on_deaths(death.as_slice());
        death.is_some()
    }

    /// Takes the statuses of all children that ended.
    pub fn reap(&mut self) {
        let mut deaths = vec![];
        let reaper = self.reaper.clone();
        if let Err(err) = reaper.reap(|death| deaths.push(death)) {
            warn!(%err, "children could not be waited for");
        }
        self.on_deaths(&deaths);
        self.look_at_groups();
    }

    fn on_deaths(&mut self, deaths: &[Death]) {
        let leaders: Vec<_> =
            deaths.iter().filter_map(|it| self.leaders.get(&it.pid).cloned()).collect();
        self.look_at_losses(&leaders);
        for death in deaths {
            self.on_death(death);
        }
    }

    fn on_death(&mut self, death: &Death) {
        let Some(name) = self.leaders.remove(&death.pid) else { return };
        self.leader_ended(&name, told(death.status));
    }

    /// An adopted leader has ended. It may be about one that was let go of since: generations are counted anew
    /// after that.
    pub fn adopted_exit(&mut self, end: &AdoptedExit) {
        let AdoptedExit { instance: name, process, generation, status, .. } = end;
        let status = status.map_or(Status::Unknown, told);
        let living = self.living.get(name);
        if living.is_some_and(|it| it.process == *process && it.sweeping.is_none()) {
            // The number may be another leader's by now.
            if self.leaders.get(&process.pid) == Some(name) {
                self.leaders.remove(&process.pid);
            }
            self.look_at_losses(std::slice::from_ref(name));
            self.leader_ended(name, status);
        } else if status != Status::Unknown
            && living.is_none_or(|it| it.process == *process || it.generation != *generation)
        {
            // Its end was told already, how it ended was not.
            let exit = Exit { status, out_of_memory: OutOfMemory::No };
            let (instance, generation) = (name.clone(), *generation);
            self.outcomes.push_back(Input::Exited { instance, generation, exit });
        }
    }

    fn leader_ended(&mut self, name: &Name, status: Status) {
        let Some(living) = self.living.get_mut(name) else { return };
        if let Some(Verdict::Refused(err)) = living.refusal.as_mut().map(|it| it.verdict()) {
            // It never became the program: what it exited with is not the program's word.
            warn!(instance = %name, %err, "was not executed");
            self.refusals.push((name.clone(), err.to_string()));
        } else if !living.foreign {
            self.ask_for_last_words(name);
        }
        let Some(living) = self.living.get(name) else { return };
        if may_be_killed(status)
            && let Some(cgroup) = living.group.cgroup()
        {
            cgroup.spend();
        }
        let exit = Exit { status, out_of_memory: out_of_memory(living, status) };
        let (generation, killing) = (living.generation, living.killing);
        self.outcomes.push_back(Input::Exited { instance: name.clone(), generation, exit });
        if killing {
            // The kill asked for the end of all of it; the fleet does not ask again.
            self.await_rest(name);
        }
    }

    /// Has the logger put what the dead wrote into the file; [`Hands::last_words`] then reads it.
    fn ask_for_last_words(&mut self, name: &Name) {
        self.flushes.0 += 1;
        let id = self.flushes.0;
        self.flushes.1.insert(id, name.clone());
        self.orders.push(ToLogger::Flush { name: name.to_string(), id });
        if self.flushes.1.len() > MOST_FLUSHES {
            // A logger that is down answers none of them.
            self.flushes.1.pop_first();
        }
    }

    /// The answer to a flush: whose it was, and the last line of its log.
    pub fn last_words(&mut self, id: u64) -> Option<(Name, Option<String>)> {
        let name = self.flushes.1.remove(&id)?;
        let log = self.source(&name, self.known.get(&name)?.log).log;
        Some((name, crate::daemon::http::logs::last_lines(&log, 1, None).pop()))
    }

    /// Kills everything of a generation; [`Input::Swept`] follows the exit of its leader.
    pub(in crate::daemon) fn kill_all(&mut self, name: &Name, generation: u64) {
        let Some(living) = self.living.get_mut(name).filter(|it| it.generation == generation)
        else {
            return;
        };
        living.killing |= self.leaders.contains_key(&living.process.pid);
        self.foreign.end_stop(name);
        if let Err(err) = living.group.kill() {
            warn!(instance = %name, %err, "could not kill the whole group");
        }
    }

    /// The leader is gone: what it left behind goes as well, and is named.
    pub(in crate::daemon) fn sweep(&mut self, name: &Name, generation: u64) {
        let Some(living) = self.living.get_mut(name).filter(|it| it.generation == generation)
        else {
            let killed = vec![];
            self.outcomes.push_back(Input::Swept { instance: name.clone(), generation, killed });
            return;
        };
        if living.sweeping.is_some() {
            return;
        }
        if living.foreign {
            self.swept(name);
            return;
        }
        if has_ended(living, &self.reaper) {
            self.swept(name);
        } else {
            self.await_rest(name);
            self.kill_rest(name);
        }
    }

    /// Looks at a group whose leader is gone until nothing of it lives.
    fn await_rest(&mut self, name: &Name) {
        if let Some(living) = self.living.get_mut(name) {
            living.sweeping.get_or_insert_default();
            self.sweeping.insert(name.clone());
            self.look_at = Some(clock::now() + LOOK);
        }
    }

    fn kill_rest(&mut self, name: &Name) {
        let Some(living) = self.living.get_mut(name) else { return };
        match living.group.kill() {
            Ok(members) => {
                let fresh = members.iter().map(|it| (it.identity.pid, it.name.to_string()));
                let known = living.sweeping.get_or_insert_default();
                for (pid, name) in fresh {
                    if known.iter().all(|(it, _)| *it != pid) {
                        known.push((pid, name));
                    }
                }
            }
            Err(err) => warn!(instance = %name, %err, "could not kill what was left behind"),
        }
    }

    /// Looks again at the groups that were killed.
    pub(in crate::daemon) fn look_at_groups(&mut self) {
        for name in self.sweeping.clone() {
            match self.living.get(&name) {
                Some(living) if !has_ended(living, &self.reaper) => self.kill_rest(&name),
                _ => self.swept(&name),
            }
        }
        self.look_at = (!self.sweeping.is_empty()).then(|| clock::now() + LOOK);
    }

    fn swept(&mut self, name: &Name) {
        self.sweeping.remove(name);
        let Some(mut living) = self.living.remove(name) else { return };
        self.reloads.forget(name);
        let generation = living.generation;
        self.foreign.hurry_stop(name);
        self.foreign.end_starter(name);
        // Somebody may have started the next one already.
        self.foreign.look_again(name);
        self.outcomes.extend(self.front.ended(name));
        // The number may be another leader's by now.
        if self.leaders.get(&living.process.pid) == Some(name) {
            self.leaders.remove(&living.process.pid);
        }
        self.state.append(&Line::Gone { instance: name.to_string(), generation });
        let killed = living.sweeping.take().filter(|_| !living.killing).unwrap_or_default();
        self.remains.push(living);
        self.outcomes.push_back(Input::Swept { instance: name.clone(), generation, killed });
    }

    /// When to look again, while something that was killed still lives.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.look_at
    }

    /// Everything was stopped for good: gateway and logger go too, and nothing of ours stays in the kernel.
    pub fn retire(&mut self) {
        self.front.retire();
        self.orders.push(ToLogger::Quit);
        self.state.append(&Line::Closed);
        self.flush();
        self.probes.stop_all();
        if let Some(cgroups) = self.cgroups.take() {
            for (name, cgroup) in cgroups.existing().unwrap_or_default() {
                if let Err(err) = cgroup.remove() {
                    warn!(instance = name, %err, "its cgroup could not be removed");
                }
            }
            if let Err(err) = cgroups.remove() {
                warn!(%err, "the cgroup of this deck could not be removed");
            }
        }
    }

    /// Watches a process that is not our child.
    ///
    /// # Errors
    ///
    /// There is no descriptor left for that: nobody would notice its end.
    pub(in crate::daemon) fn watch_adopted(&self, name: &Name, living: &Living) -> io::Result<()> {
        let Some(pidfd) = &living.pidfd else { return Ok(()) };
        let (pidfd, kept) = (pidfd.try_clone()?, pidfd.try_clone()?);
        let (instance, foreign) = (name.clone(), living.foreign);
        let (process, generation) = (living.process, living.generation);
        let turns = self.turns.clone();
        let tell = async move |status, is_final| {
            let instance = instance.clone();
            let end = AdoptedExit { instance, process, generation, status, is_final };
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::AdoptedExit(end)).await;
        };
        tokio::spawn(async move {
            if pidfd::ended(pidfd).await.is_err() {
                return;
            }
            match pidfd::exit_soon(kept.as_fd()).await {
                // Nobody goes by how it ended, and generations are not told apart for ever.
                told if foreign => tell(told.ok().flatten(), true).await,
                Ok(None) => {
                    tell(None, false).await;
                    tell(pidfd::exit(kept).await.ok().flatten(), true).await;
                }
                told => tell(told.ok().flatten(), true).await,
            }
        });
        Ok(())
    }
}

/// The end of a leader that is not our child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedExit {
    pub instance: Name,
    pub process: Process,
    pub generation: u64,
    /// How it ended, as far as anybody but its parent is told.
    pub status: Option<reaper::Status>,
    /// More than that will not be told.
    pub is_final: bool,
}

impl Daemon {
    /// Where it decides whether there is another start, how it ended is waited for.
    pub(in crate::daemon) fn on_adopted_exit(&mut self, end: &AdoptedExit) {
        if end.is_final || !self.goes_by_status(&end.instance) {
            self.hands.adopted_exit(end);
        }
    }

    fn goes_by_status(&self, instance: &Name) -> bool {
        let is_up = match self.fleet.condition_of(instance.as_str()) {
            Some(Condition::Starting | Condition::Running) => true,
            Some(
                Condition::Stopped
                | Condition::Spawning
                | Condition::Draining
                | Condition::Stopping
                | Condition::Backoff
                | Condition::Exited
                | Condition::Fatal,
            )
            | None => false,
        };
        let service = self.fleet.service_of(instance.as_str());
        let service = service.and_then(|it| self.hands.service(it));
        is_up && service.is_some_and(|it| it.rules.restart == Restart::OnFailure)
    }
}

fn told(status: reaper::Status) -> Status {
    match status {
        reaper::Status::Exited(code) => Status::Code(code),
        reaper::Status::Signaled { signal, .. } => Status::Signal(Signal(signal)),
    }
}

/// By SIGKILL, as far as its status tells.
fn may_be_killed(status: Status) -> bool {
    match status {
        Status::Signal(signal) => signal == Signal::KILL,
        Status::Code(code) => code == 128 + Signal::KILL.0,
        Status::Unknown => true,
    }
}

/// Whether it was the kernel, for want of memory. Asked only where that is possible: SIGKILL, or the
/// code by which a shell tells of it.
fn out_of_memory(living: &Living, status: Status) -> OutOfMemory {
    if !may_be_killed(status) {
        return OutOfMemory::No;
    }
    match living.oom.rise(living.group.cgroup()) {
        Rise::Own => OutOfMemory::Certainly,
        // A kill that is ours, or an end of which nothing is known, needs more than a hint.
        Rise::Shared if !living.killing && status != Status::Unknown => OutOfMemory::Probably,
        Rise::Shared | Rise::Nothing => OutOfMemory::No,
    }
}

/// Whether nothing of its generation lives. Asked after the reaper has run.
fn has_ended(living: &Living, reaper: &Reaper) -> bool {
    living.group.has_ended(reaper).unwrap_or_else(|err| {
        warn!(pid = living.process.pid, %err, "it is not known whether its group has ended");
        false
    })
}
