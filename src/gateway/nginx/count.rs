//! What an nginx has done, counted from its access log in the words of our own gateway.

use std::collections::BTreeMap;

use super::super::control::{GatewayCounts, InstanceCounts};
use super::super::window::{Seen, Window};
use super::log::Entry;

/// Addresses that are counted: a log may be of more than one gateway.
const MOST: usize = 256;

/// Counts of one log.
#[derive(Debug, Default)]
pub struct Counter {
    by_address: BTreeMap<String, Counted>,
    made: [u64; 3],
}

#[derive(Debug)]
struct Counted {
    totals: InstanceCounts,
    window: Window,
}

impl Counter {
    /// Takes a line that was read at this time, in microseconds since any fixed moment.
    pub fn take(&mut self, entry: &Entry<'_>, at: u64) {
        for address in &entry.passed_over {
            if let Some(it) = self.of(address) {
                it.totals.requests += 1;
                it.totals.retried += 1;
            }
        }
        // Nobody was there: nginx has put the name of the block in the place of an address.
        if !entry.address.contains(':') {
            if let Some(made) = self.made.get_mut(usize::from(entry.status.wrapping_sub(502))) {
                *made += 1;
            }
            return;
        }
        let Some(it) = self.of(entry.address) else { return };
        it.totals.requests += 1;
        let class = usize::from(entry.status / 100).wrapping_sub(1);
        if let Some(answered) = it.totals.answered.get_mut(class) {
            *answered += 1;
        }
        it.window.add(at, entry.micros.unwrap_or(0));
    }

    fn of(&mut self, address: &str) -> Option<&mut Counted> {
        if !self.by_address.contains_key(address) && self.by_address.len() >= MOST {
            return None;
        }
        let new = || Counted { totals: InstanceCounts::default(), window: Window::new() };
        Some(self.by_address.entry(address.to_owned()).or_insert_with(new))
    }

    /// What is shown of these instances, by their addresses.
    pub fn counts(
        &self,
        gateway: &str,
        names: &BTreeMap<String, String>,
        at: u64,
    ) -> GatewayCounts {
        let its = names.iter().filter_map(|(address, name)| {
            self.by_address.get(address).map(|it| (name.clone(), it))
        });
        let its: Vec<_> = its.collect();
        let all = Seen::of(its.iter().map(|it| &it.1.window), at);
        let instance = |(name, it): &(String, &Counted)| {
            let seen = it.window.look(at);
            InstanceCounts {
                name: name.clone(),
                per_second: seen.per_second,
                p50_us: seen.p50_us,
                p95_us: seen.p95_us,
                p99_us: seen.p99_us,
                ..it.totals.clone()
            }
        };
        let [made_502, made_503, made_504] = self.made;
        GatewayCounts {
            name: gateway.to_owned(),
            made_502,
            made_503,
            made_504,
            per_second: all.per_second,
            p50_us: all.p50_us,
            p95_us: all.p95_us,
            p99_us: all.p99_us,
            instances: its.iter().map(instance).collect(),
            ..GatewayCounts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Format;
    use super::*;

    const FORMAT: &str = "$upstream_addr $upstream_status $upstream_response_time";

    #[test]
    fn answers_are_counted_where_they_came_from_and_tries_where_they_failed() {
        let format = Format::parse(FORMAT).unwrap();
        let mut counter = Counter::default();
        for line in [
            "127.0.0.1:1 200 0.010",
            "127.0.0.1:1, 127.0.0.1:2 502, 404 0.001, 0.200",
            "shop 502 0.000",
            "127.0.0.1:9 200 0.010",
        ] {
            counter.take(&format.read(line).unwrap(), 1_000_000);
        }
        let names = [("127.0.0.1:1", "web1"), ("127.0.0.1:2", "web2")];
        let names = names.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let it = counter.counts("shop", &names, 1_500_000);
        let of = |n: usize| {
            let it = &it.instances[n];
            (it.name.as_str(), it.requests, it.answered, it.retried, it.p99_us / 10_000)
        };
        assert_eq!(of(0), ("web1", 2, [0, 1, 0, 0, 0], 1, 1));
        assert_eq!(of(1), ("web2", 1, [0, 0, 0, 1, 0], 0, 20));
        assert_eq!((it.made_502, it.p99_us / 10_000), (1, 20));
        assert!(it.per_second > 0.0);
    }
}
