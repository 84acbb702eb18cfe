//! Numbers and times as the table shows them: short, right-aligned, no two units at once.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `10:42:17` where the operator is.
pub(super) fn clock(at: Timestamp, tz: &TimeZone) -> String {
    let it = tz.to_datetime(at);
    format!("{:02}:{:02}:{:02}", it.hour(), it.minute(), it.second())
}

/// `2026-11-21 10:42:17`.
pub(super) fn date(at: Timestamp, tz: &TimeZone) -> String {
    let it = tz.to_datetime(at);
    format!("{:04}-{:02}-{:02} {}", it.year(), it.month(), it.day(), clock(at, tz))
}

/// How long ago, without seconds: a screen at rest must not move.
pub(super) fn age(seconds: i64) -> String {
    match seconds {
        ..60 => "<1m".into(),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Tenths of a second for what moves: `6.2s`, cut and not rounded: no tenth is shown before it has passed.
pub(super) fn tenths(time: Duration) -> String {
    format!("{}.{}s", time.as_secs(), time.subsec_millis() / 100)
}

/// `90M`, `1.2G`.
pub(super) fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    match bytes {
        ..KIB => format!("{bytes}B"),
        KIB..MIB => format!("{}K", bytes / KIB),
        MIB..GIB => format!("{}M", bytes / MIB),
        GIB..TIB => format!("{}.{}G", bytes / GIB, bytes % GIB * 10 / GIB),
        _ => format!("{}T", bytes / TIB),
    }
}

/// `41.2%`, `238%`.
pub(super) fn percent(percent: f64) -> String {
    if percent < 99.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// `45ms`, `1.2s`.
pub(super) fn millis(ms: u64) -> String {
    if ms < 1000 { format!("{ms}ms") } else { tenths(Duration::from_millis(ms)) }
}

/// Breaks a text between words into lines of at most `width` columns.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(4);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |it| it.width());
        if line > 0 && line + 1 + word.width() > width {
            lines.push(String::new());
        }
        push_word(&mut lines, word, width);
    }
    lines
}

/// Adds a word to the last line; a word longer than a line is broken.
fn push_word(lines: &mut Vec<String>, word: &str, width: usize) {
    let Some(mut line) = lines.pop() else { return };
    if !line.is_empty() {
        line.push(' ');
    }
    let mut columns = line.width();
    for c in word.chars() {
        let its = c.width().unwrap_or(0);
        if columns + its > width {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        line.push(c);
        columns += its;
    }
    lines.push(line);
}

/// The start of a line that fits `width` columns; what is cut off says so.
pub(super) fn cut_line(line: &Line<'static>, width: usize) -> Line<'static> {
    if line.width() <= width {
        return line.clone();
    }
    let mut cut = Line::default().style(line.style);
    let mut room = width.saturating_sub(1);
    for span in &line.spans {
        let mut part = String::new();
        for c in span.content.chars() {
            let its = c.width().unwrap_or(0);
            if its > room {
                room = 0;
                break;
            }
            room -= its;
            part.push(c);
        }
        cut.push_span(Span::styled(part, span.style));
    }
    cut.push_span(Span::raw("…"));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        let ages: Vec<_> = [3, 60, 3599, 7200, 100_000, 200_000].into_iter().map(age).collect();
        assert_eq!(ages, ["<1m", "1m", "59m", "2h", "27h", "2d"]);
        let sizes: Vec<_> =
            [5, 2048, 94_371_840, 1 << 30, 5 << 40].into_iter().map(bytes).collect();
        assert_eq!(sizes, ["5B", "2K", "90M", "1.0G", "5T"]);
        let shares: Vec<_> = [0.04, 41.2, 99.96, 812.3].into_iter().map(percent).collect();
        assert_eq!(shares, ["0.0%", "41.2%", "100%", "812%"]);
        assert_eq!((millis(45), millis(1250)), ("45ms".into(), "1.2s".into()));
        assert_eq!(tenths(Duration::from_millis(6299)), "6.2s");
    }

    #[test]
    fn text_is_wrapped_between_words_and_long_words_are_broken() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
