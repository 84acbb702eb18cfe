//! Who the users of the services are.
//!
//! The directory of accounts may be slow, or not answer (LDAP, sssd). So it is asked where a configuration is read,
//! beside whoever decides, and what it said holds until the next one is read. Only a user that it did not know is asked
//! for again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Uid, User};

use super::settings::Settings;

type Answer = nix::Result<Option<User>>;

/// The directory, and what it said.
struct Directory {
    ask: fn(&str) -> Answer,
    known: Mutex<BTreeMap<String, User>>,
}

static DIRECTORY: Directory = Directory { ask, known: Mutex::new(BTreeMap::new()) };

/// Asks for all users of a configuration, and for our own. Blocking.
pub fn learn(settings: &Settings) {
    let users = settings.services.iter().flat_map(|it| &it.instances);
    let users = users.filter_map(|it| it.launch.user.clone());
    let own = Uid::effective().to_string();
    let names: std::collections::BTreeSet<String> = users.chain([own]).collect();
    names.iter().for_each(|it| DIRECTORY.learn(it));
}

/// The account behind `name`, or a number, either with `:group`.
pub fn user(name: &str) -> Option<User> {
    DIRECTORY.user(name)
}

/// Our own.
pub fn own() -> Option<User> {
    user(&Uid::effective().to_string())
}

impl Directory {
    fn learn(&self, user: &str) {
        let name = without_group(user);
        // Who does not answer takes nothing back.
        let Ok(answer) = (self.ask)(name) else { return };
        let mut known = self.known();
        match answer {
            Some(it) => drop(known.insert(name.to_owned(), it)),
            None => drop(known.remove(name)),
        }
    }

    fn user(&self, user: &str) -> Option<User> {
        let name = without_group(user);
        let known = self.known().get(name).cloned();
        known.or_else(|| {
            self.learn(name);
            self.known().get(name).cloned()
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, User>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_group(user: &str) -> &str {
    user.split(':').next().unwrap_or_default()
}

fn ask(name: &str) -> Answer {
    match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn count(name: &str) -> Answer {
        let asked = ASKED.fetch_add(1, Ordering::SeqCst);
        if asked == 2 { Err(nix::Error::EIO) } else { ask(name) }
    }

    #[test]
    fn who_was_asked_for_is_not_asked_for_again_until_the_next_configuration() {
        let directory = Directory { ask: count, known: Mutex::default() };
        let asked = || ASKED.load(Ordering::SeqCst);
        directory.learn("root:root");
        assert_eq!(asked(), 1);
        for name in ["root", "root:daemon", "root"] {
            assert_eq!(directory.user(name).map(|it| it.uid.as_raw()), Some(0));
        }
        assert_eq!(asked(), 1, "a start asks nobody");
        directory.learn("root");
        assert_eq!(asked(), 2);
        // It does not answer: what it said before holds.
        directory.learn("root");
        assert!(directory.user("root").is_some());
        assert_eq!(asked(), 3);
        assert!(directory.user("no-such-user").is_none());
        assert_eq!(asked(), 4, "who may have come since is asked for");
    }
}
