//! Who is who in a tree: what `/proc` shows of its processes, and which rule of a profile each falls under.
//!
//! Arguments are read of processes that may be stuck ([`crate::process::slow`]), so a look may take some tenths
//! of a second: it is taken on a blocking thread, never by the driver, and comes back as a turn.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::config::KnownProfile;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::trees::cuts::Weighed;
use crate::daemon::trees::guesses::Clues;
use crate::daemon::trees::members::Aim;
use crate::daemon::trees::reloads::{Round, Survey};
use crate::daemon::turn::Turn;
use crate::fleet::{Name, Process};
use crate::process::stat::Stat;
use crate::process::{Identity, closeup, descendants};
use crate::roles::{self, Rule, Rules};

/// How long a look may take that something waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process of a tree, with what it is by the profile.
#[derive(Debug)]
pub(in crate::daemon) struct Looked<'r> {
    pub stat: Stat,
    /// None where they cannot be read.
    pub arguments: Vec<String>,
    pub rule: Option<&'r Rule>,
}

/// These processes of a leader's tree, in their order. Blocking.
pub(in crate::daemon) fn look(rules: &Rules, leader: i32, tree: Vec<Stat>) -> Vec<Looked<'_>> {
    let pids: Vec<i32> = tree.iter().map(|it| it.identity.pid).collect();
    let polls = |it: &Stat| polls(rules, leader, it);
    assigned(rules, leader, (tree, closeup::arguments_of(&pids)), polls)
}

/// The same by what `stat` tells alone, which no process can hold up; and of the leader, what it polls by.
pub(in crate::daemon) fn glance(rules: &Rules, leader: i32, tree: Vec<Stat>) -> Vec<Looked<'_>> {
    let arguments = vec![vec![]; tree.len()];
    let polls = |it: &Stat| polls(rules, leader, it).filter(|_| it.identity.pid == leader);
    assigned(rules, leader, (tree, arguments), polls)
}

fn assigned(
    rules: &Rules,
    leader: i32,
    (tree, arguments): (Vec<Stat>, Vec<Vec<String>>),
    polls: impl Fn(&Stat) -> Option<u32>,
) -> Vec<Looked<'_>> {
    let both = || tree.iter().zip(&arguments);
    let seen: Vec<_> =
        both().map(|(stat, arguments)| observed(stat, arguments, polls(stat))).collect();
    let roles = roles::assign(rules, leader, &seen);
    let looked = |(stat, arguments): (Stat, Vec<String>)| {
        let rule = roles.get(&stat.identity.pid).copied();
        Looked { stat, arguments, rule }
    };
    tree.into_iter().zip(arguments).map(looked).collect()
}

/// What its role in its tree goes by.
fn observed(stat: &Stat, arguments: &[String], polls: Option<u32>) -> roles::Process {
    roles::Process {
        pid: stat.identity.pid,
        parent: stat.parent,
        name: stat.name.to_string(),
        title: arguments.first().cloned().unwrap_or_default(),
        told: arguments.get(1).cloned(),
        threads: threads(stat),
        polls,
    }
}

fn threads(stat: &Stat) -> u32 {
    u32::try_from(stat.threads).unwrap_or(0)
}

/// How many descriptors of epoll(7) a process has, where a rule asks for that and nothing else rules it out.
fn polls(rules: &Rules, leader: i32, of: &Stat) -> Option<u32> {
    let pid = of.identity.pid;
    let asks = |it: &Rule| {
        let may_be = it.level.is_none_or(|level| (level == 1) == (pid == leader))
            && it.threads.is_none_or(|least| threads(of) >= least);
        it.polls.filter(|_| may_be)
    };
    let most = rules.0.iter().filter_map(asks).max()?;
    closeup::polls(pid, most).ok()
}

/// A leader and what is below it.
pub(in crate::daemon) fn tree_of(leader: Identity) -> Vec<Stat> {
    descendants::of(leader).unwrap_or_else(|err| {
        debug!(pid = leader.pid, %err, "a tree cannot be read");
        vec![]
    })
}

/// A tree that is to be looked at by its profile.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Planted {
    pub leader: Process,
    pub profile: Arc<KnownProfile>,
}

impl Planted {
    /// Who falls under a rule, and under which. Blocking.
    pub(in crate::daemon) fn ruled(&self) -> Vec<(Process, &Rule)> {
        let tree = tree_of(Identity::from(self.leader));
        ruled(look(&self.profile.roles, self.leader.pid, tree))
    }

    /// The same without arguments, at once.
    pub(in crate::daemon) fn ruled_at_once(&self) -> Vec<(Process, &Rule)> {
        let tree = tree_of(Identity::from(self.leader));
        ruled(glance(&self.profile.roles, self.leader.pid, tree))
    }
}

fn ruled(looked: Vec<Looked<'_>>) -> Vec<(Process, &Rule)> {
    let all = looked.into_iter();
    all.filter_map(|it| Some((Process::from(it.stat.identity), it.rule?))).collect()
}

/// What was seen by a look that the driver has asked for.
#[derive(Debug)]
pub enum Look {
    /// Right before the signal of a reload.
    First(Survey),
    /// Once more, at all trees whose reload is watched; nothing if nobody could look.
    Again(Option<Round>),
    /// For an order to one process of a tree.
    Aimed(Box<Aim>),
    /// For an order that may cut requests.
    Weighed(Box<Weighed>),
    /// For `profile = "auto"`, by service.
    Guessed(Vec<(Name, Clues)>),
}

impl Hands {
    /// What there is to look at below the leader of an instance.
    pub(in crate::daemon) fn planted(&self, instance: &Name, leader: Process) -> Option<Planted> {
        let service = self.service(&self.known.get(instance)?.service)?;
        Some(Planted { leader, profile: service.profile.clone() })
    }

    /// Looks on a blocking thread, for as long as it takes. `told` makes the turn of what was seen; `None`:
    /// nothing was.
    pub(in crate::daemon) fn look_aside<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
        told: impl FnOnce(Option<T>) -> Look + Send + 'static,
    ) {
        let turns = self.turns.clone();
        self.tasks.spawn(async move {
            let seen = tokio::task::spawn_blocking(look).await.ok();
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Looked(told(seen))).await;
        });
    }

    /// The same for what waits for it: not for longer than [`PATIENCE`].
    pub(in crate::daemon) fn look_soon<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
        told: impl FnOnce(Option<T>) -> Look + Send + 'static,
    ) {
        let turns = self.turns.clone();
        self.tasks.spawn(async move {
            let look = tokio::task::spawn_blocking(look);
            let seen = tokio::time::timeout(PATIENCE, look).await;
            let seen = seen.ok().and_then(Result::ok);
            let _ = turns.send(Turn::Looked(told(seen))).await;
        });
    }
}

impl Daemon {
    pub(in crate::daemon) fn on_looked(&mut self, look: Look) {
        match look {
            Look::First(survey) => self.hands.on_survey(survey),
            Look::Again(round) => self.hands.on_round(round),
            Look::Aimed(aim) => self.on_aimed(*aim),
            Look::Weighed(weighed) => self.on_weighed(*weighed),
            Look::Guessed(clues) => self.on_guessed(clues),
        }
    }
}
