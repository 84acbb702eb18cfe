//! What the simulated host holds the fleet to, after every turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::instance::{Instance, Phase};
use super::ladder::{Errand, Stop};
use super::rollout_state::Rollout;
use super::roster::Named;
use super::service::{Counts, Service};
use super::sim::Sim;
use super::time::Timestamp;
use super::words::Name;

/// What was the case before a turn.
pub(super) struct Before {
    admitted: BTreeSet<Name>,
    leaving: BTreeSet<Name>,
    /// How many serve, by service.
    serving: BTreeMap<Name, usize>,
    /// Services with a rollout under way, and when it began.
    rolling: BTreeMap<Name, Timestamp>,
}

/// SIGKILL is asked for every five seconds, counted anew when the leader ends: what can be killed is
/// gone so soon.
const SLOWEST_KILL: Duration = Duration::from_millis(10_010);

impl Sim {
    pub(super) fn before(&self) -> Before {
        let instances = self.fleet.instances.values();
        let leaving = instances.filter(|it| it.stop().is_some()).map(|it| it.name().clone());
        let serving = self.fleet.services.values().map(|it| {
            let members = it.members.iter().filter_map(|it| self.fleet.instances.get(it));
            (it.name().clone(), members.filter(|it| it.is_wanted() && it.is_serving()).count())
        });
        Before {
            admitted: self.admitted.clone(),
            leaving: leaving.collect(),
            serving: serving.collect(),
            rolling: self.rolling(),
        }
    }

    fn rolling(&self) -> BTreeMap<Name, Timestamp> {
        let under_way = |it: &Service| {
            let rollout = it.rollout.as_ref().filter(|it| it.is_under_way())?;
            Some((it.name().clone(), rollout.began))
        };
        self.fleet.services.values().filter_map(under_way).collect()
    }

    /// Remembers how many served when a rollout began.
    fn note_rollouts(&mut self, before: &Before) {
        if !self.fleet.begun {
            // One that is recalled began under another daemon.
            return;
        }
        for (service, began) in self.rolling() {
            if before.rolling.get(&service) != Some(&began) {
                let serving = before.serving.get(&service).copied().unwrap_or(0);
                self.served_before.insert(service, serving);
            }
        }
    }

    pub(super) fn check_promises(&mut self, before: &Before, said: &str) {
        self.note_rollouts(before);
        for instance in self.fleet.instances.values() {
            self.check_rotation(instance, said);
            self.check_probes(instance, said);
            self.check_stop(instance, before, said);
        }
        self.check_reloads(said);
        self.check_spares(said);
        self.check_kills(said);
        self.check_indexes(said);
    }

    /// Who is out of rotation for a reload is so for one that is under way, and alone.
    fn check_reloads(&self, said: &str) {
        for service in self.fleet.services.values() {
            let members = service.members.iter().filter_map(|it| self.fleet.instances.get(it));
            let reloading = members.filter(|it| it.is_reloading()).count();
            let most = usize::from(service.wave.as_ref().is_some_and(|it| it.drains));
            assert!(reloading <= most, "{reloading} of {} reload after {said}", service.name());
        }
    }

    /// Only what is up and not held gets requests, and the sheet says the same.
    fn check_rotation(&self, instance: &Instance, said: &str) {
        let name = instance.name();
        let admitted = self.admitted.contains(name);
        if let Some(rotation) = instance.rotation {
            assert_eq!(admitted, rotation, "{name} after {said}");
        }
        if self.fleet.begun {
            let may = instance.up().is_some()
                && instance.held_by.is_none()
                && !instance.benched
                && !instance.is_reloading();
            assert!(may || !admitted, "{name} gets requests after {said}: {:?}", instance.phase);
        }
    }

    /// Exactly what is up is probed.
    fn check_probes(&self, instance: &Instance, said: &str) {
        let name = instance.name();
        let running: BTreeMap<_, _> = self
            .probes
            .iter()
            .filter(|((it, _), _)| it == name)
            .map(|((_, p), g)| (*p, *g))
            .collect();
        let wanted = match instance.up().filter(|_| self.fleet.begun) {
            Some(body) => body.health.wanted(&instance.rules),
            None => BTreeSet::new(),
        };
        let wanted: BTreeMap<_, _> =
            wanted.into_iter().map(|it| (it, instance.generation)).collect();
        assert_eq!(running, wanted, "probes of {name} after {said}");
    }

    fn check_stop(&self, instance: &Instance, before: &Before, said: &str) {
        let Some(stop) = instance.stop() else { return };
        let name = instance.name();
        let killing_in_time = stop.killing().is_some() || self.now < stop.deadline;
        assert!(killing_in_time, "{name} outlives its deadline after {said}");
        let began = !before.leaving.contains(name);
        if began {
            self.check_order(instance, stop, said);
        }
        let set_aside = instance.benched && stop.errand == Errand::Liveness;
        let served = before.admitted.contains(name)
            && instance.held_by.is_none()
            && !set_aside
            && instance.body().is_some_and(|it| it.health.ready(&instance.rules) != Some(false));
        if began && served {
            self.check_capacity(instance, stop, said);
        }
    }

    /// One at a time: steps of a rollout, restarts for liveness, neither beside the other. What nobody
    /// wants any more does not count.
    fn check_order(&self, instance: &Instance, stop: &Stop, said: &str) {
        let is_healed = |it: &Stop| it.errand == Errand::Liveness;
        let is_rolled = |it: &Stop| matches!(it.errand, Errand::Rollout(_));
        let service = self.fleet.services.get(&instance.rules.name).unwrap();
        let in_step = service.rollout.as_ref().is_some_and(Rollout::is_in_step);
        let members = service.members.iter().filter_map(|it| self.fleet.instances.get(it));
        let others = members.filter(|it| it.name() != instance.name() && it.is_wanted());
        let others: Vec<&Stop> = others.filter_map(Instance::stop).collect();
        let alone = match stop {
            it if is_healed(it) => !in_step && !others.iter().any(|it| is_healed(it)),
            it if is_rolled(it) => !others.iter().any(|it| is_healed(it) || is_rolled(it)),
            _ => true,
        };
        assert!(alone, "{} is taken away beside another, after {said}", instance.name());
    }

    /// What has to go is killed until it is gone.
    fn check_kills(&self, said: &str) {
        for ((name, generation), group) in self.groups.iter().filter(|(_, it)| !it.stuck) {
            let since = group.mortal_from.map_or(Duration::ZERO, |from| self.now.since(from));
            assert!(since <= SLOWEST_KILL, "{name}#{generation} lives on, after {said}");
        }
    }

    /// A halt takes nobody out who is needed.
    pub(super) fn check_bench(&self, before: &Before, said: &str) {
        for name in before.admitted.difference(&self.admitted) {
            let Some(instance) = self.fleet.instances.get(name) else { continue };
            if instance.is_ready() && instance.held_by.is_none() {
                let service = self.fleet.services.get(&instance.rules.name).unwrap();
                if instance.is_reloading() && service.wave.as_ref().is_some_and(|it| it.forced) {
                    continue;
                }
                let (serving, least) = (self.serving(service), self.least(service));
                assert!(
                    serving >= least,
                    "{serving} of {least} serve: {name} benched after {said}"
                );
            }
        }
    }

    fn serving(&self, service: &Service) -> usize {
        service.members.iter().filter(|it| self.admitted.contains(*it)).count()
    }

    /// `min_ready`, as far as it can be had.
    fn least(&self, service: &Service) -> usize {
        let members = service.members.iter().filter_map(|it| self.fleet.instances.get(it));
        let most = members.filter(|it| it.is_wanted()).count().saturating_sub(1);
        service.rules.rollout.min_ready.map_or(most, |it| most.min(it as usize))
    }

    /// A spare is there only for a rollout, or while too few others serve.
    fn check_spares(&self, said: &str) {
        for service in self.fleet.services.values().filter(|_| self.fleet.begun) {
            let members = service.members.iter().filter_map(|it| self.fleet.instances.get(it));
            let spares: Vec<&Name> =
                members.filter(|it| it.is_spare()).map(Instance::name).collect();
            let known: Vec<&Name> = service.spare.iter().collect();
            assert_eq!(spares, known, "after {said}");
            let under_way = service.rollout.as_ref().is_some_and(Rollout::is_under_way);
            for name in spares.into_iter().filter(|_| !under_way) {
                let spare = self.fleet.instances.get(name).unwrap();
                let serving = service.members.iter().filter(|it| self.is_well(it, name)).count();
                let before = self.served_before.get(service.name()).copied();
                let others = service.members.iter().filter(|it| self.is_asked_for(it, name));
                let enough = before.unwrap_or(usize::MAX).max(1).min(others.count());
                assert!(
                    spare.removed || !spare.is_wanted() || serving < enough,
                    "{name} is left over after {said}"
                );
            }
        }
    }

    /// Another one than the spare, wanted and not held.
    fn is_asked_for(&self, name: &Name, spare: &Name) -> bool {
        let it = self.fleet.instances.get(name).unwrap();
        name != spare && it.is_wanted() && it.held_by.is_none()
    }

    fn is_well(&self, name: &Name, spare: &Name) -> bool {
        let it = self.fleet.instances.get(name).unwrap();
        let sick = self.fleet.services.get(&it.rules.name).unwrap().sick.contains(name);
        self.is_asked_for(name, spare) && it.is_serving() && !sick
    }

    /// What opsdeck takes away by itself leaves enough in rotation.
    fn check_capacity(&self, instance: &Instance, stop: &Stop, said: &str) {
        let service = self.fleet.services.get(&instance.rules.name).unwrap();
        let members = service.members.iter().filter_map(|it| self.fleet.instances.get(it));
        let wanted = members.filter(|it| it.is_wanted()).count();
        let most = wanted.saturating_sub(1);
        let configured = service.rules.rollout.min_ready.map_or(most, |it| it as usize);
        let before = self.served_before.get(service.name()).copied();
        let name = instance.name();
        let min_ready = match &stop.errand {
            Errand::Rollout(_) if self.fleet.spare_of(service.name()).is_some() => {
                before.unwrap_or(0).min(most)
            }
            Errand::Rollout(_) => configured,
            Errand::Surplus => {
                let others = service.members.iter().filter(|it| self.is_asked_for(it, name));
                before.unwrap_or(usize::MAX).max(1).min(others.count())
            }
            Errand::Liveness => configured.min(most),
            Errand::Stop(_)
            | Errand::Restart(_)
            | Errand::Term(_)
            | Errand::Kill(_)
            | Errand::Startup
            | Errand::Configuration
            | Errand::Shutdown(_)
            | Errand::Unwanted => return,
        };
        let serving = service.members.iter().filter(|it| self.admitted.contains(*it)).count();
        assert!(
            serving >= min_ready,
            "{serving} of {min_ready} serve while {name} is away: {:?}, after {said}",
            stop.errand
        );
    }

    /// The indexes are what a walk over everything finds.
    fn check_indexes(&self, said: &str) {
        let mut deadlines = BTreeSet::new();
        for service in self.fleet.services.values() {
            let members: Vec<&Instance> =
                service.members.iter().map(|it| self.fleet.instances.get(it).unwrap()).collect();
            let counted = || members.iter().filter(|it| it.is_wanted() && !it.is_spare());
            let counts = Counts {
                wanted: counted().count(),
                ready: counted().filter(|it| it.is_ready()).count(),
                occupied: members.iter().filter(|it| it.is_occupied()).count(),
            };
            assert_eq!(service.counts, counts, "counts of {} after {said}", service.name());
            assert_eq!(service.deadline, service.business_deadline(), "{said}");
            deadlines.extend(service.deadline);
            deadlines.extend(members.iter().filter_map(|it| it.deadline()));
            for it in members {
                assert_eq!(it.rules.name, *service.name());
            }
        }
        assert_eq!(self.fleet.next_deadline(), deadlines.first().copied(), "after {said}");
    }

    /// Nothing is left anywhere.
    pub(super) fn check_rest(&self) {
        assert!(self.fleet.is_at_rest(), "still busy: {:?}", self.busy());
        assert!(self.groups.is_empty(), "left behind: {:?}", self.groups);
        assert!(self.admitted.is_empty() && self.probes.is_empty() && self.commands.is_empty());
        assert_eq!(self.fleet.next_deadline(), None);
    }

    pub(super) fn busy(&self) -> Vec<(&Name, &Phase)> {
        let instances = self.fleet.instances.values();
        instances.filter(|it| it.is_occupied()).map(|it| (it.name(), &it.phase)).collect()
    }
}
