//! `--tree`: the sample as a tree of processes, with the manners of a real server.
//!
//! Every process is this program, executed again with `--part`, and inherits the listening socket. The
//! workers are ordinary samples that accept on it themselves; the processes above them pass signals down
//! and replace whoever dies. One thing differs from a real Swoole in process mode: there the master has
//! the connections, so that they outlive a reload; here they are their worker's, as in base mode.
//!
//! Source of the rules: Swoole's src/server/{master,manager,worker}.cc (6.2) and php-fpm's
//! sapi/fpm/fpm/{fpm_process_ctl,fpm_signals,fpm_children}.c.

mod fpm;
mod herd;
mod swoole;

use std::future::pending;
use std::os::fd::RawFd;

use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;

use super::{End, Mode, Order, Part, SampleArgs, Tree, complain, inherited, say, server, signals};

/// SIGRTMIN of glibc, by which Swoole before 6.1 reopens its logs.
const RTMIN: i32 = 34;

/// Whether it is more than one process.
pub(super) fn has_processes(tree: Tree, mode: Mode) -> bool {
    tree == Tree::Fpm || !mode.is_alone()
}

/// Is one process of the tree until it ends; returns its exit code.
pub(super) async fn run(args: &SampleArgs, tree: Tree) -> u8 {
    let end = match (args.shape.part, tree) {
        (None, _) if args.faults.exit_at_once => Ok(End::Crashed),
        (None, Tree::Swoole) => swoole::lead(args).await,
        (None, Tree::Fpm) => fpm::lead(args).await,
        (Some(Part::Manager), _) => swoole::manage(args).await,
        (Some(part), _) => member(args, tree, part).await,
    };
    let end = end.unwrap_or_else(|why| {
        complain(&why);
        End::Refused
    });
    super::exit_code(args, end)
}

/// A process that others watch over.
async fn member(args: &SampleArgs, tree: Tree, part: Part) -> Result<End, String> {
    let orders = match tree {
        Tree::Swoole => signals::catch(&[
            (SignalKind::terminate(), Some(Order::Term)),
            (SignalKind::user_defined1(), None),
            (SignalKind::user_defined2(), None),
            (SignalKind::hangup(), None),
            (SignalKind::window_change(), None),
            (SignalKind::from_raw(RTMIN), None),
        ]),
        // SIGTERM keeps its default action: it ends one at once.
        Tree::Fpm => signals::catch(&[
            (SignalKind::quit(), Some(Order::Term)),
            (SignalKind::user_defined1(), None),
        ]),
    };
    let orders = orders.map_err(no_signals)?;
    say(&format!("{} {} started, pid {}", title(part), args.shape.number, std::process::id()));
    match part {
        Part::Worker | Part::Manager => Ok(super::live(args, orders).await),
        Part::TaskWorker | Part::UserProcess => Ok(idle(args, orders).await),
    }
}

/// Has nothing to do, and leaves when it is told to.
async fn idle(args: &SampleArgs, mut orders: mpsc::Receiver<Order>) -> End {
    while let Some(order) = orders.recv().await {
        if order == Order::Term && !args.faults.ignore_term {
            return End::Drained;
        }
    }
    pending().await
}

/// Opens the socket that all of the tree accept on, and tells where it is.
async fn open(args: &SampleArgs) -> Result<(std::net::TcpListener, RawFd), String> {
    let listener = super::listener(args).await?;
    server::announce(&args.name, listener.local_addr());
    let listener = listener.into_std().map_err(|err| err.to_string())?;
    let number = inherited::leave_open(&listener).map_err(|err| err.to_string())?;
    Ok((listener, number))
}

fn title(part: Part) -> &'static str {
    match part {
        Part::Manager => "manager",
        Part::Worker => "worker",
        Part::TaskWorker => "task worker",
        Part::UserProcess => "user process",
    }
}

fn no_signals(error: std::io::Error) -> String {
    format!("cannot catch signals: {error}")
}
