//! What the next daemon has to know of what is under way, as plain data.
//!
//! After every turn, an instance or a rollout that would be remembered in another way than before asks for
//! it ([`Effect::Keep`], [`Effect::KeepRollout`], [`Effect::KeepRound`]); only the digest of what was asked for last stays here.
//! The next daemon hands it in again before [`Input::Begin`](super::input::Input::Begin), and everything
//! goes on where it was: a countdown to the same moment, a backoff with its count, a rollout at its step.
//! What probes said is not kept: it was said to somebody else.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::fleet::Fleet;
use super::input::{Effect, Exit, OutOfMemory, Status};
use super::instance::{Aftermath, Instance, Phase, Spare};
pub use super::instance::{Ending, Rest};
use super::ladder::PATIENCE_WITH_KILL;
pub use super::ladder::{Errand, Stage as StopStage, Stop};
pub use super::reload::{Ended as ReloadEnded, Reload, Reloads};
pub use super::rollout_state::{Outcome, Rollout, Stage, Waiting};
use super::roster::Named;
use super::rules::Rung;
use super::sheet::{Condition, LastExit};
use super::time::Timestamp;
use super::turn::Turn;
use super::wave::Wave;
use super::words::{By, Name, Process, Signal};
use crate::quantity::count;

/// What is kept of one instance, beside what the operator wants of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    pub instance: Name,
    /// Who set the goal.
    pub goal_by: Option<By>,
    /// A rollout keeps it out of rotation.
    pub benched: bool,
    /// A spare that is not needed any more.
    pub dismissed: bool,
    /// In a row.
    pub crashes: u32,
    /// Everything that ever went wrong with it; a rollout compares.
    pub mishaps: u64,
    /// Restarts that no operator asked for.
    pub restarts: u64,
    /// How many of its processes a reload has left alone, at most.
    pub spares: usize,
    /// Why nothing of it runs, where nothing does.
    pub rest: Rest,
    pub since: Option<Since>,
    pub farewell: Option<Farewell>,
    /// Where it runs and was reloaded.
    pub reloads: Option<Reloads>,
}

/// Since when an instance is what it is, where that does not pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Since {
    /// Running.
    Up(Timestamp),
    /// Why nothing runs is why.
    Down(Timestamp),
}

/// The end of a generation that was under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Farewell {
    pub generation: u64,
    pub at: Last,
}

/// How far that end has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Last {
    /// A stop is under way.
    Stopping(Box<Stop>),
    /// The leader has ended; what it left behind is being killed.
    Sweeping { ending: Ending, errand: Option<Errand> },
    /// It is not there yet: what starts it was begun, and whoever runs it is waited for.
    Starting,
}

/// A signal that goes through a service, instance by instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    pub by: By,
    pub signal: Signal,
    /// It was ordered although the last ready instance would go.
    pub forced: bool,
    /// Who gets it still, in this order.
    pub left: Vec<(Name, Process)>,
    /// Who got it last; the next one waits until that is ready.
    pub last: Option<Name>,
}

/// How an instance is stopped that the configuration does not name any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Whose it was, if that is known.
    pub service: Option<Name>,
    pub stop: Vec<Rung>,
    pub max_wait_time: Duration,
    pub reserve: Option<Duration>,
    pub drain_delay: Duration,
    /// A gateway stood in front.
    pub fronted: bool,
}

pub(super) fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Memory {
    /// What is remembered of one that nothing has happened to.
    pub(super) fn nothing(instance: Name) -> Self {
        Self {
            instance,
            goal_by: None,
            benched: false,
            dismissed: false,
            crashes: 0,
            mishaps: 0,
            restarts: 0,
            spares: 0,
            rest: Rest::Stopped,
            since: None,
            farewell: None,
            reloads: None,
        }
    }
}

impl Instance {
    pub(super) fn memory(&self) -> Memory {
        let at = match &self.phase {
            Phase::Leaving(_, stop) => Some(Last::Stopping(stop.clone())),
            Phase::Sweeping(it) => {
                Some(Last::Sweeping { ending: it.ending, errand: it.errand.clone() })
            }
            // Nobody but an operator would start it again.
            Phase::Spawning(_) if self.is_foreign() => Some(Last::Starting),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) => None,
        };
        Memory {
            instance: self.own.name.clone(),
            goal_by: self.goal_by.clone(),
            benched: self.benched,
            dismissed: self.spare == Spare::Dismissed,
            crashes: self.crashes,
            mishaps: self.mishaps,
            restarts: self.restarts,
            spares: self.spares,
            rest: match &self.phase {
                Phase::Idle(rest) => *rest,
                Phase::Spawning(_) | Phase::Up(_) | Phase::Leaving(..) | Phase::Sweeping(_) => {
                    Rest::Stopped
                }
            },
            since: match self.condition() {
                Condition::Running => Some(Since::Up(self.since)),
                Condition::Stopped | Condition::Backoff | Condition::Exited | Condition::Fatal => {
                    Some(Since::Down(self.since))
                }
                Condition::Spawning
                | Condition::Starting
                | Condition::Draining
                | Condition::Stopping => None,
            },
            farewell: at.map(|at| Farewell { generation: self.generation, at }),
            reloads: self.reloads(),
        }
    }

    /// Asks for what is to be remembered, if it is something else than before.
    pub(super) fn keep(&mut self, turn: &mut Turn) {
        let memory = self.memory();
        let digest = digest(&memory);
        if std::mem::replace(&mut self.kept, digest) != digest {
            turn.push(Effect::Keep(Box::new(memory)));
        }
    }

    /// Takes over that a process of an earlier daemon has ended while there was none. What it left
    /// behind goes first, as always.
    pub(super) fn depart(
        &mut self,
        turn: &mut Turn,
        generation: u64,
        started: Timestamp,
        fingerprint: u64,
    ) {
        if self.is_occupied() {
            return;
        }
        self.generation = self.generation.max(generation);
        self.runs = Some(fingerprint);
        self.mishaps += 1;
        let ran = turn.now.since(started);
        let ending = Ending::ByItself { clean: false, ran };
        self.phase = Phase::Sweeping(self.remains(turn, ending, None));
        self.last_exit = Some(LastExit {
            at: turn.now,
            exit: Exit { status: Status::Unknown, out_of_memory: OutOfMemory::No },
            lost: None,
            cause: "while no daemon was there to see it".into(),
        });
        self.ended_generation = self.generation;
        self.say(turn, "exited", None, "ended while no daemon was there to see it");
    }

    /// Has what is left of the last generation killed.
    fn remains(&self, turn: &mut Turn, ending: Ending, errand: Option<Errand>) -> Aftermath {
        turn.push(Effect::Sweep { instance: self.own.name.clone(), generation: self.generation });
        Aftermath { ending, errand, killing: false, again: turn.now + PATIENCE_WITH_KILL, asked: 1 }
    }

    /// Goes on where it was under the last daemon. What is alive was taken over before.
    pub(super) fn recall(&mut self, turn: &mut Turn, memory: Memory) {
        let farewell = memory.farewell.filter(|it| it.generation == self.generation);
        // An end that nobody saw is its own doing, unless it was under way.
        let unseen = if farewell.is_none() { self.mishaps } else { 0 };
        self.goal_by = memory.goal_by;
        self.benched = memory.benched;
        self.crashes = memory.crashes;
        self.mishaps = memory.mishaps + unseen;
        self.restarts = memory.restarts;
        self.spares = memory.spares;
        if memory.dismissed && self.is_spare() {
            self.removed = true;
            self.spare = Spare::Dismissed;
        }
        self.phase = match (std::mem::replace(&mut self.phase, Phase::Idle(memory.rest)), farewell)
        {
            (Phase::Up(body), Some(Farewell { at: Last::Stopping(stop), .. })) => {
                Phase::Leaving(body, stop)
            }
            (Phase::Idle(_), Some(Farewell { at: Last::Starting, .. })) if self.is_foreign() => {
                Phase::Spawning(None)
            }
            (Phase::Sweeping(mut remains), Some(it)) => {
                if let Some((ending, errand)) = it.ending(turn.now) {
                    (remains.ending, remains.errand) = (ending, errand);
                }
                Phase::Sweeping(remains)
            }
            (Phase::Idle(_), Some(it)) => match it.ending(turn.now) {
                Some((ending, errand)) => Phase::Sweeping(self.remains(turn, ending, errand)),
                None => Phase::Idle(memory.rest),
            },
            (Phase::Idle(_), None) => Phase::Idle(memory.rest),
            (phase, _) => phase,
        };
        self.recall_since(memory.since);
        if let Some(reloads) = memory.reloads {
            self.recall_reloads(reloads);
        }
        self.kept = digest(&self.memory());
    }

    fn recall_since(&mut self, since: Option<Since>) {
        let condition = self.condition();
        let since = match (&self.phase, since) {
            (Phase::Leaving(_, stop), _) if stop.is_draining() => Some((condition, stop.began)),
            (Phase::Leaving(_, stop), _) => {
                Some((condition, stop.first_signal.unwrap_or(stop.began)))
            }
            (Phase::Up(_), Some(Since::Up(at))) => Some((Condition::Running, at)),
            (Phase::Idle(_), Some(Since::Down(at))) => Some((condition, at)),
            (Phase::Up(_) | Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_), _) => None,
        };
        let Some((of, at)) = since else { return };
        if of == condition {
            self.since = at;
        }
        self.was = Some((self.generation, of, at));
    }

    /// Lets go on what was under way when the last daemon ended, now that everything is known.
    fn resume(&mut self, turn: &mut Turn) {
        if let Phase::Spawning(_) = &self.phase {
            let (instance, generation) = (self.own.name.clone(), self.generation);
            turn.push(Effect::AwaitStart { instance, generation });
        }
        // Out of rotation first, here too: whoever stands in front is told anew.
        self.sync(turn);
        self.ask_gauge(turn);
        self.descend(turn);
        if let Some(stop) = self.stop().filter(|it| it.last_signal() == Some(Signal::COMMAND)) {
            let (instance, generation) = (self.own.name.clone(), self.generation);
            let (deadline, unbegun) = (stop.deadline, stop.unbegun);
            turn.push(Effect::AwaitStop { instance, generation, deadline, unbegun });
        }
    }
}

impl Farewell {
    /// What follows, and for what, once nothing is left; `None`: nothing was to end.
    fn ending(self, now: Timestamp) -> Option<(Ending, Option<Errand>)> {
        match self.at {
            Last::Sweeping { ending, errand } => Some((ending, errand)),
            Last::Stopping(stop) if stop.errand.is_sickness() => {
                Some((Ending::Sick { ran: now.since(stop.began) }, Some(stop.errand)))
            }
            Last::Stopping(stop) => Some((Ending::Expected, Some(stop.errand))),
            Last::Starting => None,
        }
    }
}

impl Fleet {
    /// What was under way with an instance goes on.
    pub(super) fn recall(&mut self, memory: Memory, turn: &mut Turn) {
        let name = memory.instance.clone();
        self.touch(&name, turn, |it, turn| it.recall(turn, memory));
        let Some(it) = self.instances.get(&name) else { return };
        let errand = match &it.phase {
            Phase::Leaving(_, stop) => Some(&stop.errand),
            Phase::Sweeping(remains) => remains.errand.as_ref(),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) => None,
        };
        // No other one is restarted for its liveness beside it.
        if errand == Some(&Errand::Liveness)
            && let Some(service) = self.services.at_mut(it.home)
        {
            service.healing = Some(name);
        }
    }

    /// Asks for what is to be remembered of a rollout, if it is something else than before.
    pub(super) fn keep_rollout(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let digest = it.rollout.as_ref().map_or(0, digest);
        if std::mem::replace(&mut it.kept, digest) != digest
            && let Some(rollout) = it.rollout.clone()
        {
            let service = service.clone();
            turn.push(Effect::KeepRollout { service, rollout: Some(Box::new(rollout)) });
        }
    }

    /// A rollout of the last daemon goes on from here.
    pub(super) fn recall_rollout(&mut self, service: &Name, mut rollout: Rollout) {
        let Some(it) = self.services.get_mut(service) else { return };
        // Probes begin anew, so the waits for them do as well.
        match &mut rollout.stage {
            Stage::Choosing { waiting, .. } => *waiting = None,
            Stage::Renewing { give_up, .. } => *give_up = None,
            Stage::Building { .. }
            | Stage::Settling { .. }
            | Stage::Dismissing { .. }
            | Stage::Over { .. } => {}
        }
        it.kept = digest(&rollout);
        it.rollout = Some(rollout);
        self.keep_deadline(service);
        self.mark_changed(service);
    }

    /// Asks for what is to be remembered of a signal that is on its way, if it is something else than before.
    pub(super) fn keep_round(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let round = it.wave.as_ref().map(Wave::round);
        let digest = round.as_ref().map_or(0, digest);
        if std::mem::replace(&mut it.kept_round, digest) != digest {
            let (service, round) = (service.clone(), round.map(Box::new));
            turn.push(Effect::KeepRound { service, round });
        }
    }

    /// A signal of the last daemon is still on its way.
    pub(super) fn recall_round(&mut self, service: &Name, round: Round, now: Timestamp) {
        let names = round.last.iter().chain(round.left.iter().map(|it| &it.0));
        let to: Vec<_> = names.filter_map(|it| self.instances.get(it)).collect();
        let wave = Wave::recalled(round, &to, now);
        let Some(it) = self.services.get_mut(service) else { return };
        it.kept_round = digest(&wave.round());
        it.wave = Some(wave);
        self.keep_deadline(service);
    }

    /// Everything that was under way goes on, and says so.
    pub(super) fn resume_all(&mut self, turn: &mut Turn) {
        let leaving = self.instances.values().filter(|it| it.is_occupied() && it.up().is_none());
        for name in leaving.map(|it| it.name().clone()).collect::<Vec<_>>() {
            self.touch(&name, turn, Instance::resume);
        }
        let reloading = self.instances.values().filter(|it| it.is_under_reload());
        for name in reloading.map(|it| it.name().clone()).collect::<Vec<_>>() {
            self.touch(&name, turn, Instance::resume_reload);
        }
        let names = self.services.values().map(|it| it.name().clone()).collect::<Vec<_>>();
        for name in names {
            self.resume_rollout(&name, turn);
            self.resume_round(&name, turn);
        }
    }

    fn resume_round(&mut self, service: &Name, turn: &mut Turn) {
        let Some(wave) = self.services.get(service).and_then(|it| it.wave.as_ref()) else { return };
        let left = count(wave.left() as u64, "instance");
        let message = format!("{} goes on under this daemon: {left} to get it still", wave.signal);
        turn.say(service, "signal-resumed", Some(&wave.by), message);
        self.look_at_service(service);
    }

    fn resume_rollout(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let Some(mut rollout) = it.rollout.take_if(|it| it.is_under_way()) else { return };
        let title = rollout.title(service);
        if let Stage::Building { instance, index } = rollout.stage.clone() {
            // Whether it has ended, and how, nobody will ever know.
            let word = if rollout.rollback { "rollback" } else { "build" };
            let why = format!(
                "the daemon ended while {word} {} for {instance} ran; {instance} was not touched",
                index + 1
            );
            self.halt_untouched(service, &mut rollout, &instance, why, turn);
        } else {
            let present = rollout.instance().and_then(|it| self.instances.get(it));
            let step = rollout.step(present);
            let place = present.map_or(step.to_owned(), |it| format!("{step} {}", it.name()));
            let done = count(rollout.renewed.len() as u64, "instance");
            let message = format!("{title} goes on under this daemon: {place}, {done} renewed");
            turn.say(service, "rollout-resumed", Some(&rollout.by), message);
        }
        if let Some(it) = self.services.get_mut(service) {
            it.rollout = Some(rollout);
        }
        self.mark_changed(service);
        self.look_at_service(service);
    }
}
