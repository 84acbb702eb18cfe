//! Restarts of instances that fail liveness.
//!
//! One instance of a service at a time, with the backoff of a crash, never beside a step of a rollout,
//! and never below what a rollout would leave serving: a probe that fails everywhere at once (the
//! database is gone) must not take the service down with it.

use super::fleet::Fleet;
use super::instance::{Ending, Instance, Phase};
use super::ladder::{Errand, Manner};
use super::rollout_state::Rollout;
use super::time::Timestamp;
use super::turn::Turn;
use super::words::Name;

impl Fleet {
    /// Whatever is going on beyond single instances, one step further.
    pub(super) fn attend(&mut self, service: &Name, turn: &mut Turn) {
        self.progress(service, turn);
        self.ripple(service, turn);
        self.heal(service, turn);
        self.dismiss_spare(service, turn);
        self.keep_rollout(service, turn);
        self.keep_round(service, turn);
        self.keep_deadline(service);
    }

    fn heal(&mut self, service: &Name, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        if it.sick.is_empty() {
            it.told_all_sick = false;
            return;
        }
        let healed = it.healing.as_ref().and_then(|name| self.instances.get(name));
        let recovering = healed.is_some_and(|it| it.is_recovering(turn.now));
        self.tell_if_all_are_sick(service, usize::from(recovering), turn);
        let Some(it) = self.services.get(service) else { return };
        // One that is out of rotation for a reload comes back first.
        let mut members = it.members.iter().filter_map(|name| self.instances.get(name));
        let reloading = members.any(Instance::is_reloading);
        if recovering || reloading || it.rollout.as_ref().is_some_and(Rollout::is_in_step) {
            return;
        }
        let members = self.members(service, None);
        let next = members.iter().enumerate().find(|(i, member)| {
            let sick = it.sick.contains(&member.name) && !member.moving;
            sick && self.can_do_without(service, &members, *i)
        });
        let Some((_, member)) = next else { return };
        self.restart_sick(service, &member.name, turn);
    }

    fn restart_sick(&mut self, service: &Name, name: &Name, turn: &mut Turn) {
        if let Some(it) = self.services.get_mut(service) {
            it.healing = Some(name.clone());
        }
        self.touch(name, turn, |it, turn| {
            let detail = it.up().map_or("", |body| body.health.liveness.detail());
            it.say(turn, "live-failed", None, format!("restarts, liveness fails: {detail}"));
            it.leave(turn, Errand::Liveness, Manner::Ladder);
        });
    }

    /// When all fail, the cause is rarely in them: one event says so.
    fn tell_if_all_are_sick(&mut self, service: &Name, recovering: usize, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let all = it.counts.wanted > 1 && it.sick.len() + recovering >= it.counts.wanted;
        let news = all && !it.told_all_sick;
        it.told_all_sick = all;
        if news {
            let message = format!(
                "all {} instances fail liveness: the cause is probably something they share",
                it.counts.wanted
            );
            turn.say(service, "live-failed", None, message);
        }
    }
}

impl Instance {
    /// It is being restarted because of its liveness, and not given up yet.
    fn is_recovering(&self, now: Timestamp) -> bool {
        match &self.phase {
            Phase::Leaving(_, stop) => stop.errand == Errand::Liveness,
            Phase::Sweeping(aftermath) => matches!(aftermath.ending, Ending::Sick { .. }),
            Phase::Spawning(_) => true,
            Phase::Up(body) => {
                let patience = self.rules.rollout.ready_timeout;
                let sick = body.health.is_sick();
                !sick && !self.is_ready() && now < body.started + patience
            }
            Phase::Idle(_) => false,
        }
    }
}
