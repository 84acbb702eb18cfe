//! A real Puma in cluster mode: its tree, its phased reload, its restart, and what it says of its load.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use opsdeck::api::{Load, State};
use support::{Deck, PATIENCE, find, free_port, wait_until};

const PUMA: &str = "/usr/bin/puma";

/// An application that answers once a file is there.
const APP: &str = r#"
run ->(env) {
  sleep 0.05 until File.exist?("go") || env["PATH_INFO"] != "/wait"
  [200, {"content-type" => "text/plain"}, ["done"]]
}
"#;

/// Whether it is there; without it the test says so and does nothing.
fn is_there() -> bool {
    support::skip::has(PUMA, Path::new(PUMA).exists())
}

/// A deck with one Puma, `shop`, of two workers, and where it serves.
fn shop(directory: &Path) -> (Deck, u16) {
    shop_with(directory, "")
}

/// The same with more in its configuration.
fn shop_with(directory: &Path, more: &str) -> (Deck, u16) {
    let (port, control) = (free_port(), free_port());
    let text = format!(
        "workers 2\nthreads 1, 2\nbind \"tcp://127.0.0.1:{port}\"\n\
         activate_control_app \"tcp://127.0.0.1:{control}\", {{ auth_token: \"geheim\" }}\n{more}"
    );
    std::fs::write(directory.join("puma.rb"), text).unwrap();
    std::fs::write(directory.join("config.ru"), APP).unwrap();
    let path = directory.display();
    let mut deck = Deck::start(&format!(
        "[service.shop]\ncommand = \"{PUMA} -C puma.rb config.ru\"\ndirectory = \"{path}\"\n\
         profile = \"puma\"\nmax_wait_time = \"40s\"\ninstance.shop = {{ port = {port} }}\n\
         load = {{ puma = \"http://127.0.0.1:{control}/stats?token=geheim\" }}\n\
         probe.readiness = {{ tcp = {{}}, period = \"100ms\", timeout = \"20s\" }}\n"
    ));
    deck.wait_ready(&["shop"]);
    (deck, port)
}

/// Pids of those of its processes that have this role.
fn with_role(deck: &Deck, role: &str) -> BTreeSet<i32> {
    let has_role = |it: &opsdeck::api::ProcessDetail| it.role.as_deref() == Some(role);
    deck.detail("shop").processes.iter().filter(|it| has_role(it)).map(|it| it.pid).collect()
}

/// Two workers, none of which is of `before`.
fn workers(deck: &Deck, before: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    wait_until("two other workers", || {
        found = with_role(deck, "worker");
        found.len() == 2 && found.is_disjoint(before)
    });
    found
}

#[track_caller]
fn wait_load(deck: &mut Deck, what: &str, there: impl Fn(&Load) -> bool) -> Load {
    let load = |deck: &opsdeck::api::Deck| find(deck, "shop").and_then(|it| it.load.clone());
    deck.wait(what, |deck, _| load(deck).is_some_and(|it| there(&it)));
    load(&deck.view).unwrap()
}

fn ask(port: u16, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = vec![];
    // A reset is an answer too, only a bad one.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn puma_renews_its_workers_by_sigusr1_and_all_of_itself_by_sigusr2() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut deck, port) = shop(directory.path());
    let first = workers(&deck, &BTreeSet::new());
    let leader = deck.pid("shop");
    assert_eq!(with_role(&deck, "cluster"), BTreeSet::from([leader]));

    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: renewed 2 of 2 workers in "), "{told}");
    let second = workers(&deck, &first);
    assert_eq!(deck.pid("shop"), leader);

    deck.ok(&["signal", "--yes", "SIGUSR2", "shop"]);
    deck.wait_event("SIGUSR2 (restart with a new binary)");
    let third = workers(&deck, &second);
    deck.catch_up();
    assert_eq!((deck.pid("shop"), deck.instance("shop").restarts), (leader, 0));
    wait_until("an answer", || answer(ask(port, "/")).ends_with("done"));

    // What it is now is reloaded as before.
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: renewed 2 of 2 workers in "), "{told}");
    workers(&deck, &third);
}

#[test]
fn puma_says_what_its_workers_do_without_showing_its_token() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut deck, port) = shop(directory.path());
    let idle = wait_load(&mut deck, "two idle workers", |it| {
        it.workers == Some(2) && it.in_flight == Some(0)
    });
    assert!(idle.source.starts_with("puma http://127.0.0.1:"), "{idle:?}");
    assert!(!idle.source.contains("geheim") && !idle.in_flight_exact, "{idle:?}");

    let open = [ask(port, "/wait"), ask(port, "/wait"), ask(port, "/wait")];
    wait_load(&mut deck, "three in flight", |it| it.in_flight == Some(3));
    std::fs::write(directory.path().join("go"), "").unwrap();
    open.into_iter().for_each(|it| assert!(answer(it).ends_with("done")));
    let after = wait_load(&mut deck, "none", |it| it.in_flight == Some(0));
    assert!(after.requests >= Some(3), "{after:?}");
    deck.ok(&["stop", "shop"]);
    deck.wait_state("shop", State::Stopped);
    assert_eq!(deck.instance("shop").last_exit.map(|it| it.lost), Some(0));
}

#[test]
fn a_second_sigusr1_in_the_middle_of_a_reload_renews_all_once_more() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut deck, _) = shop(directory.path());
    workers(&deck, &BTreeSet::new());
    deck.ok(&["signal", "SIGUSR1", "shop"]);
    let reload = |it: &opsdeck::api::Deck| find(it, "shop").and_then(|it| it.reload.clone());
    deck.wait("one of them renewed", |it, _| reload(it).is_some_and(|it| it.renewed > 0));
    deck.ok(&["signal", "SIGUSR1", "shop"]);
    deck.wait("the second reload over", |it, _| {
        reload(it).is_some_and(|it| it.number == 2 && it.complete)
    });
    let last = deck.instance("shop").reload.unwrap();
    let all = deck.detail("shop").processes;
    let generations: Vec<u64> = all.iter().filter_map(|it| it.generation).collect();
    assert_eq!(generations, [3, 3], "{last:?}");
}

#[test]
fn one_that_restarts_as_a_whole_is_told() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Without workers for longer than between two looks.
    let preloads = "preload_app!\nbefore_fork { sleep 0.5 }\n";
    let (mut deck, _) = shop_with(directory.path(), preloads);
    let before = workers(&deck, &BTreeSet::new());
    let leader = deck.pid("shop");
    let told = deck.ok(&["reload", "shop"]);
    assert!(told.contains("shop: renewed 2 of 2 workers in "), "{told}");
    assert!(told.contains("; for a moment there was none to serve"), "{told}");
    workers(&deck, &before);
    deck.catch_up();
    assert_eq!(deck.pid("shop"), leader);
}
