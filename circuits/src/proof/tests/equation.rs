//! The verifier's equation against that of `verify_proof`: the same point, be it zero or not.

use ff::{Field, PrimeField};
use group::{Curve, Group};
use halo2_proofs::plonk::{self, VerificationStrategy, verify_proof};
use halo2_proofs::poly::commitment::{Guard, MSM};
use halo2_proofs::transcript::EncodedChallenge;
use pasta_curves::arithmetic::CurveAffine;
use pasta_curves::{pallas, vesta};
use proptest::prelude::*;
use rand_core::Rng;
use std::sync::LazyLock;

use super::support::*;
use crate::proof::fast::Total;
use crate::proof::reference::{StockReader, verify_full};
use crate::proof::setup::PARAMS;
use crate::proof::sums::Adder;
use crate::proof::transcript::{POINT_BYTES, Reader, SCALAR_BYTES};
use crate::proof::{VerifyError, VerifyingKey};
use crate::spend::SpendPublic;

/// The stock verifier's equation, before it is asked whether it is zero.
struct Full;

impl VerificationStrategy<'static, vesta::Affine> for Full {
    type Output = MSM<'static, vesta::Affine>;

    fn process<E: EncodedChallenge<vesta::Affine>>(
        self,
        f: impl FnOnce(MSM<'static, vesta::Affine>) -> Result<Guard<'static, vesta::Affine, E>, plonk::Error>,
    ) -> Result<Self::Output, plonk::Error> {
        Ok(f(PARAMS.empty_msm())?.use_challenges())
    }
}

/// Demands that both equations are the same point, and that the verdicts agree. Says what they are. The proof has all eight
/// rounds.
fn compare(key: &VerifyingKey, public: &SpendPublic, proof: &[u8]) -> Result<(), VerifyError> {
    let stock = verify_full(key, public, proof);
    let weight = pallas::Base::from(7);
    let equation = match key.equation_in(8, public, proof, weight) {
        Ok(equation) => equation,
        Err(error) => {
            assert_eq!(stock, Err(error));
            return Err(error);
        }
    };
    let mut total = Total::with_capacity(1);
    total.add(key.commitments(), &equation, None);
    let ours = total.sum(&mut Adder::default());
    let instance = public.instance();
    let mut transcript = StockReader::new(public, proof);
    let mut full = verify_proof(&PARAMS, key.stock().key(), Full, &[&[&instance]], &mut transcript).unwrap();
    full.scale(weight);
    full.append_term(-pallas::Base::ONE, ours.to_affine());
    assert!(full.eval(), "the equations differ");
    let verdict = if bool::from(ours.is_identity()) { Ok(()) } else { Err(VerifyError::Invalid) };
    assert_eq!(stock, verdict);
    verdict
}

struct Full8 {
    key: VerifyingKey,
    public: SpendPublic,
    proof: Vec<u8>,
}

/// A proof with all eight rounds.
fn full(seed: u64) -> Full8 {
    let epoch = Epoch::new(seed);
    let (public, witness) = epoch.some_spend(seed);
    let circuit = epoch.key.circuit().with_witness(&public, &witness).unwrap();
    let proof = epoch.key.prove_in(8, &public, circuit, &mut rng(seed)).unwrap();
    Full8 { key: epoch.key.verifying_key().clone(), public, proof }
}

static ONE: LazyLock<Full8> = LazyLock::new(|| full(3));

#[test]
fn the_equation_is_that_of_the_stock_verifier() {
    let proven = [full(1), full(2)];
    for Full8 { key, public, proof } in &proven {
        assert_eq!(compare(key, public, proof), Ok(()));
        for other in others(public) {
            assert_eq!(compare(key, &other, proof), Err(VerifyError::Invalid));
        }
    }
    // The other epoch's key, and the other's proof.
    assert_eq!(compare(&proven[1].key, &proven[0].public, &proven[0].proof), Err(VerifyError::Invalid));
    assert_eq!(compare(&proven[0].key, &proven[0].public, &proven[1].proof), Err(VerifyError::Invalid));
}

/// The points and scalars of a proof with eight rounds: whether it is a point, and where it begins.
fn slots() -> Vec<(bool, usize)> {
    let mut at = 0;
    let mut slots = Vec::new();
    for (point, count) in [(true, 15), (false, 46), (true, 1), (false, 2), (true, 17), (false, 2)] {
        for _ in 0..count {
            slots.push((point, at));
            at += if point { POINT_BYTES } else { SCALAR_BYTES };
        }
    }
    assert_eq!(at, ONE.proof.len());
    slots
}

fn point_at(proof: &[u8], at: usize) -> vesta::Affine {
    let coordinate = |at: usize| vesta::Base::from_repr(proof[at..at + 32].try_into().unwrap()).unwrap();
    vesta::Affine::from_xy(coordinate(at), coordinate(at + 32)).unwrap()
}

fn put_point(proof: &mut [u8], at: usize, point: &vesta::Affine) {
    let coordinates = point.coordinates().unwrap();
    proof[at..at + 32].copy_from_slice(&coordinates.x().to_repr());
    proof[at + 32..at + 64].copy_from_slice(&coordinates.y().to_repr());
}

fn scalar_at(proof: &[u8], at: usize) -> pallas::Base {
    pallas::Base::from_repr(proof[at..at + 32].try_into().unwrap()).unwrap()
}

/// The same, with each scalar and each point of the proof replaced by another that is well formed.
#[test]
fn the_equation_is_that_of_the_stock_verifier_on_bad_proofs() {
    let Full8 { key, public, proof } = &*ONE;
    for (point, at) in slots() {
        let mut bad = proof.clone();
        if point {
            put_point(&mut bad, at, &-point_at(proof, at));
        } else {
            bad[at..at + 32].copy_from_slice(&(scalar_at(proof, at) + pallas::Base::ONE).to_repr());
        }
        assert_eq!(compare(key, public, &bad), Err(VerifyError::Invalid));
    }
}

/// Proofs that no prover made: random, of zeros and ones, and with points that are equal, opposite or generators, so that sums
/// meet exceptions on the way.
fn garbage(seed: u64) -> Vec<u8> {
    let mut rng = rng(seed);
    let mut proof = ONE.proof.clone();
    let few: Vec<vesta::Affine> = (0..2).map(|_| vesta::Point::random(&mut rng).to_affine()).collect();
    let generators = PARAMS.get_g();
    let kind = rng.next_u32() % 4;
    for (point, at) in slots() {
        let pick = rng.next_u32();
        if point {
            let chosen = match (kind, pick % 5) {
                (0, _) => vesta::Point::random(&mut rng).to_affine(),
                (1, 0 | 1) => few[0],
                (1, 2 | 3) => -few[0],
                (2, 0..=3) => generators[pick as usize / 5 % 256],
                (_, 4) => few[1],
                _ => few[0],
            };
            put_point(&mut proof, at, &chosen);
        } else {
            let chosen = match (kind, pick % 4) {
                (0, _) | (_, 0) => pallas::Base::random(&mut rng),
                (_, 1) => pallas::Base::ZERO,
                (_, 2) => pallas::Base::ONE,
                _ => -pallas::Base::ONE,
            };
            proof[at..at + 32].copy_from_slice(&chosen.to_repr());
        }
    }
    proof
}

#[test]
fn the_equation_is_that_of_the_stock_verifier_on_garbage() {
    for seed in 0..12 {
        assert_eq!(compare(&ONE.key, &ONE.public, &garbage(seed)), Err(VerifyError::Invalid), "{seed}");
    }
}

#[test]
#[ignore = "slow suite"]
fn the_equation_is_that_of_the_stock_verifier_on_much_garbage() {
    for seed in 100..2_000 {
        assert_eq!(compare(&ONE.key, &ONE.public, &garbage(seed)), Err(VerifyError::Invalid), "{seed}");
    }
}

/// A round whose `L` and `R` cancel, and all points the same.
#[test]
fn equal_and_opposite_rounds_are_refused_alike() {
    let Full8 { key, public, proof } = &*ONE;
    for round in [0, 3, 7] {
        for negate in [false, true] {
            let mut bad = proof.clone();
            let at = 2624 + 128 * round;
            let l = point_at(proof, at);
            put_point(&mut bad, at + 64, &if negate { -l } else { l });
            assert_eq!(compare(key, public, &bad), Err(VerifyError::Invalid));
        }
    }
    let mut bad = proof.clone();
    for (_, at) in slots().into_iter().filter(|(point, _)| *point) {
        put_point(&mut bad, at, &point_at(proof, 0));
    }
    assert_eq!(compare(key, public, &bad), Err(VerifyError::Invalid));
}

fn every_byte(step: usize) {
    let Full8 { key, public, proof } = &*ONE;
    for at in (0..proof.len()).step_by(step) {
        let mut bad = proof.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(compare(key, public, &bad).is_err(), "byte {at}");
    }
}

fn every_length(step: usize) {
    let Full8 { key, public, proof } = &*ONE;
    for length in (0..proof.len()).step_by(step) {
        assert_eq!(compare(key, public, &proof[..length]), Err(VerifyError::Encoding), "{length} bytes");
    }
    let longer = [&proof[..], &[0]].concat();
    assert!(key.equation_in(8, public, &longer, pallas::Base::ONE).is_err());
}

#[test]
fn a_changed_byte_is_refused_alike() {
    every_byte(97);
}

#[test]
fn a_truncated_proof_is_refused_alike() {
    every_length(113);
}

#[test]
#[ignore = "slow suite"]
fn every_changed_byte_is_refused_alike() {
    every_byte(1);
}

#[test]
#[ignore = "slow suite"]
fn every_truncated_proof_is_refused_alike() {
    every_length(1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_bytes_get_the_stock_verdict(
        changes in proptest::collection::vec((0usize..4096, any::<u8>()), 0..4),
        length in 3600usize..3720,
    ) {
        let mut bytes = ONE.proof.clone();
        bytes.truncate(length);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = compare(&ONE.key, &ONE.public, &bytes);
    }
}

/// The transcript absorbs the public inputs, so that a proof is of them and of no others, even where the polynomials are the
/// same: `x` enters only the line, and a prover that knows `k` and `a` could otherwise move along it.
#[test]
fn the_challenges_depend_on_each_public_input() {
    let Full8 { public, proof, .. } = &*ONE;
    let first = |public: &SpendPublic| Reader::new(public, proof).challenge();
    for other in others(public) {
        assert_ne!(first(&other), first(public));
    }
}
