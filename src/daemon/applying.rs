//! Applying a configuration: what changes, what waits for a word, what the screens are told.
//!
//! A broken file replaces nothing. A watched edit applies only what stops nothing; the rest waits,
//! named, until an operator or a signal says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use super::clock::millis;
use super::driver::Daemon;
use super::http::doorway;
use super::http::peer::Access;
use super::life::launch::Values;
use super::output::outage::Outage;
use super::renames::renames;
use super::runs::build_for;
use super::show::publish::Frame;
use super::trees::guesses::Guesses;
use super::turn::{Mistakes, NewSettings, Scope};
use super::{config as file, own_name};
use crate::api::problem::Kind;
use crate::api::{self, Difference, Done, Problem};
use crate::config::diff;
use crate::config::settings::{Confirm, Notify, Settings};
use crate::fleet::input::Input;
use crate::fleet::sheet::{self, Condition};
use crate::fleet::{By, Name};

/// The configuration as the daemon holds it.
#[derive(Debug)]
pub struct Config {
    pub path: Option<PathBuf>,
    /// The API's; its mode follows who may use it.
    pub socket: PathBuf,
    pub settings: Arc<Settings>,
    /// Why the file as it is now was not applied.
    pub error: Option<String>,
    /// What a watched edit would stop.
    pub pending: Vec<String>,
    pub guesses: Guesses,
    pub logger_trouble: Option<String>,
    pub logger_outage: Outage,
    pub gateway_trouble: Option<String>,
    /// Of gateways that retire, by their pids.
    pub retiring_troubles: BTreeMap<u32, String>,
    pub metrics_trouble: Option<String>,
    /// Why nobody finds this daemon.
    pub doorway_trouble: Option<String>,
    /// Standing facts of this daemon.
    pub base: Frame,
    /// Who may look and who may act.
    pub access: watch::Sender<Arc<Access>>,
    /// Where Prometheus may read.
    pub metrics: watch::Sender<Option<std::net::SocketAddr>>,
}

impl Config {
    fn wire(&self) -> api::Config {
        api::Config {
            path: self.path.as_ref().map(|it| it.display().to_string()),
            error: self.error.clone(),
            pending: self.pending.clone(),
            confirm: match self.settings.deck.confirm {
                Confirm::Guard => api::Confirm::Guard,
                Confirm::Always => api::Confirm::Always,
                Confirm::Never => api::Confirm::Never,
            },
            look: Box::new(api::Look {
                theme: self.settings.deck.look.theme.clone(),
                mouse: self.settings.deck.look.mouse,
                ascii: self.settings.deck.look.ascii,
                show_cost: self.settings.deck.look.show_cost,
            }),
            title: self.settings.deck.title,
            notify: match self.settings.deck.notify {
                Notify::Off => api::Notify::Off,
                Notify::Osc9 => api::Notify::Osc9,
                Notify::Osc777 => api::Notify::Osc777,
            },
            keys: self.settings.keys.clone(),
        }
    }

    /// What applying these settings would do.
    pub fn differences(&self, new: &Settings) -> Vec<Difference> {
        let mut new = new.clone();
        self.guesses.put_into(&self.settings, &mut new);
        diff::diff(&self.settings, &new)
            .changes
            .iter()
            .map(|it| Difference {
                name: it.name.clone(),
                does: it.does.word().into(),
                message: it.message(),
                values: it.values.iter().map(key_change).collect(),
            })
            .collect()
    }

    /// A plan of the fleet with the commands and the patience that only the configuration knows.
    pub fn plan(&self, service: &str, plan: &sheet::Plan, values: &Values) -> api::Plan {
        let known = self.settings.services.iter().find(|it| it.rules.name.as_str() == service);
        let step = |it: &sheet::PlanStep| api::PlanStep {
            instance: it.instance.to_string(),
            because: it.because.into(),
            ready: it.ready,
            build: known
                .map_or_else(Vec::new, |known| build_for(known, it.instance.as_str(), values)),
            max_wait_time_ms: known.map_or(0, |it| millis(it.rules.max_wait_time)),
            ready_timeout_ms: known.map_or(0, |it| millis(it.rules.rollout.ready_timeout)),
            verdicts: vec![],
            expected_ms: None,
        };
        api::Plan {
            service: service.to_owned(),
            min_ready: plan.min_ready,
            steps: plan.steps.iter().map(step).collect(),
            downtime: plan.downtime.clone(),
            blocked: plan.blocked.clone(),
            expected_ms: None,
        }
    }
}

fn key_change(it: &diff::KeyChange) -> api::KeyChange {
    api::KeyChange { key: it.key.clone(), from: it.from.clone(), to: it.to.clone() }
}

/// What would get another engine while it runs.
struct Taken {
    /// Of the first of them.
    service: Name,
    instances: Vec<Name>,
    to_theirs: bool,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.instances.iter().map(Name::to_string).collect();
        let verb = if names.len() == 1 { "runs" } else { "run" };
        let (from, to) = if self.to_theirs { ("local", "pidfile") } else { ("pidfile", "local") };
        write!(f, "{} {verb}, and `engine` of {} ", names.join(", "), self.service)?;
        write!(f, "changes from {from} to {to}: it would be run twice, or by nobody")
    }
}

impl Daemon {
    pub(super) fn on_doorway(&mut self, news: doorway::News) {
        if news == doorway::News::Anew {
            let message =
                format!("{} was removed; it is there again", self.config.socket.display());
            self.note("api-socket", None, message);
        }
        self.config.doorway_trouble = match news {
            doorway::News::Lost(why) => Some(why),
            doorway::News::Found | doorway::News::Anew => None,
        };
    }

    pub(super) fn update_frame(&mut self) {
        let troubles = [
            self.journal.trouble.clone(),
            self.hands.trouble(),
            self.config.logger_trouble.clone(),
            self.config.gateway_trouble.clone(),
            self.config.metrics_trouble.clone(),
            self.config.doorway_trouble.clone(),
        ];
        let retiring = self.config.retiring_troubles.values().cloned().map(Some);
        let listeners = self.hands.front.troubles.iter();
        let listeners = listeners.map(|(name, why)| Some(format!("gateway {name} {why}")));
        let frame = Frame {
            config: self.config.wire(),
            notices: troubles.into_iter().chain(retiring).chain(listeners).flatten().collect(),
            ..self.config.base.clone()
        };
        if *self.publisher.frame() != frame {
            self.publisher.set_frame(frame);
        }
    }

    pub(super) fn on_settings(&mut self, new: NewSettings) {
        // Edits are always seen; whether they matter may change with any configuration.
        if new.scope == Scope::Watched && !self.config.settings.deck.watch {
            return;
        }
        let answer = match new.read {
            Ok(settings) => self.apply(*settings, &new.scope),
            Err(mistakes) => Err(self.refuse(&mistakes, &new.scope)),
        };
        if let Some(reply) = new.reply {
            // The client may have gone.
            let _ = reply.send(answer);
        }
    }

    pub(super) fn refuse(&mut self, mistakes: &Mistakes, scope: &Scope) -> Problem {
        self.note_refusal(mistakes.first_lines.join("; "), scope);
        file::problem_of(mistakes)
    }

    fn note_refusal(&mut self, why: String, scope: &Scope) {
        if self.config.error.as_ref() != Some(&why) {
            let message = format!("the configuration was not applied: {why}");
            self.note("config-refused", by(scope), message);
        }
        self.config.error = Some(why);
    }

    /// Whose `engine` would be another one while it runs: whoever runs it would lose hold of it.
    fn taken_from_under(&self, new: &Settings) -> Option<Taken> {
        let all = new.services.iter().flat_map(|it| it.instances.iter().map(move |own| (it, own)));
        let is_taken = |name: &Name, theirs: bool| {
            let before = self.hands.is_foreign(name);
            // After a start of the daemon it may still be what it was before that.
            let runs = self.hands.living.get(name).map_or(before, |it| it.foreign);
            before != theirs && runs != theirs && self.is_occupied(name)
        };
        let mut taken = all.filter_map(|(service, own)| {
            let (name, theirs) = (Name::from(own.name.as_str()), own.pidfile.is_some());
            let known = self.hands.known.contains_key(&name);
            (known && is_taken(&name, theirs)).then(|| (service.rules.name.clone(), name, theirs))
        });
        let (service, first, to_theirs) = taken.next()?;
        let instances = std::iter::once(first).chain(taken.map(|it| it.1)).collect();
        Some(Taken { service, instances, to_theirs })
    }

    fn is_occupied(&self, name: &Name) -> bool {
        self.fleet.condition_of(name.as_str()).is_some_and(|it| match it {
            Condition::Stopped | Condition::Backoff | Condition::Exited | Condition::Fatal => false,
            Condition::Spawning | Condition::Starting | Condition::Running => true,
            Condition::Draining | Condition::Stopping => true,
        })
    }

    fn refuse_engine(&mut self, taken: &Taken, scope: &Scope) -> Problem {
        let detail = taken.to_string();
        let names: Vec<_> = taken.instances.iter().map(Name::to_string).collect();
        let help = format!("stop it first: opsdeck stop {}", names.join(" "));
        self.note_refusal(format!("{detail}; {help}"), scope);
        Problem::new(Kind::RefusedYet, "the configuration was not applied", detail).with_help(help)
    }

    /// Whose name would be another one while a rollout or a signal goes through its instances: whoever follows
    /// that would lose it.
    fn renamed_midway(&self, new: &Settings) -> Option<(Name, Name)> {
        let mut all = renames(&self.config.settings, new).into_iter();
        all.find(|(from, _)| self.fleet.is_engaged(from.as_str()))
    }

    fn refuse_name(&mut self, from: &Name, to: &Name, scope: &Scope) -> Problem {
        let detail = format!(
            "{from} becomes {to}, and a rolling restart or a reload goes through its instances"
        );
        let help = format!(
            "wait until it has ended (opsdeck roll --abort {from} ends a rolling restart), then: opsdeck config apply"
        );
        self.note_refusal(format!("{detail}; {help}"), scope);
        Problem::new(Kind::RefusedYet, "the configuration was not applied", detail).with_help(help)
    }

    pub(super) fn apply(&mut self, mut new: Settings, scope: &Scope) -> Result<Done, Problem> {
        self.config.guesses.put_into(&self.config.settings, &mut new);
        if let Some(taken) = self.taken_from_under(&new) {
            return Err(self.refuse_engine(&taken, scope));
        }
        if let Some((from, to)) = self.renamed_midway(&new) {
            return Err(self.refuse_name(&from, &to, scope));
        }
        self.config.error = None;
        let whole = diff::diff(&self.config.settings, &new);
        let forced = matches!(scope, Scope::Order { yes: true, .. });
        if *scope != Scope::Watched && whole.stops_more_than_half() && !forced {
            return Err(self.too_much(&whole, scope));
        }
        let texts = new.texts.clone();
        let (settings, pending) = match scope {
            Scope::Watched => diff::without_stops(&self.config.settings, &new),
            Scope::Signal(_) | Scope::Order { .. } => (new, vec![]),
        };
        let now = diff::diff(&self.config.settings, &settings);
        if !pending.is_empty() && pending != self.config.pending {
            let message = format!("an edit of the configuration waits: {}", pending.join(", "));
            self.note("config-pending", None, message);
        }
        self.keep_applied(&texts, pending.is_empty());
        self.config.pending = pending;
        let mut message = summary(&now);
        let mut differences = self.config.differences(&settings);
        if !now.is_empty() || settings != *self.config.settings {
            self.take_settings(settings);
            let came = self.as_it_came(now);
            for (told, it) in differences.iter_mut().zip(&came.changes) {
                told.message = it.message();
            }
            message = summary(&came);
            self.note("config-applied", by(scope), format!("configuration applied: {message}"));
        }
        Ok(Done { message, diff: Some(differences), ..Done::default() })
    }

    /// The same changes with what became of them: what is changed back to what runs makes nothing stale.
    fn as_it_came(&self, mut diff: diff::Diff) -> diff::Diff {
        for it in diff.changes.iter_mut().filter(|it| it.taken_up.is_some()) {
            if self.runs_as_configured(&it.name) {
                it.taken_up = Some(diff::TakenUp::Already);
            }
        }
        diff
    }

    /// All of a service, or an instance, runs and is not stale.
    fn runs_as_configured(&self, name: &str) -> bool {
        let service = self.fleet.service_sheet(name).map(|it| it.instances);
        let instance = || self.fleet.instance_sheet(name).map(|it| vec![it]);
        let all = service.or_else(instance).unwrap_or_default();
        !all.is_empty() && all.iter().all(|it| it.process.is_some() && !it.stale)
    }

    pub(super) fn take_settings(&mut self, settings: Settings) {
        self.rename_services(&settings);
        let settings = Arc::new(settings);
        let rules = settings.services.iter().map(|it| it.rules.clone()).collect();
        self.hands.configure(&settings);
        for (name, living) in &self.hands.living {
            let in_rotation = self.fleet.rotation_of(name.as_str());
            self.hands.front.joins(name, living.generation, living.port, in_rotation);
        }
        self.config.access.send_replace(Arc::new(Access::of(&settings.deck)));
        self.config.metrics.send_replace(settings.deck.metrics);
        let shared = Access::is_shared(&settings.deck);
        let state_dir = &self.hands.places.state_dir;
        if let Err(err) = doorway::open_to(state_dir, &self.config.socket, shared) {
            warn!(%err, socket = %self.config.socket.display(), "its mode could not be changed");
        }
        self.config.settings = settings;
        self.turn(Input::Configured(rules));
        let fronted =
            |name: &str| self.config.settings.gateways.iter().any(|it| it.service.as_str() == name);
        let front = &self.hands.front;
        let counted = |name: &str| front.counts(&Name::from(name));
        self.facts.retain_gateways(fronted, counted);
        let known = |name: &str| self.fleet.knows(name);
        let told = |name: &str| counted(name) || self.hands.gauges.speaks_for(&Name::from(name));
        self.history.retain(fronted, told, known);
        self.show_gateways();
        self.facts.retain(|name| self.fleet.knows(name));
        self.config.guesses.retain(&self.config.settings);
        self.forget_rollouts();
    }

    /// Of services that are gone.
    pub(super) fn forget_rollouts(&mut self) {
        let services: BTreeSet<Name> = self.fleet.service_names().into_iter().collect();
        self.hands.runs.retain(|it| services.contains(it));
        let known = &self.hands.known;
        self.rollouts.retain(|it| services.contains(it), |it| known.contains_key(it));
    }

    fn too_much(&mut self, whole: &diff::Diff, scope: &Scope) -> Problem {
        let stops = whole.stops().join(", ");
        let detail = format!("it would stop more than half of the services: {stops}");
        self.config.pending = whole.stops().iter().map(|it| format!("stops {it}")).collect();
        if let Scope::Signal(signal) = scope {
            self.note("config-pending", None, format!("{signal} was not followed: {detail}"));
        }
        Problem::new(Kind::Confirm, "the configuration was not applied", detail)
            .with_help("if that is meant: opsdeck config apply --yes")
    }
}

fn by(scope: &Scope) -> Option<By> {
    match scope {
        Scope::Watched => None,
        Scope::Signal(signal) => {
            let own = own_name();
            Some(By { login: format!("{signal} to {}", own.login).into(), ..own })
        }
        Scope::Order { by, .. } => Some(by.clone()),
    }
}

/// `starts queue; stops cron; web1 is stale`.
fn summary(diff: &diff::Diff) -> String {
    if diff.is_empty() {
        return "nothing to do: the configuration is as it runs".into();
    }
    let lines = diff.changes.iter().map(|it| format!("{}: {}", it.name, it.message()));
    lines.collect::<Vec<_>>().join("; ")
}
