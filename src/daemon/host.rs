//! The machine and this process on it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sysinfo::System;

use crate::process;

/// Of the host itself (PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The oldest kernel that has all we use: pidfds, `close_range`, `CLONE_INTO_CGROUP`.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Prepares this process for its work: strangers whose parents died come to us, we have as many descriptors
/// as the host allows, and an input that is as empty as that of our children. They keep the limit we were
/// started with.
pub fn prepare() -> io::Result<()> {
    let kernel = System::kernel_version().unwrap_or_default();
    if is_too_old(&kernel) {
        let (major, minor) = OLDEST_KERNEL;
        let text = format!("this kernel is {kernel}; opsdeck needs {major}.{minor} or newer");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    process::group::become_subreaper()?;
    process::spawn::give_up_input()?;
    process::spawn::raise_descriptor_limit().map(drop)
}

/// Makes the first of the runtime's threads for what blocks. With one there, the others may fail to
/// come when the host has no processes left; without any, asking for one is a panic.
pub async fn keep_a_thread() -> io::Result<()> {
    can_make_threads()?;
    tokio::task::spawn_blocking(|| ()).await.map_err(io::Error::other)
}

/// Asked before a library is called that takes it for granted.
pub fn can_make_threads() -> io::Result<()> {
    let thread = std::thread::Builder::new().spawn(|| ())?;
    thread.join().map_err(|_| io::Error::other("a thread that did nothing has failed"))
}

/// A version that cannot be read is given the benefit of the doubt.
fn is_too_old(kernel: &str) -> bool {
    let mut numbers = kernel.split(['.', '-']).map_while(|it| it.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST_KERNEL,
        _ => false,
    }
}

/// A file to start this program from: where its own was removed, what the kernel still has of it.
pub fn program_at_hand(program: &Path) -> PathBuf {
    if program.exists() {
        return program.to_owned();
    }
    format!("/proc/{}/exe", std::process::id()).into()
}

/// Names this boot: pids and start times mean nothing beyond it.
pub fn boot_id() -> String {
    process::identity::boot_id().unwrap_or_default()
}

pub fn name() -> String {
    System::host_name().unwrap_or_else(|_| "localhost".into())
}

/// Something other than a person starts this daemon: systemd, or it is the first process.
pub fn starts_at_boot() -> bool {
    std::process::id() == 1
        || std::env::var_os("INVOCATION_ID").is_some()
        || ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"]
            .iter()
            .any(|it| Path::new(it).join("opsdeck.service").exists())
}

/// Whether nothing outlives this process here: it is the first, or the child of a first process that is there to run
/// it and ends with it (`docker run --init`, tini, an entrypoint that waits for it).
///
/// systemd and OpenRC stay, and so does what a daemon was put in the background of. Asked before any signal is listened
/// to, and by the first program of a process alone: what a guardian has become has another parent.
pub fn is_last() -> bool {
    // Zero: its parent is outside.
    let is_run = nix::unistd::getppid().as_raw() <= 1 && !is_in_background();
    std::process::id() == 1 || is_run && is_container()
}

/// Whether whoever started this process went on without it: a shell lets what it does not wait for ignore ctrl-c, and
/// what makes a daemon of it ends, with a session that it has led.
fn is_in_background() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_led = |session: nix::unistd::Pid| {
        // Zero: its session is outside.
        session.as_raw() == 0
            || process::stat::read_stat(session.as_raw()).is_ok_and(|it| !it.is_gone())
    };
    ignores_interrupt(&status) || !nix::unistd::getsid(None).is_ok_and(is_led)
}

/// By `/proc/PID/status`, proc_pid_status(5).
fn ignores_interrupt(status: &str) -> bool {
    let mask = status.lines().find_map(|it| it.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    mask.is_some_and(|it| it & (1 << (libc::SIGINT - 1)) != 0)
}

/// A pid namespace of its own, without systemd or OpenRC.
fn is_container() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    let is_first = namespace.is_ok_and(|it| it.as_os_str() == FIRST_PID_NAMESPACE);
    let is_booted = ["/run/systemd/system", "/run/openrc/softlevel"];
    !is_first && !is_booted.iter().any(|it| Path::new(it).exists())
}

/// Where the jitter of backoffs begins: another place on each host and at each start.
pub fn seed() -> u64 {
    let now = super::clock::now().0;
    u64::from(std::process::id()).rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ now.as_secs()
}

/// Creates a directory that only its owner can enter, and its parents.
pub fn private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_does_not_wait_for_ignores_ctrl_c() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000002\nSigIgn:\t";
        assert!(ignores_interrupt(&format!("{status}0000000000000006\nSigCgt:\t0\n")));
        assert!(!ignores_interrupt(&format!("{status}0000000000001005\nSigCgt:\t2\n")));
        assert!(!ignores_interrupt(""));
    }

    #[test]
    fn a_kernel_is_compared_by_its_two_first_numbers() {
        assert!(is_too_old("4.19.0-27-amd64"));
        assert!(is_too_old("5.9"));
        assert!(!is_too_old("5.10.0-34-amd64"));
        assert!(!is_too_old("6.18.44-fc"));
        assert!(!is_too_old("unknown"));
    }
}
