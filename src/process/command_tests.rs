//! Commands are run alone: their deaths come from a reaper of all children.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::*;
use crate::process::alone::alone;

fn environment() -> Vec<(String, String)> {
    vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())]
}

/// Runs what needs commands beside a reaper, in one thread as in the daemon.
fn with_reaper<T>(work: impl AsyncFnOnce(Reaper) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reaper = Reaper::default();
        let mut chld = signal(SignalKind::child()).unwrap();
        let reaping = async {
            loop {
                reaper.reap(|_| ()).unwrap();
                chld.recv().await;
            }
        };
        tokio::select! {
            done = work(reaper.clone()) => done,
            never = reaping => never,
        }
    })
}

async fn shell(reaper: &Reaper, script: &str, timeout: Duration) -> Result<Outcome, CommandError> {
    let argv = ["sh", "-c", script].map(str::to_owned);
    let environment = environment();
    let command = Command {
        argv: &argv,
        directory: None,
        environment: &environment,
        switch: None,
        timeout,
        keep: 100,
        leaves_nothing: false,
        outlives: false,
    };
    run(reaper, command).await
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_command_ends_with_its_code_and_the_end_of_its_output() {
    alone(
        "process::command::tests::a_command_ends_with_its_code_and_the_end_of_its_output",
        || {
            with_reaper(async |reaper| {
                let said = shell(&reaper, "echo out; echo err >&2; exit 3", LONG).await.unwrap();
                let expected = Outcome {
                    status: Status::Exited(3),
                    output: b"out\nerr\n".to_vec(),
                    dropped: 0,
                    timed_out: false,
                };
                assert_eq!(said, expected);

                let flood = "head -c 3000000 /dev/zero | tr '\\0' x; echo end";
                let flood = shell(&reaper, flood, LONG).await.unwrap();
                assert_eq!((flood.output.len(), flood.dropped), (100, 3_000_004 - 100));
                assert!(flood.output.ends_with(b"xend\n"));

                let killed = shell(&reaper, "kill -TERM $$", LONG).await.unwrap();
                assert_eq!(killed.status, Status::Signaled { signal: libc::SIGTERM, core: false });
            });
        },
    );
}

#[test]
fn after_its_timeout_a_command_and_all_it_started_are_dead() {
    alone(
        "process::command::tests::after_its_timeout_a_command_and_all_it_started_are_dead",
        || {
            with_reaper(async |reaper| {
                let folder = tempfile::tempdir().unwrap();
                let pids = folder.path().join("pids");
                let never = folder.path().join("never");
                let script = format!(
                    "mkfifo {never}; trap '' TERM; echo $$ >>{pids}; \
                 setsid sh -c 'trap \"\" TERM; echo $$ >>{pids}; read x <>{never}' & \
                 (setsid sh -c 'echo $$ >>{pids}; read x <>{never}' &); echo said; \
                 read x <>{never}",
                    pids = pids.display(),
                    never = never.display(),
                );

                let outcome = shell(&reaper, &script, Duration::from_millis(500)).await.unwrap();

                assert!(outcome.timed_out);
                assert_eq!(outcome.status, Status::Signaled { signal: libc::SIGKILL, core: false });
                assert_eq!(outcome.output, b"said\n");
                let started = std::fs::read_to_string(&pids).unwrap();
                assert_eq!(started.lines().count(), 3);
                for pid in started.lines() {
                    let pid = pid.parse().unwrap();
                    // SIGKILL was sent; the kernel may still be taking it apart.
                    if let Ok(identity) = crate::process::identity::identity_of(pid)
                        && let Some(pidfd) = crate::process::identity::open(identity).unwrap()
                    {
                        let mut ready =
                            [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
                        let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
                        assert_eq!(
                            rustix::event::poll(&mut ready, Some(&patience)),
                            Ok(1),
                            "{pid}"
                        );
                    }
                }
            });
        },
    );
}

#[test]
fn what_holds_the_output_in_the_background_does_not_hold_the_command() {
    let name = "process::command::tests::what_holds_the_output_in_the_background_does_not_hold_the_command";
    alone(name, || {
        with_reaper(async |reaper| {
            let outcome = shell(&reaper, "sleep 30 & echo $!", LONG).await.unwrap();
            assert!(!outcome.timed_out && outcome.status == Status::Exited(0));
            let pid = String::from_utf8(outcome.output).unwrap().trim().parse().unwrap();
            let identity = crate::process::identity::identity_of(pid).unwrap();
            crate::process::cgroup::kill_one(identity).unwrap();
        });
    });
}

#[test]
fn a_command_that_cannot_start_says_why() {
    alone("process::command::tests::a_command_that_cannot_start_says_why", || {
        with_reaper(async |reaper| {
            let argv = ["/nowhere/build".to_owned()];
            let environment = environment();
            let command = Command {
                argv: &argv,
                directory: None,
                environment: &environment,
                switch: None,
                timeout: LONG,
                keep: 100,
                leaves_nothing: false,
                outlives: false,
            };
            let refused = run(&reaper, command).await.unwrap_err();
            let expected = "could not execute /nowhere/build: no such file or directory";
            assert_eq!(refused.to_string(), expected);
        });
    });
}

#[test]
fn a_command_that_nobody_waits_for_any_more_is_killed() {
    alone("process::command::tests::a_command_that_nobody_waits_for_any_more_is_killed", || {
        with_reaper(async |reaper| {
            let waiting = shell(&reaper, "sleep 1000", LONG);
            // Started at the first poll, dropped at the second.
            let gone = tokio::time::timeout(Duration::from_millis(50), waiting).await;
            assert!(gone.is_err());
            let empty = async {
                while !reaper.children().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            assert!(tokio::time::timeout(LONG, empty).await.is_ok(), "it still runs");
        });
    });
}

#[tokio::test]
async fn last_words_are_taken_before_the_runtime_hears_of_them() {
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = Receiver::from_owned_fd(reader.into()).unwrap();
    io::Write::write_all(&mut writer, b"last words").unwrap();
    let mut tail = Tail::new(5);
    tail.take_from(&reader);
    assert_eq!((Vec::from(tail.bytes), tail.dropped), (b"words".to_vec(), 5));
}
