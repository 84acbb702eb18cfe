//! `opsdeck sample`: a server that behaves like the servers opsdeck exists for.
//!
//! The demo and the tests run it where an operator would run Swoole or Hyperf:
//! it works, drains at SIGTERM for at most its own `--max-wait-time` and exits
//! 0, also when it had to cut requests. On request it misbehaves in the ways
//! that real servers do. It knows nothing of the rest of opsdeck and shows
//! nothing about opsdeck's own manners.
//!
//! ```text
//! signals ─► Order ─► server (routes, stats) ─► drain ─► End ─► exit code
//!                  └► worker
//! tree: leader ─► (manager ─►) workers, each of them a server as above
//! ```

mod drain;
mod faults;
mod inherited;
mod options;
mod routes;
mod server;
mod signals;
mod stats;
#[cfg(test)]
mod tests;
mod threads;
mod tree;
mod worker;

use std::io::{self, Write};

use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::mpsc;

pub use self::options::{Faults, Mode, Part, Role, SampleArgs, Shape, Tree};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// SIGTERM.
    Term,
    /// SIGUSR1.
    Reload,
    /// SIGHUP, where it is caught.
    Hangup,
}

/// How a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything in flight was answered.
    Drained,
    /// So many requests were cut.
    Cut(usize),
    /// A second SIGTERM came during the drain.
    ToldTwice,
    /// `--crash-after` or `--exit-at-once`.
    Crashed,
    /// It never served; the reason was printed.
    Refused,
}

/// Runs the sample until a signal or one of its faults ends it.
///
/// Returns the exit code. Wants a runtime with io, time and signals; prints to
/// stdout and stderr like the program it plays.
pub async fn run(args: SampleArgs) -> u8 {
    if let Some(role) = args.role {
        return faults::play(role).await;
    }
    if let Some(tree) = args.tree.filter(|it| tree::has_processes(*it, args.shape.mode)) {
        return tree::run(&args, tree).await;
    }
    if args.has_threads()
        && let Err(error) = threads::start(args.shape.workers)
    {
        complain(&format!("cannot start a thread: {error}"));
    }
    exit_code(&args, run_to_end(&args).await)
}

fn exit_code(args: &SampleArgs, end: End) -> u8 {
    match end {
        End::Drained | End::Cut(_) => 0,
        End::Crashed => {
            if let Some(words) = &args.faults.say {
                complain(words);
            }
            args.faults.exit_code
        }
        End::ToldTwice => faults::die_of_sigterm(),
        // As PHP does for an uncaught exception.
        End::Refused => 255,
    }
}

async fn run_to_end(args: &SampleArgs) -> End {
    if args.faults.exit_at_once {
        return End::Crashed;
    }
    let (orders, received) = mpsc::channel(16);
    if let Err(error) = signals::listen(orders, args.catch_hup) {
        complain(&format!("cannot catch signals: {error}"));
        return End::Refused;
    }
    live(args, received).await
}

/// Works until an order or a fault ends it.
async fn live(args: &SampleArgs, received: mpsc::Receiver<Order>) -> End {
    if args.faults.fork_grandchild {
        faults::fork_grandchild();
    }
    tokio::select! {
        end = work(args, received) => end,
        () = faults::crash(&args.faults) => End::Crashed,
        never = faults::flood(&args.faults) => match never {},
    }
}

async fn work(args: &SampleArgs, mut orders: mpsc::Receiver<Order>) -> End {
    if !faults::start_delay(&args.faults, &mut orders).await {
        return End::Drained;
    }
    if args.worker {
        return worker::work(args, &mut orders).await;
    }
    match listener(args).await {
        Ok(listener) => server::serve(listener, args, &mut orders).await,
        Err(why) => {
            complain(&why);
            End::Refused
        }
    }
}

async fn listener(args: &SampleArgs) -> Result<TcpListener, String> {
    if let Some(number) = args.shape.inherited {
        let passed = inherited::numbered(number)?;
        return TcpListener::from_std(passed).map_err(|err| err.to_string());
    }
    if args.listen_fd {
        let passed = inherited::take()?;
        return TcpListener::from_std(passed).map_err(|err| err.to_string());
    }
    bind(args)
        .await
        .map_err(|error| format!("cannot listen on {}:{}: {error}", args.host, args.port))
}

/// Tokio's own backlog, where nothing else is asked for.
const BACKLOG: u32 = 1024;

async fn bind(args: &SampleArgs) -> io::Result<TcpListener> {
    let place = (args.host.as_str(), args.port);
    if args.faults.backlog.is_none() && !args.faults.reuse_port {
        return TcpListener::bind(place).await;
    }
    let address = lookup_host(place).await?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(args.faults.reuse_port)?;
    socket.bind(address)?;
    socket.listen(args.faults.backlog.unwrap_or(BACKLOG))
}

/// Prints a line of output. A reader that has gone away is no reason to stop.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Prints a line to stderr.
fn complain(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
