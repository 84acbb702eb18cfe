//! The built-in profiles: what signals mean to a kind of server.
//!
//! Sources: Swoole's src/server/{master,manager,worker}.cc (6.2); nginx's control page; php-fpm(8);
//! gunicorn's docs/content/signals.md; Puma's docs/signals.md. *Harmless* is a signal that takes no
//! instance away: a reload that replaces workers, or a log that is reopened.

use std::time::Duration;

use crate::fleet::rules::{Meaning, Profile};
use crate::fleet::words::Signal;

/// A profile with what only the configuration needs of it.
pub(crate) struct BuiltIn {
    pub(crate) profile: Profile,
    /// The default of `stop`: the signal that lets requests finish.
    pub(crate) stop: Signal,
    /// The server's own limit for finishing: the default of `reserve`.
    pub(crate) limit: Duration,
}

/// The profile of this name.
pub(crate) fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|it| it.profile.name == name)
}

const fn meaning(signal: Signal, does: &'static str) -> Meaning {
    Meaning { signal, does, harmless: false }
}

const fn harmless(signal: Signal, does: &'static str) -> Meaning {
    Meaning { signal, does, harmless: true }
}

const TTIN: Signal = Signal(21);
const TTOU: Signal = Signal(22);
const RTMIN: Signal = Signal(34);

const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        profile: Profile { name: "generic", reload: None, signals: &[], term_cuts: false },
        stop: Signal::TERM,
        limit: Duration::from_secs(3),
    },
    BuiltIn {
        // Swoole 6.1 and newer close every connection at SIGTERM in process mode, whatever is in flight.
        profile: Profile {
            name: "swoole",
            reload: Some(Signal::USR1),
            signals: SWOOLE,
            term_cuts: true,
        },
        stop: Signal::TERM,
        limit: Duration::from_secs(3),
    },
    BuiltIn {
        profile: Profile {
            name: "nginx",
            reload: Some(Signal::HUP),
            signals: NGINX,
            term_cuts: true,
        },
        stop: Signal::QUIT,
        limit: Duration::from_secs(3),
    },
    BuiltIn {
        profile: Profile {
            name: "php-fpm",
            reload: Some(Signal::USR2),
            signals: PHP_FPM,
            term_cuts: true,
        },
        stop: Signal::QUIT,
        limit: Duration::from_secs(3),
    },
    BuiltIn {
        profile: Profile {
            name: "gunicorn",
            reload: Some(Signal::HUP),
            signals: GUNICORN,
            term_cuts: false,
        },
        stop: Signal::TERM,
        limit: Duration::from_secs(30),
    },
    BuiltIn {
        profile: Profile {
            name: "puma",
            reload: Some(Signal::USR1),
            signals: PUMA,
            term_cuts: false,
        },
        stop: Signal::TERM,
        limit: Duration::from_secs(30),
    },
];

const SWOOLE: &[Meaning] = &[
    meaning(Signal::TERM, "stop gracefully; 6.1 and newer cut connections in process mode"),
    harmless(Signal::USR1, "reload all workers"),
    harmless(Signal::USR2, "reload task workers"),
    harmless(Signal::WINCH, "reopen logs (6.1 and newer)"),
    harmless(RTMIN, "reopen logs"),
    meaning(Signal::INT, "die at once: not handled"),
    meaning(Signal::QUIT, "die at once: not handled"),
];

const NGINX: &[Meaning] = &[
    meaning(Signal::QUIT, "stop gracefully"),
    meaning(Signal::TERM, "stop at once, cutting requests"),
    meaning(Signal::INT, "stop at once, cutting requests"),
    harmless(Signal::HUP, "reload the configuration, new workers"),
    harmless(Signal::USR1, "reopen logs"),
    meaning(Signal::USR2, "start a new binary"),
    meaning(Signal::WINCH, "stop the workers, keep the master"),
];

const PHP_FPM: &[Meaning] = &[
    meaning(Signal::QUIT, "stop gracefully"),
    meaning(Signal::TERM, "stop at once, cutting requests"),
    meaning(Signal::INT, "stop at once, cutting requests"),
    harmless(Signal::USR1, "reopen logs"),
    harmless(Signal::USR2, "reload the configuration, new workers"),
];

const GUNICORN: &[Meaning] = &[
    meaning(Signal::TERM, "stop gracefully"),
    meaning(Signal::QUIT, "stop at once, cutting requests"),
    meaning(Signal::INT, "stop at once, cutting requests"),
    harmless(Signal::HUP, "reload the configuration, new workers"),
    harmless(Signal::USR1, "reopen logs"),
    meaning(Signal::USR2, "start a new binary"),
    meaning(Signal::WINCH, "stop the workers, keep the master"),
    harmless(TTIN, "one worker more"),
    meaning(TTOU, "one worker less"),
];

const PUMA: &[Meaning] = &[
    meaning(Signal::TERM, "stop gracefully"),
    meaning(Signal::INT, "stop gracefully"),
    harmless(Signal::USR1, "replace the workers one by one"),
    meaning(Signal::USR2, "restart with a new binary"),
    // Without stdout_redirect it acts like SIGINT.
    meaning(Signal::HUP, "reopen logs; stops a Puma without stdout_redirect"),
    harmless(TTIN, "one worker more"),
    meaning(TTOU, "one worker less"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_is_harmless_and_a_stop_is_not() {
        for BuiltIn { profile, stop, .. } in BUILT_IN {
            let is_harmless =
                |signal| profile.signals.iter().any(|it| it.signal == signal && it.harmless);
            assert!(profile.reload.is_none_or(is_harmless), "{}", profile.name);
            assert!(!is_harmless(*stop) && !is_harmless(Signal::TERM), "{}", profile.name);
        }
    }
}
