//! Looks at trees whose reload is watched, and only at those.
//!
//! The fleet asks for the first look right before the signal; the signal waits for what it has seen. From then
//! on each tree is read ten times a second until the fleet says that the reload is over. What was seen once is
//! asked for by identity: a list of children that was read while they changed may lack some
//! (proc_pid_task_children(5)).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::clock;
use crate::daemon::hands::Hands;
use crate::daemon::trees::census::{Look, Planted};
use crate::daemon::trees::lineage::Lineage;
use crate::fleet::input::{Input, Shown};
use crate::fleet::{Fleet, Name, Process, Signal, Timestamp};
use crate::load::sockets::Sockets;
use crate::process::{Identity, identity};
use crate::roles::{Rule, Rules};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(in crate::daemon) struct Reloads {
    /// First looks that are under way, by instance.
    asked: BTreeMap<Name, Asked>,
    /// How many were asked for.
    number: u64,
    /// By instance.
    watched: BTreeMap<Name, Watched>,
    /// Leaders of trees of which single processes were told to go.
    followed: BTreeMap<Name, Process>,
    due: Option<Timestamp>,
    /// All are being looked at once more.
    busy: bool,
    /// By instance, of those that were reloaded.
    lineages: BTreeMap<Name, Lineage>,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    leader: Process,
    roles: Vec<String>,
    /// Workers of whom the last daemon knew, which has sent the signal.
    known: Option<Vec<Process>>,
    /// Waits for the look.
    signal: Option<Signal>,
}

#[derive(Debug)]
struct Watched {
    /// Of the first look.
    number: u64,
    leader: Process,
    /// Who is renewed; empty: all that any reload renews.
    roles: Vec<String>,
    /// At the last look.
    workers: Vec<Process>,
}

/// What a first look has seen.
#[derive(Debug)]
pub struct Survey {
    instance: Name,
    number: u64,
    /// `None`: it took too long.
    workers: Option<Workers>,
}

/// Who is renewed in a tree.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Workers {
    pub(in crate::daemon) all: Vec<Process>,
    shown: Shown,
}

/// One more look at all trees.
#[derive(Debug, Default)]
pub struct Round {
    /// With the number of the first look.
    watched: Vec<(Name, u64, Workers)>,
    followed: Vec<(Name, Process, Vec<Process>)>,
    took: Duration,
}

impl Reloads {
    /// What ran there has ended.
    pub(in crate::daemon) fn forget(&mut self, instance: &Name) {
        self.asked.remove(instance);
        self.lineages.remove(instance);
    }

    /// The reloads of what runs there.
    pub(in crate::daemon) fn lineage(&self, instance: &Name, leader: Process) -> Lineage {
        let known = self.lineages.get(instance).filter(|it| it.is_of(leader));
        known.cloned().unwrap_or_else(|| Lineage::new(leader))
    }

    /// Keeps the signal of a reload until its first look is back. `false`: it waits for none.
    pub(in crate::daemon) fn keeps(
        &mut self,
        instance: &Name,
        process: Process,
        signal: Signal,
    ) -> bool {
        let asked = self.asked.get_mut(instance);
        let open = asked.filter(|it| it.leader == process && it.known.is_none());
        let Some(asked) = open.filter(|it| it.signal.is_none()) else { return false };
        asked.signal = Some(signal);
        true
    }

    /// The signal that waits there: nothing may overtake it.
    pub(in crate::daemon) fn take_kept(&mut self, instance: &Name) -> Option<(Process, Signal)> {
        let asked = self.asked.get_mut(instance)?;
        Some((asked.leader, asked.signal.take()?))
    }

    pub(in crate::daemon) fn all_kept(&self) -> Vec<Name> {
        let kept = self.asked.iter().filter(|it| it.1.signal.is_some());
        kept.map(|it| it.0.clone()).collect()
    }
}

impl Hands {
    /// Begins the first look, and goes on with it. `known`: workers of whom the last daemon knew.
    pub(in crate::daemon) fn survey(
        &mut self,
        instance: &Name,
        leader: Process,
        known: Option<Vec<Process>>,
        roles: Vec<String>,
    ) {
        self.send_kept(instance);
        self.reloads.watched.remove(instance);
        self.reloads.number += 1;
        let number = self.reloads.number;
        let before = known.clone().unwrap_or_default();
        let asked = Asked { number, leader, roles: roles.clone(), known, signal: None };
        self.reloads.asked.insert(instance.clone(), asked);
        let planted = self.planted(instance, leader);
        let look = move || planted.map_or(Workers::default(), |it| workers(&it, &roles, &before));
        let instance = instance.clone();
        self.look_soon(look, move |workers| Look::First(Survey { instance, number, workers }));
    }

    /// What the first look has seen: now its signal may go.
    pub(in crate::daemon) fn on_survey(&mut self, survey: Survey) {
        let Survey { instance, number, workers } = survey;
        let asked = self.reloads.asked.remove(&instance);
        let Some(Asked { leader, roles, known, signal, .. }) =
            asked.filter(|it| it.number == number)
        else {
            return;
        };
        let before = known.as_deref().unwrap_or(&[]);
        let Workers { all: workers, shown } = workers.unwrap_or_else(|| {
            let planted = self.planted(&instance, leader);
            planted.map_or(Workers::default(), |it| {
                renewed(&it.profile.roles, it.ruled_at_once(), &roles, before)
            })
        });
        // From here on the same are watched.
        let roles = if shown.untitled { vec![] } else { roles };
        let mut lineage = self.reloads.lineage(&instance, leader);
        match &known {
            None => lineage.begin(clock::now(), &roles, &workers),
            // It was sent again while the server was at it.
            Some(left) if !lineage.is_empty() => {
                lineage.begin_again(clock::now(), &roles, left, &workers);
            }
            // The signal was sent by the last daemon: all others are new.
            Some(before) => lineage.begin(Timestamp::default(), &roles, before),
        }
        self.reloads.lineages.insert(instance.clone(), lineage);
        let watched = Watched { number, leader, roles, workers: workers.clone() };
        self.reloads.watched.insert(instance.clone(), watched);
        self.reloads.due = Some(clock::now() + AGAIN);
        if let Some(signal) = signal {
            self.signal(&instance, leader, signal);
        }
        self.outcomes.push_back(Input::Workers { instance, process: leader, workers, shown });
    }

    /// Sends what waits for the first look of this instance, without it.
    pub(in crate::daemon) fn send_kept(&mut self, instance: &Name) {
        if let Some((process, signal)) = self.reloads.take_kept(instance) {
            self.signal(instance, process, signal);
        }
    }

    /// The same for all: this daemon ends.
    pub fn send_all_kept(&mut self) {
        for instance in self.reloads.all_kept() {
            self.send_kept(&instance);
        }
    }

    /// Tells from now on who works there.
    pub(in crate::daemon) fn follow(&mut self, instance: &Name, leader: Process) {
        self.reloads.followed.insert(instance.clone(), leader);
        self.reloads.due = Some(clock::now() + AGAIN);
    }

    /// When [`Self::look_at_reloads`] wants to be called.
    pub fn next_survey(&self) -> Option<Timestamp> {
        let Reloads { watched, followed, due, busy, .. } = &self.reloads;
        due.filter(|_| !busy && (!watched.is_empty() || !followed.is_empty()))
    }

    /// Begins to look at every tree once more.
    pub fn look_at_reloads(&mut self) {
        let planted = |name: &Name, leader| Some((name.clone(), self.planted(name, leader)?));
        let watched = self.reloads.watched.iter().filter_map(|(name, it)| {
            let port = self.port_of_living(name);
            let (name, planted) = planted(name, it.leader)?;
            Some((name, it.number, (planted, port), it.roles.clone(), it.workers.clone()))
        });
        let watched: Vec<_> = watched.collect();
        let followed = self.reloads.followed.iter().filter_map(|(name, it)| planted(name, *it));
        let followed: Vec<_> = followed.collect();
        self.reloads.busy = true;
        let look = move || {
            let began = clock::now();
            let watched = watched.into_iter().map(|(name, number, (it, port), roles, before)| {
                let mut seen = workers(&it, &roles, &before);
                seen.shown.is_idle = seen.shown.may_spare && port.is_some_and(is_idle);
                (name, number, seen)
            });
            let watched = watched.collect();
            let followed = followed.into_iter().map(|(name, it)| {
                let workers = workers(&it, &[], &[]);
                (name, it.leader, workers.all)
            });
            let followed = followed.collect();
            Round { watched, followed, took: clock::now().since(began) }
        };
        self.look_aside(look, Look::Again);
    }

    /// What was seen in all trees.
    pub(in crate::daemon) fn on_round(&mut self, round: Option<Round>) {
        let Round { watched, followed, took } = round.unwrap_or_default();
        for (instance, number, workers) in watched {
            // Another reload may have begun meanwhile: that was not looked at.
            let it = self.reloads.watched.get_mut(&instance).filter(|it| it.number == number);
            let Some(it) = it else { continue };
            let Workers { all: workers, shown } = workers;
            let shown = Shown { renewed: self.gauges.renewed(&instance), ..shown };
            it.workers.clone_from(&workers);
            if let Some(lineage) = self.reloads.lineages.get_mut(&instance) {
                lineage.look(&workers);
            }
            let process = it.leader;
            self.outcomes.push_back(Input::Workers { instance, process, workers, shown });
        }
        for (instance, process, workers) in followed {
            self.outcomes.push_back(Input::Members { instance, process, workers });
        }
        // Large trees are looked at less often: at most a tenth of the time is theirs.
        self.reloads.busy = false;
        self.reloads.due = Some(clock::now() + AGAIN.max(took * 10));
    }

    /// Forgets reloads that are over.
    pub fn end_surveys(&mut self, fleet: &Fleet) {
        self.reloads.watched.retain(|name, _| fleet.watches_reload(name.as_str()));
        self.reloads.followed.retain(|name, _| fleet.follows(name.as_str()));
    }
}

/// The workers of these roles in a tree, and those of `before` that still live; no role: all that are renewed.
/// Blocking.
pub(in crate::daemon) fn workers(
    planted: &Planted,
    roles: &[String],
    before: &[Process],
) -> Workers {
    renewed(&planted.profile.roles, planted.ruled(), roles, before)
}

fn renewed(
    rules: &Rules,
    mut all: Vec<(Process, &Rule)>,
    roles: &[String],
    before: &[Process],
) -> Workers {
    all.retain(|it| it.1.renewed);
    let untitled = is_untitled(&all, roles, before);
    all.retain(|(_, it)| roles.is_empty() || untitled || roles.contains(&it.role));
    let may_spare = all.iter().any(|it| rules.may_be_another(it.1));
    let mut workers: Vec<_> = all.into_iter().map(|it| it.0).collect();
    let still = before.iter().filter(|it| {
        !workers.contains(it) && identity::is_alive(Identity::from(**it)).unwrap_or(false)
    });
    let still: Vec<_> = still.copied().collect();
    workers.extend(still);
    Workers { all: workers, shown: Shown { may_spare, untitled, ..Shown::default() } }
}

/// No process has one of these roles, and no title tells the others' either. `before`: who was watched so far.
fn is_untitled(all: &[(Process, &Rule)], roles: &[String], before: &[Process]) -> bool {
    let is_told = |it: &(Process, &Rule)| roles.contains(&it.1.role) || it.1.title.is_some();
    let is_watched = |it: &(Process, &Rule)| before.contains(&it.0);
    !roles.is_empty()
        && !all.iter().any(is_told)
        && if before.is_empty() { !all.is_empty() } else { all.iter().any(is_watched) }
}

/// Nobody waits for an answer on this port. Blocking.
fn is_idle(port: u16) -> bool {
    let pending = Sockets::open().and_then(|mut it| it.pending(port));
    pending.is_ok_and(|it| it.unanswered == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(leader: Process, known: Option<Vec<Process>>) -> Reloads {
        let asked = Asked { number: 1, leader, roles: vec![], known, signal: None };
        Reloads { asked: [(Name::from("web1"), asked)].into(), ..Reloads::default() }
    }

    #[test]
    fn the_signal_of_a_reload_waits_for_its_first_look_and_no_other_signal_does() {
        let (web1, leader) = (Name::from("web1"), Process { pid: 7, start_time: 1 });
        let (usr1, term) = (Signal(10), Signal::TERM);
        let mut it = asked(leader, None);
        assert!(!it.keeps(&web1, Process { pid: 8, start_time: 1 }, usr1), "another process");
        assert!(!it.keeps(&"web2".into(), leader, usr1), "nobody looks there");
        assert!(it.keeps(&web1, leader, usr1));
        assert!(!it.keeps(&web1, leader, term), "what comes after it");
        assert_eq!(it.all_kept(), std::slice::from_ref(&web1));
        assert_eq!(it.take_kept(&web1), Some((leader, usr1)), "is sent right before that");
        assert_eq!((it.take_kept(&web1), it.all_kept()), (None, vec![]));

        // The last daemon has sent it.
        assert!(!asked(leader, Some(vec![])).keeps(&web1, leader, usr1));
    }
}
