//! The words of the fleet: names, processes, signals, people.

use std::fmt;
use std::sync::Arc;

/// The name of a service or an instance. They share one namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a process on this boot. The pid alone is none: pids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, clock ticks since boot (proc_pid_stat(5)).
    pub start_time: u64,
}

/// A signal by its Linux number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub i32);

impl Signal {
    /// In the place of a signal, the command that stops what somebody else runs. It is never sent: kill(2)
    /// knows no signal of this number.
    pub const COMMAND: Self = Self(0);
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const USR2: Self = Self(12);
    pub const TERM: Self = Self(15);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    pub const WINCH: Self = Self(28);

    /// Reads `SIGTERM`, `TERM`, `term`, `15`, `SIGRTMIN+1`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
            return (0..=30).contains(&offset).then_some(Self(34 + offset));
        }
        let index = NAMES.iter().position(|it| *it == name)?;
        Some(Self(i32::try_from(index).ok()? + 1))
    }
}

/// Signal names without `SIG`, from number 1 (signal(7), x86 and ARM numbering).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index)) {
            Some(name) => write!(f, "SIG{name}"),
            None if *self == Self::COMMAND => f.write_str("the stop command"),
            None if self.0 == 34 => f.write_str("SIGRTMIN"),
            None if (35..=64).contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - 34),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct By {
    pub uid: u32,
    /// Under sudo the login user's name.
    pub login: Arc<str>,
    /// Pid of the client.
    pub pid: i32,
    pub ssh: Option<Arc<str>>,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_by_name_and_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM));
        }
        assert_eq!(
            Signal::parse("SIGRTMIN+1").map(|it| it.to_string()).as_deref(),
            Some("SIGRTMIN+1")
        );
        for text in ["", "SIG", "0", "65", "-15", "TERMINATE"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_signal_is_written_by_its_name_if_it_has_one() {
        let texts = [1, 31, 34, 35, 64, 33, 65].map(|it| Signal(it).to_string());
        let names =
            ["SIGHUP", "SIGSYS", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+30", "signal 33", "signal 65"];
        assert_eq!(texts, names);
    }
}
