//! Instances whose port is picked when they are started: the spare of a rolling restart
//! (`rollout.surge`), which has a name of its own, and those with `port = "auto"`. They are made from what
//! is written for all instances of their service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::placeholder::{put_in, unescape};
use super::settings::{Instance, Launch, Load, Service, Text};
use crate::load::source::Source;
use crate::probe::{Check, Probe};

impl Service {
    /// The spare on this port, if this service has one. Without a port `{port}` stays as it is.
    pub fn spare(&self, port: Option<u16>) -> Option<Instance> {
        let name = self.rules.rollout.spare.as_ref()?.to_string();
        Some(self.made(name, port, None))
    }

    /// An instance with `port = "auto"` on this port. `None`: its port is not picked, or it is none of this
    /// service.
    pub fn picked(&self, name: &str, port: Option<u16>) -> Option<Instance> {
        let it = self.instances.iter().find(|it| it.name == name && self.picks(it))?;
        Some(self.made(it.name.clone(), port, it.weight))
    }

    /// An instance of this service as it would be on this port: what runs may be on the one it was started
    /// with.
    pub fn on_port(&self, name: &str, port: Option<u16>) -> Option<Instance> {
        let spare = || self.spare(port).filter(|it| it.name == name);
        let own = self.instances.iter().find(|it| it.name == name);
        own.map(|it| self.made(it.name.clone(), port, it.weight)).or_else(spare)
    }

    fn made(&self, name: String, port: Option<u16>, weight: Option<u32>) -> Instance {
        let names = self.names(&name, port);
        let written = &self.written;
        let variables = written.environment.iter();
        let launch = Launch {
            argv: written.command.iter().map(|it| Text(put_in(&it.0, &names))).collect(),
            directory: written.directory.as_ref().map(|it| PathBuf::from(finished(it, &names))),
            environment: variables
                .map(|(name, value)| (name.clone(), Text(put_in(&value.0, &names))))
                .collect(),
            user: self.user.clone(),
            rights: self.rights().cloned().unwrap_or_default(),
            socket: self.socket().cloned(),
        };
        let filled =
            |it: &Probe| Probe { check: check(&it.check, &names, port, &launch), ..it.clone() };
        let probes = written.probes.iter().map(|(kind, it)| (*kind, filled(it))).collect();
        let load = match &written.load {
            Load::Asked(it) => Some(Source { at: finished(&it.at, &names), ..it.clone() }),
            Load::Unsaid | Load::Gateway | Load::Sockets => None,
        };
        Instance { name, port, weight, launch, probes, load, pidfile: None, stop_command: vec![] }
    }
}

/// Where no other names may stand.
fn finished(text: &str, names: &BTreeMap<String, String>) -> String {
    unescape(&put_in(text, names))
}

fn check(
    written: &Check,
    names: &BTreeMap<String, String>,
    own_port: Option<u16>,
    launch: &Launch,
) -> Check {
    let mut check = written.clone();
    match &mut check {
        Check::Http { host, port, path, headers, expect } => {
            for text in [host, path].into_iter().chain(headers.values_mut()) {
                *text = finished(text, names);
            }
            *port = own_port.unwrap_or_default();
            expect.body = expect.body.as_ref().map(|it| put_in(it, names));
        }
        Check::Tcp { host, port } => {
            *host = finished(host, names);
            *port = own_port.unwrap_or_default();
        }
        Check::Grpc { host, port, service } => {
            *host = finished(host, names);
            *service = finished(service, names);
            *port = own_port.unwrap_or_default();
        }
        Check::Exec { argv, directory, environment, user, rights } => {
            for word in argv {
                *word = put_in(word, names);
            }
            directory.clone_from(&launch.directory);
            let variables = launch.environment.iter();
            *environment = variables.map(|(name, it)| (name.clone(), it.0.clone())).collect();
            user.clone_from(&launch.user);
            rights.clone_from(&launch.rights);
        }
    }
    check
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// An instance that is configured with the same name and port would be the same.
    #[test]
    fn a_spare_is_what_an_instance_of_that_name_and_port_would_be() {
        let text = "[service.web]\ncommand = \"web {instance} {port} {version} {{x}}\"\n\
            directory = \"/srv/{instance}\"\nenvironment = { P = \"{port}\" }\nuser = \"root\"\n\
            instance.web1 = { port = 1 }\nINSTANCE\
            probe.startup = { exec.command = \"check {port} {version}\" }\n\
            probe.liveness = { tcp.host = \"127.0.0.1\" }\n\
            probe.readiness = { http = { path = \"/{service}/{{i}}\", headers = { H = \"{instance}\" } }, expect.body = \"{port} \\\\d{{2}}\" }\n\
            SURGE\n[gateway.g]\nservice = \"web\"\nlisten = 80\n";
        let written = text.replace("INSTANCE", "instance.web-surge = { port = 7 }\n");
        let written = parse("c", &written.replace("SURGE", "")).unwrap();
        let surge = text.replace("INSTANCE", "").replace("SURGE", "rollout.surge = true");
        let surge = parse("c", &surge).unwrap_or_else(|err| panic!("{}", err.render(false)));
        let (expected, service) = (&written.services[0].instances[1], &surge.services[0]);
        assert_eq!(service.spare(Some(7)).as_ref(), Some(expected));
        assert_eq!(service.instances, written.services[0].instances[..1]);
        assert_eq!(service.spare(None).unwrap().launch.environment["P"].0, "{port}");
        assert_eq!(written.services[0].spare(Some(7)), None);
        let moved = parse("c", &text.replace("INSTANCE", "").replace("SURGE", "")).unwrap();
        let moved = moved.services[0].on_port("web1", Some(7));
        let there = text.replace("port = 1 ", "port = 7 ");
        let there = parse("c", &there.replace("INSTANCE", "").replace("SURGE", "")).unwrap();
        assert_eq!(moved.as_ref(), Some(&there.services[0].instances[0]));
    }
}
