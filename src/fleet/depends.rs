//! Who waits for whom.
//!
//! An instance is first started when every service it depends on is ready; when everything stops, it is
//! stopped when nothing that depends on it runs any more. The configuration refuses cycles; here an edge
//! that would close one is left out, so that nothing can wait for itself.

use std::collections::{BTreeMap, BTreeSet};

use super::words::Name;

/// The edges between services, in both directions.
#[derive(Debug, Default)]
pub(super) struct Depends {
    /// Service to the services it depends on.
    after: BTreeMap<Name, Vec<Name>>,
    /// Service to the services that depend on it.
    before: BTreeMap<Name, Vec<Name>>,
}

impl Depends {
    /// `wishes`: each service, in file order, with what it names. Unknown names are left out.
    pub(super) fn new(wishes: &[(Name, Vec<Name>)]) -> Self {
        if wishes.iter().all(|(_, on)| on.is_empty()) {
            return Self::default();
        }
        let known: BTreeMap<&Name, &Vec<Name>> =
            wishes.iter().map(|(name, on)| (name, on)).collect();
        let mut depends = Self::default();
        let mut done = BTreeSet::new();
        for (name, on) in wishes {
            if on.is_empty() || done.contains(name) {
                continue;
            }
            depends.walk(name, &known, &mut done);
        }
        depends
    }

    /// Depth first, with a stack of its own: the chain may be as long as the configuration.
    fn walk<'a>(
        &mut self,
        root: &'a Name,
        known: &BTreeMap<&'a Name, &'a Vec<Name>>,
        done: &mut BTreeSet<&'a Name>,
    ) {
        let mut open: BTreeSet<&Name> = BTreeSet::from([root]);
        let mut stack: Vec<(&Name, usize)> = vec![(root, 0)];
        while let Some((name, index)) = stack.pop() {
            let Some(on) = known.get(name).and_then(|on| on.get(index)) else {
                open.remove(name);
                done.insert(name);
                continue;
            };
            stack.push((name, index + 1));
            let closes_a_cycle = open.contains(on);
            let Some((on, _)) = known.get_key_value(on).filter(|_| !closes_a_cycle) else {
                continue;
            };
            self.after.entry(name.clone()).or_default().push((*on).clone());
            self.before.entry((*on).clone()).or_default().push(name.clone());
            if !done.contains(*on) {
                open.insert(on);
                stack.push((on, 0));
            }
        }
    }

    /// What this service waits for.
    pub(super) fn of(&self, service: &Name) -> &[Name] {
        self.after.get(service).map_or(&[], Vec::as_slice)
    }

    /// Who waits for this service.
    pub(super) fn on(&self, service: &Name) -> &[Name] {
        self.before.get(service).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depends(wishes: &[(&str, &[&str])]) -> Depends {
        let wishes: Vec<(Name, Vec<Name>)> = wishes
            .iter()
            .map(|(name, on)| ((*name).into(), on.iter().map(|it| (*it).into()).collect()))
            .collect();
        Depends::new(&wishes)
    }

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|it| (*it).into()).collect()
    }

    #[test]
    fn edges_are_known_in_both_directions() {
        let depends = depends(&[
            ("web", &["redis", "db"]),
            ("queue", &["redis"]),
            ("redis", &[]),
            ("db", &[]),
        ]);
        assert_eq!(depends.of(&"web".into()), names(&["redis", "db"]));
        assert_eq!(depends.on(&"redis".into()), names(&["web", "queue"]));
        assert_eq!(depends.of(&"redis".into()), names(&[]));
        assert_eq!(depends.on(&"web".into()), names(&[]));
    }

    #[test]
    fn an_edge_that_closes_a_cycle_is_left_out() {
        let depends = depends(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &["d"])]);
        assert_eq!(depends.of(&"a".into()), names(&["b"]));
        assert_eq!(depends.of(&"b".into()), names(&["c"]));
        assert_eq!(depends.of(&"c".into()), names(&["d"]));
        assert_eq!(depends.of(&"d".into()), names(&[]));
    }

    #[test]
    fn names_that_nobody_bears_are_left_out() {
        let depends = depends(&[("web", &["redis", "nothing"]), ("redis", &[])]);
        assert_eq!(depends.of(&"web".into()), names(&["redis"]));
        assert_eq!(depends.on(&"nothing".into()), names(&[]));
    }

    #[test]
    fn a_service_reached_twice_is_walked_once() {
        let depends =
            depends(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &["e"]), ("e", &[])]);
        assert_eq!(depends.on(&"d".into()), names(&["b", "c"]));
        assert_eq!(depends.on(&"e".into()), names(&["d"]));
    }
}
