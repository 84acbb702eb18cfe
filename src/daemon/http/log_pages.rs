//! A page of the logs for clients: what is before or after a place, or the next line with a text.
//!
//! It is read on a blocking thread. Through a large log that may take a while: the client hears how far
//! it is, and ends it by going.

use std::collections::BTreeMap;
use std::io;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use crate::api::{LogPage, LogPlace};
use crate::daemon::clock;
use crate::daemon::http::logs::{File, mark, place, wire};
use crate::daemon::http::since::Since;
use crate::daemon::http::streams::{QUEUE, log_files, no_pattern, queued};
use crate::daemon::http::{Api, Failure, Path, Query, misunderstood};
use crate::logger::{self, Edge, Line, Look, Mark, Page, Pattern};

const DEFAULT_LINES: usize = 500;
const MOST_LINES: usize = 5000;
/// The client hears how far it is after so many bytes.
const PROGRESS: u64 = 16 << 20;

/// Logs of a page: each has its files open, and a piece of it in memory.
const MOST_LOGS: usize = 64;
/// Pages that are looked for at a time.
static LOOKS: Semaphore = Semaphore::const_new(8);

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PageQuery {
    before: Option<Since>,
    after: Option<Since>,
    /// `web1@PLACE,…` instead of the moment, for these.
    places: Option<String>,
    /// What comes after `places`, or after `after`; else before.
    forward: bool,
    lines: Option<usize>,
    grep: Option<String>,
    find: Option<String>,
}

/// `GET /v1/instances/{name}/logs/page?before|after&places&forward&lines&grep&find`: at most `lines` lines
/// before a moment or after it, by default the last; `places` tells for each instance a place instead of the
/// moment. Lines match both patterns. Names as for the logs.
pub async fn page(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Response, Failure> {
    let files = log_files(&api, &name).await?;
    if files.len() > MOST_LOGS {
        let why = format!("a page is of at most {MOST_LOGS} logs, not of {}", files.len());
        return Err(misunderstood(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let patterns = [&query.grep, &query.find].into_iter().flatten().map(|it| Pattern::new(it));
    let patterns = patterns.collect::<Result<Vec<_>, _>>().map_err(|err| no_pattern(&err))?;
    let forward = query.forward || query.after.is_some();
    let moment = query.after.or(query.before).map(|it| it.moment(clock::wall()));
    let edge = match moment {
        None if forward => Edge::Start,
        None => Edge::End,
        Some(at) => {
            at.map_or(Edge::Start, |it| Edge::At(u64::try_from(it.as_millisecond()).unwrap_or(0)))
        }
    };
    let places = places(query.places.as_deref())?;
    let edges = files.iter().map(|it| places.get(&it.instance).map_or(edge, |it| Edge::Mark(*it)));
    let edges = edges.collect();
    let lines = query.lines.unwrap_or(DEFAULT_LINES).min(MOST_LINES);
    let wanted = Wanted { files, edges, forward, lines, patterns };
    let (sender, queue) = mpsc::channel(QUEUE);
    // Ends when its client has gone: then the queue is closed.
    tokio::spawn(async move {
        if let Err(err) = look(wanted, sender).await {
            debug!(%err, "a log could not be read");
        }
    });
    Ok(queued(queue))
}

/// Reads `web1@PLACE,web2@PLACE`.
pub(in crate::daemon) fn places(text: Option<&str>) -> Result<BTreeMap<String, Mark>, Failure> {
    let one = |text: &str| {
        let (name, at) =
            text.split_once('@').ok_or_else(|| format!("`{text}` is not NAME@PLACE"))?;
        Ok((name.to_owned(), mark(at.parse()?)))
    };
    let all: Result<_, String> = text.unwrap_or_default().split_terminator(',').map(one).collect();
    all.map_err(|why| misunderstood(StatusCode::BAD_REQUEST, why))
}

/// Looks for a page and tells it. Whoever does not read holds up no thread: those are for everybody.
async fn look(wanted: Wanted, queue: mpsc::Sender<LogPage>) -> io::Result<()> {
    let Ok(turn) = LOOKS.acquire().await else { return Ok(()) };
    let into = queue.clone();
    let page = tokio::task::spawn_blocking(move || wanted.look(&into)).await;
    drop(turn);
    for part in page.map_err(io::Error::other)?? {
        if queue.send(part).await.is_err() {
            break;
        }
    }
    Ok(())
}

struct Wanted {
    files: Vec<File>,
    edges: Vec<Edge>,
    forward: bool,
    lines: usize,
    patterns: Vec<Pattern>,
}

impl Wanted {
    /// The lines and what is at their ends; nothing if the client has gone. Blocking.
    fn look(&self, queue: &mpsc::Sender<LogPage>) -> io::Result<Vec<LogPage>> {
        let paths = self.files.iter().map(|it| it.path.as_path());
        let logs: Vec<_> = paths.zip(self.edges.iter().copied()).collect();
        let look = Look {
            logs: &logs,
            before: !self.forward,
            lines: self.lines,
            patterns: &self.patterns,
        };
        let mut told = 0;
        let page = logger::page(&look, |searched_bytes, of_bytes| {
            if searched_bytes >= told + PROGRESS {
                told = searched_bytes;
                // A client that does not read misses some.
                let _ = queue.try_send(LogPage::Progress { searched_bytes, of_bytes });
            }
            !queue.is_closed()
        })?;
        let Some(Page { lines, ranges, is_last }) = page else { return Ok(vec![]) };
        let mut parts = vec![];
        for found in lines {
            let place = Some((found.begins, found.ends));
            let line =
                Line { at_ms: found.at_ms, bytes: found.bytes, partial: found.partial, place };
            parts.push(LogPage::Line(wire(&self.files[found.log].instance, line, true)));
        }
        let edge = |which: fn((Mark, Mark)) -> Mark| -> BTreeMap<String, LogPlace> {
            let named = self.files.iter().map(|it| it.instance.clone()).zip(&ranges);
            named.filter_map(|(name, range)| Some((name, place(which((*range)?))))).collect()
        };
        let (begins, ends) = (edge(|it| it.0), edge(|it| it.1));
        parts.push(LogPage::End { begins, ends, last: is_last });
        Ok(parts)
    }
}
