//! Reads the answers of instances: a head, and a body by its framing. Bytes in, pieces out; no socket.
//!
//! hyper's own client half is not used: whether a request may be sent again depends on what was written and read,
//! byte by byte, and its channels between tasks cost more than all of this file does (see [`super`]). What is
//! ambiguous is refused, because whoever answers so may be understood differently by the client.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use memchr::memchr;

use super::kinds::Kinds;

/// Headers of an answer.
const HEADERS: usize = 128;
/// The head of an answer, and its trailers.
const HEAD_LIMIT: usize = 64 * 1024;
/// A line with the size of a chunk and its extensions.
const CHUNK_LINE_LIMIT: usize = 4 * 1024;

/// It is no HTTP, or HTTP that could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) &'static str);

/// What the bytes so far are.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Not all of the head.
    Partial,
    /// 1xx but 101: another head follows. Its headers are in the map.
    Interim(StatusCode),
    Final(Head),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) body: Body,
    /// The connection may be used again after the body.
    pub(super) keep_alive: bool,
    /// Which headers are there.
    pub(super) kinds: Kinds,
}

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More bytes are wanted.
    More,
}

/// Takes a head off the front of `bytes` and its headers into the map.
pub(super) fn parse_head(
    bytes: &mut Bytes,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Parsed, Garbled> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut room)
        .map_err(|_| Garbled("its answer is no HTTP"))?;
    let httparse::Status::Complete(length) = parsed else {
        return if bytes.len() > HEAD_LIMIT {
            Err(Garbled("the head of its answer is too long"))
        } else {
            Ok(Parsed::Partial)
        };
    };
    let code = response.code.unwrap_or(0);
    let status = StatusCode::from_u16(code).map_err(|_| Garbled("its answer has no status"))?;
    headers.reserve(response.headers.len());
    let mut kinds = Kinds::default();
    for it in response.headers.iter() {
        let name = HeaderName::from_bytes(it.name.as_bytes())
            .map_err(|_| Garbled("its answer has a header without a name"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(it.value))
            .map_err(|_| Garbled("its answer has a header that is none"))?;
        kinds = kinds.and(Kinds::of(&name));
        headers.append(name, value);
    }
    let is_newer = response.version == Some(1);
    bytes.advance(length);
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Parsed::Interim(status));
    }
    let body = framing(status, method, is_newer, (headers, kinds))?;
    // What an HTTP/1.0 server means by keep-alive is not worth a risk.
    let keep_alive = is_newer
        && body != Body::UntilClose
        && !(kinds.has(Kinds::CONNECTION)
            && super::headers::tokens(headers, &header::CONNECTION, "close"));
    Ok(Parsed::Final(Head { status, body, keep_alive, kinds }))
}

/// RFC 9112 §6.3.
fn framing(
    status: StatusCode,
    method: &Method,
    is_newer: bool,
    (headers, kinds): (&HeaderMap, Kinds),
) -> Result<Body, Garbled> {
    let length = if kinds.has(Kinds::LENGTH) { length(headers)? } else { None };
    let mut codings = kinds
        .has(Kinds::CODING)
        .then(|| headers.get_all(header::TRANSFER_ENCODING).iter())
        .into_iter()
        .flatten();
    let coding = codings.next();
    if coding.is_some() && length.is_some() {
        return Err(Garbled("its answer has both a length and a transfer coding"));
    }
    let has_none = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none {
        return Ok(Body::Length(0));
    }
    match (coding, length) {
        (Some(_), _) if !is_newer => Err(Garbled("its HTTP/1.0 answer has a transfer coding")),
        (Some(coding), _) => {
            let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            if is_chunked && codings.next().is_none() {
                Ok(Body::Chunked(Chunk::Size))
            } else {
                Err(Garbled("its answer has an unknown transfer coding"))
            }
        }
        (None, Some(length)) => Ok(Body::Length(length)),
        (None, None) => Ok(Body::UntilClose),
    }
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Garbled> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let this = digits(value.as_bytes(), 10).ok_or(Garbled("its answer has a bad length"))?;
        if length.is_some_and(|it| it != this) {
            return Err(Garbled("its answer has two lengths"));
        }
        length = Some(this);
    }
    Ok(length)
}

fn digits(text: &[u8], radix: u32) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = (*byte as char).to_digit(radix)?;
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

impl Body {
    pub(super) fn is_over(&self) -> bool {
        *self == Self::Length(0)
    }

    /// The number of bytes that follow, if it is known.
    pub(super) fn exact(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next piece off the front of `bytes`.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Piece, Garbled> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) if !bytes.is_empty() => Ok(Piece::Data(take(left, bytes))),
            Self::UntilClose if !bytes.is_empty() => Ok(Piece::Data(std::mem::take(bytes))),
            Self::Length(_) | Self::UntilClose => Ok(Piece::More),
            Self::Chunked(_) => self.next_chunk(bytes),
        }
    }

    fn next_chunk(&mut self, bytes: &mut Bytes) -> Result<Piece, Garbled> {
        loop {
            let Self::Chunked(chunk) = self else { return Ok(Piece::End) };
            match chunk {
                Chunk::Size => match chunk_size(bytes)? {
                    None => return Ok(Piece::More),
                    Some(0) => *chunk = Chunk::Trailers,
                    Some(size) => *chunk = Chunk::Data(size),
                },
                Chunk::Data(_) if bytes.is_empty() => return Ok(Piece::More),
                Chunk::Data(left) => {
                    let data = take(left, bytes);
                    if *left == 0 {
                        *chunk = Chunk::DataEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                Chunk::DataEnd => match bytes.get(..2) {
                    None => return Ok(Piece::More),
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        *chunk = Chunk::Size;
                    }
                    Some(_) => return Err(Garbled("a chunk of its answer has no end")),
                },
                Chunk::Trailers => {
                    let Some(trailers) = trailers(bytes)? else { return Ok(Piece::More) };
                    *self = Self::Length(0);
                    let is_end = trailers.is_empty();
                    return Ok(if is_end { Piece::End } else { Piece::Trailers(trailers) });
                }
            }
        }
    }

    /// What an instance that closes means by it.
    pub(super) fn close(&mut self) -> Result<(), Garbled> {
        match self {
            Self::Length(0) => Ok(()),
            Self::UntilClose => {
                *self = Self::Length(0);
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => {
                Err(Garbled("it closed in the middle of its answer"))
            }
        }
    }
}

fn take(left: &mut u64, bytes: &mut Bytes) -> Bytes {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= count as u64;
    bytes.split_to(count)
}

fn chunk_size(bytes: &mut Bytes) -> Result<Option<u64>, Garbled> {
    let Some(end) = memchr(b'\n', bytes) else {
        return if bytes.len() > CHUNK_LINE_LIMIT {
            Err(Garbled("a chunk of its answer has too long a size"))
        } else {
            Ok(None)
        };
    };
    let bad = Garbled("a chunk of its answer has no size");
    let line = bytes[..end].strip_suffix(b"\r").ok_or(bad)?;
    if end > CHUNK_LINE_LIMIT || line.contains(&b'\r') {
        return Err(bad);
    }
    let size = line.split(|it| *it == b';').next().unwrap_or(line).trim_ascii_end();
    let size = digits(size, 16).ok_or(bad)?;
    bytes.advance(end + 1);
    Ok(Some(size))
}

fn trailers(bytes: &mut Bytes) -> Result<Option<HeaderMap>, Garbled> {
    if bytes.starts_with(b"\r\n") {
        bytes.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut room = [httparse::EMPTY_HEADER; HEADERS];
    let bad = Garbled("its answer has trailers that are none");
    let parsed = httparse::parse_headers(bytes, &mut room).map_err(|_| bad)?;
    let httparse::Status::Complete((length, found)) = parsed else {
        return if bytes.len() > HEAD_LIMIT { Err(bad) } else { Ok(None) };
    };
    let mut trailers = HeaderMap::new();
    for it in found {
        let name = HeaderName::from_bytes(it.name.as_bytes()).map_err(|_| bad)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(it.value)).map_err(|_| bad)?;
        trailers.append(name, value);
    }
    bytes.advance(length);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Parsed, Garbled> {
        let mut bytes = Bytes::copy_from_slice(text.as_bytes());
        parse_head(&mut bytes, &Method::GET, &mut HeaderMap::new())
    }

    fn head(text: &str) -> Head {
        match parsed(text) {
            Ok(Parsed::Final(head)) => head,
            other => panic!("{other:?}"),
        }
    }

    /// The whole body and its trailers, fed in pieces of `step` bytes.
    fn read(mut body: Body, text: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap), Garbled> {
        let (mut all, mut trailers) = (vec![], HeaderMap::new());
        let (mut rest, mut bytes) = (text, Bytes::new());
        loop {
            match body.next(&mut bytes)? {
                Piece::Data(data) => all.extend_from_slice(&data),
                Piece::Trailers(these) => trailers = these,
                Piece::End => return Ok((all, trailers)),
                Piece::More if rest.is_empty() => body.close()?,
                Piece::More => {
                    let (now, later) = rest.split_at(step.min(rest.len()));
                    bytes = [&bytes, now].concat().into();
                    rest = later;
                }
            }
        }
    }

    #[test]
    fn the_framing_is_what_the_head_says() {
        let sized = head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert_eq!((sized.body, sized.keep_alive), (Body::Length(5), true));
        let chunked = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
        assert_eq!(chunked.body, Body::Chunked(Chunk::Size));
        let open = head("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!((open.body, open.keep_alive), (Body::UntilClose, false));
        let none = head("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
        assert_eq!((none.body, none.keep_alive), (Body::Length(0), true));
        assert!(
            !head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n").keep_alive
        );
        assert!(!head("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n").keep_alive);
        assert_eq!(head("HTTP/1.1 101 X\r\nUpgrade: y\r\n\r\n").status.as_u16(), 101);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert!(parsed(text).is_err(), "{text:?}");
        }
        assert!(matches!(parsed("HTTP/1.1 200 OK\r\nA:"), Ok(Parsed::Partial)));
    }

    #[test]
    fn an_interim_answer_is_followed_by_another() {
        let text = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let mut bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut headers = HeaderMap::new();
        let first = parse_head(&mut bytes, &Method::GET, &mut headers).unwrap();
        assert!(matches!(first, Parsed::Interim(status) if status.as_u16() == 103));
        assert_eq!(headers["link"], "</a>");
        let second = parse_head(&mut bytes, &Method::GET, &mut HeaderMap::new()).unwrap();
        assert!(matches!(second, Parsed::Final(head) if head.status.as_u16() == 204));
        assert!(bytes.is_empty());
    }

    #[test]
    fn chunks_end_with_their_trailers() {
        let text = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n";
        for step in 1..text.len() {
            let (body, trailers) = read(Body::Chunked(Chunk::Size), text, step).unwrap();
            assert_eq!((&body[..], trailers["x-sum"].as_bytes()), (&b"hello!"[..], &b"1"[..]));
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for text in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"\r\nhello\r\n",
            b"11111111111111111\r\nhello",
            b"5\rx\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhel",
        ] {
            assert!(read(Body::Chunked(Chunk::Size), text, 100).is_err(), "{text:?}");
        }
        let long = [&b"5;"[..], &[b'x'; 5000], b"\r\nhello\r\n0\r\n\r\n"].concat();
        assert!(read(Body::Chunked(Chunk::Size), &long, 100).is_err());
    }

    proptest! {
        #[test]
        fn a_chunked_body_comes_out_as_it_went_in(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            step in 1usize..30,
        ) {
            let mut text = vec![];
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let (body, _) = read(Body::Chunked(Chunk::Size), &text, step).unwrap();
            prop_assert_eq!(body, chunks.concat());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
            text.extend_from_slice(&bytes);
            let _ = parse_head(&mut Bytes::from(text), &Method::GET, &mut HeaderMap::new());
            let _ = read(Body::Chunked(Chunk::Size), &bytes, 7);
        }
    }
}
