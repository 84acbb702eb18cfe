//! One instance of a rolling restart: build, take, wait until it is back, let it settle.

use std::time::Duration;

use super::fleet::Fleet;
use super::input::{Command, Effect};
use super::instance::Instance;
use super::ladder::{Errand, Manner, PATIENCE_WITH_KILL, Stop};
use super::rollout_state::{Outcome, Rollout, Stage};
use super::roster::Named;
use super::time::Timestamp;
use super::turn::{Turn, elapsed, span};
use super::words::Name;

/// What was taken, to come back as a generation greater than `floor` before it is given up.
pub(super) struct Renewing<'a> {
    pub(super) name: &'a Name,
    pub(super) floor: u64,
    /// How often anything had gone wrong with it then.
    pub(super) mishaps: u64,
    pub(super) give_up: Option<Timestamp>,
}

/// What is back, and is to stay well for a while.
pub(super) struct Settling<'a> {
    pub(super) name: &'a Name,
    pub(super) mishaps: u64,
    pub(super) until: Timestamp,
}

impl Fleet {
    /// Builds the instance, or takes it once it is built.
    pub(super) fn begin_step(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        name: Name,
        built: Option<&Name>,
        turn: &mut Turn,
    ) {
        if built != Some(&name) {
            rollout.step_began = turn.now;
            if self.commands(service, rollout) > 0 {
                self.run(service, rollout, name, 0, turn);
                return;
            }
        }
        let nth = rollout.renewed.len() + 1;
        let message = match self.spare_of(service) == Some(&name) {
            true => {
                self.engage_spare(service, &name, turn);
                format!("starts {name}, which serves while others are renewed")
            }
            false => format!("renews {name}, {nth} of {}", rollout.of),
        };
        let runs = self.instances.get(&name).is_some_and(Instance::is_occupied);
        let step = if runs { "draining" } else { "starting" };
        turn.say_step(service, &rollout.by, (&name, step), message);
        let (by, back) = (rollout.by.clone(), rollout.rollback);
        let taken = self.touch(&name, turn, |it, turn| {
            let (floor, mishaps) = (it.generation, it.mishaps);
            it.benched = true;
            turn.push(Effect::TakeValues { instance: it.name().clone(), back });
            if it.is_occupied() {
                it.leave(turn, Errand::Rollout(by), Manner::Ladder);
            } else {
                it.crashes = 0;
                it.start(turn);
            }
            (floor, mishaps)
        });
        let (floor, mishaps) = taken.unwrap_or_default();
        rollout.stage = Stage::Renewing { instance: name, floor, mishaps, give_up: None };
    }

    fn commands(&self, service: &Name, rollout: &Rollout) -> usize {
        self.services.get(service).map_or(0, |it| match rollout.rollback {
            true => it.rules.rollout.rollback,
            false => it.rules.rollout.build,
        })
    }

    fn run(
        &self,
        service: &Name,
        rollout: &mut Rollout,
        instance: Name,
        index: usize,
        turn: &mut Turn,
    ) {
        let (command, word) = match rollout.rollback {
            true => (Command::RollBack(index), "rollback"),
            false => (Command::Build(index), "build"),
        };
        let of = self.commands(service, rollout);
        let message = format!("{word} {} of {of} for {instance}", index + 1);
        turn.say_step(service, &rollout.by, (&instance, "build"), message);
        turn.push(Effect::Run { service: service.clone(), instance: instance.clone(), command });
        rollout.stage = Stage::Building { instance, index };
    }

    pub(super) fn on_ran(
        &mut self,
        service: &Name,
        instance: &Name,
        index: usize,
        outcome: Result<(), String>,
        turn: &mut Turn,
    ) {
        let Some(it) = self.services.get_mut(service) else { return };
        let Some(mut rollout) = it.rollout.take() else { return };
        if let Stage::Building { instance: present, index: running } = &rollout.stage
            && present == instance
            && *running == index
        {
            self.on_command_ended(service, &mut rollout, instance, index, outcome, turn);
            self.mark_changed(service);
            self.look_at_service(service);
        }
        if let Some(it) = self.services.get_mut(service) {
            it.rollout = Some(rollout);
        }
    }

    fn on_command_ended(
        &self,
        service: &Name,
        rollout: &mut Rollout,
        instance: &Name,
        index: usize,
        outcome: Result<(), String>,
        turn: &mut Turn,
    ) {
        let of = self.commands(service, rollout);
        match outcome {
            Err(how) => {
                let word = if rollout.rollback { "rollback" } else { "build" };
                let why = format!(
                    "{word} {} of {of} for {instance} failed: {how}; {instance} was not touched",
                    index + 1
                );
                self.halt_untouched(service, rollout, instance, why, turn);
            }
            Ok(()) if index + 1 < of => {
                self.run(service, rollout, instance.clone(), index + 1, turn);
            }
            Ok(()) => {
                let built = Some(instance.clone());
                rollout.stage = Stage::Choosing { built, waiting: None };
            }
        }
    }

    /// Waits until the taken instance is back and believed.
    pub(super) fn watch(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        renewing: Renewing<'_>,
        turn: &mut Turn,
    ) -> bool {
        let Renewing { name, floor, mishaps, give_up } = renewing;
        let Some(instance) = self.instances.get(name) else { return false };
        if instance.is_spare() && rollout.aborted_by.is_some() {
            self.end(service, rollout, Outcome::Aborted, turn);
            return false;
        }
        if instance.mishaps != mishaps {
            let why = format!("{name} did not come back well: {}", self.mishap_of(instance));
            self.halt(service, rollout, Some(name), why, turn);
            return false;
        }
        let timeout = instance.rules.rollout.ready_timeout;
        if instance.generation <= floor {
            // Nothing can end it, and nobody would be told that the rollout waits for ever.
            let patience = timeout.max(PATIENCE_WITH_KILL);
            if instance.outlives_kill_by() >= patience {
                let why = format!("{name} is still there {} after SIGKILL", span(patience));
                self.halt(service, rollout, Some(name), why, turn);
                return false;
            }
            return rollout.aborted_by.is_some() && self.take_back(service, rollout, name, turn);
        }
        let give_up = give_up.unwrap_or(turn.now + timeout);
        if let Some(body) = instance.up()
            && body.health.is_proven(&instance.rules)
        {
            let until = turn.now + instance.rules.rollout.settle;
            let settle = instance.rules.rollout.settle;
            if settle > Duration::ZERO {
                let message = format!("{name} is back, it settles for {}", span(settle));
                turn.say_step(service, &rollout.by, (name, "settle"), message);
            }
            self.touch(name, turn, |it, _| it.benched = false);
            rollout.stage = Stage::Settling { instance: name.clone(), mishaps, until };
            return true;
        }
        if turn.now >= give_up {
            let complaint = match instance.up() {
                Some(body) => body.health.complaint(),
                None => Some(self.mishap_of(instance)),
            };
            let but = complaint.map_or(String::new(), |it| format!(": {it}"));
            let why = format!("{name} was not ready within {}{but}", span(timeout));
            self.halt(service, rollout, Some(name), why, turn);
            return false;
        }
        let give_up = Some(give_up);
        rollout.stage = Stage::Renewing { instance: name.clone(), floor, mishaps, give_up };
        false
    }

    fn mishap_of(&self, instance: &Instance) -> String {
        let sickness = instance.stop().filter(|stop| stop.errand.is_sickness());
        match (sickness, &instance.spawn_failure, &instance.last_exit) {
            (Some(stop), _, _) => format!("it is restarted {}", stop.errand.phrase()),
            (None, Some(reason), _) => reason.clone(),
            (None, None, Some(exit)) => format!("ended {}", exit.cause),
            (None, None, None) => "it went wrong".into(),
        }
    }

    /// An abort before the first signal: the instance goes back into rotation.
    fn take_back(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        name: &Name,
        turn: &mut Turn,
    ) -> bool {
        if !self.instances.get(name).and_then(Instance::stop).is_some_and(Stop::can_be_taken_back) {
            return false;
        }
        self.touch(name, turn, |it, turn| {
            it.benched = false;
            it.come_back_as_it_was(turn)
        });
        rollout.go_on();
        self.end(service, rollout, Outcome::Aborted, turn);
        true
    }

    /// The gateway cannot let go of an instance: a rollout does not take it from under its requests.
    pub(super) fn on_not_taken_out(&mut self, name: &Name, why: &str, turn: &mut Turn) {
        let Some(instance) = self.instances.get(name) else { return };
        let service = instance.rules.name.clone();
        let may = instance.stop().is_some_and(Stop::can_be_taken_back);
        let Some(mut rollout) = self.services.get_mut(&service).and_then(|it| it.rollout.take())
        else {
            return;
        };
        if may && matches!(&rollout.stage, Stage::Renewing { instance, .. } if instance == name) {
            self.touch(name, turn, |it, turn| {
                it.benched = false;
                it.come_back_as_it_was(turn)
            });
            let why = format!("{name} could not be taken out of rotation: {why}; it runs on");
            self.halt_untouched(&service, &mut rollout, name, why, turn);
            self.mark_changed(&service);
            self.look_at_service(&service);
        }
        if let Some(it) = self.services.get_mut(&service) {
            it.rollout = Some(rollout);
        }
    }

    pub(super) fn watch_settling(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        settling: Settling<'_>,
        turn: &mut Turn,
    ) -> bool {
        let Settling { name, mishaps, until } = settling;
        let Some(instance) = self.instances.get(name) else { return false };
        let spare = instance.is_spare();
        if spare && rollout.aborted_by.is_some() {
            self.end(service, rollout, Outcome::Aborted, turn);
            return false;
        }
        let complaint = match instance.up() {
            _ if instance.mishaps != mishaps => Some(self.mishap_of(instance)),
            Some(body) => body.health.complaint_since(until - instance.rules.rollout.settle),
            None => {
                // Somebody restarts it by hand: it has to prove itself again.
                let floor = instance.generation;
                let instance = name.clone();
                self.touch(name, turn, |it, _| it.benched = true);
                rollout.stage = Stage::Renewing { instance, floor, mishaps, give_up: None };
                return true;
            }
        };
        if let Some(complaint) = complaint {
            let why = format!("{name} did not settle: {complaint}");
            self.halt(service, rollout, Some(name), why, turn);
            return false;
        }
        if turn.now < until {
            return false;
        }
        if !spare {
            rollout.renewed.push(name.clone());
        }
        rollout.mishaps.insert(name.clone(), mishaps);
        let took = elapsed(turn.now.since(rollout.step_began));
        let message = match spare {
            true => format!("{name} stands by after {took}"),
            false => format!("{name} is renewed after {took}"),
        };
        turn.say_step(service, &rollout.by, (name, "renewed"), message);
        rollout.go_on();
        true
    }
}
