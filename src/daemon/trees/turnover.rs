//! Workers that come and go while their master stays, remembered from one look to the next.
//!
//! A worker that cannot start is started again and again, and no exit of the leader tells of it. Whoever looks
//! closely notes who works there ([`Turnover::note`]); who was there at one look and is not at the next has
//! ended, and was at most so old. Where a worker is very young some more looks follow within a second. Nothing
//! is read for what nobody looks at, and what nobody looks at is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::KnownProfile;
use crate::daemon::clock;
use crate::daemon::trees::census::Planted;
use crate::daemon::trees::reloads;
use crate::fleet::advice::Churn;
use crate::fleet::{Name, Process, Timestamp};
use crate::process::stat;

/// Between two looks that follow each other.
const AGAIN: Duration = Duration::from_millis(100);
/// How many of them there are at most.
const LOOKS: usize = 15;
/// A worker of this age may be one of many.
const YOUNG: Duration = Duration::from_secs(2);
/// Its leader is no longer starting.
const SETTLED: Duration = Duration::from_secs(3);
/// Ends that are remembered, and for how long.
const ENDS: usize = 32;
const MEMORY: Duration = Duration::from_secs(120);
/// So many are evidence.
const ENOUGH: usize = 3;
/// A master that wants as many as before has another one by then. One that lets workers go that have nothing to
/// do (php-fpm's `ondemand` and `dynamic`) leaves the place empty.
const VACANCY: Duration = Duration::from_millis(300);

/// Shared by everybody who looks.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Turnover(Arc<Mutex<BTreeMap<Name, Past>>>);

#[derive(Debug, Default)]
struct Past {
    leader: Option<Process>,
    /// At the last look.
    workers: BTreeSet<(u64, i32)>,
    looked: Timestamp,
    /// When an end was noticed, and how old the worker was at most: of those whose place was taken at once.
    ends: VecDeque<(Timestamp, Duration)>,
    /// The same of those whose place is empty.
    vacant: VecDeque<(Timestamp, Duration)>,
}

impl Turnover {
    /// Notes who works below this leader now.
    fn note(&self, name: &Name, leader: Process, workers: &[Process], now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, it| now.since(it.looked) <= MEMORY);
        all.entry(name.clone()).or_default().note(leader, workers, now);
    }

    /// Who worked below this leader at the last look.
    fn workers(&self, name: &Name, leader: Process) -> Vec<Process> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = all.get(name).filter(|it| it.leader == Some(leader));
        let worker = |it: &(u64, i32)| Process { pid: it.1, start_time: it.0 };
        past.map_or(vec![], |it| it.workers.iter().map(worker).collect())
    }

    /// Workers of this leader that have ended lately.
    pub(in crate::daemon) fn of(&self, name: &Name, leader: Process) -> Option<Churn> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = all.get(name).filter(|it| it.leader == Some(leader))?;
        past.churn(clock::now(), leader)
    }
}

impl Past {
    fn note(&mut self, leader: Process, workers: &[Process], now: Timestamp) {
        if self.leader != Some(leader) {
            *self = Self { leader: Some(leader), ..Self::default() };
        }
        let here: BTreeSet<_> = workers.iter().map(|it| (it.start_time, it.pid)).collect();
        let gone = self.workers.difference(&here);
        self.vacant.extend(gone.map(|it| (now, now.since(began(it.0)))));
        let fresh: Vec<u64> = here.difference(&self.workers).map(|it| it.0).collect();
        fresh.into_iter().for_each(|it| self.fill(began(it)));
        if self.vacant.front().is_some_and(|it| now.since(it.0) >= VACANCY) {
            self.let_go();
        }
        self.ends.retain(|it| now.since(it.0) <= MEMORY);
        let excess = self.ends.len().saturating_sub(ENDS);
        self.ends.drain(..excess);
        (self.workers, self.looked) = (here, now);
    }

    /// Another worker has begun.
    fn fill(&mut self, began: Timestamp) {
        match self.vacant.pop_front() {
            Some(end) if began.since(end.0) < VACANCY => self.ends.push_back(end),
            Some(_) => self.let_go(),
            None => {}
        }
    }

    /// Its master lets workers go on purpose: that they end is no evidence.
    fn let_go(&mut self) {
        self.ends.clear();
        self.vacant.clear();
    }

    fn churn(&self, now: Timestamp, leader: Process) -> Option<Churn> {
        let (first, _) = self.ends.front()?;
        let oldest = self.ends.iter().map(|it| it.1).max()?;
        Some(Churn {
            ended: self.ends.len(),
            within: now.since(*first),
            oldest,
            leader_age: now.since(began(leader.start_time)),
        })
    }

    /// Worth another look: its youngest worker has just begun, and nothing is known yet.
    fn is_suspicious(&self, now: Timestamp, leader: Process) -> bool {
        let youngest = self.workers.last().map(|it| now.since(began(it.0)));
        // None at all, although there was one: the next may be on its way.
        let is_young = youngest.map_or(!self.vacant.is_empty(), |it| it < YOUNG);
        let settled = now.since(began(leader.start_time)) >= SETTLED;
        is_young && settled && self.ends.len() < ENOUGH
    }
}

/// What is to be watched for a moment.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Watch {
    pub name: Name,
    pub leader: Process,
    pub profile: Arc<KnownProfile>,
    pub turnover: Turnover,
}

impl Watch {
    /// Looks once, and some times more while a worker is very young.
    pub(in crate::daemon) async fn follow(self) {
        for _ in 0..LOOKS {
            let it = self.clone();
            let look = tokio::task::spawn_blocking(move || it.look());
            if !look.await.unwrap_or(false) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether to look again. Blocking.
    fn look(&self) -> bool {
        let before = self.turnover.workers(&self.name, self.leader);
        let planted = Planted { leader: self.leader, profile: self.profile.clone() };
        let workers = reloads::workers(&planted, &[], &before).all;
        let now = clock::now();
        self.turnover.note(&self.name, self.leader, &workers, now);
        let all = self.turnover.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&self.name).is_some_and(|it| it.is_suspicious(now, self.leader))
    }
}

fn began(start_time: u64) -> Timestamp {
    Timestamp(stat::time_of(start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, start_time: u64) -> Process {
        Process { pid, start_time }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp(Duration::from_millis(ms))
    }

    #[test]
    fn who_is_gone_at_the_next_look_has_ended_and_was_at_most_so_old() {
        let leader = process(1, 0);
        let mut past = Past::default();
        past.note(leader, &[process(2, 1000), process(3, 10)], at(10_200));
        assert!(past.churn(at(10_200), leader).is_none() && past.is_suspicious(at(10_200), leader));
        past.note(leader, &[process(3, 10), process(4, 1030)], at(10_400));
        past.note(leader, &[process(3, 10)], at(10_500));
        assert_eq!(past.churn(at(10_500), leader).unwrap().ended, 1, "one has no successor yet");
        past.note(leader, &[process(3, 10), process(5, 1055)], at(10_600));
        let churn = past.churn(at(10_600), leader).unwrap();
        assert_eq!((churn.ended, churn.within), (2, Duration::from_millis(200)));
        assert_eq!(churn.oldest, Duration::from_millis(400), "born at 10 s, missed at 10.4 s");
        past.note(leader, &[process(3, 10)], at(10_700));
        assert!(!past.is_suspicious(at(10_700), leader), "who is left is old");
    }

    #[test]
    fn workers_that_are_let_go_when_idle_are_no_loop() {
        let leader = process(1, 0);
        let mut past = Past::default();
        // One that begins with a request and ends a second after it, again and again.
        for n in 0_u8..6 {
            let (pid, start) = (i32::from(n) + 2, 1000 + u64::from(n) * 200);
            let began = u64::from(n) * 2000 + 10_000;
            past.note(leader, &[process(pid, start)], at(began));
            past.note(leader, &[], at(began + 1200));
            // Nobody looks until the next one is there, or somebody does.
            if n % 2 == 0 {
                past.note(leader, &[], at(began + 1600));
            }
            let churn = past.churn(at(began + 1700), leader);
            assert!(churn.is_none_or(|it| it.ended < ENOUGH), "{churn:?}");
        }
        // Then it really cannot go on.
        for n in 0_u8..4 {
            let (pid, start) = (i32::from(n) + 20, 3000 + u64::from(n) * 10);
            past.note(leader, &[process(pid, start)], at(30_000 + u64::from(n) * 100));
        }
        assert_eq!(past.churn(at(30_400), leader).unwrap().ended, 3);
    }

    #[test]
    fn another_leader_has_no_past_and_a_starting_one_is_not_suspected() {
        let mut past = Past::default();
        past.note(process(1, 0), &[process(2, 1000)], at(10_100));
        past.note(process(9, 1000), &[process(10, 1001)], at(10_300));
        assert!(past.ends.is_empty());
        assert!(!past.is_suspicious(at(10_300), process(9, 1000)));
    }

    #[test]
    fn no_more_is_remembered_than_is_of_use() {
        let leader = process(1, 0);
        let mut past = Past::default();
        for n in 0_u8..100 {
            let (pid, start) = (i32::from(n) + 2, 1000 + u64::from(n));
            past.note(leader, &[process(pid, start)], at(20_000));
        }
        assert_eq!(past.ends.len(), ENDS);
        past.note(leader, &[], at(20_000) + 2 * MEMORY);
        assert!(past.ends.is_empty() && past.vacant.len() == 1);
    }
}
