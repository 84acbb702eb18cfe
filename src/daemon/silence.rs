//! Whether a process of ours that lives still answers.
//!
//! The death of one is seen by the end of its connection; one that hangs keeps that open. So it is asked when nothing
//! was heard for a while, told of when it does not answer, and killed in the end: the next one begins at once.
//!
//! Only time in which it could have answered counts. A look that comes late counts as one that was in time: it is this
//! process that was late, or the whole machine. And whoever waits in the kernel for a disk cannot even be killed, and
//! the next one would wait for the same disk: that time is told, and ends nothing.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::{clock, mute};
use crate::fleet::Timestamp;
use crate::process::Identity;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Nothing was heard for so long: it is asked.
const ASK: Duration = Duration::from_secs(2);
/// The question has waited for so long: it is told.
const TELL: Duration = Duration::from_secs(5);
/// And for so long: it is killed.
const END: Duration = Duration::from_secs(15);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    Ask,
    /// It has not answered for a while. `held`: it waits for a disk.
    Tell {
        held: bool,
    },
    End,
}

/// What was heard, and not heard, of one of them.
#[derive(Debug)]
struct Silence {
    looked: Timestamp,
    /// Since something was heard, or since it was asked.
    quiet: Duration,
    /// As much of it could have been an answer.
    free: Duration,
    is_asked: bool,
    is_told: bool,
}

impl Silence {
    fn new(now: Timestamp) -> Self {
        let (quiet, free) = (Duration::ZERO, Duration::ZERO);
        Self { looked: now, quiet, free, is_asked: false, is_told: false }
    }

    /// Something was heard. Returns whether the silence had been told.
    fn heard(&mut self) -> bool {
        let was_told = self.is_told;
        *self = Self::new(self.looked);
        was_told
    }

    /// One look; `is_held`, whether it waits for a disk, is asked only when an answer is due.
    fn look(&mut self, now: Timestamp, is_held: impl FnOnce() -> bool) -> Verdict {
        let passed = now.since(self.looked).min(LOOK);
        self.looked = now;
        self.quiet += passed;
        if !self.is_asked {
            if self.quiet < ASK {
                return Verdict::Nothing;
            }
            *self = Self { is_asked: true, ..Self::new(now) };
            return Verdict::Ask;
        }
        let held = is_held();
        if !held {
            self.free += passed;
        }
        if self.free >= END {
            return Verdict::End;
        }
        if self.quiet < TELL || self.is_told {
            return Verdict::Nothing;
        }
        self.is_told = true;
        Verdict::Tell { held }
    }
}

/// Looks after one of them for as long as it is talked to.
#[derive(Debug)]
pub(super) struct Watch {
    silence: Silence,
    looks: Interval,
    who: Option<Identity>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { silence: Silence::new(clock::now()), looks, who: None }
    }

    /// It is known who it is.
    pub(super) fn is_of(&mut self, who: Option<Identity>) {
        self.who = who;
    }

    pub(super) fn who(&self) -> Option<Identity> {
        self.who
    }

    pub(super) fn heard(&mut self) -> bool {
        self.silence.heard()
    }

    /// The next look. What has arrived is to be read first.
    pub(super) async fn look(&mut self) -> Verdict {
        self.looks.tick().await;
        let who = self.who;
        self.silence.look(clock::now(), || who.is_some_and(mute::is_held))
    }
}

/// `has not answered for 5 s`, and why.
pub(super) fn words(held: bool) -> String {
    let why = if held { ": it waits for a disk" } else { "" };
    format!("has not answered for {} s{why}", TELL.as_secs())
}

/// How one is told of that was killed.
pub(super) fn last_words() -> String {
    format!("it did not answer for {} s and was killed", END.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    /// The looks of some seconds, a second each, with what came of them; `held` from one second to another.
    fn seconds(
        it: &mut Silence,
        span: std::ops::Range<u64>,
        held: std::ops::Range<u64>,
    ) -> Vec<(u64, Verdict)> {
        let looks = span.map(|n| (n, it.look(at(n * 1000), || held.contains(&n))));
        looks.filter(|it| it.1 != Verdict::Nothing).collect()
    }

    #[test]
    fn one_that_hangs_is_asked_told_and_ended() {
        let mut it = Silence::new(at(0));
        let (ask, tell) = (Verdict::Ask, Verdict::Tell { held: false });
        assert_eq!(seconds(&mut it, 1..18, 0..0), [(2, ask), (7, tell), (17, Verdict::End)]);
    }

    #[test]
    fn whoever_answers_is_asked_again_and_never_told() {
        let mut it = Silence::new(at(0));
        for n in 1..100 {
            let verdict = it.look(at(n * 1000), || false);
            assert!(matches!(verdict, Verdict::Nothing | Verdict::Ask), "{verdict:?}");
            if n % 6 == 0 {
                // Four seconds after the question.
                assert!(!it.heard());
            }
        }
    }

    #[test]
    fn whoever_speaks_by_himself_is_not_asked() {
        let mut it = Silence::new(at(0));
        for n in 1..100 {
            assert_eq!(it.look(at(n * 1000), || panic!("no answer is due")), Verdict::Nothing);
            it.heard();
        }
    }

    #[test]
    fn an_answer_at_last_is_told_once_and_begins_anew() {
        let mut it = Silence::new(at(0));
        seconds(&mut it, 1..16, 0..0);
        assert!(it.heard());
        assert!(!it.heard());
        assert_eq!(seconds(&mut it, 16..22, 0..0), [(17, Verdict::Ask)]);
    }

    #[test]
    fn looks_that_come_late_are_nobodys_silence() {
        let mut it = Silence::new(at(0));
        seconds(&mut it, 1..3, 0..0);
        // This process stood still for an hour: all of that is one look.
        assert_eq!(it.look(at(3_600_000), || false), Verdict::Nothing);
        // A machine on which each look is five seconds late.
        for n in 1..4 {
            assert_eq!(it.look(at(3_600_000 + n * 6000), || false), Verdict::Nothing);
        }
        assert_eq!(it.look(at(3_624_000), || false), Verdict::Tell { held: false });
    }

    #[test]
    fn whoever_waits_for_a_disk_is_told_of_and_not_ended() {
        let mut it = Silence::new(at(0));
        let told = (7, Verdict::Tell { held: true });
        assert_eq!(seconds(&mut it, 1..600, 3..600), [(2, Verdict::Ask), told]);
        // Once it could go on it has its time.
        assert_eq!(seconds(&mut it, 600..615, 0..0), [(614, Verdict::End)]);
    }
}
