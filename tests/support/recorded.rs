//! A gateway before one instance that remembers what it received.
#![allow(unreachable_pub, reason = "for the test file that it is part of")]

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use opsdeck::gateway::control::{Limits, Route};

use crate::support::{Backend, Gateway, PATIENCE, request, shop};

/// A gateway before one instance that answers everything with `reply`, and what that instance received.
pub fn before(reply: &'static [u8]) -> (Gateway, Backend, Receiver<String>) {
    limited(reply, Limits::default())
}

pub fn limited(reply: &'static [u8], limits: Limits) -> (Gateway, Backend, Receiver<String>) {
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let web1 = Backend::start(move |_, mut stream| {
        while let Some(request) = request(&mut stream) {
            let text = request.head.clone() + &String::from_utf8_lossy(&request.body);
            drop(sender.lock().unwrap().send(text));
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    });
    let mut gateway = Gateway::start();
    gateway.daemon.apply(Route { limits, instances: vec![web1.target("web1")], ..shop() });
    (gateway, web1, received)
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\n\r\nok";

#[track_caller]
pub fn next(received: &Receiver<String>) -> String {
    received.recv_timeout(PATIENCE).unwrap()
}
