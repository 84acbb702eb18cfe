//! How things look: roles with their colours and attributes, and the signs that are drawn.
//!
//! A colour is never the only sign: every state is also a word, every verdict also a shape. A theme
//! ([`mod@file`]) says what a role looks like, [`depth`] makes of it what the terminal can show. With
//! `NO_COLOR` only attributes are left, with `--ascii` only characters that every terminal has.

use std::borrow::Cow;

use ratatui::style::Style;

use crate::api::State;

pub mod depth;
pub mod file;

use depth::Depth;

/// How a deck is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    roles: Roles,
    depth: Depth,
    pub signs: &'static Signs,
}

/// What each role looks like; absent is plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles([Style; ROLES.len()]);

/// What something on the screen is, whatever it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Titles, keys, services.
    Strong,
    /// What is there to be looked up.
    Faint,
    Good,
    /// On its way, or unusual.
    Moving,
    Bad,
    Name,
    /// A question that waits for a key.
    Question,
    /// The row under the cursor.
    Selected,
}

/// The roles in their order, by the names that a theme's file has for them.
pub const ROLES: [(&str, Role); 8] = [
    ("strong", Role::Strong),
    ("faint", Role::Faint),
    ("good", Role::Good),
    ("moving", Role::Moving),
    ("bad", Role::Bad),
    ("name", Role::Name),
    ("question", Role::Question),
    ("selected", Role::Selected),
];

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

/// Keys and arrows that are drawn, and what they are called where there are only letters.
const DRAWN: [(&str, &str); 6] =
    [("⏎", "Enter"), ("↑", "Up"), ("↓", "Down"), ("←", "Left"), ("→", "Right"), ("…", "..")];

impl Signs {
    /// A text of the deck's own in these signs.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        DRAWN
            .iter()
            .fold(Cow::Borrowed(text), |text, (sign, name)| Cow::Owned(text.replace(sign, name)))
    }
}

impl Roles {
    pub fn get(&self, role: Role) -> Style {
        self.0[role as usize]
    }

    pub fn set(&mut self, role: Role, style: Style) {
        self.0[role as usize] = style;
    }
}

impl Theme {
    /// The built-in theme in sixteen colours, or in none.
    pub fn new(ascii: bool, no_color: bool) -> Self {
        let depth = if no_color { Depth::None } else { Depth::Sixteen };
        Self::of(&file::default_roles(), depth, ascii)
    }

    /// A theme as this terminal can show it.
    pub fn of(roles: &Roles, depth: Depth, ascii: bool) -> Self {
        let roles = Roles(roles.0.map(|it| depth.style(it)));
        Self { roles, depth, signs: if ascii { &ASCII } else { &UNICODE } }
    }

    pub fn plain(self) -> Style {
        Style::new()
    }

    pub fn strong(self) -> Style {
        self.roles.get(Role::Strong)
    }

    pub fn faint(self) -> Style {
        self.roles.get(Role::Faint)
    }

    pub fn good(self) -> Style {
        self.roles.get(Role::Good)
    }

    pub fn moving(self) -> Style {
        self.roles.get(Role::Moving)
    }

    pub fn bad(self) -> Style {
        self.roles.get(Role::Bad)
    }

    pub fn name(self) -> Style {
        self.roles.get(Role::Name)
    }

    /// A question that waits for a key.
    pub fn question(self) -> Style {
        self.roles.get(Role::Question)
    }

    /// How a text of a log looks that wants to look like this.
    pub fn of_log(self, style: Style) -> Style {
        self.depth.style(style)
    }

    pub fn selected(self) -> Style {
        self.roles.get(Role::Selected)
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
