//! `opsdeck` without a command: the deck, and a daemon in the background where none runs.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::place::{self, Found};
use super::{Outcome, local, themes};
use crate::api::Problem;
use crate::cli::{DeckArgs, Place};
use crate::client::Client;
use crate::daemon::host::private_directory;
use crate::daemon::http::peer::user_name;
use crate::daemon::log::rotate;
use crate::exit::Exit;
use crate::process::identity;
use crate::process::spawn::{Launch, Output, spawn};
use crate::tui;
use crate::tui::theme::depth::Depth;

/// How long a daemon may take until it answers: it adopts first.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks whether it answers.
const LOOK: Duration = Duration::from_millis(5);

pub async fn run(place: &Place, args: &DeckArgs) -> Outcome {
    // Only the socket is needed to attach: a broken file must not keep anybody out.
    let socket = place::socket(place)?;
    let mut start_notice = None;
    if UnixStream::connect(&socket).is_err() {
        let found = place::find(place)?;
        if found.settings.is_none() && !socket.exists() {
            return Err(place::no_configuration(&found.config));
        }
        if args.no_start {
            return Err(crate::client::no_daemon(&socket));
        }
        if let Some(unit) = place::systemd_unit() {
            return Err(Problem {
                help: Some("systemctl start opsdeck".into()),
                ..local("no daemon is running", format!("{} is installed for it", unit.display()))
            });
        }
        start(&found, &[]).await?;
        start_notice = place::session_notice();
    }
    let farewell = show(Client::new(&socket)?, place, args, start_notice).await?;
    if !farewell.terminal_gone {
        super::farewell(&farewell.to_string());
    }
    Ok(Exit::Done)
}

/// Shows the deck until it is left; leaving stops nothing.
pub async fn show(
    client: Client,
    place: &Place,
    args: &DeckArgs,
    start_notice: Option<String>,
) -> Result<tui::Farewell, Problem> {
    let themes = themes::directories(place);
    let theme = themes::chosen(args.theme.as_deref(), &themes)?;
    let variable = |name| std::env::var(name).unwrap_or_default();
    let options = tui::Options {
        client,
        read_only: args.read_only,
        ascii: args.ascii,
        depth: Depth::of(
            std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty()),
            &variable("TERM"),
            &variable("COLORTERM"),
        ),
        theme,
        themes,
        mouse: args.mouse,
        show_cost: args.show_cost,
        tz: jiff::tz::TimeZone::system(),
        user: user_name(nix::unistd::geteuid().as_raw()),
        start_notice,
    };
    let failed = |err: tui::TuiError| local("the deck could not be shown", err.to_string());
    tui::run(options).await.map_err(failed)
}

/// Starts a daemon in a session of its own and returns once it answers.
pub async fn start(found: &Found, environment: &[(String, String)]) -> Result<(), Problem> {
    let failed = |what: &str, err: &dyn std::fmt::Display| {
        local(format!("the daemon could not be started: {what}"), err.to_string())
    };
    private_directory(&found.state_dir)
        .map_err(|err| failed(&found.state_dir.display().to_string(), &err))?;
    let log = found.state_dir.join("daemon.log");
    rotate(&log);
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(|err| failed(&log.display().to_string(), &err))?;
    let mut argv = vec![place::own_program()?.display().to_string(), "daemon".into()];
    argv.extend(["--config".into(), found.config.display().to_string()]);
    argv.extend(["--socket".into(), found.socket.display().to_string()]);
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.retain(|(name, _)| environment.iter().all(|(it, _)| it != name));
    variables.extend_from_slice(environment);
    let spawned = spawn(&Launch {
        argv: &argv,
        directory: Some(Path::new("/")),
        environment: &variables,
        output: Output::Descriptor(output.as_fd()),
        passed: &[],
        switch: None,
        cgroup: None,
    })
    .map_err(|err| failed("it could not be executed", &err))?;
    let answers = async {
        while UnixStream::connect(&found.socket).is_err() {
            if !identity::is_alive(spawned.identity).unwrap_or(false) {
                return Err(local("the daemon ended at once", last_words(&log)));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, answers).await.unwrap_or_else(|_| {
        let detail = format!("pid {} does not answer within 15s", spawned.identity.pid);
        Err(Problem {
            help: Some(format!("read {}", log.display())),
            ..local("the daemon was started, but", detail)
        })
    })
}

/// The end of the daemon's own log.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
