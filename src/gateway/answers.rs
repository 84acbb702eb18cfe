//! The headers of an instance's answers on their way to the client.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::headers::{Named, is_passed, put, put_header};
use super::kinds::Kinds;

/// Removes from a response what concerned our connection to the instance. `kinds` are those of its headers.
pub(super) fn clean_response(
    headers: &mut HeaderMap,
    kinds: Kinds,
    via: Option<&str>,
    switches: bool,
) {
    if kinds.has(Kinds::CONNECTION) {
        let all = Named::of(headers, kinds);
        let named: Vec<HeaderName> = headers.keys().filter(|it| all.has(it)).cloned().collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for (kind, name) in [
        (Kinds::KEEP_ALIVE, &KEEP_ALIVE),
        (Kinds::PROXY_CONNECTION, &PROXY_CONNECTION),
        (Kinds::CODING, &header::TRANSFER_ENCODING),
    ] {
        if kinds.has(kind) {
            headers.remove(name);
        }
    }
    if switches {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else if kinds.has(Kinds::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
    if let Some(via) = via
        && let Ok(value) = HeaderValue::from_str(&["1.1 ", via].concat())
    {
        headers.append(header::VIA, value);
    }
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Appends an interim response (RFC 9110 §15.2).
pub(super) fn write_interim(out: &mut Vec<u8>, status: http::StatusCode, headers: &HeaderMap) {
    put(out, b"HTTP/1.1 ", status.as_str().as_bytes());
    out.truncate(out.len() - 2);
    put(out, b" ", status.canonical_reason().unwrap_or("Interim").as_bytes());
    let named = Named::of(headers, Kinds::among(headers));
    for (name, value) in headers {
        if is_passed(name) && !named.has(name) && *name != header::CONTENT_LENGTH {
            put_header(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        of.iter().map(pair).collect()
    }

    fn clean(headers: &mut HeaderMap, via: Option<&str>, switches: bool) {
        clean_response(headers, Kinds::among(headers), via, switches);
    }

    #[test]
    fn a_response_loses_what_concerned_our_connection() {
        let mut these = headers(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2"),
            ("etag", "2"),
        ]);
        clean(&mut these, None, false);
        assert_eq!(these, headers(&[("etag", "2")]));
        let mut these = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        clean(&mut these, Some("deck"), true);
        let expected = [("upgrade", "websocket"), ("connection", "upgrade"), ("via", "1.1 deck")];
        assert_eq!(these, headers(&expected));
    }
}
