//! What was taken out of the configuration while no daemon was there: the next one stops it like any other.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use support::{Deck, find, free_port, is_alive, kill, wait_until};

const KEEPER: &str = "[service.keeper]\ncommand = \"opsdeck sample --worker\"\n";

/// One that ignores SIGTERM, beside one that stays.
fn with_mortal(max_wait_time: &str) -> String {
    format!(
        "{KEEPER}[service.mortal]\ncommand = \"opsdeck sample --worker --ignore-term --print-every 50ms --work 0s\"\n\
         max_wait_time = \"{max_wait_time}\"\n"
    )
}

/// It runs, and the next daemon does not find it in its configuration. Returns its pid.
fn removed(max_wait_time: &str) -> (Deck, i32) {
    let mut deck = Deck::start(&with_mortal(max_wait_time));
    deck.wait_ready(&["keeper", "mortal"]);
    deck.wait_line("mortal", "job 1 done");
    let pid = deck.pid("mortal");
    deck.restart_daemon(|deck| {
        kill(deck.daemon_pid(), Signal::SIGKILL);
        deck.write_config(KEEPER);
        // What was applied is not known either: else it would wait for a word.
        std::fs::remove_file(deck.path().join("state/config.jsonl")).unwrap();
    });
    (deck, pid)
}

#[test]
fn it_has_the_time_that_it_was_configured_with_and_one_signal() {
    let (mut deck, pid) = removed("3s");
    deck.wait("its own countdown", |it, _| {
        let countdown = find(it, "mortal").and_then(|it| it.countdown.as_ref());
        countdown.is_some_and(|it| it.max_wait_time_ms == 3000)
    });
    deck.wait("it is forgotten", |it, _| find(it, "mortal").is_none());
    assert!(!is_alive(pid));
    let sent = deck.events.iter().filter(|it| it.message.starts_with("SIGTERM"));
    assert_eq!(sent.count(), 1, "{}", deck.story());
    deck.wait_event("SIGKILL: max_wait_time was over");

    deck.write_config(&with_mortal("3s"));
    deck.ok(&["config", "apply"]);
    deck.wait_ready(&["mortal"]);
    assert_eq!((deck.instance("mortal").generation, deck.instance("mortal").restarts), (1, 0));
}

#[test]
fn added_again_meanwhile_it_waits_for_the_end_of_the_one_before() {
    let (mut deck, pid) = removed("60s");
    deck.wait_event("SIGTERM because of the configuration");
    deck.write_config(&with_mortal("60s"));
    deck.ok(&["config", "apply"]);
    let marked = |deck: &Deck| {
        let all = deck.marked().into_iter().filter(|it| it.0 == "mortal");
        all.map(|it| it.1).collect::<Vec<_>>()
    };
    assert_eq!(marked(&deck), [pid]);
    kill(pid, Signal::SIGKILL);
    deck.wait("the next one", |it, _| {
        find(it, "mortal").is_some_and(|it| it.generation == 2 && it.ready == Some(true))
    });
    assert_eq!(marked(&deck), [deck.pid("mortal")]);
}

#[test]
fn a_shutdown_waits_for_its_end() {
    let (mut deck, pid) = removed("2s");
    deck.wait_event("SIGTERM because of the configuration");
    deck.ok(&["shutdown"]);
    deck.wait_end();
    assert!(!is_alive(pid));
    wait_until("nothing is left", || deck.marked().is_empty());
}

/// Two instances behind a gateway that cut what they have in flight at the first signal.
struct Shop {
    entry: u16,
    ports: [u16; 2],
}

impl Shop {
    fn new() -> Self {
        Self { entry: free_port(), ports: [free_port(), free_port()] }
    }

    /// With so many of its instances.
    fn config(&self, instances: usize) -> String {
        let instance =
            |(n, port): (usize, &u16)| format!("instance.web{} = {{ port = {port} }}\n", n + 1);
        let own: String = self.ports.iter().enumerate().take(instances).map(instance).collect();
        format!(
            "{KEEPER}[service.web]\ncommand = \"opsdeck sample --port {{port}} --work 4s --max-wait-time 0s\"\n\
             max_wait_time = \"30s\"\n{own}\
             probe.readiness = {{ http.path = \"/readiness\", period = \"200ms\" }}\n\
             [gateway.shop]\nservice = \"web\"\nlisten = \"127.0.0.1:{}\"\n",
            self.entry
        )
    }

    /// Both in rotation.
    fn open(&self) -> Deck {
        let mut deck = Deck::start(&self.config(2));
        deck.wait_ready(&["keeper", "web1", "web2"]);
        deck.wait("both in rotation", |it, _| {
            ["web1", "web2"].iter().all(|name| find(it, name).is_some_and(|it| it.in_rotation))
        });
        deck
    }

    /// A request to each of the two that is in flight there.
    fn ask_both(&self, deck: &mut Deck) -> Vec<JoinHandle<String>> {
        let entry = self.entry;
        let answers = (0..2).map(|_| std::thread::spawn(move || get(entry))).collect();
        deck.wait("one in flight at each", |it, _| {
            ["web1", "web2"]
                .iter()
                .all(|name| find(it, name).and_then(|it| it.in_flight) == Some(1))
        });
        answers
    }
}

fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The daemon is told to end, and the next one begins with this file.
fn edited_meanwhile(deck: &mut Deck, services: &str) {
    deck.restart_daemon(|deck| {
        deck.ok(&["shutdown", "--keep"]);
        deck.write_config(services);
    });
}

#[track_caller]
fn all_answered(answers: Vec<JoinHandle<String>>) {
    for answer in answers {
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
}

#[test]
fn one_of_two_finishes_what_the_gateway_has_given_it() {
    let shop = Shop::new();
    let mut deck = shop.open();
    let pid = deck.pid("web2");
    let answers = shop.ask_both(&mut deck);
    edited_meanwhile(&mut deck, &shop.config(1));
    deck.wait("web2 drains, of its service", |it, _| {
        find(it, "web2").is_some_and(|it| {
            it.service == "web"
                && it.state == opsdeck::api::State::Draining
                && it.in_flight == Some(1)
        })
    });
    all_answered(answers);
    deck.wait("it is forgotten", |it, _| find(it, "web2").is_none());
    assert!(!is_alive(pid));
    assert!(get(shop.entry).starts_with("HTTP/1.1 200"), "{}", deck.story());
}

#[test]
fn a_service_that_went_with_its_gateway_finishes_what_that_has_given_it() {
    let shop = Shop::new();
    let mut deck = shop.open();
    let pids = [deck.pid("web1"), deck.pid("web2")];
    let answers = shop.ask_both(&mut deck);
    edited_meanwhile(&mut deck, KEEPER);
    all_answered(answers);
    deck.wait("they are forgotten", |it, _| {
        find(it, "web1").is_none() && find(it, "web2").is_none() && find(it, "keeper").is_some()
    });
    assert!(pids.iter().all(|it| !is_alive(*it)));
}

#[test]
fn removed_from_a_daemon_that_runs_with_its_gateway_it_finishes_all_the_same() {
    let shop = Shop::new();
    let mut deck = shop.open();
    let answers = shop.ask_both(&mut deck);
    deck.write_config(KEEPER);
    deck.ok(&["config", "apply", "--yes"]);
    all_answered(answers);
    deck.wait("they are forgotten", |it, _| {
        find(it, "web1").is_none() && find(it, "web2").is_none()
    });
}

#[test]
fn of_names_that_are_gone_nothing_is_kept() {
    let services = |names: &[&str]| {
        let one = |it: &&str| format!("[service.{it}]\ncommand = \"opsdeck sample --worker\"\n");
        format!("{KEEPER}{}", names.iter().map(one).collect::<String>())
    };
    let mut deck = Deck::start(&services(&["first", "second"]));
    deck.wait_ready(&["keeper", "first", "second"]);
    deck.ok(&["stop", "first", "second"]);
    // One goes while the daemon runs, one while none does.
    deck.write_config(&services(&["second"]));
    deck.ok(&["config", "apply"]);
    deck.wait("it is forgotten", |it, _| find(it, "first").is_none());
    edited_meanwhile(&mut deck, KEEPER);
    deck.wait_ready(&["keeper"]);
    // What is said of them goes when the file is written without its history.
    edited_meanwhile(&mut deck, KEEPER);
    deck.wait_ready(&["keeper"]);
    let text = std::fs::read_to_string(deck.path().join("state/state.jsonl")).unwrap();
    let of_them: Vec<_> =
        text.lines().filter(|it| it.contains("first") || it.contains("second")).collect();
    assert!(of_them.is_empty() && text.contains("keeper"), "{of_them:#?}");
}
