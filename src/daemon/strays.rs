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
use super::kept::state::{Intent, Remembered, Running};
use super::life::launch::MARK;
use crate::config::trust::uid_of;
use crate::fleet::input::{Extra, Input, Record};
use crate::fleet::{Name, Process};
use crate::process::Identity;
use crate::process::group::{Group, Member};
use crate::process::strays::{Left, Signs};
use crate::process::{closeup, identity, stat};

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
    /// A record may be older than what runs: the disk was full, or the file comes from a backup. Where the leader that
    /// it names is dead and one that was started later leads now, that one is meant. Returns what is to be told.
    pub(super) fn bring_up_to_date(&self, remembered: &mut Remembered) -> Vec<String> {
        let is_dead = |it: &&mut Running| {
            !identity::is_alive(Identity { pid: it.pid, start_time: it.start_time }).unwrap_or(true)
        };
        let dead: Vec<&mut Running> = remembered.running.values_mut().filter(is_dead).collect();
        if dead.is_empty() {
            return vec![];
        }
        let strays = self.strays();
        let mut told = vec![];
        for record in dead {
            let Some(left) = strays.get(&record.instance) else { continue };
            let name = Name::from(record.instance.as_str());
            let is_later = |it: &&Member| {
                it.identity.start_time > record.start_time && self.leads(&name, it.identity.pid)
            };
            let Some(leader) = left.members.iter().find(is_later) else { continue };
            told.push(format!(
                "{name} found running, {leader}, although the state has an older one of it (pid {})",
                record.pid
            ));
            record.pid = leader.identity.pid;
            record.start_time = leader.identity.start_time;
            record.started_ms = millis(stat::time_of(record.start_time));
            record.generation += 1;
            // It has the command of the configuration.
            record.fingerprint = self.known.get(&name).map_or(0, |it| it.fingerprint);
            let intent = remembered.intents.entry(record.instance.clone()).or_default();
            intent.instance.clone_from(&record.instance);
            intent.generation = intent.generation.max(record.generation);
        }
        told
    }

    /// Whether this was started as that instance, not by what was: it leads a session and has the command of the
    /// configuration, or has written a title over it.
    fn leads(&self, name: &Name, pid: i32) -> bool {
        let Some(known) = self.known.get(name) else { return false };
        let values = self.values.of(&known.service, name);
        let argv = &known.settings.launch.argv;
        let Ok(argv) = argv.iter().map(|it| it.expand(&values)).collect::<Result<Vec<_>, _>>()
        else {
            return false;
        };
        let leads_session = stat::read_stat(pid).is_ok_and(|it| it.session == pid);
        leads_session && closeup::arguments(pid).is_ok_and(|it| is_of_command(&it, &argv))
    }

    fn strays(&self) -> BTreeMap<String, Left> {
        let mut signs = Signs::new(MARK, &format!("@{}", self.places.state_dir.display()));
        for (name, known) in &self.known {
            signs.output(&self.source(name, known.log).fifo, name.as_str());
        }
        for (name, uid) in self.uids() {
            signs.user(name.as_str(), uid);
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

    /// The users of the instances that have one of their own.
    pub(super) fn uids(&self) -> Vec<(Name, u32)> {
        let mut numbers: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        let users = self
            .known
            .iter()
            .filter_map(|(name, it)| Some((name, it.settings.launch.user.as_deref()?)));
        let uid = |(name, user)| {
            let uid = *numbers.entry(user).or_insert_with(|| uid_of(user));
            Some((Name::clone(name), uid?))
        };
        users.filter_map(uid).collect()
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

/// Whether these are the arguments of that command. An interpreter stands before a script; a title is one word.
fn is_of_command(arguments: &[String], argv: &[String]) -> bool {
    let Some((program, rest)) = argv.split_first() else { return false };
    let of_program = |it: &String| it.rsplit('/').next() == program.rsplit('/').next();
    match arguments.len().checked_sub(rest.len() + 1) {
        Some(at) => of_program(&arguments[at]) && arguments[at + 1..] == *rest,
        None => arguments.len() == 1,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_arguments_behind_an_interpreter_and_behind_a_title() {
        let words = |it: &str| it.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let is = |arguments, argv| is_of_command(&words(arguments), &words(argv));
        assert!(is("/usr/bin/php bin/hyperf.php start", "php bin/hyperf.php start"));
        assert!(is("/bin/sh ./run.sh -v", "./run.sh -v"));
        assert!(is("hyperf:master", "php bin/hyperf.php start"), "a title");
        assert!(!is("sleep 1000", "sh -c left"));
        assert!(!is("sh -c other thing", "sh -c left"));
        assert!(!is("sh -c left more", "sh -c left"));
        assert!(is("/srv/server", "server") && !is("sleep", "server"));
    }
}
