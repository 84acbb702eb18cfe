//! Sockets that the daemon holds: restarts without a gap, with nothing in front.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use opsdeck::api::State;
use serde_json::Value;
use support::{Deck, find, free_port, kill, wait_until};

/// A service that accepts on the socket of this port.
fn web(port: u16, more: &str) -> String {
    format!(
        "[service.web]\ncommand = \"opsdeck sample --listen-fd --work 50ms\"\n\
         socket = {{ listen = \"127.0.0.1:{port}\", name = \"entry\" }}\nstart_seconds = \"200ms\"\n\
         rollout = {{ settle = \"100ms\" }}\n{more}\n"
    )
}

const ONE: &str = "instance.web1 = {}";
const TWO: &str = "instance = { web1 = {}, web2 = {} }";

/// `opsdeck load` with a connection for each request, GET and POST in turns.
struct Load(Child);

impl Load {
    fn begin(deck: &Deck, port: u16) -> Self {
        let url = format!("http://127.0.0.1:{port}/");
        let mut command = deck.command(&["load", &url, "-c", "8", "--interval", "0"]);
        command.args(["--method", "mixed", "--one-shot", "--json"]);
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn end(mut self) -> Value {
        kill(i32::try_from(self.0.id()).unwrap(), Signal::SIGINT);
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[track_caller]
    fn end_without_a_failure(self, deck: &Deck) {
        let report = self.end();
        assert_eq!(report["failed"], 0, "{report:#}\n{}", deck.story());
        assert!(report["requests"].as_u64() > Some(20), "{report:#}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What the server says of itself, if there is one.
fn stats(port: u16) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(support::PATIENCE)).ok()?;
    write!(stream, "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

fn wait_answer(port: u16) {
    wait_until("an answer", || stats(port).is_some());
}

/// Waits until the clients keep the server that runs now busy.
fn wait_busy(port: u16) {
    wait_until("five requests in flight", || {
        stats(port).is_some_and(|it| it["concurrency"].as_u64() > Some(5))
    });
}

#[test]
fn a_restart_loses_no_connection() {
    let port = free_port();
    let mut deck = Deck::start(&web(port, ONE));
    deck.wait_ready(&["web1"]);
    let load = Load::begin(&deck, port);
    wait_busy(port);
    for _ in 0..3 {
        deck.ok(&["restart", "web1"]);
    }
    wait_busy(port);
    load.end_without_a_failure(&deck);
    deck.catch_up();
    assert_eq!(deck.instance("web1").generation, 4, "{}", deck.story());
    assert_eq!(deck.instance("web1").in_flight, None, "nobody can count it");
}

#[test]
fn a_crash_loses_only_what_was_accepted() {
    let port = free_port();
    let mut deck = Deck::start(&web(port, ONE));
    deck.wait_ready(&["web1"]);
    let load = Load::begin(&deck, port);
    wait_busy(port);
    kill(deck.pid("web1"), Signal::SIGKILL);
    deck.wait("the next generation", |deck, _| {
        find(deck, "web1").is_some_and(|it| it.generation == 2 && it.state == State::Running)
    });
    wait_busy(port);
    let report = load.end();
    // Each of the eight clients had at most one that was accepted.
    assert!(report["failed"].as_u64() <= Some(8), "{report:#}");
    assert_eq!(report["failures"]["refused"], 0, "{report:#}");
}

#[test]
fn two_instances_that_share_it_are_rolled_without_a_failure() {
    let port = free_port();
    let mut deck = Deck::start(&web(port, TWO));
    deck.wait_ready(&["web1", "web2"]);
    let load = Load::begin(&deck, port);
    wait_busy(port);
    deck.ok(&["roll", "web"]);
    load.end_without_a_failure(&deck);
}

#[test]
fn the_next_daemon_has_it_from_an_instance_that_runs_on() {
    let port = free_port();
    let mut deck = Deck::start(&web(port, ONE));
    deck.wait_ready(&["web1"]);
    let load = Load::begin(&deck, port);
    wait_busy(port);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1"]);
    deck.ok(&["restart", "web1"]);
    wait_busy(port);
    load.end_without_a_failure(&deck);
    deck.catch_up();
    assert_eq!(deck.instance("web1").generation, 2, "{}", deck.story());
}

#[test]
fn the_environment_says_what_is_passed() {
    let port = free_port();
    let script = "echo $LISTEN_PID $$ $LISTEN_FDS $LISTEN_FDNAMES; sleep 60 <&3";
    let text = web(port, ONE).replace("opsdeck sample --listen-fd --work 50ms", "SCRIPT");
    let text = text.replace("\"SCRIPT\"", &format!("['sh', '-c', '{script}']"));
    let deck = Deck::start(&text);
    let line = deck.wait_line("web1", " 1 entry");
    let words: Vec<_> = line.split_whitespace().collect();
    assert!(words.windows(2).any(|it| it[0] == it[1]), "{line}");
}

#[test]
fn a_service_that_is_stopped_refuses() {
    let port = free_port();
    let mut deck = Deck::start(&web(port, ONE));
    deck.wait_ready(&["web1"]);
    deck.ok(&["stop", "web1"]);
    wait_until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
    deck.ok(&["start", "web1"]);
    wait_answer(port);
}

#[test]
fn another_address_is_taken_up_by_the_next_start() {
    let (port, other) = (free_port(), free_port());
    let mut deck = Deck::start(&web(port, ONE));
    deck.wait_ready(&["web1"]);
    deck.write_config(&web(other, ONE));
    deck.ok(&["config", "apply"]);
    deck.wait("stale", |deck, _| find(deck, "web1").is_some_and(|it| it.stale));
    wait_answer(port);
    deck.ok(&["restart", "web1"]);
    wait_answer(other);
    wait_until("nobody at the old one", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_stranger_on_the_port_is_named() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let mut deck = Deck::start(&web(port, ONE));
    let told = deck.wait_event("web1 cannot start").message;
    assert!(told.contains("the port is held by socket"), "{told}");
    drop(stranger);
    deck.wait_ready(&["web1"]);
}

/// A second daemon with a state directory of its own and this socket does not begin; what it says.
fn refused_at(socket: &std::path::Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("config.toml"), dir.path().join("state"));
    let text = format!(
        "[deck]\nstate_dir = {:?}\nsocket = {:?}\n[service.other]\ncommand = \"sleep 1000\"\n",
        state.display().to_string(),
        socket.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let mut second = std::process::Command::new(support::OPSDECK);
    second.arg("--config").arg(&config).arg("daemon").stdin(Stdio::null());
    let output = support::output_of(&mut second);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn the_socket_of_another_daemon_and_what_is_none_stay_where_they_are() {
    let mut deck = Deck::start("[service.steady]\ncommand = \"sleep 1000\"\n");
    deck.wait_ready(&["steady"]);
    let said = refused_at(&deck.socket());
    assert!(
        said.contains(&format!("another process listens there, pid {}", deck.daemon_pid())),
        "{said}"
    );
    deck.ok(&["status"]);

    let file = deck.path().join("precious");
    std::fs::write(&file, "text").unwrap();
    let said = refused_at(&file);
    assert!(said.contains("what is there is no socket, and stays"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn a_socket_elsewhere_that_nobody_listens_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let services = "[service.steady]\ncommand = \"sleep 1000\"\n";
    let elsewhere = format!("socket = {:?}\n{services}", socket.display().to_string());
    let to_elsewhere = format!("--socket={}", socket.display());
    let deck = Deck::start(services);
    deck.ok(&["shutdown", "--keep"]);
    deck.write_config(&elsewhere);
    let mut daemon = deck.command(&["daemon"]).stdin(Stdio::null()).spawn().unwrap();
    wait_until("it answers there", || {
        deck.opsdeck(&[&to_elsewhere, "status"]).status.code() != Some(4)
    });
    deck.ok(&[&to_elsewhere, "shutdown"]);
    assert!(support::ended(&mut daemon).success());
}
