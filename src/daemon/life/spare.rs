//! The port of a spare, and of an instance with `port = "auto"`: picked when it is first needed, by a build
//! or by the start, and kept while nobody else takes it.

use std::borrow::Cow;

use crate::config::settings::{Instance, Service};
use crate::daemon::hands::Hands;
use crate::daemon::life::launch::Trouble;
use crate::fleet::Name;
use crate::fleet::input::Input;
use crate::process::group::Group;
use crate::process::port;
use crate::process::table::Table;

/// Ports that are tried: the kernel may offer one that an instance has, which is down just now.
const TRIES: usize = 16;

impl Hands {
    /// Gives such an instance a port of its own, where it has none or somebody has taken it meanwhile.
    pub(in crate::daemon) fn give_port(&mut self, name: &Name) -> Result<(), Trouble> {
        if !self.picks_port(name) || self.living.contains_key(name) {
            return Ok(());
        }
        let old = self.known.get(name).and_then(|it| it.settings.port);
        if old.is_some_and(port::is_free) {
            return Ok(());
        }
        let is_ours = |port: &u16| {
            self.known.values().any(|it| it.settings.port == Some(*port))
                || self.living.values().any(|it| it.port == Some(*port))
        };
        let mut offers = (0..TRIES).map_while(|_| port::pick().ok());
        let found = offers.find(|it| !is_ours(it));
        let port = found.ok_or_else(|| Trouble::passing("no free port was found for it"))?;
        self.take_port(name, Some(port));
        Ok(())
    }

    /// It listens there: what is said of it everywhere follows.
    pub(in crate::daemon) fn take_port(&mut self, name: &Name, port: Option<u16>) {
        let Some(port) = port.filter(|_| self.picks_port(name)) else { return };
        let service = self.known.get(name).and_then(|it| self.service(&it.service));
        let Some(settings) = service.and_then(|it| made(it, name, Some(port))) else { return };
        if let Some(known) = self.known.get_mut(name) {
            known.settings = settings;
            known.prepared = None;
        }
        self.outcomes.push_back(Input::Port { instance: name.clone(), port });
    }

    /// What is configured for the process that runs, on the port it was started with.
    pub(in crate::daemon) fn settings_of_living(&self, name: &Name) -> Option<Cow<'_, Instance>> {
        let known = self.known.get(name)?;
        let configured = known.settings.port;
        let port = self.living.get(name).map_or(configured, |it| it.port);
        let service = self.service(&known.service).filter(|_| port != configured);
        let moved = service.and_then(|it| it.on_port(name.as_str(), port));
        Some(moved.map_or(Cow::Borrowed(&known.settings), Cow::Owned))
    }

    /// Where the process that runs listens.
    pub(in crate::daemon) fn port_of_living(&self, name: &Name) -> Option<u16> {
        self.living.get(name)?.port
    }

    /// The port of one that runs and that no record names: where it listens. Of several it is the one that
    /// it was told.
    pub(in crate::daemon) fn port_of(&self, name: &Name, group: &Group) -> Option<u16> {
        if !self.picks_port(name) {
            return None;
        }
        let members = group.members(&Table::sweep().ok()?).ok()?;
        let pids: Vec<_> = members.iter().map(|it| it.identity.pid).collect();
        let ports = port::listened_on(&pids).ok()?;
        let told = ports.iter().find(|it| port::is_told(group.leader().pid, **it));
        told.or(ports.first()).copied()
    }

    fn picks_port(&self, name: &Name) -> bool {
        let service = self.known.get(name).and_then(|it| self.service(&it.service));
        service.is_some_and(|it| made(it, name, None).is_some())
    }
}

/// The instance on this port, if it is one whose port is picked.
pub(in crate::daemon) fn made(
    service: &Service,
    name: &Name,
    port: Option<u16>,
) -> Option<Instance> {
    let spare = || service.spare(port).filter(|it| it.name == name.as_str());
    service.picked(name.as_str(), port).or_else(spare)
}
