//! The deck over a line that takes 8 KiB a second and 300 ms each way.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "tests measure")]

mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use support::Deck;
use support::console::{Console, Wire};

/// What a frame of 80 by 24 costs at most, with its colours.
const FRAME: usize = 4096;

const SLOW: Wire = Wire { rate: Some(8192), delay: Duration::from_millis(300), answers: true };

/// A fleet in which something always happens, and a log that floods.
fn busy() -> Deck {
    let mut services = String::from(
        r#"
[service.flood]
command = ["sh", "-c", "while :; do seq -f '%.0f flood flood flood flood flood flood flood flood' 1 2000; sleep 0.05; done"]
start_seconds = "100ms"
"#,
    );
    for n in 0..12 {
        let _ = writeln!(
            services,
            "[service.job{n}]\ncommand = \"sleep 0.{}\"\nbackoff = {{ min = \"100ms\", max = \"300ms\" }}",
            n + 1
        );
    }
    let mut deck = Deck::start(&services);
    deck.wait("all under way", |deck, events| deck.services.len() == 13 && events.len() > 20);
    deck
}

/// Presses a key and returns how long until one of `texts` was there, and how much came before it.
fn effect(console: &mut Console, key: &str, texts: &[&str]) -> (Duration, usize) {
    let (began, before) = (Instant::now(), console.raw.len());
    console.press(key);
    console.wait(&texts.join(" or "), |screen| texts.iter().any(|it| screen.contains(it)));
    (began.elapsed(), console.raw.len() - before)
}

/// What a key costs while the screen is busy: with what was written before it got there.
fn keys_on_a_slow_line(
    wire: Wire,
    columns: u16,
    rows: u16,
) -> Vec<(&'static str, Duration, usize)> {
    let deck = busy();
    let mut console = Console::start_over(wire, &deck.command(&[]), columns, rows);
    console.wait_for("flood");
    console.bytes_written_within(Duration::from_secs(2));
    let mut seen = vec![];
    let mut press = |console: &mut Console, what, key: &str, texts: &[&str]| {
        let (time, bytes) = effect(console, key, texts);
        seen.push((what, time, bytes));
    };
    press(&mut console, "help over the table", "?", &["rolling restart of the service"]);
    press(&mut console, "the table again", "q", &["NAME"]);
    press(&mut console, "a filter", "/", &["Esc clear"]);
    console.press("flood\r");
    console.bytes_written_within(Duration::from_secs(2));
    press(&mut console, "the log", "l", &["follow"]);
    console.bytes_written_within(Duration::from_secs(3));
    press(&mut console, "a search over the flood", "/", &["Esc end"]);
    press(&mut console, "no search", "\x1b", &["/ search"]);
    press(&mut console, "a pause in the flood", "k", &["paused"]);
    press(&mut console, "the flood again", "f", &["reading", "following"]);
    console.bytes_written_within(Duration::from_secs(2));
    press(&mut console, "a moment in the flood", "t", &["from "]);
    press(&mut console, "no moment", "\x1b", &["/ search"]);
    press(&mut console, "the table from the flood", "q", &["NAME"]);
    console.press("q");
    assert!(console.end());
    for (what, time, bytes) in &seen {
        println!("{what}: {} ms, {bytes} bytes", time.as_millis());
    }
    seen
}

/// What most keys cost: on a loaded machine the clocks of the line and of the deck drift apart for some.
fn usual<T: Ord + Copy>(
    seen: &[(&str, Duration, usize)],
    of: fn(&(&str, Duration, usize)) -> T,
) -> T {
    let mut all: Vec<T> = seen.iter().map(of).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

#[test]
fn a_key_is_not_behind_what_nobody_waits_for() {
    let seen = keys_on_a_slow_line(SLOW, 80, 24);
    let (time, bytes) = (usual(&seen, |it| it.1), usual(&seen, |it| it.2));
    assert!(bytes < FRAME, "{seen:?}");
    // 600 ms are the line's; how little waits in it is held in `tui::flow`, where no machine is loaded.
    assert!(time < Duration::from_millis(700), "{seen:?}");
    assert!(seen.iter().all(|it| it.1 < Duration::from_secs(2)), "{seen:?}");
}

#[test]
fn a_terminal_that_does_not_answer_works_too() {
    let seen = keys_on_a_slow_line(Wire { answers: false, ..SLOW }, 80, 24);
    // Nothing tells the deck what lies in between: it writes no faster than the line takes it.
    assert!(usual(&seen, |it| it.2) < 2 * FRAME, "{seen:?}");
}
