//! A host that exists only in tests.
//!
//! It carries out effects by scheduling what a real host would report, then jumps to whatever comes
//! first: its own next event or the deadline of the fleet. Processes are slow, deaf or mortal, die at
//! birth, leave others behind, sleep in the kernel when SIGKILL comes; probes flap, get lost and come
//! late; builds fail; the daemon is replaced. What a process does is drawn from one seed when it is
//! spawned, so every run can be repeated.
//!
//! After every turn the [promises](super::sim_promises) are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Fleet;
use super::input::{
    Effect, Exit, Goal, InFlight, Input, Order, OutOfMemory, Probe, Refusal, Status,
};
use super::memory::{Memory, Round};
use super::rollout_state::Rollout;
use super::roster::Named;
use super::rules::ServiceRules;
use super::sim_host::{Group, Temper};
use super::time::Timestamp;
use super::turn::Dice;
use super::words::{By, Name};

/// Something that will happen unless the world changes before.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Report(Input),
    Ends { instance: Name, generation: u64, status: Status },
    Gone { instance: Name, generation: u64 },
    Probe { instance: Name, generation: u64, probe: Probe },
}

pub(super) struct Sim {
    pub(super) fleet: Fleet,
    pub(super) now: Timestamp,
    pub(super) dice: Dice,
    pub(super) temper: Temper,
    pub(super) rules: Vec<ServiceRules>,
    /// Living groups, by instance and generation.
    pub(super) groups: BTreeMap<(Name, u64), Group>,
    /// The highest generation that was ever started.
    pub(super) highest: BTreeMap<Name, u64>,
    /// What the gateway sends requests to.
    pub(super) admitted: BTreeSet<Name>,
    /// What is probed: instance and probe, with the generation.
    pub(super) probes: BTreeMap<(Name, Probe), u64>,
    pub(super) commands: BTreeMap<Name, (Name, usize)>,
    pub(super) terms: BTreeMap<(Name, u64), u32>,
    remembered: BTreeMap<Name, (Goal, Option<By>)>,
    kept: BTreeMap<Name, Memory>,
    rollouts: BTreeMap<Name, Rollout>,
    rounds: BTreeMap<Name, Round>,
    pub(super) future: BTreeMap<(Timestamp, u64), Happening>,
    pub(super) counter: u64,
    /// How many served when the last rollout of a service began.
    pub(super) served_before: BTreeMap<Name, usize>,
    /// Turns since the clock last moved.
    pub(super) turns: u32,
    /// What has happened to an instance that a rollout was at.
    pub(super) seen: BTreeSet<&'static str>,
}

impl Sim {
    pub(super) fn new(rules: Vec<ServiceRules>, temper: Temper, seed: u64) -> Self {
        let mut sim = Self {
            fleet: Fleet::new(seed),
            now: Timestamp(Duration::from_secs(1000)),
            dice: Dice::new(seed),
            temper,
            rules,
            groups: BTreeMap::new(),
            highest: BTreeMap::new(),
            admitted: BTreeSet::new(),
            probes: BTreeMap::new(),
            commands: BTreeMap::new(),
            terms: BTreeMap::new(),
            remembered: BTreeMap::new(),
            kept: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            rounds: BTreeMap::new(),
            future: BTreeMap::new(),
            counter: 1,
            served_before: BTreeMap::new(),
            turns: 0,
            seen: BTreeSet::new(),
        };
        sim.input(Input::Configured(sim.rules.clone()));
        sim.input(Input::Begin);
        sim
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.dice.roll() % 100 < percent
    }

    pub(super) fn within(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.dice.roll() % millis.max(1))
    }

    pub(super) fn later(&mut self, delay: Duration, happening: Happening) {
        self.counter += 1;
        self.future.insert((self.now + delay, self.counter), happening);
    }

    pub(super) fn input(&mut self, input: Input) {
        let before = self.before();
        let said = format!("{input:?}");
        let effects = self.fleet.handle(self.now, input);
        self.carry_out_all(effects);
        self.check_promises(&before, &said);
        self.check_bench(&before, &said);
    }

    pub(super) fn order(&mut self, order: Order) -> Result<String, Refusal> {
        let before = self.before();
        let said = format!("{:?}", order.verb);
        let (answer, effects) = self.fleet.order(self.now, order);
        self.carry_out_all(effects);
        self.check_promises(&before, &said);
        answer
    }

    /// Lets the next thing happen that happens before `until`. False once that moment is reached.
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        let event = self.future.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.fleet.next_deadline();
        let Some(next) = event.into_iter().chain(deadline).min().filter(|it| *it <= until) else {
            self.now = until.max(self.now);
            self.turns = 0;
            return false;
        };
        self.turns = if next > self.now { 0 } else { self.turns + 1 };
        assert!(self.turns < 2000, "time stands still at {:?}", self.now);
        self.now = next.max(self.now);
        if deadline.is_some_and(|at| at <= self.now) {
            self.input(Input::DeadlineReached);
        } else if let Some((_, happening)) = self.future.pop_first() {
            self.happen(happening);
        }
        true
    }

    /// A rollout and the instance it is at.
    pub(super) fn present_step(&self) -> Option<(Name, Name)> {
        self.fleet.services.values().find_map(|it| {
            let rollout = it.rollout.as_ref().filter(|it| it.is_under_way())?;
            Some((it.name().clone(), rollout.instance()?.clone()))
        })
    }

    /// Remembers that this has happened, if a rollout is at the instance.
    pub(super) fn see_at_a_step(&mut self, what: &'static str, instance: &Name) {
        let rollouts = self.fleet.services.values().filter_map(|it| it.rollout.as_ref());
        let mut present = rollouts.filter(|it| it.is_under_way()).filter_map(Rollout::instance);
        if present.any(|it| it == instance) {
            self.seen.insert(what);
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Report(input) => {
                if let Input::Ran { service, instance, outcome, .. } = &input {
                    self.commands.remove(service);
                    if outcome.is_err() {
                        self.see_at_a_step("failing command", instance);
                    }
                }
                if let Input::Spawned { instance, generation, .. } = &input
                    && let Some(group) = self.groups.get_mut(&(instance.clone(), *generation))
                {
                    group.told = true;
                }
                self.input(input);
            }
            Happening::Ends { instance, generation, status } => {
                self.end(instance, generation, status);
            }
            Happening::Gone { instance, generation } => {
                let group = self.groups.remove(&(instance.clone(), generation));
                let survivors = group.map_or(0, |it| it.survivors);
                if survivors > 0 {
                    self.see_at_a_step("survivor", &instance);
                }
                let killed = (0..survivors)
                    .map(|n| (9000 + i32::try_from(n).unwrap(), "child".to_owned()))
                    .collect();
                self.input(Input::Swept { instance, generation, killed });
            }
            Happening::Probe { instance, generation, probe } => {
                self.probe(instance, generation, probe);
            }
        }
    }

    fn end(&mut self, instance: Name, generation: u64, status: Status) {
        let Some(group) = self.groups.get_mut(&(instance.clone(), generation)) else { return };
        let told = group.told;
        if std::mem::replace(&mut group.leader_lives, false) {
            if !told {
                self.see_at_a_step("exit before the start", &instance);
            } else if self.fleet.instances.get(&instance).is_some_and(|it| it.up().is_some()) {
                self.see_at_a_step("exit by itself", &instance);
            }
            let exit = Exit { status, out_of_memory: OutOfMemory::No };
            self.input(Input::Exited { instance, generation, exit });
        }
    }

    fn probe(&mut self, instance: Name, generation: u64, probe: Probe) {
        if self.probes.get(&(instance.clone(), probe)) != Some(&generation) {
            return;
        }
        let again = Duration::from_millis(500) + self.within(1500);
        let next = Happening::Probe { instance: instance.clone(), generation, probe };
        self.later(again, next);
        let now = self.now;
        let flips = self.chance(25);
        let lost = self.chance(self.temper.lost);
        let Some(group) = self.groups.get(&(instance.clone(), generation)) else { return };
        let well = match probe {
            Probe::Liveness => group.sick_at.is_none_or(|at| now < at),
            Probe::Startup | Probe::Readiness => group.ready_at.is_some_and(|at| now >= at),
        };
        let ok = well && !(group.flaps && flips);
        if !ok && probe == Probe::Liveness {
            self.see_at_a_step("failing liveness", &instance);
        }
        let detail = if ok { "200" } else { "503" }.to_owned();
        if lost {
            let what = if flips { "lost result" } else { "late result" };
            self.see_at_a_step(what, &instance);
        }
        let result = Input::Probed { instance, generation, probe, ok, detail };
        if !lost {
            self.input(result);
        } else if !flips {
            let late = self.within(8000);
            self.later(late, Happening::Report(result));
        }
    }

    fn carry_out_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { instance, generation } => self.spawn(instance, generation),
            Effect::Signal { instance, process, signal } => self.signal(instance, process, signal),
            Effect::KillAll { instance, generation } => self.kill_all(instance, generation, true),
            Effect::Sweep { instance, generation } => self.kill_all(instance, generation, false),
            Effect::StartProbe { instance, generation, probe } => {
                self.probes.insert((instance.clone(), probe), generation);
                let first = self.within(1000);
                self.later(first, Happening::Probe { instance, generation, probe });
            }
            Effect::StopProbe { instance, probe } => {
                let known = self.probes.remove(&(instance.clone(), probe));
                assert!(known.is_some(), "{probe:?} of {instance} was not running");
            }
            Effect::Admit { instance, .. } => {
                self.admitted.insert(instance);
            }
            Effect::TakeOut { instance, .. } => self.take_out(&instance),
            Effect::Run { service, instance, command } => {
                let (super::input::Command::Build(index) | super::input::Command::RollBack(index)) =
                    command;
                let other = self.commands.insert(service.clone(), (instance.clone(), index));
                assert_eq!(other, None, "two commands of {service} at once");
                let fails = self.chance(self.temper.build_fails);
                let outcome = if fails { Err("exit code 1".into()) } else { Ok(()) };
                let takes = self.within(5000);
                let ran = Input::Ran { service, instance, index, outcome };
                self.later(takes, Happening::Report(ran));
            }
            Effect::CancelRun { service, .. } => self.cancel(&service),
            Effect::Remember { instance, goal, held_by } => {
                self.remembered.insert(instance, (goal, held_by));
            }
            Effect::Keep(memory) => drop(self.kept.insert(memory.instance.clone(), *memory)),
            Effect::KeepRollout { service, rollout } => {
                self.rollouts.remove(&service);
                self.rollouts.extend(rollout.map(|it| (service, *it)));
            }
            Effect::KeepRound { service, round } => {
                self.rounds.remove(&service);
                self.rounds.extend(round.map(|it| (service, *it)));
            }
            Effect::Set { .. }
            | Effect::Unset { .. }
            | Effect::TakeValues { .. }
            // No profile of the simulation says who is renewed.
            | Effect::Survey { .. }
            // Nothing in it is foreign.
            | Effect::LetGo { .. }
            | Effect::RunStop { .. }
            | Effect::AwaitStop { .. }
            | Effect::AwaitStart { .. }
            // Nobody signals single processes there.
            | Effect::SignalMember { .. }
            | Effect::Follow { .. }
            | Effect::Record(_) => {}
        }
    }

    /// A command that is cancelled does not report any more.
    fn cancel(&mut self, service: &Name) {
        assert!(self.commands.remove(service).is_some(), "no command of {service} runs");
        self.future.retain(|_, it| {
            !matches!(it, Happening::Report(Input::Ran { service: of, .. }) if of == service)
        });
    }

    fn take_out(&mut self, instance: &Name) {
        self.admitted.remove(instance);
        // A gateway that hangs does not answer.
        if !self.chance(5) {
            let takes = self.within(300);
            let taken_out = Input::TakenOut { instance: instance.clone() };
            self.later(takes, Happening::Report(taken_out));
        }
        let Some(((_, generation), group)) = self.groups.iter().find(|((it, _), _)| it == instance)
        else {
            return;
        };
        if group.exact && *generation > 0 {
            let drained = self.within(15_000);
            self.report_load(instance, drained, InFlight::Exact(0));
        }
    }

    fn report_load(&mut self, instance: &Name, delay: Duration, in_flight: InFlight) {
        let load = Input::Load { instance: instance.clone(), in_flight };
        self.later(delay, Happening::Report(load));
    }

    /// Requests come in.
    pub(super) fn make_busy(&mut self) {
        let n = u32::try_from(self.dice.roll() % 5).unwrap();
        let busy: Vec<(Name, bool)> =
            self.groups.iter().map(|((name, _), it)| (name.clone(), it.exact)).collect();
        for (name, exact) in busy {
            let flight = if exact { InFlight::Exact(n) } else { InFlight::Estimated(n) };
            self.report_load(&name, Duration::ZERO, flight);
            if exact {
                let ends = self.within(8000);
                self.report_load(&name, ends, InFlight::Exact(0));
            }
        }
    }

    pub(super) fn reconfigure(&mut self, rules: Vec<ServiceRules>) {
        self.rules = rules;
        self.input(Input::Configured(self.rules.clone()));
    }

    /// The daemon is replaced: the next one knows goals, generations, what was under way, and what it
    /// finds alive or dead.
    pub(super) fn replace_daemon(&mut self) {
        if self.present_step().is_some() {
            self.seen.insert("daemon");
        }
        self.fleet = Fleet::new(self.dice.roll());
        let fronted = |name: &Name| {
            let mut rules = self.rules.iter().filter(|it| it.fronted);
            rules.any(|it| {
                let is_spare = it.rollout.spare.as_ref() == Some(name);
                is_spare || it.instances.iter().any(|it| it.name == *name)
            })
        };
        self.admitted.retain(fronted);
        self.probes.clear();
        self.commands.clear();
        for group in self.groups.values_mut() {
            group.told = true;
            group.dying = false;
        }
        self.die_in_the_dark();
        self.future.retain(|_, it| matches!(it, Happening::Ends { .. }));
        self.input(Input::Configured(self.rules.clone()));
        for (instance, (goal, held_by)) in self.remembered.clone() {
            self.input(Input::Remembered { instance, goal, held_by });
        }
        for (instance, generation) in self.highest.clone() {
            self.input(Input::Generation { instance, generation });
        }
        for ((instance, generation), group) in self.groups.clone() {
            let (process, started, fingerprint) = (group.process, group.started, group.fingerprint);
            let foreign = false;
            self.input(if group.leader_lives {
                Input::Adopted { instance, process, generation, started, fingerprint, foreign }
            } else {
                Input::Departed { instance, generation, started, fingerprint }
            });
        }
        for memory in self.kept.clone().into_values() {
            self.input(Input::Recalled(Box::new(memory)));
        }
        for (service, rollout) in self.rollouts.clone() {
            self.input(Input::RolloutRecalled { service, rollout: Box::new(rollout) });
        }
        for (service, round) in self.rounds.clone() {
            self.input(Input::RoundRecalled { service, round: Box::new(round) });
        }
        self.input(Input::Begin);
    }

    /// Some end while there is no daemon.
    fn die_in_the_dark(&mut self) {
        for key in self.groups.keys().cloned().collect::<Vec<_>>() {
            if self.chance(15)
                && let Some(group) = self.groups.get_mut(&key)
            {
                group.leader_lives = false;
            }
        }
    }
}
