//! What the log page holds: a window of lines, where one looks at it, and what was asked of the daemon.
//!
//! Following means that the end is on the screen. Scrolling up pauses; lines go on arriving below, and
//! what is looked at stays where it is. What is above and below the window is fetched as one gets there,
//! so a flood or a log of 10 GiB costs no more memory than a trickle.

pub mod moment;
pub mod window;

use tui_input::Input;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::client::PageQuery;
pub use window::{Line, Page, Places, Range, Window};

/// The state of the log page.
#[derive(Debug)]
pub struct Logs {
    /// Tells what is streamed to this page from what was to an earlier one.
    pub session: u64,
    pub window: Window,
    pub wrap: bool,
    /// Lines show when they came.
    pub times: bool,
    /// The text that is looked for.
    pub search: String,
    /// Only lines that match this regular expression are shown.
    pub filter: Option<String>,
    pub prompt: Option<Prompt>,
    pub asked: Option<Asked>,
    /// What is before the place that is being opened.
    pub half: Page,
    /// What is written is streamed into the window.
    pub streams: bool,
    /// Why nothing more comes, if so.
    pub ended: Option<String>,
}

/// A text that is being written.
#[derive(Debug)]
pub struct Prompt {
    pub kind: PromptKind,
    pub input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    Search,
    Filter,
    Since,
    Save,
}

/// A page that the daemon was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: u64,
    pub what: What,
    pub query: PageQuery,
    /// Bytes that were searched so far, and of how many.
    pub searched: Option<(u64, u64)>,
}

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The end; then it is followed.
    End,
    Start,
    /// What is before a place; what is after it comes next. `found`: a match begins there.
    Before {
        found: bool,
    },
    After {
        found: bool,
    },
    Older,
    Newer,
    /// The next line with the searched text.
    Find {
        way: Way,
    },
}

/// Which way a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
    /// Down, as there is nothing above.
    Turned,
}

impl Way {
    pub fn is_up(self) -> bool {
        self == Self::Up
    }
}

impl What {
    /// Another place is looked at then.
    pub fn moves(self) -> bool {
        !matches!(self, Self::Older | Self::Newer | Self::Find { .. })
    }
}

impl Logs {
    pub fn new(session: u64, names: Vec<String>) -> Self {
        Self {
            session,
            window: Window::new(names),
            wrap: false,
            times: false,
            search: String::new(),
            filter: None,
            prompt: None,
            asked: None,
            half: Page::default(),
            streams: false,
            ended: None,
        }
    }

    /// The text that is highlighted: while it is written, what there is of it.
    pub fn needle(&self) -> &str {
        match &self.prompt {
            Some(it) if it.kind == PromptKind::Search => it.input.value(),
            _ => &self.search,
        }
    }

    /// The first line on a screen of `height` lines and `width` columns.
    pub fn first(&self, width: usize, height: usize) -> usize {
        let last = self.first_of_end(width, height);
        self.window.top.map_or(last, |it| it.min(last))
    }

    /// The first line of a screen that shows the end.
    fn first_of_end(&self, width: usize, height: usize) -> usize {
        let mut room = height;
        let mut first = self.window.lines.len();
        while first > 0 {
            let Some(left) = room.checked_sub(self.rows_of(first - 1, width)) else { break };
            (room, first) = (left, first - 1);
        }
        // A single line may be taller than the screen.
        first.min(self.window.lines.len().saturating_sub(1))
    }

    /// How many screen lines a line takes.
    pub fn rows_of(&self, index: usize, width: usize) -> usize {
        let Some(line) = self.window.lines.get(index) else { return 1 };
        if self.wrap { pieces(&line.text, width).len() } else { 1 }
    }

    /// Scrolls by lines; reaching the end follows again, where lines come.
    pub fn scroll(&mut self, by: isize, width: usize, height: usize) {
        let end = self.first_of_end(width, height);
        let top = self.first(width, height).saturating_add_signed(by);
        // Going up pauses, also while what is above is not there yet.
        let pauses = by < 0 && !self.window.is_first;
        let follows = top >= end && self.window.is_last && !pauses;
        self.window.top = (!follows).then_some(top.min(end));
    }

    /// Puts a line at the top of the screen, or into its middle.
    pub fn show(&mut self, index: usize, above: usize, width: usize, height: usize) {
        let end = self.first_of_end(width, height);
        self.window.top = Some(index.saturating_sub(above).min(end));
    }

    /// The next line with the searched text from `from` on, or before it. Case does not matter.
    pub fn find(&self, forward: bool, from: usize) -> Option<usize> {
        let needle = self.search.to_lowercase();
        if needle.is_empty() {
            return None;
        }
        let lines = &self.window.lines;
        let hit = |n: &usize| lines[*n].text.to_lowercase().contains(&needle);
        let from = from.min(lines.len());
        if forward { (from..lines.len()).find(hit) } else { (0..from).rev().find(hit) }
    }

    /// Columns of what stands before each line, with its gap.
    pub fn gutter(&self) -> usize {
        let times = if self.times { TIME } else { 0 };
        times + self.name_columns()
    }

    /// Columns of the name, with its gap; one log needs none.
    pub fn name_columns(&self) -> usize {
        let names = self.window.names();
        let longest = names.iter().map(|it| it.width()).max().unwrap_or(0);
        if names.len() > 1 { longest.min(20) + 2 } else { 0 }
    }
}

/// Columns of a time, with its gap.
pub const TIME: usize = 9;

/// Cuts a line into pieces of at most `width` columns.
pub fn pieces(text: &str, width: usize) -> Vec<&str> {
    let width = width.max(2);
    let mut pieces = vec![];
    let (mut start, mut columns) = (0, 0);
    for (at, c) in text.char_indices() {
        let its = c.width().unwrap_or(0);
        if columns + its > width {
            pieces.push(&text[start..at]);
            (start, columns) = (at, 0);
        }
        columns += its;
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests;
