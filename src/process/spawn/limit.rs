//! The limit of open descriptors: ours is raised, the children's is what we were given.
//!
//! A thousand instances need more than the usual 1,024 descriptors. A child must not inherit the
//! raised limit: programs that use select(2), or close every possible descriptor, rely on the
//! small one.

use std::io;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

static ORIGINAL: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises our soft limit of open descriptors to the hard one and returns it.
///
/// Children that are spawned afterwards still get the soft limit of the first call.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ORIGINAL.get_or_init(|| (soft, hard));
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Sets our soft limit back to what it was before [`raise_descriptor_limit`], for a program that this
/// process becomes. What is open stays open.
pub fn restore_descriptor_limit() -> io::Result<()> {
    match ORIGINAL.get() {
        Some((soft, hard)) => Ok(setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard)?),
        None => Ok(()),
    }
}

/// What the children get, where it is not what we have.
pub(super) fn original() -> Option<libc::rlimit> {
    let raised = ORIGINAL.get().filter(|(soft, hard)| soft < hard);
    raised.map(|(soft, hard)| libc::rlimit { rlim_cur: *soft, rlim_max: *hard })
}
