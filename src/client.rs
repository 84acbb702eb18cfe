//! Talks to the daemon: HTTP/1.1 and JSON on its Unix socket.
//!
//! Every failure is a [`Problem`]: the daemon's own, or one of kind `unreachable` made here, so that
//! callers show all of them the same way.

mod behind;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::api::{
    Change, Deck, Detail, Done, Event, History, LogLine, LogPage, LogPlace, Plan, Problem, Request,
    RolloutRecord, problem,
};
pub use behind::{is_held, no_daemon};

/// The longest line a stream may have: a snapshot of thousands of instances fits.
const LONGEST_LINE: usize = 64 << 20;

/// A connection to one daemon; cheap to clone, reconnects by itself.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

/// How long an answer is waited for: a daemon that is stopped or stuck must not stop a script.
const ANSWER: Duration = Duration::from_secs(10);
/// The same for an order, which is not to be given twice by the impatient.
const DEED: Duration = Duration::from_secs(30);

type Reply = reqwest::Result<reqwest::Response>;

/// Between two tries while the daemon becomes another program, and how many there are: three seconds.
const PAUSE: Duration = Duration::from_millis(50);
const TRIES: u32 = 60;

/// What to read of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Go on with what happens from now on.
    pub follow: bool,
    /// The last so many; `None`: all.
    pub lines: Option<usize>,
    /// Not older than this: a duration, or a time of RFC 3339.
    pub since: Option<String>,
    /// Not newer than this.
    pub until: Option<String>,
    /// Only what has a higher number.
    pub after: Option<u64>,
    /// Only what has a lower number.
    pub before: Option<u64>,
    pub service: Option<String>,
    pub actor: Option<String>,
    /// A part of the kind.
    pub kind: Option<String>,
    /// Somewhere in the message, the kind or the names.
    pub text: Option<String>,
}

/// What to read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// The last so many lines; `None`: all.
    pub lines: Option<usize>,
    /// Not older than this many milliseconds.
    pub since_ms: Option<u64>,
    /// Only lines that match this regular expression.
    pub grep: Option<String>,
    /// From these places on, each by the name of its instance.
    pub after: BTreeMap<String, LogPlace>,
    /// Lines tell their places.
    pub places: bool,
    /// Of a flood only the newest lines.
    pub latest: bool,
}

/// Which page of the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// What comes after the place, not what is before it.
    pub forward: bool,
    /// `None`: the end, or with `forward` the start.
    pub at: Option<Timestamp>,
    /// Places instead of that moment, each by the name of its instance.
    pub places: BTreeMap<String, LogPlace>,
    /// At most so many lines.
    pub lines: usize,
    /// Only lines that match this regular expression, and the next one too.
    pub grep: Option<String>,
    pub find: Option<String>,
}

impl Client {
    /// Prepares to talk to the daemon behind `socket`; nothing is sent yet.
    pub fn new(socket: &Path) -> Result<Self, Problem> {
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            // A key after minutes of looking must not pay for a new connection.
            .pool_idle_timeout(None)
            .build()
            .map_err(|err| unreachable(socket, &err))?;
        Ok(Self { http, socket: socket.to_owned() })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/deck`.
    pub async fn deck(&self) -> Result<Deck, Problem> {
        self.get_json("/v1/deck").await
    }

    /// `GET /v1/deck?tree=…`: the same with the process trees of these services or instances; of all, if there
    /// are none.
    pub async fn deck_with_trees(&self, names: &[String]) -> Result<Deck, Problem> {
        let names = if names.is_empty() { "all".into() } else { names.join(",") };
        self.get_json(&format!("/v1/deck?tree={}", percent_encoded(&names))).await
    }

    /// The same with only what tells names, states and whether all is as wanted: many times smaller.
    pub async fn brief(&self) -> Result<Deck, Problem> {
        self.get_json("/v1/deck?brief=true").await
    }

    /// Asks for an action and returns what was begun.
    pub async fn send(&self, request: &Request) -> Result<Done, Problem> {
        let (path, act) = request.route();
        let ask = || self.http.post(url(&path)).json(&act).timeout(DEED).send();
        // Given twice only where nobody has heard it.
        let is_unheard = |reply: &Reply| reply.as_ref().is_err_and(reqwest::Error::is_connect);
        let reply = self.persist(ask, is_unheard).await;
        self.read_json(reply).await
    }

    /// `GET /v1/watch`: a snapshot, then changes.
    pub async fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<Change, Problem>> + Send + use<>, Problem> {
        self.stream("/v1/watch", &[]).await
    }

    /// `GET /v1/instances/{name}/logs`.
    pub async fn logs(
        &self,
        name: &str,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<LogLine, Problem>> + Send + use<>, Problem> {
        let mut pairs = vec![];
        push(&mut pairs, "follow", query.follow.then_some(true));
        push(&mut pairs, "lines", query.lines);
        push(&mut pairs, "since", query.since_ms);
        push(&mut pairs, "grep", query.grep.as_ref());
        push(&mut pairs, "after", places(&query.after));
        push(&mut pairs, "places", query.places.then_some(true));
        push(&mut pairs, "latest", query.latest.then_some(true));
        self.stream(&format!("/v1/instances/{name}/logs"), &pairs).await
    }

    /// `GET /v1/instances/{name}/logs/page`, of several instances at once.
    pub async fn log_page(
        &self,
        names: &[String],
        query: &PageQuery,
    ) -> Result<impl Stream<Item = Result<LogPage, Problem>> + Send + use<>, Problem> {
        let mut pairs = vec![];
        push(&mut pairs, "forward", query.forward.then_some(true));
        push(&mut pairs, if query.forward { "after" } else { "before" }, query.at);
        push(&mut pairs, "places", places(&query.places));
        push(&mut pairs, "lines", Some(query.lines));
        push(&mut pairs, "grep", query.grep.as_ref());
        push(&mut pairs, "find", query.find.as_ref());
        self.stream(&format!("/v1/instances/{}/logs/page", names.join(",")), &pairs).await
    }

    /// `GET /v1/events`.
    pub async fn events(
        &self,
        query: &EventQuery,
    ) -> Result<impl Stream<Item = Result<Event, Problem>> + Send + use<>, Problem> {
        let mut pairs = vec![];
        push(&mut pairs, "follow", query.follow.then_some(true));
        push(&mut pairs, "lines", query.lines);
        push(&mut pairs, "since", query.since.as_ref());
        push(&mut pairs, "until", query.until.as_ref());
        push(&mut pairs, "after", query.after);
        push(&mut pairs, "before", query.before);
        push(&mut pairs, "service", query.service.as_ref());
        push(&mut pairs, "actor", query.actor.as_ref());
        push(&mut pairs, "kind", query.kind.as_ref());
        push(&mut pairs, "text", query.text.as_ref());
        self.stream("/v1/events", &pairs).await
    }

    /// `GET /v1/services/{name}/history`, or of an instance.
    pub async fn history(&self, name: &str, is_service: bool) -> Result<History, Problem> {
        let kind = if is_service { "services" } else { "instances" };
        self.get_json(&format!("/v1/{kind}/{name}/history")).await
    }

    /// `GET /v1/instances/{name}/detail`.
    pub async fn detail(&self, instance: &str) -> Result<Detail, Problem> {
        self.get_json(&format!("/v1/instances/{instance}/detail")).await
    }

    /// `GET /v1/services/{name}/rollout`: the one that runs, or the last one.
    pub async fn rollout(&self, service: &str) -> Result<RolloutRecord, Problem> {
        self.get_json(&format!("/v1/services/{service}/rollout")).await
    }

    /// `GET /v1/services/{name}/plan`: what a rolling restart would do now.
    pub async fn plan(&self, service: &str) -> Result<Plan, Problem> {
        self.get_json(&format!("/v1/services/{service}/plan")).await
    }

    /// Any other GET that answers with one JSON value.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let ask = || self.http.get(url(path)).timeout(ANSWER).send();
        let reply = self.persist(ask, is_cut).await;
        self.read_json(reply).await
    }

    /// Asks, and asks again where nobody was there to hear it or whoever was is gone: a daemon that becomes another
    /// program is there again in a moment.
    async fn persist<F: Future<Output = Reply>>(
        &self,
        ask: impl Fn() -> F,
        may_repeat: fn(&Reply) -> bool,
    ) -> Reply {
        for _ in 0..TRIES {
            let reply = ask().await;
            let was_there = !reply.as_ref().is_err_and(reqwest::Error::is_connect);
            if !may_repeat(&reply) || !behind::may_answer(&self.socket, was_there) {
                return reply;
            }
            tokio::time::sleep(PAUSE).await;
        }
        ask().await
    }

    async fn read_json<T: DeserializeOwned>(&self, reply: Reply) -> Result<T, Problem> {
        let reply = self.checked(reply).await?;
        let body = reply.bytes().await.map_err(|err| unreachable(&self.socket, &err))?;
        serde_json::from_slice(&body).map_err(|err| unreachable(&self.socket, &err))
    }

    async fn stream<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<impl Stream<Item = Result<T, Problem>> + Send + use<T>, Problem> {
        let mut target = url(path);
        for (n, (name, value)) in query.iter().enumerate() {
            target.push(if n == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.push_str(&percent_encoded(value));
        }
        let reply = self.persist(|| self.http.get(&target).send(), is_cut).await;
        let reply = self.checked(reply).await?;
        let lines = Lines {
            socket: self.socket.clone(),
            bytes: reply.bytes_stream().boxed(),
            buffer: BytesMut::new(),
            seen: 0,
        };
        // Fused: whoever merges several asks those that have ended once more.
        Ok(stream::unfold(lines, Lines::next).fuse())
    }

    /// Turns a refusal of the daemon into the [`Problem`] it sent.
    async fn checked(&self, reply: Reply) -> Result<reqwest::Response, Problem> {
        let reply = reply.map_err(|err| match err.is_connect() && is_held(&self.socket) {
            true => no_daemon(&self.socket),
            false => unreachable(&self.socket, &err),
        })?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = reply.status().as_u16();
        let body = reply.bytes().await.map_err(|err| unreachable(&self.socket, &err))?;
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            kind: problem::UNREACHABLE.into(),
            status,
            title: format!("the daemon answered {status}"),
            detail: String::from_utf8_lossy(&body).trim().to_owned(),
            help: None,
        }))
    }
}

/// NDJSON as it comes in. A line is read where it lies, and a long one's room is given back: a
/// client that watches a large fleet for days must not hold its first snapshot as text.
struct Lines {
    socket: PathBuf,
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
    /// So far there is no end of a line.
    seen: usize,
}

impl Lines {
    async fn next<T: DeserializeOwned>(mut self) -> Option<(Result<T, Problem>, Self)> {
        loop {
            if let Some(at) = self.buffer[self.seen..].iter().position(|it| *it == b'\n') {
                let value = self.read(self.seen + at);
                self.buffer.advance(1);
                return Some((value, self));
            }
            self.seen = self.buffer.len();
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            match self.bytes.next().await {
                Some(Ok(_)) if self.seen > LONGEST_LINE => {
                    let problem =
                        unreachable(&self.socket, &std::io::Error::other("a line is too long"));
                    return Some((Err(problem), self));
                }
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(err)) => return Some((Err(unreachable(&self.socket, &err)), self)),
                None if self.seen == 0 => return None,
                None => return Some((self.read(self.seen), self)),
            }
        }
    }

    /// Takes the first `length` bytes as one value.
    fn read<T: DeserializeOwned>(&mut self, length: usize) -> Result<T, Problem> {
        self.seen = 0;
        let line = self.buffer.split_to(length);
        serde_json::from_slice(&line).map_err(|err| unreachable(&self.socket, &err))
    }
}

/// There was no answer, and nobody is late with one; or it is that of a daemon that ends.
fn is_cut(reply: &Reply) -> bool {
    match reply {
        Ok(reply) => reply.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE,
        Err(err) => (err.is_connect() || err.is_request()) && !err.is_timeout(),
    }
}

fn push(pairs: &mut Vec<(&'static str, String)>, name: &'static str, value: Option<impl ToString>) {
    pairs.extend(value.map(|it| (name, it.to_string())));
}

/// `web1@PLACE,web2@PLACE`; nothing if there are none.
fn places(places: &BTreeMap<String, LogPlace>) -> Option<String> {
    let all: Vec<_> = places.iter().map(|(name, place)| format!("{name}@{place}")).collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// The host is not used: the connection is the socket.
fn url(path: &str) -> String {
    format!("http://opsdeck{path}")
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// RFC 3986 §2.1: everything but unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

fn unreachable(socket: &Path, err: &dyn std::error::Error) -> Problem {
    // The innermost cause is the one that says "permission denied".
    let mut cause: &dyn std::error::Error = err;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Problem {
        kind: problem::UNREACHABLE.into(),
        status: 0,
        title: format!("the daemon at {} cannot be reached", socket.display()),
        detail: cause.to_string(),
        help: Some(
            "look at daemon.log in its state directory, or at the journal of its unit".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn lines_are_the_same_however_they_arrive() {
        let text = "{\"a\":1}\n\"b\"\n[3]\n4";
        for size in 1..=text.len() {
            let chunks = text.as_bytes().chunks(size).map(|it| Ok(Bytes::copy_from_slice(it)));
            let lines = Lines {
                socket: PathBuf::new(),
                bytes: stream::iter(chunks.collect::<Vec<_>>()).boxed(),
                buffer: BytesMut::new(),
                seen: 0,
            };
            let read: Vec<Value> =
                stream::unfold(lines, Lines::next).map(Result::unwrap).collect().await;
            assert_eq!(read, [json!({"a": 1}), json!("b"), json!([3]), json!(4)], "by {size}");
        }
    }
}
