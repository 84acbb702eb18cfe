//! Several logs as one, by time: `opsdeck logs web1 web2`.

use std::io;
use std::iter::Peekable;

use super::read::Line;

/// Interleaves logs by the time of their lines, each line with the number of its log.
///
/// The order within a log is never changed, whatever its clock did; at the same time the first log comes first. A line
/// without a time follows the one before it, and the pieces of a long line stay together.
pub fn merge<I>(logs: impl IntoIterator<Item = I>) -> Merge<I>
where
    I: Iterator<Item = io::Result<Line>>,
{
    let logs = logs.into_iter().map(|lines| Log { lines: lines.peekable(), at_ms: 0 });
    Merge { logs: logs.collect(), unfinished: None }
}

/// See [`merge`].
pub struct Merge<I: Iterator> {
    logs: Vec<Log<I>>,
    /// The log whose last line goes on.
    unfinished: Option<usize>,
}

struct Log<I: Iterator> {
    lines: Peekable<I>,
    /// The time of its last line.
    at_ms: u64,
}

impl<I: Iterator<Item = io::Result<Line>>> Log<I> {
    /// The time of its next line; `None` at its end. An error comes out at once.
    fn next_at_ms(&mut self) -> Option<u64> {
        match self.lines.peek()? {
            Ok(line) => Some(line.at_ms.unwrap_or(self.at_ms)),
            Err(_) => Some(0),
        }
    }
}

impl<I: Iterator<Item = io::Result<Line>>> Iterator for Merge<I> {
    type Item = io::Result<(usize, Line)>;

    fn next(&mut self) -> Option<Self::Item> {
        let going_on = self.unfinished.take().filter(|n| self.logs[*n].lines.peek().is_some());
        let earliest = || {
            let times =
                self.logs.iter_mut().enumerate().filter_map(|(n, it)| Some((it.next_at_ms()?, n)));
            times.min().map(|(_, n)| n)
        };
        let n = going_on.or_else(earliest)?;
        let log = &mut self.logs[n];
        let line = match log.lines.next()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        log.at_ms = line.at_ms.unwrap_or(log.at_ms);
        self.unfinished = line.partial.then_some(n);
        Some(Ok((n, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: impl Into<Option<u64>>, text: &str) -> io::Result<Line> {
        let (text, partial) = text.strip_suffix('…').map_or((text, false), |it| (it, true));
        Ok(Line { at_ms: at_ms.into(), bytes: text.into(), partial, place: None })
    }

    fn merged(logs: Vec<Vec<io::Result<Line>>>) -> String {
        let lines = merge(logs.into_iter().map(Vec::into_iter)).map(|it| {
            let (n, line) = it.unwrap();
            format!("{n}:{}", String::from_utf8(line.bytes).unwrap())
        });
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lines_come_by_time_and_at_the_same_time_by_log() {
        let first = vec![line(1, "a"), line(3, "c"), line(3, "d")];
        let second = vec![line(2, "b"), line(3, "e"), line(9, "f")];
        assert_eq!(merged(vec![first, second]), "0:a 1:b 0:c 0:d 1:e 1:f");
    }

    #[test]
    fn the_order_within_a_log_survives_a_clock_that_was_set_back() {
        let first = vec![line(100, "a"), line(5, "b"), line(6, "c")];
        let second = vec![line(50, "x"), line(101, "y")];
        assert_eq!(merged(vec![first, second]), "1:x 0:a 0:b 0:c 1:y");
    }

    #[test]
    fn a_line_without_a_time_follows_the_one_before_it() {
        let first = vec![line(None, "a"), line(7, "b"), line(None, "c")];
        let second = vec![line(3, "x"), line(8, "y")];
        assert_eq!(merged(vec![first, second]), "0:a 1:x 0:b 0:c 1:y");
    }

    #[test]
    fn the_pieces_of_a_line_stay_together() {
        let first = vec![line(1, "a…"), line(5, "a…"), line(9, "a")];
        let second = vec![line(2, "x")];
        assert_eq!(merged(vec![first, second]), "0:a 0:a 0:a 1:x");
    }

    #[test]
    fn an_error_comes_out_and_the_other_logs_go_on() {
        let first = vec![Err(io::ErrorKind::InvalidData.into())];
        let second = vec![line(2, "x")];
        let found: Vec<_> =
            merge([first.into_iter(), second.into_iter()]).map(|it| it.is_ok()).collect();
        assert_eq!(found, [false, true]);
    }
}
