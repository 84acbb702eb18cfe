//! The journal of an earlier daemon.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::journal(bytes));
