//! One client: it asks, waits for the reply, waits the rest of the interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Failure, Sent};
use super::options::{LoadArgs, MethodChoice};
use super::timed;

/// How long a client without an interval waits after a failure: asking a port
/// that refuses as fast as it can would only heat the processor.
const BREATH: Duration = Duration::from_millis(10);

/// What all clients share.
pub(super) struct Plan {
    args: LoadArgs,
    body: Bytes,
    begun: AtomicU64,
}

/// One request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) result: Result<u16, Failure>,
    /// From before the connection was opened, if one was.
    pub(super) latency: Duration,
    pub(super) was_resent: bool,
}

impl Plan {
    pub(super) fn new(args: LoadArgs) -> Self {
        Self { body: Bytes::from(vec![b'x'; args.body as usize]), begun: AtomicU64::new(0), args }
    }

    /// How many requests were begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Counts one more request, unless all of `-n` are begun.
    fn begin(&self) -> bool {
        let limit = self.args.requests.unwrap_or(u64::MAX);
        self.begun.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1)).is_ok()
    }

    fn is_post(&self, number: u64) -> bool {
        match self.args.method {
            MethodChoice::Get => false,
            MethodChoice::Post => true,
            MethodChoice::Mixed => number % 2 == 1,
        }
    }

    /// Nobody can tell whether a lost POST was carried out.
    fn resends(&self, number: u64) -> bool {
        self.args.resend && !self.is_post(number)
    }

    fn request(&self, number: u64, keep: bool) -> Request<Full<Bytes>> {
        let post = self.is_post(number);
        let body = if post { self.body.clone() } else { Bytes::new() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = if post { Method::POST } else { Method::GET };
        *request.uri_mut() = self.args.url.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.args.url.host_header.clone());
        let agent = concat!("opsdeck-load/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if !keep {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

/// Asks until `stop`, or until all requests are begun.
///
/// A request that is under way at `stop` is finished and reported.
pub(super) async fn run(
    plan: Arc<Plan>,
    number: u16,
    done: mpsc::Sender<Done>,
    stop: CancellationToken,
) {
    let interval = plan.args.interval;
    let keep = plan.args.connections.kept_by(number);
    let mut connection = None;
    // Clients that all begin at once would ask in bursts for ever.
    let turn = interval * u32::from(number) / u32::from(plan.args.clients);
    pause(turn, &mut connection, &stop).await;

    for turn in 0.. {
        if stop.is_cancelled() || !plan.begin() {
            return;
        }
        let rest = sleep(interval);
        let mut was_resent = false;
        let asking = ask(&plan, &mut connection, u64::from(number) + turn, keep, &mut was_resent);
        let asking = timeout(plan.args.timeout, asking);
        let (result, latency) = timed(asking).await;
        let result = result.unwrap_or(Err(Failure::TimedOut));
        let failed = result.is_err();
        if failed || !keep {
            connection = None;
        }
        if done.send(Done { result, latency, was_resent }).await.is_err() {
            return;
        }
        if !interval.is_zero() {
            idle(rest, &mut connection, &stop).await;
        } else if failed {
            pause(BREATH, &mut connection, &stop).await;
        }
    }
}

async fn pause(time: Duration, connection: &mut Option<Connection>, stop: &CancellationToken) {
    if !time.is_zero() {
        idle(sleep(time), connection, stop).await;
    }
}

/// Waits, and notices when the idle connection is closed meanwhile.
async fn idle(
    rest: impl Future<Output = ()>,
    connection: &mut Option<Connection>,
    stop: &CancellationToken,
) {
    let watch = async {
        if let Some(open) = connection {
            open.closed().await;
            *connection = None;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = rest => {}
        () = watch => {}
        () = stop.cancelled() => {}
    }
}

/// Sends one request, on the open connection if it is still usable.
async fn ask(
    plan: &Plan,
    connection: &mut Option<Connection>,
    number: u64,
    keep: bool,
    was_resent: &mut bool,
) -> Result<u16, Failure> {
    if let Some(mut open) = connection.take()
        && open.is_usable().await
    {
        match open.send(plan.request(number, keep)).await {
            Sent::Reply(status) => {
                *connection = Some(open);
                return Ok(status);
            }
            Sent::Lost(_) if plan.resends(number) => *was_resent = true,
            Sent::Lost(failure) | Sent::Failed(failure) => return Err(failure),
            Sent::Unsent => {}
        }
    }
    let mut open = Connection::open(&plan.args.url).await?;
    match open.send(plan.request(number, keep)).await {
        Sent::Reply(status) => {
            *connection = Some(open);
            Ok(status)
        }
        Sent::Lost(failure) | Sent::Failed(failure) => Err(failure),
        Sent::Unsent => Err(Failure::Closed),
    }
}
