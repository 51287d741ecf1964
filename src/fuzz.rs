//! Fuzz targets for every parser that meets bytes from outside, and for what must agree with a simpler form of itself.
//!
//! They are functions of bytes that panic when something does not hold which must; [`TARGETS`] has their seeds with them. The
//! tests here run each for a second at most on a stable toolchain; `fuzz/` hands them to `cargo fuzz`, which sets
//! `cfg(fuzzing)`. They are in the library so that they reach its private parsers, and in no other build. See
//! `docs/fuzzing.md`.

mod agreement;
mod http;
mod messages;
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use crate::testing::fuzz::{Target, planted};

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "opening", body: messages::opening, seeds: messages::opening_seeds, rounds: 4_000 },
    Target { name: "following", body: messages::following, seeds: messages::following_seeds, rounds: 4_000 },
    Target { name: "transfer", body: messages::transfer, seeds: messages::transfer_seeds, rounds: 4_000 },
    Target { name: "cancellation", body: messages::cancellation, seeds: messages::cancellation_seeds, rounds: 4_000 },
    Target { name: "directory", body: messages::directory, seeds: messages::directory_seeds, rounds: 4_000 },
    Target { name: "settlement", body: messages::settlement, seeds: messages::settlement_seeds, rounds: 4_000 },
    Target { name: "mint_request", body: messages::mint_request, seeds: messages::mint_request_seeds, rounds: 4_000 },
    Target { name: "mint_answer", body: messages::mint_answer, seeds: messages::mint_answer_seeds, rounds: 4_000 },
    Target { name: "receipt", body: messages::receipt, seeds: messages::receipt_seeds, rounds: 4_000 },
    Target { name: "envelope", body: messages::envelope, seeds: messages::envelope_seeds, rounds: 4_000 },
    Target { name: "evidence", body: messages::evidence, seeds: messages::evidence_seeds, rounds: 40 },
    Target { name: "dispute", body: messages::dispute, seeds: messages::dispute_seeds, rounds: 4_000 },
    Target {
        name: "store_records",
        body: crate::store::durable::fuzz::records,
        seeds: crate::store::durable::fuzz::record_seeds,
        rounds: 4_000,
    },
    Target {
        name: "store_journal",
        body: crate::store::durable::fuzz::journals,
        seeds: crate::store::durable::fuzz::journal_seeds,
        rounds: 10_000,
    },
    Target {
        name: "wallet_records",
        body: crate::wallet::file::fuzz::records,
        seeds: crate::wallet::file::fuzz::seeds,
        rounds: 4_000,
    },
    Target { name: "credential", body: http::credential, seeds: http::credential_seeds, rounds: 4_000 },
    Target { name: "challenge", body: http::challenge, seeds: http::challenge_seeds, rounds: 4_000 },
    Target { name: "usage", body: http::usage, seeds: http::usage_seeds, rounds: 10_000 },
    Target { name: "events", body: http::events, seeds: http::event_seeds, rounds: 10_000 },
    Target { name: "gateway_model", body: agreement::gateway_model, seeds: agreement::histories, rounds: 40 },
    Target { name: "batch", body: agreement::batch, seeds: agreement::batches, rounds: 20 },
];

/// Runs the target of this name.
///
/// # Panics
/// When something does not hold, and when there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the name of a target").body)(bytes);
}

/// What can be read is written as the same bytes: there is one encoding of a value. The planted fault is a reader that passes over
/// a last byte that is too much.
pub(crate) fn canonical<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Option<T>, write: impl Fn(&T) -> Vec<u8>) {
    let mut value = read(bytes);
    if planted() && value.is_none() {
        value = bytes.split_last().and_then(|(_, rest)| read(rest));
    }
    if let Some(value) = value {
        // Not by assert_eq: what it would print may be secret.
        assert!(write(&value) == bytes, "another encoding of the same value");
    }
}
