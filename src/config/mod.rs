//! Reads the configuration: files → settings, with every mistake of all files in one run.
//!
//! ```text
//! text ── toml ──▶ tree with places ── read.rs ──▶ checked values ── resolve/ ──▶ Settings
//!                                        ▲                              │
//!                                     shape/ (the table of keys)        └──▶ ConfigError
//! ```
//!
//! Reading the files is all that touches the world here; the rest is a function of their texts.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mistake::{Mistake, Sort, Source, Span};
use profiles::Profiles;
use settings::{Gateway, HOOK_PATH, Hooks, ReadFile, Service, Settings, Texts};
use trust::{Trust, Verdicts};
use value::{Data, Layers, Table};

use crate::quantity::Wrong;

pub mod accounts;
mod address;
pub mod capability;
mod command_line;
pub mod diff;
mod fingerprint;
pub mod import;
mod include;
pub mod keys;
mod mistake;
pub mod paths;
pub(crate) mod placeholder;
mod profiles;
mod read;
mod resolve;
pub mod schema;
pub mod secret;
pub mod settings;
mod shape;
pub mod show;
mod spare;
pub mod trust;
mod value;
pub mod warnings;

pub use diff::{Diff, diff, without_stops};
pub use mistake::ConfigError;
pub use profiles::{Auto, KnownProfile};
pub use show::show;
pub use warnings::{Valued, Warning, warnings};

const READ_HELP: &str = "check the path and who may read it";

/// A configuration is a few kilobytes; this is somebody's log file.
const LARGEST: u64 = 16 << 20;

/// Reads a configuration file and what it includes. Root reads none that others can write.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    read_all(path, false)
}

/// As [`load`], and looks at the commands too: root runs none that others can replace.
pub fn check(path: &Path) -> Result<Settings, ConfigError> {
    read_all(path, true)
}

fn read_all(path: &Path, with_commands: bool) -> Result<Settings, ConfigError> {
    // Fails only for an empty path and without a working directory, which reading will say.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut files = Files { trust: Trust::of_root(), with_commands, ..Files::default() };
    files.add_file(&path);
    for (pattern, span) in files.includes() {
        match include::matches(path.parent().unwrap_or(Path::new("/")), &pattern) {
            Ok(paths) => paths.iter().for_each(|it| files.add_file(it)),
            Err(why) => files.mistakes.push(
                Mistake::new(span, format!("`{pattern}` cannot be included"), why.to_string())
                    .help("paths are relative to this file; a pattern with * may match nothing"),
            ),
        }
    }
    profiles::files_beside(&path).iter().for_each(|it| files.add_profile(it));
    let paths = files.sources.iter().map(|it| it.path.clone()).collect();
    files.resolve(Some(path), paths)
}

/// Reads `[deck]` of a configuration file, if it stands before the services and has no mistake: enough to
/// find a daemon, and a thousand services behind it need not be read for that. `None`: use [`load`].
pub fn deck(path: &Path) -> Option<settings::Deck> {
    let text = text_of(path).ok()?;
    let end = text.find("\n[service.")? + 1;
    // What is whole up to the head of a table cannot be changed by what follows: TOML lets no table be
    // opened twice. A cut through a text of several lines is not whole.
    let head = &text[..end];
    let read::Read { root, mut mistakes, .. } =
        read::read(0, path.parent().unwrap_or(Path::new("")), head);
    root.find("deck")?;
    let source = Source { path: path.to_owned(), text: head.to_owned() };
    let deck = resolve::deck(&source, &root, &mut mistakes);
    mistakes.is_empty().then_some(deck)
}

/// Reads again what was read once, the main file first; nobody is asked who can write it by now.
pub fn reread(read: &[ReadFile]) -> Result<Settings, ConfigError> {
    let mut files = Files::default();
    for it in read {
        match it.is_profile {
            true => files.take_profile(&it.path, it.text.clone()),
            false => files.add(&it.path, it.text.clone()),
        }
    }
    let paths = read.iter().map(|it| it.path.clone()).collect();
    files.resolve(read.first().map(|it| it.path.clone()), paths)
}

/// Reads one text, without what it includes. `path` is for messages and for relative paths.
pub fn parse(path: &str, text: &str) -> Result<Settings, ConfigError> {
    let mut files = Files::default();
    files.add(Path::new(path), text.to_owned());
    files.resolve(None, vec![])
}

/// The files of one configuration, the main one first.
#[derive(Default)]
struct Files {
    sources: Vec<Source>,
    roots: Vec<Table>,
    profiles: Profiles,
    /// Which sources are profiles.
    profile_files: BTreeSet<usize>,
    mistakes: Vec<Mistake>,
    secrets: Vec<Span>,
    seen: BTreeSet<PathBuf>,
    /// `None`: nothing is asked about who can write.
    trust: Option<Trust>,
    with_commands: bool,
}

impl Files {
    fn add_file(&mut self, path: &Path) {
        // The same file by two patterns, or the main file by its own, is one file.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(real) {
            return;
        }
        self.distrust(path);
        let text = self.text_of(path);
        self.add(path, text);
    }

    fn add_profile(&mut self, path: &Path) {
        self.distrust(path);
        let text = self.text_of(path);
        self.take_profile(path, text);
    }

    fn take_profile(&mut self, path: &Path, text: String) {
        self.mistakes.extend(self.profiles.add(self.sources.len(), path, &text));
        self.profile_files.insert(self.sources.len());
        self.sources.push(Source { path: path.to_owned(), text });
    }

    /// Nothing where it cannot be read, which is a mistake.
    fn text_of(&mut self, path: &Path) -> String {
        text_of(path).unwrap_or_else(|why| {
            let title = format!("{} cannot be read: {}", path.display(), why.label);
            let mistake = Mistake::of_file(self.sources.len(), title);
            self.mistakes.push(Mistake { help: why.help, ..mistake });
            String::new()
        })
    }

    /// Says where root would follow what others can change.
    fn distrust(&mut self, path: &Path) {
        let distrust = self.trust.as_ref().and_then(|it| it.path(path).err());
        if let Some(it) = distrust {
            let title = format!("root would follow a file that others can change: {it}");
            let mistake = Mistake::of_file(self.sources.len(), title);
            self.mistakes.push(mistake.help(it.help));
        }
    }

    fn add(&mut self, path: &Path, text: String) {
        let directory = path.parent().unwrap_or(Path::new(""));
        let read = read::read(self.sources.len(), directory, &text);
        self.roots.push(read.root);
        self.mistakes.extend(read.mistakes);
        self.secrets.extend(read.secrets);
        self.sources.push(Source { path: path.to_owned(), text });
    }

    /// The patterns of `[deck] include`.
    fn includes(&self) -> Vec<(String, Span)> {
        let main = self.roots.iter().take(1);
        let texts = Layers::new(main).inner("deck").texts("include");
        texts.into_iter().map(|(text, span)| (text.to_owned(), span)).collect()
    }

    fn resolve(
        mut self,
        path: Option<PathBuf>,
        files: Vec<PathBuf>,
    ) -> Result<Settings, ConfigError> {
        let was_torn: BTreeSet<usize> = self
            .mistakes
            .iter()
            .filter(|it| it.sort == Sort::Syntax)
            .map(|it| it.span.file)
            .collect();
        let resolved =
            resolve::resolve(&self.sources, &self.roots, &self.profiles, &mut self.mistakes);
        // What is missing may be what the syntax mistake swallowed.
        self.mistakes.retain(|it| it.sort != Sort::Absent || !was_torn.contains(&it.span.file));
        if self.mistakes.is_empty() && self.with_commands {
            self.mistakes = self.unsafe_commands(&resolved.services);
            self.mistakes.extend(self.unsafe_gateways(&resolved.gateways));
            self.mistakes.extend(self.unsafe_hooks(resolved.hooks.as_ref()));
        }
        if !self.mistakes.is_empty() {
            return Err(ConfigError::new(self.sources, self.mistakes, &self.secrets));
        }
        let resolve::Resolved { deck, keys, hooks, services, gateways } = resolved;
        let read = self.sources.into_iter().enumerate().map(|(at, Source { path, text })| {
            ReadFile { path, text, is_profile: self.profile_files.contains(&at) }
        });
        let texts = Texts(std::sync::Arc::new(read.collect()));
        Ok(Settings { path, files, texts, deck, keys, hooks, services, gateways })
    }
}

impl Files {
    /// Commands of services that root would run although others can replace them.
    fn unsafe_commands(&self, services: &[Service]) -> Vec<Mistake> {
        let Some(trust) = &self.trust else { return vec![] };
        let mut verdicts = Verdicts::new(trust.clone());
        let mut found = vec![];
        for service in services {
            let mut programs = service.programs();
            programs.retain(|(program, _)| !program.contains(['{', '}']));
            let distrust =
                programs.iter().find_map(|(it, launch)| verdicts.launch(it, launch).err());
            let (Some(it), Some(span)) = (distrust, self.span_of(service.rules.name.as_str()))
            else {
                continue;
            };
            let title =
                format!("`{}` would have root run what others can replace", service.rules.name);
            found.push(Mistake::new(span, title, it.to_string()).help(it.help));
        }
        found
    }

    /// What root would run and write for an nginx although others can replace it.
    fn unsafe_gateways(&self, gateways: &[Gateway]) -> Vec<Mistake> {
        let Some(trust) = &self.trust else { return vec![] };
        let tables = Layers::new(&self.roots).inner("gateway");
        let mut found = vec![];
        for gateway in gateways {
            let distrust = gateway.provider.nginx().and_then(|it| trust.nginx(it).err());
            let name = gateway.name.as_str();
            let (Some((key, it)), Some(entry)) = (distrust, tables.find(name)) else { continue };
            let own = tables.inner(name).inner("nginx");
            let span = own.find(key).map_or(entry.at, |it| it.value.span);
            let title =
                format!("`{name}` would have root use an `nginx.{key}` that others can replace");
            found.push(Mistake::new(span, title, it.to_string()).help(it.help));
        }
        found
    }

    /// A hook that root would run although others can replace it.
    fn unsafe_hooks(&self, hooks: Option<&Hooks>) -> Option<Mistake> {
        let program = hooks?.command.first()?;
        let it = self.trust.as_ref()?.command(program, HOOK_PATH).err()?;
        let main = Layers::new(self.roots.iter().take(1));
        let span = main.inner("hooks").find("command")?.value.span;
        let title = "`hooks` would have root run what others can replace";
        Some(Mistake::new(span, title, it.to_string()).help(it.help))
    }

    /// The command of a service, or where the service is written.
    fn span_of(&self, service: &str) -> Option<Span> {
        let entry = self.roots.iter().find_map(|it| match &it.find("service")?.value.data {
            Data::Table(services) => services.find(service),
            _ => None,
        })?;
        match &entry.value.data {
            Data::Table(own) => own.find("command").map(|it| it.value.span).or(Some(entry.at)),
            _ => Some(entry.at),
        }
    }
}

/// Whether a text names a signal: `SIGUSR1`, `USR1`, `10`, `SIGRTMIN+1`.
pub fn is_signal(text: &str) -> bool {
    crate::fleet::words::Signal::parse(text).is_some()
}

fn text_of(path: &Path) -> Result<String, Wrong> {
    let failed = |err: std::io::Error| Wrong::new(reason(&err), READ_HELP);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = vec![];
    // A pipe has no size to ask for, so the limit is on what is read.
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Wrong::new("it is larger than 16 MiB", READ_HELP));
    }
    String::from_utf8(bytes).map_err(|err| {
        let line = err.as_bytes()[..err.utf8_error().valid_up_to()]
            .iter()
            .filter(|it| **it == b'\n')
            .count();
        let label = format!("line {} is not UTF-8", line + 1);
        Wrong::new(label, "save it as UTF-8: iconv -f latin1 -t utf-8")
    })
}

/// `no such file or directory`, as everywhere else: lower case, without the number.
fn reason(err: &std::io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |it| it.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
