//! How things look: sixteen colours, attributes, and the signs that are drawn.
//!
//! A colour is never the only sign: every state is also a word, every verdict also a shape. With
//! `NO_COLOR` only attributes are left, with `--ascii` only characters that every terminal has.

use ratatui::style::{Color, Modifier, Style};

use crate::api::State;

/// How a deck is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub colors: bool,
    pub signs: &'static Signs,
}

/// The characters that are not letters.
#[derive(Debug)]
pub struct Signs {
    pub unfolded: &'static str,
    pub folded: &'static str,
    pub marked: &'static str,
    pub yes: &'static str,
    pub no: &'static str,
    /// Ready, and out of rotation.
    pub out: &'static str,
    pub done: &'static str,
    pub rule: &'static str,
    pub more: &'static str,
    pub sorted: &'static str,
    /// A bar cell from empty to full, in equal steps.
    pub bar: &'static [&'static str],
    pub ascii: bool,
}

pub static UNICODE: Signs = Signs {
    unfolded: "▾",
    folded: "▸",
    marked: "•",
    yes: "●",
    no: "○",
    out: "◐",
    done: "✓",
    rule: "─",
    more: "…",
    sorted: "↓",
    bar: &["░", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
    ascii: false,
};

pub static ASCII: Signs = Signs {
    unfolded: "v",
    folded: ">",
    marked: "*",
    yes: "Y",
    no: "n",
    out: "-",
    done: "ok",
    rule: "-",
    more: "..",
    sorted: "!",
    bar: &[".", "#"],
    ascii: true,
};

impl Theme {
    pub fn new(ascii: bool, no_color: bool) -> Self {
        Self { colors: !no_color, signs: if ascii { &ASCII } else { &UNICODE } }
    }

    fn fg(self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    pub fn plain(self) -> Style {
        Style::new()
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn good(self) -> Style {
        self.fg(Color::Green)
    }

    pub fn moving(self) -> Style {
        self.fg(Color::Yellow)
    }

    pub fn bad(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub fn name(self) -> Style {
        self.fg(Color::Cyan)
    }

    /// A question that waits for a key.
    pub fn question(self) -> Style {
        self.fg(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub fn state(self, state: State) -> Style {
        match state {
            State::Running => self.good(),
            State::Spawning | State::Starting | State::Draining | State::Stopping => self.moving(),
            State::Backoff | State::Fatal | State::Lost => self.bad(),
            State::Stopped | State::Exited => self.faint(),
        }
    }
}

/// The word of a state, as the screen and the filter know it.
pub fn word(state: State) -> &'static str {
    match state {
        State::Stopped => "STOPPED",
        State::Spawning => "SPAWNING",
        State::Starting => "STARTING",
        State::Running => "RUNNING",
        State::Draining => "DRAINING",
        State::Stopping => "STOPPING",
        State::Backoff => "BACKOFF",
        State::Exited => "EXITED",
        State::Fatal => "FATAL",
        State::Lost => "LOST",
    }
}
