//! What a server's own count of requests leaves out, and what it never forgets, by what the kernel sees.
//!
//! Swoole's `concurrency` counts what came over HTTP alone. From 5.1.5 on it leaves out what the workers finish that a reload
//! replaces; before, it keeps for ever what was in flight in a worker that died.

use std::time::Duration;

use crate::fleet::Timestamp;
use crate::fleet::input::InFlight;
use crate::load::sockets::Pending;

/// So long nothing came or went on the port, and the count did not move: it counts nobody.
const STUCK: Duration = Duration::from_secs(5);

/// What one server has said so far.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Doubt {
    /// It has counted something.
    was_busy: bool,
    /// What it said last, and since when.
    said: Option<(u32, Timestamp)>,
}

impl Doubt {
    fn hear(&mut self, says: u32, now: Timestamp) -> Duration {
        self.was_busy |= says > 0;
        let since = self.said.filter(|it| it.0 == says).map_or(now, |it| it.1);
        self.said = Some((says, since));
        now.since(since)
    }

    /// What a drain waits for.
    pub(in crate::daemon) fn in_drain(
        &mut self,
        says: u32,
        pending: Pending,
        now: Timestamp,
    ) -> InFlight {
        let same = self.hear(says, now);
        let is_stuck = same >= STUCK && pending.unanswered == 0 && pending.quiet >= STUCK;
        InFlight::Exact(if is_stuck { 0 } else { says.max(pending.unanswered) })
    }

    /// What is told of one that goes on. `unanswered`: as somebody saw lately. `reloads`: workers may finish what
    /// they have.
    pub(in crate::daemon) fn on_screen(
        &mut self,
        says: u32,
        unanswered: u32,
        reloads: bool,
        now: Timestamp,
    ) -> InFlight {
        self.hear(says, now);
        match unanswered > says && (reloads || !self.was_busy) {
            true => InFlight::Estimated(unanswered),
            false => InFlight::Exact(says),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn pending(unanswered: u32, quiet: u64) -> Pending {
        Pending { unanswered, quiet: Duration::from_secs(quiet) }
    }

    #[test]
    fn a_drain_waits_for_what_is_not_counted_as_well() {
        let mut it = Doubt::default();
        assert_eq!(it.in_drain(0, pending(2, 0), at(0)), InFlight::Exact(2), "TCP: nothing is");
        assert_eq!(
            it.in_drain(3, pending(2, 0), at(1)),
            InFlight::Exact(3),
            "HTTP/2: on one connection"
        );
        assert_eq!(
            it.in_drain(0, pending(1, 60), at(2)),
            InFlight::Exact(1),
            "an old worker has it"
        );
        assert_eq!(it.in_drain(0, pending(0, 0), at(3)), InFlight::Exact(0));
    }

    #[test]
    fn a_count_that_stays_while_nothing_happens_is_not_waited_for() {
        let mut it = Doubt::default();
        assert_eq!(it.in_drain(1, pending(0, 60), at(0)), InFlight::Exact(1));
        assert_eq!(it.in_drain(1, pending(0, 64), at(4)), InFlight::Exact(1));
        assert_eq!(it.in_drain(1, pending(0, 0), at(5)), InFlight::Exact(1), "an answer in pieces");
        assert_eq!(it.in_drain(1, pending(1, 60), at(6)), InFlight::Exact(1), "somebody waits");
        assert_eq!(it.in_drain(1, pending(0, 60), at(7)), InFlight::Exact(0));
        assert_eq!(it.in_drain(2, pending(0, 60), at(8)), InFlight::Exact(2), "it moves");
    }

    #[test]
    fn one_that_has_never_counted_anything_is_not_believed_on_a_screen() {
        let mut it = Doubt::default();
        assert_eq!(it.on_screen(0, 2, false, at(0)), InFlight::Estimated(2));
        assert_eq!(it.on_screen(0, 0, false, at(1)), InFlight::Exact(0));
        assert_eq!(it.on_screen(1, 0, false, at(2)), InFlight::Exact(1));
        assert_eq!(
            it.on_screen(0, 2, false, at(3)),
            InFlight::Exact(0),
            "the sockets are seen at another moment"
        );
        assert_eq!(it.on_screen(0, 2, true, at(4)), InFlight::Estimated(2), "it reloads");
    }
}
