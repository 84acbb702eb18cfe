//! A deck of its own for a test: a throwaway directory, a real daemon, real children.
//!
//! Tests wait for states, never for durations: [`Deck::wait`] follows the daemon's own watch stream and
//! fails after [`PATIENCE`] with the picture, the events and the daemon's log.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its part of this"
)]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

pub mod console;
pub mod following;
pub mod patience;
pub mod ports;
pub mod processes;
pub mod skip;
pub mod theirs;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub use following::Following;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use opsdeck::api::{self, Change, Done, Event, Instance, Problem, Request, State};
use opsdeck::client::Client;
pub use patience::*;
pub use ports::free_port;
pub use skip::is_root;
use tempfile::TempDir;

pub const OPSDECK: &str = env!("CARGO_BIN_EXE_opsdeck");

pub struct Deck {
    pub dir: TempDir,
    daemon: Child,
    /// What the daemon's command line begins with.
    wrapper: Vec<String>,
    changes: Receiver<Change>,
    pub view: api::Deck,
    pub events: Vec<Event>,
}

impl Deck {
    /// Starts a daemon on this configuration; `[deck]` is added.
    pub fn start(services: &str) -> Self {
        Self::start_in(&[], services, |_| ())
    }

    /// As [`Deck::start`], on a directory that was prepared, with a command that executes the daemon.
    pub fn start_in(wrapper: &[&str], services: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("opsdeck-test-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(OPSDECK, dir.path().join("bin/opsdeck")).unwrap();
        write_config(dir.path(), services);
        prepare(dir.path());
        let wrapper: Vec<_> = wrapper.iter().map(|it| (*it).to_owned()).collect();
        let daemon = daemon(dir.path(), &wrapper);
        let changes = follow(dir.path());
        Self { dir, daemon, wrapper, changes, view: api::Deck::default(), events: vec![] }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("state/opsdeck.sock")
    }

    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.id()).unwrap()
    }

    /// Replaces the services of the configuration file; nobody is told.
    pub fn write_config(&self, services: &str) {
        write_config(self.path(), services);
    }

    /// Runs a command of this deck and waits for its end.
    pub fn opsdeck(&self, args: &[&str]) -> Output {
        output_of(&mut self.command(args))
    }

    /// A command of this deck, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(OPSDECK);
        command.arg("--config").arg(self.path().join("config.toml")).args(args);
        command.stdin(Stdio::null()).env("TERM", "xterm-256color").env("TZ", "UTC");
        command
    }

    /// Runs a command that must succeed and returns what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.opsdeck(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let notices = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "opsdeck {args:?}: {}\n{text}{notices}\n{}",
            output.status,
            self.story()
        );
        text
    }

    /// Sends a request to the API and returns the daemon's answer.
    pub fn send(&self, request: &Request) -> Result<Done, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = async { Client::new(&self.socket())?.send(request).await };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() })
    }

    /// What sends a request to the daemon that is there now, for another thread.
    pub fn client(&self) -> impl Fn(&Request) -> Result<Done, Problem> + Send + use<> {
        let socket = self.socket();
        move |request| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = async { Client::new(&socket)?.send(request).await };
            runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() })
        }
    }

    /// A close look at an instance.
    #[track_caller]
    pub fn detail(&self, name: &str) -> api::Detail {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = async { Client::new(&self.socket())?.detail(name).await };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() }).unwrap()
    }

    /// Asks `opsdeck why` until it says all of this, and returns what it said.
    #[track_caller]
    pub fn wait_why(&self, name: &str, texts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.ok(&["why", name]);
            if texts.iter().all(|it| said.contains(it)) {
                return said;
            }
            assert!(Instant::now() < deadline, "no {texts:?} in:\n{said}\n{}", self.story());
            pause();
        }
    }

    /// Follows what an instance writes, from its last 1,000 lines on.
    pub fn follow_log(&self, name: &str) -> Following {
        Following::start(self.command(&["logs", "-f", "-n", "1000", name]))
    }

    /// Waits for a line of an instance's output that contains `text`.
    #[track_caller]
    pub fn wait_line(&self, name: &str, text: &str) -> String {
        self.follow_log(name).line_with(text)
    }

    /// Waits until the picture and the events satisfy `there`.
    #[track_caller]
    pub fn wait(&mut self, what: &str, there: impl Fn(&api::Deck, &[Event]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !there(&self.view, &self.events) {
            match self.changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) => panic!("not {what}:\n{}", self.story()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the daemon ended before {what}:\n{}", self.story())
                }
            }
        }
    }

    /// Takes what has arrived, without waiting.
    pub fn catch_up(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.take(change);
        }
    }

    fn take(&mut self, change: Change) {
        match &change {
            Change::Snapshot { events, .. } => self.events.clone_from(events),
            Change::Change { events, .. } => self.events.extend(events.iter().cloned()),
            Change::Unknown => (),
        }
        self.view.follow(change);
    }

    #[track_caller]
    pub fn wait_ready(&mut self, names: &[&str]) {
        self.wait(&format!("{names:?} ready"), |deck, _| {
            names.iter().all(|name| {
                find(deck, name)
                    .is_some_and(|it| it.state == State::Running && it.ready == Some(true))
            })
        });
    }

    #[track_caller]
    pub fn wait_state(&mut self, name: &str, state: State) {
        self.wait(&format!("{name} {state:?}"), |deck, _| {
            find(deck, name).is_some_and(|it| it.state == state)
        });
    }

    /// Waits for an event whose message contains `text`, and returns it.
    #[track_caller]
    pub fn wait_event(&mut self, text: &str) -> Event {
        self.wait(&format!("an event with {text:?}"), |_, events| {
            events.iter().any(|it| it.message.contains(text))
        });
        self.events.iter().rfind(|it| it.message.contains(text)).unwrap().clone()
    }

    #[track_caller]
    pub fn instance(&self, name: &str) -> Instance {
        find(&self.view, name).unwrap_or_else(|| panic!("no {name}:\n{}", self.story())).clone()
    }

    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        self.instance(name).pid.unwrap_or_else(|| panic!("{name} has no pid:\n{}", self.story()))
    }

    /// Ends the daemon in its own way (`kill -9`, a shutdown) and starts the next one.
    pub fn restart_daemon(&mut self, end: impl FnOnce(&Self)) {
        end(self);
        ended(&mut self.daemon);
        self.daemon = daemon(self.path(), &self.wrapper);
        self.changes = follow(self.path());
        self.view = api::Deck::default();
        self.events.clear();
    }

    /// The daemon has died; the next one is killed when it has begun for so long.
    pub fn begin_and_die(&mut self, after: Duration) {
        ended(&mut self.daemon);
        self.daemon = begin(self.path(), &self.wrapper);
        let until = Instant::now() + after;
        while Instant::now() < until {
            pause();
        }
        self.daemon.kill().unwrap();
    }

    /// All processes but zombies that carry the mark of this deck's instances, with the instance's name.
    pub fn marked(&self) -> Vec<(String, i32)> {
        let deck = format!("@{}", self.path().join("state").display());
        let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        let name = |pid: i32| {
            let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
            let environment = String::from_utf8_lossy(&bytes).into_owned();
            let mut marks =
                environment.split('\0').filter_map(|it| it.strip_prefix("OPSDECK_INSTANCE="));
            marks.find_map(|it| it.strip_suffix(&deck)).map(str::to_owned)
        };
        let mut all: Vec<_> = pids.filter_map(|pid| Some((name(pid)?, pid))).collect();
        all.retain(|(_, pid)| is_alive(*pid));
        all.sort();
        all
    }

    /// Puts another file with the same program in the place of the daemon's: what is started from now on
    /// is started from that one.
    pub fn renew_program(&self) {
        let (bin, copy) = (self.path().join("bin/opsdeck"), self.path().join("bin/renewed"));
        std::fs::copy(OPSDECK, &copy).unwrap();
        std::fs::rename(copy, bin).unwrap();
    }

    /// Looks away: with the next change the stream is left.
    pub fn stop_watching(&mut self) {
        self.changes = channel().1;
    }

    /// Begins to watch again, as a second client would.
    pub fn watch_anew(&mut self) {
        self.changes = follow(self.path());
        self.view = api::Deck::default();
        self.events.clear();
    }

    /// Waits for an event of this kind that is new here, and connects again where the daemon becomes another
    /// program meanwhile.
    #[track_caller]
    pub fn wait_replacement(&mut self, kind: &str) -> Event {
        let seen = self.events.iter().map(|it| it.seq).max().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_it = |it: &&Event| it.seq > seen && it.kind == kind;
            if let Some(event) = self.events.iter().find(is_it) {
                return event.clone();
            }
            match self.changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) => panic!("no {kind}:\n{}", self.story()),
                Err(RecvTimeoutError::Disconnected) => {
                    let is_left = Instant::now() < deadline && is_alive(self.daemon_pid());
                    assert!(is_left, "the daemon ended before {kind}:\n{}", self.story());
                    pause();
                    self.watch_anew();
                }
            }
        }
    }

    /// Waits until the daemon hangs up on whoever watches.
    #[track_caller]
    pub fn wait_hangup(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the daemon goes on:\n{}", self.story()),
            }
        }
    }

    /// Waits until the daemon has ended.
    #[track_caller]
    pub fn wait_end(&mut self) {
        self.wait_hangup();
        ended(&mut self.daemon);
    }

    /// Ends everything, whatever state the test has left it in.
    fn end(&mut self) {
        let pids: Vec<_> = self.view.services.iter().flat_map(|it| &it.instances).collect();
        let pids: Vec<_> = pids.iter().filter_map(|it| it.pid).collect();
        for name in self.view.services.iter().map(|it| it.name.clone()) {
            // A stop must not take its whole patience.
            self.try_command(&["stop", "--now", "--no-wait", &name]);
        }
        self.try_command(&["shutdown"]);
        // It still waits for its logger, which has a flood to take.
        ended_within(&mut self.daemon, Duration::from_secs(10));
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        if std::thread::panicking() {
            for pid in pids {
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Runs a command whose failure does not matter; one that hangs is left behind.
    fn try_command(&self, args: &[&str]) {
        let mut command = self.command(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if let Ok(mut child) = child
            && ended_within(&mut child, Duration::from_secs(20)).is_none()
        {
            drop(child.kill());
        }
    }

    /// Everything a person needs to see why a test failed.
    pub fn story(&self) -> String {
        let log = std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(60)..].join("\n");
        let mut text = String::from("--- the deck\n");
        for it in self.view.services.iter().flat_map(|it| &it.instances) {
            let _ = writeln!(
                text,
                "{} {:?} pid {:?} ready {:?}: {}",
                it.name, it.state, it.pid, it.ready, it.why
            );
        }
        text += "--- events\n";
        for it in &self.events {
            let who = it.instance.as_ref().or(it.service.as_ref());
            let _ = writeln!(text, "{} {} {}", it.at, who.map_or("-", |it| it), it.message);
        }
        text + "--- the daemon's log\n" + &log
    }
}

impl Drop for Deck {
    fn drop(&mut self) {
        let has_ended = matches!(self.daemon.try_wait(), Ok(Some(_)));
        // Unless another process has succeeded it.
        if !has_ended || UnixStream::connect(self.socket()).is_ok() {
            self.end();
        }
        processes::end_parts(self.path());
        for (_, pid) in self.marked() {
            // It may end by itself in this moment.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub fn find<'a>(deck: &'a api::Deck, name: &str) -> Option<&'a Instance> {
    deck.services.iter().flat_map(|it| &it.instances).find(|it| it.name == name)
}

fn write_config(dir: &Path, services: &str) {
    let state = dir.join("state");
    let head = format!("[deck]\nname = \"test\"\nstate_dir = {:?}\n", state.display().to_string());
    // As an editor does it: the daemon never sees half of it.
    std::fs::write(dir.join("config.new"), head + services).unwrap();
    std::fs::rename(dir.join("config.new"), dir.join("config.toml")).unwrap();
}

/// Begins a daemon, and does not wait for it.
fn begin(dir: &Path, wrapper: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("daemon.log")).unwrap();
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
    let program = dir.join("bin/opsdeck").display().to_string();
    let words: Vec<_> = wrapper.iter().cloned().chain([program]).collect();
    Command::new(&words[0])
        .args(&words[1..])
        .arg("daemon")
        .arg("--config")
        .arg(dir.join("config.toml"))
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn daemon(dir: &Path, wrapper: &[String]) -> Child {
    let daemon = begin(dir, wrapper);
    let deadline = Instant::now() + PATIENCE;
    let socket = dir.join("state/opsdeck.sock");
    while !answers(&socket) {
        assert!(
            Instant::now() < deadline && is_alive(i32::try_from(daemon.id()).unwrap()),
            "the daemon did not begin:\n{}",
            std::fs::read_to_string(dir.join("daemon.log")).unwrap()
        );
        pause();
    }
    daemon
}

/// Whether whoever listens answers: the socket of a daemon that was killed takes connections until the last
/// child that it was about to start has let go of it.
fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let asked = stream.write_all(b"GET /v1/deck HTTP/1.1\r\nhost: o\r\n\r\n");
    asked.is_ok() && stream.read_exact(&mut [0]).is_ok()
}

/// Follows the daemon's watch stream in a thread of its own until it ends.
fn follow(dir: &Path) -> Receiver<Change> {
    let (sender, changes) = channel();
    let socket = dir.join("state/opsdeck.sock");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::new(&socket).unwrap();
            // The daemon may be another program in a moment: whoever waits looks whether it is alive.
            let Ok(changes) = client.watch().await else { return };
            let mut changes = Box::pin(changes);
            while let Some(Ok(change)) = changes.next().await {
                if sender.send(change).is_err() {
                    return;
                }
            }
        });
    });
    changes
}

/// The distribution's Python, which has what its packages bring; another one may come first in PATH.
pub fn python() -> &'static str {
    let its = "/usr/bin/python3";
    if Path::new(its).exists() { its } else { "python3" }
}

/// A process that exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|it| !it.trim().is_empty() && !it.trim().starts_with('Z'))
}

pub fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
}
