//! The body of a request to the API.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| opsdeck_fuzz::api_body(bytes));
