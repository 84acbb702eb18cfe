//! The fleet: every service and every instance, and the turn that each input takes.
//!
//! ```text
//! input or order ─► the instance or service it is about ─► indexes ─► whoever that concerns ─► effects
//! ```
//!
//! A turn touches one instance and then whoever is due because of it: its service, where a rollout is
//! under way, and its dependents. Everything that follows from a state is decided from the state as it
//! is, so it does not matter which input led there. Nothing here walks over the whole fleet except a
//! new configuration and the end.

use std::collections::BTreeSet;

use super::depends::Depends;
use super::foreign::Find;
use super::health::Health;
use super::input::{Effect, Goal, Input, Order, Refusal};
use super::instance::{Body, Instance, Phase, Rest, Spare, Vitals};
use super::ladder::{Errand, Manner};
use super::memory::{Memory, digest};
use super::roster::{Named, Roster};
use super::service::Service;
use super::sheet::{Condition, ServiceSheet, Sheet};
use super::time::Timestamp;
use super::turn::{Dice, Turn};
use super::words::{By, Name, Process};

/// Decides what is done on this host.
pub struct Fleet {
    pub(super) services: Roster<Service>,
    pub(super) instances: Roster<Instance>,
    /// Configured services, in file order.
    pub(super) file_order: Vec<Name>,
    pub(super) depends: Depends,
    deadlines: BTreeSet<(Timestamp, Key)>,
    changed: Vec<Name>,
    /// Who has to be looked at again in this turn.
    due: BTreeSet<Key>,
    pub(super) begun: bool,
    /// Everything is being stopped.
    pub(super) closing: Option<By>,
    occupied: usize,
    pub(super) dice: Dice,
}

/// An instance or a service by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Instance(usize),
    Service(usize),
}

impl Fleet {
    /// An empty fleet. The seed decides the jitter of backoffs, so that runs can be repeated.
    pub fn new(seed: u64) -> Self {
        Self {
            services: Roster::new(),
            instances: Roster::new(),
            file_order: Vec::new(),
            depends: Depends::default(),
            deadlines: BTreeSet::new(),
            changed: Vec::new(),
            due: BTreeSet::new(),
            begun: false,
            closing: None,
            occupied: 0,
            dice: Dice::new(seed),
        }
    }

    /// Takes what happened and returns what to do about it, in order.
    ///
    /// Every input is accepted in every state; what no longer matters returns no effects.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Effect> {
        let mut turn = self.turn(now);
        self.route(input, &mut turn);
        self.settle(&mut turn);
        turn.effects
    }

    /// Begins what an operator wants done, or says why not. `Ok` is a sentence of what was begun.
    pub fn order(
        &mut self,
        now: Timestamp,
        order: Order,
    ) -> (Result<String, Refusal>, Vec<Effect>) {
        let mut turn = self.turn(now);
        let outcome = self.carry_out(order, &mut turn);
        self.settle(&mut turn);
        (outcome, turn.effects)
    }

    /// When to hand in [`Input::DeadlineReached`] if nothing happens before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// In file order; services that are gone from the file and have not ended yet come last.
    pub fn service_names(&self) -> Vec<Name> {
        let leaving = self.services.values().filter(|it| it.removed).map(|it| it.name().clone());
        self.file_order.iter().cloned().chain(leaving).collect()
    }

    pub fn service_sheet(&self, service: &str) -> Option<ServiceSheet> {
        self.services.get(service).map(|service| self.describe_service(service))
    }

    pub fn instance_sheet(&self, instance: &str) -> Option<Sheet> {
        self.instances.get(instance).map(|instance| self.describe(instance))
    }

    /// Whether there is an instance of this name.
    pub fn knows(&self, instance: &str) -> bool {
        self.instances.get(instance).is_some()
    }

    pub fn service_of(&self, instance: &str) -> Option<&Name> {
        self.instances.get(instance).map(|it| &it.rules.name)
    }

    pub fn generation_of(&self, instance: &str) -> Option<u64> {
        self.instances.get(instance).map(|it| it.generation)
    }

    pub fn condition_of(&self, instance: &str) -> Option<Condition> {
        self.instances.get(instance).map(Instance::condition)
    }

    /// Whether it was said to be in rotation; `None`: it was taken over, and nothing was said yet.
    pub fn rotation_of(&self, instance: &str) -> Option<bool> {
        self.instances.get(instance)?.rotation
    }

    /// What runs of it.
    pub fn process_of(&self, instance: &str) -> Option<Process> {
        self.instances.get(instance)?.process()
    }

    /// Services that changed since the last call, those that are gone included.
    pub fn take_changed(&mut self) -> BTreeSet<Name> {
        let changed = std::mem::take(&mut self.changed);
        for name in &changed {
            if let Some(it) = self.services.get_mut(name) {
                it.changed = false;
            }
        }
        changed.into_iter().collect()
    }

    /// Everything was told to stop, and nothing runs any more.
    pub fn is_at_rest(&self) -> bool {
        self.closing.is_some() && self.occupied == 0
    }

    fn turn(&self, now: Timestamp) -> Turn {
        Turn::new(now, self.begun && self.closing.is_none())
    }

    fn route(&mut self, input: Input, turn: &mut Turn) {
        match input {
            Input::Configured(rules) => self.configure(rules, turn),
            Input::Renamed { from, to } => self.rename(&from, &to, turn),
            Input::WasReady { instance, generation } => {
                self.touch(&instance, turn, |it, _| it.was_ready = Some(generation));
            }
            Input::Remembered { instance, goal, held_by } => {
                self.on_remembered(&instance, goal, held_by, turn);
            }
            Input::Adopted { instance, process, generation, started, fingerprint, foreign } => {
                self.make_room_for(&instance, None, turn);
                self.touch(&instance, turn, |it, turn| {
                    let body = Body::new(process, started, Health::adopted(), foreign);
                    it.adopt(turn, body, generation, fingerprint);
                });
            }
            Input::Departed { instance, generation, started, fingerprint } => {
                self.make_room_for(&instance, None, turn);
                self.touch(&instance, turn, |it, turn| {
                    it.depart(turn, generation, started, fingerprint);
                });
            }
            Input::Ladder { instance, ladder } => {
                self.make_room_for(&instance, Some(*ladder), turn);
            }
            Input::Recalled(memory) => {
                self.recall(*memory, turn);
            }
            Input::RolloutRecalled { service, rollout } => self.recall_rollout(&service, *rollout),
            Input::RoundRecalled { service, round } => {
                self.recall_round(&service, *round, turn.now);
            }
            Input::Generation { instance, generation } => {
                let known = self.touch(&instance, turn, |it, _| {
                    it.generation = it.generation.max(generation);
                });
                if known.is_none() {
                    self.note_spare_generation(&instance, generation);
                }
            }
            Input::Port { instance, port } => {
                self.touch(&instance, turn, |it, _| it.own.port = Some(port));
            }
            Input::Begin => self.begin(turn),
            Input::Found { instance, process, generation, started, note } => {
                let find = Find { process, generation, started, note };
                self.touch(&instance, turn, |it, turn| it.find(turn, find));
            }
            Input::StopBegun { instance, generation } => {
                self.touch(&instance, turn, |it, _| it.on_stop_begun(generation));
            }
            Input::StopFailed { instance, generation, why } => {
                self.touch(&instance, turn, |it, turn| it.on_stop_failed(turn, generation, &why));
            }
            Input::Missed { instance, why, is_odd } => {
                self.on_missed(&instance, why, is_odd, turn);
            }
            Input::Spawned { instance, generation, process } => {
                self.touch(&instance, turn, |it, turn| it.on_spawned(turn, generation, process));
            }
            Input::SpawnFailed { instance, generation, failure } => {
                self.touch(&instance, turn, |it, turn| {
                    it.on_spawn_failed(turn, generation, failure);
                });
            }
            Input::Exited { instance, generation, exit } => {
                self.touch(&instance, turn, |it, turn| it.on_exited(turn, generation, exit));
            }
            Input::Swept { instance, generation, killed } => {
                self.touch(&instance, turn, |it, turn| it.on_swept(turn, generation, &killed));
            }
            Input::Probed { instance, generation, probe, ok, detail } => {
                self.touch(&instance, turn, |it, turn| {
                    it.on_probed(turn, generation, probe, ok, detail);
                });
            }
            Input::Load { instance, in_flight } => {
                self.touch(&instance, turn, |it, turn| {
                    it.on_load(in_flight);
                    it.descend(turn);
                });
            }
            Input::Lost { instance, requests, late, at } => {
                self.touch(&instance, turn, |it, turn| {
                    it.on_lost((requests, late), at);
                    it.descend(turn);
                });
            }
            Input::Cut { instance, generation, requests } => {
                self.touch(&instance, turn, |it, turn| it.on_cut(turn.now, generation, requests));
            }
            Input::TakenOut { instance } => {
                self.touch(&instance, turn, |it, turn| {
                    it.takeouts = it.takeouts.saturating_sub(1);
                    it.descend(turn);
                });
            }
            Input::NotTakenOut { instance, why } => self.on_not_taken_out(&instance, &why, turn),
            Input::Members { instance, process, workers } => {
                self.on_members(&instance, process, &workers, turn);
            }
            Input::Workers { instance, process, workers, shown } => {
                self.on_workers(&instance, process, (&workers, shown), turn);
            }
            Input::Ran { service, instance, index, outcome } => {
                self.on_ran(&service, &instance, index, outcome, turn);
            }
            Input::DeadlineReached => self.on_deadline(turn),
        }
    }

    fn begin(&mut self, turn: &mut Turn) {
        self.begun = true;
        turn.open = self.closing.is_none();
        self.resume_all(turn);
        self.due.extend(self.instances.numbers().map(Key::Instance));
    }

    fn on_deadline(&mut self, turn: &mut Turn) {
        let now = turn.now;
        let past = self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key);
        for key in past.collect::<Vec<_>>() {
            match key {
                Key::Instance(number) => {
                    self.touch_at(number, turn, |it, turn| it.on_deadline(turn));
                }
                Key::Service(_) => {
                    self.due.insert(key);
                }
            }
        }
    }

    /// Lets something happen to an instance, then brings everything that knows about it up to date.
    pub(super) fn touch<R>(
        &mut self,
        name: &Name,
        turn: &mut Turn,
        act: impl FnOnce(&mut Instance, &mut Turn) -> R,
    ) -> Option<R> {
        let number = self.instances.number(name.as_str())?;
        self.touch_at(number, turn, act)
    }

    fn touch_at<R>(
        &mut self,
        number: usize,
        turn: &mut Turn,
        act: impl FnOnce(&mut Instance, &mut Turn) -> R,
    ) -> Option<R> {
        let begun = self.begun;
        let instance = self.instances.at_mut(number)?;
        let result = act(instance, turn);
        instance.note_condition(turn.now);
        // Before everything is known, an adopted instance may turn out to be wanted down.
        if begun {
            instance.sync(turn);
            instance.keep(turn);
        }
        self.reindex(number);
        Some(result)
    }

    /// Keeps deadlines, counts and the list of changes in step with one instance.
    fn reindex(&mut self, number: usize) {
        let Some(instance) = self.instances.at_mut(number) else { return };
        let vitals = instance.look();
        if self.services.at(instance.home).is_some_and(Service::has_business) {
            self.due.insert(Key::Service(instance.home));
        }
        if vitals == instance.vitals {
            return;
        }
        let name = instance.name().clone();
        let before = std::mem::replace(&mut instance.vitals, vitals.clone());
        self.move_deadline(Key::Instance(number), before.deadline, vitals.deadline);
        self.due.insert(Key::Instance(number));
        self.recount(&name, &before, &vitals);
    }

    fn move_deadline(&mut self, key: Key, before: Option<Timestamp>, after: Option<Timestamp>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.deadlines.remove(&(at, key));
        }
        if let Some(at) = after {
            self.deadlines.insert((at, key));
        }
    }

    /// Keeps the deadline of what goes on in a service.
    pub(super) fn keep_deadline(&mut self, service: &Name) {
        let Some(number) = self.services.number(service.as_str()) else { return };
        let Some(it) = self.services.at_mut(number) else { return };
        let (before, after) = (it.deadline, it.business_deadline());
        it.deadline = after;
        self.move_deadline(Key::Service(number), before, after);
    }

    fn recount(&mut self, name: &Name, before: &Vitals, after: &Vitals) {
        self.occupied -= usize::from(before.occupied);
        self.occupied += usize::from(after.occupied);
        let Some(home) = after.home.or(before.home) else { return };
        if let Some(former) = before.home.filter(|it| *it != home) {
            self.recount_in(former, name, before, &Vitals::default());
            self.recount_in(home, name, &Vitals::default(), after);
        } else {
            self.recount_in(home, name, before, after);
        }
    }

    fn recount_in(&mut self, home: usize, name: &Name, before: &Vitals, after: &Vitals) {
        let Some(it) = self.services.at_mut(home) else { return };
        let (was_ready, was_empty) = (it.is_ready(), it.counts.occupied == 0);
        it.count_out(name, before);
        it.count_in(name, after);
        let (is_ready, is_empty) = (it.is_ready(), it.counts.occupied == 0);
        if it.has_business() {
            self.due.insert(Key::Service(home));
        }
        if !std::mem::replace(&mut it.changed, true) {
            self.changed.push(it.name().clone());
        }
        if is_ready != was_ready || is_empty != was_empty {
            let service = it.name().clone();
            if is_ready && !was_ready {
                self.wake(&service, Depends::on);
            }
            if is_empty && !was_empty {
                self.wake(&service, Depends::of);
            }
        }
    }

    /// Has the members of the neighbours of a service looked at.
    fn wake(&mut self, service: &Name, neighbours: for<'a> fn(&'a Depends, &Name) -> &'a [Name]) {
        for neighbour in neighbours(&self.depends, service) {
            let members = self.services.get(neighbour).map_or(&[][..], |it| &it.members);
            let numbers = members.iter().filter_map(|it| self.instances.number(it.as_str()));
            self.due.extend(numbers.map(Key::Instance));
        }
    }

    pub(super) fn mark_changed(&mut self, service: &Name) {
        if let Some(it) = self.services.get_mut(service)
            && !std::mem::replace(&mut it.changed, true)
        {
            self.changed.push(service.clone());
        }
    }

    /// Has an instance looked at before the turn ends.
    pub(super) fn look_at(&mut self, instance: &Name) {
        let number = self.instances.number(instance.as_str());
        self.due.extend(number.map(Key::Instance));
    }

    /// Has a service looked at before the turn ends.
    pub(super) fn look_at_service(&mut self, service: &Name) {
        let number = self.services.number(service.as_str());
        self.due.extend(number.map(Key::Service));
    }

    /// Has everything looked at before the turn ends.
    pub(super) fn look_at_all(&mut self) {
        self.due.extend(self.instances.numbers().map(Key::Instance));
        self.due.extend(self.services.numbers().map(Key::Service));
    }

    /// Looks at everybody who is due, until nobody is.
    fn settle(&mut self, turn: &mut Turn) {
        while let Some(key) = self.due.pop_first() {
            match key {
                Key::Instance(number) => self.consider(number, turn),
                Key::Service(number) => {
                    if let Some(name) = self.services.at(number).map(|it| it.name().clone()) {
                        self.attend(&name, turn);
                    }
                }
            }
        }
    }

    /// Starts or stops an instance if its state as it is asks for that.
    fn consider(&mut self, number: usize, turn: &mut Turn) {
        if !self.begun {
            return;
        }
        if self.instances.at(number).is_some_and(Instance::has_a_place_it_lost) {
            self.touch_at(number, turn, |_, _| {});
        }
        let Some(instance) = self.instances.at(number) else { return };
        let wanted = instance.is_wanted() && self.closing.is_none();
        match &instance.phase {
            Phase::Idle(_) if instance.removed => self.forget(number, turn),
            // Stopped by an operator: nothing would ever start it again.
            Phase::Idle(_) if instance.is_spare() && instance.goal == Goal::Down => {
                self.forget(number, turn);
            }
            Phase::Idle(Rest::Stopped) if wanted && !instance.is_foreign() => {
                if self.awaited(instance).is_none() {
                    self.touch_at(number, turn, Instance::start);
                }
            }
            Phase::Idle(Rest::Backoff { .. } | Rest::Exited | Rest::Fatal) if !wanted => {
                self.touch_at(number, turn, |it, _| it.phase = Phase::Idle(Rest::Stopped));
            }
            Phase::Up(_) | Phase::Leaving(..)
                if self.is_let_go(instance) && instance.can_be_let_go() =>
            {
                let name = instance.name().clone();
                self.let_go(&name, turn);
            }
            Phase::Up(_) | Phase::Spawning(None) if !wanted && !self.is_let_go(instance) => {
                if self.may_stop(instance) {
                    let errand = self.errand_of_leaving(instance);
                    self.touch_at(number, turn, |it, turn| it.leave(turn, errand, Manner::Ladder));
                }
            }
            Phase::Up(_) => {
                self.touch_at(number, turn, |it, turn| it.on_time(turn));
            }
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Leaving(..) | Phase::Sweeping(_) => {}
        }
    }

    /// The first service that this instance has to wait for.
    pub(super) fn awaited(&self, instance: &Instance) -> Option<&Name> {
        let on = self.depends.of(&instance.rules.name).iter();
        on.into_iter().find(|it| !self.services.get(*it).is_some_and(Service::is_ready))
    }

    /// Nothing that depends on it and is on its way out as well still runs.
    fn may_stop(&self, instance: &Instance) -> bool {
        self.depends.on(&instance.rules.name).iter().all(|dependent| {
            self.services.get(dependent).is_none_or(|it| {
                it.counts.occupied == 0 || !(self.closing.is_some() || it.is_leaving())
            })
        })
    }

    fn errand_of_leaving(&self, instance: &Instance) -> Errand {
        match &self.closing {
            Some(by) => Errand::Shutdown(by.clone()),
            None if instance.spare == Spare::Dismissed => Errand::Surplus,
            None if !instance.is_configured() => Errand::Configuration,
            None => Errand::Unwanted,
        }
    }

    /// Drops an instance that is gone from the configuration, and its service with the last one.
    fn forget(&mut self, number: usize, turn: &mut Turn) {
        let Some(instance) = self.instances.remove(number) else { return };
        let name = instance.name();
        self.move_deadline(Key::Instance(number), instance.vitals.deadline, None);
        self.recount(name, &instance.vitals, &Vitals::default());
        if let Some(it) = self.services.at_mut(instance.home) {
            it.members.retain(|member| member != name);
            if instance.is_spare() {
                it.spare = None;
                it.spare_generation = it.spare_generation.max(instance.generation);
            }
        }
        // One of that name that comes later begins with nothing.
        let nothing = Memory::nothing(name.clone());
        if instance.kept != digest(&nothing) {
            turn.push(Effect::Keep(Box::new(nothing)));
        }
        self.mark_changed(&instance.rules.name);
        self.drop_if_empty(&instance.rules.name, turn);
    }

    pub(super) fn drop_if_empty(&mut self, service: &Name, turn: &mut Turn) {
        let Some(number) = self.services.number(service.as_str()) else { return };
        let empty = |it: &&Service| it.removed && it.members.is_empty();
        let Some(it) = self.services.at(number).filter(empty) else { return };
        if it.kept != 0 {
            turn.push(Effect::KeepRollout { service: service.clone(), rollout: None });
        }
        if it.kept_round != 0 {
            turn.push(Effect::KeepRound { service: service.clone(), round: None });
        }
        self.move_deadline(Key::Service(number), it.deadline, None);
        self.services.remove(number);
    }
}
