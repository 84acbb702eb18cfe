//! Looks at pid files, now and then.
//!
//! A file may be on a disk that hangs, and a look at it then comes back when that does. So each look is one of
//! its own on a blocking thread, a few at a time; one that takes too long is told of and counted apart, and
//! the others go on. Its file is not asked again before it is back: no threads pile up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::trust;
use crate::daemon::clock;
use crate::daemon::foreign::{Files, Found, Missed, Seen};
use crate::daemon::replace::without_mark;
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::{Name, Process, Timestamp};
use crate::process::{closeup, pidfile};

/// Between two looks at a file.
pub(in crate::daemon) const LOOK: Duration = Duration::from_secs(1);
/// A look that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks at a time, beside those that hang.
const LANES: usize = 4;
/// Threads that looks may hang on: others have to do with disks as well.
const MOST: usize = 32;

/// Which files are to be looked at, and which looks are under way.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<PathBuf>,
    begun: BTreeMap<PathBuf, Timestamp>,
    /// Of those begun: they hang.
    hanging: BTreeSet<PathBuf>,
}

impl Queue {
    /// A file that waits already, or whose look is under way, is not asked twice.
    fn ask(&mut self, path: &Path) {
        if !self.begun.contains_key(path) && !self.waiting.iter().any(|it| it == path) {
            self.waiting.push_back(path.to_owned());
        }
    }

    /// Begins the next look, if there is room for one.
    fn begin(&mut self, now: Timestamp) -> Option<PathBuf> {
        if self.prompt() >= LANES || self.hanging.len() >= MOST {
            return None;
        }
        let path = self.waiting.pop_front()?;
        self.begun.insert(path.clone(), now);
        Some(path)
    }

    fn back(&mut self, path: &Path) {
        self.begun.remove(path);
        self.hanging.remove(path);
    }

    /// One that hangs by now; each is named once.
    fn next_hanging(&mut self, now: Timestamp) -> Option<PathBuf> {
        let is_late = |(path, at): &(&PathBuf, &Timestamp)| {
            now >= **at + PATIENCE && !self.hanging.contains(*path)
        };
        let path = self.begun.iter().find(is_late)?.0.clone();
        self.hanging.insert(path.clone());
        Some(path)
    }

    fn deadline(&self) -> Option<Timestamp> {
        let prompt = self.begun.iter().filter(|(path, _)| !self.hanging.contains(*path));
        prompt.map(|(_, at)| *at + PATIENCE).min()
    }

    /// Looks that are under way and do not hang.
    fn prompt(&self) -> usize {
        self.begun.len() - self.hanging.len()
    }
}

/// Asks for looks, and knows what was told of them.
pub struct Lookout<L> {
    look: L,
    files: Files,
    queue: Queue,
    under_way: JoinSet<(PathBuf, Seen)>,
    told: BTreeMap<Name, Seen>,
}

impl<L: Fn(&Path) -> Seen + Clone + Send + 'static> Lookout<L> {
    pub(in crate::daemon) fn new(look: L) -> Self {
        let (files, queue, told) = Default::default();
        Self { look, files, queue, under_way: JoinSet::new(), told }
    }

    /// From now on these, each of them now.
    pub(in crate::daemon) fn ask(&mut self, files: &Files) {
        let is_same = |name: &Name| files.get(name) == self.files.get(name);
        self.told.retain(|name, _| is_same(name));
        self.files.clone_from(files);
        files.values().for_each(|it| self.queue.ask(it));
    }

    /// All that was asked for is back, or hangs.
    pub(in crate::daemon) fn is_done(&self) -> bool {
        self.queue.waiting.is_empty() && self.queue.prompt() == 0
    }

    /// What is new in some file, as soon as its look is back or has taken too long. Can be dropped and
    /// asked again.
    pub(in crate::daemon) async fn news(&mut self) -> Vec<(Name, Seen)> {
        loop {
            while let Some(path) = self.queue.begin(clock::now()) {
                let look = self.look.clone();
                self.under_way.spawn_blocking(move || {
                    // One that panics is asked again like any other.
                    let seen = catch_unwind(AssertUnwindSafe(|| look(&path)));
                    let seen = seen.unwrap_or_else(|_| Err(fails(&path)));
                    (path, seen)
                });
            }
            if let Some(path) = self.queue.next_hanging(clock::now()) {
                warn!(path = %path.display(), "a look at a pid file hangs");
                return self.tell(&path, &Err(hangs(&path)));
            }
            tokio::select! {
                Some(Ok((path, seen))) = self.under_way.join_next() => {
                    self.queue.back(&path);
                    return self.tell(&path, &seen);
                }
                () = clock::sleep_until(self.queue.deadline()) => (),
            }
        }
    }

    fn tell(&mut self, path: &Path, seen: &Seen) -> Vec<(Name, Seen)> {
        let of_it = self.files.iter().filter(|(_, it)| *it == path).map(|(name, _)| name);
        let is_new = |name: &&Name| self.told.get(*name) != Some(seen);
        let news: Vec<_> = of_it.filter(is_new).map(|it| (it.clone(), seen.clone())).collect();
        self.told.extend(news.iter().cloned());
        news
    }

    /// Looks until the daemon ends, and tells what is new.
    pub async fn keep(
        mut self,
        mut files: watch::Receiver<Files>,
        turns: Turns,
        stop: CancellationToken,
    ) {
        let work = async {
            loop {
                let wanted = files.borrow_and_update().clone();
                self.ask(&wanted);
                let next = clock::now() + LOOK;
                let next = (!wanted.is_empty()).then_some(next);
                loop {
                    tokio::select! {
                        changed = files.changed() => match changed {
                            Ok(()) => break,
                            Err(_) => return,
                        },
                        () = clock::sleep_until(next) => break,
                        news = self.news() => for (instance, seen) in news {
                            // The driver is gone only when the daemon ends.
                            let _ = turns.send(Turn::PidFile { instance, seen }).await;
                        },
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }
}

/// What can be said of a file whose look does not come back.
pub(in crate::daemon) fn hangs(path: &Path) -> Missed {
    let why = format!("{} cannot be read: the disk does not answer", path.display());
    Missed { why, is_odd: true }
}

/// The same of one that panicked.
fn fails(path: &Path) -> Missed {
    let why = format!("{} could not be looked at: a mistake of opsdeck's", path.display());
    Missed { why, is_odd: true }
}

/// One look, for whoever cannot wait; `None`: it hangs.
pub(in crate::daemon) async fn look_in_time(path: &Path) -> Option<Seen> {
    let path = path.to_owned();
    let look = tokio::task::spawn_blocking(move || look(&path));
    tokio::time::timeout(PATIENCE, look).await.ok()?.ok()
}

/// What a pid file says now, if it can be believed: a process may be named by those who could signal it
/// anyway, any process by root and by ourselves. systemd holds `PIDFile=` to the same (systemd.service(5)).
/// Blocking.
pub(in crate::daemon) fn look(path: &Path) -> Seen {
    let place = path.display();
    let since_1970 = |at: Timestamp| clock::wall_of(at).as_duration().unsigned_abs();
    let time =
        pidfile::Clock { now: since_1970(clock::now()), boot: since_1970(Timestamp::default()) };
    let named = pidfile::named(path, time)
        .map_err(|it| Missed { why: format!("{place} {it}"), is_odd: it.is_odd() })?;
    let (pid, name) = (named.identity.pid, named.name.to_string());
    let odd = |why: String| {
        let why = format!("{place} names pid {pid} ({name}), which {why}");
        Missed { why, is_odd: true }
    };
    if let Some(role) = own_role(&closeup::arguments(pid).unwrap_or_default()) {
        return Err(odd(format!("is opsdeck's own {role}")));
    }
    trust::pid_file(path, named.users)
        .map_err(|it| odd(format!("others may have written there: {it}; {}", it.help)))?;
    Ok(Found { process: Process::from(named.identity), name, program: program(pid) })
}

/// What a process executes, as far as that may be known. It stays the same when the file is replaced.
pub(in crate::daemon) fn program(pid: i32) -> Option<PathBuf> {
    closeup::program(pid).ok().map(|it| without_mark(&it))
}

/// What of ours a command line is: started by a daemon, and never a server that somebody means.
fn own_role(arguments: &[String]) -> Option<&'static str> {
    let [program, role, rest @ ..] = arguments else { return None };
    let is_ours = program == "/proc/self/exe" || Path::new(program).ends_with("opsdeck");
    let is_guardian = || rest.iter().any(|it| it.starts_with("--guard"));
    match role.as_str() {
        "logger" => Some("logger"),
        "holder" => Some("holder of pipes"),
        "gateway" => Some("gateway"),
        "daemon" if is_guardian() => Some("guardian"),
        _ => None,
    }
    .filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    #[test]
    fn one_that_hangs_gives_way_and_is_not_asked_again_before_it_is_back() {
        let path = |n: usize| PathBuf::from(format!("/run/{n}.pid"));
        let mut queue = Queue::default();
        (0..LANES + 2).for_each(|it| queue.ask(&path(it)));
        for n in 0..LANES {
            queue.ask(&path(n));
            assert_eq!(queue.begin(at(0)), Some(path(n)));
        }
        assert_eq!((queue.begin(at(0)), queue.deadline()), (None, Some(at(2000))));
        (1..LANES).for_each(|it| queue.back(&path(it)));
        assert_eq!((queue.begin(at(10)), queue.next_hanging(at(1999))), (Some(path(LANES)), None));

        // It is named once, and has no more say in when to look.
        assert_eq!(queue.next_hanging(at(2000)), Some(path(0)));
        assert_eq!((queue.next_hanging(at(2005)), queue.deadline()), (None, Some(at(2010))));
        queue.ask(&path(0));
        assert_eq!(queue.begin(at(2005)), Some(path(LANES + 1)));
        assert_eq!(queue.begin(at(2005)), None, "the one that hangs is not asked again");
        queue.back(&path(0));
        queue.ask(&path(0));
        assert_eq!(queue.begin(at(2006)), Some(path(0)));
    }

    #[test]
    fn so_many_may_hang() {
        let mut queue = Queue::default();
        (0..MOST * 2).for_each(|it| queue.ask(&PathBuf::from(it.to_string())));
        let mut now = at(0);
        while queue.begin(now).is_some() {
            while queue.begin(now).is_some() {}
            now = now + PATIENCE;
            while queue.next_hanging(now).is_some() {}
        }
        assert_eq!((queue.begun.len(), queue.prompt()), (MOST, 0));
    }

    /// Says the path, but not before it may where that is `stuck`.
    fn look_of(may: mpsc::Receiver<()>, looks: Arc<Mutex<u32>>) -> impl Fn(&Path) -> Seen + Clone {
        let may = Arc::new(Mutex::new(may));
        move |path| {
            if path.ends_with("stuck") {
                *looks.lock().unwrap() += 1;
                // Also once the test is over.
                let _ = may.lock().unwrap().recv();
            }
            Err(Missed { why: path.display().to_string(), is_odd: false })
        }
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_told_once_and_the_others_go_on() {
        let (answer, may) = mpsc::channel();
        let looks = Arc::new(Mutex::new(0));
        let mut lookout = Lookout::new(look_of(may, looks.clone()));
        let name = |it: &str| Name::from(it);
        let mut files = Files::from([(name("a"), "/stuck".into()), (name("b"), "/b".into())]);
        lookout.ask(&files);
        let missed = |why: &str| Err(Missed { why: why.into(), is_odd: false });
        assert_eq!(lookout.news().await, [(name("b"), missed("/b"))]);
        assert_eq!(lookout.news().await, [(name("a"), Err(hangs(Path::new("/stuck"))))]);
        assert!(lookout.is_done());

        files.insert(name("c"), "/c".into());
        lookout.ask(&files);
        let mut news = vec![];
        while !lookout.is_done() {
            news.extend(lookout.news().await);
        }
        assert_eq!(news, [(name("c"), missed("/c"))], "what was told is not told again");
        assert_eq!(*looks.lock().unwrap(), 1);

        answer.send(()).unwrap();
        assert_eq!(lookout.news().await, [(name("a"), missed("/stuck"))]);
    }

    #[tokio::test]
    async fn a_look_that_panics_is_told_and_asked_again() {
        let looks = Arc::new(Mutex::new(0));
        let counted = looks.clone();
        let mut lookout = Lookout::new(move |path: &Path| {
            let n = {
                let mut looks = counted.lock().unwrap();
                *looks += 1;
                *looks
            };
            assert!(n > 1, "the first one panics");
            Err(Missed { why: path.display().to_string(), is_odd: false })
        });
        let files = Files::from([(Name::from("a"), PathBuf::from("/a"))]);
        lookout.ask(&files);
        assert_eq!(lookout.news().await, [(Name::from("a"), Err(fails(Path::new("/a"))))]);
        lookout.ask(&files);
        let missed = Missed { why: "/a".into(), is_odd: false };
        assert_eq!(lookout.news().await, [(Name::from("a"), Err(missed))]);
    }

    #[test]
    fn what_a_daemon_starts_for_itself_is_told_by_its_arguments() {
        let of = |line: &str| own_role(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("/usr/bin/opsdeck logger /run/opsdeck"), Some("logger"));
        assert_eq!(of("/usr/bin/opsdeck gateway --control-fd 3"), Some("gateway"));
        assert_eq!(of("/proc/self/exe daemon --guard 3,4"), Some("guardian"));
        for other in ["/usr/bin/opsdeck sample --port 1", "opsdeck daemon", "nginx logger", "sh"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
