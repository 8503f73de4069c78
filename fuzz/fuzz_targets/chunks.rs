//! A request's body in chunks against hyper.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzz::chunks(bytes));
