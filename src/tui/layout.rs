//! How the lines of the main screen are shared out.
//!
//! The header, the column titles and the footer are always there; then the table gets what its rows
//! need, the rollouts their line each, and the feed what is left. Narrow and low screens lose the
//! feed first. Update scrolls by this, view draws by it, so both agree.

use jiff::SignedDuration;

use super::model::{Model, Now};
use super::view::{feed, footer};
use crate::api::Service;

/// Below this there is nothing sensible to draw.
pub const SMALLEST: (u16, u16) = (30, 6);

/// A finished rollout stays on the screen so long.
const AFTERGLOW: SignedDuration = SignedDuration::from_secs(60);
/// Lines of all rollouts together.
const MOST_ROLLOUTS: usize = 6;
/// From this height on the feed has a share even if the table wants all.
const ROOMY: u16 = 16;

/// A stretch of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub y: u16,
    pub height: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The titles are on the line above it.
    pub table: Lines,
    pub rollouts: Lines,
    pub feed: Lines,
    /// Standing warnings.
    pub warnings: Lines,
    pub footer: Lines,
}

pub fn is_too_small((width, height): (u16, u16)) -> bool {
    width < SMALLEST.0 || height < SMALLEST.1
}

/// Shares out the lines of the screen as it is now.
pub fn layout(model: &Model, now: Now) -> Layout {
    let (width, height) = model.size;
    let footer = footer_height(model);
    let mut left = height.saturating_sub(2 + footer);
    let warnings = u16::from(warning(model).is_some() && left > 3);
    left -= warnings;
    let running = feed::rollout_lines(model, now, width).len().min(MOST_ROLLOUTS);
    let rollouts = count(running).min(left / 3);
    left -= rollouts;

    let wanted = count(model.rows.lines(&model.deck, usize::from(left)).max(1));
    let share = if height >= ROOMY { count(model.events.len()).min(left / 4) } else { 0 };
    let table = wanted.min(left - share);
    let feed = if height >= 14 { left - table } else { 0 };
    // Without a feed the rest stays with the table.
    let table = if feed == 0 { left } else { table };

    let mut y = 2;
    let mut next = |height| {
        let lines = Lines { y, height };
        y += height;
        lines
    };
    Layout {
        table: next(table),
        rollouts: next(rollouts),
        feed: next(feed),
        warnings: next(warnings),
        footer: next(footer),
    }
}

/// A question may take lines; the picture it is about keeps some.
fn footer_height(model: &Model) -> u16 {
    footer::height(model).min(model.size.1.saturating_sub(4).max(1))
}

/// The lines of a page: below the header and its title, above the footer.
pub fn body(model: &Model) -> Lines {
    Lines { y: 2, height: model.size.1.saturating_sub(2 + footer_height(model)) }
}

fn count(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Services with a rollout worth a line: under way, halted, or just finished.
pub fn rollouts(model: &Model, now: Now) -> impl Iterator<Item = &Service> {
    let wall = model.picture(now).wall;
    model.deck.services.iter().filter(move |service| {
        service.rollout.as_ref().is_some_and(|it| match it.ended {
            Some(ended) if it.halted.is_none() => wall.duration_since(ended) < AFTERGLOW,
            _ => true,
        })
    })
}

/// The standing warning, if there is one: what is wrong with the configuration or the daemon.
pub fn warning(model: &Model) -> Option<String> {
    let config = &model.deck.config;
    let mut all = vec![];
    if let Some(error) = &config.error {
        let first = error.lines().next().unwrap_or_default();
        all.push(format!("configuration not applied: {first}"));
    }
    if !config.pending.is_empty() {
        all.push(format!("configuration pending: {}", config.pending.join(", ")));
    }
    all.extend(model.deck.notices.iter().cloned());
    let more = all.len().saturating_sub(1);
    let first = all.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first} (and {more} more: c)") })
}
