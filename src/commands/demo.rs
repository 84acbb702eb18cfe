//! `opsdeck demo`: the deck on config.example.toml in a throwaway directory, with sample servers under
//! load. Nothing to install, nothing left behind.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures_util::StreamExt;
use regex::{Captures, Regex};

use super::place::Found;
use super::{Outcome, deck, local, notice, out, place, unprinted};
use crate::api::{Act, Problem, Request};
use crate::cli::{DeckArgs, DemoArgs};
use crate::client::Client;
use crate::exit::Exit;

/// The configuration that the demo runs, and that people start their own from.
const EXAMPLE: &str = include_str!("../../config.example.toml");

pub async fn run(args: &DemoArgs, deck: &DeckArgs) -> Outcome {
    // From here on a SIGTERM waits until there is somebody to end what was begun.
    let kind = tokio::signal::unix::SignalKind::terminate();
    let term = tokio::signal::unix::signal(kind)
        .map_err(|err| local("could not wait for SIGTERM", err.to_string()))?;
    let directory = Directory::create()?;
    let (text, ports) = configuration(&directory.path, &free_ports);
    let found = prepare(&directory, &text)?;
    let bin = directory.path.join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let environment = [("PATH".to_owned(), format!("{}:{path}", bin.display()))];
    deck::start(&found, &environment).await?;
    let client = Client::new(&found.socket)?;
    let load = Load::start(&bin.join("opsdeck"), &ports);
    let shown = if args.headless {
        headless(&found, term).await
    } else {
        deck::show(client.clone(), deck, None).await
    };
    drop(load);
    let ended = end(&client).await;
    directory.remove()?;
    shown.and(ended)
}

/// Waits to be told to end.
async fn headless(found: &Found, mut term: tokio::signal::unix::Signal) -> Outcome {
    let socket = found.socket.display();
    out(&format!("the demo runs; look at it with\n  opsdeck --socket {socket}\nCtrl-C ends it\n"))
        .map_err(|err| unprinted(&err))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = term.recv() => (),
    }
    Ok(Exit::Done)
}

/// Stops everything and returns once the daemon is gone.
async fn end(client: &Client) -> Outcome {
    let mut changes = Box::pin(client.watch().await?);
    client.send(&Request::Shutdown { act: Act::default() }).await?;
    while let Some(Ok(_)) = changes.next().await {}
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

/// The example with this directory as its place and with ports that nobody uses.
fn configuration(directory: &Path, free: &impl Fn(usize) -> Vec<u16>) -> (String, Vec<u16>) {
    let state = format!("[deck]\nstate_dir = \"{}/state\"\n", directory.display());
    let text = EXAMPLE.replacen("[deck]\n", &state, 1);
    let Ok(pattern) = Regex::new(r"\bport = (\d+)") else { return (text, vec![]) };
    let ports = free(pattern.find_iter(&text).count());
    let mut rest = ports.iter();
    let text = pattern
        .replace_all(&text, |_: &Captures<'_>| match rest.next() {
            Some(port) => format!("port = {port}"),
            None => "port = 0".to_owned(),
        })
        .into_owned();
    (text, ports)
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
    fn start(program: &Path, ports: &[u16]) -> Self {
        let client = |port: &u16| {
            Command::new(program)
                .args(["load", &format!("http://127.0.0.1:{port}/"), "-c", "6"])
                .args(["--interval", "1s", "--duration", "24h"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        };
        Self(ports.iter().filter_map(client).collect())
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
        let (text, ports) = configuration(Path::new("/tmp/demo"), &|n| {
            (0..n).map(|it| 40_000 + it as u16).collect()
        });
        let settings = crate::config::parse("demo", &text).unwrap();

        let seen: Vec<_> = settings
            .services
            .iter()
            .flat_map(|it| &it.instances)
            .filter_map(|it| it.port)
            .collect();
        assert_eq!(seen, ports);
        assert_eq!(settings.deck.state_dir.as_deref(), Some(Path::new("/tmp/demo/state")));
    }
}
