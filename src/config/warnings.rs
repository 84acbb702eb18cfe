//! What is no mistake and still worth a word, for `opsdeck config check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nix::unistd::{Group, User};

use crate::fleet::advice;
use crate::fleet::input::Probe as ProbeKind;
use crate::fleet::rules::Chosen;
use crate::fleet::words::Signal;
use crate::probe::{Check, Probe};

use super::placeholder::{BUILT_IN, names, nearest_built_in};
use super::settings::{Deck, Service, Settings};

/// Something that will work and may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The service.
    pub name: String,
    pub message: String,
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.name, self.message, self.help)
    }
}

/// Names of `--set` that have a value, by service.
pub type Valued = BTreeMap<String, BTreeSet<String>>;

/// Looks at every enabled service.
pub fn warnings(settings: &Settings, valued: &Valued) -> Vec<Warning> {
    let checks = [
        shared_directory,
        spare_directory,
        downtime,
        readiness,
        only_tcp,
        only_backups,
        guessed_profile,
        short_budget,
        cutting_signal,
        reload_drain,
        unknown_user,
    ];
    let rules = settings.services.iter().map(|it| &it.rules).filter(|it| !it.enabled);
    let off: BTreeSet<&str> = rules.map(|it| it.name.as_str()).collect();
    let mut warnings: Vec<_> = strangers(&settings.deck).collect();
    for service in settings.services.iter().filter(|it| it.rules.enabled) {
        let valued = valued.get(service.rules.name.as_str());
        let found = checks.iter().filter_map(|check| check(service));
        let found = found.chain(names_of_set(service, valued)).chain(disabled(&off, service));
        warnings.extend(found.map(|(message, help)| Warning {
            name: service.rules.name.to_string(),
            message,
            help,
        }));
    }
    warnings
}

/// People of `[deck]` that the host does not know. They are no mistake: a directory may know them later.
fn strangers(deck: &Deck) -> impl Iterator<Item = Warning> {
    let lists = [("operators", &deck.operators), ("viewers", &deck.viewers)];
    let people = lists.into_iter().flat_map(|(key, names)| names.iter().map(move |it| (key, it)));
    people.filter_map(|(key, name)| {
        let what = match name.strip_prefix('@') {
            Some(group) => Group::from_name(group).is_ok_and(|it| it.is_none()).then_some("group"),
            None => User::from_name(name).is_ok_and(|it| it.is_none()).then_some("user"),
        }?;
        Some(Warning {
            name: "deck".into(),
            message: format!(
                "`{key}` names {name}, and this host has no such {what}: nobody gets access by it"
            ),
            help: format!("create the {what}, or correct the name"),
        })
    })
}

/// No mistake either: a file may be checked on another host than it is for.
fn unknown_user(service: &Service) -> Found {
    // `NAME:GROUP` and numbers are understood where processes are started.
    let user = service.user.as_ref()?.split(':').next()?;
    if user.parse::<u32>().is_ok() || User::from_name(user).ok()?.is_some() {
        return None;
    }
    found(
        format!("this host has no user {user}: it cannot start here"),
        format!("create the user, or correct `user` of {}", service.rules.name),
    )
}

/// What is the case, and what to do about it.
type Found = Option<(String, String)>;

fn found(message: impl Into<String>, help: impl Into<String>) -> Found {
    Some((message.into(), help.into()))
}

fn shared_directory(service: &Service) -> Found {
    let directories: BTreeSet<_> =
        service.instances.iter().map(|it| &it.launch.directory).collect();
    if service.build.is_empty() || directories.len() == service.instances.len() {
        return None;
    }
    found(
        "its instances share a directory, so `rollout.build` changes files under instances that still run",
        "give each its own: directory = \"/srv/…/{instance}\"",
    )
}

/// Only where this is the host it is for: the others have theirs.
fn spare_directory(service: &Service) -> Found {
    let spare = service.spare(None)?.launch.directory?;
    let mut others = service.instances.iter().filter_map(|it| it.launch.directory.as_ref());
    if spare.is_dir() || !others.any(|it| it.is_dir()) {
        return None;
    }
    found(
        format!("its spare runs in {}, which is not there", spare.display()),
        "make it, like those of the other instances",
    )
}

fn downtime(service: &Service) -> Found {
    let [alone] = &service.instances[..] else { return None };
    if service.rules.rollout.spare.is_some() {
        return None;
    }
    alone.port?;
    if alone.launch.socket.is_some() {
        // New connections wait in the socket meanwhile.
        return None;
    }
    found("a rolling restart means downtime: it has one instance", "add a second instance")
}

fn readiness(service: &Service) -> Found {
    let probed = [ProbeKind::Readiness, ProbeKind::Startup]
        .iter()
        .any(|it| service.written.probes.contains_key(it));
    if probed || service.instances.len() < 2 || service.instances.iter().all(|it| it.port.is_none())
    {
        return None;
    }
    found(
        "nothing asks whether it is ready: a rollout goes on once a new instance has run for `start_seconds`",
        "add probe.readiness = { http.path = \"/…\" }",
    )
}

fn only_tcp(service: &Service) -> Found {
    let is_tcp = |it: &Probe| matches!(it.check, Check::Tcp { .. });
    let probes = &service.written.probes;
    if probes.is_empty() || !probes.values().all(is_tcp) {
        return None;
    }
    found(
        "it is probed by tcp alone, which passes on a server that is draining or hangs",
        "prefer http or exec",
    )
}

fn only_backups(service: &Service) -> Found {
    if !service.rules.instances.iter().all(|it| it.backup) {
        return None;
    }
    found(
        "all its instances are backups: there is no primary to back up",
        "remove `backup` from one of them",
    )
}

/// `profile = "auto"`.
fn guessed_profile(service: &Service) -> Found {
    let profile = &service.rules.profile;
    let name = &profile.name;
    match &profile.chosen {
        Chosen::Named => None,
        Chosen::Open => found(
            "its command does not tell what it is: its profile is generic",
            "write the name of a profile",
        ),
        Chosen::Guessed(because) => found(
            format!("its profile is a guess, {name}, from {because}"),
            format!("write profile = \"{name}\" if that is right"),
        ),
    }
}

/// A budget that ends before the server's own limits have.
fn short_budget(service: &Service) -> Found {
    let rules = &service.rules;
    let advice = advice::short_budget(&rules.profile, rules.max_wait_time, None)?;
    found(format!("{}: {}", advice.seen, advice.means), advice.help)
}

/// A first signal that cuts requests where the server has one that does not.
fn cutting_signal(service: &Service) -> Found {
    let profile = &service.rules.profile;
    let graceful = service.profile.stop;
    let first = service.rules.stop.first()?.signal;
    if !profile.term_cuts || first != Signal::TERM || graceful == Signal::TERM {
        return None;
    }
    found(
        format!("its stop begins with SIGTERM, which cuts requests on {}", profile.name),
        format!(
            "{graceful} lets them finish: remove `stop` for the default, or begin with {graceful}"
        ),
    )
}

/// A drain around a signal that there is not, or with nobody to drain it.
fn reload_drain(service: &Service) -> Found {
    let rules = &service.rules;
    if !rules.reload_drain {
        return None;
    }
    match rules.profile.reload {
        Some(_) if rules.fronted => None,
        Some(signal) => found(
            format!(
                "`reload.drain` does nothing: no gateway stands in front, so {signal} goes out at once"
            ),
            format!("add [gateway.NAME] with service = \"{}\", or remove it", rules.name),
        ),
        None => found(
            format!(
                "`reload.drain` does nothing: the profile {} knows no reload signal",
                rules.profile.name
            ),
            "set `profile`, or remove it",
        ),
    }
}

fn names_of_set(service: &Service, valued: Option<&BTreeSet<String>>) -> Found {
    let texts = service.written.command.iter().chain(service.written.environment.values());
    let has_value =
        |it: &&str| BUILT_IN.contains(it) || valued.is_some_and(|all| all.contains(*it));
    let name = texts.flat_map(|it| names(&it.0)).find(|it| !has_value(it))?;
    if let Some(meant) = nearest_built_in(name) {
        let message = format!("`{{{name}}}` has no value: it cannot start");
        return found(message, format!("did you mean `{{{meant}}}`?"));
    }
    found(
        format!("`{{{name}}}` has no value until a rollout sets one: it cannot start before"),
        format!(
            "begin with opsdeck roll {} --set {name}=…, or write {{{{{name}}}}} for the braces themselves",
            service.rules.name
        ),
    )
}

fn disabled(off: &BTreeSet<&str>, service: &Service) -> Found {
    let name = service.rules.depends_on.iter().find(|it| off.contains(it.as_str()))?;
    found(
        format!("it depends on `{name}`, which is not enabled: it will not start"),
        format!("enable `{name}`, or remove it from depends_on"),
    )
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::config::parse;

    fn of(text: &str) -> String {
        let settings =
            parse("config.toml", text).unwrap_or_else(|err| panic!("{}", err.render(false)));
        warnings(&settings, &Valued::new())
            .iter()
            .map(Warning::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn what_may_surprise_is_said() {
        assert_snapshot!(of("[service.web]\ncommand = \"web {version}\"\nprofile = \"nginx\"\nstop = [{ signal = \"TERM\" }]\nrollout.build = [\"make\"]\ndepends_on = [\"redis\"]\ninstance = { a = { port = 1, backup = true }, b = { port = 2, backup = true } }\nprobe.liveness.tcp = {}\n[service.redis]\ncommand = \"redis\"\nenabled = false\n[service.one]\ncommand = \"x\"\ninstance.one = { port = 3 }\n"), @r#"
        web: its instances share a directory, so `rollout.build` changes files under instances that still run; give each its own: directory = "/srv/…/{instance}"
        web: nothing asks whether it is ready: a rollout goes on once a new instance has run for `start_seconds`; add probe.readiness = { http.path = "/…" }
        web: it is probed by tcp alone, which passes on a server that is draining or hangs; prefer http or exec
        web: all its instances are backups: there is no primary to back up; remove `backup` from one of them
        web: its stop begins with SIGTERM, which cuts requests on nginx; SIGQUIT lets them finish: remove `stop` for the default, or begin with SIGQUIT
        web: `{version}` has no value until a rollout sets one: it cannot start before; begin with opsdeck roll web --set version=…, or write {{version}} for the braces themselves
        web: it depends on `redis`, which is not enabled: it will not start; enable `redis`, or remove it from depends_on
        one: a rolling restart means downtime: it has one instance; add a second instance
        "#);
    }

    #[test]
    fn a_name_that_has_a_value_or_is_a_slip_is_no_name_of_set() {
        let text = "[service.a]\ncommand = \"a {version} {flavour}\"\n[service.b]\ncommand = \"b {prot}\"\n";
        let settings = parse("config.toml", text).expect("no mistakes");
        let told = |names: &[&str]| {
            let names = names.iter().map(|it| (*it).to_owned()).collect();
            let told = warnings(&settings, &Valued::from([("a".to_owned(), names)]));
            told.iter().map(Warning::to_string).collect::<Vec<_>>().join("\n")
        };
        let slip = "b: `{prot}` has no value: it cannot start; did you mean `{port}`?";
        assert_eq!(told(&["version", "flavour"]), slip);
        assert!(
            told(&["version"]).starts_with("a: `{flavour}` has no value until"),
            "{}",
            told(&[])
        );
    }

    #[test]
    fn a_drain_around_a_reload_wants_a_gateway_and_a_signal() {
        assert_snapshot!(of("[service.a]\ncommand = \"a\"\nreload.drain = true\n[service.b]\ncommand = \"b\"\nprofile = \"swoole\"\nreload.drain = true\n"), @r#"
        a: `reload.drain` does nothing: the profile generic knows no reload signal; set `profile`, or remove it
        b: `reload.drain` does nothing: no gateway stands in front, so SIGUSR1 goes out at once; add [gateway.NAME] with service = "b", or remove it
        "#);
    }

    #[test]
    fn a_budget_must_hold_what_a_server_may_take() {
        let told = |budget: &str| {
            of(&format!("[service.a]\ncommand = \"a\"\nprofile = \"swoole\"\n{budget}"))
        };
        assert_eq!(told(""), "", "the default is long enough");
        assert_eq!(told("max_wait_time = \"6s\"\n"), "");
        assert_snapshot!(told("max_wait_time = \"5s\"\n"), @r#"a: max_wait_time is 5s, and the server's own max_wait_time is 3s where nobody has set it: a swoole may take 2 times its max_wait_time to stop, 6s: SIGKILL comes before that; set max_wait_time = "7s" or more"#);
    }

    #[test]
    fn people_whom_the_host_does_not_know_are_named() {
        assert_snapshot!(of("[deck]\noperators = [\"root\", \"@root\", \"nobodyy\"]\nviewers = [\"@no-such\"]\n[service.a]\ncommand = \"a\"\nuser = \"no-such\"\n[service.b]\ncommand = \"b\"\nuser = \"root:root\"\n"), @r#"
        deck: `operators` names nobodyy, and this host has no such user: nobody gets access by it; create the user, or correct the name
        deck: `viewers` names @no-such, and this host has no such group: nobody gets access by it; create the group, or correct the name
        a: this host has no user no-such: it cannot start here; create the user, or correct `user` of a
        "#);
    }

    #[test]
    fn the_example_needs_no_warning() {
        assert_eq!(of(include_str!("../../config.example.toml")), "");
    }
}
