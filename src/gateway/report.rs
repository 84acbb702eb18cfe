//! What there is to tell the daemon, gathered until it is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tokio::sync::Notify;

use super::control::FromGateway;
use super::instance::Instance;

/// Notices that wait to be told. More are dropped: the counts have them all.
const MOST: usize = 1_000;

/// Gateway, instance, generation, why.
type About = (String, String, u64, String);

/// Filled by whoever serves, emptied by the house.
#[derive(Debug, Default)]
pub(super) struct Reports {
    is_changed: Cell<bool>,
    is_urgent: Cell<bool>,
    /// The house sleeps: nothing changes, and nothing is open.
    is_asleep: Cell<bool>,
    wake: Notify,
    notices: RefCell<Vec<FromGateway>>,
    cuts: RefCell<BTreeMap<About, (u64, u64)>>,
    failures: RefCell<BTreeMap<About, u64>>,
}

impl Reports {
    /// Some number is another.
    pub(super) fn changed(&self) {
        if !self.is_changed.replace(true) && self.is_asleep.get() {
            self.wake.notify_one();
        }
    }

    /// Somebody waits for a number.
    pub(super) fn at_once(&self) {
        self.is_changed.set(true);
        if !self.is_urgent.replace(true) {
            self.wake.notify_one();
        }
    }

    pub(super) fn notice(&self, message: String) {
        self.tell(FromGateway::Notice { message });
    }

    pub(super) fn ejected(&self, it: &Instance, for_ms: u64) {
        self.tell(FromGateway::Ejected {
            gateway: it.gateway.borrow().clone(),
            instance: it.name.clone(),
            generation: it.generation,
            for_ms,
        });
    }

    pub(super) fn readmitted(&self, it: &Instance) {
        self.tell(FromGateway::Readmitted {
            gateway: it.gateway.borrow().clone(),
            instance: it.name.clone(),
            generation: it.generation,
        });
    }

    pub(super) fn connect_failed(&self, it: &Instance, why: String) {
        let mut failures = self.failures.borrow_mut();
        let key = (it.gateway.borrow().clone(), it.name.clone(), it.generation, why);
        if failures.len() < MOST {
            *failures.entry(key).or_default() += 1;
        }
        self.changed();
    }

    pub(super) fn cut(&self, it: &Instance, requests: u64, tunnels: u64, why: String) {
        let mut cuts = self.cuts.borrow_mut();
        if cuts.len() < MOST {
            let key = (it.gateway.borrow().clone(), it.name.clone(), it.generation, why);
            let (all_requests, all_tunnels) = cuts.entry(key).or_default();
            *all_requests += requests;
            *all_tunnels += tunnels;
        }
        self.changed();
    }

    fn tell(&self, notice: FromGateway) {
        let mut notices = self.notices.borrow_mut();
        if notices.len() < MOST {
            notices.push(notice);
        }
        self.changed();
    }

    /// Returns at the next urgent change, or the first of all after [`Self::sleeps`].
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn sleeps(&self, is_asleep: bool) {
        self.is_asleep.set(is_asleep);
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed.get()
    }

    /// Whether the counts are to be told now, which is then done.
    pub(super) fn take_change(&self) -> bool {
        self.is_urgent.set(false);
        self.is_changed.replace(false)
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.is_urgent.get()
    }

    /// What happened since the last time, in the order: failures, what followed from them, what was lost.
    pub(super) fn take_notices(&self) -> Vec<FromGateway> {
        let failures = std::mem::take(&mut *self.failures.borrow_mut());
        let cuts = std::mem::take(&mut *self.cuts.borrow_mut());
        let failed = |((gateway, instance, generation, why), times)| FromGateway::ConnectFailed {
            gateway,
            instance,
            generation,
            times,
            why,
        };
        let cut = |((gateway, instance, generation, why), (requests, tunnels))| FromGateway::Cut {
            gateway,
            instance,
            generation,
            requests,
            tunnels,
            why,
        };
        let mut all: Vec<_> = failures.into_iter().map(failed).collect();
        all.append(&mut self.notices.borrow_mut());
        all.extend(cuts.into_iter().map(cut));
        all
    }
}
