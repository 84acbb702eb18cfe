//! What the process tree shows.

use std::time::Duration;

use super::{Advice, Case, Churn, Evidence, Member, Rolled};
use crate::fleet::turn::elapsed;
use crate::quantity::count;

/// A worker that gets older is renewed for a reason: `max_request` and its like.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many ends are more than a mishap.
const MANY: usize = 3;
/// A worker that has served so many has reached a limit of requests, and not failed.
const SERVED: f64 = 20.0;
/// So many ends of that kind are no accident.
const DETACHED: u32 = 2;
/// Processes that are told one by one.
const LISTED: usize = 4;

/// `master php (pid 1) waits for events (epoll_wait); php (pid 2) runs; 3 others`.
pub(super) fn listed(members: &[Member]) -> String {
    let mut all: Vec<String> = members.iter().take(LISTED).map(ToString::to_string).collect();
    if members.len() > LISTED {
        all.push(count((members.len() - LISTED) as u64, "other"));
    }
    all.join("; ")
}

/// Somebody has halted it, or holds it with a debugger.
pub(super) fn stands_still(evidence: &Evidence) -> Option<Advice> {
    let case = &evidence.case;
    let still = |it: &&Member| matches!(it.state, 'T' | 't');
    let all: Vec<&Member> = evidence.tree.iter().filter(still).collect();
    let first =
        all.iter().find(|it| it.leads).or(all.first()).filter(|_| case.leaving.is_none())?;
    let (pid, name) = (first.pid, &case.instance);
    let others = match all.len() {
        1 => String::new(),
        n => format!(", and so does {}", count((n - 1) as u64, "other")),
    };
    let how = match first.state {
        't' => "held by a debugger (state t)",
        _ => "stopped by SIGSTOP or its like (state T)",
    };
    let help = match (first.state, first.leads) {
        ('t', _) => format!("end the debugger: TracerPid in /proc/{pid}/status names it"),
        (_, true) => format!("`opsdeck signal SIGCONT {name}` lets it go on"),
        (_, false) => format!("`opsdeck signal SIGCONT {name} --pid {pid}` lets it go on"),
    };
    Some(Advice {
        kind: "stands-still",
        seen: format!("{} stands still{others}: {how}", first.title()),
        means: "it does nothing, and until it goes on it obeys no signal but SIGKILL".into(),
        help,
    })
}

/// Workers that serve on although whoever managed them has died.
pub(super) fn orphans(evidence: &Evidence) -> Option<Advice> {
    let (case, port) = (&evidence.case, evidence.case.port?);
    let is_led = evidence.tree.iter().any(|it| it.leads);
    let left: Vec<Member> =
        evidence.tree.iter().filter(|it| it.orphan && it.listens).cloned().collect();
    if left.is_empty() || !is_led || case.leaving.is_some() {
        return None;
    }
    let (parent, verb) = if left.len() == 1 { ("its", "listens") } else { ("their", "listen") };
    Some(Advice {
        kind: "orphan-workers",
        seen: format!("{} lost {parent} parent and still {verb} on port {port}", listed(&left)),
        means: "who managed them has died: nobody reloads or replaces them, and they serve the \
                code they began with"
            .into(),
        help: format!(
            "renew all of it: opsdeck restart {} (or opsdeck roll {})",
            case.instance, case.service
        ),
    })
}

/// Workers that end soon after they began, again and again, while their master stays.
pub(super) fn restarts(evidence: &Evidence) -> Option<Advice> {
    let (case, churn) = (&evidence.case, evidence.churn?);
    // A reload ends each of those once, on purpose.
    let is_loop = churn.ended >= MANY + case.renewed && churn.oldest < SHORT_LIFE;
    // Who has just begun may still be starting its workers.
    if !is_loop || churn.leader_age < 2 * churn.oldest || case.leaving.is_some() {
        return None;
    }
    if evidence.rate.is_some_and(|rate| served_by_each(rate, churn) >= SERVED) {
        return None;
    }
    Some(Advice {
        kind: "worker-restarts",
        seen: format!(
            "{} of its workers ended within {}, none of them older than {}, while its first process has \
             run for {}",
            churn.ended,
            elapsed(churn.within),
            elapsed(churn.oldest),
            elapsed(churn.leader_age)
        ),
        means: "they may have reached a limit of requests (max_requests, pm.max_requests), which is well; if \
                none is set or few requests come, they cannot go on: probes may pass in between, and requests \
                get lost"
            .into(),
        help: format!("opsdeck logs {} has what they said last; {}", case.instance, undo(case)),
    })
}

/// What takes back whatever may have begun it.
fn undo(case: &Case) -> String {
    let (instance, service) = (&case.instance, &case.service);
    match case.rolled {
        _ if case.renewed > 0 => format!(
            "if the last reload began it, put back what that has read, and reload again: opsdeck reload {instance}"
        ),
        Some(Rolled::Reversible) => format!(
            "if the last rolling restart began it, roll it back: opsdeck roll --rollback {service}"
        ),
        Some(Rolled::Final) => format!(
            "if the last rolling restart began it, put back what it brought, and roll again: opsdeck roll {service}"
        ),
        None => "nothing was rolled out or reloaded lately: look for what they need as they begin, a file, a \
                 database, memory"
            .into(),
    }
}

/// Requests in the life of one worker, of those that ended.
fn served_by_each(rate: f64, churn: Churn) -> f64 {
    let ended = u32::try_from(churn.ended.max(1)).unwrap_or(u32::MAX);
    rate * churn.within.as_secs_f64() / f64::from(ended)
}

/// It starts its work in another process and ends, and what it started is killed as left behind.
pub(super) fn detaches(evidence: &Evidence) -> Option<Advice> {
    let case = &evidence.case;
    if case.detached < DETACHED {
        return None;
    }
    Some(Advice {
        kind: "goes-into-background",
        seen: format!(
            "its first process ended with code 0 right after its start {} times in a row, and what it left \
             behind was killed",
            case.detached
        ),
        means: "it goes into the background, where nobody can supervise it".into(),
        help: "run it in the foreground (php-fpm: daemonize = no, nginx: daemon off;, Swoole: daemonize => false), or use engine = \
               \"pidfile\""
            .into(),
    })
}
