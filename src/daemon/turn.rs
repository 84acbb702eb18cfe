//! What the driver can be told: everything that reaches the fleet comes through one channel of these.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::api::{Deck, Difference, Done, Event, History, Plan, Problem, Role, RolloutRecord};
use crate::config::Valued;
use crate::config::settings::Settings;
use crate::fleet::input::{Input, Order, Refusal};
use crate::fleet::{By, Name, Process};

/// How many turns may wait. A full channel pushes back on whoever reports: probes wait, clients wait.
pub const BACKLOG: usize = 1024;

pub type Turns = mpsc::Sender<Turn>;
pub type Reply<T> = oneshot::Sender<T>;

/// One thing that happened or is asked.
#[derive(Debug)]
pub enum Turn {
    Input(Input),
    /// A probe answered: the screen keeps all of it, the fleet gets the verdict.
    Probed(super::life::probes::Probed),
    /// CPU, memory and connections were measured.
    Measured(super::measure::sampling::Measured),
    /// Trees were looked at.
    Looked(super::trees::census::Look),
    /// A server was asked for its load.
    Gauged(super::measure::gauges::Reading),
    /// A command of a rollout has begun, or ended.
    Command(super::runs::News),
    /// What the logger said.
    Logger(super::output::logging::News),
    /// What a gateway process said, or that it is there or gone.
    Gateway(super::gateway::News),
    /// What became of what an nginx was told.
    Nginx(super::nginx::News),
    /// What is heard of a hook.
    Hook(super::runs::hooks::News),
    /// Whether the daemon is found.
    Doorway(super::http::doorway::News),
    /// Why Prometheus cannot read, or that it can.
    Metrics(Option<String>),
    /// What the pid file of a foreign instance says by now.
    PidFile {
        instance: Name,
        seen: super::foreign::Seen,
    },
    /// A foreign instance was started, or why not.
    Begun {
        instance: Name,
        generation: u64,
        outcome: Result<super::foreign::start::Started, String>,
    },
    AdoptedExit(super::life::ends::AdoptedExit),
    /// `target`: the process the operator saw; another one now is a refusal.
    Order {
        order: Order,
        target: Option<(Name, Process)>,
        reply: Reply<Result<Done, Refusal>>,
    },
    Ask(Question),
    /// Become another program.
    Replace(super::replace::Asked),
    /// This process was another program before, and takes its first turn.
    TookOver(Box<super::replace::Heir>),
    /// Whether a program can be the next daemon: its version, or why not.
    Proven {
        asked: super::replace::Asked,
        program: PathBuf,
        proof: Result<String, String>,
    },
    /// The configuration file was read, or has mistakes.
    Settings(NewSettings),
    /// End the daemon. `keep`: services run on.
    Shutdown {
        by: Option<By>,
        keep: bool,
        reply: Option<Reply<Result<Done, Problem>>>,
    },
}

/// The journal's files, its last events, and those to come.
pub type Past = (Vec<PathBuf>, Vec<Event>, broadcast::Receiver<Arc<Event>>);

/// Something that changes nothing.
#[derive(Debug)]
pub enum Question {
    /// Whether what servers say of themselves is at hand; else it soon is.
    Look {
        reply: Reply<bool>,
    },
    Deck {
        role: Role,
        reply: Reply<Deck>,
    },
    /// The same, and what there is to look at of the trees of these services or instances; of all, if none
    /// are named.
    Trees {
        role: Role,
        names: Vec<String>,
        reply: Reply<(Deck, Vec<(String, super::trees::tree::Tree)>)>,
    },
    /// [`crate::api::BriefService`]s in a snapshot, as JSON.
    Brief {
        role: Role,
        reply: Reply<String>,
    },
    /// A snapshot as one line, and the changes after it.
    Watch {
        role: Role,
        reply: Reply<(Arc<str>, broadcast::Receiver<Arc<str>>)>,
    },
    /// What there is to look at closely.
    Detail {
        instance: String,
        reply: Reply<Option<Box<super::show::detail::Subject>>>,
    },
    /// What was counted of a service or an instance.
    History {
        name: String,
        is_service: bool,
        reply: Reply<Option<History>>,
    },
    Plan {
        service: String,
        /// Values of `--set`.
        set: BTreeMap<String, String>,
        reply: Reply<Result<Plan, Refusal>>,
    },
    /// The rollout of a service that runs or ran last; the outer `None`: there is no such service.
    Rollout {
        service: String,
        reply: Reply<Option<Option<RolloutRecord>>>,
    },
    /// The log files behind a name: an instance's own, or those of all instances of a service.
    Logs {
        name: String,
        reply: Reply<Vec<super::http::logs::File>>,
    },
    /// The journal's files, its last events, and those to come.
    Journal {
        reply: Reply<Past>,
    },
    /// Whether the driver lives.
    Alive {
        reply: Reply<()>,
    },
    /// Names of `--set` that have a value.
    Valued {
        reply: Reply<Valued>,
    },
    /// What applying these settings would do.
    Diff {
        settings: Box<Settings>,
        reply: Reply<Vec<Difference>>,
    },
}

/// A configuration file that was read again.
#[derive(Debug)]
pub struct NewSettings {
    /// `Err`: the rendered mistakes, and the first line of each.
    pub read: Result<Box<Settings>, Mistakes>,
    pub scope: Scope,
    pub reply: Option<Reply<Result<Done, Problem>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    pub rendered: String,
    pub first_lines: Vec<String>,
}

/// Who wants it applied, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An edit was seen: only what stops nothing.
    Watched,
    /// SIGHUP or SIGUSR1: everything, unless more than half of the services would stop.
    Signal(&'static str),
    /// `config apply`. `yes`: even if more than half of the services stop.
    Order { by: By, yes: bool },
}
