//! What the reader makes of a file: checked values, each with its place.
//!
//! A value that was given and wrong is [`Data::Mistaken`]: it has been reported, so nobody asks for it
//! again. [`Layers`] looks a key up in a service first, then in the defaults.

use std::net::SocketAddr;
use std::time::Duration;

use crate::fleet::words::Signal;

use super::mistake::Span;

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) span: Span,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Text, a path, a choice, a pattern.
    Text(String),
    Boolean(bool),
    Integer(i64),
    /// `"unlimited"`.
    Unlimited,
    /// `"auto"`, for a port.
    Auto,
    Duration(Duration),
    Size(u64),
    Signal(Signal),
    Listen(SocketAddr),
    Command(Vec<String>),
    List(Vec<Value>),
    Table(Table),
    Mistaken,
}

/// In file order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) at: Span,
    pub(crate) value: Value,
}

impl Table {
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|it| it.name == name)
    }
}

/// Tables in which a key is looked up, the nearest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers<'a> {
    tables: Vec<&'a Table>,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(tables: impl IntoIterator<Item = &'a Table>) -> Self {
        Self { tables: tables.into_iter().collect() }
    }

    /// The same layers under a nearer one.
    pub(crate) fn below(&self, nearest: &'a Table) -> Self {
        Self::new(std::iter::once(nearest).chain(self.tables.iter().copied()))
    }

    /// Whether `table.key` stands in the nearest layer.
    pub(crate) fn nearest_is_own(&self, table: &str, key: &str) -> bool {
        let nearest = self.tables.first().map(|it| Self::new([*it]));
        nearest.is_some_and(|it| it.inner(table).find(key).is_some())
    }

    /// Whether `key` stands in the nearest layer.
    pub(crate) fn has_own(&self, key: &str) -> bool {
        self.tables.first().is_some_and(|it| it.find(key).is_some())
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'a Entry> {
        self.tables.iter().find_map(|it| it.find(name))
    }

    /// The tables under `name`: what the nearest one leaves out comes from the next.
    pub(crate) fn inner(&self, name: &str) -> Self {
        let tables = self.tables.iter().filter_map(|it| match &it.find(name)?.value.data {
            Data::Table(table) => Some(table),
            _ => None,
        });
        Self::new(tables)
    }

    /// Every entry, the nearest of each name.
    pub(crate) fn entries(&self) -> Vec<&'a Entry> {
        let mut found: Vec<&Entry> = vec![];
        for entry in self.tables.iter().flat_map(|it| &it.entries) {
            if !found.iter().any(|it| it.name == entry.name) {
                found.push(entry);
            }
        }
        found
    }

    pub(crate) fn duration(&self, name: &str) -> Option<(Duration, Span)> {
        let value = &self.find(name)?.value;
        match value.data {
            Data::Duration(duration) => Some((duration, value.span)),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Option<(u32, Span)> {
        let value = &self.find(name)?.value;
        match value.data {
            Data::Integer(integer) => Some((u32::try_from(integer).ok()?, value.span)),
            _ => None,
        }
    }

    pub(crate) fn size(&self, name: &str) -> Option<(u64, Span)> {
        let value = &self.find(name)?.value;
        match value.data {
            Data::Size(bytes) => Some((bytes, value.span)),
            _ => None,
        }
    }

    pub(crate) fn listen(&self, name: &str) -> Option<(SocketAddr, Span)> {
        let value = &self.find(name)?.value;
        match value.data {
            Data::Listen(address) => Some((address, value.span)),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.find(name)?.value.data {
            Data::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<(&'a str, Span)> {
        let value = &self.find(name)?.value;
        match &value.data {
            Data::Text(text) => Some((text, value.span)),
            _ => None,
        }
    }

    pub(crate) fn command(&self, name: &str) -> Option<(&'a [String], Span)> {
        let value = &self.find(name)?.value;
        match &value.data {
            Data::Command(words) => Some((words, value.span)),
            _ => None,
        }
    }

    pub(crate) fn list(&self, name: &str) -> Option<(&'a [Value], Span)> {
        let value = &self.find(name)?.value;
        match &value.data {
            Data::List(values) => Some((values, value.span)),
            _ => None,
        }
    }

    /// The texts of a list, without those that were mistaken.
    pub(crate) fn texts(&self, name: &str) -> Vec<(&'a str, Span)> {
        let values = self.list(name).map(|it| it.0).unwrap_or_default();
        let text = |it: &'a Value| match &it.data {
            Data::Text(text) => Some((text.as_str(), it.span)),
            _ => None,
        };
        values.iter().filter_map(text).collect()
    }
}
