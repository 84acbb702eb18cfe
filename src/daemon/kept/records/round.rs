//! A signal that goes through a service, as it stands in the state file.

use serde::{Deserialize, Serialize};

use super::{by, name};
use crate::api::Actor;
use crate::daemon::show::publish::actor;
use crate::fleet::memory;
use crate::fleet::{Process, Signal};

/// A signal that is on its way, instance by instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    pub service: String,
    by: Actor,
    signal: i32,
    forced: bool,
    /// Instances, and the pid and start time that each has.
    left: Vec<(String, i32, u64)>,
    last: Option<String>,
}

impl Round {
    /// As it is to be kept.
    pub fn of(service: String, it: &memory::Round) -> Self {
        let left = it.left.iter().map(|(name, it)| (name.to_string(), it.pid, it.start_time));
        Self {
            service,
            by: actor(&it.by),
            signal: it.signal.0,
            forced: it.forced,
            left: left.collect(),
            last: it.last.as_ref().map(ToString::to_string),
        }
    }
}

impl From<Round> for memory::Round {
    fn from(it: Round) -> Self {
        let one = |(instance, pid, start_time): (String, i32, u64)| {
            (name(&instance), Process { pid, start_time })
        };
        Self {
            by: by(it.by),
            signal: Signal(it.signal),
            forced: it.forced,
            left: it.left.into_iter().map(one).collect(),
            last: it.last.map(|it| name(&it)),
        }
    }
}
