//! One turn of the fleet: the moment it happens in, and the effects it asks for.
//!
//! A turn is handed down to whatever decides. Nothing is looked up in it except the time and whether
//! processes may be started at all.

use std::time::Duration;

use super::input::{Effect, Extra, Mark, Record};
use super::time::Timestamp;
use super::words::{By, Name};
use crate::quantity;

pub(super) struct Turn {
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
    /// Processes may be started: everything known has been told, and nobody has asked for the end.
    pub(super) open: bool,
}

impl Turn {
    pub(super) fn new(now: Timestamp, open: bool) -> Self {
        Self { now, effects: Vec::new(), open }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Writes a line about a service into the diary.
    pub(super) fn say(
        &mut self,
        service: &Name,
        kind: &'static str,
        by: Option<&By>,
        message: String,
    ) {
        self.tell(service, (kind, by, message), Extra::Nothing);
    }

    /// The same about a rollout that comes from one step to another.
    pub(super) fn say_step(
        &mut self,
        service: &Name,
        by: &By,
        (instance, step): (&Name, &'static str),
        message: String,
    ) {
        let mark = Mark::Step { instance: instance.clone(), step };
        self.tell(service, ("rollout-step", Some(by), message), Extra::Rollout(mark));
    }

    pub(super) fn tell(
        &mut self,
        service: &Name,
        (kind, by, message): (&'static str, Option<&By>, String),
        extra: Extra,
    ) {
        self.push(Effect::Record(Record {
            kind,
            service: Some(service.clone()),
            instance: None,
            by: by.cloned(),
            message,
            with_evidence: false,
            extra,
        }));
    }
}

/// A setting as the screens show it: `10s`, `0.5s`, `2m05s`, `3h12m`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 || duration.subsec_millis() == 0 {
        quantity::span(seconds)
    } else {
        elapsed(duration)
    }
}

/// A measured time, with its tenths even where they are zero: `3.0s`.
pub(super) fn elapsed(duration: Duration) -> String {
    if duration >= Duration::from_secs(60) {
        return span(duration);
    }
    format!("{:.1}s", duration.as_secs_f64())
}

/// Chance for the jitter of backoffs: splitmix64, so that the fleet needs no crate and no entropy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The duration give or take up to a fifth.
    pub(super) fn jitter(&mut self, duration: Duration) -> Duration {
        // 53 bits are what an f64 holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit into an f64")]
        let share = (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        duration.mul_f64(0.8 + 0.4 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let texts = [0, 500, 1_000, 10_000, 59_900, 60_000, 125_000, 3_600_000, 11_520_000]
            .map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(texts, ["0s", "0.5s", "1s", "10s", "59.9s", "1m00s", "2m05s", "1h00m", "3h12m"]);
        assert_eq!(elapsed(Duration::from_millis(3_004)), "3.0s");
        assert_eq!(elapsed(Duration::from_secs(61)), "1m01s");
    }

    /// The first outputs for the seed 1234567 as published with the reference implementation.
    #[test]
    fn the_dice_are_splitmix64() {
        let mut dice = Dice::new(1_234_567);
        assert_eq!(
            [dice.roll(), dice.roll()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_uses_all_of_it() {
        let mut dice = Dice::new(1);
        let rolls: Vec<f64> =
            (0..1000).map(|_| dice.jitter(Duration::from_secs(10)).as_secs_f64()).collect();
        assert!(rolls.iter().all(|it| (8.0..=12.0).contains(it)));
        assert!(rolls.iter().any(|it| *it < 8.2) && rolls.iter().any(|it| *it > 11.8));
    }
}
