//! What services print: the line to the logger, and who holds the ends of their pipes.

pub(in crate::daemon) mod holding;
pub mod logging;
pub mod outage;
