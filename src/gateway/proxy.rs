//! One request: who gets it, what if they do not take it, and what the client is told.
//!
//! ```text
//!            ┌──────────── nobody: wait in line ◄──────────┐
//!            ▼                                             │
//!  choose ─► connect or reuse ─► send ─► head of the answer ─► body (see `body`)
//!    ▲            │ refused        │ broke                 
//!    └────────────┴── verdict ─────┘ ─► 502, 504
//! ```

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};

use super::answers;
use super::body::{self, Reply, Stream};
use super::conn::{Conn, Expired};
use super::exchange::{Event, Exchange, Trouble};
use super::headers::{self, Asked, Passing};
use super::instance::{End, Instance, add};
use super::kinds::Kinds;
use super::link::Link;
use super::own::made;
use super::refuse::refusal;
use super::reply::Head;
use super::room::is_want;
use super::tunnel::Tunnel;
use super::upload::{Fault, Upload};
use super::verdict::{Failure, Sending, Verdict, is_idempotent, verdict};
use super::wait::{Held, Waiting};

/// Answers a request, whatever happens.
pub(super) async fn answer(conn: &Rc<Conn>, request: Request<Incoming>) -> Response<Reply> {
    let number = conn.begin_request();
    let (parts, incoming) = request.into_parts();
    let kinds = Kinds::among(&parts.headers);
    let refused = match conn.guard.borrow().refuses(number) {
        true => Some(StatusCode::BAD_REQUEST),
        false => refusal(&parts, kinds, &conn.route.limits),
    };
    if let Some(status) = refused {
        add(&conn.gateway.refused, 1);
        return made(conn, status, true);
    }
    let mut asking = Asking::new(conn, parts, kinds, incoming);
    match asking.run().await {
        Ok(response) => response,
        Err(Refusal { status, closes }) => made(conn, status, closes),
    }
}

/// A request that looks for somebody to answer it.
struct Asking<'a> {
    conn: &'a Rc<Conn>,
    method: Method,
    version: Version,
    began: u64,
    head: Vec<u8>,
    upload: Option<Upload>,
    is_upgrade: bool,
    expects_continue: bool,
    is_idempotent: bool,
    /// An empty map, to be filled with the headers of the answer.
    spare: HeaderMap,
    /// Those that did not take it.
    tried: Vec<u64>,
    repeats: u32,
    /// A connection that waited turned out to be closed.
    only_fresh: bool,
    /// In the line, kept until it is answered.
    place: Option<u64>,
    held: Option<Held>,
}

/// Kept per connection for the next head, in bytes.
const ROOM: usize = 2048;

/// An answer of ours.
struct Refusal {
    status: StatusCode,
    closes: bool,
}

impl<'a> Asking<'a> {
    fn new(
        conn: &'a Rc<Conn>,
        parts: http::request::Parts,
        kinds: Kinds,
        incoming: Incoming,
    ) -> Self {
        let limits = &conn.route.limits;
        let has_body = !incoming.is_end_stream();
        let is_chunked = has_body && kinds.has(Kinds::CODING);
        let passing = Passing {
            is_chunked,
            upgrades: !has_body && headers::upgrades(&parts.headers, kinds),
            expects_continue: has_body
                && kinds.has(Kinds::EXPECT)
                && parts.version == Version::HTTP_11
                && headers::tokens(&parts.headers, &header::EXPECT, "100-continue"),
            trust_forwarded: limits.trust_forwarded,
            via: limits.via.as_deref(),
        };
        let mut head = std::mem::take(&mut *conn.head.borrow_mut());
        head.clear();
        let asked = Asked {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            kinds,
        };
        headers::write_request(&mut head, asked, &conn.sender, passing);
        let mut spare = parts.headers;
        spare.clear();
        let upload = has_body
            .then(|| Upload::new(incoming, is_chunked, limits.replay_bytes, limits.body_bytes));
        Self {
            conn,
            is_idempotent: is_idempotent(&parts.method),
            method: parts.method,
            version: parts.version,
            began: conn.table.clock.micros(),
            head,
            upload,
            is_upgrade: passing.upgrades,
            expects_continue: passing.expects_continue,
            spare,
            tried: vec![],
            repeats: 0,
            only_fresh: false,
            place: None,
            held: None,
        }
    }

    async fn run(&mut self) -> Result<Response<Reply>, Refusal> {
        let mut now = self.began;
        loop {
            let Some(instance) = self.choose() else {
                self.hold().await?;
                now = self.conn.table.clock.micros();
                continue;
            };
            *self.conn.ticket.borrow_mut() = Some(instance.begin(now));
            match self.link(&instance).await {
                Ok(link) => {
                    self.held = None;
                    if let Some(ticket) = &*self.conn.ticket.borrow() {
                        ticket.is_given();
                    }
                    if let Some(response) = self.exchange(link, &instance).await? {
                        return Ok(response);
                    }
                }
                Err(err) if is_want(&err) => self.could_not_ask(&err).await?,
                Err(err) => self.was_refused(&instance, &err),
            }
            now = self.conn.table.clock.micros();
        }
    }

    fn choose(&self) -> Option<Rc<Instance>> {
        use super::choose::Candidate;
        let gateway = &self.conn.gateway;
        let chosen = gateway.choose(&self.tried)?;
        // Others wait for it already; whoever is called from the line will see.
        let is_pointless = self.place.is_none() && chosen.is_ejected() && gateway.held.get() > 0;
        (!is_pointless).then_some(chosen)
    }

    /// Waits in line; returns when called.
    async fn hold(&mut self) -> Result<(), Refusal> {
        let gateway = &self.conn.gateway;
        let route = gateway.route();
        let unavailable = Refusal { status: StatusCode::SERVICE_UNAVAILABLE, closes: false };
        let end = self.began + route.hold_ms * 1000;
        let left = end.saturating_sub(self.conn.table.clock.micros());
        let is_full = gateway.held.get() >= route.hold_max;
        if left == 0 || (is_full && self.held.is_none()) {
            return Err(unavailable);
        }
        let number = *self.place.get_or_insert_with(|| {
            add(&gateway.held_total, 1);
            gateway.line.borrow_mut().number()
        });
        if self.held.is_none() {
            self.held = Some(Held::new(self.conn));
        }
        self.tried.clear();
        self.conn.waits(None, true);
        let waiting = Waiting::new(gateway, number);
        let called = tokio::time::timeout(Duration::from_micros(left), waiting).await;
        called.map_err(|_| unavailable)
    }

    async fn link(&self, instance: &Rc<Instance>) -> std::io::Result<Link> {
        let now = self.conn.table.clock.coarse_ms();
        if !self.only_fresh {
            let waiting = instance.pool.borrow_mut().take(now, self.is_idempotent);
            if let Some(link) = waiting {
                return Ok(link);
            }
        }
        self.conn.waits(None, true);
        let table = &self.conn.table;
        if table.room.is_short_of_links() {
            table.spare_a_link();
        }
        let within = self.conn.route.limits.connect_timeout_ms;
        let link = Link::connect(instance.address, within, table.room.place()).await?;
        let mut ejection = instance.ejection.get();
        if ejection.succeed() {
            instance.ejection.set(ejection);
            instance.reports.readmitted(instance);
        }
        if self.conn.gateway.line.borrow().len() > 0 {
            self.conn.gateway.line.borrow_mut().call_all();
        }
        Ok(link)
    }

    /// There is nothing to connect with: the request waits, and nobody is to blame.
    async fn could_not_ask(&mut self, err: &std::io::Error) -> Result<(), Refusal> {
        let table = &self.conn.table;
        if table.room.is_worth_telling(table.clock.coarse_ms()) {
            table.reports.notice(format!("no connection to an instance can be opened: {err}"));
        }
        self.end_attempt(End::Unasked);
        self.hold().await
    }

    /// The instance took no connection: another may.
    fn was_refused(&mut self, instance: &Rc<Instance>, err: &std::io::Error) {
        instance.reports.connect_failed(instance, connect_error(err));
        let mut ejection = instance.ejection.get();
        if let Some(out) = ejection.fail(self.conn.table.clock.micros() / 1000) {
            instance.reports.ejected(instance, out);
        }
        instance.ejection.set(ejection);
        self.tried.push(instance.serial);
        self.end_attempt(End::Refused);
    }

    fn end_attempt(&self, end: End) {
        let ticket = self.conn.ticket.borrow_mut().take();
        if let Some(mut ticket) = ticket {
            ticket.ends(end);
        }
    }

    /// Sends the request; none if it is to be sent to somebody else.
    async fn exchange(
        &mut self,
        link: Link,
        instance: &Rc<Instance>,
    ) -> Result<Option<Response<Reply>>, Refusal> {
        let head = std::mem::take(&mut self.head);
        let mut exchange = Exchange::new(link, head, self.upload.take(), self.expects_continue);
        self.conn.waits(None, true);
        loop {
            let event = std::future::poll_fn(|cx| self.poll(cx, &mut exchange)).await;
            match event {
                Ok(Event::Interim(status, headers)) => self.pass_on(status, headers),
                Ok(Event::Answer(head, headers)) => {
                    return Ok(Some(self.answered(exchange, head, headers, instance)?));
                }
                Err(Trouble::Client(fault)) => return Err(blame_client(fault)),
                Err(Trouble::Instance(failure, why)) => {
                    self.failed(exchange, failure, why, instance)?;
                    return Ok(None);
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<Result<Event, Trouble>> {
        let conn = self.conn;
        if conn.expired.get() == Some(Expired::Continue) {
            conn.expired.set(None);
            exchange.awaits_continue = false;
        }
        let polled = exchange.poll_answer(
            cx,
            &self.method,
            &mut self.spare,
            &mut conn.table.block.borrow_mut(),
        );
        let moved = body::account(conn, exchange);
        if polled.is_ready() {
            return polled;
        }
        match conn.expired.get() {
            Some(Expired::Reply) => {
                conn.expired.set(None);
                let why = "it did not answer in time".to_owned();
                Poll::Ready(Err(Trouble::Instance(Failure::Late, why)))
            }
            Some(Expired::Body) => Poll::Ready(Err(Trouble::Client(Fault::Slow))),
            _ => {
                conn.waits(Some(exchange.waits_for()), moved);
                Poll::Pending
            }
        }
    }

    /// `100 Continue` is said by hyper when it reads the body; the others are passed on.
    fn pass_on(&mut self, status: StatusCode, mut headers: HeaderMap) {
        if status != StatusCode::CONTINUE && self.version == Version::HTTP_11 {
            let mut out = vec![];
            answers::write_interim(&mut out, status, &headers);
            self.conn.interim(&out);
        }
        headers.clear();
        self.spare = headers;
    }

    fn failed(
        &mut self,
        exchange: Exchange,
        failure: Failure,
        why: String,
        instance: &Rc<Instance>,
    ) -> Result<(), Refusal> {
        let was_reused = exchange.was_reused();
        let has_sent = exchange.has_sent;
        let is_sent = exchange.is_sent();
        (self.head, self.upload) = exchange.into_request();
        self.spare.clear();
        let sending = Sending {
            idempotent: self.is_idempotent,
            replayable: self.upload.as_ref().is_none_or(Upload::is_replayable),
            repeats: self.repeats,
        };
        match verdict(failure, sending) {
            Verdict::Again => {
                self.repeats += u32::from(has_sent);
                if was_reused {
                    self.only_fresh = true;
                } else {
                    self.tried.push(instance.serial);
                }
                self.end_attempt(End::Retried);
                Ok(())
            }
            Verdict::Fail(status) => Err(self.lost(status, !is_sent, &why, instance)),
        }
    }

    fn lost(
        &self,
        status: StatusCode,
        closes: bool,
        why: &str,
        instance: &Rc<Instance>,
    ) -> Refusal {
        self.end_attempt(End::Cut);
        let why = format!("{why}: {} was not repeated", self.method);
        instance.reports.cut(instance, 1, 0, why);
        Refusal { status, closes }
    }

    fn answered(
        &self,
        mut exchange: Exchange,
        head: Head,
        mut headers: HeaderMap,
        instance: &Rc<Instance>,
    ) -> Result<Response<Reply>, Refusal> {
        let conn = self.conn;
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches && !self.is_upgrade {
            let why = "it switched protocols without being asked";
            return Err(self.lost(StatusCode::BAD_GATEWAY, true, why, instance));
        }
        let is_websocket = switches && headers::tokens(&headers, &header::UPGRADE, "websocket");
        let via = conn.route.limits.via.as_deref();
        answers::clean_response(&mut headers, head.kinds, via, switches);
        if conn.is_closing.get() && !switches {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let room = exchange.take_head();
        if room.capacity() <= ROOM {
            *conn.head.borrow_mut() = room;
        }
        let body = if switches {
            let (stream, rest, place) = exchange.into_link().into_parts();
            *conn.tunnel.borrow_mut() = Some(Tunnel { stream, rest, is_websocket, place });
            conn.waits(None, true);
            Reply::Whole(None)
        } else if let Some(data) = exchange.whole_body() {
            body::finish(conn, exchange, head.status);
            Reply::Whole((!data.is_empty()).then_some(data))
        } else {
            Reply::Streamed(Stream::new(conn, exchange, head.status))
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn blame_client(fault: Fault) -> Refusal {
    let status = match fault {
        Fault::Broken => StatusCode::BAD_REQUEST,
        Fault::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::Slow => StatusCode::REQUEST_TIMEOUT,
    };
    Refusal { status, closes: true }
}

fn connect_error(err: &std::io::Error) -> String {
    match err.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::TimedOut => "no connection in time".into(),
        _ => err.to_string(),
    }
}
