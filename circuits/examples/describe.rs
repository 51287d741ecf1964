//! Prints the Spend circuit as plain text: gates, fixed cells, selectors, copies and assigned cells.
//!
//! ```text
//! cargo run -p halometer-circuits --features fixtures --example describe > spend.circuit
//! cargo run -p halometer-circuits --features fixtures --example describe -- digest
//! ```
//!
//! The epoch key is the first of `tests/vectors/schnorr.txt`, or the hexadecimal digits that you give. The digest is that of
//! `tests/golden/circuit.txt`. `docs/constraints.md` describes the format.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::process::ExitCode;

use halometer_circuits::fixture::{describe, description_digest};
use halometer_circuits::schnorr::PublicKey;

fn vector_key() -> &'static str {
    let vectors = include_str!("../tests/vectors/schnorr.txt");
    vectors.lines().find_map(|line| line.strip_prefix("D = ")).unwrap_or_default()
}

fn key(digits: &str) -> Option<PublicKey> {
    let byte = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..digits.len().div_ceil(2)).map(byte).collect::<Option<_>>()?;
    PublicKey::from_bytes(&bytes.try_into().ok()?).into()
}

fn main() -> ExitCode {
    let mut digits = vector_key().to_owned();
    let mut digest = false;
    for argument in std::env::args().skip(1) {
        if argument == "digest" { digest = true } else { digits = argument }
    }
    let Some(key) = key(&digits) else {
        eprintln!("{digits} is not an epoch key: give 64 hexadecimal digits of a point, or nothing");
        return ExitCode::FAILURE;
    };
    if digest {
        println!("{}", description_digest(&key).map(|byte| format!("{byte:02x}")).concat());
    } else {
        print!("{}", describe(&key));
    }
    ExitCode::SUCCESS
}
