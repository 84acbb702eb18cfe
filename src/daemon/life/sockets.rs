//! Listening sockets of services: bound here, passed to every generation, held while nobody accepts.
//!
//! A connection that comes while no generation runs waits in the socket; the next one accepts it. So a
//! socket must never be closed in between, which is why it is held here, and bound when an instance is
//! started for the first time. The end of the daemon closes only its own copy: the next one takes it
//! back from an instance that runs on ([`crate::process::listener`]). Where the kernel forbids that, it
//! is bound anew once the last instance that has it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::listen;

use crate::config::settings::{Settings, Socket};
use crate::daemon::gateway::listeners;
use crate::daemon::hands::Hands;
use crate::fleet::input::Goal;
use crate::fleet::sheet::Condition;
use crate::fleet::{Fleet, Name};
use crate::process::listener;

/// By service.
pub(in crate::daemon) type Sockets = BTreeMap<Name, (SocketAddr, Arc<OwnedFd>)>;

/// Closes what no service has any more, and lets as many wait as is configured now. An address that
/// changed stays open until the next start.
pub(in crate::daemon) fn configure(sockets: &mut Sockets, settings: &Settings) {
    sockets.retain(|name, (_, held)| {
        let service = settings.services.iter().find(|it| it.rules.name == *name);
        let Some(socket) = service.and_then(|it| it.socket()) else { return false };
        // It listens already: this only changes the number, and cannot fail.
        let _ = listen(&**held, backlog(socket));
        true
    });
}

fn backlog(socket: &Socket) -> i32 {
    i32::try_from(socket.backlog).unwrap_or(i32::MAX)
}

impl Hands {
    /// The socket that a start of this service passes on.
    pub(in crate::daemon) fn socket_for(
        &mut self,
        service: &Name,
        socket: &Socket,
    ) -> Result<Arc<OwnedFd>, String> {
        if let Some((address, held)) = self.sockets.get(service)
            && *address == socket.listen
        {
            return Ok(held.clone());
        }
        let opened = match listeners::open(socket.listen, backlog(socket)) {
            // Another instance may still have it.
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
                self.taken_back(service, socket.listen).ok().flatten().ok_or(err)
            }
            opened => opened,
        };
        let held = opened.map_err(|err| listeners::trouble(socket.listen, &err))?;
        let held = Arc::new(held);
        self.sockets.insert(service.clone(), (socket.listen, held.clone()));
        Ok(held)
    }

    /// The sockets, for the program that this process becomes.
    pub(in crate::daemon) fn leave_sockets(&mut self) -> BTreeMap<String, OwnedFd> {
        let sockets = std::mem::take(&mut self.sockets).into_iter();
        // One that cannot be copied can still be taken back from an instance.
        sockets
            .filter_map(|(name, (_, it))| Some((name.to_string(), it.try_clone().ok()?)))
            .collect()
    }

    /// Takes over those of the program before.
    pub(in crate::daemon) fn take_over_sockets(&mut self, left: BTreeMap<String, OwnedFd>) {
        for (name, it) in left {
            if let Some(address) = crate::daemon::gateway::address_of(&it) {
                self.sockets.insert(Name::from(name.as_str()), (address, Arc::new(it)));
            }
        }
    }

    /// Takes back what instances of an earlier daemon listen on; says what could not be.
    pub(in crate::daemon) fn take_sockets_back(&mut self, settings: &Settings) -> Vec<String> {
        let mut troubles = vec![];
        for service in &settings.services {
            let (name, Some(socket)) = (&service.rules.name, service.socket()) else { continue };
            if self.sockets.contains_key(name) {
                continue;
            }
            match self.taken_back(name, socket.listen) {
                Ok(Some(held)) => {
                    self.sockets.insert(name.clone(), (socket.listen, Arc::new(held)));
                }
                Ok(None) => (),
                Err(err) => troubles.push(format!(
                    "the socket {} of {name} stays with its instances alone: it could not be taken back ({err}; \
                     see kernel.yama.ptrace_scope): until all of them have been restarted, connections \
                     that wait in it are lost when the last of them ends",
                    socket.listen
                )),
            }
        }
        troubles
    }

    fn taken_back(&self, service: &Name, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        let is_member = |name: &Name| self.known.get(name).is_some_and(|it| it.service == *service);
        for (_, living) in self.living.iter().filter(|it| is_member(it.0)) {
            let Some(pidfd) = &living.pidfd else { continue };
            if let Some(held) = listener::take(living.process.pid, pidfd.as_fd(), address)? {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// Closes the sockets of services that are down for good: clients had better be refused than wait
    /// for nobody.
    pub(in crate::daemon) fn release_sockets(&mut self, changed: &BTreeSet<Name>, fleet: &Fleet) {
        if self.sockets.is_empty() {
            return;
        }
        for name in changed.iter().filter(|it| is_down(it, fleet)) {
            self.sockets.remove(name);
        }
    }
}

fn is_down(service: &Name, fleet: &Fleet) -> bool {
    let Some(sheet) = fleet.service_sheet(service.as_str()) else { return true };
    sheet.instances.iter().all(|it| {
        let given_up = matches!(it.condition, Condition::Exited | Condition::Fatal);
        it.process.is_none() && (it.goal == Goal::Down || given_up)
    })
}
