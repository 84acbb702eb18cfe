//! `opsdeck demo`: the deck on config.example.toml in a throwaway directory, with sample servers under
//! load. Nothing to install, nothing left behind.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use regex::{Captures, Regex};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::place::Found;
use super::wait::Daemon;
use super::{Outcome, deck, local, notice, out, place, unprinted};
use crate::api::{Act, Problem, Request};
use crate::cli::{DeckArgs, DemoArgs, Place};
use crate::client::Client;
use crate::exit::Exit;

/// The configuration that the demo runs, and that people start their own from.
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// How long the deck may take to give the terminal back once it is told to end.
const LEAVING: Duration = Duration::from_secs(2);

pub async fn run(args: &DemoArgs, deck: &DeckArgs) -> Outcome {
    // From here on a signal waits until there is somebody to end what was begun.
    let mut told = Told::new()?;
    let directory = Directory::create()?;
    let ran = in_directory(&directory, args, deck, &mut told).await;
    directory.remove()?;
    ran
}

async fn in_directory(
    directory: &Directory,
    args: &DemoArgs,
    deck: &DeckArgs,
    told: &mut Told,
) -> Outcome {
    let (text, entry) = configuration(&directory.path, &free_ports);
    let found = prepare(directory, &text)?;
    let bin = directory.path.join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let environment = [("PATH".to_owned(), format!("{}:{path}", bin.display()))];
    deck::start(&found, &environment).await?;
    let client = Client::new(&found.socket)?;
    let load = Load::start(&bin.join("opsdeck"), entry);
    let shown = if args.headless {
        headless(&found, told).await
    } else {
        screen(client.clone(), deck, told).await
    };
    drop(load);
    let ended = end(&client).await;
    shown.and(ended)
}

/// The deck, until it is left or somebody tells the demo to end, also before the deck could hear it.
async fn screen(client: Client, args: &DeckArgs, told: &mut Told) -> Outcome {
    let place = Place::default();
    let mut shown = std::pin::pin!(deck::show(client, &place, args, None));
    let farewell = tokio::select! {
        biased;
        () = told.heard() => tokio::time::timeout(LEAVING, shown).await.ok().transpose()?,
        farewell = &mut shown => Some(farewell?),
    };
    if farewell.is_some_and(|it| !it.terminal_gone) {
        super::farewell("the demo ends, and its services with it");
    }
    Ok(Exit::Done)
}

/// Waits to be told to end.
async fn headless(found: &Found, told: &mut Told) -> Outcome {
    let socket = found.socket.display();
    out(&format!("the demo runs; look at it with\n  opsdeck --socket {socket}\nCtrl-C ends it\n"))
        .map_err(|err| unprinted(&err))?;
    told.heard().await;
    Ok(Exit::Done)
}

/// The signals that end a demo. One that comes early is kept.
struct Told([Signal; 3]);

impl Told {
    fn new() -> Result<Self, Problem> {
        let watch =
            |kind| signal(kind).map_err(|err| local("could not wait for signals", err.to_string()));
        Ok(Self([
            watch(SignalKind::terminate())?,
            watch(SignalKind::interrupt())?,
            watch(SignalKind::hangup())?,
        ]))
    }

    async fn heard(&mut self) {
        let [term, int, hup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
            _ = hup.recv() => (),
        }
    }
}

/// Stops everything and returns once the daemon is gone.
async fn end(client: &Client) -> Outcome {
    let daemon = Daemon::of(client).await;
    let mut changes = Box::pin(client.watch().await?);
    client.send(&Request::Shutdown { act: Act::default() }).await?;
    while let Some(Ok(_)) = changes.next().await {}
    daemon.gone().await;
    Ok(Exit::Done)
}

fn prepare(directory: &Directory, text: &str) -> Result<Found, Problem> {
    let failed = |err: std::io::Error| {
        local(format!("could not prepare {}", directory.path.display()), err.to_string())
    };
    let config = directory.path.join("config.toml");
    std::fs::write(&config, text).map_err(failed)?;
    let bin = directory.path.join("bin");
    std::fs::create_dir(&bin).map_err(failed)?;
    // The example says `opsdeck sample`: that is this very program.
    std::os::unix::fs::symlink(place::own_program()?, bin.join("opsdeck")).map_err(failed)?;
    let at = crate::cli::Place { config: Some(config), socket: None };
    place::find(&at)
}

/// The example with this directory as its place and with ports that nobody uses; the last of them is
/// where clients come in.
fn configuration(directory: &Path, free: &impl Fn(usize) -> Vec<u16>) -> (String, Option<u16>) {
    let state = format!("[deck]\nstate_dir = \"{}/state\"\n", directory.display());
    let text = EXAMPLE.replacen("[deck]\n", &state, 1);
    let Ok(pattern) = Regex::new(r#"(\bport = |\blisten = "127\.0\.0\.1:)(\d+)"#) else {
        return (text, None);
    };
    let ports = free(pattern.find_iter(&text).count());
    let mut rest = ports.iter();
    let text = pattern
        .replace_all(&text, |it: &Captures<'_>| {
            rest.next().map_or_else(|| it[0].to_owned(), |port| format!("{}{port}", &it[1]))
        })
        .into_owned();
    (text, ports.last().copied())
}

/// All bound at once, so that they differ.
fn free_ports(n: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..n).filter_map(|_| TcpListener::bind(("127.0.0.1", 0)).ok()).collect();
    listeners.iter().filter_map(|it| Some(it.local_addr().ok()?.port())).collect()
}

/// Some clients, so that there is something to see.
struct Load(Vec<Child>);

impl Load {
    /// Clients that keep their connections and clients that do not, through the gateway.
    fn start(program: &Path, entry: Option<u16>) -> Self {
        let client = |port: u16| {
            Command::new(program)
                .args(["load", &format!("http://127.0.0.1:{port}/"), "-c", "12"])
                .args(["--interval", "1s", "--duration", "24h", "--mixed-connections"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        Self(entry.and_then(client).into_iter().collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A directory of our own that goes when we go.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn create() -> Result<Self, Problem> {
        let template = std::env::temp_dir().join("opsdeck-demo-XXXXXX");
        let path = nix::unistd::mkdtemp(&template).map_err(|err| {
            local(
                format!("could not create a directory like {}", template.display()),
                err.to_string(),
            )
        })?;
        Ok(Self { path })
    }

    fn remove(self) -> Result<(), Problem> {
        std::fs::remove_dir_all(&self.path).map_err(|err| {
            local(format!("could not remove {}", self.path.display()), err.to_string())
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.path.exists() {
            notice(&format!("opsdeck: the demo's files are left in {}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_moved_to_free_ports_and_a_place_of_its_own() {
        let (text, entry) = configuration(Path::new("/tmp/demo"), &|n| {
            (0..n).map(|it| 40_000 + it as u16).collect()
        });
        let settings = crate::config::parse("demo", &text).unwrap();

        let instances = settings.services.iter().flat_map(|it| &it.instances);
        let ports: Vec<_> = instances.filter_map(|it| it.port).collect();
        assert_eq!(ports, [40_000, 40_001]);
        assert_eq!(entry, Some(40_002));
        let Some(shop) = settings.gateways[0].provider.embedded() else { panic!("not ours") };
        assert_eq!(shop.listen.port(), 40_002);
        assert_eq!(settings.deck.state_dir.as_deref(), Some(Path::new("/tmp/demo/state")));
    }
}
