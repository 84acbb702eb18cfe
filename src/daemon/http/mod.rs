//! The API on the Unix socket: HTTP and JSON in, turns out.
//!
//! Nothing is decided here but who may ask. Every handler sends one turn to the driver and waits for its
//! answer, so a client sees the fleet between two turns, never in the middle of one.

pub mod doorway;
pub mod exposition;
pub(in crate::daemon) mod haste;
pub mod log_pages;
pub mod logs;
pub mod metrics;
pub mod orders;
pub mod peer;
pub(in crate::daemon) mod seats;
pub(in crate::daemon) mod since;
pub mod streams;

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{
    self, ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Request, State,
};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::problem::Kind;
use crate::api::{Act, Done, History, Plan, Problem, Role, RolloutRecord};
use crate::daemon::http::haste::REQUEST_TIME;
use crate::daemon::http::peer::{Door, Peer};
use crate::daemon::turn::{Question, Turn, Turns};
use crate::fleet::input::{Refusal, RefusalKind};

/// The longest body of a request, in bytes.
const LONGEST_BODY: usize = 64 << 10;
/// How long a snapshot waits for what servers say of themselves, and how often it looks whether they have.
const SOON: std::time::Duration = std::time::Duration::from_millis(25);
const TRIES: usize = 60;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Api {
    pub turns: Turns,
    /// Where the configuration is read from when somebody asks for it to be applied.
    pub config: Option<std::path::PathBuf>,
}

/// Serves until `stop`, then until the streams have ended.
pub async fn serve(door: Door, api: Api, stop: CancellationToken) -> std::io::Result<()> {
    let app = Router::new()
        .route("/v1/deck", get(deck))
        .route("/v1/watch", get(streams::watch))
        .route("/v1/events", get(streams::events))
        .route("/v1/instances/{name}/logs", get(streams::logs))
        .route("/v1/instances/{name}/logs/page", get(log_pages::page))
        .route("/v1/instances/{name}/why", get(crate::daemon::show::detail::why))
        .route("/v1/instances/{name}/detail", get(crate::daemon::show::detail::detail))
        .route("/v1/services/{name}/history", get(service_history))
        .route("/v1/instances/{name}/history", get(instance_history))
        .route("/v1/services/{name}/rollout", get(rollout))
        .route("/v1/services/{name}/plan", get(plan))
        .route("/v1/services/{name}/{verb}", post(orders::service))
        .route("/v1/instances/{name}/{verb}", post(orders::instance))
        .route("/v1/rollouts/{name}/{verb}", post(orders::rollout))
        .route("/v1/config/{verb}", post(orders::config))
        .route("/v1/shutdown", post(shutdown))
        .route("/v1/replace", post(orders::replace))
        .route("/metrics", get(|State(api): State<Api>| metrics::answer(State(api.turns))))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn(admit))
        .with_state(api);
    axum::serve(door, app.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

/// Asked with POST, and changes nothing.
const LOOKS: [&str; 2] = ["/v1/config/check", "/v1/config/diff"];

/// Viewers may look, operators may act, everybody else gets a 403 that says what to do.
async fn admit(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    peer.stage.asked();
    let looks = request.method().is_safe()
        || request.method() == Method::POST && LOOKS.contains(&request.uri().path());
    match peer.role() {
        Some(Role::Operator) => Ok(next.run(request).await),
        Some(Role::Viewer) if looks => Ok(next.run(request).await),
        Some(Role::Viewer) => Err(forbidden(
            "viewers cannot act".into(),
            "this user may look, and is not listed in `operators` of the configuration",
            "ask an operator to add the user to `[deck] operators`",
        )),
        None => Err(forbidden(
            format!("uid {} may not use this deck", peer.uid),
            "it is listed neither in `operators` nor in `viewers` of the configuration",
            "ask an operator to add the user to `[deck] operators` or `viewers`",
        )),
    }
}

fn forbidden(title: String, detail: &str, help: &str) -> Failure {
    Failure(Problem::new(Kind::Forbidden, title, detail).with_help(help))
}

/// How much of the snapshot is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extent {
    brief: bool,
    /// With the trees: `all`, or names of services and instances.
    tree: Option<String>,
}

async fn deck(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(extent): Query<Extent>,
) -> Result<Response, Failure> {
    let role = peer.role().unwrap_or_default();
    if extent.brief {
        let text = api.ask(|reply| Question::Brief { role, reply }).await?;
        return Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response());
    }
    api.look().await?;
    if let Some(names) = extent.tree {
        let names = if names == "all" { "" } else { &names };
        let names = names.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        return Ok(
            Json(crate::daemon::trees::tree::planted(&api, role, names).await?).into_response()
        );
    }
    Ok(Json(api.ask(|reply| Question::Deck { role, reply }).await?).into_response())
}

async fn service_history(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<History>, Failure> {
    history(api, name, true).await
}

async fn instance_history(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<History>, Failure> {
    history(api, name, false).await
}

async fn history(api: Api, name: String, is_service: bool) -> Result<Json<History>, Failure> {
    let asked = name.clone();
    let kept = api.ask(|reply| Question::History { name, is_service, reply }).await?;
    kept.map(Json).ok_or_else(|| {
        let problem = not_found(&asked).0;
        Failure(Problem {
            title: format!("there is no history of `{asked}`"),
            detail: "nothing was counted or measured of it yet".into(),
            ..problem
        })
    })
}

async fn rollout(
    State(api): State<Api>,
    Path(service): Path<String>,
) -> Result<Json<RolloutRecord>, Failure> {
    let asked = service.clone();
    let known = api.ask(|reply| Question::Rollout { service, reply }).await?;
    let record = known.ok_or_else(|| not_found(&asked))?;
    record.map(Json).ok_or_else(|| {
        let problem = not_found(&asked).0;
        Failure(Problem {
            title: format!("there was no rolling restart of {asked}"),
            detail: "the journal of this deck knows of none".into(),
            help: Some(format!("`opsdeck roll {asked}` begins one")),
            ..problem
        })
    })
}

/// What a rolling restart would do now, for those who may only look as well.
async fn plan(State(api): State<Api>, Path(service): Path<String>) -> Result<Json<Plan>, Failure> {
    let set = BTreeMap::new();
    Ok(Json(api.ask(|reply| Question::Plan { service, set, reply }).await??))
}

async fn shutdown(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(act): Body,
) -> Result<Json<Done>, Failure> {
    let (reply, answer) = oneshot::channel();
    let turn = Turn::Shutdown { by: Some(peer.by()), keep: act.keep, reply: Some(reply) };
    api.send(turn).await?;
    Ok(Json(answer.await.map_err(|_| ending())??))
}

async fn unknown(request: Request) -> Failure {
    let title = format!("there is no {} {}", request.method(), request.uri().path());
    let problem = Problem::new(Kind::NotFound, title, "the API has nothing at this path");
    Failure(problem.with_help("README.md lists the API"))
}

async fn wrong_method(request: Request) -> Failure {
    let detail = format!("{} is not for {}", request.method(), request.uri().path());
    misunderstood(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// A request that is no request of this API.
pub fn misunderstood(status: StatusCode, detail: String) -> Failure {
    let problem = Problem::new(Kind::Refused, "the request was not understood", detail);
    let problem = problem.with_help("README.md lists the API");
    Failure(Problem { status: status.as_u16(), ..problem })
}

impl From<PathRejection> for Failure {
    /// A verb that there is not, most likely.
    fn from(rejection: PathRejection) -> Self {
        let text = rejection.body_text();
        let said = text.trim_start_matches("Invalid URL: ");
        misunderstood(StatusCode::NOT_FOUND, said.replace("unknown variant", "there is no verb"))
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        let said = text.trim_start_matches("Failed to deserialize query string: ");
        misunderstood(rejection.status(), format!("the query is wrong: {said}"))
    }
}

impl Api {
    /// Puts a question to the driver and waits for the answer.
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(Turn::Ask(question(reply))).await?;
        answer.await.map_err(|_| ending())
    }

    /// Load is measured, and servers are asked for theirs, only while somebody looks: this one does. Waits a
    /// moment for what is not known yet.
    pub async fn look(&self) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if self.ask(|reply| Question::Look { reply }).await? {
                break;
            }
            tokio::time::sleep(SOON).await;
        }
        Ok(())
    }

    pub async fn send(&self, turn: Turn) -> Result<(), Failure> {
        self.turns.send(turn).await.map_err(|_| ending())
    }
}

/// The parts of the path; what does not fit them is a problem like any other.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let extract::Path(it) = extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(it))
    }
}

/// What stands behind the `?`, likewise.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let extract::Query(it) = extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(it))
    }
}

/// The body of an action. No body at all is `{}`: `curl -X POST` is a client too.
#[derive(Debug)]
pub struct Body(pub Act);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = Bytes::from_request(request, state);
        let read = tokio::time::timeout(REQUEST_TIME, read).await.map_err(|_| {
            let limit = REQUEST_TIME.as_secs();
            let title = format!("the body was not there after {limit} seconds");
            misunderstood(StatusCode::REQUEST_TIMEOUT, title)
        })?;
        let bytes = read.map_err(|err| match err.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = LONGEST_BODY >> 10;
                misunderstood(err.status(), format!("a body has at most {most} KiB"))
            }
            status => misunderstood(status, "the body could not be read to its end".into()),
        })?;
        if bytes.is_empty() {
            return Ok(Self(Act::default()));
        }
        Act::from_body(&bytes).map(Self).map_err(|err| {
            misunderstood(StatusCode::BAD_REQUEST, format!("the body is wrong: {err}"))
        })
    }
}

/// The driver is gone: the daemon is about to exit.
pub fn ending() -> Failure {
    let problem = Problem::new(Kind::Ending, "the daemon is ending", "it no longer takes requests");
    Failure(problem.with_help("ask again once the next one answers: `opsdeck` starts it"))
}

pub fn not_found(name: &str) -> Failure {
    let title = format!("there is no service or instance `{name}`");
    let problem = Problem::new(Kind::NotFound, title, "no name of this deck is written like this");
    Failure(problem.with_help("`opsdeck status` lists what is there"))
}

/// A [`Problem`] as an answer.
#[derive(Debug)]
pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::Confirm => Kind::Confirm,
            RefusalKind::Changed => Kind::Changed,
            RefusalKind::Busy => Kind::Busy,
            RefusalKind::NotFound => Kind::NotFound,
            RefusalKind::Refused => Kind::Refused,
        };
        let problem = Problem::new(kind, refusal.what, refusal.why);
        Self(Problem { help: refusal.help, ..problem })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

#[cfg(test)]
mod tests;
