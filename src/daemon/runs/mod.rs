//! Runs the commands of rollouts, and of exec probes.
//!
//! One command of a rollout at a time and service. Its output goes to the rollout's log,
//! `logs/SERVICE.rollout.log`, and its end comes back as a turn.

pub mod hooks;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::placeholder;
use crate::config::secret::veiled_arguments;
use crate::config::settings::{RolloutCommand, Service};
use crate::config::trust::Trust;
use crate::daemon::clock::{self, millis};
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::kept::state::{Line, Run};
use crate::daemon::life::launch::{Values, plain_environment, switch_to};
use crate::daemon::orphans::{self, RUN};
use crate::daemon::own;
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::Name;
use crate::fleet::input::{Command, Extra, Input, Mark, Record};
use crate::probe::{Checker, ExecCheck, ExecOutcome, Rights, Runner};
use crate::process::Identity;
use crate::process::command::{self, Outcome};
use crate::process::reaper::{Reaper, Status};
use crate::quantity::format_duration;

/// Bytes of a command's output that are kept: the last ones.
const KEEP: usize = 1 << 20;
/// A rollout's log is begun anew beyond this size; the old one is kept beside it.
const MAX_LOG: u64 = 8 << 20;
/// Bytes of a rollout's log that are evidence: the last ones.
const LAST: u64 = 4096;
/// Of an exec probe's output.
const KEEP_PROBE: usize = 4096;

/// What became of a command.
#[derive(Debug)]
pub enum News {
    /// Its process is known.
    Began(Run),
    Ended {
        run: u64,
        input: Input,
    },
}

/// The commands that run, by service.
#[derive(Debug)]
pub struct Runs {
    reaper: Reaper,
    turns: Turns,
    tasks: TaskTracker,
    logs: PathBuf,
    running: BTreeMap<Name, CancellationToken>,
    /// How long the log of a rollout was when the last one began, by service.
    before: BTreeMap<Name, u64>,
    /// Every command that runs has one of these.
    busy: TaskTracker,
}

/// A command, ready to run.
#[derive(Debug)]
struct Job {
    service: Name,
    instance: Name,
    index: usize,
    run: u64,
    argv: Vec<String>,
    directory: Option<PathBuf>,
    environment: Vec<(String, String)>,
    user: Option<String>,
    rights: Rights,
    timeout: Duration,
    log: PathBuf,
}

impl Runs {
    pub fn new(reaper: Reaper, turns: Turns, tasks: TaskTracker, logs: PathBuf) -> Self {
        Self {
            reaper,
            turns,
            tasks,
            logs,
            running: BTreeMap::new(),
            before: BTreeMap::new(),
            busy: TaskTracker::new(),
        }
    }

    /// Ends the command of this service's rollout, with everything it has started.
    pub fn cancel(&mut self, service: &Name) {
        if let Some(stop) = self.running.remove(service) {
            stop.cancel();
        }
    }

    /// Some command runs.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    fn log(&self, service: &Name) -> PathBuf {
        self.logs.join(format!("{service}.rollout.log"))
    }

    /// A rollout begins: what its log has already is of earlier ones.
    pub fn rollout_begins(&mut self, service: &Name) {
        let length = std::fs::metadata(self.log(service)).map_or(0, |it| it.len());
        self.before.insert(service.clone(), length);
    }

    /// How long its log was when the last one began.
    pub fn log_begins(&self, service: &Name) -> Option<u64> {
        self.before.get(service).copied()
    }

    /// The last one began under an earlier daemon.
    pub fn rollout_began(&mut self, service: &Name, log_begins: Option<u64>) {
        self.before.extend(log_begins.map(|it| (service.clone(), it)));
    }

    /// A service has another name, and its log with it. None of its commands runs.
    pub fn rename(&mut self, from: &Name, to: &Name) {
        // Where it has never been rolled there is none.
        let _ = std::fs::rename(self.log(from), self.log(to));
        if let Some(it) = self.before.remove(from) {
            self.before.insert(to.clone(), it);
        }
    }

    /// Forgets services that are gone.
    pub fn retain(&mut self, is_service: impl Fn(&Name) -> bool) {
        self.before.retain(|name, _| is_service(name));
    }

    /// The end of what the last rollout wrote into its log, as evidence.
    pub fn last_lines(&self, service: &Name) -> Option<Vec<String>> {
        let mut file = own::open(OpenOptions::new().read(true), &self.log(service)).ok()?;
        let length = file.metadata().ok()?.len();
        // It may have been begun anew since: then all of it is of this one.
        let before = self.before.get(service).copied().filter(|it| *it <= length).unwrap_or(0);
        file.seek(SeekFrom::Start(before.max(length.saturating_sub(LAST)))).ok()?;
        let mut bytes = vec![];
        file.take(LAST).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<_> = text.lines().map(|it| format!("rollout log: {it}")).collect();
        Some(lines[lines.len().saturating_sub(8)..].to_vec())
    }

    fn start(&mut self, job: Job) {
        let stop = CancellationToken::new();
        if let Some(old) = self.running.insert(job.service.clone(), stop.clone()) {
            old.cancel();
        }
        let (reaper, turns, busy) = (self.reaper.clone(), self.turns.clone(), self.busy.token());
        self.tasks.spawn(async move {
            let work = carry_out(&reaper, &turns, &job);
            let Some(outcome) = stop.run_until_cancelled(work).await else { return };
            drop(busy);
            let Job { service, instance, index, run, .. } = job;
            let input = Input::Ran { service, instance, index, outcome };
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Command(News::Ended { run, input })).await;
        });
    }
}

impl Hands {
    /// Looks how long the log is before a rollout writes into it.
    pub(in crate::daemon) fn note_rollout(&mut self, record: &Record) {
        if let (Some(service), Extra::Rollout(Mark::Began { .. })) =
            (&record.service, &record.extra)
        {
            self.runs.rollout_begins(service);
        }
    }

    /// Begins a command of a rollout.
    pub(in crate::daemon) fn run(&mut self, service: &Name, instance: &Name, which: Command) {
        let (Command::Build(index) | Command::RollBack(index)) = which;
        let port = self.give_port(instance).map_err(|it| (index, it.reason));
        match port.and_then(|()| self.job(service, instance, which)) {
            Ok(job) => {
                self.state.append(&Line::Run(job.record()));
                // Before it begins: the next daemon finds it by that, should this one end.
                self.state.write();
                self.runs.start(job);
            }
            Err((index, reason)) => self.outcomes.push_back(Input::Ran {
                service: service.clone(),
                instance: instance.clone(),
                index,
                outcome: Err(reason),
            }),
        }
    }

    fn job(&self, service: &Name, instance: &Name, which: Command) -> Result<Job, (usize, String)> {
        let (index, commands) = match which {
            Command::Build(index) => (index, self.service(service).map(|it| &it.build)),
            Command::RollBack(index) => (index, self.service(service).map(|it| &it.rollback)),
        };
        let fail = |reason: String| (index, reason);
        let gone = || fail("it is no longer configured".into());
        let command = commands.and_then(|it| it.get(index)).ok_or_else(gone)?;
        let known = self.known.get(instance).ok_or_else(gone)?;
        let settings = self.service(service).ok_or_else(gone)?;
        let mut values = match which {
            Command::Build(_) => self.values.of_service(service),
            Command::RollBack(_) => self.values.before(service, instance),
        };
        values.extend(settings.names_of(&known.settings));
        let argv = expand(service, command, &values).map_err(fail)?;
        if let (Some(trust), Some(program)) = (Trust::of_root(), argv.first()) {
            let safe = trust.launch(program, &known.settings.launch);
            safe.map_err(|it| fail(format!("cannot run: {}", it.in_full())))?;
        }
        let mut environment = plain_environment(known, &values).map_err(fail)?;
        let run = millis(clock::now().0);
        let mark = orphans::mark(service.as_str(), run, &self.places.state_dir);
        environment.insert(RUN.into(), mark);
        Ok(Job {
            service: service.clone(),
            instance: instance.clone(),
            index,
            run,
            argv,
            directory: known.settings.launch.directory.clone(),
            environment: environment.into_iter().collect(),
            user: settings.user.clone(),
            rights: known.settings.launch.rights.clone(),
            timeout: command.timeout,
            log: self.runs.log(service),
        })
    }
}

impl Daemon {
    pub(in crate::daemon) fn on_command(&mut self, news: News) {
        match news {
            News::Began(run) => self.hands.state.append(&Line::Run(run)),
            News::Ended { run, mut input } => {
                if let Input::Ran { service, instance, index, outcome } = &mut input {
                    self.hands.state.append(&Line::Ran { service: service.to_string(), run });
                    let is_last = outcome.is_ok() && self.is_last_build(service, *index);
                    let hindrance = || self.hands.still_hindered(service, instance);
                    *outcome = is_last.then(hindrance).flatten().map_or(outcome.clone(), Err);
                }
                self.turn(input);
            }
        }
    }
}

impl Daemon {
    /// What comes next is that an instance is taken down.
    fn is_last_build(&self, service: &Name, index: usize) -> bool {
        let sheet = self.fleet.service_sheet(service.as_str()).and_then(|it| it.rollout);
        let builds = self.hands.service(service).map_or(0, |it| it.build.len());
        sheet.is_some_and(|it| !it.rollback) && index + 1 == builds
    }
}

impl Job {
    /// As it is to be kept before it has begun.
    fn record(&self) -> Run {
        let (service, instance) = (self.service.to_string(), self.instance.to_string());
        Run { service, instance, run: self.run, ..Run::default() }
    }
}

/// The build commands as they would run for this instance; what has no value stays as it is.
pub(in crate::daemon) fn build_for(
    service: &Service,
    instance: &str,
    values: &Values,
) -> Vec<String> {
    let spare = || service.spare(None).filter(|it| it.name == instance);
    let known = service.instances.iter().find(|it| it.name == instance).cloned();
    let Some(instance) = known.or_else(spare) else { return vec![] };
    let mut values = values.clone();
    values.extend(service.names_of(&instance));
    let text = |it: &RolloutCommand| {
        let words = it.argv.iter().map(|it| it.expand(&values).unwrap_or_else(|_| it.0.clone()));
        veiled_arguments(&words.collect::<Vec<_>>()).join(" ")
    };
    service.build.iter().map(text).collect()
}

fn expand(
    service: &Name,
    command: &RolloutCommand,
    values: &Values,
) -> Result<Vec<String>, String> {
    command.argv.iter().map(|it| it.expand(values).map_err(|it| no_value(service, &it))).collect()
}

/// Why a text cannot be expanded, and what to do.
pub(in crate::daemon) fn no_value(service: &Name, name: &str) -> String {
    match placeholder::nearest_built_in(name) {
        Some(it) => format!("`{{{name}}}` has no value: did you mean `{{{it}}}`?"),
        None => format!("`{{{name}}}` has no value yet: opsdeck roll {service} --set {name}=…"),
    }
}

async fn carry_out(reaper: &Reaper, turns: &Turns, job: &Job) -> Result<(), String> {
    let switch = switch_to(job.user.as_deref(), &job.rights);
    let begun = command::begin(
        reaper,
        command::Command {
            argv: &job.argv,
            directory: job.directory.as_deref(),
            environment: &job.environment,
            switch: switch.as_ref(),
            timeout: job.timeout,
            keep: KEEP,
            leaves_nothing: false,
            outlives: false,
        },
    );
    let ran = match begun {
        Ok(begun) => {
            let Identity { pid, start_time } = begun.identity();
            let run = Run { pid, start_time, ..job.record() };
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Command(News::Began(run))).await;
            begun.end().await
        }
        Err(err) => Err(err),
    };
    let result = match &ran {
        Ok(it) => verdict(it, job.timeout),
        Err(err) => Err(err.to_string()),
    };
    let said = ran.as_ref().map_or(&[][..], |it| &it.output);
    if let Err(err) = log(job, said, &result) {
        warn!(log = %job.log.display(), %err, "the rollout's log cannot be written");
    }
    result.map_err(|why| format!("`{}` {why}", job.argv.join(" ")))
}

/// Whether a command did what it was for; else why not, to be read after its name.
pub(in crate::daemon) fn verdict(ran: &Outcome, timeout: Duration) -> Result<(), String> {
    if ran.timed_out {
        return Err(too_long(timeout));
    }
    match ran.status {
        Status::Exited(0) => Ok(()),
        Status::Exited(code) => {
            let output = String::from_utf8_lossy(&ran.output);
            let last = output.lines().rfind(|it| !it.trim().is_empty()).unwrap_or_default();
            Err(format!("exited with {code}: {}", last.trim()))
        }
        Status::Signaled { signal, .. } => {
            Err(format!("was ended by {}", crate::fleet::Signal(signal)))
        }
    }
}

/// Of a command whose time was over, to be read after its name.
pub(in crate::daemon) fn too_long(timeout: Duration) -> String {
    format!("was killed: it took longer than {}", format_duration(timeout))
}

fn log(job: &Job, said: &[u8], result: &Result<(), String>) -> io::Result<()> {
    if std::fs::metadata(&job.log).is_ok_and(|it| it.len() > MAX_LOG) {
        std::fs::rename(&job.log, job.log.with_extension("log.1"))?;
    }
    let mut file = own::open(OpenOptions::new().create(true).append(true), &job.log)?;
    writeln!(file, "{} {}: {}", clock::wall(), job.instance, job.argv.join(" "))?;
    file.write_all(said)?;
    match result {
        Ok(()) => writeln!(file, "-- done"),
        Err(why) => writeln!(file, "-- {why}"),
    }
}

/// Probes, with hands for those that run a command.
pub fn checker(reaper: Reaper) -> io::Result<Checker> {
    let runner: Runner = Arc::new(move |check: ExecCheck| {
        let reaper = reaper.clone();
        Box::pin(async move { probe(&reaper, check).await })
    });
    Checker::new(runner).map_err(io::Error::other)
}

async fn probe(reaper: &Reaper, check: ExecCheck) -> Result<ExecOutcome, String> {
    let switch = switch_to(check.user.as_deref(), &check.rights);
    let environment: Vec<_> = check.environment.into_iter().collect();
    let ran = command::run(
        reaper,
        command::Command {
            argv: &check.argv,
            directory: check.directory.as_deref(),
            environment: &environment,
            switch: switch.as_ref(),
            timeout: check.timeout,
            keep: KEEP_PROBE,
            leaves_nothing: true,
            outlives: false,
        },
    )
    .await
    .map_err(|err| err.to_string())?;
    if ran.timed_out {
        return Err(format!("no end within {:?}", check.timeout));
    }
    let code = match ran.status {
        Status::Exited(code) => Some(code),
        Status::Signaled { .. } => None,
    };
    Ok(ExecOutcome { code, output: ran.output })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Text;

    #[test]
    fn a_name_without_a_value_is_told_with_the_service_that_needs_it() {
        let command = RolloutCommand {
            argv: vec![Text("./build".into()), Text("v{version}".into())],
            timeout: Duration::from_secs(1),
        };
        let told = expand(&Name::from("web"), &command, &Values::new()).unwrap_err();
        assert_eq!(told, "`{version}` has no value yet: opsdeck roll web --set version=…");
    }

    #[test]
    fn a_command_that_fails_is_quoted_with_its_last_words() {
        let ran = Outcome {
            status: Status::Exited(2),
            output: b"compiling\nerror: no such table\n\n".to_vec(),
            dropped: 0,
            timed_out: false,
        };
        let why = verdict(&ran, Duration::from_secs(1)).unwrap_err();
        assert_eq!(why, "exited with 2: error: no such table");
    }
}
