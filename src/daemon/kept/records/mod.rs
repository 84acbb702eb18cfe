//! The lines of the state file, and what they are in the fleet.
//!
//! Types of their own: what is in a file of an earlier release must be read by the next one, whatever the
//! fleet has become meanwhile. Moments are milliseconds of `CLOCK_BOOTTIME`; they mean something on the
//! same boot only. New fields may come; each has a default, and readers skip what they do not know.

mod ladder;
mod reload;
mod rollout;
mod round;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use ladder::{Front, Ladder};
pub use rollout::Rollout;
pub use round::Round;
use serde::{Deserialize, Serialize};

use crate::api::{Actor, Goal};
use crate::daemon::clock::millis;
use crate::daemon::show::publish::actor;
use crate::fleet::memory::{self, Farewell, Last, Memory};
use crate::fleet::rules::Rung;
use crate::fleet::{By, Name, Signal, Timestamp};

/// What is written: readers of an older format skip what they do not know.
pub const FORMAT: u32 = 2;

/// One line. New kinds may come; readers skip what they do not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Line {
    /// The first line of a file.
    Boot {
        version: u32,
        boot_id: String,
    },
    /// A process is about to be started.
    Intent(Intent),
    Running(Running),
    /// A process that somebody else runs was found, or started for him.
    Found(Running),
    /// Nothing of that generation is left.
    Gone {
        instance: String,
        generation: u64,
    },
    Wanted(Wanted),
    /// It is not configured any more, and nothing of it runs.
    Forgotten {
        instance: String,
    },
    /// Values of `--set`, all of them; none: as if there had never been any.
    Set {
        service: String,
        values: BTreeMap<String, String>,
    },
    Took(Took),
    /// What is under way with an instance.
    Kept(Box<Kept>),
    /// This generation is ready.
    Ready {
        instance: String,
        generation: u64,
    },
    /// It is not any more.
    Unready {
        instance: String,
    },
    Rollout(Box<Rollout>),
    /// There is none to be remembered any more.
    NoRollout {
        service: String,
    },
    Round(Round),
    /// It went through.
    NoRound {
        service: String,
    },
    /// A command of a rollout is about to be run, or runs.
    Run(Run),
    /// It has ended; what it left in the background is none of ours.
    Ran {
        service: String,
        run: u64,
    },
    /// A call of a hook that is to be made.
    Hook(HookCall),
    /// It was made, or will not be.
    Hooked {
        seq: u64,
    },
    /// Everything is being stopped.
    Closing {
        by: Option<Actor>,
    },
    /// Everything was stopped.
    Closed,
}

/// A process that is about to be started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    pub instance: String,
    pub generation: u64,
    /// Of the configuration that it is started from; zero where it is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub fingerprint: u64,
}

/// A command of a rollout that is about to be run, or runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    pub service: String,
    /// The instance that it is run for.
    pub instance: String,
    /// Tells the commands of a service apart: when it was begun, `CLOCK_BOOTTIME` in milliseconds.
    pub run: u64,
    /// Zero as long as it is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub start_time: u64,
}

/// A call of a hook whose end was not seen; the journal has what it is to tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookCall {
    /// The event's number.
    pub seq: u64,
    /// As it is written under `on`.
    pub hook: String,
    pub suppressed: u64,
    /// When it was begun, `CLOCK_BOOTTIME` in milliseconds; zero: it waits.
    #[serde(skip_serializing_if = "is_default")]
    pub began: u64,
    /// How long it may take, in milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: u64,
    /// Zero as long as it is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub start_time: u64,
    /// The number of the pipe that is its output.
    #[serde(skip_serializing_if = "is_default")]
    pub pipe: u64,
}

impl HookCall {
    /// It is to be made anew: its process is gone.
    pub fn after_reboot(self) -> Self {
        let Self { seq, hook, suppressed, .. } = self;
        Self { seq, hook, suppressed, ..Self::default() }
    }
}

/// The values of `--set` that an instance has, and had before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    pub instance: String,
    pub now: BTreeMap<String, String>,
    pub before: BTreeMap<String, String>,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub instance: String,
    /// Where it listens: the configuration does not know it of a spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub generation: u64,
    pub pid: i32,
    pub start_time: u64,
    /// `CLOCK_BOOTTIME` in milliseconds.
    pub started_ms: u64,
    pub fingerprint: u64,
    /// How it is stopped where the configuration does not say so any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Ladder>,
}

/// What an operator wanted of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub instance: String,
    pub goal: Goal,
    pub held_by: Option<Actor>,
}

/// What is under way with an instance: [`Memory`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub instance: String,
    #[serde(skip_serializing_if = "is_default")]
    goal_by: Option<Actor>,
    #[serde(skip_serializing_if = "is_default")]
    benched: bool,
    #[serde(skip_serializing_if = "is_default")]
    dismissed: bool,
    #[serde(skip_serializing_if = "is_default")]
    crashes: u32,
    #[serde(skip_serializing_if = "is_default")]
    mishaps: u64,
    #[serde(skip_serializing_if = "is_default")]
    restarts: u64,
    #[serde(skip_serializing_if = "is_default")]
    spares: usize,
    #[serde(skip_serializing_if = "is_default")]
    rest: Rest,
    #[serde(skip_serializing_if = "is_default")]
    since: Option<Since>,
    #[serde(skip_serializing_if = "is_default")]
    stop: Option<Stop>,
    #[serde(skip_serializing_if = "is_default")]
    sweep: Option<Sweep>,
    /// The generation that somebody else was to start.
    #[serde(skip_serializing_if = "is_default")]
    starting: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    reloads: Option<reload::Reloads>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Rest {
    #[default]
    Stopped,
    Backoff {
        retry_at: u64,
    },
    Exited,
    Fatal,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Since {
    Up(u64),
    Down(u64),
}

/// A stop in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stop {
    generation: u64,
    errand: Errand,
    began: u64,
    deadline: u64,
    stage: StopStage,
    #[serde(default, skip_serializing_if = "is_default")]
    first_signal: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    killed_by: Option<Actor>,
    #[serde(default, skip_serializing_if = "is_default")]
    sent: Vec<i32>,
    #[serde(default, skip_serializing_if = "is_default")]
    passed: Vec<i32>,
    #[serde(default, skip_serializing_if = "is_default")]
    unbegun: bool,
    /// Signals, and how long each may take.
    rungs: Vec<(i32, Option<u64>)>,
    drain_delay: u64,
    reserve: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StopStage {
    Draining,
    Rung { index: usize, next: Option<u64> },
    Killing { again: u64, asked: u32 },
}

/// The leader has ended, something of the generation may not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sweep {
    generation: u64,
    ending: Ending,
    errand: Option<Errand>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ending {
    Expected,
    ByItself { clean: bool, ran: u64 },
    Sick { ran: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Errand {
    Stop(Actor),
    Restart(Actor),
    Term(Actor),
    Kill(Actor),
    Rollout(Actor),
    Liveness,
    Startup,
    Configuration,
    Shutdown(Actor),
    Unwanted,
    Surplus,
}

fn is_default<T: Default + PartialEq>(it: &T) -> bool {
    *it == T::default()
}

fn moment(ms: u64) -> Timestamp {
    Timestamp(Duration::from_millis(ms))
}

fn name(text: &str) -> Name {
    Name::from(text)
}

/// Who did something, as the fleet has it.
pub fn by(actor: Actor) -> By {
    By { uid: actor.uid, login: actor.login.into(), pid: actor.pid, ssh: actor.ssh.map(Into::into) }
}

impl Kept {
    /// A command was stopping it.
    pub fn is_stopped_by_command(&self) -> bool {
        let sent = self.stop.as_ref().and_then(|it| it.sent.last());
        sent == Some(&Signal::COMMAND.0)
    }

    /// Nothing that the next daemon would have to be told.
    pub fn says_nothing(&self) -> bool {
        *self == Self { instance: self.instance.clone(), ..Self::default() }
    }

    /// What is left of it after a reboot: nothing runs, and everything gets another chance.
    pub fn after_reboot(self) -> Self {
        let (since, stop, sweep, starting) = (None, None, None, None);
        let rest = Rest::Stopped;
        Self { crashes: 0, rest, since, stop, sweep, starting, reloads: None, ..self }
    }
}

impl From<&Memory> for Kept {
    fn from(it: &Memory) -> Self {
        let mut kept = Self {
            instance: it.instance.to_string(),
            goal_by: it.goal_by.as_ref().map(actor),
            benched: it.benched,
            dismissed: it.dismissed,
            crashes: it.crashes,
            mishaps: it.mishaps,
            restarts: it.restarts,
            spares: it.spares,
            rest: match it.rest {
                memory::Rest::Stopped => Rest::Stopped,
                memory::Rest::Backoff { retry_at } => {
                    Rest::Backoff { retry_at: millis(retry_at.0) }
                }
                memory::Rest::Exited => Rest::Exited,
                memory::Rest::Fatal => Rest::Fatal,
            },
            since: it.since.map(|it| match it {
                memory::Since::Up(at) => Since::Up(millis(at.0)),
                memory::Since::Down(at) => Since::Down(millis(at.0)),
            }),
            stop: None,
            sweep: None,
            starting: None,
            reloads: it.reloads.as_ref().map(Into::into),
        };
        match it.farewell.as_ref().map(|it| (it.generation, &it.at)) {
            Some((generation, Last::Stopping(stop))) => {
                kept.stop = Some(Stop::of(stop, generation));
            }
            Some((generation, Last::Sweeping { ending, errand })) => {
                let (ending, errand) = (ending.into(), errand.as_ref().map(Into::into));
                kept.sweep = Some(Sweep { generation, ending, errand });
            }
            Some((generation, Last::Starting)) => kept.starting = Some(generation),
            None => {}
        }
        kept
    }
}

impl From<Kept> for Memory {
    fn from(it: Kept) -> Self {
        let stop = it.stop.map(|it| Farewell {
            generation: it.generation,
            at: Last::Stopping(Box::new(it.into())),
        });
        let sweep = it.sweep.map(|it| Farewell {
            generation: it.generation,
            at: Last::Sweeping { ending: it.ending.into(), errand: it.errand.map(Into::into) },
        });
        let starting = it.starting.map(|generation| Farewell { generation, at: Last::Starting });
        Self {
            instance: name(&it.instance),
            goal_by: it.goal_by.map(by),
            benched: it.benched,
            dismissed: it.dismissed,
            crashes: it.crashes,
            mishaps: it.mishaps,
            restarts: it.restarts,
            spares: it.spares,
            rest: match it.rest {
                Rest::Stopped => memory::Rest::Stopped,
                Rest::Backoff { retry_at } => memory::Rest::Backoff { retry_at: moment(retry_at) },
                Rest::Exited => memory::Rest::Exited,
                Rest::Fatal => memory::Rest::Fatal,
            },
            since: it.since.map(|it| match it {
                Since::Up(at) => memory::Since::Up(moment(at)),
                Since::Down(at) => memory::Since::Down(moment(at)),
            }),
            farewell: stop.or(sweep).or(starting),
            reloads: it.reloads.map(Into::into),
        }
    }
}

impl Stop {
    fn of(it: &memory::Stop, generation: u64) -> Self {
        Self {
            generation,
            errand: (&it.errand).into(),
            began: millis(it.began.0),
            deadline: millis(it.deadline.0),
            stage: match it.stage {
                memory::StopStage::Draining => StopStage::Draining,
                memory::StopStage::Rung { index, next } => {
                    StopStage::Rung { index, next: next.map(|it| millis(it.0)) }
                }
                memory::StopStage::Killing { again, asked } => {
                    StopStage::Killing { again: millis(again.0), asked }
                }
            },
            first_signal: it.first_signal.map(|it| millis(it.0)),
            killed_by: it.killed_by.as_ref().map(actor),
            sent: it.sent.iter().map(|it| it.0).collect(),
            passed: it.passed.iter().map(|it| it.0).collect(),
            unbegun: it.unbegun,
            rungs: it.rungs.iter().map(|it| (it.signal.0, it.wait.map(millis))).collect(),
            drain_delay: millis(it.drain_delay),
            reserve: millis(it.reserve),
        }
    }
}

impl From<Stop> for memory::Stop {
    fn from(it: Stop) -> Self {
        let rung = |(signal, wait): (i32, Option<u64>)| Rung {
            signal: Signal(signal),
            wait: wait.map(Duration::from_millis),
        };
        Self {
            errand: it.errand.into(),
            began: moment(it.began),
            deadline: moment(it.deadline),
            stage: match it.stage {
                StopStage::Draining => memory::StopStage::Draining,
                StopStage::Rung { index, next } => {
                    memory::StopStage::Rung { index, next: next.map(moment) }
                }
                StopStage::Killing { again, asked } => {
                    memory::StopStage::Killing { again: moment(again), asked }
                }
            },
            first_signal: it.first_signal.map(moment),
            killed_by: it.killed_by.map(by),
            sent: it.sent.into_iter().map(Signal).collect(),
            passed: it.passed.into_iter().map(Signal).collect(),
            unbegun: it.unbegun,
            rungs: it.rungs.into_iter().map(rung).collect(),
            drain_delay: Duration::from_millis(it.drain_delay),
            reserve: Duration::from_millis(it.reserve),
        }
    }
}

impl From<&memory::Ending> for Ending {
    fn from(it: &memory::Ending) -> Self {
        match *it {
            memory::Ending::Expected => Self::Expected,
            memory::Ending::ByItself { clean, ran } => Self::ByItself { clean, ran: millis(ran) },
            memory::Ending::Sick { ran } => Self::Sick { ran: millis(ran) },
        }
    }
}

impl From<Ending> for memory::Ending {
    fn from(it: Ending) -> Self {
        match it {
            Ending::Expected => Self::Expected,
            Ending::ByItself { clean, ran } => {
                Self::ByItself { clean, ran: Duration::from_millis(ran) }
            }
            Ending::Sick { ran } => Self::Sick { ran: Duration::from_millis(ran) },
        }
    }
}

impl From<&memory::Errand> for Errand {
    fn from(it: &memory::Errand) -> Self {
        match it {
            memory::Errand::Stop(by) => Self::Stop(actor(by)),
            memory::Errand::Restart(by) => Self::Restart(actor(by)),
            memory::Errand::Term(by) => Self::Term(actor(by)),
            memory::Errand::Kill(by) => Self::Kill(actor(by)),
            memory::Errand::Rollout(by) => Self::Rollout(actor(by)),
            memory::Errand::Liveness => Self::Liveness,
            memory::Errand::Startup => Self::Startup,
            memory::Errand::Configuration => Self::Configuration,
            memory::Errand::Shutdown(by) => Self::Shutdown(actor(by)),
            memory::Errand::Unwanted => Self::Unwanted,
            memory::Errand::Surplus => Self::Surplus,
        }
    }
}

impl From<Errand> for memory::Errand {
    fn from(it: Errand) -> Self {
        match it {
            Errand::Stop(actor) => Self::Stop(by(actor)),
            Errand::Restart(actor) => Self::Restart(by(actor)),
            Errand::Term(actor) => Self::Term(by(actor)),
            Errand::Kill(actor) => Self::Kill(by(actor)),
            Errand::Rollout(actor) => Self::Rollout(by(actor)),
            Errand::Liveness => Self::Liveness,
            Errand::Startup => Self::Startup,
            Errand::Configuration => Self::Configuration,
            Errand::Shutdown(actor) => Self::Shutdown(by(actor)),
            Errand::Unwanted => Self::Unwanted,
            Errand::Surplus => Self::Surplus,
        }
    }
}
