//! Starts processes: environment, output, port, group.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Uid, User};

use crate::config::accounts;
use crate::config::capability;
use crate::config::settings::{self, Socket, Text};
use crate::daemon::clock::{self, millis};
use crate::daemon::foreign::start::Begin;
use crate::daemon::hands::{Hands, Known, living};
use crate::daemon::orphans::RUN;
use crate::daemon::runs::no_value;
use crate::fleet::input::Input;
use crate::fleet::{Name, Process};
use crate::logger::{self, ToLogger};
use crate::probe::{Check, Probe, Rights};
use crate::process::cgroup::Cgroup;
use crate::process::exec_as::Switch;
use crate::process::group::{Group, Marks};
use crate::process::spawn::{Given, Launch, Output, Prepared, SpawnError, Spawned};
use crate::process::{oom, port};

/// Names the instance in the environment of everything it starts: a mark by which what it leaves behind
/// is recognised.
pub(in crate::daemon) const MARK: &str = "OPSDECK_INSTANCE";
/// What an instance needs beside its output: its pidfd, its cgroup and the events of that.
const DESCRIPTORS_OF_ONE: u64 = 3;
/// Descriptors that no instance gets.
const SPARE_DESCRIPTORS: u64 = 64;
/// Where programs are looked for if nothing says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Values of `--set`.
pub type Values = BTreeMap<String, String>;

impl Hands {
    /// Starts the next generations of these instances, once it is written down with which values.
    pub(in crate::daemon) fn start(&mut self, starts: Vec<(Name, u64)>) {
        if !starts.is_empty() {
            self.state.write();
            self.spawn(starts);
        }
    }

    /// Starts the next generations of these instances; the outcomes are known when this returns.
    pub(in crate::daemon) fn spawn(&mut self, starts: Vec<(Name, u64)>) {
        let mut ready = vec![];
        let shared = self.oom.get_or_init(|| oom::Shared::of("self")).as_ref();
        let oom = oom::Counts::shared(shared);
        for (name, generation) in starts {
            if self.is_foreign(&name) {
                let begun =
                    self.start_foreign(&name, generation, Begin::Anew).map_err(Trouble::lasting);
                self.outcomes.extend(begun.err().map(|it| it.of(&name, generation)));
                continue;
            }
            match self.prepare(&name, &oom, ready.len()).and_then(|it| self.trusted(&name, it)) {
                Ok(start) => ready.push((name, generation, start)),
                Err(trouble) => self.outcomes.push_back(trouble.of(&name, generation)),
            }
        }
        let passed: Vec<Vec<_>> = ready
            .iter()
            .map(|(.., start)| start.socket.iter().map(|it| it.as_fd()).collect())
            .collect();
        let given = ready.iter().zip(&passed).map(|((.., start), passed)| {
            (&*start.prepared, Given { passed, cgroup: start.cgroup.as_ref() })
        });
        let all = self.reaper.spawn_all(&given.collect::<Vec<_>>());
        for ((name, generation, start), spawned) in ready.into_iter().zip(all) {
            let outcome = match spawned {
                Ok(spawned) => {
                    let process = self.started(&name, generation, start, spawned);
                    Input::Spawned { instance: name, generation, process }
                }
                Err(err) => Trouble::of_spawn(&err).of(&name, generation),
            };
            self.outcomes.push_back(outcome);
        }
    }

    /// Makes everything ready that a start needs.
    ///
    /// `before` are the starts of the same turn that come before this one.
    fn prepare(&mut self, name: &Name, oom: &oom::Counts, before: usize) -> Result<Start, Trouble> {
        if self.living.contains_key(name) {
            return Err(Trouble::lasting("its last generation has not ended"));
        }
        self.give_port(name)?;
        if self.known.get(name).is_some_and(|it| !it.has_output()) {
            self.open_output(name)?;
            self.leave_room(name, before)?;
        }
        let cgroup = self.cgroup(name)?;
        let known = self.known.get(name).ok_or_else(|| Trouble::lasting("it is not configured"))?;
        let (service, socket) = (known.service.clone(), known.settings.launch.socket.clone());
        let own = socket.as_ref().map(|it| it.listen.port());
        if let Some(port) = known.settings.port.filter(|it| Some(*it) != own) {
            check_port(port, name)?;
        }
        let held = socket.as_ref().map(|it| self.socket_for(&service, it)).transpose();
        let held = held.map_err(|it| Trouble::passing(format!("{name} cannot start: {it}")))?;
        Ok(Start {
            prepared: self.prepared(name, &held.iter().map(|it| it.as_fd()).collect::<Vec<_>>())?,
            socket: held,
            oom: oom::Counts::before(cgroup.as_ref(), Some(oom)),
            cgroup,
        })
    }

    /// Everything that is the same at every start, until its configuration or its values are others.
    fn prepared(
        &mut self,
        name: &Name,
        passed: &[BorrowedFd<'_>],
    ) -> Result<Arc<Prepared>, Trouble> {
        let known = self.known.get(name).ok_or_else(|| Trouble::lasting("it is not configured"))?;
        if let Some(prepared) = &known.prepared {
            return Ok(prepared.clone());
        }
        let values = self.values.of(&known.service, name);
        let launch = &known.settings.launch;
        let argv = launch
            .argv
            .iter()
            .map(|it| it.expand(&values).map_err(|it| Trouble::missing(&known.service, &it)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut environment = self.environment(name, known, &values)?;
        let mut switch = switch_to(launch.user.as_deref(), &launch.rights);
        if let Some(socket) = &launch.socket {
            announce(socket, &mut environment);
            switch.get_or_insert_default().pid_variable = Some("LISTEN_PID".into());
        }
        let fifo = self.source(name, known.log).fifo;
        let prepared = Prepared::new(&Launch {
            argv: &argv,
            directory: launch.directory.as_deref(),
            environment: &environment,
            output: Output::Fifo(&fifo),
            passed,
            switch: switch.as_ref(),
            cgroup: None,
        });
        let prepared = Arc::new(prepared.map_err(|err| Trouble::of_spawn(&err))?);
        // An account that was not found may be made any moment.
        let is_lasting = environment.iter().any(|(name, _)| name == "HOME");
        if let Some(known) = self.known.get_mut(name).filter(|_| is_lasting) {
            known.prepared = Some(prepared.clone());
        }
        Ok(prepared)
    }

    fn started(
        &mut self,
        name: &Name,
        generation: u64,
        start: Start,
        spawned: Spawned,
    ) -> crate::fleet::Process {
        let process = Process::from(spawned.identity);
        let mark = self.mark(name);
        let known = self.known.get(name);
        let fifo = known.map(|it| self.source(name, it.log).fifo);
        let (port, fingerprint) = known.map_or((None, 0), |it| (it.settings.port, it.fingerprint));
        let marks = Marks::new(fifo.as_deref(), Some((MARK, &mark)));
        if let Some(cgroup) = &start.cgroup {
            cgroup.expect_end();
        }
        let group = Group::new(spawned.identity, start.cgroup, marks);
        let living = living(spawned, (generation, port), group, start.oom);
        self.front.lives(name, generation, port, false);
        self.keep(name, living, (millis(clock::now().0), fingerprint), None);
        process
    }

    /// The cgroup of an instance, where there are cgroups.
    fn cgroup(&mut self, name: &Name) -> Result<Option<Cgroup>, Trouble> {
        let Some(cgroups) = &mut self.cgroups else { return Ok(None) };
        let made = cgroups.make(name.as_str());
        made.map(Some).map_err(|err| Trouble::passing(format!("could not make its cgroup: {err}")))
    }

    /// Makes the FIFO once, holds it open, and tells the logger to take what comes.
    pub(in crate::daemon) fn open_output(&mut self, name: &Name) -> Result<(), Trouble> {
        let Some(known) = self.known.get(name) else { return Ok(()) };
        if known.has_output() {
            return Ok(());
        }
        let source = self.source(name, known.log);
        let owner = known.settings.launch.user.as_deref().and_then(ids);
        let opened: std::io::Result<OwnedFd> =
            logger::make_fifo(&source.fifo, owner).and_then(|()| logger::open_fifo(&source.fifo));
        let fifo = opened.map_err(|err| {
            Trouble::passing(format!("could not open {}: {err}", source.fifo.display()))
        })?;
        if let Some(known) = self.known.get_mut(name) {
            known.fifo = Some(fifo);
        }
        self.orders.push(ToLogger::Open(source));
        Ok(())
    }

    /// Holds the pipe that a process writes to, where that was removed with its directory: the logger has it open,
    /// and a new one at its path would be nobody's. Its next start gets a new one.
    pub(in crate::daemon) fn holds_removed_output(&mut self, name: &Name, pid: i32) -> bool {
        let Some(known) = self.known.get(name).filter(|it| it.fifo.is_none()) else { return false };
        let source = self.source(name, known.log);
        let removed = PathBuf::from(format!("{} (deleted)", source.fifo.display()));
        let outputs = [1, 2].map(|n| PathBuf::from(format!("/proc/{pid}/fd/{n}")));
        let is_it = |it: &&PathBuf| std::fs::read_link(it).is_ok_and(|it| it == removed);
        let Some(fifo) = outputs.iter().find(is_it).and_then(|it| logger::open_fifo_of(it).ok())
        else {
            return false;
        };
        if let Some(known) = self.known.get_mut(name) {
            known.fifo = Some(fifo);
        }
        self.orders.push(ToLogger::Open(source));
        true
    }

    /// Refuses an instance that would take the last descriptors: the daemon has to answer, and to write down
    /// what it knows. One that has run keeps its own.
    fn leave_room(&mut self, name: &Name, before: usize) -> Result<(), Trouble> {
        let Some(known) = self.known.get_mut(name) else { return Ok(()) };
        let (Some(fifo), Ok((limit, _))) = (&known.fifo, getrlimit(Resource::RLIMIT_NOFILE)) else {
            return Ok(());
        };
        // The lowest free number is taken always. This one, and each start before it, needs more soon.
        let taken =
            u64::from(fifo.as_raw_fd().unsigned_abs()) + DESCRIPTORS_OF_ONE * (before as u64 + 1);
        if taken + SPARE_DESCRIPTORS.min(limit / 4) < limit {
            return Ok(());
        }
        known.fifo = None;
        let why =
            format!("too many open files: the daemon may have {limit} (ulimit -n, LimitNOFILE)");
        Err(Trouble::passing(format!("{name} cannot start: {why}")))
    }

    pub(in crate::daemon) fn mark(&self, name: &Name) -> String {
        format!("{name}@{}", self.places.state_dir.display())
    }

    /// The base variables of a user, looked up once between two configurations: asking the system's
    /// account database costs as much as half a spawn.
    fn base_environment(&self, user: Option<&str>) -> BTreeMap<String, String> {
        let mut known = self.accounts.borrow_mut();
        if let Some(base) = known.get(&user.map(str::to_owned)) {
            return base.clone();
        }
        let base = base_environment(user);
        // One that was not found may be made any moment.
        if base.contains_key("HOME") {
            known.insert(user.map(str::to_owned), base.clone());
        }
        base
    }

    /// The whole environment of an instance: base variables of its user, then what is configured.
    pub(in crate::daemon) fn environment(
        &self,
        name: &Name,
        known: &Known,
        values: &Values,
    ) -> Result<Vec<(String, String)>, Trouble> {
        let mut all = self.base_environment(known.settings.launch.user.as_deref());
        all.insert(MARK.into(), self.mark(name));
        add_configured(&mut all, known, values).map_err(Trouble::lasting)?;
        Ok(all.into_iter().collect())
    }
}

/// Everything that one start needs, owned: many are made ready before the first process is.
pub(in crate::daemon) struct Start {
    prepared: Arc<Prepared>,
    socket: Option<Arc<OwnedFd>>,
    cgroup: Option<Cgroup>,
    oom: oom::Counts,
}

impl Start {
    pub(in crate::daemon) fn program(&self) -> &str {
        self.prepared.name()
    }
}

/// Why a process was not started.
#[derive(Debug)]
pub(in crate::daemon) struct Trouble {
    pub reason: String,
    /// Trying again soon may help.
    pub passing: bool,
}

impl Trouble {
    fn of(self, name: &Name, generation: u64) -> Input {
        Input::spawn_failed(name, generation, self.reason, self.passing)
    }

    fn of_spawn(err: &SpawnError) -> Self {
        Self { passing: err.is_passing(), reason: err.to_string() }
    }

    pub(in crate::daemon) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), passing: true }
    }

    pub(in crate::daemon) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), passing: false }
    }

    /// A name of the configuration that only a rollout gives a value.
    pub(in crate::daemon) fn missing(service: &Name, name: &str) -> Self {
        Self::lasting(no_value(service, name))
    }
}

/// Puts the variables that are configured over those that are there.
fn add_configured(
    all: &mut BTreeMap<String, String>,
    known: &Known,
    values: &Values,
) -> Result<(), String> {
    for (variable, text) in &known.settings.launch.environment {
        let value = text.expand(values).map_err(|it| no_value(&known.service, &it))?;
        all.insert(variable.clone(), value);
    }
    Ok(())
}

/// Base variables of its user, then what is configured: nothing that marks it as ours.
pub(in crate::daemon) fn plain_environment(
    known: &Known,
    values: &Values,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = base_environment(known.settings.launch.user.as_deref());
    add_configured(&mut all, known, values)?;
    Ok(all)
}

/// PATH, HOME, USER, LOGNAME, SHELL and LANG; nothing else of ours is passed on.
pub(in crate::daemon) fn base_environment(user: Option<&str>) -> BTreeMap<String, String> {
    let account = match user {
        Some(user) => account(user),
        None => accounts::own(),
    };
    let own = |name: &str| std::env::var(name).ok();
    let mut all = BTreeMap::new();
    all.insert("PATH".into(), own("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
    all.insert("LANG".into(), own("LANG").unwrap_or_else(|| "C.UTF-8".into()));
    if let Some(account) = account {
        all.insert("HOME".into(), account.dir.display().to_string());
        all.insert("USER".into(), account.name.clone());
        all.insert("LOGNAME".into(), account.name);
        all.insert("SHELL".into(), account.shell.display().to_string());
    }
    all
}

/// What it takes to run as this user with these rights; `None` if that is who we are already.
pub(in crate::daemon) fn switch_to(user: Option<&str>, rights: &Rights) -> Option<Switch> {
    let same = |user: &&str| {
        let is_name = user.parse::<u32>().is_err() && !user.contains(':');
        is_name && account(user).is_some_and(|it| it.uid == Uid::effective())
    };
    let user = user.filter(|it| !same(it));
    if user.is_none() && *rights == Rights::default() {
        return None;
    }
    let numbered = |name: &String| Some((name.clone(), capability::number(name)?));
    let kept = rights.capabilities.as_ref();
    Some(Switch {
        user: user.map(str::to_owned),
        no_new_privileges: rights.no_new_privs,
        capabilities: kept.map(|it| it.iter().filter_map(numbered).collect()),
        ..Switch::default()
    })
}

/// The account behind `name`, or a number, either with `:group`.
pub(in crate::daemon) fn account(user: &str) -> Option<User> {
    accounts::user(user)
}

fn ids(user: &str) -> Option<(u32, u32)> {
    let user = account(user)?;
    (user.uid != Uid::effective()).then(|| (user.uid.as_raw(), user.gid.as_raw()))
}

/// Says what is passed, as systemd would (sd_listen_fds(3)). LISTEN_PID follows when there is a pid.
fn announce(socket: &Socket, environment: &mut Vec<(String, String)>) {
    let said = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", &socket.name)];
    environment.retain(|(name, _)| !said.iter().any(|it| it.0 == name));
    environment.extend(said.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Names who listens on the port already, instead of letting the server find out.
fn check_port(port: u16, name: &Name) -> Result<(), Trouble> {
    // What cannot be found out is left to the server.
    let Ok(Some(holder)) = port::holder(port) else { return Ok(()) };
    Err(Trouble::passing(format!("{name} cannot start: port {port} is held by {holder}")))
}

/// A probe with the values of `--set` put in. Where one is missing, that demand is left out.
pub(in crate::daemon) fn expanded(
    mut probe: Probe,
    values: &Values,
    base: Vec<(String, String)>,
    launch: &settings::Launch,
) -> Probe {
    let put = |text: &str| Text(text.to_owned()).expand(values).ok();
    match &mut probe.check {
        Check::Http { expect, .. } => {
            // It is a pattern: the values stand for themselves in it.
            let escaped = values.iter().map(|(name, it)| (name.clone(), regex::escape(it)));
            let escaped: Values = escaped.collect();
            expect.body = expect.body.take().and_then(|it| Text(it).expand(&escaped).ok());
            expect.status = expect.status.as_deref().and_then(put);
        }
        Check::Tcp { .. } | Check::Grpc { .. } => (),
        Check::Exec { argv, directory, environment, user, rights: _ } => {
            for argument in argv {
                if let Some(text) = put(argument) {
                    *argument = text;
                }
            }
            let own = std::mem::take(environment);
            // The mark of the instance would make the probe look like a part of it.
            let another = |name: String| if name == MARK { RUN.into() } else { name };
            environment.extend(base.into_iter().map(|(name, value)| (another(name), value)));
            environment.extend(own);
            *directory = directory.take().or_else(|| launch.directory.clone());
            *user = user.take().or_else(|| launch.user.clone());
        }
    }
    probe
}
