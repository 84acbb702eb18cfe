//! The keys that change, with their old and new values, for showing.
//!
//! What `config show` would print of both configurations is compared, so every key has the name that it has in
//! a file. Secrets are hidden here; that one changed is told all the same.

use std::collections::BTreeMap;

use super::{Change, Diff, Does, former, name_of};
use crate::config::secret::{veiled, veiled_arguments};
use crate::config::settings::{Service, Settings};
use crate::config::show::show;

/// A key whose value changes; `None`: it is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub key: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

type Leaves = BTreeMap<String, String>;

/// Adds the values to the changes that they explain.
pub(super) fn explain(old: &Settings, new: &Settings, diff: &mut Diff) {
    let explained = |it: &&mut Change| matches!(it.does, Does::Stale | Does::AtOnce);
    let mut changes = diff.changes.iter_mut().filter(explained).peekable();
    if changes.peek().is_none() {
        return;
    }
    let before = Shown { table: table(old), services: former(old, new) };
    let after = Shown { table: table(new), services: super::by_name(new) };
    for change in changes {
        let Some(subject) = Subject::of(&change.name, new) else { continue };
        let Some((from, to)) = before.leaves(&subject).zip(after.leaves(&subject)) else {
            continue;
        };
        let keys: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
        let values = keys.into_iter().filter_map(|key| {
            let (from, to) = (from.get(key), to.get(key));
            let wanted = from != to && subject.has(key, change.does);
            wanted.then(|| key_change(key, from, to))
        });
        change.values = values.collect();
    }
}

fn key_change(key: &str, from: Option<&String>, to: Option<&String>) -> KeyChange {
    let shown = |it: &String| match key.strip_prefix("environment.") {
        Some(name) => veiled(name, it).into_owned(),
        None => {
            let words: Vec<String> = it.split(' ').map(str::to_owned).collect();
            veiled_arguments(&words).join(" ")
        }
    };
    KeyChange { key: key.to_owned(), from: from.map(shown), to: to.map(shown) }
}

/// What a change is about.
enum Subject<'a> {
    Deck,
    Gateway(&'a str),
    Service(&'a Service),
    Instance(&'a Service, &'a str),
}

impl<'a> Subject<'a> {
    fn of(name: &'a str, new: &'a Settings) -> Option<Self> {
        if name == "deck" {
            return Some(Self::Deck);
        }
        if let Some(gateway) = name.strip_prefix("gateway ") {
            return Some(Self::Gateway(gateway));
        }
        let service = new.services.iter().find(|it| it.rules.name.as_str() == name);
        service.map(Self::Service).or_else(|| {
            let has = |it: &&Service| it.instances.iter().any(|it| it.name == name);
            Some(Self::Instance(new.services.iter().find(has)?, name))
        })
    }

    /// Whether a change of this key does that, and does it to this subject.
    fn has(&self, key: &str, does: Does) -> bool {
        let is_started_with = match self {
            Self::Deck => return (does == Does::Stale) == matches!(key, "state_dir" | "socket"),
            Self::Gateway(_) => return true,
            Self::Service(_) | Self::Instance(..) => is_started_with(key),
        };
        let is_others = match (self, key.strip_prefix("instance.")) {
            (Self::Instance(_, name), Some(rest)) => {
                rest.strip_prefix(name).is_none_or(|it| !it.starts_with('.'))
            }
            _ => false,
        };
        !is_others && (does == Does::Stale) == is_started_with
    }
}

/// Whether a process has it from its start: [`super::changes::launch`].
fn is_started_with(key: &str) -> bool {
    const WHOLE: [&str; 6] =
        ["command", "start", "directory", "user", "no_new_privs", "socket.listen"];
    WHOLE.contains(&key)
        || key == "socket.name"
        || key.starts_with("environment.")
        || key.starts_with("capabilities")
        || key.starts_with("instance.") && key.ends_with(".port")
}

/// A configuration as it is shown, and the environments, of which secrets would be shown alike.
struct Shown<'a> {
    table: toml::Table,
    /// By their new names.
    services: BTreeMap<&'a str, &'a Service>,
}

fn table(settings: &Settings) -> toml::Table {
    show(settings).parse().unwrap_or_default()
}

impl Shown<'_> {
    /// Every key below a subject; `None` if it is not there.
    fn leaves(&self, subject: &Subject<'_>) -> Option<Leaves> {
        let mut leaves = Leaves::new();
        match subject {
            Subject::Deck => {
                flatten("", self.table.get("deck")?, &mut leaves);
                flatten("keys", self.table.get("keys")?, &mut leaves);
            }
            Subject::Gateway(name) => {
                flatten("", self.table.get("gateway")?.get(name)?, &mut leaves);
            }
            Subject::Service(it) | Subject::Instance(it, _) => {
                let service = self.services.get(name_of(it))?;
                flatten("", self.table.get("service")?.get(name_of(service))?, &mut leaves);
                leaves.retain(|key, _| !key.starts_with("environment."));
                let environment = &service.written.environment;
                leaves.extend(
                    environment
                        .iter()
                        .map(|(name, it)| (format!("environment.{name}"), it.0.clone())),
                );
            }
        }
        Some(leaves)
    }
}

fn flatten(prefix: &str, value: &toml::Value, leaves: &mut Leaves) {
    let text = match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, leaves);
            }
            return;
        }
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    leaves.insert(prefix.to_owned(), text);
}
