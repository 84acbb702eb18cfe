//! When the file is written and loaded.
//!
//! | what changed | when |
//! |---|---|
//! | an operator's order, a rollout, a crash | at once |
//! | only readiness | at once, but at most one reload in five seconds |
//! | nothing that the file would say | never: it is in force already |
//! | nginx has refused | until it takes something: every five seconds, and with the next change that has haste |
//!
//! Times are durations since any fixed moment.

use std::time::Duration;

use super::file::Upstream;

/// From one reload to the next where only readiness has changed.
pub const COALESCE: Duration = Duration::from_secs(5);
/// Until what was refused is tried again.
pub const RETRY: Duration = Duration::from_secs(5);

/// What nginx is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Grows with every change; what is reported names it.
    pub revision: u64,
    /// The newest revision that may not wait for others.
    pub urgent: u64,
    pub upstream: Upstream,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// Ask again then.
    Wait(Duration),
    /// Write this, test it, load it, and say how it went.
    Apply(String),
}

/// The state of one file.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    wanted: Option<Wanted>,
    /// What nginx's workers have read, where that is known.
    in_force: Option<String>,
    /// The newest revision that is in force.
    revision: u64,
    last_reload: Option<Duration>,
    /// nginx has taken nothing since it refused.
    refused: bool,
    retry_at: Option<Duration>,
}

impl Plan {
    /// `in_force`: what an earlier daemon has had loaded.
    pub fn new(in_force: Option<String>) -> Self {
        Self { in_force, ..Self::default() }
    }

    /// Takes what is wanted now. A revision that is known changes nothing.
    pub fn want(&mut self, wanted: &Wanted) {
        if self.wanted.as_ref().is_some_and(|it| it.revision >= wanted.revision) {
            return;
        }
        if self.in_force.as_deref() == Some(&wanted.upstream.render()) {
            self.settle(wanted.revision);
        } else if self.wanted.as_ref().is_some_and(|it| it.urgent < wanted.urgent) {
            self.retry_at = None;
        }
        self.wanted = Some(wanted.clone());
    }

    pub fn next(&self, now: Duration) -> Next {
        let is_due = |it: &&Wanted| it.revision > self.revision || self.refused;
        let Some(wanted) = self.wanted.as_ref().filter(is_due) else { return Next::Nothing };
        let may_wait = wanted.urgent <= self.revision;
        let gathered = self.last_reload.filter(|_| may_wait).map(|it| it + COALESCE);
        match self.retry_at.max(gathered).filter(|it| *it > now) {
            Some(at) => Next::Wait(at),
            None => Next::Apply(wanted.upstream.render()),
        }
    }

    /// Workers run that have read `text`; `revision` is that of [`Plan::wanted`] when it was written.
    pub fn applied(&mut self, now: Duration, revision: u64, text: String) {
        self.in_force = Some(text);
        self.last_reload = Some(now);
        (self.refused, self.retry_at) = (false, None);
        self.settle(revision);
    }

    /// The file is as it was before.
    pub fn refused(&mut self, now: Duration) {
        (self.refused, self.retry_at) = (true, Some(now + RETRY));
    }

    /// Nobody knows what nginx has read.
    pub fn lost(&mut self, now: Duration) {
        self.in_force = None;
        self.refused(now);
    }

    fn settle(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// The newest revision.
    pub fn wanted(&self) -> u64 {
        self.wanted.as_ref().map_or(0, |it| it.revision)
    }

    /// nginx has taken nothing since it refused.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The newest revision that is in force.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Server;
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Readiness has changed, and nothing else since revision 1.
    fn wanted(revision: u64, in_rotation: bool) -> Wanted {
        let server = Server { instance: "web1".into(), in_rotation, ..Server::default() };
        let upstream = Upstream { servers: vec![server], ..Upstream::default() };
        Wanted { revision, urgent: 1, upstream }
    }

    fn ordered(revision: u64, in_rotation: bool) -> Wanted {
        Wanted { urgent: revision, ..wanted(revision, in_rotation) }
    }

    fn text(in_rotation: bool) -> String {
        wanted(1, in_rotation).upstream.render()
    }

    /// One that has loaded revision 1, in which web1 is in, at second 10.
    fn loaded() -> Plan {
        let mut plan = Plan::new(None);
        plan.want(&ordered(1, true));
        assert_eq!(plan.next(at(10)), Next::Apply(text(true)));
        plan.applied(at(10), 1, text(true));
        plan
    }

    #[test]
    fn what_is_in_force_is_not_loaded_again() {
        let mut plan = loaded();
        assert_eq!((plan.next(at(11)), plan.revision()), (Next::Nothing, 1));
        plan.want(&ordered(2, true));
        assert_eq!((plan.next(at(11)), plan.revision()), (Next::Nothing, 2));
    }

    #[test]
    fn what_an_earlier_daemon_has_loaded_is_in_force() {
        let mut plan = Plan::new(Some(text(true)));
        plan.want(&ordered(7, true));
        assert_eq!((plan.next(at(1)), plan.revision()), (Next::Nothing, 7));
    }

    #[test]
    fn an_order_is_carried_out_at_once_and_readiness_waits_five_seconds() {
        let mut plan = loaded();
        plan.want(&ordered(2, false));
        assert_eq!(plan.next(at(11)), Next::Apply(text(false)));

        let mut plan = loaded();
        plan.want(&wanted(2, false));
        assert_eq!(plan.next(at(11)), Next::Wait(at(15)));
        assert_eq!(plan.next(at(15)), Next::Apply(text(false)));
    }

    #[test]
    fn an_order_takes_along_what_waits() {
        let mut plan = loaded();
        plan.want(&wanted(2, false));
        plan.want(&ordered(3, false));
        assert_eq!(plan.next(at(11)), Next::Apply(text(false)));
        plan.applied(at(11), 3, text(false));
        assert_eq!((plan.next(at(12)), plan.revision()), (Next::Nothing, 3));
    }

    #[test]
    fn a_haste_that_was_not_served_is_not_forgotten() {
        let mut plan = loaded();
        // The one in between was never seen.
        plan.want(&Wanted { urgent: 2, ..wanted(3, false) });
        assert_eq!(plan.next(at(11)), Next::Apply(text(false)));
    }

    #[test]
    fn flapping_within_five_seconds_costs_nothing() {
        let mut plan = loaded();
        plan.want(&wanted(2, false));
        plan.want(&wanted(3, true));
        assert_eq!((plan.next(at(11)), plan.revision()), (Next::Nothing, 3));
    }

    #[test]
    fn what_was_refused_is_tried_again_later_or_with_the_next_order() {
        let mut plan = loaded();
        plan.want(&ordered(2, false));
        plan.refused(at(11));
        assert_eq!((plan.next(at(12)), plan.revision()), (Next::Wait(at(16)), 1));
        assert_eq!(plan.next(at(16)), Next::Apply(text(false)));
        plan.want(&ordered(3, false));
        assert_eq!(plan.next(at(12)), Next::Apply(text(false)));
        plan.refused(at(12));
        // Taken back: the old file is in force, but whether nginx takes it again is to be seen.
        plan.want(&ordered(4, true));
        assert_eq!((plan.next(at(12)), plan.revision()), (Next::Wait(at(17)), 4));
        assert_eq!(plan.next(at(17)), Next::Apply(text(true)));
        plan.applied(at(17), 4, text(true));
        assert_eq!((plan.next(at(99)), plan.is_refused()), (Next::Nothing, false));
    }

    #[test]
    fn where_nobody_knows_what_was_read_it_is_loaded_again() {
        let mut plan = loaded();
        plan.want(&ordered(2, false));
        plan.lost(at(11));
        plan.want(&ordered(3, true));
        assert_eq!((plan.next(at(12)), plan.revision()), (Next::Apply(text(true)), 1));
    }
}
