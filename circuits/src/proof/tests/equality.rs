//! The same bytes, and the same verdicts.

use ff::Field;
use group::Group;

use super::support::*;
use crate::proof::fast::Total;
use crate::proof::reference::{ReferenceProver, extended, verify_full};
use crate::proof::sums::{Adder, Scalar};
use crate::proof::{Proof, VerifyError, VerifyingKey};
use crate::spend::SpendPublic;

/// Values at the ends of their range, and others.
const VALUES: [(u64, u64, u64); 6] = [
    (0, 0, 0),
    (1, 0, 1),
    (u64::MAX, 0, 0),
    (u64::MAX, u64::MAX, u64::MAX),
    (5_000_000, 17, 1_000_000),
    (1 << 63, 1 << 32, 1 << 40),
];

fn proofs_are_those_of_the_stock_prover(epochs: u64, spends: usize) {
    for seed in 0..epochs {
        let epoch = Epoch::new(100 + seed);
        let stock = ReferenceProver::new(epoch.key.verifying_key());
        for (n, (hidden, refund, charge)) in VALUES.iter().cycle().take(spends).enumerate() {
            let (public, witness) = epoch.spend(n as u64, *hidden, *refund, *charge);
            let circuit = epoch.key.circuit().with_witness(&public, &witness).unwrap();
            let ours = epoch.key.prove_in(8, &public, circuit, &mut rng(n as u64)).unwrap();
            let stocks = stock.prove(&public, &witness, &mut rng(n as u64)).unwrap();
            assert!(ours == stocks, "epoch {seed}, spend {n}");
        }
    }
}

#[test]
fn proofs_are_the_bytes_of_the_stock_prover() {
    proofs_are_those_of_the_stock_prover(2, 3);
}

#[test]
#[ignore = "slow suite"]
fn many_proofs_are_the_bytes_of_the_stock_prover() {
    proofs_are_those_of_the_stock_prover(6, 12);
}

/// The opening may stop after any of its rounds. A proof that does is a full one but for rounds that take no secret: with
/// them `verify_proof` accepts it, and one with an error it refuses.
#[test]
fn a_shorter_opening_extends_to_a_stock_proof() {
    let epoch = Epoch::new(200);
    let key = epoch.key.verifying_key();
    let (public, witness) = epoch.some_spend(1);
    for rounds in 0..=8 {
        let circuit = epoch.key.circuit().with_witness(&public, &witness).unwrap();
        let proof = epoch.key.prove_in(rounds, &public, circuit, &mut rng(1)).unwrap();
        assert_eq!(proof.len(), 17 * 64 + 48 * 32 + rounds * 128 + (32 << (8 - rounds)) + 32);
        assert_eq!(verdict(key, rounds, &public, &proof), Ok(()), "{rounds}");
        let step = proof.len() / if rounds == Proof::ROUNDS { 60 } else { 6 };
        for at in (5..proof.len()).step_by(step).chain([proof.len() - 64, proof.len() - 32]) {
            let mut bad = proof.clone();
            bad[at] ^= 2;
            assert!(verdict(key, rounds, &public, &bad).is_err(), "{rounds} rounds, byte {at}");
        }
        assert!(verdict(key, rounds, &public, &proof[..proof.len() - 1]).is_err());
    }
}

/// A vector whose upper halves are zero: the missing rounds have nothing but their blinding to send.
#[test]
fn a_vector_of_zeros_extends_too() {
    let epoch = Epoch::new(201);
    let key = epoch.key.verifying_key();
    let (public, witness) = epoch.some_spend(2);
    let circuit = epoch.key.circuit().with_witness(&public, &witness).unwrap();
    let mut proof = epoch.key.prove_in(4, &public, circuit, &mut rng(2)).unwrap();
    let (from, to) = (proof.len() - 16 * 32, proof.len() - 32);
    proof[from..to].fill(0);
    assert_eq!(verdict(key, 4, &public, &proof), Err(VerifyError::Invalid));
}

/// Our verdict, and that of `verify_proof` on the extended proof: the same.
fn verdict(key: &VerifyingKey, rounds: usize, public: &SpendPublic, proof: &[u8]) -> Result<(), VerifyError> {
    let ours = key.equation_in(rounds, public, proof, Scalar::ONE).and_then(|equation| {
        let mut total = Total::with_capacity(1);
        total.add(key.commitments(), &equation, None);
        let sum = total.sum(&mut Adder::default());
        if bool::from(sum.is_identity()) { Ok(()) } else { Err(VerifyError::Invalid) }
    });
    let stock = extended(key, public, proof, rounds).and_then(|full| verify_full(key, public, &full));
    assert_eq!(ours, stock);
    ours
}
