//! Carries out effects. Each one is begun at once; its outcome comes back as an input, either right away
//! through [`Hands::take_outcome`] or later through the channel of turns.
//!
//! What is split off by subject: `signals` sends what an order wants, `keeping` writes down what the next daemon
//! has to know, `evidence` gathers what an event is about; `launch` starts processes, `ends` sees them die, `sampling` measures,
//! `runs` runs the commands of rollouts, `probes` and `logging` keep their own tasks.

pub(super) mod evidence;
mod keeping;
mod signals;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use tracing::warn;

use super::boot::Plan;
use super::clock;
use super::foreign::Foreign;
use super::foreign::start::Begin;
use super::front::Front;
use super::kept::state::{Line, Running, StateFile, Wanted};
use super::life::launch::Values;
use super::life::probes::Probes;
use super::life::sockets::{self, Sockets};
use super::life::trust;
use super::measure::gauges::Gauges;
use super::measure::sampling::Sampler;
use super::output::logging::{self, Link};
use super::runs::Runs;
use super::show::advice::Last;
use super::show::publish;
use super::trees::reloads::Reloads;
use super::trees::turnover::Turnover;
use super::turn::Turns;
use super::values::Versions;
use crate::config::settings::{self, Settings};
use crate::fleet::input::{Effect, Input};
use crate::fleet::{Name, Process, Timestamp};
use crate::logger::{Source, ToLogger};
use crate::process::cgroup::Cgroups;
use crate::process::group::Group;
use crate::process::reaper::Reaper;
use crate::process::spawn::{Prepared, Spawned};
use crate::process::{Identity, oom};

/// Directories of this daemon.
#[derive(Clone, Debug)]
pub struct Places {
    pub state_dir: PathBuf,
    pub logs: PathBuf,
    pub fifos: PathBuf,
}

impl Places {
    pub fn of(plan: &Plan) -> Self {
        Self {
            state_dir: plan.state_dir.clone(),
            logs: plan.state_dir.join("logs"),
            fifos: plan.runtime_dir.clone(),
        }
    }
}

/// What the configuration says about one instance, for those who carry it out.
#[derive(Debug)]
pub(super) struct Known {
    pub service: Name,
    pub settings: settings::Instance,
    pub fingerprint: u64,
    pub log: settings::Log,
    /// Its FIFO, held open so that nothing is lost while the logger is away.
    pub fifo: Option<OwnedFd>,
    /// Its next start, until its settings or values are others.
    pub prepared: Option<Arc<Prepared>>,
}

impl Known {
    /// Its FIFO is open, and nobody has removed it.
    pub(super) fn has_output(&self) -> bool {
        let links = |it: &OwnedFd| rustix::fs::fstat(it).map_or(0, |it| it.st_nlink);
        self.fifo.as_ref().is_some_and(|it| links(it) > 0)
    }
}

/// A process that runs, or whose group does.
#[derive(Debug)]
pub(super) struct Living {
    pub generation: u64,
    pub process: Process,
    /// Where it listens: the configuration may have another port for its next start.
    pub port: Option<u16>,
    /// `None`: it had ended before this daemon could open one.
    pub pidfd: Option<OwnedFd>,
    pub group: Group,
    /// What the kernel had killed for want of memory when it was started.
    pub oom: oom::Counts,
    pub refusal: Option<crate::process::exec_as::Refusal>,
    /// All of it was killed while its leader lived: nobody was left behind.
    pub killing: bool,
    /// Its leader is gone; what was killed of the rest.
    pub sweeping: Option<Vec<(i32, String)>>,
    /// Somebody else runs it: what it leaves behind is left alone.
    pub foreign: bool,
    /// What the next daemon knows of it.
    pub record: Option<Running>,
}

pub struct Hands {
    pub(super) places: Places,
    pub(super) turns: Turns,
    pub(super) tasks: TaskTracker,
    pub(super) reaper: Reaper,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) trust: trust::Seen,
    /// Where the kernel counts what it kills for want of memory; looked for at the first start.
    pub(super) oom: OnceCell<Option<oom::Shared>>,
    pub(super) state: StateFile,
    pub(super) link: Link,
    /// Orders to the logger that the link has not taken yet.
    pub(super) orders: Vec<ToLogger>,
    pub(super) known: BTreeMap<Name, Known>,
    /// The configuration that runs.
    settings: Arc<Settings>,
    pub(super) values: Versions,
    /// Base variables by user, as they were when the configuration was taken over.
    pub(super) accounts: RefCell<BTreeMap<Option<String>, BTreeMap<String, String>>>,
    pub(super) living: BTreeMap<Name, Living>,
    /// Leaders by pid.
    pub(super) leaders: BTreeMap<i32, Name>,
    /// Instances whose leader is gone and whose rest is not.
    pub(super) sweeping: BTreeSet<Name>,
    pub(super) look_at: Option<Timestamp>,
    /// What is left of those that ended: closed when nobody waits for the next start any more.
    pub(super) remains: Vec<Living>,
    /// Instances that `exec-as` could not start, and why: the driver makes events of them.
    pub(super) refusals: Vec<(Name, String)>,
    /// Signals that the kernel did not let through, and why.
    unsent: Vec<(Name, String)>,
    /// The last number of a flush, and whose output the unanswered ones are about.
    pub(super) flushes: (u64, BTreeMap<u64, Name>),
    pub(super) outcomes: VecDeque<Input>,
    pub(super) probes: Probes,
    pub(super) runs: Runs,
    pub(super) sampler: Sampler,
    pub(super) gauges: Gauges,
    pub(super) reloads: Reloads,
    pub(super) front: Front,
    pub(super) sockets: Sockets,
    pub(super) last: Last,
    pub(super) foreign: Foreign,
    pub(super) turnover: Turnover,
}

impl Hands {
    pub fn new(
        places: Places,
        state: StateFile,
        link: Link,
        turns: Turns,
        tasks: TaskTracker,
    ) -> io::Result<Self> {
        super::host::private_directory(&places.logs)?;
        let reaper = Reaper::default();
        let checker = super::runs::checker(reaper.clone())?;
        let cgroups = Cgroups::find(&places.state_dir)
            .inspect_err(|err| tracing::info!(%err, "groups are followed without cgroups"))
            .ok();
        Ok(Self {
            probes: Probes::new(checker, turns.clone(), tasks.clone()),
            runs: Runs::new(reaper.clone(), turns.clone(), tasks.clone(), places.logs.clone()),
            sampler: Sampler::new(turns.clone(), tasks.clone()),
            gauges: Gauges::new(turns.clone(), tasks.clone()),
            reloads: Reloads::default(),
            front: Front::new(clock::now()),
            sockets: Sockets::new(),
            last: Last::default(),
            foreign: Foreign::default(),
            turnover: Turnover::default(),
            places,
            turns,
            tasks,
            reaper,
            cgroups,
            trust: trust::Seen::new(),
            oom: OnceCell::new(),
            state,
            link,
            orders: vec![],
            known: BTreeMap::new(),
            settings: Arc::default(),
            values: Versions::default(),
            accounts: RefCell::default(),
            living: BTreeMap::new(),
            leaders: BTreeMap::new(),
            sweeping: BTreeSet::new(),
            look_at: None,
            remains: vec![],
            refusals: vec![],
            unsent: vec![],
            flushes: (0, BTreeMap::new()),
            outcomes: VecDeque::new(),
        })
    }

    /// Takes over the settings of services and instances. Called before the fleet hears of them.
    pub fn configure(&mut self, settings: &Arc<Settings>) {
        self.settings = settings.clone();
        self.front.configure(settings);
        sockets::configure(&mut self.sockets, settings);
        let is_asked = |it: &settings::Service| matches!(it.written.load, settings::Load::Asked(_));
        self.gauges.configure(settings.services.iter().any(is_asked));
        self.accounts.get_mut().clear();
        self.trust.forget_all();
        let mut known = BTreeMap::new();
        let mut changed = vec![];
        for service in &settings.services {
            let rules = service.rules.instances.iter().map(|it| (it.name.clone(), it.fingerprint));
            let spare = service.rules.rollout.spare.clone().map(|it| (it, 0));
            let instances = service.instances.iter().cloned().chain(service.spare(None));
            for ((name, fingerprint), instance) in rules.chain(spare).zip(instances) {
                // One that was picked stays.
                let picked = self.known.get(&name).and_then(|it| it.settings.port);
                let instance = super::life::spare::made(service, &name, picked).unwrap_or(instance);
                let old = self.known.remove(&name);
                if let Some(old) = &old
                    && old.settings.port == instance.port
                {
                    changed.extend(super::life::probes::changed(&name, &old.settings, &instance));
                }
                let it = Known {
                    service: service.rules.name.clone(),
                    settings: instance,
                    fingerprint,
                    log: service.log,
                    fifo: old.and_then(|it| it.fifo),
                    prepared: None,
                };
                if it.fifo.is_some() {
                    self.orders.push(ToLogger::Open(self.source(&name, service.log)));
                }
                known.insert(name, it);
            }
        }
        // What is no longer configured may still be stopping: it keeps its output until then.
        let mut gone = vec![];
        for (name, it) in std::mem::take(&mut self.known) {
            if self.living.contains_key(&name) {
                known.insert(name, it);
            } else {
                self.orders.push(ToLogger::Close { name: name.to_string() });
                gone.push(name);
            }
        }
        self.known = known;
        self.forget_names(gone);
        self.record_anew();
        self.configure_foreign();
        for (name, kind) in changed {
            self.restart_probe(&name, kind);
        }
    }

    /// A service of the configuration that runs.
    pub(super) fn service(&self, name: &Name) -> Option<&settings::Service> {
        self.settings.services.iter().find(|it| it.rules.name == *name)
    }

    pub(super) fn source(&self, name: &Name, log: settings::Log) -> Source {
        Source {
            name: name.to_string(),
            fifo: self.places.fifos.join(format!("{name}.fifo")),
            log: self.places.logs.join(format!("{name}.log")),
            max_size: log.max_size,
            keep: log.keep,
        }
    }

    /// Begins one effect.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { instance, generation } => self.spawn(vec![(instance, generation)]),
            Effect::Signal { instance, process, signal } => {
                if !self.reloads.keeps(&instance, process, signal) {
                    self.send_kept(&instance);
                    self.signal(&instance, process, signal);
                }
            }
            Effect::Survey { instance, process, known, roles } => {
                self.survey(&instance, process, known, roles);
            }
            Effect::SignalMember { instance, member, signal } => {
                self.signal_member(&instance, member, signal);
            }
            Effect::Follow { instance, process } => self.follow(&instance, process),
            Effect::KillAll { instance, generation } => {
                self.trust.forget(&instance);
                self.follow_end(&instance);
                self.state.write();
                self.note_who_lives(&instance);
                self.kill_all(&instance, generation);
            }
            Effect::Sweep { instance, generation } => self.sweep(&instance, generation),
            Effect::RunStop { instance, generation, deadline } => {
                // With nothing in between, as a signal.
                self.state.write();
                self.stop_foreign(&instance, generation, deadline);
            }
            Effect::AwaitStop { instance, generation, deadline, unbegun } => {
                self.await_stop(&instance, generation, deadline, unbegun);
            }
            Effect::AwaitStart { instance, generation } => {
                let begun = self.start_foreign(&instance, generation, Begin::Awaited);
                let failed =
                    begun.err().map(|it| Input::spawn_failed(&instance, generation, it, false));
                self.outcomes.extend(failed);
            }
            Effect::LetGo { instance, generation } => self.let_go_of(&instance, generation),
            Effect::StartProbe { instance, generation, probe } => {
                self.start_probe(&instance, generation, probe);
            }
            Effect::StopProbe { instance, probe } => self.probes.stop(&instance, probe),
            Effect::Admit { instance, haste } => self.front.admit(&instance, haste),
            Effect::TakeOut { instance, haste } => {
                let told = self.front.take_out(&instance, haste);
                // Nobody in front is waited for, but what it says itself.
                if told.is_none() || !self.read_at_the_end(&instance) {
                    self.outcomes.extend(told);
                }
                self.follow_end(&instance);
            }
            Effect::Run { service, instance, command } => self.run(&service, &instance, command),
            Effect::CancelRun { service, .. } => self.runs.cancel(&service),
            Effect::Set { service, values } => self.set_values(&service, values),
            Effect::Unset { service } => self.unset_values(&service),
            Effect::TakeValues { instance, back } => self.take_values(&instance, back),
            Effect::Remember { instance, goal, held_by } => {
                self.state.append(&Line::Wanted(Wanted {
                    instance: instance.to_string(),
                    goal: publish::goal(goal),
                    held_by: held_by.as_ref().map(publish::actor),
                }));
            }
            // Written down already.
            Effect::Keep(_) | Effect::KeepRollout { .. } | Effect::KeepRound { .. } => {}
            Effect::Record(record) => {
                // The driver takes these; one that comes here is at least not lost.
                warn!(message = record.message, "an event went astray");
            }
        }
    }

    /// What is known already and nobody had to wait for.
    pub fn take_outcome(&mut self) -> Option<Input> {
        self.outcomes.pop_front()
    }

    /// Instances that could not become their program, and why.
    pub fn take_refusals(&mut self) -> Vec<(Name, String)> {
        std::mem::take(&mut self.refusals)
    }

    /// Signals that could not be sent, and why.
    pub fn take_unsent(&mut self) -> Vec<(Name, String)> {
        std::mem::take(&mut self.unsent)
    }

    pub fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Writes the state and passes on what the logger has to know.
    pub fn flush(&mut self) {
        self.remains.clear();
        self.front.flush();
        self.state.flush();
        if !self.orders.is_empty()
            && let Err(orders) = self.link.send(std::mem::take(&mut self.orders))
        {
            self.orders = logging::keep_back(orders);
        }
    }

    /// Why what is decided cannot be kept for the next daemon.
    pub fn trouble(&self) -> Option<String> {
        self.state.trouble.clone()
    }

    /// The values of `--set` that a service has, and what an order would add.
    pub fn values_with(&self, service: &str, set: Values) -> Values {
        let mut values = self.values.of_service(&Name::from(service));
        values.extend(set);
        values
    }
}

impl From<Identity> for Process {
    fn from(it: Identity) -> Self {
        Self { pid: it.pid, start_time: it.start_time }
    }
}

impl From<Process> for Identity {
    fn from(it: Process) -> Self {
        Self { pid: it.pid, start_time: it.start_time }
    }
}

/// What [`Spawned`] becomes.
pub(super) fn living(
    spawned: Spawned,
    (generation, port): (u64, Option<u16>),
    group: Group,
    oom: oom::Counts,
) -> Living {
    Living {
        port,
        generation,
        process: Process::from(spawned.identity),
        pidfd: Some(spawned.pidfd),
        group,
        oom,
        refusal: spawned.refusal,
        killing: false,
        sweeping: None,
        foreign: false,
        record: None,
    }
}
