//! How values stand in TOML.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::command_line::join_command;
use crate::config::secret::veiled;
use crate::config::settings::Text;
use crate::quantity::format_duration;

/// Lines of a file.
#[derive(Default)]
pub(super) struct Toml {
    pub(super) text: String,
}

impl Toml {
    pub(super) fn comment(&mut self, comment: &str) {
        self.text.extend(["# ", comment, "\n"]);
    }

    pub(super) fn table(&mut self, name: &str) {
        self.text.extend(["\n[", name, "]\n"]);
    }

    pub(super) fn key(&mut self, name: &str, value: impl AsRef<str>) {
        self.text.extend([name, " = ", value.as_ref(), "\n"]);
    }

    /// A key, or a comment that says what its absence means.
    pub(super) fn key_or(&mut self, name: &str, value: Option<String>, otherwise: &str) {
        match value {
            Some(value) => self.key(name, value),
            None => self.comment(&format!("{name}: {otherwise}")),
        }
    }
}

pub(super) fn command<'a>(words: impl Iterator<Item = &'a Text>) -> String {
    text(&join_command(words.map(|it| it.0.as_str())))
}

pub(super) fn masked<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let value = |(key, value): (&str, &str)| (name(key), text(&veiled(key, value)));
    let values: BTreeMap<String, String> = values.map(value).collect();
    inline(values.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

pub(super) fn inline<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let values: Vec<String> =
        values.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if values.is_empty() { "{}".into() } else { format!("{{ {} }}", values.join(", ")) }
}

pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

pub(super) fn duration(duration: Duration) -> String {
    text(&format_duration(duration))
}

/// Paths are UTF-8: they come from a TOML file.
pub(super) fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// A key, in quotes where it needs them.
pub(crate) fn name(text: &str) -> String {
    let bare = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { self::text(text) }
}

/// A string of TOML.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            it if it.is_control() => out.extend(["\\u", &format!("{:04X}", u32::from(it))]),
            it => out.push(it),
        }
    }
    out.push('"');
    out
}
