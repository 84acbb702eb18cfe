//! A page of text that is being written: titles, sections, labelled texts, rows.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::format::wrap;
use crate::tui::theme::Theme;

/// Columns of a label with the gaps around it.
pub(super) const LABEL: usize = 15;

pub(super) struct Text {
    pub(super) theme: Theme,
    /// Columns of the page.
    pub(super) width: usize,
    pub(super) lines: Vec<Line<'static>>,
    /// Where each section begins.
    pub(super) sections: Vec<usize>,
}

impl Text {
    pub(super) fn new(theme: Theme, width: usize) -> Self {
        Self { theme, width, lines: vec![], sections: vec![] }
    }

    pub(super) fn line(&mut self, text: impl Into<String>, style: Style) {
        self.lines.push(Line::styled(format!(" {}", text.into()), style));
    }

    pub(super) fn title(&mut self, text: impl Into<String>) {
        self.line(text, self.theme.strong());
    }

    /// A heading with the number that leads to it.
    pub(super) fn section(&mut self, number: usize, text: &str) {
        self.sections.push(self.lines.len());
        let theme = self.theme;
        let rest = self.width.saturating_sub(text.len() + 5);
        self.lines.push(Line::from(vec![
            Span::styled(format!(" {number} "), theme.faint()),
            Span::styled(text.to_owned(), theme.strong()),
            Span::styled(format!(" {}", theme.signs.rule.repeat(rest)), theme.faint()),
        ]));
    }

    /// A text wrapped under itself, so many columns in.
    pub(super) fn paragraph(&mut self, indent: usize, text: &str, style: Style) {
        let width = self.width.saturating_sub(indent + 1);
        for part in wrap(text, width) {
            self.lines.push(Line::styled(format!("{:indent$}{part}", ""), style));
        }
    }

    /// A labelled text, wrapped under itself; nothing at all where there is no text.
    pub(super) fn field(&mut self, label: &str, text: &str) {
        self.styled_field(label, text, Style::new());
    }

    pub(super) fn styled_field(&mut self, label: &str, text: &str, style: Style) {
        if text.is_empty() {
            return;
        }
        let width = self.width.saturating_sub(LABEL + 1);
        for (n, part) in wrap(text, width).into_iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!(" {label:<12}  "), self.theme.faint()),
                Span::styled(part, style),
            ]));
        }
    }
}
