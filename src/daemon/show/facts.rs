//! What was measured and what probes answered: facts for the screen that decide nothing.

use std::collections::{BTreeMap, VecDeque};

use crate::api::{Event, Gateway, Load, ProbeResult};
use crate::daemon::clock::{self, millis};
use crate::daemon::front::Figures;
use crate::fleet::input::Probe;
use crate::load::sockets::Port;
use crate::probe::Outcome;
use crate::process::usage::Usage;

/// Results of a probe that are kept for the detail screen.
const RESULTS: usize = 12;
/// Exits of an instance that are kept.
const EXITS: usize = 8;
/// Of an error in an older result.
const SHORT: usize = 160;

#[derive(Debug, Default)]
pub struct Facts {
    usage: BTreeMap<String, Usage>,
    probes: BTreeMap<String, Results>,
    /// Exits and failed starts by instance, oldest first.
    exits: BTreeMap<String, VecDeque<Event>>,
    /// The last line an instance wrote before it ended by itself.
    last_words: BTreeMap<String, String>,
    /// What a gateway counted, by instance.
    figures: BTreeMap<String, Figures>,
    /// What the kernel knows of the port of an instance.
    ports: BTreeMap<String, Port>,
    /// What an instance said of its load itself, and its generation.
    loads: BTreeMap<String, (u64, Load)>,
    /// The gateway of each service that has one.
    gateways: BTreeMap<String, Gateway>,
}

#[derive(Debug, Default)]
struct Results {
    generation: u64,
    by_kind: BTreeMap<&'static str, ProbeResult>,
    /// Before those, oldest first.
    before: BTreeMap<&'static str, VecDeque<ProbeResult>>,
}

impl Results {
    /// A result is followed by another one. Its body stays only if it is the last that failed.
    fn put_back(&mut self, kind: &'static str, mut old: ProbeResult) {
        let before = self.before.entry(kind).or_default();
        if old.ok {
            old.body = None;
        } else {
            before.iter_mut().for_each(|it| it.body = None);
        }
        if let Some(error) = &mut old.error
            && let Some((at, _)) = error.char_indices().nth(SHORT)
        {
            error.truncate(at);
        }
        before.push_back(old);
        let excess = before.len().saturating_sub(RESULTS - 1);
        before.drain(..excess);
    }
}

impl Facts {
    pub fn usage(&self, instance: &str) -> Option<Usage> {
        self.usage.get(instance).copied()
    }

    /// The last result of each probe, if they are of this generation.
    pub fn probes(&self, instance: &str, generation: u64) -> BTreeMap<String, ProbeResult> {
        match self.probes.get(instance) {
            Some(it) if it.generation == generation => {
                it.by_kind.iter().map(|(kind, result)| ((*kind).into(), result.clone())).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    /// Keeps a measurement and says whether it looks different on a screen.
    pub fn measured(&mut self, instance: &str, usage: Usage) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "tenths of a percent fit")]
        let shown = |it: &Usage| ((it.cpu_percent * 10.0).round() as i64, it.memory_bytes >> 16);
        let old = self.usage.insert(instance.to_owned(), usage);
        old.as_ref().map(shown) != Some(shown(&usage))
    }

    /// Keeps a probe result and returns what it came out as, for the fleet.
    pub fn probed(&mut self, instance: &str, generation: u64, probe: Probe, outcome: &Outcome) {
        let results = self.probes.entry(instance.to_owned()).or_default();
        if results.generation != generation {
            *results = Results { generation, ..Results::default() };
        }
        let before = results.by_kind.get(kind(probe));
        let in_a_row = match before {
            Some(it) if it.ok == outcome.ok => it.in_a_row.saturating_add(1),
            _ => 1,
        };
        let result = ProbeResult {
            at: Some(clock::wall()),
            ok: outcome.ok,
            latency_ms: f64::from(u32::try_from(outcome.latency.as_micros()).unwrap_or(u32::MAX))
                / 1000.0,
            status: outcome.status,
            body: Some(String::from_utf8_lossy(&outcome.body).into_owned()),
            error: outcome.error.clone(),
            in_a_row,
        };
        if let Some(old) = results.by_kind.insert(kind(probe), result) {
            results.put_back(kind(probe), old);
        }
    }

    /// What a probe of an instance said in its last generation, oldest first.
    pub fn past_of(&self, instance: &str, probe: Probe) -> Vec<ProbeResult> {
        let Some(results) = self.probes.get(instance) else { return vec![] };
        let before = results.before.get(kind(probe)).into_iter().flatten();
        before.chain(results.by_kind.get(kind(probe))).cloned().collect()
    }

    /// Keeps an event if it tells how an instance ended or its workers were renewed, or why it did not begin.
    pub fn noted(&mut self, event: &Event) {
        let Some(instance) = &event.instance else { return };
        let is_end = matches!(event.kind.as_str(), "exited" | "spawn-failed" | "fatal");
        if !is_end && !is_reload(event) {
            return;
        }
        let exits = self.exits.entry(instance.clone()).or_default();
        // Of reloads the last, or many of them would leave no room for the ends.
        if is_reload(event) {
            exits.retain(|it| !is_reload(it));
        }
        // The evidence of the others is in the journal.
        exits.iter_mut().for_each(|it| it.evidence = None);
        let is_of_a_stop = event.stop.is_some();
        let evidence = event.evidence.clone().filter(|_| is_of_a_stop);
        exits.push_back(Event { evidence, ..event.clone() });
        let excess = exits.len().saturating_sub(EXITS);
        exits.drain(..excess);
    }

    /// When its last reload that came to its end did.
    pub fn reloaded(&self, instance: &str) -> Option<jiff::Timestamp> {
        let last = self.exits.get(instance)?.iter().rfind(|it| it.kind == "reloaded")?;
        Some(last.at)
    }

    /// How an instance ended lately, oldest first.
    pub fn exits(&self, instance: &str) -> Vec<Event> {
        self.exits.get(instance).into_iter().flatten().cloned().collect()
    }

    /// Keeps what an instance said last; an empty line is nothing.
    pub fn said(&mut self, instance: &str, line: Option<String>) {
        match line.filter(|it| !it.trim().is_empty()) {
            Some(line) => self.last_words.insert(instance.to_owned(), line),
            None => self.last_words.remove(instance),
        };
    }

    pub fn last_words(&self, instance: &str) -> Option<&str> {
        self.last_words.get(instance).map(String::as_str)
    }

    /// Keeps what a gateway counted and says whether it is something else than before.
    pub fn counted(&mut self, instance: &str, figures: Option<Figures>) -> bool {
        let old = match figures {
            Some(figures) => self.figures.insert(instance.to_owned(), figures),
            None => self.figures.remove(instance),
        };
        old != figures
    }

    pub fn figures(&self, instance: &str) -> Option<Figures> {
        self.figures.get(instance).copied()
    }

    /// Keeps what an instance says of its load and says whether it is something else than before.
    pub fn loaded(&mut self, instance: &str, generation: u64, load: Load) -> bool {
        let new = (generation, load);
        match self.loads.get_mut(instance) {
            Some(old) if *old == new => false,
            Some(old) => {
                *old = new;
                true
            }
            None => self.loads.insert(instance.to_owned(), new).is_none(),
        }
    }

    /// Keeps what the kernel knows of its port and says whether it is something else than before.
    pub fn connected(&mut self, instance: &str, port: Port) -> bool {
        match self.ports.get_mut(instance) {
            Some(old) => std::mem::replace(old, port) != port,
            None => self.ports.insert(instance.to_owned(), port).is_none(),
        }
    }

    pub fn port(&self, instance: &str) -> Option<Port> {
        self.ports.get(instance).copied()
    }

    /// Nobody looks at the ports any more: what was seen holds no longer.
    pub fn disconnect(&mut self) {
        self.ports.clear();
    }

    /// It is not asked any more.
    pub fn unload(&mut self, instance: &str) {
        self.loads.remove(instance);
    }

    /// What it said last, in this generation.
    pub fn load(&self, instance: &str, generation: u64) -> Option<&Load> {
        self.loads.get(instance).filter(|it| it.0 == generation).map(|it| &it.1)
    }

    /// Keeps the state of a service's gateway and says whether it is another one than before.
    pub fn fronted(&mut self, service: &str, gateway: Gateway) -> bool {
        let old = self.gateways.insert(service.to_owned(), gateway.clone());
        old.as_ref() != Some(&gateway)
    }

    pub fn gateway(&self, service: &str) -> Option<&Gateway> {
        self.gateways.get(service)
    }

    /// Forgets the gateways of services that have none any more, and what they counted.
    pub fn retain_gateways(
        &mut self,
        fronted: impl Fn(&str) -> bool,
        counted: impl Fn(&str) -> bool,
    ) {
        self.gateways.retain(|service, _| fronted(service));
        self.figures.retain(|instance, _| counted(instance));
    }

    /// Drops what belongs to instances that are gone.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.usage.retain(|name, _| known(name));
        self.probes.retain(|name, _| known(name));
        self.exits.retain(|name, _| known(name));
        self.last_words.retain(|name, _| known(name));
        self.figures.retain(|name, _| known(name));
        self.loads.retain(|name, _| known(name));
        self.ports.retain(|name, _| known(name));
    }
}

fn is_reload(event: &Event) -> bool {
    matches!(event.kind.as_str(), "reloaded" | "reload-incomplete")
}

/// What a probe says now, as a sentence: `readiness passes: 200 in 3 ms, 12 in a row`.
pub fn verdict(probe: &str, it: &ProbeResult) -> String {
    let says = match (it.ok, &it.error, it.status) {
        (true, _, Some(status)) => format!("passes: {status}"),
        (true, _, None) => "passes".to_owned(),
        (false, Some(error), _) => format!("fails: {error}"),
        (false, None, _) => "fails".to_owned(),
    };
    format!("{probe} {says} in {:.0} ms, {} in a row", it.latency_ms, it.in_a_row)
}

/// One line of what a probe said: for events and for `why`.
pub fn detail(outcome: &Outcome) -> String {
    match (&outcome.error, outcome.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("{status} after {} ms", millis(outcome.latency)),
        (None, None) => format!("answered after {} ms", millis(outcome.latency)),
    }
}

pub fn kind(probe: Probe) -> &'static str {
    match probe {
        Probe::Startup => "startup",
        Probe::Liveness => "liveness",
        Probe::Readiness => "readiness",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(ok: bool, body: &str) -> Outcome {
        Outcome {
            ok,
            latency: Duration::from_millis(1),
            status: Some(if ok { 200 } else { 500 }),
            body: body.as_bytes().to_vec(),
            error: (!ok).then(|| "é".repeat(1000)),
        }
    }

    #[test]
    fn results_are_kept_with_the_bodies_of_the_newest_and_of_the_last_that_failed() {
        let mut facts = Facts::default();
        for (n, ok) in [false, false, true, true].into_iter().enumerate() {
            facts.probed("web1", 1, Probe::Readiness, &outcome(ok, &format!("body {n}")));
        }
        let past = facts.past_of("web1", Probe::Readiness);
        let bodies: Vec<_> = past.iter().map(|it| (it.in_a_row, it.body.as_deref())).collect();
        assert_eq!(bodies, [(1, None), (2, Some("body 1")), (1, None), (2, Some("body 3"))]);
        assert_eq!(past[1].error.as_ref().unwrap().chars().count(), SHORT);
        for _ in 0..100 {
            facts.probed("web1", 1, Probe::Readiness, &outcome(true, "x"));
        }
        assert_eq!(facts.past_of("web1", Probe::Readiness).len(), RESULTS);
        facts.probed("web1", 2, Probe::Liveness, &outcome(true, "x"));
        assert_eq!(facts.past_of("web1", Probe::Readiness), [], "that was another process");
    }

    #[test]
    fn the_last_reload_is_kept_beside_the_ends() {
        let mut facts = Facts::default();
        let kinds = ["reloaded", "exited", "ready", "reload-incomplete", "fatal", "reloaded"];
        for (seq, kind) in (1..).zip(kinds) {
            let event = serde_json::json!({
                "seq": seq, "at": "2026-11-30T10:00:00Z", "kind": kind, "instance": "web1",
                "message": "",
            });
            facts.noted(&serde_json::from_value(event).unwrap());
        }
        let kept: Vec<_> = facts.exits("web1").into_iter().map(|it| it.seq).collect();
        assert_eq!(kept, [2, 5, 6]);
    }
}
