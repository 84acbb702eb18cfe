//! The data plane: a reverse proxy in a process of its own, `opsdeck gateway`.
//!
//! It knows nothing of services, rollouts or probes: it is told who may get requests ([`control::Routes`]) and tells
//! what it counted ([`control::Counts`]). The daemon creates its sockets and keeps copies, so a gateway that dies is
//! started again on the same listeners; a daemon that dies is replaced by one that connects, and until then the
//! gateway goes on with the routes it has.
//!
//! ```text
//!  control socket ─► session ─► run ─► table ─► instance, line        what is in force, what is counted
//!                                        ▲
//!  listener ─► listen ─► serve ─► proxy ─┤                            one task per client's connection
//!                         │  │     │     └─ choose, eject, verdict, refuse, headers, kinds, guard    (pure)
//!                         │  │     └► exchange ─► link, upload, reply                         (the instance's side)
//!                         │  └► conn, client, body
//!                         └► tunnel, frames
//! ```
//!
//! # What never happens
//!
//! - A request is lost by us: what an instance cannot have acted on goes to another one (`verdict`), and what finds
//!   nobody waits (`line`).
//! - An instance out of rotation gets a new request: the choice looks at the routes of this very moment, and the
//!   connections that waited for its next request are closed when it leaves.
//! - A count is an estimate: a request is a `Ticket` from the choice until its last byte is with
//!   the client's socket, and the ticket is counted by its existence.
//!
//! # Why hyper in front and not behind
//!
//! hyper's server half reads requests: that is where strangers are. Behind, whether a request may be sent again
//! depends on which byte was written and read, and hyper's client half hides that behind a channel to a task of the
//! connection; it also took a quarter of the time of a small request (two channels, a shared map and a clone of the
//! headers to be able to repeat them). What is left to do there is a page (`reply`) over httparse, which both use,
//! and the bytes of the head serve for every repetition.

mod answers;
mod body;
mod choose;
mod client;
mod clock;
mod conn;
pub mod control;
mod eject;
mod exchange;
mod frames;
mod guard;
mod headers;
mod inherited;
mod instance;
mod kinds;
mod line;
mod link;
mod listen;
mod memory;
pub mod nginx;
mod own;
mod proxy;
mod refuse;
mod replay;
mod reply;
mod report;
mod room;
mod run;
mod serve;
mod session;
pub mod shared;
mod table;
mod tunnel;
mod upload;
mod verdict;
mod wait;
mod window;

pub use replay::replay;
pub use run::{Inherited, run};
