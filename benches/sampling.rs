//! What it costs to measure CPU and memory of a thousand trees of eight processes.
//!
//! The processes are real and do nothing, as most of a large fleet. Prints figures and never fails: what is
//! fast enough is for the reader to say, on the reader's machine. `cargo bench --bench sampling`.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use opsdeck::process::Identity;
use opsdeck::process::identity::identity_of;
use opsdeck::process::stat::{read_stat, time_of};
use opsdeck::process::usage::{Root, Sampler};

const TREES: usize = 1000;
/// A leader and those below it.
const SCRIPT: &str = "for i in 1 2 3 4 5 6 7; do sleep 1000 & done; echo up; wait";
const ROUNDS: u32 = 50;
/// The daemon's interval while somebody looks, in seconds.
const INTERVAL: f64 = 2.0;

struct Tree(Child);

impl Tree {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut tree = Self(shell.spawn()?);
        let mut line = String::new();
        BufReader::new(tree.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(tree)
    }

    fn leader(&self) -> std::io::Result<Identity> {
        identity_of(self.0.id().cast_signed())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let trees = (0..TREES).map(|_| Tree::start()).collect::<Result<Vec<_>, _>>()?;
    let leaders = trees.iter().map(Tree::leader).collect::<Result<Vec<_>, _>>()?;
    let roots: Vec<Root<'_, usize>> =
        leaders.iter().enumerate().map(|(n, leader)| (n, *leader, None)).collect();
    let mut sampler = Sampler::default();
    let first = spent()?;
    let found = sampler.sample(&roots)?;
    let processes: u32 = found.iter().map(|it| it.1.processes).sum();
    let whole = spent()? - first;
    // Nobody is quiet before the second look.
    sampler.sample(&roots)?;
    let began = spent()?;
    for _ in 0..ROUNDS {
        sampler.sample(&roots)?;
    }
    let each = (spent()? - began) / f64::from(ROUNDS);
    println!("{TREES} trees, {processes} processes");
    println!("all of them read: {:>6.1} ms", whole * 1000.0);
    println!(
        "quiet ones left out: {:>6.1} ms, {:.2} % of a core every {INTERVAL} s",
        each * 1000.0,
        each / INTERVAL * 100.0
    );
    Ok(())
}

/// Seconds on a processor.
fn spent() -> std::io::Result<f64> {
    let ticks = read_stat(std::process::id().cast_signed())?.cpu_ticks;
    Ok(time_of(ticks).as_secs_f64())
}
