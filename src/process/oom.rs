//! How often the kernel killed for want of memory, where it counts that.
//!
//! A cgroup of the instance's own with a memory controller would answer exactly
//! ([`Cgroup::oom_kills`]), but controllers reach down only where an administrator lets them. One
//! that it shares with us always counts somewhere: the next cgroup above that has the controller
//! (`memory.events`, which sums up everything below: cgroup v2, Documentation/admin-guide), or
//! the one in the memory hierarchy of cgroup v1 (`memory.oom_control`, Linux 4.13). A rise of that
//! one says that somebody in there was killed, not who; each rise is given to one exit only.
//!
//! The file is looked for once and stays open; a count is one read. Nothing polls.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::cgroup::{self, Cgroup, Hierarchy};

/// A count that an instance shares with others. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Shared {
    file: PathBuf,
    /// The same, open from the first count on: it is asked between a death and the next start.
    open: Arc<OnceLock<OwnedFd>>,
    /// Up to here an exit is known for it.
    explained: Arc<AtomicU64>,
}

/// The counts at a start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    own: u64,
    /// The file too: an adopted process may have been born elsewhere.
    shared: Option<(Shared, u64)>,
}

/// What rose since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rise {
    Nothing,
    /// The count of the instance's own cgroup.
    Own,
    /// Only the one that it shares.
    Shared,
}

impl Shared {
    /// The count that takes in a process (`self`, or a pid); `None` where the kernel has none.
    pub fn of(process: &str) -> Option<Self> {
        Self::of_v2(process).or_else(|| Self::of_v1(process))
    }

    fn of_v2(process: &str) -> Option<Self> {
        let own = cgroup::directory_of(process, Hierarchy::Unified)?;
        // The root has no such file, and above it is none.
        own.ancestors().map(|it| it.join("memory.events")).find(|it| it.exists()).map(Self::at)
    }

    fn of_v1(process: &str) -> Option<Self> {
        let own = cgroup::directory_of(process, Hierarchy::Memory)?;
        Some(Self::at(own.join("memory.oom_control"))).filter(|it| it.count().is_some())
    }

    /// This one, if it is the same count as another that is in use already.
    pub fn or_same(self, other: Option<&Self>) -> Self {
        other.filter(|it| it.file == self.file).cloned().unwrap_or(self)
    }

    fn at(file: PathBuf) -> Self {
        Self { file, open: Arc::default(), explained: Arc::default() }
    }

    fn count(&self) -> Option<u64> {
        let open = match self.open.get() {
            Some(open) => open,
            None => {
                let opened = cgroup::open_keys(&self.file).ok()?;
                self.open.get_or_init(|| opened)
            }
        };
        cgroup::read_key(open, "oom_kill").ok().flatten()
    }

    fn rose_since(&self, start: u64) -> bool {
        let before = start.max(self.explained.load(Ordering::Relaxed));
        let now = self.count().unwrap_or(0);
        self.explained.fetch_max(now, Ordering::Relaxed);
        now > before
    }
}

impl Counts {
    /// Reads the counts before a start.
    pub fn before(cgroup: Option<&Cgroup>, shared: Option<&Self>) -> Self {
        let own = cgroup.and_then(Cgroup::oom_kills).unwrap_or(0);
        Self { own, shared: shared.and_then(|it| it.shared.clone()) }
    }

    /// The shared count as it is now, for starts that happen together.
    pub fn shared(shared: Option<&Shared>) -> Self {
        let shared = shared.and_then(|it| Some((it.clone(), it.count()?)));
        Self { own: 0, shared }
    }

    /// Reads the counts again, after an exit.
    pub fn rise(&self, cgroup: Option<&Cgroup>) -> Rise {
        if cgroup.and_then(Cgroup::oom_kills).is_some_and(|it| it > self.own) {
            return Rise::Own;
        }
        let rose = self.shared.as_ref().is_some_and(|(it, start)| it.rose_since(*start));
        if rose { Rise::Shared } else { Rise::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_own_count_decides_and_a_shared_one_is_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("web1.instance");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("cgroup.procs"), "").unwrap();
        let write = |path: PathBuf, n: u32| fs::write(path, format!("oom 7\noom_kill {n}\n"));
        let cgroup = Cgroup::at(own.clone());
        let shared = Shared::at(directory.path().join("memory.oom_control"));

        write(shared.file.clone(), 3).unwrap();
        write(own.join("memory.events"), 1).unwrap();
        let before = Counts::before(cgroup.as_ref(), Some(&Counts::shared(Some(&shared))));
        assert_eq!(before.rise(cgroup.as_ref()), Rise::Nothing);
        write(shared.file.clone(), 4).unwrap();
        assert_eq!(before.rise(cgroup.as_ref()), Rise::Shared);
        // It was one kill, and that is explained now.
        assert_eq!(before.rise(cgroup.as_ref()), Rise::Nothing);
        write(own.join("memory.events"), 2).unwrap();
        assert_eq!(before.rise(cgroup.as_ref()), Rise::Own);
        write(shared.file, 5).unwrap();
        assert_eq!(before.rise(None), Rise::Shared);
        assert_eq!(Counts::default().rise(None), Rise::Nothing);
    }

    #[test]
    fn what_a_kernel_without_the_count_has_is_no_count() {
        let directory = tempfile::tempdir().unwrap();
        let old = Shared::at(directory.path().join("memory.oom_control"));
        assert_eq!(old.count(), None);
        // Linux before 4.13.
        fs::write(&old.file, "oom_kill_disable 0\nunder_oom 0\n").unwrap();
        assert_eq!(old.count(), None);
        assert!(Counts::shared(Some(&old)).shared.is_none());
    }
}
