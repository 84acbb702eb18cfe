//! One profile file: from checked values to a profile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::KnownProfile;
use crate::config::mistake::{Mistake, Span};
use crate::config::read;
use crate::config::shape::PROFILE;
use crate::config::value::{Data, Layers, Table, Value};
use crate::fleet::rules::{Chosen, Meaning, Profile};
use crate::fleet::words::Signal;
use crate::roles::{Pattern, Rule, Rules};

/// Reads a profile; `None` where it has mistakes.
pub(super) fn read(file: usize, name: &str, text: &str) -> (Option<KnownProfile>, Vec<Mistake>) {
    let read = read::read_as(PROFILE, file, Path::new(""), text);
    let mut reader = Reader { mistakes: read.mistakes };
    let profile = reader.profile(name, &read.root);
    let mistakes = reader.mistakes;
    (mistakes.is_empty().then_some(profile), mistakes)
}

/// A profile that knows nothing.
pub(super) fn nothing(name: &str) -> KnownProfile {
    Reader { mistakes: vec![] }.profile(name, &Table::default())
}

struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn profile(&mut self, name: &str, root: &Table) -> KnownProfile {
        let root = Layers::new([root]);
        let mut signals = self.signals(&root);
        let reload = self.reload(&root, &mut signals);
        let stop = self.stop(&root, &signals);
        let limit = root.inner("limit");
        let roles = self.roles(&root);
        let text = |table: &Layers<'_>, key| table.text(key).map(|it| it.0.to_owned());
        KnownProfile {
            profile: Arc::new(Profile {
                name: name.into(),
                reload,
                signals,
                term_cuts: root.boolean("term_cuts").unwrap_or(false),
                renews: roles.0.iter().any(|it| it.renewed),
                on_demand: roles.0.iter().any(|it| it.renewed && it.on_demand),
                leaves: text(&root, "leaves"),
                alone: text(&root, "alone"),
                again: root.boolean("again").unwrap_or(false),
                limit: limit.duration("default").map_or(Duration::from_secs(3), |it| it.0),
                limit_known: limit.find("name").is_some() && limit.find("default").is_some(),
                limit_name: text(&limit, "name"),
                limit_times: limit.integer("times").map_or(1, |it| it.0),
                limit_early: limit.duration("early").map_or(Duration::ZERO, |it| it.0),
                chosen: Chosen::Named,
            }),
            stop,
            roles,
        }
    }

    fn signals(&mut self, root: &Layers<'_>) -> Vec<Meaning> {
        let mut found: Vec<Meaning> = vec![];
        for (value, table) in tables(root, "signals") {
            let given = self.needed(&table, "signal", value).and_then(signal);
            let does = table.text("does");
            if does.is_none() {
                self.needed(&table, "does", value);
            }
            let (Some(signal), Some((does, _))) = (given, does) else { continue };
            if found.iter().any(|it| it.signal == signal) {
                let title = format!("{signal} stands here twice");
                self.report(value.span, title, "it was told before", "keep one of them");
                continue;
            }
            let harmless = table.boolean("harmless").unwrap_or(false);
            let renews = table.list("renews").map(|it| it.0).unwrap_or_default();
            let role = |it: &Value| match &it.data {
                Data::Text(role) => Some(role.clone()),
                _ => None,
            };
            let renews = renews.iter().filter_map(role).collect();
            let cuts = table.boolean("cuts").unwrap_or(false);
            found.push(Meaning { signal, does: does.to_owned(), harmless, cuts, renews });
        }
        found
    }

    /// The signal that reloads; it is harmless, also where nothing else is told of it.
    fn reload(&mut self, root: &Layers<'_>, signals: &mut Vec<Meaning>) -> Option<Signal> {
        let value = &root.find("reload")?.value;
        let reload = signal(value)?;
        match signals.iter().find(|it| it.signal == reload) {
            Some(it) if it.harmless => {}
            Some(_) => {
                let title = format!("`reload` is {reload}, which is not harmless here");
                let label = "a reload takes no instance away";
                self.report(value.span, title, label, "add harmless = true to that signal");
            }
            None => {
                let (does, renews) = ("reload".into(), vec![]);
                signals.push(Meaning { signal: reload, does, harmless: true, cuts: false, renews });
            }
        }
        Some(reload)
    }

    fn stop(&mut self, root: &Layers<'_>, signals: &[Meaning]) -> Signal {
        let Some(value) = root.find("stop").map(|it| &it.value) else { return Signal::TERM };
        let Some(stop) = signal(value) else { return Signal::TERM };
        if signals.iter().any(|it| it.signal == stop && it.harmless) {
            let title = format!("`stop` is {stop}, which is harmless here");
            self.report(
                value.span,
                title,
                "this would stop nothing",
                "name the signal that ends it",
            );
        }
        stop
    }

    fn roles(&mut self, root: &Layers<'_>) -> Rules {
        let mut rules = vec![];
        for (value, table) in tables(root, "roles") {
            let Some((role, _)) = table.text("role") else {
                self.needed(&table, "role", value);
                continue;
            };
            let title = table.text("title").map(|(text, at)| (Pattern::new(text), at));
            if let Some((None, at)) = title {
                let title = "`title` is not a regular expression".to_owned();
                self.report(at, title, "braces must be escaped", "write \\{ for a brace");
            }
            let title = title.and_then(|it| it.0);
            let level = table.integer("level").map(|it| it.0);
            if table.find("title").is_none() && level.is_none() {
                let title = format!("nothing says who is a {role}");
                let help = "add level = 2 for the children of the first process, or title = \"…\"";
                self.report(value.span, title, "this would be every process", help);
            }
            let of = table.integer("of").map(|it| it.0);
            let threads = table.integer("threads").map(|it| it.0);
            let polls = table.integer("polls").map(|it| it.0);
            let cuts = table.list("cuts").map(|it| it.0).unwrap_or_default();
            let cuts = cuts.iter().filter_map(|it| Some(signal(it)?.0)).collect();
            let renewed = table.boolean("renewed").unwrap_or(false);
            let stop = table.find("stop").and_then(|it| signal(&it.value)).map(|it| it.0);
            let leaving = table.boolean("leaving").unwrap_or(false);
            let on_demand = table.boolean("on_demand").unwrap_or(false);
            let role = role.to_owned();
            rules.push(Rule {
                role,
                title,
                level,
                of,
                threads,
                polls,
                cuts,
                renewed,
                leaving,
                on_demand,
                stop,
            });
        }
        Rules(rules)
    }

    fn needed<'v>(&mut self, table: &Layers<'v>, key: &str, of: &Value) -> Option<&'v Value> {
        let found = table.find(key).map(|it| &it.value);
        if found.is_none() {
            let title = format!("`{key}` is missing");
            self.report(of.span, title, "it belongs in here", &format!("add {key} = \"…\""));
        }
        found
    }

    fn report(&mut self, at: Span, title: String, label: &str, help: &str) {
        self.mistakes.push(Mistake::new(at, title, label).help(help));
    }
}

fn signal(value: &Value) -> Option<Signal> {
    match value.data {
        Data::Signal(signal) => Some(signal),
        _ => None,
    }
}

/// The tables of a list.
fn tables<'v>(root: &Layers<'v>, key: &str) -> Vec<(&'v Value, Layers<'v>)> {
    let values = root.list(key).map(|it| it.0).unwrap_or_default();
    let table = |it: &'v Value| match &it.data {
        Data::Table(table) => Some((it, Layers::new([table]))),
        _ => None,
    };
    values.iter().filter_map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `12: what is wrong`.
    fn mistakes(text: &str) -> Vec<String> {
        let (profile, mistakes) = read(0, "own", text);
        assert_eq!(profile.is_none(), !mistakes.is_empty());
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        mistakes.iter().map(|it| format!("{}: {}", line(it.span.start), it.title)).collect()
    }

    #[test]
    fn an_empty_profile_is_stopped_by_sigterm_and_cannot_be_reloaded() {
        let (profile, mistakes) = read(0, "own", "");
        assert_eq!((profile, mistakes), (Some(nothing("own")), vec![]));
        let it = nothing("own");
        assert_eq!(
            (it.stop, it.profile.reload, it.profile.limit.as_secs()),
            (Signal::TERM, None, 3)
        );
    }

    #[test]
    fn a_reload_that_is_not_explained_is_harmless() {
        let it = read(0, "own", "reload = \"HUP\"").0.unwrap();
        let (does, renews) = ("reload".into(), vec![]);
        let hup = Meaning { signal: Signal::HUP, does, harmless: true, cuts: false, renews };
        assert_eq!(it.profile.signals, [hup]);
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let text = "relaod = \"HUP\"\nreload = \"TERM\"\nstop = \"USR1\"\n\
            [[signals]]\nsignal = \"TERM\"\ndoes = \"stop\"\n\
            [[signals]]\nsignal = \"USR1\"\ndoes = \"x\"\nharmless = true\n\
            [[signals]]\nsignal = \"TERM\"\ndoes = \"again\"\n\
            [[signals]]\nsignal = \"NOPE\"\n[[roles]]\nlevel = 2\n[[roles]]\nrole = \"x\"\n\
            [[roles]]\nrole = \"y\"\ntitle = \"(\"\n";
        insta::assert_snapshot!(mistakes(text).join("\n"), @"
        1: unknown key `relaod`
        15: `signal` must be a signal
        22: `title` is not a regular expression
        11: SIGTERM stands here twice
        14: `does` is missing
        2: `reload` is SIGTERM, which is not harmless here
        3: `stop` is SIGUSR1, which is harmless here
        16: `role` is missing
        18: nothing says who is a x
        ");
    }
}
