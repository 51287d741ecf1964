//! The batch verifier says of each proof what single verification says of it, whatever its neighbours are.

mod common;

use common::{Epoch, Proven};
use ff::{Field, PrimeField};
use halometer_circuits::proof::{BatchVerifier, Proof, VerifyError, Workers};
use halometer_circuits::spend::SpendPublic;
use pasta_curves::pallas;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::sync::LazyLock;

type Verdict = Result<(), VerifyError>;

/// Valid proofs of three epochs.
static PROVEN: LazyLock<Vec<Proven>> =
    LazyLock::new(|| [1, 2, 3].map(Epoch::new).iter().flat_map(|epoch| [epoch.prove(1), epoch.prove(2)]).collect());

/// What may be wrong with an item of a batch.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Nothing,
    Charge,
    Epoch,
    Encoding,
    Scalar,
    OthersProof,
}

impl Bad {
    const ALL: [Bad; 6] = [Bad::Nothing, Bad::Charge, Bad::Epoch, Bad::Encoding, Bad::Scalar, Bad::OthersProof];

    fn expected(self) -> Verdict {
        match self {
            Bad::Nothing => Ok(()),
            Bad::Encoding => Err(VerifyError::Encoding),
            _ => Err(VerifyError::Invalid),
        }
    }

    fn item(self, which: usize) -> Proven {
        let all = &*PROVEN;
        let (mut item, other) = (all[which % all.len()].clone(), &all[(which + 2) % all.len()]);
        match self {
            Bad::Nothing => {}
            Bad::Charge => item.public = SpendPublic { charge: item.public.charge ^ 1, ..item.public },
            Bad::Epoch => item.key = other.key.clone(),
            Bad::Encoding => item.proof = with(&item.proof, 0, &[0; 64]),
            Bad::Scalar => item.proof = shifted(&item.proof, pallas::Base::ONE),
            Bad::OthersProof => item.proof = other.proof.clone(),
        }
        item
    }
}

fn with(proof: &Proof, at: usize, new: &[u8]) -> Proof {
    let mut bytes = proof.as_bytes().to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    Proof::from_bytes(&bytes).expect("the right length")
}

/// Adds to the last scalar of the proof, in which its equation is linear.
fn shifted(proof: &Proof, by: pallas::Base) -> Proof {
    let at = Proof::LENGTH - 32;
    let last = pallas::Base::from_repr(proof.as_bytes()[at..].try_into().expect("32 bytes")).expect("canonical");
    with(proof, at, &(last + by).to_repr())
}

fn batch(items: &[Proven]) -> BatchVerifier {
    let mut batch = BatchVerifier::new();
    for item in items {
        batch.add(&item.key, &item.public, &item.proof);
    }
    assert_eq!(batch.len(), items.len());
    assert_eq!(batch.is_empty(), items.is_empty());
    batch
}

fn verify(items: &[Proven], seed: u64) -> Vec<Verdict> {
    batch(items).verify(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn singly(items: &[Proven]) -> Vec<Verdict> {
    items.iter().map(|item| item.key.verify(&item.public, &item.proof)).collect()
}

#[test]
fn an_empty_batch_has_no_verdicts() {
    assert!(verify(&[], 1).is_empty());
    assert!(batch(&[]).verify_on(&Workers::new(2).expect("threads"), &mut ChaCha20Rng::seed_from_u64(1)).is_empty());
}

#[test]
fn a_batch_of_one_is_a_single_verification() {
    for which in 0..PROVEN.len() {
        for bad in Bad::ALL {
            let item = [bad.item(which)];
            assert_eq!(verify(&item, 2), [bad.expected()], "{bad:?}");
            assert_eq!(singly(&item), [bad.expected()], "{bad:?}");
        }
    }
}

#[test]
fn a_batch_of_bad_proofs_has_no_good_one() {
    for bad in &Bad::ALL[1..] {
        let items: Vec<_> = (0..9).map(|which| bad.item(which)).collect();
        assert_eq!(verify(&items, 3), vec![bad.expected(); 9], "{bad:?}");
    }
}

#[test]
fn one_bad_proof_costs_its_neighbours_nothing() {
    for place in 0..6 {
        let items: Vec<_> = (0..6).map(|i| if i == place { Bad::Charge } else { Bad::Nothing }.item(i)).collect();
        let verdicts = verify(&items, 4);
        for (i, verdict) in verdicts.iter().enumerate() {
            assert_eq!(verdict.is_err(), i == place);
        }
    }
}

/// Errors that add up to zero: with equal weights the sum of the equations vanishes, and both proofs would pass. The weights
/// are random, and drawn by the verifier.
#[test]
fn errors_that_cancel_are_found() {
    let good = &PROVEN[0];
    let shift = |by| Proven { proof: shifted(&good.proof, by), ..good.clone() };
    let three = pallas::Base::from(3);
    for (errors, seed) in [(vec![three, -three], 5), (vec![three, three, -three.double()], 6), (vec![three; 4], 7)] {
        let mut items: Vec<_> = errors.into_iter().map(shift).collect();
        let bad = items.len();
        items.push(good.clone());
        let verdicts = verify(&items, seed);
        assert_eq!(verdicts[..bad], vec![Err(VerifyError::Invalid); bad]);
        assert_eq!(verdicts[bad], Ok(()));
    }
    // A bad proof that is there twice, and again with the opposite error.
    let items = [shift(three), shift(three), shift(-three), shift(pallas::Base::ZERO)];
    assert_eq!(verify(&items, 8).iter().filter(|verdict| verdict.is_ok()).count(), 1);
}

#[test]
fn a_proof_may_be_there_more_than_once() {
    let items = vec![PROVEN[0].clone(); 5];
    assert_eq!(verify(&items, 9), vec![Ok(()); 5]);
}

/// More proofs than go into one sum, bad ones at its bounds and in runs.
#[test]
fn large_batches_are_split() {
    for bad_places in [vec![], vec![63, 64, 127, 128, 191, 192], (40..60).collect(), vec![0, 259]] {
        let items: Vec<_> =
            (0..260).map(|i| if bad_places.contains(&i) { Bad::Scalar } else { Bad::Nothing }.item(i)).collect();
        let expected: Vec<Verdict> =
            (0..260).map(|i| if bad_places.contains(&i) { Err(VerifyError::Invalid) } else { Ok(()) }).collect();
        assert_eq!(verify(&items, 10), expected);
        let workers = Workers::new(2).expect("threads");
        assert_eq!(batch(&items).verify_on(&workers, &mut ChaCha20Rng::seed_from_u64(11)), expected);
    }
}

/// Few and many bad proofs, of all kinds and of three epochs: the search goes another way for each share of them.
#[test]
fn any_share_of_bad_proofs_is_found() {
    for (every, count) in [(100, 300), (31, 200), (10, 120), (3, 70), (2, 50), (1, 70)] {
        let bad = |i: usize| if i % every == every / 2 { Bad::ALL[1 + i / every % 5] } else { Bad::Nothing };
        let items: Vec<_> = (0..count).map(|i| bad(i).item(i)).collect();
        let expected: Vec<_> = (0..count).map(|i| bad(i).expected()).collect();
        assert_eq!(verify(&items, every as u64), expected, "one in {every}");
    }
}

/// The same of runs: bad ones side by side, at the ends, and all but one.
#[test]
fn runs_of_bad_proofs_are_found() {
    for (from, to) in [(0, 1), (0, 2), (47, 48), (46, 48), (1, 48), (0, 47), (0, 24), (24, 48), (23, 25)] {
        let bad = |i: usize| if (from..to).contains(&i) { Bad::Charge } else { Bad::Nothing };
        let items: Vec<_> = (0..48).map(|i| bad(i).item(i)).collect();
        let expected: Vec<_> = (0..48).map(|i| bad(i).expected()).collect();
        assert_eq!(verify(&items, 12), expected, "{from}..{to}");
    }
}

fn items() -> impl Strategy<Value = Vec<(usize, Bad)>> {
    let bad = prop_oneof![2 => Just(Bad::Nothing), 1 => proptest::sample::select(Bad::ALL.to_vec())];
    proptest::collection::vec((0..PROVEN.len(), bad), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_batch_says_what_single_verification_says(items in items(), seed: u64, workers in 1usize..4) {
        let expected: Vec<_> = items.iter().map(|(_, bad)| bad.expected()).collect();
        let items: Vec<_> = items.into_iter().map(|(which, bad)| bad.item(which)).collect();
        prop_assert_eq!(&singly(&items), &expected);
        prop_assert_eq!(&verify(&items, seed), &expected);
        let workers = Workers::new(workers).expect("threads");
        let spread = batch(&items).verify_on(&workers, &mut ChaCha20Rng::seed_from_u64(seed));
        prop_assert_eq!(&spread, &expected);
    }
}
