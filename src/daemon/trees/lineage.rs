//! Which reload the processes of a tree come from, as far as this daemon has watched.
//!
//! Noted right before the signal of each reload that is watched. A process is of the reload before whose
//! signal it was not there; `/proc` counts starts in hundredths of a second, so who was there is kept too.

use crate::fleet::{Process, Timestamp};
use crate::process::stat;

/// Reloads that are kept of one leader; of older ones only their number.
const MOST: usize = 1000;

/// The reloads of one leader.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Lineage {
    leader: Process,
    reloads: Vec<Reload>,
    forgotten: u64,
    /// Whom the last one replaces.
    before: Vec<Process>,
    /// One that was begun while the last one was under way.
    doubt: Option<Doubt>,
}

/// A server that is at it may not hear the signal again. It did if those have to go too that the reload before
/// has brought.
#[derive(Clone, Debug)]
struct Doubt {
    reload: Reload,
    brought: Vec<Process>,
}

#[derive(Clone, Debug)]
struct Reload {
    /// Clock ticks since boot.
    at: u64,
    /// Whom it renews; empty: all that are renewed by any.
    roles: Vec<String>,
}

impl Lineage {
    pub(in crate::daemon) fn new(leader: Process) -> Self {
        Self { leader, reloads: vec![], forgotten: 0, before: vec![], doubt: None }
    }

    pub(in crate::daemon) fn is_of(&self, leader: Process) -> bool {
        self.leader == leader
    }

    /// A reload of these roles begins; `before` are there, and are to go.
    pub(in crate::daemon) fn begin(
        &mut self,
        now: Timestamp,
        roles: &[String],
        before: &[Process],
    ) {
        self.doubt = None;
        self.push(Reload { at: stat::ticks_of(now.0), roles: roles.to_vec() });
        self.before = before.to_vec();
    }

    /// The signal of one that is under way was sent again; of those who are there `left` are to go still.
    pub(in crate::daemon) fn begin_again(
        &mut self,
        now: Timestamp,
        roles: &[String],
        left: &[Process],
        there: &[Process],
    ) {
        let reload = Reload { at: stat::ticks_of(now.0), roles: roles.to_vec() };
        let brought = there.iter().filter(|it| !left.contains(it)).copied().collect();
        self.doubt = Some(Doubt { reload, brought });
        self.before = left.to_vec();
    }

    /// Who is there now: once all have gone that were to go, the others tell whether the second signal was heard.
    pub(in crate::daemon) fn look(&mut self, there: &[Process]) {
        if self.before.iter().any(|it| there.contains(it)) {
            return;
        }
        let Some(Doubt { reload, brought }) = self.doubt.take() else { return };
        if !brought.iter().any(|it| there.contains(it)) {
            self.push(reload);
        }
    }

    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.reloads.is_empty()
    }

    fn push(&mut self, reload: Reload) {
        if self.reloads.len() == MOST {
            self.reloads.remove(0);
            self.forgotten += 1;
        }
        self.reloads.push(reload);
    }

    /// 1 for a process that was there before the first reload of its role, and one more for each after
    /// which it came.
    pub(in crate::daemon) fn generation(&self, role: &str, process: Process) -> u64 {
        let was_there = self.before.contains(&process);
        let last = self.reloads.len().wrapping_sub(1);
        let came_after = |(n, it): &(usize, &Reload)| {
            let renews = it.roles.is_empty() || it.roles.iter().any(|it| it == role);
            renews && process.start_time >= it.at && !(*n == last && was_there)
        };
        let after = self.reloads.iter().enumerate().filter(came_after).count();
        1 + self.forgotten + u64::try_from(after).unwrap_or(0)
    }

    /// The last reload replaces it.
    pub(in crate::daemon) fn is_replaced(&self, process: Process) -> bool {
        self.before.contains(&process)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn process(pid: i32, start_time: u64) -> Process {
        Process { pid, start_time }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    #[test]
    fn a_process_is_of_the_reload_after_which_it_came() {
        let mut it = Lineage::new(process(1, 100));
        let of = |it: &Lineage, pid, start| it.generation("worker", process(pid, start));
        assert_eq!(of(&it, 2, 110), 1);

        it.begin(at(2000), &[], &[process(2, 110), process(3, 200)]);
        assert_eq!((of(&it, 2, 110), of(&it, 4, 201)), (1, 2));
        assert_eq!((of(&it, 3, 200), of(&it, 5, 200)), (1, 2), "in the same tick");
        assert!(it.is_replaced(process(2, 110)) && !it.is_replaced(process(4, 201)));

        it.begin(at(3000), &["task worker".into()], &[process(6, 201)]);
        assert_eq!((of(&it, 4, 201), of(&it, 7, 400)), (2, 2), "it renews others");
        assert_eq!(it.generation("task worker", process(8, 400)), 3);
        assert!(!it.is_replaced(process(2, 110)));
    }

    #[test]
    fn a_second_signal_counts_once_those_are_gone_that_the_first_had_brought() {
        let (old, other, new) = (process(2, 110), process(3, 110), process(4, 201));
        let begun = || {
            let mut it = Lineage::new(process(1, 100));
            it.begin(at(2000), &[], &[old, other]);
            it.begin_again(at(3000), &[], &[other], &[other, new]);
            it
        };
        let of = |it: &Lineage, process| it.generation("worker", process);
        let (late, later) = (process(5, 310), process(6, 320));

        let mut unheard = begun();
        assert_eq!((of(&unheard, other), of(&unheard, new), of(&unheard, late)), (1, 2, 2));
        assert!(unheard.is_replaced(other) && !unheard.is_replaced(new));
        unheard.look(&[other, new]);
        unheard.look(&[new, late]);
        assert_eq!((of(&unheard, new), of(&unheard, late)), (2, 2));
        unheard.begin(at(4000), &[], &[new, late]);
        assert_eq!(of(&unheard, process(7, 401)), 3);

        let mut heard = begun();
        heard.look(&[other, late]);
        assert_eq!(of(&heard, late), 2, "nobody knows yet");
        heard.look(&[late, later]);
        assert_eq!((of(&heard, late), of(&heard, later)), (3, 3));
    }
}
