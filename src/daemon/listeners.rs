//! The addresses clients come in at: bound here, used by the gateway, open as long as either lives.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::gateway::address_of;
use crate::process::port;

/// Connections that wait while a gateway is replaced; the kernel caps it at net.core.somaxconn (listen(2)).
const BACKLOG: i32 = 4096;

#[derive(Debug, Default)]
pub struct Listeners {
    open: BTreeMap<String, (SocketAddr, OwnedFd)>,
    /// Why some could not be bound.
    troubles: BTreeMap<String, String>,
    /// What of that was told.
    told: BTreeMap<String, String>,
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

    /// All of them, by gateway.
    pub fn into_open(self) -> BTreeMap<String, OwnedFd> {
        self.open.into_iter().map(|(name, (_, listener))| (name, listener)).collect()
    }

    /// Opens what is wanted and closes what is not; returns the names of those that are new.
    pub fn bind(&mut self, wanted: &BTreeMap<String, SocketAddr>) -> Vec<String> {
        self.open.retain(|name, (address, _)| wanted.get(name) == Some(address));
        self.troubles.retain(|name, _| wanted.contains_key(name));
        let mut fresh = vec![];
        for (name, address) in wanted {
            if self.open.contains_key(name) {
                continue;
            }
            match open(*address, BACKLOG) {
                Ok(listener) => {
                    self.open.insert(name.clone(), (*address, listener));
                    self.troubles.remove(name);
                    fresh.push(name.clone());
                }
                Err(err) => drop(self.troubles.insert(name.clone(), trouble(*address, &err))),
            }
        }
        fresh
    }

    pub fn is_incomplete(&self) -> bool {
        !self.troubles.is_empty()
    }

    /// What has changed of the troubles since the last call.
    pub fn news(&mut self) -> Vec<(String, Option<String>)> {
        let mut news = vec![];
        for (name, trouble) in &self.troubles {
            if self.told.get(name) != Some(trouble) {
                news.push((name.clone(), Some(trouble.clone())));
            }
        }
        let over = self.told.keys().filter(|it| !self.troubles.contains_key(*it));
        news.extend(over.map(|it| (it.clone(), None)));
        self.told.clone_from(&self.troubles);
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

/// A socket that listens, blocking as systemd would pass it.
pub(super) fn open(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connections of an earlier listener in TIME_WAIT are no obstacle.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    Ok(socket)
}

/// `cannot listen on 0.0.0.0:80: permission denied (…)`
pub(super) fn trouble(address: SocketAddr, err: &io::Error) -> String {
    let holder = || port::holder(address.port()).ok().flatten();
    match err.kind() {
        io::ErrorKind::AddrInUse => match holder() {
            Some(holder) => format!("cannot listen on {address}: the port is held by {holder}"),
            None => format!("cannot listen on {address}: the port is taken"),
        },
        io::ErrorKind::PermissionDenied => format!(
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
    fn an_address_that_is_taken_is_told_once_and_tried_again() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut listeners = Listeners::default();
        assert_eq!(listeners.bind(&wanted(&[("a", address)])), [""; 0]);
        let news = listeners.news();
        assert!(news[0].1.as_ref().unwrap().contains("is held by opsdeck"), "{news:?}");
        listeners.bind(&wanted(&[("a", address)]));
        assert_eq!(listeners.news(), []);
        drop(taken);
        assert_eq!(listeners.bind(&wanted(&[("a", address)])), ["a"]);
        assert_eq!(listeners.news(), [("a".to_owned(), None)]);
    }
}
