//! The gateway by its bytes: what exactly is sent to it, and what exactly comes back, on either side.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/recorded.rs"]
mod recorded;
#[path = "support/gateway.rs"]
mod support;

use std::io::Write;
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use opsdeck::gateway::control::{FromGateway, Limits};
use recorded::{OK, before, limited, next};
use support::{Backend, Gateway, body, head, header, request, response, status, to_end};

/// The status, and that the connection ended and no instance saw anything.
#[track_caller]
fn is_refused(bytes: &[u8], with: &str) {
    let (gateway, web1, received) = before(OK);
    let answer = gateway.ask(bytes);
    assert_eq!(status(&answer), with, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(received.try_recv().is_err() && web1.accepted() == 0);
}

#[test]
fn a_request_and_its_answer_byte_by_byte() {
    let (gateway, _web1, received) = before(OK);
    let mut client = gateway.connect();
    client
        .write_all(
            b"GET /p?q=%20 HTTP/1.1\r\nHOST: shop.example\r\nX-A: 1\r\nAccept:  */* \r\n\r\n",
        )
        .unwrap();
    let (head, body) = response(&mut client);
    assert_eq!(head + &body, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: now\r\n\r\nok");
    assert_eq!(
        next(&received),
        "GET /p?q=%20 HTTP/1.1\r\nhost: shop.example\r\nx-a: 1\r\naccept: */*\r\n\
         x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: shop.example\r\n\
         forwarded: for=127.0.0.1;proto=http;host=\"shop.example\"\r\n\r\n"
    );
}

#[test]
fn a_length_beside_a_transfer_coding_is_refused() {
    is_refused(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "400",
    );
    is_refused(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        "400",
    );
}

#[test]
fn an_ambiguous_request_behind_a_good_one_is_refused_and_the_good_one_answered() {
    let (gateway, _web1, received) = before(OK);
    let answer = gateway.ask(
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let all: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|it| &it[..3]).collect();
    assert_eq!(all, ["200", "400"], "{answer}");
    assert!(next(&received).starts_with("POST /1 ") && received.try_recv().is_err());
}

#[test]
fn lengths_that_differ_or_are_none_are_refused() {
    is_refused(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "400",
    );
    for bad in ["+1", "-1", "1, 2", "0x1", "1 1", "99999999999999999999", ""] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bad}\r\n\r\nx");
        is_refused(text.as_bytes(), "400");
    }
}

#[test]
fn the_same_length_twice_is_one() {
    let (gateway, _web1, received) = before(OK);
    let answer = gateway.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    );
    assert_eq!(status(&answer), "200");
    assert_eq!(next(&received).matches("content-length: 1").count(), 1);
}

#[test]
fn folded_headers_bare_cr_and_bare_lf_are_refused() {
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\n\tX: b\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\nHost: a\n\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "400");
}

#[test]
fn transfer_codings_other_than_chunked_are_refused() {
    let of = |coding: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n")
    };
    is_refused(of("gzip, chunked").as_bytes(), "501");
    is_refused(of("chunked, identity").as_bytes(), "400");
    is_refused(of("xchunked").as_bytes(), "400");
    is_refused(of("chunked\r\nTransfer-Encoding: chunked").as_bytes(), "501");
    is_refused(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400");
}

#[test]
fn hosts_and_targets_that_are_none_are_refused() {
    is_refused(b"GET / HTTP/1.1\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400");
    is_refused(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400");
    is_refused(b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "400");
    is_refused(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "501");
    is_refused(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "400");
}

#[test]
fn too_much_is_refused() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
    is_refused(long.as_bytes(), "414");
    let wide = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    is_refused(wide.as_bytes(), "431");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120));
    is_refused(many.as_bytes(), "431");
}

#[test]
fn early_hints_come_before_the_answer() {
    let web1 = Backend::start(|_, mut stream| {
        while request(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").unwrap();
            stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap();
            stream.write_all(OK).unwrap();
        }
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(
            head(&mut client).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
        );
        assert_eq!(head(&mut client).unwrap(), "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(response(&mut client).1, "ok");
    }
    let old = gateway.ask("GET / HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let web1 = Backend::start(|_, mut stream| {
        while let Some(request) = request(&mut stream) {
            let reply: &[u8] = match request.line.split(' ').nth(1) {
                Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n"
                }
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            };
            stream.write_all(reply).unwrap();
        }
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    for (line, code) in [("HEAD /", "200"), ("GET /204", "204"), ("GET /304", "304")] {
        write!(client, "{line} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = head(&mut client).unwrap();
        assert_eq!(status(&head), code);
        assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
        if code == "200" {
            assert_eq!(header(&head, "content-length"), Some("9"));
        }
    }
    assert_eq!(web1.accepted(), 1);
    gateway.daemon.instance("web1", "all three", |it| it.answered == [0, 2, 1, 0, 0]);
}

#[test]
fn a_body_where_none_may_be_is_not_taken_for_an_answer() {
    let (gateway, web1, _) =
        before(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nEvil: 1\r\n\r\n");
    for _ in 0..3 {
        let answer = gateway.get("/");
        assert_eq!((status(&answer), answer.contains("evil")), ("204", false), "{answer}");
    }
    assert_eq!(web1.accepted(), 3, "such a connection is not used again");
}

#[test]
fn answers_that_could_be_read_in_two_ways_are_502() {
    for bad in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"I am no HTTP\r\n\r\n",
    ] {
        let (gateway, _web1, _) = before(bad);
        assert_eq!(status(&gateway.get("/")), "502");
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off() {
    let mut gateway = Gateway::start();
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    });
    gateway.route(vec![web1.target("web1")]);
    let answer = gateway.get("/");
    assert_eq!(body(&answer), "half");
    let cut = gateway.daemon.wait("a cut", |it| matches!(it, FromGateway::Cut { .. }));
    let FromGateway::Cut { why, .. } = cut else { unreachable!() };
    assert_eq!(why, "it closed in the middle of its answer");

    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .unwrap();
    });
    gateway.route(vec![web1.target("web1")]);
    let answer = gateway.get("/");
    assert!(body(&answer).ends_with("4\r\nhalf\r\n"), "no last chunk: {answer}");
}

#[test]
fn a_client_that_closed_its_half_gets_its_answer() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        request(&mut stream);
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(OK).unwrap();
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    gateway.daemon.instance("web1", "it in flight", |it| it.in_flight == 1);
    go.send(()).unwrap();
    assert_eq!(body(&to_end(client)), "ok");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    let all: String = (0..40)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{n:03}"))
        .collect();
    client.write_all(all.as_bytes()).unwrap();
    for n in 0..40 {
        assert_eq!(response(&mut client).1, format!("web1 POST /{n} HTTP/1.1 {n:03}"));
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one() {
    let (gateway, _web1, received) = before(OK);
    let mut client = gateway.connect();
    for byte in
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(response(&mut client).1, "ok");
    assert!(next(&received).ends_with("\r\n\r\nabc"));
}

#[test]
fn a_connection_that_was_idle_for_long_is_as_good_as_new() {
    let limits = Limits { header_timeout_ms: 1200, ..Limits::default() };
    let (gateway, _web1, received) = limited(OK, limits);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!(response(&mut client).1, "ok");
        assert!(next(&received).ends_with("hi"));
        // Its time, to be sure that some has passed.
        let mut slow = gateway.connect();
        slow.write_all(b"GET").unwrap();
        assert_eq!(status(&to_end(slow)), "408");
    }
}
