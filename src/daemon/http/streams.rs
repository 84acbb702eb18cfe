//! Answers that go on: the watch, the journal, the logs, as NDJSON.
//!
//! Every stream has a bounded queue between its task and the client. A client that does not read
//! stalls its own stream and nothing else.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use crate::api::problem::Kind;
use crate::api::{Event, EventFilter, Problem, Role};
use crate::daemon::clock;
use crate::daemon::http::log_pages;
use crate::daemon::http::logs;
use crate::daemon::http::peer::Peer;
use crate::daemon::http::since::Since;
use crate::daemon::http::{Api, Failure, Path, Query, not_found};
use crate::daemon::kept::journal::Pieces;
use crate::daemon::turn::Question;
use crate::logger::Pattern;

/// Lines between a task and a client that reads slowly.
pub(in crate::daemon) const QUEUE: usize = 64;

/// `GET /v1/watch`: a snapshot, then changes; a client that lags gets a new snapshot, never a gap.
pub async fn watch(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Response, Failure> {
    let (first, changes) = subscribe(&api, peer.role().unwrap_or_default()).await?;
    let start = Watching { api, peer, changes, next: Some(first) };
    Ok(ndjson(stream::unfold(start, Watching::step)))
}

struct Watching {
    api: Api,
    peer: Peer,
    changes: broadcast::Receiver<Arc<str>>,
    next: Option<Arc<str>>,
}

impl Watching {
    async fn step(mut self) -> Option<(Bytes, Self)> {
        let line = match self.next.take() {
            // Who may not even look any more hears nothing more.
            _ if self.peer.role().is_none() => return None,
            Some(line) => line,
            None => match self.changes.recv().await {
                Ok(line) => line,
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => {
                    let (line, changes) = subscribe(&self.api, self.peer.role()?).await.ok()?;
                    self.changes = changes;
                    line
                }
            },
        };
        Some((Bytes::copy_from_slice(line.as_bytes()), self))
    }
}

async fn subscribe(
    api: &Api,
    role: Role,
) -> Result<(Arc<str>, broadcast::Receiver<Arc<str>>), Failure> {
    api.ask(|reply| Question::Watch { role, reply }).await
}

/// What to read of the journal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    follow: bool,
    lines: Option<usize>,
    since: Option<Since>,
    /// Not newer than this.
    until: Option<Since>,
    /// Only what has a higher number.
    after: Option<u64>,
    /// Only what has a lower number.
    before: Option<u64>,
    service: Option<String>,
    actor: Option<String>,
    /// A part of the kind.
    kind: Option<String>,
    /// Somewhere in the message, the kind or the names.
    text: Option<String>,
}

/// The moments that a query means, asked at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    oldest: Option<jiff::Timestamp>,
    newest: Option<jiff::Timestamp>,
}

impl Span {
    fn has(self, at: jiff::Timestamp) -> bool {
        self.oldest.is_none_or(|it| it <= at) && self.newest.is_none_or(|it| at <= it)
    }
}

impl EventQuery {
    fn span(&self) -> Span {
        let now = clock::wall();
        let moment = |it: &Option<Since>| it.as_ref().and_then(|it| it.moment(now));
        Span { oldest: moment(&self.since), newest: moment(&self.until) }
    }

    /// The last events are all that is asked for, so many are there that all of them are known, or all
    /// since this number.
    fn is_recent(&self, recent: &[Event]) -> bool {
        let is_narrow = self.before.is_some() || self.filter().is_narrow();
        let is_dated = self.since.is_some() || self.until.is_some();
        let first = recent.first().map(|it| it.seq);
        match self.after {
            Some(after) => first.is_some_and(|it| it <= after + 1),
            None => !is_narrow && !is_dated && self.lines.is_some_and(|n| n <= recent.len()),
        }
    }

    fn filter(&self) -> EventFilter {
        EventFilter {
            service: self.service.clone(),
            actor: self.actor.clone(),
            kind: self.kind.clone(),
            text: self.text.clone(),
        }
    }

    fn wants(&self, event: &Event, span: Span, filter: &EventFilter) -> bool {
        span.has(event.at)
            && self.after.is_none_or(|it| it < event.seq)
            && self.before.is_none_or(|it| event.seq < it)
            && filter.wants(event)
    }
}

/// `GET /v1/events?follow&lines&since&until&after&before&service&actor&kind&text`
pub async fn events(
    State(api): State<Api>,
    Query(query): Query<EventQuery>,
) -> Result<Response, Failure> {
    let (files, recent, news) = api.ask(|reply| Question::Journal { reply }).await?;
    let wanted = Wanted { span: query.span(), filter: query.filter(), query };
    let past = match wanted.query.lines {
        _ if wanted.query.is_recent(&recent) => Past::remembered(wanted.last_of(recent)),
        Some(lines) => Past::remembered(last_on_disk(files, recent, lines, wanted.clone()).await),
        None => Past::on_disk(&files, recent),
    };
    let teller = Teller { api, wanted, past: Some(past), news, last: 0 };
    Ok(ndjson(stream::unfold(teller, Teller::step)))
}

/// A query at its moment.
#[derive(Clone, Debug)]
struct Wanted {
    query: EventQuery,
    span: Span,
    filter: EventFilter,
}

impl Wanted {
    fn has(&self, event: &Event) -> bool {
        self.query.wants(event, self.span, &self.filter)
    }

    /// The last ones that are wanted.
    fn last_of(&self, mut events: Vec<Event>) -> Vec<Event> {
        events.retain(|it| self.has(it));
        let lines = self.query.lines.unwrap_or(usize::MAX);
        events.drain(..events.len().saturating_sub(lines));
        events
    }
}

/// The last ones of the files, and of what is known beside: a full disk has not taken it.
async fn last_on_disk(
    files: Vec<PathBuf>,
    recent: Vec<Event>,
    lines: usize,
    wanted: Wanted,
) -> Vec<Event> {
    let known = wanted.clone();
    let read = move || crate::daemon::kept::journal::read_last(&files, lines, |it| known.has(it));
    let mut all = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let last = all.last().map_or(0, |it| it.seq);
    all.extend(recent.into_iter().filter(|it| it.seq > last));
    wanted.last_of(all)
}

/// Events that a client is told: those that were, and with `follow` those that come. A client that lags gets what it
/// missed from the journal, never a gap.
struct Teller {
    api: Api,
    wanted: Wanted,
    past: Option<Past>,
    news: broadcast::Receiver<Arc<Event>>,
    /// The number of the last event that was looked at.
    last: u64,
}

impl Teller {
    async fn step(mut self) -> Option<(Bytes, Self)> {
        let events = self.next().await?;
        let lines: Vec<_> = events.iter().map(line_of).collect();
        Some((lines.concat().into(), self))
    }

    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if let Some(past) = &mut self.past {
                if let Some(events) = past.next(&self.wanted).await {
                    return Some(events);
                }
                self.last = self.last.max(past.last);
                self.past = None;
                // What comes is of no moment that was asked for.
                self.wanted.span = Span::default();
            }
            if !self.wanted.query.follow {
                return None;
            }
            match self.news.recv().await {
                Ok(event) if event.seq <= self.last => (),
                Ok(event) => {
                    self.last = event.seq;
                    if self.wanted.has(&event) {
                        return Some(vec![Event::clone(&event)]);
                    }
                }
                Err(RecvError::Lagged(_)) => self.catch_up().await?,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn catch_up(&mut self) -> Option<()> {
        let (files, recent, news) = self.api.ask(|reply| Question::Journal { reply }).await.ok()?;
        self.news = news;
        let is_enough = recent.first().is_some_and(|it| it.seq <= self.last + 1);
        let past = if is_enough { Past::remembered(recent) } else { Past::on_disk(&files, recent) };
        self.past = Some(Past { last: self.last, ..past });
        Some(())
    }
}

/// What the files have, a piece at a time, and then what is known beside.
struct Past {
    pieces: Option<Pieces>,
    recent: Vec<Event>,
    /// The number of the last event that was looked at; only later ones are told.
    last: u64,
}

impl Past {
    fn remembered(recent: Vec<Event>) -> Self {
        Self { pieces: None, recent, last: 0 }
    }

    fn on_disk(files: &[PathBuf], recent: Vec<Event>) -> Self {
        Self { pieces: Some(Pieces::open(files)), recent, last: 0 }
    }

    /// The next ones that are wanted; never none.
    async fn next(&mut self, wanted: &Wanted) -> Option<Vec<Event>> {
        loop {
            let mut events = self.read().await?;
            events.retain(|it| it.seq > self.last);
            self.last = events.last().map_or(self.last, |it| it.seq);
            events.retain(|it| wanted.has(it));
            if !events.is_empty() {
                return Some(events);
            }
        }
    }

    async fn read(&mut self) -> Option<Vec<Event>> {
        if let Some(mut pieces) = self.pieces.take() {
            let read = tokio::task::spawn_blocking(move || (pieces.read(), pieces)).await;
            if let Ok((Some(events), pieces)) = read {
                self.pieces = Some(pieces);
                return Some(events);
            }
        }
        Some(std::mem::take(&mut self.recent)).filter(|it| !it.is_empty())
    }
}

/// What to read of a log.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    follow: bool,
    lines: Option<usize>,
    since: Option<Since>,
    grep: Option<String>,
    /// `web1@PLACE,…`: from there on.
    after: Option<String>,
    places: bool,
    latest: bool,
}

/// `GET /v1/instances/{name}/logs?follow&lines&since&grep&after&places&latest`; a service's name reads
/// all its instances, several names with commas between them are interleaved.
pub async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Failure> {
    let files = log_files(&api, &name).await?;
    let grep = query.grep.as_deref().map(Pattern::new).transpose();
    let grep = grep.map_err(|err| no_pattern(&err))?;
    let places = log_pages::places(query.after.as_deref())?;
    let after = files.iter().map(|it| places.get(&it.instance).copied()).collect();
    let oldest = query.since.and_then(|it| it.moment(clock::wall()));
    let oldest = oldest.and_then(|it| u64::try_from(it.as_millisecond()).ok());
    let (LogQuery { lines, follow, places, latest, .. }, (sender, queue)) =
        (query, mpsc::channel(QUEUE));
    let wanted = logs::Wanted { files, after, lines, oldest, grep, follow, places, latest };
    // Ends with its client: the queue closes when the response is dropped.
    tokio::spawn(logs::read(wanted, sender));
    Ok(queued(queue))
}

/// The logs of instances and services, each once.
pub(in crate::daemon) async fn log_files(
    api: &Api,
    names: &str,
) -> Result<Vec<logs::File>, Failure> {
    let mut all: Vec<logs::File> = vec![];
    for name in names.split(',') {
        let name = name.to_owned();
        let asked = name.clone();
        let files = api.ask(|reply| Question::Logs { name, reply }).await?;
        if files.is_empty() {
            return Err(not_found(&asked));
        }
        all.extend(files);
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|it| seen.insert(it.instance.clone()));
    Ok(all)
}

pub(in crate::daemon) fn no_pattern(err: &regex::Error) -> Problem {
    Problem::new(Kind::Refused, "the pattern is no regular expression", err.to_string())
}

/// What comes out of a queue, a line each.
pub(in crate::daemon) fn queued<T: Serialize + Send + 'static>(
    queue: mpsc::Receiver<T>,
) -> Response {
    ndjson(stream::unfold(queue, |mut queue| async move {
        let line = queue.recv().await?;
        Some((line_of(&line), queue))
    }))
}

fn line_of(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

fn ndjson(lines: impl stream::Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(stream::StreamExt::map(lines, Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
