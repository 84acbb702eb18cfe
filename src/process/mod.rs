//! Does processes: starts them, waits for them, signals them, reads them, ends them.
//!
//! Nothing here decides anything and nothing here knows a fleet: callers say what to start and
//! what to end, and are told what became of it. The one idea: a process is an [`Identity`]
//! (pid and start time), never a bare number, and what an instance consists of is a
//! [`group::Group`], never only its leader.
//!
//! - [`spawn`] starts one process; [`exec_as`] is the small program between us and one that runs
//!   as another user or with limits.
//! - [`reaper`] is the only place that waits for children; [`command`] runs one to its end.
//! - [`group`] and [`cgroup`] find and kill everything that belongs to an instance.
//! - [`strays`] finds what no record names; [`outlived`] goes on with a command that its daemon has left.
//! - [`inherited`] lets this process become another program with some descriptors left open.
//! - [`pidfile`] tells which process a pid file names.
//! - [`fpm`] tells whether a php-fpm cuts requests.
//! - [`listener`] takes a listening socket back from a process that has it.
//! - [`preflight`], [`port`], [`usage`], [`closeup`], [`descendants`], [`waits`], [`oom`], [`stat`] and [`table`] read
//!   what the kernel knows; [`slow`] what it may not tell for as long as a process is stuck.

pub mod cgroup;
pub mod closeup;
pub mod command;
pub mod descendants;
pub mod exec_as;
pub mod fpm;
pub mod group;
pub mod identity;
pub mod inherited;
pub mod listener;
pub mod oom;
pub mod outlived;
pub mod owner;
pub mod peer;
pub mod pidfd;
pub mod pidfile;
pub mod port;
pub mod preflight;
pub mod reaper;
pub mod signal;
pub mod slow;
pub mod spawn;
pub mod stat;
pub mod strays;
pub mod table;
pub mod usage;
pub mod waits;

#[cfg(test)]
mod alone;

pub use identity::Identity;
