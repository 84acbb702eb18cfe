//! A fleet on a workbench: rules, people, and a rig that says what happens in one word.
//!
//! Effects are compared as short lines (`out web1`, `SIGTERM web1`), diary lines as
//! `kind: message (by)`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::input::{
    Command, Disposition, Effect, Exit, Goal, Haste, InFlight, Input, Order, OutOfMemory, Probe,
    Refusal, SpawnFailure, Status, Verb,
};
use super::memory::{Memory, Rollout, Round};
use super::rules::{
    Backoff, InstanceRules, Meaning, Profile, Restart, RolloutRules, Rung, ServiceRules, Thresholds,
};
use super::sheet::{Condition, RolloutSheet, Sheet};
use super::time::Timestamp;
use super::words::{By, Name, Process, Signal};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const ONCE: Thresholds = Thresholds { success: 1, failure: 1 };

pub(super) fn swoole_profile() -> Profile {
    let does = "reload all workers".into();
    Profile {
        reload: Some(Signal::USR1),
        signals: vec![Meaning {
            signal: Signal::USR1,
            does,
            harmless: true,
            cuts: false,
            renews: vec![],
        }],
        ..Profile::plain("swoole")
    }
}

/// A service as the smallest configuration has it.
pub(super) fn rules(name: &str, instances: &[&str]) -> ServiceRules {
    ServiceRules {
        name: name.into(),
        enabled: true,
        restart: Restart::Always,
        retries: None,
        backoff: Backoff { min: SECOND, max: 60 * SECOND, stable_after: 60 * SECOND },
        start_seconds: SECOND,
        max_wait_time: 10 * SECOND,
        reserve: 3 * SECOND,
        drain_delay: Duration::ZERO,
        stop: vec![Rung { signal: Signal::TERM, wait: None }],
        depends_on: vec![],
        instances: instances.iter().map(|it| instance(it)).collect(),
        startup: None,
        liveness: None,
        readiness: None,
        rollout: RolloutRules {
            build: 0,
            rollback: 0,
            settle: 3 * SECOND,
            successes: 1,
            ready_timeout: 60 * SECOND,
            min_ready: None,
            spare: None,
        },
        profile: Arc::new(Profile::plain("generic")),
        fronted: false,
        cuts_told: false,
        gauged: false,
        reload_drain: false,
        foreign: None,
    }
}

pub(super) fn instance(name: &str) -> InstanceRules {
    InstanceRules {
        name: name.into(),
        port: None,
        auto_port: false,
        backup: false,
        fingerprint: 1,
        pidfile: None,
    }
}

/// `web` with a readiness probe, a gateway in front, and these instances.
pub(super) fn web(instances: &[&str]) -> ServiceRules {
    ServiceRules { readiness: Some(ONCE), fronted: true, ..rules("web", instances) }
}

pub(super) fn swoole(instances: &[&str]) -> ServiceRules {
    ServiceRules { profile: swoole_profile().into(), ..web(instances) }
}

pub(super) fn by(login: &str) -> By {
    By { uid: 1000, login: login.into(), pid: 4711, ssh: None }
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp(Duration::from_secs(seconds))
}

pub(super) fn code(code: i32) -> Exit {
    Exit { status: Status::Code(code), out_of_memory: OutOfMemory::No }
}

pub(super) fn killed_by(signal: Signal) -> Exit {
    Exit { status: Status::Signal(signal), out_of_memory: OutOfMemory::No }
}

pub(super) fn start(name: &str) -> Verb {
    Verb::Start(name.into())
}

pub(super) fn stop(name: &str) -> Verb {
    Verb::Stop { instance: name.into(), now: false }
}

pub(super) fn stop_now(name: &str) -> Verb {
    Verb::Stop { instance: name.into(), now: true }
}

pub(super) fn stop_service(name: &str) -> Verb {
    Verb::StopService { service: name.into(), now: false }
}

pub(super) fn restart(name: &str) -> Verb {
    Verb::Restart(name.into())
}

pub(super) fn roll(service: &str) -> Verb {
    Verb::Roll { service: service.into(), set: Default::default() }
}

pub(super) fn signal(name: &str, signal: Signal) -> Verb {
    Verb::Signal {
        instance: name.into(),
        signal: Some(signal),
        process: None,
        disposition: Disposition::Caught,
    }
}

/// A fleet, a clock, and the last turn's effects.
pub(super) struct Rig {
    pub(super) fleet: Fleet,
    pub(super) now: Timestamp,
    /// Everything the diary was told and nobody asked for yet.
    diary: Vec<String>,
    /// The gateway answers at once when something is taken out.
    pub(super) gateway_answers: bool,
    /// Who took the values of `--set`, in order.
    pub(super) values: Vec<String>,
    /// What the gateway was told without haste.
    pub(super) may_wait: Vec<String>,
    /// What the next daemon would be told.
    pub(super) kept: BTreeMap<Name, Memory>,
    pub(super) rollouts: BTreeMap<Name, Rollout>,
    pub(super) rounds: BTreeMap<Name, Round>,
    /// Of the beginning of a [`Rig::replaced`].
    pub(super) effects: Vec<String>,
}

impl Rig {
    /// Configured, nothing begun.
    pub(super) fn configured(rules: Vec<ServiceRules>) -> Self {
        let mut rig = Self {
            fleet: Fleet::new(7),
            now: at(100),
            diary: vec![],
            gateway_answers: true,
            values: vec![],
            may_wait: vec![],
            kept: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            rounds: BTreeMap::new(),
            effects: vec![],
        };
        rig.input(Input::Configured(rules));
        rig
    }

    /// Configured and begun: spawns were asked for.
    pub(super) fn begun(rules: Vec<ServiceRules>) -> Self {
        let mut rig = Self::configured(rules);
        rig.input(Input::Begin);
        rig
    }

    /// Everything has come up and is ready, long enough for crashes to be forgiven.
    pub(super) fn ready(rules: Vec<ServiceRules>) -> Self {
        let mut rig = Self::begun(rules);
        rig.bring_up_all();
        rig.later(100 * SECOND);
        rig.diary();
        rig
    }

    /// The next daemon, a moment later: these run on, those have ended meanwhile.
    pub(super) fn replaced(
        &self,
        rules: Vec<ServiceRules>,
        alive: &[&str],
        ended: &[&str],
    ) -> Self {
        let mut next = Self::configured(rules);
        (next.kept, next.rollouts) = (self.kept.clone(), self.rollouts.clone());
        next.rounds.clone_from(&self.rounds);
        next.now = self.now;
        next.gateway_answers = self.gateway_answers;
        let mut inputs = vec![];
        for sheet in self.fleet.instances.names().iter().map(|it| self.sheet(it.as_str())) {
            let (instance, generation) = (sheet.name.clone(), sheet.generation);
            inputs.push(Input::Generation { instance: instance.clone(), generation });
            let goal = sheet.goal;
            inputs.push(Input::Remembered { instance, goal, held_by: sheet.held_by });
        }
        for name in alive.iter().chain(ended) {
            let (instance, process) = (Name::from(*name), self.process(name));
            let (generation, fingerprint) = (self.generation(name), 1);
            let started = self.sheet(name).started.unwrap_or(at(100));
            let body = self.fleet.instances.get(&instance).and_then(|it| it.body());
            let foreign = body.is_some_and(|it| it.foreign);
            inputs.push(if alive.contains(name) {
                Input::Adopted { instance, process, generation, started, fingerprint, foreign }
            } else {
                Input::Departed { instance, generation, started, fingerprint }
            });
        }
        inputs.extend(self.kept.values().cloned().map(|it| Input::Recalled(Box::new(it))));
        inputs.extend(self.rollouts.iter().map(|(service, rollout)| Input::RolloutRecalled {
            service: service.clone(),
            rollout: Box::new(rollout.clone()),
        }));
        inputs.extend(self.rounds.iter().map(|(service, round)| Input::RoundRecalled {
            service: service.clone(),
            round: Box::new(round.clone()),
        }));
        inputs.push(Input::Begin);
        next.effects = inputs.into_iter().flat_map(|it| next.input(it)).collect();
        next
    }

    pub(super) fn bring_up_all(&mut self) {
        let names = self.fleet.instances.names();
        for _ in 0..names.len() {
            for name in &names {
                if self.sheet(name.as_str()).condition == Condition::Spawning {
                    self.come_up(name.as_str());
                }
            }
        }
    }

    /// Spawned and ready.
    pub(super) fn come_up(&mut self, name: &str) -> Vec<String> {
        let mut effects = self.spawned(name);
        effects.extend(self.probed(name, Probe::Readiness, true));
        if self.sheet(name).ready != Some(true) {
            effects.extend(self.later(SECOND));
        }
        effects
    }

    pub(super) fn input(&mut self, input: Input) -> Vec<String> {
        let effects = self.fleet.handle(self.now, input);
        self.note(effects)
    }

    fn note(&mut self, effects: Vec<Effect>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut taken_out = Vec::new();
        let mut rest = Vec::new();
        for effect in effects {
            if let Effect::TakeValues { .. } | Effect::Unset { .. } = &effect {
                self.values.push(line(&effect));
                continue;
            }
            if let Effect::Keep(it) = effect {
                self.kept.insert(it.instance.clone(), *it);
            } else if let Effect::KeepRollout { service, rollout } = effect {
                self.rollouts.extend(rollout.map(|it| (service, *it)));
            } else if let Effect::KeepRound { service, round } = effect {
                self.rounds.remove(&service);
                self.rounds.extend(round.map(|it| (service, *it)));
            } else {
                rest.push(effect);
            }
        }
        for effect in rest {
            let Effect::Record(it) = &effect else {
                lines.push(line(&effect));
                if let Effect::Admit { haste: Haste::MayWait, .. }
                | Effect::TakeOut { haste: Haste::MayWait, .. } = &effect
                {
                    self.may_wait.push(line(&effect));
                }
                if let Effect::TakeOut { instance, .. } = effect {
                    taken_out.push(instance);
                }
                continue;
            };
            let who = it.instance.as_ref().or(it.service.as_ref());
            let who = who.map_or(String::new(), Name::to_string);
            let by = it.by.as_ref().map_or(String::new(), |by| format!(" ({by})"));
            let evidence = if it.with_evidence { " [evidence]" } else { "" };
            self.diary.push(format!("{who} {}: {}{by}{evidence}", it.kind, it.message));
        }
        taken_out.retain(|_| self.gateway_answers);
        for instance in taken_out {
            lines.extend(self.taken_out(instance.as_str()));
        }
        lines
    }

    /// The gateway says that nothing new comes.
    pub(super) fn taken_out(&mut self, name: &str) -> Vec<String> {
        self.input(Input::TakenOut { instance: name.into() })
    }

    /// What the diary was told since the last call.
    pub(super) fn diary(&mut self) -> Vec<String> {
        std::mem::take(&mut self.diary)
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub(super) fn later(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut lines = Vec::new();
        for _ in 0..10_000 {
            let Some(deadline) = self.fleet.next_deadline().filter(|it| *it <= until) else {
                self.now = until;
                return lines;
            };
            self.now = deadline.max(self.now);
            lines.extend(self.input(Input::DeadlineReached));
        }
        panic!("the fleet never waits: {:?}", self.fleet.next_deadline());
    }

    pub(super) fn sheet(&self, name: &str) -> Sheet {
        self.fleet.instance_sheet(name).unwrap()
    }

    pub(super) fn condition(&self, name: &str) -> Condition {
        self.sheet(name).condition
    }

    fn generation(&self, name: &str) -> u64 {
        self.sheet(name).generation
    }

    /// The pid says whose process it is: the generation, and a number of the name.
    pub(super) fn process(&self, name: &str) -> Process {
        let generation = self.generation(name);
        let letters: u64 = name.bytes().map(u64::from).sum();
        Process { pid: i32::try_from(letters * 10 + generation).unwrap(), start_time: generation }
    }

    pub(super) fn spawned(&mut self, name: &str) -> Vec<String> {
        let process = self.process(name);
        self.input(Input::Spawned {
            instance: name.into(),
            generation: self.generation(name),
            process,
        })
    }

    pub(super) fn spawn_failed(&mut self, name: &str, passing: bool) -> Vec<String> {
        self.input(Input::SpawnFailed {
            instance: name.into(),
            generation: self.generation(name),
            failure: SpawnFailure { reason: "could not execute /srv/web".into(), passing },
        })
    }

    pub(super) fn exited(&mut self, name: &str, exit: Exit) -> Vec<String> {
        let generation = self.generation(name);
        self.input(Input::Exited { instance: name.into(), generation, exit })
    }

    pub(super) fn swept(&mut self, name: &str) -> Vec<String> {
        let generation = self.generation(name);
        self.input(Input::Swept { instance: name.into(), generation, killed: vec![] })
    }

    /// Exited and swept.
    pub(super) fn gone(&mut self, name: &str, exit: Exit) -> Vec<String> {
        let mut effects = self.exited(name, exit);
        effects.extend(self.swept(name));
        effects
    }

    pub(super) fn probed(&mut self, name: &str, probe: Probe, ok: bool) -> Vec<String> {
        self.input(Input::Probed {
            instance: name.into(),
            generation: self.generation(name),
            probe,
            ok,
            detail: if ok { "200".into() } else { "503".into() },
        })
    }

    pub(super) fn load(&mut self, name: &str, in_flight: InFlight) -> Vec<String> {
        self.input(Input::Load { instance: name.into(), in_flight })
    }

    pub(super) fn ran(
        &mut self,
        name: &str,
        index: usize,
        outcome: Result<(), &str>,
    ) -> Vec<String> {
        self.input(Input::Ran {
            service: self.sheet(name).service,
            instance: name.into(),
            index,
            outcome: outcome.map_err(str::to_owned),
        })
    }

    /// Alice orders it, unguarded: the sentence or the refusal, and the effects.
    pub(super) fn ask(&mut self, verb: Verb) -> (Result<String, Refusal>, Vec<String>) {
        self.ask_as("alice", verb)
    }

    pub(super) fn ask_as(
        &mut self,
        login: &str,
        verb: Verb,
    ) -> (Result<String, Refusal>, Vec<String>) {
        let order = Order { by: by(login), verb, guard: false };
        let (answer, effects) = self.fleet.order(self.now, order);
        (answer, self.note(effects))
    }

    /// Alice orders it and is obeyed.
    pub(super) fn tell(&mut self, verb: Verb) -> Vec<String> {
        let (answer, effects) = self.ask(verb.clone());
        assert!(answer.is_ok(), "{verb:?}: {answer:?}");
        effects
    }

    /// Alice orders it and is refused.
    pub(super) fn refusal(&mut self, verb: Verb) -> String {
        let (answer, effects) = self.ask(verb);
        assert_eq!(effects, [""; 0], "a refusal must change nothing");
        let refusal = answer.unwrap_err();
        format!("{:?}: {}: {}", refusal.kind, refusal.what, refusal.why)
    }

    /// Alice asks under the guard: the question, or nothing if it went at once.
    pub(super) fn question(&mut self, verb: Verb) -> Option<String> {
        let order = Order { by: by("alice"), verb, guard: true };
        let (answer, effects) = self.fleet.order(self.now, order);
        let effects = self.note(effects);
        answer.err().map(|refusal| {
            assert_eq!(effects, [""; 0], "a question must change nothing");
            assert_eq!(refusal.kind, super::input::RefusalKind::Confirm, "{refusal:?}");
            refusal.why
        })
    }
}

/// `web1` and `web2` with other rules for rollouts.
pub(super) fn with(change: impl FnOnce(&mut RolloutRules)) -> ServiceRules {
    let mut service = web(&["web1", "web2"]);
    change(&mut service.rollout);
    service
}

pub(super) fn rollout_sheet(rig: &Rig) -> RolloutSheet {
    rig.fleet.service_sheet("web").unwrap().rollout.unwrap()
}

/// `draining web1`.
pub(super) fn place(rig: &Rig) -> String {
    let sheet = rollout_sheet(rig);
    let instance = sheet.instance.map_or(String::new(), |it| format!(" {it}"));
    format!("{}{instance}", sheet.step)
}

/// The instance goes down as told and its next generation is ready.
pub(super) fn renew(rig: &mut Rig, name: &str) -> Vec<String> {
    rig.gone(name, code(0));
    rig.spawned(name);
    rig.probed(name, Probe::Readiness, true)
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Spawn { instance, generation } => format!("spawn {instance}#{generation}"),
        Effect::Signal { instance, signal, .. } => format!("{signal} {instance}"),
        Effect::Survey { instance, .. } => format!("survey {instance}"),
        Effect::SignalMember { instance, member, signal } => {
            format!("{signal} pid {} of {instance}", member.pid)
        }
        Effect::Follow { instance, .. } => format!("follow {instance}"),
        Effect::KillAll { instance, generation } => format!("kill all {instance}#{generation}"),
        Effect::Sweep { instance, generation } => format!("sweep {instance}#{generation}"),
        Effect::AwaitStop { instance, generation, unbegun, .. } => {
            let else_run = if *unbegun { ", else run it" } else { "" };
            format!("await stop {instance}#{generation}{else_run}")
        }
        Effect::RunStop { instance, generation, .. } => format!("run stop {instance}#{generation}"),
        Effect::AwaitStart { instance, generation } => {
            format!("await start {instance}#{generation}")
        }
        Effect::LetGo { instance, generation } => format!("let go {instance}#{generation}"),
        Effect::StartProbe { instance, probe, .. } => format!("start {probe:?} {instance}"),
        Effect::StopProbe { instance, probe } => format!("stop {probe:?} {instance}"),
        Effect::Admit { instance, .. } => format!("admit {instance}"),
        Effect::TakeOut { instance, .. } => format!("out {instance}"),
        Effect::Run { instance, command: Command::Build(i), .. } => format!("build {i} {instance}"),
        Effect::Run { instance, command: Command::RollBack(i), .. } => {
            format!("roll back {i} {instance}")
        }
        Effect::CancelRun { instance, .. } => format!("cancel {instance}"),
        Effect::Set { service, values } => format!("set {service} {values:?}"),
        Effect::Unset { service } => format!("unset {service}"),
        Effect::TakeValues { instance, back: false } => format!("take {instance}"),
        Effect::TakeValues { instance, back: true } => format!("back {instance}"),
        Effect::Remember { instance, goal, held_by } => {
            let goal = if *goal == Goal::Up { "up" } else { "down" };
            let held = held_by.as_ref().map_or(String::new(), |by| format!(", held by {by}"));
            format!("remember {instance} {goal}{held}")
        }
        Effect::Keep(it) => format!("keep {}", it.instance),
        Effect::KeepRollout { service, .. } => format!("keep rollout of {service}"),
        Effect::KeepRound { service, .. } => format!("keep round of {service}"),
        Effect::Record(it) => it.message.clone(),
    }
}
