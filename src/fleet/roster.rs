//! Things by name, in the order they came.
//!
//! A thing keeps its number for as long as it is there, so what refers to it (deadlines, what is due)
//! compares numbers instead of names. Looking one up by name or by number costs the same for ten of them
//! as for ten thousand.

use std::collections::HashMap;

use super::words::Name;

/// Something that is looked up by its name.
pub(super) trait Named {
    fn name(&self) -> &Name;
}

pub(super) struct Roster<T> {
    index: HashMap<Name, usize>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T: Named> Roster<T> {
    pub(super) fn new() -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), free: Vec::new() }
    }

    /// Adds it and returns its number. There must be none of that name yet.
    pub(super) fn add(&mut self, thing: T) -> usize {
        let name = thing.name().clone();
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number] = Some(thing);
                number
            }
            None => {
                self.slots.push(Some(thing));
                self.slots.len() - 1
            }
        };
        self.index.insert(name, number);
        number
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        let thing = self.slots.get_mut(number)?.take()?;
        self.index.remove(thing.name());
        self.free.push(number);
        Some(thing)
    }

    /// Changes the name of a thing, by `rename`.
    pub(super) fn rename(&mut self, number: usize, rename: impl FnOnce(&mut T)) {
        let Some(thing) = self.slots.get_mut(number).and_then(Option::as_mut) else { return };
        self.index.remove(thing.name());
        rename(thing);
        self.index.insert(thing.name().clone(), number);
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn at(&self, number: usize) -> Option<&T> {
        self.slots.get(number)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, number: usize) -> Option<&mut T> {
        self.slots.get_mut(number)?.as_mut()
    }

    pub(super) fn get(&self, name: impl AsRef<str>) -> Option<&T> {
        self.at(self.number(name.as_ref())?)
    }

    pub(super) fn get_mut(&mut self, name: impl AsRef<str>) -> Option<&mut T> {
        self.at_mut(self.number(name.as_ref())?)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, it)| it.is_some()).map(|(number, _)| number)
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.values().map(|it| it.name().clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Name);

    impl Named for Thing {
        fn name(&self) -> &Name {
            &self.0
        }
    }

    #[test]
    fn things_keep_their_numbers_and_free_numbers_are_used_again() {
        let mut roster = Roster::new();
        let numbers = ["a", "b", "c"].map(|it| roster.add(Thing(it.into())));
        assert_eq!(numbers, [0, 1, 2]);
        assert!(roster.remove(1).is_some() && roster.remove(1).is_none());
        assert!(roster.get("b").is_none() && roster.at(1).is_none() && roster.at(7).is_none());
        assert_eq!((roster.number("c"), roster.len()), (Some(2), 2));
        assert_eq!(roster.numbers().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(roster.add(Thing("d".into())), 1);
        assert_eq!(roster.names(), ["a".into(), "d".into(), "c".into()]);
        assert!(roster.get_mut("d").is_some());
    }
}
