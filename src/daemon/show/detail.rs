//! One instance looked at closely, when somebody asks.
//!
//! The driver says what it knows (`Daemon::subject`); what `/proc` knows is read on a blocking thread, by
//! few at a time, so that who asks often slows nobody but himself. Secrets are masked here: they never leave
//! the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};

use crate::api::{self, Detail, ProbePast, ProbeResult, Role};
use crate::config::secret::{veiled, veiled_arguments};
use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::evidence::on_a_line;
use crate::daemon::http::peer::Peer;
use crate::daemon::http::{Api, Failure, Path, ending, not_found};
use crate::daemon::show::advice::Clues;
use crate::daemon::trees::tree::{READERS, Seen, Tree};
use crate::daemon::turn::Question;
use crate::fleet::Signal;
use crate::fleet::input::Probe as Kind;
use crate::fleet::rules::{Meaning, Thresholds};
use crate::load::sockets::{Backlog, Sockets};
use crate::probe::{Check, Probe};
use crate::process::preflight::{self, Disposition};
use crate::process::stat::read_stat;
use crate::process::table::Table;
use crate::process::{Identity, closeup};
use crate::quantity::format_duration;

/// How long a look at processes may take.
const LOOK: Duration = Duration::from_secs(5);
/// Of those, whose sockets are looked at: each of the others has them from one of these.
const LISTENERS: usize = 8;

/// Of the answer of a probe, in a sentence.
const MOST_OF_BODY: usize = 200;

/// Signals that an operator asks about, whether or not a profile knows them.
const ASKED_ABOUT: [Signal; 7] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::WINCH,
];

/// What is to be looked at, and what is known of it without looking.
#[derive(Debug)]
pub struct Subject {
    known: Detail,
    /// What runs, if anything does.
    running: Option<Tree>,
    log: String,
    pidfile: Option<String>,
    clues: Option<Clues>,
}

/// `GET /v1/instances/{name}/detail`
pub async fn detail(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(instance): Path<String>,
) -> Result<Json<Detail>, Failure> {
    let role = peer.role().unwrap_or_default();
    looked(&api, instance, move |it| it.look(role), |plain| plain).await
}

/// `GET /v1/instances/{name}/why`: sentences, the advice at their end.
pub async fn why(
    State(api): State<Api>,
    Path(instance): Path<String>,
) -> Result<Json<Vec<String>>, Failure> {
    looked(&api, instance, Subject::why, |plain| plain.why).await
}

/// Asks the driver, then looks on a blocking thread. `unlooked` makes the answer of what the driver knows where
/// that takes too long: a process that is stuck in the kernel may not let anybody read it.
async fn looked<T: Send + 'static>(
    api: &Api,
    instance: String,
    look: impl FnOnce(Subject) -> T + Send + 'static,
    unlooked: impl FnOnce(Detail) -> T,
) -> Result<Json<T>, Failure> {
    let asked = instance.clone();
    let subject = api.ask(|reply| Question::Detail { instance, reply }).await?;
    let mut subject = subject.ok_or_else(|| not_found(&asked))?;
    let leader = subject.running.as_ref().map(|it| it.leader);
    if let Some(clues) = &mut subject.clues {
        clues.follow(leader).await;
    }
    let mut plain = subject.known.clone();
    let looked = async {
        let turn = READERS.acquire().await.map_err(|_| ending())?;
        let look = move || {
            // One that is stuck keeps its turn.
            let _turn = turn;
            look(*subject)
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| ending())
    };
    Ok(Json(match tokio::time::timeout(LOOK, looked).await {
        Ok(looked) => looked?,
        Err(_) => {
            let time = format_duration(LOOK);
            let stuck = format!("its processes could not be looked at within {time}");
            plain.why.push(stuck.clone());
            plain.missing.push(stuck);
            unlooked(plain)
        }
    }))
}

impl Daemon {
    /// Why an instance is in its state, with what it said last.
    fn why(&self, instance: &str) -> Option<Vec<String>> {
        let mut why = self.fleet.why(instance)?;
        let words = self.facts.last_words(instance);
        why.extend(words.map(|it| format!("its last words were \"{it}\"")));
        let sheet = self.fleet.instance_sheet(instance)?;
        let probes = self.facts.probes(instance, sheet.generation);
        why.extend(probes.iter().filter_map(|(kind, result)| refusal(kind, result)));
        let load = self.facts.load(instance, sheet.generation).filter(|_| sheet.process.is_some());
        let silent = load.and_then(|it| Some((it.error.as_ref()?, &it.source)));
        why.extend(
            silent.map(|(error, source)| format!("its load is not known: {error} at {source}")),
        );
        Some(why)
    }

    /// What the detail of an instance begins with.
    pub(in crate::daemon) fn subject(&self, instance: &str) -> Option<Box<Subject>> {
        let sheet = self.fleet.instance_sheet(instance)?;
        let known = self.hands.known.get(instance);
        let service = self.hands.service(&sheet.service);
        let written = service.map(|it| &it.written);
        let command: Vec<String> =
            written.into_iter().flat_map(|it| &it.command).map(|it| it.0.clone()).collect();
        let probes = service.into_iter().flat_map(|it| {
            let rules = &it.rules;
            let thresholds = [
                (Kind::Startup, rules.startup),
                (Kind::Liveness, rules.liveness),
                (Kind::Readiness, rules.readiness),
            ];
            thresholds.into_iter().filter_map(|(kind, thresholds)| Some((kind, thresholds?)))
        });
        let past = |(kind, thresholds): (Kind, Thresholds)| {
            let probe = known?.settings.probes.get(&kind)?;
            let results = self.facts.past_of(instance, kind);
            let past = ProbePast { check: in_words(probe, thresholds), results };
            Some((crate::daemon::show::facts::kind(kind).to_owned(), past))
        };
        Some(Box::new(Subject {
            known: Detail {
                instance: sheet.name.to_string(),
                service: sheet.service.to_string(),
                why: self.why(instance).unwrap_or_default(),
                probes: probes.filter_map(past).collect(),
                exits: self.facts.exits(instance),
                command: veiled_arguments(&command).join(" "),
                ..Detail::default()
            },
            running: self.hands.tree(&sheet.name, &self.fleet),
            log: known.map_or_else(String::new, |it| {
                self.hands.source(&sheet.name, it.log).log.display().to_string()
            }),
            pidfile: known
                .and_then(|it| it.settings.pidfile.as_ref())
                .map(|it| it.display().to_string()),
            clues: self.clues(instance),
        }))
    }
}

/// What a probe that failed last was answered; its error alone rarely says what is wrong.
fn refusal(kind: &str, result: &ProbeResult) -> Option<String> {
    let body = result.body.as_deref().filter(|_| !result.ok)?;
    let line = on_a_line(body, body.len());
    let cut = line.floor_char_boundary(MOST_OF_BODY);
    let more = if cut < line.len() { "…" } else { "" };
    (!line.is_empty()).then(|| format!("{kind} was answered \"{}{more}\"", &line[..cut]))
}

/// `GET /readiness on port 9502 every 2s, timeout 1s, fails after 3`
fn in_words(probe: &Probe, thresholds: Thresholds) -> String {
    let what = match &probe.check {
        Check::Http { port, path, .. } => {
            let path = veiled_arguments(std::slice::from_ref(path)).join(" ");
            format!("GET {path} on port {port}")
        }
        Check::Tcp { port, .. } => format!("a connection to port {port}"),
        Check::Grpc { port, service, .. } if service.is_empty() => {
            format!("gRPC health on port {port}")
        }
        Check::Grpc { port, service, .. } => format!("gRPC health of {service} on port {port}"),
        Check::Exec { argv, .. } => format!("`{}`", veiled_arguments(argv).join(" ")),
    };
    let (period, timeout) = (format_duration(probe.period), format_duration(probe.timeout));
    format!("{what} every {period}, timeout {timeout}, fails after {}", thresholds.failure)
}

impl Subject {
    /// Reads what the kernel knows. Blocking.
    fn look(self, role: Role) -> Detail {
        let Self { known: mut detail, running, log, pidfile, clues } = self;
        detail.now = Some(clock::wall());
        let mut seen = vec![];
        let table = Table::sweep();
        let mut files = api::Files { log, pidfile, ..api::Files::default() };
        if let Some(tree) = running {
            let leader = tree.leader;
            let mut look = Look { leader, missing: vec![] };
            let meanings = tree.profile().map_or(&[][..], |it| &it.profile.signals);
            (seen, detail.more_processes) = look.tree(table.as_ref(), &tree);
            detail.processes = tree.told(&seen, usize::MAX);
            let pids: Vec<i32> = detail.processes.iter().map(|it| it.pid).collect();
            detail.signals = look.signals(meanings);
            detail.limits = look.limits();
            look.files(&pids, &mut files);
            match role {
                Role::Operator => detail.environment = look.environment(),
                Role::Viewer => look.missing.push("the environment is for operators".into()),
            }
            // The number may be another process's by now; what was read then is not told.
            if !read_stat(leader.pid).is_ok_and(|it| it.identity == leader) {
                (detail.environment, detail.signals) = (None, vec![]);
                look.missing.push("it ended while it was looked at".into());
            }
            detail.missing = look.missing;
        }
        detail.files = Some(files);
        let table = table.as_ref().ok().filter(|_| detail.more_processes == 0);
        detail.advice = clues.map_or(vec![], |it| it.advice(table, &seen));
        detail.why.extend(detail.advice.iter().map(|it| it.sentence.clone()));
        detail
    }

    /// The sentences alone. Blocking.
    fn why(self) -> Vec<String> {
        let Self { known, running, clues, .. } = self;
        let mut why = known.why;
        let Some(clues) = clues else { return why };
        let table = Table::sweep();
        let (tree, more) = running.map_or((vec![], 0), |it| {
            Look { leader: it.leader, missing: vec![] }.tree(table.as_ref(), &it)
        });
        let table = table.as_ref().ok().filter(|_| more == 0);
        why.extend(clues.advice(table, &tree).into_iter().map(|it| it.sentence));
        why
    }
}

/// A look at a process that runs; what could not be seen is noted.
struct Look {
    leader: Identity,
    missing: Vec<String>,
}

impl Look {
    fn seen<T: Default>(&mut self, what: &str, read: io::Result<T>) -> T {
        read.unwrap_or_else(|err| {
            self.missing.push(format!("{what} cannot be read: {err}"));
            T::default()
        })
    }

    fn tree(&mut self, table: Result<&Table, &io::Error>, tree: &Tree) -> (Vec<Seen>, u32) {
        let seen = table.map_err(|err| io::Error::from(err.kind())).and_then(|it| tree.seen(it));
        self.seen("its processes", seen)
    }

    fn signals(&mut self, meanings: &[Meaning]) -> Vec<api::SignalDetail> {
        let all = self.seen("its signals", preflight::dispositions(self.leader.pid));
        let does: BTreeMap<i32, Disposition> = all.into_iter().collect();
        let wanted: BTreeSet<Signal> = does
            .iter()
            .filter(|it| *it.1 == Disposition::Caught)
            .map(|it| Signal(*it.0))
            .chain(meanings.iter().map(|it| it.signal))
            .chain(ASKED_ABOUT)
            .collect();
        let one = |signal: Signal| {
            let does = match does.get(&signal.0)? {
                Disposition::Caught => "caught",
                Disposition::Ignored => "ignored",
                Disposition::Default => "default",
            };
            let means = meanings.iter().find(|it| it.signal == signal);
            Some(api::SignalDetail {
                signal: signal.to_string(),
                number: signal.0,
                does: does.into(),
                means: means.map(|it| it.does.clone()),
            })
        };
        wanted.into_iter().filter_map(one).collect()
    }

    fn limits(&mut self) -> Vec<api::Limit> {
        let all = self.seen("its limits", closeup::limits(self.leader.pid));
        let limit = |it: closeup::Limit| api::Limit {
            name: it.name,
            soft: it.soft,
            hard: it.hard,
            unit: it.unit,
        };
        all.into_iter().map(limit).collect()
    }

    fn environment(&mut self) -> Option<Vec<api::Variable>> {
        let (all, is_cut) = match closeup::environment(self.leader.pid) {
            Ok(read) => read,
            Err(err) => {
                self.missing.push(format!("its environment cannot be read: {err}"));
                return None;
            }
        };
        if is_cut {
            self.missing.push("only the first 64 KiB of its environment are shown".into());
        }
        let variable = |(name, value): (String, String)| {
            let shown = veiled(&name, &value).into_owned();
            api::Variable { masked: shown != value, name, value: shown }
        };
        Some(all.into_iter().map(variable).collect())
    }

    fn files(&mut self, pids: &[i32], files: &mut api::Files) {
        let pid = self.leader.pid;
        let open = self.seen("its descriptors", closeup::open_files(pid));
        files.open = open.kinds.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
        let mut sockets = open.sockets;
        for other in pids.iter().filter(|it| **it != pid).take(LISTENERS) {
            // It may have ended, or be another user's.
            sockets.extend(closeup::open_files(*other).unwrap_or_default().sockets);
        }
        files.listening = self.seen("listening sockets", closeup::listening(&sockets));
        files.unix_sockets = self.seen("Unix sockets", closeup::unix_listening(&sockets));
        files.ports = self.ports(&files.listening);
        files.cwd = closeup::directory(pid).ok().map(|it| it.display().to_string());
        files.exe = closeup::program(pid).ok().map(|it| it.display().to_string());
    }
}

impl Look {
    /// The queues of where it listens.
    fn ports(&mut self, listening: &[String]) -> Vec<api::ListeningPort> {
        let number = |it: &String| it.rsplit_once(':')?.1.parse().ok();
        let ports: BTreeSet<u16> = listening.iter().filter_map(number).collect();
        if ports.is_empty() {
            return vec![];
        }
        let dump = self.seen("connections", Sockets::open().and_then(|mut it| it.dump()));
        let one = |port: u16| {
            let it = dump.get(&port).filter(|it| it.is_listening())?;
            let Backlog { waiting, limit } = it.backlog();
            Some(api::ListeningPort {
                port,
                connections: it.established,
                accept_queue: waiting,
                accept_limit: limit,
            })
        };
        ports.into_iter().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_probe_was_answered_is_one_line_that_is_cut() {
        let result =
            |ok, body: &str| ProbeResult { ok, body: Some(body.into()), ..ProbeResult::default() };
        let told = |it| refusal("readiness", &it);
        let json = "{\n  \"db\": \"gone\"\n}\n";
        assert_eq!(
            told(result(false, json)).unwrap(),
            r#"readiness was answered "{ "db": "gone" }""#
        );
        assert_eq!((told(result(true, json)), told(result(false, " \n"))), (None, None));
        assert_eq!(told(ProbeResult { ok: false, ..ProbeResult::default() }), None);
        let long = told(result(false, &"ä".repeat(500))).unwrap();
        assert!(long.ends_with("ä…\"") && long.chars().count() < 130, "{long}");
    }
}
