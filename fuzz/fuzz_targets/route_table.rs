//! What the daemon tells the proxy: decoded, compiled, asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzz::route_table(bytes));
