//! From a model to the bytes that change what the terminal shows.
//!
//! Two buffers: what is on the terminal, and what should be. Only the difference is written, wrapped
//! in synchronized output so that no half frame is seen. No difference, no byte.
//!
//! Over a slow link a frame goes in pieces of whole rows, and what a key changed goes first: it is not
//! behind figures that nobody waits for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::model::{Model, Now};
use super::paint::{self, Pen, row_of};
use super::view;

/// DEC private mode 2026: terminals that do not know it ignore it.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J\x1b[?25l";

/// What the terminal shows.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    goal: Buffer,
    /// What would be shown if nobody had pressed a key.
    before: Option<Buffer>,
    /// Rows of the goal that are not on the terminal yet, in the order in which they go there.
    left: Vec<u16>,
    /// What the terminal shows is not known; all of it must be written.
    unknown: bool,
}

impl Default for Screen {
    fn default() -> Self {
        let empty = Buffer::empty(Rect::ZERO);
        Self { shown: empty.clone(), goal: empty, before: None, left: vec![], unknown: true }
    }
}

impl Screen {
    /// The terminal may show anything: the next frame is written whole.
    pub fn forget(&mut self) {
        self.unknown = true;
        self.left.clear();
    }

    /// Draws the model and returns the bytes that bring the terminal there; none if it is there.
    pub fn frame(&mut self, model: &Model, now: Now) -> Vec<u8> {
        self.aim(model, now);
        self.piece(usize::MAX)
    }

    /// Takes note of the model as it is before a key, so that the next frame begins with what the
    /// key changes.
    pub fn note(&mut self, model: &Model, now: Now) {
        if self.before.is_none() {
            let mut before = Buffer::empty(self.goal.area);
            if before.area == area(model) {
                view::draw(model, now, &mut before);
            }
            self.before = Some(before);
        }
    }

    /// Draws the model: it is what the terminal is to show.
    pub fn aim(&mut self, model: &Model, now: Now) {
        let area = area(model);
        if self.goal.area != area {
            self.goal = Buffer::empty(area);
            self.unknown = true;
        }
        self.goal.reset();
        view::draw(model, now, &mut self.goal);
        if self.unknown || self.shown.area != area {
            self.shown = Buffer::empty(area);
        }
        let differ = |from: &Buffer, y: u16| row_of(from, y) != row_of(&self.goal, y);
        self.left = (0..area.height).filter(|y| differ(&self.shown, *y)).collect();
        if let Some(before) = self.before.take().filter(|it| it.area == area) {
            // The footer says what is asked, and what keys do now.
            self.left.sort_by_key(|y| (!differ(&before, *y), y + 1 != area.height));
        }
    }

    /// Rows of the goal are left to be written.
    pub fn is_behind(&self) -> bool {
        !self.left.is_empty()
    }

    /// The next rows of the goal, about as many bytes as there is room for; at least one row.
    pub fn piece(&mut self, room: usize) -> Vec<u8> {
        if !self.is_behind() && !self.unknown {
            return vec![];
        }
        let mut bytes = BEGIN.to_vec();
        if std::mem::take(&mut self.unknown) {
            bytes.extend_from_slice(CLEAR);
        }
        let mut pen = Pen::default();
        let mut written = 0;
        for y in &self.left {
            if written > 0 && bytes.len() >= room {
                break;
            }
            let changes = paint::changes(&self.shown, &self.goal, *y);
            paint::row(&mut bytes, &mut pen, &self.goal, *y, &changes);
            written += 1;
        }
        pen.rest(&mut bytes);
        bytes.extend_from_slice(END);
        for y in self.left.drain(..written) {
            copy_row(&mut self.shown, &self.goal, y);
        }
        bytes
    }

    /// What the terminal shows, for tests.
    #[cfg(test)]
    pub(super) fn shown(&self) -> &Buffer {
        &self.shown
    }
}

fn area(model: &Model) -> Rect {
    Rect::new(0, 0, model.size.0, model.size.1)
}

fn copy_row(to: &mut Buffer, from: &Buffer, y: u16) {
    let width = usize::from(from.area.width);
    let row = usize::from(y) * width..(usize::from(y) + 1) * width;
    to.content[row.clone()].clone_from_slice(&from.content[row]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixtures::*;
    use crate::tui::update::Msg;

    fn rows_of(bytes: &[u8]) -> String {
        let mut it = terminal(80, 24);
        it.process(bytes);
        it.screen().contents()
    }

    #[test]
    fn a_frame_in_pieces_comes_to_the_same() {
        let mut model = shop();
        let mut screen = Screen::default();
        screen.aim(&model, at(0));
        let mut it = terminal(80, 24);
        let mut pieces = 0;
        while screen.is_behind() {
            it.process(&screen.piece(100));
            pieces += 1;
        }
        assert!(pieces > 4, "{pieces}");
        let whole = rows_of(&Screen::default().frame(&model, at(0)));
        assert_eq!(it.screen().contents(), whole);
        // A key comes while another page is half written.
        press(&mut model, 0, "?");
        screen.aim(&model, at(0));
        it.process(&screen.piece(200));
        assert!(screen.is_behind());
        press(&mut model, 0, "q");
        it.process(&screen.frame(&model, at(0)));
        assert_eq!(it.screen().contents(), whole);
    }

    #[test]
    fn what_a_key_changed_goes_before_what_happened_meanwhile() {
        let mut model = shop();
        let mut screen = Screen::default();
        screen.frame(&model, at(0));
        change(&mut model, 1000, draining(web()));
        screen.note(&model, at(1000));
        send(&mut model, 1000, Msg::Keys(vec![crate::tui::key::Key::char('/')]));
        screen.aim(&model, at(1000));
        let first = rows_of(&screen.piece(1));
        assert!(first.contains("Esc") && !first.contains("DRAINING"), "{first}");
        let rest = rows_of(&screen.piece(usize::MAX));
        assert!(rest.contains("DRAINING"), "{rest}");
        assert_eq!(screen.piece(1), b"");
    }

    #[test]
    fn a_resize_between_pieces_is_drawn_whole() {
        let mut model = shop();
        let mut screen = Screen::default();
        screen.aim(&model, at(0));
        screen.piece(1);
        screen.note(&model, at(0));
        send(&mut model, 0, Msg::Resize(40, 10));
        let bytes = screen.frame(&model, at(0));
        assert!(bytes.windows(4).any(|it| it == b"\x1b[2J"));
        assert!(!screen.is_behind());
    }
}
