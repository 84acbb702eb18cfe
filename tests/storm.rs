//! `kill -9` of the daemon at any moment, again and again, while everything goes on.
//!
//! Twenty instances number their lines, others crash all the time, a service is rolled, and somebody
//! starts, stops, restarts and signals. After each death there is another daemon, often one that dies while
//! it begins. In the end nothing runs twice, nothing runs that nobody knows, no line is missing or there
//! twice, nobody got a signal twice, what was ordered is the case, and no rollout hangs.
//!
//! `OPSDECK_STORM` is how often the daemon dies (12), `OPSDECK_STORM_SEED` where chance begins.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "a random moment is waited for")]
#![expect(clippy::print_stdout, reason = "what is needed to repeat it, and the counts")]

mod support;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opsdeck::api::{Act, Deck as View, Event, Goal, InstanceVerb, Request, ServiceVerb, State};
use serde_json::Value;
use support::{Deck, find, free_port, is_alive, kill, pause, wait_until};

/// One that is asked to stop says so, at once or after a moment.
const SERVICES: &str = r#"
    [defaults]
    start_seconds = "50ms"
    max_wait_time = "20s"
    backoff = { min = "50ms", max = "200ms" }
    rollout = { settle = "50ms", ready_timeout = "60s" }
    [service.web]
    command = "opsdeck sample --worker --print-every 20ms --work 0s"
    instance = { web1 = {}, web2 = {}, web3 = {}, web4 = {}, web5 = {}, web6 = {} }
    [service.bulk]
    command = "opsdeck sample --worker --print-every 20ms --work 10ms"
    instance = { b01 = {}, b02 = {}, b03 = {}, b04 = {}, b05 = {}, b06 = {}, b07 = {}, b08 = {}, b09 = {}, b10 = {}, b11 = {}, b12 = {}, b13 = {}, b14 = {} }
    [service.flappy]
    command = "opsdeck sample --worker --print-every 20ms --work 0s --crash-after 300ms"
    instance = { f1 = {}, f2 = {} }
"#;

/// Bystanders whom nobody may signal.
const STRANGERS: usize = 3;

/// splitmix64: the same storm for the same seed, as far as the machine is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// What was ordered of each instance; `None`: a daemon died over it.
type Books = BTreeMap<String, Option<Goal>>;

struct Storm {
    deck: Deck,
    dice: Dice,
    books: Books,
    /// How often each instance was sent SIGUSR1, at most.
    signals: BTreeMap<String, usize>,
}

impl Storm {
    /// Does something, and notes what must follow from it.
    fn act(&mut self, unheard: bool) -> Option<JoinHandle<()>> {
        let name = format!("b{:02}", 1 + self.dice.roll(14));
        let instance = |verb, act| Request::Instance { name: name.clone(), verb, act };
        let (request, goal) = match self.dice.roll(10) {
            0..3 => (instance(InstanceVerb::Stop, Act::default()), Some(Goal::Down)),
            3..6 => (instance(InstanceVerb::Start, Act::default()), Some(Goal::Up)),
            // What was stopped is started by it.
            6 => (instance(InstanceVerb::Restart, Act::default()), Some(Goal::Up)),
            7 => {
                *self.signals.entry(name.clone()).or_default() += 1;
                let act = Act { signal: Some("SIGUSR1".into()), ..Act::default() };
                (instance(InstanceVerb::Signal, act), None)
            }
            _ => {
                let (name, act) = ("web".to_owned(), Act::default());
                (Request::Service { name, verb: ServiceVerb::Roll, act }, None)
            }
        };
        if unheard {
            let client = self.deck.client();
            if goal.is_some() {
                self.books.insert(name, None);
            }
            // The daemon dies meanwhile: who knows what it heard.
            return Some(std::thread::spawn(move || drop(client(&request))));
        }
        if self.deck.send(&request).is_ok()
            && let Some(goal) = goal
        {
            self.books.insert(name, Some(goal));
        }
        None
    }

    fn let_pass(&mut self, most: Duration) {
        let until = Instant::now()
            + Duration::from_micros(self.dice.roll(u64::try_from(most.as_micros()).unwrap()));
        while Instant::now() < until {
            pause();
        }
    }

    /// Something happens, then the daemon is dead, and another one is there.
    fn strike(&mut self) {
        for _ in 0..self.dice.roll(4) {
            self.act(false);
        }
        self.let_pass(Duration::from_millis(150));
        let unheard = self.act(true);
        self.let_pass(Duration::from_millis(3));
        kill(self.deck.daemon_pid(), Signal::SIGKILL);
        unheard.unwrap().join().unwrap();
        while self.dice.roll(3) == 0 {
            // One that dies while it begins.
            let time = Duration::from_micros(self.dice.roll(120_000));
            self.deck.begin_and_die(time);
        }
        self.deck.restart_daemon(|_| ());
        self.no_two_of_anything();
    }

    /// The mark in its environment says whose process it is.
    fn no_two_of_anything(&self) {
        let mut all: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (name, pid) in self.deck.marked() {
            all.entry(name).or_default().push(pid);
        }
        // Between the look at one and the look at the other, one may have taken the other's place.
        let twice = |it: &(&String, &Vec<i32>)| it.1.iter().filter(|it| is_alive(**it)).count() > 1;
        let twice: Vec<_> = all.iter().filter(twice).collect();
        assert!(twice.is_empty(), "{twice:?}\n{}", self.deck.story());
    }

    /// Everything that was ordered is the case.
    fn is_at_rest(deck: &View, books: &Books) -> bool {
        let as_ordered = books.iter().all(|(name, goal)| {
            let it = find(deck, name).unwrap();
            let goal = goal.unwrap_or(it.goal);
            it.goal == goal
                && match goal {
                    Goal::Up => it.state == State::Running,
                    Goal::Down => it.state == State::Stopped,
                }
        });
        let web = deck.services.iter().find(|it| it.name == "web").unwrap();
        let rolls = web.rollout.as_ref().is_some_and(|it| it.ended.is_none());
        as_ordered && !rolls && web.instances.iter().all(|it| it.state == State::Running)
    }

    /// What the daemon knows is all there is.
    fn no_orphans(&mut self) {
        self.deck.ok(&["stop", "flappy"]);
        for name in ["f1", "f2"] {
            self.deck.wait_state(name, State::Stopped);
        }
        let known = |deck: &View| -> BTreeMap<String, i32> {
            let all = deck.services.iter().flat_map(|it| &it.instances);
            all.filter_map(|it| Some((it.name.clone(), it.pid?))).collect()
        };
        let found = self.deck.marked();
        let known: Vec<_> = known(&self.deck.view).into_iter().collect();
        assert_eq!(found, known, "{}", self.deck.story());
    }

    /// Every generation numbers its lines from 1; says how many there are.
    fn lines(&self, name: &str) -> usize {
        let path = self.deck.path().join(format!("state/logs/{name}.log"));
        let text = std::fs::read_to_string(path).unwrap();
        let story = |at: usize, what: &str| {
            let lines: Vec<_> = text.lines().skip(at.saturating_sub(5)).take(9).collect();
            format!("{name}, line {}: {what}: {lines:#?}\n{}", at + 1, self.deck.story())
        };
        let (mut last, mut terms, mut reloads) = (0, 0, 0);
        for (at, line) in text.lines().enumerate() {
            if line.ends_with("takes jobs") {
                (last, terms) = (0, 0);
            } else if line.starts_with("SIGTERM") || line.starts_with("stopped: no job") {
                terms += 1;
                assert_eq!(terms, 1, "{}", story(at, "told to end twice"));
            } else if line == "reloaded" {
                reloads += 1;
            } else if let Some(n) = line.strip_prefix("job ").and_then(|it| it.split(' ').next()) {
                let n: u64 = n.parse().unwrap_or(0);
                assert_eq!(n, last + 1, "{}", story(at, "not the next"));
                last = n;
            } else {
                assert!(name.starts_with('f'), "{}", story(at, "what is that"));
            }
        }
        let most = self.signals.get(name).copied().unwrap_or(0);
        assert!(reloads <= most, "{name} was signalled {reloads} times instead of {most}");
        text.lines().count()
    }
}

/// None of our business.
fn stranger() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

#[test]
fn whenever_the_daemon_is_killed_nothing_is_lost_doubled_or_forgotten() {
    let (times, seed) = (number_of("OPSDECK_STORM", 12), number_of("OPSDECK_STORM_SEED", 20_261));
    println!("the daemon dies {times} times, seed {seed}");
    let mut strangers: Vec<_> = (0..STRANGERS).map(|_| stranger()).collect();
    let deck = Deck::start(SERVICES);
    let books = (1..=14).map(|n| (format!("b{n:02}"), Some(Goal::Up))).collect();
    let mut storm = Storm { deck, dice: Dice(seed), books, signals: BTreeMap::new() };
    storm.deck.wait_ready(&["web1", "web6", "b01", "b14"]);
    for n in 0..times {
        storm.strike();
        if n % 10 == 9 {
            println!("{} of {times}", n + 1);
        }
    }
    let books = storm.books.clone();
    storm.deck.wait("everything as ordered", |it, _| {
        !it.services.is_empty() && Storm::is_at_rest(it, &books)
    });
    storm.no_orphans();
    storm.deck.ok(&["shutdown"]);
    storm.deck.wait_end();
    wait_until("nothing is left", || storm.deck.marked().is_empty());

    let names = (1..=6).map(|n| format!("web{n}")).chain(books.into_keys());
    let lines: usize = names.chain(["f1".into(), "f2".into()]).map(|it| storm.lines(&it)).sum();
    let journal = std::fs::read_to_string(storm.deck.path().join("state/journal.jsonl")).unwrap();
    let late = journal.matches("max_wait_time was over").count();
    println!("{lines} lines in order; {late} ended by SIGKILL");
    for it in &mut strangers {
        assert_eq!(it.try_wait().unwrap(), None, "a stranger was ended");
        it.kill().unwrap();
        it.wait().unwrap();
    }
}

/// Four clients, kept connections and others, GET and POST, until they are asked for their result.
fn clients(deck: &Deck, port: u16) -> Child {
    let url = format!("http://127.0.0.1:{port}/");
    let mut command = deck.command(&["load", &url, "-c", "4", "--interval", "5ms", "--json"]);
    command.args(["--method", "mixed", "--mixed-connections"]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// The same with a gateway in front: a rolling restart that goes on under one daemon after the other.
#[test]
fn whenever_the_daemon_is_killed_no_request_fails() {
    let times = number_of("OPSDECK_STORM_GATEWAY", 6);
    let mut dice = Dice(number_of("OPSDECK_STORM_SEED", 20_261));
    let [entry, one, two, three] = [free_port(), free_port(), free_port(), free_port()];
    let mut deck = Deck::start(&format!(
        r#"[service.web]
        command = "opsdeck sample --port {{port}} --work 20ms"
        instance = {{ web1 = {{ port = {one} }}, web2 = {{ port = {two} }}, web3 = {{ port = {three} }} }}
        probe.readiness = {{ http.path = "/readiness", period = "100ms" }}
        rollout = {{ settle = "50ms" }}
        max_wait_time = "30s"
        [gateway.shop]
        service = "web"
        listen = "127.0.0.1:{entry}""#
    ));
    let all_serve = |deck: &View, _: &[Event]| {
        let Some(web) = deck.services.first() else { return false };
        let up = web.gateway.as_ref().is_some_and(|it| it.up);
        up && web.instances.iter().all(|it| it.in_rotation)
    };
    deck.wait("all in rotation", all_serve);
    let mut clients = clients(&deck, entry);
    for _ in 0..times {
        let (name, act) = ("web".to_owned(), Act::default());
        // One that is under way goes on.
        let _ = deck.send(&Request::Service { name, verb: ServiceVerb::Roll, act });
        let until = Instant::now() + Duration::from_millis(dice.roll(600));
        while Instant::now() < until {
            pause();
        }
        deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    }
    deck.wait("the rolling restart over, and all in rotation", |deck, events| {
        let over = |it: &View| it.services[0].rollout.as_ref().is_none_or(|it| it.ended.is_some());
        !deck.services.is_empty() && over(deck) && all_serve(deck, events)
    });
    kill(i32::try_from(clients.id()).unwrap(), Signal::SIGINT);
    support::ended(&mut clients);
    let report: Value = serde_json::from_reader(clients.stdout.take().unwrap()).unwrap();
    assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
    println!("{} requests, none failed", report["requests"]);
}
