//! The misbehaviour that has nothing to do with requests.
//!
//! A process can only die of a signal that it does not catch. `exec` puts every
//! caught signal back to its default, so a sample that has to die of SIGTERM
//! becomes another sample that never caught it.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::unistd::{getpid, setsid};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Faults, Order, Role, SampleArgs, complain, say};

/// Waits for the time to listen; false when SIGTERM came first.
pub(super) async fn start_delay(faults: &Faults, orders: &mut mpsc::Receiver<Order>) -> bool {
    let delay = sleep(faults.start_delay);
    tokio::pin!(delay);
    loop {
        tokio::select! {
            () = &mut delay => return true,
            order = orders.recv() => match order {
                Some(Order::Term) if faults.ignore_term => say("SIGTERM ignored"),
                Some(Order::Term) | None => return false,
                Some(Order::Reload | Order::Hangup) => {}
            },
        }
    }
}

/// Ends when it is time to crash.
pub(super) async fn crash(faults: &Faults) {
    match faults.crash_after {
        Some(after) => sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Writes `--flood` to stdout for ever.
pub(super) async fn flood(faults: &Faults) -> Infallible {
    const TICKS: u64 = 100;
    let Some(rate) = faults.flood else { return std::future::pending().await };
    let piece = flood_piece((rate / TICKS).max(1), faults.no_newline);
    let pump = start_pump(piece);
    let mut ticks = interval(Duration::from_secs(1) / TICKS as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // Full: the reader of stdout is slower than the flood. Disconnected: it is
        // gone. Neither is a reason to serve worse.
        let _ = pump.try_send(());
    }
}

fn flood_piece(size: u64, no_newline: bool) -> Vec<u8> {
    let line = b"the flood goes on and on and on and on and on and on and on\n";
    let mut piece: Vec<u8> = line.iter().copied().cycle().take(size as usize).collect();
    match (no_newline, piece.last_mut()) {
        (true, _) => piece.iter_mut().filter(|it| **it == b'\n').for_each(|it| *it = b' '),
        (false, Some(last)) => *last = b'\n',
        (false, None) => {}
    }
    piece
}

/// A thread that writes the piece once for each message: a full pipe must stop
/// the flood and not the server. It is nobody's to wait for, because a write to
/// a pipe that is not read never ends.
fn start_pump(piece: Vec<u8>) -> SyncSender<()> {
    let (orders, received) = sync_channel(1);
    std::thread::spawn(
        move || {
            while received.recv().is_ok() && io::stdout().write_all(&piece).is_ok() {}
        },
    );
    orders
}

/// Starts a sample that leaves the group and lives on when this one ends.
pub(super) fn fork_grandchild() {
    if let Err(error) = sample(Role::Grandchild).spawn() {
        complain(&format!("cannot start a grandchild: {error}"));
    }
}

/// Becomes a process that SIGTERM kills, and lets it; returns the exit code for
/// the case that this is impossible.
pub(super) fn die_of_sigterm() -> u8 {
    say("second SIGTERM: ending at once");
    let error = sample(Role::Casualty).exec();
    complain(&format!("cannot die of SIGTERM: {error}"));
    128 + Signal::SIGTERM as u8
}

fn sample(role: Role) -> Command {
    let role = match role {
        Role::Grandchild => "grandchild",
        Role::Casualty => "casualty",
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("opsdeck").args(["sample", "--role", role]);
    command
}

/// What a re-executed sample does; returns its exit code.
pub(super) async fn play(role: Role) -> u8 {
    match role {
        Role::Grandchild => match setsid() {
            Ok(_) => {
                say(&format!("grandchild {} left the group", getpid()));
                std::future::pending().await
            }
            Err(error) => {
                complain(&format!("cannot leave the group: {error}"));
                1
            }
        },
        Role::Casualty => match raise(Signal::SIGTERM) {
            Ok(()) => 128 + Signal::SIGTERM as u8,
            Err(error) => {
                complain(&format!("cannot die of SIGTERM: {error}"));
                1
            }
        },
    }
}

/// Decides over time whether the sample is ready, and tells `set`.
pub(super) async fn readiness(args: &SampleArgs, set: impl Fn(bool)) {
    if args.faults.never_ready {
        return;
    }
    sleep(args.faults.ready_delay).await;
    set(true);
    let Some(turn) = args.faults.flip_ready else { return };
    loop {
        sleep(turn).await;
        set(false);
        sleep(turn).await;
        set(true);
    }
}
