//! Which columns fit, and where.
//!
//! Columns without any data in the whole fleet are left out; the rest are taken by importance until
//! the screen is full. What is left over belongs to the tail: `backup`, `held by alice`, and on a wide
//! screen the reason of the state.

use crate::tui::model::Model;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    State,
    Pid,
    Up,
    Live,
    Ready,
    Rate,
    InFlight,
    P99,
    Cpu,
    Memory,
    Restarts,
    Profile,
    Since,
}

/// A column with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) column: Column,
    pub(super) x: u16,
    pub(super) width: u16,
}

/// The table as it fits this screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Columns of the name, with the port.
    pub(super) name: u16,
    pub(super) placed: Vec<Placed>,
    /// Where the tail begins.
    pub(super) tail: u16,
}

/// The cells in front of a name: folding and mark.
pub(super) const GUTTER: u16 = 2;
/// The gap, the colon and five digits.
const PORT: usize = 7;
/// Columns of names, however short they are.
const LEAST: usize = 6;
const GAP: u16 = 1;
/// Kept free for the tail where some row has one.
const TAGS: u16 = 8;

/// In the order of the screen: title, width, importance (less is more).
#[rustfmt::skip]
const ALL: &[(Column, &str, u16, u8)] = &[
    (Column::State,    "STATE",  10, 0),
    (Column::Pid,      "PID",     7, 4),
    (Column::Up,       "UP",      4, 9),
    (Column::Live,     "LIVE",    4, 2),
    (Column::Ready,    "READY",   5, 1),
    (Column::Rate,     "REQ/S",   6, 5),
    (Column::InFlight, "FLIGHT",  6, 3),
    (Column::P99,      "P99",     5, 6),
    (Column::Cpu,      "CPU",     5, 8),
    (Column::Memory,   "MEM",     5, 7),
    (Column::Restarts, "RST",     3, 10),
    (Column::Profile,  "PROFILE", 8, 12),
    (Column::Since,    "SINCE",   8, 11),
];

impl Column {
    pub(super) fn title(self) -> &'static str {
        ALL.iter().find(|it| it.0 == self).map_or("", |it| it.1)
    }

    fn has_data(self, model: &Model) -> bool {
        let present = model.rows.present;
        match self {
            Self::Rate => present.rate,
            Self::P99 => present.p99,
            Self::InFlight => present.in_flight,
            _ => true,
        }
    }
}

pub(super) fn columns(model: &Model, width: u16) -> Columns {
    let columns = |it: usize| u16::try_from(it).unwrap_or(u16::MAX);
    let rows = &model.rows;
    let names = columns(rows.name_width.max(LEAST));
    // Only a name that has a port needs room for both.
    let with_port = rows.port_width.map_or(0, |it| columns(it.max(LEAST) + PORT));
    let name = names.max(with_port).min((width * 2 / 5).max(12));
    let tags = if model.rows.present.tags && width >= 70 { TAGS + GAP } else { 0 };

    let mut room = width.saturating_sub(GUTTER + name + GAP);
    let mut chosen: Vec<_> = ALL.iter().filter(|it| it.0.has_data(model)).collect();
    chosen.sort_by_key(|it| it.3);
    let mut kept = vec![];
    for it in chosen {
        // The first six matter more than the tail.
        let reserve = if it.3 < 6 { 0 } else { tags };
        // What is nice to have leaves room for the reason of a state.
        let reserve = if it.3 > 10 { reserve.max(40) } else { reserve };
        if it.2 + GAP + reserve > room {
            break;
        }
        room -= it.2 + GAP;
        kept.push(it.0);
    }

    let mut x = GUTTER + name + GAP;
    let mut placed = vec![];
    for (column, _, width, _) in ALL.iter().filter(|it| kept.contains(&it.0)) {
        x += GAP;
        placed.push(Placed { column: *column, x, width: *width });
        x += width;
    }
    Columns { name, placed, tail: x + GAP + 1 }
}
