//! Reading logs for clients: files on a blocking thread, lines into a bounded queue.
//!
//! What was written so far comes merged by time; then each log is followed by a task of its own, which
//! waits for the logger's word that the file grew. Everything ends when the client goes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use crate::api::{LogLine, LogPlace};
use crate::daemon::output::logging::Link;
use crate::logger::{self, Follower, Line, LogQuery, Mark, Pattern};

/// Of a log that floods, whoever wants the latest is sent so many lines at a time.
const BURST: usize = 1000;
/// What is not sent more often than this then.
const BREATH: Duration = Duration::from_millis(100);

/// Lines that are read at a time.
const PIECE: usize = 256;

/// A log and whose it is.
#[derive(Clone, Debug)]
pub struct File {
    pub instance: String,
    pub path: PathBuf,
    pub link: Link,
}

/// What a client wants to read.
#[derive(Debug)]
pub struct Wanted {
    pub files: Vec<File>,
    /// For each file: begin at this byte.
    pub after: Vec<Option<Mark>>,
    pub lines: Option<usize>,
    /// Unix milliseconds.
    pub oldest: Option<u64>,
    pub grep: Option<Pattern>,
    pub follow: bool,
    /// Lines tell their places.
    pub places: bool,
    /// Of a flood the newest lines are wanted, not all of them.
    pub latest: bool,
}

type Queue = mpsc::Sender<LogLine>;
/// Lines with the number of their log, oldest first.
type Past = Box<dyn Iterator<Item = io::Result<(usize, Line)>> + Send>;

/// Reads until the end, or with `follow` until the client goes.
pub async fn read(wanted: Wanted, queue: Queue) {
    let files = wanted.files.clone();
    let latest = wanted.latest && wanted.grep.is_none();
    let places = wanted.places;
    let followers = match send_past(wanted, &queue).await {
        Ok(followers) => followers,
        Err(err) => return debug!(%err, "a log could not be read"),
    };
    let mut tasks = JoinSet::new();
    for (file, follower) in files.into_iter().zip(followers) {
        let news = News { file, follower, places, latest, gap: false };
        tasks.spawn(news.send(queue.clone()));
    }
    tokio::select! {
        () = queue.closed() => tasks.abort_all(),
        () = async { while tasks.join_next().await.is_some() {} } => (),
    }
}

/// Sends what is there, oldest first, and returns who goes on where it ended. A client that does not read
/// holds up no thread: those are for everybody.
async fn send_past(wanted: Wanted, queue: &Queue) -> io::Result<Vec<Follower>> {
    let (files, places) = (wanted.files.clone(), wanted.places);
    let open = tokio::task::spawn_blocking(move || open_past(wanted));
    let (mut past, followers) = open.await.map_err(io::Error::other)??;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let piece: io::Result<Vec<_>> = past.by_ref().take(PIECE).collect();
            (piece, past)
        });
        let (piece, rest) = read.await.map_err(io::Error::other)?;
        past = rest;
        let piece = piece?;
        if piece.is_empty() {
            return Ok(followers);
        }
        for (n, line) in piece {
            if queue.send(wire(&files[n].instance, line, places)).await.is_err() {
                return Ok(followers);
            }
        }
    }
}

/// Opens what is there, and who goes on where it ends. Blocking.
fn open_past(wanted: Wanted) -> io::Result<(Past, Vec<Follower>)> {
    let Wanted { files, after, lines, oldest, grep, follow, .. } = wanted;
    let mut logs = vec![];
    let mut followers = vec![];
    for (n, file) in files.iter().enumerate() {
        let after = after.get(n).copied().flatten();
        let query = LogQuery { lines, since_ms: oldest, grep: grep.clone(), after };
        if follow {
            let (lines, follower) = logger::read_then_follow(&file.path, query)?;
            logs.push(lines);
            followers.push(follower);
        } else {
            logs.push(logger::read(&file.path, query)?);
        }
    }
    Ok((Box::new(logger::merge(logs)), followers))
}

/// One log that is followed.
struct News {
    file: File,
    follower: Follower,
    places: bool,
    latest: bool,
    /// What comes next does not follow on what was sent.
    gap: bool,
}

impl News {
    async fn send(mut self, queue: Queue) {
        let mut waiting = self.file.link.waiting(&self.file.instance);
        loop {
            waiting.ask().await;
            // A flood is a lot to read: not on the thread that supervises.
            let polled = tokio::task::spawn_blocking(move || {
                let lines = self.poll();
                (self, lines)
            });
            let Ok((returned, lines)) = polled.await else { return };
            self = returned;
            let lines = match lines {
                Ok(lines) => lines,
                Err(err) => {
                    return debug!(instance = self.file.instance, %err, "could not be followed");
                }
            };
            let is_flood = self.latest && lines.len() >= BURST;
            let is_idle = lines.is_empty() && !self.follower.is_behind();
            let mut gap = std::mem::take(&mut self.gap);
            for line in lines {
                let mut line = wire(&self.file.instance, line, self.places);
                line.gap = std::mem::take(&mut gap);
                if queue.send(line).await.is_err() {
                    return;
                }
            }
            if is_idle {
                waiting.grown().await;
            } else if is_flood {
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// What is new; of more than anybody can read, the end.
    fn poll(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = self.follower.poll()?;
        if self.latest && self.follower.is_behind() {
            let query = LogQuery { lines: Some(BURST), ..LogQuery::default() };
            let (past, follower) = logger::read_then_follow(&self.file.path, query)?;
            (self.follower, self.gap) = (follower, true);
            return past.collect();
        }
        if self.latest && lines.len() > BURST {
            lines.drain(..lines.len() - BURST);
            self.gap = true;
        }
        Ok(lines)
    }
}

pub fn wire(instance: &str, line: Line, places: bool) -> LogLine {
    let (begins, ends) = line.place.filter(|_| places).unzip();
    LogLine {
        instance: instance.to_owned(),
        at: line.at_ms.and_then(moment),
        line: String::from_utf8_lossy(&line.bytes).into_owned(),
        partial: line.partial,
        gap: false,
        begins: begins.map(place),
        ends: ends.map(place),
    }
}

fn moment(ms: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

pub fn place(mark: Mark) -> LogPlace {
    LogPlace { file: mark.file, offset: mark.offset }
}

pub fn mark(place: LogPlace) -> Mark {
    Mark { file: place.file, offset: place.offset }
}

/// The end of a log, as evidence. Blocking, but short: it reads backwards.
pub fn last_lines(log: &Path, n: usize, since: Option<jiff::Timestamp>) -> Vec<String> {
    let since_ms = since.and_then(|it| u64::try_from(it.as_millisecond()).ok());
    let query = LogQuery { lines: Some(n), since_ms, ..LogQuery::default() };
    let Ok(lines) = logger::read(log, query) else { return vec![] };
    lines
        .map_while(Result::ok)
        .map(|it| String::from_utf8_lossy(&it.bytes).chars().take(500).collect())
        .collect()
}
