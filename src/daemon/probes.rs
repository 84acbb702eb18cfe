//! Starts and stops the probes of instances, and gives exec probes their hands.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::facts;
use super::turn::{BACKLOG, Turn, Turns};
use crate::fleet::Name;
use crate::fleet::input::Probe as Kind;
use crate::probe::{self, Checker, Outcome, Probe, Report};

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
