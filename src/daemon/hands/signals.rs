//! Signals: what their targets would do with them, and how they are sent.

use std::os::fd::AsFd;

use super::Hands;
use crate::fleet::input::{Disposition, Verb};
use crate::fleet::{Fleet, Name, Process, Signal};
use crate::process::{preflight, signal};
use crate::roles::Rule;

impl Hands {
    pub(in crate::daemon) fn signal(&mut self, instance: &Name, process: Process, signal: Signal) {
        self.trust.forget(instance);
        self.follow_end(instance);
        // With nothing in between: a signal that is written down and not sent is missed.
        self.state.write();
        self.send(instance, process, signal);
    }

    fn send(&mut self, instance: &Name, process: Process, signal: Signal) {
        let Some(living) = self.living.get(instance).filter(|it| it.process == process) else {
            return;
        };
        let Some(pidfd) = &living.pidfd else { return };
        match signal::send(pidfd.as_fd(), signal.0) {
            // It ended by itself in this very moment; its exit is on the way.
            Ok(()) => (),
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => (),
            Err(err) => {
                let why = format!("{signal} could not be sent to pid {}: {err}", process.pid);
                self.unsent.push((instance.clone(), why));
            }
        }
    }

    /// Reads what the targets of a signal do with it, right before the fleet decides.
    pub fn preflight(&self, verb: &mut Verb, fleet: &Fleet) {
        match verb {
            Verb::Signal { instance, signal, disposition, .. } => {
                let reload = || self.reload_signal(instance);
                if let Some(signal) = signal.or_else(reload) {
                    *disposition = self.disposition(instance, signal);
                }
            }
            Verb::SignalMember { signal, member, disposition, .. } => {
                *disposition = disposition_of(member.process.pid, *signal);
            }
            Verb::SignalService { service, signal, dispositions } => {
                let Some(sheet) = fleet.service_sheet(service.as_str()) else { return };
                for it in sheet.instances {
                    let reload = || self.reload_signal(&it.name);
                    if let Some(signal) = signal.or_else(reload) {
                        let disposition = self.disposition(&it.name, signal);
                        dispositions.insert(it.name, disposition);
                    }
                }
            }
            _ => (),
        }
    }

    fn reload_signal(&self, instance: &Name) -> Option<Signal> {
        let service = self.service(&self.known.get(instance)?.service)?;
        service.rules.profile.reload
    }

    fn disposition(&self, instance: &Name, signal: Signal) -> Disposition {
        let Some(living) = self.living.get(instance) else { return Disposition::Unknown };
        match disposition_of(living.process.pid, signal) {
            Disposition::Caught if self.may_cut(instance, living.process, signal) => {
                Disposition::MayCut
            }
            it => it,
        }
    }

    /// By its profile the leader is of a kind that closes its connections then.
    fn may_cut(&self, instance: &Name, leader: Process, signal: Signal) -> bool {
        let Some(planted) = self.planted(instance, leader) else { return false };
        let cuts = |it: &Rule| it.cuts.contains(&signal.0);
        // Most profiles have none: nobody need look.
        planted.profile.roles.0.iter().any(cuts)
            && planted.ruled_at_once().iter().any(|it| it.0 == leader && cuts(it.1))
    }
}

fn disposition_of(pid: i32, signal: Signal) -> Disposition {
    match preflight::disposition(pid, signal.0) {
        Ok(preflight::Disposition::Caught) => Disposition::Caught,
        Ok(preflight::Disposition::Ignored) => Disposition::Ignored,
        Ok(preflight::Disposition::Default) => Disposition::Default,
        Err(_) => Disposition::Unknown,
    }
}
