//! `socket` of a service: what the daemon listens on for it.

use super::Resolver;
use super::service::Member;
use crate::config::mistake::Mistake;
use crate::config::settings::Socket;
use crate::config::value::{Entry, Layers};

/// More is no name to systemd, whose convention this is (sd_listen_fds_with_names(3)).
const LONGEST_NAME: usize = 255;
const BACKLOG: u32 = 4096;

impl Resolver<'_> {
    /// The socket of a service, if it has one.
    pub(super) fn socket(&mut self, service: &Entry, table: &Layers<'_>) -> Option<Socket> {
        let entry = table.find("socket")?;
        let socket = table.inner("socket");
        if socket.find("listen").is_none() {
            let title = format!("the socket of `{}` listens nowhere", service.name);
            let mistake = Mistake::new(entry.at, title, "nothing says where clients come in");
            self.report(mistake.absent().help("add listen = \"0.0.0.0:8080\""));
        }
        let name = socket.text("name").map_or(service.name.as_str(), |(name, span)| {
            let fits = |it: char| (' '..='~').contains(&it) && it != ':';
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
                let mistake =
                    Mistake::new(span, "this cannot be the name of a socket", "not a name");
                let help = format!("use 1 to {LONGEST_NAME} printable characters, and no colon");
                self.report(mistake.help(help));
            }
            name
        });
        Some(Socket {
            listen: socket.listen("listen")?.0,
            name: name.to_owned(),
            backlog: socket.integer("backlog").map_or(BACKLOG, |it| it.0),
        })
    }
}

/// The port of the socket is the port of an instance that has it for itself. Of several, nobody can
/// say who will accept: what asks one of them needs another port.
pub(super) fn share(socket: Option<&Socket>, members: &mut [Member<'_>]) {
    if let (Some(socket), [alone]) = (socket, members) {
        alone.port = alone.port.or(Some(socket.listen.port()));
    }
}
