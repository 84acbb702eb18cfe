//! Brings the daemon up: lock, state, logger, adoption, then the socket.
//!
//! In this order: nothing is started before the lock is held, nobody is answered before it is known
//! what runs already.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::applying::Config;
use super::driver::{Daemon, Ended};
use super::gateway::Keeper;
use super::gateway::listeners::Listeners;
use super::hands::{Hands, Places};
use super::http::doorway::{self, Doorway};
use super::http::metrics;
use super::http::peer::{Access, Door};
use super::http::{self, Api};
use super::kept::journal::Journal;
use super::kept::rollouts::Rollouts;
use super::kept::state::{Remembered, StateFile};
use super::nginx::log as nginx_log;
use super::output::holding;
use super::output::logging;
use super::output::outage::Outage;
use super::replace::{self, Estate, Heir};
use super::runs::hooks::Hooks;
use super::show::publish::{Frame, Publisher};
use super::signals::{Around, Children, Signals};
use super::systemd::Notifier;
use super::trees::guesses::Guesses;
use super::turn::{self, Turn, Turns};
use super::{adopt, applied, config, copied, elsewhere, host, lock, log, nginx, own};
use crate::config::accounts;
use crate::config::settings::Settings;
use crate::config::trust::Distrust;
use crate::fleet::Fleet;

/// What is still under way has so long to end.
const LAST_WAITS: Duration = Duration::from_secs(6);
/// The same while clients and services wait for the next program.
const NEXT_WAITS: Duration = Duration::from_secs(2);

/// What the daemon needs to know before it can begin.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Arc<Settings>,
    /// Of the file as it is now: then the settings are those that were applied last.
    pub mistakes: Option<turn::Mistakes>,
    /// Absolute paths.
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
    pub socket: PathBuf,
    /// How long a program that replaces this one has until it is up.
    pub trial: Duration,
    /// This program, for the logger and `exec-as`.
    pub program: PathBuf,
}

/// Why the daemon could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("could not create {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what} {path} is open to others: {why}")]
    Distrust { what: &'static str, path: PathBuf, why: Box<Distrust> },
    #[error("another daemon (pid {pid}) holds {path}")]
    Held { path: PathBuf, pid: String },
    #[error("{running} run by this configuration with its state in {there}, not in {here}")]
    Elsewhere { running: String, there: PathBuf, here: PathBuf },
    #[error("could not lock {path}")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not listen on {path}")]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not prepare this process")]
    Prepare(#[source] io::Error),
    #[error("could not take over {instance} (pid {pid})")]
    Adopt {
        instance: String,
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("could not become {program}")]
    Replace {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Runs the daemon to its end. `heir`: this process was another program before.
pub async fn run(mut plan: Plan, mut heir: Option<Heir>) -> Result<Ended, BootError> {
    if let Some(place) = heir.as_ref().and_then(Heir::own_place) {
        place.clone_into(&mut plan.socket);
    }
    let is_last = heir.as_ref().and_then(|it| it.estate.is_last).unwrap_or_else(host::is_last);
    let Ground { lock, children, signals } = Ground::prepare(&plan, heir.as_ref()).await?;
    let (turns, queue) = mpsc::channel(turn::BACKLOG);
    let beside = Beside {
        turns,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        systemd: Arc::new(Notifier::from_environment()),
    };
    let gateways = heir.as_mut().map_or_else(Listeners::default, Heir::take_gateways);
    let file = plan.settings.clone();
    let (mut daemon, remembered, seen) = beside.begin(&mut plan)?;
    let keeper = beside.keep_fronts(&plan, &daemon.hands, gateways);
    if let Some(heir) = &mut heir {
        daemon.hands.take_over_sockets(std::mem::take(&mut heir.estate.sockets));
    }
    adopt::reachable(&remembered)?;
    adopt::begin(&mut daemon, &plan.settings, remembered)?;
    plan.settings = file;
    daemon.begin_with(&plan.settings, plan.mistakes.as_ref());
    // Before anything is waited for: who is told nothing takes a gateway that serves for one too many.
    daemon.hands.front.flush();
    let lookout = daemon.look_at_pid_files().await;

    let (doorway, server) = beside.open(&plan, heir.as_ref(), seen)?;
    let files = daemon.hands.foreign.subscribe();
    beside.tasks.spawn(lookout.keep(files, beside.turns.clone(), beside.stop.clone()));
    beside.listen(&plan, &daemon, signals, is_last);
    if let Some(heir) = heir {
        // Its first turn: whatever went wrong until then is a way back.
        let _ = beside.turns.send(Turn::TookOver(Box::new(heir))).await;
    }
    let Beside { turns, tasks, stop, systemd } = beside;
    let (told, ends) = (systemd.clone(), stop.clone());
    tasks.spawn(async move { told.accompany(turns, ends).await });
    info!(socket = %plan.socket.display(), "the daemon is up");

    let ended = daemon.run(queue, children).await;
    info!(?ended, "the daemon ends");
    if matches!(ended, Ended::Kept | Ended::Signalled) {
        applied::close(&plan.state_dir);
    }
    let house = House { plan, lock, is_last, doorway, systemd, stop, tasks, server, keeper };
    house.leave(daemon, ended).await
}

/// What there is before anything else.
struct Ground {
    lock: File,
    children: Children,
    signals: Signals,
}

impl Ground {
    async fn prepare(plan: &Plan, heir: Option<&Heir>) -> Result<Self, BootError> {
        host::prepare().map_err(BootError::Prepare)?;
        // Before there is any other thread: one that does not block SIGCHLD would take it from us.
        let children = Children::register().map_err(BootError::Prepare)?;
        own::look(&plan.state_dir, &plan.runtime_dir, &plan.socket)?;
        // Before anything is made in a new place.
        elsewhere::look(plan.settings.path.as_deref(), &plan.state_dir)?;
        if heir.is_none() {
            lock::wait_for_seat(plan).await?;
        }
        for path in [&plan.state_dir, &plan.runtime_dir] {
            host::private_directory(path)
                .map_err(|source| BootError::Directory { path: path.clone(), source })?;
        }
        let lock = lock::hold(plan, heir).await?;
        if !heir.is_some_and(|it| it.has_door_at(&plan.socket)) {
            // Before anything is started that nobody could ask about.
            doorway::make_room(plan)
                .await
                .map_err(|source| BootError::Listen { path: plan.socket.clone(), source })?;
        }
        host::keep_a_thread().await.map_err(BootError::Prepare)?;
        let settings = plan.settings.clone();
        // What cannot be known now is asked for where it is wanted.
        let _ = tokio::task::spawn_blocking(move || accounts::learn(&settings)).await;
        let signals = Signals::register().map_err(BootError::Prepare)?;
        Ok(Self { lock, children, signals })
    }
}

/// What goes on beside the daemon.
struct Beside {
    turns: Turns,
    tasks: TaskTracker,
    stop: CancellationToken,
    systemd: Arc<Notifier>,
}

impl Beside {
    /// The logger, the records, and a daemon that has not looked yet at what runs. From here on it is planned
    /// for what was applied where that is to go on.
    fn begin(&self, plan: &mut Plan) -> Result<(Daemon, Remembered, Seen), BootError> {
        let Self { turns, tasks, stop, .. } = self;
        let (program, runtime_dir) = (plan.program.clone(), plan.runtime_dir.clone());
        let (link, keeper) =
            logging::start(program.clone(), runtime_dir.clone(), turns.clone(), stop.clone());
        tasks.spawn(keeper);
        tasks.spawn(holding::keep(program, runtime_dir, stop.clone()));
        let mut rollouts = Rollouts::default();
        let mut journal = Journal::open_and_tell(&plan.state_dir, |event| rollouts.note(event));
        let (mut state, mut remembered) = StateFile::open(&plan.state_dir, &host::boot_id());
        for line in copied::let_go(&mut remembered, &plan.state_dir) {
            state.append(&line);
        }
        journal.go_beyond(remembered.highest_seq);
        let last = plan.settings.path.as_deref().and_then(|it| applied::read(&plan.state_dir, it));
        if let Some(applied) = applied::base(&plan.state_dir, &plan.settings, &remembered) {
            plan.settings = Arc::new(applied);
        }
        let hands = Hands::new(Places::of(plan), state, link, turns.clone(), tasks.clone())
            .map_err(BootError::Prepare)?;
        let (access, seen) = watch::channel(Arc::new(Access::of(&plan.settings.deck)));
        let (metrics, readers) = watch::channel(plan.settings.deck.metrics);
        let reaper = hands.reaper.clone();
        let hooks = Hooks::new(reaper, turns.clone(), tasks.clone(), plan.state_dir.clone());
        let mut daemon = assemble(plan, (hands, hooks), journal, access, metrics);
        daemon.rollouts = rollouts;
        if let Some(last) = last {
            daemon.rename_remembered(&last, &mut remembered);
        }
        Ok((daemon, remembered, Seen { access: seen, metrics: readers }))
    }

    /// Begins what looks after the gateways, our own and nginx; the handle has the listeners in the end.
    fn keep_fronts(
        &self,
        plan: &Plan,
        hands: &Hands,
        gateways: Listeners,
    ) -> JoinHandle<Listeners> {
        let Self { turns, tasks, stop, .. } = self;
        let keeper = Keeper::new(
            plan.program.clone(),
            plan.runtime_dir.clone(),
            turns.clone(),
            tasks.clone(),
            hands.front.subscribe(),
            stop.clone(),
            gateways,
        );
        let nginx = nginx::Keeper {
            reaper: hands.reaper.clone(),
            turns: turns.clone(),
            jobs: hands.front.jobs(),
            stop: stop.clone(),
        };
        tasks.spawn(nginx.run());
        let (turns, stop) = (turns.clone(), stop.clone());
        tasks.spawn(nginx_log::Reader { turns, jobs: hands.front.jobs(), stop }.run());
        tasks.spawn(keeper.run())
    }

    /// Opens the door: from here on whoever asks is answered.
    fn open(
        &self,
        plan: &Plan,
        heir: Option<&Heir>,
        seen: Seen,
    ) -> Result<(Doorway, JoinHandle<io::Result<()>>), BootError> {
        let Self { turns, tasks, stop, .. } = self;
        let shared = seen.access.borrow().shared;
        let (doorway, listener) = Doorway::open(plan, heir, shared)
            .map_err(|source| BootError::Listen { path: plan.socket.clone(), source })?;
        let (more, others) = mpsc::channel(1);
        let door = Door::new(listener, others, seen.access.clone());
        let api = Api { turns: turns.clone(), config: plan.settings.path.clone() };
        let server = tokio::spawn(http::serve(door, api, stop.clone()));
        tasks.spawn(doorway.clone().keep(seen.access, (more, turns.clone()), stop.clone()));
        tasks.spawn(metrics::keep(seen.metrics, turns.clone(), stop.clone()));
        Ok((doorway, server))
    }

    /// Listens to signals and to the configuration file.
    fn listen(&self, plan: &Plan, daemon: &Daemon, signals: Signals, is_last: bool) {
        let Self { turns, tasks, stop, systemd } = self;
        let path = plan.settings.path.clone();
        let reaper = daemon.hands.reaper.clone();
        let around = Around { path: path.clone(), reaper, is_last, systemd: systemd.clone() };
        tasks.spawn(signals.listen(around, turns.clone(), stop.clone()));
        if let Some(path) = path {
            let files = plan.settings.files.clone();
            tasks.spawn(config::watch(path, files, turns.clone(), stop.clone()));
        }
    }
}

/// What the configuration says to those who answer.
struct Seen {
    access: watch::Receiver<Arc<Access>>,
    metrics: watch::Receiver<Option<SocketAddr>>,
}

/// What the daemon had besides itself.
struct House {
    plan: Plan,
    lock: File,
    is_last: bool,
    doorway: Doorway,
    systemd: Arc<Notifier>,
    stop: CancellationToken,
    tasks: TaskTracker,
    server: JoinHandle<io::Result<()>>,
    /// Of the gateways, with their listeners.
    keeper: JoinHandle<Listeners>,
}

impl House {
    /// Ends what goes on beside the daemon, and hands everything to its successor if it has one.
    async fn leave(self, daemon: Daemon, ended: Ended) -> Result<Ended, BootError> {
        let Self { plan, lock, is_last, doorway, systemd, stop, tasks, server, keeper } = self;
        let (successor, sockets) = daemon.leave();
        if successor.is_some() {
            systemd.reloading();
        } else {
            systemd.stopping();
            doorway.close();
        }
        stop.cancel();
        // Clients hear the end of what they asked for; one that does not read is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
        tasks.close();
        // Nothing that is still under way matters to the services.
        let patience = if successor.is_some() { NEXT_WAITS } else { LAST_WAITS };
        let _ = tokio::time::timeout(patience, tasks.wait()).await;
        if let Some(successor) = successor {
            // One that does not end has its listeners in the gateway as well.
            let listeners = tokio::time::timeout(patience, keeper).await.ok().and_then(Result::ok);
            let gateways = listeners.map(Listeners::into_open).unwrap_or_default();
            let replaced =
                |source| BootError::Replace { program: successor.program.clone(), source };
            let door = doorway.leave().map_err(replaced)?;
            let is_last = Some(is_last);
            let estate = Estate { lock: lock.into(), door, gateways, sockets, is_last };
            log::finish();
            let Err(source) = replace::hand_over(estate, &successor, plan.trial);
            return Err(BootError::Replace { program: successor.program, source });
        }
        if ended == Ended::AtRest
            && let Err(err) = std::fs::remove_dir_all(&plan.runtime_dir)
        {
            info!(path = %plan.runtime_dir.display(), %err, "left behind");
        }
        Ok(ended)
    }
}

fn assemble(
    plan: &Plan,
    (hands, hooks): (Hands, Hooks),
    journal: Journal,
    access: watch::Sender<Arc<Access>>,
    metrics: watch::Sender<Option<SocketAddr>>,
) -> Daemon {
    let host = host::name();
    let base = Frame {
        deck: plan.settings.deck.name.clone().unwrap_or_else(|| host.clone()),
        host,
        pid: std::process::id(),
        at_boot: host::starts_at_boot(),
        ..Frame::default()
    };
    let config = Config {
        path: plan.settings.path.clone(),
        socket: plan.socket.clone(),
        settings: plan.settings.clone(),
        error: None,
        pending: vec![],
        guesses: Guesses::default(),
        logger_trouble: None,
        logger_outage: Outage::default(),
        gateway_trouble: None,
        retiring_troubles: BTreeMap::new(),
        metrics_trouble: None,
        doorway_trouble: None,
        base: base.clone(),
        access,
        metrics,
    };
    Daemon::new(Fleet::new(host::seed()), hands, hooks, journal, Publisher::new(base), config)
}
