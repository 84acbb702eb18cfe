//! Runs the fleet against the real world.
//!
//! The only task that touches the [`Fleet`]. Children, probes, the logger and clients all report through
//! one channel, which puts everything that happens into one order. Each turn is the same three steps:
//! wait for something, let the fleet decide, carry out the effects. What is known at once (a spawn, an
//! empty group) comes back from the hands before anything else is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{broadcast, mpsc};
use tracing::{debug, warn};

use super::applying::Config;
use super::clock;
use super::hands::Hands;
use super::kept::journal::Journal;
use super::kept::rollouts::Rollouts;
use super::kept::state::Line;
use super::output::logging::News;
use super::replace::Succession;
use super::runs::hooks::Hooks;
use super::show::facts::{self, Facts};
use super::show::history::History;
use super::show::publish::{self, Publisher};
use super::signals::Children;
use super::trees::cuts;
use super::trees::members::Ordered;
use super::turn::{Reply, Turn};
use crate::api::problem::Kind;
use crate::api::{self, Done, Problem};
use crate::fleet::input::{Effect, Extra, Input, Order, Record, Refusal, RefusalKind, Verb};
use crate::fleet::{By, Fleet, Name, Process, Timestamp};
use crate::process::fpm::Cut;
use crate::process::inherited;

/// Turns that are taken before clients and children get a word in.
const BATCH: usize = 64;
/// Events that wait for a slow follower of the journal.
const EVENTS: usize = 1024;

/// What comes of having no logger: a pipe has room for so much.
const WAITING: &str = "services that write more than 64 KiB wait";

/// How long hooks that run hold up the end of the daemon.
const LAST_HOOKS: Duration = Duration::from_secs(10);

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was stopped.
    AtRest,
    /// The services run on.
    Kept,
    /// The same, and nobody has ordered that: a signal ended it.
    Signalled,
    /// This process is to become another program.
    Replaced,
}

pub struct Daemon {
    pub(super) fleet: Fleet,
    pub(super) hands: Hands,
    pub(super) facts: Facts,
    pub(super) history: History,
    pub(super) journal: Journal,
    pub(super) rollouts: Rollouts,
    pub(super) hooks: Hooks,
    pub(super) publisher: Publisher,
    pub(super) config: Config,
    pub(super) events: broadcast::Sender<Arc<api::Event>>,
    /// What happened, and when, until it is written down: first the deed, then the word. No signal and no
    /// start waits for a line of a log.
    pub(super) unsaid: Vec<(jiff::Timestamp, Record)>,
    /// Set by a shutdown that stops everything first.
    stopping: bool,
    pub(super) succession: Succession,
    ended: Option<Ended>,
    /// Until when it waits for hooks in its end.
    lingers_until: Option<Timestamp>,
}

impl Daemon {
    pub fn new(
        fleet: Fleet,
        hands: Hands,
        hooks: Hooks,
        journal: Journal,
        publisher: Publisher,
        config: Config,
    ) -> Self {
        let mut facts = Facts::default();
        journal.recent(usize::MAX).iter().for_each(|it| facts.noted(it));
        Self {
            fleet,
            hands,
            facts,
            history: History::default(),
            journal,
            rollouts: Rollouts::default(),
            hooks,
            publisher,
            config,
            events: broadcast::Sender::new(EVENTS),
            unsaid: vec![],
            stopping: false,
            succession: Succession::default(),
            ended: None,
            lingers_until: None,
        }
    }

    /// Takes turns until the daemon ends.
    pub async fn run(&mut self, mut turns: mpsc::Receiver<Turn>, children: Children) -> Ended {
        // Children of the program before may have ended while nobody looked.
        self.reap();
        loop {
            let busy = self.settle();
            if let Some(ended) = self.ended
                && !self.lingers()
            {
                self.hands.send_all_kept();
                self.publisher.publish_now(clock::now(), &self.fleet, &self.facts);
                self.hooks.let_go();
                match ended {
                    Ended::AtRest => self.hands.retire(),
                    Ended::Replaced => self.leave_turns(&mut turns),
                    Ended::Kept | Ended::Signalled => (),
                }
                self.hands.state.flush_at_last();
                return ended;
            }
            if busy {
                // Hundreds of spawns take a while: let clients be served in between.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = children.ended() => self.reap(),
                Some(turn) = turns.recv() => {
                    self.take(turn);
                    for turn in std::iter::from_fn(|| turns.try_recv().ok()).take(BATCH) {
                        self.take(turn);
                    }
                }
                () = std::future::ready(()), if busy => (),
                () = clock::sleep_until(self.next_deadline()) => self.on_deadline(),
            }
        }
    }

    /// Somebody is being paged: what that was about may be why the daemon ends.
    fn lingers(&mut self) -> bool {
        let now = clock::now();
        self.hooks.is_busy() && now < *self.lingers_until.get_or_insert(now + LAST_HOOKS)
    }

    /// The next program begins with what it finds: a signal to end that came last is for it.
    fn leave_turns(&mut self, turns: &mut mpsc::Receiver<Turn>) {
        self.hands.probes.stop_all();
        if let Err(err) = inherited::hold_signals_back() {
            warn!(%err, "a signal may get lost while this becomes the next program");
        }
        while let Ok(turn) = turns.try_recv() {
            if matches!(turn, Turn::Shutdown { by: None, reply: None, .. }) {
                inherited::hold_back(Signal::SIGTERM);
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let hands = [self.hands.next_sample(), self.hands.next_look(), self.hands.next_survey()];
        let others = [
            self.hands.next_reading(),
            self.hands.foreign.next_comparison(),
            self.hands.state.wakes_at(),
            self.fleet.next_deadline(),
            self.publisher.due(),
            self.lingers_until,
        ];
        hands.into_iter().chain(others).flatten().min()
    }

    fn on_deadline(&mut self) {
        let now = clock::now();
        if self.fleet.next_deadline().is_some_and(|it| it <= now) {
            self.turn(Input::DeadlineReached);
        }
        if self.hands.next_look().is_some_and(|it| it <= now) {
            self.hands.look_at_groups();
        }
        if self.hands.next_survey().is_some_and(|it| it <= now) {
            self.hands.look_at_reloads();
        }
        if self.hands.next_sample().is_some_and(|it| it <= now) {
            self.hands.sample(now);
        }
        if self.hands.next_reading().is_some_and(|it| it <= now) {
            self.hands.read_gauges(now, &self.fleet);
        }
    }

    fn take_outcomes(&mut self) {
        for _ in 0..BATCH {
            let Some(input) = self.hands.take_outcome() else { break };
            self.turn(input);
        }
    }

    /// Carries out what is known at once, writes what was decided, tells who watches.
    ///
    /// Returns true if there is more to do before anything may be waited for.
    fn settle(&mut self) -> bool {
        self.take_outcomes();
        self.follow_pid_files();
        let busy = self.hands.has_outcomes();
        self.tell_unsent();
        self.catch_up();
        self.journal.flush();
        self.hands.flush();
        self.mark_changed();
        self.update_frame();
        let now = clock::now();
        self.hands.end_surveys(&self.fleet);
        self.watch_load();
        self.publisher.publish(now, &self.fleet, &self.facts);
        if self.stopping && !busy && self.fleet.is_at_rest() {
            self.ended = Some(Ended::AtRest);
        }
        if self.succession.next.is_some() && !busy && !self.is_running() {
            self.ended.get_or_insert(Ended::Replaced);
        }
        busy
    }

    /// A command runs that would not outlive this program.
    fn is_running(&self) -> bool {
        self.hands.runs.is_busy() || self.hands.foreign.is_busy() || self.hooks.is_busy()
    }

    pub(super) fn mark_changed(&mut self) {
        let changed = self.fleet.take_changed();
        self.hands.release_sockets(&changed, &self.fleet);
        self.publisher.mark(changed);
    }

    fn reap(&mut self) {
        if self.hands.reap_first() {
            self.tell_refusals();
            self.take_outcomes();
        }
        self.hands.reap();
        self.tell_refusals();
    }

    fn tell_refusals(&mut self) {
        for (name, reason) in self.hands.take_refusals() {
            // Instead of last words: a code alone explains nothing.
            self.facts.said(name.as_str(), Some(reason.clone()));
            self.record_of("spawn-failed", name, reason);
        }
    }

    fn tell_unsent(&mut self) {
        for (name, why) in self.hands.take_unsent() {
            self.record_of("signal-failed", name, why);
        }
    }

    fn record_of(&mut self, kind: &'static str, instance: Name, message: String) {
        let service = self.fleet.service_of(instance.as_str()).cloned();
        self.record(Record {
            kind,
            service,
            instance: Some(instance),
            by: None,
            message,
            with_evidence: false,
            extra: Extra::Nothing,
        });
    }

    /// One turn of the fleet.
    pub(super) fn turn(&mut self, input: Input) {
        debug!(?input, "turn");
        let effects = self.fleet.handle(clock::now(), input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        debug!(?effects, "effects");
        // Intents are written before the processes they are about begin.
        self.hands.intend(&effects);
        let at = clock::wall();
        let (mut starts, mut told) = (vec![], vec![]);
        for effect in effects {
            match effect {
                Effect::Record(record) => {
                    told.push((at, record));
                }
                // Together: what ends comes before what begins, and many start side by side.
                Effect::Spawn { instance, generation } => starts.push((instance, generation)),
                effect => self.hands.perform(effect),
            }
        }
        self.hands.start(starts);
        // What is evident now may not be so after the next turn.
        let is_evident = told.iter().any(|(_, it)| it.with_evidence);
        self.unsaid.append(&mut told);
        if is_evident {
            self.catch_up();
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Input(input) => self.turn(input),
            Turn::Probed(probed) => self.on_probed(probed),
            Turn::Measured(measured) => self.on_measured(measured),
            Turn::Gauged(reading) => self.on_gauged(reading),
            Turn::Command(news) => self.on_command(news),
            Turn::Logger(news) => self.on_logger(news),
            Turn::Gateway(news) => self.on_gateway(news),
            Turn::Nginx(news) => self.on_nginx(news),
            Turn::Hook(news) => self.on_hook(news),
            Turn::Doorway(news) => self.on_doorway(news),
            Turn::Metrics(trouble) => self.config.metrics_trouble = trouble,
            Turn::PidFile { instance, seen } => self.on_pid_file(instance, seen),
            Turn::Begun { instance, generation, outcome } => {
                self.on_begun(&instance, generation, outcome);
            }
            Turn::AdoptedExit(end) => self.on_adopted_exit(&end),
            Turn::Order { order, target, reply } => {
                let aimed = self.aim((order, target, reply));
                if let Some(ordered) = aimed.and_then(|it| self.weigh(it)) {
                    self.order(ordered);
                }
            }
            Turn::Looked(look) => self.on_looked(look),
            Turn::Ask(question) => self.answer(question),
            Turn::TookOver(heir) => self.on_taken_over(*heir),
            Turn::Replace(asked) => self.on_replace(asked),
            Turn::Proven { asked, program, proof } => self.on_proven(asked, program, proof),
            Turn::Settings(settings) => self.on_settings(settings),
            Turn::Shutdown { by, keep, reply } => self.on_shutdown(by, keep, reply),
        }
    }

    fn on_probed(&mut self, it: super::life::probes::Probed) {
        self.facts.probed(&it.instance, it.generation, it.probe, &it.outcome);
        let instance = Name::from(it.instance.as_str());
        self.publisher.mark(self.fleet.service_of(&it.instance).cloned());
        self.turn(Input::Probed {
            instance,
            generation: it.generation,
            probe: it.probe,
            ok: it.outcome.ok,
            detail: facts::detail(&it.outcome),
        });
    }

    /// For who looks once, or acts.
    pub(super) fn measure_load(&mut self) {
        for input in self.hands.fresh_load(clock::now()) {
            self.turn(input);
        }
    }

    fn on_logger(&mut self, news: News) {
        match news {
            News::Up => {
                self.config.logger_trouble = None;
                if self.config.logger_outage.ends() {
                    self.note("logger", None, "the logger is up again".into());
                }
            }
            News::Down(why) => {
                let trouble = format!("the logger is down ({why}): {WAITING}");
                self.config.logger_trouble = Some(trouble.clone());
                if self.config.logger_outage.goes_on(clock::now()) {
                    self.note("logger", None, trouble);
                }
            }
            News::Silent(words) => {
                let trouble = format!("the logger {words}: {WAITING}");
                self.config.logger_trouble = Some(trouble.clone());
                self.note("logger", None, trouble);
            }
            News::Answers => {
                self.config.logger_trouble = None;
                self.note("logger", None, "the logger answers again".into());
            }
            News::Trouble { name, message } => {
                self.note(
                    "output-lost",
                    None,
                    format!("output of {name} cannot be kept: {message}"),
                );
            }
            News::TroubleOver { name, dropped_bytes } => self.note(
                "output-kept",
                None,
                format!("output of {name} is kept again; {dropped_bytes} bytes are missing"),
            ),
            News::Notice(text) => self.note("logger", None, text),
            News::Flushed { id } => {
                if let Some((name, words)) = self.hands.last_words(id) {
                    self.facts.said(name.as_str(), words);
                    self.publisher.mark(self.fleet.service_of(name.as_str()).cloned());
                }
            }
        }
    }

    pub(super) fn order(&mut self, ordered: Ordered) {
        self.order_cutting(ordered, &BTreeMap::new());
    }

    /// `cuts`: where requests are cut if it is a signal.
    pub(super) fn order_cutting(&mut self, ordered: Ordered, cuts: &BTreeMap<Name, Cut>) {
        let (mut order, target, reply) = ordered;
        let is_member = matches!(order.verb, Verb::SignalMember { .. });
        let refusal = self.changed(target.filter(|_| !is_member));
        let answer = match refusal.or_else(|| self.foresee(&order)) {
            Some(refusal) => Err(refusal),
            None => {
                self.hands.preflight(&mut order.verb, &self.fleet);
                cuts::mark(&mut order.verb, cuts);
                self.hands.trust.forget_all();
                self.measure_load();
                let (answer, effects) = self.fleet.order(clock::now(), order);
                self.perform(effects);
                answer.map(|message| Done {
                    message,
                    revision: self.publisher.revision(),
                    ..Done::default()
                })
            }
        };
        // What was promised is known to the next daemon.
        self.hands.state.write();
        // The client may have gone; what it ordered is done all the same.
        let _ = reply.send(answer);
    }

    /// Refuses an order that is meant for another process than the one that runs now.
    fn changed(&self, target: Option<(Name, Process)>) -> Option<Refusal> {
        let (instance, seen) = target?;
        if !self.fleet.knows(instance.as_str()) {
            return None;
        }
        let present = self.fleet.process_of(instance.as_str());
        (present != Some(seen)).then(|| Refusal {
            kind: RefusalKind::Changed,
            what: format!("{instance} was left alone"),
            why: match present {
                Some(now) => format!("pid {} was replaced by pid {} meanwhile", seen.pid, now.pid),
                None => format!("pid {} has ended meanwhile", seen.pid),
            },
            help: Some("look again, then press the key again".into()),
        })
    }

    /// Everything is being stopped, and then the daemon.
    pub(super) fn stopping(&self) -> bool {
        self.stopping
    }

    /// Only hooks that run hold up its end.
    pub(super) fn is_ending(&self) -> bool {
        self.ended.is_some()
    }

    fn on_shutdown(
        &mut self,
        by: Option<By>,
        keep: bool,
        reply: Option<Reply<Result<Done, Problem>>>,
    ) {
        if keep && self.stopping {
            return self.refuse_to_keep(by, reply);
        }
        let message = if keep {
            let is_ordered = by.is_some() || reply.is_some();
            self.ended = Some(if is_ordered { Ended::Kept } else { Ended::Signalled });
            self.succession.next = None;
            "the daemon ends; the services run on"
        } else {
            "stopping all services, then the daemon"
        };
        self.note("shutdown", by.clone(), message.into());
        if !keep {
            self.stop_all(by);
        }
        if let Some(reply) = reply {
            let done = Done { message: message.into(), ..Done::default() };
            // The client may have gone.
            let _ = reply.send(Ok(done));
        }
    }
}

impl Daemon {
    /// It is too late for the services to run on.
    fn refuse_to_keep(&mut self, by: Option<By>, reply: Option<Reply<Result<Done, Problem>>>) {
        let why = "all services are being stopped, and the daemon ends when they have";
        self.note("shutdown", by, format!("it goes on: {why}"));
        if let Some(reply) = reply {
            // The client may have gone.
            let problem = Problem::new(Kind::Refused, "the services cannot be kept", why);
            let _ =
                reply.send(Err(problem.with_help("wait for its end, then start opsdeck again")));
        }
    }

    /// Begins to stop everything; the next daemon goes on with it, should this one not come to its end.
    fn stop_all(&mut self, by: Option<By>) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        // It was to end before they have.
        self.ended = None;
        self.succession.next = None;
        self.hands.foreign.starts.cancel();
        self.hands.state.append(&Line::Closing { by: by.as_ref().map(publish::actor) });
        let by = by.unwrap_or_else(super::own_name);
        let order = Order { by, verb: Verb::StopAll, guard: false };
        let (_, effects) = self.fleet.order(clock::now(), order);
        self.perform(effects);
    }

    /// The last daemon ended in the middle of a shutdown.
    pub(super) fn resume_shutdown(&mut self, by: Option<By>) {
        let message = "the last daemon ended before its shutdown did: it goes on";
        self.note("shutdown", by.clone(), message.into());
        self.stop_all(by);
    }
}
