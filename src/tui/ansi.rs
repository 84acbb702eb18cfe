//! Untrusted text in, safe text out.
//!
//! Logs, probe bodies, names and messages are written by others. Whatever they contain, what leaves
//! this module holds only characters that a terminal prints: no control sequence, no control
//! character, nothing that turns the writing direction, nothing invisible; of a log's colours only what
//! they mean. Invalid UTF-8 becomes
//! U+FFFD, tabs become spaces, a carriage return lets the rest of the line replace its start as a
//! terminal would show it, and a line is cut where it stops being a line.
//!
//! Joiners and variation selectors are dropped as well: terminals disagree about the width of what
//! they join, and a disagreement tears the screen.

use std::borrow::Cow;

use ratatui::style::Style;
use unicode_width::UnicodeWidthChar;
use vte::{Params, Parser, Perform};

use super::sgr;
use crate::api::{
    Config, Deck, Detail, Difference, Event, ProbeResult, ProcessDetail, Rollout, Service,
};

/// What is kept of one line of anything. A terminal shows a few hundred columns.
pub const LONGEST: usize = 4096;

/// Marks on one letter; more is decoration that spills over the lines around it.
const MOST_MARKS: usize = 2;

const TAB: usize = 8;

/// One line of safe text. A line that needs no change is not copied.
pub fn clean(text: &str) -> Cow<'_, str> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    if text.len() <= LONGEST && text.as_bytes().iter().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(clean_bytes(text.as_bytes()))
}

/// Where the colours of a text change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The byte of the text from which on it looks like this.
    pub at: u16,
    pub style: Style,
}

/// One line of safe text, and its colours.
pub fn colored(text: &str) -> (String, Vec<Run>) {
    if let Cow::Borrowed(plain) = clean(text) {
        return (plain.to_owned(), vec![]);
    }
    let line = safe(text.as_bytes(), LONGEST);
    (line.text, line.runs)
}

/// One line of safe text that is not cut, for a file.
pub fn clean_whole(text: &str) -> String {
    safe(text.as_bytes(), usize::MAX).text
}

/// Like [`clean`], for bytes that may not be UTF-8.
pub fn clean_bytes(bytes: &[u8]) -> String {
    safe(bytes, LONGEST).text
}

fn safe(bytes: &[u8], longest: usize) -> SafeLine {
    let mut line = SafeLine { longest, ..SafeLine::default() };
    let mut parser = Parser::<1024>::new();
    // Pieces, so that a line of a mebibyte ends the work as soon as enough of it is known.
    for piece in bytes.chunks(1024) {
        parser.advance(&mut line, piece);
        if line.is_full() {
            break;
        }
    }
    line
}

/// Replaces `text` by its safe form.
fn clean_in_place(text: &mut String) {
    if let Cow::Owned(safe) = clean(text) {
        *text = safe;
    }
}

fn clean_some(text: &mut Option<String>) {
    text.iter_mut().for_each(clean_in_place);
}

/// Makes every text of a snapshot safe, before it enters the model.
pub fn clean_deck(deck: &mut Deck) {
    [&mut deck.deck, &mut deck.host, &mut deck.version].into_iter().for_each(clean_in_place);
    deck.notices.iter_mut().for_each(clean_in_place);
    clean_config(&mut deck.config);
    deck.services.iter_mut().for_each(clean_service);
}

/// Makes a configuration's texts safe; the error keeps its lines.
pub fn clean_config(config: &mut Config) {
    clean_some(&mut config.path);
    if let Some(error) = &mut config.error {
        *error = error.lines().map(clean).collect::<Vec<_>>().join("\n");
    }
    config.pending.iter_mut().for_each(clean_in_place);
}

/// Makes every text of a service and its instances safe.
pub fn clean_service(service: &mut Service) {
    [&mut service.name, &mut service.engine, &mut service.profile]
        .into_iter()
        .for_each(clean_in_place);
    service.rollout.iter_mut().for_each(clean_rollout);
    if let Some(gateway) = &mut service.gateway {
        [&mut gateway.name, &mut gateway.provider].into_iter().for_each(clean_in_place);
        clean_some(&mut gateway.listen);
        // It may name a program that holds the port.
        clean_some(&mut gateway.trouble);
    }
    for instance in &mut service.instances {
        [&mut instance.name, &mut instance.service, &mut instance.why]
            .into_iter()
            .for_each(clean_in_place);
        clean_some(&mut instance.held_by);
        if let Some(exit) = &mut instance.last_exit {
            clean_in_place(&mut exit.cause);
            clean_some(&mut exit.signal);
            clean_some(&mut exit.words);
        }
        if let Some(load) = &mut instance.load {
            clean_in_place(&mut load.source);
            clean_some(&mut load.error);
        }
        if let Some(countdown) = &mut instance.countdown {
            clean_some(&mut countdown.rung);
        }
        instance.probes.values_mut().for_each(clean_probe);
        instance.processes.iter_mut().for_each(clean_process);
    }
}

fn clean_rollout(rollout: &mut Rollout) {
    [&mut rollout.by, &mut rollout.step].into_iter().for_each(clean_in_place);
    clean_some(&mut rollout.instance);
    clean_some(&mut rollout.halted);
    rollout.renewed.iter_mut().for_each(clean_in_place);
}

/// Lines of a probe's body that are shown.
const BODY: usize = 10;

/// The first lines of a body in one: the first of some JSON is `{`.
fn clean_probe(probe: &mut ProbeResult) {
    clean_some(&mut probe.error);
    let Some(body) = &mut probe.body else { return };
    let lines = body.lines().map(str::trim).filter(|it| !it.is_empty());
    *body = clean(&lines.take(BODY).collect::<Vec<_>>().join(" ")).into_owned();
}

/// Makes an event's texts safe.
pub fn clean_event(event: &mut Event) {
    [&mut event.message, &mut event.kind].into_iter().for_each(clean_in_place);
    clean_some(&mut event.service);
    clean_some(&mut event.instance);
    if let Some(actor) = &mut event.actor {
        clean_in_place(&mut actor.login);
        clean_some(&mut actor.ssh);
    }
    for line in event.evidence.iter_mut().flatten() {
        clean_in_place(line);
    }
}

/// Makes every text of a line of a configuration diff safe.
pub fn clean_difference(it: &mut Difference) {
    [&mut it.name, &mut it.does, &mut it.message].into_iter().for_each(clean_in_place);
    for value in &mut it.values {
        clean_in_place(&mut value.key);
        clean_some(&mut value.from);
        clean_some(&mut value.to);
    }
}

fn clean_process(process: &mut ProcessDetail) {
    [&mut process.name, &mut process.title, &mut process.state]
        .into_iter()
        .for_each(clean_in_place);
    clean_some(&mut process.role);
}

/// Makes every text of a close look safe.
pub fn clean_detail(it: &mut Detail) {
    [&mut it.instance, &mut it.service, &mut it.command].into_iter().for_each(clean_in_place);
    it.why.iter_mut().chain(&mut it.missing).for_each(clean_in_place);
    for advice in &mut it.advice {
        [
            &mut advice.kind,
            &mut advice.seen,
            &mut advice.means,
            &mut advice.help,
            &mut advice.sentence,
        ]
        .into_iter()
        .for_each(clean_in_place);
    }
    for past in it.probes.values_mut() {
        clean_in_place(&mut past.check);
        past.results.iter_mut().for_each(clean_probe);
    }
    it.processes.iter_mut().for_each(clean_process);
    for signal in &mut it.signals {
        [&mut signal.signal, &mut signal.does].into_iter().for_each(clean_in_place);
        clean_some(&mut signal.means);
    }
    it.exits.iter_mut().for_each(clean_event);
    for variable in it.environment.iter_mut().flatten() {
        [&mut variable.name, &mut variable.value].into_iter().for_each(clean_in_place);
    }
    for limit in &mut it.limits {
        [&mut limit.name, &mut limit.soft, &mut limit.hard, &mut limit.unit]
            .into_iter()
            .for_each(clean_in_place);
    }
    if let Some(files) = &mut it.files {
        clean_in_place(&mut files.log);
        clean_some(&mut files.cwd);
        clean_some(&mut files.exe);
        clean_some(&mut files.pidfile);
        files.listening.iter_mut().chain(&mut files.unix_sockets).for_each(clean_in_place);
        let open = std::mem::take(&mut files.open);
        files.open = open.into_iter().map(|(kind, n)| (clean(&kind).into_owned(), n)).collect();
    }
}

#[derive(Default)]
struct SafeLine {
    text: String,
    columns: usize,
    /// Marks since the last letter.
    marks: usize,
    /// A carriage return was seen; the next character starts the line again.
    returned: bool,
    /// In bytes.
    longest: usize,
    style: Style,
    runs: Vec<Run>,
}

impl SafeLine {
    fn is_full(&self) -> bool {
        self.text.len() >= self.longest
    }

    fn push(&mut self, c: char, width: usize) {
        if std::mem::take(&mut self.returned) {
            self.text.clear();
            self.runs.clear();
            self.columns = 0;
        }
        if !self.is_full() {
            let before = self.runs.last().map_or(Style::new(), |it| it.style);
            if self.style != before
                && let Ok(at) = u16::try_from(self.text.len())
            {
                self.runs.push(Run { at, style: self.style });
            }
            self.text.push(c);
            self.columns += width;
        }
    }
}

impl Perform for SafeLine {
    fn print(&mut self, c: char) {
        match c.width() {
            _ if is_unwelcome(c) => (),
            None => (),
            Some(0) if self.columns == 0 || self.returned || self.marks == MOST_MARKS => (),
            Some(0) => {
                self.marks += 1;
                self.push(c, 0);
            }
            Some(width) => {
                self.marks = 0;
                self.push(c, width);
            }
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => {
                self.marks = 0;
                for _ in 0..TAB - self.columns % TAB {
                    self.push(' ', 1);
                }
            }
            b'\r' => self.returned = true,
            // Two lines never become one word.
            b'\n' => self.push(' ', 1),
            _ => (),
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        if action == 'm' && intermediates.is_empty() {
            sgr::apply(&mut self.style, params);
        }
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {}
    fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {}
}

/// Characters that print nothing by themselves but change what others look like.
fn is_unwelcome(c: char) -> bool {
    matches!(c,
        '\u{7f}'..='\u{9f}' | '\u{ad}'
        // Bidi marks, embeddings, overrides, isolates.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // Zero-width spaces and joiners, line and paragraph separators, byte order mark.
        | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}'
        | '\u{feff}'
        // Variation selectors, tags, keycap, blank Hangul letters, interlinear marks.
        | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}' | '\u{20e3}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        // Skin tones: one cell or two, depending on whom one asks.
        | '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(clean("GET /orders 200"), Cow::Borrowed("GET /orders 200")));
    }

    #[test]
    fn what_a_terminal_would_obey_is_dropped() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]52;c;aGk=\x07after", "after"),
            (b"\x1b]0;title\x1b\\after", "after"),
            (b"\x1bPq#0~\x1b\\after", "after"),
            (b"\x1b_apc\x1b\\\x1b^pm\x1b\\after", "after"),
            (b"a\x07b\x08c\x00d\x7fe", "abcde"),
            (b"\x9b31mred\x9d0;x\x9c", "31mred0;x"),
            ("\u{9b}2Jx".as_bytes(), "2Jx"),
            (b"10%\r20%\r100%", "100%"),
            (b"windows\r\n", " "),
            (b"a\tb", "a       b"),
            (b"\xff\xfe ok", "\u{fffd}\u{fffd} ok"),
            ("\u{202e}evil\u{2066}".as_bytes(), "evil"),
            ("a\u{200b}\u{200d}b\u{feff}".as_bytes(), "ab"),
            ("👩\u{200d}👧 é 漢".as_bytes(), "👩👧 é 漢"),
            ("e\u{301}\u{301}\u{301}\u{301}".as_bytes(), "e\u{301}\u{301}"),
            ("\u{301}first".as_bytes(), "first"),
            (b"\x1b[999999999999;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;m!", "!"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(clean_bytes(bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_line_of_a_mebibyte_is_cut() {
        assert_eq!(clean(&"x".repeat(1 << 20)).len(), LONGEST);
        assert!(clean_bytes("漢".repeat(1 << 18).as_bytes()).len() <= LONGEST + 4);
        assert_eq!(clean_bytes(&[b"\x1b]0;".as_slice(), &[b'x'; 1 << 20]].concat()), "");
    }

    #[test]
    fn every_text_of_a_snapshot_is_made_safe() {
        let json = r#"{"deck":"\u001b[2J1","services":[{"name":"\u001b[2J2","instances":[{"name":"\u001b[2J3",
            "why":"\u001b[2J4","held_by":"\u001b[2J5","countdown":{"rung":"\u001b[2J6"},
            "probes":{"liveness":{"body":"\u001b[2J7\n2nd","error":"\u001b[2J8"}}}],
            "rollout":{"by":"\u001b[2J9","halted":"\u001b[2J0"}}]}"#;
        let mut deck: Deck = serde_json::from_str(json).unwrap();
        clean_deck(&mut deck);
        let text = serde_json::to_string(&deck).unwrap();
        assert!(!text.contains("[2J") && text.contains("\"7 2nd\""), "{text}");
    }

    #[test]
    fn every_text_of_a_close_look_is_made_safe() {
        let x = "\\u001b[2J";
        let json = format!(
            r#"{{"instance":"{x}","command":"{x}","why":["{x}"],"missing":["{x}"],
            "probes":{{"liveness":{{"check":"{x}","results":[{{"body":"{x}","error":"{x}"}}]}}}},
            "processes":[{{"name":"{x}","title":"{x}","state":"{x}","role":"{x}"}}],
            "signals":[{{"signal":"{x}","does":"{x}","means":"{x}"}}],
            "exits":[{{"seq":1,"at":"2026-11-21T10:42:17Z","kind":"exited","message":"{x}"}}],
            "environment":[{{"name":"{x}","value":"{x}"}}],
            "limits":[{{"name":"{x}","soft":"{x}","hard":"{x}","unit":"{x}"}}],
            "files":{{"log":"{x}","cwd":"{x}","exe":"{x}","listening":["{x}"],"open":{{"{x}":1}}}}}}"#
        );
        let mut detail: Detail = serde_json::from_str(&json).unwrap();
        clean_detail(&mut detail);
        let text = serde_json::to_string(&detail).unwrap();
        assert!(!text.contains("[2J"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_only_printable_characters_go_out(bytes: Vec<u8>, text in "\\PC{0,40}") {
            let mut hostile = bytes;
            hostile.extend_from_slice(text.as_bytes());
            let safe = clean_bytes(&hostile);
            prop_assert!(safe.chars().all(|c| !c.is_control() && !is_unwelcome(c)));
            prop_assert_eq!(clean_bytes(safe.as_bytes()), safe);
        }
    }
}
