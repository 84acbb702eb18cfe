//! From a model to the bytes that change what the terminal shows.
//!
//! Two buffers: what is on the terminal, and what should be. Only the difference is written, wrapped
//! in synchronized output so that no half frame is seen. No difference, no byte.

use std::io::Write;

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::model::{Model, Now};
use super::view;

/// DEC private mode 2026: terminals that do not know it ignore it.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J\x1b[?25l";

/// What the terminal shows.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    next: Buffer,
    /// What the terminal shows is not known; all of it must be written.
    unknown: bool,
}

impl Default for Screen {
    fn default() -> Self {
        let empty = Buffer::empty(Rect::ZERO);
        Self { shown: empty.clone(), next: empty, unknown: true }
    }
}

impl Screen {
    /// The terminal may show anything: the next frame is written whole.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    /// Draws the model and returns the bytes that bring the terminal there; none if it is there.
    pub fn frame(&mut self, model: &Model, now: Now) -> Vec<u8> {
        let area = Rect::new(0, 0, model.size.0, model.size.1);
        if self.next.area != area {
            self.next = Buffer::empty(area);
            self.unknown = true;
        }
        self.next.reset();
        view::draw(model, now, &mut self.next);

        if self.unknown {
            self.shown = Buffer::empty(area);
        }
        let changes = self.shown.diff(&self.next);
        if changes.is_empty() && !self.unknown {
            return vec![];
        }
        let mut bytes = BEGIN.to_vec();
        if std::mem::take(&mut self.unknown) {
            bytes.extend_from_slice(CLEAR);
        }
        let mut backend = CrosstermBackend::new(&mut bytes);
        // Writing into memory does not fail.
        let drawn = backend.draw(changes.into_iter()).and_then(|()| Write::flush(&mut backend));
        debug_assert!(drawn.is_ok());
        bytes.extend_from_slice(END);
        std::mem::swap(&mut self.shown, &mut self.next);
        bytes
    }

    /// What the terminal shows, for tests.
    #[cfg(test)]
    pub(super) fn shown(&self) -> &Buffer {
        &self.shown
    }
}
