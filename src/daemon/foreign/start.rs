//! Starts and stops what somebody else runs, when an operator wants it: runs the configured command, and for a
//! start waits until the pid file names a process.
//!
//! The command comes back, and what it has started stays: it is no child of ours and carries no mark. Its
//! output goes to the instance's log without the logger between, so that a server that keeps it open neither
//! ends with this daemon nor waits for it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::config::settings::Text;
use crate::config::trust::Trust;
use crate::daemon::clock;
use crate::daemon::foreign::looks;
use crate::daemon::foreign::{Found, Stopping};
use crate::daemon::hands::{Hands, Known};
use crate::daemon::life::launch::{plain_environment, switch_to};
use crate::daemon::orphans::{self, RUN};
use crate::daemon::runs::{no_value, verdict};
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::input::Input;
use crate::fleet::{Name, Timestamp};
use crate::probe::Rights;
use crate::process::command::Outcome;
use crate::process::exec_as::{Refusal, Verdict};
use crate::process::group::{Group, Marks};
use crate::process::reaper::Reaper;
use crate::process::spawn::{Launch, Output};
use crate::process::{Identity, identity, pidfd};
use crate::quantity::format_duration;

/// Between two looks at the pid file while it is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// For a command to die of SIGKILL.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Of the command's output, as its last words.
const KEEP: u64 = 4096;

/// Whether a start is begun, or was by the last daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Begin {
    Anew,
    Awaited,
}

/// What came of a start.
#[derive(Debug)]
pub struct Started {
    pub(in crate::daemon) found: Found,
    /// The command that was to start it and come back, and has not.
    pub(in crate::daemon) in_foreground: Option<(Identity, String)>,
}

/// Why nobody waits for a command any longer.
enum Over {
    /// It is ended; to be read behind what became of it.
    End(String),
    /// It is what the file names, or may have started it, and is left alone.
    Serves(Identity, Found),
}

/// A command, ready to run.
struct Order {
    argv: Vec<String>,
    directory: Option<PathBuf>,
    environment: Vec<(String, String)>,
    user: Option<String>,
    rights: Rights,
    log: PathBuf,
    /// By what is recognised what it has started.
    marks: Marks,
    /// Of a start: for the command, and once more for the file.
    patience: Duration,
    /// Who is told that it runs.
    begun: Option<(Turns, Input)>,
}

impl Hands {
    /// Begins a start; what becomes of it comes back as a turn.
    pub(in crate::daemon) fn start_foreign(
        &self,
        name: &Name,
        generation: u64,
        how: Begin,
    ) -> Result<(), String> {
        let known = self.known.get(name).ok_or_else(gone)?;
        let service = self.service(&known.service).ok_or_else(gone)?;
        let patience = service.rules.rollout.ready_timeout;
        let order = self.order(name, known, &known.settings.launch.argv, patience);
        let order = order.map_err(|it| format!("{name} cannot start: {it}"))?;
        let pidfile = known.settings.pidfile.clone().ok_or_else(gone)?;
        let (reaper, turns, instance) = (self.reaper.clone(), self.turns.clone(), name.clone());
        let (starts, busy) = (self.foreign.starts.clone(), self.foreign.busy.token());
        // What stops the last one would stop the next one as well, or take its pid file away.
        let before = self.foreign.stops.get(name).map(|it| it.ended.clone());
        self.tasks.spawn(async move {
            let work = async {
                if let Some(before) = before {
                    before.cancelled().await;
                }
                match how {
                    Begin::Anew => begin(&order, &pidfile, &reaper).await,
                    Begin::Awaited => {
                        let found = order.found(&pidfile, "was run by the last daemon").await;
                        found.map(Started::from)
                    }
                }
            };
            let outcome = starts.run_until_cancelled(work).await;
            let outcome = outcome.unwrap_or_else(|| Err("everything is being shut down".into()));
            drop(busy);
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Begun { instance, generation, outcome }).await;
        });
        Ok(())
    }

    /// Begins the command that stops one; its process is seen to end like any other. It is ended with what
    /// is left of that by SIGKILL, and at `deadline` where its process has ended already.
    pub(in crate::daemon) fn stop_foreign(
        &mut self,
        name: &Name,
        generation: u64,
        deadline: Timestamp,
    ) {
        let order = self.known.get(name).ok_or_else(gone).and_then(|known| {
            let patience = deadline.since(clock::now());
            let mut order = self.order(name, known, &known.settings.stop_command, patience)?;
            let mark = orphans::stop_mark(name, &self.places.state_dir);
            order.marks = Marks::new(None, Some((RUN, &mark)));
            order.environment.push((RUN.into(), mark));
            let begun = Input::StopBegun { instance: name.clone(), generation };
            order.begun = Some((self.turns.clone(), begun));
            Ok(order)
        });
        let instance = name.clone();
        let order = match order {
            Ok(order) => order,
            Err(why) => {
                return self.outcomes.push_back(Input::StopFailed { instance, generation, why });
            }
        };
        let stopping = Stopping::default();
        // One that still ends the generation before has nothing to end any more.
        self.foreign.end_stop(name);
        self.foreign.stops.insert(name.clone(), stopping.clone());
        let (reaper, turns) = (self.reaper.clone(), self.turns.clone());
        self.tasks.spawn(async move {
            let ended = stopping.ended.clone().drop_guard();
            let over = async |_| Over::End(stopping.is_over(deadline).await);
            let ran = order.carry_out(&reaper, over).await;
            drop(ended);
            let Err(why) = ran else { return };
            let failed = Input::StopFailed { instance, generation, why };
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Input(failed)).await;
        });
    }

    /// Goes on with a stop command of the last daemon, should it run still. What one that has ended was to stop may
    /// be about to end: it has its deadline. One that was not seen to begin is run now.
    pub(in crate::daemon) fn await_stop(
        &mut self,
        name: &Name,
        generation: u64,
        deadline: Timestamp,
        unbegun: bool,
    ) {
        let instance = name.clone();
        let Some(left) = self.foreign.outlived.remove(name) else {
            return match unbegun {
                true => self.stop_foreign(name, generation, deadline),
                false => self.give_time(name, generation, deadline),
            };
        };
        let command = self.known.get(name).map(|it| {
            it.settings.stop_command.iter().map(|it| it.0.as_str()).collect::<Vec<_>>().join(" ")
        });
        let command = command.unwrap_or_else(|| "its stop command".into());
        let mark = orphans::stop_mark(name, &self.places.state_dir);
        let leader = left.leader.map_or(left.oldest(), |it| it.identity);
        let mut group = Group::new(leader, None, Marks::new(None, Some((RUN, &mark))));
        let stopping = Stopping::default();
        self.foreign.stops.insert(name.clone(), stopping.clone());
        let turns = self.turns.clone();
        self.tasks.spawn(async move {
            let ended = stopping.ended.clone().drop_guard();
            let ran = tokio::select! {
                biased;
                ran = end_of(leader) => ran,
                why = stopping.is_over(deadline) => {
                    let killed = group.kill().map_or_else(|it| it.to_string(), |_| "was killed".into());
                    Err(format!("{killed}: {why}"))
                }
            };
            drop(ended);
            let Err(why) = ran else { return };
            let why = format!("`{command}` {why}");
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Input(Input::StopFailed { instance, generation, why })).await;
        });
    }

    /// Nobody knows how its stop command ended: what lives on when only the signals' share of its time is left has
    /// been told nothing.
    fn give_time(&mut self, name: &Name, generation: u64, deadline: Timestamp) {
        let service = self.known.get(name).and_then(|it| self.service(&it.service));
        let until = deadline - service.map_or(Duration::ZERO, |it| it.rules.reserve);
        let (instance, turns, stopping) = (name.clone(), self.turns.clone(), Stopping::default());
        self.foreign.stops.insert(name.clone(), stopping.clone());
        self.tasks.spawn(async move {
            let ended = stopping.ended.clone().drop_guard();
            let is_gone = tokio::select! {
                () = stopping.end.cancelled() => true,
                () = stopping.hurry.cancelled() => true,
                () = clock::sleep_until(Some(until)) => false,
            };
            drop(ended);
            if !is_gone {
                let why =
                    "its stop command ended while no daemon was there, and has not stopped it"
                        .into();
                let failed = Input::StopFailed { instance, generation, why };
                // The driver is gone only when the daemon ends.
                let _ = turns.send(Turn::Input(failed)).await;
            }
        });
    }

    fn order(
        &self,
        name: &Name,
        known: &Known,
        argv: &[Text],
        patience: Duration,
    ) -> Result<Order, String> {
        let launch = &known.settings.launch;
        let values = self.values.of(&known.service, name);
        let argv =
            argv.iter().map(|it| it.expand(&values).map_err(|it| no_value(&known.service, &it)));
        let argv = argv.collect::<Result<Vec<_>, _>>()?;
        let program = argv.first().ok_or("no command says how")?;
        if let Some(trust) = Trust::of_root() {
            trust.launch(program, launch).map_err(|it| it.in_full())?;
        }
        Ok(Order {
            environment: plain_environment(known, &values)?.into_iter().collect(),
            argv,
            directory: launch.directory.clone(),
            user: launch.user.clone(),
            rights: launch.rights.clone(),
            log: self.source(name, known.log).log,
            marks: Marks::default(),
            patience,
            begun: None,
        })
    }
}

/// Waits for the end of a command that the last daemon has begun. One of which nobody is told how it ended was
/// not in vain for all that is known: what it was to stop has its deadline.
async fn end_of(leader: Identity) -> Result<(), String> {
    let Ok(Some(pidfd)) = identity::open(leader) else { return Ok(()) };
    let Ok(Some(status)) = pidfd::exit(pidfd).await else { return Ok(()) };
    verdict(&Outcome { status, output: vec![], dropped: 0, timed_out: false }, Duration::ZERO)
}

fn gone() -> String {
    "it is no longer configured".into()
}

/// Runs the command, then waits until the file names a process.
async fn begin(order: &Order, pidfile: &Path, reaper: &Reaper) -> Result<Started, String> {
    // Their supervisor may have been faster.
    match looks::look_in_time(pidfile).await {
        Some(Ok(found)) => return Ok(found.into()),
        Some(Err(_)) => (),
        None => return Err(looks::hangs(pidfile).why),
    }
    let serves = order.carry_out(reaper, async |it| order.goes_on(it, pidfile).await).await?;
    match serves {
        Some((command, found)) => {
            Ok(Started { found, in_foreground: Some((command, order.argv.join(" "))) })
        }
        None => order.found(pidfile, "came back").await.map(Started::from),
    }
}

impl From<Found> for Started {
    fn from(found: Found) -> Self {
        Self { found, in_foreground: None }
    }
}

async fn look(pidfile: &Path) -> Result<Found, String> {
    let path = pidfile.to_owned();
    let looked = tokio::task::spawn_blocking(move || looks::look(&path)).await;
    looked.map_err(|err| err.to_string())?.map_err(|it| it.why)
}

impl Stopping {
    /// Returns once its time is over, and says why.
    async fn is_over(&self, deadline: Timestamp) -> String {
        let rest = async {
            self.hurry.cancelled().await;
            clock::sleep_until(Some(deadline)).await;
        };
        tokio::select! {
            () = self.end.cancelled() => "nothing is left that it was to stop".into(),
            () = rest => "what it was to stop has ended, and the stop could last no longer".into(),
        }
    }
}

impl Order {
    /// `over`: when it is waited for no longer. Returns what is there where it has not come back.
    async fn carry_out(
        &self,
        reaper: &Reaper,
        over: impl AsyncFnOnce(Identity) -> Over,
    ) -> Result<Option<(Identity, Found)>, String> {
        self.run(reaper, over).await.map_err(|it| format!("`{}` {it}", self.argv.join(" ")))
    }

    /// Waits until the file names a process. `since`: what has become of the command.
    async fn found(&self, pidfile: &Path, since: &str) -> Result<Found, String> {
        let wait = async {
            loop {
                match look(pidfile).await {
                    Ok(found) => return found,
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        };
        if let Ok(found) = timeout(self.patience, wait).await {
            return Ok(found);
        }
        let why = match looks::look_in_time(pidfile).await {
            Some(Ok(found)) => return Ok(found),
            Some(Err(missed)) => missed.why,
            None => looks::hangs(pidfile).why,
        };
        let patience = format_duration(self.patience);
        Err(format!("`{}` {since}, and {patience} later {why}", self.argv.join(" ")))
    }

    /// Waits until the file names the command itself, or for as long as it may take: one that does not come back
    /// may be the server.
    async fn goes_on(&self, command: Identity, pidfile: &Path) -> Over {
        let is_it = async {
            loop {
                match look(pidfile).await {
                    Ok(found) if Identity::from(found.process) == command => return found,
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        };
        if let Ok(found) = timeout(self.patience, is_it).await {
            return Over::Serves(command, found);
        }
        if let Some(Ok(found)) = looks::look_in_time(pidfile).await {
            return Over::Serves(command, found);
        }
        let patience = format_duration(self.patience);
        Over::End(format!("it has to come back, and did not within {patience}"))
    }

    async fn run(
        &self,
        reaper: &Reaper,
        over: impl AsyncFnOnce(Identity) -> Over,
    ) -> Result<Option<(Identity, Found)>, String> {
        let mut log = self.open_log().map_err(|err| format!("{}: {err}", self.log.display()))?;
        let begin = log.seek(SeekFrom::End(0)).unwrap_or(0);
        let switch = switch_to(self.user.as_deref(), &self.rights);
        let begun = reaper.spawn_awaited(&Launch {
            argv: &self.argv,
            directory: self.directory.as_deref(),
            environment: &self.environment,
            output: Output::Descriptor(log.as_fd()),
            passed: &[],
            switch: switch.as_ref(),
            cgroup: None,
        });
        let (mut spawned, mut death) = begun.map_err(|err| err.to_string())?;
        if let Some((turns, begun)) = &self.begun {
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Input(begun.clone())).await;
        }
        let death = tokio::select! {
            biased;
            death = &mut death => death,
            over = over(spawned.identity) => {
                let why = match over {
                    Over::Serves(command, found) => return Ok(Some((command, found))),
                    Over::End(why) => why,
                };
                let killed = Group::new(spawned.identity, None, self.marks.clone()).kill();
                let then = killed.map_or_else(|err| err.to_string(), |_| "was killed".to_owned());
                // One that sleeps in the kernel is not waited for.
                let _ = timeout(LAST_WAIT, death).await;
                return Err(format!("{then}: {why}"));
            }
        };
        if let Some(Verdict::Refused(err)) = spawned.refusal.as_mut().map(Refusal::verdict) {
            return Err(err.to_string());
        }
        let status = death.map_err(|_| "was not waited for".to_owned())?;
        let output = last_of(&mut log, begin).unwrap_or_default();
        let outcome = Outcome { status, output, dropped: 0, timed_out: false };
        verdict(&outcome, self.patience).map(|()| None)
    }

    fn open_log(&self) -> io::Result<File> {
        File::options().create(true).read(true).append(true).mode(0o600).open(&self.log)
    }
}

/// The end of what was written behind this place.
fn last_of(log: &mut File, begin: u64) -> io::Result<Vec<u8>> {
    let end = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(begin.max(end.saturating_sub(KEEP))))?;
    let mut bytes = vec![];
    log.take(KEEP).read_to_end(&mut bytes)?;
    Ok(bytes)
}
