//! The PROXY header, both versions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzz::proxied(bytes));
