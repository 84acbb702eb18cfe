//! Which instance a rolling restart takes next.
//!
//! A rollout is level-triggered: after every event [`next`] is asked with the members as they are. There
//! is no script to lose one's place in, so a crash halfway, a new configuration or an operator who
//! changes their mind need no special case. Whether an instance may be taken away is decided in
//! [`can_spare`] and nowhere else.

use super::sheet::PlanStep;
use super::words::Name;

/// One instance, as far as a rollout cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) backup: bool,
    /// By its readiness probe.
    pub(super) ready: bool,
    /// Ready, and nobody keeps it out of rotation.
    pub(super) serving: bool,
    pub(super) held: bool,
    /// Still to be renewed.
    pub(super) due: bool,
    /// Renewed by this rollout.
    pub(super) renewed: bool,
    /// Renewed, and something went wrong with it since.
    pub(super) failed: bool,
    /// On its way up or down, or not yet probed by this daemon: it can be taken when that is known.
    pub(super) moving: bool,
    /// Being restarted because of its liveness.
    pub(super) healing: bool,
    /// Lives only while the others are renewed.
    pub(super) spare: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Renew the member at this index.
    Take(usize),
    /// Not now: why.
    Wait(String),
    /// A renewed member went wrong. Do not touch the old ones.
    Halt {
        index: usize,
        why: String,
    },
    Done,
}

/// Chooses the next step. `chosen` is built already and goes before all others.
pub(super) fn next(members: &[Member], min_ready: usize, chosen: Option<&Name>) -> Next {
    let candidate = candidate(members, chosen);
    // A spare that nobody needs any more may have gone wrong.
    let matters = |it: &Member| !it.spare || candidate.is_some();
    if let Some(index) = members.iter().position(|it| it.renewed && it.failed && matters(it)) {
        let name = &members[index].name;
        let why = match members[index].spare {
            true => format!("{name}, the spare, does not stand by any more"),
            false => format!("{name} went wrong after it was renewed"),
        };
        return Next::Halt { index, why };
    }
    let Some(index) = candidate else { return Next::Done };
    if let Some(it) = members.iter().find(|it| it.renewed && !it.ready) {
        return Next::Wait(format!("{} was renewed and is not ready", it.name));
    }
    let others = || members.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, it)| it);
    if let Some(it) = others().find(|it| it.healing) {
        return Next::Wait(format!("{} is being restarted because liveness failed", it.name));
    }
    if members[index].moving {
        return Next::Wait(format!("{} is not yet where it is going", members[index].name));
    }
    if can_spare(members, index, min_ready) {
        return Next::Take(index);
    }
    let missing: Vec<String> = others().filter(|it| !it.serving).map(blockage).collect();
    let why = if missing.is_empty() { "no other instance runs".into() } else { missing.join(", ") };
    Next::Wait(format!("{} cannot be spared (min_ready {min_ready}): {why}", members[index].name))
}

/// Taking it away leaves at least `min_ready` serving, or takes nothing away.
pub(super) fn can_spare(members: &[Member], index: usize, min_ready: usize) -> bool {
    let others = members.iter().enumerate().filter(|(i, it)| *i != index && it.serving).count();
    !members[index].serving || others >= min_ready
}

/// A spare first, then not-ready ones, then backups, then primaries; in file order within each.
fn candidate(members: &[Member], chosen: Option<&Name>) -> Option<usize> {
    let due = due(members);
    due.min_by_key(|(_, it)| (Some(&it.name) != chosen, rank(it))).map(|(index, _)| index)
}

/// Those that are still to be renewed. A spare is for the others.
fn due(members: &[Member]) -> impl Iterator<Item = (usize, &Member)> {
    let others = members.iter().any(|it| it.due && !it.spare);
    members.iter().enumerate().filter(move |(_, it)| it.due && (others || !it.spare))
}

fn rank(member: &Member) -> u8 {
    match (member.serving, member.spare, member.backup) {
        (false, true, _) => 0,
        (false, false, _) => 1,
        // A halt has left it: it serves for one that does not, so that one goes first.
        (true, true, _) => 2,
        (true, false, true) => 3,
        (true, false, false) => 4,
    }
}

fn blockage(member: &Member) -> String {
    let why = match (member.ready, member.held) {
        (false, _) => "is not ready",
        (true, true) => "is held out of rotation",
        (true, false) => "is out of rotation",
    };
    format!("{} {why}", member.name)
}

/// The steps of a rollout that begins now, in order.
pub(super) fn steps(members: &[Member]) -> Vec<PlanStep> {
    let mut due: Vec<&Member> = due(members).map(|(_, it)| it).collect();
    due.sort_by_key(|it| rank(it));
    let because = |it: &Member| match (it.ready, it.serving, it.backup) {
        _ if it.spare => "spare",
        (false, _, _) => "not ready",
        (true, false, _) => "out of rotation",
        (true, true, true) => "backup",
        (true, true, false) => "primary",
    };
    due.into_iter()
        .map(|it| PlanStep { instance: it.name.clone(), because: because(it), ready: it.ready })
        .collect()
}

/// How a plan turns out if every step succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    Fine,
    /// Taking this member leaves nobody to serve.
    Downtime(usize),
    /// This member can never be taken.
    Stuck {
        index: usize,
        why: String,
    },
}

/// Plays the plan through on members that all come back well.
pub(super) fn outlook(members: &[Member], min_ready: usize) -> Outlook {
    let mut members = members.to_vec();
    for it in &mut members {
        it.moving = false;
        it.healing = false;
    }
    let mut outlook = Outlook::Fine;
    while let Some(index) = candidate(&members, None) {
        if let Next::Wait(why) = next(&members, min_ready, None) {
            return Outlook::Stuck { index, why };
        }
        let others = members.iter().enumerate().any(|(i, it)| i != index && it.serving);
        if members[index].serving && !others && outlook == Outlook::Fine {
            outlook = Outlook::Downtime(index);
        }
        let it = &mut members[index];
        it.ready = true;
        it.serving = !it.held;
        it.due = false;
        it.renewed = true;
    }
    outlook
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(name: &str) -> Member {
        Member {
            name: name.into(),
            backup: false,
            ready: true,
            serving: true,
            held: false,
            due: true,
            renewed: false,
            failed: false,
            moving: false,
            healing: false,
            spare: false,
        }
    }

    fn spare() -> Member {
        Member { spare: true, ..unready(old("s")) }
    }

    fn new(name: &str) -> Member {
        Member { due: false, renewed: true, ..old(name) }
    }

    fn backup(name: &str) -> Member {
        Member { backup: true, ..old(name) }
    }

    fn unready(member: Member) -> Member {
        Member { ready: false, serving: false, ..member }
    }

    fn held(member: Member) -> Member {
        Member { held: true, serving: false, ..member }
    }

    fn wait(why: &str) -> Next {
        Next::Wait(why.into())
    }

    #[test]
    fn goes_one_at_a_time_in_file_order() {
        assert_eq!(next(&[old("a"), old("b")], 1, None), Next::Take(0));
        assert_eq!(next(&[new("a"), old("b")], 1, None), Next::Take(1));
        assert_eq!(next(&[new("a"), new("b")], 1, None), Next::Done);
        assert_eq!(next(&[], 0, None), Next::Done);
    }

    #[test]
    fn takes_those_that_do_not_serve_first_then_backups_then_primaries() {
        let members = [old("a"), backup("b"), unready(old("c"))];
        assert_eq!(next(&members, 1, None), Next::Take(2));
        assert_eq!(next(&[old("a"), backup("b"), new("c")], 1, None), Next::Take(1));
        assert_eq!(next(&[old("a"), held(old("b"))], 0, None), Next::Take(1));
        let order: Vec<(String, &str)> =
            steps(&members).into_iter().map(|it| (it.instance.to_string(), it.because)).collect();
        let expected = [("c", "not ready"), ("b", "backup"), ("a", "primary")];
        assert_eq!(order, expected.map(|(name, why)| (name.to_owned(), why)));
    }

    #[test]
    fn the_one_that_is_built_already_goes_first() {
        let members = [old("a"), backup("b")];
        assert_eq!(next(&members, 1, Some(&"a".into())), Next::Take(0));
        assert_eq!(next(&members, 1, Some(&"gone".into())), Next::Take(1));
    }

    #[test]
    fn waits_while_too_few_others_serve_and_names_who_is_missing() {
        assert_eq!(
            next(&[new("a"), old("b"), old("c")], 3, None),
            wait("b cannot be spared (min_ready 3): no other instance runs")
        );
        assert_eq!(
            next(&[old("a"), held(new("b")), Member { serving: false, ..new("c") }], 1, None),
            wait(
                "a cannot be spared (min_ready 1): b is held out of rotation, c is out of rotation"
            )
        );
    }

    #[test]
    fn taking_away_what_does_not_serve_costs_nothing() {
        assert!(can_spare(&[unready(old("a")), unready(old("b"))], 0, 1));
        assert!(!can_spare(&[old("a"), unready(old("b"))], 0, 1));
        assert!(can_spare(&[old("a"), backup("b")], 0, 1));
        assert!(!can_spare(&[old("a"), old("b"), old("c")], 0, 3));
    }

    #[test]
    fn stops_at_the_first_renewed_one_that_went_wrong() {
        let failed = Member { failed: true, ..new("a") };
        let why = "a went wrong after it was renewed".to_owned();
        assert_eq!(next(&[old("b"), failed], 0, None), Next::Halt { index: 1, why });
        let crashed_before_its_turn = Member { failed: true, ..old("a") };
        assert_eq!(next(&[crashed_before_its_turn, old("b")], 1, None), Next::Take(0));
    }

    #[test]
    fn waits_for_a_renewed_one_that_is_not_ready_even_if_it_could_be_spared() {
        let members = [unready(new("a")), old("b"), old("c")];
        assert_eq!(next(&members, 0, None), wait("a was renewed and is not ready"));
    }

    #[test]
    fn keeps_away_from_what_is_moving_and_from_a_liveness_restart() {
        let moving = Member { moving: true, ..unready(old("a")) };
        assert_eq!(next(&[moving, old("b")], 1, None), wait("a is not yet where it is going"));
        let healing = Member { healing: true, ..unready(new("b")) };
        assert_eq!(
            next(&[old("a"), Member { ready: true, ..healing.clone() }], 0, None),
            wait("b is being restarted because liveness failed")
        );
        assert_eq!(
            next(&[Member { due: true, renewed: false, ..healing }, old("b")], 1, None),
            Next::Take(0)
        );
    }

    #[test]
    fn a_spare_comes_first_and_serves_for_those_that_are_renewed() {
        let ready = Member { ready: true, serving: true, due: false, renewed: true, ..spare() };
        assert_eq!(next(&[old("a"), unready(old("b")), spare()], 1, None), Next::Take(2));
        assert_eq!(next(&[old("a"), ready.clone()], 1, None), Next::Take(0));
        assert_eq!(next(&[new("a"), ready], 1, None), Next::Done);
        assert_eq!(next(&[new("a"), spare()], 1, None), Next::Done, "it is for nobody");
        assert_eq!(outlook(&[old("a"), spare()], 1), Outlook::Fine);
        let because: Vec<&str> =
            steps(&[old("a"), spare()]).into_iter().map(|it| it.because).collect();
        assert_eq!(because, ["spare", "primary"]);
    }

    #[test]
    fn a_spare_that_goes_wrong_halts_only_what_still_needs_it() {
        let failed = Member { renewed: true, due: false, failed: true, ..spare() };
        let why = "s, the spare, does not stand by any more".to_owned();
        assert_eq!(next(&[old("a"), failed.clone()], 1, None), Next::Halt { index: 1, why });
        assert_eq!(next(&[new("a"), failed], 1, None), Next::Done);
    }

    #[test]
    fn a_spare_that_a_halt_has_left_is_renewed_when_others_serve() {
        let left = Member { ready: true, serving: true, ..spare() };
        assert_eq!(next(&[unready(old("a")), left.clone()], 1, None), Next::Take(0));
        assert_eq!(next(&[old("a"), left], 1, None), Next::Take(1));
    }

    #[test]
    fn a_plan_knows_downtime_and_dead_ends() {
        assert_eq!(outlook(&[old("a"), old("b")], 1), Outlook::Fine);
        assert_eq!(outlook(&[old("a")], 0), Outlook::Downtime(0));
        assert_eq!(outlook(&[unready(old("a"))], 0), Outlook::Fine);
        assert_eq!(outlook(&[old("a"), held(old("b"))], 0), Outlook::Downtime(0));
        assert_eq!(
            outlook(&[old("a"), held(old("b"))], 1),
            Outlook::Stuck {
                index: 0,
                why: "a cannot be spared (min_ready 1): b is held out of rotation".into()
            }
        );
        let moving = Member { moving: true, healing: true, ..unready(old("a")) };
        assert_eq!(outlook(&[moving, old("b")], 1), Outlook::Fine);
    }
}
