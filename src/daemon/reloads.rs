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
use crate::process::stat::Stat;
use crate::process::{closeup, descendants, identity};
use crate::roles::{self, Rule, Rules};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// By instance.
    watched: BTreeMap<Name, Watched>,
    /// Leaders of trees of which single processes were told to go.
    followed: BTreeMap<Name, Process>,
    due: Option<Timestamp>,
    /// By instance, of those that were reloaded.
    lineages: BTreeMap<Name, Lineage>,
}

#[derive(Debug)]
struct Watched {
    leader: Process,
    /// Who is renewed; empty: all that any reload renews.
    roles: Vec<String>,
    /// At the last look.
    workers: Vec<Process>,
}

impl Reloads {
    /// What ran there has ended.
    pub(super) fn forget(&mut self, instance: &Name) {
        self.lineages.remove(instance);
    }

    /// The reloads of what runs there.
    pub(super) fn lineage(&self, instance: &Name, leader: Process) -> Lineage {
        let known = self.lineages.get(instance).filter(|it| it.is_of(leader));
        known.cloned().unwrap_or_else(|| Lineage::new(leader))
    }
}

impl Hands {
    /// Takes the first look, and goes on with it. `known`: workers of whom the last daemon knew.
    pub(super) fn survey(
        &mut self,
        instance: &Name,
        leader: Process,
        known: Option<Vec<Process>>,
        roles: Vec<String>,
    ) {
        let workers = self.workers(instance, leader, &roles, known.as_deref().unwrap_or(&[]));
        let mut lineage = self.reloads.lineage(instance, leader);
        match &known {
            None => lineage.begin(clock::now(), &roles, &workers),
            // The signal was sent by the last daemon: all others are new.
            Some(before) => lineage.begin(Timestamp::default(), &roles, before),
        }
        self.reloads.lineages.insert(instance.clone(), lineage);
        let watched = Watched { leader, roles, workers: workers.clone() };
        self.reloads.watched.insert(instance.clone(), watched);
        self.reloads.due = Some(clock::now() + AGAIN);
        self.outcomes.push_back(Input::Workers {
            instance: instance.clone(),
            process: leader,
            workers,
        });
    }

    /// Tells from now on who works there.
    pub(super) fn follow(&mut self, instance: &Name, leader: Process) {
        self.reloads.followed.insert(instance.clone(), leader);
        self.reloads.due = Some(clock::now() + AGAIN);
    }

    /// When [`Self::look_at_reloads`] wants to be called.
    pub fn next_survey(&self) -> Option<Timestamp> {
        let Reloads { watched, followed, due, .. } = &self.reloads;
        due.filter(|_| !watched.is_empty() || !followed.is_empty())
    }

    /// Looks at every tree once more.
    pub fn look_at_reloads(&mut self, now: Timestamp) {
        for (instance, it) in std::mem::take(&mut self.reloads.watched) {
            let workers = self.workers(&instance, it.leader, &it.roles, &it.workers);
            self.outcomes.push_back(Input::Workers {
                instance: instance.clone(),
                process: it.leader,
                workers: workers.clone(),
            });
            self.reloads.watched.insert(instance, Watched { workers, ..it });
        }
        for (instance, leader) in self.reloads.followed.clone() {
            let workers = self.workers(&instance, leader, &[], &[]);
            self.outcomes.push_back(Input::Members { instance, process: leader, workers });
        }
        // Large trees are looked at less often: at most a tenth of the time is theirs.
        let (end, tenth) = (clock::now(), 10);
        self.reloads.due = Some(end + AGAIN.max(end.since(now) * tenth));
    }

    /// Forgets reloads that are over.
    pub fn end_surveys(&mut self, fleet: &Fleet) {
        self.reloads.watched.retain(|name, _| fleet.watches_reload(name.as_str()));
        self.reloads.followed.retain(|name, _| fleet.follows(name.as_str()));
    }

    /// The workers of these roles below a leader, and those of `before` that still live.
    fn workers(
        &self,
        instance: &Name,
        leader: Process,
        roles: &[String],
        before: &[Process],
    ) -> Vec<Process> {
        let known = self.known.get(instance).and_then(|it| self.service(&it.service));
        let Some(rules) = known.map(|it| &it.profile.roles) else { return vec![] };
        workers(rules, leader, roles, before)
    }
}

/// The workers of these roles below a leader by these rules, and those of `before` that still live; no role: all
/// that are renewed.
pub(super) fn workers(
    rules: &Rules,
    leader: Process,
    roles: &[String],
    before: &[Process],
) -> Vec<Process> {
    let is_renewed = |it: &Rule| it.renewed && (roles.is_empty() || roles.contains(&it.role));
    let all = ruled(rules, leader).into_iter();
    let mut workers: Vec<_> = all.filter(|it| is_renewed(it.1)).map(|it| it.0).collect();
    let still = before.iter().filter(|it| {
        !workers.contains(it) && identity::is_alive(identity_of(**it)).unwrap_or(false)
    });
    let still: Vec<_> = still.copied().collect();
    workers.extend(still);
    workers
}

/// Who of a tree falls under a rule, and under which.
pub(super) fn ruled(rules: &Rules, leader: Process) -> Vec<(Process, &Rule)> {
    let tree = descendants::of(identity_of(leader)).unwrap_or_else(|err| {
        debug!(pid = leader.pid, %err, "a tree cannot be read");
        vec![]
    });
    let arguments = |pid| closeup::arguments(pid).unwrap_or_default();
    let seen: Vec<_> = tree.iter().map(|it| observed(it, &arguments(it.identity.pid))).collect();
    let roles = roles::assign(rules, leader.pid, &seen);
    let rule = |it: &Stat| Some((process_of(it.identity), *roles.get(&it.identity.pid)?));
    tree.iter().filter_map(rule).collect()
}
