//! The processes of the simulated host: what they are like, and what signals do to them.

use std::time::Duration;

use super::input::{Input, SpawnFailure, Status};
use super::sim::{Happening, Sim};
use super::time::Timestamp;
use super::words::{Name, Process, Signal};

/// How often things go wrong, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Temper {
    pub(super) spawn_fails: u64,
    pub(super) dies: u64,
    /// Its exit is reported before its start.
    pub(super) stillborn: u64,
    pub(super) ignores_term: u64,
    pub(super) survivors: u64,
    pub(super) slow_kill: u64,
    /// SIGKILL does nothing until [`Sim::free_the_stuck`].
    pub(super) stuck: u64,
    pub(super) never_ready: u64,
    /// Of the results of probes: lost, or told when nobody asks any more.
    pub(super) lost: u64,
    pub(super) flaps: u64,
    pub(super) sickens: u64,
    pub(super) build_fails: u64,
    pub(super) counts: u64,
}

/// A process and what it left behind.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) process: Process,
    pub(super) started: Timestamp,
    pub(super) fingerprint: u64,
    pub(super) leader_lives: bool,
    /// Its start was reported.
    pub(super) told: bool,
    pub(super) survivors: u32,
    ignores_term: bool,
    slow_kill: bool,
    /// It sleeps in the kernel: SIGKILL does nothing.
    pub(super) stuck: bool,
    /// SIGKILL works from then on; drawn when the first one comes.
    pub(super) mortal_from: Option<Timestamp>,
    pub(super) dying: bool,
    pub(super) flaps: bool,
    pub(super) ready_at: Option<Timestamp>,
    pub(super) sick_at: Option<Timestamp>,
    pub(super) exact: bool,
}

impl Sim {
    pub(super) fn spawn(&mut self, instance: Name, generation: u64) {
        let alive = self.groups.keys().find(|(name, _)| *name == instance);
        assert_eq!(alive, None, "{instance} has two generations at once");
        let highest = self.highest.insert(instance.clone(), generation).unwrap_or(0);
        assert!(generation > highest, "{instance} starts generation {generation} again");
        let delay = self.within(50);
        if self.chance(self.temper.spawn_fails) {
            self.see_at_a_step("spawn failure", &instance);
            let passing = self.chance(50);
            let failure = SpawnFailure { reason: "could not execute it".into(), passing };
            let failed = Input::SpawnFailed { instance, generation, failure };
            self.later(delay, Happening::Report(failed));
            return;
        }
        let group = self.draw_group(&instance, generation);
        let process = group.process;
        if self.chance(self.temper.stillborn) {
            let status = Status::Code(255);
            let ends = Happening::Ends { instance: instance.clone(), generation, status };
            self.later(Duration::ZERO, ends);
        } else if self.chance(self.temper.dies) {
            let life = self.within(90_000);
            let status = if self.chance(50) { Status::Code(1) } else { Status::Signal(Signal(11)) };
            let ends = Happening::Ends { instance: instance.clone(), generation, status };
            self.later(delay + life, ends);
        }
        self.groups.insert((instance.clone(), generation), group);
        let spawned = Input::Spawned { instance, generation, process };
        self.later(delay, Happening::Report(spawned));
    }

    fn draw_group(&mut self, instance: &Name, generation: u64) -> Group {
        self.counter += 1;
        let temper = self.temper;
        let start = self.within(20_000);
        let sickens = self.within(60_000);
        let stuck = self.chance(temper.stuck);
        let own = self.rules.iter().flat_map(|it| &it.instances).find(|it| it.name == *instance);
        let fingerprint = own.map_or(0, |it| it.fingerprint);
        Group {
            process: Process { pid: i32::try_from(self.counter).unwrap(), start_time: generation },
            started: self.now,
            fingerprint,
            leader_lives: true,
            told: false,
            survivors: u32::from(stuck || self.chance(temper.survivors)),
            ignores_term: self.chance(temper.ignores_term),
            slow_kill: self.chance(temper.slow_kill),
            stuck,
            mortal_from: None,
            dying: false,
            flaps: self.chance(temper.flaps),
            ready_at: (!self.chance(temper.never_ready)).then_some(self.now + start),
            sick_at: self.chance(temper.sickens).then_some(self.now + sickens),
            exact: self.chance(temper.counts),
        }
    }

    pub(super) fn signal(&mut self, instance: Name, process: Process, signal: Signal) {
        let generation = process.start_time;
        let key = (instance.clone(), generation);
        let Some(group) = self.groups.get(&key) else { return };
        assert_eq!(group.process, process, "{instance}: a signal to somebody else");
        if signal == Signal::TERM {
            let terms = self.terms.entry(key).or_default();
            *terms += 1;
            assert_eq!(*terms, 1, "{instance} got SIGTERM twice");
        }
        let deaf = group.ignores_term || signal == Signal::USR1;
        if !deaf {
            let takes = self.within(4000);
            let status = if self.chance(50) { Status::Code(0) } else { Status::Signal(signal) };
            self.later(takes, Happening::Ends { instance, generation, status });
        }
    }

    /// Kills what is left. What sleeps in the kernel meanwhile has to be asked again.
    pub(super) fn kill_all(&mut self, instance: Name, generation: u64, leader_too: bool) {
        let (now, sleeps, takes) = (self.now, self.within(25_000), self.within(10));
        let Some(group) = self.groups.get_mut(&(instance.clone(), generation)) else {
            self.later(Duration::ZERO, Happening::Gone { instance, generation });
            return;
        };
        assert!(leader_too || !group.leader_lives, "{instance} was swept while its leader lives");
        let sleeps = if group.slow_kill { sleeps } else { Duration::ZERO };
        let mortal_from = *group.mortal_from.get_or_insert(now + sleeps);
        if group.stuck {
            self.see_at_a_step("stuck process", &instance);
            return;
        }
        if now < mortal_from || std::mem::replace(&mut group.dying, true) {
            return;
        }
        let status = Status::Signal(Signal::KILL);
        let ends = Happening::Ends { instance: instance.clone(), generation, status };
        self.later(takes, ends);
        self.later(takes, Happening::Gone { instance, generation });
    }

    /// The disk or the network file system answers again.
    pub(super) fn free_the_stuck(&mut self) {
        self.temper.stuck = 0;
        for group in self.groups.values_mut().filter(|it| it.stuck) {
            group.stuck = false;
            group.mortal_from = group.mortal_from.and(Some(self.now));
        }
    }
}
