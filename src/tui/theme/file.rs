//! The file of a theme: `role = { fg = "green", bg = "#202020", modifiers = ["bold"] }`.
//!
//! Four themes are built in (`assets/themes/`); others are files of the operator's, `NAME.toml` in a
//! directory `themes` beside a configuration. All mistakes of a file are told, each with its line. A
//! role that a file does not name looks as in the default theme.

use std::path::{Path, PathBuf};

use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{ROLES, Role, Roles};
use crate::nearest::nearest;

/// The themes that need no file.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("default", include_str!("../../../assets/themes/default.toml")),
    ("light", include_str!("../../../assets/themes/light.toml")),
    ("high-contrast", include_str!("../../../assets/themes/high-contrast.toml")),
    ("mono", include_str!("../../../assets/themes/mono.toml")),
];

/// A theme is a screenful of text; what is longer is something else.
const LONGEST: u64 = 64 << 10;

const COLORS: [(&str, Color); 18] = [
    ("black", Color::Black),
    ("red", Color::Red),
    ("green", Color::Green),
    ("yellow", Color::Yellow),
    ("blue", Color::Blue),
    ("magenta", Color::Magenta),
    ("cyan", Color::Cyan),
    ("white", Color::Gray),
    ("bright-black", Color::DarkGray),
    ("gray", Color::DarkGray),
    ("bright-red", Color::LightRed),
    ("bright-green", Color::LightGreen),
    ("bright-yellow", Color::LightYellow),
    ("bright-blue", Color::LightBlue),
    ("bright-magenta", Color::LightMagenta),
    ("bright-cyan", Color::LightCyan),
    ("bright-white", Color::White),
    ("default", Color::Reset),
];

const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underlined", Modifier::UNDERLINED),
    ("reversed", Modifier::REVERSED),
];

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    pub text: String,
}

/// Why a theme could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ThemeError {
    #[error("there is no theme {name:?}: built in are {}, and {looked} was not found", names())]
    Unknown { name: String, looked: String },
    #[error("{path}:{}: {}", mistakes[0].line, mistakes[0].text)]
    Mistakes { path: String, mistakes: Vec<Mistake> },
    #[error("{path} could not be read")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl ThemeError {
    /// All there is to say, a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes { path, mistakes } => {
                mistakes.iter().map(|it| format!("{path}:{}: {}", it.line, it.text)).collect()
            }
            Self::Unreadable { source, .. } => vec![format!("{self}: {source}")],
            Self::Unknown { .. } => vec![self.to_string()],
        }
    }
}

/// The theme called `name`: built in, or else `NAME.toml` in the first of `directories` that has it.
pub fn find(name: &str, directories: &[PathBuf]) -> Result<Roles, ThemeError> {
    let unknown = |looked: String| ThemeError::Unknown { name: name.to_owned(), looked };
    // It comes from a configuration of perhaps somebody else, and becomes a path.
    if name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(unknown("a file of this name".into()));
    }
    if let Some((_, text)) = BUILT_IN.iter().find(|it| it.0 == name) {
        return parse(text)
            .map_err(|mistakes| ThemeError::Mistakes { path: name.to_owned(), mistakes });
    }
    let paths: Vec<PathBuf> =
        directories.iter().map(|it| it.join(format!("{name}.toml"))).collect();
    match paths.iter().find(|it| it.exists()) {
        Some(path) => read(path),
        None => Err(unknown(match paths.as_slice() {
            [] => format!("a file {name}.toml"),
            all => all.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" or "),
        })),
    }
}

/// Reads the theme in a file.
pub fn read(path: &Path) -> Result<Roles, ThemeError> {
    let shown = || path.display().to_string();
    let unreadable = |source| ThemeError::Unreadable { path: shown(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > LONGEST {
        let source = std::io::Error::other("it is too long for a theme");
        return Err(ThemeError::Unreadable { path: shown(), source });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|mistakes| ThemeError::Mistakes { path: shown(), mistakes })
}

/// The theme that holds where nothing else is said.
pub fn default_roles() -> Roles {
    parse(BUILT_IN[0].1).unwrap_or_default()
}

/// Reads a theme; its mistakes in the order of the lines.
pub fn parse(text: &str) -> Result<Roles, Vec<Mistake>> {
    let mut reader = Reader { text, mistakes: vec![] };
    let roles = match DeTable::parse(text) {
        Ok(table) => reader.roles(table.get_ref()),
        Err(err) => {
            let at = err.span().map_or(0, |it| it.start);
            reader.mistake(at, err.message().lines().next().unwrap_or_default().to_owned());
            Roles::default()
        }
    };
    reader.mistakes.sort_by_key(|it| it.line);
    if reader.mistakes.is_empty() { Ok(roles) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn mistake(&mut self, at: usize, text: String) {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|it| **it == b'\n').count();
        self.mistakes.push(Mistake { line, text });
    }

    fn roles(&mut self, table: &DeTable<'_>) -> Roles {
        // The default theme itself names every role.
        let mut roles = if self.text == BUILT_IN[0].1 { Roles::default() } else { default_roles() };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match ROLES.iter().find(|it| it.0 == name) {
                Some((_, role)) => self.role(&mut roles, *role, value),
                None => {
                    let known = ROLES.map(|it| it.0);
                    let text = format!("there is no role {name:?}{}", hint(name, &known));
                    self.mistake(key.span().start, text);
                }
            }
        }
        roles
    }

    fn role(&mut self, roles: &mut Roles, role: Role, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            let text = "a role is a table: { fg = \"green\", modifiers = [\"bold\"] }";
            return self.mistake(value.span().start, text.into());
        };
        let mut style = Style::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "fg" => style.fg = self.color(value),
                "bg" => style.bg = self.color(value),
                "modifiers" => style = style.add_modifier(self.modifiers(value)),
                name => {
                    let text =
                        format!("a role has no {name:?}{}", hint(name, &["fg", "bg", "modifiers"]));
                    self.mistake(key.span().start, text);
                }
            }
        }
        roles.set(role, style);
    }

    fn color(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Color> {
        let found = match value.get_ref() {
            DeValue::String(text) => color(text),
            DeValue::Integer(it) if it.radix() == 10 => {
                it.as_str().parse().ok().map(Color::Indexed)
            }
            _ => None,
        };
        if found.is_none() {
            let text = match value.get_ref() {
                DeValue::String(text) => {
                    format!("{text:?} is no colour{}", hint(text, &COLORS.map(|it| it.0)))
                }
                _ => "this is no colour".into(),
            };
            let how = "write a name such as \"bright-red\", \"#rrggbb\", or a number from 0 to 255";
            self.mistake(value.span().start, format!("{text}: {how}"));
        }
        found
    }

    fn modifiers(&mut self, value: &Spanned<DeValue<'_>>) -> Modifier {
        let DeValue::Array(all) = value.get_ref() else {
            let text = "modifiers are a list: [\"bold\"]";
            self.mistake(value.span().start, text.into());
            return Modifier::empty();
        };
        self.each_modifier(all)
    }

    fn each_modifier(&mut self, all: &DeArray<'_>) -> Modifier {
        let mut modifiers = Modifier::empty();
        for it in all.iter() {
            let name = it.get_ref().as_str().unwrap_or_default();
            match MODIFIERS.iter().find(|it| it.0 == name) {
                Some((_, modifier)) => modifiers |= *modifier,
                None => {
                    let known = MODIFIERS.map(|it| it.0);
                    let text = format!("{name:?} is none of {}", known.join(", "));
                    self.mistake(it.span().start, text);
                }
            }
        }
        modifiers
    }
}

fn color(text: &str) -> Option<Color> {
    if let Some(hex) = text.strip_prefix('#') {
        let is_hex = hex.len() == 6 && hex.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
        let [_, r, g, b] = number.to_be_bytes();
        return Some(Color::Rgb(r, g, b));
    }
    COLORS.iter().find(|it| it.0 == text).map(|it| it.1)
}

/// What was probably meant.
fn hint(name: &str, known: &[&str]) -> String {
    let best = nearest(name, known.iter().copied());
    best.map(|it| format!("; did you mean {it:?}?")).unwrap_or_default()
}

fn names() -> String {
    BUILT_IN.map(|it| it.0).join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::depth::Depth;
    use super::*;

    #[test]
    fn the_built_in_themes_have_no_mistakes_and_name_every_role() {
        for (name, text) in BUILT_IN {
            parse(text).unwrap();
            for (role, _) in ROLES {
                assert!(text.contains(&format!("\n{role} = ")), "{name} {role}");
            }
        }
        assert_ne!(default_roles(), Roles::default());
    }

    #[test]
    fn in_every_theme_and_depth_selection_and_question_are_seen_and_a_mono_theme_has_no_colour() {
        for (name, text) in BUILT_IN {
            let roles = parse(text).unwrap();
            for depth in [Depth::None, Depth::Sixteen, Depth::Indexed, Depth::True] {
                for role in [Role::Selected, Role::Question] {
                    let style = depth.style(roles.get(role));
                    let reversed = style.add_modifier.contains(Modifier::REVERSED);
                    assert!(reversed || style.fg != style.bg && style.bg.is_some(), "{name}");
                }
                for (_, role) in ROLES {
                    let style = depth.style(roles.get(role));
                    let colorless = style.fg.is_none() && style.bg.is_none();
                    assert!(colorless || name != "mono" && depth != Depth::None);
                }
            }
        }
    }

    #[test]
    fn what_a_file_does_not_name_is_as_by_default() {
        let roles =
            parse("good = { fg = \"#00ff80\", bg = 17, modifiers = [\"italic\"] }").unwrap();
        let good = Style::new().fg(Color::Rgb(0, 255, 128)).bg(Color::Indexed(17)).italic();
        assert_eq!(roles.get(Role::Good), good);
        assert_eq!(roles.get(Role::Bad), default_roles().get(Role::Bad));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "god = {}\ngood = { fg = \"gren\" }\nbad = \"red\"\n\
                    moving = {\n  modifiers = [\"blod\"],\n  color = 1 }\nname = { fg = 256 }\n";
        let told: Vec<_> =
            parse(text).unwrap_err().iter().map(|it| format!("{}: {}", it.line, it.text)).collect();
        let how = "write a name such as \"bright-red\", \"#rrggbb\", or a number from 0 to 255";
        assert_eq!(
            told,
            [
                "1: there is no role \"god\"; did you mean \"good\"?".to_owned(),
                format!("2: \"gren\" is no colour; did you mean \"green\"?: {how}"),
                "3: a role is a table: { fg = \"green\", modifiers = [\"bold\"] }".into(),
                "5: \"blod\" is none of bold, dim, italic, underlined, reversed".into(),
                "6: a role has no \"color\"".into(),
                format!("7: this is no colour: {how}"),
            ]
        );
        assert_eq!(parse("good = {\n").unwrap_err()[0].line, 1);
    }

    #[test]
    fn a_theme_is_looked_for_by_name_in_the_directories_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("dusk.toml"), "bad = { fg = \"blue\" }").unwrap();
        let all = [PathBuf::from("/nonexistent"), directory.path().to_owned()];
        assert_eq!(find("dusk", &all).unwrap().get(Role::Bad), Style::new().fg(Color::Blue));
        for name in ["dawn", "../dusk", ".dusk", "a/b"] {
            assert!(matches!(find(name, &all), Err(ThemeError::Unknown { .. })), "{name}");
        }
        assert!(find("light", &[]).is_ok());
    }
}
