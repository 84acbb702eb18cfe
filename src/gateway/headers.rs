//! What becomes of a message's head on its way through: plain functions from headers to bytes.
//!
//! Headers that concern one connection only are removed (RFC 9110 §7.6.1), those that tell the instance about its
//! client are added. Nothing is formatted: what depends on the client's address alone is made once a connection.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

use super::kinds::Kinds;

/// What is told about a client, ready to be written.
#[derive(Debug)]
pub(super) struct Sender {
    /// `192.0.2.1`
    address: String,
    /// `for=192.0.2.1;proto=http;host="`
    forwarded: String,
    /// What an HTTP/1.0 client without `Host` meant.
    local: String,
}

impl Sender {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let address = peer.ip().to_canonical().to_string();
        let node = match peer.ip().to_canonical() {
            IpAddr::V4(_) => address.clone(),
            IpAddr::V6(_) => format!("\"[{address}]\""),
        };
        let forwarded = format!("for={node};proto=http;host=\"");
        Self { address, forwarded, local: local.to_string() }
    }
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
    /// Which of them are there.
    pub(super) kinds: Kinds,
}

/// How it is passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing<'a> {
    /// Its body is sent in chunks.
    pub(super) is_chunked: bool,
    /// The client wants to change the protocol, and may.
    pub(super) upgrades: bool,
    pub(super) expects_continue: bool,
    pub(super) trust_forwarded: bool,
    pub(super) via: Option<&'a str>,
}

/// Appends the head for the instance.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    asked: Asked<'_>,
    sender: &Sender,
    passing: Passing<'_>,
) {
    let host = host(asked);
    let host = host.unwrap_or(sender.local.as_bytes());
    write_line(out, asked.method, asked.uri);
    put(out, b"host: ", host);
    let named = Named::of(asked.headers, asked.kinds);
    let replaced = replaced(passing.trust_forwarded);
    for (name, value) in asked.headers {
        if !Kinds::of(name).has(replaced) && !named.has(name) {
            put_header(out, name, value);
        }
    }
    if passing.is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if passing.expects_continue {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if passing.upgrades {
        put_all(out, b"upgrade: ", asked.headers.get_all(header::UPGRADE).iter(), b"");
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if wants_trailers(asked) {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    write_forwarded(out, asked, sender, host, passing.trust_forwarded);
    if let Some(via) = passing.via {
        let version: &[u8] = if asked.version == Version::HTTP_10 { b"1.0 " } else { b"1.1 " };
        let ours = [version, via.as_bytes()].concat();
        put_all(out, b"via: ", asked.headers.get_all(header::VIA).iter(), &ours);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, method: &Method, uri: &Uri) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    match uri.path_and_query() {
        Some(path) if !path.as_str().is_empty() => {
            let text = path.as_str().as_bytes();
            if text[0] == b'?' {
                out.push(b'/');
            }
            out.extend_from_slice(text);
        }
        _ => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// The host that is meant: a target in absolute form outweighs the header (RFC 9112 §3.2.2).
fn host(asked: Asked<'_>) -> Option<&[u8]> {
    if let Some(authority) = asked.uri.authority() {
        let text = authority.as_str();
        return Some(text.rsplit_once('@').map_or(text, |(_, host)| host).as_bytes());
    }
    asked.headers.get(header::HOST).map(HeaderValue::as_bytes)
}

fn write_forwarded(out: &mut Vec<u8>, asked: Asked<'_>, sender: &Sender, host: &[u8], trust: bool) {
    let Asked { headers, kinds, .. } = asked;
    if kinds.has(Kinds::X_FORWARDED_FOR) {
        let before = headers.get_all(X_FORWARDED_FOR).iter();
        put_all(out, b"x-forwarded-for: ", before, sender.address.as_bytes());
    } else {
        put(out, b"x-forwarded-for: ", sender.address.as_bytes());
    }
    if !(trust && kinds.has(Kinds::X_FORWARDED_PROTO)) {
        out.extend_from_slice(b"x-forwarded-proto: http\r\n");
    }
    if !(trust && kinds.has(Kinds::X_FORWARDED_HOST)) {
        put(out, b"x-forwarded-host: ", host);
    }
    out.extend_from_slice(b"forwarded: ");
    if kinds.has(Kinds::FORWARDED) {
        for value in headers.get_all(header::FORWARDED) {
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(sender.forwarded.as_bytes());
    for byte in host {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"\"\r\n");
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn put_header(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// One header with all values in a list; nothing if there is none.
fn put_all<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    values: impl Iterator<Item = &'a HeaderValue>,
    last: &'a [u8],
) {
    let begin = out.len();
    out.extend_from_slice(name);
    let named = out.len();
    for value in values.map(HeaderValue::as_bytes).chain([last]).filter(|it| !it.is_empty()) {
        if out.len() > named {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
    if out.len() == named {
        out.truncate(begin);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// False for what concerns this connection, and for what is written anew.
pub(super) fn is_passed(name: &HeaderName) -> bool {
    !Kinds::of(name).has(Kinds::OF_A_HOP)
}

/// What of a request is not passed on as it came.
fn replaced(trust: bool) -> Kinds {
    let always = Kinds::OF_A_HOP.and(Kinds::X_FORWARDED_FOR).and(Kinds::FORWARDED).and(Kinds::VIA);
    let ours = Kinds::X_FORWARDED_PROTO.and(Kinds::X_FORWARDED_HOST);
    if trust { always } else { always.and(ours) }
}

/// The headers that `Connection` names besides the usual ones.
pub(super) struct Named<'a>(Option<&'a HeaderMap>);

impl<'a> Named<'a> {
    pub(super) fn of(headers: &'a HeaderMap, kinds: Kinds) -> Self {
        if !kinds.has(Kinds::CONNECTION) {
            return Self(None);
        }
        let usual = |value: &HeaderValue| {
            let value = value.as_bytes();
            [&b"close"[..], b"keep-alive", b"upgrade"]
                .iter()
                .any(|it| value.eq_ignore_ascii_case(it))
        };
        let any = headers.get_all(header::CONNECTION).iter().any(|it| !usual(it));
        Self(any.then_some(headers))
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        // Nobody may take the framing or the host of a message away by naming it.
        self.0.is_some_and(|headers| {
            *name != header::CONTENT_LENGTH && tokens(headers, &header::CONNECTION, name.as_str())
        })
    }
}

/// True if a list header has this token.
pub(super) fn tokens(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|it| *it == b',')
            .any(|it| it.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

fn wants_trailers(asked: Asked<'_>) -> bool {
    asked.kinds.has(Kinds::TE) && tokens(asked.headers, &header::TE, "trailers")
}

/// An upgrade that may be passed on. `h2c` is none: what follows it could not be looked at.
pub(super) fn upgrades(headers: &HeaderMap, kinds: Kinds) -> bool {
    kinds.has(Kinds::UPGRADE)
        && tokens(headers, &header::CONNECTION, "upgrade")
        && !tokens(headers, &header::UPGRADE, "h2c")
}

/// Appends the trailers of a request, without what may not be in one (RFC 9110 §6.5.1).
pub(super) fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        let is_framing = matches!(
            name.as_str(),
            "content-length" | "content-encoding" | "content-type" | "trailer" | "authorization"
        );
        if is_passed(name) && !is_framing {
            put_header(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        of.iter().map(pair).collect()
    }

    fn may_upgrade(of: &[(&str, &str)]) -> bool {
        let headers = headers(of);
        upgrades(&headers, Kinds::among(&headers))
    }

    fn sender() -> Sender {
        Sender::new("192.0.2.7:4711".parse().unwrap(), "10.0.0.1:80".parse().unwrap())
    }

    fn written(uri: &str, of: &[(&str, &str)], passing: Passing<'_>) -> String {
        let mut out = vec![];
        let (headers, uri) = (headers(of), uri.parse().unwrap());
        let asked = Asked {
            method: &Method::GET,
            uri: &uri,
            version: Version::HTTP_11,
            headers: &headers,
            kinds: Kinds::among(&headers),
        };
        write_request(&mut out, asked, &sender(), passing);
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn a_plain_request_gains_where_it_came_from() {
        insta::assert_snapshot!(written("/a?b=c", &[("host", "shop.example:80"), ("accept", "*/*")], Passing::default()), @r#"
        GET /a?b=c HTTP/1.1
        host: shop.example:80
        accept: */*
        x-forwarded-for: 192.0.2.7
        x-forwarded-proto: http
        x-forwarded-host: shop.example:80
        forwarded: for=192.0.2.7;proto=http;host="shop.example:80"
        "#);
    }

    #[test]
    fn what_concerns_the_connection_stays_here() {
        let text = written(
            "/",
            &[
                ("host", "a"),
                ("connection", "keep-alive, X-Secret, content-length"),
                ("x-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip"),
                ("upgrade", "websocket"),
                ("proxy-connection", "close"),
                ("content-length", "3"),
                ("x-kept", "2"),
            ],
            Passing::default(),
        );
        let names: Vec<_> =
            text.lines().skip(1).filter_map(|it| it.split_once(':')).map(|it| it.0).collect();
        let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
        assert_eq!(names, [&["host", "content-length", "x-kept"][..], &ours].concat());
    }

    #[test]
    fn what_the_client_says_of_its_way_is_kept_and_what_it_says_of_us_is_not() {
        let said = [
            ("host", "a"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
        ];
        let text = written("/", &said, Passing::default());
        assert!(text.contains("x-forwarded-for: 1.1.1.1, 2.2.2.2, 192.0.2.7\n"), "{text}");
        assert!(text.contains("forwarded: for=1.1.1.1, for=192.0.2.7;proto=http;host=\"a\"\n"));
        assert!(text.contains("x-forwarded-proto: http\nx-forwarded-host: a\n"), "{text}");
        let text = written("/", &said, Passing { trust_forwarded: true, ..Passing::default() });
        assert!(text.contains("x-forwarded-proto: https\n") && text.contains("-host: evil\n"));
        assert_eq!(text.matches("x-forwarded-proto").count(), 1);
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let text = written("http://u@real.example/x", &[("host", "other")], Passing::default());
        assert!(text.starts_with("GET /x HTTP/1.1\nhost: real.example\n"), "{text}");
    }

    #[test]
    fn an_upgrade_is_asked_for_anew() {
        let said = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")];
        assert!(may_upgrade(&said));
        let text = written("/", &said, Passing { upgrades: true, ..Passing::default() });
        assert!(text.contains("\nupgrade: websocket\nconnection: upgrade\n"), "{text}");
        assert!(!may_upgrade(&[("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!may_upgrade(&[("upgrade", "websocket")]));
    }

    #[test]
    fn via_and_quotes_in_a_host_are_written_as_the_rfcs_say() {
        let text = written(
            "/",
            &[("host", "a\"b"), ("via", "1.0 x")],
            Passing { via: Some("deck"), ..Passing::default() },
        );
        assert!(text.contains("via: 1.0 x, 1.1 deck\n") && text.contains("host=\"a\\\"b\"\n"));
        let six = Sender::new("[2001:db8::1]:1".parse().unwrap(), "[::1]:80".parse().unwrap());
        assert!(six.forwarded.starts_with("for=\"[2001:db8::1]\";"));
    }

    proptest! {
        #[test]
        fn no_head_that_is_written_has_a_second_end_or_two_hosts(
            values in prop::collection::vec(("[a-z-]{1,18}", "[ -~]{0,20}"), 0..8),
        ) {
            let pairs: Vec<(&str, &str)> = values
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .filter(|(name, _)| !name.starts_with('-'))
                .collect();
            let text = written("/", &pairs, Passing::default());
            prop_assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1);
            prop_assert_eq!(text.lines().filter(|it| it.starts_with("host:")).count(), 1);
        }
    }
}
