//! What the driver writes down: every event into the journal, the log, and to whoever follows.

use std::sync::Arc;

use tracing::{Level, error, info, warn};

use super::clock;
use super::driver::Daemon;
use super::kept::rollouts;
use super::kept::state::Line;
use super::show::publish;
use crate::api::{self, Event};
use crate::fleet::input::{Extra, Record};
use crate::fleet::{By, Name};

impl Daemon {
    /// Writes an event down, after those that came before it.
    pub(super) fn record(&mut self, record: Record) {
        self.catch_up();
        self.write_down(clock::wall(), record);
    }

    pub(super) fn catch_up(&mut self) {
        for (at, record) in std::mem::take(&mut self.unsaid) {
            self.write_down(at, record);
        }
    }

    /// The next daemon does not say again what was said.
    fn keep_readiness(&mut self, record: &Record) {
        let Some(name) = &record.instance else { return };
        let generation = self.fleet.generation_of(name.as_str()).unwrap_or(0);
        let instance = name.to_string();
        match record.kind {
            "ready" => self.hands.state.append(&Line::Ready { instance, generation }),
            "not-ready" => self.hands.state.append(&Line::Unready { instance }),
            _ => (),
        }
    }

    fn write_down(&mut self, at: jiff::Timestamp, record: Record) {
        self.keep_readiness(&record);
        let evidence =
            record.with_evidence.then(|| self.hands.evidence(&record, &self.fleet, &self.facts));
        let evidence = evidence.or_else(|| self.who_lived(&record));
        let (lost, rollout) = (rollouts::lost(&record), self.mark_of(&record));
        let event = self.journal.append(api::Event {
            seq: 0,
            at,
            kind: record.kind.into(),
            service: record.service.as_ref().map(Name::to_string),
            instance: record.instance.as_ref().map(Name::to_string),
            actor: record.by.as_ref().map(publish::actor),
            message: record.message,
            evidence,
            lost,
            rollout,
            stop: stop_of(&record.extra),
        });
        self.rollouts.note(&event);
        tell(&event);
        self.facts.noted(&event);
        self.run_hooks(&event);
        // Nobody follows: nothing to do.
        let _ = self.events.send(Arc::new(event.clone()));
        self.publisher.event(event);
    }

    /// Who lived until SIGKILL, where the time of a stop was over.
    fn who_lived(&mut self, record: &Record) -> Option<Vec<String>> {
        let ended = record.instance.as_ref().filter(|_| record.kind == "exited")?;
        let lived = self.hands.who_lived(ended);
        let was_late = matches!(record.extra, Extra::Stopped(stop, _) if stop.killed);
        lived.filter(|_| was_late)
    }

    /// An event that the fleet does not know of.
    pub(super) fn note(&mut self, kind: &'static str, by: Option<By>, message: String) {
        self.record(Record {
            kind,
            service: None,
            instance: None,
            by,
            message,
            with_evidence: false,
            extra: Extra::Nothing,
        });
    }
}

/// Writes an event to the log of the daemon, with the priority that it has for whoever is on call.
fn tell(event: &Event) {
    macro_rules! at {
        ($level:ident) => {
            $level!(
                instance = event.instance,
                service = event.service,
                by = event.actor.as_ref().map(|it| it.login.as_str()),
                "{}",
                event.message
            )
        };
    }
    match priority(event) {
        Level::ERROR => at!(error),
        Level::WARN => at!(warn),
        _ => at!(info),
    }
}

/// An error wants somebody, a warning may explain one: what nobody had asked for, and what did not work.
fn priority(event: &Event) -> Level {
    match event.kind.as_str() {
        "fatal" | "rollout-halted" | "output-lost" => Level::ERROR,
        "backoff" | "config-refused" | "drain-over" | "hook-failed" | "kill-slow"
        | "live-failed" | "reload-incomplete" | "replace-failed" | "signal-failed"
        | "signal-halted" | "spawn-failed" | "startup-failed" | "state-file"
        | "survivors-killed" | "worker-missing" | "worker-stays" => Level::WARN,
        "exited" if event.actor.is_none() && event.stop.is_none() => Level::WARN,
        _ if event.lost.is_some_and(|it| it > 0) => Level::WARN,
        _ => Level::INFO,
    }
}

/// How the stop went that an event tells the end of.
fn stop_of(extra: &Extra) -> Option<Box<api::StopMark>> {
    let Extra::Stopped(it, _) = extra else { return None };
    Some(Box::new(api::StopMark {
        signal: it.signal.map(|it| it.to_string()),
        after_ms: clock::millis(it.after),
        in_flight: Some(it.in_flight),
        late: Some(it.late).filter(|it| *it > 0),
        cut_after_ms: it.cut_after.map(clock::millis),
        max_wait_time_ms: clock::millis(it.max_wait_time),
        killed: it.killed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StopMark;

    #[test]
    fn what_nobody_had_asked_for_has_a_priority() {
        let of = |kind: &str, change: fn(&mut Event)| {
            let text = format!(
                "{{\"seq\":1,\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"{kind}\",\"message\":\"\"}}"
            );
            let mut event: Event = serde_json::from_str(&text).unwrap();
            change(&mut event);
            priority(&event)
        };
        assert_eq!(of("fatal", |_| ()), Level::ERROR);
        assert_eq!(of("exited", |_| ()), Level::WARN, "a crash");
        assert_eq!(of("exited", |it| it.actor = Some(api::Actor::default())), Level::INFO);
        assert_eq!(of("exited", |it| it.stop = Some(Box::new(StopMark::default()))), Level::INFO);
        assert_eq!(of("gateway", |it| it.lost = Some(2)), Level::WARN);
        assert_eq!(of("started", |_| ()), Level::INFO);
    }
}
