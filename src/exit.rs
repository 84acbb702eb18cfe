//! The exit codes of every command, in one place.
//!
//! `opsdeck help` prints this table from [`TABLE`]; README.md repeats it, and a test compares the two.

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `status`: all as wanted; for `load`: every request was answered with 2xx or 3xx.
    Done = 0,
    /// It was not done, or it did not end well: a refusal, a halted rollout, a failed request.
    Failed = 1,
    /// The command line or a configuration file has mistakes.
    Usage = 2,
    /// `status`: something is not as wanted (as in LSB init scripts).
    NotAsWanted = 3,
    /// No daemon answers.
    NoDaemon = 4,
    /// The user may not do this.
    Forbidden = 5,
    /// It is dangerous and wants `--yes`.
    Confirm = 6,
    /// Ctrl-C while it was waited for; the work goes on (128 and the number of SIGINT, as shells have it).
    Interrupted = 130,
    /// A signal ended the daemon, and its services run on (128 and the number of SIGTERM).
    Signalled = 143,
}

/// Code and meaning, for help and README.
pub const TABLE: [(Exit, &str); 9] = [
    (
        Exit::Done,
        "done; `status`: all as wanted; `load`: every request was answered with 2xx or 3xx",
    ),
    (Exit::Failed, "not done or not well: refused, halted, timed out, a failed request"),
    (Exit::Usage, "the command line or a configuration file has mistakes"),
    (Exit::NotAsWanted, "`status`: something is not as wanted"),
    (Exit::NoDaemon, "no daemon answers"),
    (Exit::Forbidden, "this user may not do that"),
    (Exit::Confirm, "dangerous: say it again with `--yes`"),
    (Exit::Interrupted, "Ctrl-C while it was waited for: the work goes on"),
    (Exit::Signalled, "`daemon`: a signal ended it, the services run on"),
];

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The table as `opsdeck help` prints it.
pub fn table() -> String {
    let rows = TABLE.iter().map(|(exit, meaning)| format!("  {:<3}  {meaning}", exit.code()));
    format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
}
