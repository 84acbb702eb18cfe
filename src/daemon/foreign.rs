//! Processes that somebody else runs: found by their pid files, followed, left alone.
//!
//! One task looks at all the files, now and then, on a blocking thread: a file may be on a disk that hangs.
//! What it says that is new comes as a turn, and is compared with what is known whenever either changes.
//! The end of a process is seen through its pidfd, as that of any process that is not our child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::clock;
use super::driver::{Daemon, failed};
use super::hands::{Hands, Living, identity_of, process_of};
use super::publish::millis;
use super::state::{Line, Running};
use super::turn::{Turn, Turns};
use crate::config::trust;
use crate::fleet::input::Input;
use crate::fleet::sheet::Condition;
use crate::fleet::{Name, Process, Timestamp};
use crate::process::group::{Group, Marks};
use crate::process::stat::TICKS_PER_SECOND;
use crate::process::{identity, oom, pidfile};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);
/// How long the daemon waits for the first one before it answers anybody.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Pid files by instance.
pub type Files = BTreeMap<Name, PathBuf>;

/// What a pid file says.
pub type Seen = Result<Found, Missed>;

/// A process that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub process: Process,
    /// The kernel's short name of it.
    pub name: String,
}

/// Why none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub why: String,
    /// Somebody should look at it.
    pub is_odd: bool,
}

/// What is known of the files.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    files: watch::Sender<Files>,
    seen: BTreeMap<Name, Seen>,
    /// Instances to compare with what their files say.
    due: BTreeSet<Name>,
    /// Ends the waits of starts, not what they have begun.
    pub(super) starts: CancellationToken,
    /// Every start that is under way has one of these.
    pub(super) busy: Arc<()>,
    /// The last commands that stop something, by instance.
    pub(super) stops: BTreeMap<Name, Stopping>,
}

/// A command that stops something, in its task.
#[derive(Clone, Debug, Default)]
pub(super) struct Stopping {
    /// Ends it.
    pub(super) end: CancellationToken,
    /// Its process is gone: from now on its time is counted.
    pub(super) hurry: CancellationToken,
    /// It has ended.
    pub(super) ended: CancellationToken,
}

impl Foreign {
    pub(super) fn subscribe(&self) -> watch::Receiver<Files> {
        self.files.subscribe()
    }

    pub(super) fn configure(&mut self, files: Files) {
        self.seen.retain(|name, _| files.contains_key(name));
        self.due.extend(files.keys().cloned());
        self.files.send_if_modified(|it| std::mem::replace(it, files.clone()) != files);
    }

    /// Something is being started.
    pub(super) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.busy) > 1
    }

    pub(super) fn end_stop(&self, instance: &Name) {
        if let Some(it) = self.stops.get(instance) {
            it.end.cancel();
        }
    }

    pub(super) fn hurry_stop(&self, instance: &Name) {
        if let Some(it) = self.stops.get(instance) {
            it.hurry.cancel();
        }
    }

    pub(super) fn look_again(&mut self, instance: &Name) {
        self.due.insert(instance.clone());
    }
}

/// Looks at the files until the daemon ends, and tells what is new in them.
pub async fn keep(mut files: watch::Receiver<Files>, turns: Turns, stop: CancellationToken) {
    let mut told: BTreeMap<Name, Seen> = BTreeMap::new();
    let work = async {
        loop {
            let wanted = files.borrow_and_update().clone();
            told.retain(|name, _| wanted.contains_key(name));
            let is_idle = wanted.is_empty();
            let looked = tokio::task::spawn_blocking(move || look_at_all(&wanted)).await;
            for (instance, seen) in looked.unwrap_or_default() {
                if told.get(&instance) != Some(&seen) {
                    told.insert(instance.clone(), seen.clone());
                    // The driver is gone only when the daemon ends.
                    let _ = turns.send(Turn::PidFile { instance, seen }).await;
                }
            }
            tokio::select! {
                changed = files.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK), if !is_idle => (),
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

fn look_at_all(files: &Files) -> Vec<(Name, Seen)> {
    files.iter().map(|(name, path)| (name.clone(), look(path))).collect()
}

/// What a pid file says now, if it can be believed: a process may be named by those who could signal it
/// anyway, any process by root and by ourselves. systemd holds `PIDFile=` to the same (systemd.service(5)).
pub(super) fn look(path: &Path) -> Seen {
    let place = path.display();
    let boot = clock::wall_of(Timestamp::default()).as_duration().unsigned_abs();
    let named = pidfile::named(path, boot)
        .map_err(|it| Missed { why: format!("{place} {it}"), is_odd: it.is_odd() })?;
    trust::pid_file(path, named.owner, named.users).map_err(|it| {
        let (pid, name) = (named.identity.pid, named.name);
        let who = format!("{place} names pid {pid} ({name})");
        let why = format!("{who}, which others may have written there: {it}; {}", it.help);
        Missed { why, is_odd: true }
    })?;
    Ok(Found { process: process_of(named.identity), name: named.name.to_string() })
}

impl Daemon {
    /// Before anybody is answered: what runs is known as far as the files tell at once.
    pub(super) async fn look_at_pid_files(&mut self) {
        let files = self.hands.foreign.files.borrow().clone();
        if files.is_empty() {
            return;
        }
        let look = tokio::task::spawn_blocking(move || look_at_all(&files));
        let Ok(Ok(looked)) = tokio::time::timeout(FIRST_LOOK, look).await else { return };
        for (instance, seen) in looked {
            self.on_pid_file(instance, seen);
        }
    }

    pub(super) fn on_pid_file(&mut self, instance: Name, seen: Seen) {
        self.hands.foreign.look_again(&instance);
        self.hands.foreign.seen.insert(instance, seen);
        self.follow_pid_files();
    }

    /// Compares what is known with what the files say, where either is new.
    pub(super) fn follow_pid_files(&mut self) {
        for name in std::mem::take(&mut self.hands.foreign.due) {
            // Everything is let go of.
            if !self.stopping() {
                self.follow_pid_file(&name);
            }
        }
    }

    fn follow_pid_file(&mut self, name: &Name) {
        let Some(sheet) = self.fleet.instance_sheet(name.as_str()) else { return };
        let may_be_another = match sheet.condition {
            Condition::Stopped | Condition::Backoff | Condition::Exited | Condition::Fatal => true,
            Condition::Starting | Condition::Running => true,
            // When that is over it is looked at again.
            Condition::Spawning | Condition::Draining | Condition::Stopping => false,
        };
        let known = self.hands.living.get(name);
        let found = match self.hands.foreign.seen.get(name) {
            Some(Ok(found)) => found.clone(),
            Some(Err(missed)) if known.is_none() => return self.miss(name, missed.clone()),
            Some(Err(_)) | None => return,
        };
        let is_same = known.is_some_and(|it| it.process == found.process || !it.foreign);
        if is_same || !may_be_another || !self.hands.is_followed(name) {
            return;
        }
        if let Err(why) = self.hands.belongs_to_nobody_but(name, &found) {
            return self.miss(name, Missed { why, is_odd: true });
        }
        let generation = sheet.generation + 1;
        let Some(started) = self.hands.take_up(name, generation, found.process) else { return };
        let (instance, process) = (name.clone(), found.process);
        let note = format!(" ({})", found.name);
        self.turn(Input::Found { instance, process, generation, started, note });
    }

    fn miss(&mut self, instance: &Name, missed: Missed) {
        let Missed { why, is_odd } = missed;
        self.turn(Input::Missed { instance: instance.clone(), why, is_odd });
    }

    /// What became of a start that was ordered.
    pub(super) fn on_begun(
        &mut self,
        instance: &Name,
        generation: u64,
        outcome: Result<Found, String>,
    ) {
        let sheet = self.fleet.instance_sheet(instance.as_str());
        let awaits = |it: &crate::fleet::sheet::Sheet| {
            it.generation == generation && it.condition == Condition::Spawning
        };
        // What was found is in the file for whoever asks next.
        self.hands.foreign.look_again(instance);
        if !sheet.as_ref().is_some_and(awaits) {
            return;
        }
        let input = outcome.and_then(|found| {
            self.hands.belongs_to_nobody_but(instance, &found)?;
            let taken = self.hands.take_up(instance, generation, found.process);
            let gone = || format!("pid {} ended as soon as it was there", found.process.pid);
            taken.map(|_| found.process).ok_or_else(gone)
        });
        self.turn(match input {
            Ok(process) => Input::Spawned { instance: instance.clone(), generation, process },
            Err(reason) => failed(instance, generation, reason, false),
        });
    }
}

impl Hands {
    /// Somebody else runs it.
    pub(super) fn is_foreign(&self, name: &Name) -> bool {
        self.known.get(name).is_some_and(|it| it.settings.pidfile.is_some())
    }

    fn is_followed(&self, name: &Name) -> bool {
        self.foreign.files.borrow().contains_key(name)
    }

    /// Where a pid file names what another instance is, nothing is taken from that one.
    fn belongs_to_nobody_but(&self, name: &Name, found: &Found) -> Result<(), String> {
        let pid = found.process.pid;
        match self.leaders.get(&pid).filter(|it| *it != name) {
            Some(other) => Err(format!("its pid file names pid {pid}, which is {other}")),
            None => Ok(()),
        }
    }

    /// The pid files of what is enabled.
    pub(super) fn configure_foreign(&mut self) {
        let is_wanted = |service: &Name| self.service(service).is_some_and(|it| it.rules.enabled);
        let file = |(name, it): (&Name, &super::hands::Known)| {
            let path = it.settings.pidfile.clone().filter(|_| is_wanted(&it.service))?;
            Some((name.clone(), path))
        };
        let files = self.known.iter().filter_map(file).collect();
        self.foreign.configure(files);
    }

    /// Follows this process from now on, instead of the one before; `None`: it is gone, or cannot be watched.
    /// Returns when it was started.
    fn take_up(&mut self, name: &Name, generation: u64, process: Process) -> Option<Timestamp> {
        let opened = identity::open(identity_of(process));
        let pidfd = opened.inspect_err(|err| warn!(instance = %name, %err, "cannot be opened"));
        let living = Living { pidfd: Some(pidfd.ok().flatten()?), ..found(process, generation) };
        if let Err(err) = self.watch_adopted(name, &living) {
            warn!(instance = %name, %err, "its end could not be watched for");
            return None;
        }
        self.drop_foreign(name);
        let (port, fingerprint) =
            self.known.get(name).map_or((None, 0), |it| (it.settings.port, it.fingerprint));
        self.front.lives(name, generation, port, false);
        let ticks = process.start_time;
        let started =
            Timestamp(Duration::from_millis(ticks.saturating_mul(1000) / TICKS_PER_SECOND));
        self.keep(name, living, millis(started.0), fingerprint);
        info!(instance = %name, pid = process.pid, "found");
        Some(started)
    }

    /// It runs on, and is no business of ours any more.
    pub(super) fn let_go_of(&mut self, name: &Name, generation: u64) {
        if self.living.get(name).is_some_and(|it| it.generation == generation && it.foreign) {
            self.drop_foreign(name);
        }
    }

    fn drop_foreign(&mut self, name: &Name) {
        let Some(living) = self.living.remove(name) else { return };
        self.reloads.forget(name);
        self.outcomes.extend(self.front.ended(name));
        // The number may be another leader's by now.
        if self.leaders.get(&living.process.pid) == Some(name) {
            self.leaders.remove(&living.process.pid);
        }
        let (instance, generation) = (name.to_string(), living.generation);
        self.state.append(&Line::Gone { instance, generation });
        self.remains.push(living);
    }

    /// Goes on with a foreign process that the last daemon has followed, if it is still that one: also where
    /// the configuration has another engine by now, or one would be started beside it.
    pub(super) fn follow_on(&mut self, running: &Running) -> Option<Input> {
        let name = Name::from(running.instance.as_str());
        let (generation, fingerprint) = (running.generation, running.fingerprint);
        let process = Process { pid: running.pid, start_time: running.start_time };
        let started = Timestamp(Duration::from_millis(running.started_ms)).min(clock::now());
        let gone = Line::Gone { instance: name.to_string(), generation };
        let service = self.known.get(&name).map(|it| &it.service);
        let is_wanted = service.and_then(|it| self.service(it)).is_some_and(|it| it.rules.enabled);
        if !is_wanted || self.living.contains_key(&name) {
            self.state.append(&gone);
            return None;
        }
        let pidfd = identity::open(identity_of(process)).ok().flatten();
        let living = Living { pidfd, ..found(process, generation) };
        if living.pidfd.is_none() || self.watch_adopted(&name, &living).is_err() {
            self.state.append(&gone);
            return Some(Input::Departed { instance: name, generation, started, fingerprint });
        }
        let port = self.known.get(&name).and_then(|it| it.settings.port);
        self.front.lives(&name, generation, port, true);
        self.keep(&name, living, running.started_ms, fingerprint);
        Some(Input::Adopted {
            instance: name,
            process,
            generation,
            started,
            fingerprint,
            foreign: true,
        })
    }
}

/// A foreign process: nothing marks what belongs to it but its tree.
fn found(process: Process, generation: u64) -> Living {
    Living {
        generation,
        process,
        pidfd: None,
        group: Group::new(identity_of(process), None, Marks::default()),
        oom: oom::Counts::default(),
        refusal: None,
        killing: false,
        sweeping: None,
        foreign: true,
    }
}
