//! Carries out effects. Each one is begun at once; its outcome comes back as an input, either right away
//! through [`Hands::take_outcome`] or later through the channel of turns.
//!
//! What is split off by subject: `launch` starts processes, `ends` sees them die, `sampling` measures,
//! `runs` runs the commands of rollouts, `probes` and `logging` keep their own tasks.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use tracing::warn;

use super::boot::Plan;
use super::clock;
use super::foreign::Foreign;
use super::foreign::start::Begin;
use super::front::Front;
use super::kept::state::{self, Intent, Ladder, Line, Running, StateFile, Wanted};
use super::life::launch::Values;
use super::life::probes::Probes;
use super::life::sockets::{self, Sockets};
use super::life::trust;
use super::measure::gauges::Gauges;
use super::measure::sampling::Sampler;
use super::output::logging::{self, Link};
use super::runs::Runs;
use super::show::advice::Last;
use super::show::facts::Facts;
use super::show::publish;
use super::trees::reloads::Reloads;
use super::trees::turnover::Turnover;
use super::turn::Turns;
use super::values::Versions;
use crate::config::settings::{self, Settings};
use crate::fleet::input::{Disposition, Effect, Input, Record, Verb};
use crate::fleet::{Fleet, Name, Process, Signal, Timestamp};
use crate::logger::{Source, ToLogger};
use crate::process::cgroup::Cgroups;
use crate::process::group::Group;
use crate::process::reaper::Reaper;
use crate::process::spawn::{Prepared, Spawned};
use crate::process::{Identity, oom, preflight, signal};
use crate::roles::Rule;

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

/// Bytes of a probe's body in evidence.
const LONGEST_BODY: usize = 1024;

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

    /// Notes what is about to be done: which processes are started, and which signals a stop has sent. It
    /// is written right before each is done: none of them is sent twice, whenever this daemon ends.
    pub fn intend(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.note_rollout(record),
                Effect::Spawn { instance, generation } => {
                    let fingerprint = self.known.get(instance).map_or(0, |it| it.fingerprint);
                    let (instance, generation) = (instance.to_string(), *generation);
                    self.state.append(&Line::Intent(Intent { instance, generation, fingerprint }));
                }
                Effect::Keep(memory) => {
                    self.state.append(&Line::Kept(Box::new(memory.as_ref().into())));
                }
                Effect::KeepRollout { service, rollout } => {
                    let log_begins = self.runs.log_begins(service);
                    let service = service.to_string();
                    self.state.append(&match rollout {
                        Some(it) => {
                            let it = state::Rollout::of(service, it, log_begins);
                            Line::Rollout(Box::new(it))
                        }
                        None => Line::NoRollout { service },
                    });
                }
                Effect::KeepRound { service, round } => {
                    let service = service.to_string();
                    self.state.append(&match round {
                        Some(it) => Line::Round(state::Round::of(service, it)),
                        None => Line::NoRound { service },
                    });
                }
                _ => {}
            }
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
            Effect::AwaitStop { instance, generation, deadline } => {
                self.await_stop(&instance, generation, deadline);
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

    pub(super) fn signal(&mut self, instance: &Name, process: Process, signal: Signal) {
        self.trust.forget(instance);
        self.follow_end(instance);
        // With nothing in between: a signal that is written down and not sent is missed.
        self.state.write();
        self.send(instance, process, signal);
    }

    fn send(&mut self, instance: &Name, process: Process, signal: Signal) {
        let Some(living) = self.living.get(instance).filter(|it| it.process == process) else {
            return;
        };
        let Some(pidfd) = &living.pidfd else { return };
        match signal::send(pidfd.as_fd(), signal.0) {
            // It ended by itself in this very moment; its exit is on the way.
            Ok(()) => (),
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => (),
            Err(err) => {
                let why = format!("{signal} could not be sent to pid {}: {err}", process.pid);
                self.unsent.push((instance.clone(), why));
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

    /// Reads what the targets of a signal do with it, right before the fleet decides.
    pub fn preflight(&self, verb: &mut Verb, fleet: &Fleet) {
        match verb {
            Verb::Signal { instance, signal, disposition, .. } => {
                let reload = || self.reload_signal(instance);
                if let Some(signal) = signal.or_else(reload) {
                    *disposition = self.disposition(instance, signal);
                }
            }
            Verb::SignalMember { signal, member, disposition, .. } => {
                *disposition = disposition_of(member.process.pid, *signal);
            }
            Verb::SignalService { service, signal, dispositions } => {
                let Some(sheet) = fleet.service_sheet(service.as_str()) else { return };
                for it in sheet.instances {
                    let reload = || self.reload_signal(&it.name);
                    if let Some(signal) = signal.or_else(reload) {
                        let disposition = self.disposition(&it.name, signal);
                        dispositions.insert(it.name, disposition);
                    }
                }
            }
            _ => (),
        }
    }

    fn reload_signal(&self, instance: &Name) -> Option<Signal> {
        let service = self.service(&self.known.get(instance)?.service)?;
        service.rules.profile.reload
    }

    fn disposition(&self, instance: &Name, signal: Signal) -> Disposition {
        let Some(living) = self.living.get(instance) else { return Disposition::Unknown };
        match disposition_of(living.process.pid, signal) {
            Disposition::Caught if self.may_cut(instance, living.process, signal) => {
                Disposition::MayCut
            }
            it => it,
        }
    }

    /// By its profile the leader is of a kind that closes its connections then.
    fn may_cut(&self, instance: &Name, leader: Process, signal: Signal) -> bool {
        let Some(planted) = self.planted(instance, leader) else { return false };
        let cuts = |it: &Rule| it.cuts.contains(&signal.0);
        // Most profiles have none: nobody need look.
        planted.profile.roles.0.iter().any(cuts)
            && planted.ruled_at_once().iter().any(|it| it.0 == leader && cuts(it.1))
    }

    /// The values of `--set` that a service has, and what an order would add.
    pub fn values_with(&self, service: &str, set: Values) -> Values {
        let mut values = self.values.of_service(&Name::from(service));
        values.extend(set);
        values
    }

    /// The log files behind a name.
    pub fn log_files(&self, name: &str) -> Vec<super::http::logs::File> {
        let of_service = |known: &Known| known.service.as_str() == name;
        self.known
            .iter()
            .filter(|(instance, known)| instance.as_str() == name || of_service(known))
            .map(|(instance, known)| super::http::logs::File {
                instance: instance.to_string(),
                path: self.source(instance, known.log).log,
                link: self.link.clone(),
            })
            .collect()
    }

    /// Probe bodies and last lines of what an event is about.
    pub fn evidence(&self, record: &Record, fleet: &Fleet, facts: &Facts) -> Vec<String> {
        let Some(instance) = &record.instance else { return vec![] };
        let mut lines = vec![];
        let sheet = fleet.instance_sheet(instance.as_str());
        if record.kind == "reload-incomplete" {
            let since = sheet.and_then(|it| it.reload).map(|it| it.since);
            return since.map_or(vec![], |since| self.said_since(instance, since));
        }
        let generation = sheet.as_ref().map_or(0, |it| it.generation);
        for (kind, result) in facts.probes(instance.as_str(), generation) {
            let error = result.error.unwrap_or_else(|| "passed".into());
            let body = on_a_line(result.body.as_deref().unwrap_or_default(), LONGEST_BODY);
            lines.push(format!("{kind} probe: {error} {body}").trim_end().into());
        }
        if let Some(exit) = sheet.and_then(|it| it.last_exit) {
            lines.push(format!("last exit: {}", exit.cause));
        }
        if let Some(known) = self.known.get(instance) {
            let log = self.source(instance, known.log).log;
            lines.extend(super::http::logs::last_lines(&log, 10, None));
        }
        lines.extend(
            record.service.as_ref().and_then(|it| self.runs.last_lines(it)).into_iter().flatten(),
        );
        lines
    }

    /// What it wrote last, from then on.
    fn said_since(&self, instance: &Name, since: Timestamp) -> Vec<String> {
        let Some(known) = self.known.get(instance) else { return vec![] };
        let log = self.source(instance, known.log).log;
        super::http::logs::last_lines(&log, 10, Some(clock::wall_of(since)))
    }

    /// Remembers a process that was just started, or adopted. `ladder`: how it is stopped where the
    /// configuration does not name it.
    pub(super) fn keep(
        &mut self,
        name: &Name,
        mut living: Living,
        (started_ms, fingerprint): (u64, u64),
        ladder: Option<Ladder>,
    ) {
        let own = self.ladder(name).filter(|_| !living.foreign);
        let record = Running {
            instance: name.to_string(),
            port: living.port,
            generation: living.generation,
            pid: living.process.pid,
            start_time: living.process.start_time,
            started_ms,
            fingerprint,
            ladder: own.or(ladder),
        };
        let line = if living.foreign { Line::Found } else { Line::Running };
        self.state.append(&line(record.clone()));
        living.record = Some(record);
        self.leaders.insert(living.process.pid, name.clone());
        self.living.insert(name.clone(), living);
    }

    /// How an instance is stopped that may not be configured any more when that is to be done.
    fn ladder(&self, name: &Name) -> Option<Ladder> {
        let service = self.service(&self.known.get(name)?.service)?;
        let is_its = |it: &settings::Instance| it.name == name.as_str();
        let spare = service.rules.rollout.spare.as_ref();
        let is_member = service.instances.iter().any(is_its) || spare == Some(name);
        is_member.then(|| Ladder::of(service, &self.settings))
    }

    /// What is configured now is what the next daemon has to know.
    fn record_anew(&mut self) {
        let ours = self.living.iter().filter(|(_, it)| !it.foreign);
        let ladders = ours.filter_map(|(name, _)| Some((name.clone(), self.ladder(name)?)));
        for (name, ladder) in ladders.collect::<Vec<_>>() {
            let living = self.living.get_mut(&name);
            let Some(record) = living.and_then(|it| it.record.as_mut()) else { continue };
            if record.ladder.as_ref() != Some(&ladder) {
                record.ladder = Some(ladder);
                self.state.append(&Line::Running(record.clone()));
            }
        }
    }
}

/// A body as one line of at most so many bytes: its lines with blanks between them.
pub(super) fn on_a_line(body: &str, most: usize) -> String {
    let lines = body.lines().map(str::trim).filter(|it| !it.is_empty());
    let mut line = lines.collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(most));
    line
}

fn disposition_of(pid: i32, signal: Signal) -> Disposition {
    match preflight::disposition(pid, signal.0) {
        Ok(preflight::Disposition::Caught) => Disposition::Caught,
        Ok(preflight::Disposition::Ignored) => Disposition::Ignored,
        Ok(preflight::Disposition::Default) => Disposition::Default,
        Err(_) => Disposition::Unknown,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_many_lines_is_evidence_as_a_whole() {
        let body = "{\n  \"status\": \"DOWN\",\n  \"db\": \"gone\"\n}\n";
        assert_eq!(on_a_line(body, LONGEST_BODY), r#"{ "status": "DOWN", "db": "gone" }"#);
        let long = on_a_line(&"ä\n".repeat(2000), LONGEST_BODY);
        assert!(long.len() <= LONGEST_BODY && long.starts_with("ä ä"), "{long}");
    }
}
