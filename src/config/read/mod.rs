//! From TOML to checked values, along the table of keys in `shape/`.
//!
//! Each value is checked for itself here: its type, its range, its words. What it means beside other
//! values is `resolve/`'s business. Nothing stops at the first mistake.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Span, is_secret_name};
use super::secret::veiled;
use super::shape::{Key, Kind, Naming, ROOT};
use super::value::{Data, Entry, Table, Value};
use crate::nearest::nearest;
use words::{bad_name, known_names, unknown_key};

mod leaf;
mod syntax;
mod words;

pub(crate) use words::{not_in_this_version, suggestion};

/// What came of one file.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) root: Table,
    pub(crate) mistakes: Vec<Mistake>,
    /// Places whose text is never shown.
    pub(crate) secrets: Vec<Span>,
}

/// Reads one text. `directory` is where its relative paths begin.
pub(crate) fn read(file: usize, directory: &Path, text: &str) -> Read {
    read_as(ROOT, file, directory, text)
}

/// As [`read`], of a file that has these keys.
pub(crate) fn read_as(keys: &[Key], file: usize, directory: &Path, text: &str) -> Read {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, directory, out: Read::default() };
    let root = reader.table(keys, document.get_ref());
    let mut out = reader.out;
    out.root = root;
    let mut syntax: Vec<Mistake> =
        errors.iter().map(|it| syntax::mistake(file, text, it)).collect();
    for at in syntax.iter().map(|it| it.span.start).collect::<Vec<_>>() {
        let torn = syntax::torn_by(text, at);
        out.mistakes.retain(|it| !torn.contains(&it.span.start));
        syntax.retain(|it| it.span.start <= at || !torn.contains(&it.span.start));
    }
    out.mistakes.extend(syntax);
    out
}

struct Reader<'t> {
    file: usize,
    directory: &'t Path,
    out: Read,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { file: self.file, start: range.start, end: range.end }
    }

    fn report(&mut self, mistake: Mistake) {
        self.out.mistakes.push(mistake);
    }

    fn table(&mut self, keys: &[Key], table: &DeTable<'_>) -> Table {
        let mut entries = Vec::with_capacity(table.len());
        for (name, item) in in_file_order(table) {
            let at = self.span(name.span());
            let text: &str = name.get_ref();
            let Some(key) = keys.iter().find(|it| it.name == text) else {
                self.report(unknown_key(text, at, keys));
                // The key that was meant is there, so nothing says that it is missing.
                let meant = nearest(text, known_names(keys));
                let meant = meant.filter(|it| !table.keys().any(|key| key.get_ref() == it));
                let value = Value { span: at, data: Data::Mistaken };
                entries.extend(meant.map(|it| Entry { name: it.to_owned(), at, value }));
                continue;
            };
            if let Kind::Later(what) = key.kind {
                self.report(not_in_this_version(text, at, what));
                entries.push(Entry {
                    name: text.to_owned(),
                    at,
                    value: Value { span: at, data: Data::Mistaken },
                });
                continue;
            }
            let value = self.value(&key.kind, text, item);
            entries.push(Entry { name: text.to_owned(), at, value });
        }
        Table { entries }
    }

    fn value(&mut self, kind: &Kind, name: &str, item: &Spanned<DeValue<'_>>) -> Value {
        let span = self.span(item.span());
        let read = match kind {
            Kind::Table(keys) => {
                self.as_table(name, item).map(|it| Data::Table(self.table(keys, it)))
            }
            Kind::Either(short, keys) => match (item.get_ref(), short) {
                (DeValue::Table(table), _) => Some(Data::Table(self.table(keys, table))),
                (DeValue::String(word), Kind::Choice(words)) => {
                    self.choice(words, keys, name, word.to_string(), span)
                }
                _ => return self.value(short, name, item),
            },
            Kind::Named(kind, naming) => self.named(kind, *naming, name, item),
            Kind::List(kind) => self.list(kind, name, item),
            Kind::OneOrMore(kind) => Some(self.one_or_more(kind, name, item)),
            Kind::Command => self.command(name, item),
            Kind::Boolean => self.boolean(name, item),
            Kind::Integer { min, max } => self.integer(name, item, *min, *max).map(Data::Integer),
            Kind::Port => self.port(name, item),
            Kind::Retries => self.retries(name, item),
            Kind::Status | Kind::Loose => self.loose(kind, name, item),
            Kind::Duration { .. }
            | Kind::Size { .. }
            | Kind::Signal
            | Kind::AnySignal
            | Kind::Listen => self.scalar(kind, name, item),
            Kind::Url => {
                if item.get_ref().as_str().is_some_and(|it| veiled("", it) != it) {
                    self.out.secrets.push(span);
                }
                self.words(kind, name, item)
            }
            Kind::Text | Kind::Path | Kind::Choice(_) | Kind::Profile | Kind::Pattern => {
                self.words(kind, name, item)
            }
            Kind::Later(what) => {
                self.report(not_in_this_version(name, span, what));
                None
            }
        };
        Value { span, data: read.unwrap_or(Data::Mistaken) }
    }

    /// Reports that `name` must be something else, and says what it is.
    fn wrong_type<T>(
        &mut self,
        name: &str,
        item: &Spanned<DeValue<'_>>,
        wants: &str,
        help: &str,
    ) -> Option<T> {
        let span = self.span(item.span());
        let label = format!("this is {}", type_of(item.get_ref()));
        let mistake = Mistake::new(span, format!("`{name}` must be {wants}"), label);
        self.report(if help.is_empty() { mistake } else { mistake.help(help) });
        None
    }

    fn as_table<'i, 'a>(
        &mut self,
        name: &str,
        item: &'a Spanned<DeValue<'i>>,
    ) -> Option<&'a DeTable<'i>> {
        match item.get_ref() {
            DeValue::Table(table) => Some(table),
            DeValue::Array(_) if name == "service" => {
                self.wrong_type(name, item, "a table", "write [service.NAME] for each service")
            }
            _ => self.wrong_type(name, item, "a table", &format!("write {name} = {{ … }}")),
        }
    }

    fn named(
        &mut self,
        kind: &Kind,
        naming: Naming,
        name: &str,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Data> {
        let table = self.as_table(name, item)?;
        let mut entries = Vec::with_capacity(table.len());
        for (key, item) in in_file_order(table) {
            let at = self.span(key.span());
            let text: &str = key.get_ref();
            if let Some(mistake) = bad_name(naming, text, at) {
                self.report(mistake);
                continue;
            }
            let value = self.value(kind, text, item);
            if matches!(naming, Naming::Variable)
                || (naming == Naming::Field && is_secret_name(text))
            {
                self.out.secrets.push(value.span);
            }
            if naming == Naming::Field
                && matches!(&value.data, Data::Text(it) if it.contains(['\r', '\n']))
            {
                let title = format!("`{text}` has a line end in its value");
                self.report(
                    Mistake::new(value.span, title, "a header field is one line")
                        .help("remove the line end"),
                );
            }
            entries.push(Entry { name: text.to_owned(), at, value });
        }
        Some(Data::Table(Table { entries }))
    }

    fn list(&mut self, kind: &Kind, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Data> {
        let DeValue::Array(array) = item.get_ref() else {
            return self.wrong_type(name, item, "a list", &format!("write {name} = [ … ]"));
        };
        Some(Data::List(array.iter().map(|it| self.value(kind, name, it)).collect()))
    }

    fn one_or_more(&mut self, kind: &Kind, name: &str, item: &Spanned<DeValue<'_>>) -> Data {
        match item.get_ref() {
            DeValue::Array(array) => {
                Data::List(array.iter().map(|it| self.value(kind, name, it)).collect())
            }
            _ => Data::List(vec![self.value(kind, name, item)]),
        }
    }
}

/// The map is sorted by name; people think in the order of their file.
fn in_file_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
