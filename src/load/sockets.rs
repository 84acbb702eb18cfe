//! Connections and accept queues of every TCP port, in one question to the kernel.
//!
//! `sock_diag` (sock_diag(7)) with only the states LISTEN and ESTABLISHED asked for, so that
//! nothing walks `/proc` and closed connections cost nothing. With each connection comes its
//! `tcp_info`, which tells when data came and when data went last: where it came after, a request
//! waits for its answer. An idle kept-alive connection therefore is no request. It is an estimate
//! all the same: a request that is answered in pieces counts only until its first piece.

use std::collections::BTreeMap;
use std::io;

use super::netlink::{Message, Netlink, attribute, number};

/// What the kernel knows of one local port, over all addresses and both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Connections with this local port, those still in the accept queue included.
    pub established: u32,
    /// Those of them on which something came in that nothing was sent for yet.
    pub unanswered: u32,
    /// Sockets that listen: several with SO_REUSEPORT, or one for each family.
    pub listeners: u32,
    /// Of all of them together.
    all: Backlog,
    /// Of the one with the least room: the kernel gives it its share of new connections all the same.
    fullest: Backlog,
}

/// Connections that nobody has accepted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: u32,
    /// How many fit: the backlog of listen(2).
    pub limit: u32,
}

impl Backlog {
    /// Whoever connects now gets no answer.
    pub fn is_full(self) -> bool {
        // listen(2) with 0 lets one wait.
        self.waiting > 0 && self.waiting >= self.limit
    }

    fn has_less_room_than(self, other: Self) -> bool {
        let room = |it: Self| i64::from(it.limit) - i64::from(it.waiting);
        room(self) < room(other)
    }
}

impl Port {
    pub fn is_listening(&self) -> bool {
        self.listeners > 0
    }

    /// Of one listener that is full, if there is one; else of all together.
    pub fn backlog(&self) -> Backlog {
        if self.fullest.is_full() { self.fullest } else { self.all }
    }
}

/// What goes on on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Connections on which something came in that nothing was sent for yet.
    pub unanswered: u32,
    /// All of them, those too whose clients send nothing more.
    pub connections: u32,
}

/// A socket to the kernel, used for every dump.
#[derive(Debug)]
pub struct Sockets {
    link: Netlink,
}

/// `struct inet_diag_msg`.
const SOCKET_BYTES: usize = 72;
const INET_DIAG_INFO: u16 = 2;

pub(super) const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

impl Sockets {
    pub fn open() -> io::Result<Self> {
        Ok(Self { link: Netlink::open(0)? })
    }

    /// Every port of this network namespace that is listened on or has a connection.
    pub fn dump(&mut self) -> io::Result<BTreeMap<u16, Port>> {
        let mut ports = BTreeMap::new();
        self.link.dump(&[ESTABLISHED, LISTEN], |message| count(message, &mut ports))?;
        Ok(ports)
    }

    /// What goes on on this port at this moment.
    pub fn pending(&mut self, port: u16) -> io::Result<Pending> {
        let mut pending = Pending { unanswered: 0, connections: 0 };
        let all = self.connections(&[ESTABLISHED, CLOSE_WAIT])?;
        for it in all.iter().filter(|it| it.port == port) {
            pending.unanswered += u32::from(it.state == ESTABLISHED && it.unanswered);
            pending.connections += 1;
        }
        Ok(pending)
    }

    /// Every connection in one of these states.
    pub(super) fn connections(&mut self, states: &[u8]) -> io::Result<Vec<Connection>> {
        let mut all = vec![];
        self.link.dump(states, |message| all.extend(Connection::read(message)))?;
        Ok(all)
    }
}

/// One end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) port: u16,
    /// Names it for as long as the host runs.
    pub(super) cookie: u64,
    pub(super) state: u8,
    pub(super) unanswered: bool,
    /// The kernel has forgotten what went over it: it was closed by a reset (SO_LINGER of zero, socket(7)).
    pub(super) is_blank: bool,
    /// Its exchange is known.
    pub(super) is_whole: bool,
}

impl Connection {
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let body = message.body.get(..SOCKET_BYTES)?;
        let cookie = u64::from_ne_bytes(body[44..52].try_into().ok()?);
        let info = attribute(&message.body[SOCKET_BYTES..], INET_DIAG_INFO);
        let exchange = info.and_then(Exchange::read);
        Some(Self {
            port: u16::from_be_bytes([body[4], body[5]]),
            cookie,
            state: body[1],
            unanswered: exchange.is_some_and(Exchange::is_unanswered),
            is_blank: exchange.is_some_and(Exchange::is_blank),
            is_whole: exchange.is_some(),
        })
    }
}

/// What went over a connection, of `struct tcp_info`.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Milliseconds ago.
    last_sent: u32,
    last_received: u32,
    segments_received: u32,
    segments_sent: u32,
}

impl Exchange {
    fn read(info: &[u8]) -> Option<Self> {
        Some(Self {
            last_sent: number(info, 44)?,
            last_received: number(info, 52)?,
            segments_received: number(info, 152)?,
            segments_sent: number(info, 156)?,
        })
    }

    fn is_blank(self) -> bool {
        self.segments_received == 0 && self.segments_sent == 0
    }

    fn is_unanswered(self) -> bool {
        if self.segments_received == 0 || self.segments_sent == 0 {
            return self.segments_received > 0;
        }
        match self.last_received.cmp(&self.last_sent) {
            std::cmp::Ordering::Less => true,
            // Both in one tick of the kernel, which are some milliseconds: most answers are one segment.
            std::cmp::Ordering::Equal => self.segments_received > self.segments_sent,
            std::cmp::Ordering::Greater => false,
        }
    }
}

/// Adds one socket to its port. For a listener the queues are connections, not bytes.
fn count(message: &Message<'_>, ports: &mut BTreeMap<u16, Port>) {
    let Some(it) = Connection::read(message) else { return };
    let port = ports.entry(it.port).or_default();
    match it.state {
        LISTEN => {
            let queue = |at| number(message.body, at).unwrap_or(0);
            let one = Backlog { waiting: queue(56), limit: queue(60) };
            if port.listeners == 0 || one.has_less_room_than(port.fullest) {
                port.fullest = one;
            }
            port.listeners += 1;
            port.all.waiting = port.all.waiting.saturating_add(one.waiting);
            port.all.limit = port.all.limit.saturating_add(one.limit);
        }
        ESTABLISHED => {
            port.established += 1;
            port.unanswered += u32::from(it.unanswered);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::{
        AddressFamily, SocketType, bind, connect, getsockname, listen, socket, sockopt,
    };

    use super::*;
    use crate::load::netlink::Asked;

    fn seen(port: u16) -> Port {
        Sockets::open().unwrap().dump().unwrap()[&port]
    }

    /// The kernel finishes a handshake on loopback before connect(2) returns on the client's side
    /// only: the last segment may still be on its way to the listener.
    fn until(port: u16, expected: Port) {
        let mut sockets = Sockets::open().unwrap();
        let mut seen = None;
        for _ in 0..10_000 {
            seen = sockets.dump().unwrap().get(&port).copied();
            if seen == Some(expected) {
                return;
            }
            std::thread::yield_now();
        }
        assert_eq!(seen, Some(expected), "port {port}");
    }

    /// What one listener makes of a port.
    fn one(waiting: u32, limit: u32) -> Port {
        let backlog = Backlog { waiting, limit };
        Port { listeners: 1, all: backlog, fullest: backlog, ..Port::default() }
    }

    /// Another listener on this port, or any, with SO_REUSEPORT.
    fn shared(port: u16, backlog: i32) -> (OwnedFd, u16) {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        listen(&socket, backlog).unwrap();
        let place = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        (socket, place.port())
    }

    #[test]
    fn one_full_listener_of_many_does_not_hide_behind_the_room_of_the_others() {
        let (roomy, port) = shared(0, 100);
        let (_narrow, _) = shared(port, 1);
        let together = |waiting| Backlog { waiting, limit: 101 };
        until(port, Port { listeners: 2, all: together(0), ..one(0, 1) });
        assert_eq!(seen(port).backlog(), together(0), "none is full");

        // The kernel deals them out: until the narrow one has its two, and each of the others fits.
        let mut clients = vec![];
        while !seen(port).fullest.is_full() {
            let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&client, true).unwrap();
            let place = SocketAddr::from(([127, 0, 0, 1], port));
            // EINPROGRESS, for a moment.
            let _ = connect(&client, &place);
            clients.push(client);
            assert!(clients.len() < 100, "{:?}", seen(port));
        }
        let full = seen(port);
        assert_eq!(full.backlog(), full.fullest, "{full:?}");
        assert!(full.backlog().limit == 1 && !full.all.is_full(), "{full:?}");
        drop(roomy);
    }

    #[test]
    fn connections_and_the_accept_queue_are_counted_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let place = listener.local_addr().unwrap();
            rustix::net::listen(&listener, 16).unwrap();
            until(place.port(), one(0, 16));

            let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(place).unwrap()).collect();
            until(place.port(), Port { established: 5, ..one(5, 16) });

            let served: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
            until(place.port(), Port { established: 5, ..one(2, 16) });

            drop(listener);
            clients.truncate(2);
            until(place.port(), Port { established: 2, ..Port::default() });
            drop(served);
        }
    }

    #[test]
    fn a_client_is_counted_at_its_own_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = client.local_addr().unwrap().port();
        until(port, Port { established: 1, ..Port::default() });
    }

    #[test]
    fn the_listeners_of_both_families_are_one_port() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = four.local_addr().unwrap().port();
        // Somebody else may have the number in the other family.
        let Ok(six) = TcpListener::bind(("::1", port)) else { return };
        for listener in [&four, &six] {
            rustix::net::listen(listener, 10).unwrap();
        }
        let all = Backlog { waiting: 0, limit: 20 };
        until(port, Port { listeners: 2, all, ..one(0, 10) });
    }

    #[test]
    fn both_forms_of_the_question_get_the_same_answer() {
        let ask = |questions: &[Asked]| {
            let mut ports = BTreeMap::new();
            let mut sockets = Sockets::open().unwrap();
            let take = |message: &Message<'_>| count(message, &mut ports);
            sockets.link.ask(questions, &[ESTABLISHED, LISTEN], take).unwrap();
            ports
        };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            rustix::net::listen(&listener, 16).unwrap();
            let place = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(place).unwrap();
            client.write_all(b"request").unwrap();
            let asked = Port { established: 1, unanswered: 1, ..one(1, 16) };
            until(place.port(), asked);
            let one_by_one = [AddressFamily::INET, AddressFamily::INET6].map(Asked::Family);
            assert_eq!(ask(&[Asked::Both])[&place.port()], asked);
            assert_eq!(ask(&one_by_one)[&place.port()], asked);
        }
    }

    /// A connection and its server's end.
    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn only_a_connection_that_waits_for_an_answer_is_a_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        rustix::net::listen(&listener, 16).unwrap();
        let (mut client, mut server) = pair(&listener);
        let idle = Port { established: 1, ..one(0, 16) };
        let waiting = Port { unanswered: 1, ..idle };
        let mut buffer = [0; 64];
        until(port, idle);
        // Some at once after another, some after some looks.
        for looks in [0, 0, 50, 50, 0] {
            client.write_all(b"request").unwrap();
            until(port, waiting);
            (0..looks).for_each(|_| until(port, waiting));
            assert_eq!(server.read(&mut buffer).unwrap(), 7);
            until(port, waiting);
            server.write_all(b"answer").unwrap();
            until(port, idle);
            assert_eq!(client.read(&mut buffer).unwrap(), 6);
            (0..looks).for_each(|_| until(port, idle));
        }
    }

    #[test]
    fn what_goes_on_on_a_port_is_all_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        rustix::net::listen(&listener, 16).unwrap();
        let pending = || Sockets::open().unwrap().pending(port).unwrap();
        assert_eq!(pending(), Pending { unanswered: 0, connections: 0 }, "none is there");
        let (mut client, mut server) = pair(&listener);
        client.write_all(b"request").unwrap();
        until(port, Port { established: 1, unanswered: 1, ..one(0, 16) });
        assert_eq!(pending(), Pending { unanswered: 1, connections: 1 });
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut request = String::new();
        server.read_to_string(&mut request).unwrap();
        assert_eq!(
            pending(),
            Pending { unanswered: 0, connections: 1 },
            "it may still get an answer"
        );
    }

    #[test]
    fn a_request_in_the_accept_queue_waits_for_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 16).unwrap();
        let mut client = TcpStream::connect(place).unwrap();
        let queued = Port { established: 1, ..one(1, 16) };
        until(place.port(), queued);
        client.write_all(b"request").unwrap();
        until(place.port(), Port { unanswered: 1, ..queued });
    }

    #[test]
    fn within_one_tick_the_segments_decide() {
        let at = |last_received, last_sent, segments_received, segments_sent| {
            Exchange { last_sent, last_received, segments_received, segments_sent }.is_unanswered()
        };
        assert!(!at(8, 8, 0, 0) && !at(8, 8, 0, 1) && at(8, 8, 1, 0));
        assert!(at(4, 8, 1, 9) && !at(8, 4, 9, 1));
        assert!(at(8, 8, 2, 1) && !at(8, 8, 1, 1) && !at(8, 8, 1, 3));
    }

    #[test]
    fn what_is_cut_off_is_no_socket() {
        let mut ports = BTreeMap::new();
        count(&Message { kind: 20, sequence: 1, body: &[LISTEN; 20] }, &mut ports);
        assert_eq!(ports, BTreeMap::new());
        assert!(Exchange::read(&[0; 159]).is_none());
    }
}
