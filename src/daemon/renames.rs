//! Services that have another name in a new configuration: what is kept by the name of a service moves.
//!
//! What runs is kept by the names of instances, and stays where it is.

use std::collections::BTreeMap;

use super::driver::Daemon;
use crate::config::diff;
use crate::config::settings::Settings;
use crate::fleet::Name;
use crate::fleet::input::Input;

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
            self.hands.runs.rename(&from, &to);
            self.rollouts.rename(from.as_str(), to.as_str());
            self.history.rename(from.as_str(), to.as_str());
            self.turn(Input::Renamed { from, to });
        }
    }
}
