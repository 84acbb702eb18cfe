//! A signal to one process of a tree, and what becomes of that process.
//!
//! The leader has its own way ([`super::input::Verb::Signal`]). What a signal does to one of the others is
//! told by what that process does with it, and by whether its server puts another one in its place.

use std::time::Duration;

use super::fleet::Fleet;
use super::guard::{ask, kills_by_default, meaning};
use super::input::{Disposition, Effect, Member};
use super::instance::{Instance, Phase};
use super::orders::{Answer, Asker, refused};
use super::time::Timestamp;
use super::turn::{Turn, elapsed};
use super::words::{By, Name, Process, Signal};

/// Beyond the time it may take, before it is said to stay.
const AFTER_LIMIT: Duration = Duration::from_secs(5);
/// Those of one instance that are followed at a time.
const MOST: usize = 64;

/// A worker that was told to go, and is followed until another one has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    member: Member,
    signal: Signal,
    by: By,
    since: Timestamp,
    gone: Option<Timestamp>,
}

impl Member {
    /// `worker, pid 4711`
    fn words(&self) -> String {
        let role = self.role.as_deref().unwrap_or("process");
        format!("{role}, pid {}", self.process.pid)
    }
}

/// It ends a process, as far as can be told.
fn ends(signal: Signal, disposition: Disposition) -> bool {
    let asks_to = matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT | Signal::KILL);
    match disposition {
        Disposition::Default => kills_by_default(signal),
        Disposition::Caught
        | Disposition::Cuts
        | Disposition::CutsPerhaps
        | Disposition::MayCut
        | Disposition::Unknown => asks_to,
        Disposition::Ignored => signal == Signal::KILL,
    }
}

/// Why it hurts to send this signal to a process of `name`, if it does.
fn danger(
    signal: Signal,
    disposition: Disposition,
    member: &Member,
    (name, cuts): (&Name, bool),
) -> Option<String> {
    let who = member.words();
    let is_suspension = disposition == Disposition::Default && (19..=22).contains(&signal.0);
    if signal == Signal::KILL {
        return Some(format!("SIGKILL ends {who}, of {name} at once, whatever it is doing"));
    }
    if disposition == Disposition::Default && kills_by_default(signal) {
        return Some(format!("{signal} is not caught: it will kill {who}, of {name} at once"));
    }
    if is_suspension {
        return Some(format!("{signal} halts {who}, of {name}"));
    }
    if !ends(signal, disposition) {
        return None;
    }
    if !member.renewed {
        return Some(format!(
            "nobody is known to put another one in the place of {who}, of {name}"
        ));
    }
    let gentle = member.stop.or(cuts.then_some(Signal::TERM));
    if let Some(stop) = gentle.filter(|it| *it != signal) {
        return Some(format!("{signal} cuts what {who}, is working on; {stop} lets it finish"));
    }
    (member.alike == 0).then(|| format!("{who}, is the only one of its kind in {name}"))
}

impl Fleet {
    pub(super) fn signal_member(
        &mut self,
        name: &Name,
        signal: Signal,
        member: Member,
        disposition: Disposition,
        asker: &Asker,
        turn: &mut Turn,
    ) -> Answer {
        let who = member.words();
        let what = format!("{signal} was not sent to {who}, of {name}");
        let instance = self.find(name, &what)?;
        if instance.process().is_none() {
            return Err(refused(what, format!("{name} does not run"), None));
        }
        let cuts = meaning(instance, signal).is_some_and(|it| it.cuts);
        ask(asker.guard, &what, danger(signal, disposition, &member, (name, cuts)))?;
        let is_ignored = disposition == Disposition::Ignored && signal != Signal::KILL;
        self.touch(name, turn, |it, turn| {
            it.signal_member(turn, signal, member, disposition, &asker.by);
        });
        let effect = if is_ignored { ", which ignores it" } else { "" };
        Ok(format!("{signal} was sent to {who}, of {name}{effect}"))
    }

    /// Somebody has to tell who works there.
    pub fn follows(&self, instance: &str) -> bool {
        let body = self.instances.get(instance).and_then(Instance::up);
        body.is_some_and(|it| !it.partings.is_empty())
    }

    pub(super) fn on_members(
        &mut self,
        instance: &Name,
        process: Process,
        workers: &[Process],
        turn: &mut Turn,
    ) {
        self.touch(instance, turn, |it, turn| it.on_members(turn, process, workers));
    }
}

impl Instance {
    fn signal_member(
        &mut self,
        turn: &mut Turn,
        signal: Signal,
        member: Member,
        disposition: Disposition,
        by: &By,
    ) {
        let Some(process) = self.process() else { return };
        let (instance, now) = (self.own.name.clone(), turn.now);
        let message = format!("{signal} to {}", member.words());
        let sent =
            Effect::SignalMember { instance: instance.clone(), member: member.process, signal };
        turn.push(sent);
        self.say(turn, "signal-sent", Some(by), message);
        if let Phase::Up(body) = &mut self.phase
            && member.renewed
            && ends(signal, disposition)
            && body.partings.len() < MOST
        {
            body.partings.retain(|it| it.member.process != member.process);
            body.partings.push(Parting { member, signal, by: by.clone(), since: now, gone: None });
            turn.push(Effect::Follow { instance, process });
        }
    }

    fn on_members(&mut self, turn: &mut Turn, process: Process, workers: &[Process]) {
        let (now, rules) = (turn.now, self.rules.clone());
        // A server may give its workers twice its limit (Swoole).
        let limit = rules.max_wait_time.max(rules.profile.limit * 2) + AFTER_LIMIT;
        let ready = rules.rollout.ready_timeout;
        let Phase::Up(body) = &mut self.phase else { return };
        if body.process != process {
            return;
        }
        let mut told = vec![];
        body.partings.retain_mut(|it| match it.look(now, workers, limit, ready) {
            Some((kind, message)) => {
                told.push((kind, it.by.clone(), message));
                false
            }
            None => true,
        });
        for (kind, by, message) in told {
            self.say(turn, kind, Some(&by), message);
        }
    }
}

impl Parting {
    /// How it ended, once it has: a kind of event and a sentence.
    fn look(
        &mut self,
        now: Timestamp,
        workers: &[Process],
        limit: Duration,
        ready: Duration,
    ) -> Option<(&'static str, String)> {
        let (who, signal) = (self.member.words(), self.signal);
        if workers.contains(&self.member.process) {
            let took = now.since(self.since);
            let stays = || format!("{who}, is still there {} after {signal}", elapsed(took));
            return (took >= limit).then(|| ("worker-stays", stays()));
        }
        let gone = *self.gone.get_or_insert(now);
        let took = elapsed(gone.since(self.since));
        let others = &self.member.others;
        if let Some(next) = workers.iter().find(|it| !others.contains(it)) {
            let message =
                format!("{who}, ended {took} after {signal}; pid {} has its place", next.pid);
            return Some(("worker-renewed", message));
        }
        let waited = now.since(gone);
        let nobody = || {
            let waited = elapsed(waited);
            format!("{who}, ended {took} after {signal}, and none took its place within {waited}")
        };
        (waited >= ready).then(|| ("worker-missing", nobody()))
    }
}
