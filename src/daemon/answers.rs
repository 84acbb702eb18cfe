//! Answers of the driver to questions, which change nothing.

use super::clock;
use super::driver::Daemon;
use super::show::facts;
use super::show::publish;
use super::trees::tree::Tree;
use super::turn::Question;
use crate::api;

/// Events in a snapshot: more than the tallest screen shows.
const FEED: usize = 200;

impl Daemon {
    /// What the probes of an instance say now, one sentence each.
    fn verdicts(&self, instance: &str) -> Vec<String> {
        let Some(sheet) = self.fleet.instance_sheet(instance) else { return vec![] };
        if sheet.process.is_none() {
            return vec![];
        }
        let results = self.facts.probes(instance, sheet.generation).into_iter();
        results.map(|(probe, it)| facts::verdict(&probe, &it)).collect()
    }

    /// Of what runs of these services or instances.
    fn trees(&self, deck: &api::Deck, names: &[String]) -> Vec<(String, Tree)> {
        let is_wanted = |it: &&api::Instance| {
            names.is_empty() || names.contains(&it.name) || names.contains(&it.service)
        };
        let wanted = deck.services.iter().flat_map(|it| &it.instances).filter(is_wanted);
        let tree = |it: &api::Instance| {
            let tree = self.hands.tree(&it.name.as_str().into(), &self.fleet)?;
            Some((it.name.clone(), tree))
        };
        wanted.filter_map(tree).collect()
    }

    pub(super) fn answer(&mut self, question: Question) {
        self.catch_up();
        // A client that has gone needs no answer.
        match question {
            Question::Deck { role, reply } => {
                let _ = reply.send(self.publisher.deck(&self.fleet, &self.facts, role));
            }
            Question::Trees { role, names, reply } => {
                let deck = self.publisher.deck(&self.fleet, &self.facts, role);
                let trees = self.trees(&deck, &names);
                let _ = reply.send((deck, trees));
            }
            Question::Look { reply } => {
                let _ = reply.send(self.hands.look(clock::now()));
            }
            Question::Brief { role, reply } => {
                // What changed in this very turn has not been told yet.
                self.mark_changed();
                let _ = reply.send(self.publisher.brief(&self.fleet, &self.facts, role));
            }
            Question::Watch { role, reply } => {
                self.measure_load();
                self.publisher.publish_now(clock::now(), &self.fleet, &self.facts);
                let changes = self.publisher.subscribe();
                let deck = Box::new(self.publisher.deck(&self.fleet, &self.facts, role));
                let events = self.journal.recent(FEED);
                let line = publish::line(&api::Change::Snapshot { deck, events });
                let _ = reply.send((line, changes));
            }
            Question::Detail { instance, reply } => {
                let _ = reply.send(self.subject(&instance));
            }
            Question::History { name, is_service, reply } => {
                let _ = reply.send(self.history.look(&name, is_service, clock::now()));
            }
            Question::Plan { service, set, reply } => {
                let plan = self.fleet.plan(&service);
                let hopeless = self.foresee_plan(&service, &set);
                let values = super::kept::rollouts::shown(self.hands.values_with(&service, set));
                let plan = plan.map(|it| {
                    let mut plan = self.config.plan(&service, &it, &values);
                    plan.blocked = plan.blocked.or(hopeless);
                    self.rollouts.expect(&mut plan);
                    for step in &mut plan.steps {
                        step.verdicts = self.verdicts(&step.instance);
                    }
                    plan
                });
                let _ = reply.send(plan);
            }
            Question::Rollout { service, reply } => {
                let known = self.fleet.service_sheet(&service).is_some();
                let _ = reply.send(known.then(|| self.rollout_record(&service)));
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
            Question::Valued { reply } => {
                let _ = reply.send(self.hands.values.names());
            }
            Question::Diff { settings, reply } => {
                let _ = reply.send(self.config.differences(&settings));
            }
        }
    }
}
