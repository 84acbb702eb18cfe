//! A service: its rules, its members, and what is counted about them.
//!
//! The counts are kept up to date with every change of a member, so that asking whether a service is
//! ready never walks over its instances.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::instance::Vitals;
use super::rollout_state::Rollout;
use super::roster::Named;
use super::rules::ServiceRules;
use super::time::Timestamp;
use super::wave::Wave;
use super::words::Name;

pub(super) struct Service {
    pub(super) rules: Arc<ServiceRules>,
    /// In file order, then those that are no longer configured and have not ended yet.
    pub(super) members: Vec<Name>,
    /// No longer in the configuration: forgotten with its last member.
    pub(super) removed: bool,
    pub(super) counts: Counts,
    /// Members that run and fail liveness.
    pub(super) sick: BTreeSet<Name>,
    /// The member that is being restarted because of its liveness.
    pub(super) healing: Option<Name>,
    /// The diary knows that all members fail liveness.
    pub(super) told_all_sick: bool,
    pub(super) rollout: Option<Rollout>,
    /// The digest of what the next daemon would be told of it; zero without one.
    pub(super) kept: u64,
    /// The same of its wave.
    pub(super) kept_round: u64,
    /// The spare, while there is one.
    pub(super) spare: Option<Name>,
    /// Of the last spare: the next one goes on from there.
    pub(super) spare_generation: u64,
    pub(super) wave: Option<Wave>,
    /// It is among those that changed.
    pub(super) changed: bool,
    /// What stands for it in the set of deadlines.
    pub(super) deadline: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) wanted: usize,
    pub(super) ready: usize,
    pub(super) occupied: usize,
}

impl Named for Service {
    fn name(&self) -> &Name {
        &self.rules.name
    }
}

impl Service {
    pub(super) fn new(rules: Arc<ServiceRules>) -> Self {
        Self {
            rules,
            members: Vec::new(),
            removed: false,
            counts: Counts::default(),
            sick: BTreeSet::new(),
            healing: None,
            told_all_sick: false,
            rollout: None,
            kept: 0,
            kept_round: 0,
            spare: None,
            spare_generation: 0,
            wave: None,
            changed: false,
            deadline: None,
        }
    }

    /// Others may rely on it: every instance that should be ready is, and there is one.
    pub(super) fn is_ready(&self) -> bool {
        self.counts.wanted > 0 && self.counts.ready >= self.counts.wanted
    }

    /// The configuration wants it gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.removed || !self.rules.enabled
    }

    /// Something beyond the life of single instances is going on.
    pub(super) fn has_business(&self) -> bool {
        self.wave.is_some()
            || self.spare.is_some()
            || !self.sick.is_empty()
            || self.rollout.as_ref().is_some_and(Rollout::is_under_way)
    }

    pub(super) fn business_deadline(&self) -> Option<Timestamp> {
        let rollout = self.rollout.as_ref().and_then(Rollout::deadline);
        let wave = self.wave.as_ref().and_then(Wave::deadline);
        rollout.into_iter().chain(wave).min()
    }

    pub(super) fn count_out(&mut self, name: &Name, vitals: &Vitals) {
        self.counts.wanted -= usize::from(vitals.wanted);
        self.counts.ready -= usize::from(vitals.ready);
        self.counts.occupied -= usize::from(vitals.occupied);
        self.sick.remove(name);
    }

    pub(super) fn count_in(&mut self, name: &Name, vitals: &Vitals) {
        self.counts.wanted += usize::from(vitals.wanted);
        self.counts.ready += usize::from(vitals.ready);
        self.counts.occupied += usize::from(vitals.occupied);
        if vitals.sick {
            self.sick.insert(name.clone());
        }
    }
}
