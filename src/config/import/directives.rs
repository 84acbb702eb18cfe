//! The grammar of nginx's configuration files: directives of words, each ended by `;` or with a block.
//!
//! Knows no directive. What cannot be read is a mistake with its place.

use crate::config::mistake::{Mistake, Span};

/// One directive, and what is inside its block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directive {
    pub words: Vec<String>,
    pub at: Place,
    pub block: Vec<Self>,
}

/// Bytes of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub start: usize,
    pub end: usize,
}

impl Place {
    pub(super) fn span(self) -> Span {
        Span { file: 0, start: self.start, end: self.end }
    }
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// This one and everything inside it.
    pub(super) fn walk<'a>(&'a self, found: &mut Vec<&'a Self>) {
        found.push(self);
        self.block.iter().for_each(|it| it.walk(found));
    }
}

/// Blocks in blocks beyond this are no configuration.
const DEEPEST: usize = 64;

/// Reads a whole file.
pub(super) fn read(text: &str) -> Result<Vec<Directive>, Box<Mistake>> {
    let mut open: Vec<Directive> = vec![];
    let mut current = Directive::default();
    let mut done = vec![];
    let mut at = 0;
    while let Some(token) = token(text, &mut at)? {
        let place = Place { start: token.start, end: at };
        match token.kind {
            Kind::Word(word) => {
                if current.words.is_empty() {
                    current.at = place;
                }
                current.at.end = place.end;
                current.words.push(word);
            }
            Kind::End if current.words.is_empty() => {
                return Err(mistake(place, "this `;` ends nothing", "remove it"));
            }
            Kind::End => keep(std::mem::take(&mut current), &mut open, &mut done),
            Kind::Open if current.words.is_empty() => {
                return Err(mistake(place, "this block has no name", "write a name before it"));
            }
            Kind::Open if open.len() == DEEPEST => {
                return Err(mistake(place, "blocks are nested too deeply", "is this of nginx?"));
            }
            Kind::Open => open.push(std::mem::take(&mut current)),
            Kind::Close if !current.words.is_empty() => {
                let title = format!("`{}` is not ended", current.name());
                return Err(mistake(current.at, title, "add a `;`"));
            }
            Kind::Close => match open.pop() {
                Some(block) => keep(block, &mut open, &mut done),
                None => return Err(mistake(place, "this `}` closes nothing", "remove it")),
            },
        }
    }
    let unfinished = Some(current).filter(|it| !it.words.is_empty()).or_else(|| open.pop());
    match unfinished {
        Some(it) => {
            Err(mistake(it.at, format!("`{}` is not ended", it.name()), "add a `;` or a `}`"))
        }
        None => Ok(done),
    }
}

fn keep(directive: Directive, open: &mut [Directive], done: &mut Vec<Directive>) {
    match open.last_mut() {
        Some(block) => block.block.push(directive),
        None => done.push(directive),
    }
}

fn mistake(at: Place, title: impl Into<String>, help: &str) -> Box<Mistake> {
    Box::new(Mistake::new(at.span(), title, "here").help(help))
}

enum Kind {
    Word(String),
    End,
    Open,
    Close,
}

struct Token {
    kind: Kind,
    start: usize,
}

/// The next token; `at` is moved behind it.
fn token(text: &str, at: &mut usize) -> Result<Option<Token>, Box<Mistake>> {
    loop {
        let rest = &text[*at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let start = *at;
        *at += first.len_utf8();
        let kind = match first {
            it if it.is_whitespace() => continue,
            '#' => {
                *at = text[start..].find('\n').map_or(text.len(), |it| start + it);
                continue;
            }
            ';' => Kind::End,
            '{' => Kind::Open,
            '}' => Kind::Close,
            '"' | '\'' => Kind::Word(quoted(text, first, start, at)?),
            _ => Kind::Word(bare(text, start, at)),
        };
        return Ok(Some(Token { kind, start }));
    }
}

fn quoted(text: &str, quote: char, start: usize, at: &mut usize) -> Result<String, Box<Mistake>> {
    let mut word = String::new();
    let mut chars = text[*at..].char_indices();
    while let Some((offset, it)) = chars.next() {
        match it {
            '\\' => word.extend(chars.next().map(|it| it.1)),
            it if it == quote => {
                *at += offset + it.len_utf8();
                return Ok(word);
            }
            it => word.push(it),
        }
    }
    let place = Place { start, end: start + 1 };
    Err(mistake(place, "this quote is never closed", "close it"))
}

/// A word without quotes; `${name}` is part of it.
fn bare(text: &str, start: usize, at: &mut usize) -> String {
    let mut word = String::new();
    let mut chars = text[start..].char_indices();
    *at = text.len();
    while let Some((offset, it)) = chars.next() {
        match it {
            '\\' => word.extend(chars.next().map(|it| it.1)),
            '{' if word.ends_with('$') => {
                word.push(it);
                word.extend(chars.by_ref().map(|it| it.1).take_while(|it| *it != '}'));
                word.push('}');
            }
            ';' | '{' | '}' => {
                *at = start + offset;
                break;
            }
            it if it.is_whitespace() => {
                *at = start + offset;
                break;
            }
            it => word.push(it),
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        fn one(it: &Directive) -> String {
            let block: Vec<_> = it.block.iter().map(one).collect();
            let block = if it.block.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", block.join(" "))
            };
            format!("{}{block}", it.words.join("|"))
        }
        match read(text) {
            Ok(all) => all.iter().map(one).collect::<Vec<_>>().join(" "),
            Err(it) => format!("{} at {}", it.title, it.span.start),
        }
    }

    #[test]
    fn words_quotes_comments_and_blocks() {
        let text = "user www; # a comment; {\nhttp { log 'a \"b\" \\'c' \"d;e\"; set $a ${b}c;\n upstream x{server 1;} }";
        assert_eq!(
            shape(text),
            "user|www http{log|a \"b\" 'c|d;e set|$a|${b}c upstream|x{server|1}}"
        );
        assert_eq!(shape(" \n# nothing"), "");
        assert_eq!(shape("a \\;b;"), "a|;b");
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        assert_eq!(shape("a b"), "`a` is not ended at 0");
        assert_eq!(shape("x; http { a; "), "`http` is not ended at 3");
        assert_eq!(shape("http { a }"), "`a` is not ended at 7");
        assert_eq!(shape("a; }"), "this `}` closes nothing at 3");
        assert_eq!(shape("{ }"), "this block has no name at 0");
        assert_eq!(shape(";"), "this `;` ends nothing at 0");
        assert_eq!(shape("a 'b;"), "this quote is never closed at 2");
        assert_eq!(
            shape(&"a {".repeat(100)),
            format!("blocks are nested too deeply at {}", 64 * 3 + 2)
        );
    }
}
