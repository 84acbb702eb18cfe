//! What the keys do: one table.
//!
//! The footer, the help screen, the palette and the `[keys]` of a configuration are all drawn from
//! or read against [`TABLE`], so none of them can say something that is not so. A configured key is
//! taken away from whoever had it; Ctrl-C and Esc stay what they are.

use std::collections::BTreeMap;

use super::key::{Code, Key};

/// Everything that a key can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Roll,
    Term,
    Usr1,
    Hup,
    Start,
    Stop,
    Drain,
    Logs,
    Detail,
    Filter,
    Palette,
    Help,
    Quit,
    Restart,
    StopNow,
    Undrain,
    Pick,
    Extend,
    Kill,
    Abort,
    Pause,
    Rollback,
    Events,
    Config,
    Rollout,
    Mark,
    MarkAll,
    Sort,
    Up,
    Down,
    Top,
    Bottom,
    PageUp,
    PageDown,
    Fold,
    Unfold,
    Redraw,
    Suspend,
    Follow,
    Search,
    NextMatch,
    PreviousMatch,
    Wrap,
    Copy,
    LogRange,
    LogFilter,
    LogSince,
    LogTimes,
    LogSave,
    EventService,
    EventActor,
    EventKind,
    EventFilter,
    NextProcess,
    PreviousProcess,
}

/// Where a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On the table of services.
    Table,
    /// In the log view.
    Logs,
    /// On the event page.
    Events,
    /// On the page of one instance.
    Detail,
    /// Wherever something can be moved through.
    Everywhere,
}

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    pub action: Action,
    /// Its name under `[keys]`.
    pub name: &'static str,
    pub keys: &'static [&'static str],
    /// For the footer.
    pub label: &'static str,
    /// For the help screen and the palette.
    pub help: &'static str,
    pub scope: Scope,
    /// It changes something; unbound in a read-only deck.
    pub acts: bool,
}

const fn acting(
    action: Action,
    name: &'static str,
    keys: &'static [&'static str],
    label: &'static str,
    help: &'static str,
) -> Entry {
    Entry { action, name, keys, label, help, scope: Scope::Table, acts: true }
}

const fn looking(
    action: Action,
    name: &'static str,
    keys: &'static [&'static str],
    label: &'static str,
    help: &'static str,
) -> Entry {
    Entry { action, name, keys, label, help, scope: Scope::Table, acts: false }
}

const fn scoped(scope: Scope, entry: Entry) -> Entry {
    Entry { scope, ..entry }
}

/// Every action, in the order of the footer.
#[rustfmt::skip]
pub static TABLE: &[Entry] = &[
    acting(Action::Roll, "roll", &["r"], "roll", "rolling restart of the service; a stops it"),
    acting(Action::Term, "term", &["t"], "TERM", "SIGTERM, out of rotation first; the countdown to SIGKILL runs"),
    acting(Action::Usr1, "usr1", &["u"], "USR1", "SIGUSR1 (Swoole: reload all workers)"),
    acting(Action::Hup, "hup", &["h"], "HUP", "SIGHUP (nginx: reload)"),
    acting(Action::Start, "start", &["s"], "start", "start, and keep up"),
    acting(Action::Stop, "stop", &["x"], "stop", "stop through the ladder, and keep down"),
    acting(Action::Drain, "drain", &["d"], "drain", "hold out of rotation until D"),
    looking(Action::Logs, "logs", &["l"], "logs", "output of this instance, of a service, of all marked rows"),
    looking(Action::Detail, "detail", &["enter"], "detail", "why, probes, processes, charts, signals, environment, files"),
    looking(Action::Filter, "filter", &["/"], "filter", "show only what has this text or is so: state:backoff, cpu>50, !stale"),
    looking(Action::Palette, "palette", &[":"], "all keys", "every action by name"),
    scoped(Scope::Everywhere, looking(Action::Help, "help", &["?", "F1"], "help", "what every key does")),
    looking(Action::Quit, "quit", &["q", "ctrl-c"], "detach", "leave; nothing stops"),
    acting(Action::Restart, "restart", &["R"], "restart", "restart this instance in place, on a service all of them"),
    acting(Action::StopNow, "stop-now", &["X"], "stop now", "SIGKILL at once and keep down; asks first"),
    acting(Action::Undrain, "undrain", &["D"], "undrain", "back into rotation"),
    acting(Action::Pick, "signal", &["S", "F9"], "signal", "choose a signal"),
    acting(Action::Extend, "extend", &["+"], "+10s", "give the countdown 10 s more"),
    acting(Action::Kill, "kill", &["!"], "kill", "end the countdown with SIGKILL now; asks first"),
    acting(Action::Abort, "abort", &["a"], "abort", "abort the rolling restart of this service"),
    acting(Action::Pause, "pause", &["p"], "pause", "pause or resume the rolling restart"),
    acting(Action::Rollback, "rollback", &["b"], "roll back", "run the rollback commands, renew the instances again"),
    looking(Action::Events, "events", &["e"], "events", "what happened, and who did it"),
    looking(Action::Config, "config", &["c"], "config", "mistakes and pending changes of the configuration; again: apply"),
    looking(Action::Rollout, "rollout", &["v"], "rollout", "the rollout of this service: plan, steps, evidence"),
    looking(Action::Mark, "mark", &["space"], "mark", "mark; actions go to all marked rows, one after another"),
    looking(Action::MarkAll, "mark-all", &["*"], "mark all", "mark all instances that are shown, or none of them"),
    looking(Action::Sort, "sort", &["o"], "sort", "sort by name, state, load, in flight, CPU, memory, restarts"),
    scoped(Scope::Everywhere, looking(Action::Up, "up", &["k", "up"], "up", "up")),
    scoped(Scope::Everywhere, looking(Action::Down, "down", &["j", "down"], "down", "down")),
    scoped(Scope::Everywhere, looking(Action::Top, "top", &["g", "home"], "first", "to the first")),
    scoped(Scope::Everywhere, looking(Action::Bottom, "bottom", &["G", "end"], "last", "to the last")),
    scoped(Scope::Everywhere, looking(Action::PageUp, "page-up", &["pgup"], "page up", "a page up")),
    scoped(Scope::Everywhere, looking(Action::PageDown, "page-down", &["pgdn"], "page down", "a page down")),
    looking(Action::Fold, "fold", &["left"], "fold", "fold the service"),
    looking(Action::Unfold, "unfold", &["right"], "unfold", "unfold the service"),
    scoped(Scope::Everywhere, looking(Action::Redraw, "redraw", &["ctrl-l"], "redraw", "draw the whole screen again")),
    scoped(Scope::Everywhere, looking(Action::Suspend, "suspend", &["ctrl-z"], "suspend", "back to the shell until fg")),
    scoped(Scope::Logs, looking(Action::Follow, "log-follow", &["f"], "follow", "follow what is written")),
    scoped(Scope::Logs, looking(Action::Search, "log-search", &["/"], "search", "search the whole log, also what was rotated away; Esc ends it")),
    scoped(Scope::Logs, looking(Action::NextMatch, "log-next", &["n"], "next", "next match")),
    scoped(Scope::Logs, looking(Action::PreviousMatch, "log-previous", &["N"], "previous", "previous match")),
    scoped(Scope::Logs, looking(Action::Wrap, "log-wrap", &["w"], "wrap", "wrap long lines")),
    scoped(Scope::Logs, looking(Action::Copy, "log-copy", &["y"], "copy", "copy the match or the top line to the terminal's clipboard (OSC 52)")),
    scoped(Scope::Logs, looking(Action::LogRange, "log-range", &["v"], "lines", "mark lines with the keys that move; y copies them, Esc ends it")),
    scoped(Scope::Logs, looking(Action::LogFilter, "log-filter", &["&"], "filter", "only lines that match a regular expression; empty: all")),
    scoped(Scope::Logs, looking(Action::LogSince, "log-since", &["t"], "time", "go to a moment: 10m (ago), 09:30, a date")),
    scoped(Scope::Logs, looking(Action::LogTimes, "log-times", &["T"], "times", "show when each line came")),
    scoped(Scope::Logs, looking(Action::LogSave, "log-save", &["s"], "save", "write what the filter shows into a new file")),
    scoped(Scope::Events, looking(Action::EventService, "events-service", &["s"], "service", "only this instance, again: its service, again: all")),
    scoped(Scope::Events, looking(Action::EventActor, "events-actor", &["w"], "who", "only what this user did")),
    scoped(Scope::Events, looking(Action::EventKind, "events-kind", &["t"], "kind", "only this kind")),
    scoped(Scope::Events, looking(Action::EventFilter, "events-filter", &["/"], "filter", "words: service: actor: kind: since: until: or any text")),
    scoped(Scope::Detail, looking(Action::NextProcess, "process-next", &["J"], "process", "choose a process: keys that send signals mean it")),
    scoped(Scope::Detail, looking(Action::PreviousProcess, "process-previous", &["K"], "back", "choose the process before")),
];

/// The line of the table that describes `action`.
pub fn entry(action: Action) -> Option<&'static Entry> {
    TABLE.iter().find(|it| it.action == action)
}

/// The table with the keys that hold in this deck.
#[derive(Clone, Debug)]
pub struct Keymap {
    bound: Vec<(Key, Scope, Action)>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::new(&BTreeMap::new()).0
    }
}

impl Keymap {
    /// Applies the `[keys]` of a configuration. What they say wrong is told, the rest holds.
    pub fn new(configured: &BTreeMap<String, Vec<String>>) -> (Self, Vec<String>) {
        let mut bound: Vec<(Key, Scope, Action)> = vec![];
        let mut mistakes = vec![];
        for (name, texts) in configured {
            let Some(entry) = TABLE.iter().find(|it| it.name == name) else {
                mistakes.push(format!("[keys] {name}: there is no such action"));
                continue;
            };
            for text in texts {
                match Key::parse(text) {
                    Some(key) if reserved(key) => {
                        mistakes.push(format!("[keys] {name}: {text} cannot be given away"));
                    }
                    Some(key) => bound.push((key, entry.scope, entry.action)),
                    None => mistakes.push(format!("[keys] {name}: {text:?} is not a key")),
                }
            }
        }
        let given: Vec<_> = bound.iter().map(|(key, scope, _)| (*key, *scope)).collect();
        for entry in TABLE.iter().filter(|it| !configured.contains_key(it.name)) {
            let keys = entry.keys.iter().filter_map(|text| Key::parse(text));
            let free = keys.filter(|key| {
                !given.iter().any(|(taken, scope)| taken == key && overlap(*scope, entry.scope))
            });
            bound.extend(free.map(|key| (key, entry.scope, entry.action)));
        }
        (Self { bound }, mistakes)
    }

    /// What `key` does in `scope`.
    pub fn action(&self, scope: Scope, key: Key) -> Option<Action> {
        let found = self.bound.iter().find(|(bound, its, _)| *bound == key && overlap(*its, scope));
        found.map(|it| it.2)
    }

    /// The first key of an action, as it is shown.
    pub fn key(&self, action: Action) -> Option<Key> {
        self.bound.iter().find(|it| it.2 == action).map(|it| it.0)
    }

    /// `r tries again`; nothing where no key does it.
    pub fn hint(&self, action: Action, does: &str) -> Option<String> {
        Some(format!("{} {does}", self.key(action)?))
    }

    /// All keys of an action, as they are shown.
    pub fn keys(&self, action: Action) -> Vec<Key> {
        self.bound.iter().filter(|it| it.2 == action).map(|it| it.0).collect()
    }
}

fn overlap(one: Scope, other: Scope) -> bool {
    one == other || one == Scope::Everywhere || other == Scope::Everywhere
}

/// Keys that always lead out.
fn reserved(key: Key) -> bool {
    key == Key::ctrl('c') || key.code == Code::Esc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_of_one_scope_share_a_key_or_a_name() {
        for (n, one) in TABLE.iter().enumerate() {
            for other in &TABLE[n + 1..] {
                assert!(one.name != other.name && one.action != other.action, "{}", one.name);
                let shared = one.keys.iter().find(|it| other.keys.contains(it));
                assert!(
                    shared.is_none() || !overlap(one.scope, other.scope),
                    "{} {}",
                    one.name,
                    other.name
                );
            }
            assert!(one.keys.iter().all(|it| Key::parse(it).is_some()), "{}", one.name);
        }
    }

    #[test]
    fn a_configured_key_is_taken_from_whoever_had_it() {
        let configured = BTreeMap::from([("term".to_owned(), vec!["r".to_owned(), "F5".into()])]);
        let (keymap, mistakes) = Keymap::new(&configured);
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(keymap.action(Scope::Table, Key::char('r')), Some(Action::Term));
        assert_eq!(keymap.action(Scope::Table, Key::plain(Code::F(5))), Some(Action::Term));
        assert_eq!(keymap.action(Scope::Table, Key::char('t')), None);
        assert_eq!(keymap.key(Action::Roll), None);
        assert_eq!(keymap.action(Scope::Logs, Key::char('r')), None);
    }

    #[test]
    fn mistakes_under_keys_are_told_and_the_rest_holds() {
        let configured = BTreeMap::from([
            ("fly".to_owned(), vec!["t".to_owned()]),
            ("stop".to_owned(), vec!["hyper-x".to_owned(), "ctrl-c".into(), "x".into()]),
        ]);
        let (keymap, mistakes) = Keymap::new(&configured);
        assert_eq!(
            mistakes,
            [
                "[keys] fly: there is no such action",
                "[keys] stop: \"hyper-x\" is not a key",
                "[keys] stop: ctrl-c cannot be given away",
            ]
        );
        assert_eq!(keymap.action(Scope::Table, Key::char('x')), Some(Action::Stop));
        assert_eq!(keymap.action(Scope::Table, Key::ctrl('c')), Some(Action::Quit));
    }
}
