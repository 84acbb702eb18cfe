//! Gathers the evidence for advice, when somebody asks.
//!
//! What the driver knows is taken at once ([`Daemon::clues`]); what the kernel knows is read on the thread that
//! looks closely, and only what a rule could go by: sockets of an instance with a port, what its processes
//! wait for while it stops or nobody accepts, strangers only if there is a listener that is none of its own.
//! Who lives when SIGKILL is due is noted right before it, for a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::debug;

use crate::api::{self, Event};
use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::life::launch::MARK;
use crate::daemon::trees::census::{self, Looked};
use crate::daemon::trees::tree::Seen;
use crate::daemon::trees::turnover::Watch;
use crate::fleet::advice::{
    self, Case, Evidence, Listener, Member, PastStop, Queue, Stranger, Taken,
};
use crate::fleet::{Name, Signal, Timestamp};
use crate::load::sockets::{Backlog, Sockets};
use crate::process::port;
use crate::process::preflight::{self, Disposition};
use crate::process::stat::{Stat, time_of};
use crate::process::table::Table;
use crate::process::{Identity, closeup, descendants, waits};
use crate::roles;

/// Processes of a tree that are looked at for what they wait for.
const LOOKED_AT: usize = 16;
/// Lines about those who lived when SIGKILL was due.
const LIVED: usize = 8;
/// Trees that are noted before their SIGKILL within [`NOTING`]: killing must not wait for reading.
const NOTED: u32 = 16;
const NOTING: Duration = Duration::from_secs(1);
/// No signal wakes it: proc_pid_stat(5).
const ASLEEP: u8 = b'D';
/// Who sleeps longer than this waits for something.
const DOZE: Duration = Duration::from_millis(100);
/// net.core.somaxconn (listen(2)).
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// What is known without looking.
#[derive(Debug)]
pub(in crate::daemon) struct Clues {
    case: Case,
    stops: Vec<PastStop>,
    /// Requests a second, as its gateway or it itself counts.
    rate: Option<f64>,
    /// The daemon has the listening socket itself: that others have it as well is how it is meant.
    is_held: bool,
    /// Who works there, to be watched for a moment.
    watch: Option<Watch>,
    /// What follows the name of an instance in the mark of this deck's processes.
    deck: String,
    /// The other instances that run.
    living: BTreeSet<String>,
    /// Who slept in the kernel at the first of two looks.
    asleep: BTreeSet<Identity>,
}

impl Daemon {
    pub(in crate::daemon) fn clues(&self, instance: &str) -> Option<Clues> {
        let known = self.hands.known.get(instance);
        Some(Clues {
            case: self.fleet.case(instance, clock::now())?,
            rate: self.rate(instance),
            stops: self.facts.exits(instance).iter().filter_map(past_stop).collect(),
            is_held: known.is_some_and(|it| it.settings.launch.socket.is_some()),
            watch: self.watch_of(instance),
            living: self
                .hands
                .living
                .keys()
                .map(Name::to_string)
                .filter(|it| it != instance)
                .collect(),
            deck: format!("@{}", self.hands.places.state_dir.display()),
            asleep: BTreeSet::new(),
        })
    }

    fn rate(&self, instance: &str) -> Option<f64> {
        let generation = self.fleet.generation_of(instance)?;
        let gauges = self.facts.figures(instance).and_then(|it| it.gauges);
        let own = || self.facts.load(instance, generation)?.requests_per_second;
        gauges.map(|it| it.per_second).or_else(own)
    }

    /// Only what has workers by its profile, and runs.
    fn watch_of(&self, instance: &str) -> Option<Watch> {
        let sheet = self.fleet.instance_sheet(instance)?;
        let service = self.hands.service(&sheet.service)?;
        let (name, profile) = (sheet.name, service.profile.clone());
        let turnover = self.hands.turnover.clone();
        let leader = sheet.process.filter(|_| service.rules.profile.renews)?;
        Some(Watch { name, leader, profile, turnover })
    }
}

fn past_stop(event: &Event) -> Option<PastStop> {
    let stop = event.stop.as_ref()?;
    Some(PastStop {
        signal: stop.signal.clone().unwrap_or_default(),
        after: Duration::from_millis(stop.after_ms),
        cut_after: stop.cut_after_ms.map(Duration::from_millis),
        max_wait_time: Duration::from_millis(stop.max_wait_time_ms),
        killed: stop.killed,
        lost: stop.in_flight.or(event.lost).unwrap_or(0),
        late: stop.late.unwrap_or(0),
        lived: event.evidence.clone().unwrap_or_default(),
    })
}

impl Clues {
    /// Watches its workers for a moment, where one of them is very young, and who sleeps in the kernel: whoever
    /// reads from a disk does for some milliseconds.
    pub(in crate::daemon) async fn follow(&mut self, leader: Option<Identity>) {
        if let Some(watch) = self.watch.clone() {
            watch.follow().await;
        }
        let Some(leader) = leader else { return };
        let asleep = tokio::task::spawn_blocking(move || asleep_below(leader));
        self.asleep = asleep.await.unwrap_or_default();
        if !self.asleep.is_empty() {
            tokio::time::sleep(DOZE).await;
        }
    }

    /// Reads what the rules go by, and asks them. `table`: none where the tree is not all of it, so that nobody
    /// can say who is a stranger. Blocking.
    pub(in crate::daemon) fn advice(
        self,
        table: Option<&Table>,
        tree: &[Seen],
    ) -> Vec<api::Advice> {
        let evidence = self.evidence(table, tree);
        let told = |it: advice::Advice| api::Advice {
            kind: it.kind.into(),
            sentence: it.to_string(),
            seen: it.seen,
            means: it.means,
            help: it.help,
        };
        advice::advise(&evidence).into_iter().map(told).collect()
    }

    fn evidence(self, table: Option<&Table>, tree: &[Seen]) -> Evidence {
        let Self { case, stops, rate, is_held, watch, deck, living, asleep } = self;
        let churn = watch.and_then(|it| it.turnover.of(&it.name, it.leader));
        let queue = case.port.and_then(queue);
        let is_busy = queue.is_some_and(|it| it.waiting > 0) || case.leaving.is_some();
        let here = case.port.map_or(vec![], |port| {
            port::listeners(port)
                .inspect_err(|err| debug!(%err, "listeners cannot be read"))
                .unwrap_or_default()
        });
        let inodes: BTreeSet<u64> = here.iter().map(|it| it.inode).collect();
        let open = Open::of(tree, &inodes, is_busy);
        let signal = case.leaving.map(|it| it.signal);
        let first = case.begins_with;
        let members = tree.iter().enumerate().map(|(n, it)| {
            let member = if is_busy && n < LOOKED_AT {
                close_member(it, signal, &open.peers)
            } else {
                plain_member(it)
            };
            let is_child = |child: &&Seen| child.stat.parent == member.pid;
            Member {
                state: steady(&it.stat, &asleep),
                connections: open.connections(member.pid),
                children: tree.iter().filter(is_child).count(),
                listens: open.has_one_of(member.pid, &inodes),
                cuts: first.is_some_and(|first| it.cuts.contains(&first.0)),
                ..member
            }
        });
        let listeners = here.iter().filter(|_| !is_held).map(|it| {
            let own = open.has(it.inode);
            let strangers = match table {
                Some(table) if !own => strangers(table, it.inode, &deck, &living),
                _ => vec![],
            };
            Listener { address: it.address.to_string(), own, strangers }
        });
        let (tree, listeners) = (members.collect(), listeners.collect());
        Evidence { case, stops, tree, queue, listeners, churn, rate }
    }
}

/// Who of a tree sleeps in the kernel right now. Blocking.
fn asleep_below(leader: Identity) -> BTreeSet<Identity> {
    let tree = census::tree_of(leader).into_iter();
    tree.filter(|it| it.state == ASLEEP).map(|it| it.identity).collect()
}

/// The state of a process; that it sleeps in the kernel is believed at the second look.
fn steady(stat: &Stat, asleep: &BTreeSet<Identity>) -> char {
    let is_doubtful = stat.state == ASLEEP && !asleep.contains(&stat.identity);
    if is_doubtful { '\0' } else { char::from(stat.state) }
}

/// Sockets that processes of the tree have open.
#[derive(Debug, Default)]
struct Open {
    by_pid: BTreeMap<i32, BTreeSet<u64>>,
    /// The other ends of those that are connections, where that is of interest.
    peers: BTreeMap<u64, SocketAddr>,
}

impl Open {
    /// Looks at the first processes, and at those without a parent; at the others only for listeners that none
    /// of these has.
    fn of(tree: &[Seen], listeners: &BTreeSet<u64>, is_busy: bool) -> Self {
        let mut open = Self::default();
        if listeners.is_empty() && !is_busy {
            return open;
        }
        let is_orphan = |it: &Seen| it.depth == 0 && !it.leads;
        let (first, rest): (Vec<_>, Vec<_>) =
            tree.iter().enumerate().partition(|(n, it)| *n < LOOKED_AT || is_orphan(it));
        let pids = |them: Vec<(usize, &Seen)>| {
            them.into_iter().map(|it| it.1.stat.identity.pid).collect::<Vec<_>>()
        };
        open.by_pid.extend(pids(first).into_iter().map(sockets_of));
        for pid in pids(rest) {
            if listeners.iter().all(|it| open.has(*it)) {
                break;
            }
            open.by_pid.extend([sockets_of(pid)]);
        }
        if is_busy {
            let all: BTreeSet<u64> = open.by_pid.values().flatten().copied().collect();
            open.peers = port::connections(&all)
                .inspect_err(|err| debug!(%err, "connections cannot be read"))
                .unwrap_or_default();
        }
        open
    }

    fn has(&self, inode: u64) -> bool {
        self.by_pid.values().any(|it| it.contains(&inode))
    }

    fn has_one_of(&self, pid: i32, inodes: &BTreeSet<u64>) -> bool {
        self.by_pid.get(&pid).is_some_and(|it| !it.is_disjoint(inodes))
    }

    fn connections(&self, pid: i32) -> usize {
        let sockets = self.by_pid.get(&pid).into_iter().flatten();
        sockets.filter(|it| self.peers.contains_key(*it)).count()
    }
}

fn queue(port: u16) -> Option<Queue> {
    let dump = Sockets::open().and_then(|mut it| it.dump());
    let dump = dump.inspect_err(|err| debug!(%err, "the sockets cannot be read")).ok()?;
    let it = dump.get(&port).filter(|it| it.is_listening())?;
    let most = fs::read_to_string(SOMAXCONN).ok().and_then(|it| it.trim().parse().ok());
    let Backlog { waiting, limit } = it.backlog();
    Some(Queue { waiting, limit, most, listeners: it.listeners })
}

fn sockets_of(pid: i32) -> (i32, BTreeSet<u64>) {
    // It may have ended, or be another user's.
    (pid, closeup::open_files(pid).unwrap_or_default().sockets)
}

/// One process as its line of `stat` shows it.
fn plain_member(seen: &Seen) -> Member {
    Member {
        pid: seen.stat.identity.pid,
        name: seen.stat.name.to_string(),
        role: seen.role.clone(),
        leads: seen.leads,
        orphan: seen.depth == 0 && !seen.leads,
        state: char::from(seen.stat.state),
        ..Member::default()
    }
}

/// The same with what it waits for, and what became of a signal. `peers`: the other ends of its connections.
fn close_member(seen: &Seen, signal: Option<Signal>, peers: &BTreeMap<u64, SocketAddr>) -> Member {
    let pid = seen.stat.identity.pid;
    Member {
        call: waits::call(pid, |inode| peers.get(&inode).copied()),
        timers: waits::timers(pid),
        taken: signal.map_or(Taken::Caught, |it| taken(pid, it)),
        ..plain_member(seen)
    }
}

fn taken(pid: i32, signal: Signal) -> Taken {
    let Ok(status) = preflight::status(pid) else { return Taken::Caught };
    if waits::is_pending(&status, signal.0) {
        return Taken::Pending;
    }
    match preflight::parse(&status, signal.0) {
        Some(Disposition::Ignored) => Taken::Ignored,
        Some(Disposition::Caught | Disposition::Default) | None => Taken::Caught,
    }
}

/// Who has this socket; `deck` ends the mark of this deck's processes.
fn strangers(table: &Table, inode: u64, deck: &str, living: &BTreeSet<String>) -> Vec<Stranger> {
    let me = std::process::id().cast_signed();
    let has = |it: &&Stat| {
        let pid = it.identity.pid;
        pid != me && !it.is_gone() && sockets_of(pid).1.contains(&inode)
    };
    let mut all: Vec<&Stat> = table.all().filter(has).collect();
    all.sort_by_key(|it| (it.identity.start_time, it.identity.pid));
    let stranger = |it: &Stat| {
        let of = marked(it.identity.pid, deck);
        let runs = of.as_ref().is_some_and(|it| living.contains(it));
        Stranger {
            pid: it.identity.pid,
            name: it.name.to_string(),
            age: age(it),
            // Whoever led its process group is gone; a child of init that leads its own was started so.
            orphan: table.is_left_behind(it)
                && table.stat(it.process_group).is_none_or(Stat::is_gone),
            of,
            runs,
        }
    };
    all.into_iter().map(stranger).collect()
}

fn age(stat: &Stat) -> Duration {
    clock::now().since(Timestamp(time_of(stat.identity.start_time)))
}

/// The instance of this deck whose mark a process carries.
fn marked(pid: i32, deck: &str) -> Option<String> {
    let (variables, _) = closeup::environment(pid).ok()?;
    let mark = variables.into_iter().find(|it| it.0 == MARK)?.1;
    mark.strip_suffix(deck).map(str::to_owned)
}

/// Who lived when SIGKILL was due.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Last {
    lived: BTreeMap<Name, Vec<String>>,
    /// How many were noted since then.
    noted: u32,
    since: Timestamp,
}

impl Hands {
    /// Looks at a tree right before SIGKILL ends it. The kill waits for this: only what the kernel tells
    /// without a lock of the process's memory is read, so no arguments (proc_pid_cmdline(5) may sleep as long
    /// as the process does), and of few.
    pub(in crate::daemon) fn note_who_lives(&mut self, name: &Name) {
        let Some(living) = self.living.get(name).filter(|it| !it.killing) else { return };
        let now = clock::now();
        if now.since(self.last.since) >= NOTING {
            (self.last.noted, self.last.since) = (0, now);
        }
        self.last.noted += 1;
        if self.last.noted > NOTED {
            return;
        }
        let leader = Identity::from(living.process);
        let tree = descendants::first(leader, LIVED).unwrap_or_default();
        let service = self.known.get(name).and_then(|it| self.service(&it.service));
        let none = roles::Rules::default();
        let rules = service.map_or(&none, |it| &it.profile.roles);
        let told = || service.iter().flat_map(|it| &it.rules.stop).map(|it| it.signal);
        let line = |it: &Looked<'_>| {
            let stat = it.stat;
            let (role, renewed) =
                (it.rule.map(|it| it.role.clone()), it.rule.is_some_and(|it| it.renewed));
            let leads = stat.identity == leader;
            let seen = Seen {
                depth: 0,
                stat,
                arguments: vec![],
                role,
                renewed,
                leads,
                leaving: false,
                cuts: vec![],
            };
            let call = waits::call(stat.identity.pid, |_| None);
            let member = Member { call, ..plain_member(&seen) };
            let is_ignored = |signal: &Signal| taken(member.pid, *signal) == Taken::Ignored;
            match told().find(is_ignored).filter(|_| leads) {
                Some(signal) => format!("{member}, ignores {signal}"),
                None => member.to_string(),
            }
        };
        let lines: Vec<String> = census::glance(rules, leader.pid, tree).iter().map(line).collect();
        self.last.lived.insert(name.clone(), lines);
    }

    /// What was noted of it, once.
    pub(in crate::daemon) fn who_lived(&mut self, name: &Name) -> Option<Vec<String>> {
        self.last.lived.remove(name).filter(|it| !it.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stat::read_stat;

    #[test]
    fn who_sleeps_in_the_kernel_is_believed_at_the_second_look() {
        let me = read_stat(std::process::id().cast_signed()).unwrap();
        let (awake, asleep) = (Stat { state: b'S', ..me }, Stat { state: b'D', ..me });
        let nobody = BTreeSet::new();
        let before = BTreeSet::from([me.identity]);
        assert_eq!([steady(&awake, &nobody), steady(&awake, &before)], ['S', 'S']);
        assert_eq!([steady(&asleep, &nobody), steady(&asleep, &before)], ['\0', 'D']);
    }
}
