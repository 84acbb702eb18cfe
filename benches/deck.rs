//! What the deck costs over a thousand services with four instances each, of which two hundred change every second.
//!
//! A minute of the deck's life, as fast as it goes: lines of the watch stream are read and applied, a key is pressed
//! every tenth of a second, and a frame is made at most every 33 ms. Prints how long a key takes to its frame, how
//! much of a core all of it needs, and how many bytes a second go to the terminal. Prints figures and never fails:
//! what is fast enough is for the reader to say, on the reader's machine. Run it with `cargo bench --bench deck`.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use opsdeck::api::{Change, Deck, Instance, Role, Service, State};
use opsdeck::tui::key::Key;
use opsdeck::tui::model::{Model, Now};
use opsdeck::tui::screen::Screen;
use opsdeck::tui::theme::Theme;
use opsdeck::tui::update::{Msg, update};

const SERVICES: usize = 1000;
const INSTANCES: usize = 4;
/// Of the deck's life.
const SECONDS: u64 = 60;
/// Between two changes, two keys, two frames.
const CHANGE: u64 = 5;
const KEY: u64 = 100;
const FRAME: u64 = 33;

fn main() {
    for (what, keys) in [
        ("as in the file", &["j", "k", "pgdn", "pgup", "G", "g"][..]),
        ("sorted by CPU", &["j", "pgdn", "G", "g", "k"][..]),
        ("filtered", &["j", "k", "pgdn", "pgup"][..]),
    ] {
        let mut life = Life::new();
        match what {
            "sorted by CPU" => (0..3).for_each(|_| life.press("o")),
            "filtered" => {
                ["/", "c", "p", "u", ">", "5", "0", "enter"].iter().for_each(|it| life.press(it));
            }
            _ => (),
        }
        life.live(keys);
        life.tell(what);
    }
}

/// One deck, by the milliseconds of its own time.
struct Life {
    model: Model,
    screen: Screen,
    services: Vec<Service>,
    ms: u64,
    bytes: usize,
    /// Time of the processor for reading lines, for applying them, for keys and frames.
    busy: [Duration; 3],
    keys: Vec<Duration>,
    random: u64,
}

impl Life {
    fn new() -> Self {
        let services: Vec<Service> = (0..SERVICES).map(service).collect();
        let model = Model::new(Theme::new(false, false), TimeZone::UTC, "root".into(), false);
        let (keys, random) = (vec![], 0x9e37_79b9_7f4a_7c15);
        let screen = Screen::default();
        let mut life = Self {
            model,
            screen,
            services,
            ms: 0,
            bytes: 0,
            busy: [Duration::ZERO; 3],
            keys,
            random,
        };
        let deck = Deck {
            deck: "bench".into(),
            role: Role::Operator,
            services: life.services.clone(),
            ..Deck::default()
        };
        let snapshot = Change::Snapshot { deck: Box::new(deck), events: vec![] };
        life.send(Msg::Change(Box::new(snapshot)));
        life
    }

    fn now(&self) -> Now {
        let wall = Timestamp::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let mono = Duration::from_millis(self.ms);
        Now { mono, wall: wall + mono }
    }

    fn send(&mut self, msg: Msg) {
        let now = self.now();
        drop(update(&mut self.model, now, msg));
    }

    fn press(&mut self, key: &str) {
        if let Some(key) = Key::parse(key) {
            self.send(Msg::Keys(vec![key]));
        }
    }

    fn live(&mut self, keys: &[&str]) {
        for ms in 1..=SECONDS * 1000 {
            self.ms = ms;
            if ms % CHANGE == 0 {
                let line = self.change();
                let began = now();
                let change = serde_json::from_str(&line);
                let read = now();
                // It was written by the same types.
                if let Ok(change) = change {
                    self.send(Msg::Change(Box::new(change)));
                }
                self.busy[0] += read - began;
                self.busy[1] += now() - read;
            }
            if ms % KEY == 50 {
                let nth = usize::try_from(ms / KEY).unwrap_or(0);
                let began = now();
                self.press(keys[nth % keys.len()]);
                self.draw();
                self.keys.push(now() - began);
                self.busy[2] += now() - began;
            } else if ms % FRAME == 0 {
                let began = now();
                self.draw();
                self.busy[2] += now() - began;
            }
        }
    }

    fn draw(&mut self) {
        let now = self.now();
        self.bytes += self.screen.frame(&self.model, now).len();
    }

    /// A line of the watch stream: one service with other figures.
    fn change(&mut self) -> String {
        let nth = usize::try_from(self.below(SERVICES as u64)).unwrap_or(0);
        let (cpu, memory, state) = (self.below(10_000), self.below(1 << 30), self.below(20));
        let it = &mut self.services[nth].instances[nth % INSTANCES];
        it.cpu_percent = u32::try_from(cpu).map(|it| f64::from(it) / 100.0).ok();
        it.memory_bytes = Some(memory);
        it.state = if state == 0 { State::Backoff } else { State::Running };
        let change = Change::Change {
            revision: self.ms,
            now: self.now().wall,
            services: vec![self.services[nth].clone()],
            removed: vec![],
            events: vec![],
            config: None,
            notices: None,
        };
        serde_json::to_string(&change).unwrap_or_default()
    }

    /// xorshift64.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn tell(&mut self, what: &str) {
        self.keys.sort();
        let at = |percent: usize| self.keys[(self.keys.len() - 1) * percent / 100];
        let life = Duration::from_secs(SECONDS).as_secs_f64();
        let [read, applied, drawn] = self.busy.map(|it| it.as_secs_f64() / life * 100.0);
        let bytes = self.bytes as u64 / SECONDS;
        println!(
            "{what:14} key to frame p50 {:?}, p99 {:?}, most {:?}; {:.2} % of a core ({read:.2} reading, \
             {applied:.2} applying, {drawn:.2} drawing); {bytes} bytes a second",
            at(50),
            at(99),
            at(100),
            read + applied + drawn,
        );
    }
}

fn service(n: usize) -> Service {
    let name = format!("service{n:04}");
    let instance = |at: usize| Instance {
        name: format!("{name}-{at}"),
        service: name.clone(),
        state: State::Running,
        pid: i32::try_from(10_000 + n * INSTANCES + at).ok(),
        start_time: Some(1),
        port: u16::try_from(10_000 + n * INSTANCES + at).ok(),
        live: Some(true),
        ready: Some(true),
        cpu_percent: Some(1.0),
        memory_bytes: Some(1 << 26),
        started: Some(Timestamp::UNIX_EPOCH),
        since: Some(Timestamp::UNIX_EPOCH),
        why: "all probes pass".into(),
        ..Instance::default()
    };
    let wanted = u32::try_from(INSTANCES).unwrap_or(0);
    Service {
        name: name.clone(),
        engine: "local".into(),
        profile: "generic".into(),
        state: State::Running,
        ready: wanted,
        wanted,
        instances: (0..INSTANCES).map(instance).collect(),
        ..Service::default()
    }
}

/// Time of the processor that this thread had: others on the machine do not count.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
