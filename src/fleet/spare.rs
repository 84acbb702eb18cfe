//! The spare of a rolling restart: one more instance, while the others are renewed.
//!
//! It is an instance like the others, with a name of its own, so there are never two generations of
//! anything at once. A rollout starts it first and renews nobody before it is ready. It is dismissed
//! (drained, stopped, forgotten) once as many others serve as before: at the end of a rollout, after an
//! abort at once, and after a halt as soon as what failed has come back. Without a rollout, as after a
//! restart of the daemon, it goes when all others serve.

use std::sync::Arc;

use super::fleet::Fleet;
use super::input::Goal;
use super::instance::{Instance, Spare};
use super::ladder::PATIENCE_WITH_KILL;
use super::rollout::Member;
use super::rollout_state::{Outcome, Rollout, Stage, Waiting};
use super::roster::Named;
use super::rules::{InstanceRules, ServiceRules};
use super::turn::{Turn, span};
use super::words::Name;

impl Fleet {
    /// The name of the spare that a rollout of this service has. Where nothing stands in front, nobody
    /// would find it.
    pub(super) fn spare_of(&self, service: &Name) -> Option<&Name> {
        let it = self.services.get(service)?;
        it.rules.rollout.spare.as_ref().filter(|_| it.rules.fronted && !it.is_leaving())
    }

    pub(super) fn is_spare(&self, service: &Name, name: &Name) -> bool {
        let known = self.instances.get(name).is_some_and(Instance::is_spare);
        known || self.spare_of(service) == Some(name)
    }

    /// It is built before there is an instance of that name.
    pub(super) fn is_spare_to_come(&self, service: &Name, rollout: &Rollout, name: &Name) -> bool {
        let before = matches!(rollout.stage, Stage::Choosing { .. } | Stage::Building { .. });
        before && self.spare_of(service) == Some(name)
    }

    /// The members, and the spare that is still to be started or is gone although it is needed.
    pub(super) fn cast(&self, service: &Name, rollout: Option<&Rollout>) -> Vec<Member> {
        let mut members = self.members(service, rollout);
        let Some(name) = self.spare_of(service) else { return members };
        if members.is_empty() || members.iter().any(|it| it.name == *name) {
            return members;
        }
        // An earlier one of that name may still be stopping.
        let moving = self.instances.get(name).is_some_and(Instance::is_occupied);
        let was_up = rollout.is_some_and(|it| it.mishaps.contains_key(name));
        members.push(Member {
            name: name.clone(),
            backup: false,
            ready: false,
            serving: false,
            held: false,
            due: !was_up,
            renewed: was_up,
            failed: was_up,
            moving,
            healing: false,
            spare: true,
        });
        members
    }

    /// How many have to keep serving: with a spare never fewer than before.
    pub(super) fn least(
        &self,
        service: &Name,
        members: &[Member],
        rollout: Option<&Rollout>,
    ) -> usize {
        if !members.iter().any(|it| it.spare) {
            return self.min_ready(service, members.len());
        }
        let serving = || members.iter().filter(|it| it.serving).count();
        let before = rollout.map_or_else(serving, |it| it.serving);
        let configured = self.services.get(service).and_then(|it| it.rules.rollout.min_ready);
        let configured = configured.and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
        before.max(configured).min(members.len() - 1)
    }

    /// Makes the spare a member of its service.
    pub(super) fn engage_spare(&mut self, service: &Name, name: &Name, turn: &mut Turn) {
        let Some(home) = self.services.number(service.as_str()) else { return };
        let former = self.instances.get(name).map(|it| it.home);
        if let Some(former) =
            former.filter(|it| *it != home).and_then(|it| self.services.at_mut(it))
        {
            former.members.retain(|it| it != name);
        }
        let seed = self.dice.roll();
        let Some(it) = self.services.at_mut(home) else { return };
        it.spare = Some(name.clone());
        if !it.members.contains(name) {
            it.members.push(name.clone());
        }
        let rules = Arc::clone(&it.rules);
        if former.is_none() {
            let own = InstanceRules::bare(name.clone());
            let mut spare = Instance::new(home, Arc::clone(&rules), own, turn.now, seed);
            spare.generation = it.spare_generation;
            self.instances.add(spare);
        }
        self.touch(name, turn, |it, _| {
            it.home = home;
            it.rules = rules;
            it.spare = Spare::Needed;
            it.removed = false;
            it.goal = Goal::Up;
        });
    }

    /// The service that has a spare of this name.
    pub(super) fn whose_spare(&self, name: &Name) -> Option<Name> {
        let is_its = |it: &&Name| self.spare_of(it) == Some(name);
        self.services.values().map(Named::name).find(is_its).cloned()
    }

    /// The next spare of that name has a greater generation.
    pub(super) fn note_spare_generation(&mut self, name: &Name, generation: u64) {
        let Some(service) = self.whose_spare(name) else { return };
        if let Some(it) = self.services.get_mut(&service) {
            it.spare_generation = it.spare_generation.max(generation);
        }
    }

    /// The spare that runs and goes on under these rules.
    pub(super) fn living_spare(&self, rules: &ServiceRules) -> Option<usize> {
        let number = self.instances.number(rules.rollout.spare.as_ref()?.as_str())?;
        let it = self.instances.at(number)?;
        (it.is_spare() && it.rules.name == rules.name).then_some(number)
    }

    pub(super) fn configure_spare(
        &mut self,
        home: usize,
        rules: &Arc<ServiceRules>,
        turn: &mut Turn,
    ) {
        if self.living_spare(rules).is_none() {
            return;
        }
        if let Some(name) = self.services.at(home).and_then(|it| it.spare.clone()) {
            self.touch(&name, turn, |it, _| it.rules = Arc::clone(rules));
            self.look_at(&name);
        }
    }

    /// All are renewed: the spare drains and stops, then the rollout is over.
    pub(super) fn wind_up(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        place: (Option<Name>, Option<Waiting>),
        turn: &mut Turn,
    ) -> bool {
        let Some(spare) = self.services.get(service).and_then(|it| it.spare.clone()) else {
            self.end(service, rollout, Outcome::Done, turn);
            return false;
        };
        if !self.can_dismiss(service, &spare, Some(rollout)) {
            let why = format!("too few others serve to end {spare}");
            return self.hold_on(service, rollout, place, why, turn);
        }
        self.dismiss(&spare, turn);
        rollout.stage = Stage::Dismissing { spare };
        true
    }

    pub(super) fn watch_dismissal(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        spare: &Name,
        turn: &mut Turn,
    ) -> bool {
        let left = self.instances.get(spare).filter(|it| it.is_spare());
        let stuck = left.is_some_and(|it| it.outlives_kill_by() >= PATIENCE_WITH_KILL);
        if stuck {
            let why = format!("{spare} is still there {} after SIGKILL", span(PATIENCE_WITH_KILL));
            self.halt(service, rollout, None, why, turn);
        } else if left.is_none() {
            self.end(service, rollout, Outcome::Done, turn);
        } else if rollout.aborted_by.is_some() {
            self.end(service, rollout, Outcome::Aborted, turn);
        }
        false
    }

    /// Ends a spare that no rollout needs any more.
    pub(super) fn dismiss_spare(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get(service).filter(|_| self.begun) else { return };
        let Some(spare) = it.spare.clone() else { return };
        let under_way = it.rollout.as_ref().is_some_and(Rollout::is_under_way);
        let dismissed = self.instances.get(&spare).is_none_or(|it| it.removed);
        if !under_way && !dismissed && self.can_dismiss(service, &spare, it.rollout.as_ref()) {
            self.dismiss(&spare, turn);
        }
    }

    fn dismiss(&mut self, spare: &Name, turn: &mut Turn) {
        self.touch(spare, turn, |it, _| {
            it.removed = true;
            it.spare = Spare::Dismissed;
        });
        self.look_at(spare);
    }

    /// Nothing of it runs, or as many others serve as did before the rollout. One that runs and is not
    /// ready may come back, and where too few others serve it may be the only one that does.
    pub(super) fn can_dismiss(
        &self,
        service: &Name,
        spare: &Name,
        rollout: Option<&Rollout>,
    ) -> bool {
        let Some(home) = self.services.get(service) else { return true };
        let runs = self.instances.get(spare).is_some_and(Instance::is_occupied);
        let members = home.members.iter().filter_map(|it| self.instances.get(it));
        let others: Vec<&Instance> =
            members.filter(|it| !it.is_spare() && it.is_wanted() && it.held_by.is_none()).collect();
        let before = rollout.map_or(usize::MAX, |it| it.serving.max(1));
        // One that fails its liveness is about to be restarted.
        let is_well = |it: &&&Instance| it.is_serving() && !home.sick.contains(it.name());
        let serving = others.iter().filter(is_well).count();
        !runs || serving >= before.min(others.len())
    }
}
