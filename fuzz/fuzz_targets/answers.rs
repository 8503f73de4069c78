//! An app's answer against hyper.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzz::answers(bytes));
