#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halometer::fuzz::run("dispute", bytes));
