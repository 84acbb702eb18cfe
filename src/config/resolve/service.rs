//! One service: its own keys, then its defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::foreign::{is_stopped_by_command, program_key};
use super::socket::share;
use super::{Names, Others, Resolver};
use crate::config::mistake::{Mistake, Span};
use crate::config::profiles::{Auto, KnownProfile, generic};
use crate::config::settings::{Instance, Launch, Load, Log, Service, Socket, Text, Written};
use crate::config::value::{Data, Entry, Layers, Table};
use crate::config::{capability, fingerprint};
use crate::fleet::rules::{Backoff, Chosen, Foreign, InstanceRules, Restart, Rung, ServiceRules};
use crate::fleet::words::{Name, Signal};
use crate::probe::Rights;
use crate::quantity::format_duration;

/// An instance as it is written.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) at: Span,
    pub(super) port: Option<u16>,
    /// It is picked at each start.
    pub(super) auto_port: bool,
    pub(super) backup: bool,
    pub(super) weight: Option<u32>,
}

impl Resolver<'_> {
    /// `None` where it is no table; what is mistaken otherwise has its default meanwhile.
    pub(super) fn service(&mut self, entry: &Entry, defaults: &Layers<'_>) -> Option<Service> {
        let Data::Table(own) = &entry.value.data else { return None };
        let table = &defaults.below(own);
        let socket = self.socket(entry, table);
        let mut members = members(entry, own);
        share(socket.as_ref(), &mut members);
        let profile = self.profile(table);
        // The command tells nothing; its tree may.
        let is_open = profile.profile.chosen == Chosen::Open;
        let auto = is_open.then(|| Auto {
            candidates: self.profiles.candidates(),
            has_stop: table.find("stop").is_some(),
            has_reserve: table.find("reserve").is_some(),
        });
        let written = self.written(entry, table);
        let foreign = self.foreign(entry, own, table, &members);
        let (probes, thresholds) = self.probes(table, &members);
        let load = self.load(table, &members);
        let gauged = matches!(&load, Load::Asked(it) if it.is_exact());
        let written = Written { probes, load, ..written };
        let instances: Vec<Instance> = members
            .iter()
            .map(|it| self.instance(entry, table, it, &written, socket.as_ref()))
            .collect();
        self.pidfiles_are_unique(table, &instances);
        let max_wait_time =
            table.duration("max_wait_time").map_or(Duration::from_secs(10), |it| it.0);
        let (mut rollout, build, rollback) = self.rollout(table, &entry.name, &members);
        if foreign.is_some() {
            rollout.spare = None;
        }
        let [startup, liveness, readiness] = thresholds;
        let rules = ServiceRules {
            name: Name::from(entry.name.as_str()),
            enabled: table.boolean("enabled").unwrap_or(true),
            restart: restart(table, foreign),
            retries: table.integer("retries").map(|it| it.0),
            backoff: self.backoff(table),
            start_seconds: table
                .duration("start_seconds")
                .map_or(Duration::from_secs(1), |it| it.0),
            max_wait_time,
            reserve: self
                .within(table, "reserve", max_wait_time)
                .unwrap_or_else(|| profile.profile.reserve(max_wait_time)),
            drain_delay: self.within(table, "drain_delay", max_wait_time).unwrap_or_default(),
            stop: self.ladder(table, &profile, max_wait_time),
            depends_on: table.texts("depends_on").into_iter().map(|it| Name::from(it.0)).collect(),
            instances: members
                .iter()
                .zip(&instances)
                .map(|(member, it)| rules_of(member, it))
                .collect(),
            startup,
            liveness,
            readiness,
            rollout,
            profile: profile.profile.clone(),
            fronted: false,
            cuts_told: false,
            gauged,
            reload_drain: table.inner("reload").boolean("drain").unwrap_or(false),
            foreign,
        };
        let user = table.text("user").map(|it| it.0.to_owned());
        let log = log(table);
        Some(Service { rules, profile, auto, instances, user, build, rollback, log, written })
    }

    fn profile(&mut self, table: &Layers<'_>) -> Arc<KnownProfile> {
        let Some((name, span)) = table.text("profile") else { return generic() };
        if name == "auto" {
            return self.profiles.guessed(table.command(program_key(table)).map_or(&[], |it| it.0));
        }
        let (profile, mistake) = self.profiles.named(name, span);
        self.mistakes.extend(mistake);
        profile
    }

    /// What instances are made from, without the probes.
    fn written(&mut self, entry: &Entry, table: &Layers<'_>) -> Written {
        let key = program_key(table);
        if table.find("command").is_none() && key == "command" {
            let title = format!("`{}` has no command", entry.name);
            let mistake = Mistake::new(entry.at, title, "nothing says what to run").absent();
            self.report(mistake.help("add command = \"program argument …\""));
        }
        if let Some((user, span)) = table.text("user") {
            self.refuse_names("user", user, span);
            self.refuse_blanks(user, span);
        }
        // Where it is mistaken nothing is started anyway.
        let command = table.command(key).map_or(&[][..], |it| it.0);
        let environment =
            table.inner("environment").entries().into_iter().filter_map(|it| {
                match &it.value.data {
                    Data::Text(text) => Some((it.name.clone(), Text(text.clone()))),
                    _ => None,
                }
            });
        let stop_command = table.command("stop_command").filter(|_| key == "start");
        let stop_command = stop_command.into_iter().flat_map(|it| it.0.iter().cloned().map(Text));
        Written {
            command: command.iter().cloned().map(Text).collect(),
            directory: table.text("directory").map(|it| it.0.to_owned()),
            pidfile: table.text("pidfile").filter(|_| key == "start").map(|it| it.0.to_owned()),
            stop_command: stop_command.into_iter().collect(),
            environment: environment.collect(),
            probes: BTreeMap::new(),
            load: Load::Unsaid,
        }
    }

    fn refuse_blanks(&mut self, user: &str, span: Span) {
        let is_odd = |it: char| it.is_whitespace() || it.is_control() || it == '/';
        let is_half = user.contains(':') && user.split(':').any(str::is_empty);
        if user.contains(is_odd) || is_half || user.matches(':').count() > 1 {
            let mistake = Mistake::new(span, "`user` must be a user of this host", "not a user");
            self.report(
                mistake.help("write it as \"www-data\", or with a group as \"www-data:www-data\""),
            );
        }
    }

    fn instance(
        &mut self,
        entry: &Entry,
        table: &Layers<'_>,
        member: &Member<'_>,
        written: &Written,
        socket: Option<&Socket>,
    ) -> Instance {
        let names = Names {
            service: &entry.name,
            instance: member.name,
            port: member.port,
            auto_port: member.auto_port,
        };
        let launch = Launch { socket: socket.cloned(), ..self.launch(table, names, written) };
        let probes = self.filled_probes(table, names, member, &launch, written);
        let load = self.filled_load(table, names, &written.load);
        let pidfile = self.pidfile(table, names, launch.directory.as_deref());
        let (name, port, weight) = (member.name.to_owned(), member.port, member.weight);
        let stop_command = self.stop_command(table, names);
        Instance { name, port, weight, launch, probes, load, pidfile, stop_command }
    }

    fn launch(&mut self, table: &Layers<'_>, names: Names<'_>, written: &Written) -> Launch {
        let place = |key: &str| {
            table.find(key).map(|it| it.value.span).unwrap_or(Span { file: 0, start: 0, end: 0 })
        };
        let command = place(program_key(table));
        let argv = written
            .command
            .iter()
            .map(|it| Text(self.fill(&it.0, command, names, Others::Stay)))
            .collect();
        let directory = written
            .directory
            .as_ref()
            .map(|it| PathBuf::from(self.fill(it, place("directory"), names, Others::Refuse)));
        let variables = table.inner("environment");
        let environment = written.environment.iter().map(|(name, value)| {
            let span = variables.find(name).map_or(command, |it| it.value.span);
            (name.clone(), Text(self.fill(&value.0, span, names, Others::Stay)))
        });
        let environment = environment.collect();
        let user = table.text("user").map(|it| it.0.to_owned());
        let rights = rights(table);
        Launch { argv, directory, environment, user, rights, socket: None }
    }

    fn backoff(&mut self, table: &Layers<'_>) -> Backoff {
        let backoff = table.inner("backoff");
        let (min, max) = (backoff.duration("min"), backoff.duration("max"));
        let minimum = min.map_or(Duration::from_secs(1), |it| it.0);
        let maximum = max.map_or(Duration::from_secs(60).max(minimum), |it| it.0);
        if let Some((_, span)) = max.or(min).filter(|_| minimum > maximum) {
            let title =
                format!("`backoff.min` is {}, longer than `backoff.max`", format_duration(minimum));
            let mistake = Mistake::new(span, title, "the waits grow from min to max");
            self.report(mistake.help("raise backoff.max, or lower backoff.min"));
        }
        let stable_after =
            table.duration("stable_after").map_or(Duration::from_secs(60), |it| it.0);
        Backoff { min: minimum, max: maximum, stable_after }
    }

    /// A duration that must fit into the budget of a stop.
    fn within(
        &mut self,
        table: &Layers<'_>,
        key: &str,
        max_wait_time: Duration,
    ) -> Option<Duration> {
        let (duration, span) = table.duration(key)?;
        if duration > max_wait_time {
            let title = format!(
                "`{key}` is longer than `max_wait_time`, which is {}",
                format_duration(max_wait_time)
            );
            let mistake = Mistake::new(span, title, "a stop ends before this does");
            let mistake = match table.duration("max_wait_time") {
                Some((_, place)) => mistake.also(place, "the whole stop has this long"),
                None => mistake,
            };
            self.report(mistake.help(format!("raise max_wait_time, or make {key} shorter")));
        }
        Some(duration)
    }

    fn ladder(
        &mut self,
        table: &Layers<'_>,
        profile: &KnownProfile,
        max_wait_time: Duration,
    ) -> Vec<Rung> {
        if is_stopped_by_command(table) {
            return vec![Rung { signal: Signal::COMMAND, wait: None }];
        }
        let default = vec![Rung { signal: profile.stop, wait: None }];
        let Some((values, span)) = table.list("stop") else { return default };
        if values.is_empty() {
            let mistake =
                Mistake::new(span, "`stop` names no signal", "a stop begins with a signal");
            self.report(mistake.help("write stop = [{ signal = \"SIGTERM\" }]"));
            return default;
        }
        let (mut rungs, mut spent) = (vec![], Duration::ZERO);
        for (n, value) in values.iter().enumerate() {
            let Data::Table(rung) = &value.data else { continue };
            let rung = Layers::new([rung]);
            let is_last = n + 1 == values.len();
            rungs.extend(self.rung(&rung, value.span, is_last));
            spent += rung.duration("wait").map_or(Duration::ZERO, |it| it.0);
            let never_ends = spent > max_wait_time || (!is_last && spent >= max_wait_time);
            if let Some((_, span)) = rung.duration("wait").filter(|_| never_ends) {
                self.report_too_long(table, span, spent, max_wait_time);
                break;
            }
        }
        if rungs.is_empty() { default } else { rungs }
    }

    fn report_too_long(
        &mut self,
        table: &Layers<'_>,
        span: Span,
        spent: Duration,
        max_wait_time: Duration,
    ) {
        let budget = format_duration(max_wait_time);
        let title =
            format!("the signals of `stop` wait longer than `max_wait_time`, which is {budget}");
        let label = format!("SIGKILL comes before this is over: {} so far", format_duration(spent));
        let mistake = Mistake::new(span, title, label);
        let mistake = match table.duration("max_wait_time") {
            Some((_, place)) => mistake.also(place, "the whole stop has this long"),
            None => mistake,
        };
        self.report(mistake.help(format!(
            "set max_wait_time to more than {}, or wait less",
            format_duration(spent)
        )));
    }

    fn rung(&mut self, rung: &Layers<'_>, span: Span, is_last: bool) -> Option<Rung> {
        let Some(entry) = rung.find("signal") else {
            let mistake =
                Mistake::new(span, "a step of `stop` has no signal", "nothing says what to send")
                    .absent();
            self.report(mistake.help("add signal = \"SIGTERM\""));
            return None;
        };
        if !is_last && rung.find("wait").is_none() {
            let mistake = Mistake::new(
                span,
                "this step of `stop` has no wait",
                "the next signal would follow at once",
            )
            .absent();
            self.report(mistake.help("add wait = \"5s\": how long to wait before the next signal"));
        }
        let Data::Signal(signal) = entry.value.data else { return None };
        Some(Rung { signal, wait: rung.duration("wait").map(|it| it.0) })
    }
}

/// The instances as written; without any, one that bears the service's name.
fn members<'a>(service: &'a Entry, own: &'a Table) -> Vec<Member<'a>> {
    let read = |it: &'a Entry| {
        let Data::Table(table) = &it.value.data else { return None };
        let table = Layers::new([table]);
        let port = table.find("port").and_then(|it| match it.value.data {
            Data::Integer(port) => u16::try_from(port).ok(),
            Data::Auto => None,
            // It is there, and mistaken: nobody need be told that the instance has none.
            _ => Some(0),
        });
        let auto_port = table.find("port").is_some_and(|it| matches!(it.value.data, Data::Auto));
        let backup = table.boolean("backup").unwrap_or(false);
        let weight = table.integer("weight").map(|it| it.0);
        Some(Member { name: &it.name, at: it.at, port, auto_port, backup, weight })
    };
    let written: Vec<Member<'_>> = match own.find("instance").map(|it| &it.value.data) {
        Some(Data::Table(table)) => table.entries.iter().filter_map(read).collect(),
        _ => vec![],
    };
    if !written.is_empty() {
        return written;
    }
    let (name, at) = (&service.name, service.at);
    vec![Member { name, at, port: None, auto_port: false, backup: false, weight: None }]
}

fn rules_of(member: &Member<'_>, instance: &Instance) -> InstanceRules {
    InstanceRules {
        name: Name::from(member.name),
        port: member.port,
        auto_port: member.auto_port,
        backup: member.backup,
        fingerprint: fingerprint::of(member.port, &instance.launch),
        pidfile: instance.pidfile.as_ref().map(|it| Name::from(&*it.to_string_lossy())),
    }
}

/// What others run is not restarted, unless failed liveness is to do that.
fn restart(table: &Layers<'_>, foreign: Option<Foreign>) -> Restart {
    if let Some(foreign) = foreign {
        return if foreign.liveness_restarts { Restart::Always } else { Restart::Never };
    }
    match table.text("restart").map(|it| it.0) {
        Some("on-failure") => Restart::OnFailure,
        Some("never") => Restart::Never,
        _ => Restart::Always,
    }
}

fn rights(table: &Layers<'_>) -> Rights {
    let kept = table.list("capabilities").map(|_| {
        let mut names: Vec<_> = table.texts("capabilities").into_iter().map(|it| it.0).collect();
        names.sort_by_key(|it| capability::number(it));
        names.dedup();
        names.into_iter().map(str::to_owned).collect()
    });
    Rights { no_new_privs: table.boolean("no_new_privs").unwrap_or(false), capabilities: kept }
}

fn log(table: &Layers<'_>) -> Log {
    let log = table.inner("log");
    let default = Log::default();
    let max_size = match log.find("max_size").map(|it| &it.value.data) {
        Some(Data::Size(bytes)) => *bytes,
        _ => default.max_size,
    };
    Log { max_size, keep: log.integer("keep").map_or(default.keep, |it| it.0) }
}
