//! Mistakes in configuration files: where, what, why, and what to do.
//!
//! A [`ConfigError`] holds every mistake of every file that was read, with the text to point into.
//! Values of environment variables and of header fields never reach a rendering: the text is masked
//! before anything is drawn from it.

use std::fmt;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// More than these are counted, not drawn: a file of another program has thousands.
const DRAWN: usize = 200;

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    /// Index into the list of files.
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Something wrong: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) title: String,
    pub(crate) span: Span,
    /// At the caret.
    pub(crate) label: String,
    /// Other places that have to do with it.
    pub(crate) also: Vec<(Span, String)>,
    pub(crate) help: Option<String>,
    pub(crate) sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A value or a key is wrong.
    Wrong,
    /// Something is not there at all, which a syntax mistake in the same file would explain.
    Absent,
    /// The text is not TOML.
    Syntax,
    /// The file cannot be read: there is no text to point into.
    File,
}

impl Mistake {
    pub(crate) fn new(span: Span, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span,
            label: label.into(),
            also: vec![],
            help: None,
            sort: Sort::Wrong,
        }
    }

    /// About a whole file: it cannot be read.
    pub(crate) fn of_file(file: usize, title: impl Into<String>) -> Self {
        let span = Span { file, start: 0, end: 0 };
        Self { sort: Sort::File, ..Self::new(span, title, "") }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    pub(crate) fn syntax(mut self) -> Self {
        self.sort = Sort::Syntax;
        self
    }

    pub(crate) fn absent(mut self) -> Self {
        self.sort = Sort::Absent;
        self
    }
}

/// Every mistake of all files. Its `Display` is one line; [`ConfigError::render`] draws all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    files: Vec<Source>,
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// Sorts the mistakes by place and masks `secrets` in the texts.
    pub(crate) fn new(
        mut files: Vec<Source>,
        mut mistakes: Vec<Mistake>,
        secrets: &[Span],
    ) -> Self {
        mistakes.sort_by(|one, two| (one.span, &one.title).cmp(&(two.span, &two.title)));
        mistakes.dedup();
        for span in secrets {
            mask(&mut files[span.file].text, span.start, span.end);
        }
        for file in &mut files {
            mask_assignments(&mut file.text);
        }
        Self { files, mistakes }
    }

    /// How many mistakes there are; never zero.
    pub fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// The files that were read, also those without a mistake: what to watch until it is mended.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|it| it.path.as_path())
    }

    /// Draws the mistakes the way rustc draws its errors.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let groups: Vec<String> = self
            .mistakes
            .iter()
            .take(DRAWN)
            .map(|mistake| renderer.render(&[self.group(mistake)]))
            .collect();
        let more = self.mistakes.len().saturating_sub(DRAWN);
        let more = (more > 0).then(|| format!("… and {more} more mistakes"));
        groups.into_iter().chain(more).collect::<Vec<_>>().join("\n\n")
    }

    /// `config.toml:12: unknown key `comand``, a line for each mistake.
    pub fn first_lines(&self) -> Vec<String> {
        let line = |mistake: &Mistake| {
            let file = &self.files[mistake.span.file];
            let path = file.path.display();
            if mistake.sort == Sort::File {
                return mistake.title.clone();
            }
            let before = &file.text.as_bytes()[..mistake.span.start.min(file.text.len())];
            let number = before.iter().filter(|it| **it == b'\n').count() + 1;
            format!("{path}:{number}: {}", mistake.title)
        };
        self.mistakes.iter().take(DRAWN).map(line).collect()
    }

    fn group<'a>(&'a self, mistake: &'a Mistake) -> Group<'a> {
        let title = Level::ERROR.primary_title(&mistake.title);
        let mut group = if mistake.sort == Sort::File {
            Group::with_title(title)
        } else {
            let mut snippet = self.snippet(mistake.span.file).annotation(
                AnnotationKind::Primary.span(self.range(mistake.span)).label(&mistake.label),
            );
            for (span, label) in mistake.also.iter().filter(|it| it.0.file == mistake.span.file) {
                let range = self.range(*span);
                snippet = snippet.annotation(AnnotationKind::Context.span(range).label(label));
            }
            title.element(snippet)
        };
        for (span, label) in mistake.also.iter().filter(|it| it.0.file != mistake.span.file) {
            let annotation = AnnotationKind::Context.span(self.range(*span)).label(label);
            group = group.element(self.snippet(span.file).annotation(annotation));
        }
        match &mistake.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }

    fn snippet<'a, T: Clone>(&'a self, file: usize) -> Snippet<'a, T> {
        let file = &self.files[file];
        Snippet::source(&file.text).path(file.path.to_string_lossy())
    }

    /// Only its first line is marked: a table of forty lines says no more than its header.
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let text = &self.files[span.file].text;
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end.max(start));
        let line = text[start..end].find('\n').map_or(end, |at| start + at.max(1));
        start..text.ceil_char_boundary(line)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first_lines().into_iter().next().unwrap_or_default();
        match self.mistakes.len() {
            0 | 1 => f.write_str(&first),
            more => write!(f, "{first} (and {} more)", more - 1),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Replaces what stands between two places by stars of the same width. Quotes, blanks, line ends and
/// `{names}` stay: they are what mistakes are about, and no secret.
fn mask(text: &mut String, start: usize, end: usize) {
    let (start, end) = (text.floor_char_boundary(start), text.ceil_char_boundary(end));
    let mut masked = String::with_capacity(end - start);
    let mut rest = &text[start..end];
    while let Some(it) = rest.chars().next() {
        let name = rest.strip_prefix('{').and_then(|after| after.split_once('}'));
        if let Some((name, _)) = name.filter(|(name, _)| super::settings::is_name(name)) {
            masked += &rest[..name.len() + 2];
            rest = &rest[name.len() + 2..];
            continue;
        }
        match it {
            '"' | '\'' | '\n' | '\r' | ' ' => masked.push(it),
            _ => masked.extend(std::iter::repeat_n('*', it.len_utf8())),
        }
        rest = &rest[it.len_utf8()..];
    }
    text.replace_range(start..end, &masked);
}

/// Masks values such as that of `DB_PASSWORD = "…`, which a syntax mistake keeps from being read.
fn mask_assignments(text: &mut String) {
    let mut spans = vec![];
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut at = 0;
        while let Some(equals) = line[at..].find('=').map(|it| at + it) {
            let name = line[at..equals].trim_end().trim_end_matches(['"', '\'']);
            let letter = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
            let name = &name[name.trim_end_matches(letter).len()..];
            at = equals + 1;
            if is_secret_name(name) {
                let end = end_of_value(line, at);
                spans.push((start + at, start + end));
                at = end;
            }
        }
        start += line.len();
    }
    for (start, end) in spans {
        mask(text, start, end);
    }
}

/// Where the value that begins after `at` ends: its closing quote, else the next comma or blank.
fn end_of_value(line: &str, at: usize) -> usize {
    let blanks = line[at..].len() - line[at..].trim_start_matches([' ', '\t']).len();
    let value = at + blanks;
    let rest = &line[value..];
    let inner = |quote: char| rest[1..].find(quote).map_or(line.len(), |it| value + it + 2);
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) if rest.len() > 1 => inner(quote),
        _ => rest.find([',', ' ', '\t', '\n', '}']).map_or(line.len(), |it| value + it),
    }
}

/// A variable or a header field whose value nobody should read over a shoulder.
pub(crate) fn is_secret_name(name: &str) -> bool {
    const PARTS: [&str; 12] = [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "DSN",
        "AUTH",
        "COOKIE",
        "PRIVATE",
        "SALT",
        "SIGNATURE",
    ];
    const WORDS: [&str; 5] = ["KEY", "PASS", "PWD", "PIN", "APIKEY"];
    let upper = name.to_ascii_uppercase();
    PARTS.iter().any(|it| upper.contains(it))
        || upper.split(['_', '-', '.']).any(|word| WORDS.contains(&word))
        || (upper.split(['_', '-']).any(|it| it == "URL" || it == "URI")
            && ["DATABASE", "DB", "REDIS", "MONGO", "AMQP"].iter().any(|it| upper.contains(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_secret_are_told_from_others() {
        for name in
            ["DB_PASSWORD", "APP_KEY", "api-key", "SENTRY_DSN", "Authorization", "REDIS_URL"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["APP_PORT", "KEYBOARD", "PATH", "APP_URL", "LANG", "MONKEY"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_masked_text_keeps_its_shape_and_its_names() {
        let mut text = "x = \"gehéim {port}\"\ny = 1".to_owned();
        mask(&mut text, 4, 20);
        assert_eq!(text, "x = \"******* {port}\"\ny = 1");
    }
}
