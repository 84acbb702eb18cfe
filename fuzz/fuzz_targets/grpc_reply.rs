//! What a server says to a gRPC health check.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::grpc_reply(bytes));
