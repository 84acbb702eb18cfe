//! What a peer says on the gateway's control socket: routes and everything else, line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opsdeck::gateway::control::{FromGateway, decode};

fuzz_target!(|lines: &[u8]| {
    opsdeck::gateway::replay(lines);
    for line in lines.split(|it| *it == b'\n') {
        // What the daemon reads is as foreign.
        let _ = decode::<FromGateway>(line);
    }
});
