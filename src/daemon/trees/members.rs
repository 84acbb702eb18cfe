//! Single processes of a tree as the targets of orders.
//!
//! What such a process is there is looked up first; the order follows with what was seen.

use std::os::fd::AsFd;

use tracing::warn;

use crate::api::Done;
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::trees::census::{Look, Planted};
use crate::daemon::turn::Reply;
use crate::fleet::input::{Disposition, Member, Order, Refusal, Verb};
use crate::fleet::{Name, Process, Signal};
use crate::process::{Identity, identity, signal};
use crate::roles::Rule;

/// An order, the process that the operator saw, and who waits for the answer.
pub(in crate::daemon) type Ordered = (Order, Option<(Name, Process)>, Reply<Result<Done, Refusal>>);

/// An order to one process of a tree.
#[derive(Debug)]
pub struct Aim {
    ordered: Ordered,
    /// Of the tree.
    leader: Process,
    /// What it is there.
    member: Member,
}

impl Daemon {
    /// An order that is meant for another process of the tree than its leader waits for a look; the others are
    /// given back.
    pub(in crate::daemon) fn aim(&self, ordered: Ordered) -> Option<Ordered> {
        let Some((planted, process)) = self.hands.aimed_at(&ordered.0.verb) else {
            return Some(ordered);
        };
        let at_once = planted.clone();
        let look = move || member(&planted.ruled(), process);
        self.hands.look_soon(look, move |seen| {
            let member = seen.unwrap_or_else(|| member(&at_once.ruled_at_once(), process));
            Look::Aimed(Box::new(Aim { ordered, leader: at_once.leader, member }))
        });
        None
    }

    /// It is an order for that process, if the tree is the same still.
    pub(in crate::daemon) fn on_aimed(&mut self, aim: Aim) {
        let Aim { ordered: (mut order, target, reply), leader, member } = aim;
        if let Verb::Signal { instance, signal: Some(signal), .. } = &order.verb
            && self.hands.living.get(instance).is_some_and(|it| it.process == leader)
        {
            let (instance, signal) = (instance.clone(), *signal);
            let disposition = Disposition::Unknown;
            order.verb = Verb::SignalMember { instance, signal, member, disposition };
        }
        self.order((order, target, reply));
    }
}

impl Hands {
    /// The tree, and which process of it, if that is not its leader.
    fn aimed_at(&self, verb: &Verb) -> Option<(Planted, Process)> {
        let Verb::Signal { instance, signal: Some(_), process: Some(process), .. } = verb else {
            return None;
        };
        let living = self.living.get(instance).filter(|it| it.process != *process)?;
        let is_there = living.group.holds(Identity::from(*process));
        Some((self.planted(instance, living.process)?, *process)).filter(|_| is_there)
    }

    pub(in crate::daemon) fn signal_member(
        &self,
        instance: &Name,
        member: Process,
        signal: Signal,
    ) {
        let sent = match identity::open(Identity::from(member)) {
            Ok(Some(pidfd)) => signal::send(pidfd.as_fd(), signal.0),
            // It ended in this very moment.
            Ok(None) => return,
            Err(err) => Err(err),
        };
        match sent {
            Err(err) if err.raw_os_error() != Some(libc::ESRCH) => {
                warn!(%instance, pid = member.pid, %signal, %err, "could not send");
            }
            Ok(()) | Err(_) => (),
        }
    }
}

/// What a process is in its tree.
fn member(all: &[(Process, &Rule)], process: Process) -> Member {
    let rule = all.iter().find(|it| it.0 == process).map(|it| it.1);
    let others = || all.iter().filter(|it| it.0 != process);
    Member {
        process,
        role: rule.map(|it| it.role.clone()),
        renewed: rule.is_some_and(|it| it.renewed),
        stop: rule.and_then(|it| it.stop).map(Signal),
        others: others().filter(|it| it.1.renewed).map(|it| it.0).collect(),
        alike: others().filter(|it| rule.is_some_and(|rule| rule.role == it.1.role)).count(),
    }
}
