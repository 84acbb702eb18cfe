//! The sample as a tree of processes: the manners of real servers, with real signals.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use support::{Following, OPSDECK, PATIENCE, free_port, is_alive, kill, wait_until};

/// A sample tree in a process group of its own, which ends with the test.
struct Tree {
    port: u16,
    output: Following,
}

impl Tree {
    fn start(line: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(OPSDECK);
        command.args(["sample", "--port", &port.to_string()]).args(line.split_whitespace());
        command.process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
        Self { port, output: Following::start(command) }
    }

    /// As [`Tree::start`], once every process of it has its signal handlers.
    fn up(line: &str, processes: usize) -> Self {
        let tree = Self::start(line);
        (0..processes).for_each(|_| drop(tree.output.line_with("started, pid")));
        tree
    }

    fn leader(&self) -> i32 {
        self.output.pid()
    }

    fn send(&self, signal: Signal) {
        kill(self.leader(), signal);
    }

    /// The manager of process mode.
    fn manager(&self) -> i32 {
        let below = children(self.leader());
        assert_eq!(below.len(), 1, "one manager below the master");
        *below.first().unwrap()
    }

    /// Sends a request and returns without its answer.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Which process answers.
    fn answering(&self) -> i32 {
        answer(self.ask("/?work=1ms")).unwrap()
    }

    /// A request that some worker has begun to work on, as the only one in the tree.
    fn busy(&self, path: &str) -> TcpStream {
        let stream = self.ask(path);
        // The workers share the socket, and one of them has accepted as soon as the queue is empty.
        wait_until("accepted", || is_accepted(self.port, &stream));
        stream
    }

    /// Exit code of the leader.
    fn code(mut self) -> Option<i32> {
        self.output.end().code()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.leader()), Signal::SIGKILL);
    }
}

/// The pid in an answer of `/`; `None` if the connection was cut.
fn answer(mut stream: TcpStream) -> Option<i32> {
    let mut text = vec![];
    // A reset is an answer too, only a bad one.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let pid = text.trim_end().rsplit_once("pid ")?.1;
    Some(pid.parse().unwrap())
}

/// Whether a process has this connection: the server's end of it has an inode then (proc_net_tcp(5)).
fn is_accepted(port: u16, stream: &TcpStream) -> bool {
    let client = stream.local_addr().unwrap().port();
    let (local, remote) = (format!(":{port:04X}"), format!(":{client:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.len() > 9
            && fields[1].ends_with(&local)
            && fields[2].ends_with(&remote)
            && fields[9] != "0"
    })
}

fn children(of: i32) -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut rest = stat.rsplit(')').next().unwrap().split_whitespace();
        rest.next().is_some_and(|it| it != "Z") && rest.next() == Some(&of.to_string())
    };
    pids.filter(is_child).collect()
}

/// Waits until `of` has `n` children of which none is among `before`.
fn renewed(of: i32, before: &BTreeSet<i32>, n: usize) -> BTreeSet<i32> {
    let mut now = BTreeSet::new();
    wait_until("all of them new", || {
        now = children(of);
        now.len() == n && now.is_disjoint(before)
    });
    now
}

#[test]
fn a_reload_renews_the_workers_and_nobody_else_and_answers_what_is_in_flight() {
    let tree = Tree::up("--tree swoole --task-workers 1 --user-process", 5);
    let manager = tree.manager();
    let before = children(manager);
    assert_eq!(before.len(), 4);
    let slow = tree.busy("/?work=1s");

    tree.send(Signal::SIGUSR1);
    wait_until("the workers are new", || children(manager).intersection(&before).count() == 1);
    assert!(before.contains(&answer(slow).unwrap()), "the old worker has answered");
    wait_until("4 of them again", || children(manager).len() == 4);
    let after = children(manager);
    assert_eq!(tree.manager(), manager);
    assert!(after.contains(&tree.answering()));

    tree.send(Signal::SIGTERM);
    assert_eq!(tree.code(), Some(0));
    assert!(after.iter().all(|it| !is_alive(*it)));
}

#[test]
fn a_worker_that_does_not_end_is_killed_at_the_limit() {
    let tree = Tree::up("--tree swoole --mode base --ignore-term --max-wait-time 300ms", 3);
    let before = children(tree.leader());
    assert_eq!(before.len(), 2);
    tree.send(Signal::SIGUSR1);
    renewed(tree.leader(), &before, 2);
}

#[test]
fn a_dead_worker_is_replaced_and_a_dead_manager_leaves_orphans_that_serve() {
    let tree = Tree::up("--tree swoole --mode base", 3);
    let before = children(tree.leader());
    kill(*before.first().unwrap(), Signal::SIGKILL);
    wait_until("two again", || {
        let now = children(tree.leader());
        now.len() == 2 && now != before
    });
    tree.output.line_with("started, pid");

    let orphans = children(tree.leader());
    tree.send(Signal::SIGKILL);
    wait_until("the manager is gone", || !is_alive(tree.leader()));
    assert!(orphans.contains(&tree.answering()));
}

#[test]
fn without_its_manager_a_master_goes_on_and_so_do_the_workers() {
    let tree = Tree::up("--tree swoole", 3);
    let manager = tree.manager();
    let workers = children(manager);
    kill(manager, Signal::SIGKILL);
    wait_until("the manager is gone", || !is_alive(manager));
    assert!(workers.contains(&tree.answering()));
    tree.send(Signal::SIGUSR1);
    assert!(workers.contains(&tree.answering()), "nobody is there to reload them");
    tree.send(Signal::SIGTERM);
    let leader = tree.leader();
    wait_until("the master is gone", || !is_alive(leader));
    assert!(workers.contains(&tree.answering()));
}

#[test]
fn with_its_master_the_manager_ends_and_all_the_workers() {
    let tree = Tree::up("--tree swoole", 3);
    let all: Vec<_> = children(tree.manager()).into_iter().chain([tree.manager()]).collect();
    tree.send(Signal::SIGKILL);
    wait_until("all gone", || all.iter().all(|it| !is_alive(*it)));
}

#[test]
fn a_server_of_a_single_process_ignores_a_reload() {
    let tree = Tree::start("--tree swoole --mode single");
    tree.output.line_with("listening on");
    tree.send(Signal::SIGUSR1);
    assert_eq!(tree.answering(), tree.leader());
    tree.send(Signal::SIGTERM);
    assert_eq!(tree.code(), Some(0));
}

#[test]
fn a_server_whose_workers_are_threads_closes_every_connection_at_a_reload_and_serves_on() {
    let tree = Tree::start("--tree swoole --mode thread");
    tree.output.line_with("listening on");
    let (leader, cut) = (tree.answering(), tree.busy("/?work=1h"));
    tree.send(Signal::SIGUSR1);
    assert_eq!((answer(cut), tree.answering()), (None, leader));
    let cut = tree.busy("/?work=1h");
    tree.send(Signal::SIGTERM);
    assert_eq!((answer(cut), tree.code()), (None, Some(0)));
}

#[test]
fn php_fpm_reloads_by_becoming_itself_again() {
    let tree = Tree::up("--tree fpm", 2);
    let leader = tree.leader();
    let before = children(leader);
    let slow = tree.busy("/?work=1s");
    tree.send(Signal::SIGUSR2);
    let after = renewed(leader, &before, 2);
    assert!(before.contains(&answer(slow).unwrap()));
    assert!(after.contains(&tree.answering()));
    (0..2).for_each(|_| drop(tree.output.line_with("started, pid")));

    let slow = tree.busy("/?work=500ms");
    tree.send(Signal::SIGQUIT);
    assert!(after.contains(&answer(slow).unwrap()), "SIGQUIT is the graceful one");
    assert_eq!(tree.code(), Some(0));
}

#[test]
fn php_fpm_cuts_what_is_in_flight_at_sigterm() {
    let tree = Tree::up("--tree fpm --max-wait-time 1h", 2);
    let slow = tree.busy("/?work=1h");
    tree.send(Signal::SIGTERM);
    assert_eq!(answer(slow), None);
    assert_eq!(tree.code(), Some(0));
}
