//! What a configuration changes, and what an earlier daemon has left.
//!
//! A new configuration is a difference: what is new is started, what is gone is drained, stopped and then
//! forgotten, what runs with another fingerprint is stale, and thresholds and limits hold at once. What
//! did not change is not touched at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::depends::Depends;
use super::fleet::Fleet;
use super::input::{Effect, Goal};
use super::instance::{Instance, Phase, Spare};
use super::memory::{Ladder, Rollout};
use super::roster::Named;
use super::rules::{Backoff, InstanceRules, Profile, Restart, RolloutRules, Rung, ServiceRules};
use super::service::Service;
use super::turn::Turn;
use super::words::{By, Name, Signal};

impl Fleet {
    pub(super) fn configure(&mut self, all: Vec<ServiceRules>, turn: &mut Turn) {
        self.file_order = all.iter().map(|it| it.name.clone()).collect();
        let mut gone = Gone {
            services: self.services.numbers().collect(),
            instances: self.instances.numbers().collect(),
        };
        for rules in &all {
            if let Some(number) = self.services.number(rules.name.as_str()) {
                gone.services.remove(&number);
            }
            for own in &rules.instances {
                if let Some(number) = self.instances.number(own.name.as_str()) {
                    gone.instances.remove(&number);
                }
            }
            if let Some(number) = self.living_spare(rules) {
                gone.instances.remove(&number);
            }
        }
        self.depends = Depends::new(&self.wishes(&all, &gone));
        for rules in all {
            self.configure_service(rules, turn);
        }
        self.remove(&gone, turn);
    }

    /// A service keeps what is known of it under another name.
    pub(super) fn rename(&mut self, from: &Name, to: &Name, turn: &mut Turn) {
        let Some(number) = self.services.number(from.as_str()) else { return };
        if self.services.number(to.as_str()).is_some() {
            return;
        }
        // Whoever shows the old name hears that nobody has it.
        self.mark_changed(from);
        self.services.rename(number, |it| {
            it.rules = Arc::new(ServiceRules { name: to.clone(), ..(*it.rules).clone() });
            it.changed = false;
            if std::mem::take(&mut it.kept) != 0 {
                turn.push(Effect::KeepRollout { service: from.clone(), rollout: None });
            }
        });
        self.keep_rollout(to, turn);
        self.mark_changed(to);
        let Some(service) = self.services.at(number) else { return };
        let (rules, members) = (Arc::clone(&service.rules), service.members.clone());
        for member in members {
            if let Some(it) = self.instances.get_mut(&member) {
                it.rules = Arc::clone(&rules);
            }
        }
    }

    /// Whether the name of a service must stay as it is: somebody waits for an answer under it.
    pub fn is_engaged(&self, service: &str) -> bool {
        let engaged = |it: &Service| {
            let rolls = it.rollout.as_ref().is_some_and(Rollout::is_under_way);
            rolls || it.wave.is_some() || it.spare.is_some()
        };
        self.services.get(service).is_some_and(engaged)
    }

    /// What each service names that it depends on. What is on its way out keeps its order, but nothing
    /// that stays waits for it.
    fn wishes(&self, all: &[ServiceRules], gone: &Gone) -> Vec<(Name, Vec<Name>)> {
        let leaving: Vec<&Service> =
            gone.services.iter().filter_map(|it| self.services.at(*it)).collect();
        let is_leaving = |name: &Name| leaving.iter().any(|it| it.name() == name);
        let staying = all.iter().map(|it| {
            let on = it.depends_on.iter().filter(|it| !is_leaving(it));
            (it.name.clone(), on.cloned().collect())
        });
        let left = leaving.iter().map(|it| (it.name().clone(), it.rules.depends_on.clone()));
        staying.chain(left).collect()
    }

    fn configure_service(&mut self, rules: ServiceRules, turn: &mut Turn) {
        let name = rules.name.clone();
        if self.services.get(&name).is_some_and(|it| *it.rules == rules && !it.removed) {
            // What it waits for may have changed although it has not.
            self.look_at_members(&name);
            return;
        }
        let rules = Arc::new(rules);
        let number = match self.services.number(name.as_str()) {
            Some(number) => number,
            None => self.services.add(Service::new(Arc::clone(&rules))),
        };
        if let Some(service) = self.services.at_mut(number) {
            service.rules = Arc::clone(&rules);
            service.removed = false;
            let former = std::mem::take(&mut service.members);
            service.members = rules.instances.iter().map(|it| it.name.clone()).collect();
            if !former.is_empty() {
                let stay: BTreeSet<&Name> = rules.instances.iter().map(|it| &it.name).collect();
                service.members.extend(former.into_iter().filter(|it| !stay.contains(it)));
            }
        }
        for own in &rules.instances {
            self.configure_instance(number, &rules, own, turn);
        }
        self.configure_spare(number, &rules, turn);
        self.mark_changed(&name);
    }

    fn configure_instance(
        &mut self,
        home: usize,
        rules: &Arc<ServiceRules>,
        own: &InstanceRules,
        turn: &mut Turn,
    ) {
        let name = own.name.clone();
        if let Some(known) = self.instances.get(&name) {
            if known.home != home
                && let Some(service) = self.services.at_mut(known.home)
            {
                service.members.retain(|it| *it != name);
            }
            let (was_stale, was_configured) = (known.is_stale(), known.is_configured());
            if known.is_spare()
                && let Some(service) = self.services.at_mut(known.home)
            {
                service.spare = None;
            }
            self.touch(&name, turn, |it, turn| {
                if it.home != home
                    && let Phase::Up(body) = &mut it.phase
                {
                    // Its old service's reload does not follow it.
                    body.reloading = false;
                }
                it.home = home;
                let was_foreign = it.is_foreign();
                it.rules = Arc::clone(rules);
                if was_foreign && !it.is_foreign() {
                    it.begin_anew();
                }
                let port = it.own.port.filter(|_| own.auto_port);
                it.own = InstanceRules { port: own.port.or(port), ..own.clone() };
                it.removed = false;
                it.spare = Spare::No;
                it.on_time(turn);
                if was_configured && !it.is_configured() {
                    it.tell_too_late(turn);
                }
                if it.is_stale() && !was_stale {
                    it.say(turn, "stale", None, "runs an older configuration until its next start");
                }
            });
        } else {
            let seed = self.dice.roll();
            let instance = Instance::new(home, Arc::clone(rules), own.clone(), turn.now, seed);
            self.instances.add(instance);
            self.touch(&name, turn, |_, _| {});
        }
        self.look_at(&name);
    }

    fn remove(&mut self, gone: &Gone, turn: &mut Turn) {
        let services = gone.services.iter().filter_map(|it| self.services.at(*it));
        for name in services.map(|it| it.name().clone()).collect::<Vec<_>>() {
            if let Some(service) = self.services.get_mut(&name) {
                service.removed = true;
            }
            self.mark_changed(&name);
            self.drop_if_empty(&name, turn);
        }
        let instances = gone.instances.iter().filter_map(|it| self.instances.at(*it));
        for name in instances.map(|it| it.name().clone()).collect::<Vec<_>>() {
            self.touch(&name, turn, |it, turn| {
                if it.is_configured() {
                    it.tell_too_late(turn);
                }
                it.removed = true;
            });
            self.look_at(&name);
        }
    }

    fn look_at_members(&mut self, service: &Name) {
        let members = self.services.get(service).map_or(vec![], |it| it.members.clone());
        for member in members {
            self.look_at(&member);
        }
    }

    pub(super) fn on_remembered(
        &mut self,
        instance: &Name,
        goal: Goal,
        held_by: Option<By>,
        turn: &mut Turn,
    ) {
        self.touch(instance, turn, |it, _| {
            it.goal = goal;
            it.held_by = held_by;
        });
    }

    /// An adopted instance that no configuration names any more is stopped, by a ladder of default patience
    /// where nobody remembers its own.
    pub(super) fn make_room_for(
        &mut self,
        instance: &Name,
        ladder: Option<Ladder>,
        turn: &mut Turn,
    ) {
        if self.instances.number(instance.as_str()).is_some() {
            return;
        }
        if let Some(service) = self.whose_spare(instance) {
            self.engage_spare(&service, instance, turn);
            return;
        }
        let rules = Arc::new(rules_of_a_stray(instance, ladder));
        let own = rules.instances[0].clone();
        let home = self.services.number(rules.name.as_str()).unwrap_or_else(|| {
            let mut service = Service::new(Arc::clone(&rules));
            service.removed = true;
            self.services.add(service)
        });
        let Some(service) = self.services.at_mut(home) else { return };
        service.members.push(instance.clone());
        let mut stray = Instance::new(home, rules, own, turn.now, self.dice.roll());
        stray.removed = true;
        self.instances.add(stray);
    }
}

/// What a new configuration does not name any more, by number.
struct Gone {
    services: BTreeSet<usize>,
    instances: BTreeSet<usize>,
}

fn rules_of_a_stray(name: &Name, ladder: Option<Ladder>) -> ServiceRules {
    let own = InstanceRules::bare(name.clone());
    let unknown = || Ladder {
        service: None,
        stop: vec![Rung { signal: Signal::TERM, wait: None }],
        max_wait_time: Duration::from_secs(10),
        reserve: None,
        drain_delay: Duration::ZERO,
        fronted: false,
    };
    let ladder = ladder.unwrap_or_else(unknown);
    ServiceRules {
        name: ladder.service.unwrap_or_else(|| name.clone()),
        enabled: false,
        restart: Restart::Never,
        retries: None,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            stable_after: Duration::from_secs(60),
        },
        start_seconds: Duration::from_secs(1),
        max_wait_time: ladder.max_wait_time,
        reserve: ladder.reserve.unwrap_or(Duration::from_secs(3)),
        drain_delay: ladder.drain_delay,
        stop: ladder.stop,
        depends_on: vec![],
        instances: vec![own],
        startup: None,
        liveness: None,
        readiness: None,
        rollout: RolloutRules {
            build: 0,
            rollback: 0,
            settle: Duration::ZERO,
            successes: 1,
            ready_timeout: Duration::from_secs(60),
            min_ready: None,
            spare: None,
        },
        profile: Profile::plain("generic").into(),
        fronted: ladder.fronted,
        cuts_told: false,
        gauged: false,
        reload_drain: false,
        foreign: None,
    }
}
