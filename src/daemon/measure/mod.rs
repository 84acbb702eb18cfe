//! What is measured: CPU, memory and sockets of what runs, and the load that servers tell.

pub(in crate::daemon) mod doubt;
pub mod gauges;
pub mod sampling;
