//! What a peer says on the gateway's control socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::gateway_control(bytes));
