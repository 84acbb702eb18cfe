//! Probes that ask over HTTP.
//!
//! Redirects are answers, not orders: they pass as 3xx and are not followed.
//! The body is read up to 64 KiB and never further, whatever the target sends,
//! and a body that ends too early fails: a broken release often answers with a
//! good status and half a page. Failures are told in the operator's words.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;

use regex::bytes::Regex;
use reqwest::header::{ACCEPT, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect, retry};

use super::Expect;
use super::check::Seen;
use super::expect::{StatusRange, parse_body, parse_status};

/// How much of a body a pattern sees, and how much is read at all.
const MOST_BODY: usize = 64 * 1024;

/// Makes the one client that all probes share.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Client::builder()
        .user_agent(concat!("opsdeck-probe/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        // A kept connection would hold the target's drain open.
        .pool_max_idle_per_host(0)
        .build()
}

/// A question that is ready to be asked again and again.
pub(super) struct Question {
    url: Url,
    headers: HeaderMap,
    status: StatusRange,
    body: Option<Regex>,
}

impl Question {
    /// Parses everything once, so that a run only asks.
    pub(super) fn new(
        host: &str,
        port: u16,
        path: &str,
        headers: &BTreeMap<String, String>,
        expect: &Expect,
    ) -> Result<Self, String> {
        Ok(Self {
            url: address(host, port, path)?,
            headers: parse_headers(headers)?,
            status: expect.status.as_deref().map_or(Ok(StatusRange::success()), parse_status)?,
            body: expect.body.as_deref().map(parse_body).transpose()?,
        })
    }

    /// Asks once and leaves status and body in `seen`, also when it fails.
    pub(super) async fn ask(&self, client: &Client, seen: &mut Seen) -> Result<(), String> {
        let request = client.get(self.url.clone()).headers(self.headers.clone());
        let mut response = request.send().await.map_err(|error| words(&error, None))?;
        let status = response.status().as_u16();
        seen.status = Some(i32::from(status));

        let mut body = Vec::new();
        while body.len() < MOST_BODY {
            let chunk = response.chunk().await.map_err(|error| words(&error, Some(body.len())))?;
            let Some(chunk) = chunk else { break };
            seen.take(&chunk);
            body.extend_from_slice(&chunk[..chunk.len().min(MOST_BODY - body.len())]);
        }
        self.judge(status, &body)
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<(), String> {
        if !self.status.contains(status) {
            return Err(format!("answered {status}, expected {}", self.status));
        }
        match &self.body {
            Some(pattern) if !pattern.is_match(body) => Err(match body {
                [] => format!("answered {status} with an empty body, expected `{pattern}`"),
                _ => format!("answered {status}, but the body does not match `{pattern}`"),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

fn address(host: &str, port: u16, path: &str) -> Result<Url, String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = format!("http://{host}:{port}{slash}{path}");
    let url = Url::parse(&text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    // A URL may hold what a request cannot: `{host}` is one to the parser above.
    match url.as_str().parse::<hyper::Uri>() {
        Ok(_) => Ok(url),
        Err(error) => Err(format!("`{text}` is no URL: {error}")),
    }
}

fn parse_headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let parse = |(name, value): (&String, &String)| {
        let key = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no header name"))?;
        let value = value.parse::<HeaderValue>().map_err(|_| {
            format!("the value of header `{name}` has characters that a header cannot have")
        })?;
        Ok((key, value))
    };
    headers.iter().map(parse).collect()
}

/// Says what went wrong; `received` is the length of the body so far, absent
/// before an answer began.
fn words(error: &reqwest::Error, received: Option<usize>) -> String {
    let so_far = match received {
        Some(bytes) => format!("after {bytes} bytes"),
        None => "before an answer".to_owned(),
    };
    for cause in causes(error) {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() {
                return format!("closed {so_far}");
            }
            if hyper.is_parse() {
                return "the answer is not HTTP".to_owned();
            }
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::UnexpectedEof => format!("closed {so_far}"),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    format!("reset {so_far}")
                }
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    format!("the body is broken {so_far}: {io}")
                }
                _ => io_words(io),
            };
        }
    }
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What [`io_words`] says where nobody listens.
pub const REFUSED: &str = "connection refused";

/// The plain words for a failed connection.
pub fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED.to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "the network is unreachable".to_owned(),
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use insta::assert_snapshot;

    use super::*;
    use crate::probe::check::Prepared;
    use crate::probe::testing::{Manner, answer, checker, http_probe, once, runner, serve};
    use crate::probe::{Check, Outcome, Probe};

    const PATIENT: Duration = Duration::from_secs(20);
    const HASTY: Duration = Duration::from_millis(400);

    async fn against(manner: Manner, timeout: Duration, expect: Expect) -> Outcome {
        let server = serve(manner).await;
        once(http_probe(server.port, timeout, expect)).await
    }

    fn expecting(status: Option<&str>, body: Option<&str>) -> Expect {
        Expect { status: status.map(String::from), body: body.map(String::from) }
    }

    #[tokio::test]
    async fn a_good_answer_passes_and_its_body_is_kept() {
        let outcome = against(answer("200 OK", "web version 42"), PATIENT, Expect::default()).await;
        assert_eq!(
            Outcome { latency: Duration::ZERO, ..outcome },
            Outcome {
                ok: true,
                latency: Duration::ZERO,
                status: Some(200),
                body: b"web version 42".to_vec(),
                error: None,
            }
        );
    }

    #[tokio::test]
    async fn the_question_is_asked_as_probes_ask() {
        let mut server = serve(answer("200 OK", "")).await;
        let mut probe = http_probe(server.port, PATIENT, Expect::default());
        let Check::Http { headers, path, .. } = &mut probe.check else { unreachable!() };
        headers.insert("host".into(), "shop.example".into());
        *path = "/ready?deep=1".into();

        assert!(once(probe).await.ok);
        let request = server.requests.recv().await.unwrap();
        assert_snapshot!(request.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
        GET /ready?deep=1 HTTP/1.1
        host: shop.example
        accept: */*
        user-agent: opsdeck-probe/VERSION
        connection: close
        ");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let redirect = Manner::Raw(
            b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_vec(),
        );
        let mut server = serve(redirect).await;
        let outcome = once(http_probe(server.port, PATIENT, Expect::default())).await;
        assert_eq!((outcome.ok, outcome.status), (true, Some(302)));
        server.requests.recv().await.unwrap();
        assert!(server.requests.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_is_expected_decides() {
        let outcome = |status, body, expect| async move {
            let outcome = against(answer(status, body), PATIENT, expect).await;
            outcome.error.unwrap_or_else(|| "passes".to_owned())
        };
        let plain = || expecting(None, None);
        let version = || expecting(Some("200"), Some("version 42"));

        assert_snapshot!(outcome("500 Oh", "", plain()).await, @"answered 500, expected 200-399");
        assert_snapshot!(outcome("302 Found", "", version()).await, @"answered 302, expected 200");
        assert_snapshot!(outcome("200 OK", "a version 42.", version()).await, @"passes");
        assert_snapshot!(outcome("200 OK", "", version()).await, @"answered 200 with an empty body, expected `version 42`");
        assert_snapshot!(outcome("200 OK", "version 41", version()).await, @"answered 200, but the body does not match `version 42`");
        assert_snapshot!(outcome("404 No", "", expecting(Some("4xx"), None)).await, @"passes");
    }

    #[tokio::test]
    async fn a_failing_answer_keeps_its_status_and_body() {
        let outcome = against(answer("503 No", "no database"), PATIENT, Expect::default()).await;
        assert_eq!(
            (outcome.ok, outcome.status, outcome.body.as_slice()),
            (false, Some(503), b"no database".as_slice())
        );
    }

    #[tokio::test]
    async fn a_huge_body_is_read_to_64_kib_and_kept_to_1_kib() {
        let endless = || Manner::Endless(b"0123456789abcdef".repeat(64));
        let outcome = against(endless(), PATIENT, Expect::default()).await;
        assert_eq!((outcome.ok, outcome.status, outcome.body.len()), (true, Some(200), 1024));

        let mut late = vec![b'.'; MOST_BODY];
        late.extend_from_slice(b"version 42");
        let body = String::from_utf8(late).unwrap();
        let outcome =
            against(answer("200 OK", &body), PATIENT, expecting(None, Some("version 42"))).await;
        assert!(!outcome.ok, "the pattern was found beyond 64 KiB");
        let outcome =
            against(answer("200 OK", &body[10..]), PATIENT, expecting(None, Some("version 42")))
                .await;
        assert!(outcome.ok, "the pattern was not found within 64 KiB");
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf a page".to_vec();
        let said = |manner, timeout| async move {
            let outcome = against(manner, timeout, Expect::default()).await;
            assert!(!outcome.ok);
            outcome.error.unwrap()
        };

        assert_snapshot!(said(Manner::Hang, HASTY).await, @"no answer within 400ms");
        assert_snapshot!(said(Manner::Trickle, HASTY).await, @"answered 200, but the body did not end within 400ms (1 bytes came)");
        assert_snapshot!(said(Manner::Raw(b"ERR what\r\n".to_vec()), PATIENT).await, @"the answer is not HTTP");
        assert_snapshot!(said(Manner::Raw(Vec::new()), PATIENT).await, @"closed before an answer");
        assert_snapshot!(said(Manner::Raw(cut.clone()), PATIENT).await, @"closed after 11 bytes");
        assert_snapshot!(said(Manner::Reset(Vec::new()), PATIENT).await, @"reset before an answer");
        assert_snapshot!(said(Manner::Reset(cut), PATIENT).await, @"reset after 11 bytes");
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refused_connection() {
        let port = serve(Manner::Hang).await.close().await;
        let outcome = once(http_probe(port, PATIENT, Expect::default())).await;
        assert_eq!((outcome.status, outcome.error.as_deref()), (None, Some("connection refused")));
    }

    #[tokio::test]
    async fn a_probe_that_makes_no_sense_fails_and_says_why() {
        let said = |probe: Probe| async move { once(probe).await.error.unwrap() };
        let broken = |change: fn(&mut Check)| {
            let mut probe = http_probe(1, PATIENT, Expect::default());
            change(&mut probe.check);
            probe
        };

        let name = broken(|check| {
            let Check::Http { headers, .. } = check else { unreachable!() };
            headers.insert("not a name".into(), String::new());
        });
        assert_snapshot!(said(name).await, @"`not a name` is no header name");
        let host = broken(|check| {
            let Check::Http { host, .. } = check else { unreachable!() };
            *host = "{host}".into();
        });
        assert_snapshot!(said(host).await, @"`http://{host}:1/` is no URL: invalid uri character");
    }

    #[tokio::test]
    async fn no_connection_is_left_behind() {
        let mut server = serve(Manner::Hang).await;
        let probe = http_probe(server.port, HASTY, Expect::default());
        let checker = checker(runner(|_| async { Err("nothing to run".to_owned()) }));
        Prepared::new(probe).run(&checker).await;

        assert!(server.requests.recv().await.unwrap().starts_with("GET / "));
        let next = tokio::time::timeout(PATIENT, server.requests.recv()).await;
        assert_eq!(next.expect("the probe held its connection").as_deref(), Some("hung up"));
    }

    #[tokio::test]
    async fn hundreds_of_hanging_targets_cost_one_timeout_together() {
        let server = serve(Manner::Hang).await;
        let probes = (0..300).map(|_| once(http_probe(server.port, HASTY, Expect::default())));
        let all = futures_util::future::join_all(probes);
        let outcomes = tokio::time::timeout(PATIENT, all).await.expect("they waited in turn");
        assert!(outcomes.iter().all(|it| it.error.as_deref() == Some("no answer within 400ms")));
    }
}
