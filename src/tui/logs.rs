//! What the log view holds: a bounded ring of safe lines, and where one looks at it.
//!
//! Following means that the end is on the screen. Scrolling up pauses; lines go on arriving below,
//! and what is looked at stays where it is. When the ring is full the oldest lines go, so a flood
//! costs no more memory than a trickle.

use std::collections::VecDeque;

use jiff::Timestamp;
use tui_input::Input;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::ansi;
use super::model::Screen;
use crate::api::LogLine;

const MOST_LINES: usize = 10_000;
/// Text of all lines together; the ring is emptied from its start above this.
const MOST_BYTES: usize = 2 << 20;

/// One line, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which of [`Logs::names`] wrote it.
    pub by: usize,
    pub text: Box<str>,
}

/// The state of the log view.
#[derive(Debug)]
pub struct Logs {
    /// Tells replies to this view from those to an earlier one.
    pub session: u64,
    pub names: Vec<String>,
    /// The page that it was opened from.
    pub from: Screen,
    /// The moment that it was opened at and that has not been reached yet.
    pub sought: Option<Timestamp>,
    pub lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that fell out of the ring.
    pub dropped: u64,
    /// The first line shown; `None` follows the end.
    pub top: Option<usize>,
    pub wrap: bool,
    pub search: Search,
    /// Why nothing more comes, if so.
    pub ended: Option<String>,
}

/// A text that is looked for.
#[derive(Debug, Default)]
pub struct Search {
    pub input: Input,
    pub editing: bool,
    /// The line of the last match that was jumped to.
    pub at: Option<usize>,
}

impl Logs {
    pub fn new(session: u64, names: Vec<String>) -> Self {
        Self {
            session,
            names,
            from: Screen::Table,
            sought: None,
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            top: None,
            wrap: false,
            search: Search::default(),
            ended: None,
        }
    }

    /// Takes a line at the end; the oldest make room.
    pub fn push(&mut self, line: &LogLine) {
        let by = self.names.iter().position(|it| *it == line.instance).unwrap_or(0);
        let text: Box<str> = ansi::clean(&line.line).into();
        self.bytes += text.len();
        self.lines.push_back(Line { by, text });
        if self.sought.is_some_and(|sought| line.at.is_some_and(|at| at >= sought)) {
            self.sought = None;
            self.top = Some(self.lines.len() - 1);
        }
        while self.lines.len() > MOST_LINES || self.bytes > MOST_BYTES {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(line) = self.lines.pop_front() else { return };
        self.bytes -= line.text.len();
        self.dropped += 1;
        self.top = self.top.map(|it| it.saturating_sub(1));
        self.search.at = self.search.at.and_then(|it| it.checked_sub(1));
    }

    /// The first line on a screen of `height` lines and `width` columns.
    pub fn first(&self, width: usize, height: usize) -> usize {
        let last = self.first_of_end(width, height);
        self.top.map_or(last, |it| it.min(last))
    }

    /// The first line of a screen that shows the end.
    fn first_of_end(&self, width: usize, height: usize) -> usize {
        let mut room = height;
        let mut first = self.lines.len();
        while first > 0 {
            let Some(left) = room.checked_sub(self.rows_of(first - 1, width)) else { break };
            (room, first) = (left, first - 1);
        }
        // A single line may be taller than the screen.
        first.min(self.lines.len().saturating_sub(1))
    }

    /// How many screen lines a line takes.
    pub fn rows_of(&self, index: usize, width: usize) -> usize {
        let Some(line) = self.lines.get(index) else { return 1 };
        if self.wrap { pieces(&line.text, width).len() } else { 1 }
    }

    /// Scrolls by lines; reaching the end follows again.
    pub fn scroll(&mut self, by: isize, width: usize, height: usize) {
        let end = self.first_of_end(width, height);
        let top = self.first(width, height).saturating_add_signed(by);
        self.top = (top < end).then_some(top);
    }

    /// The next line with the searched text after the last one found, or before it.
    pub fn find(&self, forward: bool, from: usize) -> Option<usize> {
        let needle = self.search.input.value().to_lowercase();
        if needle.is_empty() {
            return None;
        }
        let hit = |n: &usize| self.lines[*n].text.to_lowercase().contains(&needle);
        if forward {
            (from.min(self.lines.len())..self.lines.len()).find(hit)
        } else {
            (0..from.min(self.lines.len())).rev().find(hit)
        }
    }

    /// Columns of the name in front of each line, with its gap.
    pub fn gutter(&self) -> usize {
        let longest = self.names.iter().map(|it| it.width()).max().unwrap_or(0);
        if self.names.len() > 1 { longest.min(20) + 2 } else { 0 }
    }
}

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
mod tests {
    use super::*;

    fn logs(count: usize) -> Logs {
        let mut logs = Logs::new(1, vec!["web1".into()]);
        (0..count).for_each(|n| push(&mut logs, &format!("line {n}")));
        logs
    }

    fn push(logs: &mut Logs, text: &str) {
        logs.push(&LogLine { instance: "web1".into(), line: text.into(), ..LogLine::default() });
    }

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let many = logs(MOST_LINES + 5);
        assert_eq!((many.lines.len(), many.dropped), (MOST_LINES, 5));
        assert_eq!(&*many.lines[0].text, "line 5");

        let mut long = logs(0);
        (0..2000).for_each(|_| push(&mut long, &"x".repeat(1 << 16)));
        assert!(long.bytes <= MOST_BYTES);
        assert_eq!(long.bytes, long.lines.iter().map(|it| it.text.len()).sum::<usize>());
    }

    #[test]
    fn it_follows_the_end_until_one_scrolls_up() {
        let mut logs = logs(100);
        assert_eq!(logs.first(80, 10), 90);
        logs.scroll(-5, 80, 10);
        push(&mut logs, "more");
        assert_eq!(logs.first(80, 10), 85, "what is looked at stays");
        logs.scroll(100, 80, 10);
        push(&mut logs, "more");
        assert_eq!(logs.first(80, 10), 92, "at the end it follows again");
        logs.scroll(-1000, 80, 10);
        assert_eq!(logs.first(80, 10), 0);
    }

    #[test]
    fn wrapped_lines_count_with_all_their_pieces() {
        let mut logs = logs(3);
        logs.wrap = true;
        push(&mut logs, &"漢".repeat(30));
        assert_eq!(logs.rows_of(3, 20), 3);
        assert_eq!(logs.first(20, 4), 2);
        assert_eq!(pieces("ab漢cd", 3), ["ab", "漢c", "d"]);
    }

    #[test]
    fn search_goes_both_ways_and_ignores_case() {
        let mut logs = logs(30);
        logs.search.input = Input::new("LINE 2".into());
        assert_eq!(logs.find(true, 0), Some(2));
        assert_eq!(logs.find(true, 3), Some(20));
        assert_eq!(logs.find(false, 20), Some(2));
        assert_eq!(logs.find(false, 2), None);
    }
}
