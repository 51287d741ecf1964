//! The native check and the circuit agree, on valid spends and, rule by rule, on invalid ones.

use ff::Field;
use pasta_curves::pallas::Base;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::*;
use super::constraints::refusals;
use super::support::*;
use crate::note::{Nullifier, ShareY, ValueCommitment};
use crate::proof::{ProvingKey, VerifyError};
use crate::schnorr::{Signature, SigningKey};
use crate::spend::check;

/// What is wrong with a spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The signature is of another leaf.
    Leaf,
    /// It is under another key.
    Key,
    /// A bit of it is not as it was.
    SignatureBit(usize),
    Nullifier,
    Share,
    /// The note is charged one more than it is worth.
    Overdrawn,
    /// The note is worth more than 64 bits, and the charge does not take enough away.
    TooLarge,
    /// `C'` commits to one more, or to another note.
    ChangeValue,
    ChangeNote,
}

impl Wrong {
    fn expected(self) -> Result<(), Violation> {
        Err(match self {
            Wrong::Nothing => return Ok(()),
            Wrong::Leaf | Wrong::Key | Wrong::SignatureBit(_) => Violation::Signature,
            Wrong::Nullifier => Violation::Nullifier,
            Wrong::Share => Violation::Share,
            Wrong::Overdrawn => Violation::ChargeAboveBalance,
            Wrong::TooLarge => Violation::ChangeTooLarge,
            Wrong::ChangeValue | Wrong::ChangeNote => Violation::Change,
        })
    }

    const EACH: [Wrong; 10] = [
        Wrong::Nothing,
        Wrong::Leaf,
        Wrong::Key,
        Wrong::SignatureBit(9),
        Wrong::Nullifier,
        Wrong::Share,
        Wrong::Overdrawn,
        Wrong::TooLarge,
        Wrong::ChangeValue,
        Wrong::ChangeNote,
    ];
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop_oneof![
        4 => Just(Wrong::Nothing),
        8 => proptest::sample::select(Wrong::EACH.to_vec()),
        2 => (0..8 * Signature::LENGTH).prop_map(Wrong::SignatureBit),
    ]
}

/// Micro-credits, edges included.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX - 1), Just(u64::MAX), any::<u64>(), 0..100_000_000u64]
}

/// Values of which the charge can be paid.
fn payable() -> impl Strategy<Value = (u64, u64, u64)> {
    (value(), value(), any::<proptest::sample::Index>()).prop_map(|(hidden, refund, at)| {
        let balance = u128::from(hidden) + u128::from(refund);
        let least = balance.saturating_sub(u128::from(u64::MAX)) as u64;
        let most = balance.min(u128::from(u64::MAX)) as u64;
        let charge = match at.index(4) {
            0 => least,
            1 => most,
            _ => least + (at.index(usize::MAX) as u64) % (most - least).saturating_add(1),
        };
        (hidden, refund, charge)
    })
}

/// A spend with one thing wrong.
fn spend(seed: u64, values: (u64, u64, u64), wrong: Wrong) -> Honest {
    let (hidden, refund, charge) = match wrong {
        // Leaves room for what the test will make wrong.
        Wrong::Overdrawn => (values.0 / 2, values.1 / 2, 0),
        Wrong::TooLarge => (values.0.max(1), u64::MAX, values.0.max(1)),
        _ => values,
    };
    let mut spend = Honest::with_values(seed, hidden, refund, charge);
    let mut rng = ChaCha20Rng::seed_from_u64(!seed);
    let mut other = || Base::random(&mut rng);
    match wrong {
        Wrong::Nothing => {}
        Wrong::Leaf => {
            let leaf = spend.witness.account.account_id().commit(&spend.witness.note, hidden ^ 1).leaf(refund);
            spend.witness.signature = spend.key.sign(&leaf);
        }
        Wrong::Key => {
            let key = SigningKey::generate(&mut rng);
            spend.witness.signature = key.sign(&spend.witness.leaf());
        }
        Wrong::SignatureBit(bit) => {
            let mut bytes = spend.witness.signature.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The upper bits of s would make it no scalar; then another bit is wrong.
            spend.witness.signature = Option::from(Signature::from_bytes(&bytes)).unwrap_or_else(|| {
                let mut bytes = spend.witness.signature.to_bytes();
                bytes[0] ^= 1;
                Signature::from_bytes(&bytes).unwrap()
            });
        }
        Wrong::Nullifier => spend.public.nullifier = Nullifier::from_value(other()),
        Wrong::Share => spend.public.share = ShareY::from_value(other()),
        Wrong::Overdrawn => spend.public.charge = hidden + refund + 1,
        Wrong::TooLarge => spend.public.charge = charge - 1,
        Wrong::ChangeValue => {
            let more = spend.witness.change_value(charge).unwrap().wrapping_add(1);
            spend.public.change = spend.witness.account.account_id().commit(&spend.witness.next_note, more);
        }
        Wrong::ChangeNote => spend.public.change = ValueCommitment::from_value(other()),
    }
    spend
}

/// All cells, with the low 64 bits of `v'` where it has more.
fn fill(spend: &Honest) -> Trace {
    let Honest { public, witness, .. } = spend;
    let mut trace = Trace::empty();
    let secrets = Secrets {
        k: witness.account.value(),
        rho: witness.note.value(),
        v: witness.hidden.into(),
        r: witness.refund.into(),
        next_rho: witness.next_note.value(),
        change: witness.hidden.wrapping_add(witness.refund).wrapping_sub(public.charge),
        signature: &witness.signature,
    };
    spend.empty_circuit().fill_cells(&mut trace, public, &secrets);
    trace
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn the_check_and_the_circuit_agree(seed: u64, values in payable(), wrong in wrong()) {
        let spend = spend(seed, values, wrong);
        let verdict = check(&spend.key.public_key(), &spend.public, &spend.witness);
        prop_assert_eq!(verdict, wrong.expected());
        let refusals = refusals(&spend.empty_circuit(), fill(&spend), &spend.public.instance());
        prop_assert_eq!(refusals.is_empty(), verdict.is_ok(), "{:?}: {:?}", verdict, refusals);
    }
}

/// The same with the real proof system, which a cheater would run on cells known to be wrong.
#[test]
fn the_check_and_the_proof_system_agree() {
    for (seed, wrong) in (0..).zip(Wrong::EACH) {
        let spend = spend(seed, (50_000_000, 7_000_000, 10_000_000), wrong);
        let key = ProvingKey::build(&spend.key.public_key());
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let verdict = check(&spend.key.public_key(), &spend.public, &spend.witness);
        assert_eq!(verdict, wrong.expected());
        let prover = key.prove(&spend.public, &spend.witness, &mut rng);
        assert_eq!(prover.is_ok(), verdict.is_ok(), "the honest prover refuses to prove what is false");
        let circuit = spend.empty_circuit().with_trace(fill(&spend));
        let proof = key.prove_circuit(&spend.public, circuit, &mut rng).unwrap();
        let verified = key.verifying_key().verify(&spend.public, &proof);
        assert_eq!(verified, verdict.map_err(|_| VerifyError::Invalid), "{wrong:?}");
    }
}
