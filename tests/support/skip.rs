//! What a test needs and a host does not have.
//!
//! A test that does nothing would pass like one that looked. So it is said aloud, kept for `.ci/run` to tell at its
//! end, and is an error with `OPSDECK_TEST_REQUIRE` unless no package brings what is missing.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]

use std::io::Write as _;

/// What only the kernel, or who runs the tests, can give.
const A_HOST_MAY_LACK: [&str; 9] = [
    "root",
    "/dev/fuse",
    "capabilities to give away",
    "a count of those killed for want of memory",
    "a freezer of cgroup v1",
    "a kernel that tells what memory a process has filled",
    "a disk out of a file that breaks when it is asked to",
    "pids that can be chosen",
    "a highest pid for each namespace",
];

/// Says of this test that it does nothing for want of this.
#[track_caller]
pub fn skip(lacking: &str) {
    let required = std::env::var_os("OPSDECK_TEST_REQUIRE").is_some();
    assert!(!required || A_HOST_MAY_LACK.contains(&lacking), "this host lacks {lacking}");
    let thread = std::thread::current();
    let line = format!("{}: {lacking}\n", thread.name().unwrap_or("a test"));
    // Not by `eprint!`: what a passing test prints so is not shown. Where nobody reads it, it is kept all the same.
    let _ = write!(std::io::stderr(), "skipped {line}");
    let kept = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped");
    let file = std::fs::File::options().create(true).append(true).open(kept);
    file.and_then(|mut it| it.write_all(line.as_bytes())).expect(kept);
}

/// Whether it is there; without it the test is said to do nothing.
#[track_caller]
pub fn has(what: &str, found: bool) -> bool {
    if !found {
        skip(what);
    }
    found
}

/// Whether there can be two users here.
#[track_caller]
pub fn is_root() -> bool {
    has("root", nix::unistd::geteuid().is_root())
}
