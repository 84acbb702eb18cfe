//! What the event page holds: the events that its words mean, and where one looks at them.
//!
//! The deck keeps only the newest events. What is older is asked for as soon as one looks near the start of
//! what is there, so an event of yesterday is found by the words for it, whether or not the deck has seen it.
//! Places are counted from the newest event, so what arrives below and what is loaded above moves nothing.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tui_input::Input;

use super::rows::RowId;
use crate::api::{Event, EventFilter};

/// Events that are kept; beyond that the oldest make room, and are asked for again.
const MOST: usize = 20_000;
/// How many are asked for at a time.
pub const PORTION: usize = 200;
/// So close to the start of what is there, more is asked for.
const NEAR: usize = 20;

#[derive(Debug)]
pub struct Events {
    /// The words, as they are written: `service:redis kind:restart since:yesterday text`.
    pub input: Input,
    /// Keys go into the words.
    pub editing: bool,
    pub words: Words,
    /// Oldest first.
    pub list: VecDeque<Event>,
    /// Events that are newer than the one under the cursor; 0 follows what happens.
    pub back: usize,
    /// Events that are below the screen.
    pub below: usize,
    /// The cursor was moved: what is under it is meant, not the row of the table.
    pub moved: bool,
    /// What was selected on the table when the page opened.
    pub row: Option<RowId>,
    pub older: Older,
    /// Nothing before this number is known.
    pub from: Option<u64>,
    /// The number of the newest event that was looked at, whether it is meant or not.
    pub newest: u64,
    /// One event is shown whole, from this line on.
    pub whole: Option<usize>,
}

/// What is known of the events before those in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Older {
    /// Nothing yet.
    Unknown,
    /// The daemon was asked, under this number.
    Asked(u64),
    /// There are none.
    None,
    Failed(String),
}

/// What the written words mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub filter: EventFilter,
    /// As the daemon understands it: a duration, or a time of RFC 3339.
    pub since: Option<String>,
    pub until: Option<String>,
}

impl Words {
    /// Reads words. What has no name before it is looked for everywhere.
    pub fn read(text: &str, now: Timestamp, tz: &TimeZone) -> Self {
        let mut words = Self::default();
        let mut loose: Vec<&str> = vec![];
        for word in text.split_whitespace() {
            let (name, value) = word.split_once(':').unwrap_or(("", ""));
            let text = || Some(value.to_owned()).filter(|it| !it.is_empty());
            match name {
                "service" | "instance" => words.filter.service = text(),
                "actor" | "by" | "who" => words.filter.actor = text(),
                "kind" => words.filter.kind = text(),
                "since" => words.since = text().map(|it| moment(&it, now, tz)),
                "until" => words.until = text().map(|it| moment(&it, now, tz)),
                _ => loose.push(word),
            }
            if value == "yesterday" && name == "since" && words.until.is_none() {
                words.until = Some(moment("today", now, tz));
            }
        }
        words.filter.text = Some(loose.join(" ")).filter(|it| !it.is_empty());
        words
    }

    /// Only the daemon can tell which events are meant.
    pub fn is_dated(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }
}

/// `today`, `yesterday`, `10:42`, `2026-01-31` by the clock of the operator; anything else as it is.
fn moment(text: &str, now: Timestamp, tz: &TimeZone) -> String {
    let here = now.to_zoned(tz.clone());
    let start = |date: Date| date.to_zoned(tz.clone()).ok().map(|it| it.timestamp());
    let meant = match text {
        "today" => start(here.date()),
        "yesterday" => here.date().yesterday().ok().and_then(start),
        _ if text.contains([':', '-']) => crate::tui::logs::moment::moment(text, now, tz).ok(),
        _ => None,
    };
    meant.map_or_else(|| text.to_owned(), |it| it.to_string())
}

impl Events {
    pub fn new(row: Option<RowId>) -> Self {
        Self {
            input: Input::default(),
            editing: false,
            words: Words::default(),
            list: VecDeque::new(),
            back: 0,
            below: 0,
            moved: false,
            row,
            older: Older::Unknown,
            from: None,
            newest: 0,
            whole: None,
        }
    }

    /// Begins anew with what the deck has.
    pub fn fill(&mut self, known: &VecDeque<Event>) {
        self.list.clear();
        (self.back, self.below, self.older, self.from) = (0, 0, Older::Unknown, None);
        self.newest = known.back().map_or(0, |it| it.seq);
        if !self.words.is_dated() {
            self.from = known.front().map(|it| it.seq);
            self.list.extend(known.iter().filter(|it| self.words.filter.wants(it)).cloned());
        }
    }

    /// Something happened.
    pub fn push(&mut self, event: &Event) {
        let last = self.list.back().map_or(0, |it| it.seq).max(self.newest);
        let is_known = event.seq <= last;
        self.newest = self.newest.max(event.seq);
        // What happens now is after any `since`, and after any `until` but one that lies ahead.
        if is_known || self.words.until.is_some() || !self.words.filter.wants(event) {
            return;
        }
        self.list.push_back(event.clone());
        if self.back > 0 {
            self.back += 1;
            self.below += 1;
        }
        if self.list.len() > MOST {
            self.list.pop_front();
            self.from = self.list.front().map(|it| it.seq);
            if self.older == Older::None {
                self.older = Older::Unknown;
            }
        }
    }

    /// Older events came, oldest first.
    pub fn prepend(&mut self, events: Vec<Event>) {
        self.older = if events.len() < PORTION { Older::None } else { Older::Unknown };
        let first = self.list.front().map(|it| it.seq);
        self.from = events.first().map(|it| it.seq).or(self.from);
        for event in events.into_iter().rev() {
            if first.is_none_or(|it| event.seq < it) {
                self.list.push_front(event);
            }
        }
    }

    /// Whether older events should be asked for, on a screen of this height.
    pub fn wants_older(&self, height: usize) -> bool {
        let is_near = self.list.len() <= self.below + height + NEAR;
        self.older == Older::Unknown && is_near && self.list.len() < MOST
    }

    /// The one under the cursor.
    pub fn selected(&self) -> Option<&Event> {
        self.list.get(self.list.len().checked_sub(self.back + 1)?)
    }

    /// Puts the cursor so many events before the newest.
    pub fn move_to(&mut self, back: usize, height: usize) {
        self.moved = true;
        self.back = back.min(self.list.len().saturating_sub(1));
        self.settle(height);
    }

    /// Keeps the cursor on a screen of this height.
    pub fn settle(&mut self, height: usize) {
        let height = height.max(1);
        self.back = self.back.min(self.list.len().saturating_sub(1));
        let lowest = (self.back + 1).saturating_sub(height);
        let most = self.list.len().saturating_sub(height);
        self.below = self.below.clamp(lowest, self.back).min(most.max(lowest));
    }

    /// The events on a screen of this height, oldest first, and the place of the cursor among them.
    pub fn window(&self, height: usize) -> (impl Iterator<Item = &Event>, Option<usize>) {
        let end = self.list.len().saturating_sub(self.below);
        let start = end.saturating_sub(height);
        let at = self.list.len().checked_sub(self.back + 1).and_then(|it| it.checked_sub(start));
        (self.list.range(start..end), at.filter(|it| *it < end - start))
    }

    /// Replaces a word, or takes it away.
    pub fn set_word(&mut self, name: &str, value: Option<&str>) {
        let is_other = |word: &&str| word.split_once(':').is_none_or(|it| it.0 != name);
        let mut words: Vec<String> =
            self.input.value().split_whitespace().filter(is_other).map(str::to_owned).collect();
        words.extend(value.map(|it| format!("{name}:{it}")));
        self.input = Input::new(words.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, service: &str) -> Event {
        Event {
            seq,
            at: Timestamp::UNIX_EPOCH,
            kind: "exited".into(),
            service: Some(service.into()),
            instance: None,
            actor: None,
            message: String::new(),
            evidence: None,
            rollout: None,
            stop: None,
            lost: None,
        }
    }

    fn shown(events: &Events, height: usize) -> (Vec<u64>, Option<usize>) {
        let (window, at) = events.window(height);
        (window.map(|it| it.seq).collect(), at)
    }

    fn filled(count: u64) -> Events {
        let mut events = Events::new(None);
        events.fill(&(100..100 + count).map(|n| event(n, "web")).collect());
        events
    }

    #[test]
    fn words_are_read_in_the_operators_time() {
        let now: Timestamp = "2026-11-21T10:42:17Z".parse().unwrap();
        let tz = TimeZone::fixed(jiff::tz::offset(2));
        let read = |text: &str| Words::read(text, now, &tz);
        let words = read("service:redis by:alice kind:restart no such table");
        let some = |it: &str| Some(it.to_owned());
        assert_eq!(words.filter.service, some("redis"));
        assert_eq!((words.filter.actor, words.filter.kind), (some("alice"), some("restart")));
        assert_eq!(words.filter.text, some("no such table"));
        let yesterday = read("since:yesterday");
        assert_eq!(yesterday.since, some("2026-11-19T22:00:00Z"));
        assert_eq!(yesterday.until, some("2026-11-20T22:00:00Z"));
        let span = read("since:10:42 until:1h");
        assert_eq!((span.since, span.until), (some("2026-11-21T08:42:00Z"), some("1h")));
        assert_eq!(read("since:2026-11-01").since, some("2026-10-31T22:00:00Z"));
        assert_eq!(read("at http://x service:"), read("at http://x"));
    }

    #[test]
    fn what_arrives_and_what_is_loaded_moves_nothing() {
        let mut events = filled(10);
        assert_eq!(shown(&events, 3), (vec![107, 108, 109], Some(2)));
        events.push(&event(110, "web"));
        assert_eq!(shown(&events, 3), (vec![108, 109, 110], Some(2)), "it follows");
        events.move_to(4, 3);
        assert_eq!(shown(&events, 3), (vec![106, 107, 108], Some(0)));
        events.push(&event(111, "web"));
        events.push(&event(111, "web"));
        events.prepend((0..50).map(|n| event(n, "web")).collect());
        assert_eq!(shown(&events, 3), (vec![106, 107, 108], Some(0)));
        assert_eq!(events.selected().map(|it| it.seq), Some(106));
        assert_eq!(events.older, Older::None, "there were not so many");
        events.move_to(usize::MAX, 3);
        assert_eq!(shown(&events, 3), (vec![0, 1, 2], Some(0)));
    }

    #[test]
    fn older_ones_are_wanted_near_the_start() {
        let mut events = filled(100);
        assert!(!events.wants_older(20));
        events.move_to(85, 20);
        assert!(events.wants_older(20));
        events.older = Older::Asked(1);
        assert!(!events.wants_older(20));
        events.prepend((0..200).map(|n| event(n / 2, "web")).collect());
        assert_eq!((events.older.clone(), events.from), (Older::Unknown, Some(0)));
    }

    #[test]
    fn words_are_changed_one_by_one() {
        let mut events = filled(1);
        events.input = Input::new("service:web lost kind:exit".into());
        events.set_word("service", Some("redis"));
        assert_eq!(events.input.value(), "lost kind:exit service:redis");
        events.set_word("kind", None);
        assert_eq!(events.input.value(), "lost service:redis");
    }

    #[test]
    fn an_empty_page_has_no_cursor() {
        let mut events = Events::new(None);
        events.settle(10);
        assert_eq!(shown(&events, 10), (vec![], None));
        assert!(events.selected().is_none() && events.wants_older(10));
    }
}
