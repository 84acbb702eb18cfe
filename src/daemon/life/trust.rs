//! Before a start as root: whether others can replace what is to be run.
//!
//! Looked at whenever somebody or something decides on a start: an order, a rolling restart, a restart for
//! liveness, another configuration, a new daemon. A restart after a crash goes by what was seen then, because
//! between a death and the next start every system call counts.

use std::collections::BTreeSet;

use crate::config::settings::Text;
use crate::config::trust::{Trust, Verdicts};
use crate::daemon::hands::Hands;
use crate::daemon::life::launch::{Start, Trouble};
use crate::fleet::Name;
use crate::probe::Check;

/// What was found safe since the last decision.
#[derive(Debug)]
pub(in crate::daemon) struct Seen {
    /// `None`: we are not root.
    verdicts: Option<Verdicts>,
    safe: BTreeSet<Name>,
}

impl Seen {
    pub(in crate::daemon) fn new() -> Self {
        Self { verdicts: Trust::of_root().map(Verdicts::new), safe: BTreeSet::new() }
    }

    /// Everything is looked at again before its next start.
    pub(in crate::daemon) fn forget_all(&mut self) {
        *self = Self::new();
    }

    /// This one is.
    pub(in crate::daemon) fn forget(&mut self, instance: &Name) {
        if self.safe.remove(instance) {
            self.verdicts = Trust::of_root().map(Verdicts::new);
        }
    }
}

impl Hands {
    /// Passes a start on if nobody else can replace what it and its probes run.
    pub(in crate::daemon) fn trusted(
        &mut self,
        name: &Name,
        start: Start,
    ) -> Result<Start, Trouble> {
        let seen = &mut self.trust;
        let (Some(verdicts), Some(known)) = (&mut seen.verdicts, self.known.get(name)) else {
            return Ok(start);
        };
        if seen.safe.contains(name) {
            return Ok(start);
        }
        let values = self.values.of(&known.service, name);
        let probes = known.settings.probes.values().filter_map(|it| match &it.check {
            // What has no value stays as it is, also when it is run.
            Check::Exec { argv, .. } => argv
                .first()
                .map(|it| Text(it.clone()).expand(&values).unwrap_or_else(|_| it.clone())),
            Check::Http { .. } | Check::Tcp { .. } | Check::Grpc { .. } => None,
        });
        let mut programs = std::iter::once(start.program().to_owned()).chain(probes);
        let verdict = programs.try_for_each(|it| verdicts.launch(&it, &known.settings.launch));
        match verdict {
            Ok(()) => {
                seen.safe.insert(name.clone());
                Ok(start)
            }
            Err(distrust) => {
                // Whoever mends it need not say so.
                seen.verdicts = Trust::of_root().map(Verdicts::new);
                Err(Trouble::lasting(format!("{name} cannot start: {}", distrust.in_full())))
            }
        }
    }
}
