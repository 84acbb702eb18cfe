//! What the next daemon has to know, written down as it is done.

use super::{Hands, Living};
use crate::config::settings;
use crate::daemon::kept::state::{self, Intent, Ladder, Line, Running};
use crate::fleet::Name;
use crate::fleet::input::Effect;

impl Hands {
    /// Notes what is about to be done: which processes are started, and which signals a stop has sent. It
    /// is written right before each is done: none of them is sent twice, whenever this daemon ends.
    pub fn intend(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.note_rollout(record),
                Effect::Spawn { instance, generation } => {
                    let fingerprint = self.known.get(instance).map_or(0, |it| it.fingerprint);
                    let (instance, generation) = (instance.to_string(), *generation);
                    self.state.append(&Line::Intent(Intent { instance, generation, fingerprint }));
                }
                Effect::Keep(memory) => {
                    self.state.append(&Line::Kept(Box::new(memory.as_ref().into())));
                }
                Effect::KeepRollout { service, rollout } => {
                    let log_begins = self.runs.log_begins(service);
                    let service = service.to_string();
                    self.state.append(&match rollout {
                        Some(it) => {
                            let it = state::Rollout::of(service, it, log_begins);
                            Line::Rollout(Box::new(it))
                        }
                        None => Line::NoRollout { service },
                    });
                }
                Effect::KeepRound { service, round } => {
                    let service = service.to_string();
                    self.state.append(&match round {
                        Some(it) => Line::Round(state::Round::of(service, it)),
                        None => Line::NoRound { service },
                    });
                }
                _ => {}
            }
        }
    }

    /// Remembers a process that was just started, or adopted. `ladder`: how it is stopped where the
    /// configuration does not name it.
    pub(in crate::daemon) fn keep(
        &mut self,
        name: &Name,
        mut living: Living,
        (started_ms, fingerprint): (u64, u64),
        ladder: Option<Ladder>,
    ) {
        let own = self.ladder(name).filter(|_| !living.foreign);
        let record = Running {
            instance: name.to_string(),
            port: living.port,
            generation: living.generation,
            pid: living.process.pid,
            start_time: living.process.start_time,
            started_ms,
            fingerprint,
            ladder: own.or(ladder),
        };
        let line = if living.foreign { Line::Found } else { Line::Running };
        self.state.append(&line(record.clone()));
        living.record = Some(record);
        self.leaders.insert(living.process.pid, name.clone());
        self.living.insert(name.clone(), living);
    }

    /// How an instance is stopped that may not be configured any more when that is to be done.
    fn ladder(&self, name: &Name) -> Option<Ladder> {
        let service = self.service(&self.known.get(name)?.service)?;
        let is_its = |it: &settings::Instance| it.name == name.as_str();
        let spare = service.rules.rollout.spare.as_ref();
        let is_member = service.instances.iter().any(is_its) || spare == Some(name);
        is_member.then(|| Ladder::of(service, &self.settings))
    }

    /// What is configured now is what the next daemon has to know.
    pub(super) fn record_anew(&mut self) {
        let ours = self.living.iter().filter(|(_, it)| !it.foreign);
        let ladders = ours.filter_map(|(name, _)| Some((name.clone(), self.ladder(name)?)));
        for (name, ladder) in ladders.collect::<Vec<_>>() {
            let living = self.living.get_mut(&name);
            let Some(record) = living.and_then(|it| it.record.as_mut()) else { continue };
            if record.ladder.as_ref() != Some(&ladder) {
                record.ladder = Some(ladder);
                self.state.append(&Line::Running(record.clone()));
            }
        }
    }
}
