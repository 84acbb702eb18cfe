//! What a client can ask for, and what it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The identity an action is meant for; the daemon refuses if it changed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub pid: i32,
    pub start_time: u64,
}

/// Body of every action on an instance or a service. All fields are optional; `{}` acts at once.
///
/// A field that there is not is a mistake: `{"dryrun":true}` must not roll, `{"kep":true}` not stop all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Act {
    #[serde(flatten)]
    pub target: Option<Target>,
    /// For `signal`: `SIGUSR1`, `USR1` or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Answer [`problem::CONFIRM`](super::problem::CONFIRM) instead of acting where it would hurt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guard: bool,
    /// For `stop`: SIGKILL at once, without the ladder.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// For `roll`: print the plan, change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// For `roll`: `{version}` and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// For `shutdown`: leave the services running. For `config/apply`: ignored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// For `config/apply`: also when more than half of the services would stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub yes: bool,
    /// For `replace`: the absolute path of the next program; only for root and the daemon's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

impl Act {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it, by line and column.
    pub fn from_body(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // An object first: a list would be taken for the fields in their order.
        let object: serde_json::Map<_, _> = serde_json::from_slice(bytes)?;
        Self::deserialize(serde_json::Value::Object(object))
    }
}

/// An [`Act`] as it arrives.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    pid: Option<i32>,
    start_time: Option<u64>,
    signal: Option<String>,
    guard: bool,
    now: bool,
    dry_run: bool,
    set: BTreeMap<String, String>,
    keep: bool,
    yes: bool,
    program: Option<String>,
}

impl TryFrom<Written> for Act {
    type Error = &'static str;

    fn try_from(it: Written) -> Result<Self, Self::Error> {
        let target = match (it.pid, it.start_time) {
            (Some(pid), Some(start_time)) => Some(Target { pid, start_time }),
            (None, None) => None,
            // Half an identity is none: the signal could reach anybody.
            _ => return Err("`pid` and `start_time` belong together"),
        };
        let Written { signal, guard, now, dry_run, set, keep, yes, program, .. } = it;
        Ok(Self { target, signal, guard, now, dry_run, set, keep, yes, program })
    }
}

/// Answer to an action: what was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    pub message: String,
    pub revision: u64,
    /// For `roll`: the plan.
    pub plan: Option<Plan>,
    /// For `config/diff` and `config/apply`.
    pub diff: Option<Vec<Difference>>,
    /// Of the file, for `config/check`, `config/diff` and `config/apply`.
    pub warnings: Option<Vec<Warning>>,
}

/// What is no mistake in a configuration file and may surprise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    /// The service, or `deck`.
    pub name: String,
    pub message: String,
    pub help: String,
}

/// A rolling restart, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub service: String,
    pub min_ready: u32,
    pub steps: Vec<PlanStep>,
    /// Why it means downtime, where it does.
    pub downtime: Option<String>,
    /// Why it cannot begin now, where it cannot.
    pub blocked: Option<String>,
    /// The sum of the steps, where all are known.
    pub expected_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanStep {
    pub instance: String,
    /// `not ready`, `backup`, `primary`.
    pub because: String,
    /// Its probe verdict now.
    pub ready: bool,
    /// The build commands, expanded.
    pub build: Vec<String>,
    pub max_wait_time_ms: u64,
    pub ready_timeout_ms: u64,
    /// What its probes say now: `readiness passes: 200`.
    pub verdicts: Vec<String>,
    /// The median of earlier rollouts, where there were some.
    pub expected_ms: Option<u64>,
}

/// One line of a configuration diff.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Difference {
    /// Service or instance.
    pub name: String,
    /// `start`, `stop`, `stale`, `at-once`.
    pub does: String,
    /// A sentence: `command changes; taken up by the next restart or rollout`.
    pub message: String,
    /// The keys that change; secrets are hidden, and for viewers every value of the environment.
    pub values: Vec<KeyChange>,
}

/// A key of the configuration whose value changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyChange {
    /// `max_wait_time`, `instance.web1.port`.
    pub key: String,
    /// `null`: it is not set.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What a client can ask for. [`Request::route`] says how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `start stop restart reload roll`.
    Service {
        name: String,
        verb: ServiceVerb,
        act: Act,
    },
    /// `start stop restart drain undrain extend kill signal`.
    Instance {
        name: String,
        verb: InstanceVerb,
        act: Act,
    },
    /// `abort pause resume rollback`.
    Rollout {
        service: String,
        verb: RolloutVerb,
    },
    /// `check diff apply`.
    Config {
        verb: ConfigVerb,
        act: Act,
    },
    Shutdown {
        act: Act,
    },
    /// Another program becomes the daemon.
    Replace {
        act: Act,
    },
}

macro_rules! verbs {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($variant),* }

        impl $name {
            /// The word in the path.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

verbs!(
    /// `POST /v1/services/{name}/…`
    ServiceVerb { Start = "start", Stop = "stop", Restart = "restart", Reload = "reload", Roll = "roll" }
);
verbs!(
    /// `POST /v1/instances/{name}/…`
    InstanceVerb {
        Start = "start",
        Stop = "stop",
        Restart = "restart",
        Reload = "reload",
        Drain = "drain",
        Undrain = "undrain",
        Extend = "extend",
        Kill = "kill",
        Signal = "signal",
    }
);
verbs!(
    /// `POST /v1/rollouts/{service}/…`
    RolloutVerb { Abort = "abort", Pause = "pause", Resume = "resume", Rollback = "rollback" }
);
verbs!(
    /// `POST /v1/config/…`
    ConfigVerb { Check = "check", Diff = "diff", Apply = "apply" }
);

impl Request {
    /// The path and the body of the POST that asks for this.
    pub fn route(&self) -> (String, Act) {
        match self {
            Self::Service { name, verb, act } => {
                (format!("/v1/services/{name}/{}", verb.word()), act.clone())
            }
            Self::Instance { name, verb, act } => {
                (format!("/v1/instances/{name}/{}", verb.word()), act.clone())
            }
            Self::Rollout { service, verb } => {
                (format!("/v1/rollouts/{service}/{}", verb.word()), Act::default())
            }
            Self::Config { verb, act } => (format!("/v1/config/{}", verb.word()), act.clone()),
            Self::Shutdown { act } => ("/v1/shutdown".into(), act.clone()),
            Self::Replace { act } => ("/v1/replace".into(), act.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_an_act_is_read_again() {
        let act = Act {
            target: Some(Target { pid: 7, start_time: 9 }),
            signal: Some("SIGUSR1".into()),
            dry_run: true,
            set: [("version".to_owned(), "43".to_owned())].into(),
            ..Act::default()
        };
        let text = serde_json::to_string(&act).unwrap();
        assert_eq!(serde_json::from_str::<Act>(&text).unwrap(), act, "{text}");
        assert_eq!(serde_json::from_str::<Act>("{}").unwrap(), Act::default());
    }

    #[test]
    fn a_body_with_a_mistake_is_no_act() {
        for text in
            [r#"{"kep":true}"#, r#"{"pid":7}"#, r#"{"pid":"7","start_time":9}"#, r#"{"keep":1}"#]
        {
            assert!(serde_json::from_str::<Act>(text).is_err(), "{text}");
        }
    }
}
