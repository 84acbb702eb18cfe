//! Starts and stops the probes of instances, and gives exec probes their hands.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::settings;
use crate::daemon::hands::Hands;
use crate::daemon::show::facts;
use crate::daemon::turn::{BACKLOG, Turn, Turns};
use crate::fleet::Name;
use crate::fleet::input::Probe as Kind;
use crate::fleet::rules::Thresholds;
use crate::probe::{self, Checker, Haste, Outcome, Probe, Report};

/// A result and whose it is.
#[derive(Clone, Debug)]
pub struct Probed {
    pub instance: String,
    pub generation: u64,
    pub probe: Kind,
    pub outcome: Outcome,
}

type Key = (Name, u64, Kind);

/// The probes that run, by instance and kind.
pub struct Probes {
    checker: Checker,
    reports: mpsc::Sender<Report<Key>>,
    running: BTreeMap<(Name, &'static str), CancellationToken>,
    tasks: TaskTracker,
}

impl Probes {
    /// Results go to the driver as turns.
    pub fn new(checker: Checker, turns: Turns, tasks: TaskTracker) -> Self {
        let (reports, mut queue) = mpsc::channel::<Report<Key>>(BACKLOG);
        tasks.spawn(async move {
            while let Some(Report { key: (instance, generation, probe), outcome }) =
                queue.recv().await
            {
                let instance = instance.to_string();
                let probed = Probed { instance, generation, probe, outcome };
                if turns.send(Turn::Probed(probed)).await.is_err() {
                    return;
                }
            }
        });
        Self { checker, reports, running: BTreeMap::new(), tasks }
    }

    /// Starts a probe; one that runs already under this name is replaced.
    pub fn start(&mut self, instance: &Name, generation: u64, kind: Kind, probe: Probe) {
        let stop = CancellationToken::new();
        let mut hasher = DefaultHasher::new();
        (instance, generation, kind).hash(&mut hasher);
        self.tasks.spawn(probe::run(
            probe,
            (instance.clone(), generation, kind),
            self.checker.clone(),
            hasher.finish(),
            self.reports.clone(),
            stop.clone(),
        ));
        if let Some(old) = self.running.insert((instance.clone(), facts::kind(kind)), stop) {
            old.cancel();
        }
    }

    pub fn is_running(&self, instance: &Name, kind: Kind) -> bool {
        self.running.contains_key(&(instance.clone(), facts::kind(kind)))
    }

    pub fn stop(&mut self, instance: &Name, kind: Kind) {
        if let Some(stop) = self.running.remove(&(instance.clone(), facts::kind(kind))) {
            stop.cancel();
        }
    }

    /// Ends all of them.
    pub fn stop_all(&mut self) {
        for stop in std::mem::take(&mut self.running).into_values() {
            stop.cancel();
        }
    }
}

impl Hands {
    pub(in crate::daemon) fn start_probe(&mut self, instance: &Name, generation: u64, kind: Kind) {
        let Some(known) = self.known.get(instance) else { return };
        let Some(settings) = self.settings_of_living(instance) else { return };
        let Some(probe) = settings.probes.get(&kind) else { return };
        let values = self.values.of(&known.service, instance);
        let launch = &settings.launch;
        let environment = self.environment(instance, known, &values).unwrap_or_default();
        let mut probe =
            crate::daemon::life::launch::expanded(probe.clone(), &values, environment, launch);
        probe.haste = self.haste(&known.service, kind);
        self.probes.start(instance, generation, kind, probe);
    }

    /// A start is waited for, by a rollout most of all.
    fn haste(&self, service: &Name, kind: Kind) -> Haste {
        let Some(rules) = self.service(service).map(|it| &it.rules) else {
            return Haste::default();
        };
        let passes = |it: Option<Thresholds>| it.map_or(1, |it| it.success);
        match kind {
            Kind::Startup => Haste { passes: passes(rules.startup), settle: Duration::ZERO },
            Kind::Readiness => Haste {
                passes: passes(rules.readiness).max(rules.rollout.successes),
                settle: rules.rollout.settle,
            },
            Kind::Liveness => Haste::default(),
        }
    }

    /// A probe that asks for something else now does so at once, of the process that runs.
    pub(in crate::daemon) fn restart_probe(&mut self, name: &Name, kind: Kind) {
        let Some(generation) = self.living.get(name).map(|it| it.generation) else { return };
        if self.probes.is_running(name, kind) {
            self.start_probe(name, generation, kind);
        }
    }
}

/// The probes of an instance that are asked otherwise than before. With another port it is another
/// server: that waits until it is renewed.
pub(in crate::daemon) fn changed(
    name: &Name,
    old: &settings::Instance,
    new: &settings::Instance,
) -> Vec<(Name, Kind)> {
    let differs =
        |(kind, probe): &(&Kind, &Probe)| old.probes.get(kind).is_some_and(|it| it != *probe);
    new.probes.iter().filter(differs).map(|(kind, _)| (name.clone(), *kind)).collect()
}
