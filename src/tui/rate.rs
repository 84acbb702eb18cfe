//! How much a second the line to the terminal takes, told by how long answers take.
//!
//! An answer takes the way there and back, and the time in which the line takes the bytes before the
//! question. The way is in every answer and the bytes are known: two answers to unequal amounts tell
//! the rate. One that the terminal was late with counts as little as any other.

use std::collections::VecDeque;
use std::time::Duration;

/// Answers that are remembered, and how many of them are asked for the rate.
const MEMORY: usize = 32;
const ASKED: usize = 7;
/// Amounts that differ by less tell nothing.
const UNEQUAL: usize = 128;

/// What is known of a line.
#[derive(Debug, Default)]
pub struct Rate {
    /// Bytes that the line had to take, and how long the answer took. Oldest first.
    seen: VecDeque<(usize, Duration)>,
    /// Bytes that the line was busy with, when that was.
    queue: (usize, Duration),
    per_second: Option<usize>,
}

impl Rate {
    /// Bytes a second, once answers tell.
    pub fn per_second(&self) -> Option<usize> {
        self.per_second
    }

    /// So many bytes were written. Returns how many the line has to take by now.
    pub fn wrote(&mut self, now: Duration, bytes: usize) -> usize {
        let (before, at) = self.queue;
        let taken = self.per_second.map_or(usize::MAX, |it| in_time(it, now.saturating_sub(at)));
        self.queue = (before.saturating_sub(taken) + bytes, now);
        self.queue.0
    }

    /// An answer took so long, with so many bytes before its question.
    pub fn answered(&mut self, bytes: usize, took: Duration) {
        self.seen.push_back((bytes, took));
        self.seen.drain(..self.seen.len().saturating_sub(MEMORY));
        // Equal amounts tell nothing new.
        self.per_second = self.measure().or(self.per_second);
    }

    /// The middle of what the last answers say beside the fastest one.
    fn measure(&self) -> Option<usize> {
        let (least, way) = self.seen.iter().min_by_key(|it| it.1)?;
        let larger = self.seen.iter().rev().filter(|it| it.0 >= least + UNEQUAL);
        let rate = |(bytes, took): &(usize, Duration)| {
            let us = took.saturating_sub(*way).as_micros().max(1);
            let bytes = u128::try_from(bytes - least).unwrap_or(0);
            usize::try_from(bytes * 1_000_000 / us).unwrap_or(usize::MAX)
        };
        let mut rates: Vec<usize> = larger.take(ASKED).map(rate).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied()
    }
}

/// What goes over a line of this rate in this time.
pub fn in_time(per_second: usize, time: Duration) -> usize {
    let bytes = per_second as u128 * time.as_micros() / 1_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn two_unequal_answers_tell_the_rate_and_one_late_answer_does_not_spoil_it() {
        let mut rate = Rate::default();
        rate.answered(16, ms(602));
        assert_eq!(rate.per_second(), None);
        (0..3).for_each(|_| rate.answered(2016, ms(852)));
        assert_eq!(rate.per_second(), Some(8000));
        rate.answered(2016, ms(4000));
        assert_eq!(rate.per_second(), Some(8000));
    }

    #[test]
    fn a_long_way_is_no_slow_line() {
        let mut rate = Rate::default();
        rate.answered(16, ms(300));
        rate.answered(4016, ms(301));
        assert!(rate.per_second().unwrap() > 1_000_000);
    }

    #[test]
    fn what_the_line_is_still_busy_with_counts() {
        let mut rate = Rate::default();
        assert_eq!(rate.wrote(ms(0), 500), 500);
        assert_eq!(rate.wrote(ms(1), 500), 500, "nobody knows");
        rate.answered(0, ms(600));
        rate.answered(1000, ms(725));
        assert_eq!(rate.wrote(ms(1000), 500), 500);
        assert_eq!(rate.wrote(ms(1025), 500), 800);
        assert_eq!(rate.wrote(ms(1225), 500), 500);
    }
}
