//! Reloads that cut requests, where a server gives them no time: known before such an order is decided.
//!
//! Only a php-fpm does that, only where something is in flight, and only its configuration tells
//! ([`fpm::cuts`]). An order that wants to be asked waits for a look at it, for at most a second; without an
//! answer it goes on as ever.

use std::collections::BTreeMap;

use crate::daemon::clock;
use crate::daemon::driver::Daemon;
use crate::daemon::trees::census::Look;
use crate::daemon::trees::members::Ordered;
use crate::fleet::input::{Disposition, Verb};
use crate::fleet::{Name, Timestamp};
use crate::process::fpm::{self, Cut};
use crate::process::stat::time_of;

/// What php-fpm calls the time that it gives.
const LIMIT: &str = "process_control_timeout";

/// An order, and whose requests it would cut.
#[derive(Debug)]
pub struct Weighed {
    ordered: Ordered,
    cuts: BTreeMap<Name, Cut>,
}

impl Daemon {
    /// An order that may cut requests waits for a look; the others are given back.
    pub(in crate::daemon) fn weigh(&self, ordered: Ordered) -> Option<Ordered> {
        let masters: Vec<_> = match ordered.0.guard {
            true => self.masters_of(&ordered.0.verb),
            false => vec![],
        };
        if masters.is_empty() {
            return Some(ordered);
        }
        let look = move || {
            let cut = |(name, pid, read): (Name, i32, jiff::Timestamp)| {
                Some((name, fpm::cuts(pid, read.into())?))
            };
            masters.into_iter().filter_map(cut).collect()
        };
        self.hands.look_soon(look, move |cuts| {
            let cuts = cuts.unwrap_or_default();
            Look::Weighed(Box::new(Weighed { ordered, cuts }))
        });
        None
    }

    pub(in crate::daemon) fn on_weighed(&mut self, weighed: Weighed) {
        self.order_cutting(weighed.ordered, &weighed.cuts);
    }

    /// The instances that are reloaded by this order, have something in flight, and may cut it: their leaders.
    fn masters_of(&self, verb: &Verb) -> Vec<(Name, i32, jiff::Timestamp)> {
        let (names, signal) = match verb {
            Verb::Signal { instance, signal, .. } => (vec![instance.clone()], *signal),
            Verb::SignalService { service, signal, .. } => {
                let sheet = self.fleet.service_sheet(service.as_str());
                let members = sheet.map_or(vec![], |it| it.instances);
                (members.into_iter().map(|it| it.name).collect(), *signal)
            }
            _ => return vec![],
        };
        let master = |name: Name| {
            let sheet = self.fleet.instance_sheet(name.as_str())?;
            let profile = &self.hands.service(&sheet.service)?.rules.profile;
            let is_reload =
                profile.reload.is_some() && signal.is_none_or(|it| profile.reload == Some(it));
            let is_busy = sheet.in_flight.is_some_and(|it| it.count() > 0);
            let may_cut = is_reload && is_busy && profile.limit_name.as_deref() == Some(LIMIT);
            let process = sheet.process.filter(|_| may_cut)?;
            // Each reload reads the configuration anew, in the same process.
            let began = clock::wall_of(Timestamp(time_of(process.start_time)));
            let reloaded = self.facts.reloaded(name.as_str());
            Some((name, process.pid, reloaded.map_or(began, |it| it.max(began))))
        };
        names.into_iter().filter_map(master).collect()
    }
}

/// Notes at which targets of a signal requests are cut by it.
pub(in crate::daemon) fn mark(verb: &mut Verb, cuts: &BTreeMap<Name, Cut>) {
    match verb {
        Verb::Signal { instance, disposition, .. } => mark_one(instance, disposition, cuts),
        Verb::SignalService { dispositions, .. } => {
            dispositions.iter_mut().for_each(|(name, it)| mark_one(name, it, cuts));
        }
        _ => (),
    }
}

fn mark_one(name: &Name, disposition: &mut Disposition, cuts: &BTreeMap<Name, Cut>) {
    if *disposition != Disposition::Caught {
        return;
    }
    match cuts.get(name) {
        Some(Cut::Certain) => *disposition = Disposition::Cuts,
        Some(Cut::Perhaps) => *disposition = Disposition::CutsPerhaps,
        None => (),
    }
}
