//! `[deck]`.

use std::path::PathBuf;

use super::Resolver;
use crate::config::mistake::Mistake;
use crate::config::settings::{Confirm, Deck, Look, Notify};
use crate::config::value::Layers;

/// `sun_path` has 108 bytes with its NUL (unix(7)).
pub(crate) const LONGEST_SOCKET: usize = 107;

impl Resolver<'_> {
    pub(super) fn deck(&mut self, table: &Layers<'_>) -> Deck {
        let socket = self.deck_path(table, "socket");
        if let (Some(path), Some((_, span))) = (&socket, table.text("socket"))
            && path.as_os_str().len() > LONGEST_SOCKET
        {
            let title = format!("the path of a socket has at most {LONGEST_SOCKET} bytes");
            let label = format!("this has {}", path.as_os_str().len());
            self.report(
                Mistake::new(span, title, label)
                    .help("choose a shorter path, such as /run/opsdeck.sock"),
            );
        }
        Deck {
            name: table.text("name").map(|it| it.0.to_owned()),
            state_dir: self.deck_path(table, "state_dir"),
            socket,
            watch: table.boolean("watch").unwrap_or(false),
            operators: self.people(table, "operators"),
            viewers: self.people(table, "viewers"),
            confirm: match table.text("confirm").map(|it| it.0) {
                Some("always") => Confirm::Always,
                Some("never") => Confirm::Never,
                _ => Confirm::Guard,
            },
            look: self.look(table),
            title: table.boolean("title").unwrap_or(false),
            notify: match table.text("notify").map(|it| it.0) {
                Some("osc9") => Notify::Osc9,
                Some("osc777") => Notify::Osc777,
                _ => Notify::Off,
            },
            metrics: table.listen("metrics").map(|it| it.0),
            gateway_user: table.text("gateway_user").map_or("nobody", |it| it.0).to_owned(),
        }
    }

    fn look(&mut self, table: &Layers<'_>) -> Look {
        let theme = table.text("theme").map_or("default", |(name, span)| {
            // It becomes the name of a file.
            if name.contains(['/', '\0']) || name.starts_with('.') {
                let mistake = Mistake::new(span, "`theme` is the name of a theme", "not a name");
                self.report(
                    mistake.help("one of your own is a file themes/NAME.toml beside this one"),
                );
            }
            name
        });
        Look {
            theme: theme.to_owned(),
            mouse: table.boolean("mouse").unwrap_or(false),
            ascii: table.boolean("ascii").unwrap_or(false),
            show_cost: table.boolean("show_cost").unwrap_or(false),
        }
    }

    fn deck_path(&mut self, table: &Layers<'_>, key: &str) -> Option<PathBuf> {
        let (text, span) = table.text(key)?;
        self.refuse_names(key, text, span);
        Some(text.into())
    }

    /// Users and `@groups`.
    fn people(&mut self, table: &Layers<'_>, key: &str) -> Vec<String> {
        let people = table.texts(key);
        for (text, span) in &people {
            let name = text.strip_prefix('@').unwrap_or(text);
            if name.is_empty()
                || name.contains(|it: char| it.is_whitespace() || it == ':' || it == '@')
            {
                self.report(
                    Mistake::new(
                        *span,
                        format!("`{key}` must name users and groups"),
                        "not a user or a group",
                    )
                    .help("write a user as \"alice\" and a group as \"@ops\""),
                );
            }
        }
        people.into_iter().map(|it| it.0.to_owned()).collect()
    }
}
