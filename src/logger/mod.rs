//! Takes the output of the services into rotating files, and reads it back.
//!
//! The writing half is a process of its own, `opsdeck logger`: it outlives the daemon that started it, and is
//! restarted by the next one when it died. It knows nothing of services, restarts or rollouts: a FIFO, a file, a size.
//!
//! ```text
//! child ── fd 1, 2 ──► FIFO ══ splice(2) ══► web1.log ── full ──► web1.log.1 … web1.log.N ──► gone
//!                       ▲  held open O_RDWR    web1.log.idx: when which byte came
//!                       └─ by child, logger, daemon, and a holder (`opsdeck holder`) that does nothing else
//! ```
//!
//! The one idea: bytes leave the FIFO and reach the file in a single system call, so that the process may be killed
//! between any two instructions and neither loses nor doubles a byte. The FIFO is never closed by anybody's death as
//! long as one of the four holds it. Nothing is parsed on the way; a line is a matter of the reading half.
//!
//! The reading half ([`read()`], [`page()`], [`Follower`], [`merge()`]) is plain synchronous code over paths. It needs no logger to
//! be alive and takes no lock.

mod clock;
mod fifo;
mod follow;
mod holder;
mod index;
mod merge;
mod mover;
mod page;
mod pattern;
mod protocol;
mod read;
mod rotate;
mod run;
mod segments;
mod serve;
mod sink;
mod state;
mod table;
mod tail;

#[cfg(test)]
mod tests;

pub use fifo::{make_fifo, open_fifo, open_fifo_of};
pub use follow::Follower;
pub use holder::{hold, holder};
pub use merge::{Merge, merge};
pub use page::{Edge, Found, Look, Mark, Page, page};
pub use pattern::Pattern;
pub use protocol::{
    FromLogger, LOCK_NAME, MESSAGE_LIMIT, SOCKET_NAME, STATE_NAME, Source, ToLogger,
};
pub use protocol::{decode, encode};
pub use read::{LINE_LIMIT, Line, Lines, LogQuery, read, read_then_follow};
pub use rotate::remove as remove_log;
pub use run::run;
