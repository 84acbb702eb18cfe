//! Text from services, their probes, their builds and their titles on its way to a real terminal. Whatever
//! it contains, the terminal gets only what the deck and the commands mean to write.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use opsdeck::api::State;
use support::Deck;
use support::console::Console;
use tempfile::TempDir;

/// One line of each kind.
fn corpus() -> Vec<u8> {
    let marks = "e\u{301}".to_owned() + &"\u{301}".repeat(50);
    let lines: [Vec<u8>; 16] = [
        b"c01 \x1b[2J\x1b[H\x1b[31mred\x1b[0m\x1b[6n\x1b[c\x1b[5n end".to_vec(),
        b"c02 \x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b]8;;http://owned\x1b\\link\x1b]8;;\x1b\\ end".to_vec(),
        b"c03 \x1bP+q544e;owned\x1b\\\x1b_owned\x1b\\\x1b^owned\x1b\\\x1bXowned\x1b\\ end".to_vec(),
        "c04 \u{9b}31m \u{9d}0;x\u{9c} \u{90}q\u{9c} \u{85} end".into(),
        b"c05 \x9b2J \x9d0;x\x9c \x90q\x9c end".to_vec(),
        b"c06 \xff\xfe\xc0\xaf\xed\xa0\x80\xf5\xe4\xbd end".to_vec(),
        "c07 \u{202e}rtl\u{202c} \u{2066}iso\u{2069}\u{200f}\u{61c} end".into(),
        "c08 \u{4f60}\u{597d} \u{1f469}\u{200d}\u{1f467} \u{1f3f3}\u{fe0f}\u{200d}\u{1f308} \u{ff46}\u{ff55} end".into(),
        format!("c09 a\u{200b}b\u{200d}c\u{feff}d\u{2060} {marks} end").into(),
        b"c10 \0\0 \x07 \x08\x08 \x0b\x0c \x0e\x0f \x7f \x05 \x11\x13 \x1a end".to_vec(),
        b"c11 cr over\rwritten end".to_vec(),
        b"c12 \x1b[?1049l\x1b[?25h\x1b[?2026l\x1bc\x1b(0lqqk\x1b#8 end".to_vec(),
        b"c13 torn \x1b[3".to_vec(),
        b"c14 torn \x1b]0;owned".to_vec(),
        [b"c15 ".as_slice(), &[b'x'; 1 << 20]].concat(),
        b"last words \x1b]0;owned\x07 end".to_vec(),
    ];
    lines.iter().flat_map(|it| it.iter().copied().chain(*b"\n")).collect()
}

/// A directory with the corpus, and with a program whose title is hostile.
fn prepare() -> TempDir {
    let dir = tempfile::Builder::new().prefix("opsdeck-hostile-").tempdir().unwrap();
    std::fs::write(dir.path().join("corpus"), corpus()).unwrap();
    std::fs::copy("/bin/sleep", dir.path().join("\u{1b}]0;owned\u{7}")).unwrap();
    dir
}

fn fleet(dir: &Path) -> Deck {
    let dir = dir.display();
    let mut deck = Deck::start(&format!(
        r#"
[service.talk]
command = ["sh", "-c", "while :; do cat {dir}/corpus; sleep 0.3; done"]
start_seconds = "100ms"
[service.dies]
command = ["sh", "-c", "cat {dir}/corpus >&2; exit 3"]
retries = 1
backoff = {{ min = "10ms", max = "20ms" }}
[service.sick]
command = "sleep 1000"
probe.readiness = {{ exec.command = ["sh", "-c", "cat {dir}/corpus; exit 1"], period = "300ms" }}
[service.heir]
command = ["sh", "-c", "setsid {dir}/*owned* 1000 & sleep 0.5; exit 0"]
restart = "never"
[service.web]
command = "sleep 1000"
start_seconds = "100ms"
rollout = {{ build = [["sh", "-c", "cat {dir}/corpus; exit 1"]] }}
"#
    ));
    deck.wait_state("dies", State::Fatal);
    deck.wait_ready(&["talk", "web"]);
    deck.wait("sick and heir seen", |deck, _| {
        let failed = support::find(deck, "sick").is_some_and(|it| it.ready == Some(false));
        failed && support::find(deck, "heir").is_some_and(|it| it.state == State::Exited)
    });
    deck
}

/// What must never be written, as the first thing found with what is around it.
fn poison(raw: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(raw) else { return Some("invalid UTF-8".into()) };
    let around = |at: usize| {
        Some(text[at..].chars().take(60).collect::<String>().escape_debug().to_string())
    };
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '\x1b' => {
                let sequence = &text[at + 1..];
                let Some(sequence) = sequence.strip_prefix('[') else { return around(at) };
                let end = sequence.find(|it: char| !it.is_ascii_digit() && !"?;".contains(it));
                let Some(end) = end else { return around(at) };
                if !is_ours(&sequence[..=end]) {
                    return around(at);
                }
                let _ = rest.nth(end + 1);
            }
            '\r' | '\n' => (),
            c if c.is_control() => return around(at),
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => {
                return around(at);
            }
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' => return around(at),
            _ => (),
        }
    }
    None
}

/// The sequences that the deck itself writes, without `ESC [`.
fn is_ours(sequence: &str) -> bool {
    let modes = ["?1049", "?25", "?2004", "?2026"];
    match sequence.split_at(sequence.len() - 1) {
        (_, "H" | "m" | "G") => true,
        ("2", "J") | ("5", "n") | ("", "K") => true,
        (mode, "h" | "l") => modes.contains(&mode),
        _ => false,
    }
}

#[test]
fn the_corpus_is_poison() {
    for line in corpus().split(|it| *it == b'\n').filter(|it| it.starts_with(b"c0")) {
        let harmless = line.starts_with(b"c08") && !line.contains(&0xe2);
        assert!(harmless || poison(line).is_some(), "{}", line.escape_ascii());
    }
    assert_eq!(
        poison("\x1b[?2026h\x1b[1;1H\x1b[38;5;1mweb \u{4f60}\x1b[?2026l\r\n".as_bytes()),
        None
    );
}

/// The header and the last line are where they belong, and nothing has left the deck's screen.
#[track_caller]
fn assert_whole(console: &mut Console, what: &str) {
    console.bytes_written_within(std::time::Duration::from_millis(700));
    let screen = console.screen.screen();
    assert!(screen.alternate_screen() && screen.hide_cursor(), "{what}");
    let text = screen.contents();
    assert!(text.starts_with(" opsdeck test"), "{what}:\n{text}");
    let (rows, _) = screen.size();
    let last = text.lines().nth(usize::from(rows.get()) - 1).unwrap_or_default();
    assert!(last.contains("q detach") || last.contains("Esc back"), "{what}: {last:?}\n{text}");
    assert_eq!(poison(&console.raw), None, "{what}");
}

#[test]
fn no_page_of_the_deck_passes_anything_on() {
    let dir = prepare();
    let mut deck = fleet(dir.path());
    deck.opsdeck(&["roll", "--yes", "web"]);
    for (columns, rows) in [(200, 50), (80, 24)] {
        let mut console = Console::start(&deck.command(&[]), columns, rows);
        console.wait_for("FATAL");
        assert_whole(&mut console, "the table and the feed");
        for row in 0..5 {
            console.press("\r");
            assert_whole(&mut console, &format!("the detail of row {row}"));
            console.press("q");
            console.wait_for("NAME");
            console.step("j");
        }
        console.press("e");
        assert_whole(&mut console, "the events");
        console.press("q");
        console.wait_for("NAME");
        console.step("g");
        console.press("l");
        console.wait_for("last words");
        assert_whole(&mut console, "the log");
        console.press("w");
        assert_whole(&mut console, "the log, wrapped");
        console.press("g");
        assert_whole(&mut console, "the log from its start");
        console.press("q");
        console.press("q");
        assert!(console.end());
    }
    deck.catch_up();
}

#[test]
fn no_command_passes_anything_on() {
    let dir = prepare();
    let deck = fleet(dir.path());
    for (args, seen) in [
        (&["roll", "--yes", "web"] as &[_], "web"),
        (&["logs", "talk", "-n", "40"], "c03"),
        (&["logs", "talk", "dies"], "c03"),
        (&["status"], "FATAL"),
        (&["status", "--json"], "services"),
        (&["why", "dies"], "dies"),
        (&["why", "sick"], "sick"),
        (&["why", "web"], "web"),
        (&["events"], "started"),
        (&["events", "--json"], "started"),
    ] {
        let mut console = Console::start(&deck.command(args), 200, 50);
        console.end();
        assert!(
            String::from_utf8_lossy(&console.raw).contains(seen),
            "{args:?}: {}",
            console.text()
        );
        assert_eq!(poison(&console.raw), None, "{args:?}");
    }
    // Notices go to the terminal also where the result goes elsewhere.
    let roll = deck.command(&["roll", "--yes", "web"]);
    let words = std::iter::once(roll.get_program()).chain(roll.get_args());
    let line = shlex::try_join(words.map(|it| it.to_str().unwrap())).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{line} >/dev/null")]);
    let mut console = Console::start(&shell, 200, 50);
    console.end();
    assert_eq!(poison(&console.raw), None, "roll with its result elsewhere");
}
