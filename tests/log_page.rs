//! The log page in a real terminal: over files that were rotated away, and through a restart of the daemon.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use support::console::Console;
use support::{Deck, kill};

const FILES: usize = 4;
const LINES: usize = 10_000;

/// A log in four files, 4 MB, its lines numbered through, with a needle in the oldest.
fn write_log(dir: &Path) {
    let (state, logs) = (dir.join("state"), dir.join("state/logs"));
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::set_permissions(&logs, PermissionsExt::from_mode(0o700)).unwrap();
    for file in 0..FILES {
        let mut text = String::new();
        for n in file * LINES..(file + 1) * LINES {
            let more = if n == 1237 { "a needle in the hay" } else { "and what there is to say" };
            let level = if n % 10 == 7 { "\u{1b}[32mINFO\u{1b}[0m" } else { "INFO" };
            writeln!(text, "line {n:06} {level} {more}, {:-<60}", "").unwrap();
        }
        let name = match FILES - 1 - file {
            0 => "big.log".to_owned(),
            n => format!("big.log.{n}"),
        };
        std::fs::write(logs.join(name), text).unwrap();
    }
}

#[test]
fn a_log_of_many_files_is_searched_scrolled_filtered_and_saved_from_the_page() {
    let service =
        "[service.big]\ncommand = \"sleep 1000\"\nlog = { max_size = \"50MiB\", keep = 9 }\n";
    let mut deck = Deck::start_in(&[], service, write_log);
    deck.wait_ready(&["big"]);
    let mut console = Console::start(&deck.command(&[]), 100, 30);
    console.wait_for("big");
    console.press("l");
    let last = format!("line {:06}", FILES * LINES - 1);
    console.wait(&last, |it| it.contains(&last) && it.contains("following"));

    // Far above what is in memory; the colours are no part of the text.
    console.press("/");
    console.wait_for("search ");
    console.press("INFO A NEEDLE\r");
    console
        .wait("the needle", |it| it.contains("INFO a needle in the hay") && it.contains("paused"));
    console.wait_for("line 001236");
    console.press("n");
    console.wait_for("no more \"INFO A NEEDLE\" below");

    console.press("g");
    console.wait_for("line 000000");
    console.press("\x1b[6~");
    console.wait("a page further", |it| !it.contains("line 000000") && it.contains("line 000030"));
    console.press("G");
    console.wait(&last, |it| it.contains(&last) && it.contains("following"));

    console.press("&");
    console.wait_for("only with");
    console.press("line \\d*7777 INFO\r");
    console.wait("the filter", |it| {
        it.contains("line 037777") && it.contains("line 007777") && !it.contains(&last)
    });

    let path = deck.path().join("saved.log");
    console.press("s");
    console.wait_for("save to");
    console.press(&format!("\x15{}\r", path.display()));
    console.wait_for("saved 4 lines");
    let saved = std::fs::read_to_string(&path).unwrap();
    let expected = (0..FILES).map(|n| format!("line {n:02}7777 INFO and"));
    assert!(saved.lines().zip(expected).all(|(line, start)| line.starts_with(&start)), "{saved}");
    console.press("qq");
    assert!(console.end());
}

/// The numbers of the lines on the screen.
fn numbers(screen: &str) -> Vec<u32> {
    screen.lines().filter_map(|it| it.trim().strip_prefix("line ")?.parse().ok()).collect()
}

#[test]
fn the_page_goes_on_over_a_restart_of_the_daemon_without_a_gap_or_a_doubled_line() {
    let counter = r#"[service.counter]
        command = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.4; done"]"#;
    let mut deck = Deck::start(counter);
    let mut console = Console::start(&deck.command(&[]), 60, 250);
    console.wait_for("counter");
    console.press("l");
    console.wait("some lines", |it| numbers(it).last() >= Some(&5));
    let before = *numbers(&console.text()).last().unwrap();
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    console.wait("more lines", |it| numbers(it).last() >= Some(&(before + 5)));
    let seen = numbers(&console.text());
    let expected: Vec<u32> = (seen[0]..).take(seen.len()).collect();
    assert_eq!(seen, expected, "{}", console.text());
    assert!(seen[0] <= before, "{}", console.text());
    console.press("qq");
    assert!(console.end());
}
