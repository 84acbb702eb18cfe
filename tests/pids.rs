//! Pids that are somebody else's by now: nobody but who was meant is ever signalled.
//!
//! Each test has a pid namespace of its own. Where the host does not let it, it says so (support/skip.rs).
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use support::processes::pids;
use support::skip::{has, is_root, skip};
use support::{Deck, find, kill, output_of, python};

fn run(words: &[&str]) -> bool {
    output_of(Command::new(words[0]).args(&words[1..])).status.success()
}

/// The only child of a process.
fn child_of(parent: i32) -> i32 {
    let is_it = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.nth(1) == Some(&parent.to_string())
    };
    pids().into_iter().find(is_it).unwrap()
}

/// A namespace whose first process reaps everybody and does nothing else, so that daemons may come and go.
struct Namespace {
    outside: Child,
    first: i32,
}

impl Namespace {
    /// `None`, said aloud: none may be made here, or nobody may say which pid is next.
    fn make() -> Option<Self> {
        // Whoever ignores SIGCHLD has no zombies (wait(2)).
        let first = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
                     print('up', flush=True)\nwhile True:\n    signal.pause()";
        let mut command = Command::new("unshare");
        command.args(["-pf", "--mount-proc", python(), "-c", first]).stdin(Stdio::null());
        let mut outside = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut said = String::new();
        BufReader::new(outside.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "up\n" {
            outside.wait().unwrap();
            skip("pid namespaces");
            return None;
        }
        let first = child_of(i32::try_from(outside.id()).unwrap());
        let this = Self { outside, first };
        let chosen = this.run("echo 500 > /proc/sys/kernel/ns_last_pid", &[]);
        has("pids that can be chosen", chosen).then_some(this)
    }

    /// What a command line begins with that is to run in here.
    fn wrapper(&self) -> [String; 6] {
        ["nsenter", "-t", &self.first.to_string(), "-p", "-m", "--"].map(str::to_owned)
    }

    fn run(&self, script: &str, arguments: &[&str]) -> bool {
        let wrapper = self.wrapper();
        let words: Vec<_> = wrapper.iter().map(String::as_str).collect();
        run(&[&words, &["sh", "-c", script, "sh"][..], arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Everybody in it goes with it.
        kill(self.first, Signal::SIGKILL);
        drop(self.outside.wait());
    }
}

/// Kills the process of this pid, and gives its pid to another one that leads a session and writes into a file what
/// it gets.
const SUCCEED: &str = r#"
    kill -9 $1
    while [ -e /proc/$1 ]; do sleep 0.01; done
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid
        setsid sh -c 'trap "echo hit >> $0" HUP INT QUIT USR1 USR2 TERM; while :; do sleep 0.1; done' $2 \
            < /dev/null > /dev/null 2>&1 &
        [ $! = $1 ] && exit 0
        kill -9 $!
    done
    exit 1
"#;

#[test]
fn a_stranger_with_the_pid_of_a_record_is_left_alone() {
    if !is_root() {
        return;
    }
    let Some(namespace) = Namespace::make() else { return };
    let wrapper = namespace.wrapper();
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let services = "[defaults]\nstart_seconds = \"50ms\"\ncommand = \"sleep 1000\"\n\
                    [service.steady]\n[service.victim]\n";
    let mut deck = Deck::start_in(&wrapper, services, |_| ());
    deck.wait_ready(&["steady", "victim"]);
    let (steady, victim) = (deck.pid("steady"), deck.pid("victim").to_string());
    let hits = deck.path().join("hits");
    let file = hits.display().to_string();
    deck.restart_daemon(|deck| {
        kill(child_of(deck.daemon_pid()), Signal::SIGKILL);
        assert!(namespace.run(SUCCEED, &[&victim, &file]), "pid {victim} went to somebody else");
    });
    deck.wait_event("ended while no daemon was there to see it");
    deck.wait("victim renewed", |it, _| {
        find(it, "victim").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert_eq!((deck.pid("steady"), deck.instance("steady").generation), (steady, 1));
    deck.ok(&["shutdown"]);
    deck.wait_end();
    let is_there = "tr '\\0' ' ' < /proc/$1/cmdline | grep -qF \"$2\"";
    assert!(namespace.run(is_there, &[&victim, &file]), "the stranger was killed");
    assert!(!hits.exists(), "{}", deck.story());
}

/// Whether `kernel.pid_max` is a matter of each pid namespace (Linux 6.14). It is the host's otherwise.
fn pids_are_namespaced() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= (6, 14)
}

#[test]
fn where_pids_come_round_again_nobody_else_is_signalled() {
    let few = "echo 400 > /proc/sys/kernel/pid_max && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "-pf", "--mount-proc", "sh", "-c", few];
    if !is_root() || !has("a highest pid for each namespace", pids_are_namespaced()) {
        return;
    }
    if !has("pid namespaces", run(&[&wrapper[..], &["true"]].concat())) {
        return;
    }
    let mut deck = Deck::start_in(
        &wrapper,
        r#"
        [defaults]
        start_seconds = "50ms"
        [service.victim]
        command = "sleep 1000"
        [service.attacker]
        command = ["sh", "-c", "n=0; while :; do sleep 0 || echo hit $?; n=$((n+1)); [ $((n % 100)) != 0 ] || echo spawned $n; done"]
        "#,
        |_| (),
    );
    deck.wait_ready(&["victim", "attacker"]);
    let log = deck.follow_log("attacker");
    let mut seen = vec![];
    for _ in 0..8 {
        let it = deck.instance("victim");
        seen.push((it.pid.unwrap(), it.start_time.unwrap()));
        deck.ok(&["restart", "victim"]);
        let generation = it.generation;
        deck.wait("victim renewed", |it, _| {
            find(it, "victim")
                .is_some_and(|it| it.generation > generation && it.ready == Some(true))
        });
    }
    log.line_with("spawned 400");
    // Every one of these pids has had other owners since.
    for (pid, start_time) in seen {
        let body = format!("{{\"signal\":\"SIGKILL\",\"pid\":{pid},\"start_time\":{start_time}}}");
        let head = "POST /v1/instances/victim/signal HTTP/1.1\r\nhost: o\r\nconnection: close\r\n";
        let mut stream = UnixStream::connect(deck.socket()).unwrap();
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    }
    log.line_with("spawned");
    deck.catch_up();
    let left = deck.events.iter().find(|it| it.message.contains("left behind"));
    assert!(left.is_none(), "{left:?}");
    let text = std::fs::read_to_string(deck.path().join("state/logs/attacker.log")).unwrap();
    assert!(!text.contains("hit"), "{text}");
}
