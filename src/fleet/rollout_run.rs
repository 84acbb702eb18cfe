//! A rolling restart in progress: what it is at, and what comes next.
//!
//! ```text
//! Choosing ─► Building ─► Choosing ─► Renewing (drain, stop, start, ready) ─► Settling ─► Choosing … ─► Over
//! ```
//!
//! The stage says what is waited for; what comes next is chosen by [`rollout::next`] from the members as
//! they are. `rollout_step.rs` has the work on one instance, `rollout_end.rs` how a rollout ends.

use std::time::Duration;

use super::fleet::Fleet;
use super::input::Effect;
use super::rollout::{self, Member, Next};
use super::rollout_state::{Outcome, Rollout, Stage, Waiting};
use super::rollout_step::{Renewing, Settling};
use super::roster::Named;
use super::turn::{Turn, span};
use super::words::Name;

impl Fleet {
    /// Moves the rollout of a service on as far as it goes in this turn.
    pub(super) fn progress(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let Some(mut rollout) = it.rollout.take_if(|it| it.is_under_way()) else { return };
        let before = rollout.mark();
        while rollout.is_under_way() && self.advance(service, &mut rollout, turn) {}
        let moved = rollout.mark() != before;
        if let Some(it) = self.services.get_mut(service) {
            it.rollout = Some(rollout);
        }
        if moved {
            self.mark_changed(service);
        }
    }

    /// One transition; false when there is nothing to do but wait.
    fn advance(&mut self, service: &Name, rollout: &mut Rollout, turn: &mut Turn) -> bool {
        if let Stage::Dismissing { spare } = &rollout.stage {
            let spare = spare.clone();
            return self.watch_dismissal(service, rollout, &spare, turn);
        }
        if let Some(name) = rollout.instance().cloned()
            && !self.is_member(service, &name)
            && !self.is_spare_to_come(service, rollout, &name)
        {
            return self.go_on_without(service, rollout, &name, turn);
        }
        match rollout.stage.clone() {
            Stage::Choosing { built, waiting } => {
                self.choose(service, rollout, built, waiting, turn)
            }
            Stage::Building { .. } if rollout.aborted_by.is_some() => {
                self.end(service, rollout, Outcome::Aborted, turn);
                false
            }
            Stage::Renewing { instance, floor, mishaps, give_up } => {
                let renewing = Renewing { name: &instance, floor, mishaps, give_up };
                self.watch(service, rollout, renewing, turn)
            }
            Stage::Settling { instance, mishaps, until } => {
                let settling = Settling { name: &instance, mishaps, until };
                self.watch_settling(service, rollout, settling, turn)
            }
            Stage::Building { .. } | Stage::Dismissing { .. } | Stage::Over { .. } => false,
        }
    }

    fn is_member(&self, service: &Name, name: &Name) -> bool {
        self.instances.get(name).is_some_and(|it| it.is_wanted() && it.rules.name == *service)
    }

    /// The present instance is no longer wanted: the rollout goes on without it, but not without its
    /// spare.
    fn go_on_without(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        name: &Name,
        turn: &mut Turn,
    ) -> bool {
        if self.spare_of(service) == Some(name) && rollout.aborted_by.is_none() {
            self.halt(service, rollout, Some(name), format!("{name} was stopped"), turn);
            return false;
        }
        self.skip(service, rollout, name, turn);
        true
    }

    fn skip(&mut self, service: &Name, rollout: &mut Rollout, name: &Name, turn: &mut Turn) {
        if let Stage::Building { instance, .. } = &rollout.stage {
            let (service, instance) = (service.clone(), instance.clone());
            turn.push(Effect::CancelRun { service, instance });
        }
        self.touch(name, turn, |it, _| it.benched = false);
        rollout.go_on();
    }

    /// The members of a service as a rollout sees them.
    pub(super) fn members(&self, service: &Name, rollout: Option<&Rollout>) -> Vec<Member> {
        let Some(home) = self.services.get(service) else { return vec![] };
        let members = home.members.iter().filter_map(|name| self.instances.get(name));
        members
            .filter(|it| it.is_wanted())
            .map(|it| {
                let name = it.name().clone();
                let mishaps = rollout.and_then(|rollout| rollout.mishaps.get(&name));
                let due = |rollout: &Rollout| match it.is_spare() {
                    true => mishaps.is_none(),
                    false => rollout.is_due(&name),
                };
                Member {
                    backup: it.own.backup,
                    ready: it.is_ready(),
                    serving: it.is_serving(),
                    held: it.held_by.is_some(),
                    due: rollout.is_none_or(due),
                    renewed: mishaps.is_some(),
                    failed: mishaps.is_some_and(|mishaps| it.mishaps != *mishaps),
                    moving: it.is_occupied() && it.up().is_none()
                        || it.may_serve() && !it.is_serving(),
                    healing: home.healing.as_ref() == Some(&name)
                        && it.is_occupied()
                        && !it.is_ready(),
                    spare: it.is_spare(),
                    name,
                }
            })
            .collect()
    }

    /// How many have to keep serving, for so many members.
    pub(super) fn min_ready(&self, service: &Name, members: usize) -> usize {
        let configured = self.services.get(service).and_then(|it| it.rules.rollout.min_ready);
        match configured.and_then(|it| usize::try_from(it).ok()) {
            Some(min_ready) => min_ready,
            None => members.saturating_sub(1),
        }
    }

    /// Taking it away leaves `min_ready` serving, as far as so many can be had without it.
    pub(super) fn can_do_without(&self, service: &Name, members: &[Member], index: usize) -> bool {
        let most = members.len().saturating_sub(1);
        let min_ready = self.min_ready(service, members.len()).min(most);
        rollout::can_spare(members, index, min_ready)
    }

    fn choose(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        built: Option<Name>,
        waiting: Option<Waiting>,
        turn: &mut Turn,
    ) -> bool {
        let members = self.cast(service, Some(rollout));
        let due = members.iter().filter(|it| it.due && !it.spare).count();
        rollout.of = rollout.renewed.len() + due;
        if rollout.aborted_by.is_some() || members.iter().all(|it| it.spare) {
            // An abort that came while the last one was renewed has nothing to leave out.
            let is_done = due == 0 && !rollout.renewed.is_empty();
            let is_well = is_done && !members.iter().any(|it| it.failed);
            let outcome = if is_well { Outcome::Done } else { Outcome::Aborted };
            self.end(service, rollout, outcome, turn);
            return false;
        }
        if rollout.paused {
            rollout.stage = Stage::Choosing { built, waiting: None };
            return false;
        }
        let min_ready = self.least(service, &members, Some(rollout));
        match rollout::next(&members, min_ready, built.as_ref()) {
            Next::Done => self.wind_up(service, rollout, (built, waiting), turn),
            Next::Halt { index, why } => {
                self.halt(service, rollout, Some(&members[index].name), why, turn);
                false
            }
            Next::Take(index) => {
                let name = members[index].name.clone();
                self.begin_step(service, rollout, name, built.as_ref(), turn);
                true
            }
            Next::Wait(why) => self.hold_on(service, rollout, (built, waiting), why, turn),
        }
    }

    pub(super) fn hold_on(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        (built, waiting): (Option<Name>, Option<Waiting>),
        why: String,
        turn: &mut Turn,
    ) -> bool {
        let timeout = self.ready_timeout(service);
        let waiting = waiting.unwrap_or(Waiting { give_up: turn.now + timeout });
        if turn.now >= waiting.give_up {
            let why = format!("waited {} in vain: {why}", span(timeout));
            self.halt(service, rollout, None, why, turn);
        } else {
            rollout.stage = Stage::Choosing { built, waiting: Some(waiting) };
        }
        false
    }

    fn ready_timeout(&self, service: &Name) -> Duration {
        self.services.get(service).map_or(Duration::ZERO, |it| it.rules.rollout.ready_timeout)
    }
}
