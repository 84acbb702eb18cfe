//! Asks for one page over HTTP/1.1, on a connection of its own: a kept one would hold a drain open.

use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::names;
use super::place::{Address, Page};
use crate::probe::io_words;

/// Of a page of metrics: those of a large server are some hundred kilobytes.
pub(super) const MOST_METRICS: usize = 4 << 20;
/// Of any other: it is taken apart as a whole.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// A header field of the request: name and value.
pub(super) type Field = (&'static str, String);

/// The body of an answer with status 200.
pub(super) async fn get(
    page: &Page,
    field: Option<&Field>,
    most: usize,
) -> Result<Vec<u8>, String> {
    let host = match &page.address {
        Address::Tcp(address) => address.as_str(),
        Address::Unix(_) => "localhost",
    };
    let mut request = Request::get(page.target())
        .header(HOST, host)
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, concat!("opsdeck/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    if let Some((name, value)) = field {
        request = request.header(*name, value);
    }
    let request = request.body(Empty::new()).map_err(|err| err.to_string())?;
    match &page.address {
        Address::Tcp(address) => {
            let all = names::addresses(address).await?;
            let stream = TcpStream::connect(&all[..]).await.map_err(|err| io_words(&err))?;
            exchange(stream, request, most).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|err| io_words(&err))?;
            exchange(stream, request, most).await
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    most: usize,
) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|err| words(&err))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|err| words(&err))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("answered {}, expected 200", answer.status().as_u16()));
        }
        let (mut body, mut bytes) = (answer.into_body(), vec![]);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|err| words(&err))?;
            let piece = frame.data_ref().map_or(&[][..], |it| it);
            if bytes.len() + piece.len() > most {
                return Err(format!("the page is longer than {} KiB", most >> 10));
            }
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    };
    let mut answer = pin!(answer);
    // Nothing is spawned: with this future the connection ends, whatever the server does.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What has come before its end is still to be read.
        _ = connection => answer.await,
    }
}

fn words(error: &hyper::Error) -> String {
    if error.is_parse() {
        return "the answer is not HTTP".into();
    }
    let io = std::error::Error::source(error).and_then(|it| it.downcast_ref::<std::io::Error>());
    let is_eof = |it: &&std::io::Error| it.kind() == std::io::ErrorKind::UnexpectedEof;
    match io.filter(|it| !is_eof(it)) {
        Some(io) => io_words(io),
        None if io.is_some()
            || error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled() =>
        {
            "closed before the whole answer".into()
        }
        None => error.to_string(),
    }
}
