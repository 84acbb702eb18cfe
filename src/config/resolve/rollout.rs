//! Rolling restarts: how many stay, and the commands around them.

use std::time::Duration;

use super::service::Member;
use super::{Resolver, names};
use crate::config::mistake::Mistake;
use crate::config::settings::{RolloutCommand, Text};
use crate::config::value::{Data, Layers};
use crate::fleet::rules::RolloutRules;
use crate::fleet::words::Name;

impl Resolver<'_> {
    pub(super) fn rollout(
        &mut self,
        table: &Layers<'_>,
        service: &str,
        members: &[Member<'_>],
    ) -> (RolloutRules, Vec<RolloutCommand>, Vec<RolloutCommand>) {
        let rollout = table.inner("rollout");
        let build = self.rollout_commands(&rollout, "build", members);
        let rollback = self.rollout_commands(&rollout, "rollback", members);
        let or =
            |key, seconds| rollout.duration(key).map_or(Duration::from_secs(seconds), |it| it.0);
        let surge = rollout.boolean("surge").unwrap_or(false);
        // With a spare all of them may stay.
        let most = members.len().saturating_sub(usize::from(!surge));
        let rules = RolloutRules {
            build: build.len(),
            rollback: rollback.len(),
            settle: or("settle", 3),
            successes: rollout.integer("successes").map_or(1, |it| it.0),
            ready_timeout: or("ready_timeout", 60),
            min_ready: self.min_ready(table, &rollout, service, (members.len(), most)),
            spare: surge.then(|| Name::from(format!("{service}-surge").as_str())),
        };
        (rules, build, rollback)
    }

    fn min_ready(
        &mut self,
        table: &Layers<'_>,
        rollout: &Layers<'_>,
        service: &str,
        (instances, most): (usize, usize),
    ) -> Option<u32> {
        let (min_ready, span) = rollout.integer("min_ready")?;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if min_ready <= most {
            // It is the default, also when it is written out.
            return Some(min_ready).filter(|it| *it != most);
        }
        if !table.nearest_is_own("rollout", "min_ready") {
            // A default for all is meant as far as there are instances.
            return None;
        }
        let label = match instances {
            1 => "its one instance must stay ready, so it may not stop".to_owned(),
            _ => format!("all {instances} instances must stay ready, so none may stop"),
        };
        let title = format!("`{service}` could never be restarted without downtime");
        let mistake = Mistake::new(span, title, label);
        let less = match most {
            0 => "set `min_ready = 0`, or add instances".to_owned(),
            most => format!("set `min_ready` to {most} or less, or add instances"),
        };
        self.report(mistake.help(less));
        None
    }

    fn rollout_commands(
        &mut self,
        rollout: &Layers<'_>,
        key: &str,
        members: &[Member<'_>],
    ) -> Vec<RolloutCommand> {
        let timeout = rollout.duration("build_timeout").map_or(Duration::from_secs(600), |it| it.0);
        let mut commands = vec![];
        for value in rollout.list(key).map(|it| it.0).unwrap_or_default() {
            let Data::Command(words) = &value.data else { continue };
            let without_port = members.iter().find(|it| it.port.is_none());
            if let Some(member) =
                without_port.filter(|_| words.iter().any(|it| names(it).any(|it| it == "port")))
            {
                self.report_no_port(value.span, member.name);
            }
            commands
                .push(RolloutCommand { argv: words.iter().cloned().map(Text).collect(), timeout });
        }
        commands
    }
}
