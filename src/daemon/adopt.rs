//! Takes over what the last daemon left running.
//!
//! Only by identity: pid, start time and boot id must be those that were written down. What is alive is
//! adopted, what died meanwhile is swept, what the fleet no longer knows is stopped by it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::boot::BootError;
use super::clock;
use super::driver::Daemon;
use super::hands::{Hands, Known, Living};
use super::kept::records;
use super::kept::state::{Line, Remembered, Running, Wanted};
use super::orphans;
use super::runs::hooks;
use super::strays;
use super::values::Versions;
use crate::config::settings::{Instance, Launch, Log, Settings};
use crate::fleet::input::{Goal, Input};
use crate::fleet::{Name, Process, Timestamp};
use crate::probe::Rights;
use crate::process::cgroup::Cgroup;
use crate::process::group::{Group, Marks};
use crate::process::{Identity, identity, oom};

/// Tells the fleet everything that is known, then lets it begin.
///
/// # Errors
///
/// Something that runs could not be taken over: nothing was started, and nothing may be.
pub fn begin(
    daemon: &mut Daemon,
    settings: &Arc<Settings>,
    mut remembered: Remembered,
) -> Result<(), BootError> {
    daemon.hands.configure(settings);
    let names = remembered.instances();
    daemon.hands.values = Versions::remembered(&mut remembered);
    daemon.turn(Input::Configured(settings.services.iter().map(|it| it.rules.clone()).collect()));
    for note in std::mem::take(&mut remembered.notes) {
        daemon.note("state-file", None, note);
    }
    for message in daemon.hands.bring_up_to_date(&mut remembered) {
        daemon.note("stray", None, message);
    }
    for intent in remembered.intents.values() {
        let instance = Name::from(intent.instance.as_str());
        daemon.turn(Input::Generation { instance, generation: intent.generation });
    }
    for wanted in remembered.wanted.into_values() {
        daemon.turn(remembered_input(wanted));
    }
    let mut anything_runs = false;
    for running in remembered.running.into_values() {
        let Some(input) = daemon.hands.adopt(&running)? else { continue };
        let instance = Name::from(running.instance.as_str());
        if let Some(ladder) = &running.ladder {
            daemon.turn(ladder.input(instance.clone()));
        }
        if remembered.ready.get(&running.instance) == Some(&running.generation) {
            daemon.turn(Input::WasReady { instance, generation: running.generation });
        }
        anything_runs |= matches!(input, Input::Adopted { .. });
        daemon.turn(input);
    }
    for found in remembered.found.into_values() {
        if let Some(input) = daemon.hands.follow_on(&found) {
            daemon.turn(input);
        }
    }
    strays::take_in(daemon, &remembered.intents)?;
    let pagers = orphans::end(daemon, &remembered.runs, &remembered.kept);
    for kept in remembered.kept.into_values() {
        daemon.turn(Input::Recalled(Box::new(kept.into())));
    }
    for rollout in remembered.rollouts.into_values() {
        let service = Name::from(rollout.service.as_str());
        if daemon.hands.service(&service).is_none() {
            // A service that gets the same name later has nothing to do with it.
            daemon.hands.state.append(&Line::NoRollout { service: rollout.service });
            continue;
        }
        daemon.hands.runs.rollout_began(&service, rollout.log_begins);
        daemon.turn(Input::RolloutRecalled { service, rollout: Box::new(rollout.into()) });
    }
    for round in remembered.rounds.into_values() {
        let service = Name::from(round.service.as_str());
        if daemon.hands.service(&service).is_none() {
            daemon.hands.state.append(&Line::NoRound { service: round.service });
            continue;
        }
        daemon.turn(Input::RoundRecalled { service, round: Box::new(round.into()) });
    }
    daemon.hands.forget_names(names.iter().map(|it| Name::from(it.as_str())));
    for trouble in daemon.hands.take_sockets_back(settings) {
        daemon.note("socket-kept", None, trouble);
    }
    match remembered.closing {
        Some(by) if anything_runs => daemon.resume_shutdown(by.map(records::by)),
        // It is over; a later daemon must not go on with it.
        Some(_) => daemon.hands.state.append(&Line::Closed),
        None => (),
    }
    daemon.forget_rollouts();
    hooks::outlived::resume(daemon, remembered.hooks, &pagers);
    daemon.turn(Input::Begin);
    daemon.hands.end_stops();
    Ok(())
}

fn remembered_input(wanted: Wanted) -> Input {
    Input::Remembered {
        instance: Name::from(wanted.instance.as_str()),
        goal: match wanted.goal {
            crate::api::Goal::Up => Goal::Up,
            crate::api::Goal::Down => Goal::Down,
        },
        held_by: wanted.held_by.map(records::by),
    }
}

/// Whether every process of the last daemon can be reached. One that cannot would run on unseen, beside the
/// next generation of its instance: better no daemon than that.
pub fn reachable(remembered: &Remembered) -> Result<(), BootError> {
    let mut all = Vec::with_capacity(3 * remembered.running.len());
    for it in remembered.running.values() {
        let process = Process { pid: it.pid, start_time: it.start_time };
        let failed = |source| unreachable(it, source);
        let opened = identity::open(Identity::from(process)).map_err(failed)?;
        // Each needs as many more: one to watch it by, and its output.
        for _ in 0..2 {
            all.extend(opened.as_ref().map(OwnedFd::try_clone).transpose().map_err(failed)?);
        }
        all.extend(opened);
    }
    Ok(())
}

impl Hands {
    /// The cgroup that a process of the last daemon is in, or was in.
    fn cgroup_left(&self, name: &Name, leader: Process) -> Option<Cgroup> {
        let by_name = || {
            let existing = self.cgroups.as_ref()?.existing().ok()?;
            existing.into_iter().find(|(it, _)| it == name.as_str()).map(|(_, cgroup)| cgroup)
        };
        let is_below_ours = |it: &Cgroup| self.cgroups.as_ref().is_some_and(|ours| ours.have(it));
        // The number may be somebody else's by now, in a cgroup of another instance, or of another deck.
        let lives = || identity::is_alive(Identity::from(leader)).unwrap_or(false);
        Cgroup::of(leader.pid)
            .filter(|it| it.is_of(name.as_str()) && (is_below_ours(it) || lives()))
            .or_else(by_name)
    }

    /// Takes over one process, if it is still that one.
    ///
    /// # Errors
    ///
    /// It may be alive and cannot be reached: nothing may be started beside it.
    pub(super) fn adopt(&mut self, running: &Running) -> Result<Option<Input>, BootError> {
        let name = Name::from(running.instance.as_str());
        let process = Process { pid: running.pid, start_time: running.start_time };
        self.take_port(&name, running.port);
        let group = self.group_left(&name, process);
        let failed = |source| unreachable(running, source);
        let (pidfd, is_child) = self.reach(process).map_err(failed)?;
        let is_configured = self.known.contains_key(&name);
        match pidfd {
            Some(pidfd) => {
                // The fleet stops it.
                self.known.entry(name.clone()).or_insert_with(|| bare(running));
                if let Some(front) = running.ladder.as_ref().and_then(|it| it.front.as_ref())
                    && !is_configured
                {
                    self.front.remember(&name, front);
                }
                let living = self.take_over(&name, running, pidfd, group);
                if !is_child {
                    self.watch_adopted(&name, &living).map_err(failed)?;
                }
                Ok(Some(self.adopted(name, running, living)))
            }
            None if is_configured => Ok(Some(self.departed(name, running, group))),
            None => {
                self.forget(&name, running.generation, group);
                Ok(None)
            }
        }
    }

    /// Everything that a leader of the last daemon has, or had, around it.
    pub(super) fn group_left(&self, name: &Name, leader: Process) -> Group {
        let fifo = self.known.get(name).map(|it| self.source(name, it.log).fifo);
        let mark = self.mark(name);
        let marks = Marks::new(fifo.as_deref(), Some((super::life::launch::MARK, &mark)));
        Group::new(Identity::from(leader), self.cgroup_left(name, leader), marks)
    }

    /// Opens a process, if it is alive; and whether it is a child of this one, started by it while it was
    /// another program: then its end comes through the reaper.
    fn reach(&self, process: Process) -> io::Result<(Option<OwnedFd>, bool)> {
        let identity = Identity::from(process);
        if let Ok(Some(pidfd)) = identity::open_child(identity) {
            self.reaper.adopt(process.pid);
            return Ok((Some(pidfd), true));
        }
        Ok((identity::open(identity)?, false))
    }

    /// Its output, and what the kernel had counted against it before now.
    fn take_over(
        &mut self,
        name: &Name,
        running: &Running,
        pidfd: OwnedFd,
        group: Group,
    ) -> Living {
        if self.holds_removed_output(name, running.pid) {
            info!(instance = %name, "its output goes on, though its pipe was removed");
        } else if let Err(trouble) = self.open_output(name) {
            warn!(instance = %name, reason = trouble.reason, "its output could not be opened");
        }
        let ours = self.oom.get_or_init(|| oom::Shared::of("self")).as_ref();
        let shared = oom::Shared::of(&running.pid.to_string()).map(|it| it.or_same(ours));
        let shared = oom::Counts::shared(shared.as_ref());
        let oom = oom::Counts::before(group.cgroup(), Some(&shared));
        // A record without one says nothing.
        let configured = || self.known.get(name).and_then(|it| it.settings.port);
        let port = running.port.or_else(configured);
        Living { pidfd: Some(pidfd), oom, port, ..left(running, group) }
    }

    fn adopted(&mut self, name: Name, running: &Running, living: Living) -> Input {
        let (process, generation) = (living.process, living.generation);
        self.front.lives(&name, generation, living.port, true);
        let ladder = running.ladder.clone();
        self.keep(&name, living, (running.started_ms, running.fingerprint), ladder);
        info!(instance = %name, pid = process.pid, "adopted");
        let started = started(running);
        let fingerprint = running.fingerprint;
        Input::Adopted { instance: name, process, generation, started, fingerprint, foreign: false }
    }

    /// It has ended, and its instance is not configured any more either.
    fn forget(&mut self, name: &Name, generation: u64, mut group: Group) {
        self.state.append(&Line::Gone { instance: name.to_string(), generation });
        match group.kill() {
            Ok(killed) => info!(instance = %name, killed = killed.len(), "swept"),
            Err(err) => warn!(instance = %name, %err, "could not be swept"),
        }
    }

    /// It ended while no daemon was there: nothing of it may live when the next generation starts.
    pub(super) fn departed(&mut self, name: Name, running: &Running, group: Group) -> Input {
        self.living.insert(name.clone(), left(running, group));
        info!(instance = %name, pid = running.pid, "ended while no daemon was there");
        let (generation, fingerprint) = (running.generation, running.fingerprint);
        Input::Departed { instance: name, generation, started: started(running), fingerprint }
    }
}

/// All that is known of an instance that is no longer configured. Its output is kept until it has ended, and of
/// what was kept before nothing is removed where nobody knows how much that is to be.
fn bare(running: &Running) -> Known {
    let launch = Launch {
        argv: vec![],
        directory: None,
        environment: BTreeMap::new(),
        user: None,
        rights: Rights::default(),
        socket: None,
    };
    let settings = Instance {
        name: running.instance.clone(),
        port: running.port,
        weight: None,
        launch,
        probes: BTreeMap::new(),
        load: None,
        pidfile: None,
        stop_command: vec![],
    };
    let ladder = running.ladder.as_ref();
    let service = ladder.and_then(|it| it.service.as_ref()).unwrap_or(&running.instance);
    let unknown = Log { keep: u32::MAX, ..Log::default() };
    Known {
        service: Name::from(service.as_str()),
        settings,
        fingerprint: running.fingerprint,
        log: ladder.and_then(|it| it.log).map_or(unknown, Log::from),
        fifo: None,
        prepared: None,
    }
}

/// What is known of a process of the last daemon before it was looked at.
fn left(running: &Running, group: Group) -> Living {
    Living {
        generation: running.generation,
        process: Process { pid: running.pid, start_time: running.start_time },
        port: running.port,
        pidfd: None,
        group,
        oom: oom::Counts::default(),
        refusal: None,
        killing: false,
        sweeping: None,
        foreign: false,
        record: None,
    }
}

/// The clock of another boot may have been further.
fn started(running: &Running) -> Timestamp {
    Timestamp(Duration::from_millis(running.started_ms)).min(clock::now())
}

fn unreachable(it: &Running, source: io::Error) -> BootError {
    BootError::Adopt { instance: it.instance.clone(), pid: it.pid, source }
}
