//! Measures load: what the kernel knows of connections, and later windows and percentiles.
//!
//! Knows no fleet: it returns numbers by port.

pub mod losses;
mod netlink;
pub mod sockets;
