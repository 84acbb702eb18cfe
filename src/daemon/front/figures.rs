//! What was counted, of one instance and of a whole gateway.

use super::{Front, entries};
use crate::daemon::gateway::ledger::Tally;
use crate::fleet::Name;
use crate::gateway::control::InstanceCounts;

/// The numbers of an instance beyond what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Of the process that runs; `None` while none does, or nobody has counted.
    pub gauges: Option<Gauges>,
    /// Of all its generations.
    pub tally: Tally,
}

/// What goes up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    pub in_flight: u64,
    pub oldest_ms: Option<u64>,
    pub ejected: bool,
    pub tunnels: u64,
    pub per_second: f64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// The numbers of one gateway, over all its processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub gauges: Gauges,
    pub tally: Tally,
    pub connections: u64,
    pub held: u64,
    pub held_total: u64,
    pub made_502: u64,
    pub made_503: u64,
    pub made_504: u64,
    pub refused: u64,
}

impl Front {
    /// The numbers of an instance, if a gateway counts it.
    pub fn figures(&self, name: &Name) -> Option<Figures> {
        let place = self.places.get(name)?;
        let embedded = self.counts.values().flat_map(|it| entries(it, place, name));
        let of: Vec<&InstanceCounts> = embedded.chain(self.nginx_count(name, place)).collect();
        let gauges = (!of.is_empty()).then(|| Gauges::sum(of));
        Some(Figures { gauges, tally: self.ledger.of(name.as_str()) })
    }

    pub fn totals(&self, gateway: &str) -> Totals {
        let mut sum = Totals::default();
        let all = self.counts.values().flat_map(|it| &it.gateways).chain(self.nginx_counts());
        for it in all.filter(|it| it.name == gateway) {
            sum.connections += it.connections;
            sum.held += it.held;
            sum.held_total += it.held_total;
            sum.made_502 += it.made_502;
            sum.made_503 += it.made_503;
            sum.made_504 += it.made_504;
            sum.refused += it.refused;
            let gauges = Gauges::sum(&it.instances);
            sum.gauges.in_flight += gauges.in_flight;
            sum.gauges.tunnels += gauges.tunnels;
            sum.gauges.oldest_ms = sum.gauges.oldest_ms.max(gauges.oldest_ms);
            sum.gauges.per_second += it.per_second;
            sum.gauges.p50_us = sum.gauges.p50_us.max(it.p50_us);
            sum.gauges.p95_us = sum.gauges.p95_us.max(it.p95_us);
            sum.gauges.p99_us = sum.gauges.p99_us.max(it.p99_us);
        }
        let its = self.places.iter().filter(|(_, it)| it.gateway.as_str() == gateway);
        its.for_each(|(name, _)| sum.tally.add(&self.ledger.of(name.as_str())));
        sum
    }
}

impl Gauges {
    /// Of several processes that count the same instance, or of several instances. Where two processes
    /// have different percentiles, the higher is told.
    fn sum<'c>(of: impl IntoIterator<Item = &'c InstanceCounts>) -> Self {
        of.into_iter().fold(Self::default(), |sum, it| Self {
            in_flight: sum.in_flight + it.in_flight,
            oldest_ms: sum.oldest_ms.max(it.oldest_ms),
            ejected: sum.ejected || it.ejected,
            tunnels: sum.tunnels + it.tunnels,
            per_second: sum.per_second + it.per_second,
            p50_us: sum.p50_us.max(it.p50_us),
            p95_us: sum.p95_us.max(it.p95_us),
            p99_us: sum.p99_us.max(it.p99_us),
        })
    }
}
