//! The verifying key is pinned: a summary that a reader can follow, and the digest of all of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use halo2_proofs::plonk::{Circuit, ConstraintSystem};
use pasta_curves::pallas::Base;

use super::super::*;
use super::constraints::{GATES, all};
use super::recording::Recording;
use crate::circuit::layout::USABLE_ROWS;
use crate::proof::{Proof, VerifyingKey};

const GOLDEN: &str = "tests/golden/verifying_key.txt";

/// The first key of the test vectors.
pub(super) fn vector_key() -> PublicKey {
    let vectors = include_str!("../../../tests/vectors/schnorr.txt");
    let hex = vectors.lines().find_map(|line| line.strip_prefix("D = ")).expect("a key");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    PublicKey::from_bytes(&bytes.try_into().unwrap()).unwrap()
}

/// The text between two marks, the first of which occurs once.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).expect("a mark");
    rest.split_once(to).expect("an end").0
}

fn summary(key: &VerifyingKey) -> String {
    let description = key.description();
    let number = |name: &str| -> usize { between(&description, &format!("{name}: "), ",").parse().expect("a number") };
    let queries = |name: &str| between(&description, &format!("{name}: ["), "]").matches("Column").count();

    let mut meta = ConstraintSystem::<Base>::default();
    SpendCircuit::configure(&mut meta);
    let degree = meta.degree();
    let recording = Recording::of(&SpendCircuit::for_key(&key.epoch_key()));
    let used: BTreeSet<_> = recording.advice.iter().map(|(_, row)| *row).collect();
    let polynomials: usize = GATES.iter().map(|gate| gate.polynomials).sum();
    let permuted = between(&description, "permutation: Argument { columns: [", "]").matches("Column").count();
    let (k, advice, fixed) = (number("k"), number("num_advice_columns"), number("num_fixed_columns"));
    let instance = number("num_instance_columns");
    let sets = permuted.div_ceil(degree - 2);
    // The opening stops after four of its k rounds, and sends what is left of its vector.
    let rounds = 4;
    let points = advice + sets + 1 + (degree - 1) + 1 + 1 + 2 * rounds;
    let scalars = queries("instance_queries")
        + queries("advice_queries")
        + queries("fixed_queries")
        + permuted
        + 1
        + (3 * sets - 1)
        + 2
        + (1 << (k - rounds))
        + 1;
    // Two sets of points to open at: x, and x with its next row.
    assert_eq!(points * 64 + scalars * 32, Proof::LENGTH);

    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<22}{value}").unwrap();
    line("k", format!("{k}, extended {}", number("extended_k")));
    line("columns", format!("{advice} advice, {fixed} fixed, {instance} instance"));
    line("selectors", number("num_selectors").to_string());
    line("gates", format!("{}, of {polynomials} polynomials", GATES.len()));
    line("largest degree", degree.to_string());
    line("constraints", format!("{}, of which {} copies", all().len(), COPIES.len()));
    line("advice cells", recording.advice.len().to_string());
    line(
        "queries",
        format!(
            "{} advice, {} fixed, {} instance",
            queries("advice_queries"),
            queries("fixed_queries"),
            queries("instance_queries")
        ),
    );
    line("permutation columns", permuted.to_string());
    line("rows", format!("{} used of {USABLE_ROWS}", used.last().unwrap() + 1));
    line("proof", format!("{points} points, {scalars} scalars, {} bytes", Proof::LENGTH));
    line("epoch key", hex(&key.epoch_key().to_bytes()));
    line("digest", hex(&key.digest()));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_verifying_key_is_the_pinned_one() {
    let found = summary(&VerifyingKey::build(&vector_key()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("HALOMETER_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, pinned,
        "\nThe verifying key is not the one in circuits/{GOLDEN}.\nProofs made before no longer verify. If that is meant, \
         run the test with HALOMETER_BLESS=1 and say in CHANGELOG.md what changed and why.\n"
    );
}

#[test]
fn a_key_is_a_function_of_the_epoch_key_alone() {
    let (a, b) = (VerifyingKey::build(&vector_key()), VerifyingKey::build(&vector_key()));
    assert_eq!(a.digest(), b.digest());
    let other = VerifyingKey::build(&super::support::Honest::new(1).key.public_key());
    assert_ne!(a.digest(), other.digest());
    // All epochs have the same circuit but for some fixed values: the descriptions differ in commitments alone.
    let shape = |key: &VerifyingKey| between(&key.description(), "domain", "fixed_commitments").to_owned();
    assert_eq!(shape(&a), shape(&other));
}
