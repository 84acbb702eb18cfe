//! A log and the index beside it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::log_index(bytes));
