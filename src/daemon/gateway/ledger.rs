//! What was counted in all: over every generation of an instance and every gateway process that served it.
//!
//! A gateway counts from its own start and from the start of each generation. What is scraped or shown must
//! not go backwards because something was restarted, so what grew is added up here.

use std::collections::BTreeMap;

use crate::gateway::control::{Counts, InstanceCounts};

/// Totals of one instance, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u64,
    /// 1xx to 5xx.
    pub answered: [u64; 5],
    pub retried: u64,
    pub cut: u64,
    pub abandoned: u64,
    pub connect_failed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.each(other, |sum, it| *sum += it);
    }

    /// How much more `self` is than `before`; less than before means that it was counted anew.
    fn since(mut self, before: &Self) -> Self {
        self.each(before, |now, it| *now = now.checked_sub(it).unwrap_or(*now));
        self
    }

    fn each(&mut self, other: &Self, with: impl Fn(&mut u64, u64)) {
        with(&mut self.requests, other.requests);
        self.answered.iter_mut().zip(other.answered).for_each(|(it, other)| with(it, other));
        with(&mut self.retried, other.retried);
        with(&mut self.cut, other.cut);
        with(&mut self.abandoned, other.abandoned);
        with(&mut self.connect_failed, other.connect_failed);
        with(&mut self.bytes_in, other.bytes_in);
        with(&mut self.bytes_out, other.bytes_out);
    }
}

impl From<&InstanceCounts> for Tally {
    fn from(it: &InstanceCounts) -> Self {
        Self {
            requests: it.requests,
            answered: it.answered,
            retried: it.retried,
            cut: it.cut,
            abandoned: it.abandoned,
            connect_failed: it.connect_failed,
            bytes_in: it.bytes_in,
            bytes_out: it.bytes_out,
        }
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    totals: BTreeMap<String, Tally>,
    /// The last word of each process on each generation.
    last: BTreeMap<u32, BTreeMap<(String, u64), Tally>>,
}

impl Ledger {
    /// Adds what has grown since this process last spoke.
    pub fn heard(&mut self, pid: u32, counts: &Counts) {
        let before = self.last.remove(&pid).unwrap_or_default();
        let mut seen = BTreeMap::new();
        for it in counts.gateways.iter().flat_map(|it| &it.instances) {
            let (key, now) = ((it.name.clone(), it.generation), Tally::from(it));
            let grown = before.get(&key).map_or(now, |before| now.since(before));
            self.totals.entry(it.name.clone()).or_default().add(&grown);
            seen.insert(key, now);
        }
        self.last.insert(pid, seen);
    }

    /// This process will say no more.
    pub fn gone(&mut self, pid: u32) {
        self.last.remove(&pid);
    }

    pub fn of(&self, instance: &str) -> Tally {
        self.totals.get(instance).copied().unwrap_or_default()
    }

    /// Forgets instances that are gone.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.totals.retain(|name, _| known(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::control::GatewayCounts;

    fn counts(instances: &[(&str, u64, u64)]) -> Counts {
        let instance = |(name, generation, n): &(&str, u64, u64)| InstanceCounts {
            name: (*name).into(),
            generation: *generation,
            requests: *n,
            answered: [0, *n, 0, 0, 0],
            ..InstanceCounts::default()
        };
        let instances = instances.iter().map(instance).collect();
        Counts { gateways: vec![GatewayCounts { instances, ..Default::default() }], revision: 1 }
    }

    #[test]
    fn neither_a_new_generation_nor_a_new_gateway_takes_anything_away() {
        let mut ledger = Ledger::default();
        let mut total = |pid, of: &[(&str, u64, u64)]| {
            ledger.heard(pid, &counts(of));
            let it = ledger.of("web1");
            assert_eq!(it.requests, it.answered[1]);
            it.requests
        };
        assert_eq!(total(7, &[("web1", 1, 5)]), 5);
        assert_eq!(total(7, &[("web1", 1, 6)]), 6);
        assert_eq!(total(7, &[("web1", 2, 1), ("web1", 1, 8)]), 9, "the old one ends what it had");
        assert_eq!(total(7, &[("web1", 2, 4)]), 12);
        assert_eq!(total(8, &[("web1", 2, 3)]), 15, "a second process counts from nothing");
        assert_eq!(total(7, &[("web1", 2, 5)]), 16);
        ledger.gone(7);
        ledger.heard(7, &counts(&[("web1", 2, 1)]));
        assert_eq!(ledger.of("web1").requests, 17, "a pid that came back is another process");
        ledger.retain(|_| false);
        assert_eq!(ledger.of("web1"), Tally::default());
    }
}
