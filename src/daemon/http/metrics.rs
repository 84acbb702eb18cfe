//! `[deck] metrics`: an address where Prometheus may read, and nothing else can be had.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::Role;
use crate::daemon::http::Api;
use crate::daemon::http::exposition;
use crate::daemon::turn::{Question, Turn, Turns};

/// Between two tries to listen.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens where the configuration says, as long as it says so.
pub async fn keep(
    mut wanted: watch::Receiver<Option<SocketAddr>>,
    turns: Turns,
    stop: CancellationToken,
) {
    loop {
        let address = *wanted.borrow_and_update();
        let served = stop.child_token();
        let serving = serve_at(address, &turns, served.clone());
        let goes_on = tokio::select! {
            () = serving => false,
            changed = wanted.changed() => changed.is_ok(),
            () = stop.cancelled() => false,
        };
        served.cancel();
        if !goes_on {
            return;
        }
    }
}

/// Returns only where nobody is left to answer.
async fn serve_at(address: Option<SocketAddr>, turns: &Turns, stop: CancellationToken) {
    let Some(address) = address else {
        say(turns, None).await;
        return std::future::pending().await;
    };
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                say(turns, None).await;
                let app = Router::new().route("/metrics", get(answer)).with_state(turns.clone());
                let stopped = async move { stop.cancelled().await };
                let _ = serve(listener, app).with_graceful_shutdown(stopped).await;
                return;
            }
            Err(err) => {
                say(turns, Some(format!("metrics cannot be read at {address}: {err}"))).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn say(turns: &Turns, trouble: Option<String>) {
    // Without a driver there is no screen to say it on.
    let _ = turns.send(Turn::Metrics(trouble)).await;
}

/// `GET /metrics`, here and on the API's socket.
pub async fn answer(State(turns): State<Turns>) -> Response {
    let api = Api { turns, config: None };
    let deck = match api.look().await {
        Ok(()) => api.ask(|reply| Question::Deck { role: Role::Viewer, reply }).await,
        Err(ending) => Err(ending),
    };
    let Ok(deck) = deck else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::text(&deck)).into_response()
}
