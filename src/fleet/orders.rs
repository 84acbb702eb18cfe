//! What an operator orders of one instance.
//!
//! Each order is checked, then guarded, then begun; its answer is a sentence of what was begun. Changing
//! one's mind midway is setting the goal again: the ladder goes on, and what follows it changes.

use super::exits::Signalled;
use super::fleet::Fleet;
use super::guard::{ask, danger_of_kill, meaning};
use super::input::{Disposition, Goal, Order, Refusal, RefusalKind, Verb};
use super::instance::{Instance, Phase, Rest};
use super::ladder::{Errand, Manner, Stop};
use super::roster::Named;
use super::turn::{Turn, span};
use super::wave::Wave;
use super::words::{By, Name, Process, Signal};

/// Who orders it, and whether to ask first.
pub(super) struct Asker {
    pub(super) by: By,
    pub(super) guard: bool,
}

/// A signal to one instance.
struct Shot {
    signal: Signal,
    disposition: Disposition,
}

pub(super) type Answer = Result<String, Refusal>;

pub(super) fn refused(what: String, why: impl Into<String>, help: Option<&str>) -> Refusal {
    Refusal::new(RefusalKind::Refused, what, why.into(), help)
}

impl Fleet {
    pub(super) fn carry_out(&mut self, order: Order, turn: &mut Turn) -> Answer {
        let asker = Asker { by: order.by, guard: order.guard };
        match order.verb {
            Verb::Start(name) => self.start(&name, &asker, turn),
            Verb::Stop { instance, now } => self.stop(&instance, now, &asker, turn),
            Verb::Restart(name) => self.restart(&name, &asker, turn),
            Verb::Drain(name) => self.drain(&name, &asker, turn),
            Verb::Undrain(name) => self.undrain(&name, &asker, turn),
            Verb::Extend(name) => self.extend(&name, &asker, turn),
            Verb::Kill(name) => self.kill(&name, &asker, turn),
            Verb::Signal { instance, signal, process, disposition } => {
                self.signal(&instance, signal, process, disposition, &asker, turn)
            }
            Verb::SignalMember { instance, signal, member, disposition } => {
                self.signal_member(&instance, signal, member, disposition, &asker, turn)
            }
            Verb::StartService(name) => self.start_service(&name, &asker, turn),
            Verb::StopService { service, now } => self.stop_service(&service, now, &asker, turn),
            Verb::RestartService(name) => self.restart_service(&name, &asker, turn),
            Verb::SignalService { service, signal, dispositions } => {
                self.signal_service(&service, signal, &dispositions, &asker, turn)
            }
            Verb::Roll { service, set } => self.roll(&service, set, &asker, turn),
            Verb::Abort(name) => self.abort(&name, &asker, turn),
            Verb::Pause(name) => self.pause(&name, &asker, turn),
            Verb::Resume(name) => self.resume(&name, &asker, turn),
            Verb::RollBack(name) => self.roll_back(&name, &asker, turn),
            Verb::StopAll => self.stop_all(&asker, turn),
        }
    }

    pub(super) fn find(&self, name: &Name, what: &str) -> Result<&Instance, Refusal> {
        self.instances.get(name).ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                what.to_owned(),
                format!("no instance is called {name}"),
                Some("see `opsdeck status` for the names"),
            )
        })
    }

    /// Whether something may be brought up: it must be enabled, and the end must not have begun.
    pub(super) fn may_come_up(&self, instance: &Instance, what: &str) -> Result<(), Refusal> {
        if self.closing.is_some() {
            return Err(refused(what.to_owned(), "everything is being shut down", None));
        }
        if instance.removed {
            let why = format!("{} is no longer in the configuration", instance.name());
            return Err(refused(what.to_owned(), why, None));
        }
        if !instance.rules.enabled {
            let why = format!("{} is disabled in the configuration", instance.rules.name);
            return Err(refused(what.to_owned(), why, Some("set `enabled = true` and apply it")));
        }
        Ok(())
    }

    fn start(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not started");
        self.may_come_up(self.find(name, &what)?, &what)?;
        self.may_start_all(std::slice::from_ref(name), false, &what)?;
        self.bring_up(name, asker, turn);
        let instance = self.find(name, &what)?;
        Ok(match (&instance.phase, self.awaited(instance)) {
            (Phase::Up(_), _) => format!("{name} runs"),
            (Phase::Spawning(_), _) => format!("{name} is being started"),
            (Phase::Leaving(..) | Phase::Sweeping(_), _) => {
                format!("{name} is being stopped and starts again after that")
            }
            (Phase::Idle(_), Some(service)) => format!("{name} waits for {service} to be ready"),
            (Phase::Idle(_), None) => format!("{name} is being started"),
        })
    }

    /// Sets the goal and does what follows from it at once.
    pub(super) fn bring_up(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) {
        self.touch(name, turn, |it, turn| {
            it.want(turn, Goal::Up, &asker.by);
            if matches!(it.stop(), Some(Stop { errand: Errand::Stop(_) | Errand::Unwanted, .. })) {
                it.come_back(turn);
            }
            let is_foreign = it.is_foreign();
            match &mut it.phase {
                Phase::Idle(rest) => {
                    let waits = *rest == Rest::Stopped && !is_foreign;
                    it.crashes = 0;
                    it.benched = false;
                    if !waits {
                        it.say(turn, "start", Some(&asker.by), "start");
                        it.start(turn);
                    }
                }
                Phase::Spawning(wish) => {
                    if wish.as_ref().is_some_and(|it| matches!(it.errand, Errand::Stop(_))) {
                        *wish = None;
                    }
                }
                Phase::Up(_) | Phase::Leaving(..) | Phase::Sweeping(_) => {}
            }
        });
        self.look_at(name);
    }

    fn stop(&mut self, name: &Name, now: bool, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not stopped");
        let instance = self.find(name, &what)?;
        let danger = match now {
            true if instance.is_occupied() => Some(danger_of_kill(instance)),
            true | false => self.last_ready(instance),
        };
        ask(asker.guard, &what, danger)?;
        Ok(self.take_down(name, now, asker, turn))
    }

    /// Sets the goal and begins the ladder, or ends it at once.
    pub(super) fn take_down(
        &mut self,
        name: &Name,
        now: bool,
        asker: &Asker,
        turn: &mut Turn,
    ) -> String {
        let manner = if now { Manner::Kill } else { Manner::Ladder };
        self.touch(name, turn, |it, turn| {
            it.want(turn, Goal::Down, &asker.by);
            it.leave(turn, Errand::Stop(asker.by.clone()), manner);
            it.change_errand(Errand::Stop(asker.by.clone()));
            if now {
                it.kill(turn, Some(&asker.by));
            }
        });
        self.look_at(name);
        match self.instances.get(name).map(|it| &it.phase) {
            Some(Phase::Leaving(_, stop)) if stop.killing().is_some() => {
                format!("{name} gets SIGKILL")
            }
            Some(Phase::Leaving(_, stop)) => {
                let within = stop.deadline.since(turn.now);
                format!("{name} is being stopped, SIGKILL in {} at the latest", span(within))
            }
            Some(Phase::Spawning(_)) => format!("{name} is stopped as soon as it is up"),
            Some(Phase::Sweeping(_)) => format!("{name} has ended and stays down"),
            Some(Phase::Idle(_) | Phase::Up(_)) | None => format!("{name} is stopped"),
        }
    }

    fn restart(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not restarted");
        let instance = self.find(name, &what)?;
        self.may_come_up(instance, &what)?;
        self.may_start_all(std::slice::from_ref(name), true, &what)?;
        ask(asker.guard, &what, self.last_ready(instance))?;
        self.restart_in_place(name, asker, turn);
        Ok(format!("{name} is being restarted"))
    }

    pub(super) fn restart_in_place(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) {
        let renewed = self.instances.get(name).is_some_and(|it| self.is_being_renewed(it));
        self.touch(name, turn, |it, turn| {
            it.want(turn, Goal::Up, &asker.by);
            if !renewed {
                it.benched = false;
            }
            if it.up().is_some() {
                it.say(turn, "restart", Some(&asker.by), "restart");
                it.leave(turn, Errand::Restart(asker.by.clone()), Manner::Ladder);
            }
        });
        let stands_still = self.instances.get(name).is_some_and(|it| !it.is_occupied());
        if stands_still {
            self.bring_up(name, asker, turn);
        }
    }

    fn is_being_renewed(&self, instance: &Instance) -> bool {
        let rollout = self.services.get(&instance.rules.name).and_then(|it| it.rollout.as_ref());
        rollout.is_some_and(|it| it.is_in_step() && it.instance() == Some(instance.name()))
    }

    fn drain(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not taken out of rotation");
        let instance = self.find(name, &what)?;
        if !instance.rules.fronted {
            let service = &instance.rules.name;
            let why = format!("nothing stands in front of {service}");
            let help = format!("put one in front: [gateway.NAME] with service = \"{service}\"");
            return Err(refused(what, why, Some(&help)));
        }
        if let Some(by) = &instance.held_by {
            return Err(refused(what, format!("{name} is held by {by} already"), None));
        }
        ask(asker.guard, &what, self.last_ready(instance))?;
        self.touch(name, turn, |it, turn| {
            it.held_by = Some(asker.by.clone());
            it.remember(turn);
            it.sync(turn);
            it.say(turn, "held", Some(&asker.by), "held out of rotation");
        });
        Ok(format!("{name} is held out of rotation"))
    }

    fn undrain(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not put back into rotation");
        let instance = self.find(name, &what)?;
        let renewed = self.is_being_renewed(instance);
        if instance.held_by.is_none() && (!instance.benched || renewed) {
            return Err(refused(what, format!("nobody holds {name} out of rotation"), None));
        }
        self.touch(name, turn, |it, turn| {
            if it.held_by.take().is_some() {
                it.remember(turn);
            }
            if !renewed {
                it.benched = false;
            }
            it.say(turn, "released", Some(&asker.by), "released into rotation");
            it.sync(turn);
        });
        Ok(format!("{name} goes into rotation when it is ready"))
    }

    fn extend(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not given more time");
        self.find_stop(name, &what)?;
        let extended = self.touch(name, turn, |it, turn| {
            let Phase::Leaving(_, stop) = &mut it.phase else { return false };
            let extended = stop.extend();
            if extended {
                it.say(turn, "extended", Some(&asker.by), "10s more on its countdown");
            }
            extended
        });
        if extended != Some(true) {
            return Err(refused(what, "SIGKILL was sent already", None));
        }
        Ok(format!("{name} has 10s more"))
    }

    fn find_stop(&self, name: &Name, what: &str) -> Result<&Stop, Refusal> {
        let instance = self.find(name, what)?;
        instance.stop().ok_or_else(|| {
            let why = match &instance.phase {
                Phase::Sweeping(_) => {
                    format!("{name} has ended; what it left behind is being killed")
                }
                Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) | Phase::Leaving(..) => {
                    format!("no countdown runs for {name}")
                }
            };
            refused(what.to_owned(), why, None)
        })
    }

    fn kill(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not killed");
        let stop = self.find_stop(name, &what)?;
        if stop.killing().is_some() {
            return Err(refused(what, "SIGKILL was sent already", None));
        }
        ask(asker.guard, &what, Some(danger_of_kill(self.find(name, &what)?)))?;
        self.touch(name, turn, |it, turn| it.kill(turn, Some(&asker.by)));
        Ok(format!("{name} gets SIGKILL"))
    }

    fn signal(
        &mut self,
        name: &Name,
        signal: Option<Signal>,
        seen: Option<Process>,
        disposition: Disposition,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let instance = self.find(name, &format!("no signal was sent to {name}"))?;
        let signal = signal_or_reload(instance, signal)?;
        let what = format!("{signal} was not sent to {name}");
        let process = instance.process();
        if seen.is_some() && seen != process {
            let why = match process {
                Some(process) => format!("{name} is another process now, pid {}", process.pid),
                None => format!("{name} does not run any more"),
            };
            return Err(Refusal::new(RefusalKind::Changed, what, why, None));
        }
        if process.is_none() {
            return Err(refused(what, format!("{name} does not run"), None));
        }
        match signal {
            Signal::KILL => self.signal_kill(name, &what, asker, turn),
            Signal::TERM => self.signal_term(name, &what, disposition, asker, turn),
            Signal(_) => self.signal_other(name, &what, &Shot { signal, disposition }, asker, turn),
        }
    }

    fn signal_kill(&mut self, name: &Name, what: &str, asker: &Asker, turn: &mut Turn) -> Answer {
        let instance = self.find(name, what)?;
        if instance.stop().and_then(Stop::killing).is_some() {
            return Err(refused(what.to_owned(), "SIGKILL was sent already", None));
        }
        ask(asker.guard, what, Some(danger_of_kill(instance)))?;
        self.touch(name, turn, |it, turn| {
            it.leave(turn, Errand::Kill(asker.by.clone()), Manner::Kill);
            it.kill(turn, Some(&asker.by));
        });
        Ok(format!("{name} gets SIGKILL"))
    }

    fn signal_term(
        &mut self,
        name: &Name,
        what: &str,
        disposition: Disposition,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let instance = self.find(name, what)?;
        if let Some(stop) = instance.stop()
            && (stop.has_sent(Signal::TERM) || stop.killing().is_some())
        {
            let why = "it was sent already, and a second one would cut what is in flight";
            return Err(refused(what.to_owned(), why, Some("kill it if it must end now")));
        }
        // A stop that is under way was asked for already.
        let danger =
            instance.up().and_then(|_| self.danger_of(instance, Signal::TERM, disposition));
        ask(asker.guard, what, danger)?;
        let waits = instance.rules.profile.term_cuts;
        let manner = if waits { Manner::TermAfterDrain } else { Manner::TermAtOnce };
        let sent = self.touch(name, turn, |it, turn| {
            if it.up().is_some() {
                it.leave(turn, Errand::Term(asker.by.clone()), manner);
            } else if it.stop().is_some_and(Stop::is_draining) {
                it.term_now(turn);
            } else {
                it.pass_on(turn, Signal::TERM, &asker.by, None);
            }
            !it.stop().is_some_and(Stop::is_draining)
        });
        Ok(match sent {
            Some(true) => format!("SIGTERM was sent to {name}"),
            Some(false) | None => {
                format!("{name} is out of rotation and gets SIGTERM when it has drained")
            }
        })
    }

    fn signal_other(
        &mut self,
        name: &Name,
        what: &str,
        shot: &Shot,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let signal = shot.signal;
        let instance = self.find(name, what)?;
        if instance.stop().is_some_and(|stop| stop.has_sent(signal)) {
            return Err(refused(what.to_owned(), "this stop has sent it already", None));
        }
        let drains = instance.up().is_some() && instance.drains_for(signal);
        if drains {
            self.may_begin(&instance.rules.name, what, Some(turn.now))?;
        }
        ask(asker.guard, what, self.danger_of(instance, signal, shot.disposition))?;
        if drains {
            return self.reload_drained(name, what, signal, asker);
        }
        let meaning = meaning(instance, signal);
        let does = meaning.map(|it| it.does.clone());
        let harmless = meaning.is_some_and(|it| it.harmless);
        self.touch(name, turn, |it, turn| {
            let at = turn.now;
            it.remember_signal(Signalled { signal, by: asker.by.clone(), at, harmless });
            it.pass_on(turn, signal, &asker.by, does.as_deref());
        });
        let effect = match (does, shot.disposition) {
            (_, Disposition::Ignored) => ", which ignores it".into(),
            (Some(does), _) => format!(": {does}"),
            (None, _) => String::new(),
        };
        Ok(format!("{signal} was sent to {name}{effect}"))
    }
}

impl Fleet {
    /// Takes one instance out of rotation for the signal: a wave over a service of one.
    fn reload_drained(&mut self, name: &Name, what: &str, signal: Signal, asker: &Asker) -> Answer {
        let instance = self.find(name, what)?;
        let service = instance.rules.name.clone();
        if let Some(wave) = self.services.get(&service).and_then(|it| it.wave.as_ref()) {
            let why = format!("{} of {} is still on its way", wave.signal, wave.by);
            return Err(Refusal::new(RefusalKind::Busy, what.to_owned(), why, None));
        }
        let forced = self.last_ready(instance).is_some();
        let wave = Wave::new(asker.by.clone(), signal, &[instance], forced);
        if let Some(it) = self.services.get_mut(&service) {
            it.wave = Some(wave);
        }
        self.look_at_service(&service);
        Ok(format!("{name} is out of rotation and gets {signal} when it has drained"))
    }
}

pub(super) fn signal_or_reload(
    instance: &Instance,
    signal: Option<Signal>,
) -> Result<Signal, Refusal> {
    let profile = &instance.rules.profile;
    signal.or(profile.reload).ok_or_else(|| {
        refused(
            format!("{} was not reloaded", instance.name()),
            format!("the profile {} knows no signal that reloads it", profile.name),
            Some("name the signal (`opsdeck signal SIGHUP …`), or set `profile`"),
        )
    })
}

impl Instance {
    /// A stop that has sent nothing yet becomes this one.
    fn change_errand(&mut self, errand: Errand) {
        match &mut self.phase {
            Phase::Leaving(_, stop) if stop.is_draining() => stop.errand = errand,
            Phase::Idle(_)
            | Phase::Spawning(_)
            | Phase::Up(_)
            | Phase::Leaving(..)
            | Phase::Sweeping(_) => {}
        }
    }
}
