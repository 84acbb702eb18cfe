//! Every process of the host at one moment, and who descends from whom.
//!
//! Reading it costs about 10 µs a process, so one table serves all questions of a turn. What is
//! dearer (open files, environment) is read only for those who were left behind by a dead parent,
//! and once each.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use super::Identity;
use super::owner::{may_say, users_of};
use super::slow;
use super::stat::{Stat, sweep};

/// A file by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }

    pub fn of_descriptor(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(descriptor)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(it: &fs::Metadata) -> Self {
        Self { device: it.dev(), inode: it.ino() }
    }
}

/// What one process carries that tells where it comes from.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Its standard output and error.
    pub outputs: Vec<FileId>,
    environment: Vec<u8>,
}

impl Carried {
    fn read(pid: i32) -> Self {
        let output = |number: u8| FileId::of(Path::new(&format!("/proc/{pid}/fd/{number}"))).ok();
        Self {
            outputs: [1, 2].into_iter().filter_map(output).collect(),
            environment: match users_of(pid) {
                Some(_) => slow::read(pid, "environ").unwrap_or_default(),
                // What is said in a container is not meant for us.
                None => vec![],
            },
        }
    }

    /// `variable` as `NAME=value`.
    pub(super) fn has_variable(&self, variable: &str) -> bool {
        self.environment.split(|it| *it == 0).any(|it| it == variable.as_bytes())
    }
}

/// All processes at one moment.
#[derive(Debug)]
pub struct Table {
    stats: BTreeMap<i32, Stat>,
    /// Who inherits orphans: init, and our line of ancestors and ourselves, subreapers or not.
    heirs: BTreeSet<i32>,
    marks: RefCell<BTreeMap<i32, Rc<Carried>>>,
}

impl Table {
    /// Reads `/proc`.
    pub fn sweep() -> io::Result<Self> {
        Ok(Self::of(sweep()?))
    }

    /// Of what was read already.
    pub(super) fn of(stats: Vec<Stat>) -> Self {
        Self::new(stats, std::process::id().cast_signed())
    }

    /// For groups that have a cgroup and do not look at it.
    pub fn empty() -> Self {
        Self::new(Vec::new(), 0)
    }

    fn new(stats: Vec<Stat>, me: i32) -> Self {
        let stats: BTreeMap<i32, Stat> =
            stats.into_iter().map(|it| (it.identity.pid, it)).collect();
        let mut heirs = BTreeSet::from([1]);
        let mut next = me;
        while heirs.insert(next) {
            let Some(stat) = stats.get(&next) else { break };
            next = stat.parent;
        }
        // The orphans of a dead daemon may have gone to the manager of a user's session. That of a container has
        // its own, and anybody may call himself so.
        let managers = stats.values().filter(|it| it.name.to_string() == "systemd");
        let is_ours = |pid: &i32| users_of(*pid).is_some_and(|it| may_say(it, None));
        heirs.extend(managers.map(|it| it.identity.pid).filter(is_ours));
        Self { stats, heirs, marks: RefCell::default() }
    }

    pub fn all(&self) -> impl Iterator<Item = &Stat> {
        self.stats.values()
    }

    pub fn stat(&self, pid: i32) -> Option<&Stat> {
        self.stats.get(&pid)
    }

    /// Whether its parent is somebody who inherits orphans.
    pub fn is_left_behind(&self, stat: &Stat) -> bool {
        self.heirs.contains(&stat.parent)
    }

    /// What a process carries, read at the first question.
    pub(super) fn marks(&self, pid: i32) -> Rc<Carried> {
        let mut known = self.marks.borrow_mut();
        known.entry(pid).or_insert_with(|| Rc::new(Carried::read(pid))).clone()
    }

    /// Whether a session with the number of this leader is still its session: the number is used
    /// again only after the last of it is gone.
    pub(super) fn may_lead(&self, leader: Identity) -> bool {
        self.stat(leader.pid).is_none_or(|it| it.identity == leader)
    }

    /// Everybody who is a root or has one among its ancestors, with what `root` says of the
    /// nearest, by pid.
    ///
    /// The way up ends at whoever inherits orphans: what hangs there says nothing about it.
    pub(super) fn owners<T: Copy>(
        &self,
        mut root: impl FnMut(&Stat) -> Option<T>,
    ) -> Vec<(&Stat, T)> {
        let mut known: BTreeMap<i32, Option<T>> = BTreeMap::new();
        let mut line = Vec::new();
        for stat in self.stats.values() {
            let mut next = Some(stat);
            let owner = loop {
                let Some(stat) = next else { break None };
                let pid = stat.identity.pid;
                if let Some(owner) = known.get(&pid) {
                    break *owner;
                }
                line.push(pid);
                if let Some(owner) = root(stat) {
                    break Some(owner);
                }
                // Pids that were used again during the sweep could make a ring.
                if self.heirs.contains(&pid) || line.len() > self.stats.len() {
                    break None;
                }
                next = self.stats.get(&stat.parent);
            };
            known.extend(line.drain(..).map(|pid| (pid, owner)));
        }
        let owned = self.stats.values().map(|it| Some((it, (*known.get(&it.identity.pid)?)?)));
        owned.flatten().collect()
    }
}
