//! Processes of an earlier daemon that no record names.
//!
//! A daemon can die between starting a child and writing that down, and its records can be lost. What it
//! started is recognised all the same: by the cgroup it is in, by the variable in its environment, by the
//! pipe that is its output. Only what was left behind counts, whose parent is somebody that inherits
//! orphans: everything else hangs below it, or is none of ours. Anybody may write a variable into his environment:
//! it is believed of root, of ourselves, and of the user that the instance runs as, and of nobody in a container.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::Identity;
use super::group::Member;
use super::owner::{Users, may_say, users_of};
use super::slow;
use super::stat::Stat;
use super::table::{FileId, Table};

/// Bytes of an environment that are looked through.
const ENVIRONMENT: u64 = 1 << 20;

/// By what a deck recognises what is its own.
#[derive(Debug, Default)]
pub struct Signs {
    /// The beginning of the variable, `NAME=`; the name of the instance follows.
    pub variable: String,
    /// What follows the name of the instance: `@/var/lib/opsdeck`.
    pub deck: String,
    /// The output of each instance.
    outputs: BTreeMap<FileId, String>,
    /// Who may say that he belongs to an instance, beside root and ourselves.
    users: BTreeMap<String, u32>,
    /// Pids that a cgroup of an instance holds.
    born_in: BTreeMap<i32, String>,
}

/// What is left of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The oldest that leads a session, as every leader of an instance does.
    pub leader: Option<Member>,
    /// By the time they were started; never empty.
    pub members: Vec<Member>,
}

impl Left {
    pub fn oldest(&self) -> Identity {
        self.members[0].identity
    }
}

impl Signs {
    pub fn new(variable: &str, deck: &str) -> Self {
        let (variable, deck) = (format!("{variable}="), deck.to_owned());
        Self { variable, deck, ..Self::default() }
    }

    /// The FIFO of an instance; one that does not exist says nothing.
    pub fn output(&mut self, fifo: &Path, instance: &str) {
        if let Ok(file) = FileId::of(fifo) {
            self.outputs.insert(file, instance.to_owned());
        }
    }

    /// This instance runs as this user.
    pub fn user(&mut self, instance: &str, uid: u32) {
        self.users.insert(instance.to_owned(), uid);
    }

    pub fn born_in(&mut self, pids: Vec<i32>, instance: &str) {
        self.born_in.extend(pids.into_iter().map(|it| (it, instance.to_owned())));
    }

    /// Everything that was left behind, by instance. `is_known`: it has an owner already.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn find(&self, is_known: impl Fn(Identity) -> bool) -> io::Result<BTreeMap<String, Left>> {
        let table = Table::sweep()?;
        let me = std::process::id().cast_signed();
        let mut found: BTreeMap<String, Vec<Stat>> = BTreeMap::new();
        let candidates = table.all().filter(|it| !it.is_gone() && table.is_left_behind(it));
        for stat in candidates.filter(|it| it.identity.pid != me && !is_known(it.identity)) {
            if let Some(instance) = self.instance_of(stat.identity.pid) {
                found.entry(instance).or_default().push(*stat);
            }
        }
        Ok(found.into_iter().map(|(name, all)| (name, left(all))).collect())
    }

    fn instance_of(&self, pid: i32) -> Option<String> {
        let by_cgroup = self.born_in.get(&pid).cloned();
        by_cgroup.or_else(|| self.by_variable(pid)).or_else(|| self.by_output(pid))
    }

    fn by_variable(&self, pid: i32) -> Option<String> {
        let environment = slow::read(pid, "environ").ok()?;
        let value = |it: &[u8]| {
            let text = std::str::from_utf8(it.strip_prefix(self.variable.as_bytes())?).ok()?;
            text.strip_suffix(&self.deck).map(str::to_owned)
        };
        let instance = environment.split(|it| *it == 0).find_map(value)?;
        let user = self.users.get(&instance).copied();
        users_of(pid).is_some_and(|it| may_say(it, user)).then_some(instance)
    }

    fn by_output(&self, pid: i32) -> Option<String> {
        outputs_of(pid).find_map(|it| self.outputs.get(&it).cloned())
    }
}

fn outputs_of(pid: i32) -> impl Iterator<Item = FileId> {
    let output = move |number: u8| FileId::of(Path::new(&format!("/proc/{pid}/fd/{number}"))).ok();
    [1, 2].into_iter().filter_map(output)
}

/// Whether this is what the process writes into: nobody else comes to the pipe of an instance.
pub fn has_output(pid: i32, fifo: &Path) -> bool {
    FileId::of(fifo).is_ok_and(|it| outputs_of(pid).any(|output| output == it))
}

/// A living leader of a session, with what a variable of its environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    pub mark: String,
    pub member: Member,
    pub users: Users,
}

/// All that have this variable in their environment, whoever they are.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn marked(variable: &str) -> io::Result<Vec<Marked>> {
    let table = Table::sweep()?;
    let leaders = |it: &&Stat| !it.is_gone() && !it.is_kernel() && it.session == it.identity.pid;
    let leaders: Vec<_> = table.all().filter(leaders).collect();
    let pids: Vec<_> = leaders.iter().map(|it| it.identity.pid).collect();
    let all = leaders.into_iter().zip(marks_of(variable, &pids));
    let marked = |(stat, mark): (&Stat, Option<String>)| {
        let (mark, users) = (mark?, users_of(stat.identity.pid)?);
        Some(Marked { mark, member: Member::from(stat), users })
    };
    Ok(all.filter_map(marked).collect())
}

/// What this variable says in the environment of each of these processes, in their order.
pub fn marks_of(variable: &str, pids: &[i32]) -> Vec<Option<String>> {
    let prefix = format!("{variable}=");
    let value = |(environment, _): slow::Bytes| {
        let mut variables = environment.split(|it| *it == 0);
        let value = variables.find_map(|it| it.strip_prefix(prefix.as_bytes()))?;
        String::from_utf8(value.to_vec()).ok()
    };
    let read = slow::read_each(pids, "environ", ENVIRONMENT);
    read.into_iter().map(|it| value(it.ok()?)).collect()
}

fn left(mut all: Vec<Stat>) -> Left {
    all.sort_by_key(|it| (it.identity.start_time, it.identity.pid));
    let leader = all.iter().find(|it| it.session == it.identity.pid).map(Member::from);
    Left { leader, members: all.iter().map(Member::from).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stat::read_stat;

    #[test]
    fn the_oldest_that_leads_a_session_is_the_leader() {
        let stat = |pid: i32, start_time: u64, session: i32| Stat {
            identity: Identity { pid, start_time },
            session,
            ..read_stat(std::process::id().cast_signed()).unwrap()
        };
        let of = |all: &[Stat]| left(all.to_vec()).leader.map(|it| it.identity.pid);
        assert_eq!(of(&[stat(30, 9, 30), stat(20, 7, 20), stat(10, 5, 9)]), Some(20));
        assert_eq!(of(&[stat(10, 5, 9)]), None);
        assert_eq!(left(vec![stat(30, 9, 30), stat(20, 7, 20)]).oldest().pid, 20);
    }
}
