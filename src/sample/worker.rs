//! The sample as a worker: a queue consumer without a port.
//!
//! It begins a job every `--print-every`, works on it for `--work`, and at
//! SIGTERM finishes the job at hand before it leaves.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::drain::second_term;
use super::{End, Order, SampleArgs, say};

/// Works until SIGTERM.
pub(super) async fn work(args: &SampleArgs, orders: &mut mpsc::Receiver<Order>) -> End {
    say(&format!("{} version {} takes jobs", args.name, args.app_version));
    for number in 1u64.. {
        let next = sleep(args.print_every);
        let job = sleep(args.work);
        tokio::pin!(job);
        let term = tokio::select! {
            () = &mut job => false,
            () = told_to_leave(args, orders) => true,
        };
        if term {
            say(&format!("SIGTERM: finishing job {number}"));
            return finish(number, job, args.max_wait_time, orders).await;
        }
        say(&format!("job {number} done"));
        tokio::select! {
            () = next => {}
            () = told_to_leave(args, orders) => break,
        }
    }
    say("stopped: no job was waiting");
    End::Drained
}

async fn finish(
    number: u64,
    job: impl Future<Output = ()>,
    limit: Duration,
    orders: &mut mpsc::Receiver<Order>,
) -> End {
    tokio::select! {
        done = timeout(limit, job) => match done {
            Ok(()) => {
                say(&format!("job {number} done, stopped"));
                End::Drained
            }
            Err(_) => {
                say(&format!("stopped: job {number} was cut after {limit:?}"));
                End::Cut(1)
            }
        },
        () = second_term(orders) => End::ToldTwice,
    }
}

/// Ends at a SIGTERM that is not ignored.
async fn told_to_leave(args: &SampleArgs, orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Term) if args.faults.ignore_term => say("SIGTERM ignored"),
            Some(Order::Term) | None => return,
            Some(Order::Reload) => say("reloaded"),
            Some(Order::Hangup) => say("SIGHUP caught"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::options::tests::args;

    /// How a worker ends that is sent these orders after this time each.
    async fn end_of(line: &str, sent: &[(Duration, Order)]) -> End {
        let (orders, mut received) = mpsc::channel(4);
        let args = args(line);
        let sending = async {
            for (after, order) in sent {
                sleep(*after).await;
                orders.send(*order).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = work(&args, &mut received) => end,
            () = sending => unreachable!(),
            () = sleep(Duration::from_secs(3600)) => panic!("the worker went on for an hour"),
        }
    }

    const BUSY: Duration = Duration::from_millis(6_500);
    const IDLE: Duration = Duration::from_millis(8_500);
    const JOBS: &str = "--worker --print-every 3s --work 1s";

    #[tokio::test(start_paused = true)]
    async fn a_worker_finishes_its_job_at_sigterm() {
        assert_eq!(end_of(JOBS, &[(BUSY, Order::Term)]).await, End::Drained);
        assert_eq!(end_of(JOBS, &[(IDLE, Order::Term)]).await, End::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_takes_too_long_is_cut() {
        let long = "--worker --work 30s --max-wait-time 3s";
        assert_eq!(end_of(long, &[(BUSY, Order::Term)]).await, End::Cut(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_term_ends_a_worker_at_once() {
        let long = "--worker --work 30s --max-wait-time 10s";
        let twice = [(BUSY, Order::Term), (Duration::from_secs(1), Order::Term)];
        assert_eq!(end_of(long, &twice).await, End::ToldTwice);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the worker went on for an hour")]
    async fn a_worker_that_ignores_sigterm_goes_on() {
        end_of("--worker --ignore-term", &[(BUSY, Order::Term)]).await;
    }
}
