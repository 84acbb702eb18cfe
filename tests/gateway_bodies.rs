//! Bodies by their bytes: lengths, chunks, trailers, what is asked for and what breaks off.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/recorded.rs"]
mod recorded;
#[path = "support/gateway.rs"]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use opsdeck::gateway::control::{Limits, Route};
use recorded::{OK, before, limited, next};
use support::{
    Backend, Gateway, PATIENCE, body, echo, head, header, response, shop, status, to_end,
};

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

/// More than all buffers between an instance and a client that does not read.
const MUCH: usize = 64 << 20;

/// Sends an answer of so many bytes, and says when nobody takes it.
fn answer_at_length(stream: &mut TcpStream, stuck: &Mutex<Sender<()>>) {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n").unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = [b'x'; 65_536];
    let mut left = MUCH;
    while left > 0 {
        match stream.write(&block[..left.min(block.len())]) {
            Ok(count) => left -= count,
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                let _ = stuck.lock().unwrap().send(());
            }
            Err(_) => return,
        }
    }
}

#[test]
fn an_upload_that_breaks_off_while_its_answer_is_stuck_is_no_whole_one_either() {
    for (framing, piece, end) in [
        ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n", "zz\r\n"),
        ("Content-Length: 1000", "0123456789", ""),
    ] {
        let (sender, ended) = channel();
        let sender = Mutex::new(sender);
        let (stuck, is_stuck) = channel();
        let stuck = Mutex::new(stuck);
        let web1 = Backend::start(move |number, mut stream| {
            if number > 0 {
                return echo("web1", stream);
            }
            head(&mut stream).unwrap();
            answer_at_length(&mut stream, &stuck);
            drop(sender.lock().unwrap().send(to_end(&mut stream)));
        });
        let mut gateway = Gateway::start();
        gateway.route(vec![web1.target("web1")]);
        let mut client = gateway.connect();
        write!(client, "POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{piece}").unwrap();
        is_stuck.recv_timeout(PATIENCE).unwrap();
        client.write_all(end.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // Who is answered after it was sent is answered after it was seen.
        for _ in 0..5 {
            assert!(gateway.get("/").contains("web1"));
        }
        assert_eq!(body(&to_end(client)).len(), MUCH, "{framing}");
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), piece, "{framing}");
    }
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

/// An instance that begins to answer before it has the body, and says no more.
fn hasty() -> Backend {
    Backend::start(|_, mut stream| {
        head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nso ").unwrap();
        drop(to_end(&mut stream));
    })
}

/// Sends the head and returns how the answer begins, and the connection.
fn hastily_answered(gateway: &Gateway, more: &str) -> TcpStream {
    let mut client = gateway.connect();
    write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n{more}").unwrap();
    assert!(head(&mut client).unwrap().starts_with("HTTP/1.1 200 "));
    let mut words = [0; 3];
    client.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"so ");
    client
}

#[test]
fn a_client_that_stops_in_the_middle_of_an_upload_that_was_answered_has_its_time() {
    let web1 = hasty();
    let mut gateway = Gateway::start();
    let limits = Limits { body_timeout_ms: 2_500, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let client = hastily_answered(&gateway, "\r\nhalf");
    assert_eq!(to_end(client), "");
    let counts = gateway.daemon.instance("web1", "it gone", |it| it.abandoned == 1);
    assert_eq!((counts.in_flight, counts.cut), (0, 0), "which is not the instance's fault");
}

#[test]
fn an_instance_that_stops_in_the_middle_of_its_answer_has_its_time() {
    let web1 = hasty();
    let mut gateway = Gateway::start();
    let limits = Limits { reply_timeout_ms: 1_500, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    // Of one the whole request is there, of the other it was not asked for the body.
    let whole = hastily_answered(&gateway, "\r\n123456789");
    let unasked = hastily_answered(&gateway, "Expect: 100-continue\r\n\r\n");
    assert_eq!((to_end(whole), to_end(unasked)), (String::new(), String::new()));
    let counts = gateway.daemon.instance("web1", "both gone", |it| it.cut == 2);
    assert_eq!((counts.in_flight, counts.abandoned), (0, 0));
}
