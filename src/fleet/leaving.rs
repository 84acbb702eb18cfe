//! The way down of an instance: begins, moves, and takes back a stop.
//!
//! Stop, restart and a step of a rollout are the same ladder; they differ in the goal, and so in what
//! follows once nothing is left. Out of rotation comes first, always, then the signal.

use super::input::{Effect, Goal, InFlight};
use super::instance::{Body, Instance, Phase, Rest, Wish};
use super::ladder::{Errand, Manner, Move, Stop};
use super::turn::Turn;
use super::words::{By, Process, Signal};
use crate::quantity::count;

impl Instance {
    /// Begins a stop. Without a process yet, it begins as soon as there is one; a stop that is under
    /// way goes on as it began.
    pub(super) fn leave(&mut self, turn: &mut Turn, errand: Errand, manner: Manner) {
        match std::mem::replace(&mut self.phase, Phase::Idle(Rest::Stopped)) {
            Phase::Up(body) => {
                if errand.is_sickness() {
                    self.mishaps += 1;
                }
                let manner = self.manner_for(&body, manner);
                let stop = Stop::new(turn.now, errand, manner, &self.rules);
                self.phase = Phase::Leaving(body, Box::new(stop));
                if self.takeouts > 0 && self.rotation == Some(false) {
                    self.hasten_out(turn);
                }
                self.sync(turn);
                self.ask_gauge(turn);
                self.tell_drain(turn);
                self.descend(turn);
            }
            Phase::Spawning(wish) => {
                let kill = manner == Manner::Kill || wish.is_some_and(|it| it.kill);
                self.phase = Phase::Spawning(Some(Wish { errand, kill }));
            }
            phase @ (Phase::Leaving(..) | Phase::Sweeping(_) | Phase::Idle(_)) => {
                self.phase = phase;
            }
        }
    }

    /// The command of somebody else ends nothing of ours.
    fn manner_for(&self, body: &Body, manner: Manner) -> Manner {
        let by_command = self.rules.stop.iter().any(|it| it.signal == Signal::COMMAND);
        let is_ladder = manner == Manner::Ladder;
        if is_ladder && by_command && !body.foreign { Manner::TermAfterDrain } else { manner }
    }

    /// It was out of rotation already, or the last daemon had it read: it says anew what it has in flight.
    pub(super) fn ask_gauge(&mut self, turn: &mut Turn) {
        let Phase::Leaving(_, stop) = &self.phase else { return };
        let is_asked = self.rules.gauged && !self.rules.fronted && self.takeouts == 0;
        if is_asked && stop.is_draining() && stop.waits_for_the_drain() {
            self.hasten_out(turn);
        }
    }

    pub(super) fn leave_as_wished(&mut self, turn: &mut Turn, wish: Wish) {
        let manner = if wish.kill { Manner::Kill } else { Manner::Ladder };
        self.leave(turn, wish.errand, manner);
    }

    fn tell_drain(&self, turn: &mut Turn) {
        let Phase::Leaving(_, stop) = &self.phase else { return };
        let how = match (self.rules.fronted, self.rules.gauged) {
            (true, _) => "out of rotation",
            (false, true) if stop.waits_for_the_drain() => "it is asked until nothing is in flight",
            (false, _) => return,
        };
        let flight = self.in_flight.map_or(String::new(), |it| match it {
            InFlight::Exact(n) => format!(", {n} in flight"),
            InFlight::Estimated(n) => format!(", ~{n} in flight"),
        });
        self.say(turn, "draining", stop.errand.by(), format!("{how}{flight}"));
    }

    /// Makes the moves of the ladder that are due.
    pub(super) fn descend(&mut self, turn: &mut Turn) {
        let traffic = self.traffic();
        let Phase::Leaving(body, stop) = &mut self.phase else { return };
        let process = body.process;
        let moves = stop.advance(turn.now, traffic);
        for step in moves {
            self.make(turn, step, process);
        }
    }

    fn make(&self, turn: &mut Turn, step: Move, process: Process) {
        let (instance, generation) = (self.own.name.clone(), self.generation);
        let errand = self.stop().map(|stop| &stop.errand);
        let deadline = self.stop().map_or(turn.now, |it| it.deadline);
        match step {
            Move::Signal(signal) => {
                turn.push(match signal {
                    Signal::COMMAND => Effect::RunStop { instance, generation, deadline },
                    _ => Effect::Signal { instance, process, signal },
                });
                let purpose = errand.map_or(String::new(), Errand::purpose);
                let by = errand.and_then(Errand::by);
                let waited = self.rules.fronted && self.takeouts > 0;
                let late = waited && self.stop().is_some_and(Stop::waits_for_the_drain);
                let late =
                    if late { "; what stands in front may still send it requests" } else { "" };
                self.say(turn, "signal-sent", by, format!("{signal}{purpose}{late}"));
            }
            Move::KillAll => {
                turn.push(Effect::KillAll { instance, generation });
                let by = self.stop().and_then(|stop| stop.killed_by.as_ref());
                let why = match by {
                    Some(_) => "SIGKILL",
                    None => "SIGKILL: max_wait_time was over",
                };
                self.say(turn, "signal-sent", by, why);
            }
            Move::KillAgain => {
                turn.push(Effect::KillAll { instance, generation });
                if self.stop().and_then(Stop::killing) == Some(2) {
                    self.say_still_there(turn);
                }
            }
        }
    }

    /// Takes a stop back that has sent no signal yet: it runs on, in rotation if it was ready.
    pub(super) fn come_back(&mut self, turn: &mut Turn) -> bool {
        let may = self.stop().is_some_and(Stop::can_be_taken_back);
        if may
            && let Phase::Leaving(body, _) =
                std::mem::replace(&mut self.phase, Phase::Idle(Rest::Stopped))
        {
            self.phase = Phase::Up(body);
            self.sync(turn);
        }
        may
    }

    /// The same for what a rollout has taken: it has the values of `--set` again that it runs with.
    pub(super) fn come_back_as_it_was(&mut self, turn: &mut Turn) -> bool {
        if self.stop().is_some_and(Stop::can_be_taken_back) {
            let instance = self.own.name.clone();
            turn.push(Effect::TakeValues { instance, back: true });
        }
        self.come_back(turn)
    }

    /// Ends the countdown now.
    pub(super) fn kill(&mut self, turn: &mut Turn, by: Option<&By>) {
        if let Phase::Leaving(_, stop) = &mut self.phase {
            stop.kill(turn.now, by);
        }
        self.descend(turn);
    }

    pub(super) fn term_now(&mut self, turn: &mut Turn) {
        if let Phase::Leaving(_, stop) = &mut self.phase {
            stop.term_at_once();
        }
        self.descend(turn);
    }

    /// Passes a signal of the operator on to the leader.
    pub(super) fn pass_on(&mut self, turn: &mut Turn, signal: Signal, by: &By, does: Option<&str>) {
        let Some(process) = self.process() else { return };
        if let Phase::Leaving(_, stop) = &mut self.phase {
            stop.note_operator_signal(signal);
        }
        self.watch_reload(turn, signal, by);
        turn.push(Effect::Signal { instance: self.own.name.clone(), process, signal });
        let meaning = does.map_or(String::new(), |does| format!(" ({does})"));
        self.say(turn, "signal-sent", Some(by), format!("{signal}{meaning}"));
    }

    /// What the operator wants is kept for the next daemon.
    pub(super) fn want(&mut self, turn: &mut Turn, goal: Goal, by: &By) {
        if self.goal == goal {
            return;
        }
        self.goal = goal;
        self.goal_by = Some(by.clone());
        self.remember(turn);
        let wanted = if goal == Goal::Up { "wanted up" } else { "wanted down" };
        self.say(turn, "goal", Some(by), wanted);
    }

    pub(super) fn remember(&self, turn: &mut Turn) {
        turn.push(Effect::Remember {
            instance: self.own.name.clone(),
            goal: self.goal,
            held_by: self.held_by.clone(),
        });
    }

    /// `4 requests`, if any are in flight.
    pub(super) fn at_stake(&self) -> Option<String> {
        let n = self.in_flight.filter(|it| it.count() > 0)?.count();
        Some(count(n.into(), "request"))
    }
}
