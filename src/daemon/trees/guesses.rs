//! `profile = "auto"`: what the trees of such services tell, and what was guessed, as events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::KnownProfile;
use crate::config::settings::{Service, Settings};
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::renames::{move_key, renames};
use crate::daemon::trees::census::{self, Look};
use crate::fleet::input::{Extra, Record};
use crate::fleet::rules::Chosen;
use crate::fleet::{Name, Process};
use crate::process::{Identity, closeup};

/// Looks at one process: what it executes, and how it is called, may need a while to settle.
const LOOKS: u32 = 10;
/// Trees that are looked at in one go.
const TREES: usize = 16;

/// How many of its processes are looked at.
const KIN: usize = 8;

/// What a guess goes by: the arguments of a leader, and of those below it that are called as it is.
#[derive(Debug)]
pub struct Clues {
    leader: Process,
    arguments: Vec<String>,
    kin: Vec<Vec<String>>,
}

/// What was guessed so far.
#[derive(Debug, Default)]
pub struct Guesses {
    /// What trees told, by service.
    known: BTreeMap<Name, Arc<KnownProfile>>,
    /// What the journal has been told, by service.
    told: BTreeMap<Name, String>,
    /// Which process of a service was looked at, and how often.
    looked: BTreeMap<Name, (Process, u32)>,
    /// A look is under way.
    busy: bool,
}

impl Guesses {
    /// Services of which the tree has told what they are are that in other settings too.
    pub fn put_into(&self, before: &Settings, settings: &mut Settings) {
        let names = renames(before, settings);
        for service in &mut settings.services {
            let name = &service.rules.name;
            let was = names.iter().find(|(_, to)| to == name).map_or(name, |(from, _)| from);
            if let Some(profile) = self.known.get(was) {
                service.turn_out(profile.clone());
            }
        }
    }
}

impl Guesses {
    pub(in crate::daemon) fn rename(&mut self, from: &Name, to: &Name) {
        move_key(&mut self.known, from, to);
        move_key(&mut self.told, from, to);
        move_key(&mut self.looked, from, to);
    }

    /// Forgets services that are gone.
    pub(in crate::daemon) fn retain(&mut self, settings: &Settings) {
        let names: BTreeSet<&Name> = settings.services.iter().map(|it| &it.rules.name).collect();
        self.known.retain(|name, _| names.contains(name));
        self.told.retain(|name, _| names.contains(name));
        self.looked.retain(|name, _| names.contains(name));
    }
}

impl Daemon {
    /// Looks at trees of which nothing is known, and tells what was guessed.
    pub(in crate::daemon) fn guess_profiles(&mut self) {
        self.tell_guesses();
        let guesses = &self.config.guesses;
        let is_open = |it: &&Service| {
            it.auto.is_some() && !guesses.known.contains_key(&it.rules.name) && !guesses.busy
        };
        let open = self.config.settings.services.iter().filter(is_open);
        let trees: Vec<_> = open
            .filter_map(|it| Some((it.rules.name.clone(), self.hands.leader_of(it)?)))
            .filter(|(name, leader)| match guesses.looked.get(name) {
                Some((process, looks)) => process != leader || *looks < LOOKS,
                None => true,
            })
            .take(TREES)
            .collect();
        if trees.is_empty() {
            return;
        }
        self.config.guesses.busy = true;
        let look = move || trees.into_iter().map(|(name, leader)| (name, look(leader))).collect();
        self.hands.look_aside(look, |seen| Look::Guessed(seen.unwrap_or_default()));
    }

    /// Trees were looked at.
    pub(in crate::daemon) fn on_guessed(&mut self, seen: Vec<(Name, Clues)>) {
        self.config.guesses.busy = false;
        let settings = self.config.settings.clone();
        let mut is_any = false;
        for (name, clues) in seen {
            let leader = clues.leader;
            let looked = self.config.guesses.looked.entry(name.clone()).or_insert((leader, 0));
            *looked = (leader, if looked.0 == leader { looked.1 + 1 } else { 1 });
            let service = settings.services.iter().find(|it| it.rules.name == name);
            let auto = service.and_then(|it| it.auto.as_ref());
            if let Some(profile) = auto.and_then(|it| it.guess(&clues.arguments, &clues.kin)) {
                self.config.guesses.known.insert(name, profile);
                is_any = true;
            }
        }
        if is_any {
            let mut settings = (*settings).clone();
            self.config.guesses.put_into(&self.config.settings, &mut settings);
            self.take_settings(settings);
        }
        self.tell_guesses();
    }

    fn tell_guesses(&mut self) {
        let settings = self.config.settings.clone();
        for service in &settings.services {
            let profile = &service.rules.profile;
            let Chosen::Guessed(because) = &profile.chosen else {
                continue;
            };
            let name = &service.rules.name;
            if self.config.guesses.told.get(name) == Some(because) {
                continue;
            }
            self.config.guesses.told.insert(name.clone(), because.clone());
            self.record(Record {
                kind: "profile-guessed",
                service: Some(name.clone()),
                instance: None,
                by: None,
                message: format!("its profile is a guess, {}, from {because}", profile.name),
                with_evidence: false,
                extra: Extra::Nothing,
            });
        }
    }
}

impl Hands {
    /// What runs of a service: the first instance that does.
    fn leader_of(&self, service: &Service) -> Option<Process> {
        let mut names = service.rules.instances.iter().map(|it| &it.name);
        names.find_map(|it| Some(self.living.get(it)?.process))
    }
}

/// What a tree tells. Blocking.
fn look(leader: Process) -> Clues {
    let tree = census::tree_of(Identity::from(leader));
    let name = tree.first().map(|it| it.name);
    let kin = tree.iter().skip(1).filter(|it| Some(it.name) == name).take(KIN);
    let pids: Vec<i32> = std::iter::once(leader.pid).chain(kin.map(|it| it.identity.pid)).collect();
    let mut kin = closeup::arguments_of(&pids);
    let arguments = kin.remove(0);
    Clues { leader, arguments, kin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_are_gone_leave_no_guess() {
        let text = "[service.web]\ncommand = \"web\"\n";
        let settings = crate::config::parse("config.toml", text).unwrap();
        let mut guesses = Guesses::default();
        for n in 0..10_000 {
            for name in [Name::from(format!("web{n}").as_str()), Name::from("web")] {
                guesses.told.insert(name.clone(), "its command".into());
                guesses.looked.insert(name, (Process { pid: 1, start_time: 2 }, 3));
            }
            guesses.retain(&settings);
        }
        assert_eq!(guesses.told.into_keys().collect::<Vec<_>>(), ["web".into()]);
        assert_eq!(guesses.looked.into_keys().collect::<Vec<_>>(), ["web".into()]);
    }
}
