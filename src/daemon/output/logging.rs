//! The link to the logger: starts it where none runs, tells it what to take, hears of its troubles.
//!
//! The logger outlives this daemon. When it is there already it is only connected to; when it dies it is
//! started again at once and told everything anew. The FIFOs are held open by the instances and by this
//! daemon meanwhile, so nothing is lost, at worst a chatty child waits some milliseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream as StdStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::daemon::host;
use crate::daemon::mute;
use crate::daemon::silence::{self, Verdict, Watch};
use crate::daemon::turn::{Turn, Turns};
use crate::logger::{self, FromLogger, MESSAGE_LIMIT, SOCKET_NAME, Source, ToLogger};
use crate::process::{Identity, identity};

/// Batches of orders that wait for a slow logger; beyond them the hands keep the rest for later.
const ORDERS: usize = 64;
/// What a logger is called with.
const ROLE: &str = "logger";
/// Bytes that wait for a slow logger; beyond them the orders wait.
const OUTBOX: usize = 256 * 1024;
/// The number of a question that is asked only for its answer: of a name that nobody has, so it comes at once.
const QUESTION: u64 = u64::MAX;
/// Between two looks whether its socket is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between two tries to start a logger that does not stay up.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long one that lives and cannot be found may need to make another socket, and to end.
const CALLED: Duration = Duration::from_secs(5);
/// Between two looks for that socket.
const SOON: Duration = Duration::from_millis(20);

/// What the daemon hears of the logger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Up,
    /// It cannot be started or reached, and why.
    Down(String),
    /// Output of this instance is being thrown away, and why.
    Trouble {
        name: String,
        message: String,
    },
    TroubleOver {
        name: String,
        dropped_bytes: u64,
    },
    Notice(String),
    /// An answer to [`ToLogger::Flush`].
    Flushed {
        id: u64,
    },
    /// It does not answer; how that is said.
    Silent(String),
    /// It answers again.
    Answers,
}

/// The hands' end of the link.
#[derive(Clone, Debug)]
pub struct Link {
    orders: mpsc::Sender<Vec<ToLogger>>,
    growth: Arc<Growth>,
}

/// How far each log has grown, by the logger's count; a number goes back to 0 with a new logger.
#[derive(Debug, Default)]
pub struct Growth(Mutex<BTreeMap<String, watch::Sender<u64>>>);

impl Growth {
    fn of(&self, name: &str) -> watch::Receiver<u64> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody follows any more begins with 0 the next time, and is told anew.
        map.retain(|_, it| it.receiver_count() > 0);
        map.entry(name.to_owned()).or_default().subscribe()
    }

    fn grew(&self, name: &str, moved: u64) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = map.get(name) {
            it.send_replace(moved);
        }
    }

    fn begin_anew(&self) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for it in map.values() {
            it.send_replace(0);
        }
    }
}

/// Orders that wait for a logger are folded when there are so many.
const MOST_ORDERS: usize = 4096;

/// Adds to orders that the logger has not taken, which must not grow without end while it is down: of each name the
/// last one counts, and who waited for an answer has waited in vain.
pub fn keep_back(orders: Vec<ToLogger>) -> Vec<ToLogger> {
    if orders.len() <= MOST_ORDERS {
        return orders;
    }
    let mut seen = BTreeSet::new();
    let mut kept: Vec<_> = orders
        .into_iter()
        .rev()
        .filter(|it| match it {
            ToLogger::Open(source) => seen.insert(source.name.clone()),
            ToLogger::Close { name } | ToLogger::Forget { name } => seen.insert(name.clone()),
            ToLogger::Quit => true,
            ToLogger::BindAnew
            | ToLogger::Flush { .. }
            | ToLogger::Watch { .. }
            | ToLogger::Unknown => false,
        })
        .collect();
    kept.reverse();
    kept
}

impl Link {
    /// Sends orders; gives them back where the queue is full.
    pub fn send(&self, orders: Vec<ToLogger>) -> Result<(), Vec<ToLogger>> {
        self.orders.try_send(orders).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Follows the growth of one log.
    pub fn waiting(&self, name: &str) -> Waiting {
        Waiting { name: name.to_owned(), orders: self.orders.clone(), growth: self.growth.of(name) }
    }
}

/// Somebody who reads a log and waits for more: [`Waiting::ask`], read, then [`Waiting::grown`].
#[derive(Debug)]
pub struct Waiting {
    name: String,
    orders: mpsc::Sender<Vec<ToLogger>>,
    growth: watch::Receiver<u64>,
}

impl Waiting {
    /// Asks to be told. Before each reading, so that nothing that is written meanwhile is missed.
    pub async fn ask(&mut self) {
        let after = *self.growth.borrow_and_update();
        let watch = vec![ToLogger::Watch { name: self.name.clone(), after }];
        // The link is gone only when the daemon ends, and the reader with it.
        let _ = self.orders.send(watch).await;
    }

    /// Returns once the log has grown since [`Self::ask`].
    pub async fn grown(&mut self) {
        let _ = self.growth.changed().await;
    }
}

/// Starts the link; its task ends with `stop`.
pub fn start(
    program: PathBuf,
    runtime_dir: PathBuf,
    turns: Turns,
    stop: CancellationToken,
) -> (Link, impl Future<Output = ()>) {
    let (orders, queue) = mpsc::channel(ORDERS);
    let growth = Arc::new(Growth::default());
    let keeper =
        Keeper { program, runtime_dir, sources: BTreeMap::new(), growth: growth.clone(), turns };
    (Link { orders, growth }, keeper.run(queue, stop))
}

struct Keeper {
    program: PathBuf,
    runtime_dir: PathBuf,
    /// Everything the logger must have open.
    sources: BTreeMap<String, Source>,
    growth: Arc<Growth>,
    turns: Turns,
}

impl Keeper {
    async fn run(mut self, mut queue: mpsc::Receiver<Vec<ToLogger>>, stop: CancellationToken) {
        loop {
            let connected = stop.run_until_cancelled(connect(&self.program, &self.runtime_dir));
            let Some(connected) = connected.await else { return };
            match connected {
                Ok(stream) => {
                    let lost = self.speak(stream, &mut queue, &stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    warn!(why = lost, "the logger is gone; starting it again");
                    self.tell(News::Down(lost)).await;
                }
                Err(err) => {
                    warn!(%err, "the logger cannot be started");
                    self.tell(News::Down(err.to_string())).await;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PATIENCE) => (),
            }
        }
    }

    async fn tell(&self, news: News) {
        // The driver is gone only when the daemon ends.
        let _ = self.turns.send(Turn::Logger(news)).await;
    }

    /// Talks until the connection ends, and says why it did.
    async fn speak(
        &mut self,
        stream: UnixStream,
        queue: &mut mpsc::Receiver<Vec<ToLogger>>,
        stop: &CancellationToken,
    ) -> String {
        let (read, mut write) = stream.into_split();
        let again: Vec<_> = self.sources.values().cloned().map(ToLogger::Open).collect();
        // Never waited for: whoever talks to one that hangs does not hang with it.
        let mut outbox = VecDeque::new();
        let mut said = say(&mut outbox, &again);
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MESSAGE_LIMIT));
        let mut watch = Watch::new();
        let mut quits = false;
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            if let Err(err) = said {
                return err.to_string();
            }
            said = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    drop(write.write_all_buf(&mut outbox).await);
                    self.last_orders(queue, &mut write, &mut lines, quits).await;
                    return "the daemon is ending".into();
                }
                // What it has said counts before it is looked whether it says anything.
                line = lines.next() => match self.heard(line, &mut watch).await {
                    Ok(()) => Ok(()),
                    Err(lost) => return lost,
                },
                sent = write.write_buf(&mut outbox), if !outbox.is_empty() => sent.map(drop),
                orders = queue.recv(), if outbox.len() < OUTBOX => {
                    let Some(orders) = orders else { return "the daemon is ending".into() };
                    self.keep(&orders);
                    quits |= orders.contains(&ToLogger::Quit);
                    say(&mut outbox, &orders)
                }
                _ = look.tick() => match self.is_hidden() {
                    true if is_told => Ok(()),
                    hidden => {
                        is_told = hidden;
                        say(&mut outbox, if hidden { &[ToLogger::BindAnew] } else { &[] })
                    }
                },
                verdict = watch.look() => self.judge(verdict, &mut outbox, &mut watch).await,
            };
        }
    }

    /// The next daemon would not find it, and start another one beside it.
    fn is_hidden(&self) -> bool {
        !self.runtime_dir.join(SOCKET_NAME).exists() && self.runtime_dir.exists()
    }

    /// One that hangs is asked, told of, and killed in the end.
    async fn judge(
        &self,
        verdict: Verdict,
        outbox: &mut VecDeque<u8>,
        watch: &mut Watch,
    ) -> io::Result<()> {
        match verdict {
            Verdict::Nothing => Ok(()),
            Verdict::Ask => {
                if watch.who().is_none() {
                    // One that hung before this daemon came has not said who it is.
                    let behind = mute::behind(&self.runtime_dir.join(SOCKET_NAME), ROLE);
                    watch.is_of(behind.ok().and_then(|it| it.first().copied()));
                }
                say(outbox, &[ToLogger::Flush { name: String::new(), id: QUESTION }])
            }
            Verdict::Tell { held } => {
                warn!(held, "the logger does not answer");
                self.tell(News::Silent(silence::words(held))).await;
                Ok(())
            }
            Verdict::End => {
                let Some(it) = watch.who() else {
                    return Err(io::Error::other("it did not answer, and nobody is seen there"));
                };
                mute::kill(it).await?;
                let (pid, how) = (it.pid, silence::last_words());
                self.tell(News::Notice(format!("the logger (pid {pid}) ended: {how}"))).await;
                Err(io::Error::other(how))
            }
        }
    }

    /// What was ordered before the end still reaches the logger. One that was told to quit, `quits`, may
    /// have something to say until then: hanging up on it would take the order back.
    async fn last_orders(
        &self,
        queue: &mut mpsc::Receiver<Vec<ToLogger>>,
        write: &mut OwnedWriteHalf,
        lines: &mut FramedRead<OwnedReadHalf, LinesCodec>,
        mut quits: bool,
    ) {
        while let Ok(orders) = queue.try_recv() {
            quits |= orders.contains(&ToLogger::Quit);
            let mut outbox = VecDeque::new();
            if say(&mut outbox, &orders).is_err() || write.write_all_buf(&mut outbox).await.is_err()
            {
                return;
            }
        }
        if quits {
            // It takes what is in the FIFOs, then its end closes the connection.
            let end = async { while let Some(Ok(_)) = lines.next().await {} };
            let _ = tokio::time::timeout(Duration::from_secs(5), end).await;
        }
    }

    fn keep(&mut self, orders: &[ToLogger]) {
        for order in orders {
            match order {
                ToLogger::Open(source) => {
                    self.sources.insert(source.name.clone(), source.clone());
                }
                ToLogger::Close { name } | ToLogger::Forget { name } => {
                    self.sources.remove(name);
                }
                ToLogger::Flush { .. }
                | ToLogger::Watch { .. }
                | ToLogger::BindAnew
                | ToLogger::Quit
                | ToLogger::Unknown => (),
            }
        }
    }

    async fn heard(
        &self,
        line: Option<Result<String, tokio_util::codec::LinesCodecError>>,
        watch: &mut Watch,
    ) -> Result<(), String> {
        let line = match line {
            Some(Ok(line)) => line,
            Some(Err(err)) => return Err(err.to_string()),
            None => return Err("it closed the connection".into()),
        };
        if watch.heard() {
            self.tell(News::Answers).await;
        }
        match logger::decode(line.as_bytes()).map_err(|err| err.to_string())? {
            FromLogger::Ready { pid, open } => {
                info!(pid, open = open.len(), "the logger is there");
                watch.is_of(mute::identity_in(ROLE, pid));
                self.growth.begin_anew();
                self.tell(News::Up).await;
            }
            FromLogger::Grew { name, moved } => self.growth.grew(&name, moved),
            FromLogger::Flushed { id: QUESTION } => (),
            FromLogger::Flushed { id } => self.tell(News::Flushed { id }).await,
            FromLogger::Trouble { name, message, .. } => {
                self.tell(News::Trouble { name, message }).await;
            }
            FromLogger::TroubleOver { name, dropped_bytes } => {
                self.tell(News::TroubleOver { name, dropped_bytes }).await;
            }
            FromLogger::Notice { message } => self.tell(News::Notice(message)).await,
            FromLogger::Unknown => (),
        }
        Ok(())
    }
}

fn say(outbox: &mut VecDeque<u8>, orders: &[ToLogger]) -> io::Result<()> {
    for order in orders {
        outbox.extend(logger::encode(order)?);
    }
    Ok(())
}

/// Connects to the logger of this runtime directory, and starts one if there is none.
async fn connect(program: &Path, runtime_dir: &Path) -> io::Result<UnixStream> {
    let path = runtime_dir.join(SOCKET_NAME);
    let stream = match StdStream::connect(&path) {
        Ok(stream) => stream,
        Err(_) => {
            // Left behind by a logger that is gone; the lock in the directory keeps two apart.
            let _ = std::fs::remove_file(&path);
            match call_back(&path).await? {
                Some(stream) => stream,
                None => start_at(program, runtime_dir, &path)?,
            }
        }
    };
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// One that lives and whose socket was removed makes another one: it has pipes open that nobody finds any more. One
/// that does not, an older release or one that hangs, is ended: two would take from the same pipes.
async fn call_back(path: &Path) -> io::Result<Option<StdStream>> {
    for it in mute::behind(path, ROLE)? {
        mute::send(it, libc::SIGHUP)?;
        if let Some(stream) = found(path, it).await {
            info!(pid = it.pid, "the logger can be found again");
            return Ok(Some(stream));
        }
        warn!(pid = it.pid, "a logger that cannot be found is ended");
        mute::end(it, CALLED).await?;
    }
    Ok(None)
}

/// Waits for the socket that it was asked for.
async fn found(path: &Path, it: Identity) -> Option<StdStream> {
    let found = async {
        while identity::is_alive(it).unwrap_or(false) {
            if let Ok(stream) = StdStream::connect(path) {
                return Some(stream);
            }
            tokio::time::sleep(SOON).await;
        }
        None
    };
    tokio::time::timeout(CALLED, found).await.ok().flatten()
}

fn start_at(program: &Path, runtime_dir: &Path, path: &Path) -> io::Result<StdStream> {
    let listener = UnixListener::bind(path)?;
    spawn(program, runtime_dir, listener.into())?;
    StdStream::connect(path)
}

/// The listener becomes the logger's standard input: it is the only descriptor it gets.
fn spawn(program: &Path, runtime_dir: &Path, listener: OwnedFd) -> io::Result<()> {
    let child = command(program, ROLE, runtime_dir).stdin(Stdio::from(listener)).spawn()?;
    info!(pid = child.id(), "the logger was started");
    // Its end is seen by the connection; its status is taken by the reaper.
    drop(child);
    Ok(())
}

/// A process of ours that outlives this one, as what it is for this runtime directory.
pub(in crate::daemon) fn command(program: &Path, role: &str, runtime_dir: &Path) -> Command {
    let mut command = Command::new(host::program_at_hand(program));
    command
        .arg0(program)
        .arg(role)
        .arg(runtime_dir)
        .stdout(Stdio::null())
        .process_group(0)
        .current_dir("/")
        .env_remove(crate::daemon::replace::estate::VARIABLE);
    for name in crate::daemon::systemd::OWN_VARIABLES {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, keep: u32) -> ToLogger {
        let path = |kind| format!("/run/{name}.{kind}").into();
        let (fifo, log) = (path("fifo"), path("log"));
        ToLogger::Open(Source { name: name.into(), fifo, log, max_size: 1 << 20, keep })
    }

    #[test]
    fn logs_that_nobody_follows_any_more_are_forgotten() {
        let growth = Growth::default();
        let followed = growth.of("web1");
        for n in 0..10_000 {
            drop(growth.of(&format!("other{n}")));
        }
        growth.grew("web1", 7);
        assert_eq!((growth.0.lock().unwrap().len(), *followed.borrow()), (2, 7));
    }

    #[test]
    fn what_a_logger_that_is_down_is_to_do_does_not_grow_with_every_exit() {
        let (mut orders, mut most) = (vec![open("gone", 1)], 0);
        for id in 0..100_000 {
            orders.push(ToLogger::Flush { name: "web1".into(), id });
            if id % 1000 == 0 {
                orders.extend([open("web1", 1), ToLogger::Close { name: "gone".into() }]);
            }
            orders = keep_back(orders);
            most = most.max(orders.len());
        }
        assert!(most <= MOST_ORDERS, "{most}");
        orders.push(open("web1", 7));
        orders.push(ToLogger::Quit);
        orders.extend((0..MOST_ORDERS as u64).map(|id| ToLogger::Flush { name: "a".into(), id }));
        let close = ToLogger::Close { name: "gone".into() };
        assert_eq!(keep_back(orders), [close, open("web1", 7), ToLogger::Quit]);
    }
}
