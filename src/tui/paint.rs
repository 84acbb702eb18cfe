//! From cells to bytes, as few as it takes: over a slow link every one of them is time.
//!
//! A row at a time, so that a frame can be written in pieces. What a row ends in is erased and not
//! overwritten with spaces, and only what differs of colours and attributes is said.

use std::io::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Erasing the rest of a row takes as many bytes as this many spaces.
const ERASE: usize = 3;
/// Asks for the picture and not for the sign (Unicode, variation selector 16).
const EMOJI: char = '\u{fe0f}';

/// What the terminal does with the next character.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
    /// Where it stands, if that is known.
    at: Option<(u16, u16)>,
}

/// A cell that is to be written, and its column.
pub type Change<'a> = (u16, &'a Cell);

/// The cells of a row that the terminal does not show yet, from left to right.
///
/// Half a wide character is no character: what was under one that goes is written again, whatever the
/// terminal makes of the other half.
pub fn changes<'a>(shown: &Buffer, goal: &'a Buffer, y: u16) -> Vec<Change<'a>> {
    let (before, after) = (row_of(shown, y), row_of(goal, y));
    let mut changes = vec![];
    if before == after {
        return changes;
    }
    let (mut x, mut until) = (0, 0);
    while let Some(cell) = after.get(x) {
        let next = x + columns(cell);
        if x < until || before.get(x) != Some(cell) {
            let torn = (x..next).filter_map(|at| Some(at + columns(before.get(at)?)));
            until = torn.fold(until, usize::max);
            changes.push((u16::try_from(x).unwrap_or(u16::MAX), cell));
        }
        x = next;
    }
    changes
}

/// The cells of one row.
pub fn row_of(buffer: &Buffer, y: u16) -> &[Cell] {
    let width = usize::from(buffer.area.width);
    let from = usize::from(y) * width;
    buffer.content.get(from..from + width).unwrap_or_default()
}

/// Writes the changes of one row.
pub fn row(out: &mut Vec<u8>, pen: &mut Pen, goal: &Buffer, y: u16, changes: &[Change]) {
    let end = end(row_of(goal, y));
    let (text, tail) = changes.split_at(changes.partition_point(|it| it.0 < end));
    text.iter().for_each(|it| pen.draw(out, y, *it));
    if tail.len() <= ERASE {
        tail.iter().for_each(|it| pen.draw(out, y, *it));
        return;
    }
    pen.go(out, end, y);
    pen.rest(out);
    out.extend_from_slice(b"\x1b[K");
}

/// The column after which a row is blank.
fn end(row: &[Cell]) -> u16 {
    let last = row.iter().rposition(|it| !is_blank(it));
    let end = last.map_or(0, |x| x + columns(&row[x]));
    u16::try_from(end).unwrap_or(u16::MAX)
}

fn columns(cell: &Cell) -> usize {
    let symbol = cell.symbol();
    if symbol.len() == 1 { 1 } else { symbol.width().max(1) }
}

/// Nothing is seen there, and an erased cell looks the same.
fn is_blank(cell: &Cell) -> bool {
    let seen = Modifier::REVERSED | Modifier::UNDERLINED | Modifier::CROSSED_OUT;
    cell.symbol() == " " && cell.bg == Color::Reset && !cell.modifier.intersects(seen)
}

impl Pen {
    /// Plain again, for whoever writes next.
    pub fn rest(&mut self, out: &mut Vec<u8>) {
        let plain = Self { at: self.at, ..Self::default() };
        if *self != plain {
            out.extend_from_slice(b"\x1b[m");
            *self = plain;
        }
    }

    fn draw(&mut self, out: &mut Vec<u8>, y: u16, (x, cell): Change) {
        self.go(out, x, y);
        self.dip(out, cell);
        let columns = columns(cell);
        if cell.symbol().contains(EMOJI) {
            // Half of the terminals draw these in one column, and leave what is in the other.
            out.extend(std::iter::repeat_n(b' ', columns));
            self.at = None;
            self.go(out, x, y);
        }
        out.extend_from_slice(cell.symbol().as_bytes());
        // Nor do they agree on other wide ones: what follows is placed anew.
        self.at = (columns == 1).then_some((x + 1, y));
    }

    fn go(&mut self, out: &mut Vec<u8>, x: u16, y: u16) {
        if self.at == Some((x, y)) {
            return;
        }
        // Writing into memory does not fail.
        let _ = match (self.at, x) {
            (Some((_, its)), _) if its == y => write!(out, "\x1b[{}G", x + 1),
            (_, 0) => write!(out, "\x1b[{}H", y + 1),
            _ => write!(out, "\x1b[{};{}H", y + 1, x + 1),
        };
        self.at = Some((x, y));
    }

    /// Takes the colours and attributes of a cell: SGR, ECMA-48 §8.3.117.
    fn dip(&mut self, out: &mut Vec<u8>, cell: &Cell) {
        let mut codes = vec![];
        // An attribute can only be taken away with all the others.
        if !cell.modifier.contains(self.modifier) {
            codes.push("0".to_owned());
            *self = Self { at: self.at, ..Self::default() };
        }
        let added = cell.modifier.difference(self.modifier);
        codes.extend(ATTRIBUTES.iter().filter(|it| added.contains(it.0)).map(|it| it.1.to_owned()));
        if cell.fg != self.fg {
            codes.push(color(cell.fg, 30));
        }
        if cell.bg != self.bg {
            codes.push(color(cell.bg, 40));
        }
        (self.fg, self.bg, self.modifier) = (cell.fg, cell.bg, cell.modifier);
        match codes.as_slice() {
            [] => (),
            [one] if one == "0" => out.extend_from_slice(b"\x1b[m"),
            codes => drop(write!(out, "\x1b[{}m", codes.join(";"))),
        }
    }
}

const ATTRIBUTES: [(Modifier, &str); 8] = [
    (Modifier::BOLD, "1"),
    (Modifier::DIM, "2"),
    (Modifier::ITALIC, "3"),
    (Modifier::UNDERLINED, "4"),
    (Modifier::SLOW_BLINK, "5"),
    (Modifier::REVERSED, "7"),
    (Modifier::HIDDEN, "8"),
    (Modifier::CROSSED_OUT, "9"),
];

/// The first sixteen colours by the codes that every terminal has.
fn color(color: Color, base: u8) -> String {
    let nth = match color {
        Color::Reset => 9,
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
        Color::Indexed(n) => return format!("{};5;{n}", base + 8),
        Color::Rgb(r, g, b) => return format!("{};2;{r};{g};{b}", base + 8),
    };
    (base + nth).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;
    use crate::tui::fixtures::terminal;

    const WIDTH: u16 = 12;

    /// All rows of `goal` that differ from `shown`.
    fn paint(shown: &Buffer, goal: &Buffer) -> Vec<u8> {
        let (mut out, mut pen) = (vec![], Pen::default());
        for y in 0..goal.area.height {
            match changes(shown, goal, y).as_slice() {
                [] => (),
                changes => row(&mut out, &mut pen, goal, y, changes),
            }
        }
        pen.rest(&mut out);
        out
    }

    fn buffer(rows: &[(&str, Style)]) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, WIDTH, 2));
        for (y, (text, style)) in rows.iter().enumerate() {
            let y = u16::try_from(y).unwrap();
            buffer.set_stringn(0, y, text, usize::from(WIDTH), *style);
        }
        buffer
    }

    #[test]
    fn the_end_of_a_row_is_erased_and_only_what_differs_is_said() {
        let red = Style::new().fg(Color::Red);
        let before = buffer(&[("a long line.", red), ("the same", red)]);
        let after = buffer(&[("a b", red), ("the sane", red.bold())]);
        let expected = "\x1b[1;3H\x1b[31mb\x1b[m\x1b[K\x1b[2H\x1b[1;31mthe sane\x1b[m";
        assert_eq!(String::from_utf8(paint(&before, &after)).unwrap(), expected);
    }

    #[test]
    fn nothing_is_erased_that_looks_like_something() {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let before = buffer(&[("xxxxxxxxxxxx", Style::new())]);
        let after = buffer(&[("            ", reversed)]);
        assert_eq!(paint(&before, &after), b"\x1b[1H\x1b[7m            \x1b[m");
    }

    fn any_row() -> impl Strategy<Value = (String, Style)> {
        let text = prop::collection::vec(
            prop::sample::select(vec!["a", "b", " ", "漢", "é", "█", "☀\u{fe0f}"]),
            0..14,
        );
        let color = prop::sample::select(vec![
            Color::Reset,
            Color::Red,
            Color::DarkGray,
            Color::White,
            Color::Indexed(77),
            Color::Rgb(1, 2, 3),
        ]);
        let modifier = prop::sample::select(vec![
            Modifier::empty(),
            Modifier::BOLD,
            Modifier::REVERSED,
            Modifier::BOLD | Modifier::UNDERLINED,
        ]);
        (text, color.clone(), color, modifier).prop_map(|(text, fg, bg, modifier)| {
            (text.concat(), Style::new().fg(fg).bg(bg).add_modifier(modifier))
        })
    }

    proptest! {
        /// A terminal that is brought from one screen to another shows what one shows that began empty.
        #[test]
        fn whatever_was_there_the_terminal_shows_the_goal(
            screens in prop::collection::vec((any_row(), any_row()), 2..5),
        ) {
            let mut shown = Buffer::empty(Rect::new(0, 0, WIDTH, 2));
            let empty = shown.clone();
            let mut used = terminal(WIDTH, 2);
            for ((one, its), (other, others)) in &screens {
                let goal = buffer(&[(one, *its), (other, *others)]);
                used.process(&paint(&shown, &goal));
                let mut fresh = terminal(WIDTH, 2);
                fresh.process(&paint(&empty, &goal));
                for y in 0..2 {
                    for x in 0..WIDTH {
                        let (is, must) = (used.screen().cell(y, x), fresh.screen().cell(y, x));
                        let (is, must) = (is.unwrap(), must.unwrap());
                        let blank = |it: &str| if it.is_empty() { " ".to_owned() } else { it.to_owned() };
                        prop_assert_eq!(blank(is.contents()), blank(must.contents()), "{},{}", x, y);
                        prop_assert_eq!(is.bgcolor(), must.bgcolor());
                        prop_assert_eq!(is.inverse(), must.inverse());
                        let seen = !is.contents().trim().is_empty();
                        prop_assert!(!seen || (is.fgcolor(), is.bold()) == (must.fgcolor(), must.bold()));
                    }
                }
                shown = goal;
            }
        }
    }
}
