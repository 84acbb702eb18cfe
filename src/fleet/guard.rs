//! When the deck asks before it acts.
//!
//! It asks only when it would hurt: the last ready instance of a service would go, a signal would kill
//! because nobody catches it, or something ends without finishing its work. What a profile calls a reload
//! goes at once. The reasons are written for the footer: who, and why it is dangerous.

use super::fleet::Fleet;
use super::input::{Disposition, Refusal, RefusalKind};
use super::instance::Instance;
use super::roster::Named;
use super::rules::Meaning;
use super::words::{Name, Signal};

impl Refusal {
    pub(super) fn new(kind: RefusalKind, what: String, why: String, help: Option<&str>) -> Self {
        Self { kind, what, why, help: help.map(str::to_owned) }
    }
}

/// Refuses with the question, if there is one and the order wants to be asked.
pub(super) fn ask(guard: bool, what: &str, why: Option<String>) -> Result<(), Refusal> {
    match why.filter(|_| guard) {
        Some(why) => Err(Refusal::new(RefusalKind::Confirm, what.to_owned(), why, None)),
        None => Ok(()),
    }
}

impl Fleet {
    /// Why it hurts to take this instance away, if it does.
    pub(super) fn last_ready(&self, instance: &Instance) -> Option<String> {
        let service = self.services.get(&instance.rules.name)?;
        let others = || {
            let names = service.members.iter().filter(|it| *it != instance.name());
            names.filter_map(|it| self.instances.get(it))
        };
        let (name, home) = (instance.name(), &instance.rules.name);
        let last = instance.may_serve() && !others().any(Instance::is_serving);
        last.then(|| match service.members.len() {
            1 if name == home => format!("{name} has no other instance"),
            1 => format!("{name} is the only instance of {home}"),
            _ => format!("{name} is the last ready instance of {home}"),
        })
    }

    /// Why it hurts to send this signal, if it does.
    pub(super) fn danger_of(
        &self,
        instance: &Instance,
        signal: Signal,
        disposition: Disposition,
    ) -> Option<String> {
        if disposition == Disposition::Default && kills_by_default(signal) {
            return Some(uncaught(signal, instance.name()));
        }
        if let Some(cuts) = cuts_by_limit(instance, signal, disposition) {
            return Some(cuts);
        }
        if meaning(instance, signal).is_some_and(|it| it.cuts)
            && let Some(requests) = instance.at_stake()
        {
            return Some(format!("{signal} cuts {requests} in flight at {}", instance.name()));
        }
        let harmless = meaning(instance, signal).is_some_and(|it| it.harmless);
        if harmless && disposition == Disposition::MayCut && !instance.drains_for(signal) {
            return Some(danger_of_threads(signal, instance));
        }
        // SIGTERM begins a stop, whatever the process does with it.
        let ignored = disposition == Disposition::Ignored && signal != Signal::TERM;
        let idle = does_nothing(signal, disposition);
        if harmless && !instance.drains_for(signal) || ignored || idle {
            return None;
        }
        let last = self.last_ready(instance)?;
        Some(match effect_of(signal, harmless) {
            Some(effect) => format!("{signal} {effect} it: {last}"),
            None => last,
        })
    }
}

/// What it has in flight is not given any time, or may not be.
fn cuts_by_limit(instance: &Instance, signal: Signal, disposition: Disposition) -> Option<String> {
    let (requests, name) = (instance.at_stake()?, instance.name());
    let limit = instance.rules.profile.limit_name.as_deref().unwrap_or("limit");
    match disposition {
        Disposition::Cuts => {
            Some(format!("{signal} cuts {requests} in flight at {name}: its {limit} is 0"))
        }
        Disposition::CutsPerhaps => Some(format!(
            "{signal} may cut {requests} in flight at {name}: its configuration was changed since it read its {limit}"
        )),
        Disposition::Caught
        | Disposition::Ignored
        | Disposition::Default
        | Disposition::MayCut
        | Disposition::Unknown => None,
    }
}

/// What a signal may do to whoever gets it; of SIGTERM and of a reload that drains, what follows is on the screen.
fn effect_of(signal: Signal, harmless: bool) -> Option<&'static str> {
    match signal {
        Signal::TERM => None,
        _ if harmless => None,
        Signal(19..=22) => Some("may halt"),
        _ => Some("may end"),
    }
}

pub(super) fn uncaught(signal: Signal, name: &Name) -> String {
    format!("{signal} is not caught: it will kill {name}")
}

/// Why a signal is dangerous that the profile calls harmless.
fn danger_of_threads(signal: Signal, instance: &Instance) -> String {
    let stake = instance.at_stake().map_or(String::new(), |it| format!(": {it} in flight"));
    let name = instance.name();
    format!("if the workers of {name} are threads, {signal} closes every connection{stake}")
}

pub(super) fn meaning(instance: &Instance, signal: Signal) -> Option<&Meaning> {
    instance.rules.profile.signals.iter().find(|it| it.signal == signal)
}

/// Why ending it at once is dangerous.
pub(super) fn danger_of_kill(instance: &Instance) -> String {
    let name = instance.name();
    match instance.at_stake() {
        Some(requests) => format!("SIGKILL ends {name} at once and cuts {requests} in flight"),
        None => format!("SIGKILL ends {name} at once, whatever it is doing"),
    }
}

/// Every signal but CHLD, CONT, URG and WINCH, which do nothing, and STOP, TSTP, TTIN and TTOU, which
/// suspend (signal(7)).
pub(super) fn kills_by_default(signal: Signal) -> bool {
    !matches!(signal.0, 17..=23 | 28)
}

/// SIGCONT lets go on what was stopped, whoever catches it; CHLD, URG and WINCH go by without a handler.
fn does_nothing(signal: Signal, disposition: Disposition) -> bool {
    const CONT: Signal = Signal(18);
    signal == CONT || disposition == Disposition::Default && matches!(signal.0, 17 | 23 | 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_hurt_needs_no_question() {
        let winch = Signal(28);
        assert!(does_nothing(Signal(18), Disposition::Caught));
        assert!(does_nothing(winch, Disposition::Default));
        assert!(!does_nothing(winch, Disposition::Caught), "php-fpm and httpd end by it");
        assert!(!does_nothing(Signal(19), Disposition::Default), "SIGSTOP");
        assert!(!does_nothing(Signal::TERM, Disposition::Default));
    }

    #[test]
    fn most_signals_kill_what_does_not_catch_them() {
        let harmless: Vec<String> = (1..=64)
            .map(Signal)
            .filter(|it| !kills_by_default(*it))
            .map(|it| it.to_string())
            .collect();
        assert_eq!(
            harmless,
            [
                "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
                "SIGWINCH"
            ]
        );
    }
}
