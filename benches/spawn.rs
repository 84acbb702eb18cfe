//! What a start costs beside a bare `posix_spawn` loop of the C library, in the same run.
//!
//! Both start the same program a thousand times; ours has its own session, default signals and a FIFO as
//! output beside it. Prints figures and never fails: machines differ. `cargo bench --bench spawn`.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use opsdeck::process::spawn::{Launch, Output, spawn};
use rustix::process::{WaitId, WaitIdOptions, waitid};

const STARTS: usize = 1000;
const ROUNDS: usize = 5;
const PROGRAM: &str = "/bin/true";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let fifo = directory.path().join("bench.fifo");
    opsdeck::logger::make_fifo(&fifo, None)?;
    let _held = opsdeck::logger::open_fifo(&fifo)?;
    let mut ratios = vec![];
    for round in 1..=ROUNDS {
        let bare = bare()?;
        let ours = ours(&fifo)?;
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!(
            "round {round}: {STARTS} starts: bare {bare:.1?}, ours {ours:.1?}, ratio {ratio:.2}"
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ROUNDS / 2]);
    Ok(())
}

/// The floor: no attributes, no file actions, nothing kept but the pid.
fn bare() -> Result<Duration, Box<dyn Error>> {
    const PATH: &CStr = c"/bin/true";
    let attributes = PosixSpawnAttr::init()?;
    let actions = PosixSpawnFileActions::init()?;
    let began = now();
    let pids = (0..STARTS)
        .map(|_| posix_spawn(PATH, &actions, &attributes, &[PATH], &[] as &[&CStr]))
        .collect::<Result<Vec<Pid>, _>>()?;
    let took = now().duration_since(began);
    for pid in pids {
        waitpid(pid, None)?;
    }
    Ok(took)
}

/// Ours, with the identity and the pidfd of each kept, as the daemon does.
fn ours(fifo: &std::path::Path) -> Result<Duration, Box<dyn Error>> {
    let argv = [PROGRAM.to_owned()];
    let launch = Launch {
        argv: &argv,
        directory: None,
        environment: &[],
        output: Output::Fifo(fifo),
        passed: &[],
        switch: None,
        cgroup: None,
    };
    let began = now();
    let pidfds = (0..STARTS)
        .map(|_| spawn(&launch).map(|it| it.pidfd))
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let took = now().duration_since(began);
    for pidfd in pidfds {
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    }
    Ok(took)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
