//! The standard input of children: empty, always.
//!
//! Each opens `/dev/null` for itself, unless ours is the same already: then there is nothing to do between
//! its birth and its program.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static EMPTY: AtomicBool = AtomicBool::new(false);

/// Makes our own standard input empty for good, so that children have theirs from us.
pub fn give_up_input() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    EMPTY.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether ours is what a child is to have.
pub(super) fn is_empty() -> bool {
    EMPTY.load(Ordering::Relaxed)
}
