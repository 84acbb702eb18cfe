//! The gateway and its daemons: who takes over what, and what is known of one that has ended.

#[path = "support/gateway.rs"]
mod support;

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use opsdeck::gateway::control::{FromGateway, Route, Target, ToGateway, VERSION};
use support::{
    Backend, Daemon, Gateway, body, connect, find, header, listen, request, response, shop, status,
    to_end, wait_until,
};

#[test]
fn the_next_daemon_takes_everything_over() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    gateway.get("/");
    let next = Daemon::connect(&gateway.socket());
    let mut last = std::mem::replace(&mut gateway.daemon, next);
    while last.next().is_some() {}
    let welcome = gateway.daemon.wait("a welcome", |it| matches!(it, FromGateway::Welcome { .. }));
    let FromGateway::Welcome { pid, routes, listeners, version, retiring, .. } = welcome else {
        unreachable!()
    };
    assert_eq!((pid, version, retiring), (gateway.child.id(), VERSION, false));
    assert_eq!(routes.unwrap().gateways[0].instances, [web1.target("web1")]);
    assert_eq!(listeners, ["shop"]);
    let copy: std::net::TcpListener = gateway.daemon.descriptors.pop_front().unwrap().into();
    assert_eq!(copy.local_addr().unwrap(), gateway.address());
    let counts = gateway.daemon.counts("counts", |_| true);
    assert_eq!(find(&counts, "web1").unwrap().answered[1], 1);
    gateway.daemon.send(&ToGateway::Ping);
    gateway.daemon.wait("an answer", |it| *it == FromGateway::Pong);
    assert!(body(&gateway.get("/")).starts_with("web1"), "it goes on");
}

#[test]
fn it_goes_on_without_a_daemon() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    let nobody = Daemon::silent(&gateway.socket());
    drop(std::mem::replace(&mut gateway.daemon, nobody));
    for _ in 0..5 {
        assert!(body(&gateway.get("/")).starts_with("web1"));
    }
}

#[test]
fn listeners_come_and_go_with_the_configuration() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    let more = listen();
    let address = more.local_addr().unwrap();
    gateway.daemon.send_with(&ToGateway::Listeners { names: vec!["api".into()] }, &[&more]);
    let api = Route { name: "api".into(), instances: vec![web1.target("web1")], ..shop() };
    gateway.daemon.apply_all(vec![shop(), api]);
    let mut stream = connect(address);
    stream.write_all(b"GET /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(body(&to_end(stream)).contains("/api"));
    drop(more);
    gateway.daemon.apply_all(vec![shop()]);
    wait_until("refused", || std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_gateway_that_is_renamed_keeps_its_connections_and_counts() {
    let mut gateway = Gateway::start();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        while let Some(request) = request(&mut stream) {
            if request.line.contains("slow") {
                wait.lock().unwrap().recv().unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nweb1").unwrap();
        }
    });
    gateway.route(vec![web1.target("web1")]);
    let (mut slow, mut kept) = (gateway.connect(), gateway.connect());
    kept.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    response(&mut kept);
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.instance("web1", "one in flight", |it| it.in_flight == 1);

    let order = ToGateway::Listeners { names: vec!["door".into()] };
    let socket = gateway.listeners[0].1.try_clone().unwrap();
    gateway.daemon.send_with(&order, &[&socket]);
    let door = Route { name: "door".into(), instances: vec![web1.target("web1")], ..shop() };
    let counts = gateway.daemon.apply_all(vec![door]);
    let names: Vec<_> = counts.gateways.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((names, counts.gateways[0].connections), (vec!["door"], 2));
    assert_eq!(find(&counts, "web1").map(|it| (it.requests, it.in_flight)), Some((2, 1)));

    kept.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(status(&response(&mut kept).0), "200");
    assert!(gateway.get("/new").ends_with("web1"));
    go.send(()).unwrap();
    assert_eq!(status(&response(&mut slow).0), "200");
    let welcome = Daemon::connect(&gateway.socket())
        .wait("its word", |it| matches!(it, FromGateway::Welcome { .. }));
    let FromGateway::Welcome { listeners, .. } = welcome else { unreachable!() };
    assert_eq!(listeners, ["door"]);
}

#[test]
fn a_gateway_that_retires_answers_what_it_has_and_ends() {
    let mut gateway = Gateway::start();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let web1 = Backend::start(move |_, mut stream| {
        while let Some(request) = request(&mut stream) {
            if request.line.contains("slow") {
                wait.lock().unwrap().recv().unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nweb1").unwrap();
        }
    });
    gateway.route(vec![web1.target("web1")]);
    let (mut slow, mut idle, mut busy) = (gateway.connect(), gateway.connect(), gateway.connect());
    for stream in [&mut idle, &mut busy] {
        stream.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(header(&response(stream).0, "connection"), None);
    }
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gateway.daemon.instance("web1", "one in flight", |it| it.in_flight == 1);
    gateway.daemon.send(&ToGateway::Retire { linger_ms: 1500 });
    // A client that is quick enough is still answered, and told to go.
    busy.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let rest = to_end(busy);
    assert_eq!((status(&rest), header(&rest, "connection")), ("200", Some("close")));
    assert_eq!(to_end(idle), "", "closed when its time was over");
    go.send(()).unwrap();
    let rest = to_end(slow);
    assert_eq!((status(&rest), header(&rest, "connection")), ("200", Some("close")));
    assert_eq!(gateway.wait_end(), Some(0));
}

#[test]
fn the_last_counts_are_told_before_it_ends() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    let mut kept = gateway.connect();
    kept.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    response(&mut kept);
    gateway.daemon.send(&ToGateway::Retire { linger_ms: 20_000 });
    gateway.daemon.send(&ToGateway::Hello { version: 1 });
    gateway.daemon.wait("its word", |it| matches!(it, FromGateway::Welcome { retiring: true, .. }));
    kept.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(header(&response(&mut kept).0, "connection"), Some("close"));
    // Nobody reads until it has ended.
    assert_eq!(gateway.wait_end(), Some(0));
    while gateway.daemon.next().is_some() {}
    let counts = gateway.daemon.reports.iter().rev().find_map(|it| match it {
        FromGateway::Counts(counts) => Some(counts),
        _ => None,
    });
    let last = find(counts.unwrap(), "web1").unwrap();
    assert_eq!((last.requests, last.answered[1], last.in_flight), (2, 2, 0));
    assert_eq!(counts.unwrap().gateways[0].connections, 0);
}

#[test]
fn what_was_in_flight_when_it_was_killed_is_known() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 * 16).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let mut gateway = Gateway::with(&["shop"], &["--shared-fd".into(), number.to_string()]);
    let web1 = Backend::start(|_, mut stream| {
        request(&mut stream);
        drop(to_end(&mut stream));
    });
    gateway.route(vec![web1.target("web1")]);
    let _clients: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = gateway.connect();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
            stream
        })
        .collect();
    gateway.daemon.instance("web1", "three in flight", |it| it.in_flight == 3);
    gateway.child.kill().unwrap();
    support::ended(&mut gateway.child);
    let slots = opsdeck::gateway::shared::read(&file).unwrap();
    let seen: Vec<_> =
        slots.iter().map(|it| (&*it.instance, it.generation, it.in_flight)).collect();
    assert_eq!(seen, [("web1", 1, 3)]);
}

#[test]
fn new_connections_wait_for_the_next_gateway_when_one_is_killed() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    gateway.child.kill().unwrap();
    support::ended(&mut gateway.child);
    let mut waiting = gateway.connect();
    waiting.write_all(b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    gateway.child = support::spawn(&gateway.control, &gateway.listeners, &[]);
    gateway.daemon = Daemon::connect(&gateway.socket());
    gateway.route(vec![web1.target("web1")]);
    assert!(body(&to_end(waiting)).contains("/w"));
}

#[test]
fn nonsense_on_the_control_socket_is_told_and_changes_nothing() {
    let mut gateway = Gateway::start();
    let web1 = Backend::echo("web1");
    gateway.route(vec![web1.target("web1")]);
    gateway.daemon.send_raw(b"{\"type\":\"routes\",\"gateways\":7}\n\xff\n{\"type\":\"sing\"}\n");
    for part in ["could not be read", "could not be read", "unknown type"] {
        gateway.daemon.wait(
            part,
            |it| matches!(it, FromGateway::Notice { message } if message.contains(part)),
        );
    }
    assert!(body(&gateway.get("/")).starts_with("web1"));
    gateway.route(vec![Target { address: "web1".into(), ..web1.target("web1") }]);
    let told = gateway.daemon.reports.iter().any(
        |it| matches!(it, FromGateway::Notice { message } if message.contains("`web1` is no address")),
    );
    assert!(told, "before the counts of these routes");
}
