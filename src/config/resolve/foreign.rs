//! `engine = "pidfile"`: processes that somebody else runs, and whose pids are in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::service::Member;
use super::{Names, Others, Resolver};
use crate::config::mistake::Mistake;
use crate::config::settings::{Instance, Text};
use crate::config::value::{Entry, Layers, Table};
use crate::fleet::rules::Foreign;

/// What only processes have that opsdeck starts itself, and what to do about it.
const OF_LOCAL: [(&str, &str); 3] = [
    ("command", "what starts it on request is `start`"),
    ("restart", "remove it: `liveness_restarts = true` is what can be asked for"),
    ("socket", "remove it: whoever starts it opens its sockets"),
];
/// What only others' processes have.
const OF_FOREIGN: [&str; 4] = ["pidfile", "start", "stop_command", "liveness_restarts"];

fn is_pidfile(table: &Layers<'_>) -> bool {
    table.text("engine").is_some_and(|it| it.0 == "pidfile")
}

pub(super) fn is_stopped_by_command(table: &Layers<'_>) -> bool {
    is_pidfile(table) && table.find("stop_command").is_some()
}

/// The key that says what is run to start one.
pub(super) fn program_key(table: &Layers<'_>) -> &'static str {
    if is_pidfile(table) { "start" } else { "command" }
}

impl Resolver<'_> {
    /// What a foreign engine allows; `None`: the processes are ours.
    pub(super) fn foreign(
        &mut self,
        entry: &Entry,
        own: &Table,
        table: &Layers<'_>,
        members: &[Member<'_>],
    ) -> Option<Foreign> {
        let name = &entry.name;
        if !is_pidfile(table) {
            for key in OF_FOREIGN.iter().filter_map(|it| own.find(it)) {
                let title = format!("`{}` is for processes that somebody else runs", key.name);
                let mistake = Mistake::new(key.at, title, format!("opsdeck runs `{name}` itself"));
                self.report(mistake.help("add engine = \"pidfile\", or remove it"));
            }
            return None;
        }
        for (key, help) in OF_LOCAL {
            if let Some(it) = own.find(key) {
                let title = format!("`{name}` is run by somebody else, and has no `{key}`");
                self.report(Mistake::new(it.at, title, "engine = \"pidfile\"").help(help));
            }
        }
        if table.find("pidfile").is_none() {
            let title = format!("`{name}` has no pidfile");
            let mistake = Mistake::new(entry.at, title, "nothing says where its pid is").absent();
            self.report(mistake.help(format!("add pidfile = \"/run/{name}.pid\"")));
        }
        if let Some(picked) = members.iter().find(|it| it.auto_port) {
            let title = format!("the port of `{}` cannot be picked", picked.name);
            let mistake = Mistake::new(picked.at, title, "somebody else starts it");
            self.report(mistake.help("write the port that it has"));
        }
        if let Some((stop, command)) = own.find("stop").zip(own.find("stop_command")) {
            let title = format!("`{name}` has `stop` and `stop_command`");
            let mistake = Mistake::new(command.at, title, "it takes the place of the signals");
            self.report(mistake.also(stop.at, "these signals").help("remove one of them"));
        }
        let rollout = Layers::new([own]).inner("rollout");
        if let Some(surge) =
            rollout.find("surge").filter(|_| rollout.boolean("surge") == Some(true))
        {
            let title = format!("`{name}` cannot have a spare");
            let mistake = Mistake::new(surge.at, title, "somebody else starts its processes");
            self.report(mistake.help("remove `surge`"));
        }
        Some(Foreign {
            starts: table.find("start").is_some(),
            liveness_restarts: table.boolean("liveness_restarts").unwrap_or(false),
        })
    }

    /// The pid file of one instance.
    pub(super) fn pidfile(
        &mut self,
        table: &Layers<'_>,
        names: Names<'_>,
        directory: Option<&Path>,
    ) -> Option<PathBuf> {
        let (text, span) = table.text("pidfile").filter(|_| is_pidfile(table))?;
        let path = PathBuf::from(self.fill(text, span, names, Others::Refuse));
        let path = directory.map_or_else(|| path.clone(), |it| it.join(&path));
        if !path.is_absolute() {
            let title = "`pidfile` is relative, and there is no `directory`";
            let mistake = Mistake::new(span, title, "relative to what?");
            self.report(mistake.help("write the whole path, or set directory"));
        }
        Some(path)
    }

    /// What stops one, in place of signals; empty: nothing does.
    pub(super) fn stop_command(&mut self, table: &Layers<'_>, names: Names<'_>) -> Vec<Text> {
        let Some((words, span)) = table.command("stop_command").filter(|_| is_pidfile(table))
        else {
            return vec![];
        };
        words.iter().map(|it| Text(self.fill(it, span, names, Others::Stay))).collect()
    }

    /// One pid file names one process.
    pub(super) fn pidfiles_are_unique(&mut self, table: &Layers<'_>, instances: &[Instance]) {
        let mut taken: BTreeMap<&Path, &str> = BTreeMap::new();
        for it in instances {
            let Some(path) = it.pidfile.as_deref() else { continue };
            let Some(other) = taken.insert(path, &it.name) else { continue };
            let Some((_, span)) = table.text("pidfile") else { continue };
            let title = format!("`{}` and `{other}` have the same pidfile", it.name);
            let mistake = Mistake::new(span, title, "it names one process");
            self.report(
                mistake.help("put {instance} or {port} into it, as in \"/run/{instance}.pid\""),
            );
            return;
        }
    }
}
