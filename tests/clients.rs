//! Clients of the API that are many, slow, deaf, boundless or nobody's friend: the others notice nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use opsdeck::api::State;
use support::{Deck, PATIENCE, find, output_of, wait_until};

const WORKER: &str =
    "[defaults]\nstart_seconds = \"50ms\"\n[service.a]\ncommand = \"sleep 1000\"\n";

fn open(deck: &Deck) -> UnixStream {
    let stream = UnixStream::connect(deck.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn get(deck: &Deck, path: &str) -> UnixStream {
    let mut stream = open(deck);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: opsdeck\r\n\r\n").as_bytes()).unwrap();
    stream
}

/// KiB of memory that the daemon has for itself.
fn memory(deck: &Deck) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", deck.daemon_pid())).unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(deck: &Deck) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", deck.daemon_pid())).unwrap().count()
}

/// Another client is served: looks, and acts.
#[track_caller]
fn others_are_served(deck: &mut Deck) {
    let before = deck.instance("a").generation;
    deck.ok(&["status"]);
    deck.ok(&["restart", "a"]);
    deck.wait("a renewed", |it, _| {
        find(it, "a").is_some_and(|it| it.generation > before && it.state == State::Running)
    });
}

#[test]
fn clients_that_read_nothing_hold_up_nobody_and_cost_no_memory() {
    let mut deck = Deck::start(&format!(
        "{WORKER}[service.flood]\ncommand = \"opsdeck sample --worker --flood 20MiB\"\n\
         log = {{ max_size = \"1MiB\", keep = 2 }}\n"
    ));
    deck.wait_ready(&["a", "flood"]);
    let before = memory(&deck);
    let paths = ["/v1/watch", "/v1/instances/flood/logs?follow=true", "/v1/events?follow=true"];
    let deaf: Vec<_> = (0..10).flat_map(|_| paths).map(|it| get(&deck, it)).collect();
    let oldest = deck.path().join("state/logs/flood.log.2");
    wait_until("some megabytes written", || oldest.exists());
    for _ in 0..5 {
        others_are_served(&mut deck);
    }
    let grown = memory(&deck).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more");

    // Who reads at last finds whole lines.
    let mut late = BufReader::new(&deaf[0]);
    let mut line = String::new();
    while !line.starts_with('{') {
        line.clear();
        late.read_line(&mut line).unwrap();
    }
    assert!(serde_json::from_str::<opsdeck::api::Change>(&line).is_ok(), "{line}");
    deck.ok(&["stop", "--now", "flood"]);
}

#[test]
fn two_hundred_clients_at_once_all_see_what_happens() {
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let before = descriptors(&deck);
    let clients: Vec<_> = (0..200).map(|_| get(&deck, "/v1/watch")).collect();
    let mut clients: Vec<_> = clients.into_iter().map(BufReader::new).collect();
    let mut wait_for = |text: &str| {
        for client in &mut clients {
            let mut line = String::new();
            while !line.contains(text) {
                line.clear();
                assert_ne!(client.read_line(&mut line).unwrap(), 0, "the end before {text}");
            }
        }
    };
    wait_for("\"snapshot\"");
    others_are_served(&mut deck);
    wait_for("SIGTERM by");
    drop(clients);
    wait_until("the descriptors free again", || descriptors(&deck) <= before + 2);
}

#[test]
fn who_sends_a_request_byte_by_byte_holds_up_nobody() {
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let mut heads: Vec<_> = (0..100).map(|_| open(&deck)).collect();
    for it in &mut heads {
        it.write_all(b"GET /v1/deck HTTP/1.1\r\nhost: o").unwrap();
    }
    let mut bodies: Vec<_> = (0..100).map(|_| open(&deck)).collect();
    for it in &mut bodies {
        let head =
            b"POST /v1/instances/a/restart HTTP/1.1\r\nhost: o\r\ncontent-length: 9\r\n\r\n{";
        it.write_all(head).unwrap();
    }
    others_are_served(&mut deck);
    // They are not forgotten either.
    let generation = deck.instance("a").generation;
    let last = |mut it: UnixStream, rest: &[u8]| {
        it.write_all(rest).unwrap();
        let mut answer = [0; 12];
        it.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    last(heads.pop().unwrap(), b"psdeck\r\n\r\n");
    last(bodies.pop().unwrap(), b"       }");
    deck.wait("what the slow one ordered", |it, _| {
        find(it, "a").is_some_and(|it| it.generation > generation)
    });
}

/// Writes until the daemon has had enough, at most a GiB, and reads its answer.
fn flood(deck: &Deck, head: &str, piece: &[u8]) -> String {
    let mut stream = open(deck);
    stream.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while sent < 1 << 30 && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "it has taken {sent} bytes");
    let mut answer = vec![];
    // An end by reset after the answer is an end.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_request_of_a_gibibyte_is_refused_before_it_is_read() {
    let mut deck = Deck::start(WORKER);
    deck.wait_ready(&["a"]);
    let before = memory(&deck);
    let piece = vec![b'x'; 64 << 10];
    let post = "POST /v1/instances/a/restart HTTP/1.1\r\nhost: o\r\n";
    let sized = format!("{post}content-length: {}\r\n\r\n", 1 << 30);
    // What was not read when the connection ended may have taken the answer along.
    let refused = |answer: &str, status: &str| answer.is_empty() || answer.contains(status);
    let answer = flood(&deck, &sized, &piece);
    assert!(refused(&answer, "413"), "{answer}");
    let chunk = [b"10000\r\n", &piece[..], b"\r\n"].concat();
    let answer = flood(&deck, &format!("{post}transfer-encoding: chunked\r\n\r\n"), &chunk);
    assert!(refused(&answer, "413"), "{answer}");
    let answer = flood(&deck, "GET /", &piece);
    assert!(refused(&answer, "HTTP/1.1 4"), "{answer}");
    let answer = flood(&deck, "GET / HTTP/1.1\r\nx: ", &piece);
    assert!(refused(&answer, "HTTP/1.1 4"), "{answer}");
    let grown = memory(&deck).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more");
    others_are_served(&mut deck);
    assert_eq!(deck.instance("a").generation, 2, "{}", deck.story());
}

#[test]
fn strangers_cannot_hold_all_descriptors() {
    if !support::is_root() {
        return;
    }
    let mut deck = Deck::start(&format!("viewers = [\"daemon\"]\n{WORKER}"));
    deck.wait_ready(&["a"]);
    let public = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(deck.path(), public).unwrap();
    let script = r"
import socket, sys
held = []
for _ in range(100):
    it = socket.socket(socket.AF_UNIX)
    it.settimeout(60)
    it.connect(sys.argv[1])
    held.append(it)
    try:
        it.sendall(b'GET /v1/deck HTTP/1.1\r\nhost: o\r\n\r\n')
    except OSError:
        pass
for it in held:
    try:
        print(it.recv(12).decode())
    except OSError:
        print('closed')
";
    let mut crowd = Command::new("setpriv");
    crowd.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--",
        "/usr/bin/python3",
    ]);
    crowd.args(["-c", script]).arg(deck.socket()).current_dir("/");
    let output = output_of(&mut crowd);
    let text = String::from_utf8(output.stdout).unwrap();
    let served = text.lines().filter(|it| it.ends_with("403")).count();
    assert_eq!((text.lines().count(), served), (100, 16), "{text}");
    others_are_served(&mut deck);
}
