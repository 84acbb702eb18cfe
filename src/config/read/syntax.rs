//! Mistakes of the TOML itself.

use std::ops::Range;

use crate::config::mistake::{Mistake, Span};

pub(super) fn mistake(file: usize, text: &str, error: &toml::de::Error) -> Mistake {
    let range = error.span().unwrap_or(0..0);
    let span = Span { file, start: range.start, end: range.end };
    if error.message() == "duplicate key" {
        let name = text.get(range).unwrap_or_default().trim_matches(['"', '\'']);
        return Mistake::new(span, format!("`{name}` is given twice"), "here for the second time")
            .help("keep one of the two")
            .syntax();
    }
    let (title, label) = error.message().split_once(", ").unwrap_or((error.message(), ""));
    let label = if title == "string values must be quoted" { "not in quotes" } else { label };
    Mistake::new(span, format!("this is not TOML: {title}"), label).help(advice(title)).syntax()
}

/// What to do about it, as far as the words of the parser tell.
fn advice(title: &str) -> &'static str {
    let has = |part: &str| title.contains(part);
    if has("string values must be quoted") {
        "put the value into quotes: name = \"value\""
    } else if has("string") {
        "text ends with the quote it began with, on the same line"
    } else if has("inline table") {
        "close the braces: name = { key = \"value\", … }"
    } else if has("array") {
        "close the brackets: name = [\"one\", \"two\"]"
    } else if has("table") {
        "a table begins with a line such as [service.web]"
    } else {
        "a line is NAME = VALUE, [TABLE], or a # comment"
    }
}

/// What is misread because of a syntax mistake, and so no second mistake: the rest of its line, or
/// the whole table where a header is torn.
pub(super) fn torn_by(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |it| it + 1);
    let is_header = text[start..].trim_start().starts_with('[');
    let end = if is_header { text[at..].find("\n[") } else { text[at..].find('\n') };
    start..end.map_or(text.len() + 1, |it| at + it + 1)
}
