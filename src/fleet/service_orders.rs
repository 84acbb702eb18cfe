//! What an operator orders of a whole service, or of everything.

use std::collections::BTreeMap;

use super::fleet::Fleet;
use super::guard::{ask, kills_by_default, uncaught};
use super::input::{Disposition, Refusal, RefusalKind};
use super::instance::Instance;
use super::orders::{Answer, Asker, refused, signal_or_reload};
use super::roster::Named;
use super::service::Service;
use super::turn::Turn;
use super::wave::Wave;
use super::words::{Name, Signal};
use crate::quantity::count;

impl Fleet {
    pub(super) fn find_service(&self, name: &Name, what: &str) -> Result<&Service, Refusal> {
        self.services.get(name).ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                what.to_owned(),
                format!("no service is called {name}"),
                Some("see `opsdeck status` for the names"),
            )
        })
    }

    fn find_members(&self, name: &Name, what: &str) -> Result<Vec<Name>, Refusal> {
        self.find_service(name, what).map(|it| it.members.clone())
    }

    pub(super) fn start_service(&mut self, name: &Name, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = format!("{name} was not started");
        let members = self.find_members(name, &what)?;
        self.first_may_come_up(&members, &what)?;
        self.may_start_all(&members, false, &what)?;
        for member in members {
            if self.instances.get(&member).is_some_and(Instance::is_configured) {
                self.bring_up(&member, asker, turn);
            }
        }
        let awaited = self.depends.of(name).iter().find(|it| {
            let dependency = self.services.get(*it);
            !dependency.is_some_and(Service::is_ready)
        });
        Ok(match awaited {
            Some(other) => format!("{name} is wanted up and waits for {other} where it has to"),
            None => format!("{name} is being started"),
        })
    }

    fn first_may_come_up(&self, members: &[Name], what: &str) -> Result<(), Refusal> {
        match members.iter().find_map(|it| self.instances.get(it)) {
            Some(instance) => self.may_come_up(instance, what),
            None => Ok(()),
        }
    }

    pub(super) fn stop_service(
        &mut self,
        name: &Name,
        now: bool,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let what = format!("{name} was not stopped");
        let members = self.find_members(name, &what)?;
        let all = count(members.len() as u64, "instance");
        let danger = match now {
            true => format!("SIGKILL ends all of {name} at once, {all}, whatever they are doing"),
            false => format!("it stops all of {name}, {all}"),
        };
        ask(asker.guard, &what, Some(danger))?;
        for member in &members {
            self.take_down(member, now, asker, turn);
        }
        Ok(match now {
            true => format!("all of {name} gets SIGKILL"),
            false => format!("{name} is being stopped"),
        })
    }

    pub(super) fn restart_service(
        &mut self,
        name: &Name,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let what = format!("{name} was not restarted");
        let members = self.find_members(name, &what)?;
        self.first_may_come_up(&members, &what)?;
        self.may_start_all(&members, true, &what)?;
        let serving = members.iter().filter_map(|it| self.instances.get(it));
        let serving = serving.filter(|it| it.is_serving()).count();
        let danger = format!("all of {name} restarts at once: nobody serves meanwhile");
        ask(asker.guard, &what, (serving > 0).then_some(danger))?;
        for member in members {
            if self.instances.get(&member).is_some_and(Instance::is_configured) {
                self.restart_in_place(&member, asker, turn);
            }
        }
        Ok(format!("{name} is being restarted, all at once"))
    }

    pub(super) fn signal_service(
        &mut self,
        name: &Name,
        signal: Option<Signal>,
        dispositions: &BTreeMap<Name, Disposition>,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let what = format!("no signal was sent to {name}");
        let service = self.find_service(name, &what)?;
        if let Some(wave) = &service.wave {
            let why = format!("{} of {} is still on its way", wave.signal, wave.by);
            return Err(Refusal::new(RefusalKind::Busy, what, why, None));
        }
        let members = service.members.iter().filter_map(|it| self.instances.get(it));
        let running: Vec<&Instance> = members.filter(|it| it.up().is_some()).collect();
        let Some(first) = running.first() else {
            return Err(refused(what, format!("nothing of {name} runs"), None));
        };
        let signal = signal_or_reload(first, signal)?;
        if signal == Signal::TERM || signal == Signal::KILL {
            let why = format!("{signal} would end instance after instance");
            return Err(refused(what, why, Some("roll, restart or stop the service instead")));
        }
        if first.drains_for(signal) {
            self.may_begin(name, &what, Some(turn.now))?;
        }
        ask(asker.guard, &what, self.danger_to_any(&running, signal, dispositions))?;
        let forced = running.iter().any(|it| self.last_ready(it).is_some());
        let wave = Wave::new(asker.by.clone(), signal, &running, forced);
        if let Some(it) = self.services.get_mut(name) {
            it.wave = Some(wave);
        }
        turn.say(name, "signal", Some(&asker.by), format!("{signal} to all of {name}, one by one"));
        self.look_at_service(name);
        Ok(format!("{signal} goes to the instances of {name}, one by one"))
    }

    fn danger_to_any(
        &self,
        running: &[&Instance],
        signal: Signal,
        dispositions: &BTreeMap<Name, Disposition>,
    ) -> Option<String> {
        let disposition = |it: &Instance| dispositions.get(it.name()).copied().unwrap_or_default();
        let uncaught_by = running
            .iter()
            .find(|it| disposition(it) == Disposition::Default && kills_by_default(signal));
        match uncaught_by {
            Some(it) => Some(uncaught(signal, it.name())),
            None => running.iter().find_map(|it| self.danger_of(it, signal, disposition(it))),
        }
    }

    pub(super) fn stop_all(&mut self, asker: &Asker, turn: &mut Turn) -> Answer {
        let what = "nothing was shut down";
        if let Some(by) = &self.closing {
            return Ok(format!("the shutdown by {by} is under way"));
        }
        let all = count(self.services.len() as u64, "service");
        ask(asker.guard, what, Some(format!("it stops everything, {all}")))?;
        self.closing = Some(asker.by.clone());
        turn.open = false;
        for name in self.services.names() {
            self.close_rollout(&name, asker, turn);
            if let Some(it) = self.services.get_mut(&name) {
                it.wave = None;
            }
            self.mark_changed(&name);
        }
        for name in self.instances.names() {
            self.touch(&name, turn, |it, turn| it.tell_too_late(turn));
        }
        self.look_at_all();
        Ok(format!("everything is being stopped, {all}"))
    }
}
