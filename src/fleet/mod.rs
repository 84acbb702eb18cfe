//! Decisions, and nothing else.
//!
//! Everything below this module is synchronous and deterministic: the same inputs always produce the
//! same effects. Nothing here opens a file, sends a signal, awaits a future, or asks what time it is.
//! That is what lets the tests in this folder cover hours of supervision in microseconds.
//!
//! The words are those of the screens and the configuration: service, instance, goal, state, generation, probe, live, ready, in
//! rotation, in flight, drain, stop ladder, rung, reload, rollout, profile.
//!
//! | | |
//! |---|---|
//! | `input`, `rules`, `sheet`, `words`, `time` | what goes in and comes out, as plain data |
//! | `fleet` | the turn; indexes; who is due |
//! | `instance`, `life`, `leaving` | one instance: its shapes, the way up, the way down |
//! | `ladder`, `exits`, `health` | a stop as a countdown; how an exit is told; verdicts of probes |
//! | `depends`, `service`, `heal`, `wave` | who waits for whom; counts; liveness restarts; signals to a service |
//! | `rollout`, `rollout_*`, `spare` | which instance is next; the work on it; how it ends; orders about it; who stands by |
//! | `configure`, `orders`, `service_orders`, `guard` | new rules; what operators ask for; when to ask back |
//! | `memory` | what the next daemon has to know, and how it goes on |
//! | `explain`, `advice` | sheets, and why; what evidence speaks for |
//! | `sim`, `sim_host`, `sim_promises`, `sim_tests` | a host with faults that holds all of it to its promises |
#![warn(clippy::wildcard_enum_match_arm)]

pub mod advice;
mod configure;
mod depends;
mod exits;
mod explain;
#[expect(clippy::module_inception, reason = "the fleet is what this folder is about")]
mod fleet;
mod foreign;
mod guard;
mod heal;
mod health;
pub mod input;
mod instance;
mod ladder;
mod leaving;
mod life;
mod member;
pub mod memory;
mod orders;
mod reload;
mod rollout;
mod rollout_end;
mod rollout_orders;
mod rollout_run;
mod rollout_state;
mod rollout_step;
mod roster;
pub mod rules;
mod service;
mod service_orders;
pub mod sheet;
mod spare;
pub mod time;
mod turn;
mod wave;
pub mod words;

#[cfg(test)]
mod configure_tests;
#[cfg(test)]
mod explain_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod gauge_tests;
#[cfg(test)]
mod heal_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod midway_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod reload_tests;
#[cfg(test)]
mod rollout_fault_tests;
#[cfg(test)]
mod rollout_order_tests;
#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_host;
#[cfg(test)]
mod sim_promises;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod spare_tests;
#[cfg(test)]
mod stop_order_tests;
#[cfg(test)]
mod stop_tests;
#[cfg(test)]
mod wave_tests;

pub use fleet::Fleet;
pub use time::Timestamp;
pub use words::{By, Name, Process, Signal};
