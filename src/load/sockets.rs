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
    /// Connections that nobody has accepted yet, of all listeners of the port together.
    pub accept_queue: u32,
    /// How many fit: the backlogs of listen(2).
    pub accept_limit: u32,
    pub listening: bool,
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
            port.listening = true;
            port.accept_queue += queue(56);
            port.accept_limit = port.accept_limit.saturating_add(queue(60));
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
    use std::net::{TcpListener, TcpStream};

    use rustix::net::AddressFamily;

    use super::*;
    use crate::load::netlink::Asked;

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

    #[test]
    fn connections_and_the_accept_queue_are_counted_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let place = listener.local_addr().unwrap();
            rustix::net::listen(&listener, 16).unwrap();
            let limit = Port { accept_limit: 16, listening: true, ..Port::default() };
            until(place.port(), limit);

            let mut clients: Vec<_> = (0..5).map(|_| TcpStream::connect(place).unwrap()).collect();
            until(place.port(), Port { established: 5, accept_queue: 5, ..limit });

            let served: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
            until(place.port(), Port { established: 5, accept_queue: 2, ..limit });

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
        until(port, Port { accept_limit: 20, listening: true, ..Port::default() });
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
            let asked = Port {
                established: 1,
                unanswered: 1,
                accept_queue: 1,
                accept_limit: 16,
                listening: true,
            };
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
        let idle = Port { established: 1, accept_limit: 16, listening: true, ..Port::default() };
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
    fn a_request_in_the_accept_queue_waits_for_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 16).unwrap();
        let mut client = TcpStream::connect(place).unwrap();
        let queued = Port {
            established: 1,
            accept_queue: 1,
            accept_limit: 16,
            listening: true,
            ..Port::default()
        };
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
