//! How an exit is told: by itself or by whom, and what was lost.
//!
//! Exit status 0 proves nothing, because a stop that cut requests also exits 0. What was in flight at the
//! end decides what is said, and an estimate is called one.

use std::time::Duration;

use super::input::{Exit, InFlight, OutOfMemory, Status, Stopped};
use super::ladder::Stop;
use super::rules::Profile;
use super::time::Timestamp;
use super::turn::{elapsed, span};
use super::words::{By, Signal};
use crate::quantity::count;

/// An exit so soon after a signal of the operator is its work.
pub(super) const SIGNAL_MEMORY: Duration = Duration::from_secs(5);
/// How long after a whole second a limit of a server may still show.
const GRAIN: Duration = Duration::from_millis(150);

/// A signal that an operator had passed on.
#[derive(Clone, Debug)]
pub(super) struct Signalled {
    pub(super) signal: Signal,
    pub(super) by: By,
    pub(super) at: Timestamp,
    /// The profile says that it does not end anything.
    pub(super) harmless: bool,
}

impl Signalled {
    /// The exit is what the operator asked for.
    pub(super) fn explains(&self, now: Timestamp, exit: &Exit) -> bool {
        let soon = now.since(self.at) <= SIGNAL_MEMORY;
        let fits = match exit.status {
            Status::Signal(signal) => signal == self.signal,
            Status::Code(code) => !self.harmless && (code == 0 || code == 128 + self.signal.0),
            Status::Unknown => !self.harmless,
        };
        soon && fits && exit.out_of_memory != OutOfMemory::Certainly
    }

    fn cause(&self) -> String {
        format!("{} by {}", self.signal, self.by)
    }
}

/// The cause of an exit that no stop had asked for.
pub(super) fn cause_of_exit(now: Timestamp, exit: &Exit, signalled: Option<&Signalled>) -> String {
    match signalled.filter(|it| it.explains(now, exit)) {
        Some(signalled) => signalled.cause(),
        None => cause_by_others(exit),
    }
}

/// The cause of an exit within a stop.
pub(super) fn cause_of_stop(
    now: Timestamp,
    exit: &Exit,
    stop: &Stop,
    signalled: Option<&Signalled>,
) -> String {
    if exit.out_of_memory == OutOfMemory::Certainly {
        return cause_by_others(exit);
    }
    let killed = stop.killing().is_some();
    let rung = stop.last_rung();
    match exit.status {
        Status::Signal(_) | Status::Code(_)
            if rung.is_none() && signalled.is_some_and(|it| it.explains(now, exit)) =>
        {
            cause_of_exit(now, exit, signalled)
        }
        Status::Signal(Signal::KILL) | Status::Unknown if killed => match &stop.killed_by {
            Some(by) => format!("SIGKILL by {by}"),
            None => "SIGKILL: max_wait_time was over".into(),
        },
        // A command may send whatever it likes.
        Status::Signal(signal) if ![Some(signal), Some(Signal::COMMAND)].contains(&rung) => {
            cause_by_others(exit)
        }
        Status::Signal(_) | Status::Code(_) | Status::Unknown => match rung {
            Some(rung) => format!("{rung} {}", stop.errand.phrase()),
            None => cause_of_status(exit.status),
        },
    }
}

/// The cause in a sentence: `ended by SIGTERM, by alice`, `ended by itself with code 3`.
pub(super) fn ended(cause: &str) -> String {
    let is_whole = ["by ", "probably by "].iter().any(|it| cause.starts_with(it));
    match cause.split_once(' ') {
        _ if is_whole => format!("ended {cause}"),
        Some((signal, by)) if signal.starts_with("SIG") && !signal.ends_with(':') => {
            format!("ended by {signal}, {by}")
        }
        _ => format!("ended by {cause}"),
    }
}

/// The cause of an exit that nothing of ours explains.
fn cause_by_others(exit: &Exit) -> String {
    match exit.out_of_memory {
        OutOfMemory::Certainly => "by the kernel: out of memory".into(),
        OutOfMemory::Probably => "probably by the kernel: out of memory".into(),
        OutOfMemory::No => cause_of_status(exit.status),
    }
}

fn cause_of_status(status: Status) -> String {
    match status {
        Status::Code(code) => format!("by itself with code {code}"),
        Status::Signal(signal) if is_own_fault(signal) => format!("by itself (killed by {signal})"),
        Status::Signal(signal) => format!("a signal that opsdeck did not send ({signal})"),
        Status::Unknown => "by itself, with a status that nobody could read".into(),
    }
}

/// Signals that a process brings upon itself: ILL, TRAP, ABRT, BUS, FPE, SEGV, PIPE, ALRM, STKFLT,
/// XCPU, XFSZ, VTALRM, PROF, SYS (signal(7)).
fn is_own_fault(signal: Signal) -> bool {
    matches!(signal.0, 4..=8 | 11 | 13 | 14 | 16 | 24..=27 | 31)
}

/// `exited with code 3`, `was killed by SIGSEGV`; `asked_for`: as an operator wanted it.
pub(super) fn how(exit: &Exit, asked_for: Option<&Signalled>) -> String {
    let after = match (exit.status, asked_for) {
        (Status::Code(_) | Status::Unknown, Some(it)) => format!(" after {}", it.signal),
        (Status::Signal(_), _) | (_, None) => String::new(),
    };
    let how = match exit.status {
        Status::Code(code) => format!("exited with code {code}"),
        Status::Signal(signal) => format!("was killed by {signal}"),
        Status::Unknown if asked_for.is_none() => "ended; how is not known".into(),
        Status::Unknown => "exited".into(),
    };
    format!("{how}{after}{}", memory(exit, asked_for.is_some()))
}

/// `, out of memory`, as sure as it is: a kill that is ours already needs no guess.
fn memory(exit: &Exit, ours: bool) -> &'static str {
    match exit.out_of_memory {
        OutOfMemory::Certainly => ", out of memory",
        OutOfMemory::Probably if !ours => ", probably out of memory",
        OutOfMemory::Probably | OutOfMemory::No => "",
    }
}

/// ` with 4 requests in flight (estimated)`, or nothing.
pub(super) fn flight(flight: Option<InFlight>) -> String {
    match flight {
        Some(InFlight::Exact(n)) => format!(" with {} in flight", count(n.into(), "request")),
        Some(InFlight::Estimated(n)) => {
            format!(" with {} in flight (estimated)", count(n.into(), "request"))
        }
        None => String::new(),
    }
}

/// What a stop has cut.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cuts {
    pub(super) in_flight: Option<InFlight>,
    /// When the last of it was cut, where that is known.
    pub(super) cut_at: Option<Timestamp>,
    /// What of it came when the stop had begun.
    pub(super) late: u32,
}

impl Cuts {
    /// Something of it was there when the stop began: what ended that may be a limit.
    fn had_time(self) -> bool {
        self.in_flight.is_some_and(|it| it.count() > self.late)
    }

    fn lateness(self) -> String {
        match self.late {
            0 => String::new(),
            late => format!(", {late} begun when it had to stop already"),
        }
    }
}

/// What the diary says of an exit within a stop; with what was lost.
pub(super) fn told_of_stop(
    now: Timestamp,
    exit: &Exit,
    stop: &Stop,
    cuts: Cuts,
    profile: &Profile,
) -> String {
    let into = elapsed(now.since(stop.began));
    let limit = own_limit(cuts.cut_at.unwrap_or(now), stop, profile);
    let limit = limit.filter(|_| cuts.had_time());
    let suspicion = limit.map_or(String::new(), |limit| {
        let ours = span(stop.deadline.since(stop.began));
        format!(": its own max_wait_time is probably {}, the deck's is {ours}", span(limit))
    });
    let verb = match exit.status {
        Status::Signal(signal) => format!("killed by {signal}"),
        Status::Code(_) | Status::Unknown => "exited".into(),
    };
    let memory = memory(exit, stop.killing().is_some());
    let why = stop.errand.occasion();
    let lost = format!("{}{}", flight(cuts.in_flight), cuts.lateness());
    format!("{verb} {into} into its drain {why}{lost}{memory}{suspicion}")
}

/// How the stop went, where the exit tells something about the server: nobody else had a hand in it.
pub(super) fn stopped(now: Timestamp, exit: &Exit, stop: &Stop, cuts: Cuts) -> Option<Stopped> {
    let killed = stop.killing().is_some();
    let ours = match exit.status {
        Status::Code(_) | Status::Unknown => true,
        Status::Signal(signal) => killed || stop.last_rung() == Some(signal),
    };
    // A second SIGTERM ends many servers at once, and an operator's SIGKILL says nothing of their time.
    let alone = stop.passed.is_empty() && stop.killed_by.is_none();
    // After a second signal of ours nobody knows which of them it obeyed.
    let is_told_once = stop.sent.len() <= 1 || killed;
    if !ours || !alone || !is_told_once || exit.out_of_memory != OutOfMemory::No {
        return None;
    }
    Some(Stopped {
        signal: stop.sent.first().copied(),
        after: now.since(stop.first_signal?),
        in_flight: cuts.in_flight.map_or(0, InFlight::count),
        late: cuts.late,
        cut_after: cuts.cut_at.map(|it| it.since(stop.first_signal.unwrap_or(it))),
        max_wait_time: stop.deadline.since(stop.began),
        killed,
    })
}

/// The limit a server seems to have of its own: it exited before our SIGKILL, and what it lost it cut a whole number
/// of seconds after the first signal, or where its default is one by a clock that may be early.
fn own_limit(cut_at: Timestamp, stop: &Stop, profile: &Profile) -> Option<Duration> {
    let after = cut_at.since(stop.first_signal?);
    let whole = Duration::from_secs(after.as_secs());
    let near = after.saturating_sub(whole) <= GRAIN;
    let limit = Some(profile.limit).filter(|it| profile.limit_known && after < *it);
    let early = limit.filter(|it| after + profile.limit_early > *it);
    let told = if near && !whole.is_zero() { Some(whole) } else { early };
    told.filter(|_| stop.killing().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_makes_a_sentence() {
        for (cause, sentence) in [
            ("by itself with code 3", "ended by itself with code 3"),
            (
                "probably by the kernel: out of memory",
                "ended probably by the kernel: out of memory",
            ),
            (
                "SIGTERM by the rolling restart of alice",
                "ended by SIGTERM, by the rolling restart of alice",
            ),
            ("SIGTERM because liveness failed", "ended by SIGTERM, because liveness failed"),
            ("SIGKILL: max_wait_time was over", "ended by SIGKILL: max_wait_time was over"),
            (
                "a signal that opsdeck did not send (SIGKILL)",
                "ended by a signal that opsdeck did not send (SIGKILL)",
            ),
        ] {
            assert_eq!(ended(cause), sentence);
        }
    }
}
