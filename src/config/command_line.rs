//! Command lines: from text to words and back, as a shell would, without one.

use crate::quantity::Wrong;

/// Splits a command like a POSIX shell would, and refuses what only a shell could carry out.
pub(crate) fn split_command(text: &str) -> Result<Vec<String>, Wrong> {
    if let Some(found) = shell_syntax(text) {
        let script = text.replace('\'', "'\\''");
        return Err(Wrong::new(
            format!("{found}: commands run without a shell"),
            format!(
                "to use a shell, say so: [\"sh\", \"-c\", \"…\"] or sh -c '{script}'; to pass it on as it is, quote it"
            ),
        ));
    }
    let words = shlex::split(text).ok_or_else(|| {
        Wrong::new(
            "a quote that is never closed",
            "close the quote, or write the command as an array of words",
        )
    })?;
    let Some(first) = words.first() else {
        return Err(Wrong::new("this is empty", "name the program and its arguments"));
    };
    if first.is_empty() {
        return Err(Wrong::new("the program is an empty word", "name the program first"));
    }
    if first.split_once('=').is_some_and(|(name, _)| super::settings::is_name(name)) {
        return Err(Wrong::new(
            "a variable in front of the command: commands run without a shell",
            "set it with environment = { NAME = \"value\" }",
        ));
    }
    Ok(words)
}

/// The first thing outside of quotes that means something to a shell.
fn shell_syntax(text: &str) -> Option<String> {
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(it) = chars.next() {
        match (it, quote) {
            ('\\', None | Some('"')) => drop(chars.next()),
            ('\'' | '"', None) => quote = Some(it),
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            ('$', None | Some('"')) => match chars.peek().copied() {
                Some(next) if next.is_ascii_alphanumeric() || "_{(@*#?$!".contains(next) => {
                    let end = |it: char| !it.is_ascii_alphanumeric() && it != '_';
                    let name: String = chars.clone().take_while(|it| !end(*it)).collect();
                    let name = if name.is_empty() { next.to_string() } else { name };
                    return Some(format!("`${name}` would not be expanded"));
                }
                _ => {}
            },
            ('`', None | Some('"')) => return Some("a backquote would not be carried out".into()),
            ('|' | '&' | ';' | '<' | '>', None) => {
                let twice = chars.peek() == Some(&it);
                let found = if twice { format!("{it}{it}") } else { it.to_string() };
                return Some(format!("`{found}` would be handed to the program"));
            }
            _ => {}
        }
    }
    None
}

/// Prints words so that [`split_command`] gives the same words again.
pub(crate) fn join_command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(quote).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "_-./:=,+@%{}[]^".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_is_split_like_a_shell_would() {
        let words = |text: &str| split_command(text).map_err(|it| it.label);
        assert_eq!(
            words("php bin/hyperf.php 'a b' \"c d\"").as_deref(),
            Ok(&["php", "bin/hyperf.php", "a b", "c d"].map(String::from)[..])
        );
        assert_eq!(
            words("sh -c 'a | b > $C'").as_deref(),
            Ok(&["sh", "-c", "a | b > $C"].map(String::from)[..])
        );
        assert_eq!(words("grep 'x$' \"y$\" --x={port}").map(|it| it.len()), Ok(4));
        assert_eq!(
            words("a && b"),
            Err("`&&` would be handed to the program: commands run without a shell".into())
        );
        assert_eq!(
            words("echo $HOME"),
            Err("`$HOME` would not be expanded: commands run without a shell".into())
        );
        assert_eq!(words("a 'b"), Err("a quote that is never closed".into()));
        assert_eq!(
            words("A=1 b"),
            Err("a variable in front of the command: commands run without a shell".into())
        );
    }

    proptest! {
        #[test]
        fn words_survive_being_joined_and_split(words in prop::collection::vec("[^\0]{0,8}", 0..4)) {
            let mut all = vec!["program".to_owned()];
            all.extend(words);
            let line = join_command(all.iter().map(String::as_str));
            prop_assert_eq!(split_command(&line), Ok(all));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            let _ = split_command(&text);
        }
    }
}
