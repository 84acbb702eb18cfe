//! The gateway by its bytes: what exactly is sent to it, and what exactly comes back, on either side.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/gateway.rs"]
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use opsdeck::gateway::control::{FromGateway, Limits, Route};
use support::{
    Backend, Gateway, PATIENCE, body, head, header, request, response, shop, status, to_end,
};

/// A gateway before one instance that answers everything with `reply`, and what that instance received.
fn before(reply: &'static [u8]) -> (Gateway, Backend, Receiver<String>) {
    limited(reply, Limits::default())
}

fn limited(reply: &'static [u8], limits: Limits) -> (Gateway, Backend, Receiver<String>) {
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let web1 = Backend::start(move |_, mut stream| {
        while let Some(request) = request(&mut stream) {
            let text = request.head.clone() + &String::from_utf8_lossy(&request.body);
            drop(sender.lock().unwrap().send(text));
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    });
    let mut gateway = Gateway::start();
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    (gateway, web1, received)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\n\r\nok";

#[track_caller]
fn next(received: &Receiver<String>) -> String {
    received.recv_timeout(PATIENCE).unwrap()
}

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
fn a_body_that_is_too_long_is_refused_by_its_length_or_when_it_is() {
    let limits = || Limits { body_bytes: 10, ..Limits::default() };
    let (gateway, web1, _) = limited(OK, limits());
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901");
    assert_eq!((status(&answer), header(&answer, "connection")), ("413", Some("close")));
    assert_eq!(web1.accepted(), 0);
    let answer = gateway.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
    );
    assert_eq!(status(&answer), "413");
}

#[test]
fn chunks_that_are_none_break_the_request_off() {
    for bad in
        ["g\r\nx\r\n", "\r\nx\r\n", "-1\r\nx\r\n", "11111111111111111\r\nx", "1\r\nxx\r\n0\r\n\r\n"]
    {
        let (gateway, _web1, received) = before(OK);
        let answer = gateway
            .ask(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bad}"));
        assert_eq!(status(&answer), "400", "{bad:?}: {answer}");
        assert!(received.try_recv().is_err(), "{bad:?}");
    }
}

#[test]
fn chunk_extensions_are_not_passed_on_and_only_so_long() {
    let (gateway, _web1, received) = before(OK);
    let of = |extension: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             1;{extension}\r\nx\r\n0\r\n\r\n"
        )
    };
    assert_eq!(status(&gateway.ask(of("a=b"))), "200");
    let seen = next(&received);
    assert!(seen.ends_with("\r\n\r\nx") && seen.contains("transfer-encoding: chunked"), "{seen}");
    assert_eq!(status(&gateway.ask(of(&"y".repeat(20_000)))), "400");
}

#[test]
fn trailers_pass_both_ways_where_they_are_wanted() {
    let web1 = Backend::start(|_, mut stream| {
        let head = head(&mut stream).unwrap();
        let mut rest = vec![];
        let mut byte = [0];
        while !rest.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
        assert_eq!(header(&head, "te"), Some("trailers"));
        let rest = String::from_utf8(rest).unwrap();
        let reply = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let length = rest.len();
        write!(stream, "{reply}{length:x}\r\n{rest}\r\n0\r\nX-Sum: 9\r\nX-Other: 1\r\n\r\n")
            .unwrap();
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let answer = gateway.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, close\r\nTrailer: x-a\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-A: 7\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(body(&answer).contains("2\r\nhi\r\n0\r\nx-a: 7\r\n\r\n"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 9\r\n\r\n"), "{answer}");
}

#[test]
fn the_body_of_one_who_expects_100_is_asked_for_when_the_instance_asks() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        let head = head(&mut stream).unwrap();
        assert_eq!(header(&head, "expect"), Some("100-continue"));
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    go.send(()).unwrap();
    assert_eq!(head(&mut client).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    assert_eq!(response(&mut client).1, "hello");
}

#[test]
fn a_final_answer_comes_instead_of_100_if_the_instance_wants_no_body() {
    let web1 = Backend::start(|_, mut stream| {
        head(&mut stream).unwrap();
        stream
            .write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
            .unwrap();
        drop(to_end(&mut stream));
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let answer = gateway
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!((status(&answer), body(&answer)), ("417", "no"));
}

#[test]
fn an_instance_that_does_not_know_100_gets_the_body_after_a_second() {
    let (gateway, _web1, received) = before(OK);
    let mut client = gateway.connect();
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    assert_eq!(head(&mut client).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    assert_eq!(response(&mut client).1, "ok");
    assert!(next(&received).ends_with("hello"));
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
fn an_upload_that_breaks_off_is_no_whole_one_for_the_instance() {
    let (sender, ended) = channel();
    let sender = Mutex::new(sender);
    let web1 = Backend::start(move |_, mut stream| {
        head(&mut stream).unwrap();
        let mut five = [0; 5];
        stream.read_exact(&mut five).unwrap();
        drop(sender.lock().unwrap().send(to_end(&mut stream)));
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").unwrap();
    gateway.daemon.instance("web1", "it in flight", |it| it.in_flight == 1 && it.bytes_in > 0);
    drop(client);
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), "");
    let counts = gateway.daemon.instance("web1", "it gone", |it| it.in_flight == 0);
    assert_eq!((counts.abandoned, counts.cut), (1, 0));
}

#[test]
fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let web1 = Backend::start(|_, mut stream| {
        head(&mut stream).unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
            .unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        drop(to_end(&mut stream));
    });
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n").unwrap();
    let mut sender = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let block = [b'x'; 10_000];
        // Until somebody has had enough, and never all of it.
        for _ in 0..299 {
            if sender.write_all(&block).is_err() {
                return;
            }
        }
    });
    let answer = to_end(client);
    assert_eq!((status(&answer), body(&answer)), ("413", "no"));
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
