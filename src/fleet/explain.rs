//! The fleet as it is, in words: the sheets, and why an instance is in its state.
//!
//! The first sentence says what is the case and who or what wants it so; the others say what else an
//! operator would ask next: what failed, what is held, what ended the last process, what comes then.

use std::time::Duration;

use super::advice::{Case, Leaving, Rolled};
use super::exits::ended;
use super::fleet::Fleet;
use super::health::Gauge;
use super::input::{Goal, InFlight};
use super::instance::{Body, Instance, Phase, Rest};
use super::ladder::{Errand, Stop};
use super::rollout_state::Rollout;
use super::roster::Named;
use super::rules::Chosen;
use super::service::Service;
use super::sheet::{LastExit, ServiceSheet, Sheet};
use super::time::Timestamp;
use super::turn::span;
use super::words::{Name, Signal};
use crate::quantity::count;

impl Fleet {
    /// Why an instance is in its state, in sentences; the first is [`Sheet::why`].
    pub fn why(&self, instance: &str) -> Option<Vec<String>> {
        let instance = self.instances.get(instance)?;
        let mut sentences = vec![self.first_sentence(instance)];
        sentences.extend(self.health_in_words(instance));
        sentences.extend(self.rotation_in_words(instance));
        let reload = instance.up().and_then(|it| it.reload.as_ref()?.told());
        sentences.extend(reload.map(|told| format!("its last reload: {told}")));
        sentences.extend(instance.origin_in_words());
        if instance.is_foreign() && !instance.is_occupied() {
            let absence = instance.absence.clone();
            sentences.extend(absence.filter(|it| !sentences.contains(it)));
        }
        sentences.extend(instance.last_exit.as_ref().map(exit_in_words));
        sentences.extend(future_in_words(instance));
        let profile = &instance.rules.profile;
        if let Chosen::Guessed(because) = &profile.chosen {
            sentences.push(format!("its profile {} is a guess from {because}", profile.name));
        }
        Some(sentences)
    }

    /// What is known of an instance, for [`super::advice::advise`].
    pub fn case(&self, instance: &str, now: Timestamp) -> Option<Case> {
        let instance = self.instances.get(instance)?;
        let rules = &instance.rules;
        let outlives = instance.outlives_kill_by();
        let leaving = instance.stop().and_then(|stop| {
            Some(Leaving {
                signal: stop.last_signal()?,
                ago: now.since(stop.first_signal?),
                left: stop.deadline.since(now),
            })
        });
        // Its first process is gone, and the rest does not even die of SIGKILL.
        let stays = Leaving { signal: Signal::KILL, ago: outlives, left: Duration::ZERO };
        let leaving = leaving.or((!outlives.is_zero()).then_some(stays));
        Some(Case {
            instance: instance.name().clone(),
            service: rules.name.clone(),
            profile: rules.profile.clone(),
            wanted: instance.is_wanted(),
            max_wait_time: rules.max_wait_time,
            begins_with: rules.stop.first().map(|it| it.signal),
            fronted: rules.fronted,
            port: instance.own.port,
            renewed: instance
                .body()
                .and_then(|it| it.reload.as_ref())
                .map_or(0, |it| it.renewed_lately(now)),
            rolled: self.rolled(instance),
            detached: if instance.is_ready() { 0 } else { instance.detached },
            leaving,
        })
    }

    /// Whether the last rolling restart of its service has begun what runs, or was about to.
    fn rolled(&self, instance: &Instance) -> Option<Rolled> {
        let rules = &instance.rules;
        let renewed = self.renewed_by_the_last(&rules.name);
        let can_go_back =
            if rules.rollout.rollback > 0 { Rolled::Reversible } else { Rolled::Final };
        renewed.contains(instance.name()).then_some(can_go_back)
    }

    pub(super) fn describe_service(&self, service: &Service) -> ServiceSheet {
        let members: Vec<&Instance> =
            service.members.iter().filter_map(|it| self.instances.get(it)).collect();
        let up = members.iter().any(|it| it.is_wanted());
        let rollout = service.rollout.as_ref();
        let present = rollout.and_then(Rollout::instance).and_then(|it| self.instances.get(it));
        let renewed = !self.renewed_by_the_last(service.name()).is_empty();
        ServiceSheet {
            name: service.name().clone(),
            goal: if up { Goal::Up } else { Goal::Down },
            engine: if service.rules.foreign.is_some() { "pidfile" } else { "local" },
            profile: service.rules.profile.name.clone(),
            ready: service.counts.ready,
            wanted: service.counts.wanted,
            stale: members.iter().any(|it| it.is_stale()),
            can_roll_back: service.rules.rollout.rollback > 0 && renewed,
            rollout: rollout.map(|it| it.sheet(present)),
            instances: members.iter().map(|it| self.describe(it)).collect(),
        }
    }

    pub(super) fn describe(&self, instance: &Instance) -> Sheet {
        let body = instance.body();
        let retry_at = match &instance.phase {
            Phase::Idle(Rest::Backoff { retry_at }) => Some(*retry_at),
            Phase::Idle(Rest::Stopped | Rest::Exited | Rest::Fatal)
            | Phase::Spawning(_)
            | Phase::Up(_)
            | Phase::Leaving(..)
            | Phase::Sweeping(_) => None,
        };
        Sheet {
            name: instance.name().clone(),
            service: instance.rules.name.clone(),
            goal: if instance.is_wanted() { Goal::Up } else { Goal::Down },
            condition: instance.condition(),
            process: instance.process(),
            generation: instance.generation,
            port: instance.own.port,
            backup: instance.own.backup,
            stale: instance.is_stale(),
            live: body.and_then(|body| body.health.live()),
            ready: instance.ready(),
            in_rotation: instance.rotation == Some(true),
            held_by: instance.held_by.clone(),
            in_flight: instance.in_flight,
            countdown: instance.stop().map(Stop::countdown),
            retry_at,
            restarts: instance.restarts,
            since: instance.since,
            started: body.map(|body| body.started),
            last_exit: instance.last_exit.clone(),
            reload: body.and_then(|body| Some(body.reload.as_ref()?.sheet(body.reloads))),
            why: self.first_sentence(instance),
        }
    }

    fn first_sentence(&self, instance: &Instance) -> String {
        match &instance.phase {
            Phase::Idle(Rest::Stopped) => self.why_stopped(instance),
            Phase::Idle(Rest::Backoff { .. }) => ending(instance),
            Phase::Idle(Rest::Exited) if instance.is_foreign() => {
                format!("{}; opsdeck does not start it by itself", ending(instance))
            }
            Phase::Idle(Rest::Exited) => {
                format!("{}; its restart policy leaves it so", ending(instance))
            }
            Phase::Idle(Rest::Fatal) => format!("given up; {}", ending(instance)),
            Phase::Spawning(None) => "is being started".into(),
            Phase::Spawning(Some(wish)) => {
                format!("is being started, to be stopped {}", wish.errand.phrase())
            }
            Phase::Up(body) => why_up(instance, body),
            Phase::Leaving(_, stop) => why_leaving(instance, stop),
            Phase::Sweeping(_) => {
                format!("{}; what it left behind is being killed", ending(instance))
            }
        }
    }

    fn why_stopped(&self, instance: &Instance) -> String {
        if instance.removed {
            return "gone from the configuration".into();
        }
        if !instance.rules.enabled {
            return "disabled in the configuration".into();
        }
        if instance.goal == Goal::Down {
            let by = instance.goal_by.as_ref();
            return by.map_or("stopped by an operator".into(), |by| format!("stopped by {by}"));
        }
        if let Some(by) = &self.closing {
            return format!("shut down by {by}");
        }
        if instance.is_foreign() {
            return instance.absence_in_words();
        }
        match self.awaited(instance) {
            Some(service) => format!("waits for {service} to be ready"),
            None => "not started yet".into(),
        }
    }

    fn health_in_words(&self, instance: &Instance) -> Vec<String> {
        let Some(body) = instance.body() else { return vec![] };
        let health = &body.health;
        let mut sentences = vec![
            gauge_in_words("startup", &health.startup),
            gauge_in_words("liveness", &health.liveness),
            gauge_in_words("readiness", &health.readiness),
        ];
        if health.is_sick() && instance.up().is_some() {
            let others = match instance.is_healed() {
                true => "its restart waits: another one restarts, or it cannot be spared",
                false => "opsdeck does not restart it for that (`liveness_restarts`)",
            };
            sentences.push(Some(others.to_owned()));
        }
        sentences.into_iter().flatten().collect()
    }

    fn rotation_in_words(&self, instance: &Instance) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(by) = &instance.held_by {
            sentences.push(format!("held out of rotation by {by}"));
        }
        if instance.benched {
            let halted = "a rollout keeps it out of rotation until it has proven itself".to_owned();
            sentences.push(halted);
        }
        if instance.is_reloading() {
            sentences
                .push("out of rotation around a reload signal, until it is ready again".into());
        }
        if instance.is_spare() {
            let spare = "a spare of the rolling restart: it ends once the others serve without it";
            sentences.push(spare.to_owned());
        }
        if let Some(flight) = instance.in_flight {
            sentences.push(match flight {
                InFlight::Exact(n) => format!("{} in flight", count(n.into(), "request")),
                InFlight::Estimated(n) => format!("about {} in flight", count(n.into(), "request")),
            });
        }
        if instance.stop().is_some() && !instance.rules.fronted && instance.own.port.is_some() {
            sentences.push("nothing stands in front of it: clients will notice".into());
        }
        sentences
    }
}

fn why_up(instance: &Instance, body: &Body) -> String {
    let reload = body.reload.as_ref().filter(|it| it.is_under_way());
    let why = why_so(instance, body);
    reload.map_or_else(|| why.clone(), |it| format!("{}, {why}", it.phrase()))
}

fn why_so(instance: &Instance, body: &Body) -> String {
    let failing = body.health.complaint();
    match (instance.ready(), failing) {
        (Some(true), _) if instance.held_by.is_some() || instance.benched || body.reloading => {
            "ready, out of rotation".into()
        }
        (Some(true), Some(failing)) => format!("ready, but {failing}"),
        (Some(true), None) => "ready".into(),
        (Some(false), Some(failing)) => format!("not ready: {failing}"),
        (Some(false), None) => "not ready".into(),
        (None, Some(failing)) => format!("not ready yet: {failing}"),
        (None, None) if instance.rules.readiness.is_some() => "no readiness result yet".into(),
        (None, None) => {
            format!("ready once it has run for {}", span(instance.rules.start_seconds))
        }
    }
}

fn why_leaving(instance: &Instance, stop: &Stop) -> String {
    let phrase = stop.errand.phrase();
    let what = match &stop.errand {
        Errand::Restart(_) | Errand::Rollout(_) | Errand::Term(_) | Errand::Kill(_) => "restarts",
        Errand::Liveness | Errand::Startup => "restarts",
        // Somebody has changed their mind since.
        Errand::Stop(_) if instance.is_wanted() => "restarts",
        Errand::Stop(_)
        | Errand::Configuration
        | Errand::Shutdown(_)
        | Errand::Unwanted
        | Errand::Surplus => "stops",
    };
    let what = if what == "restarts" && !instance.is_wanted() { "stops" } else { what };
    match stop.last_signal() {
        Some(signal) => format!("{what} {phrase}: {signal} sent"),
        None => format!("{what} {phrase}: finishing what is in flight, no signal yet"),
    }
}

fn ending(instance: &Instance) -> String {
    let crashes = instance.crashes;
    let times = match crashes {
        0 | 1 => String::new(),
        n => format!(", {n} times in a row"),
    };
    match (&instance.spawn_failure, &instance.last_exit) {
        (Some(reason), _) => format!("{}{times}", not_started(instance.name(), reason)),
        (None, Some(exit)) => format!("{}{times}", ended(&exit.cause)),
        (None, None) => "ended".into(),
    }
}

/// The row says whose it is and that it does not run: what is in the way comes first.
fn not_started(name: &Name, reason: &str) -> String {
    match reason.strip_prefix(&format!("{name} cannot start: ")) {
        Some(reason) => reason.to_owned(),
        None if reason.starts_with("could not ") => reason.to_owned(),
        None => format!("could not be started: {reason}"),
    }
}

fn exit_in_words(exit: &LastExit) -> String {
    let lost = match exit.lost {
        Some(InFlight::Exact(n)) => format!(", {} lost", count(n.into(), "request")),
        Some(InFlight::Estimated(n)) => {
            format!(", {} lost (estimated)", count(n.into(), "request"))
        }
        None => String::new(),
    };
    format!("the last process {}{lost}", ended(&exit.cause))
}

fn gauge_in_words(probe: &str, gauge: &Gauge) -> Option<String> {
    match gauge.failures() {
        0 => None,
        n => Some(format!("{probe} has failed {}: {}", count(n.into(), "time"), gauge.detail())),
    }
}

fn future_in_words(instance: &Instance) -> Vec<String> {
    let mut sentences = Vec::new();
    if instance.is_stale() {
        sentences.push("runs an older configuration until its next start".to_owned());
    }
    let crashes = instance.crashes;
    if let Some(retries) = instance.rules.retries
        && (1..=retries).contains(&crashes)
    {
        sentences.push(format!("given up if {} more in a row go wrong", retries - crashes + 1));
    }
    if !instance.is_wanted() && instance.is_occupied() {
        sentences.push("it stays down after that".into());
    }
    sentences
}
