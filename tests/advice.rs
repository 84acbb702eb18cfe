//! What `opsdeck why` advises goes by what real processes, sockets and exits show.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use opsdeck::api::{Act, InstanceVerb, Request, State};
use opsdeck::quantity::parse_duration;
use support::console::Console;
use support::{Deck, Following, OPSDECK, find, free_port, kill, python, wait_until};

/// A service `web` of one instance on this port, with nothing in front.
fn web(port: u16, flags: &str, more: &str) -> String {
    format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} {flags}\"\n\
         start_seconds = \"100ms\"\ninstance.web1 = {{ port = {port} }}\n{more}\n"
    )
}

/// A deck whose web1 listens.
fn up(config: &str) -> Deck {
    let mut deck = Deck::start(config);
    deck.wait_ready(&["web1"]);
    deck.wait_line("web1", "listening");
    deck
}

/// Sends a request and returns without its answer.
fn ask(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

/// A deck with `n` requests in flight at web1.
fn in_flight(config: &str, port: u16, n: u32) -> (Deck, Vec<TcpStream>) {
    let mut deck = up(config);
    let requests = (0..n).map(|_| ask(port)).collect();
    deck.wait("the requests in flight", |it, _| {
        find(it, "web1").is_some_and(|it| it.in_flight == Some(n))
    });
    (deck, requests)
}

/// A sample that no deck has started, in a process group that ends with the test.
struct Outsider(Following);

impl Outsider {
    fn start(port: u16, flags: &str) -> Self {
        let mut command = Command::new(OPSDECK);
        command.args(["sample", "--port", &port.to_string()]).args(flags.split_whitespace());
        command.process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
        Self(Following::start(command))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.pid()), Signal::SIGKILL);
    }
}

#[test]
fn requests_that_a_server_cuts_with_time_left_speak_for_its_own_limit() {
    let port = free_port();
    let config = web(port, "--work 1h --max-wait-time 1s", "max_wait_time = \"40s\"");
    let (mut deck, requests) = in_flight(&config, port, 2);
    assert!(!deck.ok(&["why", "web1"]).contains("looks like"));
    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    deck.wait_event("into its drain for SIGTERM with ");
    let said = deck.wait_why("web1", &["cut off ", "although it had 40s"]);
    let (_, limit) = said.split_once("its own max_wait_time looks like ").unwrap();
    let limit = parse_duration(limit.split([';', ',']).next().unwrap()).unwrap();
    // A busy machine may be late.
    assert!((1..10).contains(&limit.as_secs()), "{said}");

    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("web1");
    console.step("j");
    console.press("\r");
    console.wait_for("cut off");
    console.wait_for("looks like");
    console.press("q");
    console.wait_for("detach");
    drop(requests);

    // The next daemon knows it from the journal.
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1"]);
    deck.wait_why("web1", &["cut off ", "looks like"]);
    let advice = deck.detail("web1").advice;
    let limit = advice.iter().find(|it| it.kind == "own-limit").unwrap();
    assert!(limit.help.starts_with("raise the server's max_wait_time"), "{limit:?}");
}

#[test]
fn a_full_accept_queue_is_told_with_who_should_accept() {
    let port = free_port();
    let deck = up(&web(port, "--deaf --backlog 2", ""));
    // The kernel lets one more in than it was told (tcp(7), sk_acceptq_is_full).
    let clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let pid = deck.pid("web1");
    let full = format!("the accept queue of port {port} is full, 3 of 2; who should accept: ");
    deck.wait_why("web1", &[&full, &format!("opsdeck (pid {pid})"), "its backlog is 2"]);
    drop(clients);
}

#[test]
fn a_full_accept_queue_of_a_socket_that_is_held_is_told_as_well() {
    let port = free_port();
    let script = "import socket,time; it=socket.socket(fileno=3); it.listen(2); print(\\\"up\\\",flush=True); \
                  time.sleep(1000)";
    let mut deck = Deck::start(&format!(
        "[service.web]\ncommand = \"{} -c '{script}'\"\nstart_seconds = \"100ms\"\n\
         socket = {{ listen = \"127.0.0.1:{port}\" }}\ninstance.web1 = {{}}\n",
        python()
    ));
    deck.wait_ready(&["web1"]);
    deck.wait_line("web1", "up");
    let clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let (pid, full) =
        (deck.pid("web1"), format!("the accept queue of port {port} is full, 3 of 2"));
    let said = deck.wait_why("web1", &[&full, &format!("(pid {pid})"), "its backlog is 2"]);
    // The daemon has the socket too, and is no stranger.
    assert!(!said.contains("listens on"), "{said}");
    drop(clients);
}

#[test]
fn a_server_that_goes_into_the_background_is_told_so() {
    let deck = Deck::start(
        "[service.web]\ncommand = \"sh -c 'sleep 1000 &'\"\n\
         backoff = { min = \"50ms\", max = \"50ms\" }\n",
    );
    let said = deck.wait_why("web", &["goes into the background", "engine = \"pidfile\""]);
    assert!(said.contains("ended with code 0 right after its start "), "{said}");
}

#[test]
fn a_server_that_was_halted_is_told_and_goes_on_as_it_says() {
    let deck = up(&web(free_port(), "", ""));
    assert!(!deck.ok(&["why", "web1"]).contains("stands still"));
    deck.ok(&["signal", "--yes", "SIGSTOP", "web1"]);
    deck.wait_why("web1", &["stands still: stopped by SIGSTOP", "`opsdeck signal SIGCONT web1`"]);
    deck.ok(&["signal", "SIGCONT", "web1"]);
    wait_until("it goes on", || !deck.ok(&["why", "web1"]).contains("stands still"));
}

#[test]
fn a_stop_that_does_not_end_names_who_lives_and_afterwards_who_lived() {
    let service = |name: &str, max_wait_time: &str| {
        format!(
            "[service.{name}]\ncommand = \"opsdeck sample --worker --ignore-term\"\n\
             profile = \"own\"\nstart_seconds = \"100ms\"\nmax_wait_time = \"{max_wait_time}\"\n"
        )
    };
    let config = [service("long", "1h"), service("still", "1h"), service("short", "1s")].concat();
    let mut deck = Deck::start_in(&[], &config, |path| {
        std::fs::create_dir(path.join("profiles")).unwrap();
        let own = "limit = { name = \"grace\", default = \"200ms\" }\n";
        std::fs::write(path.join("profiles/own.toml"), own).unwrap();
    });
    deck.wait_ready(&["long", "still", "short"]);
    for name in ["long", "short"] {
        deck.wait_line(name, "takes jobs");
    }
    let (long, still) = (deck.pid("long"), deck.pid("still"));
    kill(still, Signal::SIGSTOP);
    deck.ok(&["stop", "--no-wait", "long"]);
    deck.ok(&["stop", "--no-wait", "still"]);
    let process = format!("1 of its processes still lives: opsdeck (pid {long})");
    let grace = "longer than its grace (0.2s where nobody has set it)";
    deck.wait_why("long", &[grace, &process, "it has taken the signal", "SIGKILL ends it in"]);
    deck.wait_why("still", &["stands still", &format!("`kill -CONT {still}` lets it go on")]);

    let short = deck.pid("short");
    deck.ok(&["stop", "short"]);
    let lived = format!("when max_wait_time (1s) was over; then lived opsdeck (pid {short})");
    deck.wait_why("short", &["its last stop needed SIGKILL", &lived]);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_state("short", State::Stopped);
    deck.wait_why("short", &[&lived]);
    for name in ["long", "still"] {
        let (verb, act) = (InstanceVerb::Kill, Act::default());
        deck.send(&Request::Instance { name: name.into(), verb, act }).unwrap();
        deck.wait_state(name, State::Stopped);
    }
}

#[test]
fn a_listener_that_stays_open_while_its_server_drains_is_told() {
    let port = free_port();
    let config = web(port, "--work 1h --deaf-drain --max-wait-time 1h", "max_wait_time = \"1h\"");
    let (deck, requests) = in_flight(&config, port, 1);
    deck.ok(&["stop", "--no-wait", "web1"]);
    let open = format!("port {port} is still listened on ");
    deck.wait_why("web1", &[&open, "they are cut off when it ends"]);
    let late = ask(port);
    deck.wait_why("web1", &[&open, "and 1 connection waits there to be accepted"]);
    drop((late, requests));
}

#[test]
fn a_tree_shows_what_a_signal_would_cut_and_who_lost_a_manager() {
    let port = free_port();
    let swoole = "profile = \"swoole\"\nmax_wait_time = \"5s\"";
    let mut deck = up(&web(port, "--tree swoole", swoole));
    let is_whole = || deck.detail("web1").processes.len() == 4;
    wait_until("the tree stands", is_whole);
    deck.wait_why(
        "web1",
        &[
            "may cut every connection at SIGTERM",
            "run it in base mode",
            "set max_wait_time = \"7s\" or more",
        ],
    );
    let manager = deck.detail("web1").processes[1].pid;
    kill(manager, Signal::SIGKILL);
    let orphaned = format!("lost their parent and still listen on port {port}");
    deck.wait_why("web1", &[&orphaned, "nobody reloads or replaces them"]);
    deck.ok(&["restart", "web1"]);
    deck.wait_ready(&["web1"]);
    assert!(!deck.ok(&["why", "web1"]).contains("lost their parent"));
}

#[test]
fn orphans_of_somebody_elses_server_are_named_where_they_have_the_port() {
    let port = free_port();
    let outsider = Outsider::start(port, "--tree swoole --mode base --workers 2");
    (0..3).for_each(|_| drop(outsider.0.line_with("started, pid")));
    kill(outsider.0.pid(), Signal::SIGKILL);
    let mut deck = Deck::start(&web(port, "", "backoff = { min = \"1h\", max = \"1h\" }"));
    deck.wait_event(&format!("port {port} is held by"));
    deck.wait_why(
        "web1",
        &[
            &format!("its parent is gone) listen on port {port}, not web1"),
            "who led them has ended",
            "end them: kill ",
        ],
    );
}

#[test]
fn somebody_who_shares_the_port_is_named() {
    let port = free_port();
    let deck = up(&web(port, "--reuse-port", ""));
    assert!(!deck.ok(&["why", "web1"]).contains("as well"));
    let twin = Outsider::start(port, "--reuse-port");
    twin.0.line_with("listening");
    let named = format!("opsdeck (pid {}", twin.0.pid());
    deck.wait_why(
        "web1",
        &[&named, "as well, beside web1", &format!("(SO_REUSEPORT on port {port})")],
    );
}

#[test]
fn workers_that_are_started_again_and_again_are_told() {
    let port = free_port();
    let swoole = "profile = \"swoole\"";
    let deck = up(&web(port, "--tree swoole --crash-after 300ms", swoole));
    let said = deck.wait_why(
        "web1",
        &[" of its workers ended within ", "or few requests come, they cannot go on"],
    );
    assert!(said.contains("opsdeck logs web1"), "{said}");
}
