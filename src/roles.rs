//! Which process of a server's tree does what: master, manager, worker.
//!
//! [`assign`] is a pure function of a profile's rules and of the processes as they are. A rule goes by
//! the title that a server gives its processes, or by parentage: how far below the leader a process is,
//! in a tree of how many levels. Only processes that are called as the leader is are the server's own;
//! what a worker has executed has no role. Nobody renews the leader by a reload: it is no worker, whatever its title.

use std::collections::BTreeMap;

use regex::Regex;

/// A process as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// `comm`: the name of the program, cut to 15 bytes (proc_pid_comm(5)).
    pub name: String,
    /// `argv[0]`, which many servers overwrite: `nginx: worker process`.
    pub title: String,
    /// `argv[1]`: what it was told to do. A title leaves none.
    pub told: Option<String>,
    /// How many threads it has.
    pub threads: u32,
    /// How many descriptors of epoll(7) it has, where that is known.
    pub polls: Option<u32>,
}

impl Process {
    /// Its name without what setproctitle has written behind it: `gunicorn: maste`, `gunicorn: worke`.
    fn program(&self) -> &str {
        self.name.split_once(": ").map_or(&self.name, |it| it.0)
    }

    /// It was told something else than the leader: no fork of it, but executed by one. What the leader executes
    /// itself may be its own all the same.
    fn is_errand(&self, leader: &Self) -> bool {
        let is_own = self.pid == leader.pid || self.parent == leader.pid;
        let both = leader.told.as_ref().zip(self.told.as_ref());
        !is_own && both.is_some_and(|(leader, its)| leader != its)
    }
}

/// The rules of a profile; the first one that fits a process counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(pub Vec<Rule>);

/// Who has a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `worker`.
    pub role: String,
    pub title: Option<Pattern>,
    /// 1 is the leader, 2 its children, 3 theirs.
    pub level: Option<u32>,
    /// How many levels the tree has: 3 where the leader's only child has children, or has died
    /// and left some, else 2 where the leader has children.
    pub of: Option<u32>,
    /// It has at least so many threads.
    pub threads: Option<u32>,
    /// It has at least so many descriptors of epoll(7), as far as that is known.
    pub polls: Option<u32>,
    /// The numbers of signals at which it may close every connection, whatever is in flight.
    pub cuts: Vec<i32>,
    /// A reload puts another process in its place.
    pub renewed: bool,
    /// It finishes what it has, and takes nothing new.
    pub leaving: bool,
    /// One comes when there is work, and none may be there.
    pub on_demand: bool,
    /// The number of the signal that lets one of them finish, where that is not SIGTERM.
    pub stop: Option<i32>,
}

/// A regular expression that is equal to another one if it is written like it.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// `None`: this is no regular expression.
    pub fn new(text: &str) -> Option<Self> {
        Regex::new(text).ok().map(Self)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Rules {
    /// Whether this rule may take for a worker what no reload renews: its server can do without titles, and that role is
    /// told by a title alone.
    pub fn may_be_another(&self, rule: &Rule) -> bool {
        let is_named = |it: &Rule| it.role == rule.role && it.title.is_some() && !it.leaving;
        let by_title_alone = |it: &Rule| {
            let mut own = self.0.iter().filter(|other| other.role == it.role);
            !it.renewed && own.all(|it| it.title.is_some())
        };
        rule.title.is_none() && self.0.iter().any(is_named) && self.0.iter().any(by_title_alone)
    }
}

/// The rule that each process falls under, by pid; those without a role are left out.
pub fn assign<'r>(rules: &'r Rules, leader: i32, processes: &[Process]) -> BTreeMap<i32, &'r Rule> {
    let tree = Family::of(leader, processes);
    let rule = |it: &Process| {
        let level = tree.levels.get(&it.pid).copied()?;
        let fits = |rule: &&Rule| {
            !(rule.renewed && it.pid == leader)
                && rule.title.as_ref().is_none_or(|pattern| pattern.0.is_match(&it.title))
                && rule.level.is_none_or(|wanted| wanted == level)
                && rule.of.is_none_or(|wanted| wanted == tree.of)
                && rule.threads.is_none_or(|least| it.threads >= least)
                && rule.polls.is_none_or(|least| it.polls.is_none_or(|polls| polls >= least))
        };
        Some((it.pid, rules.0.iter().find(fits)?))
    };
    processes.iter().filter_map(rule).collect()
}

/// The server's own processes.
struct Family {
    /// By pid; 1 is the leader. Whose parent is gone has none, and is level 0.
    levels: BTreeMap<i32, u32>,
    of: u32,
}

impl Family {
    fn of(leader: i32, processes: &[Process]) -> Self {
        let first = processes.iter().find(|it| it.pid == leader);
        let is_kin = |it: &&Process| {
            first.is_some_and(|first| it.program() == first.program() && !it.is_errand(first))
        };
        let kin: BTreeMap<i32, &Process> =
            processes.iter().filter(is_kin).map(|it| (it.pid, it)).collect();
        let below = |pid: i32| kin.values().filter(move |it| it.parent == pid);
        let only = below(leader).next().filter(|_| below(leader).count() == 1);
        let is_there = |pid: i32| processes.iter().any(|it| it.pid == pid);
        // Whoever was between the leader and them has died.
        let orphans = || kin.values().any(|it| it.pid != leader && !is_there(it.parent));
        let of = match only {
            Some(it) if below(it.pid).next().is_some() => 3,
            _ if below(leader).next().is_some() => 2,
            _ if orphans() => 3,
            _ => 1,
        };
        let level = |it: &Process| {
            let mut at = it;
            // A tree has no circles, but a snapshot of a changing one may.
            for level in 1..=16 {
                if at.pid == leader {
                    return Some(level);
                }
                match kin.get(&at.parent) {
                    Some(parent) => at = parent,
                    // Somebody else of the tree has executed it, or its parent has died.
                    None => return (!is_there(at.parent)).then_some(0),
                }
            }
            None
        };
        let levels = kin.values().filter_map(|it| Some((it.pid, level(it)?))).collect();
        Self { levels, of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(role: &str, title: &str, level: u32, of: u32, renewed: bool) -> Rule {
        let some = |it: u32| (it > 0).then_some(it);
        Rule {
            role: role.into(),
            title: (!title.is_empty()).then(|| Pattern::new(title).unwrap()),
            level: some(level),
            of: some(of),
            threads: None,
            polls: None,
            cuts: vec![],
            renewed,
            leaving: false,
            on_demand: false,
            stop: None,
        }
    }

    fn swoole() -> Rules {
        Rules(vec![
            rule("task worker", r"\.TaskWorker\.\d+$", 0, 0, true),
            rule("master", "", 1, 3, false),
            rule("manager", "", 2, 3, false),
            rule("worker", "", 3, 3, true),
            rule("manager", "", 1, 2, false),
            rule("worker", "", 2, 2, true),
            Rule { threads: Some(3), polls: Some(2), ..rule("threads", "", 1, 1, false) },
            rule("single process", "", 1, 1, false),
        ])
    }

    /// `pid<parent:name`, with `=title` where it is not the name, `*3` for three threads, `*3*2` for as many and two
    /// epolls, and `+what` it was told.
    fn tree(text: &str) -> Vec<Process> {
        let process = |it: &str| {
            let (pid, rest) = it.split_once('<').unwrap();
            let (parent, name) = rest.split_once(':').unwrap();
            let (name, told) = name.split_once('+').map_or((name, None), |it| (it.0, Some(it.1)));
            let (name, threads) = name.split_once('*').unwrap_or((name, "1"));
            let (threads, polls) =
                threads.split_once('*').map_or((threads, None), |it| (it.0, Some(it.1)));
            let (name, title) = name.split_once('=').unwrap_or((name, name));
            Process {
                pid: pid.parse().unwrap(),
                parent: parent.parse().unwrap(),
                name: name.into(),
                title: title.into(),
                told: told.map(str::to_owned),
                threads: threads.parse().unwrap(),
                polls: polls.map(|it| it.parse().unwrap()),
            }
        };
        text.split_whitespace().map(process).collect()
    }

    fn roles(text: &str) -> String {
        let rules = swoole();
        let found = assign(&rules, 1, &tree(text));
        let found = found.iter().map(|(pid, rule)| format!("{pid} {}", rule.role));
        found.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn process_mode_has_a_manager_between_master_and_workers_and_base_mode_leads_by_it() {
        assert_eq!(
            roles("1<0:php 2<1:php 3<2:php 4<2:php"),
            "1 master, 2 manager, 3 worker, 4 worker"
        );
        assert_eq!(roles("1<0:php 3<1:php 4<1:php"), "1 manager, 3 worker, 4 worker");
        assert_eq!(roles("1<0:php 3<1:php"), "1 manager, 3 worker");
        assert_eq!(roles("1<0:php"), "1 single process");
        assert_eq!(roles("1<0:php*2"), "1 single process");
        assert_eq!(roles("1<0:php*3"), "1 threads", "as far as anybody can tell");
        assert_eq!(roles("1<0:php*3*2"), "1 threads", "each worker has a reactor");
        assert_eq!(roles("1<0:php*9*1"), "1 single process", "its others read files");
    }

    #[test]
    fn a_title_says_more_than_parentage() {
        assert_eq!(
            roles("1<0:php 2<1:php 3<2:php=shop.TaskWorker.1 4<2:php=shop.Worker.0"),
            "1 master, 2 manager, 3 task worker, 4 worker"
        );
    }

    #[test]
    fn a_leader_is_no_worker_whatever_its_title() {
        assert_eq!(roles("1<0:php=shop.TaskWorker.0"), "1 single process");
    }

    #[test]
    fn a_name_that_is_a_title_is_the_programs_still() {
        let process = |pid, parent, name: &str| Process {
            pid,
            parent,
            name: name.into(),
            title: format!("{name}r [shop:app]"),
            told: None,
            threads: 1,
            polls: None,
        };
        let tree = [
            process(1, 0, "gunicorn: maste"),
            process(2, 1, "gunicorn: worke"),
            process(3, 1, "gunicornd"),
        ];
        let rules = swoole();
        let found = assign(&rules, 1, &tree);
        let found: Vec<_> = found.iter().map(|(pid, rule)| (*pid, rule.role.as_str())).collect();
        assert_eq!(found, [(1, "manager"), (2, "worker")]);
    }

    #[test]
    fn what_a_worker_has_executed_has_no_role_and_makes_no_level() {
        let found = roles("1<0:php 3<1:php 4<1:php 5<3:ffmpeg 6<5:php");
        assert_eq!(found, "1 manager, 3 worker, 4 worker");
    }

    #[test]
    fn what_a_single_worker_runs_with_the_same_program_makes_no_manager_of_it() {
        let found = roles("1<0:php+server.php 2<1:php+server.php 3<2:php+job.php");
        assert_eq!(found, "1 manager, 2 worker");
        let forks = roles("1<0:php+server.php 2<1:php+server.php 3<2:php+server.php");
        assert_eq!(forks, "1 master, 2 manager, 3 worker");
        let titled = roles("1<0:php+server.php 2<1:php=shop.Manager 3<2:php=shop.Worker.0");
        assert_eq!(titled, "1 master, 2 manager, 3 worker");
        assert_eq!(roles("1<0:php+server.php 2<1:php+worker.php"), "1 manager, 2 worker");
    }

    #[test]
    fn whose_manager_died_has_no_place_in_the_tree_and_the_master_is_one_still() {
        assert_eq!(roles("1<0:php 3<99:php 4<99:php"), "1 master");
    }

    #[test]
    fn without_a_leader_nobody_has_a_role() {
        assert_eq!(roles("3<1:php 4<1:php"), "");
        assert_eq!(roles("1<2:php 2<1:php"), "1 master, 2 manager", "nor does a circle hang");
    }
}
