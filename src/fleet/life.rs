//! The way up, and what follows an end: starts, exits, crashes.
//!
//! A crash is restarted at once the first time, then after a backoff that doubles; a start that did not
//! come about counts as a crash, so nothing here can spin. An exit that somebody asked for is no crash.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exits::{self, Signalled};
use super::health::Health;
use super::input::{Effect, Exit, Extra, InFlight, OutOfMemory, Probe, SpawnFailure, Status};
use super::instance::{Aftermath, Body, Cut, Ending, Instance, Phase, Rest};
use super::ladder::{Errand, Manner, PATIENCE_WITH_KILL, Stop};
use super::reload::Reload;
use super::rules::Restart;
use super::sheet::{Condition, LastExit};
use super::time::Timestamp;
use super::turn::{Turn, elapsed};
use super::words::Process;

/// A cut that was told so long before an exit has to do with it.
const CUT_BEFORE_EXIT: Duration = Duration::from_secs(1);

impl Instance {
    /// Starts the next generation, if nothing of an earlier one is left.
    pub(super) fn start(&mut self, turn: &mut Turn) {
        if self.is_occupied() || !self.can_start() {
            return;
        }
        if !turn.open {
            self.phase = Phase::Idle(Rest::Stopped);
            return;
        }
        self.generation += 1;
        self.runs = Some(self.own.fingerprint);
        self.told_ready = None;
        self.phase = Phase::Spawning(None);
        turn.push(Effect::Spawn { instance: self.own.name.clone(), generation: self.generation });
    }

    pub(super) fn on_spawned(&mut self, turn: &mut Turn, generation: u64, process: Process) {
        let known = self.is_occupied() || self.ended_generation == generation;
        let ours = generation == self.generation && known;
        match &mut self.phase {
            Phase::Spawning(wish) if ours => {
                let wish = wish.take();
                self.spawn_failure = None;
                let foreign = self.is_foreign();
                self.phase = Phase::Up(Body::new(process, turn.now, Health::fresh(), foreign));
                self.say(turn, "started", None, format!("started, pid {}", process.pid));
                match wish {
                    Some(wish) => self.leave_as_wished(turn, wish),
                    None => self.on_time(turn),
                }
            }
            // Its exit was reported first, or the report came twice.
            Phase::Up(_) | Phase::Leaving(..) | Phase::Sweeping(_) | Phase::Idle(_) if ours => {}
            // A process that nobody here asked for must not live beside the one that is known.
            Phase::Idle(_)
            | Phase::Spawning(_)
            | Phase::Up(_)
            | Phase::Leaving(..)
            | Phase::Sweeping(_) => {
                turn.push(Effect::KillAll { instance: self.own.name.clone(), generation });
            }
        }
    }

    pub(super) fn on_spawn_failed(
        &mut self,
        turn: &mut Turn,
        generation: u64,
        failure: SpawnFailure,
    ) {
        if generation != self.generation || !matches!(self.phase, Phase::Spawning(_)) {
            return;
        }
        self.phase = Phase::Idle(Rest::Stopped);
        self.mishaps += 1;
        self.say(turn, "spawn-failed", None, failure.reason.clone());
        self.spawn_failure = Some(failure.reason);
        if !self.is_wanted() || !turn.open {
            return;
        }
        let is_final = self.rules.restart == Restart::Never && !failure.passing;
        if is_final || self.is_foreign() {
            self.give_up(turn);
            return;
        }
        // Trying at once what just failed would fail again.
        self.crash(turn, Duration::ZERO, AtFirst::Wait);
    }

    /// Takes over a process that an earlier daemon started.
    pub(super) fn adopt(&mut self, turn: &mut Turn, body: Body, generation: u64, fingerprint: u64) {
        if self.is_occupied() {
            if generation != self.generation {
                turn.push(Effect::KillAll { instance: self.own.name.clone(), generation });
            }
            return;
        }
        self.generation = self.generation.max(generation);
        // Where no record says what it was started with, nothing says that it was something else.
        self.runs = Some(if fingerprint == 0 { self.own.fingerprint } else { fingerprint });
        self.rotation = None;
        self.told_ready = (self.was_ready.take() == Some(generation)).then_some(true);
        // Until something better is recalled.
        self.was = Some((generation, Condition::Running, body.started));
        let (pid, foreign) = (body.process.pid, body.foreign);
        self.phase = Phase::Up(body);
        self.say(turn, "adopted", None, format!("found running, pid {pid}"));
        if foreign != self.is_foreign() {
            self.tell_engine(turn, foreign);
        }
    }

    pub(super) fn on_probed(
        &mut self,
        turn: &mut Turn,
        generation: u64,
        probe: Probe,
        ok: bool,
        detail: String,
    ) {
        let ours = generation == self.generation;
        let Phase::Up(body) = &mut self.phase else { return };
        if !ours {
            return;
        }
        body.health.note(turn.now, probe, ok, detail, &self.rules);
        if body.health.has_failed_startup() && self.is_healed() {
            let detail = self.body().map_or("", |it| it.health.startup.detail());
            let message = format!("startup fails: {detail}");
            self.say(turn, "startup-failed", None, message);
            self.leave(turn, Errand::Startup, Manner::Ladder);
        }
    }

    /// What the passing of time does to a process that runs.
    pub(super) fn on_time(&mut self, turn: &Turn) {
        let ripe_after = self.rules.start_seconds;
        if let Phase::Up(body) = &mut self.phase
            && turn.now >= body.started + ripe_after
        {
            body.health.ripe = true;
        }
    }

    /// The leader ended. Its group may live on, so the sweep comes first, always.
    pub(super) fn on_exited(&mut self, turn: &mut Turn, generation: u64, exit: Exit) {
        if generation != self.generation {
            self.amend_exit(generation, exit);
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Idle(Rest::Stopped)) {
            Phase::Up(body) => self.on_exit_by_itself(turn, exit, Some(body)),
            Phase::Spawning(None) => self.on_exit_by_itself(turn, exit, None),
            Phase::Spawning(Some(wish)) => {
                let cause = exits::cause_of_exit(turn.now, &exit, None);
                self.note_exit(turn.now, exit, cause, None);
                self.sweep(turn, Ending::Expected, Some(wish.errand));
            }
            Phase::Leaving(body, stop) => self.on_exit_in_stop(turn, exit, &body, *stop),
            phase @ (Phase::Idle(_) | Phase::Sweeping(_)) => {
                self.phase = phase;
                self.amend_exit(generation, exit);
            }
        }
    }

    fn on_exit_by_itself(&mut self, turn: &mut Turn, exit: Exit, body: Option<Body>) {
        let signalled = self.signalled.take();
        let asked_for = signalled.filter(|it| it.explains(turn.now, &exit));
        let ran = body.as_ref().map_or(Duration::ZERO, |body| turn.now.since(body.started));
        let ending = match asked_for {
            Some(_) => Ending::Expected,
            None => Ending::ByItself { clean: exit.status == Status::Code(0), ran },
        };
        if ending != Ending::Expected && !self.was_launcher(body.as_ref()) {
            self.mishaps += 1;
        }
        let flight = self.flight();
        let lost = self.lost(flight);
        let cause = exits::cause_of_exit(turn.now, &exit, asked_for.as_ref());
        let by = asked_for.as_ref().map(|it| &it.by);
        let how = exits::how(&exit, asked_for.as_ref());
        let message = format!("{how}{}", exits::flight(flight));
        let reload = body.as_ref().and_then(|it| it.reload.clone()).filter(Reload::is_under_way);
        let probing = body.map(|body| body.probing).unwrap_or_default();
        self.ended_alone = self.generation;
        self.note_exit(turn.now, exit, cause, lost);
        self.stop_probes(turn, probing);
        self.sweep(turn, ending, None);
        if let Some(it) = reload {
            let told = format!("{how} in the middle of it ({})", it.signal);
            self.say_with_evidence(turn, "reload-incomplete", Some(&it.by), told, true);
        }
        self.say_exited(turn, by, message, lost.map_or(Extra::Nothing, Extra::Lost));
    }

    /// It may have been there only to bring up the one that serves, which its pid file names then: a rollout
    /// waits for that.
    fn was_launcher(&self, body: Option<&Body>) -> bool {
        self.benched && body.is_some_and(|it| it.foreign && !it.health.ripe)
    }

    fn on_exit_in_stop(&mut self, turn: &mut Turn, exit: Exit, body: &Body, stop: Stop) {
        let ran = turn.now.since(body.started);
        let sick = stop.errand.is_sickness();
        let ending = if sick { Ending::Sick { ran } } else { Ending::Expected };
        let flight = self.flight();
        let lost = self.lost(flight);
        let cut_at = self.cut_at.filter(|_| flight.is_some());
        let late = flight.map_or(0, |it| self.late.min(it.count()));
        let cuts = exits::Cuts { in_flight: flight, cut_at, late };
        let message = exits::told_of_stop(turn.now, &exit, &stop, cuts, &self.rules.profile);
        let extra = match exits::stopped(turn.now, &exit, &stop, cuts) {
            Some(stopped) => Extra::Stopped(stopped, lost),
            None => lost.map_or(Extra::Nothing, Extra::Lost),
        };
        let cause = exits::cause_of_stop(turn.now, &exit, &stop, self.signalled.as_ref());
        self.note_exit(turn.now, exit, cause, lost);
        let by = stop.errand.by().cloned();
        if stop.killing().is_some() {
            self.phase = Phase::Sweeping(Aftermath {
                ending,
                errand: Some(stop.errand),
                killing: true,
                again: turn.now + PATIENCE_WITH_KILL,
                asked: 1,
            });
        } else {
            self.sweep(turn, ending, Some(stop.errand));
        }
        self.say_exited(turn, by.as_ref(), message, extra);
    }

    /// What was in flight at the last measurement.
    fn flight(&self) -> Option<InFlight> {
        self.in_flight.filter(|it| it.count() > 0)
    }

    /// What of it is lost, as far as that is known at once.
    fn lost(&self, flight: Option<InFlight>) -> Option<InFlight> {
        flight.filter(|_| !self.rules.cuts_told)
    }

    fn note_exit(&mut self, now: Timestamp, exit: Exit, cause: String, lost: Option<InFlight>) {
        let cut = self.cut.take().filter(|it| now.since(it.at) <= CUT_BEFORE_EXIT);
        let lost = lost.or_else(|| cut.map(|it| InFlight::Exact(it.requests)));
        self.last_exit = Some(LastExit { at: now, exit, lost, cause });
        self.ended_generation = self.generation;
        self.signalled = None;
        (self.in_flight, self.cut_at, self.late) = (None, None, 0);
    }

    /// What the gateway could not send again: it sees an end a moment before or after we do.
    pub(super) fn on_cut(&mut self, now: Timestamp, generation: u64, requests: u32) {
        match &mut self.last_exit {
            Some(last) if generation == self.ended_generation => {
                let before = last.lost.map_or(0, InFlight::count);
                last.lost = Some(InFlight::Exact(before.saturating_add(requests)));
            }
            _ if generation == self.generation => {
                let recent = self.cut.filter(|it| now.since(it.at) <= CUT_BEFORE_EXIT);
                let before = recent.map_or(0, |it| it.requests);
                self.cut = Some(Cut { at: now, requests: before.saturating_add(requests) });
            }
            Some(_) | None => {}
        }
    }

    /// The status of an adopted process may become known later than its end.
    fn amend_exit(&mut self, generation: u64, exit: Exit) {
        let Some(last) = &mut self.last_exit else { return };
        let unknown = last.exit.status == Status::Unknown && exit.status != Status::Unknown;
        if unknown && generation == self.ended_generation {
            last.cause = exits::cause_of_exit(last.at, &exit, None);
            last.exit = exit;
        }
    }

    pub(super) fn stop_probes(&self, turn: &mut Turn, probing: BTreeSet<Probe>) {
        for probe in probing {
            turn.push(Effect::StopProbe { instance: self.own.name.clone(), probe });
        }
    }

    fn sweep(&mut self, turn: &mut Turn, ending: Ending, errand: Option<Errand>) {
        self.phase = Phase::Sweeping(Aftermath {
            ending,
            errand,
            killing: false,
            again: turn.now + PATIENCE_WITH_KILL,
            asked: 1,
        });
        self.sync(turn);
        turn.push(Effect::Sweep { instance: self.own.name.clone(), generation: self.generation });
    }

    /// Nothing of the generation is left.
    pub(super) fn on_swept(&mut self, turn: &mut Turn, generation: u64, killed: &[(i32, String)]) {
        if generation != self.generation {
            return;
        }
        if let Phase::Leaving(..) = self.phase {
            // Everything is gone although no exit was reported; it will not be reported any more.
            let exit = Exit { status: Status::Unknown, out_of_memory: OutOfMemory::No };
            self.on_exited(turn, generation, exit);
        }
        let (ending, errand) = match &mut self.phase {
            Phase::Sweeping(aftermath) => (aftermath.ending, aftermath.errand.take()),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Up(_) | Phase::Leaving(..) => return,
        };
        let is_short = |ran: Duration| ran <= self.rules.start_seconds;
        let has_detached = matches!(ending, Ending::ByItself { clean: true, ran } if is_short(ran));
        self.detached = if has_detached && !killed.is_empty() { self.detached + 1 } else { 0 };
        if !killed.is_empty() {
            self.say(turn, "survivors-killed", None, told_of_survivors(killed));
        }
        self.phase = Phase::Idle(Rest::Stopped);
        self.follow_up(turn, ending, errand.as_ref());
    }

    fn follow_up(&mut self, turn: &mut Turn, ending: Ending, errand: Option<&Errand>) {
        if !self.is_wanted() || !turn.open {
            self.say(turn, "stopped", errand.and_then(Errand::by), "stopped");
            return;
        }
        if !self.is_brought_back(errand) {
            self.phase = Phase::Idle(Rest::Exited);
            return;
        }
        match (ending, self.rules.restart) {
            (Ending::Expected, _) => self.start(turn),
            (Ending::ByItself { clean: true, .. }, Restart::OnFailure)
            | (Ending::ByItself { .. } | Ending::Sick { .. }, Restart::Never) => {
                self.phase = Phase::Idle(Rest::Exited);
            }
            (Ending::ByItself { ran, .. } | Ending::Sick { ran }, _) => {
                self.crash(turn, ran, AtFirst::Restart);
            }
        }
    }

    fn crash(&mut self, turn: &mut Turn, ran: Duration, at_first: AtFirst) {
        if ran >= self.rules.backoff.stable_after {
            self.crashes = 0;
        }
        self.crashes = self.crashes.saturating_add(1);
        if self.rules.retries.is_some_and(|retries| self.crashes > retries) {
            self.give_up(turn);
        } else if self.crashes == 1 && at_first == AtFirst::Restart {
            self.restarts += 1;
            self.start(turn);
        } else {
            let delay = self.backoff();
            self.phase = Phase::Idle(Rest::Backoff { retry_at: turn.now + delay });
            let crashes = self.crashes;
            let message =
                format!("starts again in {}; {crashes} in a row went wrong", elapsed(delay));
            self.say(turn, "backoff", None, message);
        }
    }

    fn give_up(&mut self, turn: &mut Turn) {
        self.phase = Phase::Idle(Rest::Fatal);
        let message = format!("given up after {} in a row went wrong", self.crashes.max(1));
        self.say_with_evidence(turn, "fatal", None, message, true);
    }

    /// The second crash waits for `backoff.min`, each further one twice as long, up to `backoff.max`.
    fn backoff(&mut self) -> Duration {
        let doublings = self.crashes.saturating_sub(2).min(20);
        let backoff = self.rules.backoff;
        let delay = backoff.min.saturating_mul(1 << doublings).min(backoff.max);
        self.dice.jitter(delay)
    }

    pub(super) fn on_load(&mut self, in_flight: InFlight) {
        if self.body().is_some() {
            self.in_flight = Some(in_flight);
        }
    }

    /// Requests were cut: that is what it has in flight, and had at its end.
    pub(super) fn on_lost(&mut self, (requests, late): (u32, u32), at: Timestamp) {
        self.late = late;
        self.on_load(InFlight::Estimated(requests));
        self.cut_at = Some(at).filter(|_| requests > 0);
    }

    /// Everything that waits for the clock.
    pub(super) fn on_deadline(&mut self, turn: &mut Turn) {
        let can_start = self.can_start();
        match &mut self.phase {
            // Its configuration has changed meanwhile: somebody else runs it.
            Phase::Idle(Rest::Backoff { .. }) if !can_start => {
                self.phase = Phase::Idle(Rest::Stopped);
            }
            Phase::Idle(Rest::Backoff { retry_at }) if turn.now >= *retry_at => {
                self.restarts += u64::from(turn.open);
                self.start(turn);
            }
            Phase::Up(_) => self.on_time(turn),
            Phase::Leaving(..) => self.descend(turn),
            Phase::Sweeping(aftermath) if turn.now >= aftermath.again => self.sweep_again(turn),
            Phase::Idle(_) | Phase::Spawning(_) | Phase::Sweeping(_) => {}
        }
    }

    fn sweep_again(&mut self, turn: &mut Turn) {
        let Phase::Sweeping(aftermath) = &mut self.phase else { return };
        aftermath.again = turn.now + PATIENCE_WITH_KILL;
        aftermath.asked += 1;
        let (first, killing) = (aftermath.asked == 2, aftermath.killing);
        let (instance, generation) = (self.own.name.clone(), self.generation);
        turn.push(if killing {
            Effect::KillAll { instance, generation }
        } else {
            Effect::Sweep { instance, generation }
        });
        if first {
            self.say_still_there(turn);
        }
    }

    pub(super) fn say_still_there(&self, turn: &mut Turn) {
        let message = "still there 5s after SIGKILL: a process that sleeps in the kernel cannot be \
                       killed (its disk or network file system hangs); asking again";
        self.say(turn, "kill-slow", None, message);
    }

    /// Remembers a signal that an operator sends, to tell its exit from a crash.
    pub(super) fn remember_signal(&mut self, signalled: Signalled) {
        self.signalled = Some(signalled);
    }
}

/// What the first crash in a row does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtFirst {
    Restart,
    Wait,
}

impl Body {
    pub(super) fn new(process: Process, started: Timestamp, health: Health, foreign: bool) -> Self {
        Self {
            process,
            started,
            foreign,
            health,
            probing: BTreeSet::new(),
            reloading: false,
            reload: None,
            reloads: 0,
            spared: vec![],
            unwatched: false,
            partings: vec![],
        }
    }
}

/// `killed 2 processes it left behind: php (pid 4711), php (pid 4712)`.
fn told_of_survivors(killed: &[(i32, String)]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> =
        killed.iter().take(SHOWN).map(|(pid, name)| format!("{name} (pid {pid})")).collect();
    if killed.len() > SHOWN {
        names.push(format!("{} more", killed.len() - SHOWN));
    }
    let noun = if killed.len() == 1 { "process" } else { "processes" };
    format!("killed {} {noun} it left behind: {}", killed.len(), names.join(", "))
}
