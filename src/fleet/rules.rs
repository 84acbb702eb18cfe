//! What the configuration says to the fleet. Commands, paths and targets are not its business.

use std::sync::Arc;
use std::time::Duration;

use super::words::{Name, Signal};

/// A server ends a moment after its own limit, and SIGKILL must not be faster.
const TO_END: Duration = Duration::from_secs(1);

/// The rules of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRules {
    pub name: Name,
    pub enabled: bool,
    pub restart: Restart,
    /// Crashes in a row before `Fatal`; `None` is unlimited.
    pub retries: Option<u32>,
    pub backoff: Backoff,
    /// Running for so long means ready where no readiness probe is configured.
    pub start_seconds: Duration,
    /// The one budget of a stop: from the first moment of the drain until SIGKILL.
    pub max_wait_time: Duration,
    /// What the ladder still needs when a drain with an exact count is cut short.
    pub reserve: Duration,
    /// How long a drain without an exact count lasts.
    pub drain_delay: Duration,
    /// The stop ladder; never empty.
    pub stop: Vec<Rung>,
    pub depends_on: Vec<Name>,
    /// In file order; never empty.
    pub instances: Vec<InstanceRules>,
    pub startup: Option<Thresholds>,
    pub liveness: Option<Thresholds>,
    pub readiness: Option<Thresholds>,
    pub rollout: RolloutRules,
    /// What a profile says of signals: what each one does there.
    pub profile: Arc<Profile>,
    /// A gateway stands in front: a drain means something.
    pub fronted: bool,
    /// What stands in front sends again what an exit cut where it may, and tells of the rest.
    pub cuts_told: bool,
    /// It is asked what it has in flight, and says so exactly. What stands in front knows better.
    pub gauged: bool,
    /// The profile's reload signal is sent to an instance that is out of rotation and has drained.
    pub reload_drain: bool,
    /// Somebody else runs its processes.
    pub foreign: Option<Foreign>,
}

/// Of processes that somebody else runs: nothing of them is started or restarted unless somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// There is a command that starts one.
    pub starts: bool,
    /// Failed liveness stops one all the same.
    pub liveness_restarts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRules {
    pub name: Name,
    /// `None` also while one that is picked has not been picked yet.
    pub port: Option<u16>,
    /// Whether its port is picked when it is started.
    pub auto_port: bool,
    pub backup: bool,
    /// Of everything the process is started with. Another value makes a running instance stale.
    pub fingerprint: u64,
    /// Where the pid of a foreign one is found, for telling.
    pub pidfile: Option<Name>,
}

impl InstanceRules {
    /// Of one that the configuration does not know, or only as many others.
    pub fn bare(name: Name) -> Self {
        Self { name, port: None, auto_port: false, backup: false, fingerprint: 0, pidfile: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
    /// Running for so long forgives earlier crashes.
    pub stable_after: Duration,
}

/// One signal of a stop ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rung {
    pub signal: Signal,
    /// Until the next rung; the last one waits for the deadline.
    pub wait: Option<Duration>,
}

/// When a run of probe results changes the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub success: u32,
    pub failure: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRules {
    /// How many build commands there are; the commands themselves are known to the hands.
    pub build: usize,
    pub rollback: usize,
    pub settle: Duration,
    pub successes: u32,
    pub ready_timeout: Duration,
    /// `None`: instances − 1.
    pub min_ready: Option<u32>,
    /// `surge`: the name of one more instance that lives while the others are renewed. It has the
    /// service's own rules and a port that the hands pick.
    pub spare: Option<Name>,
}

/// What signals mean to a kind of server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `generic`, `swoole`, `nginx`, `php-fpm`, `gunicorn`, `puma`, or one of the user's.
    pub name: Name,
    /// The signal of `opsdeck reload`.
    pub reload: Option<Signal>,
    pub signals: Vec<Meaning>,
    /// SIGTERM cuts requests: it waits for the drain.
    pub term_cuts: bool,
    /// It is known which processes a reload renews.
    pub renews: bool,
    /// Those come when there is work, and none may be there.
    pub on_demand: bool,
    /// What a reload does not read again, in words.
    pub leaves: Option<String>,
    /// What its signal does to a server of a single process, in words: `is ignored there`.
    pub alone: Option<String>,
    /// It hears the signal of a reload while it is at one, and renews all once more.
    pub again: bool,
    /// The server's own limit for finishing, where nobody has set it, and what it calls it.
    pub limit: Duration,
    pub limit_name: Option<String>,
    /// The limit is what the server does by default, not only what is reckoned with.
    pub limit_known: bool,
    /// A stop may take that limit so many times.
    pub limit_times: u32,
    /// It may end so much before its limit.
    pub limit_early: Duration,
    pub chosen: Chosen,
}

impl Profile {
    /// What the signals need at the end of a drain: the server's own limit, and a moment in which it ends then;
    /// never more than half of the budget, for the other half is for the requests.
    pub fn reserve(&self, max_wait_time: Duration) -> Duration {
        let end = if self.limit_known { TO_END } else { Duration::ZERO };
        (self.limit + end).min(max_wait_time / 2)
    }
}

/// Who says that a service has its profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Chosen {
    /// The configuration, or nobody: then it is the generic one.
    #[default]
    Named,
    /// `auto`, from this.
    Guessed(String),
    /// `auto`, and nothing tells yet: it is the generic one meanwhile.
    Open,
}

/// What one signal does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub signal: Signal,
    /// `reload all workers`.
    pub does: String,
    /// A reload or a log reopening: goes at once, also on the last ready instance.
    pub harmless: bool,
    /// It cuts what is in flight.
    pub cuts: bool,
    /// Roles of the processes that it renews, where they are not those of the profile's reload.
    pub renews: Vec<String>,
}

impl Profile {
    /// The roles that a signal renews, if it renews any; empty: all that are renewed.
    pub fn renewal(&self, signal: Signal) -> Option<&[String]> {
        let meant = self.signals.iter().find(|it| it.signal == signal);
        let own = meant.map(|it| it.renews.as_slice()).filter(|it| !it.is_empty());
        own.or((self.reload == Some(signal)).then_some(&[]))
    }

    /// One of which nothing is known.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.into(),
            reload: None,
            signals: vec![],
            term_cuts: false,
            renews: false,
            on_demand: false,
            leaves: None,
            again: false,
            alone: None,
            limit: Duration::from_secs(3),
            limit_name: None,
            limit_known: false,
            limit_times: 1,
            limit_early: Duration::ZERO,
            chosen: Chosen::Named,
        }
    }
}
