//! Which rows the table has, in which order, and which of them are on the screen.
//!
//! The index is made when the fleet's shape, the filter, the folding or the order changes, and not
//! for every key: moving through thousands of rows touches only those that are shown. The selection
//! is a name. Rows may come, go and change places; the cursor stays with what it names.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use super::filter::Query;
use crate::api::{Deck, Instance, Service, State};

/// A row by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    pub service: String,
    pub instance: Option<String>,
}

/// A row by place. A service with one instance of the same name is one row, of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub service: usize,
    pub instance: Option<usize>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service with its instances below it.
    Service,
    /// Below its service.
    Instance,
    /// A service and its only instance.
    Single,
}

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As in the configuration file.
    #[default]
    File,
    Name,
    /// What needs attention first.
    State,
    /// Requests per second.
    Load,
    InFlight,
    Cpu,
    Memory,
    Restarts,
}

impl Sort {
    /// The next order; one by figures that nobody has is left out.
    pub fn next(self, present: Present) -> Self {
        match self {
            Self::File => Self::Name,
            Self::Name => Self::State,
            Self::State if present.rate => Self::Load,
            Self::State | Self::Load if present.in_flight => Self::InFlight,
            Self::State | Self::Load | Self::InFlight => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Restarts,
            Self::Restarts => Self::File,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::File => "the configuration file",
            Self::Name => "name",
            Self::State => "state",
            Self::Load => "load",
            Self::InFlight => "requests in flight",
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Restarts => "restarts",
        }
    }
}

/// Which columns have anything to show, in the whole fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub rate: bool,
    pub p99: bool,
    pub in_flight: bool,
    pub tags: bool,
}

impl Present {
    /// Takes notice of what a service shows.
    pub fn add(&mut self, service: &Service) {
        // What comes and goes with a roll must not move the columns.
        let fronted = service.gateway.is_some();
        self.rate |= fronted;
        self.p99 |= fronted;
        self.in_flight |= fronted;
        self.tags |= fronted;
        for it in &service.instances {
            self.rate |= it.requests_per_second.is_some() || it.load.is_some();
            self.p99 |= it.p99_ms.is_some();
            self.in_flight |= it.in_flight.is_some();
            self.tags |= it.backup || it.stale || it.held_by.is_some();
            self.tags |= it.is_backlog_full();
        }
    }
}

/// The index of the rows that are not folded or filtered away.
#[derive(Debug, Default)]
pub struct Rows {
    pub list: Vec<Row>,
    pub cursor: usize,
    /// The first row on the screen.
    pub top: usize,
    /// What the cursor stays with.
    pub selected: Option<RowId>,
    /// That row is gone, and the cursor is on another one now.
    pub lost: bool,
    /// Columns of the longest name.
    pub name_width: usize,
    /// Columns of the longest name with a port beside it.
    pub port_width: Option<usize>,
    pub present: Present,
    /// When the index was made because figures changed.
    pub made: Duration,
    /// When it should be made again for figures that changed since.
    pub due: Option<Duration>,
}

impl Row {
    pub fn service(self, deck: &Deck) -> Option<&Service> {
        deck.services.get(self.service)
    }

    pub fn instance(self, deck: &Deck) -> Option<&Instance> {
        deck.services.get(self.service)?.instances.get(self.instance?)
    }

    pub fn id(self, deck: &Deck) -> Option<RowId> {
        let service = self.service(deck)?.name.clone();
        Some(RowId { service, instance: self.instance(deck).map(|it| it.name.clone()) })
    }

    /// A stop that is under way has a second line.
    pub fn height(self, deck: &Deck) -> usize {
        1 + usize::from(self.instance(deck).is_some_and(|it| it.countdown.is_some()))
    }
}

impl Rows {
    /// Makes the index anew and puts the cursor back on what it named.
    pub fn rebuild(&mut self, deck: &Deck, folded: &BTreeSet<String>, sort: Sort, query: &Query) {
        self.list.clear();
        self.due = None;
        (self.name_width, self.port_width) = (0, None);
        self.present = Present::default();
        for index in order(deck.services.len(), |n| service_rank(&deck.services[n], sort)) {
            self.add(index, &deck.services[index], folded, sort, query);
        }
        // In an order of their own, rows that come and go above the screen do not move what is on it.
        self.follow(deck, matches!(sort, Sort::File | Sort::Name));
    }

    fn add(
        &mut self,
        at: usize,
        of: &Service,
        folded: &BTreeSet<String>,
        sort: Sort,
        query: &Query,
    ) {
        self.present.add(of);
        self.measure(
            &of.name,
            0,
            of.gateway.is_some() || is_single(of) && of.instances[0].port.is_some(),
        );
        if is_single(of) {
            let shown = query.instance(of, &of.instances[0]);
            self.list.extend(shown.then_some(Row {
                service: at,
                instance: Some(0),
                kind: Kind::Single,
            }));
            return;
        }
        let named = query.is_named(of);
        let mut below: Vec<usize> = order(of.instances.len(), |n| rank(&of.instances[n], sort));
        of.instances.iter().for_each(|it| self.measure(&it.name, 1, it.port.is_some()));
        below.retain(|n| named || query.instance(of, &of.instances[*n]));
        if below.is_empty() && !named && !query.service(of) {
            return;
        }
        self.list.push(Row { service: at, instance: None, kind: Kind::Service });
        // What was searched for is shown, folded or not.
        if !folded.contains(&of.name) || !named {
            let row = |n| Row { service: at, instance: Some(n), kind: Kind::Instance };
            self.list.extend(below.into_iter().map(row));
        }
    }

    fn measure(&mut self, name: &str, indent: usize, has_port: bool) {
        let width = name.width() + indent;
        self.name_width = self.name_width.max(width);
        if has_port {
            self.port_width = self.port_width.max(Some(width));
        }
    }

    /// Puts the cursor on the row that is selected; if it is gone, on its service, or stays where
    /// it was. A row that `stays` is on the same line as before, unless the first row of all was shown.
    fn follow(&mut self, deck: &Deck, stays: bool) {
        let at = |id: &RowId| self.list.iter().position(|row| is(*row, deck, id));
        let found = self.selected.as_ref().and_then(|id| {
            at(id).or_else(|| at(&RowId { service: id.service.clone(), instance: None }))
        });
        let was = self.selected.take();
        let before = self.cursor;
        self.cursor = found.unwrap_or(before).min(self.list.len().saturating_sub(1));
        if stays && self.top > 0 {
            self.top = (self.top + self.cursor).saturating_sub(before);
        }
        self.selected = self.row().and_then(|it| it.id(deck));
        self.lost |= was.is_some() && was != self.selected;
    }

    /// The row under the cursor.
    pub fn row(&self) -> Option<Row> {
        self.list.get(self.cursor).copied()
    }

    /// Moves the cursor; it stops at the ends.
    pub fn move_to(&mut self, deck: &Deck, index: usize) {
        self.lost = false;
        self.cursor = index.min(self.list.len().saturating_sub(1));
        self.selected = self.row().and_then(|it| it.id(deck));
    }

    /// Scrolls just so far that the cursor is on the screen and no room is wasted at the end.
    pub fn scroll(&mut self, deck: &Deck, height: usize) {
        let lowest = self.first_that_fits(deck, self.cursor, height);
        let last = self.first_that_fits(deck, self.list.len().saturating_sub(1), height);
        self.top = self.top.clamp(lowest, self.cursor.max(lowest)).min(last.max(lowest));
    }

    /// The first row of a screen that ends with row `last`.
    fn first_that_fits(&self, deck: &Deck, last: usize, height: usize) -> usize {
        let mut room = height;
        let mut first = last;
        for index in (0..=last).rev() {
            let Some(row) = self.list.get(index) else { continue };
            let Some(left) = room.checked_sub(row.height(deck)) else { break };
            (room, first) = (left, index);
        }
        first
    }

    /// The rows on the screen.
    pub fn window(&self, deck: &Deck, height: usize) -> impl Iterator<Item = Row> {
        let mut room = height;
        self.list.iter().skip(self.top).copied().take_while(move |row| {
            let fits = room > 0;
            room = room.saturating_sub(row.height(deck));
            fits
        })
    }

    /// How many lines all rows take, as far as `enough`.
    pub fn lines(&self, deck: &Deck, enough: usize) -> usize {
        let mut lines = 0;
        for row in self.list.iter().take(enough) {
            lines += row.height(deck);
        }
        lines.min(enough)
    }
}

/// A service that its only instance stands for.
pub fn is_single(service: &Service) -> bool {
    matches!(service.instances.as_slice(), [only] if only.name == service.name)
}

fn is(row: Row, deck: &Deck, id: &RowId) -> bool {
    row.service(deck).is_some_and(|it| it.name == id.service)
        && row.instance(deck).map(|it| it.name.as_str()) == id.instance.as_deref()
}

/// What rows are sorted by; among equals the order of the file holds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Same,
    Name(String),
    Most(Reverse<u64>),
}

fn order(count: usize, rank: impl Fn(usize) -> Rank) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|n| rank(*n));
    order
}

fn rank(it: &Instance, sort: Sort) -> Rank {
    match sort {
        Sort::File => Rank::Same,
        Sort::Name => Rank::Name(it.name.clone()),
        Sort::State => Rank::Most(Reverse(urgency(it.state))),
        Sort::Load => Rank::Most(Reverse(millis(it.requests_per_second))),
        Sort::InFlight => Rank::Most(Reverse(it.in_flight.unwrap_or(0).into())),
        Sort::Cpu => Rank::Most(Reverse(millis(it.cpu_percent))),
        Sort::Memory => Rank::Most(Reverse(it.memory_bytes.unwrap_or(0))),
        Sort::Restarts => Rank::Most(Reverse(it.restarts)),
    }
}

fn service_rank(it: &Service, sort: Sort) -> Rank {
    let sum = |of: fn(&Instance) -> u64| Rank::Most(Reverse(it.instances.iter().map(of).sum()));
    match sort {
        Sort::File => Rank::Same,
        Sort::Name => Rank::Name(it.name.clone()),
        Sort::State => Rank::Most(Reverse(urgency(it.state))),
        Sort::Load => match &it.gateway {
            Some(gateway) => Rank::Most(Reverse(millis(Some(gateway.requests_per_second)))),
            None => sum(|it| millis(it.requests_per_second)),
        },
        Sort::InFlight => sum(|it| it.in_flight.unwrap_or(0).into()),
        Sort::Cpu => sum(|it| millis(it.cpu_percent)),
        Sort::Memory => sum(|it| it.memory_bytes.unwrap_or(0)),
        Sort::Restarts => sum(|it| it.restarts),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate or a percentage, in thousandths"
)]
fn millis(figure: Option<f64>) -> u64 {
    (figure.unwrap_or(0.0) * 1000.0) as u64
}

fn urgency(state: State) -> u64 {
    match state {
        State::Fatal => 9,
        State::Lost => 8,
        State::Backoff => 7,
        State::Stopping => 6,
        State::Draining => 5,
        State::Spawning => 4,
        State::Starting => 3,
        State::Exited => 2,
        State::Running => 1,
        State::Stopped => 0,
    }
}
