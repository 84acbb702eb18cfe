//! The tree of an instance: what `/proc` shows, and what its profile says of it.
//!
//! Read when somebody asks, on a blocking thread, by few at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::api::{self, ProcessDetail, Role};
use crate::config::KnownProfile;
use crate::config::secret::veiled_arguments;
use crate::daemon::clock;
use crate::daemon::hands::Hands;
use crate::daemon::http::{Api, Failure, ending};
use crate::daemon::measure::sampling::Recent;
use crate::daemon::trees::census;
use crate::daemon::trees::lineage::Lineage;
use crate::daemon::turn::Question;
use crate::fleet::{Fleet, Name, Process, Timestamp};
use crate::process::group::Group;
use crate::process::stat::{Stat, time_of};
use crate::process::table::Table;
use crate::process::usage::page_bytes;
use crate::process::{Identity, closeup};
use crate::roles;

/// Processes of a tree that are told one by one.
const PROCESSES: usize = 64;
/// Processes of one answer whose share of memory is read: the kernel walks their pages for it.
const SHARES: usize = 1024;
/// Who reads `/proc` for somebody at a time.
pub(in crate::daemon) static READERS: Semaphore = Semaphore::const_new(2);

/// A tree that is to be looked at.
#[derive(Debug)]
pub struct Tree {
    pub(in crate::daemon) leader: Identity,
    group: Group,
    profile: Option<Arc<KnownProfile>>,
    lineage: Lineage,
    /// A reload of it is watched.
    reloads: bool,
    recent: Recent,
}

impl Hands {
    /// What there is to look at of an instance, if it runs.
    pub(in crate::daemon) fn tree(&self, instance: &Name, fleet: &Fleet) -> Option<Tree> {
        let living = self.living.get(instance)?;
        let known = self.known.get(instance).and_then(|it| self.service(&it.service));
        Some(Tree {
            leader: Identity::from(living.process),
            group: living.group.clone(),
            profile: known.map(|it| it.profile.clone()),
            lineage: self.reloads.lineage(instance, living.process),
            reloads: fleet.watches_reload(instance.as_str()),
            recent: self.sampler.recent(),
        })
    }
}

impl Tree {
    pub(in crate::daemon) fn profile(&self) -> Option<&KnownProfile> {
        self.profile.as_deref()
    }

    /// Its processes, each after its parent, and how many there are beside those.
    pub(in crate::daemon) fn seen(&self, table: &Table) -> io::Result<(Vec<Seen>, u32)> {
        Ok(self.seen_of(closeup::tree(&self.group, table, PROCESSES)?))
    }

    fn seen_of(&self, (tree, more): (Vec<(u32, Stat)>, usize)) -> (Vec<Seen>, u32) {
        let nothing = roles::Rules::default();
        let rules = self.profile.as_ref().map_or(&nothing, |it| &it.roles);
        let (depths, stats): (Vec<u32>, Vec<Stat>) = tree.into_iter().unzip();
        let looked = census::look(rules, self.leader.pid, stats);
        let all = depths.into_iter().zip(looked).map(|(depth, it)| Seen {
            depth,
            role: it.rule.map(|it| it.role.clone()),
            renewed: it.rule.is_some_and(|it| it.renewed),
            leaving: it.rule.is_some_and(|it| it.leaving),
            cuts: it.rule.map_or(vec![], |it| it.cuts.clone()),
            leads: it.stat.identity == self.leader,
            stat: it.stat,
            arguments: it.arguments,
        });
        (all.collect(), u32::try_from(more).unwrap_or(u32::MAX))
    }

    /// The same for clients. Of the first `shares` their share of memory is read.
    pub(in crate::daemon) fn told(&self, seen: &[Seen], shares: usize) -> Vec<ProcessDetail> {
        let identities: Vec<Identity> = seen.iter().map(|it| it.stat.identity).collect();
        let busy = self.recent.of(&identities);
        let told = |(n, seen): (usize, &Seen)| {
            let (identity, process) = (seen.stat.identity, Process::from(seen.stat.identity));
            let role = seen.role.as_deref().filter(|_| seen.renewed);
            ProcessDetail {
                generation: role.map(|it| self.lineage.generation(it, process)),
                leaving: seen.leaving
                    || role.is_some() && self.reloads && self.lineage.is_replaced(process),
                cpu_percent: busy.get(&identity).copied(),
                pss_bytes: if n < shares { closeup::pss(identity.pid).ok() } else { None },
                ..self::process(seen)
            }
        };
        seen.iter().enumerate().map(told).collect()
    }
}

/// A process of the tree, with what it is by its profile.
#[derive(Debug)]
pub(in crate::daemon) struct Seen {
    /// How far below a root.
    pub depth: u32,
    pub stat: Stat,
    pub arguments: Vec<String>,
    pub role: Option<String>,
    /// A reload puts another one in its place.
    pub renewed: bool,
    /// It finishes what it has, and takes nothing new.
    pub leaving: bool,
    /// Signals at which it may close every connection, by number.
    pub cuts: Vec<i32>,
    /// It was started by the deck.
    pub leads: bool,
}

/// The snapshot with the trees of these services or instances; of all if there are none.
pub(in crate::daemon) async fn planted(
    api: &Api,
    role: Role,
    names: Vec<String>,
) -> Result<api::Deck, Failure> {
    let (mut deck, trees) = api.ask(|reply| Question::Trees { role, names, reply }).await?;
    let _turn = READERS.acquire().await.map_err(|_| ending())?;
    let read = tokio::task::spawn_blocking(move || read_all(&trees));
    let mut read = read.await.map_err(|_| ending())?;
    for it in deck.services.iter_mut().flat_map(|it| &mut it.instances) {
        (it.processes, it.more_processes) = read.remove(&it.name).unwrap_or_default();
    }
    Ok(deck)
}

/// All of them from one look at the host.
fn read_all(trees: &[(String, Tree)]) -> BTreeMap<String, (Vec<ProcessDetail>, u32)> {
    let mut all = BTreeMap::new();
    let Ok(table) = Table::sweep() else { return all };
    let mut shares = SHARES;
    let groups: Vec<&Group> = trees.iter().map(|it| &it.1.group).collect();
    for ((name, tree), members) in trees.iter().zip(Group::members_of_each(&groups, &table)) {
        let Ok(members) = members else { continue };
        let tree_of = closeup::tree_of(tree.leader, &members, &table, PROCESSES);
        let (seen, more) = tree.seen_of(tree_of);
        all.insert(name.clone(), (tree.told(&seen, shares), more));
        shares = shares.saturating_sub(seen.len());
    }
    all
}

fn process(seen: &Seen) -> ProcessDetail {
    let stat = &seen.stat;
    let Identity { pid, start_time } = stat.identity;
    let started = Timestamp(time_of(start_time));
    ProcessDetail {
        pid,
        start_time,
        depth: seen.depth,
        role: seen.role.clone(),
        state: char::from(stat.state).to_string(),
        name: stat.name.to_string(),
        title: veiled_arguments(&seen.arguments).join(" "),
        started: Some(clock::wall_of(started)),
        age_ms: clock::millis(clock::now().since(started)),
        cpu_ms: clock::millis(time_of(stat.cpu_ticks)),
        memory_bytes: stat.resident_pages.saturating_mul(page_bytes()),
        threads: u32::try_from(stat.threads).unwrap_or(0),
        descriptors: closeup::descriptors(pid).ok(),
        ..ProcessDetail::default()
    }
}
