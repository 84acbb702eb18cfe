//! How a rolling restart ends.
//!
//! A failure ends it where it is: those that were not touched keep serving, and the one that failed stays
//! out of rotation until somebody says otherwise. One that answers in spite of it and is needed for
//! `min_ready` is left where it is.

use super::fleet::Fleet;
use super::input::{Effect, Extra, Record};
use super::rollout_state::{Outcome, Rollout, Stage};
use super::turn::{Turn, span};
use super::words::Name;

impl Fleet {
    /// Ends it with a failure. The one that failed stays out of rotation, unless nobody else would be
    /// left to serve.
    pub(super) fn halt(
        &mut self,
        service: &Name,
        rollout: &mut Rollout,
        failed: Option<&Name>,
        mut why: String,
        turn: &mut Turn,
    ) {
        if let Some(name) = failed {
            let members = self.members(service, None);
            let index = members.iter().position(|it| it.name == *name);
            if index.is_some_and(|it| !self.can_do_without(service, &members, it)) {
                why.push_str("; it stays in rotation: too few others serve");
            } else {
                self.touch(name, turn, |it, _| it.benched = true);
            }
        }
        let touched = failed.filter(|it| !self.is_spare(service, it)).cloned();
        if failed.is_some() && touched.is_none() && rollout.renewed.is_empty() {
            why.push_str("; no instance was touched");
        }
        self.tell_halt(service, rollout, failed, &why, turn);
        rollout.stage = Stage::Over { at: turn.now, outcome: Outcome::Halted(why), touched };
    }

    pub(super) fn halt_untouched(
        &self,
        service: &Name,
        rollout: &mut Rollout,
        instance: &Name,
        why: String,
        turn: &mut Turn,
    ) {
        self.tell_halt(service, rollout, Some(instance), &why, turn);
        rollout.stage = Stage::Over { at: turn.now, outcome: Outcome::Halted(why), touched: None };
    }

    fn tell_halt(
        &self,
        service: &Name,
        rollout: &Rollout,
        instance: Option<&Name>,
        why: &str,
        turn: &mut Turn,
    ) {
        let done = format!("{} of {} renewed", rollout.renewed.len(), rollout.of);
        turn.push(Effect::Record(Record {
            kind: "rollout-halted",
            service: Some(service.clone()),
            instance: instance.cloned(),
            by: Some(rollout.by.clone()),
            message: format!("{} halted, {done}: {why}", rollout.title(service)),
            with_evidence: true,
            extra: Extra::Nothing,
        }));
    }

    /// Ends it without a failure, wherever it is.
    pub(super) fn end(
        &self,
        service: &Name,
        rollout: &mut Rollout,
        outcome: Outcome,
        turn: &mut Turn,
    ) {
        if let Stage::Building { instance, .. } = &rollout.stage {
            let (service, instance) = (service.clone(), instance.clone());
            turn.push(Effect::CancelRun { service, instance });
        }
        let done = format!("{} of {} renewed", rollout.renewed.len(), rollout.of);
        let title = rollout.title(service);
        let (kind, message) = match outcome {
            Outcome::Done => {
                let took = turn.now.since(rollout.began);
                ("rollout-finished", format!("{title} finished after {}, {done}", span(took)))
            }
            Outcome::Aborted | Outcome::Halted(_) => {
                ("rollout-aborted", format!("{title} ended early, {done}"))
            }
        };
        let aborted_by = rollout.aborted_by.as_ref().filter(|_| kind == "rollout-aborted");
        let by = aborted_by.unwrap_or(&rollout.by);
        turn.say(service, kind, Some(by), message);
        let touched = rollout.touched().filter(|it| !self.is_spare(service, it)).cloned();
        rollout.stage = Stage::Over { at: turn.now, outcome, touched };
    }
}
