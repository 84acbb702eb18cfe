//! Takes in what the last daemon started and no record names.
//!
//! The one leader of an instance is adopted like any other. Where none can be told, everything of it is
//! killed and named before the next generation starts: never two at once. What belongs to an instance
//! that is not configured is stopped.

use std::collections::BTreeMap;

use tracing::warn;

use super::boot::BootError;
use super::clock::millis;
use super::driver::Daemon;
use super::hands::Hands;
use super::kept::state::{Intent, Running};
use super::life::launch::MARK;
use crate::fleet::input::{Extra, Input, Record};
use crate::fleet::{Name, Process};
use crate::process::Identity;
use crate::process::group::{Group, Member};
use crate::process::stat;
use crate::process::strays::{Left, Signs};

/// Looks for them, after what is recorded was adopted.
///
/// # Errors
///
/// One that is alive could not be taken over.
pub(super) fn take_in(
    daemon: &mut Daemon,
    intents: &BTreeMap<String, Intent>,
) -> Result<(), BootError> {
    for (instance, left) in daemon.hands.strays() {
        let name = Name::from(instance.as_str());
        let intent = intents.get(&instance).cloned().unwrap_or_default();
        let is_configured = daemon.hands.known.contains_key(&name);
        let (mut message, input) = daemon.hands.take_in(&name, &left, &intent)?;
        if !is_configured && left.leader.is_some() {
            message = format!("{message}, and {name} is not configured: it is stopped");
        }
        let service = daemon.hands.known.get(&name).map(|it| it.service.clone());
        daemon.record(Record {
            kind: "stray",
            service,
            instance: Some(name),
            by: None,
            message,
            with_evidence: false,
            extra: Extra::Nothing,
        });
        if let Some(input) = input {
            daemon.turn(input);
        }
    }
    Ok(())
}

impl Hands {
    fn strays(&self) -> BTreeMap<String, Left> {
        let mut signs = Signs::new(MARK, &format!("@{}", self.places.state_dir.display()));
        for (name, known) in &self.known {
            signs.output(&self.source(name, known.log).fifo, name.as_str());
        }
        let cgroups = self.cgroups.as_ref().and_then(|it| it.existing().ok()).unwrap_or_default();
        for (name, cgroup) in cgroups {
            signs.born_in(cgroup.pids().unwrap_or_default(), &name);
        }
        let is_leader = |it: Identity| self.leaders.contains_key(&it.pid);
        let mut found = signs.find(is_leader).unwrap_or_else(|err| {
            warn!(%err, "nothing was looked for that no record names");
            BTreeMap::new()
        });
        // What a known generation has left behind is its own, and what somebody else runs is his.
        let is_known = |name: &Name| self.living.contains_key(name) || self.is_foreign(name);
        found.retain(|name, _| !is_known(&name.as_str().into()));
        found
    }

    /// Adopts the leader, or has everything killed.
    fn take_in(
        &mut self,
        name: &Name,
        left: &Left,
        intent: &Intent,
    ) -> Result<(String, Option<Input>), BootError> {
        let first = left.leader.map_or(left.oldest(), |it| it.identity);
        let running = Running {
            instance: name.to_string(),
            port: self.port_of(name, &self.group_of(name, left)),
            generation: intent.generation.max(1),
            pid: first.pid,
            start_time: first.start_time,
            started_ms: millis(stat::time_of(first.start_time)),
            fingerprint: intent.fingerprint,
            ladder: None,
        };
        if let Some(leader) = left.leader {
            let message = format!("found running, {leader}, although no record names it");
            return Ok((message, self.adopt(&running)?));
        }
        let message =
            format!("found running, {}, and none of it leads: it is killed", words(&left.members));
        let group = self.group_of(name, left);
        Ok((message, Some(self.departed(name.clone(), &running, group))))
    }

    fn group_of(&self, name: &Name, left: &Left) -> Group {
        self.group_left(name, Process::from(left.oldest()))
    }
}

/// `php (pid 4711), php (pid 4712)`.
pub(super) fn words(members: &[Member]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<_> = members.iter().take(SHOWN).map(ToString::to_string).collect();
    if members.len() > SHOWN {
        names.push(format!("{} more", members.len() - SHOWN));
    }
    names.join(", ")
}
