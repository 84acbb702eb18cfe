//! A process of which the kernel lets nobody read holds up neither the daemon nor anybody else's orders.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use opsdeck::api::{self, State};
use support::{Deck, free_port, python, wait_until};

/// Whether a process can be stuck here.
fn is_possible() -> bool {
    support::is_root() && support::skip::has("/dev/fuse", Path::new("/dev/fuse").exists())
}

/// A deck with a server `shop`, and `stuck`, which is of that profile.
fn deck(profile: &str, directory: &Path) -> Deck {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stuck.py");
    let mut deck = Deck::start(&format!(
        "[service.shop]\ncommand = \"opsdeck sample --port {} --tree swoole\"\nprofile = \"swoole\"\n\
         start_seconds = \"100ms\"\n\
         [service.stuck]\ncommand = \"{} {} {}\"\nprofile = \"{profile}\"\nstart_seconds = \"100ms\"\n\
         max_wait_time = \"1s\"\n",
        free_port(),
        python(),
        script.display(),
        directory.display(),
    ));
    deck.wait_ready(&["shop", "stuck"]);
    deck.wait_line("stuck", "stuck");
    wait_until("a process that waits in the kernel", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", deck.pid("stuck"))).unwrap();
        stat.contains(") D ")
    });
    deck
}

/// What nobody answers any more while it is stuck would never end.
fn end(mut deck: Deck) {
    deck.ok(&["stop", "--now", "stuck"]);
    deck.wait_state("stuck", State::Stopped);
}

fn processes(deck: &Deck, name: &str) -> Vec<api::ProcessDetail> {
    let output = deck.opsdeck(&["status", "--json"]);
    let told: api::Deck = serde_json::from_slice(&output.stdout).unwrap();
    support::find(&told, name).unwrap().processes.clone()
}

#[test]
fn a_guess_at_what_is_stuck_holds_up_nothing() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Its arguments are looked at again and again while somebody watches.
    let mut deck = deck("auto", directory.path());
    for _ in 0..3 {
        assert!(deck.ok(&["reload", "shop"]).contains("renewed 2 of 2 workers in "));
    }
    deck.catch_up();
    assert_eq!(processes(&deck, "shop").len(), 4);
    assert!(processes(&deck, "stuck").iter().any(|it| it.name == "keeper" && !it.title.is_empty()));
    assert!(deck.detail("stuck").processes.iter().any(|it| it.title.is_empty()));
    // Each thread that waits for it is known, and no other is made.
    let threads = |deck: &Deck| {
        let all = std::fs::read_dir(format!("/proc/{}/task", deck.daemon_pid())).unwrap();
        let name = |it: std::fs::DirEntry| std::fs::read_to_string(it.path().join("comm"));
        let names = all.map_while(Result::ok).filter_map(|it| name(it).ok());
        names.filter(|it| it.trim() == "proc").count()
    };
    let before = threads(&deck);
    (0..5).for_each(|_| drop(deck.detail("stuck")));
    let after = threads(&deck);
    assert!(after <= before + 1 && after <= 3, "{before} {after}");
    end(deck);
}

#[test]
fn an_order_to_a_process_beside_a_stuck_one_is_carried_out() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut deck = deck("gunicorn", directory.path());
    let keeper = |deck: &Deck| {
        let found = processes(deck, "stuck").into_iter().find(|it| it.name == "keeper");
        found.map(|it| it.pid)
    };
    let pid = keeper(&deck).unwrap().to_string();
    let told = deck.ok(&["signal", "--yes", "SIGCONT", "stuck", "--pid", &pid]);
    assert_eq!(told, format!("SIGCONT was sent to process, pid {pid}, of stuck\n"));
    deck.wait_event(&format!("SIGCONT to process, pid {pid}"));
    // Its own reload is begun, although nobody can say who works there.
    let output = deck.opsdeck(&["signal", "--yes", "SIGHUP", "stuck"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    deck.wait_event("there is no worker to renew");
    deck.ok(&["reload", "shop"]);
    end(deck);
}
