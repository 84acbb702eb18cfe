//! One instance: what is wanted of it, and what is the case.
//!
//! ```text
//!            start         spawned           stop, restart         leader ended
//! Idle(rest) ─────► Spawning ─────► Up ─────────► Leaving(ladder) ─────────────► Sweeping
//!     ▲                              └──────────────── leader ended ────────────────┤
//!     └──────────────────────── nothing of the generation is left ──────────────────┘
//! ```
//!
//! A generation is over only when everything of it is gone; the next one is started only from `Idle`,
//! so there are never two at once. Deadlines live in the phase that waits for them. This file holds the
//! shapes and what can be asked; `life.rs` has the way up and the end, `leaving.rs` the way down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::exits::Signalled;
use super::health::Health;
use super::input::{Effect, Extra, Goal, Haste, InFlight, Probe, Record};
use super::ladder::{Errand, PATIENCE_WITH_KILL, Stop, Traffic};
use super::member::Parting;
use super::memory::{Memory, digest};
use super::reload::Reload;
use super::roster::Named;
use super::rules::{InstanceRules, ServiceRules};
use super::sheet::{Condition, LastExit};
use super::time::Timestamp;
use super::turn::{Dice, Turn, elapsed};
use super::words::{By, Name, Process};

/// Requests that the gateway could not send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) at: Timestamp,
    pub(super) requests: u32,
}

pub(super) struct Instance {
    /// The number of its service.
    pub(super) home: usize,
    pub(super) rules: Arc<ServiceRules>,
    pub(super) own: InstanceRules,
    pub(super) goal: Goal,
    /// Who set the goal.
    pub(super) goal_by: Option<By>,
    pub(super) held_by: Option<By>,
    /// A rollout keeps it out of rotation: it has not proven itself, or it halted the rollout.
    pub(super) benched: bool,
    /// No longer in the configuration: stopped, then forgotten.
    pub(super) removed: bool,
    pub(super) spare: Spare,
    pub(super) phase: Phase,
    pub(super) since: Timestamp,
    /// Since when this generation was in this condition under the last daemon.
    pub(super) was: Option<(u64, Condition, Timestamp)>,
    pub(super) generation: u64,
    /// The fingerprint of what runs.
    pub(super) runs: Option<u64>,
    /// What the gateway was told; `None` until it was told something, and after an adoption until
    /// something is known.
    pub(super) rotation: Option<bool>,
    /// How often the gateway was told to take it out and has not answered.
    pub(super) takeouts: u32,
    /// What the diary was told of its readiness.
    pub(super) told_ready: Option<bool>,
    /// The generation that was ready under the last daemon.
    pub(super) was_ready: Option<u64>,
    pub(super) in_flight: Option<InFlight>,
    /// When its stop cut the last of those, where that is known.
    pub(super) cut_at: Option<Timestamp>,
    /// How many of them came when it was being stopped already.
    pub(super) late: u32,
    /// In a row.
    pub(super) crashes: u32,
    /// How often in a row it ended well right after its start and left others behind.
    pub(super) detached: u32,
    /// How many of its processes a reload has left alone, at most.
    pub(super) spares: usize,
    /// Everything that ever went wrong with it; a rollout compares.
    pub(super) mishaps: u64,
    pub(super) restarts: u64,
    pub(super) last_exit: Option<LastExit>,
    /// The generation `last_exit` is about.
    pub(super) ended_generation: u64,
    /// The last generation that ended though no stop was under way.
    pub(super) ended_alone: u64,
    /// What the gateway said was cut of the process that runs.
    pub(super) cut: Option<Cut>,
    /// Why the last start did not come about.
    pub(super) spawn_failure: Option<String>,
    /// Of a foreign one: what its pid file says instead of a process.
    pub(super) absence: Option<String>,
    pub(super) signalled: Option<Signalled>,
    pub(super) dice: Dice,
    /// The digest of what the next daemon would be told.
    pub(super) kept: u64,
    /// What the indexes of the fleet know about it.
    pub(super) vitals: Vitals,
}

/// Whether it is one that only a rollout needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    No,
    Needed,
    /// The others serve without it.
    Dismissed,
}

/// What is the case.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing runs.
    Idle(Rest),
    /// A start was asked for. A stop that came meanwhile waits for the process.
    Spawning(Option<Wish>),
    Up(Body),
    Leaving(Body, Box<Stop>),
    /// The leader has ended; what it left behind is being killed.
    Sweeping(Aftermath),
}

/// Why nothing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Wanted down, or waiting until it may be started.
    Stopped,
    Backoff {
        retry_at: Timestamp,
    },
    Exited,
    Fatal,
}

/// A stop that was asked for before there was a process.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) errand: Errand,
    pub(super) kill: bool,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) process: Process,
    pub(super) started: Timestamp,
    /// Somebody else has started it; what it is does not change with the configuration.
    pub(super) foreign: bool,
    pub(super) health: Health,
    /// The probes that were asked for.
    pub(super) probing: BTreeSet<Probe>,
    /// Out of rotation around a reload signal.
    pub(super) reloading: bool,
    /// The last reload of its workers.
    pub(super) reload: Option<Reload>,
    /// How many there were.
    pub(super) reloads: u64,
    /// Processes that a reload leaves alone, as earlier ones have shown.
    pub(super) spared: Vec<Process>,
    /// A reload goes on that an earlier daemon has begun, and nobody has looked yet.
    pub(super) unwatched: bool,
    /// Workers that an operator has told to go, one by one.
    pub(super) partings: Vec<Parting>,
}

/// What is known about the end of a generation while its remains are swept.
#[derive(Debug)]
pub(super) struct Aftermath {
    pub(super) ending: Ending,
    pub(super) errand: Option<Errand>,
    /// SIGKILL to everything was asked for already; otherwise a sweep was.
    pub(super) killing: bool,
    pub(super) again: Timestamp,
    pub(super) asked: u32,
}

/// What follows once nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// A stop or a signal of the operator.
    Expected,
    /// By itself, after running for so long.
    ByItself { clean: bool, ran: Duration },
    /// A probe had it stopped.
    Sick { ran: Duration },
}

/// What others look up about an instance without looking at it. A difference means that something
/// that can be seen has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vitals {
    /// The number of its service.
    pub(super) home: Option<usize>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) wanted: bool,
    /// Wanted, and ready by its probe. A spare counts for neither.
    pub(super) ready: bool,
    pub(super) occupied: bool,
    pub(super) sick: bool,
    seen: Option<Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    condition: Condition,
    generation: u64,
    live: Option<bool>,
    ready: Option<bool>,
    rotation: Option<bool>,
    held: bool,
    benched: bool,
    stale: bool,
    in_flight: Option<InFlight>,
    counts: (u32, u64, u64),
    port: Option<u16>,
}

impl Named for Instance {
    fn name(&self) -> &Name {
        &self.own.name
    }
}

impl Instance {
    pub(super) fn new(
        home: usize,
        rules: Arc<ServiceRules>,
        own: InstanceRules,
        now: Timestamp,
        seed: u64,
    ) -> Self {
        // What stands in front may remember a place that an earlier daemon gave it.
        let rotation = if rules.fronted { None } else { Some(false) };
        let kept = digest(&Memory::nothing(own.name.clone()));
        Self {
            home,
            rules,
            own,
            goal: Goal::Up,
            goal_by: None,
            held_by: None,
            benched: false,
            removed: false,
            spare: Spare::No,
            phase: Phase::Idle(Rest::Stopped),
            since: now,
            was: None,
            generation: 0,
            runs: None,
            rotation,
            takeouts: 0,
            told_ready: None,
            was_ready: None,
            in_flight: None,
            cut_at: None,
            late: 0,
            crashes: 0,
            detached: 0,
            spares: 0,
            mishaps: 0,
            restarts: 0,
            last_exit: None,
            ended_generation: 0,
            ended_alone: 0,
            cut: None,
            spawn_failure: None,
            absence: None,
            signalled: None,
            dice: Dice::new(seed),
            kept,
            vitals: Vitals::default(),
        }
    }

    /// The configuration and the operator both want it up.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_configured() && self.goal == Goal::Up
    }

    /// It is in the configuration and enabled there.
    pub(super) fn is_configured(&self) -> bool {
        !self.removed && self.rules.enabled
    }

    pub(super) fn is_spare(&self) -> bool {
        self.spare != Spare::No
    }

    /// Something of it may be running.
    pub(super) fn is_occupied(&self) -> bool {
        !matches!(self.phase, Phase::Idle(_))
    }

    /// The process, while there is one that is not about to end.
    pub(super) fn up(&self) -> Option<&Body> {
        match &self.phase {
            Phase::Up(body) => Some(body),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Leaving(..) | Phase::Sweeping(_) => None,
        }
    }

    pub(super) fn body(&self) -> Option<&Body> {
        match &self.phase {
            Phase::Up(body) | Phase::Leaving(body, _) => Some(body),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_) => None,
        }
    }

    pub(super) fn stop(&self) -> Option<&Stop> {
        match &self.phase {
            Phase::Leaving(_, stop) => Some(stop),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) | Phase::Sweeping(_) => None,
        }
    }

    /// How long it has not died of SIGKILL, in steps of [`PATIENCE_WITH_KILL`].
    pub(super) fn outlives_kill_by(&self) -> Duration {
        let asked = match &self.phase {
            Phase::Leaving(_, stop) => stop.killing().unwrap_or(0),
            Phase::Sweeping(aftermath) => aftermath.asked,
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) => 0,
        };
        PATIENCE_WITH_KILL.saturating_mul(asked.saturating_sub(1))
    }

    pub(super) fn process(&self) -> Option<Process> {
        self.body().map(|body| body.process)
    }

    /// The verdict of readiness; on the way down it is never ready.
    pub(super) fn ready(&self) -> Option<bool> {
        match &self.phase {
            Phase::Up(body) => body.health.ready(&self.rules),
            Phase::Leaving(..) => Some(false),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_) => None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready() == Some(true)
    }

    /// Ready, and nobody keeps it out of rotation: clients are served by it.
    pub(super) fn is_serving(&self) -> bool {
        self.is_ready() && self.held_by.is_none() && !self.benched && !self.is_reloading()
    }

    /// A reload keeps it out of rotation until it is through.
    pub(super) fn is_reloading(&self) -> bool {
        self.up().is_some_and(|body| body.reloading)
    }

    /// Ready, or taken over in a place that nothing has confirmed yet: clients may be served by it.
    pub(super) fn may_serve(&self) -> bool {
        // Who is held or benched is out of rotation for certain.
        let unknown = self.up().is_some() && self.ready().is_none() && self.rotation != Some(false);
        self.is_serving() || unknown
    }

    /// Nothing runs, and nobody has told what stands in front.
    pub(super) fn has_a_place_it_lost(&self) -> bool {
        self.rotation.is_none() && !self.is_occupied()
    }

    /// What a drain goes by.
    pub(super) fn traffic(&self) -> Traffic {
        match self.in_flight {
            // An answer to an earlier order is none to the last one.
            _ if self.takeouts > 0 => Traffic::Coming,
            Some(InFlight::Exact(n)) => Traffic::Counted(n),
            Some(InFlight::Estimated(_)) | None => Traffic::Unknown,
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_occupied() && self.runs.is_some_and(|runs| runs != self.own.fingerprint)
    }

    pub(super) fn condition(&self) -> Condition {
        match &self.phase {
            Phase::Idle(Rest::Stopped) => Condition::Stopped,
            Phase::Idle(Rest::Backoff { .. }) => Condition::Backoff,
            Phase::Idle(Rest::Exited) => Condition::Exited,
            Phase::Idle(Rest::Fatal) => Condition::Fatal,
            Phase::Spawning(_) => Condition::Spawning,
            Phase::Up(body) if body.health.is_up(&self.rules) => Condition::Running,
            Phase::Up(_) => Condition::Starting,
            Phase::Leaving(_, stop) if stop.is_draining() => Condition::Draining,
            Phase::Leaving(..) | Phase::Sweeping(_) => Condition::Stopping,
        }
    }

    /// Notes since when it is in its condition, if that is another one than the indexes know.
    pub(super) fn note_condition(&mut self, now: Timestamp) {
        let condition = self.condition();
        if self.vitals.condition() == Some(condition) {
            return;
        }
        let (generation, was) = (self.generation, self.was);
        let is_same = |it: &(u64, Condition, Timestamp)| (it.0, it.1) == (generation, condition);
        self.since = match (was.filter(is_same), self.body()) {
            (Some((.., at)), _) => at,
            (None, Some(body)) if condition == Condition::Starting => body.started,
            (None, _) => now,
        };
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Idle(Rest::Backoff { retry_at }) => Some(*retry_at),
            Phase::Up(body) if !body.health.ripe => Some(body.started + self.rules.start_seconds),
            Phase::Leaving(_, stop) => Some(stop.wakes_at(self.traffic())),
            Phase::Sweeping(aftermath) => Some(aftermath.again),
            Phase::Idle(Rest::Stopped | Rest::Exited | Rest::Fatal)
            | Phase::Spawning(_)
            | Phase::Up(_) => None,
        }
    }

    /// Brings what was said to the gateway, to the probes and to the diary up to what is the case.
    pub(super) fn sync(&mut self, turn: &mut Turn) {
        self.sync_rotation(turn);
        self.sync_probes(turn);
        self.tell_readiness(turn);
    }

    fn sync_rotation(&mut self, turn: &mut Turn) {
        let kept_out = self.held_by.is_some() || self.benched || self.is_reloading();
        let belongs_in = match &self.phase {
            Phase::Up(_) if kept_out => Some(false),
            // Nothing is known yet: an adopted instance keeps the place it has.
            Phase::Up(body) => body.health.ready(&self.rules),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Leaving(..) | Phase::Sweeping(_) => {
                Some(false)
            }
        };
        if belongs_in.is_none() || belongs_in == self.rotation {
            return;
        }
        self.rotation = belongs_in;
        // What stands in front is to let go of it; where nothing does, its own gauge is read once more.
        if belongs_in == Some(false) && (self.rules.fronted || self.rules.gauged) {
            self.takeouts += 1;
        }
        let was_ready = self.told_ready.filter(|_| !kept_out && matches!(self.phase, Phase::Up(_)));
        let only_readiness = was_ready.is_some() && was_ready != belongs_in;
        let haste = if only_readiness { Haste::MayWait } else { Haste::AtOnce };
        let instance = self.own.name.clone();
        turn.push(match belongs_in {
            Some(true) => Effect::Admit { instance, haste },
            Some(false) | None => Effect::TakeOut { instance, haste },
        });
    }

    /// It was to leave the rotation when there was time; now somebody waits for it.
    pub(super) fn hasten_out(&mut self, turn: &mut Turn) {
        self.takeouts += 1;
        let instance = self.own.name.clone();
        turn.push(Effect::TakeOut { instance, haste: Haste::AtOnce });
    }

    fn sync_probes(&mut self, turn: &mut Turn) {
        let generation = self.generation;
        let (body, wanted) = match &mut self.phase {
            Phase::Up(body) => {
                body.health.follow(&self.rules);
                let wanted = body.health.wanted(&self.rules);
                (body, wanted)
            }
            Phase::Leaving(body, _) => (body, BTreeSet::new()),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_) => return,
        };
        for probe in body.probing.difference(&wanted) {
            turn.push(Effect::StopProbe { instance: self.own.name.clone(), probe: *probe });
        }
        for probe in wanted.difference(&body.probing) {
            let instance = self.own.name.clone();
            turn.push(Effect::StartProbe { instance, generation, probe: *probe });
        }
        body.probing = wanted;
    }

    fn tell_readiness(&mut self, turn: &mut Turn) {
        let Phase::Up(body) = &self.phase else { return };
        let ready = body.health.ready(&self.rules);
        if ready.is_none() || ready == self.told_ready {
            return;
        }
        let message = match (ready, self.told_ready) {
            (Some(true), None) => format!("ready after {}", elapsed(turn.now.since(body.started))),
            (Some(true), Some(_)) => "ready again".into(),
            (Some(false) | None, _) => body.health.complaint().unwrap_or("not ready".into()),
        };
        let kind = if ready == Some(true) { "ready" } else { "not-ready" };
        self.told_ready = ready;
        self.say(turn, kind, None, message);
    }

    /// Writes a line about this instance into the diary.
    pub(super) fn say(
        &self,
        turn: &mut Turn,
        kind: &'static str,
        by: Option<&By>,
        message: impl Into<String>,
    ) {
        self.say_with_evidence(turn, kind, by, message, false);
    }

    /// The same, with what speaks for it if that is wanted.
    pub(super) fn say_with_evidence(
        &self,
        turn: &mut Turn,
        kind: &'static str,
        by: Option<&By>,
        message: impl Into<String>,
        with_evidence: bool,
    ) {
        turn.push(Effect::Record(Record {
            kind,
            service: Some(self.rules.name.clone()),
            instance: Some(self.own.name.clone()),
            by: by.cloned(),
            message: message.into(),
            with_evidence,
            extra: Extra::Nothing,
        }));
    }

    /// The same about its end, with what was in flight then.
    pub(super) fn say_exited(
        &self,
        turn: &mut Turn,
        by: Option<&By>,
        message: String,
        extra: Extra,
    ) {
        turn.push(Effect::Record(Record {
            kind: "exited",
            service: Some(self.rules.name.clone()),
            instance: Some(self.own.name.clone()),
            by: by.cloned(),
            message,
            with_evidence: false,
            extra,
        }));
    }

    /// What the indexes should know now.
    pub(super) fn look(&self) -> Vitals {
        let live = self.body().and_then(|body| body.health.live());
        let counts = self.is_wanted() && !self.is_spare();
        Vitals {
            home: Some(self.home),
            deadline: self.deadline(),
            wanted: counts,
            ready: counts && self.is_ready(),
            occupied: self.is_occupied(),
            sick: self.is_healed() && self.up().is_some_and(|body| body.health.is_sick()),
            seen: Some(Seen {
                condition: self.condition(),
                generation: self.generation,
                live,
                ready: self.ready(),
                rotation: self.rotation,
                held: self.held_by.is_some(),
                benched: self.benched,
                stale: self.is_stale(),
                in_flight: self.in_flight,
                counts: (self.crashes, self.mishaps, self.restarts),
                port: self.own.port,
            }),
        }
    }
}

impl Vitals {
    pub(super) fn condition(&self) -> Option<Condition> {
        self.seen.as_ref().map(|seen| seen.condition)
    }
}
