//! A signal to a whole service, instance by instance.
//!
//! The next one gets it only when the last one is ready: by a pass of its readiness probe after the
//! signal, or, without a probe, by running on for `start_seconds`.

use std::collections::VecDeque;

use super::exits::Signalled;
use super::fleet::Fleet;
use super::instance::Instance;
use super::time::Timestamp;
use super::turn::{Turn, span};
use super::words::{By, Name, Process, Signal};

pub(super) struct Wave {
    pub(super) by: By,
    pub(super) signal: Signal,
    /// What it does there, if the profile says so.
    pub(super) does: Option<&'static str>,
    pub(super) harmless: bool,
    /// With the process that was looked at: one that was started since has nothing to reload, and may
    /// not catch the signal yet.
    pub(super) queue: VecDeque<(Name, Process)>,
    pub(super) watched: Option<Watched>,
}

/// The instance that got the signal last.
pub(super) struct Watched {
    name: Name,
    since: Timestamp,
    wakes_at: Timestamp,
    give_up: Timestamp,
}

impl Wave {
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.watched.as_ref().map(|it| it.wakes_at)
    }
}

impl Watched {
    fn has_come_through(&self, now: Timestamp, instance: &Instance) -> bool {
        let Some(body) = instance.up() else { return false };
        let fresh = match instance.rules.readiness {
            Some(_) => body.health.readiness.has_passed_since(self.since),
            None => now >= self.since + instance.rules.start_seconds,
        };
        fresh && instance.is_ready()
    }
}

impl Fleet {
    /// Hands the signal on as far as it goes in this turn.
    pub(super) fn ripple(&mut self, service: &Name, turn: &mut Turn) {
        let Some(mut wave) = self.services.get_mut(service).and_then(|it| it.wave.take()) else {
            return;
        };
        let goes_on = loop {
            if !self.is_through(&mut wave, turn) {
                break !self.has_timed_out(service, &wave, turn);
            }
            let Some((name, process)) = wave.queue.pop_front() else {
                let message = format!("{} went through {service}", wave.signal);
                turn.say(service, "signal-finished", Some(&wave.by), message);
                break false;
            };
            self.hand_on(&mut wave, name, process, turn);
        };
        if let Some(it) = self.services.get_mut(service)
            && goes_on
        {
            it.wave = Some(wave);
        }
    }

    /// Nobody has to be waited for.
    fn is_through(&self, wave: &mut Wave, turn: &Turn) -> bool {
        let Some(watched) = &mut wave.watched else { return true };
        let Some(instance) = self.instances.get(&watched.name).filter(|it| it.is_wanted()) else {
            return true;
        };
        if turn.now >= watched.wakes_at {
            watched.wakes_at = watched.give_up;
        }
        watched.has_come_through(turn.now, instance)
    }

    fn has_timed_out(&self, service: &Name, wave: &Wave, turn: &mut Turn) -> bool {
        let Some(watched) = wave.watched.as_ref().filter(|it| turn.now >= it.give_up) else {
            return false;
        };
        let rest = match wave.queue.len() {
            0 => "it was the last".into(),
            n => format!("{n} more did not get it"),
        };
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
        let (signal, by, does) = (wave.signal, wave.by.clone(), wave.does);
        let signalled = Signalled { signal, by: by.clone(), at: turn.now, harmless: wave.harmless };
        let sent = self.touch(&name, turn, |it, turn| {
            if it.up()?.process != process {
                let skipped = format!("{signal} was not sent: it was started anew meanwhile");
                it.say(turn, "signal-skipped", Some(&by), skipped);
                return None;
            }
            it.remember_signal(signalled);
            it.pass_on(turn, signal, &by, does);
            let rules = &it.rules;
            let soon = rules.readiness.is_none().then_some(rules.start_seconds);
            Some((soon.unwrap_or(rules.rollout.ready_timeout), rules.rollout.ready_timeout))
        });
        wave.watched = sent.flatten().map(|(soon, timeout)| Watched {
            name,
            since: turn.now,
            wakes_at: turn.now + soon.min(timeout),
            give_up: turn.now + timeout.max(soon),
        });
    }
}
