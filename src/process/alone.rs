//! Runs one test in a process of its own.
//!
//! Reaping every child, ignoring signals, being a subreaper: these belong to a whole process, and
//! the tests of this crate share one.

use std::process::Command;

const VARIABLE: &str = "OPSDECK_TEST_ALONE";

/// Runs `body` in a copy of this test binary that runs only the test `name` (with its modules).
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(VARIABLE).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
