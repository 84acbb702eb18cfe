//! Single values: text, numbers, and text that means something.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::Reader;
use super::words::{not_in_this_version, suggestion};
use crate::config::address;
use crate::config::command_line::split_command;
use crate::config::mistake::{Mistake, Span};
use crate::config::placeholder;
use crate::config::shape::{Choice, Key, Kind};
use crate::config::value::Data;
use crate::fleet::words::Signal;
use crate::quantity::{self, Wrong};

const SIGNAL_HELP: &str = "write it as \"SIGTERM\", \"TERM\" or \"15\"";

impl Reader<'_> {
    pub(super) fn command(&mut self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Data> {
        let span = self.span(item.span());
        let read = match item.get_ref() {
            DeValue::String(text) => split_command(text),
            DeValue::Array(array) => {
                let words: Option<Vec<String>> =
                    array.iter().map(|it| it.get_ref().as_str().map(str::to_owned)).collect();
                match words {
                    None => {
                        return self.wrong_type(
                            name,
                            item,
                            "text or a list of words",
                            "put every word into quotes",
                        );
                    }
                    Some(words) if words.first().is_none_or(String::is_empty) => {
                        Err(Wrong::new("this is empty", "name the program and its arguments"))
                    }
                    Some(words) => Ok(words),
                }
            }
            _ => {
                return self.wrong_type(
                    name,
                    item,
                    "text or a list of words",
                    "write the program and its arguments in quotes",
                );
            }
        };
        let read = read.and_then(|words| match words.iter().any(|it| it.contains('\0')) {
            true => Err(Wrong::new("a NUL byte cannot be part of an argument", "remove it")),
            false => Ok(words),
        });
        self.or_report(read, span, format!("`{name}` cannot be run")).map(Data::Command)
    }

    fn or_report<T>(&mut self, read: Result<T, Wrong>, span: Span, title: String) -> Option<T> {
        read.map_err(|wrong| {
            let mut mistake = Mistake::new(span, title, wrong.label);
            mistake.help = wrong.help;
            self.report(mistake);
        })
        .ok()
    }

    pub(super) fn boolean(&mut self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Data> {
        match item.get_ref() {
            DeValue::Boolean(it) => Some(Data::Boolean(*it)),
            _ => {
                self.wrong_type(name, item, "true or false", "write true or false, without quotes")
            }
        }
    }

    pub(super) fn integer(
        &mut self,
        name: &str,
        item: &Spanned<DeValue<'_>>,
        min: i64,
        max: i64,
    ) -> Option<i64> {
        let DeValue::Integer(integer) = item.get_ref() else {
            return self.wrong_type(
                name,
                item,
                "a whole number",
                "write it without quotes and unit",
            );
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) = number.filter(|it| (min..=max).contains(it)) {
            return Some(number);
        }
        let span = self.span(item.span());
        let label = if number.is_some_and(|it| it < min) { "too small" } else { "too large" };
        let title = format!("`{name}` must be between {min} and {max}");
        let help = match (number, min, max) {
            (Some(number), ..) if number < min => format!("the least is {min}"),
            _ => format!("the most is {max}"),
        };
        self.report(Mistake::new(span, title, label).help(help));
        None
    }

    pub(super) fn port(&mut self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Data> {
        match item.get_ref() {
            DeValue::String(text) if text == "auto" => Some(Data::Auto),
            DeValue::String(text) if text.parse::<u16>().is_ok() => {
                self.wrong_type(name, item, "a number", "write it without quotes")
            }
            _ => self.integer(name, item, 1, 65_535).map(Data::Integer),
        }
    }

    pub(super) fn retries(&mut self, name: &str, item: &Spanned<DeValue<'_>>) -> Option<Data> {
        match item.get_ref() {
            DeValue::String(text) if text == "unlimited" => Some(Data::Unlimited),
            DeValue::Integer(_) => self.integer(name, item, 0, 1_000_000).map(Data::Integer),
            _ => self.wrong_type(
                name,
                item,
                "a whole number or \"unlimited\"",
                "write a number without quotes, or \"unlimited\"",
            ),
        }
    }

    /// Text that may also be written as a number or a boolean.
    pub(super) fn loose(
        &mut self,
        kind: &Kind,
        name: &str,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Data> {
        let text = match item.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Boolean(it) if matches!(kind, Kind::Loose) => it.to_string(),
            _ => return self.wrong_type(name, item, "text", "put it into quotes"),
        };
        let span = self.span(item.span());
        if matches!(kind, Kind::Status) && !is_status(&text) {
            let mistake =
                Mistake::new(span, format!("`{name}` must be a status of HTTP"), "not a status");
            self.report(mistake.help("write it as 200, \"2xx\" or \"200-204\""));
            return None;
        }
        self.without_nul(name, text, span).map(Data::Text)
    }

    /// What is written in quotes because it has a unit or a name.
    pub(super) fn scalar(
        &mut self,
        kind: &Kind,
        name: &str,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Data> {
        let span = self.span(item.span());
        let (wants, help) = match kind {
            Kind::Duration { .. } => ("a duration", quantity::DURATION_HELP),
            Kind::Size { .. } => ("a size", quantity::SIZE_HELP),
            Kind::Listen => ("an address and a port", address::HELP),
            _ => ("a signal", SIGNAL_HELP),
        };
        let text = match item.get_ref() {
            DeValue::String(text) => text.to_string(),
            // The number alone reads as a duration or a size without its unit, which is what to say.
            DeValue::Integer(number) => number.to_string(),
            _ => return self.wrong_type(name, item, wants, help),
        };
        let read = match kind {
            Kind::Duration { min } => {
                quantity::read_duration(&text).and_then(|it| at_least(it, *min)).map(Data::Duration)
            }
            Kind::Size { min } => quantity::read_size(&text).and_then(|it| match it >= *min {
                true => Ok(Data::Size(it)),
                false => Err(Wrong::new(
                    "too small",
                    format!("make it at least {}", quantity::format_size(*min)),
                )),
            }),
            Kind::Listen => address::read_listen(&text).map(Data::Listen),
            Kind::AnySignal => parse_signal(&text).map(Data::Signal),
            _ => read_signal(&text).map(Data::Signal),
        };
        self.or_report(read, span, format!("`{name}` must be {wants}"))
    }

    pub(super) fn words(
        &mut self,
        kind: &Kind,
        name: &str,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Data> {
        let span = self.span(item.span());
        let Some(text) = item.get_ref().as_str() else {
            let help = if matches!(kind, Kind::Choice(_)) {
                "put the word into quotes"
            } else {
                "put it into quotes"
            };
            return self.wrong_type(name, item, "text", help);
        };
        let text = self.without_nul(name, text.to_owned(), span)?;
        if text.is_empty() {
            self.report(
                Mistake::new(span, format!("`{name}` must not be empty"), "this is empty")
                    .help("remove the key for its default"),
            );
            return None;
        }
        let read = match kind {
            Kind::Choice(words) => return self.choice(words, &[], name, text, span),
            Kind::Pattern => read_pattern(&text).map(|()| text),
            Kind::Path => read_path(self.directory, &text),
            _ => Ok(text),
        };
        let title = if matches!(kind, Kind::Path) {
            "is not a path"
        } else {
            "is not a regular expression"
        };
        self.or_report(read, span, format!("`{name}` {title}")).map(Data::Text)
    }

    /// One of these words; `keys`: where a table may stand in their place, those of that.
    pub(super) fn choice(
        &mut self,
        words: &[Choice],
        keys: &[Key],
        name: &str,
        text: String,
        span: Span,
    ) -> Option<Data> {
        let later = words.iter().find_map(|it| match it {
            Choice::Later(word, what) if *word == text => Some(*what),
            _ => None,
        });
        if let Some(what) = later {
            self.report(not_in_this_version(&format!("{name} = \"{text}\""), span, what));
            return None;
        }
        let known: Vec<&str> = words
            .iter()
            .filter_map(|it| match it {
                Choice::Word(word) => Some(*word),
                Choice::Later(..) => None,
            })
            .collect();
        if known.contains(&text.as_str()) {
            return Some(Data::Text(text));
        }
        let mistake =
            Mistake::new(span, format!("`{name}` cannot be \"{text}\""), "not one of its words");
        let tables: Vec<String> = keys.iter().map(|it| format!("{{ {} = … }}", it.name)).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let all = [known, tables].concat();
        self.report(mistake.help(suggestion(&text, &all, "it is one of")));
        None
    }

    fn without_nul(&mut self, name: &str, text: String, span: Span) -> Option<String> {
        if !text.contains('\0') {
            return Some(text);
        }
        let title = format!("`{name}` has a NUL byte in it");
        self.report(
            Mistake::new(span, title, "no program could be given this").help("remove the \\u0000"),
        );
        None
    }
}

fn at_least(duration: Duration, min: u64) -> Result<Duration, Wrong> {
    let min = Duration::from_millis(min);
    if duration >= min {
        return Ok(duration);
    }
    Err(Wrong::new("too short", format!("make it at least {}", quantity::format_duration(min))))
}

fn parse_signal(text: &str) -> Result<Signal, Wrong> {
    Signal::parse(text).ok_or_else(|| Wrong::new("not a signal of Linux", SIGNAL_HELP))
}

/// One of a stop.
fn read_signal(text: &str) -> Result<Signal, Wrong> {
    let signal = parse_signal(text)?;
    if [Signal::STOP, Signal(20), Signal(21), Signal(22)].contains(&signal) {
        return Err(Wrong::new(
            "this signal freezes a process",
            "use one that ends it, such as SIGTERM",
        ));
    }
    Ok(signal)
}

/// `200`, `2xx`, `200-204`.
fn is_status(text: &str) -> bool {
    let code =
        |it: &str| it.parse::<u16>().ok().filter(|n| it.len() == 3 && (100..=599).contains(n));
    if let Some((from, to)) = text.split_once('-') {
        return code(from).zip(code(to)).is_some_and(|(from, to)| from <= to);
    }
    let class = text.strip_suffix("xx").is_some_and(|it| matches!(it, "1" | "2" | "3" | "4" | "5"));
    class || code(text).is_some()
}

/// A pattern may hold `{names}`, which become text before it is used.
fn read_pattern(text: &str) -> Result<(), Wrong> {
    let pattern = placeholder::replace_all(text, "x");
    regex::Regex::new(&pattern).map(drop).map_err(|err| {
        let why = err.to_string();
        let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        Wrong::new(why, "`{name}` stands for a value of --set; write `{{` and `}}` for braces around a name, as in \\p{{Greek}}")
    })
}

fn read_path(directory: &Path, text: &str) -> Result<String, Wrong> {
    if text == "~" || text.starts_with("~/") {
        return Err(Wrong::new("`~` is not expanded: there is no shell", "write the whole path"));
    }
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(text.to_owned());
    }
    let inner = path.components().filter(|it| *it != Component::CurDir);
    let path = directory.components().chain(inner).collect::<PathBuf>();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
    Ok(path.to_string_lossy().into_owned())
}
