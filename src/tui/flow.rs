//! How much of what was written the terminal has not shown yet, as far as it tells.
//!
//! Between the deck and the glass lie buffers that nobody can look into: the pseudo-terminal's, SSH's,
//! those of every router of a slow link. What waits in them makes a key feel dead. So a frame ends with
//! a question that every terminal answers (DSR, ECMA-48 §8.3.35), and until the answer is there at most
//! `WINDOW` is on the way, or `URGENT` where an operator waits for it. A terminal that never answers
//! is not waited for; what nobody asked for goes there no faster than the slowest link takes it.
//!
//! Where the answers tell that the line is slow, a frame goes in pieces: a key that comes meanwhile is
//! behind one of them and not behind a whole frame.

use std::collections::VecDeque;
use std::time::Duration;

use super::pace::FRAME;
use super::rate::{self, Rate};

/// "Are you well?" The answer is `ESC [ 0 n`.
pub const MARK: &[u8] = b"\x1b[5n";

/// Bytes that may be on the way when a frame begins: the ticks of clocks and countdowns.
const WINDOW: usize = 1024;
/// The same for a key's frame, about a screen of 80 by 24.
const URGENT: usize = 4096;
/// A line that takes more bytes a second takes frames whole.
const FAST: usize = 64 * 1024;
/// A piece of a frame at least, so that what is around it does not outweigh it.
const PIECE: usize = 160;
/// So many bytes are worth a question.
const WORTH: usize = 512;
/// What was written so long ago is through, unless the terminal owes an answer.
const QUIET: Duration = Duration::from_millis(900);
/// An answer that takes longer is lost.
const LATE: Duration = Duration::from_secs(3);
/// Bytes a second for a terminal that does not tell how much it takes: 64 kbit/s.
const UNTOLD: u32 = 8 * 1024;
/// Whatever an operator had drawn there, what happens is shown so soon after it.
const LONGEST: Duration = Duration::from_secs(1);

/// Questions that wait for their answer.
#[derive(Debug, Default)]
pub struct Flow {
    /// Oldest first.
    asked: VecDeque<Asked>,
    rate: Rate,
    /// Bytes since the last question.
    unmarked: usize,
    last: Duration,
    /// When a link of `UNTOLD` has taken everything.
    taken: Duration,
    /// This terminal answers.
    answers: bool,
    /// Questions so far, and how many of them are settled.
    count: u64,
    settled: u64,
}

#[derive(Debug)]
struct Asked {
    at: Duration,
    /// How many bytes its answer is good for.
    bytes: usize,
    /// How many the line had to take before it.
    queue: usize,
}

impl Flow {
    /// How many bytes may be written at once.
    pub fn room(&self) -> usize {
        match self.rate.per_second().filter(|it| self.answers && *it < FAST) {
            Some(it) => rate::in_time(it, FRAME).max(PIECE),
            None => usize::MAX,
        }
    }

    /// When the next frame may be written, if no answer comes before.
    pub fn ready_at(&self, urgent: bool) -> Duration {
        let limit = if urgent { URGENT } else { WINDOW };
        let on_the_way: usize = self.asked.iter().map(|it| it.bytes).sum();
        match self.asked.front() {
            Some(it) if self.answers && on_the_way + self.unmarked > limit => it.at + LATE,
            _ if !self.answers && !urgent => self.taken,
            _ => Duration::ZERO,
        }
    }

    /// Takes note of a frame and ends it with a question where one is due or asked for. Returns the
    /// number of the question, for [`Flow::is_settled`].
    pub fn frame(&mut self, now: Duration, bytes: &mut Vec<u8>, ask: bool) -> Option<u64> {
        if self.asked.front().is_some_and(|it| now >= it.at + LATE) && self.answers {
            self.forget();
        }
        if now >= self.last + QUIET && self.asked.is_empty() {
            self.unmarked = 0;
        }
        self.last = now;
        if !self.answers {
            let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let taken = self.taken.max(now) + Duration::from_secs(1) * count / UNTOLD;
            self.taken = taken.min(now + LONGEST);
        }
        self.unmarked += bytes.len();
        let queue = self.rate.wrote(now, bytes.len());
        // Whether it answers at all is found out with one question.
        let due = (ask || self.unmarked >= WORTH) && (self.answers || self.asked.is_empty());
        if !due {
            return None;
        }
        bytes.extend_from_slice(MARK);
        self.asked.push_back(Asked { at: now, bytes: std::mem::take(&mut self.unmarked), queue });
        self.count += 1;
        self.answers.then_some(self.count)
    }

    /// An answer came.
    pub fn answered(&mut self, now: Duration) {
        self.answers = true;
        self.taken = Duration::ZERO;
        if let Some(it) = self.asked.pop_front() {
            self.settled += 1;
            self.rate.answered(it.queue, now.saturating_sub(it.at));
        }
    }

    /// What was written up to this question is on the screen, or nobody will ever tell.
    pub fn is_settled(&self, question: u64) -> bool {
        question <= self.settled
    }

    /// When an answer that is still out counts as lost.
    pub fn late_at(&self) -> Option<Duration> {
        self.asked.front().map(|it| it.at + LATE)
    }

    /// An answer may still come, to whoever reads the terminal then.
    pub fn is_owed(&self, now: Duration) -> bool {
        self.asked.iter().any(|it| self.answers || now < it.at + LATE)
    }

    /// The answers that are out will not come: somebody else had the terminal, or they are late.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.rate = Rate::default();
        self.unmarked = 0;
        self.taken = Duration::ZERO;
        self.answers = false;
        self.settled = self.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn write(flow: &mut Flow, at: u64, bytes: usize) -> bool {
        let mut frame = vec![b'x'; bytes];
        flow.frame(ms(at), &mut frame, false);
        frame.ends_with(MARK)
    }

    fn answering() -> Flow {
        let mut flow = Flow::default();
        assert!(write(&mut flow, 0, 3000));
        flow.answered(ms(0));
        flow
    }

    #[test]
    fn a_terminal_that_never_answers_is_asked_once_and_no_key_waits_for_it() {
        let mut flow = Flow::default();
        assert!(write(&mut flow, 0, 3000));
        for n in 1..100 {
            assert_eq!(flow.ready_at(true), ms(0));
            assert!(!write(&mut flow, n * 33, 3000));
        }
    }

    #[test]
    fn what_nobody_asked_for_goes_slowly_to_a_terminal_that_does_not_answer() {
        let mut flow = Flow::default();
        let (mut at, mut bytes) = (0, 0);
        while at < 10_000 {
            write(&mut flow, at, 2048);
            bytes += 2048;
            at = u64::try_from(flow.ready_at(false).as_millis()).unwrap();
        }
        assert_eq!(bytes, 10 * 8192);
        // Held keys draw what they want, and hold nothing up for longer than a moment.
        (0..300).for_each(|n| _ = write(&mut flow, 10_000 + n * 33, 4096));
        assert!(flow.ready_at(false) <= ms(10_000 + 300 * 33 + 1000));
        flow.answered(ms(0));
        assert_eq!(flow.ready_at(false), ms(0), "and once it answers as fast as it takes it");
    }

    #[test]
    fn frames_wait_for_the_answer_and_a_key_may_go_one_frame_further() {
        let mut flow = answering();
        assert_eq!(flow.ready_at(false), ms(0));
        assert!(write(&mut flow, 100, 3000));
        assert!(flow.ready_at(false) > ms(200));
        assert_eq!(flow.ready_at(true), ms(0));
        assert!(write(&mut flow, 150, 3000));
        assert!(flow.ready_at(true) > ms(200), "only one");
        flow.answered(ms(0));
        assert_eq!(flow.ready_at(true), ms(0));
        flow.answered(ms(0));
        assert_eq!(flow.ready_at(false), ms(0));
    }

    #[test]
    fn a_clock_at_rest_asks_nothing_and_a_stream_of_small_frames_does() {
        let mut flow = answering();
        assert!((1..600).all(|n| !write(&mut flow, n * 1000, 40)));
        assert!((1..40).any(|n| write(&mut flow, 600_000 + n * 100, 100)));
    }

    #[test]
    fn a_lost_answer_holds_nothing_up_for_ever() {
        let mut flow = answering();
        assert!(write(&mut flow, 1000, 3000));
        assert_eq!(flow.ready_at(false), ms(4000));
        assert!(write(&mut flow, 4000, 3000), "it is asked again");
        assert_eq!(flow.ready_at(true), ms(0));
        flow.answered(ms(0));
        assert_eq!(flow.ready_at(false), ms(0), "and trusted once it answers");
        assert!(write(&mut flow, 4100, 3000));
        assert!(flow.ready_at(false) > ms(4200));
    }

    #[test]
    fn a_question_is_settled_by_its_answer_or_by_giving_up() {
        let mut flow = answering();
        let mut small = vec![b'x'; 10];
        let question = flow.frame(ms(10), &mut small, true).unwrap();
        assert!(!flow.is_settled(question));
        flow.answered(ms(0));
        assert!(flow.is_settled(question));
        let question = flow.frame(ms(20), &mut small, true).unwrap();
        flow.forget();
        assert!(flow.is_settled(question));
        assert!(!flow.is_owed(ms(30)));
    }

    /// A line that takes 8 KiB a second, 300 ms each way, and a terminal that answers.
    struct Line {
        flow: Flow,
        now: u64,
        /// When the line has taken everything.
        busy: u64,
        answers: VecDeque<u64>,
    }

    impl Line {
        fn write(&mut self, bytes: usize) {
            let asked = self.flow.asked.len();
            let mut frame = vec![b'x'; bytes];
            self.flow.frame(ms(self.now), &mut frame, self.now == 0);
            self.busy = self.busy.max(self.now) + u64::try_from(bytes).unwrap() * 1000 / 8192;
            if self.flow.asked.len() > asked {
                self.answers.push_back(self.busy + 600);
            }
        }

        fn pass(&mut self, time: u64) {
            self.now += time;
            while let Some(at) = self.answers.pop_front_if(|at| *at <= self.now) {
                self.flow.answered(ms(at));
            }
        }
    }

    #[test]
    fn on_a_slow_line_nothing_is_ever_behind_more_than_a_piece() {
        let mut line = Line { flow: Flow::default(), now: 0, busy: 0, answers: VecDeque::new() };
        line.write(0);
        // The first frames are whole: nobody knows the line yet.
        [3000, 1000].iter().for_each(|bytes| {
            line.pass(1500);
            line.write(*bytes);
        });
        line.pass(1500);
        let mut written = 0;
        for frame in 0..40 {
            let mut left = 1500 + frame * 20;
            while line.flow.ready_at(false) > ms(line.now) {
                line.pass(33);
            }
            while left > 0 {
                let piece = left.min(line.flow.room());
                line.write(piece);
                let behind = line.busy.saturating_sub(line.now);
                assert!(behind < 100, "a key would wait for {behind} ms at {}", line.now);
                (left, written) = (left - piece, written + piece);
                line.pass(33);
            }
        }
        let rate = written * 1000 / usize::try_from(line.now).unwrap();
        assert!(rate > 1500, "{rate} bytes a second are left of 8192");
    }
}
