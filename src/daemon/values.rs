//! The values of `--set`, and which of them an instance runs with.
//!
//! A rollout sets them for its service; an instance takes them when the rollout takes it, and keeps them
//! until another one does. So the crash of an instance that was not renewed brings back what it was, its
//! probes go on expecting that, and a rollback finds what was there before.

use std::collections::BTreeMap;

use super::hands::Hands;
use super::kept::state::{Line, Remembered, Took};
use super::life::launch::Values;
use crate::config::Valued;
use crate::fleet::Name;

/// All values that were ever set.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Of the last rollout, by service.
    services: BTreeMap<Name, Values>,
    instances: BTreeMap<Name, Own>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Own {
    now: Values,
    before: Values,
}

impl Versions {
    /// What the last daemon knew.
    pub(super) fn remembered(from: &mut Remembered) -> Self {
        let set = std::mem::take(&mut from.set).into_iter();
        let took = std::mem::take(&mut from.took).into_values();
        Self {
            services: set.map(|(name, values)| (name.as_str().into(), values)).collect(),
            instances: took
                .map(|it| (it.instance.as_str().into(), Own { now: it.now, before: it.before }))
                .collect(),
        }
    }

    /// Of the rollout that runs, or of the last one.
    pub(super) fn of_service(&self, service: &Name) -> Values {
        self.services.get(service).cloned().unwrap_or_default()
    }

    /// What an instance is started and probed with.
    pub(super) fn of(&self, service: &Name, instance: &Name) -> Values {
        let own = self.instances.get(instance).map(|it| it.now.clone());
        own.unwrap_or_else(|| self.of_service(service))
    }

    /// What it had before the last rollout; what had no value then has the present one.
    pub(super) fn before(&self, service: &Name, instance: &Name) -> Values {
        let mut values = self.of(service, instance);
        values.extend(self.instances.get(instance).into_iter().flat_map(|it| it.before.clone()));
        values
    }

    /// Forgets what nobody has any more. Returns the services that had values.
    fn retain(
        &mut self,
        is_service: impl Fn(&Name) -> bool,
        is_instance: impl Fn(&Name) -> bool,
    ) -> Vec<Name> {
        self.instances.retain(|name, _| is_instance(name));
        self.services.extract_if(.., |name, _| !is_service(name)).map(|(name, _)| name).collect()
    }

    /// The names that have a value, by service.
    pub(super) fn names(&self) -> Valued {
        let names = |it: &Values| it.keys().cloned().collect();
        self.services.iter().map(|(service, it)| (service.to_string(), names(it))).collect()
    }

    fn rename(&mut self, from: &Name, to: &Name) -> bool {
        let moved = self.services.remove(from).map(|it| self.services.insert(to.clone(), it));
        moved.is_some()
    }

    fn set(&mut self, service: &Name, values: Values, members: &[Name]) {
        let old = self.of_service(service);
        for member in members {
            let own = || Own { now: old.clone(), before: old.clone() };
            self.instances.entry(member.clone()).or_insert_with(own);
        }
        self.services.entry(service.clone()).or_default().extend(values);
    }

    /// The values from before the last rollout are those of the service again.
    fn unset(&mut self, service: &Name, members: &[Name]) {
        let mut own = members.iter().filter_map(|it| self.instances.get(it));
        if let Some(it) = own.find(|it| it.now != it.before) {
            self.services.insert(service.clone(), it.before.clone());
        }
    }

    fn take(&mut self, service: &Name, instance: &Name, back: bool) {
        let values = self.of_service(service);
        let own = self
            .instances
            .entry(instance.clone())
            .or_insert_with(|| Own { now: values.clone(), before: values.clone() });
        if back {
            own.now.clone_from(&own.before);
        } else if own.now != values {
            // Not where the same rollout is tried again: before it is still before the first try.
            own.before = std::mem::replace(&mut own.now, values);
        }
    }
}

impl Hands {
    pub(super) fn set_values(&mut self, service: &Name, values: Values) {
        let members = self.members(service);
        self.values.set(service, values, &members);
        self.keep_values(service, &members);
    }

    pub(super) fn unset_values(&mut self, service: &Name) {
        let members = self.members(service);
        self.values.unset(service, &members);
        self.keep_values(service, &[]);
    }

    pub(super) fn take_values(&mut self, instance: &Name, back: bool) {
        let Some(service) = self.known.get(instance).map(|it| it.service.clone()) else { return };
        self.values.take(&service, instance, back);
        self.keep_values(&service, std::slice::from_ref(instance));
    }

    /// A service has another name, and the values that were set for it.
    pub(super) fn rename_values(&mut self, from: &Name, to: &Name) {
        if self.values.rename(from, to) {
            for name in [to, from] {
                let (service, values) = (name.to_string(), self.values.of_service(name));
                self.state.append(&Line::Set { service, values });
            }
        }
    }

    /// Forgets what was said of names that are configured no more, and that nothing runs under.
    pub(super) fn forget_names(&mut self, instances: impl IntoIterator<Item = Name>) {
        for name in instances {
            if !self.known.contains_key(&name) && !self.living.contains_key(&name) {
                self.state.append(&Line::Forgotten { instance: name.to_string() });
            }
        }
        let mut values = std::mem::take(&mut self.values);
        let is_instance = |it: &Name| self.known.contains_key(it);
        for name in values.retain(|it| self.service(it).is_some(), is_instance) {
            let (service, values) = (name.to_string(), Values::new());
            self.state.append(&Line::Set { service, values });
        }
        self.values = values;
        self.foreign.stops.retain(|name, _| self.known.contains_key(name));
    }

    fn members(&self, service: &Name) -> Vec<Name> {
        let known = self.known.iter().filter(|(_, it)| it.service == *service);
        known.map(|(name, _)| name.clone()).collect()
    }

    /// For the next starts, and for the next daemon.
    fn keep_values(&mut self, service: &Name, instances: &[Name]) {
        for known in self.known.values_mut().filter(|it| it.service == *service) {
            known.prepared = None;
        }
        let values = self.values.of_service(service);
        self.state.append(&Line::Set { service: service.to_string(), values });
        for name in instances {
            if let Some(own) = self.values.instances.get(name).cloned() {
                let instance = name.to_string();
                self.state.append(&Line::Took(Took { instance, now: own.now, before: own.before }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(n: &str) -> Values {
        Values::from([("version".into(), n.into())])
    }

    fn rolled(n: &str, versions: &mut Versions) {
        versions.set(&"web".into(), version(n), &["web1".into(), "web2".into()]);
    }

    #[test]
    fn an_instance_keeps_its_values_until_a_rollout_takes_it() {
        let (web, web1) = (Name::from("web"), Name::from("web1"));
        let mut versions = Versions::default();
        rolled("42", &mut versions);
        assert_eq!(versions.of(&web, &web1), Values::new());
        versions.take(&web, &web1, false);
        assert_eq!(versions.of(&web, &web1), version("42"));
        rolled("43", &mut versions);
        assert_eq!(versions.of(&web, &web1), version("42"));
        assert_eq!(versions.of(&web, &"web3".into()), version("43"), "it came later");
    }

    #[test]
    fn names_that_are_gone_leave_no_values() {
        let mut versions = Versions::default();
        for n in 0..10_000 {
            let (service, instance) = (Name::from(format!("s{n}").as_str()), Name::from("web"));
            versions.set(&service, version("1"), std::slice::from_ref(&instance));
            versions.take(&service, &instance, false);
            assert_eq!(versions.retain(|_| false, |_| false), [service]);
        }
        assert!(versions.services.is_empty() && versions.instances.is_empty());
    }

    #[test]
    fn a_rollback_finds_what_was_before_also_after_a_second_try() {
        let (web, web1) = (Name::from("web"), Name::from("web1"));
        let mut versions = Versions::default();
        for n in ["42", "43", "43"] {
            rolled(n, &mut versions);
            versions.take(&web, &web1, false);
        }
        assert_eq!(versions.before(&web, &web1), version("42"));
        versions.unset(&web, std::slice::from_ref(&web1));
        versions.take(&web, &web1, true);
        assert_eq!(
            (versions.of(&web, &web1), versions.of_service(&web)),
            (version("42"), version("42"))
        );
    }

    #[test]
    fn a_name_that_had_no_value_before_keeps_the_present_one_for_the_commands_of_a_rollback() {
        let (web, web1) = (Name::from("web"), Name::from("web1"));
        let mut versions = Versions::default();
        rolled("43", &mut versions);
        versions.take(&web, &web1, false);
        assert_eq!(versions.before(&web, &web1), version("43"));
        versions.take(&web, &web1, true);
        assert_eq!(versions.of(&web, &web1), Values::new());
    }
}
