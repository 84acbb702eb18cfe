//! A number over the last ten minutes: columns of blocks, newest at the right.

use crate::tui::theme::Signs;

/// What a chart shows at most.
const WINDOW_STEPS: usize = 300;
/// Columns of blocks from empty to full.
const BLOCKS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// The same where there are only letters.
const ASCII: [&str; 4] = [" ", ".", ":", "#"];

/// Lines of the chart, the highest first, and what its top stands for. A column is the most of its share of the
/// ten minutes, so that no peak is lost; what was not measured yet is blank.
pub(super) fn chart(
    points: &[f64],
    width: usize,
    height: usize,
    signs: &Signs,
) -> (Vec<String>, f64) {
    let levels: &[&str] = if signs.ascii { &ASCII } else { &BLOCKS };
    let steps = levels.len() - 1;
    let columns = columns(points, width);
    let top = columns.iter().flatten().copied().fold(0.0, f64::max);
    let filled: Vec<Option<usize>> =
        columns.iter().map(|it| it.map(|it| filled(it, top, height * steps))).collect();
    let line = |row: usize| -> String {
        let below = (height - 1 - row) * steps;
        let cell = |it: &Option<usize>| levels[it.unwrap_or(0).saturating_sub(below).min(steps)];
        filled.iter().map(cell).collect()
    };
    ((0..height).map(line).collect(), top)
}

/// How many steps high a value stands. What is not nothing can be seen.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a few dozen steps"
)]
fn filled(value: f64, top: f64, steps: usize) -> usize {
    if value <= 0.0 { 0 } else { ((value / top * steps as f64).round() as usize).max(1) }
}

/// The most within each column; `None` before the first point.
fn columns(points: &[f64], width: usize) -> Vec<Option<f64>> {
    let first = WINDOW_STEPS.saturating_sub(points.len());
    let of = |column: usize| {
        let from = column * WINDOW_STEPS / width;
        let to = ((column + 1) * WINDOW_STEPS / width).max(from + 1);
        let known = from.max(first)..to.max(first).min(WINDOW_STEPS);
        known.filter_map(|it| points.get(it - first).copied()).reduce(f64::max)
    };
    (0..width).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{ASCII, UNICODE};

    #[test]
    fn the_newest_is_at_the_right_and_peaks_stay() {
        let mut points = vec![0.0; 30];
        points[10] = 8.0;
        points[29] = 4.0;
        let (lines, top) = chart(&points, 30, 1, &UNICODE);
        assert_eq!((lines[0].as_str(), top), ("                            █▄", 8.0));
        let (lines, _) = chart(&points, 30, 2, &UNICODE);
        assert_eq!(lines, [format!("{:28}█ ", ""), format!("{:28}██", "")]);
        let (lines, _) = chart(&points, 30, 2, &ASCII);
        assert_eq!(lines, [format!("{:28}# ", ""), format!("{:28}##", "")]);
    }

    #[test]
    fn little_is_not_nothing_and_wide_screens_repeat_points() {
        let (lines, _) = chart(&[1000.0, 1.0, 0.0], 300, 1, &UNICODE);
        assert_eq!(lines[0].trim_start(), "█▁ ");
        let (lines, top) = chart(&[2.0; 300], 600, 1, &UNICODE);
        assert_eq!((lines[0].clone(), top), ("█".repeat(600), 2.0));
        assert_eq!(chart(&[], 10, 1, &UNICODE), (vec![" ".repeat(10)], 0.0));
    }
}
