//! Control groups (cgroup v2): one directory for everything that an instance consists of.
//!
//! A child that is born in a cgroup cannot leave it by forking, by setsid(2) or by losing its
//! parent, which makes "everything of this instance" a question with an exact answer. Where no
//! cgroup v2 may be written (most users, most containers) there is none, and
//! [`super::group`] goes by sessions instead. Nothing here limits resources.
//!
//! One directory an instance, used again by its next generation: two never live at once. But a
//! directory that was killed through `cgroup.kill` is replaced before anybody is born in it:
//! Linux 6.14 and later take a child of CLONE_INTO_CGROUP for one that slipped through that kill
//! and kill it too (the count of kills is compared with that of the *parent's* cgroup).

mod mounts;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use rustix::fs::{Access, Mode, OFlags};

pub(super) use mounts::{Hierarchy, directory_of};

use super::identity::{Identity, is_absent};
use super::signal;
use super::spawn::{Launch, Output, SpawnError, spawn};

/// Longer than any file of `key number` lines that is read here.
const KEYS_BYTES: usize = 4096;
/// Ends the names of the directories of instances.
const SUFFIX: &str = ".instance";

/// Where this daemon may make cgroups, and those it made.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    made: BTreeMap<String, Cgroup>,
}

/// The cgroup of one instance. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Cgroup(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// It was killed, or is another daemon's and may have been: nobody can be born in it.
    is_spent: AtomicBool,
    /// No memory controller here: the same answer for as long as the directory is the same.
    has_no_memory: AtomicBool,
    open: Mutex<Open>,
}

/// What is asked between a death and the next start, kept open: finding it by its path takes ten times
/// as long.
#[derive(Debug, Default)]
struct Open {
    directory: Option<Arc<OwnedFd>>,
    events: Option<OwnedFd>,
}

/// Why there are no cgroups here: for the diary of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroups {
    #[error("no cgroup v2 is mounted, or we are outside of what is mounted")]
    NotMounted,
    #[error("children cannot be born in a cgroup: clone3 is not allowed here")]
    NoClone3,
    #[error("{} is not ours to write: {source}", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("no process can be born in {}: {reason}", path.display())]
    Barren { path: PathBuf, reason: String },
}

impl Cgroups {
    /// Finds our own cgroup and makes a directory in it, named after the state directory.
    ///
    /// Two daemons with different state directories never share one.
    pub fn find(state_directory: &Path) -> Result<Self, NoCgroups> {
        if !super::spawn::can_enter_cgroups() {
            return Err(NoCgroups::NoClone3);
        }
        let own = directory_of("self", Hierarchy::Unified).ok_or(NoCgroups::NotMounted)?;
        let root = own.join(format!("opsdeck-{:016x}", fingerprint(state_directory)));
        let refused = |path: &Path| {
            let path = path.to_path_buf();
            move |source: io::Error| NoCgroups::NotWritable { path, source }
        };
        // A process enters a cgroup only if its parent may write to what both have above them.
        let above = own.join("cgroup.procs");
        rustix::fs::access(&above, Access::WRITE_OK).map_err(|it| refused(&above)(it.into()))?;
        make(&root).map_err(refused(&root))?;
        let this = Self { root, made: BTreeMap::new() };
        match this.try_birth() {
            Ok(()) => Ok(this),
            Err(reason) => {
                let path = this.root.clone();
                // Empty directories; if they cannot go they do no harm.
                let _ = this.remove();
                Err(NoCgroups::Barren { path, reason })
            }
        }
    }

    /// A cgroup for the next generation of an instance, with nobody in it.
    ///
    /// EBUSY if somebody still is. Costs nothing while the last one can be used again, about
    /// 60 µs after a kill.
    pub fn make(&mut self, instance: &str) -> io::Result<Cgroup> {
        if let Some(made) = self.made.get(instance).filter(|it| !it.is_spent()) {
            return Ok(made.clone());
        }
        if instance.is_empty() || instance.contains(['/', '\0', '\n']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // The suffix keeps an instance `cgroup.procs` apart from the kernel's files.
        let path = self.root.join(format!("{instance}{SUFFIX}"));
        let made = Cgroup::fresh(path)?;
        self.made.insert(instance.to_owned(), made.clone());
        Ok(made)
    }

    /// Starts what cannot be executed: only one that is born in the cgroup gets as far as to say so.
    fn try_birth(&self) -> Result<(), String> {
        let cgroup = Cgroup::fresh(self.root.join("trial")).map_err(|it| it.to_string())?;
        let argv = ["/dev/null".to_owned()];
        let launch = Launch {
            argv: &argv,
            directory: None,
            environment: &[],
            output: Output::Null,
            passed: &[],
            switch: None,
            cgroup: Some(&cgroup),
        };
        match spawn(&launch) {
            Err(SpawnError::Execute { .. }) => cgroup.remove().map_err(|it| it.to_string()),
            Err(source) => Err(source.to_string()),
            Ok(_) => Err("the kernel kills it at once".to_owned()),
        }
    }

    /// The cgroups that exist, by instance: what an earlier daemon left.
    pub fn existing(&self) -> io::Result<Vec<(String, Cgroup)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(instance) = name.to_str().and_then(|it| it.strip_suffix(SUFFIX)) {
                found.extend(Cgroup::at(entry.path()).map(|it| (instance.to_owned(), it)));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Whether it is below our directory.
    pub fn have(&self, cgroup: &Cgroup) -> bool {
        cgroup.path().starts_with(&self.root)
    }

    /// Removes our directory once the last instance's is gone.
    pub fn remove(self) -> io::Result<()> {
        remove_tree(&self.root)
    }
}

impl Cgroup {
    fn fresh(path: PathBuf) -> io::Result<Self> {
        match fs::create_dir(&path) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                remove_tree(&path)?;
                fs::create_dir(&path)?;
            }
            answer => answer?,
        }
        Ok(Self::new(path, false))
    }

    fn new(path: PathBuf, is_spent: bool) -> Self {
        Self(Arc::new(Inner {
            path,
            is_spent: is_spent.into(),
            has_no_memory: AtomicBool::default(),
            open: Mutex::default(),
        }))
    }

    /// The cgroup that an earlier daemon recorded, if it still exists.
    ///
    /// That daemon may have run elsewhere (an SSH session, a unit), so its path is not ours.
    pub fn at(path: PathBuf) -> Option<Self> {
        path.join("cgroup.procs").exists().then(|| Self::new(path, true))
    }

    /// The cgroup that a process is in, if it is one of ours.
    pub fn of(pid: i32) -> Option<Self> {
        let path = directory_of(&pid.to_string(), Hierarchy::Unified)?;
        // A service may have made cgroups of its own below.
        let ours = path.ancestors().find(|it| it.extension().is_some_and(|it| it == "instance"))?;
        Self::at(ours.to_path_buf())
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether it was made for this instance.
    pub fn is_of(&self, instance: &str) -> bool {
        self.0.path.file_stem().is_some_and(|it| it == instance)
    }

    /// A descriptor for CLONE_INTO_CGROUP. If somebody removed the directory it is made again.
    pub(super) fn open(&self) -> io::Result<Arc<OwnedFd>> {
        let mut open = self.open_locked();
        if let Some(directory) = &open.directory {
            return Ok(directory.clone());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let find = || rustix::fs::openat(rustix::fs::CWD, &self.0.path, flags, Mode::empty());
        let found = match find() {
            Err(rustix::io::Errno::NOENT) => {
                make(&self.0.path)?;
                self.0.has_no_memory.store(false, Ordering::Relaxed);
                find()?
            }
            found => found?,
        };
        let directory = Arc::new(found);
        open.directory = is_kept(&directory).then(|| directory.clone());
        Ok(directory)
    }

    /// As [`Cgroup::open`], where what was open is no longer there.
    pub(super) fn open_again(&self) -> io::Result<Arc<OwnedFd>> {
        *self.open_locked() = Open::default();
        self.open()
    }

    fn open_locked(&self) -> MutexGuard<'_, Open> {
        // Whole after every use, whatever panicked around it.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pids in it and in every cgroup below.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        collect_pids(&self.0.path, &mut found)?;
        Ok(found)
    }

    /// Whether it may hold a process. Some kernels count one that is just ending a little longer.
    pub fn is_populated(&self) -> io::Result<bool> {
        let mut open = self.open_locked();
        if let Some(events) = &open.events {
            match read_key(events, "populated") {
                // Somebody removed the directory. There may be another one by now.
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {}
                answer => return Ok(answer? == Some(1)),
            }
        }
        let events = self.open_file("cgroup.events")?;
        let is_populated = read_key(&events, "populated")? == Some(1);
        open.events = Some(events).filter(is_kept);
        Ok(is_populated)
    }

    /// Makes the first look at its end as cheap as the later ones. Worth doing when nobody waits.
    pub fn expect_end(&self) {
        // Whoever asks later will hear what is wrong.
        let _ = self.is_populated();
    }

    /// Kills everything in it at once; with a kernel before 5.14, one after another.
    pub fn kill(&self) -> io::Result<()> {
        self.0.is_spent.store(true, Ordering::Relaxed);
        match fs::write(self.0.path.join("cgroup.kill"), "1") {
            Err(source) if source.kind() == io::ErrorKind::NotFound => self.kill_each(),
            answer => answer,
        }
    }

    /// How many processes of it the kernel killed for want of memory, where it tells.
    ///
    /// The number only grows, over generations too: compare it with the one before the start.
    pub fn oom_kills(&self) -> Option<u64> {
        if self.0.has_no_memory.load(Ordering::Relaxed) {
            return None;
        }
        let answer = self.read_key("memory.events", "oom_kill");
        let is_missing = answer.as_ref().is_err_and(|it| it.kind() == io::ErrorKind::NotFound);
        self.0.has_no_memory.store(is_missing, Ordering::Relaxed);
        answer.ok().flatten()
    }

    /// Time on processors of everything that ever ran in it, in microseconds.
    pub fn cpu_microseconds(&self) -> io::Result<Option<u64>> {
        self.read_key("cpu.stat", "usage_usec")
    }

    /// Removes it and what a service made below; EBUSY while something runs in it.
    pub fn remove(&self) -> io::Result<()> {
        self.0.is_spent.store(true, Ordering::Relaxed);
        *self.open_locked() = Open::default();
        remove_tree(&self.0.path)
    }

    /// Somebody may have killed it, not we: a kernel from 6.14 on kills whoever is born in it later, too.
    pub fn spend(&self) {
        self.0.is_spent.store(true, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.is_spent.load(Ordering::Relaxed)
    }

    fn read_key(&self, file: &str, key: &str) -> io::Result<Option<u64>> {
        read_key(&self.open_file(file)?, key)
    }

    fn open_file(&self, file: &str) -> io::Result<OwnedFd> {
        open_keys(&self.0.path.join(file))
    }

    /// A process may fork while we kill: go on until a round finds nobody new.
    fn kill_each(&self) -> io::Result<()> {
        let mut killed = std::collections::BTreeSet::new();
        loop {
            let before = killed.len();
            for pid in self.pids()? {
                let Ok(stat) = super::stat::read_stat(pid) else { continue };
                if killed.insert(stat.identity) {
                    kill_one(stat.identity)?;
                }
            }
            if killed.len() == before {
                return Ok(());
            }
        }
    }
}

/// Opens a file of `key number` lines.
pub(super) fn open_keys(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())?)
}

/// The number behind a key in such a file, as it is now.
pub(super) fn read_key(file: &OwnedFd, key: &str) -> io::Result<Option<u64>> {
    // One read gets all of it; asking for its size and its end would double the cost of a question
    // that stands between a death and the next start.
    let mut buffer = [0; KEYS_BYTES];
    let length = rustix::io::pread(file, &mut buffer, 0)?;
    Ok(value(&String::from_utf8_lossy(&buffer[..length]), key))
}

/// Where descriptors are scarce they are needed for something else.
fn is_kept(descriptor: &impl AsRawFd) -> bool {
    static MOST: OnceLock<i32> = OnceLock::new();
    let most = MOST.get_or_init(|| {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |it| it.0);
        i32::try_from(soft / 4).unwrap_or(i32::MAX)
    });
    descriptor.as_raw_fd() < *most
}

/// Sends SIGKILL to this very process; one that is gone is no error.
pub(super) fn kill_one(identity: Identity) -> io::Result<()> {
    use std::os::fd::AsFd;
    let Some(pidfd) = super::identity::open(identity)? else { return Ok(()) };
    match signal::send(pidfd.as_fd(), libc::SIGKILL) {
        Err(source) if is_absent(&source) => Ok(()),
        answer => answer,
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        answer => answer,
    }
}

fn collect_pids(directory: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let text = fs::read_to_string(directory.join("cgroup.procs"))?;
    found.extend(text.lines().filter_map(|it| it.parse::<i32>().ok()).filter(|it| *it > 0));
    for below in directories(directory)? {
        match collect_pids(&below, found) {
            // Removed since, or emptied and made threaded: nothing to kill there.
            Err(source) if source.raw_os_error() != Some(libc::ENODEV) && !is_absent(&source) => {
                return Err(source);
            }
            _ => {}
        }
    }
    Ok(())
}

fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) if source.raw_os_error() != Some(libc::EBUSY) => return Err(source),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    for below in directories(directory)? {
        remove_tree(&below)?;
    }
    fs::remove_dir(directory)
}

/// The number behind a key in a file of `key number` lines.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// FNV-1a of a path: stable over releases, which the hasher of the standard library is not.
fn fingerprint(path: &Path) -> u64 {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    whole.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_whole() {
        let events = "oom 1\noom_kill 3\noom_group_kill 4\n";
        assert_eq!(value(events, "oom_kill"), Some(3));
        assert_eq!(value(events, "oom_"), None);
        assert_eq!(value("", "populated"), None);
    }
}
