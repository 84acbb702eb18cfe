//! `{names}` in texts.
//!
//! `{instance}`, `{port}` and `{service}` are known while loading and are put in here. Other names are
//! values of `opsdeck roll --set`: they stay in commands, environment and `expect`, and are a
//! mistake elsewhere. `{{` and `}}` are braces, and stay as they are until the last expansion.

use std::collections::{BTreeMap, BTreeSet};

use super::read;
use super::settings::{Service, Text, is_name};
use crate::nearest::nearest;
use crate::probe::Check;

/// Names that have a value by themselves.
pub(crate) const BUILT_IN: [&str; 3] = ["instance", "port", "service"];

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Stays as it is, `{{` and `}}` included.
    Plain(&'a str),
    Name(&'a str),
}

/// Cuts a text into what stays and names.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = vec![];
    let (mut plain, mut at) = (0, 0);
    while let Some(brace) = text[at..].find(['{', '}']) {
        let brace = at + brace;
        let (this, after) = (&text[brace..=brace], &text[brace + 1..]);
        if after.starts_with(this) {
            at = brace + 2;
            continue;
        }
        at = brace + 1;
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
        if let Some(name) = name.filter(|_| this == "{") {
            pieces.push(Piece::Plain(&text[plain..brace]));
            pieces.push(Piece::Name(name));
            at += name.len() + 1;
            plain = at;
        }
    }
    pieces.push(Piece::Plain(&text[plain..]));
    pieces.retain(|it| *it != Piece::Plain(""));
    pieces
}

/// The names in a text, in order.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|it| match it {
        Piece::Name(name) => Some(name),
        Piece::Plain(_) => None,
    })
}

/// The text with these names put in; others, and doubled braces, stay as they are.
pub(crate) fn put_in(text: &str, values: &BTreeMap<String, String>) -> String {
    let piece = |it| match it {
        Piece::Plain(text) => text.to_owned(),
        Piece::Name(name) => values.get(name).cloned().unwrap_or_else(|| format!("{{{name}}}")),
    };
    pieces(text).into_iter().map(piece).collect()
}

/// The text with every name replaced and every doubled brace single.
pub(crate) fn replace_all(text: &str, with: &str) -> String {
    if !text.contains(['{', '}']) {
        return text.to_owned();
    }
    let piece = |it| match it {
        Piece::Plain(text) => unescape(text),
        Piece::Name(_) => with.to_owned(),
    };
    pieces(text).into_iter().map(piece).collect()
}

/// `{{` and `}}` as single braces.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("{{", "{").replace("}}", "}")
}

/// The built-in name that was probably meant.
pub(crate) fn nearest_built_in(name: &str) -> Option<&'static str> {
    nearest(name, BUILT_IN)
}

/// The name that was probably meant, else all of them.
pub(crate) fn suggestion(name: &str, names: &[&str]) -> String {
    read::suggestion(name, names, "the names here are")
}

/// The names of `--set` that a service uses: in what it runs, in its environment, in what it expects.
pub(crate) fn names_of_set(service: &Service) -> BTreeSet<String> {
    let written = &service.written;
    let commands = service.build.iter().chain(&service.rollback).flat_map(|it| &it.argv);
    let own = service.instances.iter().flat_map(|it| it.launch.environment.values());
    let texts = written.command.iter().chain(&written.stop_command).chain(commands);
    let texts = texts.chain(written.environment.values()).chain(own).map(|it: &Text| &*it.0);
    let probes = service.instances.iter().flat_map(|it| it.probes.values());
    let expected = probes.flat_map(|it| match &it.check {
        Check::Http { expect, .. } => expect.status.iter().chain(&expect.body).collect::<Vec<_>>(),
        Check::Exec { argv, .. } => argv.iter().collect(),
        Check::Tcp { .. } | Check::Grpc { .. } => vec![],
    });
    let all = texts.chain(expected.map(String::as_str)).flat_map(names);
    all.filter(|it| !BUILT_IN.contains(it)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::Text;
    use super::*;

    #[test]
    fn names_are_found_and_other_braces_left_alone() {
        use Piece::{Name, Plain};
        assert_eq!(
            pieces("a{port}b{{x}} {\"j\":1}{"),
            [Plain("a"), Name("port"), Plain("b{{x}} {\"j\":1}{")]
        );
        assert_eq!(pieces("{{{port}}}"), [Plain("{{"), Name("port"), Plain("}}")]);
        assert_eq!(replace_all("\\d{3} v{version} \\p{{Greek}}", "x"), "\\d{3} vx \\p{Greek}");
    }

    #[test]
    fn some_names_are_put_in_and_others_stay() {
        let values = BTreeMap::from([("port".to_owned(), "80".to_owned())]);
        assert_eq!(put_in("{port} v{version} {{port}} {", &values), "80 v{version} {{port}} {");
    }

    proptest! {
        /// What is checked here is what [`Text::expand`] does later.
        #[test]
        fn the_pieces_are_what_is_expanded(text in "[{}abc]{0,12}") {
            let values: BTreeMap<String, String> = names(&text).map(|it| (it.to_owned(), "x".to_owned())).collect();
            prop_assert_eq!(Text(text.clone()).expand(&values), Ok(replace_all(&text, "x")));
        }
    }
}
