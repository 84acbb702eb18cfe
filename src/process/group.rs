//! Everything that an instance consists of: found, named, killed, known to be gone.
//!
//! With a cgroup the kernel knows. Without one a member is whoever is in the leader's session,
//! or descends from a member, or was left to a subreaper and can still be recognised: it
//! holds the instance's FIFO as its output, or carries the instance's variable in its environment.
//! For that somebody must inherit the orphans: [`become_subreaper`].
//!
//! A zombie counts as gone everywhere. Whatever is killed here is killed by identity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::Identity;
use super::cgroup::{Cgroup, kill_one};
use super::identity::is_absent;
use super::reaper::Reaper;
use super::stat::{Comm, Stat, read_stat};
use super::table::{FileId, Table};

/// By what a process is recognised that left its session and lost its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The file that is its standard output or error.
    output: Option<FileId>,
    /// `NAME=value`, as in its environment. It must name one instance only, and nothing else
    /// may be started with it (no probe, no build).
    variable: Option<String>,
}

impl Marks {
    /// `output`: the FIFO of the instance; it need not exist any more.
    pub fn new(output: Option<&Path>, variable: Option<(&str, &str)>) -> Self {
        Self {
            output: output.and_then(|it| FileId::of(it).ok()),
            variable: variable.map(|(name, value)| format!("{name}={value}")),
        }
    }

    /// By an open file that is its output, such as our pipe.
    pub fn of_output(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { output: Some(FileId::of_descriptor(descriptor)?), variable: None })
    }
}

/// All processes of one generation of an instance.
#[derive(Clone, Debug)]
pub struct Group {
    leader: Identity,
    cgroup: Option<Cgroup>,
    marks: Marks,
    /// We are the parent of the leader, so what it leaves behind comes to us.
    is_our_child: bool,
    /// The leader, and members that were found while there was a way to it and killed.
    seen: BTreeSet<Identity>,
}

/// A process of a group that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub identity: Identity,
    pub name: Comm,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.identity.pid)
    }
}

impl From<&Stat> for Member {
    fn from(stat: &Stat) -> Self {
        Self { identity: stat.identity, name: stat.name }
    }
}

impl Group {
    /// The group of a leader that was just started, or of one that an earlier daemon left.
    pub fn new(leader: Identity, cgroup: Option<Cgroup>, marks: Marks) -> Self {
        let me = std::process::id().cast_signed();
        let is_our_child = cgroup.is_none()
            && read_stat(leader.pid).is_ok_and(|it| it.identity == leader && it.parent == me);
        Self { leader, cgroup, marks, is_our_child, seen: BTreeSet::from([leader]) }
    }

    pub fn leader(&self) -> Identity {
        self.leader
    }

    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Whether [`Group::members`] needs a table; with a cgroup it does not look at it.
    pub fn needs_table(&self) -> bool {
        self.cgroup.is_none()
    }

    /// Whether this very process belongs to it and lives, without a look at the whole host.
    pub fn holds(&self, who: Identity) -> bool {
        let Ok(stat) = read_stat(who.pid) else { return false };
        if stat.identity != who || stat.is_gone() {
            return false;
        }
        if let Some(ours) = &self.cgroup {
            return Cgroup::of(who.pid).is_some_and(|it| it.path() == ours.path());
        }
        // The number of a session is used again only after the last of it is gone.
        let may_lead = || read_stat(self.leader.pid).map_or(true, |it| it.identity == self.leader);
        self.seen.contains(&who)
            || stat.session == self.leader.pid && may_lead()
            || self.is_above(stat)
    }

    /// Whether the way up from a process leads to the leader.
    fn is_above(&self, mut at: Stat) -> bool {
        // No tree is as deep; one that changes while it is read could make a ring.
        for _ in 0..64 {
            match read_stat(at.parent) {
                Ok(parent) if parent.identity == self.leader => return true,
                Ok(parent) => at = parent,
                Err(_) => return false,
            }
        }
        false
    }

    /// Who of it lives, by pid. `table` may be shared by many groups of one turn.
    pub fn members(&self, table: &Table) -> io::Result<Vec<Member>> {
        match &self.cgroup {
            Some(cgroup) => members_of(cgroup),
            None => Ok(self.members_in(table)),
        }
    }

    /// Whether nobody of it lives. Once true it stays true.
    pub fn is_empty(&self, table: &Table) -> io::Result<bool> {
        match &self.cgroup {
            Some(cgroup) => match cgroup.is_populated() {
                // The kernel may count one that is ending a moment longer than it lives.
                Ok(true) => Ok(members_of(cgroup)?.is_empty()),
                Ok(false) => Ok(true),
                Err(source) if is_absent(&source) => Ok(true),
                Err(source) => Err(source),
            },
            None => Ok(self.members_in(table).is_empty()),
        }
    }

    /// As [`Group::is_empty`], but sweeps `/proc` only if it cannot be answered without.
    ///
    /// The question to ask when the leader was reaped, after [`Reaper::reap`] has returned:
    /// without a cgroup too it costs one short read as long as nobody left anything behind.
    pub fn has_ended(&self, reaper: &Reaper) -> io::Result<bool> {
        if self.cgroup.is_some() {
            return self.is_empty(&Table::empty());
        }
        if self.is_our_child && !reaper.has_started(self.leader.pid) {
            let strangers = reaper.strangers()?;
            if strangers.is_some_and(|it| it.is_empty()) {
                return Ok(true);
            }
        }
        self.is_empty(&Table::sweep()?)
    }

    /// Sends SIGKILL to all of it and returns who lived until then.
    ///
    /// They die a moment later: ask [`Group::is_empty`] again when the next child was reaped.
    pub fn kill(&mut self) -> io::Result<Vec<Member>> {
        match &self.cgroup {
            Some(cgroup) => {
                let members = members_of(cgroup)?;
                match cgroup.kill() {
                    Err(source) if !is_absent(&source) => Err(source),
                    _ => Ok(members),
                }
            }
            None => self.kill_found(),
        }
    }

    /// Removes the cgroup, if there is one; for an instance that is not to start again.
    pub fn remove(&self) -> io::Result<()> {
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::remove)
    }

    /// A member may fork between being found and being killed: go on until nobody new is found.
    fn kill_found(&mut self) -> io::Result<Vec<Member>> {
        let mut killed: Vec<Member> = Vec::new();
        loop {
            let table = Table::sweep()?;
            let fresh: Vec<Member> =
                self.members_in(&table).into_iter().filter(|it| !killed.contains(it)).collect();
            if fresh.is_empty() {
                return Ok(killed);
            }
            self.seen.extend(fresh.iter().map(|it| it.identity));
            for member in &fresh {
                kill_one(member.identity)?;
            }
            killed.extend(fresh);
        }
    }

    /// Whether a process that a dead parent left behind, and that is in this cgroup, belongs to it.
    pub(super) fn claims(&self, table: &Table, stat: &Stat, cgroup: Option<&Cgroup>) -> bool {
        match &self.cgroup {
            Some(ours) => cgroup.is_some_and(|it| it.path() == ours.path()),
            None => {
                stat.identity.start_time >= self.leader.start_time
                    && (self.seen.contains(&stat.identity)
                        || self.is_marked(table, stat.identity.pid))
            }
        }
    }

    fn members_in(&self, table: &Table) -> Vec<Member> {
        let may_lead = table.may_lead(self.leader);
        let is_root = |stat: &Stat| {
            self.seen.contains(&stat.identity)
                || may_lead && stat.session == self.leader.pid
                || table.is_left_behind(stat) && self.claims(table, stat, None)
        };
        let members = table.owners(|it| is_root(it).then_some(()));
        members.into_iter().filter(|it| !it.0.is_gone()).map(|it| Member::from(it.0)).collect()
    }

    /// Who lives of each of these groups, by pid, in their order, from one look at the table: what
    /// [`Group::members`] says of each.
    pub fn members_of_each(groups: &[&Self], table: &Table) -> Vec<io::Result<Vec<Member>>> {
        let tabled = || groups.iter().enumerate().filter(|it| it.1.needs_table());
        let seen: BTreeMap<Identity, usize> =
            tabled().flat_map(|(n, it)| it.seen.iter().map(move |who| (*who, n))).collect();
        let leaders: BTreeMap<i32, usize> = tabled()
            .filter(|it| table.may_lead(it.1.leader))
            .map(|(n, it)| (it.leader.pid, n))
            .collect();
        let oldest = tabled().map(|it| it.1.leader.start_time).min().unwrap_or(u64::MAX);
        let owners = table.owners(|stat| {
            let known = seen.get(&stat.identity).or_else(|| leaders.get(&stat.session)).copied();
            let is_claimed = table.is_left_behind(stat) && stat.identity.start_time >= oldest;
            let claims = |it: &(usize, &&Self)| it.1.claims(table, stat, None);
            known.or_else(|| tabled().find(|it| is_claimed && claims(it)).map(|it| it.0))
        });
        let mut members: Vec<Vec<Member>> = vec![vec![]; groups.len()];
        for (stat, n) in owners.into_iter().filter(|it| !it.0.is_gone()) {
            members[n].push(Member::from(stat));
        }
        let each = groups.iter().zip(members).map(|(group, tabled)| match &group.cgroup {
            Some(cgroup) => members_of(cgroup),
            None => Ok(tabled),
        });
        each.collect()
    }

    fn is_marked(&self, table: &Table, pid: i32) -> bool {
        let marks = table.marks(pid);
        self.marks.output.is_some_and(|it| marks.outputs.contains(&it))
            || self.marks.variable.as_ref().is_some_and(|it| marks.has_variable(it))
    }
}

fn members_of(cgroup: &Cgroup) -> io::Result<Vec<Member>> {
    let pids = match cgroup.pids() {
        Err(source) if is_absent(&source) => return Ok(Vec::new()),
        pids => pids?,
    };
    let stats = pids.into_iter().filter_map(|pid| read_stat(pid).ok());
    let mut members: Vec<_> =
        stats.filter(|it| !it.is_gone()).map(|it| Member::from(&it)).collect();
    members.sort_by_key(|it| it.identity);
    Ok(members)
}

/// Makes us inherit the orphans below us, instead of init: their ends are seen, and they are
/// recognised. Lasts until we end.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
