//! Reading logs for clients: files on a blocking thread, lines into a bounded queue.
//!
//! What was written so far comes merged by time; then each log is followed by a task of its own, which
//! waits for the logger's word that the file grew. Everything ends when the client goes.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use super::logging::Link;
use crate::api::LogLine;
use crate::logger::{self, Follower, Line, LogQuery};

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
    pub lines: Option<usize>,
    /// Unix milliseconds.
    pub oldest: Option<u64>,
    pub grep: Option<regex::bytes::Regex>,
    pub follow: bool,
}

type Queue = mpsc::Sender<LogLine>;

/// Reads until the end, or with `follow` until the client goes.
pub async fn read(wanted: Wanted, queue: Queue) {
    let Wanted { files, lines, oldest, grep, follow } = wanted;
    let query = LogQuery { lines, since_ms: oldest, grep };
    let (past, into) = (files.clone(), queue.clone());
    let read = tokio::task::spawn_blocking(move || send_past(&past, &query, follow, &into));
    let followers = match read.await {
        Ok(Ok(followers)) => followers,
        Ok(Err(err)) => return debug!(%err, "a log could not be read"),
        Err(err) => return debug!(%err, "a log could not be read"),
    };
    let mut tasks = JoinSet::new();
    for (file, follower) in files.into_iter().zip(followers) {
        tasks.spawn(send_news(file, follower, queue.clone()));
    }
    tokio::select! {
        () = queue.closed() => tasks.abort_all(),
        () = async { while tasks.join_next().await.is_some() {} } => (),
    }
}

/// Sends what is there, oldest first, and returns who goes on where it ended.
fn send_past(
    files: &[File],
    query: &LogQuery,
    follow: bool,
    queue: &Queue,
) -> io::Result<Vec<Follower>> {
    let mut logs = vec![];
    let mut followers = vec![];
    for file in files {
        if follow {
            let (lines, follower) = logger::read_then_follow(&file.path, query.clone())?;
            logs.push(lines);
            followers.push(follower);
        } else {
            logs.push(logger::read(&file.path, query.clone())?);
        }
    }
    for line in logger::merge(logs) {
        let (n, line) = line?;
        if queue.blocking_send(wire(&files[n].instance, line)).is_err() {
            break;
        }
    }
    Ok(followers)
}

async fn send_news(file: File, mut follower: Follower, queue: Queue) {
    let mut waiting = file.link.waiting(&file.instance);
    loop {
        waiting.ask().await;
        // A flood is a lot to read: not on the thread that supervises.
        let polled = tokio::task::spawn_blocking(move || {
            let lines = follower.poll();
            (follower, lines)
        });
        let Ok((returned, lines)) = polled.await else { return };
        follower = returned;
        let lines = match lines {
            Ok(lines) => lines,
            Err(err) => return debug!(instance = file.instance, %err, "could not be followed"),
        };
        let is_idle = lines.is_empty() && !follower.is_behind();
        for line in lines {
            if queue.send(wire(&file.instance, line)).await.is_err() {
                return;
            }
        }
        if is_idle {
            waiting.grown().await;
        }
    }
}

fn wire(instance: &str, line: Line) -> LogLine {
    let at =
        line.at_ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    LogLine {
        instance: instance.to_owned(),
        at,
        line: String::from_utf8_lossy(&line.bytes).into_owned(),
        partial: line.partial,
    }
}

/// The end of a log, as evidence. Blocking, but short: it reads backwards.
pub fn last_lines(log: &Path, n: usize) -> Vec<String> {
    let query = LogQuery { lines: Some(n), ..LogQuery::default() };
    let Ok(lines) = logger::read(log, query) else { return vec![] };
    lines
        .map_while(Result::ok)
        .map(|it| String::from_utf8_lossy(&it.bytes).chars().take(500).collect())
        .collect()
}
