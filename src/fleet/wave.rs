//! A signal to a whole service, instance by instance.
//!
//! The next one gets it only when the last one is ready: by a pass of its readiness probe after the
//! signal, or, without a probe, by running on for `start_seconds`. Where the service wants it
//! (`reload.drain`), each one is out of rotation around the signal, which waits until nothing is in
//! flight there, as long as the drain of a stop may take; and it is taken out only while enough others
//! serve.

use std::collections::VecDeque;
use std::time::Duration;

use super::exits::{self, Signalled};
use super::fleet::Fleet;
use super::guard::meaning;
use super::instance::{Instance, Phase};
use super::ladder::Traffic;
use super::memory::Round;
use super::roster::Named;
use super::time::Timestamp;
use super::turn::{Turn, span};
use super::words::{By, Name, Process, Signal};
use crate::quantity::count;

/// Between two looks whether a reload that takes long is over.
const ONCE_MORE: Duration = Duration::from_secs(1);

pub(super) struct Wave {
    pub(super) by: By,
    pub(super) signal: Signal,
    /// Each one is taken out of rotation first, and put back when it is ready again.
    pub(super) drains: bool,
    /// What it does there, if the profile says so.
    does: Option<String>,
    harmless: bool,
    /// It was ordered although the last ready instance would go.
    pub(super) forced: bool,
    /// With the process that was looked at: one that was started since has nothing to reload, and may
    /// not catch the signal yet.
    queue: VecDeque<(Name, Process)>,
    /// Until when the next one may wait to be spared.
    patience: Option<Timestamp>,
    draining: Option<Draining>,
    watched: Option<Watched>,
}

/// The instance that is out of rotation and has not got the signal yet.
struct Draining {
    name: Name,
    process: Process,
    since: Timestamp,
    wakes_at: Timestamp,
}

/// What a wave does next.
enum Flow {
    /// It looks again in this turn.
    On,
    Waits,
    Over,
}

/// The instance that got the signal last.
pub(super) struct Watched {
    name: Name,
    generation: u64,
    since: Timestamp,
    wakes_at: Timestamp,
    give_up: Timestamp,
}

impl Wave {
    /// A signal to these, in this order; there is at least one.
    pub(super) fn new(by: By, signal: Signal, to: &[&Instance], forced: bool) -> Self {
        let meaning = to.first().and_then(|it| meaning(it, signal));
        Self {
            by,
            signal,
            drains: to.iter().any(|it| it.drains_for(signal)),
            does: meaning.map(|it| it.does.clone()),
            harmless: meaning.is_some_and(|it| it.harmless),
            forced,
            queue: to.iter().filter_map(|it| Some((it.name().clone(), it.process()?))).collect(),
            patience: None,
            draining: None,
            watched: None,
        }
    }

    /// What the next daemon has to know.
    pub(super) fn round(&self) -> Round {
        let draining = self.draining.iter().map(|it| (it.name.clone(), it.process));
        Round {
            by: self.by.clone(),
            signal: self.signal,
            forced: self.forced,
            left: draining.chain(self.queue.iter().cloned()).collect(),
            last: self.watched.as_ref().map(|it| it.name.clone()),
        }
    }

    /// One of the last daemon, to these that are there. Whoever got the signal last is waited for once
    /// more: its probes begin anew.
    pub(super) fn recalled(round: Round, to: &[&Instance], now: Timestamp) -> Self {
        let last = to.iter().find(|it| Some(it.name()) == round.last.as_ref());
        Self {
            queue: round.left.into(),
            watched: last.map(|it| Watched::from(it, now)),
            ..Self::new(round.by, round.signal, to, round.forced)
        }
    }

    /// Who gets the signal still.
    pub(super) fn left(&self) -> usize {
        self.queue.len() + usize::from(self.draining.is_some())
    }

    fn rest(&self) -> String {
        match self.queue.len() {
            0 => "it was the last".into(),
            n => format!("{n} more did not get it"),
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let watched = self.watched.as_ref().map(|it| it.wakes_at);
        let draining = self.draining.as_ref().map(|it| it.wakes_at);
        [watched, draining, self.patience].into_iter().flatten().min()
    }
}

impl Instance {
    /// Its service wants this signal sent only to who has drained.
    pub(super) fn drains_for(&self, signal: Signal) -> bool {
        let rules = &self.rules;
        rules.reload_drain && rules.fronted && rules.profile.reload == Some(signal)
    }

    /// When a drain for a reload is over: as that of a stop, except that nobody is killed at its end.
    fn reload_drain_ends(&self, since: Timestamp) -> Timestamp {
        let latest = since + self.rules.max_wait_time.saturating_sub(self.rules.reserve);
        match self.traffic() {
            _ if !self.rules.fronted => since,
            Traffic::Counted(0) => since,
            Traffic::Counted(_) | Traffic::Coming => latest,
            Traffic::Unknown => latest.min(since + self.rules.drain_delay),
        }
    }

    fn keep_out_for_reload(&mut self, turn: &mut Turn, out: bool, by: &By, words: &str) {
        if let Phase::Up(body) = &mut self.phase
            && body.reloading != out
        {
            body.reloading = out;
            self.say(turn, "reload", Some(by), words);
        }
    }
}

impl Watched {
    fn from(instance: &Instance, since: Timestamp) -> Self {
        let rules = &instance.rules;
        let timeout = rules.rollout.ready_timeout;
        let soon = if rules.readiness.is_none() { rules.start_seconds } else { timeout };
        let (wakes_at, give_up) = (since + soon.min(timeout), since + timeout.max(soon));
        let (name, generation) = (instance.name().clone(), instance.generation);
        Self { name, generation, since, wakes_at, give_up }
    }

    fn has_come_through(&self, now: Timestamp, instance: &Instance) -> bool {
        let Some(body) = instance.up() else { return false };
        let fresh = match instance.rules.readiness {
            Some(_) => body.health.readiness.has_passed_since(self.since),
            None => now >= self.since + instance.rules.start_seconds,
        };
        fresh && instance.is_ready() && !instance.is_under_reload()
    }
}

impl Fleet {
    /// Hands the signal on as far as it goes in this turn.
    pub(super) fn ripple(&mut self, service: &Name, turn: &mut Turn) {
        let Some(mut wave) = self.services.get_mut(service).and_then(|it| it.wave.take()) else {
            return;
        };
        let goes_on = loop {
            if self.has_ended_it(service, &wave, turn) {
                self.put_back(&mut wave, turn);
                break false;
            }
            if !self.is_through(&mut wave, turn) {
                let over = self.has_timed_out(service, &wave, turn);
                if over {
                    self.put_back(&mut wave, turn);
                }
                break !over;
            }
            self.put_back(&mut wave, turn);
            match self.pass(service, &mut wave, turn) {
                Flow::On => {}
                Flow::Waits => break true,
                Flow::Over => break false,
            }
        };
        if let Some(it) = self.services.get_mut(service)
            && goes_on
        {
            it.wave = Some(wave);
        }
    }

    /// One step, where nobody has to be waited for any more.
    fn pass(&mut self, service: &Name, wave: &mut Wave, turn: &mut Turn) -> Flow {
        if let Some(draining) = &mut wave.draining {
            if !self.has_drained(draining, turn.now) {
                return Flow::Waits;
            }
            let Some(it) = wave.draining.take() else { return Flow::On };
            self.tell_what_did_not_end(wave, &it, turn);
            self.hand_on(wave, it.name, it.process, turn);
            return Flow::On;
        }
        let Some((name, process)) = wave.queue.front().cloned() else {
            let message = format!("{} went through {service}", wave.signal);
            turn.say(service, "signal-finished", Some(&wave.by), message);
            return Flow::Over;
        };
        let is_there = self.instances.get(&name).and_then(Instance::up);
        let drains = wave.drains && is_there.is_some_and(|it| it.process == process);
        if drains && !wave.forced && !self.can_spare(service, &name) {
            return self.be_patient(service, wave, &name, turn);
        }
        wave.patience = None;
        wave.queue.pop_front();
        if drains {
            let words = format!("out of rotation for {}", wave.signal);
            let by = wave.by.clone();
            self.touch(&name, turn, |it, turn| it.keep_out_for_reload(turn, true, &by, &words));
            let since = turn.now;
            wave.draining = Some(Draining { name, process, since, wakes_at: since });
        } else {
            self.hand_on(wave, name, process, turn);
        }
        Flow::On
    }

    /// Enough others serve.
    fn can_spare(&self, service: &Name, name: &Name) -> bool {
        let members = self.members(service, None);
        let place = members.iter().position(|it| it.name == *name);
        place.is_none_or(|at| self.can_do_without(service, &members, at))
    }

    /// Waits for others to serve, as long as one of them may take to be ready.
    fn be_patient(&self, service: &Name, wave: &mut Wave, name: &Name, turn: &mut Turn) -> Flow {
        let timeout = self.instances.get(name).map(|it| it.rules.rollout.ready_timeout);
        let timeout = timeout.unwrap_or_default();
        if turn.now < *wave.patience.get_or_insert(turn.now + timeout) {
            return Flow::Waits;
        }
        let message = format!(
            "{} went no further: {name} could not be spared within {}; {} did not get it",
            wave.signal,
            span(timeout),
            count(wave.queue.len() as u64, "instance"),
        );
        turn.say(service, "signal-halted", Some(&wave.by), message);
        Flow::Over
    }

    fn has_drained(&self, draining: &mut Draining, now: Timestamp) -> bool {
        let instance = self.instances.get(&draining.name);
        let same = |it: &&Instance| it.up().is_some_and(|it| it.process == draining.process);
        // What has ended meanwhile gets no signal, and nobody waits for it.
        let Some(instance) = instance.filter(same) else { return true };
        draining.wakes_at = instance.reload_drain_ends(draining.since);
        now >= draining.wakes_at
    }

    /// Requests that outlasted the drain are named: the reload may cut them.
    fn tell_what_did_not_end(&self, wave: &Wave, draining: &Draining, turn: &mut Turn) {
        let Some(it) = self.instances.get(&draining.name).filter(|it| it.is_reloading()) else {
            return;
        };
        let after = span(turn.now.since(draining.since));
        let what = match it.traffic() {
            Traffic::Counted(0) | Traffic::Unknown => return,
            Traffic::Counted(n) => format!("{} still in flight", count(n.into(), "request")),
            Traffic::Coming => "the gateway has not confirmed that it is out of rotation".into(),
        };
        let message = format!("{what} after {after}: {} goes out all the same", wave.signal);
        it.say(turn, "drain-over", Some(&wave.by), message);
    }

    /// Whoever got the signal last goes back into rotation.
    fn put_back(&mut self, wave: &mut Wave, turn: &mut Turn) {
        if let Some(watched) = wave.watched.take()
            && wave.drains
        {
            self.touch(&watched.name, turn, |it, turn| {
                it.keep_out_for_reload(turn, false, &wave.by, "no longer kept out of rotation");
            });
        }
    }

    /// Nobody has to be waited for.
    fn is_through(&self, wave: &mut Wave, turn: &Turn) -> bool {
        let Some(watched) = &mut wave.watched else { return true };
        let Some(instance) = self.instances.get(&watched.name).filter(|it| it.is_wanted()) else {
            return true;
        };
        if turn.now >= watched.give_up && instance.is_under_reload() {
            // That is watched too, and comes to an end.
            watched.give_up = turn.now + ONCE_MORE;
        }
        if turn.now >= watched.wakes_at {
            watched.wakes_at = watched.give_up;
        }
        watched.has_come_through(turn.now, instance)
    }

    /// Whoever got the signal last has ended by itself since then: it may be the signal's work, and would be the
    /// end of the next one.
    fn has_ended_it(&self, service: &Name, wave: &Wave, turn: &mut Turn) -> bool {
        let Some(watched) = &wave.watched else { return false };
        let instance = self.instances.get(&watched.name).filter(|it| it.is_wanted());
        let Some(instance) = instance.filter(|it| it.ended_alone >= watched.generation) else {
            return false;
        };
        let how =
            instance.last_exit.as_ref().map_or("ended".to_owned(), |it| exits::ended(&it.cause));
        let message = format!(
            "{} went no further than {}, which {how} after it; {}",
            wave.signal,
            watched.name,
            wave.rest()
        );
        turn.say(service, "signal-halted", Some(&wave.by), message);
        true
    }

    fn has_timed_out(&self, service: &Name, wave: &Wave, turn: &mut Turn) -> bool {
        let Some(watched) = wave.watched.as_ref().filter(|it| turn.now >= it.give_up) else {
            return false;
        };
        let rest = wave.rest();
        let message = format!(
            "{} went no further than {}, which was not ready within {}; {rest}",
            wave.signal,
            watched.name,
            span(watched.give_up.since(watched.since)),
        );
        turn.say(service, "signal-halted", Some(&wave.by), message);
        true
    }

    fn hand_on(&mut self, wave: &mut Wave, name: Name, process: Process, turn: &mut Turn) {
        let (signal, by, does) = (wave.signal, wave.by.clone(), wave.does.as_deref());
        let signalled = Signalled { signal, by: by.clone(), at: turn.now, harmless: wave.harmless };
        let sent = self.touch(&name, turn, |it, turn| {
            if it.up()?.process != process {
                let skipped = format!("{signal} was not sent: it was started anew meanwhile");
                it.say(turn, "signal-skipped", Some(&by), skipped);
                return None;
            }
            it.remember_signal(signalled);
            it.pass_on(turn, signal, &by, does);
            Some(Watched::from(it, turn.now))
        });
        wave.watched = sent.flatten();
    }
}
