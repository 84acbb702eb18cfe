//! Who is at the other end of the socket, and what they may do.
//!
//! Decided by the kernel's word (SO_PEERCRED, SO_PEERGROUPS, unix(7)) before a byte is parsed. Names for
//! the journal are looked up only when somebody acts.

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Group, Uid, User};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::api::Role;
use crate::config::accounts;
use crate::config::settings::Deck;
use crate::daemon::http::haste::Stage;
use crate::daemon::http::seats::{Connection, Seats};
use crate::fleet::By;
use crate::process::{peer, slow};

/// The credentials of a client when it connected.
#[derive(Clone, Debug)]
pub struct Peer {
    pub uid: u32,
    pub pid: i32,
    groups: Arc<[u32]>,
    access: watch::Receiver<Arc<Access>>,
    /// The person, once somebody asked. Whoever connected stays who it is.
    by: Arc<OnceLock<By>>,
    /// What is going on on its connection.
    pub(in crate::daemon) stage: Stage,
}

impl Peer {
    /// What it may do by now: who is taken off the list loses it on the connections that are open.
    pub fn role(&self) -> Option<Role> {
        self.access.borrow().role(self.uid, &self.groups)
    }

    /// Root, or whoever the daemon runs as.
    pub fn is_own(&self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    /// The person, for the journal. Under sudo that is who logged in (`/proc/PID/loginuid`).
    ///
    /// Looked up once a connection: between a key of the deck and its signal there is no time to ask the
    /// account database again.
    pub fn by(&self) -> By {
        self.by.get_or_init(|| self.look_up()).clone()
    }

    fn look_up(&self) -> By {
        // Anybody can write SUDO_UID into his own environment; only root got it from sudo.
        let sudo = || sudo_uid(self.pid).filter(|_| self.uid == 0);
        let login_uid = login_uid(self.pid).or_else(sudo).unwrap_or(self.uid);
        By {
            uid: self.uid,
            login: user_name(login_uid).into(),
            pid: self.pid,
            ssh: environment(self.pid, "SSH_CONNECTION").map(Into::into),
        }
    }
}

/// Who may look and who may act, by number.
#[derive(Clone, Debug, Default)]
pub struct Access {
    operators: Principals,
    viewers: Principals,
    /// Anybody but the daemon's own user and root was named.
    pub shared: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Principals {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Access {
    /// Resolves the names of `[deck] operators` and `viewers`. Root and the daemon's own user may
    /// always act. A name that the host does not know gives nobody anything.
    pub fn of(deck: &Deck) -> Self {
        let mut operators = Principals::resolve(&deck.operators);
        operators.users.extend([0, Uid::effective().as_raw()]);
        let (viewers, shared) = (Principals::resolve(&deck.viewers), Self::is_shared(deck));
        Self { operators, viewers, shared }
    }

    /// Whether anybody but the daemon's own user and root was named.
    pub fn is_shared(deck: &Deck) -> bool {
        !deck.operators.is_empty() || !deck.viewers.is_empty()
    }

    fn role(&self, uid: u32, groups: &[u32]) -> Option<Role> {
        if self.operators.has(uid, groups) {
            Some(Role::Operator)
        } else if self.viewers.has(uid, groups) {
            Some(Role::Viewer)
        } else {
            None
        }
    }
}

impl Principals {
    fn resolve(names: &[String]) -> Self {
        let mut it = Self::default();
        for name in names {
            match name.strip_prefix('@') {
                Some(group) => match Group::from_name(group) {
                    Ok(Some(group)) => it.groups.push(group.gid.as_raw()),
                    _ => warn!(group, "no such group on this host: it gives nobody access"),
                },
                None => match User::from_name(name) {
                    Ok(Some(user)) => it.users.push(user.uid.as_raw()),
                    _ => warn!(user = name, "no such user on this host: it gives nobody access"),
                },
            }
        }
        it
    }

    fn has(&self, uid: u32, groups: &[u32]) -> bool {
        self.users.contains(&uid) || self.groups.iter().any(|it| groups.contains(it))
    }
}

/// A Unix listener that knows who may speak.
pub struct Door {
    listener: UnixListener,
    /// The one before, whose place may come back.
    before: Option<UnixListener>,
    /// What is bound anew.
    more: mpsc::Receiver<UnixListener>,
    access: watch::Receiver<Arc<Access>>,
    seats: Seats,
}

impl Door {
    pub fn new(
        listener: UnixListener,
        more: mpsc::Receiver<UnixListener>,
        access: watch::Receiver<Arc<Access>>,
    ) -> Self {
        Self { listener, before: None, more, access, seats: Seats::default() }
    }

    /// The next client, wherever he comes in.
    async fn next(&mut self) -> std::io::Result<UnixStream> {
        loop {
            let before = async {
                match &self.before {
                    Some(it) => it.accept().await,
                    None => std::future::pending().await,
                }
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                accepted = before => accepted,
                Some(listener) = self.more.recv() => {
                    self.before = Some(std::mem::replace(&mut self.listener, listener));
                    continue;
                }
            };
            return accepted.map(|(stream, _)| stream);
        }
    }

    fn peer(&self, stream: &UnixStream) -> std::io::Result<Peer> {
        let cred = stream.peer_cred()?;
        let mut groups = peer::groups(stream.as_fd()).unwrap_or_default();
        groups.push(cred.gid());
        let (uid, pid) = (cred.uid(), cred.pid().unwrap_or(0));
        let (groups, access) = (groups.into(), self.access.clone());
        Ok(Peer { uid, pid, groups, access, by: Arc::default(), stage: Stage::default() })
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let stream = match self.next().await {
                Ok(stream) => stream,
                Err(err) => {
                    // Out of descriptors: let some go before the next try.
                    warn!(%err, "a client could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            match self.peer(&stream) {
                Ok(peer) => match self.seats.seat(stream, peer.uid, peer.role()) {
                    Some(connection) => {
                        let stage = connection.stage.clone();
                        return (connection, Peer { stage, ..peer });
                    }
                    None => debug!(uid = peer.uid, "has too many connections"),
                },
                Err(err) => warn!(%err, "the credentials of a client could not be read"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let (uid, access) = (Uid::effective().as_raw(), self.access.clone());
        let (groups, stage) = (Arc::new([]), Stage::default());
        Ok(Peer { uid, pid, groups, access, by: Arc::default(), stage })
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The audit login uid; `None` where none was set (4294967295, proc_pid_loginuid(5)).
fn login_uid(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|it| *it != u32::MAX)
}

fn sudo_uid(pid: i32) -> Option<u32> {
    environment(pid, "SUDO_UID")?.parse().ok()
}

/// A variable of a client's environment, as far as we may read it.
fn environment(pid: i32, name: &str) -> Option<String> {
    let bytes = slow::read(pid, "environ").ok()?;
    let text = bytes.split(|it| *it == 0).find_map(|it| {
        let (key, value) = std::str::from_utf8(it).ok()?.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })?;
    // It ends up in journals and on screens.
    Some(text.chars().filter(|it| !it.is_control()).take(128).collect())
}

pub fn user_name(uid: u32) -> String {
    // Asked for once: every connection wants it.
    accounts::user(&uid.to_string()).map_or_else(|| format!("uid {uid}"), |it| it.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_acts_a_named_group_looks_and_others_get_nothing() {
        let access = Access {
            operators: Principals { users: vec![0, 1000], groups: vec![] },
            viewers: Principals { users: vec![], groups: vec![50] },
            shared: true,
        };

        assert_eq!(access.role(0, &[]), Some(Role::Operator));
        assert_eq!(access.role(1000, &[50]), Some(Role::Operator));
        assert_eq!(access.role(1001, &[7, 50]), Some(Role::Viewer));
        assert_eq!(access.role(1001, &[7]), None);
    }
}
