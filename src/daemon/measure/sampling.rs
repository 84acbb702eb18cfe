//! Measures: CPU and memory of every instance's tree, connections of every port.
//!
//! Often while somebody looks, or while a stop wants to know what is in flight; else now and then, CPU and
//! memory alone, so that who looks then sees the minutes before. The work is done on a blocking thread, one
//! measurement at a time, and comes back as turns. What a stop has cut off is
//! asked for once more in the moment of the exit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::{Hands, Known};
use crate::daemon::turn::{Turn, Turns};
use crate::fleet::input::{InFlight, Input};
use crate::fleet::{Fleet, Name, Timestamp};
use crate::load::losses::{Losses, Lost};
use crate::load::sockets::{Port, Sockets};
use crate::process::Identity;
use crate::process::group::Group;
use crate::process::usage::{self, Usage};

/// While somebody looks.
const WATCHED: Duration = Duration::from_secs(2);
/// While an instance with a port is being stopped.
const DRAINING: Duration = Duration::from_millis(100);
/// While nobody looks.
const UNWATCHED: Duration = Duration::from_secs(10);
/// The same on a host where it takes long.
const UNWATCHED_AT_MOST: Duration = Duration::from_secs(45);
/// Measuring for nobody takes at most one part in so many of a core.
const SHARE: u32 = 1000;
/// A measurement this young needs no other one before an order.
const FRESH: Duration = Duration::from_millis(500);

/// What measures, between two measurements.
#[derive(Debug, Default)]
struct Meter {
    usage: usage::Sampler,
    sockets: Option<Sockets>,
}

/// What came of one measurement.
#[derive(Debug, Default)]
pub struct Measured {
    usages: Vec<(String, Usage)>,
    ports: Vec<(Name, Port)>,
    /// Requests in flight, where nobody counted them when it began.
    estimates: Vec<Estimate>,
    /// The ports were looked at, whatever came of it.
    looked: bool,
    /// How long CPU and memory took, where they were measured.
    took: Option<Duration>,
}

/// Requests in flight, as far as the kernel tells.
type Estimate = (Name, u32);

type Root = (Name, Identity, Option<Group>);

/// Whose port it is, and whether estimates of what is in flight there are not wanted.
type Ports = BTreeMap<u16, (Name, bool)>;

#[derive(Debug)]
pub struct Sampler {
    turns: Turns,
    tasks: TaskTracker,
    meter: Arc<Mutex<Meter>>,
    /// A measurement is under way, or what came of it.
    busy: bool,
    watched: bool,
    /// The ports were looked at since somebody looks.
    pub(in crate::daemon) looked: bool,
    /// Instances that were taken out of rotation lately.
    draining: BTreeSet<Name>,
    /// Hears of what they close.
    losses: Option<Arc<Mutex<Losses>>>,
    last: Option<Timestamp>,
    /// Of the ports alone.
    last_loads: Option<Timestamp>,
    last_usage: Option<Timestamp>,
    /// How long the last measurement of CPU and memory took.
    took: Duration,
}

impl Sampler {
    pub fn new(turns: Turns, tasks: TaskTracker) -> Self {
        Self {
            turns,
            tasks,
            meter: Arc::default(),
            busy: false,
            watched: false,
            looked: false,
            draining: BTreeSet::new(),
            losses: None,
            last: None,
            last_loads: None,
            last_usage: None,
            took: Duration::ZERO,
        }
    }

    /// How busy processes were.
    pub(in crate::daemon) fn recent(&self) -> Recent {
        Recent(self.meter.clone())
    }

    /// Measures more often until the stop of the instance on this port is over.
    fn follow(&mut self, instance: &Name, port: u16) {
        if !self.draining.insert(instance.clone()) {
            return;
        }
        self.last = None;
        if self.losses.is_none() {
            let opened = Losses::open();
            let opened =
                opened.inspect_err(|err| debug!(%err, "nothing is heard of closed sockets"));
            self.losses = opened.ok().map(|it| Arc::new(Mutex::new(it)));
        }
        if let Some(losses) = &self.losses
            && let Err(err) = lock(losses).begin(port)
        {
            debug!(%err, "the sockets cannot be read");
        }
    }

    /// Requests that ended with the servers on these ports, as far as their stops were followed.
    fn lost(&self, ports: &[u16]) -> BTreeMap<u16, Lost> {
        let Some(losses) = self.losses.as_ref().filter(|_| !ports.is_empty()) else {
            return BTreeMap::new();
        };
        let lost = lock(losses).at_end(ports, clock::now().0);
        lost.inspect_err(|err| debug!(%err, "the sockets cannot be read")).unwrap_or_default()
    }

    /// Between two measurements of CPU and memory.
    fn usage_interval(&self) -> Duration {
        match self.watched {
            true => WATCHED,
            false => (self.took * SHARE).clamp(UNWATCHED, UNWATCHED_AT_MOST),
        }
    }

    fn is_usage_due(&self, now: Timestamp) -> bool {
        self.last_usage.is_none_or(|last| last + self.usage_interval() <= now)
    }

    /// Whether connections are of any use now.
    fn wants_loads(&self) -> bool {
        self.watched || !self.draining.is_empty()
    }

    fn due(&self) -> Timestamp {
        let draining = !self.draining.is_empty();
        let interval = if draining { DRAINING } else { self.usage_interval() };
        self.last.map_or_else(Timestamp::default, |last| last + interval)
    }

    /// Measures on a blocking thread, unless the last measurement is still under way.
    fn start(&mut self, now: Timestamp, roots: Vec<Root>, ports: Ports) {
        self.last = Some(now);
        let usage_due = self.is_usage_due(now);
        let looked = self.wants_loads();
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        if usage_due {
            self.last_usage = Some(now);
        }
        if looked {
            self.last_loads = Some(now);
        }
        let (turns, meter, losses) = (self.turns.clone(), self.meter.clone(), self.losses.clone());
        self.tasks.spawn(async move {
            let work = move || {
                if let Some(losses) = losses
                    && let Err(err) = lock(&losses).look(clock::now().0)
                {
                    debug!(%err, "the sockets cannot be read");
                }
                let mut meter = lock(&meter);
                let (estimates, ports) = meter.loads(&ports);
                let measured = Measured { ports, estimates, looked, ..Measured::default() };
                if !usage_due {
                    return measured;
                }
                let began = clock::now();
                let usages = meter.usages(&roots);
                let took = Some(clock::now().since(began));
                Measured { usages, took, ..measured }
            };
            // The next one may do better than one that came to nothing.
            let measured = tokio::task::spawn_blocking(work).await.unwrap_or_default();
            // The driver is gone only when the daemon ends.
            let _ = turns.send(Turn::Measured(measured)).await;
        });
    }
}

impl Sampler {
    /// What came of a measurement was heard: the next one may begin.
    pub(in crate::daemon) fn ended(&mut self, measured: &Measured) {
        self.busy = false;
        self.looked |= measured.looked;
        self.took = measured.took.unwrap_or(self.took);
    }
}

impl Hands {
    pub fn next_sample(&self) -> Option<Timestamp> {
        // A daemon without services has nothing to measure.
        (!self.living.is_empty()).then(|| self.sampler.due())
    }

    /// Tells whether somebody looks, and forgets stops that are over.
    pub fn watched(&mut self, watched: bool, fleet: &Fleet) {
        let was_watched = std::mem::replace(&mut self.sampler.watched, watched);
        if watched && !was_watched {
            self.sampler.last = None;
        }
        self.sampler.looked &= watched;
        self.sampler.draining.retain(|name| {
            fleet
                .instance_sheet(name.as_str())
                .is_some_and(|it| it.port.is_some() && it.countdown.is_some())
        });
        if self.sampler.draining.is_empty() {
            self.sampler.losses = None;
        }
    }

    /// Whether what is in flight at this port is no matter of estimates: a gateway knows it, or it waits in
    /// a socket of which nobody can say which generation will accept.
    fn is_counted(&self, instance: &Name) -> bool {
        let is_held = |it: &Known| it.settings.launch.socket.is_some();
        self.front.counts(instance) || self.known.get(instance).is_some_and(is_held)
    }

    /// An instance is on its way out: what it has in flight is watched, where nobody counts it.
    pub(in crate::daemon) fn follow_end(&mut self, instance: &Name) {
        if self.is_counted(instance) {
            return;
        }
        if let Some(port) = self.port_of_living(instance) {
            self.sampler.follow(instance, port);
        }
    }

    /// What these, whose leaders have just ended, had in flight; the fleet hears it before the exits.
    pub(in crate::daemon) fn look_at_losses(&mut self, ended: &[Name]) {
        let port = |name: &Name| {
            let followed = self.sampler.draining.contains(name);
            self.port_of_living(name).filter(|_| followed)
        };
        let ports: BTreeMap<u16, &Name> =
            ended.iter().filter_map(|name| Some((port(name)?, name))).collect();
        let lost = self.sampler.lost(&ports.keys().copied().collect::<Vec<_>>());
        self.outcomes.extend(lost.into_iter().map(|(port, lost)| Input::Lost {
            instance: ports[&port].clone(),
            requests: lost.requests,
            late: lost.late,
            at: Timestamp(lost.at),
        }));
    }

    /// Begins a measurement.
    pub fn sample(&mut self, now: Timestamp) {
        let roots = self
            .living
            .iter()
            .map(|(name, it)| (name.clone(), Identity::from(it.process), Some(it.group.clone())));
        let roots = if self.sampler.is_usage_due(now) { roots.collect() } else { vec![] };
        let ports = if self.sampler.wants_loads() { self.ports() } else { Ports::new() };
        self.sampler.start(now, roots, ports);
    }

    /// What is in flight right now, for an order that ends or moves something, and for who looks once.
    pub fn fresh_load(&mut self, now: Timestamp) -> Vec<Input> {
        let ports = self.ports();
        if ports.is_empty() || self.sampler.last_loads.is_some_and(|last| now < last + FRESH) {
            return vec![];
        }
        self.sampler.last_loads = Some(now);
        // The meter is taken: a fresh measurement is on its way.
        let Ok(mut meter) = self.sampler.meter.try_lock() else { return vec![] };
        meter.loads(&ports).0.into_iter().map(estimate).collect()
    }

    /// Somebody knows what it has in flight.
    fn is_known(&self, instance: &Name) -> bool {
        self.is_counted(instance) || self.gauges.speaks_for(instance)
    }

    fn ports(&self) -> Ports {
        let port =
            |name: &Name| Some((self.port_of_living(name)?, (name.clone(), self.is_known(name))));
        self.living.keys().filter_map(port).collect()
    }
}

fn estimate((instance, n): Estimate) -> Input {
    Input::Load { instance, in_flight: InFlight::Estimated(n) }
}

impl Daemon {
    pub(in crate::daemon) fn on_measured(&mut self, measured: Measured) {
        self.guess_profiles();
        let now = clock::now();
        for it in &measured.estimates {
            // It may have been told meanwhile, which is more than an estimate of before.
            if !self.hands.is_known(&it.0) {
                self.turn(estimate(it.clone()));
            }
        }
        self.hands.sampler.ended(&measured);
        for (instance, port) in measured.ports {
            if self.facts.connected(instance.as_str(), port) {
                self.publisher.mark_counted(self.fleet.service_of(instance.as_str()).cloned());
            }
        }
        for (instance, usage) in measured.usages {
            self.history.used(&instance, now, usage);
            if self.facts.measured(&instance, usage) {
                self.publisher.mark(self.fleet.service_of(&instance).cloned());
            }
        }
    }
}

/// How busy single processes were when they were measured last.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Recent(Arc<Mutex<Meter>>);

impl Recent {
    /// Of one core, in percent; of those that were measured. It may have to wait for a measurement.
    pub(in crate::daemon) fn of(&self, processes: &[Identity]) -> BTreeMap<Identity, f64> {
        let meter = lock(&self.0);
        processes.iter().filter_map(|it| Some((*it, meter.usage.recent(*it)?))).collect()
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Connections by port, all in one dump.
    fn loads(&mut self, ports: &Ports) -> (Vec<Estimate>, Vec<(Name, Port)>) {
        if ports.is_empty() {
            return Default::default();
        }
        let dump = match self.dump() {
            Ok(dump) => dump,
            Err(err) => {
                debug!(%err, "the sockets cannot be read");
                self.sockets = None;
                return Default::default();
            }
        };
        let (mut loads, mut seen) = (vec![], vec![]);
        for (port, (instance, is_counted)) in ports {
            let it = dump.get(port).copied().unwrap_or_default();
            if !is_counted {
                loads.push((instance.clone(), it.unanswered));
            }
            seen.push((instance.clone(), it));
        }
        (loads, seen)
    }

    fn dump(&mut self) -> io::Result<BTreeMap<u16, Port>> {
        let sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => Sockets::open()?,
        };
        self.sockets.insert(sockets).dump()
    }

    fn usages(&mut self, roots: &[Root]) -> Vec<(String, Usage)> {
        let roots: Vec<_> =
            roots.iter().map(|(name, it, group)| (name.clone(), *it, group.as_ref())).collect();
        let usages = self.usage.sample(&roots).unwrap_or_default();
        usages.into_iter().map(|(name, usage)| (name.to_string(), usage)).collect()
    }
}
