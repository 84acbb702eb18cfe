//! opsdeck: an operations console and process supervisor for one host.
//!
//! One binary, four processes: the **deck** (the screen, holds no truth), the **daemon** (supervises,
//! probes, decides), the **logger** (keeps the services' output), the **gateway** (the data plane). A fifth,
//! the holder, only has the services' pipes open, for the moment in which daemon and logger are both dead.
//!
//! ```text
//!  main ─► commands ─► cli ─► config, sample, loadgen     their options
//!             │
//!             ├─► tui ──► client ──► api ◄── daemon ──► fleet      decides, does nothing
//!             │                                │
//!             │                                ├──► process, probe, logger, load, gateway    do, decide nothing
//!             │                                ├──► roles                who is who in a tree of processes
//!             │                                └──► config ──► fleet, load, probe, roles  what they are told
//!             ├─► gateway             a proxy that is told where to send, and tells what it counted
//!             └─► sample, loadgen     a server and its clients, for the demo and the tests
//! ```
//!
//! A key press travels so: `tui::runtime` reads it, `tui::update` decides what it means, `client` sends
//! it, `daemon::http` takes it, `daemon::driver` gives it to `fleet::Fleet`, `daemon::hands` carries out
//! what the fleet decided, `daemon::publish` tells everybody who watches.
//!
//! # Invariants
//!
//! - `fleet` cannot fail, wait, or look at a clock. If it needs a fact, the fact is an input.
//! - Only `daemon::driver` touches the fleet; everything reaches it through one channel.
//! - Only `api` types are serialised, beside the records of the daemon's state file, what it leaves to the
//!   program that replaces it, and the messages between daemon and logger, and daemon and gateway. Only `daemon` makes them of what it knows:
//!   `daemon::publish` of the fleet, others of what they keep themselves.
//! - `tui` imports neither `daemon` nor `fleet`: it can be pointed at a daemon one release older.
//! - `quantity`, `nearest` and `buckets` know texts and numbers and nothing of ours: whoever needs them uses them.
//! - `process`, `probe`, `logger`, `gateway`, `load` and `roles` know no fleet and are tested alone.
//! - Only `daemon::clock` reads the time for decisions; they are made on `CLOCK_BOOTTIME`.
//! - What somebody else runs is started, restarted and stopped by orders only.
//! - A signal goes through a pidfd to an identity (pid, start time), never to a bare number.
//! - There is one reaper. Nothing else waits for a child.
//! - Never two generations of an instance at once: nothing is started before everything of the last
//!   generation is gone.
//! - Text from services, titles and the network reaches a terminal only through `tui::ansi`.
//! - Channels are bounded, and every task is awaited or ends with what it serves.
//!
//! `tests/architecture.rs` holds the arrows.

pub mod api;
pub mod buckets;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod fleet;
pub mod gateway;
pub mod load;
pub mod loadgen;
pub mod logger;
pub mod nearest;
pub mod probe;
pub mod process;
pub mod quantity;
pub mod roles;
pub mod sample;
pub mod tui;
