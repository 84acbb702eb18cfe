//! Processes that somebody else runs: found, followed, and left alone.
//!
//! Nothing of them is started or restarted unless somebody asks for it, and nothing is stopped because the
//! configuration or this daemon goes away. Whoever starts one has the last word: what is found running is
//! wanted, whatever was ordered before. What one leaves behind is not swept either: it may be meant to stay.

use super::fleet::Fleet;
use super::health::Health;
use super::input::{Effect, Goal, Refusal};
use super::instance::{Body, Instance, Phase, Rest};
use super::ladder::{Errand, Stop};
use super::orders::refused;
use super::roster::Named;
use super::time::Timestamp;
use super::turn::Turn;
use super::words::{Name, Process, Signal};

/// A foreign process, as it was found.
pub(super) struct Find {
    pub(super) process: Process,
    pub(super) generation: u64,
    pub(super) started: Timestamp,
    /// What else is to be told of it.
    pub(super) note: String,
}

impl Instance {
    /// Somebody else runs it, as the configuration says: what runs now may still be the other.
    pub(super) fn is_foreign(&self) -> bool {
        self.rules.foreign.is_some()
    }

    /// There is a way to start it.
    pub(super) fn can_start(&self) -> bool {
        self.rules.foreign.is_none_or(|it| it.starts)
    }

    /// What its probes say may end it.
    pub(super) fn is_healed(&self) -> bool {
        self.rules.foreign.is_none_or(|it| it.liveness_restarts)
    }

    /// After a stop with this errand the next generation is started by us.
    pub(super) fn is_brought_back(&self, errand: Option<&Errand>) -> bool {
        let is_asked_for = match errand {
            Some(
                Errand::Restart(_)
                | Errand::Rollout(_)
                | Errand::Liveness
                | Errand::Startup
                // Somebody has changed their mind since.
                | Errand::Stop(_)
                | Errand::Unwanted,
            ) => true,
            Some(
                Errand::Term(_)
                | Errand::Kill(_)
                | Errand::Configuration
                | Errand::Shutdown(_)
                | Errand::Surplus,
            )
            | None => false,
        };
        !self.is_foreign() || self.can_start() && is_asked_for
    }

    /// Follows a process that was found, instead of the one before if that is still known.
    pub(super) fn find(&mut self, turn: &mut Turn, find: Find) {
        let Find { process, generation, started, note } = find;
        let message = match std::mem::replace(&mut self.phase, Phase::Idle(Rest::Stopped)) {
            Phase::Idle(_) => format!("found running, pid {}{note}", process.pid),
            Phase::Up(before) => {
                self.stop_probes(turn, before.probing);
                let pid = before.process.pid;
                format!("is another process now, pid {} instead of {pid}{note}", process.pid)
            }
            phase @ (Phase::Spawning(_) | Phase::Leaving(..) | Phase::Sweeping(_)) => {
                self.phase = phase;
                return;
            }
        };
        if self.goal == Goal::Down {
            (self.goal, self.goal_by) = (Goal::Up, None);
            self.remember(turn);
        }
        self.generation = self.generation.max(generation);
        self.runs = Some(self.own.fingerprint);
        (self.rotation, self.told_ready) = (Some(false), None);
        (self.in_flight, self.cut_at, self.late) = (None, None, 0);
        (self.absence, self.spawn_failure, self.signalled) = (None, None, None);
        self.phase = Phase::Up(Body::new(process, started, Health::fresh(), true));
        self.say(turn, "found", None, message);
        self.on_time(turn);
    }

    /// It is opsdeck's own from now on: that nobody starts what has ended was true of somebody else's.
    pub(super) fn begin_anew(&mut self) {
        self.absence = None;
        if let Phase::Idle(rest @ (Rest::Exited | Rest::Fatal)) = &mut self.phase {
            *rest = Rest::Stopped;
        }
    }

    /// The configuration has another engine by now: what runs stays what it is.
    pub(super) fn tell_engine(&self, turn: &mut Turn, foreign: bool) {
        let message = match foreign {
            true => "runs on as somebody else's; it is opsdeck's own from its next start on",
            false => "runs on as opsdeck's own; it is somebody else's from its next start on",
        };
        self.say(turn, "engine", None, message);
    }

    /// It runs, and nobody wants it down for its own sake: a stop that has sent nothing yet is taken back.
    pub(super) fn can_be_let_go(&self) -> bool {
        match &self.phase {
            Phase::Up(_) => true,
            Phase::Leaving(_, stop) => stop.can_be_taken_back() && !self.is_down_by_order(stop),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_) => false,
        }
    }

    /// Somebody has ordered its end, not its restart.
    fn is_down_by_order(&self, stop: &Stop) -> bool {
        let ends = match &stop.errand {
            Errand::Term(_) | Errand::Kill(_) => true,
            Errand::Stop(_)
            | Errand::Restart(_)
            | Errand::Rollout(_)
            | Errand::Liveness
            | Errand::Startup
            | Errand::Configuration
            | Errand::Shutdown(_)
            | Errand::Unwanted
            | Errand::Surplus => false,
        };
        ends || self.goal == Goal::Down
    }

    /// It was to be left running, and its end has begun: that cannot be taken back.
    pub(super) fn tell_too_late(&self, turn: &mut Turn) {
        let Phase::Leaving(body, stop) = &self.phase else { return };
        if !body.foreign || stop.can_be_taken_back() || self.is_down_by_order(stop) {
            return;
        }
        let sent = stop.last_signal().map_or("a signal".into(), |it| it.to_string());
        let message =
            format!("is not left running: {sent} was sent already{}", stop.errand.purpose());
        self.say(turn, "not-left-running", stop.errand.by(), message);
    }

    fn let_go(&mut self, turn: &mut Turn) {
        let body = match std::mem::replace(&mut self.phase, Phase::Idle(Rest::Stopped)) {
            Phase::Up(body) => body,
            Phase::Leaving(body, stop) => {
                if let Errand::Rollout(_) = stop.errand {
                    self.benched = false;
                    let instance = self.own.name.clone();
                    turn.push(Effect::TakeValues { instance, back: true });
                }
                body
            }
            phase @ (Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_)) => {
                self.phase = phase;
                return;
            }
        };
        self.stop_probes(turn, body.probing);
        let (instance, generation) = (self.own.name.clone(), self.generation);
        turn.push(Effect::LetGo { instance, generation });
        self.say(turn, "left-running", None, format!("left running, pid {}", body.process.pid));
    }

    /// From now on the next daemon need not run the command, whatever it finds of it.
    pub(super) fn on_stop_begun(&mut self, generation: u64) {
        let ours = generation == self.generation;
        if let Phase::Leaving(_, stop) = &mut self.phase
            && ours
        {
            stop.unbegun = false;
        }
    }

    /// The command that was to stop it has failed: it is told so itself, where there is something to tell.
    pub(super) fn on_stop_failed(&mut self, turn: &mut Turn, generation: u64, why: &str) {
        let ours = generation == self.generation;
        let Phase::Leaving(body, stop) = &mut self.phase else {
            return self.say(turn, "stop-command", None, why);
        };
        if !ours || stop.killing().is_some() || stop.has_sent(Signal::TERM) {
            return;
        }
        stop.sent.push(Signal::TERM);
        let (instance, process) = (self.own.name.clone(), body.process);
        let by = stop.errand.by().cloned();
        turn.push(Effect::Signal { instance, process, signal: Signal::TERM });
        self.say(turn, "signal-sent", by.as_ref(), format!("SIGTERM: {why}"));
    }

    /// Who started it, and what that means: one sentence.
    pub(super) fn origin_in_words(&self) -> Option<String> {
        match (self.body().map(|it| it.foreign), self.is_foreign()) {
            (Some(true), false) => {
                return Some(
                    "somebody else has started it, its next start is opsdeck's own".into(),
                );
            }
            (Some(false), true) => {
                return Some("opsdeck has started it, its next start is somebody else's".into());
            }
            (Some(_) | None, _) => {}
        }
        let file = self.own.pidfile.as_ref()?;
        let us = match self.can_start() {
            true => "opsdeck starts it only when told to",
            false => "opsdeck cannot start it (no `start` command)",
        };
        Some(format!("somebody else runs it, its pid file is {file}; {us}"))
    }

    /// Why nothing of it is there, as far as its pid file tells.
    pub(super) fn absence_in_words(&self) -> String {
        self.absence.clone().unwrap_or_else(|| "nothing of it was found yet".into())
    }
}

/// Nobody has said how to start it.
pub(super) fn no_start(what: String, service: &Name) -> Refusal {
    let why = format!("somebody else runs {service}, and nothing says how to start it");
    refused(what, why, Some("set `start = \"…\"` for it, or start it where it is run"))
}

impl Fleet {
    /// What the pid file says instead of a process. `is_odd`: an operator should hear of it.
    pub(super) fn on_missed(&mut self, name: &Name, why: String, is_odd: bool, turn: &mut Turn) {
        let news = self.touch(name, turn, |it, turn| {
            if it.absence.as_ref() == Some(&why) {
                return None;
            }
            if is_odd {
                it.say(turn, "not-found", None, why.clone());
            }
            it.absence = Some(why);
            Some(it.rules.name.clone())
        });
        if let Some(service) = news.flatten() {
            self.mark_changed(&service);
        }
    }

    /// It runs on, and is nobody's business here any more: gone from the configuration, or all is over.
    pub(super) fn is_let_go(&self, instance: &Instance) -> bool {
        // What nobody has found yet is what the configuration says.
        let foreign = instance.body().map_or(instance.is_foreign(), |it| it.foreign);
        foreign && (self.closing.is_some() || !instance.is_configured())
    }

    pub(super) fn let_go(&mut self, name: &Name, turn: &mut Turn) {
        self.touch(name, turn, Instance::let_go);
    }

    /// Refuses where something of a service is down that nobody here could start, or would be.
    pub(super) fn may_start_all(
        &self,
        members: &[Name],
        also_up: bool,
        what: &str,
    ) -> Result<(), Refusal> {
        let mut all = members.iter().filter_map(|it| self.instances.get(it));
        let helpless = all.find(|it| !it.can_start() && (also_up || !it.is_occupied()));
        helpless.map_or(Ok(()), |it| Err(no_start(what.to_owned(), it.name())))
    }
}
