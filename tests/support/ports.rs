//! Ports for the servers of tests.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free. Not one of those that the kernel gives to clients (from 32768 on): a connection of
/// anybody could have it while a server is restarted.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Test programs that run at once begin at places of their own.
        let first = std::process::id().wrapping_mul(97) % 20_000;
        let port = 10_000 + (u16::try_from(first).unwrap() + n) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
