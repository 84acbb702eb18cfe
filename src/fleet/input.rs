//! Everything the fleet can be told, and everything it can ask for, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::{Ladder, Memory, Rollout, Round};
use super::rules::ServiceRules;
use super::time::Timestamp;
use super::words::{By, Name, Process, Signal};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The configuration: the first one, or one that replaces another. In file order.
    Configured(Vec<ServiceRules>),
    /// A service has another name in the configuration that comes next.
    Renamed {
        from: Name,
        to: Name,
    },
    /// Kept from the last daemon, before [`Input::Begin`]: what the operator wanted of an instance.
    Remembered {
        instance: Name,
        goal: Goal,
        held_by: Option<By>,
    },
    /// Kept from the last daemon, before [`Input::Adopted`]: it was said to be ready.
    WasReady {
        instance: Name,
        generation: u64,
    },
    /// Kept from the last daemon and found alive by identity, before [`Input::Begin`].
    Adopted {
        instance: Name,
        process: Process,
        generation: u64,
        started: Timestamp,
        fingerprint: u64,
        /// Somebody else has started it, whatever the configuration says by now.
        foreign: bool,
    },
    /// Kept from the last daemon and gone since, before [`Input::Begin`]: what it left behind has to go
    /// before anything else.
    Departed {
        instance: Name,
        generation: u64,
        started: Timestamp,
        fingerprint: u64,
    },
    /// How an instance is stopped should no configuration name it any more, right before
    /// [`Input::Adopted`].
    Ladder {
        instance: Name,
        ladder: Box<Ladder>,
    },
    /// What was under way with an instance, after what is alive and before [`Input::Begin`].
    Recalled(Box<Memory>),
    /// The last rollout of a service, before [`Input::Begin`].
    RolloutRecalled {
        service: Name,
        rollout: Box<Rollout>,
    },
    /// A signal that was on its way through a service, before [`Input::Begin`].
    RoundRecalled {
        service: Name,
        round: Box<Round>,
    },
    /// Kept from the last daemon: the next generation is greater than this.
    Generation {
        instance: Name,
        generation: u64,
    },
    /// The port that was picked for a spare.
    Port {
        instance: Name,
        port: u16,
    },
    /// Everything that is known has been told: start what is wanted.
    Begin,
    /// A foreign process was found, in the place of the one that was known if there is one: of the next
    /// generation, which the hands have counted.
    Found {
        instance: Name,
        process: Process,
        generation: u64,
        started: Timestamp,
        /// What else is to be told of it, to be read behind its pid.
        note: String,
    },
    /// The command that stops a foreign instance runs.
    StopBegun {
        instance: Name,
        generation: u64,
    },
    /// The command that was to stop a foreign instance could not do that.
    StopFailed {
        instance: Name,
        generation: u64,
        why: String,
    },
    /// Why no process of a foreign instance was found. `is_odd`: more than that there is none.
    Missed {
        instance: Name,
        why: String,
        is_odd: bool,
    },
    Spawned {
        instance: Name,
        generation: u64,
        process: Process,
    },
    SpawnFailed {
        instance: Name,
        generation: u64,
        failure: SpawnFailure,
    },
    /// The leader ended. Its group may live on: answer with [`Effect::Sweep`].
    Exited {
        instance: Name,
        generation: u64,
        exit: Exit,
    },
    /// Nothing of that generation is left. `killed` outlived their leader: pid and name.
    Swept {
        instance: Name,
        generation: u64,
        killed: Vec<(i32, String)>,
    },
    /// One probe result. Thresholds are counted here.
    Probed {
        instance: Name,
        generation: u64,
        probe: Probe,
        ok: bool,
        detail: String,
    },
    Load {
        instance: Name,
        in_flight: InFlight,
    },
    /// Of one that is being stopped: so many requests were cut so far, the last of them then. An estimate. `late`:
    /// those that came when it was being stopped already.
    Lost {
        instance: Name,
        requests: u32,
        late: u32,
        at: Timestamp,
    },
    /// The gateway could not send these requests again; right before its exit, or after it.
    Cut {
        instance: Name,
        generation: u64,
        requests: u32,
    },
    /// From here on the gateway sends it nothing new. What is in flight was told right before.
    TakenOut {
        instance: Name,
    },
    /// The gateway cannot let go of it: it goes on sending. [`Input::TakenOut`] may follow all the same.
    NotTakenOut {
        instance: Name,
        why: String,
    },
    /// Who of this tree a reload would renew, as [`Effect::Survey`] asks to be told.
    Workers {
        instance: Name,
        process: Process,
        workers: Vec<Process>,
        shown: Shown,
    },
    /// All of this tree whom reloads renew, as [`Effect::Follow`] asks to be told.
    Members {
        instance: Name,
        process: Process,
        workers: Vec<Process>,
    },
    /// A command of a rollout ended; `Err` says how.
    Ran {
        service: Name,
        instance: Name,
        index: usize,
        outcome: Result<(), String>,
    },
    /// [`super::Fleet::next_deadline`] is past.
    DeadlineReached,
}

impl Input {
    /// A start that failed for a reason that the rules of the fleet do not know.
    pub fn spawn_failed(instance: &Name, generation: u64, reason: String, passing: bool) -> Self {
        let failure = SpawnFailure { reason, passing };
        Self::SpawnFailed { instance: instance.clone(), generation, failure }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    Startup,
    Liveness,
    Readiness,
}

/// What else a look at a tree whose reload is watched has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Some may be none that a reload renews, as only titles would tell.
    pub may_spare: bool,
    /// No connection of its port waits for an answer.
    pub is_idle: bool,
    /// Nothing tells whom the signal renews: all are told that any reload renews.
    pub untitled: bool,
    /// How many a reload renews, as the server says itself.
    pub renewed: Option<usize>,
}

/// What the operator wants, as opposed to what is the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Up,
    Down,
}

/// Requests accepted and not finished.
///
/// An exact count includes those that the end of the process cuts, until [`Input::Exited`] is told: it
/// is what the diary calls lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Exact(u32),
    /// Connections on its port over which something came that nothing was sent for yet.
    Estimated(u32),
}

impl InFlight {
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact(_))
    }

    pub fn count(self) -> u32 {
        match self {
            Self::Exact(n) | Self::Estimated(n) => n,
        }
    }
}

/// How a leader ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub status: Status,
    pub out_of_memory: OutOfMemory,
}

/// Whether the kernel ended it for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfMemory {
    #[default]
    No,
    /// A memory cgroup that it shared with others counted such a kill while it ran.
    Probably,
    /// Its own cgroup did.
    Certainly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Code(i32),
    Signal(Signal),
    /// An adopted process: its parent took the status.
    Unknown,
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// `could not execute /srv/shop/web: permission denied`, `port 9502 is held by php (pid 4711)`.
    pub reason: String,
    /// Trying again soon may help (EAGAIN, a port that is still held).
    pub passing: bool,
}

/// What an operator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: By,
    pub verb: Verb,
    /// Refuse with [`RefusalKind::Confirm`] where it would hurt.
    pub guard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    StartService(Name),
    /// `now`: SIGKILL at once.
    StopService {
        service: Name,
        now: bool,
    },
    /// All its instances in place, at once.
    RestartService(Name),
    /// Instance by instance, each ready before the next. `None`: the profile's reload signal.
    /// `dispositions` holds what each of its instances does with the signal.
    SignalService {
        service: Name,
        signal: Option<Signal>,
        dispositions: BTreeMap<Name, Disposition>,
    },
    Roll {
        service: Name,
        set: BTreeMap<String, String>,
    },
    Abort(Name),
    Pause(Name),
    Resume(Name),
    RollBack(Name),
    Start(Name),
    /// `now`: SIGKILL at once.
    Stop {
        instance: Name,
        now: bool,
    },
    Restart(Name),
    Drain(Name),
    Undrain(Name),
    /// Ten more seconds on its countdown.
    Extend(Name),
    /// End its countdown now.
    Kill(Name),
    /// SIGTERM begins a stop whose goal stays up; other signals are passed on.
    Signal {
        instance: Name,
        signal: Option<Signal>,
        /// The process the operator saw; the order is refused if it is another one now.
        process: Option<Process>,
        disposition: Disposition,
    },
    /// To one process of its tree that is not the leader.
    SignalMember {
        instance: Name,
        signal: Signal,
        member: Member,
        disposition: Disposition,
    },
    /// Stop everything in reverse dependency order; [`super::Fleet::is_at_rest`] tells when it is done.
    StopAll,
}

/// A process of a tree as it was seen right before the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub process: Process,
    /// What it is by the profile: `worker`.
    pub role: Option<String>,
    /// Its server puts another one in its place.
    pub renewed: bool,
    /// The signal that lets it finish what it is working on, where that is not SIGTERM.
    pub stop: Option<Signal>,
    /// The others that are renewed.
    pub others: Vec<Process>,
    /// How many others have its role.
    pub alike: usize,
}

/// What a process does with a signal (SigCgt, SigIgn of `/proc/PID/status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    Caught,
    /// The same, and what is in flight is cut.
    Cuts,
    /// The same, and what is in flight may be cut: what limit it goes by has been changed, or will be.
    CutsPerhaps,
    Ignored,
    /// The kernel's default: for most signals, death.
    Default,
    /// It is caught, and may close every connection, whatever is in flight.
    MayCut,
    #[default]
    Unknown,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What could not be done.
    pub what: String,
    pub why: String,
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The guard: `why` says why it is dangerous.
    Confirm,
    /// Another process than the operator saw.
    Changed,
    /// A rollout is under way.
    Busy,
    NotFound,
    Refused,
}

/// Whether a change of the rotation can wait for others, where telling a gateway is dear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// An order, a rollout, a crash.
    AtOnce,
    /// Only readiness has changed, and may change back.
    MayWait,
}

/// What to do about it. Each one is begun at once; its outcome comes back as an [`Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Spawn {
        instance: Name,
        generation: u64,
    },
    /// To the leader only, through its pidfd.
    Signal {
        instance: Name,
        process: Process,
        signal: Signal,
    },
    /// Look at the tree of this leader now, before what follows; report [`Input::Workers`], and go on with
    /// that while [`super::Fleet::watches_reload`].
    Survey {
        instance: Name,
        process: Process,
        /// Who is left of those whom an earlier daemon saw before it sent the signal; `None`: this is the
        /// first look.
        known: Option<Vec<Process>>,
        /// Only these roles; empty: all that are renewed.
        roles: Vec<String>,
    },
    /// To this process of its tree, if it is that still.
    SignalMember {
        instance: Name,
        member: Process,
        signal: Signal,
    },
    /// Report [`Input::Members`] again and again, while [`super::Fleet::follows`].
    Follow {
        instance: Name,
        process: Process,
    },
    /// SIGKILL to everything of that generation; report [`Input::Swept`] once nothing is left, after
    /// [`Input::Exited`]. It may be asked for again while that takes long.
    KillAll {
        instance: Name,
        generation: u64,
    },
    /// The leader is gone: kill and name what it left behind, report [`Input::Swept`]. It may be asked
    /// for again while that takes long.
    Sweep {
        instance: Name,
        generation: u64,
    },
    /// Run the command that stops a foreign instance; report [`Input::StopBegun`], and [`Input::StopFailed`] if it
    /// fails.
    /// [`Effect::KillAll`] ends it as well, and so does `deadline` if its process has ended before.
    RunStop {
        instance: Name,
        generation: u64,
        deadline: Timestamp,
    },
    /// The last daemon was to run that command, and nobody saw its end: go on as [`Effect::RunStop`] would if it
    /// runs still. One that has ended may have done its work: its process has until the deadline. `unbegun`: it was
    /// not seen to begin either, so without a trace of it it is run now.
    AwaitStop {
        instance: Name,
        generation: u64,
        deadline: Timestamp,
        unbegun: bool,
    },
    /// The last daemon has begun to start a foreign instance: wait until its process is there, without
    /// beginning anew; report [`Input::Spawned`] or [`Input::SpawnFailed`].
    AwaitStart {
        instance: Name,
        generation: u64,
    },
    /// A foreign process is nobody's business here any more: forget it, and leave it alone.
    LetGo {
        instance: Name,
        generation: u64,
    },
    /// Begin the probe; report [`Input::Probed`] for every result.
    StartProbe {
        instance: Name,
        generation: u64,
        probe: Probe,
    },
    StopProbe {
        instance: Name,
        probe: Probe,
    },
    /// The gateway may send it new requests, or not.
    Admit {
        instance: Name,
        haste: Haste,
    },
    /// Where a gateway stands in front, report [`Input::TakenOut`] once that is so: until then no drain
    /// is over, because a request may be on its way.
    TakeOut {
        instance: Name,
        haste: Haste,
    },
    /// Run a command of a rollout; report [`Input::Ran`].
    Run {
        service: Name,
        instance: Name,
        command: Command,
    },
    /// End the command that runs for this rollout. It does not report [`Input::Ran`] any more.
    CancelRun {
        service: Name,
        instance: Name,
    },
    /// Values of `--set`: from now on used to expand the commands of its rollouts. Its instances keep
    /// theirs until [`Effect::TakeValues`].
    Set {
        service: Name,
        values: BTreeMap<String, String>,
    },
    /// The service has the values from before its last rollout again.
    Unset {
        service: Name,
    },
    /// The instance takes the values of its service for command, environment and `expect`; or goes
    /// `back` to those it had before.
    TakeValues {
        instance: Name,
        back: bool,
    },
    /// Keep for the next daemon.
    Remember {
        instance: Name,
        goal: Goal,
        held_by: Option<By>,
    },
    /// Keep for the next daemon, before any other effect of the turn is begun: a signal must not be sent
    /// twice.
    Keep(Box<Memory>),
    /// `None`: there is nothing to be remembered any more.
    KeepRollout {
        service: Name,
        rollout: Option<Box<Rollout>>,
    },
    /// `None`: it went through.
    KeepRound {
        service: Name,
        round: Option<Box<Round>>,
    },
    Record(Record),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Build(usize),
    RollBack(usize),
}

/// An event for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kebab-case.
    pub kind: &'static str,
    pub service: Option<Name>,
    pub instance: Option<Name>,
    pub by: Option<By>,
    /// A sentence for people, without the instance's name in front.
    pub message: String,
    /// The hands add probe bodies, last log lines and the exit status.
    pub with_evidence: bool,
    pub extra: Extra,
}

/// What a record has beside its sentence, for those who count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    #[default]
    Nothing,
    /// What was in flight when a process ended.
    Lost(InFlight),
    /// How a stop went that ended a process, and what was in flight then.
    Stopped(Stopped, Option<InFlight>),
    /// A rollout has come to this.
    Rollout(Mark),
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The first signal.
    pub signal: Option<Signal>,
    /// From it to the exit.
    pub after: Duration,
    /// From it to the moment when the last request was cut, where that is known.
    pub cut_after: Option<Duration>,
    /// Requests that it had when it ended. What stood in front may have sent them again.
    pub in_flight: u32,
    /// Those of them that came when it was being stopped already.
    pub late: u32,
    /// From the first moment of the drain to SIGKILL.
    pub max_wait_time: Duration,
    /// SIGKILL was needed: `max_wait_time` was over.
    pub killed: bool,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    Began {
        /// In the order in which they are to be renewed, as it stands.
        plan: Vec<Name>,
        /// The one that lives only while the others are renewed.
        spare: Option<Name>,
        rollback: bool,
    },
    /// `build`, `draining`, `starting`, `settle`, `renewed`.
    Step { instance: Name, step: &'static str },
}

/// A stop in progress, for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Countdown {
    pub began: Timestamp,
    /// SIGKILL.
    pub deadline: Timestamp,
    pub max_wait_time: Duration,
    pub rung: Option<Signal>,
}
