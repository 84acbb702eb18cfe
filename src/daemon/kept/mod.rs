//! What the next daemon knows: the state file, the journal, and what is written in them.

pub mod journal;
pub mod records;
pub(in crate::daemon) mod remembered;
pub mod rollouts;
pub mod state;
