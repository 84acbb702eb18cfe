//! A number for everything a process is started with.
//!
//! Two equal numbers mean that a running instance is what the configuration says; another number makes
//! it stale. It is kept on disk across daemons, so it must not depend on the run, the machine or the
//! compiler: 64-bit FNV-1a (draft-eastlake-fnv) over each part with its length in front, in a fixed
//! order. The profile, probes, limits and the ladder are not part of it: they apply at once.

use super::settings::{Launch, Socket};
use crate::probe::Rights;

/// The fingerprint of an instance: its port and its launch, `{names}` of `--set` unexpanded.
pub(crate) fn of(port: Option<u16>, launch: &Launch) -> u64 {
    // A new field would go unnoticed otherwise.
    let Launch { argv, directory, environment, user, rights, socket } = launch;
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.number(argv.len());
    for word in argv {
        hash.part(word.0.as_bytes());
    }
    hash.optional(directory.as_ref().map(|it| it.as_os_str().as_encoded_bytes()));
    hash.number(environment.len());
    for (name, value) in environment {
        hash.part(name.as_bytes());
        hash.part(value.0.as_bytes());
    }
    hash.optional(user.as_ref().map(String::as_bytes));
    hash.optional(port.map(u16::to_le_bytes).as_ref().map(|it| it.as_slice()));
    // Without one the number is what it was before there were any.
    if let Some(Socket { listen, name, backlog: _ }) = socket {
        hash.part(listen.to_string().as_bytes());
        hash.part(name.as_bytes());
    }
    // Nor with all the rights that there were before.
    let Rights { no_new_privs, capabilities } = rights;
    if *rights != Rights::default() {
        hash.number(usize::from(*no_new_privs));
        hash.optional(capabilities.as_ref().map(|it| it.join(" ")).as_ref().map(String::as_bytes));
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.bytes(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.bytes(&[u8::from(bytes.is_some())]);
        self.part(bytes.unwrap_or_default());
    }
}

/// FNV-1a of some bytes: a short name for a long path.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.bytes(bytes);
    hash.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::settings::Text;
    use super::*;

    fn launch() -> Launch {
        Launch {
            argv: vec![Text("php".into()), Text("start".into())],
            directory: Some("/srv".into()),
            environment: BTreeMap::from([("A".into(), Text("1".into()))]),
            user: None,
            rights: Rights::default(),
            socket: None,
        }
    }

    /// A change of this number makes every running instance stale after an upgrade.
    #[test]
    fn the_number_stays_what_it_is() {
        assert_eq!(of_bytes(b"foobar"), 0x85944171f73967e8, "the test vector of the draft");
        assert_eq!(of(Some(9502), &launch()), 0xe382bacbe29db12d);
    }

    #[test]
    fn every_part_counts() {
        let base = of(Some(1), &launch());
        let mut moved = launch();
        moved.argv = vec![Text("phps".into()), Text("tart".into())];
        let mut elsewhere = launch();
        elsewhere.directory = None;
        let mut other = launch();
        other.environment.insert("A".into(), Text("2".into()));
        let mut as_user = launch();
        as_user.user = Some("www-data".into());
        let socket = |listen: &str, backlog| {
            let listen = listen.parse().unwrap();
            Launch { socket: Some(Socket { listen, name: "web".into(), backlog }), ..launch() }
        };
        let (here, there) = (socket("127.0.0.1:1", 1), socket("127.0.0.1:2", 1));
        assert_ne!(of(Some(1), &here), of(Some(1), &there));
        assert_eq!(of(Some(1), &here), of(Some(1), &socket("127.0.0.1:1", 2)));

        let mut tame = launch();
        tame.rights.no_new_privs = true;
        let mut weak = launch();
        weak.rights.capabilities = Some(vec![]);
        let mut able = launch();
        able.rights.capabilities = Some(vec!["CAP_KILL".into()]);
        assert_ne!(of(None, &weak), of(None, &able));

        for changed in [moved, elsewhere, other, as_user, here, tame, weak, able] {
            assert_ne!(of(Some(1), &changed), base, "{changed:?}");
        }
        assert_ne!(of(Some(2), &launch()), base);
        assert_ne!(of(None, &launch()), base);
    }
}
