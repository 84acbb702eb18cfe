//! What an operator orders of a rollout: begin, abort, pause, resume, roll back, and the plan beforehand.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Fleet;
use super::guard::ask;
use super::input::{Effect, Extra, Mark, Refusal, RefusalKind};
use super::instance::{Instance, Phase, Rest};
use super::ladder::Stop;
use super::orders::{Answer, Asker, refused};
use super::rollout::{self, Member, Outlook};
use super::rollout_state::{Outcome, Rollout, Stage};
use super::roster::Named;
use super::sheet::Plan;
use super::time::Timestamp;
use super::turn::{Turn, elapsed};
use super::words::Name;

impl Fleet {
    /// What a rolling restart of this service would do now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Only if there is no such service: a plan that cannot begin says so in [`Plan::blocked`].
    pub fn plan(&self, service: &str) -> Result<Plan, Refusal> {
        let name = Name::from(service);
        self.find_service(&name, &format!("{name} cannot be planned"))?;
        let members = self.cast(&name, None);
        let min_ready = self.least(&name, &members, None);
        let (downtime, stuck) = outlook_in_words(&members, min_ready);
        let blocked = match self.may_roll(&name, None) {
            Err(refusal) => Some(refusal.why),
            Ok(()) => stuck,
        };
        Ok(Plan {
            min_ready: u32::try_from(min_ready).unwrap_or(u32::MAX),
            steps: rollout::steps(&members),
            downtime,
            blocked,
        })
    }

    pub(super) fn roll(
        &mut self,
        service: &Name,
        set: BTreeMap<String, String>,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let what = format!("{service} was not rolled");
        self.may_roll(service, Some(turn.now))?;
        let members = self.cast(service, None);
        let min_ready = self.least(service, &members, None);
        let (downtime, stuck) = outlook_in_words(&members, min_ready);
        ask(asker.guard, &what, downtime.or(stuck))?;
        if !set.is_empty() {
            turn.push(Effect::Set { service: service.clone(), values: set });
        }
        let rollout = Rollout::new(turn.now, asker.by.clone(), None);
        let of = members.iter().filter(|it| !it.spare).count();
        Ok(self.begin_rollout(service, rollout, of, turn))
    }

    fn begin_rollout(
        &mut self,
        service: &Name,
        mut rollout: Rollout,
        of: usize,
        turn: &mut Turn,
    ) -> String {
        let serving = self.members(service, None).iter().filter(|it| it.serving).count();
        rollout.serving = serving;
        let title = rollout.title(service);
        let steps = rollout::steps(&self.cast(service, Some(&rollout)));
        let plan = steps.into_iter().map(|it| it.instance).collect();
        let spare = self.spare_of(service).cloned();
        let began = Extra::Rollout(Mark::Began { plan, spare, rollback: rollout.rollback });
        turn.tell(service, ("rollout-started", Some(&rollout.by), title.clone()), began);
        if let Some(it) = self.services.get_mut(service) {
            it.rollout = Some(rollout);
        }
        self.mark_changed(service);
        self.look_at_service(service);
        format!("the {title} has begun, {of} to renew")
    }

    /// Why a rollout of this service cannot begin, if it cannot.
    fn may_roll(&self, service: &Name, now: Option<Timestamp>) -> Result<(), Refusal> {
        let what = format!("{service} was not rolled");
        let home = self.find_service(service, &what)?;
        if self.closing.is_some() {
            return Err(refused(what, "everything is being shut down", None));
        }
        if home.is_leaving() {
            return Err(refused(what, format!("the configuration wants {service} down"), None));
        }
        self.may_start_all(&home.members, true, &what)?;
        self.may_begin(service, &what, now)?;
        let members = self.cast(service, None);
        let own = members.iter().filter_map(|it| self.instances.get(&it.name));
        let own: Vec<&Instance> = own.filter(|it| !it.is_spare()).collect();
        if own.is_empty() {
            let why = format!("nothing of {service} runs");
            return Err(refused(what, why, Some("start it instead: key s, `opsdeck start`")));
        }
        if !own.iter().any(|it| it.is_occupied()) {
            // Nobody serves: what is started takes nothing away.
            return self.may_start_now(&own, what);
        }
        let (min_ready, n) = (self.least(service, &members, None), members.len());
        if min_ready >= n {
            let why = format!("min_ready is {min_ready} of {n}, so none may ever be taken away");
            let help = "set `min_ready` below the number of instances that are up";
            return Err(refused(what, why, Some(help)));
        }
        Ok(())
    }

    /// Of what is wanted up and does not run: it may wait for another service still.
    fn may_start_now(&self, own: &[&Instance], what: String) -> Result<(), Refusal> {
        let mut waiting = own.iter().filter(|it| matches!(it.phase, Phase::Idle(Rest::Stopped)));
        match waiting.find_map(|it| Some((it.name(), self.awaited(it)?))) {
            Some((name, other)) => {
                Err(refused(what, format!("{name} waits for {other} to be ready"), None))
            }
            None => Ok(()),
        }
    }

    /// One rollout per service at a time, and none beside a signal that takes instances out of rotation.
    pub(super) fn may_begin(
        &self,
        service: &Name,
        what: &str,
        now: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        let wave = self.services.get(service).and_then(|it| it.wave.as_ref());
        if let Some(wave) = wave.filter(|it| it.drains) {
            let why = format!("{} of {} is still on its way", wave.signal, wave.by);
            return Err(Refusal::new(RefusalKind::Busy, what.to_owned(), why, None));
        }
        let Some(rollout) = self.rollout_under_way(service) else { return Ok(()) };
        let instance = rollout.instance().and_then(|it| self.instances.get(it));
        let place = match instance {
            Some(it) => format!("{} {}", rollout.step(Some(it)), it.name()),
            None => rollout.step(None).to_owned(),
        };
        let title = rollout.title(service);
        let ago =
            now.map_or(String::new(), |now| format!(" {} ago", elapsed(now.since(rollout.began))));
        let why = format!("{} began the {title}{ago}; it is at: {place}", rollout.by);
        let help = format!("wait for it, or abort it: key a, `opsdeck roll --abort {service}`");
        Err(Refusal::new(RefusalKind::Busy, what.to_owned(), why, Some(&help)))
    }

    fn rollout_under_way(&self, service: &Name) -> Option<&Rollout> {
        self.services.get(service)?.rollout.as_ref().filter(|it| it.is_under_way())
    }

    /// The rollout under way, to be changed.
    fn running(&mut self, service: &Name, what: &str) -> Result<&mut Rollout, Refusal> {
        self.find_service(service, what)?;
        let rollout = self.services.get_mut(service).and_then(|it| it.rollout.as_mut());
        rollout.filter(|it| it.is_under_way()).ok_or_else(|| {
            refused(what.to_owned(), format!("no rolling restart of {service} is under way"), None)
        })
    }

    pub(super) fn abort(&mut self, service: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = "nothing was aborted";
        let rollout = self.running(service, what)?;
        if let Some(by) = &rollout.aborted_by {
            return Err(refused(what.into(), format!("{by} has aborted it already"), None));
        }
        rollout.aborted_by = Some(asker.by.clone());
        rollout.paused = false;
        let title = rollout.title(service);
        let finishing = match &rollout.stage {
            Stage::Renewing { instance, .. } | Stage::Settling { instance, .. } => {
                Some(instance.clone())
            }
            Stage::Choosing { .. }
            | Stage::Building { .. }
            | Stage::Dismissing { .. }
            | Stage::Over { .. } => None,
        };
        self.mark_changed(service);
        self.progress(service, turn);
        self.look_at_service(service);
        Ok(match finishing.filter(|_| self.rollout_under_way(service).is_some()) {
            Some(name) => format!("the {title} ends after {name}"),
            None => format!("the {title} has ended"),
        })
    }

    pub(super) fn pause(&mut self, service: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = "nothing was paused";
        let rollout = self.running(service, what)?;
        if rollout.paused {
            return Err(refused(what.into(), "it is paused already", None));
        }
        rollout.paused = true;
        let title = rollout.title(service);
        turn.say(service, "rollout-paused", Some(&asker.by), format!("{title} paused"));
        self.mark_changed(service);
        self.look_at_service(service);
        Ok(format!("the {title} pauses before the next instance"))
    }

    pub(super) fn resume(&mut self, service: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = "nothing was resumed";
        let rollout = self.running(service, what)?;
        if !rollout.paused {
            return Err(refused(what.into(), "it is not paused", None));
        }
        rollout.paused = false;
        let title = rollout.title(service);
        turn.say(service, "rollout-resumed", Some(&asker.by), format!("{title} resumed"));
        self.mark_changed(service);
        self.look_at_service(service);
        Ok(format!("the {title} goes on"))
    }

    pub(super) fn roll_back(&mut self, service: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{service} was not rolled back");
        let home = self.find_service(service, &what)?;
        if self.closing.is_some() {
            return Err(refused(what, "everything is being shut down", None));
        }
        if home.rules.rollout.rollback == 0 {
            let why = format!("{service} has no `rollback` commands");
            return Err(refused(what, why, Some("set `rollout.rollback`")));
        }
        if self.rollout_under_way(service).is_some_and(|it| it.rollback) {
            self.may_begin(service, &what, Some(turn.now))?;
        }
        let targets = self.renewed_by_the_last(service);
        if targets.is_empty() {
            return Err(refused(what, "no rolling restart has renewed anything", None));
        }
        self.close_rollout(service, asker, turn);
        turn.push(Effect::Unset { service: service.clone() });
        let of = targets.len();
        let rollout = Rollout::new(turn.now, asker.by.clone(), Some(targets));
        Ok(self.begin_rollout(service, rollout, of, turn))
    }

    /// What the last rollout has changed: the renewed ones, and the one it was at once that one could
    /// not be taken back any more.
    pub(super) fn renewed_by_the_last(&self, service: &Name) -> BTreeSet<Name> {
        let rollout = self.services.get(service).and_then(|it| it.rollout.as_ref());
        let Some(rollout) = rollout else { return BTreeSet::new() };
        let untouched = |name: &&Name| {
            let instance = self.instances.get(*name);
            rollout.is_under_way()
                && instance.and_then(Instance::stop).is_some_and(Stop::can_be_taken_back)
        };
        let touched = rollout.touched();
        let touched = touched.filter(|it| !untouched(it) && !self.is_spare(service, it));
        let renewed = rollout.renewed.iter();
        let former = rollout.targets.iter().flatten();
        renewed.chain(touched).chain(former).cloned().collect()
    }

    /// Ends a rollout where it is, for something else that takes its place.
    pub(super) fn close_rollout(&mut self, service: &Name, asker: &Asker, turn: &mut Turn) {
        let Some(it) = self.services.get_mut(service) else { return };
        let Some(mut rollout) = it.rollout.take() else { return };
        if rollout.is_under_way() {
            rollout.aborted_by = Some(asker.by.clone());
            if let Some(name) = rollout.touched().cloned() {
                self.touch(&name, turn, |it, turn| {
                    let back = it.come_back_as_it_was(turn);
                    it.benched &= !back;
                });
            }
            self.end(service, &mut rollout, Outcome::Aborted, turn);
        }
        if let Some(it) = self.services.get_mut(service) {
            it.rollout = Some(rollout);
        }
    }
}

/// Downtime and dead ends of a plan, as sentences.
fn outlook_in_words(members: &[Member], min_ready: usize) -> (Option<String>, Option<String>) {
    match rollout::outlook(members, min_ready) {
        Outlook::Fine => (None, None),
        Outlook::Downtime(index) => {
            let name = &members[index].name;
            (Some(format!("nothing else serves while {name} restarts: this means downtime")), None)
        }
        Outlook::Stuck { why, .. } => (None, Some(why)),
    }
}
