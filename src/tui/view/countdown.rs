//! The line under an instance that stops: how long already, of how long, and when SIGKILL comes.
//!
//! The deadline is the daemon's. Between its messages the line is computed from the moment it last
//! spoke, so it moves ten times a second without a byte over the socket, and stands still when the
//! daemon is away.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use super::format::{clock, millis, tenths};
use super::put;
use crate::api::{Countdown, Instance};
use crate::tui::model::{Model, Now};

/// How much of the line there is room for.
struct Shape {
    x: u16,
    bar: u16,
    gap: u16,
    roomy: bool,
}

const WIDE: Shape = Shape { x: 9, bar: 20, gap: 3, roomy: true };
const USUAL: Shape = Shape { x: 7, bar: 10, gap: 2, roomy: true };
const NARROW: Shape = Shape { x: 2, bar: 6, gap: 1, roomy: false };

pub(super) fn draw(
    model: &Model,
    it: &Instance,
    countdown: &Countdown,
    now: Now,
    y: u16,
    buf: &mut Buffer,
) {
    let shape = match buf.area.width {
        100.. => WIDE,
        70..100 => USUAL,
        _ => NARROW,
    };
    let total = Duration::from_millis(countdown.max_wait_time_ms);
    let elapsed = model.elapsed(&it.service, countdown.elapsed_ms, now).min(total);
    let style = model.theme.moving();

    let cells = bar(model.theme.signs.bar, elapsed, total, usize::from(shape.bar));
    let x = put(buf, shape.x, y, shape.bar, &cells, style);
    // As wide as the total, so that nothing moves when a digit is added.
    let of = tenths(total);
    let time = format!("{:>width$} of {of}", tenths(elapsed), width = of.len());
    let mut x = put(buf, x + 1, y, 30, &time, model.theme.strong());
    let room = buf.area.width.saturating_sub(x);
    for (text, style) in fitting(model, it, countdown, room, &shape) {
        x = put(buf, x + shape.gap, y, buf.area.width, &text, style);
    }
}

/// What else fits: the time of SIGKILL first, then what is in flight, then the rung. It is drawn in
/// the order in which it is read.
fn fitting(
    model: &Model,
    it: &Instance,
    countdown: &Countdown,
    room: u16,
    shape: &Shape,
) -> Vec<(String, Style)> {
    let theme = model.theme;
    let mut room = room;
    let mut fits = |text: &String| {
        let needed = u16::try_from(text.width()).unwrap_or(u16::MAX).saturating_add(shape.gap);
        let left = room.checked_sub(needed);
        room = left.unwrap_or(room);
        left.is_some()
    };
    let kill = countdown.kill_at.map(|at| {
        let word = if shape.roomy { "SIGKILL at" } else { "KILL" };
        format!("{word} {}", clock(at, &model.tz))
    });
    let rung = match &countdown.rung {
        None => "no signal yet".to_owned(),
        Some(signal) => format!("{signal} sent"),
    };
    let kill = kill.filter(&mut fits);
    let flight =
        in_flight(it, true).filter(&mut fits).or_else(|| in_flight(it, false).filter(&mut fits));
    let rung = Some(rung).filter(&mut fits);
    let plain = |text| (text, theme.plain());
    [flight.map(plain), rung.map(plain), kill.map(|text| (text, theme.bad()))]
        .into_iter()
        .flatten()
        .collect()
}

fn in_flight(it: &Instance, with_oldest: bool) -> Option<String> {
    let about = if it.in_flight_exact { "" } else { "~" };
    let oldest = it.oldest_ms.filter(|_| with_oldest);
    let oldest = oldest.map(|ms| format!(", oldest {}", millis(ms))).unwrap_or_default();
    it.in_flight.map(|n| format!("{about}{n} in flight{oldest}"))
}

/// A bar whose last cell is filled in steps.
pub(super) fn bar(signs: &[&str], elapsed: Duration, total: Duration, cells: usize) -> String {
    let steps = signs.len() - 1;
    let all = u128::try_from(cells * steps).unwrap_or(0);
    let filled = elapsed.as_millis() * all / total.as_millis().max(1);
    let filled = usize::try_from(filled).unwrap_or(0).min(cells * steps);
    (0..cells).map(|n| signs[filled.saturating_sub(n * steps).min(steps)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{ASCII, UNICODE};

    #[test]
    fn the_bar_fills_in_eighths() {
        let at = |ms, signs| bar(signs, Duration::from_millis(ms), Duration::from_secs(10), 5);
        assert_eq!(at(0, UNICODE.bar), "░░░░░");
        assert_eq!(at(250, UNICODE.bar), "▏░░░░");
        assert_eq!(at(5000, UNICODE.bar), "██▌░░");
        assert_eq!(at(10_000, UNICODE.bar), "█████");
        assert_eq!(at(5000, ASCII.bar), "##...");
        assert_eq!(bar(UNICODE.bar, Duration::ZERO, Duration::ZERO, 2), "░░");
    }
}
