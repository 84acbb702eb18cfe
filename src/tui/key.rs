//! Keys: from the bytes of a terminal, and from the words of a configuration.
//!
//! [`Decoder`] turns what one `read` returned into what was typed. It does no I/O and knows no
//! clock. That it sees whole reads matters: keys that arrive together were pasted, not typed.

use std::fmt;

/// The most of a paste that is kept; nobody pastes more into a filter.
const LONGEST_PASTE: usize = 4096;
/// No terminal sends a longer sequence; what is longer is noise.
const LONGEST_SEQUENCE: usize = 64;

/// One key press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub code: Code,
    pub ctrl: bool,
    pub alt: bool,
}

/// Which key, without its modifiers; shift is in the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Char(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Insert,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    F(u8),
}

/// Something that was done with the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mouse {
    pub gesture: Gesture,
    /// Column and line, from 0.
    pub x: u16,
    pub y: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gesture {
    /// Of the left button.
    Press,
    WheelUp,
    WheelDown,
}

/// What one read brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    pub keys: Vec<Key>,
    /// Bracketed pastes that ended in this read.
    pub pastes: Vec<String>,
    pub mouse: Vec<Mouse>,
    /// Answers to [`super::flow::MARK`]; nobody typed them.
    pub answers: usize,
}

impl Typed {
    /// The operator did nothing; at most the terminal answered.
    pub fn is_nothing(&self) -> bool {
        self.keys.is_empty() && self.pastes.is_empty() && self.mouse.is_empty()
    }
}

const NAMES: &[(&str, Code)] = &[
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("backtab", Code::BackTab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("insert", Code::Insert),
    ("up", Code::Up),
    ("down", Code::Down),
    ("left", Code::Left),
    ("right", Code::Right),
    ("home", Code::Home),
    ("end", Code::End),
    ("pgup", Code::PageUp),
    ("pgdn", Code::PageDown),
    ("space", Code::Char(' ')),
];

impl Key {
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false }
    }

    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    pub const fn ctrl(c: char) -> Self {
        Self { code: Code::Char(c), ctrl: true, alt: false }
    }

    /// Reads `t`, `X`, `F9`, `space`, `pgup`, `ctrl-l`, `alt-x`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = Self::char(' ');
        let mut rest = text;
        loop {
            let lower = rest.to_ascii_lowercase();
            if lower.len() > 5 && lower.starts_with("ctrl-") {
                (key.ctrl, rest) = (true, &rest[5..]);
            } else if lower.len() > 4 && lower.starts_with("alt-") {
                (key.alt, rest) = (true, &rest[4..]);
            } else {
                break;
            }
        }
        key.code = code(rest)?;
        Some(key)
    }
}

fn code(text: &str) -> Option<Code> {
    let mut chars = text.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return (!c.is_control()).then_some(Code::Char(c));
    }
    let lower = text.to_ascii_lowercase();
    if let Some(number) = lower.strip_prefix('f').and_then(|it| it.parse().ok()) {
        return (1..=12).contains(&number).then_some(Code::F(number));
    }
    NAMES.iter().find(|(name, _)| *name == lower).map(|(_, code)| *code)
}

impl fmt::Display for Key {
    /// As [`Key::parse`] reads it, except for the arrows and Enter, which are drawn.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ctrl { "ctrl-" } else { "" })?;
        f.write_str(if self.alt { "alt-" } else { "" })?;
        match self.code {
            Code::Char(' ') => f.write_str("Space"),
            Code::Char(c) => write!(f, "{c}"),
            Code::F(number) => write!(f, "F{number}"),
            Code::Enter => f.write_str("⏎"),
            Code::Up => f.write_str("↑"),
            Code::Down => f.write_str("↓"),
            Code::Left => f.write_str("←"),
            Code::Right => f.write_str("→"),
            Code::Esc => f.write_str("Esc"),
            Code::PageUp => f.write_str("PgUp"),
            Code::PageDown => f.write_str("PgDn"),
            code => f.write_str(NAMES.iter().find(|it| it.1 == code).map_or("", |it| it.0)),
        }
    }
}

/// Collects bytes until they are keys.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The start of a sequence whose end has not come yet.
    rest: Vec<u8>,
    /// Inside a bracketed paste.
    paste: Option<Vec<u8>>,
}

enum Step {
    Key(Option<Key>, usize),
    PasteBegins(usize),
    Mouse(Option<Mouse>, usize),
    Answer(usize),
    Incomplete,
}

impl Decoder {
    /// Takes what one read returned.
    pub fn feed(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        self.rest.extend_from_slice(bytes);
        loop {
            if self.paste.is_some() {
                if !self.take_paste(&mut typed) {
                    return typed;
                }
                continue;
            }
            match step(&self.rest) {
                Step::Key(key, used) => {
                    typed.keys.extend(key);
                    self.rest.drain(..used);
                }
                Step::PasteBegins(used) => {
                    self.rest.drain(..used);
                    self.paste = Some(vec![]);
                }
                Step::Mouse(mouse, used) => {
                    typed.mouse.extend(mouse);
                    self.rest.drain(..used);
                }
                Step::Answer(used) => {
                    self.rest.drain(..used);
                    typed.answers += 1;
                }
                Step::Incomplete => return typed,
            }
        }
    }

    /// An escape waits for what may follow it; when nothing does, it was the key.
    pub fn is_waiting(&self) -> bool {
        self.paste.is_none() && !self.rest.is_empty()
    }

    /// Nothing followed in time: a lone escape is the key, a torn sequence is dropped.
    pub fn flush(&mut self) -> Typed {
        let lone = self.rest == [0x1b];
        self.rest.clear();
        let keys = if lone { vec![Key::plain(Code::Esc)] } else { vec![] };
        Typed { keys, ..Typed::default() }
    }

    /// Moves bytes into the paste; true when it ended.
    fn take_paste(&mut self, typed: &mut Typed) -> bool {
        const END: &[u8] = b"\x1b[201~";
        let end = self.rest.windows(END.len()).position(|it| it == END);
        // The marker itself may be torn between two reads.
        let keep = end.unwrap_or_else(|| self.rest.len().saturating_sub(END.len() - 1));
        if let Some(paste) = &mut self.paste {
            let room = LONGEST_PASTE.saturating_sub(paste.len());
            paste.extend(self.rest.drain(..keep).take(room));
        }
        if end.is_some() {
            self.rest.drain(..END.len());
            let paste = self.paste.take().unwrap_or_default();
            typed.pastes.push(String::from_utf8_lossy(&paste).into_owned());
        }
        end.is_some()
    }
}

/// Looks at the first key of `bytes`.
fn step(bytes: &[u8]) -> Step {
    match bytes {
        [] => Step::Incomplete,
        [0x1b] => Step::Incomplete,
        [0x1b, b'[', rest @ ..] => csi(rest),
        [0x1b, b'O', last, ..] => Step::Key(ss3(*last), 3),
        [0x1b, b'O'] => Step::Incomplete,
        [0x1b, 0x1b, ..] => Step::Key(Some(Key::plain(Code::Esc)), 1),
        [0x1b, rest @ ..] => match plain(rest) {
            Step::Key(key, used) => Step::Key(key.map(|it| Key { alt: true, ..it }), used + 1),
            other => other,
        },
        _ => plain(bytes),
    }
}

/// `ESC [ parameters final` (ECMA-48 §5.4), and the Linux console's `ESC [ [ A`.
fn csi(rest: &[u8]) -> Step {
    if let [b'[', last, ..] = rest {
        return Step::Key(matches!(last, b'A'..=b'E').then(|| f(last - b'A' + 1)), 4);
    }
    let Some(end) = rest.iter().position(|it| (0x40..=0x7e).contains(it) && *it != b'[') else {
        let noise = rest.len() > LONGEST_SEQUENCE;
        return if noise { Step::Key(None, rest.len() + 2) } else { Step::Incomplete };
    };
    let used = end + 3;
    let parameters = std::str::from_utf8(&rest[..end]).unwrap_or_default();
    if let Some(report) = parameters.strip_prefix('<') {
        return Step::Mouse(mouse(report, rest[end]), used);
    }
    let mut numbers = parameters.split(';').map(|it| it.parse::<u8>().unwrap_or(0));
    let number = numbers.next().unwrap_or(0);
    // xterm: 1 + a bit set of shift, alt, control.
    let modifiers = numbers.next().unwrap_or(1).saturating_sub(1);
    let key = match rest[end] {
        b'~' if number == 200 => return Step::PasteBegins(used),
        b'n' => return Step::Answer(used),
        b'~' => tilde(number),
        b'Z' => Some(Key::plain(Code::BackTab)),
        last => ss3(last),
    };
    Step::Key(key.map(|it| Key { alt: modifiers & 2 != 0, ctrl: modifiers & 4 != 0, ..it }), used)
}

/// `button ; column ; line`, then `M` for a press and `m` for a release (xterm, ctlseqs: SGR 1006).
fn mouse(report: &str, last: u8) -> Option<Mouse> {
    let mut numbers = report.split(';').map(|it| it.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    // Shift, alt and control are 4, 8 and 16.
    let gesture = match button & !0b11100 {
        0 if last == b'M' => Gesture::Press,
        64 => Gesture::WheelUp,
        65 => Gesture::WheelDown,
        _ => return None,
    };
    Some(Mouse { gesture, x: x.checked_sub(1)?, y: y.checked_sub(1)? })
}

fn f(number: u8) -> Key {
    Key::plain(Code::F(number))
}

fn tilde(number: u8) -> Option<Key> {
    Some(Key::plain(match number {
        1 | 7 => Code::Home,
        2 => Code::Insert,
        3 => Code::Delete,
        4 | 8 => Code::End,
        5 => Code::PageUp,
        6 => Code::PageDown,
        11..=15 => Code::F(number - 10),
        17..=21 => Code::F(number - 11),
        23 | 24 => Code::F(number - 12),
        _ => return None,
    }))
}

fn ss3(last: u8) -> Option<Key> {
    Some(Key::plain(match last {
        b'A' => Code::Up,
        b'B' => Code::Down,
        b'C' => Code::Right,
        b'D' => Code::Left,
        b'H' => Code::Home,
        b'F' => Code::End,
        b'M' => Code::Enter,
        b'P'..=b'S' => Code::F(last - b'P' + 1),
        _ => return None,
    }))
}

/// A character or a control code.
fn plain(bytes: &[u8]) -> Step {
    let key = match bytes[0] {
        b'\r' | b'\n' => Key::plain(Code::Enter),
        b'\t' => Key::plain(Code::Tab),
        0x7f | 0x08 => Key::plain(Code::Backspace),
        0 => Key::ctrl(' '),
        byte @ 0x01..=0x1a => Key::ctrl(char::from(byte - 1 + b'a')),
        byte @ 0x1b..=0x1f => Key::ctrl(char::from(byte + 0x40)),
        byte @ 0x20..=0x7e => Key::char(char::from(byte)),
        _ => return wide(bytes),
    };
    Step::Key(Some(key), 1)
}

fn wide(bytes: &[u8]) -> Step {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Step::Key(None, 1),
    };
    let Some(bytes) = bytes.get(..length) else { return Step::Incomplete };
    match std::str::from_utf8(bytes).ok().and_then(|it| it.chars().next()) {
        Some(c) => Step::Key((!c.is_control()).then(|| Key::char(c)), length),
        None => Step::Key(None, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<String> {
        Decoder::default().feed(bytes).keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_bytes_of_every_common_terminal_are_keys() {
        assert_eq!(keys(b"tX+ \r\x03\x7f"), ["t", "X", "+", "Space", "⏎", "ctrl-c", "backspace"]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H"), ["↑", "↓", "PgUp", "PgDn", "home"]);
        assert_eq!(keys(b"\x1bOP\x1b[11~\x1b[[A\x1b[20~"), ["F1", "F1", "F1", "F9"]);
        assert_eq!(keys("\x1b[1;5Cé漢\x1bx".as_bytes()), ["ctrl-→", "é", "漢", "alt-x"]);
    }

    #[test]
    fn a_lone_escape_waits_and_is_a_key_when_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), Typed::default());
        assert!(decoder.is_waiting());
        assert_eq!(decoder.flush().keys, [Key::plain(Code::Esc)]);

        decoder.feed(b"\x1b");
        assert_eq!(decoder.feed(b"[D").keys, [Key::plain(Code::Left)], "torn by a slow link");
    }

    #[test]
    fn a_bracketed_paste_is_no_key_even_when_torn() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b[200~rm -"), Typed::default());
        assert_eq!(decoder.feed(b"rf X\x1b[20"), Typed::default());
        let typed = decoder.feed(b"1~j");
        assert_eq!((typed.keys, typed.pastes), (vec![Key::char('j')], vec!["rm -rf X".into()]));
    }

    #[test]
    fn an_answer_of_the_terminal_is_no_key() {
        let typed = Decoder::default().feed(b"\x1b[0nt\x1b[0n");
        assert_eq!((typed.keys, typed.answers), (vec![Key::char('t')], 2));
    }

    #[test]
    fn a_report_of_the_mouse_is_no_key_even_when_torn() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b[<0;12"), Typed::default());
        let typed = decoder.feed(b";3M\x1b[<0;12;3mt\x1b[<65;1;1M\x1b[<35;9;9M\x1b[<0;0;1M");
        let press = Mouse { gesture: Gesture::Press, x: 11, y: 2 };
        let wheel = Mouse { gesture: Gesture::WheelDown, x: 0, y: 0 };
        assert_eq!((typed.keys, typed.mouse), (vec![Key::char('t')], vec![press, wheel]));
    }

    #[test]
    fn a_configured_key_is_read_by_name() {
        for (text, key) in [
            ("t", Key::char('t')),
            ("F9", Key::plain(Code::F(9))),
            ("Space", Key::char(' ')),
            ("ctrl-l", Key::ctrl('l')),
            ("pgup", Key::plain(Code::PageUp)),
        ] {
            assert_eq!(Key::parse(text), Some(key), "{text}");
        }
        for text in ["", "hyper-x", "F13", "ctrl-", "\u{1b}"] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics_or_piles_up(reads: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for read in reads {
                decoder.feed(&read);
                prop_assert!(decoder.rest.len() <= LONGEST_SEQUENCE + 4 + read.len());
            }
        }
    }
}
