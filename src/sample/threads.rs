//! Threads of a Swoole server that is one process: they do nothing, and are seen from outside.

use std::io;
use std::thread;

use rustix::event::epoll;

/// Starts one for each worker, which has a reactor, and one for the manager, which waits for a condition.
pub(super) fn start(workers: usize) -> io::Result<()> {
    for _ in 0..workers {
        let reactor = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        thread::Builder::new().spawn(move || {
            let _reactor = reactor;
            sleep();
        })?;
    }
    thread::Builder::new().spawn(sleep)?;
    Ok(())
}

fn sleep() {
    loop {
        thread::park();
    }
}
