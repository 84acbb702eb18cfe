//! From checked values to settings: defaults, inheritance, and what only the whole can tell.
//!
//! Every value is right by itself already. Here a service meets its defaults, `{names}` are put in,
//! and values that contradict each other are found. Settings come out only where nothing was wrong.

use super::mistake::{Mistake, Source, Span};
use super::placeholder::{self, Piece};
use super::profiles::Profiles;
use super::settings::{Deck, Gateway, Hooks, Service};
use super::value::{Data, Layers, Table};
use super::{keys, placeholder::names};

mod deck;
mod foreign;
mod gateway;
mod hooks;
mod load;
mod nginx;
mod probe;
mod rollout;
mod service;
mod socket;
mod spare;
mod whole;

pub(crate) use deck::LONGEST_SOCKET;
pub(crate) use probe::KINDS as PROBES;

/// Everything but the paths.
pub(crate) struct Resolved {
    pub(crate) deck: Deck,
    pub(crate) keys: std::collections::BTreeMap<String, Vec<String>>,
    pub(crate) hooks: Option<Hooks>,
    pub(crate) services: Vec<Service>,
    pub(crate) gateways: Vec<Gateway>,
}

/// Turns the tables of all files, the main one first, into settings. Mistakes are added to `mistakes`.
pub(crate) fn resolve(
    files: &[Source],
    roots: &[Table],
    profiles: &Profiles,
    mistakes: &mut Vec<Mistake>,
) -> Resolved {
    let mut resolver = Resolver { files, profiles, mistakes };
    let empty = Table::default();
    let main = roots.first().unwrap_or(&empty);
    for entry in roots.iter().skip(1).flat_map(|it| &it.entries) {
        if ["deck", "keys", "hooks"].contains(&entry.name.as_str()) {
            let title = format!("`{}` may not stand in an included file", entry.name);
            resolver.report(
                Mistake::new(entry.at, title, "only the main file has it")
                    .help("move it to the main file"),
            );
        }
    }
    let deck = resolver.deck(&Layers::new([main]).inner("deck"));
    let keys = match main.find("keys").map(|it| &it.value.data) {
        Some(Data::Table(table)) => keys::read(table, resolver.mistakes),
        _ => Default::default(),
    };
    let hooks = resolver.hooks(main);
    let defaults = |table: &Table| table.find("defaults").map(|it| it.value.clone());
    for entry in roots.iter().filter_map(defaults) {
        resolver.refuse_in_defaults(&entry.data);
    }
    let mut services = vec![];
    for root in roots {
        // A file's own defaults come before those of the main file.
        let with_defaults =
            [root, main].into_iter().take(if std::ptr::eq(root, main) { 1 } else { 2 });
        let defaults = Layers::new(with_defaults).inner("defaults");
        let Some(Data::Table(table)) = root.find("service").map(|it| &it.value.data) else {
            continue;
        };
        services.extend(table.entries.iter().filter_map(|it| resolver.service(it, &defaults)));
    }
    resolver.whole(roots, &services);
    let gateways = resolver.gateways(roots, &mut services);
    resolver.want_gateways(roots, &mut services);
    resolver.spares(roots, &mut services);
    Resolved { deck, keys, hooks, services, gateways }
}

/// `[deck]` of a main file, and nothing else of it.
pub(crate) fn deck(file: &Source, root: &Table, mistakes: &mut Vec<Mistake>) -> Deck {
    let (files, profiles) = (std::slice::from_ref(file), &Profiles::default());
    let mut resolver = Resolver { files, profiles, mistakes };
    resolver.deck(&Layers::new([root]).inner("deck"))
}

struct Resolver<'a> {
    files: &'a [Source],
    profiles: &'a Profiles,
    mistakes: &'a mut Vec<Mistake>,
}

/// What `{names}` stand for while an instance is made.
#[derive(Clone, Copy)]
struct Names<'a> {
    service: &'a str,
    instance: &'a str,
    port: Option<u16>,
    auto_port: bool,
}

/// What happens to names that are no built-in ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// They stay for `--set`.
    Stay,
    /// They are a mistake.
    Refuse,
}

impl Resolver<'_> {
    fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    fn refuse_in_defaults(&mut self, defaults: &Data) {
        let Data::Table(table) = defaults else { return };
        if let Some(entry) = table.find("instance") {
            self.report(
                Mistake::new(
                    entry.at,
                    "`instance` may not stand in [defaults]",
                    "every service would get the same instance",
                )
                .help("instances belong to a service: [service.NAME]"),
            );
        }
    }

    /// Puts the built-in names in. Where no other names may stay, doubled braces become single.
    fn fill(&mut self, text: &str, span: Span, by: Names<'_>, others: Others) -> String {
        if !text.contains(['{', '}']) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 8);
        for piece in placeholder::pieces(text) {
            match (piece, others) {
                (Piece::Plain(text), Others::Stay) => out += text,
                (Piece::Plain(text), Others::Refuse) => out += &placeholder::unescape(text),
                (Piece::Name("service"), _) => out += by.service,
                (Piece::Name("instance"), _) => out += by.instance,
                (Piece::Name("port"), _) => match by.port {
                    Some(port) => out += &port.to_string(),
                    // Put in when it is picked.
                    None if by.auto_port => out += "{port}",
                    None => self.report_no_port(span, by.instance),
                },
                (Piece::Name(name), Others::Stay) => out.extend(["{", name, "}"]),
                (Piece::Name(name), Others::Refuse) => self.report_unknown_name(name, span),
            }
        }
        out
    }

    fn report_no_port(&mut self, span: Span, instance: &str) {
        let span = self.narrow(span, "{port}");
        let mistake =
            Mistake::new(span, format!("`{instance}` has no port"), "this stands for its port");
        self.report(mistake.help(format!("give it one: instance.{instance} = {{ port = 9501 }}")));
    }

    fn report_unknown_name(&mut self, name: &str, span: Span) {
        let span = self.narrow(span, &format!("{{{name}}}"));
        let mistake = Mistake::new(
            span,
            format!("`{{{name}}}` stands for nothing here"),
            "not a name that is known",
        );
        self.report(mistake.help(format!("the names here are {{instance}}, {{port}} and {{service}}; values of --set only reach commands, environment and expect; write {{{{{name}}}}} for the braces themselves")));
    }

    /// The place of `part` within a value, where it stands there letter by letter.
    fn narrow(&self, span: Span, part: &str) -> Span {
        let text = self.files.get(span.file).and_then(|it| it.text.get(span.start..span.end));
        match text.and_then(|it| it.find(part)) {
            Some(at) => Span { start: span.start + at, end: span.start + at + part.len(), ..span },
            None => span,
        }
    }

    /// Refuses names where nothing would ever put a value in.
    fn refuse_names(&mut self, key: &str, text: &str, span: Span) {
        for name in names(text) {
            let span = self.narrow(span, &format!("{{{name}}}"));
            let title = format!("`{key}` is the same for all instances");
            self.report(Mistake::new(span, title, "nothing is put in here").help("write it out"));
        }
    }
}
