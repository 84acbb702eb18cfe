//! No wait of a test is without a bound: what hangs fails, and says where.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a test waits for anything. Generous: the machine may be loaded.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks; the processor is for what is waited for.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(1));
}

/// Waits, by looking again and again, for something no event tells of.
#[track_caller]
pub fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < deadline, "not {what}");
        pause();
    }
}

/// As [`Child::wait`].
#[track_caller]
pub fn ended(child: &mut Child) -> ExitStatus {
    ended_within(child, PATIENCE)
        .unwrap_or_else(|| panic!("process {} goes on after {PATIENCE:?}", child.id()))
}

/// Whether and how it ends in this time.
pub fn ended_within(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + time;
    loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        pause();
    }
}

/// As [`Command::output`].
#[track_caller]
pub fn output_of(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    finish(child.unwrap())
}

/// As [`Child::wait_with_output`]; what goes on is killed.
#[track_caller]
pub fn finish(mut child: Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = ended_within(&mut child, PATIENCE);
    if status.is_none() {
        child.kill().unwrap();
    }
    let (stdout, stderr) = (collect(&stdout, deadline), collect(&stderr, deadline));
    let Some(status) = status else {
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        panic!("process {} went on after {PATIENCE:?}, it said:\n{said}", child.id());
    };
    Output { status, stdout, stderr }
}

/// Waits until there is something to read, or the end.
#[track_caller]
pub fn wait_readable(from: &impl AsFd) {
    let mut one = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut one, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing to read after {PATIENCE:?}");
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, pieces) = channel();
    if let Some(mut pipe) = pipe {
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    pieces
}

fn collect(pieces: &Receiver<Vec<u8>>, deadline: Instant) -> Vec<u8> {
    let mut all = vec![];
    let left = || deadline.saturating_duration_since(Instant::now());
    while let Ok(piece) = pieces.recv_timeout(left()) {
        all.extend(piece);
    }
    all
}
