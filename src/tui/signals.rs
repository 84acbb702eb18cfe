//! The signals of the picker: number, name, and what it usually means. What it means to a kind of server
//! its profile knows, and the daemon tells.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigterm_is_preselected() {
        assert_eq!(SIGNALS[PRESELECTED].name, "SIGTERM");
    }
}
