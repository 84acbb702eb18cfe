//! Which presses of a key are an operator's, and which are a key that is held down.
//!
//! A terminal tells neither that a key was released nor that it repeats. What repeats by itself comes after a first
//! pause of 250 to 660 ms (Linux console, Windows, GNOME, KDE, X.Org's `xset r rate`), then every 25 to 100 ms. So the
//! same key without another one in between is a press of its own only when the first pause of any keyboard is over
//! and the key was quiet for a while.

use std::time::Duration;

use super::key::Key;

/// The longest first pause that keyboards come with.
const FIRST: Duration = Duration::from_millis(700);
/// What repeats is never so far apart.
const QUIET: Duration = Duration::from_millis(250);
/// A press that another one follows within this time was the first repetition of a keyboard with a longer pause.
pub const ALONE: Duration = Duration::from_millis(150);

/// The key that came last.
#[derive(Debug, Default)]
pub struct Presses {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    key: Key,
    /// When it was pressed, and when it came last since.
    pressed: Duration,
    came: Duration,
    /// It may be held down; surely it is.
    repeats: bool,
    is_rapid: bool,
}

impl Presses {
    /// Takes notice of a key.
    pub fn came(&mut self, key: Key, now: Duration) {
        match self.last.as_mut().filter(|it| it.key == key) {
            Some(last) if now < (last.pressed + FIRST).max(last.came + QUIET) => {
                last.is_rapid = now < last.came + QUIET;
                (last.came, last.repeats) = (now, true);
            }
            _ => {
                let (pressed, came) = (now, now);
                self.last = Some(Last { key, pressed, came, repeats: false, is_rapid: false });
            }
        }
    }

    /// The key that came last may be the one before it, held down.
    pub fn is_repeat(&self) -> bool {
        self.last.as_ref().is_some_and(|it| it.repeats)
    }

    /// The key that came last came so soon after it had come before that nobody pressed it twice.
    pub fn is_rapid(&self) -> bool {
        self.last.as_ref().is_some_and(|it| it.is_rapid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these presses of one key, in milliseconds, count.
    fn counted(at: &[u64]) -> Vec<u64> {
        let mut presses = Presses::default();
        let mut counted = vec![];
        for ms in at {
            presses.came(Key::char('X'), Duration::from_millis(*ms));
            counted.extend((!presses.is_repeat()).then_some(*ms));
        }
        counted
    }

    #[test]
    fn a_held_key_is_one_press_however_long_it_is_held() {
        for (pause, every) in [(250, 33), (500, 30), (660, 40), (690, 100)] {
            let held: Vec<u64> =
                std::iter::once(0).chain((0..100).map(|n| pause + n * every)).collect();
            assert_eq!(counted(&held), [0], "{pause} {every}");
        }
    }

    #[test]
    fn who_taps_again_and_again_gets_through() {
        assert_eq!(counted(&[0, 400, 800, 1200, 1600]), [0, 800, 1600]);
        assert_eq!(counted(&[0, 600, 700, 1000]), [0, 1000]);
        assert_eq!(counted(&[0, 700, 2000]), [0, 700, 2000]);
    }

    #[test]
    fn another_key_in_between_was_typed_by_somebody() {
        let mut presses = Presses::default();
        for (ms, key) in [(0, 't'), (50, 'j'), (100, 't')] {
            presses.came(Key::char(key), Duration::from_millis(ms));
            assert!(!presses.is_repeat(), "{key}");
        }
    }
}
