//! What is said of names: unknown ones, ones of a later version, and ones that are no names.

use crate::config::mistake::{Mistake, Span};
use crate::config::shape::{Key, Kind, Naming};
use crate::nearest::nearest;

pub(super) fn unknown_key(name: &str, at: Span, keys: &[Key]) -> Mistake {
    Mistake::new(at, format!("unknown key `{name}`"), "no key has this name here").help(suggestion(
        name,
        &known_names(keys),
        "the keys here are",
    ))
}

pub(super) fn known_names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().filter(|it| !matches!(it.kind, Kind::Later(_))).map(|it| it.name).collect()
}

/// The nearest of the known words, else all of them.
pub(crate) fn suggestion(text: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(text, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "there is nothing to name here".into(),
        None => format!("{otherwise} {}", known.join(", ")),
    }
}

pub(crate) fn not_in_this_version(name: &str, at: Span, what: &str) -> Mistake {
    Mistake::new(
        at,
        format!("`{name}` is not in this version of opsdeck"),
        format!("it will be for {what}"),
    )
    .help("remove it for now")
}

/// Says what a name must be where it is not that.
pub(super) fn bad_name(naming: Naming, name: &str, at: Span) -> Option<Mistake> {
    let letters = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    match naming {
        Naming::Name => {
            let fits = name.len() <= 64
                && name.chars().all(letters)
                && name.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '_');
            let mistake = Mistake::new(
                at,
                "this cannot be the name of a service or an instance",
                "not a name",
            );
            (!fits).then(|| mistake.help("use 1 to 64 letters a to z or A to Z, digits, dots, `_` and `-`, beginning with a letter or a digit"))
        }
        Naming::Variable => {
            let fits = !name.is_empty() && !name.contains(['=', '\0']);
            (!fits).then(|| {
                Mistake::new(
                    at,
                    "this cannot be the name of a variable",
                    "it is empty, or has a `=` or a NUL byte in it",
                )
                .help("write NAME = \"value\"")
            })
        }
        Naming::Field => {
            let token = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(it);
            let fits = !name.is_empty() && name.chars().all(token);
            (!fits).then(|| {
                Mistake::new(
                    at,
                    "this cannot be the name of a header field",
                    "it is empty, or has a character that may not stand there",
                )
                .help("use letters, digits and `-`, as in X-Forwarded-Proto")
            })
        }
        Naming::Action => None,
    }
}
