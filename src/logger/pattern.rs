//! Which lines are looked for.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

const ESCAPE: u8 = 0x1b;

/// A regular expression that is held against lines. Colours do not hide a text from it: a line matches as it was
/// written, or as it reads without its control sequences.
#[derive(Clone, Debug)]
pub struct Pattern {
    line: Regex,
    /// Finds something in every block of lines that has one that matches; `None` where that is not sure.
    block: Option<Regex>,
}

/// Bytes of a compiled expression, at most: whoever may look may ask for it.
const LARGEST: usize = 1 << 20;

impl Pattern {
    /// Compiles an expression of the regex crate's syntax.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let line = RegexBuilder::new(text).size_limit(LARGEST).build()?;
        // Anchors of the whole text, and flags that change what `^` means, know a block from a line.
        let is_plain = !["\\A", "\\z", "(?"].iter().any(|it| text.replace("(?i)", "").contains(it));
        let block = if is_plain {
            RegexBuilder::new(text).size_limit(LARGEST).multi_line(true).build().ok()
        } else {
            None
        };
        Ok(Self { line, block })
    }

    /// Whether a line matches. Without its newline.
    pub fn matches(&self, line: &[u8]) -> bool {
        self.line.is_match(line)
            || memchr::memchr(ESCAPE, line).is_some() && self.line.is_match(&plain(line))
    }

    /// Whether a block of several lines is worth a closer look.
    pub(super) fn may_match(&self, block: &[u8]) -> bool {
        let Some(pattern) = &self.block else { return true };
        pattern.is_match(block) || memchr::memchr(ESCAPE, block).is_some()
    }
}

/// A line without its CSI sequences (ECMA-48 §5.4).
fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(ESCAPE, line) else { return line.into() };
    let mut plain = line[..first].to_vec();
    let mut rest = &line[first..];
    while let Some((&byte, after)) = rest.split_first() {
        rest = match after.split_first() {
            Some((b'[', parameters)) if byte == ESCAPE => {
                let end = parameters.iter().position(|it| (0x40..=0x7e).contains(it));
                end.map_or(&[][..], |end| &parameters[end + 1..])
            }
            _ => {
                plain.push(byte);
                after
            }
        };
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_hide_nothing() {
        let pattern = Pattern::new("^GET /orders 500$").unwrap();
        assert!(pattern.matches(b"\x1b[32mGET\x1b[0m /orders \x1b[1;31m500\x1b[m"));
        assert!(pattern.may_match(b"x\n\x1b[32mGET\x1b[0m /orders \x1b[1;31m500\x1b[m\ny"));
        assert!(Pattern::new("\\[31m").unwrap().matches(b"\x1b[31mred"));
        assert_eq!(&*plain(b"a\x1b[1mb\x1b"), b"ab\x1b");
        assert_eq!(&*plain(b"a\x1b[1"), b"a");
    }

    proptest! {
        /// What a line has, its block has.
        #[test]
        fn a_block_with_a_line_that_matches_is_never_passed_over(
            lines in prop::collection::vec("[ab\x1b\\[m1]{0,6}", 1..6),
            pattern in prop::sample::select(vec![
                "^a", "b$", "^$", "^ab$", "a.b", "[^a]", "(?i)A", "\\Aa", "a\\z", "\\bab\\b", "(?-u:b)$", "a\\s*b",
            ]),
        ) {
            let pattern = Pattern::new(pattern).unwrap();
            if lines.iter().any(|it| pattern.matches(it.as_bytes())) {
                prop_assert!(pattern.may_match(lines.join("\n").as_bytes()));
            }
        }
    }
}
