//! A client's connection against hyper: heads, bodies, pipelining, cut up anyhow.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzz::requests(bytes));
