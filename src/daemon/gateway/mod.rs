//! The link to the gateway process: starts it where none runs, hands it listeners and routes, hears its
//! counts, and replaces it by a newer program without closing a connection.
//!
//! The gateway outlives this daemon. One that is there already is connected to: it tells which routes it
//! has and gives the listeners back. When it dies it is started again at once on the same listeners, which
//! stay open here: new connections wait in the backlog meanwhile. An older program is told to retire: it
//! finishes what it has while the new one accepts.

pub mod ledger;
pub mod listeners;
pub mod news;
mod retiring;
pub(in crate::daemon) mod start;
pub mod talk;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::daemon::front::Wanted;
use crate::daemon::gateway::listeners::Listeners;
use crate::daemon::gateway::retiring::{Farewell, RETIRE};
use crate::daemon::gateway::start::{shared_memory, start_process};
use crate::daemon::gateway::talk::Talk;
use crate::daemon::mute;
use crate::daemon::silence::{self, Verdict, Watch};
use crate::daemon::turn::{Turn, Turns};
use crate::gateway::control::{ANSWERS_SINCE, Counts, FromGateway, Routes, ToGateway};
use crate::gateway::shared::{self, InFlight};
use crate::process::identity::{self, Identity};

/// What a gateway is called with.
const ROLE: &str = "gateway";
/// The control socket of the one that accepts; those that retire have `gateway.PID.sock`.
const SOCKET: &str = "gateway.sock";
/// Between two tries to start a gateway that does not stay up, and to bind an address that is taken.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks whether its control socket is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the daemon hears of its gateway processes.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It is there, with the routes that were in force before. `started`: by us, right now.
    Up { pid: u32, started: bool, routes: Option<Routes> },
    /// It has ended, or cannot be started.
    Down(Down),
    /// It said something of its own accord.
    Said { pid: u32, message: FromGateway },
    /// None runs, and none is to.
    Nobody,
    /// It does not answer; how that is said. `retires`: another one serves.
    Silent { pid: u32, retires: bool, words: String },
    /// It answers again.
    Answers { pid: u32 },
    /// Why a gateway does not listen; `None`: it does now.
    Listening { gateway: String, trouble: Option<String> },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Down {
    /// `None`: it could not be started.
    pub pid: Option<u32>,
    /// It had to finish what it had, and no more.
    pub retired: bool,
    /// It hung.
    pub was_killed: bool,
    pub why: String,
    /// What it had in flight when it ended, by instance, where that can be read.
    pub in_flight: Option<Vec<InFlight>>,
}

/// What the keeper needs.
#[derive(Debug)]
pub struct Keeper {
    pub program: PathBuf,
    pub runtime_dir: PathBuf,
    pub turns: Turns,
    pub tasks: TaskTracker,
    pub wanted: watch::Receiver<Wanted>,
    pub stop: CancellationToken,
    listeners: Listeners,
    /// The counts of the process that was started here, in memory that outlives it.
    shared: Option<File>,
    /// The last process that was started here.
    started: Option<Identity>,
    /// Those that retire and have no control socket any more.
    hidden: Vec<Identity>,
    /// How long it may take to answer.
    greeting: Duration,
}

/// Why a conversation ended.
enum End {
    /// The daemon ends.
    Stop,
    /// No gateway is configured any more.
    Unwanted,
    /// Its control socket was removed: it retires, as the next daemon would not find it.
    Hidden,
    Lost(String),
}

impl Keeper {
    pub fn new(
        program: PathBuf,
        runtime_dir: PathBuf,
        turns: Turns,
        tasks: TaskTracker,
        wanted: watch::Receiver<Wanted>,
        stop: CancellationToken,
        listeners: Listeners,
    ) -> Self {
        Self {
            program,
            runtime_dir,
            turns,
            tasks,
            wanted,
            stop,
            listeners,
            shared: None,
            started: None,
            hidden: vec![],
            greeting: talk::GREETING,
        }
    }

    /// Keeps a gateway running as long as one is configured.
    ///
    /// Returns its listeners in the end, for the program that this process may become.
    pub async fn run(mut self) -> Listeners {
        let retires = self.find_retiring().await;
        if !retires && !self.is_wanted() && !self.socket().exists() {
            self.tell(News::Nobody).await;
        }
        self.keep_running().await;
        self.listeners
    }

    async fn keep_running(&mut self) {
        loop {
            if !self.is_wanted() && !self.socket().exists() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    changed = self.wanted.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            match self.connect().await {
                Ok(talk) => {
                    let pid = talk.pid;
                    match self.converse(talk).await {
                        End::Stop => return,
                        End::Unwanted | End::Hidden => continue,
                        End::Lost(why) => {
                            let in_flight =
                                self.shared.take().and_then(|it| shared::read(&it).ok());
                            let down = Down {
                                pid: Some(pid),
                                retired: false,
                                was_killed: false,
                                why,
                                in_flight,
                            };
                            self.tell(News::Down(down)).await;
                        }
                    }
                }
                Err(err) => {
                    warn!(%err, "the gateway cannot be started");
                    let why = err.to_string();
                    let down =
                        Down { pid: None, retired: false, was_killed: false, why, in_flight: None };
                    self.tell(News::Down(down)).await;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(PATIENCE) => (),
                    }
                }
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.runtime_dir.join(SOCKET)
    }

    fn is_wanted(&self) -> bool {
        !self.wanted.borrow().listen.is_empty()
    }

    async fn tell(&self, news: News) {
        // The driver is gone only when the daemon ends.
        let _ = self.turns.send(Turn::Gateway(news)).await;
    }

    /// A gateway that answers: the one that is there, or a new one.
    async fn connect(&mut self) -> io::Result<Talk> {
        let path = self.socket();
        let mut routes = None;
        match self.greet(&path).await {
            Ok(talk) if is_same_program(talk.pid, &self.program) => return Ok(talk),
            Ok(mut talk) => {
                info!(pid = talk.pid, "another program serves; it retires");
                routes = talk.routes.take();
                self.retire(talk).await?;
            }
            Err(err) => {
                if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
                    self.succeed_hidden(&path).await?;
                }
                self.end_mute(&path, &err).await?;
            }
        }
        self.start(&path)?;
        let mut talk = match self.greet(&path).await {
            Ok(talk) => talk,
            Err(err) => return Err(self.give_up(err).await),
        };
        // Who was in rotation there is in rotation here.
        talk.routes = talk.routes.or(routes);
        Ok(talk)
    }

    /// Connects, and takes the listeners that it gives back.
    async fn greet(&mut self, path: &Path) -> io::Result<Talk> {
        let (talk, listeners) = talk::connect(path, self.greeting).await?;
        self.listeners.take_back(listeners);
        Ok(talk)
    }

    /// One whose socket was removed serves and takes no word: the next one has its listeners, and it retires.
    async fn succeed_hidden(&mut self, path: &Path) -> io::Result<()> {
        for it in mute::behind(path, ROLE)? {
            let Ok(pid) = u32::try_from(it.pid) else { continue };
            if self.hidden.contains(&it) {
                continue;
            }
            info!(pid, "a gateway that cannot be found retires");
            self.listeners.take_from(it, &self.wanted.borrow().listen);
            mute::send(it, libc::SIGTERM)?;
            self.hidden.push(it);
            self.see_off(pid, self.socket_of(pid), None).await;
        }
        Ok(())
    }

    /// Ends those that run and cannot be talked to.
    async fn end_mute(&self, path: &Path, err: &io::Error) -> io::Result<()> {
        for it in mute::behind(path, ROLE)? {
            if self.hidden.contains(&it) {
                continue;
            }
            mute::kill(it).await?;
            let pid = u32::try_from(it.pid).ok();
            let why = format!("it could not be talked to ({err}) and was killed");
            self.tell(News::Down(Down {
                pid,
                retired: false,
                was_killed: false,
                why,
                in_flight: None,
            }))
            .await;
        }
        Ok(())
    }

    /// Ends what was started and does not answer: two of them would accept on the same sockets.
    async fn give_up(&mut self, err: io::Error) -> io::Error {
        let Some(identity) = self.started.take() else { return err };
        let pid = identity.pid;
        match mute::kill(identity).await {
            Ok(()) => io::Error::other(format!("{err}: pid {pid} was killed")),
            Err(cause) => {
                io::Error::other(format!("{err}, and pid {pid} cannot be killed: {cause}"))
            }
        }
    }

    /// Binds what is to be listened on, and starts a process with all of it.
    fn start(&mut self, path: &Path) -> io::Result<()> {
        // Left behind by a gateway that is gone.
        let _ = std::fs::remove_file(path);
        let control: OwnedFd = std::os::unix::net::UnixListener::bind(path)?.into();
        let wanted = self.wanted.borrow_and_update().clone();
        self.listeners.bind(&wanted.listen);
        let shared = shared_memory()?;
        let identity =
            start_process(&self.program, &control, &shared, &self.listeners, &wanted.user)?;
        info!(pid = identity.pid, "the gateway was started");
        self.shared = Some(shared);
        self.started = Some(identity);
        Ok(())
    }

    /// Lets another program finish what it has. It goes on being told the routes, and counting.
    async fn retire(&self, talk: Talk) -> io::Result<()> {
        std::fs::rename(self.socket(), self.socket_of(talk.pid))?;
        self.send_away(talk).await;
        Ok(())
    }

    /// Of one that retires.
    fn socket_of(&self, pid: u32) -> PathBuf {
        self.runtime_dir.join(format!("gateway.{pid}.sock"))
    }

    /// Another one can be started where it cannot be found.
    fn is_hidden(&self) -> bool {
        !self.socket().exists() && self.runtime_dir.exists()
    }

    /// Remembers one that retires where nobody finds it, until it has ended.
    fn hide(&mut self, pid: u32) {
        self.hidden.retain(|it| identity::is_alive(*it).unwrap_or(true));
        self.hidden.extend(identity::identity_of(pid.cast_signed()));
    }

    async fn send_away(&self, mut talk: Talk) {
        // One that does not take it hangs or has ended: that is seen there.
        let _ = talk.send(&RETIRE).await;
        self.see_off(talk.pid, self.socket_of(talk.pid), Some(talk)).await;
    }

    async fn see_off(&self, pid: u32, path: PathBuf, talk: Option<Talk>) {
        if talk.is_none() {
            // What it has in flight is not known, which is not nothing: no drain is over while it says no more.
            let message = FromGateway::Counts(Counts::default());
            self.tell(News::Said { pid, message }).await;
        }
        let mut wanted = self.wanted.clone();
        // It may not have been told yet what it retires for.
        wanted.mark_changed();
        let (turns, stop, greeting) = (self.turns.clone(), self.stop.clone(), self.greeting);
        let farewell = Farewell { pid, path, wanted, turns, stop, greeting };
        self.tasks.spawn(farewell.run(talk));
    }

    /// Those that an earlier daemon told to retire are counted until they end. Returns whether there are any.
    async fn find_retiring(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(&self.runtime_dir) else { return false };
        let mut found = false;
        for path in entries.filter_map(|it| Some(it.ok()?.path())) {
            let Some(pid) = path.file_name().and_then(|it| retiring_in(it.to_str()?)) else {
                continue;
            };
            // It hangs, or may be about to end: that is not waited for here.
            match mute::identity_in(ROLE, pid) {
                Some(_) => {
                    self.see_off(pid, path, None).await;
                    found = true;
                }
                None => drop(std::fs::remove_file(&path)),
            }
        }
        found
    }

    async fn converse(&mut self, mut talk: Talk) -> End {
        let pid = talk.pid;
        let started = self.started.is_some_and(|it| u32::try_from(it.pid) == Ok(pid));
        self.tell(News::Up { pid, started, routes: talk.routes.take() }).await;
        // Addresses that came while nobody was there, and those that could not be bound.
        self.wanted.mark_changed();
        let mut again = tokio::time::interval(PATIENCE);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watch = Watch::new();
        watch.is_of(mute::identity_in(ROLE, pid));
        let answers = talk.version >= ANSWERS_SINCE;
        loop {
            let done = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    if !self.is_wanted() {
                        // Everything was stopped for good. It ends by itself; nobody waits for that.
                        let _ = self.dismiss(talk).await;
                    }
                    return End::Stop;
                }
                // What it has said counts before it is looked whether it says anything.
                message = talk.next() => match message {
                    Ok(message) => {
                        self.heard(pid, message, &mut watch).await;
                        Ok(())
                    }
                    Err(err) => Err(err),
                },
                changed = self.wanted.changed(), if !talk.is_behind() => match changed {
                    Ok(()) if !self.is_wanted() => {
                        return match self.dismiss(talk).await {
                            Ok(()) => End::Unwanted,
                            Err(err) => End::Lost(err.to_string()),
                        };
                    }
                    Ok(()) => self.pass_on(&mut talk).await,
                    Err(_) => return End::Stop,
                },
                _ = look.tick() => match self.is_hidden() {
                    true => {
                        self.hide(pid);
                        self.send_away(talk).await;
                        return End::Hidden;
                    }
                    false => Ok(()),
                },
                _ = again.tick(), if self.listeners.is_incomplete() => self.pass_on(&mut talk).await,
                verdict = watch.look(), if answers => self.judge(verdict, &mut talk, &watch).await,
            };
            if let Err(err) = done {
                return End::Lost(err.to_string());
            }
        }
    }

    async fn heard(&self, pid: u32, message: FromGateway, watch: &mut Watch) {
        if watch.heard() {
            self.tell(News::Answers { pid }).await;
        }
        if message != FromGateway::Pong {
            self.tell(News::Said { pid, message }).await;
        }
    }

    /// One that hangs is asked, told of, and killed in the end.
    async fn judge(&self, verdict: Verdict, talk: &mut Talk, watch: &Watch) -> io::Result<()> {
        let pid = talk.pid;
        match verdict {
            Verdict::Nothing => Ok(()),
            Verdict::Ask => talk.say(&ToGateway::Ping),
            Verdict::Tell { held } => {
                warn!(pid, held, "the gateway does not answer");
                self.tell(News::Silent { pid, retires: false, words: silence::words(held) }).await;
                Ok(())
            }
            Verdict::End => {
                if let Some(it) = watch.who() {
                    mute::kill(it).await?;
                }
                Err(io::Error::other(silence::last_words()))
            }
        }
    }

    /// No gateway is configured any more.
    async fn dismiss(&mut self, talk: Talk) -> io::Result<()> {
        self.listeners = Listeners::default();
        self.retire(talk).await
    }

    /// New listeners first, then the routes: a route without its listener would close it.
    async fn pass_on(&mut self, talk: &mut Talk) -> io::Result<()> {
        let wanted = self.wanted.borrow_and_update().clone();
        let fresh = self.listeners.bind(&wanted.listen);
        for (gateway, trouble) in self.listeners.news() {
            self.tell(News::Listening { gateway, trouble }).await;
        }
        let fresh: Vec<_> = self.listeners.of(&fresh).collect();
        if !fresh.is_empty() {
            let names = fresh.iter().map(|it| it.0.to_owned()).collect();
            let descriptors: Vec<_> = fresh.iter().map(|it| it.1).collect();
            talk.say_with(&ToGateway::Listeners { names }, &descriptors)?;
        }
        if wanted.routes.revision > 0 {
            talk.say(&ToGateway::Routes(wanted.routes))?;
        }
        Ok(())
    }
}

/// Whose socket has this name: one that retires.
fn retiring_in(name: &str) -> Option<u32> {
    name.strip_prefix("gateway.")?.strip_suffix(".sock")?.parse().ok()
}

/// Whether that process executes the file that is at `program` now.
fn is_same_program(pid: u32, program: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    match (file(Path::new(&format!("/proc/{pid}/exe"))), file(program)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // What cannot be seen is left in peace.
        _ => true,
    }
}

/// What a listener is bound to.
pub(in crate::daemon) fn address_of(listener: &OwnedFd) -> Option<SocketAddr> {
    let address = rustix::net::getsockname(listener).ok()?;
    SocketAddr::try_from(address).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    #[tokio::test]
    async fn a_gateway_that_does_not_answer_is_killed_before_another_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mute");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listen = BTreeMap::from([("shop".to_owned(), "127.0.0.1:0".parse().unwrap())]);
        let (_wanted, wanted) = watch::channel(Wanted { listen, ..Wanted::default() });
        let (turns, _heard) = tokio::sync::mpsc::channel(8);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let runtime = dir.path().into();
        let listeners = Listeners::default();
        let mut keeper = Keeper::new(program, runtime, turns, tasks, wanted, stop, listeners);
        keeper.greeting = Duration::from_millis(300);

        keeper.start(&keeper.socket()).unwrap();
        let first = keeper.started.unwrap();
        assert!(identity::is_alive(first).unwrap());
        let told = keeper.give_up(io::Error::other("no answer")).await.to_string();
        assert_eq!(told, format!("no answer: pid {} was killed", first.pid));
        assert!(!identity::is_alive(first).unwrap());

        let Err(told) = keeper.connect().await else { panic!("it answered") };
        let told = told.to_string();
        assert!(told.starts_with("no answer within 300ms: pid "), "{told}");
        assert!(told.ends_with(" was killed"), "{told}");
        assert_eq!(keeper.started, None);
    }

    #[test]
    fn one_that_has_ended_is_hidden_no_more() {
        let (_wanted, wanted) = watch::channel(Wanted::default());
        let (turns, _heard) = tokio::sync::mpsc::channel(8);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let nowhere = PathBuf::from("/nowhere");
        let listeners = Listeners::default();
        let mut keeper =
            Keeper::new(nowhere.clone(), nowhere, turns, tasks, wanted, stop, listeners);
        let own = identity::identity_of(std::process::id().cast_signed()).unwrap();
        for n in 0..10_000 {
            keeper.hidden.push(Identity { start_time: own.start_time + n + 1, ..own });
            keeper.hide(std::process::id());
            assert_eq!(keeper.hidden.last(), Some(&own));
            keeper.hidden.truncate(1);
        }
        assert_eq!(keeper.hidden, [own]);
    }
}
