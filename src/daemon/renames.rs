//! Services that have another name in a new configuration: what is kept by the name of a service moves.
//!
//! What runs is kept by the names of instances, and stays where it is.

use std::collections::BTreeMap;

use super::driver::Daemon;
use super::kept::remembered::Remembered;
use super::kept::rollouts::{RENAMED, RENAMED_FROM};
use crate::config::diff;
use crate::config::settings::Settings;
use crate::fleet::Name;
use crate::fleet::input::{Extra, Input, Record};

/// From what to what.
pub(super) fn renames(old: &Settings, new: &Settings) -> Vec<(Name, Name)> {
    let all = diff::renamed(old, new).into_iter();
    all.map(|(to, it)| (it.rules.name.clone(), Name::from(to))).collect()
}

pub(super) fn move_key<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, from: &K, to: &K) {
    if let Some(it) = map.remove(from) {
        map.insert(to.clone(), it);
    }
}

impl Daemon {
    /// Before the configuration that names them so is taken.
    pub(super) fn rename_services(&mut self, new: &Settings) {
        for (from, to) in renames(&self.config.settings, new) {
            self.config.guesses.rename(&from, &to);
            self.hands.rename_values(&from, &to);
            self.history.rename(from.as_str(), to.as_str());
            self.tell_renamed(&from, &to);
            self.turn(Input::Renamed { from, to });
        }
    }

    /// Before anything is taken over: what the file as it is now names otherwise than what was applied last did.
    pub(super) fn rename_remembered(&mut self, last: &Settings, left: &mut Remembered) {
        for (from, to) in renames(last, &self.config.settings.clone()) {
            for line in left.rename(from.as_str(), to.as_str()) {
                self.hands.state.append(&line);
            }
            self.tell_renamed(&from, &to);
        }
    }

    /// The journal has what is remembered of rollouts under its name.
    fn tell_renamed(&mut self, from: &Name, to: &Name) {
        self.hands.runs.rename(from, to);
        self.record(Record {
            kind: RENAMED,
            service: Some(to.clone()),
            instance: None,
            by: None,
            message: format!("{RENAMED_FROM}{from}"),
            with_evidence: false,
            extra: Extra::Nothing,
        });
    }
}
