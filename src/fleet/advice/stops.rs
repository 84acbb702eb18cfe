//! What stops show: a limit of the server's own, a signal that cuts, one that is not obeyed.

use std::time::Duration;

use super::tree::listed;
use super::{Advice, Evidence, Member, PastStop, Taken};
use crate::fleet::rules::Profile;
use crate::fleet::turn::{elapsed, span};
use crate::fleet::words::Signal;
use crate::quantity::count;

/// An end within this time after a signal is no drain.
const AT_ONCE: Duration = Duration::from_millis(500);
/// What ends this close to a limit has met it.
const GRAIN: Duration = Duration::from_millis(150);
/// What ends this much before SIGKILL has not waited for it.
const MARGIN: Duration = Duration::from_millis(500);
/// Limits are whole numbers of them.
const SECOND: Duration = Duration::from_secs(1);
/// Stops that lost nothing and took less speak for no limit.
const SHORTEST: Duration = Duration::from_secs(2);
/// How long a stop may take where no limit is known.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests that were cut off although there was time left, or stops that all took the same time.
pub(super) fn own_limit(evidence: &Evidence) -> Option<Advice> {
    let stops = &evidence.stops;
    let profile = &evidence.case.profile;
    let (cut, alike) = (cut(evidence), alike(stops, profile));
    let newest = cut.last().or(alike.last())?;
    let took = if cut.is_empty() { newest.after } else { newest.cut() };
    let (limit, is_default) = limit_of(took, profile);
    let (after, signal) = (elapsed(took), &newest.signal);
    let had = span(newest.max_wait_time);
    let seen = match cut.len() {
        0 => {
            let (n, took) = (alike.len(), range(&alike));
            format!("its last {n} stops all took {took} from {signal} on, of {had}")
        }
        1 => {
            let lost = newest.lost - newest.late;
            let verb = if lost == 1 { "was" } else { "were" };
            let lost = count(lost.into(), "request");
            format!("{lost} {verb} cut off {after} after {signal}, although it had {had}")
        }
        n => {
            let of = stops.len();
            format!(
                "{n} of its last {of} stops cut requests off, the last {after} after {signal}, \
                 although it had {had}"
            )
        }
    };
    let name = limit_name(profile);
    let or_else = match profile.limit_times {
        _ if is_default => ", its default".to_owned(),
        0 | 1 => String::new(),
        times => format!(", or {} if it took {times} times that", span(limit / times)),
    };
    let means = format!("its own {name} looks like {}{or_else}", span(limit));
    let help = if cut.is_empty() {
        format!(
            "nothing was lost, but something kept it until then: an idle connection, a timer, \
             a job; `opsdeck why {}` tells what while it stops",
            evidence.case.instance
        )
    } else {
        raise(profile)
    };
    Some(Advice { kind: "own-limit", seen, means, help })
}

fn raise(profile: &Profile) -> String {
    let name = limit_name(profile);
    let twice = match profile.limit_times {
        0 | 1 => String::new(),
        times => format!(", and the deck's max_wait_time to more than {times} times that"),
    };
    format!("raise the server's {name} to what its longest request takes{twice}")
}

fn limit_name(profile: &Profile) -> &str {
    profile.limit_name.as_deref().unwrap_or("max_wait_time")
}

/// Stops that lost requests with time left, some time after the signal.
fn cut(evidence: &Evidence) -> Vec<&PastStop> {
    let profile = &evidence.case.profile;
    let is_cutter = evidence.tree.iter().any(|it| it.leads && it.cuts);
    // One that cuts at the signal ends whenever its workers have: only a whole second speaks for a limit.
    let speaks = |it: &&PastStop| {
        let (cut, limit) = (it.cut(), profile.limit);
        let is_known = !is_cutter || it.cut_after.is_some();
        is_known || cut + GRAIN >= limit && cut.abs_diff(rounded(cut, SECOND)) <= GRAIN
    };
    // What came later was cut by the end, whatever brought that.
    let is_cut = |it: &&PastStop| it.lost > it.late && it.cut() >= AT_ONCE && had_time(it);
    evidence.stops.iter().filter(is_cut).filter(speaks).collect()
}

fn had_time(stop: &PastStop) -> bool {
    !stop.killed && stop.after + MARGIN <= stop.max_wait_time
}

/// The last stops, if two or more of them took the same number of whole seconds, or met a default limit of a
/// clock that is early by a different time each.
fn alike<'a>(stops: &'a [PastStop], profile: &Profile) -> Vec<&'a PastStop> {
    let Some(last) = stops.last() else { return vec![] };
    let near = |a: Duration, b: Duration| a.abs_diff(b) <= GRAIN;
    let is_whole = last.after >= SECOND - GRAIN && near(last.after, rounded(last.after, SECOND));
    let is_early = |it: &PastStop| !profile.limit_early.is_zero() && limit_of(it.after, profile).1;
    let both = |it: &PastStop| near(it.after, last.after) || is_early(it) && is_early(last);
    let mut found: Vec<_> = stops.iter().rev().take_while(|it| had_time(it) && both(it)).collect();
    found.reverse();
    // Servers end so soon for reasons of their own, and before a limit that nobody has shortened.
    let is_short = last.after + GRAIN < SHORTEST;
    let is_below = profile.limit_known && last.after + GRAIN < profile.limit && !is_early(last);
    if is_short || is_below {
        return vec![];
    }
    if (is_whole || is_early(last)) && found.len() > 1 { found } else { vec![] }
}

/// `3.0s`, or `2.2s to 2.9s`.
fn range(stops: &[&PastStop]) -> String {
    let all = || stops.iter().map(|it| it.after);
    let (least, most) = (all().min().unwrap_or_default(), all().max().unwrap_or_default());
    match most - least <= GRAIN {
        true => elapsed(stops.last().map_or(most, |it| it.after)),
        false => format!("{} to {}", elapsed(least), elapsed(most)),
    }
}

/// The limit that an end at this time speaks for, and whether it is what the server does by default.
fn limit_of(after: Duration, profile: &Profile) -> (Duration, bool) {
    let (limit, clock) = (profile.limit, profile.limit_early);
    let is_known = profile.limit_known && !limit.is_zero();
    let meets = |limit: Duration| after.abs_diff(limit) <= 2 * GRAIN;
    // Its clock has the next whole step already.
    let told = match clock.is_zero() {
        true => rounded(after, SECOND / 2),
        false => steps(after.saturating_sub(GRAIN), clock, f64::ceil),
    };
    let is_early = !clock.is_zero() && told == limit;
    if is_known && (is_early || meets(limit) || meets(limit * profile.limit_times)) {
        return (limit, true);
    }
    (told, false)
}

fn rounded(time: Duration, to: Duration) -> Duration {
    steps(time, to, f64::round)
}

/// A whole number of these steps.
fn steps(time: Duration, step: Duration, whole: impl Fn(f64) -> f64) -> Duration {
    step.mul_f64(whole(time.as_secs_f64() / step.as_secs_f64()))
}

/// The first signal of its stop cuts requests, and nothing takes it out of the traffic before.
pub(super) fn cuts_at_once(evidence: &Evidence) -> Option<Advice> {
    let case = &evidence.case;
    let (port, signal) = (case.port?, case.begins_with?);
    if case.fronted {
        return None;
    }
    let is_seen = |it: &&PastStop| it.lost > 0 && it.cut() < AT_ONCE && !it.killed;
    let seen = evidence.stops.iter().rfind(is_seen);
    let cuts = case.profile.term_cuts && signal == Signal::TERM;
    // In base mode the first process is the manager, or all there is: no other process has the connections.
    let cutter = evidence.tree.iter().find(|it| it.leads && it.cuts);
    let name = &case.profile.name;
    let (seen, means) = match (seen, cutter.filter(|_| cuts)) {
        (Some(stop), _) => {
            let lost = count(stop.lost.into(), "request");
            (
                format!("its stop cut {lost} off {} after {}", elapsed(stop.cut()), stop.signal),
                "it ends without finishing what is in flight, and nothing stands in front that \
                 would send it nothing new before"
                    .to_owned(),
            )
        }
        (None, Some(cutter)) => (
            format!(
                "{} takes connections on port {port}, and nothing stands in front",
                cutter.title()
            ),
            format!("a {name} of this kind may cut every connection at {signal}"),
        ),
        (None, None) => return None,
    };
    let base = if case.profile.name.as_str() == "swoole" {
        ", or run it in base mode (SWOOLE_BASE), which finishes what it has"
    } else {
        ""
    };
    let help = match case.profile.name.as_str() {
        // No gateway speaks FastCGI.
        "php-fpm" => {
            "set process_control_timeout in php-fpm.conf to what its longest request takes".into()
        }
        _ => format!(
            "add [gateway.NAME] with listen = \"…\" and service = \"{}\": it is drained before the \
             signal{base}",
            case.service
        ),
    };
    Some(Advice { kind: "cuts-at-signal", seen, means, help })
}

/// A budget that ends before the server's own limits have.
pub(super) fn budget(evidence: &Evidence) -> Option<Advice> {
    let profile = &evidence.case.profile;
    let newest = cut(evidence).last().map(|it| it.cut());
    let newest = newest.or(alike(&evidence.stops, profile).last().map(|it| it.after));
    let seen = newest.map(|it| limit_of(it, profile).0);
    short_budget(profile, evidence.case.max_wait_time, seen)
}

/// Whether this `max_wait_time` ends before the server's own limits have: `seen`, or what it does by
/// default. Only of servers that may take their limit several times.
pub fn short_budget(
    profile: &Profile,
    max_wait_time: Duration,
    seen: Option<Duration>,
) -> Option<Advice> {
    let name = profile.limit_name.as_deref()?;
    let times = profile.limit_times;
    let limit = seen.or(profile.limit_known.then_some(profile.limit))?;
    let needed = limit * times;
    if max_wait_time >= needed {
        return None;
    }
    let (is, default) = match seen {
        Some(_) => ("looks like", ""),
        None => ("is", " where nobody has set it"),
    };
    Some(Advice {
        kind: "short-budget",
        seen: format!(
            "max_wait_time is {}, and the server's own {name} {is} {}{default}",
            span(max_wait_time),
            span(limit)
        ),
        means: match times {
            0 | 1 => {
                format!("a {} may take its {name} to stop: SIGKILL comes before that", profile.name)
            }
            _ => format!(
                "a {} may take {times} times its {name} to stop, {}: SIGKILL comes before that",
                profile.name,
                span(needed)
            ),
        },
        help: format!("set max_wait_time = \"{}\" or more", span(needed + SECOND)),
    })
}

/// Requests came to a server that was being stopped, and nothing in front sent them elsewhere.
pub(super) fn late(evidence: &Evidence) -> Option<Advice> {
    let case = &evidence.case;
    let newest = evidence.stops.iter().rev().find(|it| it.late > 0).filter(|_| !case.fronted)?;
    let (n, signal) = (count(newest.late.into(), "request"), &newest.signal);
    let (came, were) = if newest.late == 1 { ("it", "was") } else { ("they", "were") };
    Some(Advice {
        kind: "late-requests",
        seen: format!(
            "{n} came when its last such stop ({signal}) had begun, and {were} cut off by its end"
        ),
        means: format!(
            "its listener stays open until then, and {came} would have been answered elsewhere"
        ),
        help: format!(
            "put a gateway in front, which takes it out before the signal: [gateway.NAME] with service = \"{}\"",
            case.service
        ),
    })
}

/// It was told to end, had its time, and lives.
pub(super) fn never_ends(evidence: &Evidence) -> Option<Advice> {
    let leaving = evidence.case.leaving?;
    let profile = &evidence.case.profile;
    let known = profile.limit_name.as_ref().filter(|_| profile.limit_known);
    let patience = known.map_or(PATIENCE, |_| profile.limit * profile.limit_times);
    if leaving.ago < patience || evidence.tree.is_empty() {
        return None;
    }
    let (ago, signal) = (elapsed(leaving.ago), leaving.signal);
    let live = match evidence.tree.len() {
        1 => "1 of its processes still lives".to_owned(),
        n => format!("{n} of its processes still live"),
    };
    let limit = known.map_or(String::new(), |name| {
        format!(", longer than its {name} ({} where nobody has set it)", span(profile.limit))
    });
    let when = if signal == Signal::KILL {
        "SIGKILL was sent, and ".to_owned()
    } else {
        format!("{ago} after the first signal of its stop{limit}, ")
    };
    let seen = format!("{when}{live}: {}", listed(&evidence.tree));
    let (means, help) = reason(evidence, signal);
    let end = if leaving.left.is_zero() {
        "SIGKILL was sent: the kernel ends it as soon as it can".to_owned()
    } else {
        format!("SIGKILL ends it in {}; `!` on the deck at once, `+` later", elapsed(leaving.left))
    };
    let help = if help.is_empty() { end } else { format!("{help}; {end}") };
    Some(Advice { kind: "never-ends", seen, means, help })
}

/// Why it may not have ended, and what could be done about that alone.
fn reason(evidence: &Evidence, signal: Signal) -> (String, String) {
    let tree = &evidence.tree;
    let leader = tree.iter().find(|it| it.leads);
    let first = |is: &dyn Fn(&Member) -> bool| tree.iter().find(|it| is(it));
    if let Some(it) = first(&|it| matches!(it.state, 'T' | 't')) {
        let means = format!("pid {} stands still and cannot take a signal", it.pid);
        return (means, format!("`kill -CONT {}` lets it go on", it.pid));
    }
    if let Some(it) = first(&|it| it.state == 'D') {
        let means = format!("pid {} waits in the kernel: a disk, a network file system", it.pid);
        return (means, "look at that device: SIGKILL has to wait for it as well".into());
    }
    match leader.map(|it| it.taken) {
        Some(Taken::Ignored) => {
            let help = "begin `stop` with a signal that it obeys";
            return (format!("its first process ignores {signal}"), help.into());
        }
        Some(Taken::Pending) => {
            let means = format!("{signal} waits: its first process blocks it and does not look");
            return (means, String::new());
        }
        Some(Taken::Caught) => {}
        None => {
            let means = "its first process has ended and left these behind".to_owned();
            return (means, String::new());
        }
    }
    let connections: usize = tree.iter().map(|it| it.connections).sum();
    let means = if connections > 0 {
        let n = count(connections as u64, "connection");
        let are = if connections == 1 { "is" } else { "are" };
        format!("it has taken the signal and goes on; {n} {are} open, which it may wait for")
    } else {
        "it has taken the signal and goes on, without a connection that it could wait for".into()
    };
    (means, String::new())
}

/// The last stop ended with SIGKILL because its time was over.
pub(super) fn needed_kill(evidence: &Evidence) -> Option<Advice> {
    let last = evidence.stops.last().filter(|it| it.killed && it.after >= AT_ONCE)?;
    // What is the case now is worth more than what was.
    if evidence.case.leaving.is_some() {
        return None;
    }
    let told = if last.signal.is_empty() { "the first signal" } else { &last.signal };
    let lived = match &last.lived[..] {
        [] => String::new(),
        lived => format!("; then lived {}", lived.join("; ")),
    };
    let profile = &evidence.case.profile;
    let own = profile.limit * profile.limit_times;
    let deaf = format!("ignores {}", last.signal);
    let is_deaf = !last.signal.is_empty() && last.lived.iter().any(|it| it.contains(&deaf));
    let means = match &profile.limit_name {
        _ if is_deaf => format!("it {deaf}, and no time is enough"),
        Some(name) if profile.limit_known && own > last.max_wait_time => {
            format!("its own {name} may be longer than max_wait_time")
        }
        _ => "it does not end by itself in that time".to_owned(),
    };
    let help = match is_deaf {
        true => "begin `stop` with a signal that it obeys",
        false => "raise max_wait_time if it only needs longer; if not, what held it is named here",
    };
    Some(Advice {
        kind: "needed-kill",
        seen: format!(
            "its last stop needed SIGKILL {} after {told}, when max_wait_time ({}) was over{lived}",
            elapsed(last.after),
            span(last.max_wait_time)
        ),
        means,
        help: help.into(),
    })
}

/// It lets clients in while it leaves, and nothing sends them elsewhere.
pub(super) fn listens_on(evidence: &Evidence) -> Option<Advice> {
    let case = &evidence.case;
    let (leaving, port) = (case.leaving?, case.port?);
    let listens = evidence.listeners.iter().any(|it| it.own);
    if case.fronted || !listens || leaving.ago < SECOND {
        return None;
    }
    let waiting = evidence.queue.map_or(0, |it| it.waiting);
    let wait = match waiting {
        0 => String::new(),
        1 => ", and 1 connection waits there to be accepted".to_owned(),
        n => format!(", and {n} connections wait there to be accepted"),
    };
    Some(Advice {
        kind: "listens-while-stopping",
        seen: format!(
            "port {port} is still listened on {} after the first signal of its stop{wait}",
            elapsed(leaving.ago)
        ),
        means: "the kernel lets new clients in that nobody serves: they are cut off when it ends"
            .into(),
        help: format!(
            "add [gateway.NAME] with service = \"{}\": it sends new requests elsewhere before the \
             signal",
            case.service
        ),
    })
}
