//! Where things are: the configuration, the state, the socket, the pipes.
//!
//! Pure: the environment and the user come in as values, so that the daemon and its clients find the
//! same places. Nothing is created or looked up here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fingerprint;
use super::resolve::LONGEST_SOCKET;
use super::settings::Deck;

/// What the paths depend on beside flags and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The effective user is root.
    pub root: bool,
    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub config_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, else `~/.local/state`.
    pub state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl Surroundings {
    /// Reads the variables of the XDG base directories; relative values do not count, as it says.
    pub fn new(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|it| it.is_absolute());
        let in_home = |rest: &str| path("HOME").map(|it| it.join(rest));
        Self {
            root,
            config_home: path("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            state_home: path("XDG_STATE_HOME").or_else(|| in_home(".local/state")),
            runtime_dir: path("XDG_RUNTIME_DIR"),
        }
    }

    /// The configuration file: `--config`, else the user's place for it.
    pub fn config(&self, flag: Option<&Path>) -> Result<PathBuf, PathsError> {
        match (flag, self.root) {
            (Some(flag), _) => Ok(flag.to_owned()),
            (None, true) => Ok("/etc/opsdeck/config.toml".into()),
            (None, false) => {
                let home = self
                    .config_home
                    .as_ref()
                    .ok_or(PathsError::NoHome { wanted: "configuration" })?;
                Ok(home.join("opsdeck/config.toml"))
            }
        }
    }

    /// Where a deck keeps its things. `socket` is the flag `--socket`.
    pub fn paths(&self, socket: Option<&Path>, deck: &Deck) -> Result<Paths, PathsError> {
        let state_dir = self.state_dir(deck)?;
        let socket = socket.or(deck.socket.as_deref());
        let socket = socket.map_or_else(|| state_dir.join("opsdeck.sock"), Path::to_owned);
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(PathsError::SocketTooLong { socket });
        }
        Ok(Paths { runtime_dir: self.runtime_dir_of(&state_dir), state_dir, socket })
    }

    fn state_dir(&self, deck: &Deck) -> Result<PathBuf, PathsError> {
        match (&deck.state_dir, self.root) {
            (Some(path), _) => Ok(path.clone()),
            (None, true) => Ok("/var/lib/opsdeck".into()),
            (None, false) => {
                let home =
                    self.state_home.as_ref().ok_or(PathsError::NoHome { wanted: "state" })?;
                Ok(home.join("opsdeck"))
            }
        }
    }

    /// One directory for each state directory: two decks of a user must not share pipes.
    fn runtime_dir_of(&self, state_dir: &Path) -> PathBuf {
        let hash =
            format!("{:016x}", fingerprint::of_bytes(state_dir.as_os_str().as_encoded_bytes()));
        match (&self.runtime_dir, self.root) {
            (_, true) => Path::new("/run/opsdeck").join(hash),
            (Some(runtime), false) => runtime.join("opsdeck").join(hash),
            (None, false) => state_dir.join("run"),
        }
    }
}

/// Where a deck keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// State, lock, journal and logs.
    pub state_dir: PathBuf,
    /// What need not outlive the boot: pipes.
    pub runtime_dir: PathBuf,
    /// The API.
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    #[error(
        "there is no place for the {wanted}: neither $HOME nor the XDG variable for it is set; name one with --config and state_dir"
    )]
    NoHome { wanted: &'static str },
    #[error("the path of the socket has more than 107 bytes: {}; choose another one with --socket or `socket` in [deck]", socket.display())]
    SocketTooLong { socket: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn user(variables: &[(&str, &str)]) -> Surroundings {
        Surroundings::new(false, |name| {
            variables.iter().find(|it| it.0 == name).map(|it| OsString::from(it.1))
        })
    }

    fn deck(text: &str) -> Deck {
        parse("/etc/opsdeck/config.toml", text).unwrap().deck
    }

    #[test]
    fn root_has_its_things_in_the_system() {
        let root = Surroundings::new(true, |name| Some(format!("/home/admin/{name}").into()));
        assert_eq!(root.config(None), Ok("/etc/opsdeck/config.toml".into()));
        let paths = root.paths(None, &deck("")).unwrap();
        assert_eq!(
            paths,
            Paths {
                state_dir: "/var/lib/opsdeck".into(),
                runtime_dir: "/run/opsdeck/5db1979fe4ef07e1".into(),
                socket: "/var/lib/opsdeck/opsdeck.sock".into(),
            }
        );
    }

    #[test]
    fn a_user_has_them_at_home() {
        let alice = user(&[("HOME", "/home/alice"), ("XDG_STATE_HOME", "relative")]);
        assert_eq!(alice.config(None), Ok("/home/alice/.config/opsdeck/config.toml".into()));
        assert_eq!(alice.config(Some(Path::new("x.toml"))), Ok("x.toml".into()));
        let paths = alice.paths(None, &deck("")).unwrap();
        assert_eq!(paths.state_dir, Path::new("/home/alice/.local/state/opsdeck"));
        assert_eq!(paths.runtime_dir, Path::new("/home/alice/.local/state/opsdeck/run"));
        let nobody = user(&[]);
        assert_eq!(nobody.config(None), Err(PathsError::NoHome { wanted: "configuration" }));
    }

    #[test]
    fn settings_and_flags_come_first() {
        let alice = user(&[("HOME", "/home/alice"), ("XDG_RUNTIME_DIR", "/run/user/1000")]);
        let deck = deck("[deck]\nstate_dir = \"state\"\nsocket = \"/tmp/deck.sock\"");
        let paths = alice.paths(None, &deck).unwrap();
        assert_eq!(
            (paths.state_dir.to_str(), paths.socket.to_str()),
            (Some("/etc/opsdeck/state"), Some("/tmp/deck.sock"))
        );
        assert!(paths.runtime_dir.starts_with("/run/user/1000/opsdeck"));
        assert_eq!(alice.paths(Some(Path::new("/a")), &deck).unwrap().socket, Path::new("/a"));
        let long = PathBuf::from(format!("/{}", "x".repeat(107)));
        assert_eq!(
            alice.paths(Some(&long), &deck),
            Err(PathsError::SocketTooLong { socket: long.clone() })
        );
    }
}
