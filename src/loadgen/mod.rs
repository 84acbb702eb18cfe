//! `opsdeck load`: a polite load generator that counts every failed request.
//!
//! It plays clients, not a benchmark: each asks, waits for the reply and waits
//! the rest of its interval. It never repeats a request and never excuses one: a
//! kept connection that breaks under a request is a failed request, because the
//! user of a browser would have seen it.
//!
//! ```text
//! client × N ─► Done ─► run: counts, shows progress ─► LoadReport
//! ```

mod client;
mod connection;
mod histogram;
mod options;
mod report;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::client::{Done, Plan};
use self::report::Short;

pub use self::options::{Connections, LoadArgs, MethodChoice, Target};
pub use self::report::LoadReport;

/// Asks until `-n`, `--duration`, Ctrl-C or SIGTERM ends it.
///
/// The requests under way are then finished; a second signal gives them up.
/// Shows its progress on stderr if that is a terminal.
///
/// # Errors
///
/// When signals cannot be caught.
pub async fn run(args: LoadArgs) -> io::Result<LoadReport> {
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let show = io::stderr().is_terminal();
    let measuring = measure(args, stop.clone(), give_up.clone(), show);
    tokio::pin!(measuring);
    for token in [stop, give_up] {
        tokio::select! {
            report = &mut measuring => return Ok(report),
            () = either(&mut signals) => token.cancel(),
        }
    }
    Ok(measuring.await)
}

/// Prints the report on stdout, as text or as JSON.
///
/// # Errors
///
/// When stdout cannot be written.
pub fn print(report: &LoadReport, json: bool) -> io::Result<()> {
    match json {
        true => writeln!(io::stdout(), "{:#}", report.to_json()),
        false => writeln!(io::stdout(), "{report}"),
    }
}

async fn either((first, second): &mut (Signal, Signal)) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Asks until `-n` or `--duration` or `stop`, finishes what is under way until
/// `give_up`, and reports; with `show` it writes its progress to stderr.
///
/// The demo calls it to put load on its servers.
pub async fn measure(
    args: LoadArgs,
    stop: CancellationToken,
    give_up: CancellationToken,
    show: bool,
) -> LoadReport {
    let mut report = LoadReport::new(args.url.to_string(), args.clients);
    let (measured, elapsed) = timed(drive(args, stop, give_up, show, &mut report)).await;
    report.elapsed = elapsed;
    report.unfinished = measured - report.requests();
    report
}

/// Runs the clients and counts what they report; returns how many requests were begun.
async fn drive(
    args: LoadArgs,
    stop: CancellationToken,
    give_up: CancellationToken,
    show: bool,
    report: &mut LoadReport,
) -> u64 {
    let (sender, mut done) = mpsc::channel::<Done>(1024);
    let (clients, duration) = (args.clients, args.duration);
    // `--duration` ends this run and nothing else that hangs on the caller's token.
    let stop = stop.child_token();
    let plan = Arc::new(Plan::new(args));
    // Dropped at the end, which ends the clients that are given up.
    let mut running = JoinSet::new();
    for number in 0..clients {
        running.spawn(client::run(Arc::clone(&plan), number, sender.clone(), stop.clone()));
    }
    drop(sender);

    let over = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = give_up.cancelled() => break,
            () = &mut over, if !stop.is_cancelled() => stop.cancel(),
            _ = seconds.tick(), if show => show_progress(report),
            finished = done.recv() => match finished {
                Some(finished) => report.add(finished),
                None => break,
            },
        }
    }
    if show {
        drop(write!(io::stderr(), "\r\x1b[K"));
    }
    running.shutdown().await;
    plan.begun()
}

fn show_progress(report: &LoadReport) {
    let (requests, failed) = (report.requests(), report.failed());
    let p99 = Short(report.percentile(99));
    let line = format!("{requests} requests   {failed} failed   p99 {p99}");
    drop(write!(io::stderr(), "\r\x1b[K{line}"));
}

/// Measures how long `work` takes.
#[expect(clippy::disallowed_methods, reason = "latency and duration are what the load measures")]
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = tokio::time::Instant::now();
    let result = work.await;
    (result, start.elapsed())
}
