//! The signals of the picker: number, name, and what it usually means.

/// One line of the picker.
#[derive(Debug)]
pub struct Signal {
    pub number: u8,
    pub name: &'static str,
    pub meaning: &'static str,
}

/// Where the picker opens: SIGTERM, never the last one used.
pub const PRESELECTED: usize = 14;
pub const KILL: &str = "SIGKILL";

const fn signal(number: u8, name: &'static str, meaning: &'static str) -> Signal {
    Signal { number, name, meaning }
}

/// signal(7), x86 and ARM numbering; what nobody sends by hand is left out.
pub static SIGNALS: &[Signal] = &[
    signal(1, "SIGHUP", "hang up; servers read their configuration or reopen logs"),
    signal(2, "SIGINT", "interrupt, as Ctrl-C"),
    signal(3, "SIGQUIT", "quit; nginx and php-fpm: graceful; others: core dump"),
    signal(4, "SIGILL", "illegal instruction; core dump"),
    signal(5, "SIGTRAP", "trap; core dump"),
    signal(6, "SIGABRT", "abort; core dump"),
    signal(7, "SIGBUS", "bus error; core dump"),
    signal(8, "SIGFPE", "arithmetic error; core dump"),
    signal(9, KILL, "end at once, cannot be caught; requests are lost"),
    signal(10, "SIGUSR1", "Swoole: reload all workers; nginx: reopen logs"),
    signal(11, "SIGSEGV", "segmentation fault; core dump"),
    signal(12, "SIGUSR2", "Swoole: reload task workers; nginx: upgrade the binary"),
    signal(13, "SIGPIPE", "broken pipe"),
    signal(14, "SIGALRM", "alarm"),
    signal(15, "SIGTERM", "ask to end"),
    signal(17, "SIGCHLD", "a child ended"),
    signal(18, "SIGCONT", "go on after SIGSTOP"),
    signal(19, "SIGSTOP", "halt, cannot be caught; probes will fail"),
    signal(20, "SIGTSTP", "halt, as Ctrl-Z"),
    signal(21, "SIGTTIN", "read from the background; puma: one worker more"),
    signal(22, "SIGTTOU", "write from the background; puma: one worker less"),
    signal(23, "SIGURG", "urgent data"),
    signal(24, "SIGXCPU", "CPU limit; core dump"),
    signal(25, "SIGXFSZ", "file size limit; core dump"),
    signal(28, "SIGWINCH", "window size; nginx and httpd: graceful end of workers"),
    signal(29, "SIGIO", "I/O is possible"),
    signal(30, "SIGPWR", "power failure"),
    signal(31, "SIGSYS", "bad system call; core dump"),
    signal(34, "SIGRTMIN", "first real-time signal; Swoole: reopen the log"),
];

/// What a signal does to the main process of a server of this profile: nginx.org/en/docs/control.html, php-fpm(8),
/// Swoole's documentation and sources, gunicorn's and puma's pages on signals, as far as they say it.
#[rustfmt::skip]
static MEANINGS: &[(&str, &str, &str)] = &[
    ("swoole", "SIGTERM", "end, within its own max_wait_time"),
    ("swoole", "SIGUSR1", "reload all workers"),
    ("swoole", "SIGUSR2", "reload the task workers"),
    ("swoole", "SIGHUP", "ignored"),
    ("swoole", "SIGINT", "not handled: ends at once, workers may stay"),
    ("swoole", "SIGQUIT", "not handled: ends at once, workers may stay"),
    ("swoole", "SIGRTMIN", "reopen the log"),
    ("nginx", "SIGTERM", "end at once: requests are cut"),
    ("nginx", "SIGQUIT", "end when all requests are answered"),
    ("nginx", "SIGHUP", "reload: new workers, the old ones finish"),
    ("nginx", "SIGUSR1", "reopen logs"),
    ("nginx", "SIGUSR2", "start a new binary beside this one"),
    ("nginx", "SIGWINCH", "end the workers, keep the master"),
    ("php-fpm", "SIGTERM", "end at once: requests are cut"),
    ("php-fpm", "SIGQUIT", "end when all requests are answered"),
    ("php-fpm", "SIGUSR1", "reopen logs"),
    ("php-fpm", "SIGUSR2", "reload: new workers, new configuration"),
    ("gunicorn", "SIGTERM", "end within its graceful_timeout"),
    ("gunicorn", "SIGQUIT", "end at once: requests are cut"),
    ("gunicorn", "SIGHUP", "reload: new workers, new configuration"),
    ("gunicorn", "SIGUSR1", "reopen logs"),
    ("gunicorn", "SIGUSR2", "start a new binary beside this one"),
    ("gunicorn", "SIGTTIN", "one worker more"),
    ("gunicorn", "SIGTTOU", "one worker less"),
    ("gunicorn", "SIGWINCH", "end the workers, keep the master"),
    ("puma", "SIGTERM", "end when all requests are answered"),
    ("puma", "SIGUSR1", "phased restart, worker by worker"),
    ("puma", "SIGUSR2", "restart all of it"),
    ("puma", "SIGHUP", "reopen logs; without stdout_redirect it ends"),
    ("puma", "SIGTTIN", "one worker more"),
    ("puma", "SIGTTOU", "one worker less"),
];

/// What `signal` means there: by the profile, where all targets have the same one and it says something.
pub fn meaning(signal: &Signal, profiles: &[&str]) -> String {
    let same = profiles.first().filter(|first| profiles.iter().all(|it| it == *first));
    let known =
        same.and_then(|profile| MEANINGS.iter().find(|it| it.0 == *profile && it.1 == signal.name));
    match known {
        Some((profile, _, meaning)) => format!("{profile}: {meaning}"),
        None => signal.meaning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigterm_is_preselected() {
        assert_eq!(SIGNALS[PRESELECTED].name, "SIGTERM");
    }

    #[test]
    fn a_profile_says_what_a_signal_means_there_unless_targets_differ() {
        let usr1 = SIGNALS.iter().find(|it| it.name == "SIGUSR1").unwrap();
        assert_eq!(meaning(usr1, &["swoole", "swoole"]), "swoole: reload all workers");
        assert_eq!(meaning(usr1, &["puma", "nginx"]), usr1.meaning);
        assert_eq!(meaning(usr1, &["generic"]), usr1.meaning);
    }

    #[test]
    fn every_meaning_is_of_a_signal_of_the_list() {
        for (profile, name, _) in MEANINGS {
            assert!(SIGNALS.iter().any(|it| it.name == *name), "{profile} {name}");
        }
    }
}
