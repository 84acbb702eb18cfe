//! What the process tree shows.

use super::{Advice, Evidence, Member};
use crate::fleet::turn::count;

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
