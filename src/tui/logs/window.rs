//! The lines of a log that are in memory: a window that moves over it.
//!
//! Of each log the window holds one range, from the place where it begins to the place where it ends, so
//! what lies above and below can be asked for exactly, also after a rotation. It is bounded: what comes in
//! at one end pushes out at the other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::api::{LogLine, LogPlace};
use crate::tui::ansi::{self, Run};

pub const MOST_LINES: usize = 10_000;
/// Text of all lines together.
pub const MOST_BYTES: usize = 2 << 20;
/// So many lines above what is looked at stay, whatever comes below.
const KEPT_ABOVE: usize = 1000;

/// One line, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which of the names of the window wrote it.
    pub by: usize,
    pub text: Box<str>,
    /// Where its colours change.
    pub runs: Box<[Run]>,
    pub at: Option<Timestamp>,
    begins: Option<LogPlace>,
    ends: Option<LogPlace>,
}

/// A page that the daemon sent: its lines, and which range of each log they are from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub lines: Vec<LogLine>,
    pub begins: Places,
    pub ends: Places,
    /// There is nothing more in this direction.
    pub last: bool,
}

/// Places in logs, by the names of their instances.
pub type Places = BTreeMap<String, LogPlace>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Window {
    names: Vec<String>,
    pub lines: VecDeque<Line>,
    bytes: usize,
    begins: Places,
    ends: Places,
    /// Nothing is older.
    pub is_first: bool,
    /// What is written from now on comes after it.
    pub is_last: bool,
    /// The line at the top of the screen; `None`: the end is at the bottom.
    pub top: Option<usize>,
    /// The line of the match that was jumped to.
    pub found: Option<usize>,
    /// Lines that are being marked.
    pub range: Option<Range>,
}

/// Lines from where marking began to its cursor, which may be above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: usize,
    pub cursor: usize,
}

impl Range {
    /// All lines of it.
    pub fn lines(self) -> RangeInclusive<usize> {
        self.from.min(self.cursor)..=self.from.max(self.cursor)
    }

    fn moved(self, to: impl Fn(usize) -> usize) -> Self {
        Self { from: to(self.from), cursor: to(self.cursor) }
    }
}

impl Window {
    pub fn new(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is above begins before these.
    pub fn begins(&self) -> &Places {
        &self.begins
    }

    /// What is below begins here.
    pub fn ends(&self) -> &Places {
        &self.ends
    }

    fn line(&self, line: &LogLine) -> Line {
        let by = self.names.iter().position(|it| *it == line.instance).unwrap_or(0);
        let (text, runs) = ansi::colored(&line.line);
        let LogLine { at, begins, ends, .. } = *line;
        Line { by, text: text.into(), runs: runs.into(), at, begins, ends }
    }

    /// Holds only this page from now on.
    pub fn begin(&mut self, page: &Page) {
        *self = Self::new(std::mem::take(&mut self.names));
        self.begins.clone_from(&page.begins);
        self.ends.clone_from(&page.ends);
        self.lines = page.lines.iter().map(|it| self.line(it)).collect();
        self.bytes = self.lines.iter().map(|it| it.text.len()).sum();
    }

    /// Takes what lies above.
    pub fn older(&mut self, page: &Page) {
        for line in page.lines.iter().rev() {
            let line = self.line(line);
            self.bytes += line.text.len();
            self.lines.push_front(line);
        }
        let count = page.lines.len();
        self.begins.extend(page.begins.clone());
        self.is_first = page.last;
        // While the end is looked at, nothing above is worth more than that.
        self.top = self.top.map(|it| it + count);
        self.found = self.found.map(|it| it + count);
        self.range = self.range.map(|it| it.moved(|at| at + count));
        while self.is_full() && self.top.is_some() {
            self.drop_last();
        }
    }

    /// Takes what lies below.
    pub fn newer(&mut self, page: &Page) {
        for line in &page.lines {
            let line = self.line(line);
            self.append(line);
        }
        self.ends.extend(page.ends.clone());
        self.is_last = page.last;
        while self.is_full() {
            self.drop_first();
        }
    }

    /// Takes what was written just now. What one looks at stays: when there is no room for it and for what
    /// comes, the window ends here.
    pub fn push(&mut self, line: &LogLine) {
        if line.gap && !self.jump(line) {
            return;
        }
        let line = self.line(line);
        if let Some(ends) = line.ends {
            self.ends.insert(self.names[line.by].clone(), ends);
        }
        self.append(line);
        let kept = self.top.map_or(usize::MAX, |it| it.saturating_sub(KEPT_ABOVE));
        let mut left = kept;
        while self.is_full() && left > 0 {
            self.drop_first();
            left -= 1;
        }
        self.is_last &= !self.is_full();
    }

    /// Lines were left out before this one: nothing older is next to it. False if the end is not looked at.
    fn jump(&mut self, line: &LogLine) -> bool {
        if self.top.is_some() {
            self.is_last = false;
            return false;
        }
        let mut begins = self.ends.clone();
        begins.extend(line.begins.map(|it| (line.instance.clone(), it)));
        let names = std::mem::take(&mut self.names);
        *self = Self {
            begins,
            ends: std::mem::take(&mut self.ends),
            is_last: true,
            ..Self::new(names)
        };
        true
    }

    fn append(&mut self, line: Line) {
        let name = &self.names[line.by];
        if let Some(begins) = line.begins
            && !self.begins.contains_key(name)
        {
            self.begins.insert(name.clone(), begins);
        }
        self.bytes += line.text.len();
        self.lines.push_back(line);
    }

    fn is_full(&self) -> bool {
        self.lines.len() > MOST_LINES || self.bytes > MOST_BYTES
    }

    fn drop_first(&mut self) {
        let Some(line) = self.lines.pop_front() else { return };
        self.bytes -= line.text.len();
        if let Some(ends) = line.ends {
            self.begins.insert(self.names[line.by].clone(), ends);
        }
        self.is_first = false;
        self.top = self.top.map(|it| it.saturating_sub(1));
        self.found = self.found.and_then(|it| it.checked_sub(1));
        self.range = self.range.map(|it| it.moved(|at| at.saturating_sub(1)));
    }

    fn drop_last(&mut self) {
        let Some(line) = self.lines.pop_back() else { return };
        self.bytes -= line.text.len();
        if let Some(begins) = line.begins {
            self.ends.insert(self.names[line.by].clone(), begins);
        }
        self.is_last = false;
        self.found = self.found.filter(|it| *it < self.lines.len());
        let last = self.lines.len().saturating_sub(1);
        self.range = self.range.map(|it| it.moved(|at| at.min(last)));
    }

    /// The place of a line and of what follows it, in every log.
    pub fn places_at(&self, index: usize) -> Places {
        let mut places = self.ends.clone();
        for line in self.lines.iter().skip(index).rev() {
            if let Some(begins) = line.begins {
                places.insert(self.names[line.by].clone(), begins);
            }
        }
        places
    }

    /// Bytes of text that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
