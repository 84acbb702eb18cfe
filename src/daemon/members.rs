//! Single processes of a tree as the targets of orders.

use std::os::fd::AsFd;

use tracing::warn;

use super::hands::{Hands, identity_of};
use super::reloads::ruled;
use crate::fleet::input::{Disposition, Member, Verb};
use crate::fleet::{Name, Process, Signal};
use crate::process::{identity, signal};

impl Hands {
    /// An order that is meant for another process of the tree than its leader becomes one for that.
    pub(super) fn aim(&self, verb: &mut Verb) {
        let Verb::Signal { instance, signal: Some(signal), process: Some(process), .. } = verb
        else {
            return;
        };
        let Some(living) = self.living.get(instance) else { return };
        if living.process == *process || !living.group.holds(identity_of(*process)) {
            return;
        }
        *verb = Verb::SignalMember {
            instance: instance.clone(),
            signal: *signal,
            member: self.member(instance, living.process, *process),
            disposition: Disposition::Unknown,
        };
    }

    fn member(&self, instance: &Name, leader: Process, process: Process) -> Member {
        let known = self.known.get(instance).and_then(|it| self.service(&it.service));
        let all = known.map_or(vec![], |it| ruled(&it.profile.roles, leader));
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

    pub(super) fn signal_member(&self, instance: &Name, member: Process, signal: Signal) {
        let sent = match identity::open(identity_of(member)) {
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
