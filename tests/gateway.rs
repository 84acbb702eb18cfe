//! The gateway as a process: real listeners, real instances, and a daemon that the test plays.
#![expect(clippy::disallowed_methods, reason = "tests")]

#[path = "support/gateway.rs"]
mod support;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opsdeck::gateway::control::{FromGateway, Limits, Route, Target};
use support::{
    Backend, Gateway, body, echo, find, header, listen, nobody, request, response, shop, status,
    target, to_end, wait_until,
};

#[test]
fn requests_and_answers_pass_through() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    assert_eq!(body(&gateway.get("/a?b=c")), "web1 GET /a?b=c HTTP/1.1 ");
    assert_eq!(body(&gateway.post("hello")), "web1 POST / HTTP/1.1 hello");
    let chunked = gateway.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    );
    assert_eq!(body(&chunked), "web1 POST / HTTP/1.1 hello!");
    let counts = gateway.daemon.instance("web1", "three answers", |it| it.answered[1] == 3);
    assert_eq!((counts.in_flight, counts.requests, counts.retried), (0, 3, 0));
    assert!(counts.bytes_in > 100 && counts.bytes_out > 100 && counts.p99_us > 0);
    assert_eq!(web1.accepted(), 1, "its connection is used again");
}

#[test]
fn a_large_body_passes_both_ways() {
    let mut gateway = Gateway::start();
    let web1 = Backend::start(|_, mut stream| {
        while let Some(request) = request(&mut stream) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&request.body).unwrap();
        }
    });
    gateway.route(vec![web1.target("web1")]);
    let text: String = (0..700_000).map(|it| char::from(b'a' + (it % 23) as u8)).collect();
    assert!(body(&gateway.post(&text)) == text);
}

#[test]
fn an_instance_out_of_rotation_finishes_and_gets_nothing_new() {
    let mut gateway = Gateway::start();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        while request(&mut stream).is_some() {
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nweb1").unwrap();
        }
    });
    let web2 = Backend::echo("web2");
    let out = Target { in_rotation: false, ..web2.target("web2") };
    gateway.route(vec![web1.target("web1"), out]);
    let mut slow = gateway.connect();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.instance("web1", "a request in flight", |it| it.in_flight == 1);

    let out = Target { in_rotation: false, ..web1.target("web1") };
    gateway.route(vec![out, web2.target("web2")]);
    for _ in 0..5 {
        assert!(body(&gateway.get("/")).starts_with("web2"));
    }
    let counts = gateway.daemon.instance("web2", "five answers", |it| it.answered[1] == 5);
    assert_eq!(counts.requests, 5);
    go.send(()).unwrap();
    assert_eq!(response(&mut slow).1, "web1");
    let drained = gateway.daemon.instance("web1", "drained", |it| it.in_flight == 0);
    assert_eq!((drained.requests, drained.answered[1], drained.in_rotation), (1, 1, false));
}

#[test]
fn an_instance_out_of_rotation_keeps_no_waiting_connection() {
    let mut gateway = Gateway::start();
    let (sender, ended) = channel();
    let sender = Mutex::new(sender);
    let web1 = Backend::start(move |_, stream| {
        echo("web1", stream);
        let _ = sender.lock().unwrap().send(());
    });
    gateway.route(vec![web1.target("web1")]);
    gateway.get("/");
    assert!(ended.try_recv().is_err(), "it waits for the next request");
    gateway.route(vec![Target { in_rotation: false, ..web1.target("web1") }]);
    // Well before it would have been closed for its age.
    ended.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn the_end_of_a_drain_is_told_at_once() {
    let mut gateway = Gateway::start();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        while request(&mut stream).is_some() {
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nweb1").unwrap();
        }
    });
    let mut best = Duration::MAX;
    // Best of three: the machine may be loaded.
    for generation in 1..=3 {
        let here = Target { generation, ..web1.target("web1") };
        gateway.route(vec![here.clone()]);
        let mut slow = gateway.connect();
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        gateway.daemon.instance("web1", "a request in flight", |it| {
            it.in_flight == 1 && it.generation == generation
        });
        gateway.route(vec![Target { in_rotation: false, ..here }]);
        go.send(()).unwrap();
        response(&mut slow);
        let answered = Instant::now();
        gateway.daemon.instance("web1", "drained", |it| it.in_flight == 0);
        best = best.min(answered.elapsed());
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn an_instance_that_left_the_routes_is_counted_until_it_is_empty() {
    let mut gateway = Gateway::start();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        while request(&mut stream).is_some() {
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    gateway.route(vec![web1.target("web1")]);
    let mut slow = gateway.connect();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.instance("web1", "a request in flight", |it| it.in_flight == 1);
    let counts = gateway.daemon.apply(shop());
    let last = find(&counts, "web1").unwrap();
    assert_eq!((last.in_flight, last.in_rotation), (1, false));
    go.send(()).unwrap();
    response(&mut slow);
    gateway.daemon.instance("web1", "empty", |it| it.in_flight == 0 && it.answered[1] == 1);
    gateway.route(vec![]);
    let counts = gateway.daemon.apply(shop());
    assert_eq!(find(&counts, "web1"), None);
}

#[test]
fn a_refused_connection_costs_no_request_and_ejects() {
    let mut gateway = Gateway::start();
    let web2 = Backend::echo("web2");
    gateway.route(vec![target("web1", nobody()), web2.target("web2")]);
    for _ in 0..6 {
        assert!(body(&gateway.post("x")).starts_with("web2"), "POSTs too");
    }
    gateway.daemon.wait(
        "an ejection",
        |it| matches!(it, FromGateway::Ejected { instance, for_ms: 100, .. } if instance == "web1"),
    );
    let failed = |it: &FromGateway| matches!(it, FromGateway::ConnectFailed { .. });
    let report = gateway.daemon.reports.iter().find(|it| failed(it)).unwrap();
    let FromGateway::ConnectFailed { instance, why, .. } = report else { unreachable!() };
    assert_eq!((&**instance, &**why), ("web1", "connection refused"));
    let counts = gateway.daemon.instance("web2", "six answers", |it| it.answered[1] == 6);
    assert_eq!(counts.cut, 0);
}

#[test]
fn a_backup_serves_only_while_no_primary_is_in_rotation() {
    let mut gateway = Gateway::start();
    let (web1, web2) = (Backend::echo("web1"), Backend::echo("web2"));
    let backup = Target { backup: true, ..web2.target("web2") };
    gateway.route(vec![web1.target("web1"), backup.clone()]);
    for _ in 0..4 {
        assert!(body(&gateway.get("/")).starts_with("web1"));
    }
    gateway.route(vec![Target { in_rotation: false, ..web1.target("web1") }, backup]);
    assert!(body(&gateway.get("/")).starts_with("web2"));
}

#[test]
fn a_request_waits_for_an_instance_and_then_for_no_longer_than_hold() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    // No routes yet.
    let mut early = gateway.connect();
    early.write_all(b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.counts("a request held", |it| it.gateways.iter().any(|it| it.held == 1));
    gateway.route(vec![web1.target("web1")]);
    assert!(response(&mut early).1.contains("/early"));

    gateway.daemon.apply(Route { hold_ms: 200, ..shop() });
    let begin = Instant::now();
    let refused = gateway.get("/");
    assert_eq!(status(&refused), "503");
    assert_eq!(header(&refused, "retry-after"), Some("1"));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(200) && waited < Duration::from_secs(5), "{waited:?}");
    let counts = gateway.daemon.counts("a 503", |it| it.gateways[0].made_503 == 1);
    assert_eq!((counts.gateways[0].held, counts.gateways[0].held_total), (0, 2));
}

#[test]
fn no_more_wait_than_may() {
    let mut gateway = Gateway::start();
    gateway.daemon.apply(Route { hold_max: 1, ..shop() });
    let mut first = gateway.connect();
    first.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.counts("a request held", |it| it.gateways[0].held == 1);
    assert_eq!(status(&gateway.get("/2")), "503");
    let web1 = Backend::echo("web1");
    gateway.daemon.apply(Route { hold_max: 1, instances: vec![web1.target("web1")], ..shop() });
    assert!(response(&mut first).1.contains("/1"));
}

#[test]
fn requests_that_waited_go_in_the_order_in_which_they_came() {
    let mut gateway = Gateway::start();
    gateway.daemon.apply(shop());
    let mut waiting = vec![];
    for n in 0..8 {
        let mut stream = gateway.connect();
        write!(stream, "GET /{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        gateway.daemon.counts("one more held", |it| it.gateways[0].held == n + 1);
        waiting.push(stream);
    }
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    // One at a time: a connection is only looked at when the one before has been answered.
    let listener = listen();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(request) = request(&mut stream) else { continue };
            log.lock().unwrap().push(request.line);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    gateway.route(vec![target("web1", address)]);
    for stream in waiting {
        assert_eq!(status(&to_end(stream)), "200");
    }
    let expected: Vec<_> = (0..8).map(|n| format!("GET /{n} HTTP/1.1")).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn requests_wait_while_the_only_instance_refuses_and_go_when_it_is_back() {
    let mut gateway = Gateway::start();
    let listener = listen();
    let address = listener.local_addr().unwrap();
    drop(listener);
    gateway.route(vec![target("web1", address)]);
    let mut waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = gateway.connect();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            stream
        })
        .collect();
    gateway.daemon.counts("five held", |it| it.gateways[0].held == 5);
    let listener = std::net::TcpListener::bind(address).unwrap();
    let _web1 = Backend::on(listener, |_, stream| echo("web1", stream));
    for stream in &mut waiting {
        assert_eq!(response(stream).1, "web1 POST / HTTP/1.1 hi");
    }
    gateway.daemon.wait("a readmission", |it| matches!(it, FromGateway::Readmitted { .. }));
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    let mut gateway = Gateway::start();
    let closed = Arc::new(AtomicUsize::new(0));
    let closes = Arc::clone(&closed);
    // Closes each connection after one answer, without saying so.
    let web1 = Backend::start(move |n, mut stream| {
        let Some(request) = request(&mut stream) else { return };
        let text = format!("{n} {}", String::from_utf8_lossy(&request.body));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        stream.write_all((head + &text).as_bytes()).unwrap();
        drop(stream);
        closes.fetch_add(1, Ordering::SeqCst);
    });
    gateway.route(vec![web1.target("web1")]);
    // `TCP_ESTABLISHED` is 1 (proc_pid_net(5), Linux' include/net/tcp_states.h).
    let remote = format!(":{:04X}", web1.address.port());
    let is_open = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut sockets = table.lines().map(|it| it.split_whitespace().collect::<Vec<_>>());
        sockets.any(|it| it[2].ends_with(&remote) && it[3] == "01")
    };
    for n in 0..20 {
        let reply = if n % 2 == 0 { gateway.post("x") } else { gateway.get("/") };
        assert_eq!(status(&reply), "200", "{reply}");
        // A POST that crosses the end of its connection could not be sent again.
        wait_until("closed", || closed.load(Ordering::SeqCst) == n + 1);
        wait_until("the end has arrived", || !is_open());
    }
    let counts = gateway.daemon.instance("web1", "twenty answers", |it| it.answered[1] == 20);
    assert_eq!(counts.cut, 0);
}

#[test]
fn an_idempotent_request_that_was_cut_goes_to_another_and_a_post_does_not() {
    let mut gateway = Gateway::start();
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        // Gone before the first byte of an answer.
    });
    let web2 = Backend::echo("web2");
    let backup = Target { backup: true, ..web2.target("web2") };
    gateway.route(vec![web1.target("web1"), backup]);
    assert!(body(&gateway.get("/a")).starts_with("web2 GET /a"));
    let put = gateway
        .ask("PUT /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nagain");
    assert_eq!(body(&put), "web2 PUT /b HTTP/1.1 again");
    assert_eq!(status(&gateway.post("once")), "502");
    let cut = gateway.daemon.wait("a cut", |it| matches!(it, FromGateway::Cut { .. }));
    let FromGateway::Cut { instance, requests, why, .. } = cut else { unreachable!() };
    assert_eq!((&*instance, requests), ("web1", 1));
    assert_eq!(why, "it closed the connection: POST was not repeated");
    let counts = gateway.daemon.instance("web1", "all counted", |it| it.cut == 1);
    assert_eq!((counts.requests, counts.retried, counts.in_flight), (3, 2, 0));
}

#[test]
fn a_request_that_breaks_whoever_takes_it_is_not_tried_for_ever() {
    let mut gateway = Gateway::start();
    let breaks = || {
        Backend::start(|_, mut stream| {
            request(&mut stream);
        })
    };
    let all: Vec<_> = (0..5).map(|_| breaks()).collect();
    gateway.route(all.iter().zip(["a", "b", "c", "d", "e"]).map(|(it, n)| it.target(n)).collect());
    assert_eq!(status(&gateway.get("/")), "502");
    assert_eq!(all.iter().map(Backend::accepted).sum::<usize>(), 3);
}

#[test]
fn an_instance_that_never_answers_is_504() {
    let mut gateway = Gateway::start();
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        // Until the gateway has had enough.
        drop(to_end(&mut stream));
    });
    let limits = Limits { reply_timeout_ms: 300, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    assert_eq!(status(&gateway.get("/")), "504");
    gateway.daemon.counts("a 504", |it| it.gateways[0].made_504 == 1);
}
