//! A snapshot with only what tells names, states and whether all is as wanted.
//!
//! `GET /v1/deck?brief=true` answers with the same shape as without: what is missing has its default,
//! so it is read back as a [`Service`].

use jiff::Timestamp;
use serde::Serialize;

use super::{Goal, Instance, LastExit, Rollout, Service, State};

#[derive(Debug, Serialize)]
pub struct BriefService<'a> {
    name: &'a str,
    goal: Goal,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<BriefRollout<'a>>,
    instances: Vec<BriefInstance<'a>>,
}

#[derive(Debug, Serialize)]
struct BriefRollout<'a> {
    halted: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
}

#[derive(Debug, Serialize)]
struct BriefInstance<'a> {
    name: &'a str,
    goal: Goal,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<BriefExit>,
    why: &'a str,
}

#[derive(Debug, Serialize)]
struct BriefExit {
    code: Option<i32>,
}

impl<'a> From<&'a Service> for BriefService<'a> {
    fn from(it: &'a Service) -> Self {
        let halted =
            |it: &'a Rollout| BriefRollout { halted: it.halted.as_deref(), paused: it.paused };
        Self {
            name: &it.name,
            goal: it.goal,
            state: it.state,
            rollout: it.rollout.as_ref().map(halted),
            instances: it.instances.iter().map(BriefInstance::from).collect(),
        }
    }
}

impl<'a> From<&'a Instance> for BriefInstance<'a> {
    fn from(it: &'a Instance) -> Self {
        let code = |it: &LastExit| BriefExit { code: it.code };
        Self {
            name: &it.name,
            goal: it.goal,
            state: it.state,
            pid: it.pid,
            generation: it.generation,
            ready: it.ready,
            stale: it.stale,
            held_by: it.held_by.as_deref(),
            retry_at: it.retry_at,
            restarts: it.restarts,
            last_exit: it.last_exit.as_ref().map(code),
            why: &it.why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_read_back_as_its_default() {
        let kept = Instance {
            name: "web1".into(),
            goal: Goal::Down,
            state: State::Exited,
            pid: Some(4711),
            generation: 3,
            ready: Some(false),
            stale: true,
            held_by: Some("alice".into()),
            retry_at: Some(Timestamp::UNIX_EPOCH),
            restarts: 7,
            last_exit: Some(LastExit { code: Some(255), ..LastExit::default() }),
            why: "exited with 255".into(),
            ..Instance::default()
        };
        let service = |instance: Instance| Service {
            name: "web".into(),
            goal: Goal::Down,
            state: State::Exited,
            rollout: Some(Rollout {
                halted: Some("not ready".into()),
                paused: true,
                ..Rollout::default()
            }),
            instances: vec![instance, Instance::default()],
            ..Service::default()
        };
        let full = service(Instance { port: Some(9502), cpu_percent: Some(1.5), ..kept.clone() });
        let text = serde_json::to_string(&BriefService::from(&full)).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service(kept));
    }
}
