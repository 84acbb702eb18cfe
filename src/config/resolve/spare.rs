//! `rollout.surge`: a spare that clients can find, that can be told its port, with a name of its own.

use super::Resolver;
use super::whole::{as_table, table_in};
use crate::config::mistake::{Mistake, Span};
use crate::config::placeholder::names;
use crate::config::settings::Service;
use crate::config::value::{Entry, Layers, Table};

impl Resolver<'_> {
    /// Refuses what could not work. A default for all is meant for those that can have a spare.
    pub(super) fn spares(&mut self, roots: &[Table], services: &mut [Service]) {
        let entries: Vec<&Entry> = roots.iter().flat_map(|it| table_in(it, "service")).collect();
        for service in services.iter_mut() {
            let Some(trouble) = trouble(service) else { continue };
            let entry = entries.iter().find(|it| it.name == service.rules.name.as_str());
            match entry.and_then(|it| written(it)) {
                Some(span) => self.report_spare(service, trouble, span),
                None => service.rules.rollout.spare = None,
            }
            let most = u32::try_from(service.instances.len()).unwrap_or(u32::MAX);
            let rollout = &mut service.rules.rollout;
            rollout.min_ready = rollout.min_ready.filter(|it| *it + 1 < most);
        }
        for service in services.iter() {
            let entry = entries.iter().find(|it| it.name == service.rules.name.as_str());
            if let Some(entry) = entry {
                self.picked_ports(entry, service);
            }
            let Some(name) = &service.rules.rollout.spare else { continue };
            let taken = |it: &Service| {
                it.rules.name == *name || it.instances.iter().any(|it| it.name == name.as_str())
            };
            let Some(entry) = entries
                .iter()
                .find(|it| it.name == service.rules.name.as_str())
                .filter(|_| services.iter().any(taken))
            else {
                continue;
            };
            let span = written(entry).unwrap_or(entry.at);
            let title = format!("`{name}` is taken: the spare of `{}` has this name", entry.name);
            let mistake = Mistake::new(span, title, "this starts a spare");
            self.report(mistake.help("rename the other one"));
        }
    }

    /// `port = "auto"`: it has to be told, and nobody else may have the port already.
    fn picked_ports(&mut self, entry: &Entry, service: &Service) {
        let picked = service.instances.iter().find(|it| service.picks(it));
        let Some(picked) = picked.filter(|_| !service.is_foreign()) else { return };
        let (label, help) = if service.socket().is_some() {
            ("it accepts on the socket of its service", "remove port = \"auto\", or the socket")
        } else if !is_told(service) {
            (
                "it is not told which port was picked",
                "pass {port} in `command` or `environment`, or write the port that it has",
            )
        } else {
            return;
        };
        let title = format!("the port of `{}` cannot be picked", picked.name);
        self.report(Mistake::new(entry.at, title, label).help(help));
    }

    fn report_spare(&mut self, service: &Service, trouble: Trouble, span: Span) {
        let name = &service.rules.name;
        let (title, label, help) = match trouble {
            Trouble::NoGateway => (
                format!("nothing stands in front of `{name}`"),
                "clients could not find the spare",
                format!("add [gateway.NAME] with service = \"{name}\", or remove `surge`"),
            ),
            Trouble::Shared => (
                format!("the instances of `{name}` share a socket"),
                "a spare has a port of its own",
                "remove `surge`: connections wait in the socket while nobody accepts".to_owned(),
            ),
            Trouble::NoPort => (
                format!("the spare of `{name}` could not be told its port"),
                "it listens on a port that is picked when it starts",
                "pass {port} in `command` or `environment`".to_owned(),
            ),
        };
        self.report(Mistake::new(span, title, label).help(help));
    }
}

#[derive(Clone, Copy)]
enum Trouble {
    NoGateway,
    Shared,
    NoPort,
}

fn trouble(service: &Service) -> Option<Trouble> {
    service.rules.rollout.spare.as_ref()?;
    match (service.rules.fronted, service.socket(), is_told(service)) {
        (false, ..) => Some(Trouble::NoGateway),
        (true, Some(_), _) => Some(Trouble::Shared),
        (true, None, false) => Some(Trouble::NoPort),
        (true, None, true) => None,
    }
}

/// Whether a port that is picked reaches the program.
fn is_told(service: &Service) -> bool {
    let written = &service.written;
    let mut texts = written.command.iter().chain(written.environment.values());
    texts.any(|it| names(&it.0).any(|name| name == "port"))
}

/// Where the service itself says it.
fn written(entry: &Entry) -> Option<Span> {
    let own = Layers::new([as_table(entry)?]).inner("rollout");
    own.find("surge").map(|it| it.at)
}
