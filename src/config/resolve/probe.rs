//! Probes: one kind each, on the instance's port.

use std::collections::BTreeMap;
use std::time::Duration;

use super::service::Member;
use super::{Names, Others, Resolver};
use crate::config::mistake::{Mistake, Span};
use crate::config::settings::{Launch, Written};
use crate::config::value::{Data, Entry, Layers};
use crate::fleet::input::Probe as ProbeKind;
use crate::fleet::rules::Thresholds;
use crate::probe::{Check, Expect, Haste, Probe, Rights};

pub(crate) const KINDS: [(ProbeKind, &str); 3] = [
    (ProbeKind::Startup, "startup"),
    (ProbeKind::Liveness, "liveness"),
    (ProbeKind::Readiness, "readiness"),
];

impl Resolver<'_> {
    /// The probes as they are written, with port 0 and nothing expanded; and their thresholds.
    pub(super) fn probes(
        &mut self,
        table: &Layers<'_>,
        members: &[Member<'_>],
    ) -> (BTreeMap<ProbeKind, Probe>, [Option<Thresholds>; 3]) {
        let mut probes = BTreeMap::new();
        let mut thresholds = [None; 3];
        for (slot, (kind, name)) in thresholds.iter_mut().zip(KINDS) {
            // A service's own probe replaces the one of its defaults: half an http and half a tcp
            // check make no probe.
            let Some(entry) = table.inner("probe").find(name) else { continue };
            let Data::Table(own) = &entry.value.data else { continue };
            let own = Layers::new([own]);
            let asks_port = ["http", "tcp", "grpc"].iter().any(|it| own.find(it).is_some());
            let has_port = members.iter().any(|it| it.port.is_some() || it.auto_port);
            if asks_port && !has_port && !table.nearest_is_own("probe", name) {
                // A default for all is meant for those that have a port.
                continue;
            }
            *slot = Some(self.thresholds(&own, kind, name));
            let Some(check) = self.check(entry, &own, name, members) else { continue };
            let or =
                |key, millis| own.duration(key).map_or(Duration::from_millis(millis), |it| it.0);
            let (initial_delay, period, timeout) =
                (or("initial_delay", 0), or("period", 10_000), or("timeout", 1_000));
            probes.insert(
                kind,
                Probe { check, initial_delay, period, timeout, haste: Haste::default() },
            );
        }
        (probes, thresholds)
    }

    fn thresholds(&mut self, probe: &Layers<'_>, kind: ProbeKind, name: &str) -> Thresholds {
        let success = probe.integer("success_threshold");
        if let Some((_, span)) = success.filter(|it| it.0 != 1 && kind != ProbeKind::Readiness) {
            let title = format!("`success_threshold` of a {name} probe must be 1");
            self.report(
                Mistake::new(span, title, "one success is enough, as in Kubernetes")
                    .help("remove it"),
            );
        }
        Thresholds {
            success: success.map_or(1, |it| it.0),
            failure: probe.integer("failure_threshold").map_or(3, |it| it.0),
        }
    }

    fn check(
        &mut self,
        entry: &Entry,
        probe: &Layers<'_>,
        name: &str,
        members: &[Member<'_>],
    ) -> Option<Check> {
        let given: Vec<&Entry> =
            ["http", "tcp", "grpc", "exec"].iter().filter_map(|it| probe.find(it)).collect();
        let [kind] = given[..] else {
            self.report_kinds(entry, name, &given);
            return None;
        };
        if let Some(expect) = probe.find("expect").filter(|_| kind.name != "http") {
            let title = format!("a probe by {} has no answer to expect something of", kind.name);
            self.report(
                Mistake::new(expect.at, title, "only http has one")
                    .help("remove it, or make it an http probe"),
            );
        }
        if kind.name != "exec" {
            self.want_ports(kind.at, name, members);
        }
        let inner = probe.inner(&kind.name);
        let host = || inner.text("host").map_or("127.0.0.1", |it| it.0).to_owned();
        match kind.name.as_str() {
            "http" => self.http(&inner, probe, host()),
            "tcp" => Some(Check::Tcp { host: host(), port: 0 }),
            "grpc" => {
                let service = inner.text("service").map_or("", |it| it.0).to_owned();
                Some(Check::Grpc { host: host(), port: 0, service })
            }
            _ => self.exec(kind, &inner),
        }
    }

    fn report_kinds(&mut self, entry: &Entry, name: &str, given: &[&Entry]) {
        let [first, rest @ ..] = given else {
            let title = format!("the {name} probe checks nothing");
            let mistake = Mistake::new(entry.at, title, "no http, tcp, grpc or exec").absent();
            return self
                .report(mistake.help("add http.path = \"/\", tcp = {} or exec.command = \"…\""));
        };
        for other in rest {
            let title = format!("the {name} probe is both `{}` and `{}`", first.name, other.name);
            let mistake =
                Mistake::new(other.at, title, "a second check").also(first.at, "the first check");
            self.report(mistake.help("keep one: a probe is one check"));
        }
    }

    fn want_ports(&mut self, at: Span, name: &str, members: &[Member<'_>]) {
        for member in members.iter().filter(|it| it.port.is_none() && !it.auto_port) {
            let title = format!("the {name} probe needs a port, and `{}` has none", member.name);
            let mistake = Mistake::new(at, title, "this asks the instance on its port");
            let mistake = mistake.also(member.at, "this has no port");
            self.report(mistake.help(format!(
                "give it one: instance.{} = {{ port = 9501 }}; or use exec.command",
                member.name
            )));
        }
    }

    fn http(&mut self, http: &Layers<'_>, probe: &Layers<'_>, host: String) -> Option<Check> {
        let path = http.text("path");
        if let Some((_, span)) = path.filter(|(it, _)| {
            !it.starts_with('/') || it.contains(|it: char| it.is_whitespace() || it.is_control())
        }) {
            let mistake = Mistake::new(
                span,
                "`path` must begin with a slash and have no blanks",
                "not the path of a URL",
            );
            self.report(
                mistake.help("write only the path and the query, as in \"/readiness?deep=1\""),
            );
        }
        let headers =
            http.inner("headers").entries().into_iter().filter_map(|it| match &it.value.data {
                Data::Text(text) => Some((it.name.clone(), text.clone())),
                _ => None,
            });
        let headers = headers.collect();
        let expect = probe.inner("expect");
        let text = |key: &str| expect.text(key).map(|it| it.0.to_owned());
        let expect = Expect { status: text("status"), body: text("body") };
        Some(Check::Http {
            host,
            port: 0,
            path: path.map_or("/", |it| it.0).to_owned(),
            headers,
            expect,
        })
    }

    fn exec(&mut self, kind: &Entry, exec: &Layers<'_>) -> Option<Check> {
        if exec.find("command").is_none() {
            let mistake =
                Mistake::new(kind.at, "the exec probe has no command", "nothing says what to run")
                    .absent();
            self.report(mistake.help("write exec.command = \"…\""));
        }
        let argv = exec.command("command")?.0.to_vec();
        Some(Check::Exec {
            argv,
            directory: None,
            environment: BTreeMap::new(),
            user: None,
            rights: Rights::default(),
        })
    }

    /// The probes of one instance.
    pub(super) fn filled_probes(
        &mut self,
        table: &Layers<'_>,
        names: Names<'_>,
        member: &Member<'_>,
        launch: &Launch,
        written: &Written,
    ) -> BTreeMap<ProbeKind, Probe> {
        let probes = table.inner("probe");
        let mut filled = BTreeMap::new();
        for (kind, probe) in &written.probes {
            let name = KINDS.iter().find(|it| it.0 == *kind).map_or("", |it| it.1);
            let Some(entry) = probes.find(name) else { continue };
            let places = Layers::new(match &entry.value.data {
                Data::Table(own) => Some(own),
                _ => None,
            });
            let port = member.port.unwrap_or_default();
            let check = self.filled(&probe.check, &places, entry.value.span, names, port, launch);
            filled.insert(*kind, Probe { check, ..probe.clone() });
        }
        filled
    }

    fn filled(
        &mut self,
        check: &Check,
        places: &Layers<'_>,
        or: Span,
        names: Names<'_>,
        port: u16,
        launch: &Launch,
    ) -> Check {
        let at =
            |table: &str, key: &str| places.inner(table).find(key).map_or(or, |it| it.value.span);
        match check {
            Check::Http { host, path, headers, expect, .. } => Check::Http {
                host: self.fill(host, at("http", "host"), names, Others::Refuse),
                port,
                path: self.fill(path, at("http", "path"), names, Others::Refuse),
                headers: headers
                    .iter()
                    .map(|(name, value)| {
                        (
                            name.clone(),
                            self.fill(value, at("http", "headers"), names, Others::Refuse),
                        )
                    })
                    .collect(),
                expect: Expect {
                    status: expect.status.clone(),
                    body: expect
                        .body
                        .as_ref()
                        .map(|it| self.fill(it, at("expect", "body"), names, Others::Stay)),
                },
            },
            Check::Tcp { host, .. } => {
                Check::Tcp { host: self.fill(host, at("tcp", "host"), names, Others::Refuse), port }
            }
            Check::Grpc { host, service, .. } => Check::Grpc {
                host: self.fill(host, at("grpc", "host"), names, Others::Refuse),
                port,
                service: self.fill(service, at("grpc", "service"), names, Others::Refuse),
            },
            Check::Exec { argv, .. } => Check::Exec {
                argv: argv
                    .iter()
                    .map(|it| self.fill(it, at("exec", "command"), names, Others::Stay))
                    .collect(),
                directory: launch.directory.clone(),
                environment: launch
                    .environment
                    .iter()
                    .map(|(name, value)| (name.clone(), value.0.clone()))
                    .collect(),
                user: launch.user.clone(),
                rights: launch.rights.clone(),
            },
        }
    }
}
