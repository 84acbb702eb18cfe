//! What the sample answers to which request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::sleep;

use super::say;
use super::server::Shared;
use crate::quantity::parse_duration;

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers a request, counts it while it lasts, and prints it if that is wanted.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let in_flight = shared.stats.request();
    let asked = format!("{} {}", request.method(), request.uri());
    let answer = route(&shared, request).await;
    drop(in_flight);
    shared.stats.answered();
    if shared.args.access_log {
        say(&format!("{asked} {}", answer.status().as_u16()));
    }
    Ok(answer)
}

async fn route(shared: &Shared, request: Request<Incoming>) -> Answer {
    let faults = &shared.args.faults;
    let answer = match request.uri().path() {
        "/" => work(shared, request).await,
        "/liveness" if faults.hang_liveness => std::future::pending().await,
        "/liveness" => text(StatusCode::OK, "alive\n".to_owned()),
        "/readiness" => readiness(shared),
        "/stats" => stats(shared),
        path => text(
            StatusCode::NOT_FOUND,
            format!("nothing at {path}: ask for /, /liveness, /readiness or /stats\n"),
        ),
    };
    if faults.empty_body { text(StatusCode::OK, String::new()) } else { answer }
}

/// Takes its time and says who did it.
async fn work(shared: &Shared, request: Request<Incoming>) -> Answer {
    let duration = match duration(&request, shared.args.work) {
        Ok(duration) => duration,
        Err(why) => return text(StatusCode::BAD_REQUEST, why + "\n"),
    };
    let args = &shared.args;
    let who = format!("{} version {}", args.name, args.app_version);
    match *request.method() {
        Method::GET | Method::HEAD => {
            sleep(duration).await;
            text(StatusCode::OK, format!("{who} pid {}\n", std::process::id()))
        }
        Method::POST => match length(request.into_body()).await {
            Ok(length) => {
                sleep(duration).await;
                text(StatusCode::OK, format!("{who} received {length} bytes\n"))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST\n".to_owned()),
    }
}

/// The duration in `?work=8s`, else the usual one.
fn duration(request: &Request<Incoming>, usual: Duration) -> Result<Duration, String> {
    let query = request.uri().query().unwrap_or_default();
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("work="));
    wanted.map_or(Ok(usual), parse_duration)
}

async fn length(mut body: Incoming) -> Result<usize, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}

fn readiness(shared: &Shared) -> Answer {
    let (status, word) = if shared.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if shared.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    text(status, format!("{word} version {}\n", shared.args.app_version))
}

fn stats(shared: &Shared) -> Answer {
    let report = shared.stats.report(&shared.args);
    with_type(StatusCode::OK, "application/json", format!("{report:#}\n"))
}

fn text(status: StatusCode, body: String) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}
