//! What a server's own count of requests leaves out, and what it never forgets, by what the kernel sees.
//!
//! Swoole's `concurrency` counts what came over HTTP alone. From 5.1.5 on it leaves out what the workers finish that a reload
//! replaces; before, it keeps for ever what was in flight in a worker that died.

use std::time::Duration;

use crate::fleet::Timestamp;
use crate::fleet::input::InFlight;
use crate::load::sockets::Pending;

/// So long nobody was connected, and the count did not move: it counts nobody.
const STUCK: Duration = Duration::from_secs(5);

/// So many answers fail before a server that has nothing to do is taken for one that will never answer.
pub(super) const GIVEN_UP: u32 = 4;

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
        // An answer that pauses looks like a connection that is kept: whoever is connected may wait for one.
        let is_stuck = same >= STUCK && pending.connections == 0;
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

/// What a drain waits for where the server gives no answer in time, for the so-manieth time: it may be too busy
/// with what it has. `before`: as it said last. `None`: it has nothing, or will never answer.
pub(in crate::daemon) fn while_silent(
    before: Option<u32>,
    pending: Option<Pending>,
    failures: u32,
) -> Option<u32> {
    let goes_on = match pending {
        Some(it) => it.unanswered > 0,
        None => before != Some(0),
    };
    let unanswered = pending.map_or(0, |it| it.unanswered);
    (goes_on || failures < GIVEN_UP).then(|| before.unwrap_or(0).max(unanswered).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn pending(unanswered: u32, connections: u32) -> Pending {
        Pending { unanswered, connections }
    }

    #[test]
    fn a_drain_waits_for_what_is_not_counted_as_well() {
        let mut it = Doubt::default();
        let old_worker = "an old worker has it";
        assert_eq!(it.in_drain(0, pending(2, 2), at(0)), InFlight::Exact(2), "TCP: nothing is");
        assert_eq!(
            it.in_drain(3, pending(2, 2), at(1)),
            InFlight::Exact(3),
            "HTTP/2: on one connection"
        );
        assert_eq!(it.in_drain(0, pending(1, 4), at(2)), InFlight::Exact(1), "{old_worker}");
        assert_eq!(it.in_drain(0, pending(0, 9), at(3)), InFlight::Exact(0));
    }

    #[test]
    fn a_count_that_stays_though_nobody_is_connected_is_not_waited_for() {
        let mut it = Doubt::default();
        assert_eq!(it.in_drain(1, pending(0, 0), at(0)), InFlight::Exact(1));
        assert_eq!(it.in_drain(1, pending(0, 0), at(4)), InFlight::Exact(1));
        assert_eq!(
            it.in_drain(1, pending(0, 1), at(60)),
            InFlight::Exact(1),
            "an answer that pauses"
        );
        assert_eq!(it.in_drain(1, pending(0, 0), at(61)), InFlight::Exact(0));
        assert_eq!(it.in_drain(2, pending(0, 0), at(62)), InFlight::Exact(2), "it moves");
    }

    #[test]
    fn a_server_without_an_answer_is_waited_for_while_somebody_waits_for_one_too() {
        let late = GIVEN_UP;
        assert_eq!(while_silent(None, None, 0), Some(1), "all its workers may be busy");
        assert_eq!(while_silent(None, Some(pending(2, 2)), 0), Some(2));
        assert_eq!(while_silent(Some(3), Some(pending(2, 2)), 90), Some(3), "until the reserve");
        assert_eq!(
            while_silent(Some(3), Some(pending(0, 2)), late),
            None,
            "nobody waits: it hangs"
        );
        assert_eq!(while_silent(Some(3), None, 90), Some(3), "nobody can tell");
        assert_eq!(while_silent(Some(0), None, late), None);
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
