//! How a process is stopped that the configuration does not name any more, as it stands in the state file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::config::settings::{self, Settings};
use crate::daemon::clock::millis;
use crate::fleet::input::Input;
use crate::fleet::memory;
use crate::fleet::rules::Rung;
use crate::fleet::{Name, Signal};

/// What of the configuration is kept with a process. Of an earlier release only the first two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    pub max_wait_ms: u64,
    /// Signals, and how many milliseconds each may take.
    pub stop: Vec<(i32, Option<u64>)>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub reserve_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub drain_delay_ms: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: Option<String>,
    /// What stands in front.
    #[serde(default, skip_serializing_if = "is_default")]
    pub front: Option<Front>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: Option<Log>,
}

/// The gateway that gives it requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Front {
    pub gateway: String,
    #[serde(skip_serializing_if = "is_default")]
    pub is_nginx: bool,
}

/// How much of its output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    max_size: u64,
    keep: u32,
}

impl From<Log> for settings::Log {
    fn from(Log { max_size, keep }: Log) -> Self {
        Self { max_size, keep }
    }
}

impl Ladder {
    /// Of the instances of a service that is configured.
    pub fn of(service: &settings::Service, settings: &Settings) -> Self {
        let rules = &service.rules;
        let rung = |it: &Rung| (it.signal.0, it.wait.map(millis));
        let gateway = settings.gateways.iter().find(|it| it.service == rules.name);
        let settings::Log { max_size, keep } = service.log;
        Self {
            max_wait_ms: millis(rules.max_wait_time),
            stop: rules.stop.iter().map(rung).collect(),
            reserve_ms: Some(millis(rules.reserve)),
            drain_delay_ms: millis(rules.drain_delay),
            service: Some(rules.name.to_string()),
            front: gateway.map(|it| Front {
                gateway: it.name.to_string(),
                is_nginx: it.provider.nginx().is_some(),
            }),
            log: Some(Log { max_size, keep }),
        }
    }

    /// For the instance that it was kept of.
    pub fn input(&self, instance: Name) -> Input {
        let wait = |ms: &u64| Duration::from_millis(*ms);
        let rung = |(signal, ms): &(i32, Option<u64>)| Rung {
            signal: Signal(*signal),
            wait: ms.as_ref().map(wait),
        };
        let ladder = memory::Ladder {
            service: self.service.as_deref().map(Name::from),
            stop: self.stop.iter().map(rung).collect(),
            max_wait_time: wait(&self.max_wait_ms),
            reserve: self.reserve_ms.as_ref().map(wait),
            drain_delay: wait(&self.drain_delay_ms),
            fronted: self.front.is_some(),
        };
        Input::Ladder { instance, ladder: Box::new(ladder) }
    }
}
