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
//! thing and report it. `show` translates what the fleet knows into `api` types, `clock` is the only place that
//! reads the time.

pub mod adopt;
mod answers;
pub mod applied;
pub mod applying;
pub mod boot;
pub mod clock;
pub mod config;
mod copied;
mod diary;
pub mod driver;
pub mod elsewhere;
pub mod foreign;
pub mod front;
pub mod gateway;
pub mod hands;
pub mod host;
pub mod http;
pub mod kept;
pub mod life;
mod lock;
pub mod log;
pub mod measure;
mod mute;
pub mod nginx;
mod orphans;
pub mod output;
pub mod own;
mod renames;
pub mod replace;
pub mod runs;
pub mod show;
pub mod signals;
mod silence;
mod strays;
pub mod systemd;
pub mod trees;
pub mod turn;
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
