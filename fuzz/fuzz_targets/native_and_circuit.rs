#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halometer_circuits::fuzz::native_and_circuit(bytes));
