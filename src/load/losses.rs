//! Requests that are cut off: which connections closed before their answer.
//!
//! A look at the open connections is some moments old when a server ends: what it answered since is
//! not lost. So the kernel is asked to tell of every TCP socket that it destroys
//! (`SKNLGRP_INET_TCP_DESTROY`), each with its last `tcp_info`. What is still closing (its peer is
//! far away) is found by one more dump.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::netlink::Netlink;
use super::sockets::{Connection, ESTABLISHED, Sockets};

/// Groups of linux/sock_diag.h: TCP over IPv4 (1) and over IPv6 (3).
const DESTROYED: u32 = 1 | 1 << 2;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const CLOSING: u8 = 11;
/// Some thousand messages: between two looks a busy host closes many connections.
const BUFFER_BYTES: usize = 4 << 20;
/// The kernel tells of a destroyed socket from a queue of its own, a little later: a millisecond, some
/// more on a busy host.
const A_LITTLE: u8 = 50;
/// A busy host tells of something else all the time.
const MOST_ROUNDS: usize = 20;

/// Requests without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub requests: u32,
    /// Those of them that were none yet when the stop began.
    pub late: u32,
    /// When the last of them was noticed, by the clock of whoever looks; the last that is not late, if there is any.
    pub at: Duration,
}

impl Lost {
    fn add(&mut self, is_late: bool, now: Duration) {
        if !is_late || self.requests == self.late {
            self.at = now;
        }
        self.requests = self.requests.saturating_add(1);
        self.late = self.late.saturating_add(u32::from(is_late));
    }
}

/// Hears of connections that close on the ports of servers that are being stopped.
#[derive(Debug)]
pub struct Losses {
    news: Netlink,
    sockets: Sockets,
    /// Connections that were closed without an answer, by port; only these ports are of interest.
    lost: BTreeMap<u16, Lost>,
    /// Unanswered when they were seen last, with their ports: open, or gone and not yet told of.
    waiting: BTreeMap<u64, u16>,
    /// Unanswered when the stop began, with their ports.
    first: BTreeMap<u64, u16>,
    /// Closed before: by their clients, so that nobody waits for an answer, or by an earlier server.
    settled: BTreeSet<u64>,
    /// The kernel had more to tell than it could keep.
    has_missed: bool,
}

impl Losses {
    pub fn open() -> io::Result<Self> {
        let news = Netlink::open(DESTROYED)?;
        if set_socket_recv_buffer_size_force(news.socket(), BUFFER_BYTES).is_err() {
            // As much as is allowed.
            set_socket_recv_buffer_size(news.socket(), BUFFER_BYTES)?;
        }
        Ok(Self {
            news,
            sockets: Sockets::open()?,
            lost: BTreeMap::new(),
            waiting: BTreeMap::new(),
            first: BTreeMap::new(),
            settled: BTreeSet::new(),
            has_missed: false,
        })
    }

    /// The stop of the server on this port begins; it has not heard of it yet.
    pub fn begin(&mut self, port: u16) -> io::Result<()> {
        self.lost.insert(port, Lost::default());
        let states = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, CLOSING];
        let mut all = self.sockets.connections(&states)?;
        all.retain(|it| it.port == port);
        // Of the last generation, or of one that answered them long ago.
        let closed = all.iter().filter(|it| it.state != ESTABLISHED);
        self.settled.extend(closed.map(|it| it.cookie));
        // It may end before anybody looks again.
        self.see(&all);
        self.first.retain(|_, it| *it != port);
        let first = self.waiting.iter().filter(|it| *it.1 == port);
        self.first.extend(first.map(|(cookie, port)| (*cookie, *port)));
        Ok(())
    }

    /// Remembers what is open. Worth doing again and again until the end.
    pub fn look(&mut self, now: Duration) -> io::Result<()> {
        let open = self.sockets.connections(&[ESTABLISHED, CLOSE_WAIT])?;
        // What is gone stays until the kernel tells how it went: the end may come before that.
        for it in &open {
            self.waiting.remove(&it.cookie);
        }
        self.see(&open);
        self.hear(now)
    }

    /// Requests without an answer on these ports, whose servers have just ended: on what was closed
    /// since they began to stop, and on what is still open or closing.
    pub fn at_end(&mut self, ports: &[u16], now: Duration) -> io::Result<BTreeMap<u16, Lost>> {
        let states = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, CLOSING];
        let mut open = self.sockets.connections(&states)?;
        // What the kernel keeps of a closed one (TIME_WAIT) bears its name and knows nothing of it.
        open.retain(|it| it.is_whole);
        let mut missing = std::mem::take(&mut self.waiting);
        for it in &open {
            missing.remove(&it.cookie);
        }
        self.waiting.clone_from(&missing);
        self.see(&open);
        self.hear(now)?;
        for _ in 0..MOST_ROUNDS {
            missing.retain(|cookie, _| self.waiting.contains_key(cookie));
            if missing.is_empty() || !self.is_told_more()? {
                break;
            }
            self.hear(now)?;
        }
        if self.has_missed {
            self.waiting.retain(|cookie, _| !missing.contains_key(cookie));
        }
        Ok(ports.iter().filter_map(|port| Some((*port, self.count(*port, now)?))).collect())
    }

    fn count(&mut self, port: u16, now: Duration) -> Option<Lost> {
        let mut lost = self.lost.remove(&port)?;
        let waiting = self.waiting.iter().filter(|it| *it.1 == port);
        waiting.for_each(|(cookie, _)| lost.add(!self.first.contains_key(cookie), now));
        self.waiting.retain(|_, it| *it != port);
        self.first.retain(|_, it| *it != port);
        Some(lost)
    }

    fn see(&mut self, open: &[Connection]) {
        for it in open.iter().filter(|it| self.lost.contains_key(&it.port)) {
            if it.state == CLOSE_WAIT {
                self.settled.insert(it.cookie);
            } else if it.unanswered && !self.settled.contains(&it.cookie) {
                self.waiting.insert(it.cookie, it.port);
            }
        }
    }

    /// Takes what the kernel has told of closed connections.
    fn hear(&mut self, now: Duration) -> io::Result<()> {
        let Self { news, lost, waiting, first, settled, has_missed, .. } = self;
        let heard = news.hear(|message| {
            let Some(it) = Connection::read(message) else { return };
            let Some(lost) = lost.get_mut(&it.port) else { return };
            let is_reset = waiting.remove(&it.cookie).is_some() && it.is_blank;
            if !settled.remove(&it.cookie) && (it.unanswered || is_reset) {
                lost.add(!first.contains_key(&it.cookie), now);
            }
        });
        match heard {
            Err(err) if err.raw_os_error() == Some(nix::libc::ENOBUFS) => *has_missed = true,
            heard => heard?,
        }
        Ok(())
    }

    fn is_told_more(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(self.news.socket().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut descriptors, PollTimeout::from(A_LITTLE))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    struct Server {
        listener: TcpListener,
        port: u16,
        losses: Losses,
    }

    impl Server {
        fn start(address: &str) -> Self {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut losses = Losses::open().unwrap();
            losses.begin(port).unwrap();
            Self { listener, port, losses }
        }

        /// A connection and its server's end.
        fn pair(&self) -> (TcpStream, TcpStream) {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            (client, self.listener.accept().unwrap().0)
        }

        /// A connection over which a request came.
        fn asked(&self) -> (TcpStream, TcpStream) {
            let (mut client, mut server) = self.pair();
            client.write_all(b"request").unwrap();
            assert_eq!(server.read(&mut [0; 64]).unwrap(), 7);
            (client, server)
        }

        fn lost(&mut self) -> Option<u32> {
            let lost = self.losses.at_end(&[self.port], NOW).unwrap();
            lost.get(&self.port).map(|it| it.requests)
        }
    }

    fn answer((client, server): &mut (TcpStream, TcpStream)) {
        server.write_all(b"answer").unwrap();
        assert_eq!(client.read(&mut [0; 64]).unwrap(), 6);
    }

    #[test]
    fn what_is_cut_off_is_lost_and_what_was_answered_or_idle_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let mut server = Server::start(address);
            let idle = server.pair();
            let cut = [server.asked(), server.asked(), server.asked()];
            let mut answered = [server.asked(), server.asked()];
            server.losses.look(NOW).unwrap();
            // In the moment of the end: no look sees it open.
            answered.iter_mut().for_each(answer);
            let (clients, ends): (Vec<_>, Vec<_>) =
                cut.into_iter().chain(answered).chain([idle]).unzip();
            drop(ends);
            // Some of them have seen the end and closed as well.
            drop(clients);
            assert_eq!(server.lost(), Some(3), "{address}");
        }
    }

    #[test]
    fn what_is_reset_is_lost_although_the_kernel_has_forgotten_it() {
        let mut server = Server::start("127.0.0.1:0");
        let (asked, idle) = (server.asked(), server.pair());
        server.losses.look(NOW).unwrap();
        for (_, end) in [&asked, &idle] {
            sockopt::set_socket_linger(end, Some(Duration::ZERO)).unwrap();
        }
        drop((asked.1, idle.1));
        assert_eq!(server.lost(), Some(1));
    }

    #[test]
    fn when_it_was_lost_is_known() {
        let mut server = Server::start("127.0.0.1:0");
        let (_client, end) = server.asked();
        server.losses.look(NOW).unwrap();
        sockopt::set_socket_linger(&end, Some(Duration::ZERO)).unwrap();
        drop(end);
        let port = server.port;
        while server.losses.lost[&port].requests == 0 {
            server.losses.look(2 * NOW).unwrap();
        }
        let lost = server.losses.at_end(&[port], 9 * NOW).unwrap();
        assert_eq!(lost[&port], Lost { requests: 1, late: 1, at: 2 * NOW });
    }

    #[test]
    fn what_came_after_the_stop_began_is_late() {
        let mut server = Server::start("127.0.0.1:0");
        let first = [server.asked(), server.asked()];
        server.losses.begin(server.port).unwrap();
        let later = [server.asked(), server.asked(), server.asked()];
        server.losses.look(NOW).unwrap();
        // Some are heard of, some are found at the end.
        sockopt::set_socket_linger(&first[0].1, Some(Duration::ZERO)).unwrap();
        sockopt::set_socket_linger(&later[0].1, Some(Duration::ZERO)).unwrap();
        let ((_one, first), (_two, later)): ((Vec<_>, Vec<_>), (Vec<_>, Vec<_>)) =
            (first.into_iter().unzip(), later.into_iter().unzip());
        drop((first, later));
        let lost = server.losses.at_end(&[server.port], 2 * NOW).unwrap();
        assert_eq!(lost[&server.port], Lost { requests: 5, late: 3, at: 2 * NOW });
    }

    #[test]
    fn what_its_client_has_settled_is_not_lost() {
        let mut server = Server::start("127.0.0.1:0");
        let (client, end) = server.asked();
        drop(client);
        while server.losses.settled.is_empty() {
            server.losses.look(NOW).unwrap();
        }
        drop(end);
        assert_eq!(server.lost(), Some(0));
    }

    #[test]
    fn what_is_cut_before_the_first_look_and_what_a_look_misses_is_lost_too() {
        for looks in 0..20 {
            let mut server = Server::start("127.0.0.1:0");
            let pairs = [server.asked(), server.asked(), server.asked()];
            server.losses.begin(server.port).unwrap();
            let (clients, ends): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            drop((ends, clients));
            // In the moment between a connection's end and the news of it.
            (0..looks % 3).for_each(|_| server.losses.look(NOW).unwrap());
            assert_eq!(server.lost(), Some(3), "after {looks}");
        }
    }

    #[test]
    fn each_stop_counts_for_itself() {
        let mut server = Server::start("127.0.0.1:0");
        let (client, end) = server.asked();
        server.losses.look(NOW).unwrap();
        drop(end);
        assert_eq!(server.lost(), Some(1));
        assert_eq!(server.lost(), None);
        server.losses.begin(server.port).unwrap();
        assert_eq!(server.lost(), Some(0));
        drop(client);
    }

    #[test]
    fn what_a_worker_still_holds_is_lost() {
        let mut server = Server::start("127.0.0.1:0");
        let pairs = [server.asked(), server.asked()];
        assert_eq!(server.lost(), Some(2));
        drop(pairs);
    }
}
