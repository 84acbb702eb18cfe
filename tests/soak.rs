//! Everything at once, for as long as one likes: instances crash, services roll, the configuration changes, clients
//! come and go, and at first the daemon and the logger die or are replaced. Nothing fails that was not killed, nothing
//! is lost or left, and neither the memory nor the descriptors of daemon, logger, gateway and deck grow.
//!
//! `OPSDECK_SOAK` is how many seconds it lasts, some rounds otherwise.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "it lasts as long as it was told to")]
#![expect(clippy::print_stdout, reason = "the numbers are what it is run for")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opsdeck::api::{Deck as View, State};
use serde_json::Value;
use support::console::Console;
use support::{Deck, Following, PATIENCE, find, free_port, kill, pause, wait_until};

/// Rounds in which somebody dies, and in which the daemon lives on, where no time is given.
const SHORT: [usize; 2] = [3, 3];
/// What a process may have more of in the end: KiB, beside a tenth, and descriptors.
const MORE_KIB: u64 = 4 << 10;
const MORE_DESCRIPTORS: u64 = 4;

/// What a process holds: KiB of memory of its own, its proportional share of all, and descriptors.
#[derive(Clone, Copy, Debug)]
struct Held {
    own_kib: u64,
    pss_kib: u64,
    descriptors: u64,
}

impl Held {
    /// The least of some looks: a probe or a client that just leaves is no growth.
    fn by(pid: i32) -> Self {
        let looks = (0..20).map(|_| {
            pause();
            u64::try_from(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).unwrap()
        });
        let descriptors = looks.min().unwrap();
        let kib = |file: &str, key: &str| -> u64 {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            let line = text.lines().find_map(|it| it.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let (own_kib, pss_kib) = (kib("status", "RssAnon:"), kib("smaps_rollup", "Pss:"));
        Self { own_kib, pss_kib, descriptors }
    }
}

/// In the order of [`Soak::pids`].
const WHO: [&str; 4] = ["daemon", "logger", "gateway", "deck"];

type Sample = [Held; 4];

/// Two instances behind a gateway, one that crashes, one that numbers its lines, and at times one more.
struct Fleet {
    ports: [u16; 3],
}

impl Fleet {
    fn config(&self, round: usize) -> String {
        let [entry, one, two] = self.ports;
        let period = 100 + round % 3 * 10;
        let extra = "[service.extra]\ncommand = \"opsdeck sample --worker\"\n";
        let extra = if round.is_multiple_of(2) { "" } else { extra };
        format!(
            r#"watch = true
            [defaults]
            start_seconds = "50ms"
            backoff = {{ min = "50ms", max = "100ms" }}
            max_wait_time = "30s"
            [service.web]
            command = "opsdeck sample --port {{port}} --work 10ms"
            instance = {{ web1 = {{ port = {one} }}, web2 = {{ port = {two} }} }}
            probe.readiness = {{ http.path = "/readiness", period = "{period}ms", timeout = "20s" }}
            rollout = {{ settle = "50ms", ready_timeout = "60s" }}
            [service.flappy]
            command = "opsdeck sample --worker"
            [service.chat]
            command = "opsdeck sample --worker --print-every 50ms --work 0s"
            {extra}
            [gateway.shop]
            service = "web"
            listen = "127.0.0.1:{entry}"
            "#
        )
    }
}

struct Soak {
    deck: Deck,
    fleet: Fleet,
    console: Console,
    /// Who follows `flappy` from the beginning, and how many generations that has told of.
    follower: Following,
    heard: u64,
    /// Who follows `chat`, which numbers its lines, likewise.
    listener: Following,
    samples: Vec<Sample>,
    /// Where the daemon began to live on.
    settled: usize,
    /// Instances of `web` that were killed.
    killed: u64,
}

impl Soak {
    fn begin() -> Self {
        let fleet = Fleet { ports: [free_port(), free_port(), free_port()] };
        let mut deck = Deck::start(&fleet.config(0));
        deck.wait("all in rotation", |it, _| is_at_rest(it));
        let console = Console::start(&deck.command(&[]), 80, 24);
        let (follower, listener) = (follow(&deck, "flappy"), follow(&deck, "chat"));
        Self {
            deck,
            fleet,
            console,
            follower,
            heard: 0,
            listener,
            samples: vec![],
            settled: 0,
            killed: 0,
        }
    }

    /// The process of this deck that is such a part of it, if there is one.
    fn part(&self, name: &str) -> Option<i32> {
        let mark = format!("PATH={}", self.deck.path().join("bin").display());
        let pids = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let mut pids = pids.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        let is_it = |pid: &i32| {
            let read =
                |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let has_mark = environment.windows(mark.len()).any(|it| it == mark.as_bytes());
            line.split(|it| *it == 0).nth(1) == Some(name.as_bytes()) && has_mark
        };
        pids.find(is_it)
    }

    fn pids(&self) -> [i32; 4] {
        let part =
            |name| self.part(name).unwrap_or_else(|| panic!("no {name}\n{}", self.deck.story()));
        [self.deck.daemon_pid(), part("logger"), part("gateway"), self.console.pid()]
    }

    /// Whatever was done to it, everything serves again, also in the eyes of who watches all the time.
    fn rest(&mut self) {
        // One more client that comes again, with a picture of now.
        self.deck.watch_anew();
        self.deck.wait("everything at rest", |it, _| is_at_rest(it));
        self.console.raw.clear();
        self.console.wait("a deck that is connected", |it| {
            it.contains("web1") && !it.contains("reconnecting")
        });
    }

    fn crash(&mut self, name: &str) {
        let before = self.deck.instance(name);
        kill(before.pid.unwrap(), Signal::SIGKILL);
        self.deck.wait(&format!("{name} started again"), |it, _| {
            find(it, name).is_some_and(|it| it.generation > before.generation)
        });
    }

    /// An edit that adds a service applies by itself, one that takes it away is applied.
    fn reload(&mut self, round: usize) {
        self.deck.write_config(&self.fleet.config(round));
        let is_there = !round.is_multiple_of(2);
        if !is_there {
            self.deck.ok(&["config", "apply"]);
        }
        self.deck.wait("the edit applied", |it, _| {
            find(it, "extra").is_some_and(|it| it.state == State::Running) == is_there
        });
    }

    /// Those that look for a moment: some ask to leave, some are gone.
    fn clients(&self, round: usize) {
        for path in ["/v1/watch", "/v1/events?follow=true", "/v1/instances/chat/logs?follow=true"] {
            for _ in 0..3 {
                let mut stream = UnixStream::connect(self.deck.socket()).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                write!(stream, "GET {path} HTTP/1.1\r\nhost: o\r\n\r\n").unwrap();
                let lines = BufReader::new(stream).lines();
                let first = lines.map(Result::unwrap).find(|it| it.starts_with('{'));
                assert!(first.is_some(), "{path} ended\n{}", self.deck.story());
            }
        }
        let mut console = Console::start(&self.deck.command(&[]), 80, 24);
        console.wait_for("web1");
        if round.is_multiple_of(2) {
            console.press("q");
            assert!(console.end(), "{}", console.text());
        }
    }

    /// The daemon or the logger dies, or the daemon becomes another program, while a service rolls.
    fn strike(&mut self, round: usize) {
        self.deck.ok(&["roll", "--no-wait", "web"]);
        match round % 3 {
            0 => self.deck.restart_daemon(|it| kill(it.daemon_pid(), Signal::SIGKILL)),
            1 => {
                kill(self.deck.daemon_pid(), Signal::SIGUSR2);
                self.deck.wait_replacement("replaced");
            }
            _ => {
                let logger = self.part("logger").unwrap();
                kill(logger, Signal::SIGKILL);
                wait_until("a new logger", || self.part("logger").is_some_and(|it| it != logger));
            }
        }
    }

    fn round(&mut self, is_deadly: bool) {
        let round = self.samples.len() + 1;
        self.crash("flappy");
        // Who follows its output all the time hears of it, whichever logger and daemon tell.
        while self.heard < self.deck.instance("flappy").generation {
            self.follower.line_with("takes jobs");
            self.heard += 1;
        }
        if round.is_multiple_of(3) {
            self.crash("web1");
            self.killed += 1;
            self.rest();
        }
        self.reload(round);
        match is_deadly {
            true => self.strike(round),
            false => drop(self.deck.ok(&["roll", "web"])),
        }
        self.clients(round);
        self.rest();
        self.samples.push(self.pids().map(Held::by));
        if is_deadly {
            self.settled = round;
        }
    }

    /// Who has listened through all daemons and loggers has heard every line once.
    fn compare(&self) {
        self.deck.ok(&["stop", "chat"]);
        let text = std::fs::read_to_string(self.deck.path().join("state/logs/chat.log")).unwrap();
        for (at, line) in text.lines().enumerate() {
            let heard = self.listener.line();
            assert_eq!(heard, line, "line {} of chat\n{}", at + 1, self.deck.story());
        }
    }

    /// What goes on is what is known, and once that was told to end nothing goes on.
    fn end(mut self) -> (Deck, Vec<Sample>) {
        self.console.press("q");
        assert!(self.console.end(), "{}", self.console.text());
        let known = self.deck.view.services.iter().flat_map(|it| &it.instances);
        let mut known: Vec<_> = known.filter_map(|it| Some((it.name.clone(), it.pid?))).collect();
        known.sort();
        assert_eq!(self.deck.marked(), known, "{}", self.deck.story());
        self.compare();
        self.deck.ok(&["shutdown"]);
        self.deck.wait_end();
        wait_until("nothing is left", || self.deck.marked().is_empty());
        (self.deck, self.samples)
    }
}

/// From its first line on.
fn follow(deck: &Deck, name: &str) -> Following {
    Following::start(deck.command(&["logs", "-f", "-n", "1000000", name]))
}

fn is_at_rest(deck: &View) -> bool {
    let Some(web) = deck.services.iter().find(|it| it.name == "web") else { return false };
    let all = deck.services.iter().flat_map(|it| &it.instances);
    web.gateway.as_ref().is_some_and(|it| it.up)
        && web.rollout.as_ref().is_none_or(|it| it.ended.is_some())
        && web.instances.iter().all(|it| it.in_rotation)
        && all.clone().all(|it| it.state == State::Running)
}

/// Clients of the gateway until they are asked for their result.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn load(soak: &Soak, method: &str, clients: &str, interval: &str) -> Load {
    let url = format!("http://127.0.0.1:{}/", soak.fleet.ports[0]);
    let mut command = soak.deck.command(&["load", &url, "-c", clients, "--json"]);
    command.args(["--method", method, "--mixed-connections", "--interval", interval]);
    Load(command.stdout(Stdio::piped()).spawn().unwrap())
}

fn report(mut load: Load) -> Value {
    kill(i32::try_from(load.0.id()).unwrap(), Signal::SIGINT);
    support::ended(&mut load.0);
    serde_json::from_reader(load.0.stdout.take().unwrap()).unwrap()
}

/// Every generation numbers its lines from 1.
fn lines_in_order(deck: &Deck) -> usize {
    let text = std::fs::read_to_string(deck.path().join("state/logs/chat.log")).unwrap();
    let mut last = 0;
    for (at, line) in text.lines().enumerate() {
        if line.ends_with("takes jobs") {
            last = 0;
        } else if let Some(n) = line.strip_prefix("job ").and_then(|it| it.split(' ').next()) {
            last += 1;
            assert_eq!(n.parse(), Ok(last), "line {} of chat: {line:?}\n{}", at + 1, deck.story());
        }
    }
    text.lines().count()
}

fn median(of: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<_> = of.collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// The second and the last fifth of the rounds in which nobody replaced it.
#[track_caller]
fn is_flat(samples: &[Sample], who: usize) {
    let fifth = samples.len().div_ceil(5);
    let (early, late) = (&samples[fifth..2 * fifth], &samples[samples.len() - fifth..]);
    let of = |part: &[Sample], what: fn(Held) -> u64| median(part.iter().map(|it| what(it[who])));
    for (what, held, more) in [
        ("KiB", (|it| it.own_kib) as fn(Held) -> u64, MORE_KIB + of(early, |it| it.own_kib) / 10),
        ("descriptors", |it| it.descriptors, MORE_DESCRIPTORS),
    ] {
        let (before, after) = (of(early, held), of(late, held));
        let all: Vec<_> = samples.iter().map(|it| held(it[who])).collect();
        assert!(after <= before + more, "{}: {before} {what}, then {after}: {all:?}", WHO[who]);
    }
}

fn print(samples: &[Sample]) {
    let last = samples.len() - 1;
    for at in [0, last / 4, last / 2, last * 3 / 4, last] {
        let parts = WHO.iter().zip(samples[at]).map(|(who, it)| {
            let Held { own_kib, pss_kib, descriptors } = it;
            format!("{who} {own_kib} KiB own, {pss_kib} PSS, {descriptors} descriptors")
        });
        println!("after round {}: {}", at + 1, parts.collect::<Vec<_>>().join("; "));
    }
}

#[test]
fn after_everything_that_happens_all_that_grew_is_the_journal() {
    let time = std::env::var("OPSDECK_SOAK").ok().and_then(|it| it.parse().ok());
    let time = time.map(Duration::from_secs);
    let began = Instant::now();
    let mut soak = Soak::begin();
    let interval = if time.is_some() { "200ms" } else { "50ms" };
    let (gets, posts) = (load(&soak, "get", "3", interval), load(&soak, "post", "2", interval));
    let goes_on = |rounds: usize, short: usize, part: u32| match time {
        Some(time) => began.elapsed() < time * part / 4,
        None => rounds < short,
    };
    while goes_on(soak.samples.len(), SHORT[0], 1) {
        soak.round(true);
    }
    while goes_on(soak.samples.len(), SHORT[0] + SHORT[1], 4) {
        soak.round(false);
        if time.is_some() {
            // For those who work on the same machine.
            std::thread::park_timeout(Duration::from_secs(5));
        }
    }
    let (killed, settled) = (soak.killed, soak.settled);
    let [gets, posts] = [gets, posts].map(report);
    let made = soak.deck.view.services.iter().find_map(|it| it.gateway.clone()).unwrap();
    let (deck, samples) = soak.end();
    print(&samples);
    println!(
        "{} rounds, the first {settled} of them deadly, {:?}; {} GET and {} POST, {} of these cut by {killed} kills; \
         {} lines in order",
        samples.len(),
        began.elapsed(),
        gets["requests"],
        posts["requests"],
        posts["failed"],
        lines_in_order(&deck)
    );
    assert_eq!(gets["failed"], 0, "{gets:#}\n{}", deck.story());
    // What is not sent twice fails when its instance is killed, and is told of.
    let cut = posts["failed"].as_u64().unwrap();
    assert!(cut <= made.made_502 && cut <= 2 * killed, "{posts:#}\n{made:#?}\n{}", deck.story());
    for (who, from) in [(0, settled), (1, settled), (2, 0), (3, 0)] {
        is_flat(&samples[from..], who);
    }
}
