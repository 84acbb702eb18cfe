//! Starts a gateway process with all that it is to have: descriptors, and the memory that outlives it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::MemfdFlags;

use crate::daemon::gateway::listeners::Listeners;
use crate::daemon::host::program_at_hand;
use crate::gateway::shared;
use crate::process::identity::Identity;
use crate::process::spawn::{self, Launch, Output};

/// Instances whose counts fit into the shared memory.
const SLOTS: u64 = 4096;

/// Where the gateway keeps its counts, so that they are known when it is killed.
pub(in crate::daemon) fn shared_memory() -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("opsdeck-gateway", MemfdFlags::CLOEXEC)?);
    file.set_len(SLOTS * shared::SLOT as u64)?;
    Ok(file)
}

/// Descriptor 3 is the control socket, 4 the shared memory; the listeners follow in the order of their
/// names.
pub(in crate::daemon) fn start_process(
    program: &Path,
    control: &OwnedFd,
    shared: &File,
    listeners: &Listeners,
    user: &str,
) -> io::Result<Identity> {
    let mut argv = vec![program_at_hand(program).display().to_string(), "gateway".into()];
    argv.extend(["--control-fd", "3", "--shared-fd", "4"].map(Into::into));
    let mut passed = vec![control.as_fd(), shared.as_fd()];
    for (name, listener) in listeners.all() {
        argv.extend(["--listener".into(), format!("{name}={}", passed.len() + 3)]);
        passed.push(listener);
    }
    if nix::unistd::geteuid().is_root() {
        argv.extend(["--user".into(), user.to_owned()]);
    }
    let stderr = io::stderr();
    let environment = [("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
    let launch = Launch {
        argv: &argv,
        directory: Some(Path::new("/")),
        environment: &environment,
        output: Output::Descriptor(stderr.as_fd()),
        passed: &passed,
        switch: None,
        cgroup: None,
    };
    // Its end is seen by the connection; its status is taken by the reaper.
    spawn::spawn(&launch).map(|it| it.identity).map_err(io::Error::other)
}
