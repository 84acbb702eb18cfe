//! Brings the daemon up: lock, state, logger, adoption, then the socket.
//!
//! In this order: nothing is started before the lock is held, nobody is answered before it is known
//! what runs already.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::applying::Config;
use super::driver::{Daemon, Ended};
use super::gateway::Keeper;
use super::guesses::Guesses;
use super::hands::{Hands, Places};
use super::hooks::Hooks;
use super::http::{self, Api};
use super::journal::Journal;
use super::listeners::Listeners;
use super::peer::{Access, Door};
use super::publish::{Frame, Publisher};
use super::replace::{self, Estate, Heir};
use super::rollouts::Rollouts;
use super::signals::{Around, Children, Signals};
use super::state::StateFile;
use super::systemd::Notifier;
use super::turn::{self, Turn, Turns};
use super::{adopt, config, foreign, holding, host, lock, logging, metrics, nginx, nginx_log};
use crate::config::settings::Settings;
use crate::fleet::Fleet;

/// What is still under way has so long to end.
const LAST_WAITS: Duration = Duration::from_secs(6);
/// The same while clients and services wait for the next program.
const NEXT_WAITS: Duration = Duration::from_secs(2);

/// What the daemon needs to know before it can begin.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Arc<Settings>,
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
    #[error("another daemon (pid {pid}) holds {path}")]
    Held { path: PathBuf, pid: String },
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
pub async fn run(plan: Plan, mut heir: Option<Heir>) -> Result<Ended, BootError> {
    for path in [&plan.state_dir, &plan.runtime_dir] {
        private_directory(path)
            .map_err(|source| BootError::Directory { path: path.clone(), source })?;
    }
    let lock = lock::hold(&plan, heir.as_ref()).await?;
    host::prepare().map_err(BootError::Prepare)?;
    // Before there is any other thread: one that does not block SIGCHLD would take it from us.
    let children = Children::register().map_err(BootError::Prepare)?;
    host::keep_a_thread().await.map_err(BootError::Prepare)?;
    let signals = Signals::register().map_err(BootError::Prepare)?;

    let systemd = Arc::new(Notifier::from_environment());
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (turns, queue) = mpsc::channel(turn::BACKLOG);
    let (link, keeper) =
        logging::start(plan.program.clone(), plan.runtime_dir.clone(), turns.clone(), stop.clone());
    tasks.spawn(keeper);
    let (program, runtime_dir) = (plan.program.clone(), plan.runtime_dir.clone());
    tasks.spawn(holding::keep(program, runtime_dir, stop.clone()));
    let boot_id = host::boot_id();
    let mut rollouts = Rollouts::default();
    let journal = Journal::open_and_tell(&plan.state_dir, |event| rollouts.note(event));
    let (state, remembered) = StateFile::open(&plan.state_dir, &boot_id);
    let hands = Hands::new(Places::of(&plan), state, link, turns.clone(), tasks.clone())
        .map_err(BootError::Prepare)?;

    let gateways = heir.as_mut().map_or_else(Listeners::default, Heir::take_gateways);
    let keeper = keep_fronts(&plan, &hands, &turns, (&tasks, &stop), gateways);
    let reaper = hands.reaper.clone();

    let (access, seen) = watch::channel(Arc::new(Access::of(&plan.settings.deck)));
    let (metrics, readers) = watch::channel(plan.settings.deck.metrics);
    let state_dir = plan.state_dir.clone();
    let hooks = Hooks::new(hands.reaper.clone(), turns.clone(), tasks.clone(), state_dir);
    let mut daemon = assemble(&plan, (hands, hooks), journal, access, metrics);
    daemon.rollouts = rollouts;
    if let Some(heir) = &mut heir {
        daemon.hands.take_over_sockets(std::mem::take(&mut heir.estate.sockets));
    }
    adopt::reachable(&remembered)?;
    adopt::begin(&mut daemon, &plan.settings, remembered)?;
    daemon.look_at_pid_files().await;
    let files = daemon.hands.foreign.subscribe();
    tasks.spawn(foreign::keep(files, turns.clone(), stop.clone()));

    let listener = open(&plan, heir.as_ref())
        .map_err(|source| BootError::Listen { path: plan.socket.clone(), source })?;
    let path = plan.settings.path.clone();
    let door = listener.as_fd().try_clone_to_owned().map_err(BootError::Prepare)?;
    let api = Api { turns: turns.clone(), config: path.clone() };
    let server = tokio::spawn(http::serve(Door::new(listener, seen), api, stop.clone()));
    tasks.spawn(metrics::keep(readers, turns.clone(), stop.clone()));
    let around = Around { path: path.clone(), reaper, systemd: systemd.clone() };
    tasks.spawn(signals.listen(around, turns.clone(), stop.clone()));
    if let Some(path) = path {
        let files = plan.settings.files.clone();
        tasks.spawn(config::watch(path, files, turns.clone(), stop.clone()));
    }
    if let Some(heir) = heir {
        // Its first turn: whatever went wrong until then is a way back.
        let _ = turns.send(Turn::TookOver(Box::new(heir))).await;
    }
    let (told, beats, ends) = (systemd.clone(), turns.clone(), stop.clone());
    tasks.spawn(async move { told.accompany(beats, ends).await });
    drop(turns);
    info!(socket = %plan.socket.display(), "the daemon is up");

    let ended = daemon.run(queue, children).await;
    info!(?ended, "the daemon ends");
    let house = House { plan, lock, door, systemd, stop, tasks, server, keeper };
    house.leave(daemon, ended).await
}

/// Begins what looks after the gateways, our own and nginx; the handle has the listeners in the end.
fn keep_fronts(
    plan: &Plan,
    hands: &Hands,
    turns: &Turns,
    (tasks, stop): (&TaskTracker, &CancellationToken),
    gateways: Listeners,
) -> JoinHandle<Listeners> {
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
    let log =
        nginx_log::Reader { turns: turns.clone(), jobs: hands.front.jobs(), stop: stop.clone() };
    tasks.spawn(log.run());
    tasks.spawn(keeper.run())
}

/// What the daemon had besides itself.
struct House {
    plan: Plan,
    lock: File,
    door: OwnedFd,
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
        let Self { plan, lock, door, systemd, stop, tasks, server, keeper } = self;
        let (successor, sockets) = daemon.leave();
        if successor.is_some() {
            systemd.reloading();
        } else {
            systemd.stopping();
            // A new daemon must not find the socket of an old one.
            let _ = std::fs::remove_file(&plan.socket);
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
            let estate = Estate { lock: lock.into(), door: (plan.socket, door), gateways, sockets };
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
        gateway_trouble: None,
        metrics_trouble: None,
        base: base.clone(),
        access,
        metrics,
    };
    Daemon::new(Fleet::new(host::seed()), hands, hooks, journal, Publisher::new(base), config)
}

/// Creates a directory that only its owner can enter, and its parents.
pub fn private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The socket of the API: the one that this process has, or a new one.
fn open(plan: &Plan, heir: Option<&Heir>) -> io::Result<UnixListener> {
    let Some(left) = heir.and_then(|it| it.door_at(&plan.socket)) else { return listen(plan) };
    let listener = std::os::unix::net::UnixListener::from(left?);
    listener.set_nonblocking(true)?;
    open_door(&plan.state_dir, &plan.socket, Access::is_shared(&plan.settings.deck))?;
    UnixListener::from_std(listener)
}

/// Binds the socket with the mode it is to have: there is no moment in which it is open to more.
fn listen(plan: &Plan) -> io::Result<UnixListener> {
    if let Some(parent) = plan.socket.parent() {
        private_directory(parent)?;
    }
    // The lock is ours, so a socket that is there belongs to nobody.
    match std::fs::remove_file(&plan.socket) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => (),
    }
    let hidden = if Access::is_shared(&plan.settings.deck) { 0o111 } else { 0o177 };
    let before = umask(Mode::from_bits_truncate(hidden));
    let listener = UnixListener::bind(&plan.socket);
    umask(before);
    let listener = listener?;
    open_door(&plan.state_dir, &plan.socket, Access::is_shared(&plan.settings.deck))?;
    Ok(listener)
}

/// Lets others as far as the socket once they are named, and nobody any more when they are not.
///
/// Whoever passes through the state directory can read nothing in it: its files belong to us alone. A
/// socket elsewhere stands in a directory that is the operator's business.
pub fn open_door(state_dir: &Path, socket: &Path, shared: bool) -> io::Result<()> {
    let (door, passage) = if shared { (0o666, 0o711) } else { (0o600, 0o700) };
    if socket.parent() == Some(state_dir) {
        std::fs::set_permissions(state_dir, PermissionsExt::from_mode(passage))?;
    }
    std::fs::set_permissions(socket, PermissionsExt::from_mode(door))
}
