//! Advice on evidence: what was seen, what it means, and what to do about it.
//!
//! [`advise`] is a pure function of [`Evidence`], which others gather. Every rule names the numbers that it
//! goes by and says nothing without them; what it cannot be sure of it calls "looks like" or "may". The
//! rules stand in the order in which somebody at 3 a.m. would want to hear them: what goes on now, then
//! what the past has shown.

mod evidence;
mod port;
mod stops;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

pub use evidence::{
    Case, Churn, Evidence, Leaving, Listener, Member, PastStop, Queue, Rolled, Stranger, Taken,
};
pub use stops::short_budget;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Kebab-case: the rule.
    pub kind: &'static str,
    /// What was seen, with its numbers.
    pub seen: String,
    pub means: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.seen, self.means, self.help)
    }
}

type Rule = fn(&Evidence) -> Option<Advice>;

const RULES: [Rule; 14] = [
    stops::never_ends,
    tree::stands_still,
    stops::listens_on,
    port::queue_full,
    port::taken,
    port::shared,
    tree::detaches,
    tree::restarts,
    tree::orphans,
    stops::needed_kill,
    stops::own_limit,
    stops::cuts_at_once,
    stops::late,
    stops::budget,
];

/// Everything that the evidence speaks for.
pub fn advise(evidence: &Evidence) -> Vec<Advice> {
    RULES.iter().filter_map(|rule| rule(evidence)).collect()
}
