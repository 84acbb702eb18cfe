//! The configuration after every check: what the rest of the program trusts.
//!
//! `{instance}`, `{port}` and `{service}` are expanded already. Other `{names}` are left in commands,
//! environment values and `expect` for `opsdeck roll --set`; [`Text::expand`] puts their values in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::profiles::{Auto, KnownProfile};
use crate::fleet::input::Probe as ProbeKind;
use crate::fleet::rules::{Rung, ServiceRules};
use crate::fleet::words::Name;
use crate::load::source::Source;
use crate::probe::{self, Rights};

/// What was read, file by file. Settings are the same where other texts say the same.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub std::sync::Arc<Vec<ReadFile>>);

/// One file of a configuration.
#[derive(Clone, Debug)]
pub struct ReadFile {
    pub path: PathBuf,
    pub text: String,
    /// It is no configuration, but a profile beside it.
    pub is_profile: bool,
}

impl PartialEq for Texts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Texts {}

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `None` for the configuration of the demo and of tests.
    pub path: Option<PathBuf>,
    /// Every file that was read: the main one and its includes.
    pub files: Vec<PathBuf>,
    pub texts: Texts,
    pub deck: Deck,
    /// `[keys]`: action name to keys.
    pub keys: BTreeMap<String, Vec<String>>,
    pub hooks: Option<Hooks>,
    /// In file order.
    pub services: Vec<Service>,
    /// In file order.
    pub gateways: Vec<Gateway>,
}

impl Settings {
    /// Tells every service whether something stands in front of it.
    pub fn mark_fronted(&mut self) {
        for service in &mut self.services {
            let mut own = self.gateways.iter().filter(|it| it.service == service.rules.name);
            let first = own.next();
            service.rules.fronted = first.is_some();
            let is_embedded = |it: &Gateway| matches!(it.provider, Provider::Embedded(_));
            service.rules.cuts_told = first.is_some_and(is_embedded) && own.all(is_embedded);
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deck {
    /// `None`: the host name.
    pub name: Option<String>,
    /// `None`: `config::paths` chooses one.
    pub state_dir: Option<PathBuf>,
    /// `None`: `opsdeck.sock` in the state directory.
    pub socket: Option<PathBuf>,
    pub watch: bool,
    /// Users and `@groups`; empty: the daemon's own user and root.
    pub operators: Vec<String>,
    pub viewers: Vec<String>,
    pub confirm: Confirm,
    pub look: Look,
    /// The deck writes the title of its terminal's window.
    pub title: bool,
    /// The deck has its terminal notify of halts and of what was given up.
    pub notify: Notify,
    /// The user the embedded gateway runs as where the daemon is root's.
    pub gateway_user: String,
    /// Where Prometheus may read; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}

impl Default for Deck {
    fn default() -> Self {
        Self {
            name: None,
            state_dir: None,
            socket: None,
            watch: true,
            operators: vec![],
            viewers: vec![],
            confirm: Confirm::Guard,
            look: Look::default(),
            title: false,
            notify: Notify::Off,
            gateway_user: "nobody".into(),
            metrics: None,
        }
    }
}

/// How the deck looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Built in, or a file `themes/NAME.toml` beside the configuration.
    pub theme: String,
    pub mouse: bool,
    pub ascii: bool,
    /// Tell how many bytes the screen costs.
    pub show_cost: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { theme: "default".into(), mouse: false, ascii: false, show_cost: false }
    }
}

/// By which sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    #[default]
    Off,
    Osc9,
    Osc777,
}

/// `PATH` of a hook: what programs are found in that nobody has told anything.
pub const HOOK_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `[hooks]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Never empty.
    pub command: Vec<String>,
    pub on: BTreeSet<Hook>,
    pub timeout: Duration,
    /// At most `burst` runs for each of `on` within this time.
    pub interval: Duration,
    pub burst: usize,
}

/// What a hook is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// An instance was given up.
    Fatal,
    RolloutHalted,
    /// Requests were lost.
    Lost,
}

impl Hook {
    pub const ALL: [Self; 3] = [Self::Fatal, Self::RolloutHalted, Self::Lost];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::RolloutHalted => "rollout_halted",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    #[default]
    Guard,
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What the fleet needs to know.
    pub rules: ServiceRules,
    /// What its profile says beyond that.
    pub profile: Arc<KnownProfile>,
    /// With `profile = "auto"`, where the command does not tell.
    pub auto: Option<Auto>,
    pub instances: Vec<Instance>,
    /// The user its commands run as; `None`: the daemon's.
    pub user: Option<String>,
    pub build: Vec<RolloutCommand>,
    pub rollback: Vec<RolloutCommand>,
    pub log: Log,
    pub written: Written,
}

impl Service {
    /// Its tree has told which profile it has.
    pub fn turn_out(&mut self, profile: Arc<KnownProfile>) {
        let Some(auto) = &self.auto else { return };
        if !auto.has_stop {
            self.rules.stop = vec![Rung { signal: profile.stop, wait: None }];
        }
        if !auto.has_reserve {
            self.rules.reserve = profile.profile.reserve(self.rules.max_wait_time);
        }
        self.rules.profile = profile.profile.clone();
        self.profile = profile;
    }
}

/// What a service's instances are made from, as the files say it: nothing is expanded. For showing.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What starts it.
    pub command: Vec<Text>,
    pub directory: Option<String>,
    pub pidfile: Option<String>,
    /// What stops it, where somebody else runs it.
    pub stop_command: Vec<Text>,
    pub environment: BTreeMap<String, Text>,
    /// With port 0.
    pub probes: BTreeMap<ProbeKind, probe::Probe>,
    pub load: Load,
}

/// Where the load of a service is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// Nothing is said: by its gateway where it has one, else in the kernel's sockets.
    #[default]
    Unsaid,
    Gateway,
    Sockets,
    /// Its instances are asked. What stands in front counts what it sends all the same.
    Asked(Source),
}

impl Service {
    /// Somebody else runs its processes: nothing of it is started or stopped because of a configuration.
    pub fn is_foreign(&self) -> bool {
        self.rules.foreign.is_some()
    }

    /// Every program that is run for it, and how: its own, those of builds, rollbacks and probes.
    pub(super) fn programs(&self) -> Vec<(String, &Launch)> {
        let mut all = vec![];
        for it in &self.instances {
            let names = self.names_of(it);
            let commands = self.build.iter().chain(&self.rollback).filter_map(|it| it.argv.first());
            let commands = commands.filter_map(|it| it.expand(&names).ok());
            let own = it.launch.argv.first().into_iter().chain(it.stop_command.first());
            let own = own.map(|it| it.0.clone());
            let probes = it.probes.values().filter_map(|it| match &it.check {
                probe::Check::Exec { argv, .. } => argv.first().cloned(),
                probe::Check::Http { .. }
                | probe::Check::Tcp { .. }
                | probe::Check::Grpc { .. } => None,
            });
            all.extend(own.chain(commands).chain(probes).map(|program| (program, &it.launch)));
        }
        all
    }

    /// What its commands may; every instance has the same.
    pub fn rights(&self) -> Option<&Rights> {
        Some(&self.instances.first()?.launch.rights)
    }

    /// The listening socket that is held for it.
    pub fn socket(&self) -> Option<&Socket> {
        self.instances.first()?.launch.socket.as_ref()
    }

    /// The values of `{service}`, `{instance}` and `{port}`, for [`Text::expand`]: `build` and
    /// `rollback` still hold these names.
    pub fn names_of(&self, instance: &Instance) -> BTreeMap<String, String> {
        self.names(&instance.name, instance.port)
    }

    /// Whether the port of this instance is picked when it is started.
    pub(super) fn picks(&self, instance: &Instance) -> bool {
        let rules = self.rules.instances.iter().find(|it| it.name.as_str() == instance.name);
        rules.is_some_and(|it| it.auto_port)
    }

    pub(super) fn names(&self, instance: &str, port: Option<u16>) -> BTreeMap<String, String> {
        let mut names = BTreeMap::from([
            ("service".to_owned(), self.rules.name.to_string()),
            ("instance".to_owned(), instance.to_owned()),
        ]);
        names.extend(port.map(|port| ("port".to_owned(), port.to_string())));
        names
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub name: String,
    pub port: Option<u16>,
    /// Its share of the requests, beside those of its like; 1 if it is not given.
    pub weight: Option<u32>,
    pub launch: Launch,
    pub probes: BTreeMap<ProbeKind, probe::Probe>,
    /// Whom to ask for its load.
    pub load: Option<Source>,
    /// The absolute path of the file that names its process, where somebody else runs it.
    pub pidfile: Option<PathBuf>,
    /// What stops it in place of signals; empty: nothing does.
    pub stop_command: Vec<Text>,
}

/// How a process is started. All of it but the backlog counts for `stale`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// No shell is involved. Empty only where somebody else runs it and nothing says how to start it.
    pub argv: Vec<Text>,
    pub directory: Option<PathBuf>,
    /// Only what is configured; the base variables are added when it starts.
    pub environment: BTreeMap<String, Text>,
    pub user: Option<String>,
    pub rights: Rights,
    pub socket: Option<Socket>,
}

/// A listening socket that the daemon holds for a service, the same for all its instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    pub listen: SocketAddr,
    /// In LISTEN_FDNAMES.
    pub name: String,
    /// Connections that may wait. A change applies at once.
    pub backlog: u32,
}

/// What stands in front of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub name: Name,
    /// The service behind it.
    pub service: Name,
    pub provider: Provider,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The gateway process of this deck.
    Embedded(Embedded),
    /// An nginx that somebody else runs.
    Nginx(Nginx),
}

impl Provider {
    pub fn embedded(&self) -> Option<&Embedded> {
        match self {
            Self::Embedded(it) => Some(it),
            Self::Nginx(_) => None,
        }
    }

    pub fn nginx(&self) -> Option<&Nginx> {
        match self {
            Self::Embedded(_) => None,
            Self::Nginx(it) => Some(it),
        }
    }
}

/// Instances that `nginx.switches` can tell apart: there is an upstream block for every choice of them.
pub const MOST_SWITCHES: usize = 6;

/// How an nginx is told who is in rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nginx {
    /// The include file that is ours.
    pub file: PathBuf,
    /// What `proxy_pass` names.
    pub upstream: String,
    pub pid_file: PathBuf,
    pub test: Vec<String>,
    /// `None`: SIGHUP to the master.
    pub reload: Option<Vec<String>>,
    pub max_fails: Option<u32>,
    pub fail_timeout: Option<Duration>,
    /// More lines of the block, without their semicolons.
    pub directives: Vec<String>,
    /// The directory of the switches that nginx looks at with every request; `None`: it is reloaded.
    pub switches: Option<PathBuf>,
    /// Its access log; `None`: nobody counts.
    pub access_log: Option<PathBuf>,
    /// nginx's `log_format` of it.
    pub log_format: String,
    /// The URL of its `stub_status` page.
    pub stub_status: Option<String>,
}

impl Nginx {
    /// What its `server` block includes, where there are switches: beside `file`, with a name that no
    /// `include *.conf` takes.
    pub fn server_file(&self) -> Option<PathBuf> {
        self.switches.as_ref().map(|_| self.file.with_extension("switch"))
    }
}

/// One gateway of the gateway process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    pub listen: SocketAddr,
    /// How long a request may wait while no instance is ready.
    pub hold: Duration,
    /// How many requests may wait at once.
    pub hold_max: u32,
    /// How long upgraded connections of an instance that is taken out live on.
    pub upgrade_wait: Duration,
    pub connect_timeout: Duration,
    /// Until the first byte of an answer.
    pub answer_timeout: Duration,
    pub limits: Limits,
}

/// What clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: u32,
    /// Bytes of the request line and the header fields together.
    pub header_size: u64,
    /// Bytes of a body that are kept until the answer begins, to be sent again.
    pub buffer: u64,
    /// Bytes of the largest body.
    pub body_size: u64,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_size: 32 << 10,
            buffer: 64 << 10,
            body_size: 1 << 30,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// A `build` or `rollback` command, not yet expanded for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutCommand {
    pub argv: Vec<Text>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Bytes after which the file is rotated.
    pub max_size: u64,
    /// Rotated files that are kept.
    pub keep: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { max_size: 50 << 20, keep: 5 }
    }
}

/// A text with `{names}` still in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl Text {
    /// Puts in the values of `{names}`; `{{` and `}}` are braces. `Err` is the first name without a value.
    pub fn expand(&self, values: &BTreeMap<String, String>) -> Result<String, String> {
        let mut out = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if after.starts_with(brace) {
                out.push_str(brace);
                rest = &after[1..];
                continue;
            }
            match after.find('}') {
                Some(end) if brace == "{" && is_name(&after[..end]) => {
                    let name = &after[..end];
                    out.push_str(values.get(name).ok_or_else(|| name.to_owned())?);
                    rest = &after[end + 1..];
                }
                // A lone brace stands for itself: JSON in a command is common.
                _ => {
                    out.push_str(brace);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Letters, digits and `_`, beginning with a letter.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphabetic())
        && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_expands_names_and_leaves_other_braces_alone() {
        let values = BTreeMap::from([("version".to_owned(), "43".to_owned())]);
        let expand = |text: &str| Text(text.into()).expand(&values);

        assert_eq!(expand("v{version}!").as_deref(), Ok("v43!"));
        assert_eq!(expand("{{version}} {\"a\":1} {").as_deref(), Ok("{version} {\"a\":1} {"));
        assert_eq!(expand("{commit}"), Err("commit".to_owned()));
    }
}
