//! `profile = "auto"`: what the trees of such services tell, and what was guessed, as events.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::Daemon;
use super::hands::{Hands, identity_of};
use crate::config::KnownProfile;
use crate::config::settings::{Service, Settings};
use crate::fleet::input::{Extra, Record};
use crate::fleet::{Name, Process};
use crate::process::{closeup, descendants};

/// Looks at one process: what it executes, and how it is called, may need a while to settle.
const LOOKS: u32 = 10;
/// Trees that are looked at in one go.
const TREES: usize = 16;

/// What was guessed so far.
#[derive(Debug, Default)]
pub struct Guesses {
    /// What trees told, by service.
    known: BTreeMap<Name, Arc<KnownProfile>>,
    /// What the journal has been told, by service.
    told: BTreeMap<Name, String>,
    /// Which process of a service was looked at, and how often.
    looked: BTreeMap<Name, (Process, u32)>,
}

impl Guesses {
    /// Services of which the tree has told what they are are that in other settings too.
    pub fn put_into(&self, settings: &mut Settings) {
        for service in &mut settings.services {
            if let Some(profile) = self.known.get(&service.rules.name) {
                service.turn_out(profile.clone());
            }
        }
    }
}

impl Daemon {
    /// Looks at trees of which nothing is known, and tells what was guessed.
    pub(super) fn guess_profiles(&mut self) {
        let settings = self.config.settings.clone();
        let is_open = |it: &&Service| {
            it.auto.is_some() && !self.config.guesses.known.contains_key(&it.rules.name)
        };
        let open = settings.services.iter().filter(is_open);
        let found: Vec<_> = open
            .filter_map(|it| Some((it, self.hands.leader_of(it)?)))
            .filter(|(it, leader)| match self.config.guesses.looked.get(&it.rules.name) {
                Some((process, looks)) => process != leader || *looks < LOOKS,
                None => true,
            })
            .take(TREES)
            .map(|(service, leader)| (service.rules.name.clone(), leader, look(service, leader)))
            .collect();
        let mut is_any = false;
        for (name, leader, profile) in found {
            let looked = self.config.guesses.looked.entry(name.clone()).or_insert((leader, 0));
            *looked = (leader, if looked.0 == leader { looked.1 + 1 } else { 1 });
            if let Some(profile) = profile {
                self.config.guesses.known.insert(name, profile);
                is_any = true;
            }
        }
        if is_any {
            let mut settings = (*settings).clone();
            self.config.guesses.put_into(&mut settings);
            self.take_settings(settings);
        }
        self.tell_guesses();
    }

    fn tell_guesses(&mut self) {
        let settings = self.config.settings.clone();
        for service in &settings.services {
            let profile = &service.rules.profile;
            let Some(because) = profile.guess.as_ref().filter(|it| !it.is_empty()) else {
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

/// What a tree tells.
fn look(service: &Service, leader: Process) -> Option<Arc<KnownProfile>> {
    let tree = descendants::of(identity_of(leader)).ok()?;
    let (first, below) = tree.split_first()?;
    let arguments = |pid| closeup::arguments(pid).unwrap_or_default();
    let kin = below.iter().filter(|it| it.name == first.name).take(8);
    let kin: Vec<_> = kin.map(|it| arguments(it.identity.pid)).collect();
    service.auto.as_ref()?.guess(&arguments(leader.pid), &kin)
}
