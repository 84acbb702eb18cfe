//! Processor time and memory of whole trees, all of them from one look at `/proc`.
//!
//! A process belongs to the nearest root among its ancestors, or to the root that leads its
//! session. One that was left behind by a dead parent belongs to the group that claims it; that
//! question is dear and its answer lasts, so it is asked once in the life of such a process.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::Identity;
use super::cgroup::Cgroup;
use super::group::Group;
use super::stat::{Stat, sweep, sweep_but};
use super::table::Table;

/// A host with fewer processes is read whole each time.
const MANY: usize = 1000;
/// In how many samples a process that does nothing is read once.
const ROUNDS: u32 = 5;

/// What one tree uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of one processor, since the sample before; 0 in the first one. Two busy threads are 200.
    pub cpu_percent: f64,
    /// Resident memory. What processes share counts once for each of them.
    pub memory_bytes: u64,
    /// Processes that live.
    pub processes: u32,
}

/// Remembers the last sample.
#[derive(Debug, Default)]
pub struct Sampler {
    /// What was read of the processes that belong to a root.
    known: BTreeMap<Identity, Reading>,
    /// The last table, where it was large.
    stats: Vec<Stat>,
    round: u32,
    taken: Option<Instant>,
    /// To which root a process belongs that was left behind; `None`: to none.
    claims: BTreeMap<Identity, Option<Identity>>,
}

/// What was read of one process.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    /// Clock ticks on a processor.
    ticks: u64,
    /// Of one processor, between the two last readings.
    percent: f64,
    /// It had used nothing between them.
    quiet: bool,
}

/// A tree to measure: its key, its leader, and who else belongs to it.
pub type Root<'a, K> = (K, Identity, Option<&'a Group>);

impl Sampler {
    /// Looks at `/proc` and measures every root, in their order.
    ///
    /// On a host with many processes, those that did nothing between their last two readings are read in one
    /// of `ROUNDS` samples only: most processes of a large fleet wait, and reading is what costs.
    pub fn sample<K: Clone>(&mut self, roots: &[Root<'_, K>]) -> io::Result<Vec<(K, Usage)>> {
        let round = self.round;
        self.round = round.wrapping_add(1);
        let is_partial = self.stats.len() >= MANY;
        let was_kept = |it: &Reading, pid| is_partial && it.quiet && !is_turn(pid, round);
        let table = self.table(round)?;
        let (now, last) = self.tick();
        let owners = self.owners(&table, roots);
        let mut known = BTreeMap::new();
        let mut totals: BTreeMap<Identity, Usage> = BTreeMap::new();
        for (stat, owner) in owners.into_iter().filter(|(it, _)| !it.is_gone()) {
            let reading = match self.known.get(&stat.identity) {
                Some(it) if was_kept(it, stat.identity.pid) => *it,
                before => Reading::of(stat, before, now, last),
            };
            let usage = totals.entry(owner).or_default();
            usage.cpu_percent += reading.percent;
            usage.memory_bytes += stat.resident_pages * page_bytes();
            usage.processes += 1;
            known.insert(stat.identity, reading);
        }
        self.known = known;
        let measured = |(key, leader, _): &Root<'_, K>| {
            (key.clone(), totals.get(leader).copied().unwrap_or_default())
        };
        Ok(roots.iter().map(measured).collect())
    }

    /// How busy a process was between its last two readings, in percent of one processor.
    pub fn recent(&self, process: Identity) -> Option<f64> {
        self.known.get(&process).map(|it| it.percent)
    }

    /// All processes, most of the quiet ones as they were.
    fn table(&mut self, round: u32) -> io::Result<Table> {
        let before = std::mem::take(&mut self.stats);
        if before.len() < MANY {
            let stats = sweep()?;
            if stats.len() >= MANY {
                self.stats.clone_from(&stats);
            }
            return Ok(Table::of(stats));
        }
        let kept = |pid: i32| {
            let at = before.binary_search_by_key(&pid, |it| it.identity.pid).ok()?;
            let stat = before[at];
            let quiet = self.known.get(&stat.identity).is_none_or(|it| it.quiet);
            (quiet && !is_turn(pid, round)).then_some(stat)
        };
        let stats = sweep_but(kept)?;
        self.stats.clone_from(&stats);
        Ok(Table::of(stats))
    }

    /// Every process that belongs to a root, with the leader of that root.
    fn owners<'t, K>(
        &mut self,
        table: &'t Table,
        roots: &[Root<'_, K>],
    ) -> Vec<(&'t Stat, Identity)> {
        let leaders: BTreeMap<i32, Identity> = roots.iter().map(|it| (it.1.pid, it.1)).collect();
        let oldest = roots.iter().map(|it| it.1.start_time).min().unwrap_or(u64::MAX);
        let mut claims = BTreeMap::new();
        let owners = table.owners(|stat| {
            let leads = leaders.get(&stat.identity.pid).filter(|it| **it == stat.identity);
            // The number of a session belongs to its leader, or to nobody any more.
            let session = || leaders.get(&stat.session).filter(|it| table.may_lead(**it));
            if let Some(leader) = leads.or_else(session) {
                return Some(*leader);
            }
            if !table.is_left_behind(stat) || stat.identity.start_time < oldest {
                return None;
            }
            let known = self.claims.get(&stat.identity).copied();
            let claim = known.unwrap_or_else(|| claimed(table, stat, roots));
            claims.insert(stat.identity, claim.filter(|it| leaders.get(&it.pid) == Some(it)));
            claims[&stat.identity]
        });
        self.claims = claims;
        owners
    }

    /// Now, and the time of the sample before.
    #[expect(clippy::disallowed_methods, reason = "a rate is measured against the time it took")]
    fn tick(&mut self) -> (Instant, Option<Instant>) {
        let now = Instant::now();
        (now, self.taken.replace(now))
    }
}

impl Reading {
    /// `last`: when the sample before was taken. One that was not there then spent all it has since then.
    fn of(stat: &Stat, before: Option<&Self>, now: Instant, last: Option<Instant>) -> Self {
        let since = before.map(|it| it.at).or(last);
        let spent = stat.cpu_ticks.saturating_sub(before.map_or(0, |it| it.ticks));
        let percent = since.map_or(0.0, |it| percent(spent, now.duration_since(it)));
        Self { at: now, ticks: stat.cpu_ticks, percent, quiet: before.is_some() && spent == 0 }
    }
}

/// Whether a process that does nothing is read in this round.
fn is_turn(pid: i32, round: u32) -> bool {
    pid.cast_unsigned().wrapping_add(round).is_multiple_of(ROUNDS)
}

fn claimed<K>(table: &Table, stat: &Stat, roots: &[Root<'_, K>]) -> Option<Identity> {
    let cgroup = Cgroup::of(stat.identity.pid);
    let groups = roots.iter().filter_map(|it| it.2);
    groups.into_iter().find(|it| it.claims(table, stat, cgroup.as_ref())).map(Group::leader)
}

fn percent(ticks: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { ticks as f64 / ticks_per_second() / seconds * 100.0 } else { 0.0 }
}

#[expect(unsafe_code, reason = "sysconf is not among the features of rustix and nix in use")]
fn system_number(name: libc::c_int) -> u64 {
    // SAFETY: takes a number and returns one; both names that are asked for exist everywhere.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0)
}

fn ticks_per_second() -> f64 {
    system_number(libc::_SC_CLK_TCK) as f64
}

/// Bytes of a page of memory, in which [`Stat`] counts.
pub fn page_bytes() -> u64 {
    system_number(libc::_SC_PAGESIZE)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::process::cgroup::kill_one;
    use crate::process::group::Marks;
    use crate::process::identity::identity_of;

    struct Tree(Child);

    impl Tree {
        /// Runs a script that says a line when it stands.
        fn start(script: &str) -> Self {
            use std::io::{BufRead, BufReader};
            use std::os::unix::process::CommandExt;
            let mut shell = Command::new("sh");
            shell
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0);
            let mut child = shell.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            Self(child)
        }

        fn leader(&self) -> Identity {
            identity_of(self.0.id().cast_signed()).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let mut group = Group::new(self.leader(), None, Marks::default());
            group.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_whole_tree_is_measured_and_only_that() {
        let idle = Tree::start("sh -c 'echo up; read x'");
        let busy = Tree::start("(while :; do :; done) & echo up; read x");
        let roots = [("idle", idle.leader(), None), ("busy", busy.leader(), None)];
        let mut sampler = Sampler::default();

        let first = sampler.sample(&roots).unwrap();
        assert_eq!(first.iter().map(|it| it.0).collect::<Vec<_>>(), ["idle", "busy"]);
        assert!(first.iter().all(|it| it.1.cpu_percent == 0.0), "there is nothing to compare with");

        // Until the busy one had a few ticks of a hundredth of a second.
        let seen = (0..100_000)
            .map(|_| sampler.sample(&roots).unwrap())
            .find(|it| it[1].1.cpu_percent > 20.0)
            .unwrap();
        assert_eq!((seen[1].1.processes, seen[0].1.cpu_percent), (2, 0.0));
        assert!(seen[0].1.memory_bytes > 100 * 1024, "{seen:?}");
        assert!(seen.iter().all(|it| it.1.memory_bytes < 100 * 1024 * 1024), "{seen:?}");
    }

    #[test]
    fn the_dead_use_nothing() {
        let tree = Tree::start("echo up; read x");
        let roots = [((), tree.leader(), None)];
        let mut sampler = Sampler::default();
        assert_eq!(sampler.sample(&roots).unwrap()[0].1.processes, 1);

        kill_one(tree.leader()).unwrap();
        let gone = (0..100_000).any(|_| sampler.sample(&roots).unwrap()[0].1 == Usage::default());
        assert!(gone);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn what_a_process_used_is_divided_by_the_time_since_it_was_read() {
        let at = Instant::now();
        let second = Duration::from_secs(1);
        let stat = |ticks: u64| {
            let line = format!("7 (a) S 1 7 7 0 -1 0 1 2 3 4 {ticks} 0 8 9 20 0 1 0 5 1000 321 0");
            crate::process::stat::parse(line.as_bytes()).unwrap()
        };
        let first = Reading::of(&stat(100), None, at, Some(at - second));
        assert_eq!((first.percent, first.quiet), (100.0, false), "all that it has used");
        let idle = Reading::of(&stat(100), Some(&first), at + second, Some(at));
        assert_eq!((idle.percent, idle.quiet), (0.0, true));
        let later = Reading::of(&stat(200), Some(&idle), at + 5 * second, Some(at + 4 * second));
        assert_eq!((later.percent, later.quiet), (25.0, false), "four seconds, not one");
    }

    #[test]
    fn who_does_nothing_is_read_once_in_a_while() {
        let turns = |pid: i32| (10..10 + ROUNDS).filter(|round| is_turn(pid, *round)).count();
        assert!((1..100).all(|pid| turns(pid) == 1));
    }

    #[test]
    fn a_percentage_is_of_one_processor() {
        let second = Duration::from_secs(1);
        assert_eq!(percent(ticks_per_second() as u64, second), 100.0);
        assert_eq!(percent(3 * ticks_per_second() as u64, 2 * second), 150.0);
        assert_eq!(percent(1, Duration::ZERO), 0.0);
    }
}
