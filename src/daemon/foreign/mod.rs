//! Processes that somebody else runs: found by their pid files, followed, left alone.
//!
//! What is new in a file comes as a turn ([`looks`]), and is compared with what is known whenever either
//! changes. Where nothing can come of that yet it is done again later.
//! The end of a process is seen through its pidfd, as that of any process that is not our child.

pub mod looks;
pub mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::daemon::clock::{self, millis};

use crate::daemon::driver::Daemon;
use crate::daemon::foreign::looks::Lookout;
use crate::daemon::foreign::start::Started;
use crate::daemon::hands::{Hands, Living};
use crate::daemon::kept::state::{Line, Running};
use crate::fleet::input::{Extra, Input, Record};
use crate::fleet::sheet::Condition;
use crate::fleet::{Name, Process, Timestamp};
use crate::process::group::{Group, Marks};
use crate::process::stat::time_of;
use crate::process::strays::Left;
use crate::process::{Identity, identity, oom};

/// Until what could not be followed is compared again.
const AGAIN: Duration = Duration::from_secs(1);
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
    /// What it executes, where that may be known.
    pub program: Option<PathBuf>,
}

impl Found {
    /// For the event that tells of it; `before`: what the one before executed, if that was another program.
    fn note(&self, before: Option<&Path>) -> String {
        match (&self.program, before) {
            (Some(program), Some(before)) => format!(
                " ({}: {}, and the one before was {})",
                self.name,
                program.display(),
                before.display()
            ),
            _ => format!(" ({})", self.name),
        }
    }
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
pub(in crate::daemon) struct Foreign {
    files: watch::Sender<Files>,
    seen: BTreeMap<Name, Seen>,
    /// Instances to compare with what their files say.
    due: BTreeSet<Name>,
    /// Those to compare again, and when.
    later: BTreeMap<Name, Timestamp>,
    /// What was executed by those that were followed last.
    programs: BTreeMap<Name, PathBuf>,
    /// Ends the waits of starts, not what they have begun.
    pub(in crate::daemon) starts: CancellationToken,
    /// Every start that is under way has one of these.
    pub(in crate::daemon) busy: TaskTracker,
    /// Commands that stop something, which the last daemon has begun.
    pub(in crate::daemon) outlived: BTreeMap<Name, Left>,
    /// The last commands that stop something, by instance.
    pub(in crate::daemon) stops: BTreeMap<Name, Stopping>,
    /// Commands that have started something and have not come back.
    starters: BTreeMap<Name, Identity>,
}

/// A command that stops something, in its task.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Stopping {
    /// Ends it.
    pub(in crate::daemon) end: CancellationToken,
    /// Its process is gone: from now on its time is counted.
    pub(in crate::daemon) hurry: CancellationToken,
    /// It has ended.
    pub(in crate::daemon) ended: CancellationToken,
}

impl Foreign {
    pub(in crate::daemon) fn subscribe(&self) -> watch::Receiver<Files> {
        self.files.subscribe()
    }

    pub(in crate::daemon) fn configure(&mut self, files: Files) {
        let before = self.files.send_replace(files.clone());
        // What another file says is none of its business.
        self.seen.retain(|name, _| files.get(name) == before.get(name));
        self.programs.retain(|name, _| files.contains_key(name));
        self.later.clear();
        self.due.extend(files.into_keys());
    }

    /// Something is being started.
    pub(in crate::daemon) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    pub(in crate::daemon) fn end_stop(&self, instance: &Name) {
        if let Some(it) = self.stops.get(instance) {
            it.end.cancel();
        }
    }

    /// What it has started has ended, and it has nothing to wait for.
    pub(in crate::daemon) fn end_starter(&mut self, instance: &Name) {
        let Some(it) = self.starters.remove(instance) else { return };
        if let Ok(Some(pidfd)) = identity::open(it)
            && let Err(err) = pidfd_send_signal(pidfd, Signal::KILL)
        {
            warn!(%instance, %err, "the command that has started it could not be ended");
        }
    }

    pub(in crate::daemon) fn hurry_stop(&self, instance: &Name) {
        if let Some(it) = self.stops.get(instance) {
            it.hurry.cancel();
        }
    }

    pub(in crate::daemon) fn look_again(&mut self, instance: &Name) {
        self.due.insert(instance.clone());
    }

    /// When something is to be compared again.
    pub(in crate::daemon) fn next_comparison(&self) -> Option<Timestamp> {
        self.later.values().min().copied()
    }

    /// What is to be compared now.
    fn take_due(&mut self, now: Timestamp) -> BTreeSet<Name> {
        let over = self.later.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone());
        self.due.extend(over);
        self.later.retain(|_, at| *at > now);
        std::mem::take(&mut self.due)
    }

    /// Notes what is executed by the one that is followed now. Returns what was before, if that is another.
    fn note_program(&mut self, name: &Name, program: Option<PathBuf>) -> Option<PathBuf> {
        let program = program?;
        let before = self.programs.insert(name.clone(), program.clone());
        before.filter(|it| *it != program)
    }
}

/// What comes of comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// Until something is new.
    Done,
    /// Until its condition is another one.
    Waits,
    /// Something that tells nobody when it changes stands against it.
    Later,
}

impl Daemon {
    /// Before anybody is answered: what runs is known as far as the files tell at once. Returns who looks on.
    pub(in crate::daemon) async fn look_at_pid_files(&mut self) -> Lookout<fn(&Path) -> Seen> {
        let mut lookout = Lookout::new(looks::look as fn(&Path) -> Seen);
        lookout.ask(&self.hands.foreign.files.borrow());
        let first = async {
            while !lookout.is_done() {
                for (instance, seen) in lookout.news().await {
                    self.on_pid_file(instance, seen);
                }
            }
        };
        // What takes longer comes as a turn.
        let _ = tokio::time::timeout(FIRST_LOOK, first).await;
        lookout
    }

    pub(in crate::daemon) fn on_pid_file(&mut self, instance: Name, seen: Seen) {
        self.hands.foreign.look_again(&instance);
        self.hands.foreign.seen.insert(instance, seen);
        self.follow_pid_files();
    }

    /// Compares what is known with what the files say, where either is new.
    pub(in crate::daemon) fn follow_pid_files(&mut self) {
        let now = clock::now();
        for name in self.hands.foreign.take_due(now) {
            // Everything is let go of.
            if self.stopping() {
                continue;
            }
            match self.follow_pid_file(&name) {
                Compared::Done => (),
                Compared::Waits => self.hands.foreign.look_again(&name),
                Compared::Later => drop(self.hands.foreign.later.insert(name, now + AGAIN)),
            }
        }
    }

    fn follow_pid_file(&mut self, name: &Name) -> Compared {
        let Some(sheet) = self.fleet.instance_sheet(name.as_str()) else { return Compared::Done };
        let may_be_another = match sheet.condition {
            Condition::Stopped | Condition::Backoff | Condition::Exited | Condition::Fatal => true,
            Condition::Starting | Condition::Running => true,
            Condition::Spawning | Condition::Draining | Condition::Stopping => false,
        };
        let known = self.hands.living.get(name);
        let found = match self.hands.foreign.seen.get(name) {
            Some(Ok(found)) => found.clone(),
            Some(Err(missed)) if known.is_none() => {
                self.miss(name, missed.clone());
                return Compared::Done;
            }
            Some(Err(_)) | None => return Compared::Done,
        };
        let is_same = known.is_some_and(|it| it.process == found.process);
        if is_same || !self.hands.is_followed(name) {
            return Compared::Done;
        }
        if !may_be_another {
            return Compared::Waits;
        }
        // What is ours is seen to its end first.
        if known.is_some_and(|it| !it.foreign) {
            return Compared::Later;
        }
        self.follow(name, sheet.generation + 1, &found)
    }

    fn follow(&mut self, name: &Name, generation: u64, found: &Found) -> Compared {
        let taken = self.hands.belongs_to_nobody_but(name, found);
        let started = match taken.and_then(|()| self.hands.take_up(name, generation, found)) {
            Ok(Some(started)) => started,
            // The next look tells.
            Ok(None) => return Compared::Later,
            Err(why) => {
                self.miss(name, Missed { why, is_odd: true });
                return Compared::Later;
            }
        };
        let before = self.hands.foreign.note_program(name, found.program.clone());
        let (instance, process, note) =
            (name.clone(), found.process, found.note(before.as_deref()));
        self.turn(Input::Found { instance, process, generation, started, note });
        Compared::Done
    }

    fn miss(&mut self, instance: &Name, missed: Missed) {
        let Missed { why, is_odd } = missed;
        self.turn(Input::Missed { instance: instance.clone(), why, is_odd });
    }

    /// What became of a start that was ordered.
    pub(in crate::daemon) fn on_begun(
        &mut self,
        instance: &Name,
        generation: u64,
        outcome: Result<Started, String>,
    ) {
        let name = instance.as_str();
        let is_awaited = self.fleet.generation_of(name) == Some(generation)
            && self.fleet.condition_of(name) == Some(Condition::Spawning);
        // What was found is in the file for whoever asks next.
        self.hands.foreign.look_again(instance);
        if !is_awaited {
            return;
        }
        let mut in_foreground = None;
        let input = outcome.and_then(|started| {
            let found = started.found;
            self.hands.belongs_to_nobody_but(instance, &found)?;
            let taken = self.hands.take_up(instance, generation, &found)?;
            let gone = || format!("pid {} ended as soon as it was there", found.process.pid);
            taken.ok_or_else(gone)?;
            self.hands.foreign.note_program(instance, found.program);
            in_foreground = started.in_foreground;
            Ok(found.process)
        });
        self.turn(match input {
            Ok(process) => Input::Spawned { instance: instance.clone(), generation, process },
            Err(reason) => Input::spawn_failed(instance, generation, reason, false),
        });
        if let Some((process, command)) = in_foreground {
            self.note_foreground(instance, process, &command);
        }
    }

    fn note_foreground(&mut self, instance: &Name, process: Identity, command: &str) {
        let leads = self.hands.living.get(instance).map(|it| Identity::from(it.process));
        let message = if leads == Some(process) {
            in_foreground(command)
        } else {
            self.hands.foreign.starters.insert(instance.clone(), process);
            format!(
                "`{command}` has not come back, pid {}: it is left running, and ended with what it has started",
                process.pid
            )
        };
        self.record(Record {
            kind: "start-command",
            service: self.fleet.service_of(instance.as_str()).cloned(),
            instance: Some(instance.clone()),
            by: None,
            message,
            with_evidence: false,
            extra: Extra::Nothing,
        });
    }
}

fn in_foreground(command: &str) -> String {
    format!(
        "`{command}` has not come back: it runs in the foreground, and is left running; engine = \"local\" \
         is for that, or let it go into the background (Swoole: daemonize)"
    )
}

impl Hands {
    /// Somebody else runs it.
    pub(in crate::daemon) fn is_foreign(&self, name: &Name) -> bool {
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
    pub(in crate::daemon) fn configure_foreign(&mut self) {
        let is_wanted = |service: &Name| self.service(service).is_some_and(|it| it.rules.enabled);
        let file = |(name, it): (&Name, &crate::daemon::hands::Known)| {
            let path = it.settings.pidfile.clone().filter(|_| is_wanted(&it.service))?;
            Some((name.clone(), path))
        };
        let files = self.known.iter().filter_map(file).collect();
        self.foreign.configure(files);
    }

    /// Follows this process from now on, instead of the one before. Returns when it was started; `None`: it
    /// is gone.
    ///
    /// # Errors
    ///
    /// It cannot be watched, in words.
    fn take_up(
        &mut self,
        name: &Name,
        generation: u64,
        found: &Found,
    ) -> Result<Option<Timestamp>, String> {
        let process = found.process;
        let unwatched = |err: io::Error| {
            format!("pid {} ({}) cannot be watched: {err}", process.pid, found.name)
        };
        let Some(pidfd) = identity::open(Identity::from(process)).map_err(unwatched)? else {
            return Ok(None);
        };
        let (port, fingerprint) =
            self.known.get(name).map_or((None, 0), |it| (it.settings.port, it.fingerprint));
        let living = Living { pidfd: Some(pidfd), port, ..living(process, generation) };
        self.watch_adopted(name, &living).map_err(unwatched)?;
        self.drop_foreign(name);
        self.front.lives(name, generation, port, false);
        let started = Timestamp(time_of(process.start_time));
        self.keep(name, living, (millis(started.0), fingerprint), None);
        info!(instance = %name, pid = process.pid, "found");
        Ok(Some(started))
    }

    /// It runs on, and is no business of ours any more.
    pub(in crate::daemon) fn let_go_of(&mut self, name: &Name, generation: u64) {
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
    pub(in crate::daemon) fn follow_on(&mut self, running: &Running) -> Option<Input> {
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
        let pidfd = identity::open(Identity::from(process)).ok().flatten();
        // Where somebody else's listens is what the configuration says of it.
        let port = self.known.get(&name).and_then(|it| it.settings.port);
        let living = Living { pidfd, port, ..living(process, generation) };
        if living.pidfd.is_none() || self.watch_adopted(&name, &living).is_err() {
            self.state.append(&gone);
            return Some(Input::Departed { instance: name, generation, started, fingerprint });
        }
        self.foreign.note_program(&name, looks::program(running.pid));
        self.front.lives(&name, generation, port, true);
        self.keep(&name, living, (running.started_ms, fingerprint), None);
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
fn living(process: Process, generation: u64) -> Living {
    Living {
        generation,
        process,
        port: None,
        pidfd: None,
        group: Group::new(Identity::from(process), None, Marks::default()),
        oom: oom::Counts::default(),
        refusal: None,
        killing: false,
        sweeping: None,
        foreign: true,
        record: None,
    }
}
