//! Every type on the wire: the daemon's API, `--json` output, the journal.
//!
//! HTTP/1.1 and JSON on the daemon's Unix socket. Times are RFC 3339 in UTC, durations are integer
//! milliseconds, what is absent is `null`. Readers skip fields they do not know, so a client may be one
//! release older than its daemon. Nothing here decides anything; `daemon/publish.rs` is the only
//! place that translates the fleet into these types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod brief;
mod detail;
mod event;
mod filter;
mod instance;
mod line;
mod load;
mod logs;
mod request;
mod rollout;
mod service;

pub use brief::BriefService;
pub use detail::*;
pub use event::*;
pub use filter::EventFilter;
pub use instance::*;
pub use load::*;
pub use logs::{LogLine, LogPage, LogPlace};
pub use request::*;
pub use rollout::*;
pub use service::*;

/// `GET /v1/deck`, `opsdeck status --json`: everything that is managed, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deck {
    /// `[deck] name`, by default the host name.
    pub deck: String,
    pub host: String,
    pub revision: u64,
    /// Version of the daemon.
    pub version: String,
    /// Pid of the daemon.
    pub pid: u32,
    /// The daemon's clock when it wrote this.
    pub now: Option<Timestamp>,
    pub config: Config,
    /// Something starts this daemon at boot.
    pub at_boot: bool,
    /// What the asking client may do.
    pub role: Role,
    /// Standing warnings: the state directory cannot be written, the logger is down.
    pub notices: Vec<String>,
    /// In the order of the configuration file.
    pub services: Vec<Service>,
}

impl Deck {
    /// Becomes what a change makes of it.
    pub fn follow(&mut self, change: Change) {
        match change {
            Change::Snapshot { deck, .. } => *self = *deck,
            Change::Change { revision, now, services, removed, config, notices, .. } => {
                self.revision = revision;
                self.now = Some(now);
                self.config = config.unwrap_or_else(|| std::mem::take(&mut self.config));
                self.notices = notices.unwrap_or_else(|| std::mem::take(&mut self.notices));
                for service in services {
                    match self.services.iter_mut().find(|it| it.name == service.name) {
                        Some(known) => *known = service,
                        None => self.services.push(service),
                    }
                }
                self.services.retain(|it| !removed.contains(&it.name));
            }
            Change::Unknown => (),
        }
    }
}

/// The configuration that runs, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub path: Option<String>,
    /// Why the file as it is now was not applied: the first line of each mistake.
    pub error: Option<String>,
    /// Changes of a watched file that wait for a word because they stop something: `stops queue`.
    pub pending: Vec<String>,
    /// `[deck] confirm`.
    pub confirm: Confirm,
    /// How the deck should look.
    pub look: Box<Look>,
    /// `[deck] title`: the deck says how the fleet is in the title of the terminal's window.
    pub title: bool,
    /// `[deck] notify`.
    pub notify: Notify,
    /// `[keys]`: action name to keys, only what differs from the built-in table.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// `[deck] theme`, `mouse`, `ascii` and `show_cost`; what the deck itself was started with comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// The name of a theme; empty: the default one.
    pub theme: String,
    pub mouse: bool,
    pub ascii: bool,
    /// Tell how many bytes the screen costs.
    pub show_cost: bool,
}

/// How the deck has the terminal notify its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// OSC 9, as iTerm2, Windows Terminal, kitty, foot and others know it.
    Osc9,
    /// OSC 777, as urxvt, VTE and others know it.
    Osc777,
    #[default]
    #[serde(other)]
    Off,
}

/// When the deck asks before it acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    #[default]
    Guard,
    Always,
    Never,
}

/// What a client may do, decided by its socket credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Viewer,
    Operator,
}

/// One line of `GET /v1/watch`, which starts with a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", try_from = "line::Line")]
pub enum Change {
    /// Replaces everything. The first line, and again whenever the client lagged.
    Snapshot { deck: Box<Deck>, events: Vec<Event> },
    /// Replaces the services named, takes away those removed, appends the events.
    Change {
        revision: u64,
        now: Timestamp,
        services: Vec<Service>,
        removed: Vec<String>,
        events: Vec<Event>,
        /// Set when the configuration or the notices changed.
        config: Option<Config>,
        notices: Option<Vec<String>>,
    },
    /// Of a later release.
    Unknown,
}

/// `application/problem+json` (RFC 9457): what, why, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{title}{}{}", if detail.is_empty() { "" } else { ": " }, detail)]
pub struct Problem {
    /// `about:blank`, or one of [`problem`].
    #[serde(rename = "type")]
    pub kind: String,
    pub status: u16,
    /// What could not be done.
    pub title: String,
    /// Why.
    pub detail: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub fn new(kind: problem::Kind, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.name().into(),
            status: kind.status(),
            title: title.into(),
            detail: detail.into(),
            help: None,
        }
    }

    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// The values of [`Problem::kind`].
pub mod problem {
    /// The kinds that a daemon answers with.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        Confirm,
        Changed,
        Busy,
        Forbidden,
        NotFound,
        Refused,
        /// Refused, and it would not be once something else has ended.
        RefusedYet,
        Config,
        Ending,
    }

    impl Kind {
        /// What [`super::Problem::kind`] is.
        pub fn name(self) -> &'static str {
            match self {
                Self::Confirm => CONFIRM,
                Self::Changed => CHANGED,
                Self::Busy => BUSY,
                Self::Forbidden => FORBIDDEN,
                Self::NotFound => NOT_FOUND,
                Self::Refused | Self::RefusedYet => REFUSED,
                Self::Config => CONFIG,
                Self::Ending => UNREACHABLE,
            }
        }

        /// That of the answer over HTTP.
        pub fn status(self) -> u16 {
            match self {
                Self::Forbidden => 403,
                Self::NotFound => 404,
                Self::Confirm | Self::Changed | Self::Busy | Self::RefusedYet => 409,
                Self::Refused | Self::Config => 422,
                Self::Ending => 503,
            }
        }
    }

    /// The guard wants the action to be confirmed: `detail` says why it is dangerous.
    pub const CONFIRM: &str = "/problems/confirm";
    /// The target is no longer the process the client saw.
    pub const CHANGED: &str = "/problems/target-changed";
    /// A rollout of the service is under way.
    pub const BUSY: &str = "/problems/rollout-under-way";
    /// The client's user may not do this.
    pub const FORBIDDEN: &str = "/problems/forbidden";
    pub const NOT_FOUND: &str = "/problems/not-found";
    /// It makes no sense in the present state.
    pub const REFUSED: &str = "/problems/refused";
    /// The configuration file has mistakes; `detail` is the rendered list.
    pub const CONFIG: &str = "/problems/config";
    /// The client could not reach the daemon, or did not understand it.
    pub const UNREACHABLE: &str = "/problems/unreachable";
}
