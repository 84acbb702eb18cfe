//! Decisions, and nothing else.
//!
//! Everything below this module is synchronous and deterministic: the same inputs always produce the
//! same effects. Nothing here opens a file, sends a signal, awaits a future, or asks what time it is.
//! That is what lets the tests in this folder cover hours of supervision in microseconds.
//!
//! The words are design.md's: service, instance, goal, state, generation, probe, live, ready, in
//! rotation, in flight, drain, stop ladder, rung, reload, rollout, profile.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod input;
pub mod rules;
pub mod sheet;
pub mod time;
pub mod words;

pub use time::Timestamp;
pub use words::{By, Name, Process, Signal};
