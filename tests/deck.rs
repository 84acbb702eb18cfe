//! The deck in a real pseudo-terminal, on a real daemon with real children.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use opsdeck::api::State;
use support::console::Console;
use support::{Deck, free_port, is_alive, kill};

/// Two web instances, one of them a backup, and a worker.
fn shop() -> String {
    format!(
        r#"
[service.web]
command = "opsdeck sample --port {{port}} --max-wait-time 5s"
max_wait_time = "8s"
instance.web1 = {{ port = {} }}
instance.web2 = {{ port = {}, backup = true }}
probe.readiness = {{ http.path = "/readiness", period = "300ms" }}
rollout = {{ settle = "300ms" }}
[service.queue]
command = "sleep 1000"
start_seconds = "100ms"
"#,
        free_port(),
        free_port()
    )
}

fn ready_shop() -> Deck {
    let mut deck = Deck::start(&shop());
    deck.wait_ready(&["web1", "web2", "queue"]);
    deck
}

fn console(deck: &Deck, columns: u16, rows: u16) -> Console {
    let mut console = Console::start(&deck.command(&[]), columns, rows);
    console.wait_for("web1");
    console
}

#[test]
fn the_table_is_whole_at_80_by_24_and_r_rolls_with_a_tick_for_each() {
    let mut deck = ready_shop();
    let before = (deck.pid("web1"), deck.pid("web2"));
    let mut console = console(&deck, 80, 24);
    console.wait_for("q detach");
    for text in ["web2", "RUNNING", "backup", "queue", "3/3 ready"] {
        console.wait_for(text);
    }

    console.press("r");
    console.wait_for("web2 ✓");
    console.wait_for("web1 ✓");
    deck.wait("the rollout done", |deck, _| {
        deck.services[0].rollout.as_ref().is_some_and(|it| it.step == "done")
    });
    assert_ne!((deck.pid("web1"), deck.pid("web2")), before);

    console.press("q");
    assert!(console.end());
    assert!(String::from_utf8_lossy(&console.raw).contains("opsdeck shutdown"));
    assert!(is_alive(deck.pid("web1")), "leaving the deck stops nothing");
}

#[test]
fn t_on_the_last_ready_instance_asks_and_any_other_key_cancels() {
    let mut deck = ready_shop();
    deck.ok(&["stop", "web2"]);
    let pid = deck.pid("web1");
    let mut console = console(&deck, 80, 24);
    console.step("j");
    console.press("t");
    console.wait_for("last ready instance of web");
    console.press("k");
    console.wait("the question gone", |it| !it.contains("last ready instance"));
    deck.catch_up();
    assert_eq!(deck.pid("web1"), pid);

    // That key did nothing else: the cursor is where it was.
    console.press("t");
    console.wait_for("last ready instance of web");
    // A key that is held down would be there sooner.
    console.bytes_written_within(Duration::from_secs(1));
    console.press("t");
    deck.wait("another web1", |deck, _| {
        support::find(deck, "web1").is_some_and(|it| it.pid.is_some_and(|it| it != pid))
    });
    console.press("q");
    assert!(console.end());
}

#[test]
fn a_countdown_is_shown_and_agrees_with_the_clock() {
    let service = r#"
[service.deaf]
command = "opsdeck sample --worker --ignore-term"
max_wait_time = "4s"
start_seconds = "100ms"
"#;
    let mut deck = Deck::start(service);
    deck.wait_ready(&["deaf"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("deaf");
    deck.ok(&["stop", "--no-wait", "deaf"]);
    console.wait_for("of 4.0s");
    console.wait_for("SIGKILL at");
    let written = console.bytes_written_within(Duration::from_secs(2));
    assert!(written < 2 * 2048, "{written} bytes in 2 s of a countdown");
    console.wait_for("STOPPED");
    deck.wait_state("deaf", State::Stopped);
    console.press("q");
    assert!(console.end());
}

#[test]
fn a_deck_at_rest_writes_nothing_but_the_clock() {
    let mut deck =
        Deck::start("[service.queue]\ncommand = \"sleep 1000\"\nstart_seconds = \"100ms\"\n");
    deck.wait_ready(&["queue"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("RUNNING");
    // The first measurements come in.
    console.bytes_written_within(Duration::from_secs(3));
    let written = console.bytes_written_within(Duration::from_secs(4));
    assert!(written < 4 * 80, "{written} bytes in 4 s at rest");
    console.press("q");
    assert!(console.end());
}

#[test]
fn hostile_output_never_reaches_the_terminal_raw() {
    let mut deck = Deck::start(
        r#"
[service.evil]
command = ["sh", "-c", '''while :; do
printf 'A\033[2J\033]0;owned\007B\033[31mred\033[0m \033]52;c;cm0gLXJm\007\302\2331mC\n'
printf 'inv\377\376alid \342\200\256rtl wide\344\275\240\345\245\275 zw\342\200\213j\rover\n'
head -c 1048576 /dev/zero | tr '\0' x; echo; sleep 0.3; done''']
start_seconds = "100ms"
"#,
    );
    deck.wait_ready(&["evil"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("evil");
    console.press("l");
    console.wait_for("over");
    console.wait_for("xxxxxxxx");
    console.bytes_written_within(Duration::from_secs(1));
    console.press("q");
    console.wait_for("RUNNING");
    console.press("q");
    assert!(console.end());
    let raw = String::from_utf8_lossy(&console.raw);
    for poison in ["\x1b]0;owned", "\x1b]52;c;cm0g", "\u{9b}", "\u{202e}", "\x07", "\x1b[2J\x1b]"] {
        assert!(!raw.contains(poison), "{poison:?} reached the terminal");
    }
}

#[test]
fn a_small_terminal_works_and_a_tiny_one_says_so() {
    let deck = ready_shop();
    let mut small = console(&deck, 40, 10);
    small.wait_for("web2");
    small.press("q");
    assert!(small.end());
    let mut tiny = Console::start(&deck.command(&[]), 20, 4);
    tiny.wait("a word about the size", |it| it.contains("small") || it.contains("larger"));
    tiny.press("q");
    assert!(tiny.end());
}

#[test]
fn the_deck_finds_the_next_daemon_by_itself() {
    let mut deck = ready_shop();
    let mut console = console(&deck, 80, 24);
    deck.restart_daemon(|deck| kill(deck.daemon_pid(), Signal::SIGKILL));
    deck.wait_ready(&["web1", "web2", "queue"]);
    deck.ok(&["stop", "queue"]);
    console.wait_for("STOPPED");
    console.press("q");
    assert!(console.end());
}

#[test]
fn two_decks_see_what_the_other_does() {
    let deck = ready_shop();
    let mut one = console(&deck, 80, 24);
    let mut other = console(&deck, 100, 30);
    one.step("G");
    one.press("R");
    one.wait_for("queue has no other instance");
    one.bytes_written_within(Duration::from_secs(1));
    one.press("R");
    other.wait("the event with its actor", |it| it.contains("root") && it.contains("SIGTERM"));
    for mut it in [one, other] {
        it.press("q");
        assert!(it.end());
    }
}

#[test]
fn no_color_writes_no_colour_and_ascii_no_other_characters() {
    let deck = ready_shop();
    let mut command = deck.command(&["--ascii"]);
    command.env("NO_COLOR", "1");
    let mut console = Console::start(&command, 80, 24);
    console.wait_for("web1");
    console.press("?");
    console.wait_for("SIGTERM");
    console.press("\x1b");
    console.wait_for("RUNNING");
    console.press("q");
    assert!(console.end());
    let raw = String::from_utf8_lossy(&console.raw).into_owned();
    assert!(raw.is_ascii(), "{:?}", raw.chars().find(|it| !it.is_ascii()));
    assert!(!console.has_colors(), "{}", raw.escape_debug());
}

#[test]
fn a_read_only_deck_does_not_act() {
    let mut deck = ready_shop();
    let pid = deck.pid("queue");
    let mut console = Console::start(&deck.command(&["--read-only"]), 80, 24);
    console.wait_for("queue");
    console.step("G");
    console.press("x");
    console.wait("a word about it", |it| it.contains("read-only"));
    deck.catch_up();
    assert_eq!(deck.pid("queue"), pid);
    console.press("q");
    assert!(console.end());
}

#[test]
fn a_closed_terminal_and_sighup_end_the_deck_and_nothing_else() {
    let mut deck = ready_shop();
    let mut console = console(&deck, 80, 24);
    kill(i32::try_from(console.child.id()).unwrap(), Signal::SIGHUP);
    assert!(console.end(), "{}", console.text());
    deck.catch_up();
    assert!(is_alive(deck.pid("web1")));
}

#[test]
fn a_halt_notifies_through_the_terminal_and_titles_its_window_where_that_is_wanted() {
    // What comes first belongs to `[deck]`.
    let services = r#"

title = true
notify = "osc9"
[service.web]
command = "sleep 1000"
start_seconds = "100ms"
rollout = { build = ["false"] }
"#;
    let mut deck = Deck::start(services);
    deck.wait_ready(&["web"]);
    let mut console = Console::start(&deck.command(&[]), 80, 24);
    console.wait_for("RUNNING");
    let halted = deck.opsdeck(&["roll", "web", "--yes"]);
    assert_eq!(halted.status.code(), Some(1));
    // OSC 9 with what is wrong, OSC 2 with where.
    console.wait_bytes(b"\x1b]9;");
    console.wait_bytes(b"HALTED web - opsdeck\x07");
    console.press("q");
    assert!(console.end());
    // The title that was there before comes back.
    console.wait_bytes(b"\x1b[23;2t");
}
