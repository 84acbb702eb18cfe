//! An nginx in front, for people who keep theirs: the file that tells it who is in rotation.
//!
//! Pure: what the file says ([`mod@file`], [`mod@switch`]), when it is written and loaded ([`plan`]), and what its access log
//! says of the instances ([`mod@log`], [`count`]). Who writes it, tests
//! it and has nginx load it is in the daemon. The one idea: nothing counts as done because a file was
//! written; it counts once workers run that have read it.

pub mod count;
pub mod file;
pub mod log;
pub mod plan;
pub mod switch;

pub use file::{Server, Upstream};
pub use plan::{Next, Plan, Wanted};
