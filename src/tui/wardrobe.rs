//! How the deck looks: what the command line asked for, over what the configuration says.

use std::path::{Path, PathBuf};

use super::Options;
use super::theme::depth::Depth;
use super::theme::file;
use super::theme::{Roles, Theme};
use crate::api::Look;

/// What the deck was started with, and what follows for its looks.
#[derive(Debug)]
pub(super) struct Wardrobe {
    roles: Option<Roles>,
    directories: Vec<PathBuf>,
    depth: Depth,
    ascii: bool,
    /// Asked for on the command line.
    wants_mouse: bool,
    pub(super) show_cost: bool,
    /// The terminal should report it.
    pub(super) mouse: bool,
}

impl Wardrobe {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            roles: options.theme,
            directories: options.themes.clone(),
            depth: options.depth,
            ascii: options.ascii,
            wants_mouse: options.mouse,
            show_cost: options.show_cost,
            mouse: options.mouse,
        }
    }

    /// Before the daemon has said anything.
    pub(super) fn first(&self) -> Theme {
        let roles = self.roles.unwrap_or_else(file::default_roles);
        Theme::of(&roles, self.depth, self.ascii)
    }

    /// What `look` comes to; `config` is the file that it stands in, for themes beside it. Without the theme, what
    /// was so far holds, and the text says why.
    pub(super) fn dress(&mut self, look: &Look, config: Option<&Path>) -> Result<Theme, String> {
        self.mouse = self.wants_mouse || look.mouse;
        let beside = config.and_then(Path::parent).map(|it| it.join("themes"));
        let mut directories = self.directories.clone();
        directories.extend(beside.filter(|it| !self.directories.contains(it)));
        let name = if look.theme.is_empty() { "default" } else { look.theme.as_str() };
        let roles = match self.roles {
            Some(roles) => roles,
            None => file::find(name, &directories).map_err(|err| err.to_string())?,
        };
        Ok(Theme::of(&roles, self.depth, self.ascii || look.ascii))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wardrobe(roles: Option<Roles>) -> Wardrobe {
        Wardrobe {
            roles,
            directories: vec![],
            depth: Depth::Sixteen,
            ascii: false,
            wants_mouse: false,
            show_cost: false,
            mouse: false,
        }
    }

    #[test]
    fn the_configuration_dresses_the_deck_unless_the_command_line_did() {
        let light = file::find("light", &[]).unwrap();
        let look = Look { theme: "high-contrast".into(), mouse: true, ..Look::default() };
        let mut own = wardrobe(None);
        let high = file::find("high-contrast", &[]).unwrap();
        let shown = |roles| Theme::of(&roles, Depth::Sixteen, false).selected();
        assert_eq!(own.dress(&look, None).unwrap().selected(), shown(high));
        assert!(own.mouse);
        let mut told = wardrobe(Some(light));
        assert_eq!(told.dress(&look, None).unwrap().selected(), shown(light));
    }

    #[test]
    fn a_theme_beside_the_configuration_is_found_and_one_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("themes")).unwrap();
        std::fs::write(directory.path().join("themes/dusk.toml"), "bad = { fg = 256 }").unwrap();
        let config = directory.path().join("config.toml");
        let told = |theme: &str| {
            let look = Look { theme: theme.into(), ..Look::default() };
            wardrobe(None).dress(&look, Some(&config)).unwrap_err()
        };
        assert!(told("dusk").contains("themes/dusk.toml:1: this is no colour"), "{}", told("dusk"));
        assert!(told("dawn").starts_with("there is no theme \"dawn\""), "{}", told("dawn"));
    }
}
