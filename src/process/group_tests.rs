//! Groups with a cgroup and without, on real trees.
//!
//! Each test runs alone: it reaps every child and is a subreaper.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::*;
use crate::process::alone::alone;
use crate::process::cgroup::Cgroups;
use crate::process::reaper::{Death, Reaper, Status};
use crate::process::spawn::{Launch, Output};

/// A host with one instance on it.
struct Host {
    runtime: tokio::runtime::Runtime,
    chld: Signal,
    reaper: Reaper,
    cgroups: Option<Cgroups>,
    folder: tempfile::TempDir,
    deaths: Vec<Death>,
}

impl Host {
    fn new(with_cgroup: bool) -> Self {
        become_subreaper().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let chld = runtime.block_on(async { signal(SignalKind::child()).unwrap() });
        let folder = tempfile::tempdir().unwrap();
        for name in ["fifo", "never"] {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&folder.path().join(name), mode).unwrap();
        }
        let cgroups = with_cgroup.then(|| Cgroups::find(folder.path()).unwrap());
        Self { runtime, chld, reaper: Reaper::default(), cgroups, folder, deaths: vec![] }
    }

    /// Runs a script each process of which says `up`, then waits for ever: `rest` does both.
    fn start(&mut self, script: &str, processes: usize) -> Group {
        let fifo = self.folder.path().join("fifo");
        let reader = File::options().read(true).write(true).open(&fifo).unwrap();
        let rest = format!("echo up; read x <>{}", self.folder.path().join("never").display());
        let environment =
            [("PATH", "/usr/bin:/bin"), ("OPSDECK_TEST", "web1"), ("REST", rest.as_str())];
        let environment = environment.map(|(a, b)| (a.to_owned(), b.to_owned()));
        let argv = ["sh", "-c", script].map(str::to_owned);
        let cgroup = self.cgroups.as_mut().map(|it| it.make("web1").unwrap());
        let launch = Launch {
            argv: &argv,
            directory: None,
            environment: &environment,
            output: Output::Fifo(&fifo),
            passed: &[],
            switch: None,
            cgroup: cgroup.as_ref(),
        };
        let spawned = self.reaper.spawn(&launch).unwrap();
        let marks = Marks::new(Some(&fifo), Some(("OPSDECK_TEST", "web1")));
        let lines = BufReader::new(reader).lines().take(processes);
        lines.for_each(|it| assert_eq!(it.unwrap(), "up"));
        Group::new(spawned.identity, cgroup, marks)
    }

    /// Reaps until `done`, asked after every SIGCHLD, for at most ten seconds.
    fn until(&mut self, what: &str, mut done: impl FnMut(&[Death]) -> bool) {
        let Self { runtime, chld, reaper, deaths, .. } = self;
        let reaping = async {
            loop {
                reaper.reap(|it| deaths.push(it)).unwrap();
                if done(deaths) {
                    return;
                }
                chld.recv().await;
            }
        };
        let bound = Duration::from_secs(10);
        let ended = runtime.block_on(async { tokio::time::timeout(bound, reaping).await });
        assert!(ended.is_ok(), "{what} did not happen; {:?}", self.deaths);
    }
}

fn size(group: &Group) -> usize {
    let table = table();
    let members = group.members(&table).unwrap();
    let each = Group::members_of_each(&[group], &table);
    assert_eq!(each[0].as_ref().unwrap(), &members, "asked together with others");
    members.len()
}

fn table() -> Table {
    Table::sweep().unwrap()
}

/// A leader with a child, a grandchild in a session of its own, and one that was orphaned on purpose.
const TREE: &str = "sh -c \"$REST\" & setsid sh -c \"$REST\" & (setsid sh -c \"$REST\" &) ; \
    eval \"$REST\"";

fn was_killed(death: &Death) -> bool {
    death.status == Status::Signaled { signal: libc::SIGKILL, core: false }
}

fn whole_group_dies(with_cgroup: bool) {
    let mut host = Host::new(with_cgroup);
    let mut group = host.start(TREE, 4);
    assert_eq!(size(&group), 4);
    assert!(!group.has_ended(&host.reaper).unwrap());

    let killed = group.kill().unwrap();

    assert_eq!(killed.len(), 4);
    host.until("the end of the group", |_| group.is_empty(&table()).unwrap());
    assert_eq!(size(&group), 0);
    host.until("the last death", |it| it.iter().filter(|it| was_killed(it)).count() == 4);
    assert!(group.has_ended(&host.reaper).unwrap());
    assert!(host.reaper.strangers().unwrap().is_none_or(|it| it.is_empty()));
    let ours: Vec<_> = host.deaths.iter().filter(|it| !it.stranger).map(|it| it.pid).collect();
    assert_eq!(ours, [group.leader().pid]);
    group.remove().unwrap();
    assert!(group.cgroup().is_none_or(|it| !it.path().exists()));
    host.cgroups.into_iter().for_each(|it| it.remove().unwrap());
}

#[test]
fn a_cgroup_dies_with_the_grandchildren_that_left_the_session() {
    let name = "process::group::tests::a_cgroup_dies_with_the_grandchildren_that_left_the_session";
    alone(name, || whole_group_dies(true));
}

#[test]
fn a_session_dies_with_the_grandchildren_that_left_it() {
    let name = "process::group::tests::a_session_dies_with_the_grandchildren_that_left_it";
    alone(name, || whole_group_dies(false));
}

fn survivors_are_found(with_cgroup: bool) {
    let mut host = Host::new(with_cgroup);
    let mut group = host.start(TREE, 4);
    let leader = group.leader().pid;

    kill_one(group.leader()).unwrap();
    host.until("the leader's death", |it| it.iter().any(|it| it.pid == leader));

    assert_eq!(size(&group), 3);
    assert!(!group.has_ended(&host.reaper).unwrap());
    let survivors = group.kill().unwrap();
    let first = survivors[0];
    assert_eq!(first.to_string(), format!("sh (pid {})", first.identity.pid));
    host.until("the end of the survivors", |_| group.is_empty(&table()).unwrap());
    host.until("their reaping", |it| it.iter().filter(|it| was_killed(it)).count() == 4);
    group.remove().unwrap();
    host.cgroups.into_iter().for_each(|it| it.remove().unwrap());
}

#[test]
fn what_survives_its_leader_in_a_cgroup_is_found_named_and_killed() {
    let name =
        "process::group::tests::what_survives_its_leader_in_a_cgroup_is_found_named_and_killed";
    alone(name, || survivors_are_found(true));
}

#[test]
fn what_survives_its_leader_without_a_cgroup_is_found_named_and_killed() {
    let name = "process::group::tests::what_survives_its_leader_without_a_cgroup_is_found_named_and_killed";
    alone(name, || survivors_are_found(false));
}

#[test]
fn an_orphan_is_recognised_by_its_output_or_by_its_variable() {
    let name = "process::group::tests::an_orphan_is_recognised_by_its_output_or_by_its_variable";
    alone(name, || {
        let mut host = Host::new(false);
        let mut group = host.start(TREE, 4);
        kill_one(group.leader()).unwrap();
        host.until("the leader's death", |it| it.iter().any(|it| it.pid == group.leader().pid));

        let fifo = host.folder.path().join("fifo");
        let with = |marks| size(&Group::new(group.leader(), None, marks));
        assert_eq!(with(Marks::new(Some(&fifo), None)), 3);
        assert_eq!(with(Marks::new(None, Some(("OPSDECK_TEST", "web1")))), 3);
        assert_eq!(with(Marks::new(None, Some(("OPSDECK_TEST", "web")))), 1, "only its session");
        assert_eq!(with(Marks::default()), 1, "only its session");

        assert_eq!(group.kill().unwrap().len(), 3);
        let reaper = host.reaper.clone();
        host.until("their end", |_| group.has_ended(&reaper).unwrap());
    });
}

#[test]
fn a_number_that_is_used_again_makes_no_stranger_a_member() {
    let me = read_stat(std::process::id().cast_signed()).unwrap();
    // The session of this test, but led by a process that lived before.
    let session = read_stat(me.session).map_or(me, |it| it);
    let before =
        Identity { pid: session.identity.pid, start_time: session.identity.start_time - 1 };
    let group = Group::new(before, None, Marks::default());
    assert_eq!(group.members(&table()).unwrap(), []);
}

#[test]
fn a_cgroup_is_used_again_and_tells_its_time_and_no_other_daemon_finds_it() {
    let name = "process::group::tests::\
        a_cgroup_is_used_again_and_tells_its_time_and_no_other_daemon_finds_it";
    alone(name, || {
        let mut host = Host::new(true);
        for generation in 1..=4 {
            let mut group = host.start("eval \"$REST\"", 1);
            let cgroup = group.cgroup().unwrap().clone();
            let of = Cgroup::of(group.leader().pid).unwrap();
            assert_eq!(of.path(), cgroup.path());
            assert!(cgroup.cpu_microseconds().unwrap().unwrap() > 0);
            // Killed as a whole or from outside: the next one must live in either case.
            if generation % 2 == 0 {
                kill_one(group.leader()).unwrap();
            } else {
                group.kill().unwrap();
            }
            host.until("its end", |it| it.len() == generation);
            assert!(group.is_empty(&table()).unwrap());
        }
        let cgroups = host.cgroups.take().unwrap();
        let other = Cgroups::find(Path::new("/nowhere/else")).unwrap();
        assert_eq!(cgroups.existing().unwrap().len(), 1);
        assert_eq!(other.existing().unwrap().len(), 0);
        other.remove().unwrap();
        cgroups.existing().unwrap()[0].1.remove().unwrap();
        cgroups.remove().unwrap();
    });
}

#[test]
fn a_storm_of_deaths_is_reaped_to_the_last() {
    alone("process::group::tests::a_storm_of_deaths_is_reaped_to_the_last", || {
        let mut host = Host::new(false);
        let started: BTreeSet<i32> = (0..200)
            .map(|_| {
                let argv = ["true".to_owned()];
                let launch = Launch {
                    argv: &argv,
                    directory: None,
                    environment: &[],
                    output: Output::Null,
                    passed: &[],
                    switch: None,
                    cgroup: None,
                };
                host.reaper.spawn(&launch).unwrap().identity.pid
            })
            .collect();

        host.until("the last death", |it| it.len() == 200);

        assert_eq!(host.deaths.iter().map(|it| it.pid).collect::<BTreeSet<_>>(), started);
        assert!(host.deaths.iter().all(|it| it.status == Status::Exited(0) && !it.stranger));
        assert_eq!(host.reaper.children(), BTreeSet::new());
        assert_eq!(host.reaper.reap(|_| ()).unwrap(), 0);
    });
}

#[test]
fn one_that_was_only_looked_at_is_told_once_and_keeps_its_pid_until_the_reaping() {
    let name = "process::group::tests::\
        one_that_was_only_looked_at_is_told_once_and_keeps_its_pid_until_the_reaping";
    alone(name, || {
        let mut host = Host::new(false);
        let mut group = host.start("eval \"$REST\"", 1);
        let leader = group.leader();
        group.kill().unwrap();

        let Host { runtime, chld, reaper, .. } = &mut host;
        let looking = async {
            loop {
                match reaper.look().unwrap() {
                    Some(death) => return death,
                    None => drop(chld.recv().await),
                }
            }
        };
        let bound = Duration::from_secs(20);
        let death = runtime.block_on(async { tokio::time::timeout(bound, looking).await });
        let death = death.expect("it was killed and nobody heard of it");

        assert!(was_killed(&death) && death.pid == leader.pid && !death.stranger);
        assert!(read_stat(leader.pid).unwrap().is_gone());
        assert!(group.has_ended(&host.reaper).unwrap(), "it is no stranger");
        assert_eq!(host.reaper.reap(|it| panic!("{it:?} was told of")).unwrap(), 0);
        assert!(read_stat(leader.pid).is_err(), "its pid was given back");
    });
}
