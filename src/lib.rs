//! opsdeck: an operations console and process supervisor for one host.

pub mod api;
pub mod client;
pub mod config;
pub mod fleet;
pub mod load;
pub mod loadgen;
pub mod logger;
pub mod probe;
pub mod process;
pub mod quantity;
pub mod sample;
pub mod tui;
