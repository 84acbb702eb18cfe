//! Probes that ask by gRPC: `grpc.health.v1.Health/Check`, as Kubernetes' do.
//!
//! One connection for each question, without TLS; whatever the server sends beyond an answer of some bytes is not
//! read. A server that does not know the service that was asked for says NOT_FOUND, and fails.

use std::pin::pin;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use tokio::net::TcpStream;

use super::check::Seen;
use super::grpc_wire::{MOST_ANSWER, SERVING, code_name, reply, request, serving_name};
use super::http::io_words;

/// A few headers; what is longer is no health check.
const MOST_HEADERS: u32 = 16 << 10;
/// Characters of the server's own words that are shown.
const MOST_WORDS: usize = 200;

/// A question that is ready to be asked again and again.
pub(super) struct Question {
    host: String,
    port: u16,
    uri: Uri,
    message: Bytes,
}

impl Question {
    pub(super) fn new(host: &str, port: u16, service: &str) -> Result<Self, String> {
        let name = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let text = format!("http://{name}:{port}/grpc.health.v1.Health/Check");
        let uri = text.parse().map_err(|err| format!("`{text}` is no URL: {err}"))?;
        Ok(Self { host: host.to_owned(), port, uri, message: request(service).into() })
    }

    /// Asks once and leaves the code and the status in `seen`.
    pub(super) async fn ask(&self, seen: &mut Seen) -> Result<(), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|err| io_words(&err))?;
        let mut settings = h2::client::Builder::new();
        settings.enable_push(false).max_header_list_size(MOST_HEADERS);
        let (client, connection) =
            settings.handshake::<_, Bytes>(stream).await.map_err(|err| words(&err))?;
        let mut exchange = pin!(self.exchange(client, seen));
        // Nothing is spawned: with this future the connection ends, whatever the server does.
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // What has come before its end is still to be read.
            _ = connection => exchange.await,
        }
    }

    async fn exchange(&self, client: SendRequest<Bytes>, seen: &mut Seen) -> Result<(), String> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("opsdeck-probe/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|err| err.to_string())?;
        let mut client = client.ready().await.map_err(|err| words(&err))?;
        let (answer, mut question) =
            client.send_request(request, false).map_err(|err| words(&err))?;
        question.send_data(self.message.clone(), true).map_err(|err| words(&err))?;
        let (head, mut body) = answer.await.map_err(|err| words(&err))?.into_parts();
        if head.status != StatusCode::OK {
            seen.status = Some(head.status.as_u16().into());
            return Err(format!("answered HTTP status {}, not gRPC", head.status.as_u16()));
        }
        // An error may come without a message: then this is all there is.
        if let Some(verdict) = refusal(&head.headers, seen) {
            return Err(verdict);
        }
        let mut message = vec![];
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|err| words(&err))?;
            if message.len() + piece.len() > MOST_ANSWER {
                return Err(format!("the answer is longer than {MOST_ANSWER} bytes"));
            }
            message.extend_from_slice(&piece);
            let _ = body.flow_control().release_capacity(piece.len());
        }
        let trailers = body.trailers().await.map_err(|err| words(&err))?.unwrap_or_default();
        if let Some(verdict) = refusal(&trailers, seen) {
            return Err(verdict);
        }
        judge(&message, seen)
    }
}

fn judge(message: &[u8], seen: &mut Seen) -> Result<(), String> {
    let status = reply(message)?;
    seen.take(serving_name(status).as_bytes());
    match status {
        SERVING => Ok(()),
        _ => Err(format!("answered {}, expected SERVING", serving_name(status))),
    }
}

/// The failure that `grpc-status` names, if it names one.
fn refusal(fields: &HeaderMap, seen: &mut Seen) -> Option<String> {
    let code = fields.get("grpc-status")?;
    let code = code.to_str().ok().and_then(|it| it.parse::<i32>().ok()).unwrap_or(-1);
    seen.status = Some(code);
    if code == 0 {
        return None;
    }
    let said = fields.get("grpc-message").map(|it| String::from_utf8_lossy(it.as_bytes()));
    let said: String = said.unwrap_or_default().chars().take(MOST_WORDS).collect();
    let colon = if said.is_empty() { "" } else { ": " };
    Some(format!("answered gRPC status {code} ({}){colon}{said}", code_name(code)))
}

/// Says what went wrong between the two.
fn words(error: &h2::Error) -> String {
    match error.get_io() {
        Some(io) => match io.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => {
                "closed before an answer".into()
            }
            _ => io_words(io),
        },
        None if error.is_remote() => format!("the server ended it: {error}"),
        None if error.is_library() => "the answer is not HTTP/2".into(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::testing::{Manner, answer, once, probe, serve};
    use crate::probe::{Check, Outcome};

    const PATIENT: Duration = Duration::from_secs(20);

    async fn asked(port: u16, timeout: Duration) -> Outcome {
        let check = Check::Grpc { host: "127.0.0.1".into(), port, service: "shop".into() };
        once(probe(check, timeout)).await
    }

    /// A server that answers one question so, and what it was asked.
    async fn says(message: &'static [u8], trailers: &[(&'static str, &'static str)]) -> Outcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fields: HeaderMap = trailers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let server = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(message), false).unwrap();
            body.send_trailers(fields).unwrap();
            while connection.accept().await.is_some() {}
        };
        let (outcome, ()) = tokio::join!(asked(port, PATIENT), server);
        outcome
    }

    #[tokio::test]
    async fn only_serving_passes() {
        let outcome = says(b"\0\0\0\0\x02\x08\x01", &[("grpc-status", "0")]).await;
        assert_eq!(
            (outcome.ok, outcome.status, outcome.body.as_slice(), outcome.error),
            (true, Some(0), b"SERVING".as_slice(), None)
        );
        let outcome = says(b"\0\0\0\0\x02\x08\x02", &[("grpc-status", "0")]).await;
        assert_eq!(outcome.error.as_deref(), Some("answered NOT_SERVING, expected SERVING"));
        let known = [("grpc-status", "5"), ("grpc-message", "no such service")];
        let outcome = says(b"", &known).await;
        assert_eq!(
            (outcome.status, outcome.error.as_deref()),
            (Some(5), Some("answered gRPC status 5 (NOT_FOUND): no such service"))
        );
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let said = |manner| async move {
            let server = serve(manner).await;
            asked(server.port, PATIENT).await.error.unwrap()
        };
        assert_eq!(said(answer("200 OK", "hello")).await, "the answer is not HTTP/2");
        let cut = said(Manner::Raw(vec![])).await;
        assert!(["closed before an answer", "connection reset"].contains(&cut.as_str()), "{cut}");
        // Connections are made, and nobody takes them.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = deaf.local_addr().unwrap().port();
        let late = asked(port, Duration::from_millis(400)).await.error;
        assert_eq!(late.as_deref(), Some("no answer within 400ms"));
        drop(deaf);
        let refused = asked(port, PATIENT).await.error;
        assert_eq!(refused.as_deref(), Some("connection refused"));
    }
}
