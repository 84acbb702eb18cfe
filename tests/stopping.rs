//! Every stop ends: with what was in flight, at its deadline, and with everything that was started.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use opsdeck::api::{Act, Event, InstanceVerb, Request, State, Target, problem};
use support::{Deck, PATIENCE, find, free_port, is_alive, kill, wait_until};

/// A web service of one instance on this port.
fn web(port: u16, flags: &str, max_wait_time: &str) -> String {
    format!(
        "[service.web]\ncommand = \"opsdeck sample --port {{port}} {flags}\"\n
         start_seconds = \"100ms\"\nmax_wait_time = \"{max_wait_time}\"\n
         instance.web1 = {{ port = {port} }}"
    )
}

/// A request that is under way; ends with all that came back.
fn request(port: u16) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = vec![];
        // A reset is an answer too, only a bad one.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    })
}

/// A deck with `n` requests in flight at web1.
fn in_flight(config: &str, port: u16, n: u32) -> (Deck, Vec<JoinHandle<String>>) {
    let mut deck = Deck::start(config);
    deck.wait_ready(&["web1"]);
    deck.wait_line("web1", "listening");
    let requests = (0..n).map(|_| request(port)).collect();
    deck.wait("the requests in flight", |it, _| {
        find(it, "web1").is_some_and(|it| it.in_flight == Some(n))
    });
    (deck, requests)
}

fn order(name: &str, verb: InstanceVerb, act: Act) -> Request {
    Request::Instance { name: name.into(), verb, act }
}

/// Milliseconds from the first signal that `name` was sent to the event of this kind.
fn after_signal(events: &[Event], name: &str, kind: &str) -> i128 {
    let first = |kind| {
        let of = |it: &&Event| it.instance.as_deref() == Some(name) && it.kind == kind;
        events.iter().find(of).unwrap().at
    };
    first(kind).duration_since(first("signal-sent")).as_millis()
}

#[test]
fn a_request_in_flight_at_sigterm_is_answered() {
    let port = free_port();
    let config = web(port, "--work 3s --max-wait-time 5s", "6s");
    let (mut deck, requests) = in_flight(&config, port, 1);
    let before = deck.instance("web1");

    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    for request in requests {
        let answer = request.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.contains(&format!("pid {}", before.pid.unwrap())), "{answer:?}");
    }
    deck.wait("it came back", |it, _| {
        find(it, "web1").is_some_and(|it| it.generation == 2 && it.state == State::Running)
    });
    let it = deck.instance("web1");
    let exit = it.last_exit.unwrap();
    // It was in flight at every look before the exit.
    assert_eq!((it.restarts, exit.code, exit.lost), (0, Some(0), 0), "{}", deck.story());
}

/// Kept-alive connections over which one request each was answered.
fn idle_clients(port: u16, n: usize) -> Vec<TcpStream> {
    let clients = (0..n).map(|_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /liveness HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        assert!(stream.read(&mut answer).unwrap() > 0);
        stream
    });
    clients.collect()
}

#[test]
fn idle_connections_are_nothing_in_flight_and_nothing_lost() {
    let port = free_port();
    let config = web(port, "--work 30s --max-wait-time 1s", "10s");
    let (mut deck, requests) = in_flight(&config, port, 1);
    let idle = idle_clients(port, 5);
    let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    let event = deck.wait_event("into its drain");
    assert!(event.message.contains(" with 1 request in flight (estimated)"), "{}", event.message);
    drop((idle, silent));
    for request in requests {
        assert_eq!(request.join().unwrap(), "");
    }
}

#[test]
fn requests_that_are_cut_at_once_are_counted_although_the_exit_is_a_clean_one() {
    let port = free_port();
    let config = web(port, "--work 30s --cut-at-term", "10s");
    let (mut deck, requests) = in_flight(&config, port, 3);
    let idle = idle_clients(port, 2);
    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    let event = deck.wait_event("into its drain");
    let told = " into its drain for SIGTERM with 3 requests in flight (estimated)";
    assert!(event.message.ends_with(told), "{}", event.message);
    drop(idle);
    for request in requests {
        assert_eq!(request.join().unwrap(), "");
    }
}

#[test]
fn requests_that_a_server_cuts_are_counted_and_its_own_limit_is_suspected() {
    let port = free_port();
    let config = web(port, "--work 30s --max-wait-time 1s", "10s");
    let (mut deck, requests) = in_flight(&config, port, 2);

    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    let event = deck.wait_event("into its drain");
    let (when, rest) = event.message.split_once(" into its drain for SIGTERM ").unwrap();
    assert!(when.starts_with("exited 1."), "{when}");
    assert_eq!(
        rest,
        "with 2 requests in flight (estimated): \
         its own max_wait_time is probably 1s, the deck's is 10s"
    );
    for request in requests {
        assert_eq!(request.join().unwrap(), "");
    }
    let exit = deck.instance("web1").last_exit.unwrap();
    assert_eq!((exit.lost, exit.lost_exact, exit.code), (2, false, Some(0)));
}

#[test]
fn requests_that_are_cut_at_the_signal_speak_for_no_limit_of_a_server_that_ends_later() {
    let port = free_port();
    let config = web(port, "--work 30s --cut-at-term --linger 3s", "20s");
    let (mut deck, requests) = in_flight(&config, port, 2);

    deck.ok(&["signal", "--yes", "SIGTERM", "web1"]);
    let event = deck.wait_event("into its drain");
    assert!(event.message.ends_with("with 2 requests in flight (estimated)"), "{event:?}");
    let stop = event.stop.unwrap();
    assert!(stop.after_ms >= 3_000 && stop.cut_after_ms.unwrap() < 2_000, "{stop:?}");
    for request in requests {
        assert_eq!(request.join().unwrap(), "");
    }
}

#[test]
fn an_instance_that_ignores_sigterm_is_dead_with_its_group_when_its_time_is_over() {
    let mut deck = Deck::start(
        r#"[service.stubborn]
        command = "opsdeck sample --worker --ignore-term --fork-grandchild"
        start_seconds = "100ms"
        max_wait_time = "1s"
        instance.one = {}
        instance.two = {}
        instance.three = {}"#,
    );
    let mut took = vec![];
    deck.wait_ready(&["one", "two", "three"]);
    for name in ["one", "two", "three"] {
        let pid = deck.pid(name);
        let line = deck.wait_line(name, "left the group");
        let grandchild: i32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();

        deck.ok(&["stop", "--no-wait", name]);
        deck.wait("the countdown", |it, _| {
            let countdown = find(it, name).and_then(|it| it.countdown.as_ref());
            countdown.is_some_and(|it| it.max_wait_time_ms == 1000 && it.rung.is_some())
        });
        deck.wait_state(name, State::Stopped);
        assert!(!is_alive(pid) && !is_alive(grandchild));
        took.push(after_signal(&deck.events, name, "stopped"));
    }
    // Never early; a machine that is busy with something else may be late once.
    assert!(took.iter().all(|it| *it >= 990), "{took:?}:\n{}", deck.story());
    assert!(took.iter().any(|it| *it <= 1100), "{took:?}:\n{}", deck.story());
}

#[test]
fn a_grandchild_that_left_the_group_dies_with_a_stop_and_is_named() {
    let mut deck = Deck::start(
        r#"[service.parent]
        command = "opsdeck sample --worker --fork-grandchild"
        start_seconds = "100ms""#,
    );
    deck.wait_ready(&["parent"]);
    let line = deck.wait_line("parent", "left the group");
    let grandchild: i32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    deck.ok(&["stop", "parent"]);
    assert!(!is_alive(grandchild));
    deck.wait_event(&format!("killed 1 process it left behind: exe (pid {grandchild})"));
}

#[test]
fn a_grandchild_that_left_the_group_dies_before_its_parent_is_replaced_and_is_named() {
    let mut deck = Deck::start(
        r#"[service.parent]
        command = "opsdeck sample --worker --fork-grandchild"
        start_seconds = "100ms""#,
    );
    deck.wait_ready(&["parent"]);
    let line = deck.wait_line("parent", "left the group");
    let grandchild: i32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();

    kill(deck.pid("parent"), Signal::SIGKILL);
    let killed =
        deck.wait_event(&format!("killed 1 process it left behind: exe (pid {grandchild})"));
    assert!(!is_alive(grandchild));
    deck.wait("a second generation", |it, _| {
        find(it, "parent").is_some_and(|it| it.generation == 2 && it.pid.is_some())
    });
    let started = deck.wait_event("started, pid");
    assert!(killed.seq < started.seq, "{}", deck.story());
}

#[test]
fn a_countdown_can_be_extended_and_ended() {
    let mut deck = Deck::start(
        r#"[service.stubborn]
        command = "opsdeck sample --worker --ignore-term"
        start_seconds = "100ms"
        max_wait_time = "60s""#,
    );
    deck.wait_ready(&["stubborn"]);
    let refused = deck.send(&order("stubborn", InstanceVerb::Extend, Act::default())).unwrap_err();
    assert_eq!(refused.kind, problem::REFUSED);

    deck.ok(&["stop", "--no-wait", "stubborn"]);
    deck.send(&order("stubborn", InstanceVerb::Extend, Act::default())).unwrap();
    deck.wait("ten seconds more", |it, _| {
        let countdown = find(it, "stubborn").and_then(|it| it.countdown.as_ref());
        countdown.is_some_and(|it| it.max_wait_time_ms == 70_000)
    });
    deck.send(&order("stubborn", InstanceVerb::Kill, Act::default())).unwrap();
    deck.wait_state("stubborn", State::Stopped);
    let cause = deck.instance("stubborn").last_exit.unwrap().cause;
    assert!(cause.starts_with("SIGKILL by "), "{cause}");
}

#[test]
fn a_signal_for_a_process_that_is_gone_is_refused() {
    let mut deck = Deck::start(
        "[service.a]\ncommand = \"opsdeck sample --worker\"\nstart_seconds = \"100ms\"",
    );
    deck.wait_ready(&["a"]);
    let it = deck.instance("a");
    let (pid, start_time) = (it.pid.unwrap(), it.start_time.unwrap());
    let signal = |target| {
        let act = Act { signal: Some("SIGKILL".into()), target: Some(target), ..Act::default() };
        deck.send(&order("a", InstanceVerb::Signal, act))
    };
    for target in [Target { pid, start_time: start_time + 1 }, Target { pid: 1, start_time }] {
        let refused = signal(target).unwrap_err();
        assert_eq!((refused.kind.as_str(), refused.status), (problem::CHANGED, 409));
    }
    assert!(is_alive(pid));

    signal(Target { pid, start_time }).unwrap();
    deck.wait("it was replaced", |it, _| {
        find(it, "a").is_some_and(|it| it.generation == 2 && it.pid.is_some())
    });
    let act = Act {
        signal: Some("SIGKILL".into()),
        target: Some(Target { pid, start_time }),
        ..Act::default()
    };
    let refused = deck.send(&order("a", InstanceVerb::Signal, act)).unwrap_err();
    let now = deck.pid("a");
    assert_eq!(refused.detail, format!("pid {pid} was replaced by pid {now} meanwhile"));
    assert!(is_alive(now));
}

#[test]
fn a_signal_that_would_kill_because_nobody_catches_it_wants_a_yes() {
    let mut deck = Deck::start(
        r#"[service.queue]
        command = "opsdeck sample --worker"
        start_seconds = "100ms"
        instance.one = {}
        instance.two = {}"#,
    );
    deck.wait_ready(&["one", "two"]);
    deck.wait_line("one", "takes jobs");
    let pid = deck.pid("one");

    let output = deck.opsdeck(&["signal", "SIGHUP", "one"]);
    assert_eq!(output.status.code(), Some(6));
    let notice = String::from_utf8(output.stderr).unwrap();
    assert!(notice.contains("SIGHUP is not caught: it will kill one"), "{notice}");
    assert!(notice.contains("--yes"), "{notice}");
    assert!(is_alive(pid));
    // The sample catches this one: nothing to ask for.
    deck.ok(&["signal", "SIGUSR1", "one"]);
    deck.wait_line("one", "reloaded");

    deck.ok(&["signal", "--yes", "SIGHUP", "one"]);
    deck.wait_event("was killed by SIGHUP");
    wait_until("the process gone", || !is_alive(pid));
    let cause = deck.instance("one").last_exit.unwrap().cause;
    assert!(cause.starts_with("SIGHUP by "), "{cause}");
}
