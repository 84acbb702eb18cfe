//! Connections and accept queues of every TCP port, in one question to the kernel.
//!
//! Answering costs the kernel a walk through its whole table of connections, as large as the host's
//! memory deserves: 0.2 ms for one that is empty. The older form of the question (TCPDIAG_GETSOCK) gets
//! both families in one walk; the newer one needs a walk a family, and is asked where the older is gone.
//!
//! `sock_diag` (sock_diag(7)) with only the states LISTEN and ESTABLISHED asked for, so that
//! nothing walks `/proc` and closed connections cost nothing. What is counted are connections,
//! not requests: an idle kept-alive connection counts as one, so the numbers are estimates of
//! what is in flight, never an exact count.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// What the kernel knows of one local port, over all addresses and both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Connections with this local port, those still in the accept queue included.
    pub established: u32,
    /// Connections that nobody has accepted yet, of all listeners of the port together.
    pub accept_queue: u32,
    /// How many fit: the backlogs of listen(2).
    pub accept_limit: u32,
    pub listening: bool,
}

/// A socket to the kernel, used for every dump.
#[derive(Debug)]
pub struct Sockets {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

const HEADER_BYTES: usize = 16;
/// Header and `struct inet_diag_req_v2` of linux/inet_diag.h.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Header and `struct inet_diag_req`.
const OLDER_REQUEST_BYTES: usize = HEADER_BYTES + 60;
/// `struct inet_diag_msg`.
const ANSWER_BYTES: usize = 72;
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const FLAGS: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCP: u8 = 6;
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// The kernel fills at most 32 KiB at a time.
const BUFFER_BYTES: usize = 32 * 1024;

impl Sockets {
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// Every port of this network namespace that is listened on or has a connection.
    pub fn dump(&mut self) -> io::Result<BTreeMap<u16, Port>> {
        let one_by_one = [Asked::Family(AddressFamily::INET), Asked::Family(AddressFamily::INET6)];
        match self.ask(&[Asked::Both]) {
            Err(source) if is_unknown(&source) => self.ask(&one_by_one),
            answer => answer,
        }
    }

    fn ask(&mut self, questions: &[Asked]) -> io::Result<BTreeMap<u16, Port>> {
        let mut ports = BTreeMap::new();
        for question in questions {
            self.sequence = self.sequence.wrapping_add(1);
            let request = request(*question, self.sequence);
            sendto(&self.socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
            while self.take(&mut ports)? == More::Follows {}
        }
        Ok(ports)
    }

    /// Reads one answer of the kernel: many messages.
    fn take(&mut self, ports: &mut BTreeMap<u16, Port>) -> io::Result<More> {
        let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
        let mut rest = &self.buffer[..length];
        while let Some((message, after)) = split_message(rest) {
            rest = after;
            // What is left of a dump that failed halfway is not ours.
            if message.sequence != self.sequence {
                continue;
            }
            match message.kind {
                NLMSG_DONE => return Ok(More::Nothing),
                NLMSG_ERROR => {
                    let errno = number(message.body, 0).map_or(0, u32::cast_signed);
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY => count(message.body, ports),
                _ => {}
            }
        }
        Ok(More::Follows)
    }
}

#[derive(PartialEq, Eq)]
enum More {
    Follows,
    Nothing,
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// What one question is about.
#[derive(Clone, Copy)]
enum Asked {
    Both,
    Family(AddressFamily),
}

/// The kernel does not know this form of the question.
fn is_unknown(source: &io::Error) -> bool {
    matches!(source.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP))
}

fn request(asked: Asked, sequence: u32) -> Vec<u8> {
    let states = ((1_u32 << ESTABLISHED) | (1 << LISTEN)).to_ne_bytes();
    let (kind, length) = match asked {
        Asked::Both => (TCPDIAG_GETSOCK, OLDER_REQUEST_BYTES),
        Asked::Family(_) => (SOCK_DIAG_BY_FAMILY, REQUEST_BYTES),
    };
    let mut request = vec![0; length];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(length as u32).to_ne_bytes());
    put(4, &kind.to_ne_bytes());
    put(6, &FLAGS.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    match asked {
        Asked::Both => {
            put(HEADER_BYTES, &[AddressFamily::INET.as_raw() as u8]);
            put(HEADER_BYTES + 52, &states);
        }
        Asked::Family(family) => {
            put(HEADER_BYTES, &[family.as_raw() as u8, TCP]);
            put(HEADER_BYTES + 4, &states);
        }
    }
    request
}

/// The first message of a buffer and what follows it; `None` at the end or if it is cut off.
fn split_message(buffer: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = number(buffer, 0)? as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let sequence = number(buffer, 8)?;
    let body = buffer.get(HEADER_BYTES..length)?;
    let after = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind, sequence, body }, after))
}

/// Adds one socket to its port. For a listener the queues are connections, not bytes.
fn count(body: &[u8], ports: &mut BTreeMap<u16, Port>) {
    let Some(body) = body.get(..ANSWER_BYTES) else { return };
    let local = u16::from_be_bytes([body[4], body[5]]);
    let port = ports.entry(local).or_default();
    match body[1] {
        LISTEN => {
            port.listening = true;
            port.accept_queue += number(body, 56).unwrap_or(0);
            port.accept_limit = port.accept_limit.saturating_add(number(body, 60).unwrap_or(0));
        }
        ESTABLISHED => port.established += 1,
        _ => {}
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

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
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let mut sockets = Sockets::open().unwrap();
        for listener in [&four, &six] {
            let place = listener.local_addr().unwrap();
            let _client = TcpStream::connect(place).unwrap();
            until(place.port(), Port { established: 1, accept_queue: 1, ..idle(place.port()) });
            let one_by_one = [AddressFamily::INET, AddressFamily::INET6].map(Asked::Family);
            let both = sockets.ask(&[Asked::Both]).unwrap();
            let each = sockets.ask(&one_by_one).unwrap();
            assert_eq!(both[&place.port()], each[&place.port()]);
            assert_eq!(both[&place.port()].established, 1);
        }
    }

    /// What the standard library's listeners look like, without connections.
    fn idle(port: u16) -> Port {
        let ports = Sockets::open().unwrap().dump().unwrap();
        Port { accept_limit: ports[&port].accept_limit, listening: true, ..Port::default() }
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let whole = request(Asked::Both, 7);
        assert!(
            split_message(&whole).is_some_and(|(it, after)| it.sequence == 7 && after.is_empty())
        );
        for length in 0..whole.len() {
            assert!(split_message(&whole[..length]).is_none(), "{length}");
        }
        let mut ports = BTreeMap::new();
        count(&[LISTEN; 20], &mut ports);
        assert_eq!(ports, BTreeMap::new());
        assert!(split_message(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
