//! Upgraded connections: carried byte by byte, counted, and told to end when their instance leaves.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

#[path = "support/gateway.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use opsdeck::gateway::control::{FromGateway, Route, Target};
use support::{Backend, Gateway, PATIENCE, head, header, response, shop, status, to_end};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\n\r\nok";

/// An instance that speaks a protocol of its own after an upgrade: it says what it hears in capitals.
fn shouting() -> Backend {
    Backend::start(|_, mut stream| {
        let head = head(&mut stream).unwrap();
        if header(&head, "upgrade") != Some("shout") {
            stream.write_all(OK).unwrap();
            return;
        }
        assert_eq!(header(&head, "connection"), Some("upgrade"));
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\nHI ")
            .unwrap();
        let mut block = [0; 100];
        while let Ok(count) = stream.read(&mut block) {
            if count == 0 || stream.write_all(&block[..count].to_ascii_uppercase()).is_err() {
                return;
            }
        }
    })
}

fn upgraded(gateway: &Gateway) -> TcpStream {
    let mut client = gateway.connect();
    // With the first words of the new protocol in the same piece.
    client
        .write_all(
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhello",
        )
        .unwrap();
    let head = head(&mut client).unwrap();
    assert_eq!(status(&head), "101");
    assert_eq!(
        (header(&head, "upgrade"), header(&head, "connection")),
        (Some("shout"), Some("upgrade"))
    );
    let mut words = [0; 8];
    client.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"HI HELLO");
    client
}

#[test]
fn an_upgraded_connection_is_carried_and_counted() {
    let web1 = shouting();
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = upgraded(&gateway);
    client.write_all(b"more").unwrap();
    let mut words = [0; 4];
    client.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"MORE");
    let counts = gateway.daemon.instance("web1", "a tunnel", |it| it.tunnels == 1);
    assert_eq!((counts.in_flight, counts.oldest_ms), (1, None));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(to_end(client), "");
    let counts = gateway.daemon.instance("web1", "no tunnel", |it| it.tunnels == 0);
    assert_eq!((counts.in_flight, counts.answered[0]), (0, 1));
}

#[test]
fn a_drain_ends_upgraded_connections_when_their_time_is_over() {
    let web1 = shouting();
    let mut gateway = Gateway::start();
    let route = |in_rotation| {
        let instances = vec![Target { in_rotation, ..web1.target("web1") }];
        Route { upgrade_wait_ms: 600, instances, ..shop() }
    };
    gateway.daemon.apply(route(true));
    let client = upgraded(&gateway);
    gateway.daemon.instance("web1", "a tunnel", |it| it.tunnels == 1);
    let begin = Instant::now();
    gateway.daemon.apply(route(false));
    assert_eq!(to_end(client), "");
    assert!(begin.elapsed() >= Duration::from_millis(600));
    gateway
        .daemon
        .wait("a cut", |it| matches!(it, FromGateway::Cut { requests: 0, tunnels: 1, .. }));
    gateway.daemon.instance("web1", "drained", |it| it.in_flight == 0);
}

#[test]
fn an_upgrade_that_is_none_or_that_nobody_takes_is_an_ordinary_request() {
    let web1 = shouting();
    let mut gateway = Gateway::start();
    gateway.route(vec![web1.target("web1")]);
    let mut client = gateway.connect();
    for upgrade in ["websocket", "h2c", "h2c, shout"] {
        write!(
            client,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        )
        .unwrap();
        assert_eq!(response(&mut client).1, "ok");
    }
}

/// `hello` as a client says it: masked, here with zeros (RFC 6455 §5.3).
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";
const CLOSE_1001: [u8; 4] = [0x88, 2, 3, 0xe9];

/// What an instance hears and says on a WebSocket, at the test's pace.
struct Instance {
    backend: Backend,
    say: Sender<Vec<u8>>,
    heard: Receiver<Vec<u8>>,
}

impl Instance {
    fn start() -> Self {
        let (say, says) = channel::<Vec<u8>>();
        let (hears, heard) = channel();
        let ends = Mutex::new(Some((says, hears)));
        let backend = Backend::start(move |_, mut stream| {
            let head = head(&mut stream).unwrap();
            assert_eq!(header(&head, "upgrade"), Some("websocket"));
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n")
                .unwrap();
            let (says, hears) = ends.lock().unwrap().take().unwrap();
            let mut mouth = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                for words in says {
                    if words.is_empty() || mouth.write_all(&words).is_err() {
                        break;
                    }
                }
                let _ = mouth.shutdown(Shutdown::Write);
            });
            let mut block = [0; 4096];
            loop {
                // An empty piece is the end.
                let count = stream.read(&mut block).unwrap_or(0);
                let _ = hears.send(block[..count].to_vec());
                if count == 0 {
                    return;
                }
            }
        });
        Self { backend, say, heard }
    }

    fn say(&self, words: &[u8]) {
        self.say.send(words.to_vec()).unwrap();
    }

    /// The next bytes, as many as these, are these.
    #[track_caller]
    fn hears(&self, words: &[u8]) {
        assert_eq!(self.take(words.len()), words);
    }

    #[track_caller]
    fn take(&self, count: usize) -> Vec<u8> {
        let mut all = vec![];
        while all.len() < count {
            let piece = self.heard.recv_timeout(PATIENCE).unwrap();
            assert!(!piece.is_empty(), "it ended after {all:?}");
            all.extend(piece);
        }
        all
    }

    #[track_caller]
    fn hears_the_end(&self) {
        assert_eq!(self.heard.recv_timeout(PATIENCE).unwrap(), [0; 0]);
    }
}

/// A WebSocket through a gateway to an instance, whose drain ends it after a moment.
struct Socket {
    gateway: Gateway,
    instance: Instance,
    client: TcpStream,
}

impl Socket {
    fn open() -> Self {
        let (mut gateway, instance) = (Gateway::start(), Instance::start());
        gateway.daemon.apply(route(&instance, true));
        let mut client = gateway.connect();
        client
            .write_all(
                b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .unwrap();
        assert_eq!(status(&head(&mut client).unwrap()), "101");
        client.write_all(HELLO).unwrap();
        instance.hears(HELLO);
        Self { gateway, instance, client }
    }

    fn drain(&mut self) {
        self.gateway.daemon.apply(route(&self.instance, false));
    }

    #[track_caller]
    fn client_hears(&mut self, words: &[u8]) {
        let mut heard = vec![0; words.len()];
        self.client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, words);
    }

    #[track_caller]
    fn is_cut(&mut self) {
        self.gateway
            .daemon
            .wait("a cut", |it| matches!(it, FromGateway::Cut { requests: 0, tunnels: 1, .. }));
        self.gateway.daemon.instance("web1", "drained", |it| it.in_flight == 0 && it.tunnels == 0);
    }
}

fn route(instance: &Instance, in_rotation: bool) -> Route {
    let instances = vec![Target { in_rotation, ..instance.backend.target("web1") }];
    Route { upgrade_wait_ms: 300, instances, ..shop() }
}

#[test]
fn the_end_of_a_drain_is_told_to_both_sides_of_a_websocket() {
    let mut socket = Socket::open();
    socket.instance.say(b"\x81\x02hi");
    socket.client_hears(b"\x81\x02hi");
    socket.drain();
    socket.client_hears(&CLOSE_1001);
    let close = socket.instance.take(8);
    let [first, length, a, b, c, d, high, low] = close[..] else { panic!("{close:?}") };
    assert_eq!([first, length, high ^ a, low ^ b], [0x88, 0x82, 3, 0xe9], "{c} {d}");
    // Both answer as they should, and nothing follows.
    socket.client.write_all(b"\x88\x82\0\0\0\0\x03\xe9").unwrap();
    socket.instance.say(&CLOSE_1001);
    assert_eq!(to_end(&socket.client), "");
    socket.instance.hears_the_end();
    socket.is_cut();
}

#[test]
fn nothing_is_put_into_the_middle_of_a_frame() {
    let mut socket = Socket::open();
    // The client is in the middle of a frame, the instance is not.
    socket.client.write_all(&HELLO[..8]).unwrap();
    socket.instance.hears(&HELLO[..8]);
    socket.drain();
    socket.client_hears(&CLOSE_1001);
    socket.instance.hears_the_end();
    socket.client.write_all(b"llo\x88\x82\0\0\0\0\x03\xe9").unwrap();
    socket.instance.say(&CLOSE_1001);
    assert_eq!(to_end(&socket.client), "");
    socket.is_cut();

    let mut socket = Socket::open();
    // And the other way round.
    socket.instance.say(b"\x81\x05he");
    socket.client_hears(b"\x81\x05he");
    socket.drain();
    assert_eq!(to_end(&socket.client), "");
    assert_eq!(socket.instance.take(8)[..2], [0x88, 0x82]);
    socket.is_cut();
}

#[test]
fn whoever_has_closed_already_is_not_told_again() {
    let mut socket = Socket::open();
    socket.instance.say(&[0x88, 2, 3, 0xe8]);
    socket.client_hears(&[0x88, 2, 3, 0xe8]);
    socket.drain();
    // Not even if it goes on as if nothing had happened.
    assert_eq!(to_end(&socket.client), "");
    socket.is_cut();
}

#[test]
fn a_websocket_that_ends_by_itself_is_nothing_to_tell() {
    let mut socket = Socket::open();
    socket.client.write_all(b"\x88\x82\0\0\0\0\x03\xe8").unwrap();
    socket.instance.hears(b"\x88\x82\0\0\0\0\x03\xe8");
    socket.instance.say(&[0x88, 2, 3, 0xe8]);
    socket.client_hears(&[0x88, 2, 3, 0xe8]);
    // The instance closes first, as servers do.
    socket.instance.say(b"");
    assert_eq!(to_end(&socket.client), "");
    drop(socket.client);
    let counts = socket.gateway.daemon.instance("web1", "over", |it| it.tunnels == 0);
    assert_eq!((counts.cut, counts.answered[0]), (0, 1));
}
