//! Which instance takes the next request.
//!
//! A backup is taken while no primary can be, an ejected instance only while nothing else is left: whoever is
//! in rotation is somebody's last hope. Among equals the one with the fewest requests in flight for its weight,
//! and at a tie the next in turn.

use std::cell::Cell;

/// What the choice looks at.
pub(super) trait Candidate {
    /// Distinguishes this candidate for as long as the process lives.
    fn serial(&self) -> u64;
    fn is_in_rotation(&self) -> bool;
    fn is_ejected(&self) -> bool;
    fn is_backup(&self) -> bool;
    fn weight(&self) -> u32;
    fn in_flight(&self) -> u32;
}

/// The place of the chosen one; none if nobody may be asked.
///
/// `tried` names those that this request was refused by.
pub(super) fn choose<C: Candidate>(
    candidates: &[C],
    tried: &[u64],
    turn: &Cell<usize>,
) -> Option<usize> {
    let count = candidates.len();
    let begin = turn.get();
    turn.set(begin.wrapping_add(1));
    let mut best: Option<usize> = None;
    for offset in 0..count {
        let index = begin.wrapping_add(offset) % count;
        let it = &candidates[index];
        if !it.is_in_rotation() || tried.contains(&it.serial()) {
            continue;
        }
        if best.is_none_or(|best| is_better(it, &candidates[best])) {
            best = Some(index);
        }
    }
    best
}

fn is_better<C: Candidate>(it: &C, than: &C) -> bool {
    let rank = |it: &C| (it.is_ejected(), it.is_backup());
    match rank(it).cmp(&rank(than)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => load(it, than) < load(than, it),
    }
}

/// The load of `it` with one more request, times the weight of the other: fractions without division.
fn load<C: Candidate>(it: &C, other: &C) -> u64 {
    (u64::from(it.in_flight()) + 1) * u64::from(other.weight().max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Plain {
        serial: u64,
        in_rotation: bool,
        ejected: bool,
        backup: bool,
        weight: u32,
        in_flight: u32,
    }

    impl Candidate for Plain {
        fn serial(&self) -> u64 {
            self.serial
        }
        fn is_in_rotation(&self) -> bool {
            self.in_rotation
        }
        fn is_ejected(&self) -> bool {
            self.ejected
        }
        fn is_backup(&self) -> bool {
            self.backup
        }
        fn weight(&self) -> u32 {
            self.weight
        }
        fn in_flight(&self) -> u32 {
            self.in_flight
        }
    }

    fn idle(serial: u64) -> Plain {
        Plain { serial, in_rotation: true, ejected: false, backup: false, weight: 1, in_flight: 0 }
    }

    fn chosen(candidates: &[Plain]) -> Option<usize> {
        choose(candidates, &[], &Cell::new(0))
    }

    #[test]
    fn the_one_with_the_fewest_in_flight_is_taken() {
        let busy = Plain { in_flight: 3, ..idle(1) };
        assert_eq!(chosen(&[busy, Plain { in_flight: 2, ..idle(2) }]), Some(1));
    }

    #[test]
    fn equals_take_turns() {
        let two = [idle(1), idle(2)];
        let turn = Cell::new(0);
        let taken: Vec<_> = (0..4).filter_map(|_| choose(&two, &[], &turn)).collect();
        assert_eq!(taken, [0, 1, 0, 1]);
    }

    #[test]
    fn a_heavier_one_takes_more() {
        let heavy = Plain { weight: 3, in_flight: 4, ..idle(1) };
        assert_eq!(chosen(&[heavy.clone(), Plain { in_flight: 2, ..idle(2) }]), Some(0));
        assert_eq!(chosen(&[heavy, Plain { in_flight: 0, ..idle(2) }]), Some(1));
    }

    #[test]
    fn a_backup_waits_until_no_primary_can_be_asked() {
        let backup = Plain { backup: true, ..idle(2) };
        let busy = Plain { in_flight: 900, ..idle(1) };
        assert_eq!(chosen(&[busy.clone(), backup.clone()]), Some(0));
        let out = [Plain { in_rotation: false, ..busy }, backup];
        assert_eq!(chosen(&out), Some(1));
        let [primary, backup] = out;
        assert_eq!(
            chosen(&[Plain { in_rotation: true, ejected: true, ..primary }, backup]),
            Some(1)
        );
    }

    #[test]
    fn the_last_one_is_asked_although_it_is_ejected() {
        assert_eq!(chosen(&[Plain { ejected: true, ..idle(1) }]), Some(0));
    }

    #[test]
    fn nobody_is_asked_twice_for_one_request() {
        let two = [idle(1), idle(2)];
        assert_eq!(choose(&two, &[1], &Cell::new(0)), Some(1));
        assert_eq!(choose(&two, &[1, 2], &Cell::new(0)), None);
        assert_eq!(chosen(&[]), None);
    }

    prop_compose! {
        fn any()(
            in_rotation: bool, ejected: bool, backup: bool, weight in 0u32..5, in_flight in 0u32..9,
        ) -> Plain {
            Plain { serial: 0, in_rotation, ejected, backup, weight, in_flight }
        }
    }

    proptest! {
        #[test]
        fn the_chosen_one_is_in_rotation_and_nobody_better_was_there(
            mut all in prop::collection::vec(any(), 0..6),
            tried in prop::collection::vec(0u64..6, 0..4),
            turn: usize,
        ) {
            for (serial, it) in (0..).zip(&mut all) {
                it.serial = serial;
            }
            let may = |it: &&Plain| it.in_rotation && !tried.contains(&it.serial);
            match choose(&all, &tried, &Cell::new(turn)) {
                None => prop_assert_eq!(all.iter().filter(may).count(), 0),
                Some(index) => {
                    let chosen = &all[index];
                    prop_assert!(may(&chosen));
                    prop_assert!(all.iter().filter(may).all(|it| !is_better(it, chosen)));
                }
            }
        }
    }
}
