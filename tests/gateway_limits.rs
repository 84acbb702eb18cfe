//! The gateway at its limits: more clients than descriptors, clients that say or read nothing, instances that never
//! answer. Everybody else is served.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "tests")]

#[path = "support/skip.rs"]
mod skip;
#[path = "support/gateway.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use opsdeck::gateway::control::{FromGateway, Limits, Route, Target};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use skip::skip;
use support::{Backend, Gateway, body, find, request, response, shop, status, to_end, wait_until};

/// A client whose connection waits for its next request.
fn kept(gateway: &Gateway) -> TcpStream {
    let mut stream = gateway.connect();
    ask(&mut stream, "/");
    stream
}

#[track_caller]
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    response(stream).1
}

/// Ended by the other side, looked at without waiting.
fn is_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let end = matches!((&mut &*stream).read(&mut [0; 16]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    end
}

fn notices(gateway: &Gateway) -> Vec<&str> {
    fn text(report: &FromGateway) -> Option<&str> {
        if let FromGateway::Notice { message } = report { Some(message) } else { None }
    }
    gateway.daemon.reports.iter().filter_map(text).collect()
}

#[test]
fn at_the_limit_of_descriptors_the_longest_idle_make_room() {
    // Fifteen clients, and fifteen connections to instances.
    let mut gateway = Gateway::limited(64);
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    let mut crowd: Vec<_> = (0..40).map(|_| kept(&gateway)).collect();
    assert!(body(&gateway.get("/new")).contains("/new"));
    wait_until("the first are closed", || is_ended(&crowd[0]) && is_ended(&crowd[1]));
    let last = crowd.last_mut().unwrap();
    assert!(ask(last, "/last").contains("/last"), "the last one is not");
    let counts = gateway.daemon.counts("all answered", |it| {
        find(it, "web1").is_some_and(|it| it.answered[1] == 42 && it.in_flight == 0)
    });
    assert!(counts.gateways[0].connections <= 15, "{counts:?}");
    assert_eq!(find(&counts, "web1").unwrap().connect_failed, 0);
    let told = notices(&gateway);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("15 connections are all that 64 descriptors allow"), "{told:?}");
}

#[test]
fn who_finds_no_room_waits_until_somebody_goes() {
    let mut gateway = Gateway::limited(64);
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        request(&mut stream);
        let _ = wait.lock().unwrap().recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    gateway.route(vec![web1.target("web1")]);
    let busy: Vec<_> = (0..15)
        .map(|_| {
            let mut stream = gateway.connect();
            stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    gateway.daemon.instance("web1", "all places taken", |it| it.in_flight == 15);
    let web2 = Backend::echo("web2");
    gateway.route(vec![web2.target("web2")]);
    let mut waiting = gateway.connect();
    waiting.write_all(b"GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    // Whoever it answers is idle then, and makes room.
    go.send(()).unwrap();
    assert!(body(&to_end(waiting)).contains("/later"));
    assert_eq!(notices(&gateway).len(), 1);
    drop(busy);
}

#[test]
fn what_the_kernel_refuses_is_tried_again_and_no_instance_is_blamed() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    let mut idle = kept(&gateway);
    let pid = Pid::from_raw(gateway.child.id() as i32);
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    // Its instance's connection is there; a client that comes now finds no descriptor.
    let mut late = gateway.connect();
    late.write_all(b"GET /late HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    gateway.daemon.wait(
        "why",
        |it| matches!(it, FromGateway::Notice { message } if message.contains("no connection can be taken")),
    );
    // The idle one was closed for it; that the limit is what it is nobody can change but us.
    let mut nothing = vec![];
    assert_eq!(idle.read_to_end(&mut nothing).unwrap(), 0);
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert!(body(&to_end(late)).contains("/late"));
    let counts = gateway.daemon.instance("web1", "two answered", |it| it.answered[1] == 2);
    assert_eq!((counts.connect_failed, counts.ejected), (0, false));
}

#[test]
fn an_instance_that_accepts_and_never_answers_holds_only_its_own() {
    let mut gateway = Gateway::start();
    let silent = Backend::start(|_, mut stream| {
        request(&mut stream);
        drop(to_end(&mut stream));
    });
    let web2 = Backend::echo("web2");
    gateway.route(vec![silent.target("web1")]);
    let stuck: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = gateway.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    gateway.daemon.instance("web1", "three that wait", |it| it.in_flight == 3);
    gateway.route(vec![silent.target("web1"), web2.target("web2")]);
    for _ in 0..20 {
        assert!(
            body(&gateway.get("/")).starts_with("web2"),
            "who has nothing to do is asked first"
        );
    }
    let out = Target { in_rotation: false, ..silent.target("web1") };
    gateway.route(vec![out, web2.target("web2")]);
    assert!(body(&gateway.get("/")).starts_with("web2"));
    let limits = Limits { reply_timeout_ms: 300, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![silent.target("web1")], ..shop() });
    assert_eq!(status(&gateway.get("/")), "504", "and a limit ends it");
    drop(stuck);
}

#[test]
fn a_head_that_trickles_has_its_time_and_no_more() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    let limits = Limits { header_timeout_ms: 1_000, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let mut slow = gateway.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    slow.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let mut answer = vec![];
    // A byte now and then is no progress.
    wait_until("told to go", || {
        let _ = slow.write_all(b"x");
        let mut block = [0; 512];
        if let Ok(count) = slow.read(&mut block) {
            answer.extend_from_slice(&block[..count]);
        }
        answer.starts_with(b"HTTP/1.1 408 ")
    });
    assert!(body(&gateway.get("/")).starts_with("web1"));
}

#[test]
fn a_heavier_instance_has_more_in_flight() {
    let mut gateway = Gateway::start();
    let silent = || {
        Backend::start(|_, mut stream| {
            request(&mut stream);
            drop(to_end(&mut stream));
        })
    };
    let (web1, web2) = (silent(), silent());
    gateway.route(vec![Target { weight: 3, ..web1.target("web1") }, web2.target("web2")]);
    let mut clients = vec![];
    for _ in 0..8 {
        let mut stream = gateway.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        clients.push(stream);
    }
    let in_flight =
        |counts: &_| ["web1", "web2"].map(|it| find(counts, it).map_or(0, |it| it.in_flight));
    let counts =
        gateway.daemon.counts("eight in flight", |it| in_flight(it).iter().sum::<u64>() == 8);
    assert_eq!(in_flight(&counts), [6, 2]);
}

#[test]
fn clients_that_are_slow_are_told_to_go() {
    let limits = Limits {
        header_timeout_ms: 1_500,
        body_timeout_ms: 1_500,
        idle_timeout_ms: 1_500,
        ..Limits::default()
    };
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let mut idle = gateway.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(response(&mut idle).1.starts_with("web1"));
    let mut slow_head = gateway.connect();
    slow_head.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let mut slow_body = gateway.connect();
    slow_body.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").unwrap();
    assert_eq!(status(&to_end(slow_head)), "408");
    assert_eq!(status(&to_end(slow_body)), "408");
    assert_eq!(to_end(idle), "");
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_holds_the_instance_back() {
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let block = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        while stream.write_all(&block).is_ok() {}
    });
    let mut gateway = Gateway::start();
    let limits = Limits { write_timeout_ms: 700, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let mut client = gateway.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let counts =
        gateway.daemon.instance("web1", "it gone", |it| it.requests == 1 && it.in_flight == 0);
    assert_eq!(counts.abandoned, 1);
    assert!(counts.bytes_out < 32 * 1024 * 1024, "{}", counts.bytes_out);
}

#[test]
fn a_client_that_does_not_read_interim_responses_is_dropped() {
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        let hint = "x".repeat(2000);
        let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {hint}\r\n\r\n");
        while stream.write_all(interim.as_bytes()).is_ok() {}
    });
    let mut gateway = Gateway::start();
    let limits = Limits { write_timeout_ms: 700, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let mut client = gateway.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let counts =
        gateway.daemon.instance("web1", "it gone", |it| it.requests == 1 && it.in_flight == 0);
    assert_eq!((counts.abandoned, counts.cut), (1, 0));
}

#[test]
fn idle_and_slow_clients_leave_room_for_others() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    let limits = Limits { connections: 50, header_timeout_ms: 500, ..Limits::default() };
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    let crowd: Vec<_> = (0..120)
        .map(|n| {
            let mut stream = gateway.connect();
            if n % 2 == 0 {
                // A slow loris.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
            }
            stream
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(status(&gateway.get("/")), "200");
    }
    let counts = gateway.daemon.counts("five answered", |it| {
        it.gateways[0].instances.iter().any(|it| it.answered[1] == 5)
    });
    assert!(counts.gateways[0].connections <= 50, "{counts:?}");
    drop(crowd);
}

/// The memory that a process has filled, in bytes. What it maps from files is shared with whoever else runs.
fn memory(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix("Pss_Anon:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// `OPSDECK_TEST_IDLE=10000` for a crowd of another size.
#[test]
fn a_crowd_of_idle_connections_costs_little_and_the_others_are_served() {
    let count = std::env::var("OPSDECK_TEST_IDLE").map_or(300, |it| it.parse().unwrap());
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    if most.is_some_and(|most| most < 2 * count + 200) {
        return skip(&format!("descriptors for {count} connections"));
    }
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    drop((0..20).map(|_| kept(&gateway)).collect::<Vec<_>>());
    gateway.daemon.counts("none open", |it| it.gateways[0].connections == 0);
    let before = memory(gateway.child.id());
    let mut crowd: Vec<_> = (0..count).map(|_| kept(&gateway)).collect();
    gateway.daemon.counts("all open", |it| it.gateways[0].connections == count);
    let after = memory(gateway.child.id());
    for _ in 0..20 {
        assert!(body(&gateway.get("/")).starts_with("web1"));
    }
    assert!(ask(&mut crowd[0], "/again").contains("/again"), "and so are they");
    let (Some(before), Some(after)) = (before, after) else {
        return skip("a kernel that tells what memory a process has filled");
    };
    let each = after.saturating_sub(before) / count;
    eprintln!("{each} bytes for each of {count} idle connections");
    assert!(each < 8 * 1024, "{each} bytes each");
}
