//! The processes below a leader: who they are, and what a reload makes of them.

pub mod census;
pub(in crate::daemon) mod cuts;
pub mod guesses;
pub(in crate::daemon) mod lineage;
pub mod members;
pub mod reloads;
pub mod tree;
pub(in crate::daemon) mod turnover;
