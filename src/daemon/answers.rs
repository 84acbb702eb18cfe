//! Answers of the driver to questions, which change nothing.

use super::clock;
use super::driver::Daemon;
use super::publish;
use super::turn::Question;
use crate::api;

/// Events in a snapshot: more than the tallest screen shows.
const FEED: usize = 200;

impl Daemon {
    pub(super) fn answer(&mut self, question: Question) {
        self.catch_up();
        // A client that has gone needs no answer.
        match question {
            Question::Deck { role, reply } => {
                let _ = reply.send(self.publisher.deck(&self.fleet, &self.facts, role));
            }
            Question::Brief { role, reply } => {
                // What changed in this very turn has not been told yet.
                self.mark_changed();
                let _ = reply.send(self.publisher.brief(&self.fleet, &self.facts, role));
            }
            Question::Watch { role, reply } => {
                self.publisher.publish_now(clock::now(), &self.fleet, &self.facts);
                let changes = self.publisher.subscribe();
                let deck = Box::new(self.publisher.deck(&self.fleet, &self.facts, role));
                let events = self.journal.recent(FEED);
                let line = publish::line(&api::Change::Snapshot { deck, events });
                let _ = reply.send((line, changes));
            }
            Question::Why { instance, reply } => {
                let _ = reply.send(self.why(&instance));
            }
            Question::Detail { instance, reply } => {
                let _ = reply.send(self.subject(&instance));
            }
            Question::History { name, is_service, reply } => {
                let _ = reply.send(self.history.look(&name, is_service, clock::now()));
            }
            Question::Plan { service, set, reply } => {
                let plan = self.fleet.plan(&service);
                let values = self.hands.values_with(&service, set);
                let _ = reply.send(plan.map(|it| self.config.plan(&service, &it, &values)));
            }
            Question::Logs { name, reply } => {
                let _ = reply.send(self.hands.log_files(&name));
            }
            Question::Journal { reply } => {
                self.journal.flush();
                let answer = (
                    self.journal.files(),
                    self.journal.recent(usize::MAX),
                    self.events.subscribe(),
                );
                let _ = reply.send(answer);
            }
            Question::Alive { reply } => {
                let _ = reply.send(());
            }
            Question::Diff { settings, reply } => {
                let _ = reply.send(self.config.differences(&settings));
            }
        }
    }
}
