//! What the lines of a state file come to: the later one of each kind counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Actor;
use crate::daemon::kept::records::{
    FORMAT, HookCall, Intent, Kept, Line, Rollout, Round, Run, Running, Took, Wanted,
};

/// Everything the file says, folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The processes of this boot that were not seen to end, by instance.
    pub running: BTreeMap<String, Running>,
    /// The same of processes that somebody else runs.
    pub found: BTreeMap<String, Running>,
    /// The last start of each instance.
    pub intents: BTreeMap<String, Intent>,
    pub wanted: BTreeMap<String, Wanted>,
    pub set: BTreeMap<String, BTreeMap<String, String>>,
    pub took: BTreeMap<String, Took>,
    /// What was under way, by instance.
    pub kept: BTreeMap<String, Kept>,
    /// The generations that were ready, on this boot, by instance.
    pub ready: BTreeMap<String, u64>,
    /// By service.
    pub rollouts: BTreeMap<String, Rollout>,
    /// Signals that were on their way through a service, on this boot, by service.
    pub rounds: BTreeMap<String, Round>,
    /// The commands of rollouts that were not seen to end, on this boot, by service.
    pub runs: BTreeMap<String, Run>,
    /// Calls of hooks that were not seen to end, by the number of their event.
    pub hooks: BTreeMap<u64, HookCall>,
    /// The highest number of an event that a line names.
    pub highest_seq: u64,
    /// Everything was being stopped, on this boot, and by whom.
    pub closing: Option<Option<Actor>>,
    /// What an operator should know about the file.
    pub notes: Vec<String>,
}

impl Remembered {
    /// Folds the lines of a file. Pids of another boot mean nothing.
    pub fn from_lines(text: &str, boot_id: &str) -> Self {
        let mut it = Self::default();
        let mut this_boot = false;
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            if let Line::Boot { boot_id: theirs, .. } = &line {
                this_boot = theirs == boot_id;
            } else {
                it.take(line, this_boot);
            }
        }
        it.kept.retain(|_, kept| !kept.says_nothing());
        it
    }

    fn take(&mut self, line: Line, this_boot: bool) {
        match line {
            Line::Boot { .. } => {}
            Line::Intent(it) => keep(&mut self.intents, it.instance.clone(), it),
            Line::Running(it) => {
                self.count(&it);
                keep_if(this_boot, &mut self.running, it.instance.clone(), it);
            }
            Line::Found(it) => {
                self.count(&it);
                keep_if(this_boot, &mut self.found, it.instance.clone(), it);
            }
            Line::Gone { instance, generation } => self.forget(&instance, generation),
            Line::Wanted(it) => keep(&mut self.wanted, it.instance.clone(), it),
            Line::Forgotten { instance } => self.forget_name(&instance),
            Line::Set { service, values } if values.is_empty() => drop(self.set.remove(&service)),
            Line::Set { service, values } => keep(&mut self.set, service, values),
            Line::Took(it) => keep(&mut self.took, it.instance.clone(), it),
            Line::Kept(it) => {
                let it = if this_boot { *it } else { it.after_reboot() };
                keep(&mut self.kept, it.instance.clone(), it);
            }
            Line::Ready { instance, generation } => {
                keep_if(this_boot, &mut self.ready, instance, generation);
            }
            Line::Unready { instance } => drop(self.ready.remove(&instance)),
            Line::Rollout(it) => {
                let it = if this_boot { *it } else { it.after_reboot() };
                keep(&mut self.rollouts, it.service.clone(), it);
            }
            Line::NoRollout { service } => drop(self.rollouts.remove(&service)),
            Line::Round(it) => keep_if(this_boot, &mut self.rounds, it.service.clone(), it),
            Line::NoRound { service } => drop(self.rounds.remove(&service)),
            Line::Run(it) => keep_if(this_boot, &mut self.runs, it.service.clone(), it),
            Line::Ran { service, run } => {
                self.runs.retain(|of, it| *of != service || it.run != run);
            }
            Line::Hook(it) => {
                let it = if this_boot { it } else { it.after_reboot() };
                self.highest_seq = self.highest_seq.max(it.seq);
                keep(&mut self.hooks, it.seq, it);
            }
            Line::Hooked { seq } => {
                self.highest_seq = self.highest_seq.max(seq);
                self.hooks.remove(&seq);
            }
            Line::Closing { by } => self.closing = this_boot.then_some(by),
            Line::Closed => self.closing = None,
        }
    }

    /// Nothing of this generation is left.
    fn forget(&mut self, instance: &str, generation: u64) {
        for known in [&mut self.running, &mut self.found] {
            if known.get(instance).is_some_and(|it| it.generation == generation) {
                known.remove(instance);
            }
        }
    }

    /// Whoever gets this name later begins with nothing.
    fn forget_name(&mut self, instance: &str) {
        self.intents.remove(instance);
        self.wanted.remove(instance);
        self.took.remove(instance);
        self.kept.remove(instance);
        self.ready.remove(instance);
    }

    /// The instances of which anything is said beside what runs.
    pub(in crate::daemon) fn instances(&self) -> BTreeSet<String> {
        let lasting = self.intents.keys().chain(self.wanted.keys()).chain(self.took.keys());
        lasting.chain(self.kept.keys()).chain(self.ready.keys()).cloned().collect()
    }

    /// A service has another name: what is said of it is said of that. Returns the lines that say so.
    pub(in crate::daemon) fn rename(&mut self, from: &str, to: &str) -> Vec<Line> {
        let service = || from.to_owned();
        let mut lines = vec![];
        if let Some(values) = self.set.remove(from) {
            lines.push(Line::Set { service: to.to_owned(), values: values.clone() });
            lines.push(Line::Set { service: service(), values: BTreeMap::new() });
            self.set.insert(to.to_owned(), values);
        }
        if let Some(mut it) = self.rollouts.remove(from) {
            to.clone_into(&mut it.service);
            lines.push(Line::Rollout(Box::new(it.clone())));
            lines.push(Line::NoRollout { service: service() });
            self.rollouts.insert(to.to_owned(), it);
        }
        if let Some(mut it) = self.rounds.remove(from) {
            to.clone_into(&mut it.service);
            lines.push(Line::Round(it.clone()));
            lines.push(Line::NoRound { service: service() });
            self.rounds.insert(to.to_owned(), it);
        }
        lines
    }

    /// Where the lines between were lost, the later generation is the one not to give again.
    fn count(&mut self, running: &Running) {
        let intent = self.intents.entry(running.instance.clone()).or_default();
        intent.instance.clone_from(&running.instance);
        if running.generation >= intent.generation {
            intent.generation = running.generation;
            intent.fingerprint = running.fingerprint;
        }
    }

    /// The shortest file that says the same.
    pub(in crate::daemon) fn to_lines(&self, boot_id: &str) -> Vec<Line> {
        let mut lines = vec![Line::Boot { version: FORMAT, boot_id: boot_id.to_owned() }];
        lines.extend(self.intents.values().cloned().map(Line::Intent));
        lines.extend(self.running.values().cloned().map(Line::Running));
        lines.extend(self.found.values().cloned().map(Line::Found));
        lines.extend(self.wanted.values().cloned().map(Line::Wanted));
        lines.extend(self.set.iter().map(|(service, values)| Line::Set {
            service: service.clone(),
            values: values.clone(),
        }));
        lines.extend(self.took.values().cloned().map(Line::Took));
        lines.extend(self.kept.values().cloned().map(|it| Line::Kept(Box::new(it))));
        lines.extend(self.ready.iter().map(|(instance, generation)| Line::Ready {
            instance: instance.clone(),
            generation: *generation,
        }));
        lines.extend(self.rollouts.values().cloned().map(|it| Line::Rollout(Box::new(it))));
        lines.extend(self.rounds.values().cloned().map(Line::Round));
        lines.extend(self.runs.values().cloned().map(Line::Run));
        lines.extend(self.hooks.values().cloned().map(Line::Hook));
        lines.extend(self.closing.clone().map(|by| Line::Closing { by }));
        lines
    }
}

/// The later one counts.
fn keep<K: Ord, T>(all: &mut BTreeMap<K, T>, key: K, it: T) {
    all.insert(key, it);
}

/// The same of what means nothing on another boot.
fn keep_if<K: Ord, T>(this_boot: bool, all: &mut BTreeMap<K, T>, key: K, it: T) {
    if this_boot {
        all.insert(key, it);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn what_is_said_of_a_service_that_is_renamed_is_said_of_its_new_name() {
        let mut text = String::from(
            "{\"is\":\"boot\",\"version\":2,\"boot_id\":\"b\"}\n\
             {\"is\":\"set\",\"service\":\"web\",\"values\":{\"version\":\"43\"}}\n",
        );
        let mut it = Remembered::from_lines(&text, "b");
        let lines = it.rename("web", "api");
        assert_eq!(it.set.keys().collect::<Vec<_>>(), ["api"]);
        for line in lines {
            writeln!(text, "{}", serde_json::to_string(&line).unwrap()).unwrap();
        }
        assert_eq!(Remembered::from_lines(&text, "b"), it, "the next daemon reads the same");
        assert!(it.rename("web", "api").is_empty());
    }

    #[test]
    fn names_that_are_gone_leave_nothing() {
        let mut text = String::from("{\"is\":\"boot\",\"version\":2,\"boot_id\":\"b\"}\n");
        for n in 0..10_000 {
            for line in [
                format!("\"is\":\"intent\",\"instance\":\"web{n}\",\"generation\":3"),
                format!(
                    "\"is\":\"wanted\",\"instance\":\"web{n}\",\"goal\":\"down\",\"held_by\":null"
                ),
                format!("\"is\":\"set\",\"service\":\"s{n}\",\"values\":{{\"version\":\"1\"}}"),
                format!("\"is\":\"took\",\"instance\":\"web{n}\",\"now\":{{}},\"before\":{{}}"),
                format!("\"is\":\"kept\",\"instance\":\"web{n}\",\"restarts\":3"),
                format!("\"is\":\"ready\",\"instance\":\"web{n}\",\"generation\":3"),
                format!("\"is\":\"forgotten\",\"instance\":\"web{n}\""),
                format!("\"is\":\"set\",\"service\":\"s{n}\",\"values\":{{}}"),
            ] {
                writeln!(text, "{{{line}}}").unwrap();
            }
        }
        assert_eq!(Remembered::from_lines(&text, "b"), Remembered::default());
        let last = "{\"is\":\"intent\",\"instance\":\"web7\",\"generation\":1}\n";
        let again = Remembered::from_lines(&(text + last), "b");
        assert_eq!(again.instances(), BTreeSet::from(["web7".to_owned()]), "it came again");
    }
}
