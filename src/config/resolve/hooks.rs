//! `[hooks]`.

use std::time::Duration;

use super::Resolver;
use crate::config::mistake::Mistake;
use crate::config::settings::{Hook, Hooks};
use crate::config::value::{Data, Layers, Table};

impl Resolver<'_> {
    /// The hooks of the main file; `None` without any.
    pub(super) fn hooks(&mut self, main: &Table) -> Option<Hooks> {
        let entry = main.find("hooks")?;
        let table = Layers::new([main]).inner("hooks");
        if table.find("command").is_none() {
            let mistake = Mistake::new(entry.at, "`hooks` has no command", "nothing is run here");
            let help = "add command = \"/usr/local/bin/page\", or remove the table";
            self.report(mistake.absent().help(help));
        }
        let (command, span) = table.command("command")?;
        for word in command {
            self.refuse_names("command", word, span);
        }
        let or = |key, seconds| table.duration(key).map_or(Duration::from_secs(seconds), |it| it.0);
        let words = table.texts("on");
        let chosen = |hook: &Hook| words.iter().any(|it| it.0 == hook.word());
        let all = !matches!(table.find("on").map(|it| &it.value.data), Some(Data::List(_)));
        Some(Hooks {
            command: command.to_vec(),
            on: Hook::ALL.into_iter().filter(|it| all || chosen(it)).collect(),
            timeout: or("timeout", 10),
            interval: or("interval", 60),
            burst: table.integer("burst").map_or(5, |it| it.0 as usize),
        })
    }
}
