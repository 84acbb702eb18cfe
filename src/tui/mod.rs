//! The deck: a client of the daemon on a terminal. It holds no truth; when it ends, nothing else
//! notices.
//!
//! [`update`] decides, [`view`] draws, [`runtime`] does:
//!
//! ```text
//! terminal ─► key ─┐                        ┌─► Command ─► client
//!                  ├─► Msg ─► update(model) ┤
//! daemon ─► link ──┘                        └─► view(model) ─► screen ─► terminal
//! ```
//!
//! There is no tick. The loop sleeps until a key, a change or [`model::Model::next_wakeup`].

use std::path::PathBuf;
use std::{fmt, io};

use jiff::tz::TimeZone;

use crate::client::Client;

pub mod announce;
pub mod ansi;
pub mod cost;
pub mod events;
pub mod filter;
pub mod flow;
pub mod fuzzy;
pub mod held;
pub mod key;
pub mod keymap;
pub mod layout;
pub mod link;
pub mod log_tasks;
pub mod logs;
pub mod model;
pub mod output;
pub mod pace;
pub mod paint;
pub mod presses;
pub mod questions;
pub mod rate;
pub mod rollout;
pub mod rows;
pub mod runtime;
pub mod screen;
pub mod sgr;
pub mod signals;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod view;
mod wardrobe;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod random_answers;
#[cfg(test)]
mod random_tests;

pub use runtime::run;

/// How the deck is started.
#[derive(Debug)]
pub struct Options {
    pub client: Client,
    /// Acting keys are unbound, whatever the daemon would allow.
    pub read_only: bool,
    /// Draw with characters that every terminal has.
    pub ascii: bool,
    /// How many colours the terminal has.
    pub depth: theme::depth::Depth,
    /// The theme that was asked for, whatever the configuration says.
    pub theme: Option<theme::Roles>,
    /// Where the operator's own themes are.
    pub themes: Vec<PathBuf>,
    /// The mouse selects and scrolls, and so the terminal's own selection needs a shift key.
    pub mouse: bool,
    /// Tell how many bytes the screen costs.
    pub show_cost: bool,
    /// Where the operator is; times are shown in it.
    pub tz: TimeZone,
    /// Who looks, for the header.
    pub user: String,
    /// Something to say first: that a daemon was started.
    pub start_notice: Option<String>,
}

/// How the deck ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Nobody is there to read anything: write nothing.
    pub terminal_gone: bool,
    /// Everything was stopped, and by whom: `shut down by alice`.
    pub shut_down: Option<String>,
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shut_down {
            Some(how) => write!(f, "{how}; `opsdeck` starts the deck again"),
            None => f.write_str("the services run on; `opsdeck shutdown` stops them"),
        }
    }
}

/// Why there is no deck.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    #[error("the deck needs a terminal for its input and output (`opsdeck status` does not)")]
    NoTerminal {
        #[source]
        source: io::Error,
    },
    #[error("signals could not be watched")]
    Signals {
        #[source]
        source: io::Error,
    },
}
