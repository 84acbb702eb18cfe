//! Joins: the fleet decides, `process`, `probe` and `logger` do, and this is what stands between them.
//!
//! ```text
//!  signals ─┐                          ┌─► hands ─► spawn, signal, probe, command
//!  HTTP ────┼─► turn ─► driver ─► fleet┤
//!  reaper ──┤              ▲           └─► record ─► journal, subscribers
//!  probes ──┘              └── outcomes that are known at once
//! ```
//!
//! `driver` is the only task that touches the fleet. Everything else is small tasks that wait for one
//! thing and report it. `publish` is the only translator into `api` types, `clock` the only place that
//! reads the time.

pub mod adopt;
mod advice;
mod answers;
pub mod applied;
pub mod applying;
pub mod boot;
pub mod briefs;
pub mod census;
pub mod clock;
pub mod config;
mod cuts;
pub mod detail;
mod diary;
pub mod doorway;
mod doubt;
pub mod driver;
pub mod elsewhere;
pub mod ends;
pub mod exposition;
pub mod facts;
pub mod foreign;
mod foreign_start;
mod foresight;
pub mod front;
pub mod gateway;
pub mod gateway_news;
mod gateway_start;
pub mod gauges;
pub mod guesses;
pub mod hands;
mod haste;
pub mod history;
mod holding;
pub mod hooks;
pub mod host;
pub mod http;
pub mod journal;
pub mod launch;
pub mod ledger;
mod lineage;
pub mod listeners;
mod lock;
pub mod log_pages;
pub mod logging;
pub mod logs;
pub mod looks;
pub mod members;
pub mod metrics;
mod mute;
pub mod nginx;
mod nginx_load;
pub mod nginx_log;
mod nginx_news;
mod nginx_switch;
pub mod orders;
mod orphans;
pub mod peer;
pub mod probes;
pub mod publish;
pub mod records;
pub mod reloads;
mod remembered;
pub mod replace;
pub mod rollouts;
pub mod runs;
pub mod sampling;
mod seats;
pub mod signals;
mod silence;
mod since;
mod sockets;
mod spare;
pub mod state;
mod strays;
pub mod streams;
pub mod systemd;
pub mod talk;
pub mod tree;
mod trust;
pub mod turn;
mod turnover;
mod values;

use crate::fleet::By;

/// The daemon itself, as an actor.
pub fn own_name() -> By {
    By {
        uid: nix::unistd::geteuid().as_raw(),
        login: "opsdeck".into(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        ssh: None,
    }
}
