//! The table of keys: what may stand where in a configuration file.
//!
//! The reader (`read.rs`) walks a file along this table and `schema.rs` prints it as JSON Schema, so
//! the two cannot disagree. Defaults are written as JSON, for the schema and for people; the values
//! themselves are filled in by `resolve/`, and a test compares the two.

mod gateway;
mod load;
mod probe;
mod profile;
mod service;

use Choice::Word;
use gateway::GATEWAY;
pub(crate) use profile::PROFILE;
use service::SERVICE;

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One sentence for the schema.
    pub(crate) doc: &'static str,
    /// JSON; empty where there is none.
    pub(crate) default: &'static str,
}

/// What a value must be.
pub(crate) enum Kind {
    Text,
    /// Also a number or a boolean, as text: `APP_PORT = 9501`.
    Loose,
    /// A path, relative to the directory of its file.
    Path,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// Milliseconds it must have at least.
    Duration {
        min: u64,
    },
    /// Bytes it must have at least.
    Size {
        min: u64,
    },
    Choice(&'static [Choice]),
    /// The name of a profile.
    Profile,
    /// One that may stand in a stop.
    Signal,
    AnySignal,
    /// Text that is split like a shell would, or an array of words.
    Command,
    Port,
    /// A number, or `"unlimited"`.
    Retries,
    /// `200`, `2xx`, `200-204`.
    Status,
    /// An address to listen on: `0.0.0.0:8080`, `[::]:8080`.
    Listen,
    /// A page of a server; what is secret in it is never shown.
    Url,
    /// A value in short, or a table in its place.
    Either(&'static Self, &'static [Key]),
    Pattern,
    List(&'static Self),
    /// One value or a list of them.
    OneOrMore(&'static Self),
    Table(&'static [Key]),
    /// A table whose keys are chosen by the user.
    Named(&'static Self, Naming),
    /// A feature that a later version brings, and what it will be for.
    Later(&'static str),
}

/// What the names of [`Kind::Named`] must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// A service or an instance.
    Name,
    /// An environment variable.
    Variable,
    /// A header field.
    Field,
    /// An action of the deck.
    Action,
}

/// One word of a [`Kind::Choice`].
pub(crate) enum Choice {
    Word(&'static str),
    /// Known, but not in this version; what it will be for.
    Later(&'static str, &'static str),
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, doc, default }
}

const fn later(name: &'static str, what: &'static str) -> Key {
    key(name, Kind::Later(what), "", what)
}

const fn duration(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Duration { min: 0 }, default, doc)
}

const fn count(name: &'static str, min: i64, default: &'static str, doc: &'static str) -> Key {
    key(name, Kind::Integer { min, max: 1_000_000 }, default, doc)
}

/// A configuration file.
pub(crate) const ROOT: &[Key] = &[
    key("deck", Kind::Table(DECK), "", "The deck itself."),
    key("defaults", Kind::Table(SERVICE), "", "Any key of a service; services inherit it."),
    key("service", Kind::Named(&Kind::Table(SERVICE), Naming::Name), "", "The services."),
    key(
        "keys",
        Kind::Named(&Kind::OneOrMore(&Kind::Text), Naming::Action),
        "",
        "Keys of the deck: action = \"key\" or a list of keys.",
    ),
    key(
        "gateway",
        Kind::Named(&Kind::Table(GATEWAY), Naming::Name),
        "",
        "What stands in front of services: a reverse proxy.",
    ),
    key("hooks", Kind::Table(HOOKS), "", "A command that is run so that somebody is paged."),
    later("k8s", "Kubernetes workloads"),
    later("kubernetes", "Kubernetes workloads"),
    later("registry", "registration with a service registry"),
    later("tars", "registration with Tars"),
    later("supervisord", "services of a running supervisord"),
    later("profile", "profiles beside services; they go into profiles/NAME.toml"),
    later("theme", "themes of your own"),
];

const HOOKS: &[Key] = &[
    key(
        "command",
        Kind::Command,
        "",
        "What is run as the daemon's own user, without a shell; it reads JSON from its input.",
    ),
    key(
        "on",
        Kind::List(&Kind::Choice(&[Word("fatal"), Word("rollout_halted"), Word("lost")])),
        "[\"fatal\", \"rollout_halted\", \"lost\"]",
        "What it is run for: an instance was given up, a rollout halted, requests were lost.",
    ),
    key(
        "timeout",
        Kind::Duration { min: 1 },
        "\"10s\"",
        "It is killed, with all it has started, after so long.",
    ),
    duration("interval", "\"1m\"", "`burst` is counted over this time."),
    count(
        "burst",
        1,
        "5",
        "It is run so often in `interval`, for each word of `on`; the rest is counted.",
    ),
];

const DECK: &[Key] = &[
    key("name", Kind::Text, "", "The name in the header; by default the host name."),
    key(
        "state_dir",
        Kind::Path,
        "",
        "State, lock and logs; by default /var/lib/opsdeck for root, else $XDG_STATE_HOME/opsdeck.",
    ),
    key("socket", Kind::Path, "", "The API socket; by default opsdeck.sock in state_dir."),
    key(
        "include",
        Kind::OneOrMore(&Kind::Text),
        "[]",
        "More files: paths relative to this one, with * and ?.",
    ),
    key("watch", Kind::Boolean, "false", "Apply edits by themselves where they stop nothing."),
    key(
        "operators",
        Kind::List(&Kind::Text),
        "[]",
        "Users and @groups who may act; by default the daemon's own user and root.",
    ),
    key("viewers", Kind::List(&Kind::Text), "[]", "Users and @groups who may look."),
    key(
        "confirm",
        Kind::Choice(&[Word("guard"), Word("always"), Word("never")]),
        "\"guard\"",
        "When the deck asks before it acts.",
    ),
    key("metrics", Kind::Listen, "", "Where Prometheus may read /metrics; by default nowhere."),
    key(
        "theme",
        Kind::Text,
        "\"default\"",
        "The colours of the deck: default, light, high-contrast, mono, or a file themes/NAME.toml beside this one.",
    ),
    key(
        "gateway_user",
        Kind::Text,
        "\"nobody\"",
        "The user the embedded gateway runs as where the daemon is root's.",
    ),
    key("mouse", Kind::Boolean, "false", "The mouse selects and scrolls in the deck."),
    key("ascii", Kind::Boolean, "false", "The deck draws with ASCII characters only."),
    key(
        "show_cost",
        Kind::Boolean,
        "false",
        "The deck tells how many bytes a second its screen costs.",
    ),
    key(
        "title",
        Kind::Boolean,
        "false",
        "The deck says how the fleet is in the title of the terminal's window (OSC 2).",
    ),
    key(
        "notify",
        Kind::Choice(&[Word("off"), Word("osc9"), Word("osc777")]),
        "\"off\"",
        "By which sequence the deck has the terminal notify of a halted rollout and of what was given up.",
    ),
    later("profiles", "profiles elsewhere; they go into profiles/NAME.toml"),
];
