//! `[keys]`: which key does what in the deck.
//!
//! The names of the actions and their built-in keys are here to find misspelled names and keys that
//! would do two things. The deck's own table has to say the same; a test outside compares them.

use std::collections::BTreeMap;

use super::mistake::{Mistake, Span};
use super::read::suggestion;
use super::value::{self, Data};

/// Where a key holds. Two actions may share one where only one of them is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The table of services.
    Table,
    /// The log view.
    Logs,
    /// The event page.
    Events,
    /// The page of one instance.
    Detail,
    Everywhere,
}

impl Scope {
    fn overlaps(self, other: Self) -> bool {
        self == other || self == Self::Everywhere || other == Self::Everywhere
    }
}

use Scope::{Detail, Events, Everywhere, Logs, Table as Services};

/// Every action, its built-in keys, and where they hold.
pub const ACTIONS: &[(&str, &[&str], Scope)] = &[
    ("roll", &["r"], Services),
    ("term", &["t"], Services),
    ("usr1", &["u"], Services),
    ("hup", &["h"], Services),
    ("start", &["s"], Services),
    ("stop", &["x"], Services),
    ("drain", &["d"], Services),
    ("logs", &["l"], Services),
    ("detail", &["enter"], Services),
    ("filter", &["/"], Services),
    ("palette", &[":"], Services),
    ("help", &["?", "F1"], Everywhere),
    ("quit", &["q", "ctrl-c"], Services),
    ("restart", &["R"], Services),
    ("stop-now", &["X"], Services),
    ("undrain", &["D"], Services),
    ("signal", &["S", "F9"], Services),
    ("extend", &["+"], Services),
    ("kill", &["!"], Services),
    ("abort", &["a"], Services),
    ("pause", &["p"], Services),
    ("rollback", &["b"], Services),
    ("events", &["e"], Services),
    ("config", &["c"], Services),
    ("rollout", &["v"], Services),
    ("mark", &["space"], Services),
    ("mark-all", &["*"], Services),
    ("sort", &["o"], Services),
    ("up", &["k", "up"], Everywhere),
    ("down", &["j", "down"], Everywhere),
    ("top", &["g", "home"], Everywhere),
    ("bottom", &["G", "end"], Everywhere),
    ("page-up", &["pgup"], Everywhere),
    ("page-down", &["pgdn"], Everywhere),
    ("fold", &["left"], Services),
    ("unfold", &["right"], Services),
    ("redraw", &["ctrl-l"], Everywhere),
    ("suspend", &["ctrl-z"], Everywhere),
    ("log-follow", &["f"], Logs),
    ("log-search", &["/"], Logs),
    ("log-next", &["n"], Logs),
    ("log-previous", &["N"], Logs),
    ("log-wrap", &["w"], Logs),
    ("log-copy", &["y"], Logs),
    ("log-range", &["v"], Logs),
    ("log-filter", &["&"], Logs),
    ("log-since", &["t"], Logs),
    ("log-times", &["T"], Logs),
    ("log-save", &["s"], Logs),
    ("events-service", &["s"], Events),
    ("events-actor", &["w"], Events),
    ("events-kind", &["t"], Events),
    ("events-filter", &["/"], Events),
    ("process-next", &["J"], Detail),
    ("process-previous", &["K"], Detail),
];

const NAMED: [&str; 16] = [
    "space",
    "enter",
    "esc",
    "tab",
    "backtab",
    "backspace",
    "delete",
    "insert",
    "home",
    "end",
    "pgup",
    "pgdn",
    "up",
    "down",
    "left",
    "right",
];

/// They always lead out.
const RESERVED: [&str; 2] = ["ctrl-c", "esc"];

/// Writes a key in its one form: `t`, `S`, `F9`, `ctrl-c`, `alt-x`, `space`, `left`. `None` is no key.
pub fn canonical(text: &str) -> Option<String> {
    let mut chars = text.chars();
    if let (Some(it), None) = (chars.next(), chars.next()) {
        return match it {
            ' ' => Some("space".into()),
            it if it.is_control() => None,
            it => Some(it.to_string()),
        };
    }
    let lower = text.to_ascii_lowercase();
    for modifier in ["ctrl-", "alt-"] {
        if let Some(rest) = lower.strip_prefix(modifier) {
            // A terminal sends no shift with ctrl: ctrl-C is ctrl-c.
            let key = if modifier == "alt-" { &text[modifier.len()..] } else { rest };
            let key = canonical(key)?;
            return (modifier == "alt-" || !key.starts_with("ctrl-"))
                .then(|| format!("{modifier}{key}"));
        }
    }
    if let Some(number) = lower.strip_prefix('f').and_then(|it| it.parse::<u8>().ok()) {
        return (1..=12).contains(&number).then(|| format!("F{number}"));
    }
    let name = match lower.as_str() {
        "return" => "enter",
        "escape" => "esc",
        "del" => "delete",
        "page-up" | "pageup" => "pgup",
        "page-down" | "pagedown" | "pgdown" => "pgdn",
        it => it,
    };
    NAMED.contains(&name).then(|| name.to_owned())
}

/// Reads `[keys]`. What is as built in is left out.
pub(crate) fn read(
    table: &value::Table,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Vec<String>> {
    let mut chosen: BTreeMap<&str, Vec<(String, Span)>> = BTreeMap::new();
    for entry in &table.entries {
        let Some((action, ..)) = ACTIONS.iter().find(|it| it.0 == entry.name) else {
            let names: Vec<&str> = ACTIONS.iter().map(|it| it.0).collect();
            let title = format!("the deck has no action `{}`", entry.name);
            let help = suggestion(&entry.name, &names, "the actions are");
            mistakes.push(Mistake::new(entry.at, title, "not an action").help(help));
            continue;
        };
        let Data::List(keys) = &entry.value.data else { continue };
        let keys = keys.iter().filter_map(|it| match &it.data {
            Data::Text(text) => read_key(action, text, it.span, mistakes).map(|key| (key, it.span)),
            _ => None,
        });
        chosen.insert(action, keys.collect());
    }
    report_conflicts(&chosen, mistakes);
    let keys = chosen.into_iter().map(|(action, keys)| {
        (action.to_owned(), keys.into_iter().map(|it| it.0).collect::<Vec<_>>())
    });
    keys.filter(|(action, keys)| built_in(action) != keys.as_slice()).collect()
}

fn built_in(action: &str) -> &'static [&'static str] {
    ACTIONS.iter().find(|it| it.0 == action).map_or(&[], |it| it.1)
}

fn read_key(action: &str, text: &str, span: Span, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let Some(key) = canonical(text) else {
        mistakes.push(
            Mistake::new(span, "the deck knows no such key", "not a key")
                .help("write a character as \"t\" or \"S\", others as \"F9\", \"ctrl-l\", \"alt-x\", \"space\", \"enter\", \"left\", \"pgup\""),
        );
        return None;
    };
    if RESERVED.contains(&key.as_str()) && !built_in(action).contains(&key.as_str()) {
        let title = format!("`{key}` cannot be given away");
        mistakes.push(Mistake::new(span, title, "it always leads out").help("choose another key"));
        return None;
    }
    Some(key)
}

/// A key that would do two things, at least one of them by this file.
fn report_conflicts(chosen: &BTreeMap<&str, Vec<(String, Span)>>, mistakes: &mut Vec<Mistake>) {
    let mut taken: Vec<(&str, &str, Scope, Option<Span>)> = vec![];
    for (action, keys, scope) in ACTIONS.iter().filter(|it| !chosen.contains_key(it.0)) {
        taken.extend(keys.iter().map(|key| (*key, *action, *scope, None)));
    }
    for (action, _, scope) in ACTIONS {
        for (key, span) in chosen.get(action).into_iter().flatten() {
            let other = taken.iter().find(|it| it.0 == key && it.2.overlaps(*scope));
            mistakes.extend(other.map(|it| conflict(key, (action, *span), (it.1, it.3))));
            taken.push((key, action, *scope, Some(*span)));
        }
    }
}

fn conflict(
    key: &str,
    (action, span): (&str, Span),
    (other, place): (&str, Option<Span>),
) -> Mistake {
    let title = format!("`{key}` would do two things: `{other}` and `{action}`");
    let mistake = Mistake::new(span, title, format!("here it is `{action}`"));
    match place {
        Some(place) => mistake
            .also(place, format!("here it is `{other}`"))
            .help("choose another key for one of them"),
        None => mistake.help(format!("choose another key, or give `{other}` one: {other} = \"…\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_one_form() {
        let cases = [
            ("t", "t"),
            ("S", "S"),
            ("f9", "F9"),
            ("Ctrl-C", "ctrl-c"),
            (" ", "space"),
            ("PageUp", "pgup"),
            ("alt-X", "alt-X"),
            ("ü", "ü"),
        ];
        for (text, key) in cases {
            assert_eq!(canonical(text).as_deref(), Some(key));
            assert_eq!(canonical(key).as_deref(), Some(key));
        }
        for text in ["", "tt", "F0", "F13", "ctrl-", "hyper-x", "\u{1b}", "ctrl-ctrl-c"] {
            assert_eq!(canonical(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_built_in_key_does_two_things() {
        for (n, (action, keys, scope)) in ACTIONS.iter().enumerate() {
            assert!(keys.iter().all(|it| canonical(it).as_deref() == Some(it)), "{action}");
            for (other, others, its) in &ACTIONS[n + 1..] {
                let shared = keys.iter().any(|it| others.contains(it)) && scope.overlaps(*its);
                assert!(action != other && !shared, "{action} {other}");
            }
        }
    }
}
