//! When the next frame may be drawn: at most thirty a second, and a key is never made to wait for
//! frames that nobody asked for.
//!
//! A lone change is drawn at once, a burst of them costs one frame per [`FRAME`]. What an operator
//! did is drawn at once even right after such a frame, as long as the thirty a second hold over a
//! short while: three frames may be borrowed.

use std::time::Duration;

/// The time of one of thirty frames a second.
pub const FRAME: Duration = Duration::from_millis(33);

const BORROWED: u32 = 3;

/// When frames were drawn, as far as it matters.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Duration>,
    /// The frames drawn so far are paid for from this moment on.
    paid: Duration,
}

impl Pace {
    /// When a frame may be drawn; `urgent` for what an operator did.
    pub fn ready_at(&self, urgent: bool) -> Duration {
        let last = self.last.map_or(Duration::ZERO, |at| at + FRAME);
        if urgent { self.paid.saturating_sub(FRAME * (BORROWED - 1)).min(last) } else { last }
    }

    /// A frame was drawn.
    pub fn drew(&mut self, at: Duration) {
        self.last = Some(at);
        self.paid = self.paid.max(at) + FRAME;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_costs_one_frame_and_a_key_does_not_wait_for_it() {
        let mut pace = Pace::default();
        assert!(pace.ready_at(false) <= ms(1000));
        pace.drew(ms(1000));
        assert_eq!(pace.ready_at(false), ms(1033));
        assert!(pace.ready_at(true) <= ms(1001));
    }

    #[test]
    fn a_stream_of_keys_is_held_to_thirty_frames_a_second() {
        let mut pace = Pace::default();
        let mut frames = 0;
        for at in (1000..2000).map(ms) {
            if pace.ready_at(true) <= at {
                pace.drew(at);
                frames += 1;
            }
        }
        assert!((30..=33).contains(&frames), "{frames}");
    }

    proptest! {
        #[test]
        fn whoever_asks_there_are_never_more(asks in prop::collection::vec((0u64..50, any::<bool>()), 1..300)) {
            let mut pace = Pace::default();
            let mut at = ms(0);
            let mut drawn = vec![];
            for (gap, urgent) in asks {
                at = (at + ms(gap)).max(pace.ready_at(urgent));
                pace.drew(at);
                drawn.push(at);
            }
            for window in drawn.windows(34) {
                prop_assert!(window[33] - window[0] >= ms(990), "34 frames within a second");
            }
        }
    }
}
