//! How many turns a second a fleet of a thousand services takes.
//!
//! Prints figures and never fails: what is fast enough is for the reader to say, on the reader's machine.
//! Run it with `cargo bench --bench fleet`.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use opsdeck::fleet::input::{Effect, Exit, InFlight, Input, OutOfMemory, Status};
use opsdeck::fleet::{Fleet, Name, Process, Signal, Timestamp};

const SERVICES: usize = 1000;
const ROUNDS: u32 = 20;

fn main() {
    let mut host = Host::new();
    let started = host.measure("start", |host| host.turn(Input::Begin));
    assert!(started >= SERVICES, "everything is started");
    host.measure("measure the load", |host| host.feed(load, ROUNDS));
    host.measure("crash, sweep, start again", |host| {
        // Beyond `stable_after`, so that every crash is the first.
        host.now = host.now + Duration::from_secs(120);
        host.feed(crash, 1)
    });
    host.measure("look at everything", |host| {
        let seen = |name: &Name| host.fleet.service_sheet(name.as_str()).is_some();
        host.names.iter().filter(|it| seen(it)).count()
    });
}

/// A host on which everything works at once.
struct Host {
    fleet: Fleet,
    names: Vec<Name>,
    now: Timestamp,
}

impl Host {
    fn new() -> Self {
        let mut text = String::new();
        for n in 0..SERVICES {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "[service.s{n}]\ncommand = \"/bin/server {n}\"\n");
        }
        let settings = opsdeck::config::parse("bench.toml", &text);
        let Ok(settings) = settings else { unreachable!("the text above is a configuration") };
        let rules: Vec<_> = settings.services.into_iter().map(|it| it.rules).collect();
        let names = rules.iter().map(|it| it.name.clone()).collect();
        let mut fleet = Fleet::new(1);
        let now = Timestamp(Duration::from_secs(1000));
        fleet.handle(now, Input::Configured(rules));
        Self { fleet, names, now }
    }

    /// Prints how fast `work` was; it returns its number of turns.
    fn measure(&mut self, what: &str, work: impl FnOnce(&mut Self) -> usize) -> usize {
        let began = now();
        let turns = work(self);
        let took = now().duration_since(began);
        #[expect(clippy::cast_precision_loss, reason = "a count of turns")]
        let each = took.as_secs_f64() * 1e6 / turns.max(1) as f64;
        println!("{what:<28} {turns:>7} turns  {each:>8.2} µs each  {:>9.0} a second", 1e6 / each);
        turns
    }

    /// Gives every instance this input so many times, and answers whatever the fleet asks for.
    fn feed(&mut self, input: impl Fn(&Name) -> Input, rounds: u32) -> usize {
        let mut turns = 0;
        for _ in 0..rounds {
            for name in self.names.clone() {
                turns += self.turn(input(&name));
            }
            self.fleet.take_changed();
        }
        turns
    }

    fn turn(&mut self, input: Input) -> usize {
        let mut turns = 1;
        let mut effects = self.fleet.handle(self.now, input);
        while let Some(effect) = effects.pop() {
            if let Some(answer) = Self::answer(effect) {
                turns += 1;
                effects.extend(self.fleet.handle(self.now, answer));
            }
        }
        turns
    }

    fn answer(effect: Effect) -> Option<Input> {
        match effect {
            Effect::Spawn { instance, generation } => {
                let process = Process { pid: 1000, start_time: generation };
                Some(Input::Spawned { instance, generation, process })
            }
            Effect::Sweep { instance, generation } => {
                Some(Input::Swept { instance, generation, killed: vec![] })
            }
            _ => None,
        }
    }
}

fn load(name: &Name) -> Input {
    Input::Load { instance: name.clone(), in_flight: InFlight::Estimated(3) }
}

fn crash(name: &Name) -> Input {
    let exit = Exit { status: Status::Signal(Signal::KILL), out_of_memory: OutOfMemory::No };
    Input::Exited { instance: name.clone(), generation: 1, exit }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
