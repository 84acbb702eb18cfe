//! How an instance begins and ends: launch, probes, sockets, the end of what ran.

pub mod ends;
pub(in crate::daemon) mod foresight;
pub mod launch;
pub mod probes;
pub(in crate::daemon) mod sockets;
pub(in crate::daemon) mod spare;
pub(in crate::daemon) mod trust;
