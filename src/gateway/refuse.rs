//! Requests that no instance gets to see, because they could be understood in two ways or are too much.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use super::control::Limits;
use super::kinds::Kinds;

/// What is answered instead; none if the request may pass. `kinds` are those of its headers.
pub(super) fn refusal(request: &Parts, kinds: Kinds, limits: &Limits) -> Option<StatusCode> {
    if request.method == Method::CONNECT {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    if !has_one_host(request) || !has_a_target(request) {
        return Some(StatusCode::BAD_REQUEST);
    }
    let length = request.uri.path_and_query().map_or(0, |it| it.as_str().len());
    if limits.uri_bytes > 0 && length > limits.uri_bytes {
        return Some(StatusCode::URI_TOO_LONG);
    }
    if kinds.has(Kinds::CODING) && !is_chunked(request) {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    if limits.body_bytes > 0 && kinds.has(Kinds::LENGTH) {
        let length = request.headers.get(header::CONTENT_LENGTH).and_then(number);
        if length.is_some_and(|it| it > limits.body_bytes) {
            return Some(StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
    None
}

/// The only transfer coding that we know.
fn is_chunked(request: &Parts) -> bool {
    let mut codings = request.headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(|it| it.as_bytes().trim_ascii());
    first.is_some_and(|it| it.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// RFC 9112 §3.2: exactly one, and it is one.
fn has_one_host(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes().iter().all(|it| is_of_a_host(*it)),
        (None, _) => request.version == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    }
}

fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'/' | b'@' | b'?' | b'#' | b'\\' | b'"' | b'<' | b'>' | b',')
}

/// `/path`, `http://host/path`, and `*` for OPTIONS.
fn has_a_target(request: &Parts) -> bool {
    let uri = &request.uri;
    match uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https"),
        None if uri.authority().is_some() => false,
        None => match uri.path() {
            "*" => request.method == Method::OPTIONS,
            path => path.starts_with('/'),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let limits = Limits { uri_bytes: 20, body_bytes: 100, ..Limits::default() };
        refusal(&parts, Kinds::among(&parts.headers), &limits).map(|it| it.as_u16())
    }

    const HOST: (&str, &str) = ("host", "shop:80");

    #[test]
    fn an_ordinary_request_passes() {
        assert_eq!(asked("GET", "/a?b", &[HOST]), None);
        assert_eq!(asked("OPTIONS", "*", &[HOST]), None);
        assert_eq!(asked("GET", "http://shop/a", &[HOST]), None);
        assert_eq!(asked("POST", "/", &[HOST, ("transfer-encoding", "Chunked")]), None);
    }

    #[test]
    fn exactly_one_host_is_wanted() {
        assert_eq!(asked("GET", "/", &[]), Some(400));
        assert_eq!(asked("GET", "/", &[HOST, HOST]), Some(400));
        assert_eq!(asked("GET", "/", &[("host", "a/b")]), Some(400));
        assert_eq!(asked("GET", "/", &[("host", "a b")]), Some(400));
    }

    #[test]
    fn targets_that_are_none_are_refused() {
        assert_eq!(asked("GET", "*", &[HOST]), Some(400));
        assert_eq!(asked("GET", "shop:80", &[HOST]), Some(400));
        assert_eq!(asked("GET", "ftp://shop/", &[HOST]), Some(400));
        assert_eq!(asked("CONNECT", "shop:80", &[HOST]), Some(501));
    }

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        assert_eq!(asked("POST", "/", &[HOST, ("transfer-encoding", "gzip, chunked")]), Some(501));
        let twice = [HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(asked("POST", "/", &twice), Some(501));
    }

    #[test]
    fn what_is_too_much_is_too_much() {
        assert_eq!(asked("GET", "/aaaaaaaaaaaaaaaaaaaaaaa", &[HOST]), Some(414));
        assert_eq!(asked("PUT", "/", &[HOST, ("content-length", "101")]), Some(413));
        assert_eq!(asked("PUT", "/", &[HOST, ("content-length", "100")]), None);
    }
}
