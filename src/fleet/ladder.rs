//! The stop ladder: drain, then one signal after the other, then SIGKILL, all inside one budget.
//!
//! ```text
//! t0            drain over         rung by rung          t0 + max_wait_time
//! │ out of rotation │ first signal │ next signal │ …      │ SIGKILL to everything, again every 5s
//! ```
//!
//! A [`Stop`] is asked at every event and at its own [`Stop::wakes_at`]; [`Stop::advance`] says which
//! signals are due. It sends nothing, and it never names a signal twice: a second SIGTERM would end a
//! server that drains. The deadline is set once; only the operator moves it.

use std::time::Duration;

use super::input::Countdown;
use super::rules::{Rung, ServiceRules};
use super::time::Timestamp;
use super::words::{By, Signal};

/// How much longer `+` makes a countdown.
pub(super) const EXTENSION: Duration = Duration::from_secs(10);
/// SIGKILL can be slow while a process sleeps in the kernel; ask again after so long.
pub(super) const PATIENCE_WITH_KILL: Duration = Duration::from_secs(5);

/// Why an instance is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Errand {
    Stop(By),
    Restart(By),
    /// The key `t`: the goal stays up.
    Term(By),
    /// SIGKILL as a signal: the goal stays as it is.
    Kill(By),
    Rollout(By),
    Liveness,
    Startup,
    /// Removed from the configuration, or disabled there.
    Configuration,
    Shutdown(By),
    /// Found running although it is wanted down.
    Unwanted,
    /// A spare that is not needed any more.
    Surplus,
}

impl Errand {
    pub(super) fn by(&self) -> Option<&By> {
        match self {
            Self::Stop(by)
            | Self::Restart(by)
            | Self::Term(by)
            | Self::Kill(by)
            | Self::Rollout(by)
            | Self::Shutdown(by) => Some(by),
            Self::Liveness
            | Self::Startup
            | Self::Configuration
            | Self::Unwanted
            | Self::Surplus => None,
        }
    }

    /// What stands behind a signal of this stop: `by alice`, `because liveness failed`.
    pub(super) fn phrase(&self) -> String {
        match self {
            Self::Stop(by) | Self::Restart(by) | Self::Term(by) | Self::Kill(by) => {
                format!("by {by}")
            }
            Self::Rollout(by) => format!("by the rolling restart of {by}"),
            Self::Shutdown(by) => format!("by the shutdown of {by}"),
            Self::Liveness => "because liveness failed".into(),
            Self::Startup => "because startup failed".into(),
            Self::Configuration => "because of the configuration".into(),
            Self::Unwanted => "because it is wanted down".into(),
            Self::Surplus => "because the others serve without it".into(),
        }
    }

    /// What a signal of this stop is for, where an order does not say it all: ` for the shutdown`.
    pub(super) fn purpose(&self) -> String {
        match self {
            Self::Stop(_) | Self::Restart(_) | Self::Term(_) | Self::Kill(_) => String::new(),
            Self::Rollout(_) => " for the rolling restart".into(),
            Self::Shutdown(_) => " for the shutdown".into(),
            Self::Liveness
            | Self::Startup
            | Self::Configuration
            | Self::Unwanted
            | Self::Surplus => {
                format!(" {}", self.phrase())
            }
        }
    }

    /// What an end within this stop was for: `for a restart`, `because liveness failed`.
    pub(super) fn occasion(&self) -> String {
        match self {
            Self::Stop(_) => "for a stop".into(),
            Self::Restart(_) => "for a restart".into(),
            Self::Term(_) => "for SIGTERM".into(),
            Self::Kill(_) => "for SIGKILL".into(),
            Self::Rollout(_) => "for the rolling restart".into(),
            Self::Shutdown(_) => "for the shutdown".into(),
            Self::Liveness
            | Self::Startup
            | Self::Configuration
            | Self::Unwanted
            | Self::Surplus => self.phrase(),
        }
    }

    /// The instance misbehaved: what follows is a crash restart, not a plain one.
    pub(super) fn is_sickness(&self) -> bool {
        match self {
            Self::Liveness | Self::Startup => true,
            Self::Stop(_)
            | Self::Restart(_)
            | Self::Term(_)
            | Self::Kill(_)
            | Self::Rollout(_)
            | Self::Configuration
            | Self::Shutdown(_)
            | Self::Unwanted
            | Self::Surplus => false,
        }
    }
}

/// What a drain knows about the requests at an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// What stands in front may still send new ones.
    Coming,
    /// No new ones come, and so many are in flight.
    Counted(u32),
    /// Nobody counts them.
    Unknown,
}

/// How a stop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The ladder of the configuration, after the drain.
    Ladder,
    /// SIGTERM without waiting for the drain.
    TermAtOnce,
    /// SIGTERM as soon as the drain is over.
    TermAfterDrain,
    /// SIGKILL at once.
    Kill,
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Draining,
    /// The signal of `rungs[index]` is out; the next rung is due then.
    Rung {
        index: usize,
        next: Option<Timestamp>,
    },
    Killing {
        again: Timestamp,
        asked: u32,
    },
}

/// What a stop wants done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Signal(Signal),
    KillAll,
    /// SIGKILL was asked for before and something still lives.
    KillAgain,
}

/// A stop in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stop {
    pub errand: Errand,
    pub began: Timestamp,
    /// SIGKILL.
    pub deadline: Timestamp,
    pub stage: Stage,
    /// When the first signal went out: a server counts its own limit from there.
    pub first_signal: Option<Timestamp>,
    /// Who ended the countdown early.
    pub killed_by: Option<By>,
    pub sent: Vec<Signal>,
    /// Signals that an operator passed on meanwhile; the ladder does not repeat them.
    pub passed: Vec<Signal>,
    /// Its command is about to be run, and nobody has seen it begin.
    pub unbegun: bool,
    pub rungs: Vec<Rung>,
    pub drain_delay: Duration,
    pub reserve: Duration,
}

impl Stop {
    /// A stop that begins now. Nothing is due before [`Stop::advance`] says so.
    pub(super) fn new(
        now: Timestamp,
        errand: Errand,
        manner: Manner,
        rules: &ServiceRules,
    ) -> Self {
        let mut stop = Self {
            errand,
            began: now,
            deadline: now + rules.max_wait_time,
            stage: Stage::Draining,
            first_signal: None,
            killed_by: None,
            sent: Vec::new(),
            passed: Vec::new(),
            unbegun: false,
            rungs: rules.stop.clone(),
            drain_delay: rules.drain_delay,
            reserve: rules.reserve,
        };
        match manner {
            Manner::Ladder => {}
            Manner::TermAfterDrain => stop.begin_with_term(),
            Manner::TermAtOnce => {
                stop.begin_with_term();
                stop.end_drain();
            }
            Manner::Kill => {
                stop.killed_by = stop.errand.by().cloned();
                stop.deadline = now;
            }
        }
        stop
    }

    /// From SIGTERM on the rest of the ladder is climbed as configured.
    fn begin_with_term(&mut self) {
        match self.rungs.iter().position(|it| it.signal == Signal::TERM) {
            Some(index) => drop(self.rungs.drain(..index)),
            None => self.rungs = vec![Rung { signal: Signal::TERM, wait: None }],
        }
    }

    /// Ends the drain at the next [`Stop::advance`], whatever is in flight: all the time is reserved for
    /// the ladder.
    pub(super) fn end_drain(&mut self) {
        self.reserve = Duration::MAX;
    }

    /// The first signal is to come after the drain, not beside it.
    pub(super) fn waits_for_the_drain(&self) -> bool {
        self.reserve < Duration::MAX
    }

    /// During the drain: SIGTERM at the next [`Stop::advance`].
    pub(super) fn term_at_once(&mut self) {
        self.begin_with_term();
        self.end_drain();
    }

    /// Ends the countdown at the next [`Stop::advance`].
    pub(super) fn kill(&mut self, now: Timestamp, by: Option<&By>) {
        if self.killing().is_none() {
            self.deadline = self.deadline.min(now);
            self.killed_by = by.cloned();
        }
    }

    /// Gives ten more seconds, unless SIGKILL is out already.
    pub(super) fn extend(&mut self) -> bool {
        let may = self.killing().is_none();
        if may {
            self.deadline = self.deadline + EXTENSION;
        }
        may
    }

    /// The moves that are due, in order.
    pub(super) fn advance(&mut self, now: Timestamp, traffic: Traffic) -> Vec<Move> {
        if self.killing().is_none() && now >= self.deadline {
            return vec![self.begin_to_kill(now)];
        }
        match self.stage {
            Stage::Draining if now >= self.drain_ends(traffic) => self.climb(now, 0),
            Stage::Rung { index, next: Some(next) } if now >= next => self.climb(now, index + 1),
            Stage::Killing { again, asked } if now >= again => {
                self.stage = Stage::Killing { again: now + PATIENCE_WITH_KILL, asked: asked + 1 };
                vec![Move::KillAgain]
            }
            Stage::Draining | Stage::Rung { .. } | Stage::Killing { .. } => vec![],
        }
    }

    fn climb(&mut self, now: Timestamp, index: usize) -> Vec<Move> {
        let Some(rung) = self.rungs.get(index).copied() else {
            self.stage = Stage::Rung { index, next: None };
            return vec![];
        };
        if rung.signal == Signal::KILL {
            return vec![self.begin_to_kill(now)];
        }
        let next = rung.wait.map(|wait| now + wait);
        self.stage = Stage::Rung { index, next };
        if self.has_sent(rung.signal) {
            return vec![];
        }
        self.first_signal.get_or_insert(now);
        self.sent.push(rung.signal);
        self.unbegun = rung.signal == Signal::COMMAND;
        vec![Move::Signal(rung.signal)]
    }

    fn begin_to_kill(&mut self, now: Timestamp) -> Move {
        self.first_signal.get_or_insert(now);
        self.stage = Stage::Killing { again: now + PATIENCE_WITH_KILL, asked: 1 };
        Move::KillAll
    }

    /// Remembers a signal of the operator, so that the ladder does not repeat it.
    pub(super) fn note_operator_signal(&mut self, signal: Signal) {
        self.passed.push(signal);
    }

    pub(super) fn has_sent(&self, signal: Signal) -> bool {
        self.sent.contains(&signal) || self.passed.contains(&signal)
    }

    pub(super) fn last_signal(&self) -> Option<Signal> {
        match self.stage {
            Stage::Killing { .. } => Some(Signal::KILL),
            Stage::Draining | Stage::Rung { .. } => self.sent.last().copied(),
        }
    }

    /// The last signal before SIGKILL.
    pub(super) fn last_rung(&self) -> Option<Signal> {
        self.sent.last().copied()
    }

    /// An exact count is waited for, and so is the end of new requests; an estimate never is.
    fn drain_ends(&self, traffic: Traffic) -> Timestamp {
        let latest = (self.deadline - self.reserve).max(self.began);
        match traffic {
            Traffic::Counted(0) => self.began,
            Traffic::Counted(_) | Traffic::Coming => latest,
            Traffic::Unknown => latest.min(self.began + self.drain_delay),
        }
    }

    /// When [`Stop::advance`] has something to say if nothing else happens.
    pub(super) fn wakes_at(&self, traffic: Traffic) -> Timestamp {
        match self.stage {
            Stage::Draining => self.drain_ends(traffic).min(self.deadline),
            Stage::Rung { next, .. } => next.map_or(self.deadline, |next| next.min(self.deadline)),
            Stage::Killing { again, .. } => again,
        }
    }

    /// Draining, and nothing was sent: it can still be taken back.
    pub(super) fn can_be_taken_back(&self) -> bool {
        self.is_draining() && self.passed.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stage == Stage::Draining
    }

    /// How often SIGKILL was asked for, once it was.
    pub(super) fn killing(&self) -> Option<u32> {
        match self.stage {
            Stage::Killing { asked, .. } => Some(asked),
            Stage::Draining | Stage::Rung { .. } => None,
        }
    }

    pub(super) fn countdown(&self) -> Countdown {
        Countdown {
            began: self.began,
            deadline: self.deadline,
            max_wait_time: self.deadline.since(self.began),
            rung: self.last_signal(),
        }
    }
}
