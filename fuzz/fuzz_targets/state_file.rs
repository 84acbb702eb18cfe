//! The state that an earlier daemon left.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::state_file(bytes));
