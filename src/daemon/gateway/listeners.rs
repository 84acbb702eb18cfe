//! The addresses clients come in at: bound here, used by the gateway, open as long as either lives.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::daemon::gateway::address_of;
use crate::process::{Identity, identity, port};

/// Connections that wait while a gateway is replaced; the kernel caps it at net.core.somaxconn (listen(2)).
const BACKLOG: i32 = 4096;

#[derive(Debug, Default)]
pub struct Listeners {
    open: BTreeMap<String, (SocketAddr, OwnedFd)>,
    /// Why some could not be bound.
    troubles: BTreeMap<String, Trouble>,
    /// What of that was told.
    told: BTreeMap<String, String>,
}

/// Why an address could not be bound.
#[derive(Debug)]
struct Trouble {
    address: SocketAddr,
    kind: io::ErrorKind,
    words: String,
}

impl Listeners {
    /// Takes listeners that a gateway gave back, unless they are here already.
    pub fn take_back(&mut self, listeners: Vec<(String, OwnedFd)>) {
        for (name, listener) in listeners {
            if let Some(address) = address_of(&listener) {
                self.open.entry(name).or_insert((address, listener));
            }
        }
    }

    /// Takes those that are wanted from a process that cannot be asked for them.
    pub(super) fn take_from(&mut self, who: Identity, wanted: &BTreeMap<String, SocketAddr>) {
        for listener in of_process(who) {
            let address = address_of(&listener);
            let name = wanted.iter().find(|it| Some(*it.1) == address).map(|it| it.0.clone());
            self.take_back(name.map(|it| (it, listener)).into_iter().collect());
        }
    }

    /// All of them, by gateway.
    pub fn into_open(self) -> BTreeMap<String, OwnedFd> {
        self.open.into_iter().map(|(name, (_, listener))| (name, listener)).collect()
    }

    /// Opens what is wanted and closes what is not; returns the names of those that are new.
    pub fn bind(&mut self, wanted: &BTreeMap<String, SocketAddr>) -> Vec<String> {
        self.bind_by(wanted, |address| open(address, BACKLOG), held_by)
    }

    /// As [`Self::bind`]: `open` opens, `held_by` says who has a port, if that can be seen.
    fn bind_by(
        &mut self,
        wanted: &BTreeMap<String, SocketAddr>,
        mut open: impl FnMut(SocketAddr) -> io::Result<OwnedFd>,
        mut held_by: impl FnMut(u16) -> Option<String>,
    ) -> Vec<String> {
        let mut fresh = self.hand_on(wanted);
        self.troubles.retain(|name, _| wanted.contains_key(name));
        for (name, address) in wanted {
            if self.open.contains_key(name) {
                continue;
            }
            match open(*address) {
                Ok(listener) => {
                    self.open.insert(name.clone(), (*address, listener));
                    self.troubles.remove(name);
                    fresh.push(name.clone());
                }
                Err(err) => self.cannot(name, *address, &err, &mut held_by),
            }
        }
        fresh
    }

    /// What is open goes to whoever wants its address now: a gateway may be renamed. The rest is closed. Returns
    /// the new names.
    fn hand_on(&mut self, wanted: &BTreeMap<String, SocketAddr>) -> Vec<String> {
        let open = std::mem::take(&mut self.open).into_iter();
        let (open, mut left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            open.partition(|(name, (address, _))| wanted.get(name) == Some(address));
        self.open = open;
        let mut renamed = vec![];
        for (name, address) in wanted.iter().filter(|it| !self.open.contains_key(it.0)) {
            let Some(old) = left.iter().find(|(_, it)| it.0 == *address).map(|it| it.0.clone())
            else {
                continue;
            };
            renamed.extend(left.remove(&old).map(|it| (name.clone(), it)));
        }
        let names = renamed.iter().map(|it| it.0.clone()).collect();
        self.open.extend(renamed);
        names
    }

    fn cannot(
        &mut self,
        name: &str,
        address: SocketAddr,
        err: &io::Error,
        held_by: impl FnMut(u16) -> Option<String>,
    ) {
        let kind = err.kind();
        let holder = holder(address, err, held_by);
        let is_known = |it: &Trouble| (it.address, it.kind) == (address, kind);
        // Who was seen once and is not seen now is no news: the kernel's table is read while it changes.
        if holder.is_some() || !self.troubles.get(name).is_some_and(is_known) {
            let words = words(address, err, holder);
            self.troubles.insert(name.to_owned(), Trouble { address, kind, words });
        }
    }

    pub fn is_incomplete(&self) -> bool {
        !self.troubles.is_empty()
    }

    /// What has changed of the troubles since the last call.
    pub fn news(&mut self) -> Vec<(String, Option<String>)> {
        let mut news = vec![];
        for (name, trouble) in &self.troubles {
            if self.told.get(name) != Some(&trouble.words) {
                news.push((name.clone(), Some(trouble.words.clone())));
            }
        }
        let over = self.told.keys().filter(|it| !self.troubles.contains_key(*it));
        news.extend(over.map(|it| (it.clone(), None)));
        let told = self.troubles.iter().map(|(name, it)| (name.clone(), it.words.clone()));
        self.told = told.collect();
        news
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.open.iter().map(|(name, (_, listener))| (name.as_str(), listener.as_fd()))
    }

    pub fn of<'a>(
        &'a self,
        names: &'a [String],
    ) -> impl Iterator<Item = (&'a str, BorrowedFd<'a>)> {
        self.all().filter(|(name, _)| names.iter().any(|it| it == name))
    }
}

/// What a process listens on, as far as that may be taken from it (pidfd_getfd(2)).
pub(super) fn of_process(who: Identity) -> Vec<OwnedFd> {
    let Ok(Some(pidfd)) = identity::open(who) else { return vec![] };
    let open = std::fs::read_dir(format!("/proc/{}/fd", who.pid)).into_iter().flatten();
    let sockets = open.map_while(Result::ok).filter(|it| {
        let target = std::fs::read_link(it.path()).unwrap_or_default();
        target.as_os_str().as_encoded_bytes().starts_with(b"socket:")
    });
    let copies = sockets.filter_map(|it| {
        let number = it.file_name().to_str()?.parse().ok()?;
        pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()
    });
    let listens =
        |it: &OwnedFd| sockopt::socket_acceptconn(it).unwrap_or(false) && address_of(it).is_some();
    copies.filter(listens).collect()
}

/// A socket that listens, blocking as systemd would pass it.
pub(in crate::daemon) fn open(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connections of an earlier listener in TIME_WAIT are no obstacle.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    Ok(socket)
}

/// `cannot listen on 0.0.0.0:80: permission denied (…)`
pub(in crate::daemon) fn trouble(address: SocketAddr, err: &io::Error) -> String {
    words(address, err, holder(address, err, held_by))
}

fn held_by(port: u16) -> Option<String> {
    port::holder(port).ok().flatten().map(|it| it.to_string())
}

/// Who has the address, where that is the trouble.
fn holder(
    address: SocketAddr,
    err: &io::Error,
    mut held_by: impl FnMut(u16) -> Option<String>,
) -> Option<String> {
    if err.kind() == io::ErrorKind::AddrInUse { held_by(address.port()) } else { None }
}

fn words(address: SocketAddr, err: &io::Error, holder: Option<String>) -> String {
    match (err.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some(holder)) => {
            format!("cannot listen on {address}: the port is held by {holder}")
        }
        (io::ErrorKind::AddrInUse, None) => {
            format!("cannot listen on {address}: the port is taken")
        }
        (io::ErrorKind::PermissionDenied, _) => format!(
            "cannot listen on {address}: permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        ),
        _ => format!("cannot listen on {address}: {err}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &[(&str, SocketAddr)]) -> BTreeMap<String, SocketAddr> {
        list.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect()
    }

    fn free() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn what_is_wanted_is_opened_once_and_what_is_not_is_closed() {
        let (a, b) = (free(), free());
        let mut listeners = Listeners::default();
        assert_eq!(listeners.bind(&wanted(&[("a", a), ("b", b)])), ["a", "b"]);
        assert_eq!(listeners.bind(&wanted(&[("a", a)])), [""; 0]);
        std::net::TcpStream::connect(a).unwrap();
        assert!(std::net::TcpStream::connect(b).is_err());
    }

    #[test]
    fn a_gateway_that_is_renamed_keeps_its_socket() {
        let (a, b) = (free(), free());
        let mut listeners = Listeners::default();
        listeners.bind(&wanted(&[("a", a), ("b", b)]));
        let mut clients = vec![std::net::TcpStream::connect(a).unwrap()];
        let unopened = |_| panic!("it is open");
        let fresh = listeners.bind_by(&wanted(&[("b", b), ("c", a)]), unopened, held_by);
        assert_eq!(fresh, ["c"]);
        clients.push(std::net::TcpStream::connect(a).unwrap());
        let fresh = listeners.bind_by(&wanted(&[("b", a), ("c", b)]), unopened, held_by);
        assert_eq!(fresh, ["b", "c"], "they change places");
        let listener = std::net::TcpListener::from(listeners.into_open().remove("b").unwrap());
        for client in clients {
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }

    #[test]
    fn an_address_that_is_taken_is_told_once_and_tried_again() {
        let address = "127.0.0.1:80".parse().unwrap();
        let mut listeners = Listeners::default();
        let taken = |_| Err(io::ErrorKind::AddrInUse.into());
        // It is not always seen who has it, and one may follow another.
        let mut holders =
            [Some("a (pid 1)"), None, Some("a (pid 1)"), Some("b (pid 2)")].into_iter();
        let mut held_by = |_| holders.next().unwrap().map(str::to_owned);
        let mut look = |listeners: &mut Listeners| {
            assert_eq!(listeners.bind_by(&wanted(&[("a", address)]), taken, &mut held_by), [""; 0]);
            assert!(listeners.is_incomplete());
            let news = listeners.news();
            news.into_iter().filter_map(|it| it.1).collect::<Vec<_>>()
        };
        let by = |who| format!("cannot listen on 127.0.0.1:80: the port is held by {who}");
        assert_eq!(look(&mut listeners), [by("a (pid 1)")]);
        assert_eq!(look(&mut listeners), [""; 0]);
        assert_eq!(look(&mut listeners), [""; 0]);
        assert_eq!(look(&mut listeners), [by("b (pid 2)")]);
        let open = |_| Ok(tempfile::tempfile().unwrap().into());
        let fresh = listeners.bind_by(&wanted(&[("a", address)]), open, |_| panic!("it is free"));
        assert_eq!(fresh, ["a"]);
        assert_eq!(listeners.news(), [("a".to_owned(), None)]);
    }

    #[test]
    fn a_port_that_is_taken_is_told_as_that() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let err = open(address, 1).unwrap_err();
        let told = trouble(address, &err);
        let ours = ["the port is held by", "the port is taken"];
        assert!(ours.iter().any(|it| told.contains(it)), "{told}");
        assert!(words(address, &err, None).ends_with(": the port is taken"));
    }
}
