//! Profiles: what signals mean to a kind of server, and how its tree is built.
//!
//! A profile is a TOML file. Those of `assets/profiles/` are part of the program; users put more of
//! them, or better ones of the same name, into `profiles/` beside their configuration. *Harmless* is a
//! signal that takes no instance away: a reload that replaces workers, or a log that is reopened.

mod file;
mod guess;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::mistake::{Mistake, Span};
use super::read::suggestion;
use crate::fleet::rules::{Chosen, Profile};
use crate::fleet::words::Signal;
use crate::roles;

/// A profile with what the fleet needs not know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownProfile {
    pub profile: Arc<Profile>,
    /// The default of `stop`: the signal that lets requests finish.
    pub stop: Signal,
    pub roles: roles::Rules,
}

const BUILT_IN: &[(&str, &str)] = &[
    ("generic", include_str!("../../../assets/profiles/generic.toml")),
    ("gunicorn", include_str!("../../../assets/profiles/gunicorn.toml")),
    ("nginx", include_str!("../../../assets/profiles/nginx.toml")),
    ("php-fpm", include_str!("../../../assets/profiles/php-fpm.toml")),
    ("puma", include_str!("../../../assets/profiles/puma.toml")),
    ("swoole", include_str!("../../../assets/profiles/swoole.toml")),
];

/// The names of the profiles that are part of the program.
pub(crate) fn built_in_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|it| it.0)
}

/// Those of the program, each read when it is first asked for.
fn built_in(name: &str) -> Option<Arc<KnownProfile>> {
    static READ: [OnceLock<Option<Arc<KnownProfile>>>; BUILT_IN.len()] =
        [const { OnceLock::new() }; BUILT_IN.len()];
    let at = BUILT_IN.iter().position(|it| it.0 == name)?;
    // A test reads all of them.
    READ[at].get_or_init(|| file::read(0, name, BUILT_IN[at].1).0.map(Arc::new)).clone()
}

/// The profiles that a configuration may name.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// The user's own, by name.
    own: BTreeMap<String, Arc<KnownProfile>>,
    /// Files with mistakes: the name is known, and nothing else.
    broken: Vec<String>,
}

impl Profiles {
    /// Takes a file of the user's, which is number `file`, and returns its mistakes.
    pub(crate) fn add(&mut self, file: usize, path: &Path, text: &str) -> Vec<Mistake> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (read, mistakes) = file::read(file, &name, text);
        match read {
            Some(it) => drop(self.own.insert(name, Arc::new(it))),
            None => self.broken.push(name),
        }
        mistakes
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<KnownProfile>> {
        self.own.get(name).cloned().or_else(|| built_in(name))
    }

    /// The profile of the server that this command probably starts; the generic one if it tells nothing.
    pub(crate) fn guessed(&self, command: &[String]) -> Arc<KnownProfile> {
        let guess = guess::guess(command);
        let known = guess.as_ref().and_then(|it| self.find(it.profile)).unwrap_or_else(generic);
        let chosen = guess
            .map_or(Chosen::Open, |it| Chosen::Guessed(format!("`{}` in its command", it.because)));
        let profile = Profile { chosen, ..(*known.profile).clone() };
        Arc::new(KnownProfile { profile: Arc::new(profile), ..(*known).clone() })
    }

    /// Those that a tree may turn out to be.
    pub(crate) fn candidates(&self) -> Vec<Arc<KnownProfile>> {
        built_in_names().filter(|it| *it != "generic").filter_map(|it| self.find(it)).collect()
    }

    /// The profile of this name, else the generic one and what is wrong with the name.
    pub(crate) fn named(&self, name: &str, at: Span) -> (Arc<KnownProfile>, Option<Mistake>) {
        if let Some(it) = self.find(name) {
            return (it, None);
        }
        let mistake = || {
            let mut known: Vec<&str> = built_in_names().collect();
            known.extend(self.own.keys().map(String::as_str));
            let title = format!("`profile` cannot be \"{name}\"");
            let help = suggestion(
                name,
                &known,
                "your own go into profiles/NAME.toml beside this file; there are",
            );
            Mistake::new(at, title, "no profile has this name").help(help)
        };
        // What is wrong with a broken file has been said.
        let is_broken = self.broken.iter().any(|it| it == name);
        (generic(), (!is_broken).then(mistake))
    }
}

/// What a service with `profile = "auto"` may become once its tree tells what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Auto {
    pub(crate) candidates: Vec<Arc<KnownProfile>>,
    /// The file says how it is stopped, and how much of the budget is kept for that.
    pub(crate) has_stop: bool,
    pub(crate) has_reserve: bool,
}

impl Auto {
    /// What the tree tells: the arguments of its first process, and of those that are called as it is.
    pub fn guess(&self, leader: &[String], kin: &[Vec<String>]) -> Option<Arc<KnownProfile>> {
        let guess = guess::guess_of_tree(leader, kin)?;
        let known = self.candidates.iter().find(|it| it.profile.name.as_str() == guess.profile)?;
        // A title may be as long as it likes.
        let title: String = guess.because.chars().take(80).collect();
        let chosen = Chosen::Guessed(format!("`{title}` in its tree"));
        let profile = Profile { chosen, ..(*known.profile).clone() };
        Some(Arc::new(KnownProfile { profile: Arc::new(profile), ..(**known).clone() }))
    }
}

/// The profile of whatever nothing is known about.
pub(crate) fn generic() -> Arc<KnownProfile> {
    built_in("generic").unwrap_or_else(|| Arc::new(file::nothing("generic")))
}

/// The user's profiles beside a configuration file, in the order of their names.
pub(crate) fn files_beside(config: &Path) -> Vec<PathBuf> {
    let directory = config.parent().unwrap_or(Path::new("/"));
    super::include::matches(directory, "profiles/*.toml").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::config::{ConfigError, Files};

    #[test]
    fn the_built_in_profiles_have_no_mistakes() {
        for (name, text) in BUILT_IN {
            let (read, mistakes) = file::read(0, name, text);
            assert!(read.is_some() && mistakes.is_empty(), "{name}: {mistakes:?}");
        }
    }

    #[test]
    fn only_where_titles_may_be_missing_others_may_pass_for_workers() {
        let is_unsure = |name: &&str| {
            let roles = &built_in(name).unwrap().roles;
            roles.0.iter().any(|it| it.renewed && roles.may_be_another(it))
        };
        assert_eq!(built_in_names().filter(is_unsure).collect::<Vec<_>>(), ["swoole"]);
    }

    #[test]
    fn a_worker_that_has_its_managers_title_still_is_a_worker() {
        let swoole = built_in("swoole").unwrap();
        let process = |pid, parent, title: &str| roles::Process {
            pid,
            parent,
            name: "php".into(),
            title: title.into(),
            told: None,
            threads: 1,
            polls: None,
        };
        let told = |tree: &[roles::Process]| {
            let found = roles::assign(&swoole.roles, 1, tree);
            found.into_values().map(|it| it.role.as_str()).collect::<Vec<_>>()
        };
        let base = [
            process(1, 0, "shop.Manager"),
            process(2, 1, "shop.Worker.0"),
            process(3, 1, "shop.Manager"),
            process(4, 1, "shop.Master"),
            process(5, 1, "shop.TaskWorker.2"),
        ];
        assert_eq!(told(&base), ["manager", "worker", "worker", "worker", "task worker"]);
        let whole = [
            process(1, 0, "shop.Master"),
            process(2, 1, "shop.Manager"),
            process(3, 2, "shop.Worker.0"),
            process(4, 2, "shop.Manager"),
            process(5, 2, "shop.crontab.0"),
        ];
        assert_eq!(told(&whole), ["master", "manager", "worker", "worker", "user process"]);

        // Without titles.
        let polls =
            |n, pid, parent| roles::Process { polls: Some(n), ..process(pid, parent, "php") };
        let plain = [polls(1, 1, 0), polls(0, 2, 1), polls(1, 3, 2), polls(0, 4, 2)];
        assert_eq!(told(&plain), ["master", "manager", "worker", "task worker"]);
        let base = [polls(0, 1, 0), polls(1, 2, 1), polls(0, 3, 1), process(4, 1, "php")];
        assert_eq!(told(&base), ["manager", "worker", "task worker", "worker"]);
    }

    /// Loads a configuration with these files in `profiles/`.
    fn loaded(config: &str, profiles: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("profiles")).unwrap();
        for (name, text) in profiles {
            std::fs::write(directory.path().join("profiles").join(name), text).unwrap();
        }
        let path = directory.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        let mut files = Files::default();
        files.add_file(&path);
        files_beside(&path).iter().for_each(|it| files.add_profile(it));
        files.resolve(Some(path), vec![])
    }

    const WEB: &str = "[service.web]\ncommand = \"web\"\nprofile = \"own\"\n";

    #[test]
    fn a_profile_of_ones_own_lies_beside_the_configuration() {
        let own =
            "reload = \"HUP\"\nstop = \"QUIT\"\nlimit = { name = \"grace\", default = \"7s\" }\n";
        let settings = loaded(WEB, &[("own.toml", own), ("README", "no profile")]).unwrap();
        let rules = &settings.services[0].rules;
        assert_eq!(rules.profile.name.as_str(), "own");
        assert_eq!((rules.profile.reload, rules.stop[0].signal), (Some(Signal::HUP), Signal::QUIT));
        assert_eq!(rules.reserve.as_secs(), 5, "the limit, but no more than half of max_wait_time");
        let reserve = |profile: &str| {
            let web = format!("[service.web]\ncommand = \"web\"\nprofile = \"{profile}\"\n");
            loaded(&web, &[]).unwrap().services[0].rules.reserve.as_secs()
        };
        assert_eq!(reserve("swoole"), 4, "it ends some hundredths of a second after its limit");
        assert_eq!(reserve("generic"), 3, "that is no server's limit");
    }

    #[test]
    fn the_mistakes_of_a_profile_are_told_with_those_of_the_configuration() {
        let config = format!("{WEB}[service.queue]\ncommand = \"x\"\nprofile = \"swole\"\n");
        let err =
            loaded(&config, &[("own.toml", "about = \"x\"\nrelaod = \"HUP\"\n")]).unwrap_err();
        let lines = err.first_lines();
        let lines: Vec<_> = lines.iter().filter_map(|it| Some(it.rsplit_once('/')?.1)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        config.toml:6: `profile` cannot be "swole"
        own.toml:2: unknown key `relaod`
        "#);
        assert!(err.render(false).contains("did you mean `swoole`?"));
    }

    #[test]
    fn auto_goes_by_the_command_and_says_so() {
        let config = "[service.web]\ncommand = \"php bin/hyperf.php start\"\nprofile = \"auto\"\n\
            [service.queue]\ncommand = \"php queue.php\"\nprofile = \"auto\"\n";
        let settings = loaded(config, &[]).unwrap();
        let profile = |n: usize| &settings.services[n].rules.profile;
        assert_eq!((profile(0).name.as_str(), profile(1).name.as_str()), ("swoole", "generic"));
        assert_eq!(profile(0).reload, Some(Signal::USR1));
        let told: Vec<_> = crate::config::warnings(&settings, &crate::config::Valued::new())
            .iter()
            .map(ToString::to_string)
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        web: its profile is a guess, swoole, from `bin/hyperf.php start` in its command; write profile = "swoole" if that is right
        queue: its command does not tell what it is: its profile is generic; write the name of a profile
        "#);
        assert!(crate::config::show(&settings).contains("profile = \"auto\""));
    }

    #[test]
    fn one_of_the_users_stands_for_the_built_in_one_of_its_name() {
        let config = WEB.replace("own", "nginx");
        let settings = loaded(&config, &[("nginx.toml", "stop = \"INT\"")]).unwrap();
        assert_eq!(settings.services[0].rules.stop[0].signal, Signal::INT);
    }

    #[test]
    fn a_reload_is_harmless_and_a_stop_is_not() {
        for name in built_in_names() {
            let it = built_in(name).unwrap();
            let signals = &it.profile.signals;
            let is_harmless = |signal| signals.iter().any(|it| it.signal == signal && it.harmless);
            assert!(it.profile.reload.is_none_or(is_harmless), "{name}");
            assert!(!is_harmless(it.stop) && !is_harmless(Signal::TERM), "{name}");
        }
    }

    #[test]
    fn what_reloads_has_processes_that_are_renewed() {
        for name in built_in_names() {
            let it = built_in(name).unwrap();
            let has_renewed = it.roles.0.iter().any(|it| it.renewed);
            assert_eq!(it.profile.reload.is_some(), has_renewed, "{name}");
        }
    }
}
