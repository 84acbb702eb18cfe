//! Looks at trees whose reload is watched, and only at those.
//!
//! The fleet asks for the first look right before the signal; from then on each tree is read ten times a
//! second until the fleet says that the reload is over. What was seen once is asked for by identity: a
//! list of children that was read while they changed may lack some (proc_pid_task_children(5)).

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::debug;

use super::clock;
use super::hands::{Hands, identity_of, process_of};
use super::lineage::Lineage;
use super::tree::observed;
use crate::fleet::input::Input;
use crate::fleet::{Fleet, Name, Process, Timestamp};
use crate::process::{closeup, descendants, identity};
use crate::roles::{self, Rules};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// By instance: its leader, and its workers at the last look.
    watched: BTreeMap<Name, (Process, Vec<Process>)>,
    due: Option<Timestamp>,
    /// By instance, of those that were reloaded.
    lineages: BTreeMap<Name, Lineage>,
}

impl Reloads {
    /// The reloads of what runs there.
    pub(super) fn lineage(&self, instance: &Name, leader: Process) -> Lineage {
        let known = self.lineages.get(instance).filter(|it| it.is_of(leader));
        known.cloned().unwrap_or_else(|| Lineage::new(leader))
    }
}

impl Hands {
    /// Takes the first look, and goes on with it. `known`: workers of whom the last daemon knew.
    pub(super) fn survey(&mut self, instance: &Name, leader: Process, known: &[Process]) {
        let workers = self.workers(instance, leader, known);
        let mut lineage = self.reloads.lineage(instance, leader);
        match known {
            [] => lineage.begin(clock::now(), &[], &workers),
            // The signal was sent by the last daemon: all others are new.
            before => lineage.begin(Timestamp::default(), &[], before),
        }
        self.reloads.lineages.insert(instance.clone(), lineage);
        self.reloads.watched.insert(instance.clone(), (leader, workers.clone()));
        self.reloads.due = Some(clock::now() + AGAIN);
        self.outcomes.push_back(Input::Workers {
            instance: instance.clone(),
            process: leader,
            workers,
        });
    }

    /// When [`Self::look_at_reloads`] wants to be called.
    pub fn next_survey(&self) -> Option<Timestamp> {
        self.reloads.due.filter(|_| !self.reloads.watched.is_empty())
    }

    /// Looks at every tree once more.
    pub fn look_at_reloads(&mut self, now: Timestamp) {
        let watched = std::mem::take(&mut self.reloads.watched);
        for (instance, (leader, before)) in watched {
            let workers = self.workers(&instance, leader, &before);
            self.outcomes.push_back(Input::Workers {
                instance: instance.clone(),
                process: leader,
                workers: workers.clone(),
            });
            self.reloads.watched.insert(instance, (leader, workers));
        }
        // Large trees are looked at less often: at most a tenth of the time is theirs.
        let (end, tenth) = (clock::now(), 10);
        self.reloads.due = Some(end + AGAIN.max(end.since(now) * tenth));
    }

    /// Forgets reloads that are over.
    pub fn end_surveys(&mut self, fleet: &Fleet) {
        self.reloads.watched.retain(|name, _| fleet.watches_reload(name.as_str()));
        let living = &self.living;
        let lives =
            |name: &Name, it: &Lineage| living.get(name).is_some_and(|of| it.is_of(of.process));
        self.reloads.lineages.retain(|name, it| lives(name, it));
    }

    /// The workers below a leader, and those of `before` that still live.
    fn workers(&self, instance: &Name, leader: Process, before: &[Process]) -> Vec<Process> {
        let known = self.known.get(instance).and_then(|it| self.service(&it.service));
        let Some(rules) = known.map(|it| &it.profile.roles) else { return vec![] };
        workers(rules, leader, before)
    }
}

/// The workers below a leader by these rules, and those of `before` that still live.
pub(super) fn workers(rules: &Rules, leader: Process, before: &[Process]) -> Vec<Process> {
    let mut workers = renewed_by(rules, leader);
    let still = before.iter().filter(|it| {
        !workers.contains(it) && identity::is_alive(identity_of(**it)).unwrap_or(false)
    });
    let still: Vec<_> = still.copied().collect();
    workers.extend(still);
    workers
}

/// Who of a tree is renewed by a reload.
fn renewed_by(rules: &Rules, leader: Process) -> Vec<Process> {
    let tree = descendants::of(identity_of(leader)).unwrap_or_else(|err| {
        debug!(pid = leader.pid, %err, "a tree cannot be read");
        vec![]
    });
    let arguments = |pid| closeup::arguments(pid).unwrap_or_default();
    let seen: Vec<_> = tree.iter().map(|it| observed(it, &arguments(it.identity.pid))).collect();
    let roles = roles::assign(rules, leader.pid, &seen);
    let is_renewed = |pid: i32| roles.get(&pid).is_some_and(|it| it.renewed);
    let renewed = tree.iter().filter(|it| is_renewed(it.identity.pid));
    renewed.map(|it| process_of(it.identity)).collect()
}
