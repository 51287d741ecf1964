//! Killing the process that holds the money, at any instant, again and again.
//!
//! The parent has the wallets. The child, this test binary once more, is issuer and gateway on a durable store; they speak over
//! its standard input and output, a line for a message. The parent kills the child (SIGKILL), starts another on the same
//! directory, and sends again what has no answer. No admitted nullifier may be missing then, no settlement may differ from one that
//! was ever returned, the books must balance, and every micro-credit of every wallet must be found again.
//!
//! Proofs are left out, so that there are hundreds of spends a second.

mod child;
mod parent;
mod wallet;

use crate::protocol::*;
use crate::store::durable::StoreOptions;
use crate::testing::world;
use std::path::Path;
use world::*;

/// Where the child finds its store.
const PLACE: &str = "HALOMETER_KILL";
/// How long evidence goes into one bucket: some are begun and erased in every run.
const BUCKET: u32 = 300;
/// How much time passes from one child to the next.
const PAUSE: u64 = 250;

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 8 << 20, bucket_seconds: BUCKET, allow_mark_inside: true, ..StoreOptions::default() }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hexadecimal digits")
}

#[test]
#[ignore = "a part of the tests beside it, which run it"]
fn child_process() {
    if let Some(place) = std::env::var_os(PLACE) {
        child::run(Path::new(&place));
    }
}

#[test]
fn a_process_that_is_killed_loses_or_doubles_credit() {
    parent::run(20, 1);
}

#[test]
#[ignore = "takes a minute"]
fn a_process_that_is_killed_two_hundred_times_loses_or_doubles_credit() {
    parent::run(200, 2);
}
