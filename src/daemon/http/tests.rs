//! Clients that take their time, by a clock that does not wait.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::super::http::peer::Access;
use super::*;
use crate::config::settings::Deck;

/// An API without a daemon behind it, until it is dropped.
struct Alone {
    dir: TempDir,
    stop: CancellationToken,
    _turns: mpsc::Receiver<Turn>,
}

impl Alone {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let (_, access) = watch::channel(Arc::new(Access::of(&Deck::default())));
        let (turns, received) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let api = Api { turns, config: None };
        tokio::spawn(serve(Door::new(listener, mpsc::channel(1).1, access), api, stop.clone()));
        Self { dir, stop, _turns: received }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("socket")).await.unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One answer with a body of JSON.
async fn answer(stream: &mut UnixStream) -> String {
    let mut text = vec![];
    while !text.ends_with(b"}") && stream.read_buf(&mut text).await.unwrap() > 0 {}
    String::from_utf8(text).unwrap()
}

/// Says a piece every 25 seconds.
async fn trickle(stream: &mut UnixStream, pieces: &[&str]) {
    for piece in pieces {
        // Who has had enough no longer listens.
        let _ = stream.write_all(piece.as_bytes()).await;
        sleep(Duration::from_secs(25)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let api = Alone::start();
    let mut slow = api.connect().await;
    trickle(&mut slow, &["GET /no", "where HT", "TP/1.1\r\n", "host: o"]).await;
    let told = answer(&mut slow).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");

    // One that is slow and comes to its end is heard, again and again.
    let mut slow = api.connect().await;
    for _ in 0..3 {
        trickle(&mut slow, &["GET /nowhere HT", "TP/1.1\r\nhost: o", "\r\n\r\n"]).await;
        let told = answer(&mut slow).await;
        assert!(told.starts_with("HTTP/1.1 404 "), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_not_waited_for() {
    let api = Alone::start();
    let mut slow = api.connect().await;
    let head = "POST /v1/shutdown HTTP/1.1\r\nhost: o\r\ncontent-length: 9\r\n\r\n";
    trickle(&mut slow, &[head, "{", " ", " "]).await;
    let told = answer(&mut slow).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_lies_idle_is_kept() {
    let api = Alone::start();
    let mut deck = api.connect().await;
    for _ in 0..3 {
        sleep(Duration::from_secs(3600)).await;
        deck.write_all(b"GET /nowhere HTTP/1.1\r\nhost: o\r\n\r\n").await.unwrap();
        let told = answer(&mut deck).await;
        assert!(told.starts_with("HTTP/1.1 404 "), "{told}");
    }
}
