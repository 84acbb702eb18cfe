//! The tasks that talk to the daemon for the deck.
//!
//! Each has one job and reports through one bounded channel; when that is full they wait, and the
//! daemon, which never waits for a client, sends a whole picture instead of what was missed.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::update::Msg;
use crate::api::{Event, Problem, Request, problem};
use crate::client::{Client, EventQuery};

/// Tries again after this long, doubling up to [`SLOWEST`].
const FASTEST: Duration = Duration::from_millis(50);
const SLOWEST: Duration = Duration::from_secs(2);
/// An action is begun at once or not at all.
const ANSWER: Duration = Duration::from_secs(10);

/// Watches the daemon until the deck ends, connecting again whenever it must.
pub async fn watch(client: Client, msgs: mpsc::Sender<Msg>) {
    let mut pause = FASTEST;
    loop {
        let problem = match client.watch().await {
            Ok(changes) => {
                let mut changes = std::pin::pin!(changes);
                loop {
                    match changes.next().await {
                        Some(Ok(change)) => {
                            pause = FASTEST;
                            if msgs.send(Msg::Change(Box::new(change))).await.is_err() {
                                return;
                            }
                        }
                        Some(Err(problem)) => break problem,
                        None => break gone(),
                    }
                }
            }
            Err(problem) => problem,
        };
        if msgs.send(Msg::LinkLost(problem)).await.is_err() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

fn gone() -> Problem {
    unreachable("the daemon ended the connection", "")
}

fn unreachable(title: &str, help: &str) -> Problem {
    Problem {
        kind: problem::UNREACHABLE.into(),
        title: title.into(),
        help: (!help.is_empty()).then(|| help.to_owned()),
        ..Problem::default()
    }
}

/// Sends requests in the order in which they were asked for, one at a time: `d` then `t` must not
/// arrive as `t` then `d`.
pub async fn send(
    client: Client,
    mut requests: mpsc::Receiver<(u64, Request)>,
    msgs: mpsc::Sender<Msg>,
) {
    while let Some((id, request)) = requests.recv().await {
        let late = |_| {
            let help = "it may still happen: watch the events";
            Err(unreachable("the daemon did not answer within 10 s", help))
        };
        let result = timeout(ANSWER, client.send(&request)).await.unwrap_or_else(late);
        if msgs.send(Msg::Reply { id, result }).await.is_err() {
            return;
        }
    }
}

/// Asks for events of the journal, all of them in one message.
pub async fn past(client: Client, query: EventQuery) -> Result<Vec<Event>, Problem> {
    let answer = async {
        let events = client.events(&query).await?;
        events.collect::<Vec<_>>().await.into_iter().collect()
    };
    let late = |_| Err(unreachable("the daemon did not answer within 10 s", ""));
    timeout(ANSWER, answer).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use tempfile::TempDir;
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::api::{Act, Change, Done, InstanceVerb};
    use crate::tui::fixtures::{at, deck, web};

    /// Longer than anything here takes; only a broken test waits for it.
    const BOUND: Duration = Duration::from_secs(10);

    /// What the fake daemon streams to everybody who watches: a picture, a change, the end.
    fn watched() -> String {
        let snapshot = Change::Snapshot { deck: Box::new(deck(vec![web()])), events: vec![] };
        let change = Change::Change {
            revision: 2,
            now: at(0).wall,
            services: vec![],
            removed: vec!["web".into()],
            events: vec![],
            config: None,
            notices: None,
        };
        let line = |it| serde_json::to_string(&it).unwrap() + "\n";
        line(snapshot) + "{\"type\":\"of a later release\"}\n" + &line(change)
    }

    /// A daemon on a socket in `dir`; aborting the task ends it.
    fn daemon(socket: &Path) -> JoinHandle<()> {
        // The last one's socket is in the way.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let router =
            Router::new().route("/v1/watch", get(|| async { watched().into_response() })).route(
                "/v1/instances/{name}/{verb}",
                post(|uri: axum::http::Uri| async move {
                    axum::Json(Done { message: uri.path().into(), ..Done::default() })
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
    }

    fn client(dir: &TempDir) -> (Client, std::path::PathBuf) {
        let socket = dir.path().join("opsdeck.sock");
        (Client::new(&socket).unwrap(), socket)
    }

    /// A message, shortened to what matters here.
    async fn next(inbox: &mut mpsc::Receiver<Msg>) -> String {
        match timeout(BOUND, inbox.recv()).await.expect("a message in time").expect("a message") {
            Msg::Change(change) => match *change {
                Change::Snapshot { deck, .. } => format!("picture of {}", deck.deck),
                Change::Change { removed, .. } => format!("removed {removed:?}"),
                Change::Unknown => "unknown".into(),
            },
            Msg::LinkLost(problem) => format!("lost: {}", problem.kind),
            Msg::Reply { id, result } => format!("{id}: {}", result.unwrap().message),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_watch_connects_again_until_the_daemon_is_back() {
        let dir = TempDir::new().unwrap();
        let (client, socket) = client(&dir);
        let (msgs, mut inbox) = mpsc::channel(16);
        let watch = tokio::spawn(watch(client, msgs));
        assert_eq!(next(&mut inbox).await, "lost: /problems/unreachable", "no daemon yet");

        let daemon = daemon(&socket);
        // The tries before it listened.
        let mut first = next(&mut inbox).await;
        while first.starts_with("lost") {
            first = next(&mut inbox).await;
        }
        assert_eq!(first, "picture of shop");
        assert_eq!(next(&mut inbox).await, "unknown", "a line that this release does not know");
        assert_eq!(next(&mut inbox).await, "removed [\"web\"]");
        assert_eq!(next(&mut inbox).await, "lost: /problems/unreachable", "the stream ended");
        assert_eq!(next(&mut inbox).await, "picture of shop", "and it is watched again");

        drop(inbox);
        timeout(BOUND, watch).await.expect("ends with the deck").unwrap();
        daemon.abort();
    }

    #[tokio::test]
    async fn requests_are_answered_in_the_order_in_which_they_were_asked() {
        let dir = TempDir::new().unwrap();
        let (client, socket) = client(&dir);
        let daemon = daemon(&socket);
        let (msgs, mut inbox) = mpsc::channel(16);
        let (requests, queue) = mpsc::channel(16);
        let sender = tokio::spawn(send(client, queue, msgs));
        for (id, verb) in [(1, InstanceVerb::Drain), (2, InstanceVerb::Signal)] {
            let request = Request::Instance { name: "web1".into(), verb, act: Act::default() };
            requests.send((id, request)).await.unwrap();
        }
        assert_eq!(next(&mut inbox).await, "1: /v1/instances/web1/drain");
        assert_eq!(next(&mut inbox).await, "2: /v1/instances/web1/signal");
        drop(requests);
        timeout(BOUND, sender).await.expect("ends with the deck").unwrap();
        daemon.abort();
    }
}
