//! Turns the fleet into `api` types: the only translator.
//!
//! Changes are gathered and sent at most once per `FRAME`: a burst costs one message. A subscriber
//! that lags is told so by the channel and asks for a new snapshot; there is never a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::api::{self, Change};
use crate::daemon::clock::{self, millis};
use crate::daemon::front::Gauges;
use crate::daemon::gateway::ledger::Tally;
use crate::daemon::show::briefs::Briefs;
use crate::daemon::show::facts::Facts;
use crate::fleet::input::{Goal, InFlight, Status};
use crate::fleet::sheet::{Condition, LastExit, ReloadSheet, RolloutSheet, ServiceSheet, Sheet};
use crate::fleet::{By, Fleet, Name, Timestamp};

/// The shortest time between two changes on the wire.
const FRAME: Duration = Duration::from_millis(16);
/// The same where only numbers of the traffic are others: they always are, and nobody reads faster.
const NUMBERS: Duration = Duration::from_millis(500);
/// Changes that wait for a slow subscriber before it gets a snapshot instead.
const BACKLOG: usize = 256;

/// What is not in the fleet and not in the facts: set by the daemon when it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub deck: String,
    pub host: String,
    pub pid: u32,
    pub at_boot: bool,
    pub config: api::Config,
    pub notices: Vec<String>,
}

#[derive(Debug)]
pub struct Publisher {
    frame: Frame,
    revision: u64,
    changes: broadcast::Sender<Arc<str>>,
    dirty: BTreeSet<Name>,
    /// Only their numbers are others.
    counted: BTreeSet<Name>,
    briefs: Briefs,
    removed: Vec<String>,
    events: Vec<api::Event>,
    frame_changed: bool,
    last: Timestamp,
    last_numbers: Timestamp,
}

impl Publisher {
    pub fn new(frame: Frame) -> Self {
        Self {
            frame,
            revision: 1,
            changes: broadcast::Sender::new(BACKLOG),
            dirty: BTreeSet::new(),
            counted: BTreeSet::new(),
            briefs: Briefs::default(),
            removed: vec![],
            events: vec![],
            frame_changed: false,
            last: Timestamp::default(),
            last_numbers: Timestamp::default(),
        }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Somebody looks: what only a screen needs is worth measuring.
    pub fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.changes.subscribe()
    }

    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    pub fn set_frame(&mut self, frame: Frame) {
        self.frame_changed |= self.frame != frame;
        self.frame = frame;
    }

    pub fn mark(&mut self, services: impl IntoIterator<Item = Name>) {
        for service in services {
            self.briefs.forget(&service);
            self.dirty.insert(service);
        }
    }

    /// Only numbers of their traffic have changed.
    pub fn mark_counted(&mut self, services: impl IntoIterator<Item = Name>) {
        self.counted.extend(services);
    }

    pub fn event(&mut self, event: api::Event) {
        self.events.push(event);
    }

    fn has_news(&self) -> bool {
        !self.dirty.is_empty() || !self.events.is_empty() || self.frame_changed
    }

    /// When [`Self::publish`] wants to be called, if there is something to say.
    pub fn due(&self) -> Option<Timestamp> {
        let news = self.has_news().then_some(self.last + FRAME);
        let numbers = !self.counted.is_empty() && self.is_watched();
        news.into_iter().chain(numbers.then_some(self.last_numbers + NUMBERS)).min()
    }

    /// Sends what changed without regard to the pace: before the end, when there is no next time, and
    /// before a snapshot, which has all of it already.
    pub fn publish_now(&mut self, now: Timestamp, fleet: &Fleet, facts: &Facts) {
        self.last = Timestamp::default();
        self.publish(now, fleet, facts);
    }

    /// Sends what changed, if the last time is long enough ago.
    pub fn publish(&mut self, now: Timestamp, fleet: &Fleet, facts: &Facts) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.last = now;
        self.revision += 1;
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.last_numbers + NUMBERS <= now {
            self.last_numbers = now;
            dirty.append(&mut self.counted);
        }
        self.counted.retain(|it| !dirty.contains(it));
        let events = std::mem::take(&mut self.events);
        let frame_changed = std::mem::take(&mut self.frame_changed);
        if !self.is_watched() {
            return;
        }
        let mut services = vec![];
        let mut removed = std::mem::take(&mut self.removed);
        for name in dirty {
            match fleet.service_sheet(name.as_str()) {
                Some(sheet) => services.push(service(&sheet, facts)),
                None => removed.push(name.to_string()),
            }
        }
        let change = Change::Change {
            revision: self.revision,
            now: clock::wall(),
            services,
            removed,
            events,
            config: frame_changed.then(|| self.frame.config.clone()),
            notices: frame_changed.then(|| self.frame.notices.clone()),
        };
        // Nobody is listening any more: nothing to do.
        let _ = self.changes.send(line(&change));
    }

    /// Everything, for a client in this role.
    pub fn deck(&self, fleet: &Fleet, facts: &Facts, role: api::Role) -> api::Deck {
        let sheets = fleet.service_names().into_iter();
        let services = sheets
            .filter_map(|it| fleet.service_sheet(it.as_str()))
            .map(|it| service(&it, facts))
            .collect();
        api::Deck { services, ..self.head(role) }
    }

    /// What every command wants to know first, as JSON.
    pub fn brief(&mut self, fleet: &Fleet, facts: &Facts, role: api::Role) -> String {
        let head = self.head(role);
        self.briefs.text(&head, fleet, facts)
    }

    fn head(&self, role: api::Role) -> api::Deck {
        api::Deck {
            deck: self.frame.deck.clone(),
            host: self.frame.host.clone(),
            revision: self.revision,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: self.frame.pid,
            now: Some(clock::wall()),
            config: self.frame.config.clone(),
            at_boot: self.frame.at_boot,
            role,
            notices: self.frame.notices.clone(),
            services: vec![],
        }
    }
}

/// One line of the stream, with its newline.
pub fn line(change: &Change) -> Arc<str> {
    let mut text = serde_json::to_string(change).unwrap_or_default();
    text.push('\n');
    text.into()
}

pub fn service(sheet: &ServiceSheet, facts: &Facts) -> api::Service {
    let instances: Vec<_> = sheet.instances.iter().map(|it| instance(it, facts)).collect();
    api::Service {
        name: sheet.name.to_string(),
        engine: sheet.engine.into(),
        profile: sheet.profile.to_string(),
        goal: goal(sheet.goal),
        state: worst(&instances),
        ready: number(sheet.ready),
        wanted: number(sheet.wanted),
        stale: sheet.stale,
        rollout: sheet.rollout.as_ref().map(rollout),
        can_roll_back: sheet.can_roll_back,
        gateway: facts.gateway(sheet.name.as_str()).cloned(),
        instances,
    }
}

/// The state an operator must hear of first.
fn worst(instances: &[api::Instance]) -> api::State {
    use api::State::{
        Backoff, Draining, Exited, Fatal, Lost, Running, Spawning, Starting, Stopped, Stopping,
    };
    const ORDER: [api::State; 10] =
        [Lost, Fatal, Backoff, Exited, Stopping, Draining, Spawning, Starting, Running, Stopped];
    let worst = ORDER.iter().find(|state| instances.iter().any(|it| it.state == **state));
    worst.copied().unwrap_or(Stopped)
}

fn instance(sheet: &Sheet, facts: &Facts) -> api::Instance {
    let wall = clock::wall_of;
    let usage = facts.usage(sheet.name.as_str()).filter(|_| sheet.process.is_some());
    let figures = facts.figures(sheet.name.as_str());
    let gauges = figures.and_then(|it| it.gauges).filter(|_| sheet.process.is_some());
    let port = facts.port(sheet.name.as_str()).filter(|_| sheet.process.is_some());
    // An estimate that nobody renews holds no longer.
    let is_renewed = port.is_some() || sheet.countdown.is_some();
    let in_flight = sheet.in_flight.filter(|it| it.is_exact() || is_renewed);
    let backlog = port.map(|it| it.backlog());
    let is_asked = matches!(sheet.condition, Condition::Running | Condition::Draining);
    let load = facts.load(sheet.name.as_str(), sheet.generation).filter(|_| is_asked);
    api::Instance {
        name: sheet.name.to_string(),
        service: sheet.service.to_string(),
        goal: goal(sheet.goal),
        state: state(sheet.condition),
        pid: sheet.process.map(|it| it.pid),
        start_time: sheet.process.map(|it| it.start_time),
        generation: sheet.generation,
        port: sheet.port,
        backup: sheet.backup,
        stale: sheet.stale,
        live: sheet.live,
        ready: sheet.ready,
        in_rotation: sheet.in_rotation,
        held_by: sheet.held_by.as_ref().map(By::to_string),
        in_flight: in_flight.map(InFlight::count),
        in_flight_exact: in_flight.is_some_and(|it| it.is_exact()),
        accept_queue: backlog.map(|it| it.waiting),
        accept_limit: backlog
            .filter(|_| port.is_some_and(|it| it.is_listening()))
            .map(|it| it.limit),
        connections: port.map(|it| it.established),
        oldest_ms: gauges.and_then(|it| it.oldest_ms),
        requests_per_second: gauges
            .map(|it| it.per_second)
            .or(load.and_then(|it| it.requests_per_second)),
        // Without a reply there is nothing that took that long.
        p99_ms: gauges.filter(|it| it.p99_us > 0).map(|it| it.p99_us.div_ceil(1000)),
        traffic: figures.map(|it| traffic(&it.tally, gauges.unwrap_or_default())),
        load: load.cloned(),
        ejected: gauges.is_some_and(|it| it.ejected),
        countdown: sheet.countdown.map(|it| api::Countdown {
            elapsed_ms: millis(clock::now().since(it.began)),
            max_wait_time_ms: millis(it.max_wait_time),
            kill_at: Some(wall(it.deadline)),
            rung: it.rung.map(|it| it.to_string()),
        }),
        retry_at: sheet.retry_at.map(wall),
        cpu_percent: usage.map(|it| it.cpu_percent),
        memory_bytes: usage.map(|it| it.memory_bytes),
        restarts: sheet.restarts,
        since: Some(wall(sheet.since)),
        started: sheet.started.map(wall),
        last_exit: sheet
            .last_exit
            .as_ref()
            .map(|it| last_exit(it, facts.last_words(sheet.name.as_str()))),
        reload: sheet.reload.as_ref().map(reload),
        probes: probes(sheet, facts),
        why: why(sheet, facts),
        // Read only for who asks.
        processes: vec![],
        more_processes: 0,
    }
}

fn reload(it: &ReloadSheet) -> api::Reload {
    const MOST: usize = 64;
    let gone = it.gone.iter().take(MOST);
    let gone = gone.map(|(who, took)| api::GoneWorker { pid: who.pid, took_ms: millis(*took) });
    api::Reload {
        number: it.number,
        by: it.by.to_string(),
        signal: it.signal.to_string(),
        since: Some(clock::wall_of(it.since)),
        renewed: number(it.renewed),
        of: number(it.of),
        gone: gone.collect(),
        ended: it.ended.map(clock::wall_of),
        complete: it.complete,
        told: it.told.clone(),
    }
}

pub fn traffic(tally: &Tally, gauges: Gauges) -> api::Traffic {
    let [informational, success, redirection, client_error, server_error] = tally.answered;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a reply")]
    let ms = |us: u64| us as f64 / 1000.0;
    api::Traffic {
        requests: tally.requests,
        informational,
        success,
        redirection,
        client_error,
        server_error,
        retried: tally.retried,
        cut: tally.cut,
        abandoned: tally.abandoned,
        connect_failed: tally.connect_failed,
        bytes_in: tally.bytes_in,
        bytes_out: tally.bytes_out,
        tunnels: gauges.tunnels,
        p50_ms: ms(gauges.p50_us),
        p95_ms: ms(gauges.p95_us),
        p99_ms: ms(gauges.p99_us),
    }
}

/// Why it is down ends with what it said last.
fn why(sheet: &Sheet, facts: &Facts) -> String {
    let down = matches!(sheet.condition, Condition::Backoff | Condition::Exited | Condition::Fatal);
    match facts.last_words(sheet.name.as_str()).filter(|_| down) {
        Some(words) => format!("{}: \"{words}\"", sheet.why),
        None => sheet.why.clone(),
    }
}

fn probes(sheet: &Sheet, facts: &Facts) -> BTreeMap<String, api::ProbeResult> {
    match sheet.process {
        Some(_) => facts.probes(sheet.name.as_str(), sheet.generation),
        None => BTreeMap::new(),
    }
}

fn last_exit(it: &LastExit, words: Option<&str>) -> api::LastExit {
    let (code, signal) = match it.exit.status {
        Status::Code(code) => (Some(code), None),
        Status::Signal(signal) => (None, Some(signal.to_string())),
        Status::Unknown => (None, None),
    };
    api::LastExit {
        at: Some(clock::wall_of(it.at)),
        code,
        signal,
        lost: it.lost.map_or(0, InFlight::count),
        lost_exact: matches!(it.lost, Some(InFlight::Exact(_))),
        cause: it.cause.clone(),
        words: words.map(str::to_owned),
    }
}

pub fn rollout(it: &RolloutSheet) -> api::Rollout {
    api::Rollout {
        by: it.by.to_string(),
        since: Some(clock::wall_of(it.began)),
        step: it.step.into(),
        instance: it.instance.as_ref().map(Name::to_string),
        done: number(it.renewed.len()),
        of: number(it.of),
        renewed: it.renewed.iter().map(Name::to_string).collect(),
        paused: it.paused,
        aborting: it.aborting,
        rollback: it.rollback,
        halted: it.halted.clone(),
        ended: it.ended.map(clock::wall_of),
    }
}

fn state(condition: Condition) -> api::State {
    match condition {
        Condition::Stopped => api::State::Stopped,
        Condition::Spawning => api::State::Spawning,
        Condition::Starting => api::State::Starting,
        Condition::Running => api::State::Running,
        Condition::Draining => api::State::Draining,
        Condition::Stopping => api::State::Stopping,
        Condition::Backoff => api::State::Backoff,
        Condition::Exited => api::State::Exited,
        Condition::Fatal => api::State::Fatal,
    }
}

pub fn goal(goal: Goal) -> api::Goal {
    match goal {
        Goal::Up => api::Goal::Up,
        Goal::Down => api::Goal::Down,
    }
}

pub fn actor(by: &By) -> api::Actor {
    api::Actor {
        uid: by.uid,
        login: by.login.to_string(),
        pid: by.pid,
        ssh: by.ssh.as_ref().map(|it| it.to_string()),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
