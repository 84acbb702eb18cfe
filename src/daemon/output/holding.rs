//! Keeps a process beside the logger that holds the FIFOs: [`logger::hold`].
//!
//! It outlives daemon and logger. One that is there already is watched, and another one is started when it
//! ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::daemon::clock;
use crate::daemon::output::logging;
use crate::logger;
use crate::process::{identity, pidfd};

/// Between the end of one and the start of the next.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that ends sooner than this could not do its work.
const LONG: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// Sees to it that there is one, until `stop`.
pub(in crate::daemon) async fn keep(
    program: PathBuf,
    runtime_dir: PathBuf,
    stop: CancellationToken,
) {
    let mut is_said = false;
    let mut pause = PATIENCE;
    let work = async {
        loop {
            match find_or_start(&program, &runtime_dir) {
                // A pidfd that cannot be waited for is as good as none.
                Ok(Some(holder)) => {
                    let began = clock::now();
                    drop(pidfd::ended(holder).await);
                    // One that cannot begin says why; asking it every second says no more.
                    let lived = clock::now().since(began) >= LONG;
                    pause = if lived { PATIENCE } else { (pause * 2).min(LONGEST) };
                }
                Ok(None) => (),
                Err(err) if is_said => drop(err),
                Err(err) => {
                    warn!(%err, "nobody holds the pipes beside daemon and logger");
                    is_said = true;
                }
            }
            tokio::time::sleep(pause).await;
        }
    };
    let _: Option<()> = stop.run_until_cancelled(work).await;
}

/// The one that is there, or a new one; `None` if it has ended meanwhile.
fn find_or_start(program: &Path, runtime_dir: &Path) -> io::Result<Option<OwnedFd>> {
    let pid = match logger::holder(runtime_dir)? {
        Some(pid) => pid,
        None => {
            let mut command = logging::command(program, "holder", runtime_dir);
            let child = command.stdin(Stdio::null()).spawn()?;
            info!(pid = child.id(), "the holder was started");
            // Its end is seen through its pidfd; its status is taken by the reaper.
            child.id().cast_signed()
        }
    };
    // One that is not there any more has no identity.
    identity::identity_of(pid).map_or(Ok(None), identity::open)
}
