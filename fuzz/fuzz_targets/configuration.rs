#![no_main]
#![allow(dead_code, unused_imports, reason = "the program uses the rest")]

// The configuration is the program's, not the library's: taken in as it stands.
#[path = "../../src/bin/halometer/gateway"]
mod gateway {
    pub mod config;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::config::fuzz::configuration(bytes));
