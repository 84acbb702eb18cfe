//! `[gateway.NAME]`: what stands in front of services.
//!
//! A gateway makes the drain of a service mean something, so its service hears of it here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Resolver;
use crate::config::mistake::{Mistake, Span};
use crate::config::read::suggestion;
use crate::config::settings::{Embedded, Gateway, Limits, Provider, Service};
use crate::config::value::{Data, Entry, Layers, Table};
use crate::fleet::words::Name;
use crate::quantity::format_duration;

impl Resolver<'_> {
    /// Every gateway of all files. Services that have one are marked.
    pub(super) fn gateways(&mut self, roots: &[Table], services: &mut [Service]) -> Vec<Gateway> {
        let mut gateways: Vec<Gateway> = vec![];
        let mut taken = BTreeMap::new();
        for entry in roots.iter().filter_map(|it| it.find("gateway")) {
            let Data::Table(table) = &entry.value.data else { continue };
            for entry in &table.entries {
                let Some(gateway) = self.gateway(entry, services, &mut taken) else { continue };
                if gateways.iter().any(|it| it.name == gateway.name) {
                    let title = format!("`{}` is the name of two gateways", gateway.name);
                    let mistake = Mistake::new(entry.at, title, "the second one");
                    self.report(mistake.help("rename one of them"));
                }
                self.refuse_shared_file(entry, &gateway, &gateways);
                gateways.push(gateway);
            }
        }
        gateways
    }

    fn gateway(
        &mut self,
        entry: &Entry,
        services: &mut [Service],
        taken: &mut BTreeMap<u16, (SocketAddr, Span)>,
    ) -> Option<Gateway> {
        let Data::Table(own) = &entry.value.data else { return None };
        let table = Layers::new([own]);
        let is_nginx = table.text("provider").is_some_and(|it| it.0 == "nginx");
        let nginx = self.nginx(entry, &table, is_nginx);
        let listen = if is_nginx { None } else { self.listen(entry, &table, services, taken) };
        let service = self.served(entry, &table, services)?;
        self.refuse_second(entry, service);
        (service.rules.fronted, service.rules.cuts_told) = (true, !is_nginx);
        let max_wait_time = service.rules.max_wait_time;
        let spare = usize::from(service.rules.rollout.spare.is_some());
        let instances = service.instances.len() + spare;
        let picked =
            service.instances.iter().find(|it| service.picks(it)).map(|it| it.name.clone());
        let service = service.rules.name.clone();
        let upgrade_wait = self.upgrade_wait(&table, max_wait_time);
        let or = |key: &str, seconds| {
            table.duration(key).map_or(Duration::from_secs(seconds), |it| it.0)
        };
        let name = Name::from(entry.name.as_str());
        if is_nginx {
            let nginx = nginx?;
            self.refuse_many_switches(entry, &nginx, instances);
            if let Some(picked) = picked {
                let title = format!("the port of `{picked}` is picked when it starts");
                let label = "nginx would have to be reloaded for each start";
                let help = format!("give it one: instance.{picked} = {{ port = 9501 }}");
                self.report(Mistake::new(entry.at, title, label).help(help));
            }
            return Some(Gateway { name, service, provider: Provider::Nginx(nginx) });
        }
        let embedded = Embedded {
            listen: listen?,
            hold: or("hold", 5),
            hold_max: table.integer("hold_max").map_or(1000, |it| it.0),
            upgrade_wait,
            connect_timeout: or("connect_timeout", 1),
            answer_timeout: or("answer_timeout", 60),
            limits: limits(&table.inner("limits")),
        };
        Some(Gateway { name, service, provider: Provider::Embedded(embedded) })
    }

    /// The address, if nobody else has its port.
    fn listen(
        &mut self,
        entry: &Entry,
        table: &Layers<'_>,
        services: &[Service],
        taken: &mut BTreeMap<u16, (SocketAddr, Span)>,
    ) -> Option<SocketAddr> {
        if table.find("listen").is_none() {
            let title = format!("the gateway `{}` listens nowhere", entry.name);
            let mistake = Mistake::new(entry.at, title, "nothing says where clients come in");
            self.report(mistake.absent().help("add listen = \"0.0.0.0:8080\""));
        }
        let (listen, span) = table.listen("listen")?;
        // A socket is told of as one, not as the port of the instance that has it for itself.
        let instances = services
            .iter()
            .filter(|it| {
                it.rules.enabled && it.socket().is_none_or(|it| it.listen.port() != listen.port())
            })
            .flat_map(|it| &it.instances);
        if let Some(instance) = instances.into_iter().find(|it| it.port == Some(listen.port())) {
            let title = format!("port {} belongs to `{}`", listen.port(), instance.name);
            let mistake = Mistake::new(span, title, "only one of them could listen");
            self.report(
                mistake.help("clients come in at the gateway's port, which is another one"),
            );
        }
        let holds = |it: &&Service| it.socket().is_some_and(|it| it.listen.port() == listen.port());
        if let Some(service) = services.iter().filter(|it| it.rules.enabled).find(holds) {
            let title = format!("port {} is the socket of `{}`", listen.port(), service.rules.name);
            let mistake = Mistake::new(span, title, "only one of them could listen");
            self.report(mistake.help("give the gateway a port of its own"));
        }
        let clashes = |other: &SocketAddr| {
            other.ip() == listen.ip() || other.ip().is_unspecified() || listen.ip().is_unspecified()
        };
        match taken.get(&listen.port()) {
            Some((other, first)) if clashes(other) => {
                let title = format!("two gateways listen on port {}", listen.port());
                let mistake = Mistake::new(span, title, "only one of them could");
                self.report(mistake.also(*first, "the other one").help("give each its own port"));
            }
            _ => {
                taken.insert(listen.port(), (listen, span));
            }
        }
        Some(listen)
    }

    /// The service behind it, if there is one that can be reached.
    fn served<'s>(
        &mut self,
        entry: &Entry,
        table: &Layers<'_>,
        services: &'s mut [Service],
    ) -> Option<&'s mut Service> {
        if table.find("service").is_none() {
            let title = format!("the gateway `{}` has no service behind it", entry.name);
            let mistake = Mistake::new(entry.at, title, "nothing says where requests go");
            self.report(mistake.absent().help("add service = \"web\""));
        }
        let (name, span) = table.text("service")?;
        let known: Vec<String> = services.iter().map(|it| it.rules.name.to_string()).collect();
        let Some(service) = services.iter_mut().find(|it| it.rules.name.as_str() == name) else {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let title = format!("there is no service `{name}` to stand in front of");
            let mistake = Mistake::new(span, title, "not a service");
            self.report(mistake.help(suggestion(name, &known, "the services are")));
            return None;
        };
        if let Some(without) =
            service.instances.iter().find(|it| it.port.is_none() && !service.picks(it))
        {
            let title = format!("`{}` has no port", without.name);
            let mistake = Mistake::new(span, title, "the gateway could not reach it");
            let help = format!("give it one: instance.{} = {{ port = 9501 }}", without.name);
            self.report(mistake.help(help));
        }
        Some(service)
    }

    fn refuse_second(&mut self, entry: &Entry, service: &Service) {
        if !service.rules.fronted {
            return;
        }
        let title = format!("`{}` has a gateway already", service.rules.name);
        let mistake = Mistake::new(entry.at, title, "this would be a second one");
        self.report(mistake.help("one gateway a service: its counts decide when a drain is over"));
    }

    /// Tunnels must be closed before the drain of their instance is cut short.
    fn upgrade_wait(&mut self, table: &Layers<'_>, max_wait_time: Duration) -> Duration {
        let default = Duration::from_secs(3).min(max_wait_time / 2);
        let Some((wait, span)) = table.duration("upgrade_wait") else { return default };
        if wait > max_wait_time {
            let title = format!(
                "`upgrade_wait` is longer than `max_wait_time`, which is {}",
                format_duration(max_wait_time)
            );
            let mistake = Mistake::new(span, title, "a stop ends before this does");
            self.report(mistake.help("raise max_wait_time of the service, or make it shorter"));
        }
        wait
    }
}

fn limits(table: &Layers<'_>) -> Limits {
    let default = Limits::default();
    let duration = |key: &str, default| table.duration(key).map_or(default, |it| it.0);
    let size = |key: &str, default| table.size(key).map_or(default, |it| it.0);
    Limits {
        connections: table.integer("connections").map_or(default.connections, |it| it.0),
        header_size: size("header_size", default.header_size),
        buffer: size("buffer", default.buffer),
        body_size: size("body_size", default.body_size),
        header_timeout: duration("header_timeout", default.header_timeout),
        idle_timeout: duration("idle_timeout", default.idle_timeout),
        body_timeout: duration("body_timeout", default.body_timeout),
    }
}
