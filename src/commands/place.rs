//! Where this deck's files are: configuration, state, socket.

use std::path::{Path, PathBuf};

use super::local;
use crate::api::{Problem, problem};
use crate::cli::Place;
use crate::client::{self, Client};
use crate::config::paths::{Paths, Surroundings};
use crate::config::settings::{Deck, Settings};
use crate::daemon::turn::Mistakes;

/// Everything that was found out about a place.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the configuration is, or would be.
    pub config: PathBuf,
    /// `None`: there is no configuration.
    pub settings: Option<Settings>,
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
    pub socket: PathBuf,
}

/// Reads the configuration and works out where everything is. Mistakes in the file are a problem.
pub fn find(place: &Place) -> Result<Found, Problem> {
    let config = config_file(place)?;
    let settings = match config.try_exists() {
        Ok(false) if place.config.is_none() => None,
        _ => Some(crate::config::load(&config).map_err(|err| mistakes(&err))?),
    };
    let paths = paths(place, settings.as_ref().map_or(&Deck::default(), |it| &it.deck))?;
    Ok(Found {
        config,
        settings,
        state_dir: paths.state_dir,
        runtime_dir: paths.runtime_dir,
        socket: paths.socket,
    })
}

/// What was applied last of a file that has mistakes by now, with these: what runs by it is not left alone.
/// `None`: the file is right, or nothing is known of it.
pub fn find_applied(place: &Place) -> Option<(Found, Mistakes)> {
    let config = config_file(place).ok()?;
    let err = crate::config::load(&config).err()?;
    let deck = crate::config::deck(&config).unwrap_or_default();
    let paths = paths(place, &deck).ok()?;
    let applied = crate::daemon::applied::read(&paths.state_dir, &config)?;
    let files = err.files().map(Path::to_owned).collect();
    let mistakes = Mistakes { rendered: err.render(false), first_lines: err.first_lines() };
    let found = Found {
        config,
        settings: Some(Settings { files, ..applied }),
        state_dir: paths.state_dir,
        runtime_dir: paths.runtime_dir,
        socket: paths.socket,
    };
    Some((found, mistakes))
}

pub(super) fn paths(place: &Place, deck: &Deck) -> Result<Paths, Problem> {
    let paths = surroundings().paths(place.socket.as_deref(), deck).map_err(homeless)?;
    Ok(Paths {
        state_dir: absolute(&paths.state_dir)?,
        runtime_dir: absolute(&paths.runtime_dir)?,
        socket: absolute(&paths.socket)?,
    })
}

/// The socket alone. A file with mistakes keeps nobody out of a deck that runs at the default place.
pub fn socket(place: &Place) -> Result<PathBuf, Problem> {
    if let Some(socket) = &place.socket {
        return absolute(socket);
    }
    if let Some(deck) = crate::config::deck(&config_file(place)?) {
        return Ok(paths(place, &deck)?.socket);
    }
    find(place).map(|it| it.socket).or_else(|problem| {
        let socket = paths(place, &Deck::default())?.socket;
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => Ok(socket),
            Err(_) => Err(problem),
        }
    })
}

/// A client of this deck's daemon.
pub fn client(place: &Place) -> Result<Client, Problem> {
    let socket = socket(place)?;
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => Client::new(&socket),
        Err(err) if err.kind() == std::io::ErrorKind::PermissionDenied => Err(Problem {
            kind: problem::FORBIDDEN.into(),
            title: format!("this user may not open {}", socket.display()),
            detail: err.to_string(),
            help: Some(
                "ask an operator to add the user to `[deck] operators` or `viewers`, or use sudo"
                    .into(),
            ),
            ..Problem::default()
        }),
        // One that begins, or becomes another program, is asked again.
        Err(_) if client::is_held(&socket) => Client::new(&socket),
        Err(_) => Err(client::no_daemon(&socket)),
    }
}

fn surroundings() -> Surroundings {
    Surroundings::new(nix::unistd::geteuid().is_root(), |name| std::env::var_os(name))
}

/// The configuration file of this place, whether it is there or not.
pub fn config_file(place: &Place) -> Result<PathBuf, Problem> {
    absolute(&surroundings().config(place.config.as_deref()).map_err(homeless)?)
}

fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    std::path::absolute(path)
        .map_err(|err| local(format!("{} is no path", path.display()), err.to_string()))
}

fn homeless(why: impl std::fmt::Display) -> Problem {
    local("it is not known where this deck's files are", why.to_string())
}

/// All mistakes of a file, each with its line, as one problem.
pub fn mistakes(err: &crate::config::ConfigError) -> Problem {
    let detail = format!("\n{}", err.render(false));
    Problem { kind: problem::CONFIG.into(), ..local("the configuration has mistakes", detail) }
}

/// All that cannot be read of another program's file.
pub fn unimported(file: &Path, err: &crate::config::ConfigError) -> Problem {
    let detail = format!("\n{}", err.render(false));
    let title = format!("{} was not imported", file.display());
    Problem { kind: problem::CONFIG.into(), ..local(&title, detail) }
}

/// This program, to be started again as daemon or logger.
pub fn own_program() -> Result<PathBuf, Problem> {
    std::env::current_exe()
        .map_err(|err| local("this program does not find its own file", err.to_string()))
}

pub fn no_configuration(config: &Path) -> Problem {
    Problem {
        kind: problem::CONFIG.into(),
        title: "there is nothing to run yet".into(),
        detail: format!("{} does not exist", config.display()),
        help: Some(
            "`opsdeck demo` shows the deck on sample servers; config.example.toml is a start for your own"
                .into(),
        ),
        ..Problem::default()
    }
}

/// The unit that starts the daemon of this host, where one is installed and this is root's deck.
pub fn systemd_unit() -> Option<PathBuf> {
    let runs = Path::new("/run/systemd/system").is_dir() && nix::unistd::geteuid().is_root();
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
        .iter()
        .map(|it| Path::new(it).join("opsdeck.service"))
        .find(|it| runs && it.exists())
}

/// Says that logout may end the daemon, where it was started inside a login session's scope.
pub fn session_notice() -> Option<String> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup.contains("/session-").then(|| {
        "the daemon was started from this login session: logout may end it, unless lingering is on"
            .to_owned()
    })
}
